"""Lists a server's tools as one person sees them, and finds the one that is about to be called."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.exceptions import ToolNotFound
from mcp_oauth.models import McpServer, StoredListing
from mcp_oauth.services import fetching, grants, listings, tool_index, tool_policy
from mcp_oauth.services.access import plan_grant
from mcp_oauth.services.fetching import Arrived, Listed
from mcp_oauth.services.grants import UsableGrant
from mcp_oauth.services.listing_owners import Asker, Kind, is_personal
from mcp_oauth.services.removal import require_in_use
from mcp_oauth.services.steps import Plan, adrive, drive
from mcp_oauth.services.workspaces import Person, server_to_use
from mcp_oauth.sessions.results import ToolDescription


@dataclass(frozen=True)
class Catalogue:
    """The tools of one server that one person may run, as the server was asked for them at ``fetched_at``.

    ``truncated`` says that the server offers more than the limits allow, ``left_out`` how many tools are not shown
    because an administrator of the workspace does not let them be run.
    """

    tools: tuple[ToolDescription, ...]
    truncated: bool
    fetched_at: datetime
    left_out: int = 0

    def __iter__(self) -> Iterator[ToolDescription]:
        return iter(self.tools)

    def __len__(self) -> int:
        return len(self.tools)

    def find(self, name: str) -> ToolDescription | None:
        """Return the tool of that name."""
        return next((tool for tool in self.tools if tool.name == name), None)


@dataclass(frozen=True)
class FoundTool:
    """A tool that may be called: the grant to call it with, and what a session needs to know of it.

    ``tools`` holds the tool with its input schema, or nothing where the listing is cut short before it.
    """

    grant: UsableGrant | None = field(repr=False)
    tools: tuple[ToolDescription, ...]


def list_tools(server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool = False) -> Catalogue:
    """Return the tools a person can run at a server; ``refresh`` asks the server even if the listing is recent.

    Raises:
        NotFound: no such server for this person.
        AuthorizationRequired: the person has to connect, for the first time or again.
        ServerUnreachable, ServerRefused: the server's fault.
    """
    return drive(_checked(server, user, refresh=refresh))


async def alist_tools(server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool = False) -> Catalogue:
    """Return the same as `list_tools`, for asynchronous callers."""
    return await adrive(_checked(server, user, refresh=refresh))


def _checked(server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool) -> Plan[Catalogue]:
    return (yield from plan_listing(server_to_use(user, server), user, refresh=refresh))


@dataclass(frozen=True)
class Nobody:
    """No person: for operators who look at servers that ask for no person's grant."""

    pk: None = None


def list_tools_of_nobody(server: McpServer, *, refresh: bool = False) -> Catalogue:
    """Return the tools of a server that needs no person's grant; for operators, who are members of nothing.

    Raises:
        AuthorizationRequired: the server uses OAuth, so a person has to be named.
        ServerUnreachable, ServerRefused: the server's fault.
    """
    if is_personal(server):
        raise grants.authorization_required(server, "not_connected")
    return drive(plan_listing(server, Nobody(), refresh=refresh))


def plan_listing(server: McpServer, user: Person, *, refresh: bool) -> Plan[Catalogue]:
    """Plan a listing of the tools for a person who may use the server."""
    listed = yield from plan_entries(server, user, Kind.TOOLS, refresh=refresh)
    return catalogue_of(server, listed)


def plan_entries(server: McpServer, user: Person, kind: str, *, refresh: bool) -> Plan[Listed]:
    """Plan a listing of one kind for a person who may use the server: the stored one while it is fresh.

    Raises what `on_behalf` raises.
    """
    asked_since = timezone.now() if refresh else None
    require_in_use(server)
    # A dead grant is said, not papered over with an old listing.
    grant = (yield from plan_grant(server, user)) if server.uses_grants else None
    asker = Asker.of(server, user, kind, grant)
    known = listings.find(asker)
    if known is not None and known.is_fresh and not refresh:
        entries = listings.entries_of(known)
        if entries is not None:
            return Listed(entries, known.truncated, known.fetched_at)
    stand_in = None if refresh else known
    answer = yield from fetching.plan_listing(asker, user, known=known, asked_since=asked_since, stand_in=stand_in)
    return _stored(answer)


def find_tool(server: McpServer, user: Person, name: str, *, grant: UsableGrant | None = None) -> Plan[FoundTool]:
    """Plan to find the tool that is about to be called, without asking the server where the last known listing has it.

    Only a listing of now can say that there is no such tool. ``grant`` is one that is good now.

    Raises:
        ToolNotAllowed: an administrator does not let it be run; nobody was asked anything.
        ToolNotFound: the server offers no such tool.
        AuthorizationRequired, ServerUnreachable, ServerRefused: as `on_behalf`.
    """
    require_in_use(server)
    tool_policy.require_allowed(server, name)
    if grant is None and server.uses_grants:
        grant = yield from plan_grant(server, user)
    asker = Asker.of(server, user, Kind.TOOLS, grant)
    found = tool_index.known_tool(asker, name)
    if found is None:
        listed = _stored((yield from fetching.plan_listing(asker, user, known=listings.find(asker))))
        found = tool_index.look_up(listed.entries, name, truncated=listed.truncated)
    if found is None:
        raise ToolNotFound(
            _("%(server)s offers no tool named “%(tool)s”.") % {"server": server.name, "tool": name[:100]}
        )
    return FoundTool(grant, () if found.description is None else (found.description,))


def note_changed(server: McpServer, user: Person, grant: UsableGrant | None, changed: Iterable[str]) -> None:
    """Have listings asked for again when they are wanted next, because the server said that they have changed.

    ``changed`` names them as MCP's notifications do: ``tools``, ``prompts``, ``resources``. Without the grant that
    opens the server, there is no listing that it could concern.
    """
    if server.uses_grants and grant is None:
        return
    kinds = {kind for name in changed for kind in _KINDS.get(name, ())}
    askers = [Asker.of(server, user, kind, grant) for kind in sorted(kinds)]
    listings.mark_stale(askers)
    for asker in askers:
        tool_index.forget(asker)


_KINDS = {
    "tools": (Kind.TOOLS,),
    "prompts": (Kind.PROMPTS,),
    "resources": (Kind.RESOURCES, Kind.RESOURCE_TEMPLATES),
}


def last_known(server: McpServer, user: Person) -> Catalogue | None:
    """Return the listing last seen by this person, of any age, without asking anybody."""
    row = listings.last_known(server, user, Kind.TOOLS)
    if row is None:
        return None
    return catalogue_of(server, Listed(listings.readable(row.entries), row.truncated, row.fetched_at))


def last_known_of_all(servers: Sequence[McpServer], user: Person) -> dict[uuid.UUID, Catalogue]:
    """Return, by server, the listings last seen by this person, of any age; two queries, and nobody is asked."""
    rows = listings.last_known_of_all(servers, user, Kind.TOOLS)
    known = {server.pk: server for server in servers}
    return {
        pk: catalogue_of(known[pk], Listed(listings.readable(row.entries), row.truncated, row.fetched_at))
        for pk, row in rows.items()
    }


def tool_counts(known: Iterable[tuple[McpServer, StoredListing]]) -> dict[uuid.UUID, int]:
    """Return, by the key of a listing's row, how many tools may be run; entries are read only where that needs them."""
    rows = list(known)
    restricted = {row.pk: server for server, row in rows if tool_policy.is_restricted(server)}
    counts = {row.pk: row.entry_count for _server, row in rows}
    if restricted:
        for pk, entries in StoredListing.objects.filter(pk__in=restricted).values_list("pk", "entries"):
            counts[pk] = sum(tool_policy.allows(restricted[pk], tool.name) for tool in _tools(entries))
    return counts


def catalogue_of(server: McpServer, listed: Listed) -> Catalogue:
    """Return what a listing offers a person, without the tools that may not be run."""
    tools = _tools(listed.entries) if listed.tools is None else listed.tools
    allowed = tools
    if tool_policy.is_restricted(server):
        allowed = tuple(tool for tool in tools if tool_policy.allows(server, tool.name))
    return Catalogue(allowed, listed.truncated, listed.fetched_at, left_out=len(tools) - len(allowed))


def _stored(answer: Listed | Arrived) -> Listed:
    if isinstance(answer, Listed):
        return answer
    fetching.store([answer])
    return answer.listed


def _tools(stored: Any) -> tuple[ToolDescription, ...]:
    """Read stored tools; one that cannot be read is left out rather than hiding the others."""
    tools = []
    for item in stored if isinstance(stored, list) else []:
        try:
            tools.append(ToolDescription.from_json(item))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return tuple(tools)
