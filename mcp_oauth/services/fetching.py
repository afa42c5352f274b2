"""Has a server asked for a listing once, however many want it at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from django.utils import timezone

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import McpServer
from mcp_oauth.services import arrivals, contacts, flights, hot_listings, listings
from mcp_oauth.services.access import on_behalf
from mcp_oauth.services.arrivals import Fetched
from mcp_oauth.services.flights import Flight
from mcp_oauth.services.hot_listings import Head
from mcp_oauth.services.listing_owners import Asker, Kind
from mcp_oauth.services.steps import Plan, WireStep
from mcp_oauth.services.workspaces import Person
from mcp_oauth.sessions.results import EntryListing, ToolDescription, ToolListing
from mcp_oauth.sessions.target import Target

# As the client spells them.
_ENTRIES: dict[Kind, Literal["prompts", "resources", "resource_templates"]] = {
    Kind.PROMPTS: "prompts",
    Kind.RESOURCES: "resources",
    Kind.RESOURCE_TEMPLATES: "resource_templates",
}


@dataclass(frozen=True)
class Listed:
    """The entries of a listing, in the wire's spelling, and how old they are.

    ``tools`` are the same, of a listing of tools that has just come.
    """

    entries: list[dict[str, Any]] = field(repr=False)
    truncated: bool
    fetched_at: datetime
    tools: tuple[ToolDescription, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Arrived:
    """A listing that has come from its server and is not stored yet: `store` does that and lets others have it."""

    fetched: Fetched
    flight: Flight | None
    protocol_version: str
    discover_result: dict[str, Any] | None = field(repr=False)
    tools: tuple[ToolDescription, ...] | None = field(repr=False)

    @property
    def listed(self) -> Listed:
        """The listing."""
        return Listed(self.fetched.entries, self.fetched.truncated, self.fetched.asked_at, self.tools)


def plan_listing(
    asker: Asker,
    user: Person,
    *,
    known: Head | None,
    asked_since: datetime | None = None,
    stand_in: Head | None = None,
    note: Callable[[McpServer, McpOAuthError | None], None] = contacts.record_contact,
) -> Plan[Listed | Arrived]:
    """Plan to ask a server for a listing, or to have what another caller is asking it for right now.

    ``known`` is the listing that does not serve. Of another caller's, only one serves that is newer, and that the
    server was asked for after ``asked_since``. ``stand_in`` is what serves where that one takes long.

    Raises what `on_behalf` raises.
    """
    name = known.owner.name if known is not None else asker.own.name
    oldest = asked_since if known is None else max(known.fetched_at, asked_since or known.fetched_at)
    flight = flights.take_off(name)
    if flight is None:
        joined = yield from _plan_to_wait(asker, name, oldest, stand_in)
        if joined is not None:
            return joined
        # Whoever was waited for got nothing, or takes too long: asked once more, by whoever is first or by all.
        flight = flights.take_off(name)
    try:
        # Another caller may have finished between the look for what is known and the take-off.
        if (landed := _newer(hot_listings.find(asker), oldest)) is not None:
            flights.land([flight])
            return landed
        return (yield from _plan_to_ask(asker, user, flight, note))
    except BaseException:
        flights.land([flight])
        raise


def store(arrived: list[Arrived]) -> None:
    """Store what has come, and let those have it who wait for it."""
    try:
        arrivals.keep([one.fetched for one in arrived])
        for one in arrived:
            contacts.record_negotiation(one.fetched.asker.server, one.protocol_version, one.discover_result)
    finally:
        flights.land([one.flight for one in arrived])


def _plan_to_ask(
    asker: Asker,
    user: Person,
    flight: Flight | None,
    note: Callable[[McpServer, McpOAuthError | None], None],
) -> Plan[Arrived]:
    asked_at = timezone.now()
    own = asker.own
    answer: ToolListing | EntryListing = yield from on_behalf(
        own.server, user, _question(own.kind), seconds=settings.LIST_SECONDS, grant=own.grant, note=note
    )
    tools = answer.tools if isinstance(answer, ToolListing) else None
    entries = list(answer.entries) if isinstance(answer, EntryListing) else [tool.to_json() for tool in answer.tools]
    fetched = Fetched(
        asker,
        entries,
        answer.truncated,
        asked_at=asked_at,
        came_at=timezone.now(),
        ttl_ms=answer.ttl_ms,
        public=answer.cache_scope == "public",
    )
    # Now, while others may still be on their way, and not when all have come and are stored together.
    _ = fetched.digest
    return Arrived(fetched, flight, answer.protocol_version, answer.discover_result, tools)


def _question(kind: str) -> Callable[[Target], Coroutine[Any, Any, Any]]:
    from mcp_oauth.sessions import client

    if kind == Kind.TOOLS:
        return client.list_tools
    entries = _ENTRIES[Kind(kind)]
    return lambda target: client.list_entries(target, entries)


def _plan_to_wait(asker: Asker, name: str, oldest: datetime | None, stand_in: Head | None) -> Plan[Listed | None]:
    """Plan to wait, for a while, until another caller has the listing; ``None`` where it did not get it."""
    patience = settings.LIST_SECONDS if stand_in is None else settings.CATALOGUE_WAIT_SECONDS
    deadline, pause = time.monotonic() + patience, settings.CATALOGUE_POLL_SECONDS
    other = flights.under_way(name)
    while other and flights.under_way(name) == other:
        if time.monotonic() > deadline:
            # An older listing at once is worth more than a new one at some time.
            return None if stand_in is None else _listed(stand_in)
        # On the loop and not in a thread, of which asynchronous callers have few.
        yield WireStep(lambda: asyncio.sleep(pause), pause + 5.0)
    return _newer(listings.find(asker), oldest)


def _newer(head: Head | None, oldest: datetime | None) -> Listed | None:
    """Return a listing if it was asked for after a moment."""
    if head is None or (oldest is not None and head.fetched_at <= oldest):
        return None
    return _listed(head)


def _listed(head: Head) -> Listed | None:
    entries = listings.entries_of(head)
    return None if entries is None else Listed(entries, head.truncated, head.fetched_at)
