"""What the connections page says about each server: two facts kept apart, and one next step."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth, StoredListing, ToolCall
from mcp_oauth.services.catalog import tool_counts
from mcp_oauth.services.flows import open_flows
from mcp_oauth.services.listing_owners import is_personal
from mcp_oauth.services.serving_grants import grants_of
from mcp_oauth.services.workspaces import Person, Place
from mcp_oauth.views.marks import hue_of, initials_of
from mcp_oauth.views.next_step import Step, addresses_in, links_of, next_action, step_aside, step_for
from mcp_oauth.views.scopes import scopes_in_words, shortened
from mcp_oauth.views.standing import Action, Group, StateLine, standing_of

# What the list can be narrowed to: a group, or whether servers were reached, which is a fact apart.
State = Literal["needs_you", "connected", "available", "leaving", "unreachable"]

# Columns a list does not need; one that cannot be read must not hide the other rows.
_NOT_LISTED = (*McpServer.SECRETS, "oauth_options", "discover_result", "probe_steps")
# What a card has an address of.
_LINKED = ("tools", "waiting", "refresh", "edit", "delete", "diagnose", "start", "disconnect")


@dataclass(frozen=True)
class ServerCard:
    """One server as one person sees it.

    ``owner`` says with whose account tools act there. ``permits`` are the granted scopes in words and ``permissions``
    the same in one line. ``waiting_calls`` counts the person's calls that go on once they have done something. What is
    counted stands in words beside it. ``step`` is the one next step that ``action`` names, and ``aside`` the way to say
    no to it.
    """

    id: uuid.UUID
    name: str
    url: str
    host: str
    initials: str
    hue: int
    enabled: bool
    kind: str
    kind_label: str
    owner: str
    authorized: StateLine | None
    reachable: StateLine | None
    group: Group
    states: tuple[State, ...]
    action: Action
    step: Step | None
    aside: Step | None
    can_disconnect: bool
    can_run: bool
    flow_id: str
    waiting_calls: int
    waiting_words: str
    tool_count: int | None
    tool_words: str
    tools_as_of: datetime | None
    tools_stale: bool
    connected_at: datetime | None
    renews: bool
    expires_at: datetime | None
    scopes: tuple[str, ...]
    permits: tuple[str, ...]
    permissions: str
    contacted_at: datetime | None
    removal_at: datetime | None
    tools_url: str
    waiting_url: str
    refresh_url: str
    edit_url: str
    delete_url: str
    diagnose_url: str
    start_url: str
    disconnect_url: str


def cards_for(place: Place, user: Person, *, query: str = "") -> list[ServerCard]:
    """Return the cards of a workspace in five queries, whatever its size."""
    servers = McpServer.objects.filter(workspace=place.workspace).defer(*_NOT_LISTED)
    if query:
        servers = servers.filter(Q(name__icontains=query) | Q(url__icontains=query))
    return _cards(place, user, servers)


def cards_of(place: Place, user: Person, servers: Iterable[McpServer]) -> list[ServerCard]:
    """Return the cards of servers that are at hand, in four queries."""
    return _cards(place, user, servers)


def card_for(place: Place, user: Person, server: McpServer) -> ServerCard:
    """Return one server's card."""
    return _cards(place, user, [server])[0]


def _cards(place: Place, user: Person, servers: Iterable[McpServer]) -> list[ServerCard]:
    listed = list(servers)
    keys = [server.pk for server in listed]
    grants = grants_of(user, listed)
    flows = {
        flow.server_id: flow
        for flow in open_flows(user)
        .filter(server_id__in=keys)
        .order_by("created_at")
        .defer("code_verifier", "metadata")
    }
    catalogues: dict[tuple[uuid.UUID, bool], StoredListing] = {
        (row.server_id, row.user_id is not None): row
        for row in StoredListing.objects.filter(
            Q(user_id=user.pk) | Q(user__isnull=True), kind=StoredListing.Kind.TOOLS, server_id__in=keys
        ).defer("entries")
    }
    waiting, addresses = _waiting_calls(user, keys), addresses_in(place)
    seen = {server.pk: row for server in listed if (row := _seen(server, catalogues, server.pk in grants)) is not None}
    counts = tool_counts((server, seen[server.pk]) for server in listed if server.pk in seen)
    return [
        _card(
            place,
            server,
            grants.get(server.pk),
            flows.get(server.pk),
            seen.get(server.pk),
            counts,
            waiting.get(server.pk, 0),
            addresses,
        )
        for server in listed
    ]


def _waiting_calls(user: Person, servers: list[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Count, by server, a person's calls that can still go on; one query."""
    rows = ToolCall.objects.filter(
        user_id=user.pk,
        server_id__in=servers,
        state__in=(ToolCall.State.AUTHORIZATION_REQUIRED, ToolCall.State.INPUT_REQUIRED),
        resumable_until__gt=timezone.now(),
    ).order_by()
    counted: dict[uuid.UUID, int] = {}
    for server_id in rows.values_list("server_id", flat=True):
        counted[server_id] = counted.get(server_id, 0) + 1
    return counted


def _seen(
    server: McpServer, catalogues: Mapping[tuple[uuid.UUID, bool], StoredListing], has_grant: bool
) -> StoredListing | None:
    """Return the listing the person saw last: their own, or one that is everybody's who can open the server."""
    personal = is_personal(server)
    row = catalogues.get((server.pk, True)) if personal else None
    if row is None and (has_grant or not personal):
        row = catalogues.get((server.pk, False))
    return row if row is not None and row.server_generation == server.generation else None


def _card(
    place: Place,
    server: McpServer,
    grant: McpServerOAuth | None,
    flow: AuthorizationFlow | None,
    catalogue: StoredListing | None,
    counts: Mapping[uuid.UUID, int],
    waiting_calls: int,
    addresses: Mapping[str, str],
) -> ServerCard:
    standing = standing_of(place, server, grant, flow)
    if waiting_calls and standing.can_run and standing.action == "none":
        standing = replace(standing, group="needs_you", action="continue")
    waiting = standing.action == "open_again"
    unreachable = server.reachable is False
    active = grant if grant is not None and grant.is_active else None
    scopes = tuple(active.scope.split()) if active is not None else ()
    permits = scopes_in_words(scopes)
    action, links = next_action(place, server, standing), links_of(server, addresses)
    states: tuple[State, ...] = (standing.group, "unreachable") if unreachable else (standing.group,)
    return ServerCard(
        id=server.pk,
        name=server.name,
        url=server.url,
        host=server.host,
        initials=initials_of(server.name),
        hue=hue_of(server.name),
        enabled=server.is_in_use,
        kind=server.auth_mode,
        kind_label=_kind_label(server),
        owner=_owner(server, active),
        authorized=standing.line,
        reachable=_reachable(server),
        group=standing.group,
        states=states,
        action=action,
        step=step_for(server, action, standing.group, links),
        aside=step_aside(server, action, flow, links),
        can_disconnect=grant is not None
        and server.auth_mode == McpServer.AuthMode.OAUTH
        and server.removal_at is None
        and (place.is_admin or not server.grant_is_shared),
        can_run=standing.can_run,
        flow_id=str(flow.pk) if flow is not None and waiting else "",
        waiting_calls=waiting_calls,
        waiting_words=_waiting_words(waiting_calls),
        tool_count=counts[catalogue.pk] if catalogue is not None else None,
        tool_words=_tool_words(counts[catalogue.pk]) if catalogue is not None else "",
        tools_as_of=catalogue.fetched_at if catalogue is not None else None,
        tools_stale=catalogue is not None and (unreachable or not standing.can_run),
        connected_at=grant.connected_at if grant is not None else None,
        renews=standing.action in {"none", "continue"} and active is not None and bool(getattr(active, "renews", 0)),
        expires_at=active.expires_at if active is not None else None,
        scopes=scopes,
        permits=permits,
        permissions=_("can %(what)s") % {"what": shortened(permits)} if permits else "",
        contacted_at=server.contacted_at,
        removal_at=server.removal_at,
        **{f"{name}_url": links[name] for name in _LINKED},
    )


def _reachable(server: McpServer) -> StateLine | None:
    if server.reachable is None:
        return None
    if server.reachable:
        return StateLine("ok", _("Reachable"), at=server.contacted_at)
    return StateLine("warn", _("Unreachable"), server.last_error, server.contacted_at)


def _kind_label(server: McpServer) -> str:
    if server.auth_mode == McpServer.AuthMode.OAUTH:
        if server.grant_is_shared:
            return _("Uses OAuth with one shared account")
        if server.client_id:
            return _("Uses OAuth with this workspace's app")
        return _("Uses OAuth with your own account")
    if server.auth_mode == McpServer.AuthMode.WORKLOAD:
        return _("Uses OAuth with this deployment's workload identity")
    if server.auth_mode == McpServer.AuthMode.ENTERPRISE:
        return _("Uses OAuth through your company's identity provider")
    if server.is_unattended:
        return _("Uses OAuth with the application's own identity")
    if server.auth_mode == McpServer.AuthMode.HEADERS:
        return _("Uses a key an administrator entered")
    return _("Open to everybody in this workspace")


def _owner(server: McpServer, grant: McpServerOAuth | None) -> str:
    """Return with whose account tools act there."""
    if server.auth_mode == McpServer.AuthMode.OAUTH and server.grant_is_shared:
        if grant is not None and grant.account:
            return _("Everybody acts as %(account)s") % {"account": grant.account}
        return _("Everybody acts with one account")
    if server.auth_mode in {McpServer.AuthMode.OAUTH, McpServer.AuthMode.ENTERPRISE}:
        return _("Your own account")
    if server.is_unattended:
        return _("Everybody acts as the application")
    return _("Everybody in this workspace")


def _tool_words(count: int) -> str:
    return ngettext("%(count)d tool", "%(count)d tools", count) % {"count": count}


def _waiting_words(count: int) -> str:
    if not count:
        return ""
    return ngettext("%(count)d call is waiting for you", "%(count)d calls are waiting for you", count) % {
        "count": count
    }
