"""How often one person may do what costs others something: connect, run a tool, ask a server, look somebody up."""

from __future__ import annotations

import logging
import time
from typing import Literal

from django.core.cache import cache
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import TooManyRequests
from mcp_oauth.services.workspaces import Person

logger = logging.getLogger(__name__)

Action = Literal["start", "callback", "call", "ask", "look_up"]

_WINDOW_SECONDS = 60


def count(user: Person, action: Action) -> None:
    """Count one more of a person's actions in this minute.

    The count is in Django's cache, so it holds for all processes where the cache is a shared one. A cache that does not
    answer limits nobody: people are not kept from their work by it.

    Raises:
        TooManyRequests: it is one too many; the error says when the next one is welcome.
    """
    limit = _limit(action)
    now = _now()
    window = int(now // _WINDOW_SECONDS)
    key = f"mcp_oauth.limit.{action}.{user.pk}.{window}"
    try:
        cache.add(key, 0, timeout=_WINDOW_SECONDS * 2)
        number = cache.incr(key)
    except Exception:  # whichever cache a site has, its errors are its own
        logger.exception("the cache does not count; %s is not limited", action)
        return
    if number > limit:
        left = max(1, round((window + 1) * _WINDOW_SECONDS - now))
        if number == limit + 1:
            logger.warning("person %s reached the limit of %d %s a minute", user.pk, limit, action)
        raise TooManyRequests(
            _("That was a lot at once."),
            next_step=_("Wait %(seconds)d seconds and try again.") % {"seconds": left},
            retry_after=left,
        )


def _now() -> float:
    return time.time()


def _limit(action: Action) -> int:
    return {
        "start": settings.STARTS_PER_MINUTE,
        "callback": settings.CALLBACKS_PER_MINUTE,
        "call": settings.CALLS_PER_MINUTE,
        "ask": settings.ASKS_PER_MINUTE,
        "look_up": settings.LOOKUPS_PER_MINUTE,
    }[action]
