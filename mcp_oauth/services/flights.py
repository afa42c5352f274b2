"""One caller at a time asks a server for a listing; the mark that says so is in Django's cache and ends by itself."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from django.core.cache import cache

from mcp_oauth.conf import settings

logger = logging.getLogger(__name__)

# Beyond the longest listing: storing what came.
_MARGIN_SECONDS = 10.0


@dataclass(frozen=True)
class Flight:
    """A listing that is being asked for, and who asks."""

    key: str
    token: str


def take_off(name: str) -> Flight | None:
    """Become the one who asks for the listing of that name; ``None`` while somebody else does.

    A mark that cannot be set keeps nobody from asking: it spares requests and decides nothing.
    """
    flight = Flight(f"mcp_oauth.flight.{name}", uuid.uuid4().hex)
    try:
        taken = cache.add(flight.key, flight.token, timeout=settings.LIST_SECONDS + _MARGIN_SECONDS)
    except Exception:  # whichever cache a site has, its errors are its own
        logger.exception("the cache keeps no marks; servers may be asked for the same listing at once")
        return flight
    return flight if taken else None


def under_way(name: str) -> str:
    """Return the token of whoever asks for that listing now, empty where nobody does."""
    try:
        token = cache.get(f"mcp_oauth.flight.{name}")
    except Exception:  # as in take_off: without marks, everybody asks for themselves
        logger.exception("the cache keeps no marks; nobody is waited for")
        return ""
    return token if isinstance(token, str) else ""


def land(flights: Iterable[Flight | None]) -> None:
    """Say that what came is stored, or that nothing came. A mark that somebody else has set meanwhile stays."""
    tokens = {flight.key: flight.token for flight in flights if flight is not None}
    if not tokens:
        return
    try:
        held = cache.get_many(tokens)
        cache.delete_many([key for key, token in tokens.items() if held.get(key) == token])
    except Exception:  # a mark has an end of its own
        logger.exception("the cache keeps no marks; they end by themselves")
