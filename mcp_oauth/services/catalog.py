"""Lists a server's tools as one person sees them, and remembers the last known listing with its age."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from mcp_oauth.conf import settings
from mcp_oauth.models import McpServer, McpServerOAuth, StoredListing
from mcp_oauth.services import contacts, grants
from mcp_oauth.services.access import on_behalf, plan_grant
from mcp_oauth.services.steps import Plan, adrive, drive
from mcp_oauth.services.workspaces import Person, server_for
from mcp_oauth.sessions.results import ToolDescription, ToolListing


@dataclass(frozen=True)
class Catalogue:
    """The tools of one server for one person; ``truncated`` when the server offers more than the limits allow."""

    tools: tuple[ToolDescription, ...]
    truncated: bool
    fetched_at: datetime

    def __iter__(self) -> Iterator[ToolDescription]:
        return iter(self.tools)

    def __len__(self) -> int:
        return len(self.tools)

    def find(self, name: str) -> ToolDescription | None:
        """Return the tool of that name."""
        return next((tool for tool in self.tools if tool.name == name), None)


def list_tools(server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool = False) -> Catalogue:
    """Return the tools a person can run at a server; ``refresh`` asks the server even if the listing is recent.

    Raises:
        NotFound: no such server for this person.
        AuthorizationRequired: the person has to connect, for the first time or again.
        ServerUnreachable, ServerRefused: the server's fault.
    """
    return drive(plan_listing(server_for(user, server), user, refresh=refresh))


async def alist_tools(server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool = False) -> Catalogue:
    """Return the same as `list_tools`, for asynchronous callers."""
    return await adrive(_checked(server, user, refresh=refresh))


def _checked(server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool) -> Plan[Catalogue]:
    return (yield from plan_listing(server_for(user, server), user, refresh=refresh))


@dataclass(frozen=True)
class _Nobody:
    """No person: for operators who look at servers that ask for no person's grant."""

    pk: None = None


def list_tools_of_nobody(server: McpServer, *, refresh: bool = False) -> Catalogue:
    """Return the tools of a server that needs no person's grant; for operators, who are members of nothing.

    Raises:
        AuthorizationRequired: the server uses OAuth, so a person has to be named.
        ServerUnreachable, ServerRefused: the server's fault.
    """
    if server.uses_grants and not server.grant_is_shared:
        raise grants.authorization_required(server, "not_connected")
    return drive(plan_listing(server, _Nobody(), refresh=refresh))


def plan_listing(server: McpServer, user: Person, *, refresh: bool) -> Plan[Catalogue]:
    """Plan a listing for a person who may use the server."""
    if not refresh:
        recent = yield from _plan_recent(server, user)
        if recent is not None:
            return recent
    from mcp_oauth.sessions.client import list_tools as ask_for_tools

    grant_id = _grant_id(server, user)
    listing: ToolListing = yield from on_behalf(server, user, ask_for_tools, seconds=settings.LIST_SECONDS)
    contacts.record_negotiation(server, listing.protocol_version, listing.discover_result)
    catalogue = Catalogue(listing.tools, listing.truncated, timezone.now())
    _keep(server, user, grant_id, catalogue)
    return catalogue


def last_known(server: McpServer, user: Person) -> Catalogue | None:
    """Return the listing last seen by this person, of any age, without asking anybody."""
    rows = StoredListing.objects.filter(**_key(server, user), server_generation=server.generation).order_by()
    row = rows.only("entries", "truncated", "fetched_at").first()
    if row is None:
        return None
    return Catalogue(_tools(row.entries), row.truncated, row.fetched_at)


def _plan_recent(server: McpServer, user: Person) -> Plan[Catalogue | None]:
    known = last_known(server, user)
    if known is None or known.fetched_at < timezone.now() - timedelta(seconds=settings.CATALOGUE_SECONDS):
        return None
    if server.uses_grants:
        yield from plan_grant(server, user)  # a dead grant is said, not papered over with an old listing
    return known


def _grant_id(server: McpServer, user: Person) -> uuid.UUID | None:
    if not server.uses_grants:
        return None
    rows = McpServerOAuth.objects.filter(server_id=server.pk, user_id=server.grant_owner(user.pk))
    return rows.values_list("pk", flat=True).first()


def _key(server: McpServer, user: Person) -> dict[str, Any]:
    """Whose listing: the person's own behind a grant of their own, everybody's otherwise."""
    personal = server.uses_grants and not server.grant_is_shared
    whose: dict[str, Any] = {"user_id": user.pk} if personal else {"user": None}
    return {"server_id": server.pk, "kind": StoredListing.Kind.TOOLS, **whose}


def _keep(server: McpServer, user: Person, grant_id: uuid.UUID | None, catalogue: Catalogue) -> None:
    if grant_id is not None and not McpServerOAuth.objects.filter(pk=grant_id).exists():
        return  # disconnected while the listing was on its way; nothing of it is kept
    StoredListing.objects.update_or_create(
        **_key(server, user),
        defaults={
            "server_generation": server.generation,
            "grant_id": grant_id,
            "entries": [tool.to_json() for tool in catalogue.tools],
            "entry_count": len(catalogue.tools),
            "truncated": catalogue.truncated,
            "fetched_at": catalogue.fetched_at,
        },
    )


def _tools(stored: Any) -> tuple[ToolDescription, ...]:
    """Read stored tools; one that cannot be read is left out rather than hiding the others."""
    tools = []
    for item in stored if isinstance(stored, list) else []:
        try:
            tools.append(ToolDescription.from_json(item))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return tuple(tools)
