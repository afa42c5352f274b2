"""Lists the tools of many servers at the same time, so that a slow one delays nobody but itself."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import McpOAuthError, NotFound
from mcp_oauth.models import McpServer, Membership, Workspace
from mcp_oauth.services import contacts, fetching, grants, listings
from mcp_oauth.services.catalog import Catalogue, catalogue_of, plan_entries
from mcp_oauth.services.fetching import Arrived, Listed
from mcp_oauth.services.listing_owners import Asker, Kind, is_personal
from mcp_oauth.services.steps import Plan, adrive_all, drive_all
from mcp_oauth.services.workspaces import Person


@dataclass(frozen=True)
class ServerTools:
    """What listing one server of several came to: its ``catalogue``, or in its place the typed ``error``."""

    server: McpServer
    catalogue: Catalogue | None = None
    error: McpOAuthError | None = None


def list_workspace_tools(workspace: Workspace | str, user: Person, *, refresh: bool = False) -> list[ServerTools]:
    """Return the tools of a workspace's servers as one person can run them, by the servers' names.

    All servers are asked at the same time, and each has ``LIST_TOGETHER_SECONDS`` of its own. One that cannot be listed
    has the typed error in the place of its tools and ends nothing else. ``workspace`` is a workspace or its short name;
    ``refresh`` asks servers even if their listings are recent.

    Raises:
        NotFound: no such workspace for this person.
    """
    return list_together(servers_of(workspace, user), user, refresh=refresh)


async def alist_workspace_tools(
    workspace: Workspace | str, user: Person, *, refresh: bool = False
) -> list[ServerTools]:
    """Return the same as `list_workspace_tools`, for asynchronous callers."""

    def begin() -> _Together:
        return _Together(servers_of(workspace, user), user, refresh=refresh)

    together = await sync_to_async(begin)()
    outcomes = await adrive_all(
        together.plans,
        seconds=settings.LIST_TOGETHER_SECONDS,
        at_once=settings.MAX_CONNECTIONS,
        settle=together.settle,
        pause=settings.LIST_TOGETHER_PAUSE_SECONDS,
    )
    return together.tools(outcomes)


def list_together(servers: Sequence[McpServer], user: Person, *, refresh: bool = False) -> list[ServerTools]:
    """Return the tools of servers that a person may use, in the servers' order, all asked at the same time."""
    together = _Together(servers, user, refresh=refresh)
    outcomes = drive_all(
        together.plans,
        seconds=settings.LIST_TOGETHER_SECONDS,
        at_once=settings.MAX_CONNECTIONS,
        settle=together.settle,
        pause=settings.LIST_TOGETHER_PAUSE_SECONDS,
    )
    return together.tools(outcomes)


def servers_of(workspace: Workspace | str, user: Person) -> list[McpServer]:
    """Return the servers in use of a workspace that the person belongs to, by name.

    Raises:
        NotFound: no such workspace for this person.
    """
    which = {"workspace__slug": workspace} if isinstance(workspace, str) else {"workspace_id": workspace.pk}
    place = Membership.objects.select_related("workspace").filter(user_id=user.pk, **which).first()
    if place is None:
        raise NotFound(_("There is no workspace of that name for you."))
    return servers_in_use(place.workspace)


def servers_in_use(workspace: Workspace) -> list[McpServer]:
    """Return the servers in use of a workspace, by name; who may see them is asked before."""
    in_use = McpServer.objects.filter(workspace_id=workspace.pk, enabled=True, removal_at__isnull=True)
    servers = list(in_use.order_by("name", "pk").defer("probe_steps"))
    for server in servers:
        server.workspace = workspace  # known already; spares a query for each
    return servers


class _Together:
    """One listing of several servers: what is known of all is read at once, and what comes is stored together."""

    def __init__(self, servers: Sequence[McpServer], user: Person, *, refresh: bool) -> None:
        self._servers = list(servers)
        self._user = user
        self._refresh = refresh
        self._asked_since = timezone.now() if refresh else None
        self._contacts: dict[uuid.UUID, tuple[McpServer, McpOAuthError | None]] = {}
        self._ready = grants.ready_grants(self._servers, user)
        if user.pk is None:
            personal = [server for server in self._servers if is_personal(server)]
            self._ready |= {server.pk: grants.authorization_required(server, "not_connected") for server in personal}
        self._askers = self._those_who_can_ask()
        found = listings.find_all(list(self._askers.values()))
        self._known = {pk: head for pk, head in zip(self._askers, found, strict=True) if head is not None}
        fresh = {} if refresh else {pk: head for pk, head in self._known.items() if head.is_fresh}
        bodies = listings.entries_of_all(list(fresh.values()))
        self._fresh = {
            pk: Listed(body, head.truncated, head.fetched_at)
            for (pk, head), body in zip(fresh.items(), bodies, strict=True)
            if body is not None
        }

    @property
    def plans(self) -> list[Plan[Listed | Arrived]]:
        """One plan for each server."""
        return [self._plan(server) for server in self._servers]

    def settle(self, outcomes: list[tuple[int, Listed | Arrived | Exception]]) -> None:
        """Store what has come, and how the contacts went."""
        noted, self._contacts = self._contacts, {}
        contacts.record_contacts(noted.values())
        fetching.store([outcome for _number, outcome in outcomes if isinstance(outcome, Arrived)])

    def tools(self, outcomes: Sequence[Listed | Arrived | Exception]) -> list[ServerTools]:
        """Return what each server came to; an error that nobody made on purpose is raised."""
        return [self._tools(server, outcome) for server, outcome in zip(self._servers, outcomes, strict=True)]

    def _those_who_can_ask(self) -> dict[uuid.UUID, Asker]:
        askers = {}
        for server in self._servers:
            grant = self._ready.get(server.pk)
            if not isinstance(grant, McpOAuthError) and (grant is not None or not server.uses_grants):
                askers[server.pk] = Asker.of(server, self._user, Kind.TOOLS, grant)
        return askers

    def _plan(self, server: McpServer) -> Plan[Listed | Arrived]:
        needed = self._ready.get(server.pk)
        if isinstance(needed, McpOAuthError):
            raise needed
        if (fresh := self._fresh.get(server.pk)) is not None:
            return fresh
        if (asker := self._askers.get(server.pk)) is None:
            # Its grant has to be renewed first, so nothing could be looked up together with the others.
            return (yield from plan_entries(server, self._user, Kind.TOOLS, refresh=self._refresh))
        known = self._known.get(server.pk)
        return (
            yield from fetching.plan_listing(
                asker,
                self._user,
                known=known,
                asked_since=self._asked_since,
                stand_in=None if self._refresh else known,
                note=self._note,
            )
        )

    def _note(self, server: McpServer, error: McpOAuthError | None) -> None:
        self._contacts[server.pk] = (server, error)

    def _tools(self, server: McpServer, outcome: Listed | Arrived | Exception) -> ServerTools:
        if isinstance(outcome, McpOAuthError):
            return ServerTools(server, error=outcome)
        if isinstance(outcome, Exception):
            raise outcome
        listed = outcome.listed if isinstance(outcome, Arrived) else outcome
        return ServerTools(server, catalogue_of(server, listed))
