"""What the connections page says about each server: two facts kept apart, and one next step."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.models import UNATTENDED_MODES, AuthorizationFlow, McpServer, McpServerOAuth, StoredListing
from mcp_oauth.services.flows import open_flows
from mcp_oauth.services.grants import authorization_required
from mcp_oauth.services.workspaces import Person, Place

Tone = Literal["ok", "warn", "bad", "idle"]
Group = Literal["needs_you", "connected", "available"]
Action = Literal["connect", "reconnect", "grant_access", "open_again", "none"]

# Columns a list does not need; one that cannot be read must not hide the other rows.
_NOT_LISTED = (*McpServer.SECRETS, "oauth_options", "discover_result", "probe_steps")


@dataclass(frozen=True)
class StateLine:
    """One fact in words, with the time it is from."""

    tone: Tone
    text: str
    detail: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class ServerCard:
    """One server as one person sees it."""

    id: uuid.UUID
    name: str
    url: str
    host: str
    initial: str
    hue: int
    enabled: bool
    kind: str
    kind_label: str
    authorized: StateLine | None
    reachable: StateLine | None
    group: Group
    action: Action
    can_disconnect: bool
    can_cancel: bool
    can_run: bool
    flow_id: str
    tool_count: int | None
    tools_as_of: datetime | None
    tools_stale: bool
    renews: bool
    expires_at: datetime | None
    scopes: tuple[str, ...]
    tools_url: str
    refresh_url: str
    edit_url: str
    delete_url: str
    diagnose_url: str


@dataclass(frozen=True)
class CardGroup:
    """Cards that ask the same of the person."""

    key: Group
    title: str
    cards: tuple[ServerCard, ...]


def hue_of(name: str) -> int:
    """Return which of twelve colours stands behind the initials; the same on every machine."""
    return zlib.crc32(name.encode()) % 12


def cards_for(place: Place, user: Person, *, query: str = "") -> list[ServerCard]:
    """Return the cards of a workspace in four queries, whatever its size."""
    servers = McpServer.objects.filter(workspace=place.workspace).defer(*_NOT_LISTED)
    if query:
        servers = servers.filter(Q(name__icontains=query) | Q(url__icontains=query))
    return _cards(place, user, servers)


def card_for(place: Place, user: Person, server: McpServer) -> ServerCard:
    """Return one server's card."""
    return _cards(place, user, [server])[0]


def grouped(cards: Iterable[ServerCard]) -> list[CardGroup]:
    """Group cards by what the person has to do, leaving out empty groups."""
    titles: dict[Group, str] = {
        "needs_you": _("Needs you"),
        "connected": _("Connected"),
        "available": _("Available"),
    }
    by_group: dict[Group, list[ServerCard]] = {key: [] for key in titles}
    for card in cards:
        by_group[card.group].append(card)
    return [CardGroup(key, titles[key], tuple(members)) for key, members in by_group.items() if members]


def grants_of(user: Person, servers: Iterable[McpServer]) -> dict[uuid.UUID, McpServerOAuth]:
    """Return, by server, the grants that serve a person, without their tokens; one query.

    `still_good` reads what stands in the tokens' place.
    """
    listed = {server.pk: server for server in servers}
    renews = ExpressionWrapper(
        Q(refresh_token__isnull=False) | Q(server__auth_mode__in=UNATTENDED_MODES),
        output_field=BooleanField(),
    )
    rows = (
        McpServerOAuth.objects.filter(Q(user_id=user.pk) | Q(user__isnull=True), server_id__in=listed)
        .defer("access_token", "refresh_token", "dpop_key")
        .annotate(renews=renews)
    )
    return {row.server_id: row for row in rows if row.user_id == listed[row.server_id].grant_owner(user.pk)}


def still_good(grant: McpServerOAuth) -> bool:
    """Whether one of `grants_of` opens its server: it was not ended, and has not run out or can be renewed."""
    if not grant.is_active:
        return False
    return grant.expires_at is None or grant.expires_at > timezone.now() or bool(getattr(grant, "renews", False))


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
    return [
        _card(
            place,
            server,
            grants.get(server.pk),
            flows.get(server.pk),
            catalogues.get((server.pk, server.uses_grants and not server.grant_is_shared)),
        )
        for server in listed
    ]


@dataclass(frozen=True)
class _Standing:
    """What authorization means for one server and person right now."""

    group: Group
    line: StateLine | None
    action: Action = "none"
    can_run: bool = False


def _card(
    place: Place,
    server: McpServer,
    grant: McpServerOAuth | None,
    flow: AuthorizationFlow | None,
    catalogue: StoredListing | None,
) -> ServerCard:
    standing = _standing(place, server, grant, flow)
    waiting = standing.action == "open_again"
    names = {"slug": place.workspace.slug, "server_id": server.pk}
    if catalogue is not None and catalogue.server_generation != server.generation:
        catalogue = None
    unreachable = server.reachable is False
    return ServerCard(
        id=server.pk,
        name=server.name,
        url=server.url,
        host=server.host,
        initial=(server.name.strip()[:1] or "?").upper(),
        hue=hue_of(server.name),
        enabled=server.enabled,
        kind=server.auth_mode,
        kind_label=_kind_label(server),
        authorized=standing.line,
        reachable=_reachable(server),
        group=standing.group,
        action=standing.action,
        can_disconnect=grant is not None
        and server.auth_mode == McpServer.AuthMode.OAUTH
        and (place.is_admin or not server.grant_is_shared),
        can_cancel=waiting,
        can_run=standing.can_run,
        flow_id=str(flow.pk) if flow is not None and waiting else "",
        tool_count=catalogue.entry_count if catalogue is not None else None,
        tools_as_of=catalogue.fetched_at if catalogue is not None else None,
        tools_stale=catalogue is not None and (unreachable or not standing.can_run),
        renews=standing.action == "none"
        and grant is not None
        and grant.is_active
        and bool(getattr(grant, "renews", 0)),
        expires_at=grant.expires_at if grant is not None and grant.is_active else None,
        scopes=tuple(grant.scope.split()) if grant is not None and grant.is_active else (),
        tools_url=reverse("mcp_oauth:server", kwargs=names),
        refresh_url=reverse("mcp_oauth:refresh", kwargs=names),
        edit_url=reverse("mcp_oauth:edit", kwargs=names),
        delete_url=reverse("mcp_oauth:delete", kwargs=names),
        diagnose_url=reverse("mcp_oauth:diagnose", kwargs=names),
    )


def _standing(
    place: Place, server: McpServer, grant: McpServerOAuth | None, flow: AuthorizationFlow | None
) -> _Standing:
    if not server.enabled:
        return _Standing("available", StateLine("idle", _("Disabled by an administrator")))
    if server.auth_mode == McpServer.AuthMode.NONE:
        return _Standing("connected", StateLine("ok", _("Open, no sign-in needed")), can_run=True)
    if server.auth_mode == McpServer.AuthMode.HEADERS:
        if server.headers_refused_at is not None:
            line = StateLine(
                "bad",
                _("Key not accepted"),
                _("An administrator has to enter the server's headers again."),
                server.headers_refused_at,
            )
            return _Standing("needs_you" if place.is_admin else "available", line)
        return _Standing("connected", StateLine("ok", _("Opened by the workspace's own key")), can_run=True)
    if server.auth_mode == McpServer.AuthMode.ENTERPRISE:
        return _enterprise(place, server, grant)
    if server.is_unattended:
        return _unattended(place, server, grant)
    if server.grant_is_shared and not place.is_admin:
        return _shared(grant)
    if grant is not None and still_good(grant) and grant.wanted_scope and flow is None:
        line = StateLine(
            "warn",
            _("Wants more access"),
            _("A tool asked for %(scope)s.") % {"scope": ", ".join(_missing(grant)[:5])[:200]},
        )
        return _Standing("needs_you", line, "grant_access", can_run=True)
    if grant is not None and still_good(grant):
        words = _("Shared by the workspace") if server.grant_is_shared else _("Connected")
        return _Standing("connected", StateLine("ok", words, at=grant.connected_at), can_run=True)
    if flow is not None:
        return _Standing(
            "needs_you" if grant is not None else "available",
            StateLine("idle", _("Waiting for you in the other window"), at=flow.created_at),
            "open_again",
        )
    if grant is None:
        return _Standing("available", None, "connect")
    reason = "expired" if grant.is_active else grant.reason
    return _Standing(
        "needs_you",
        StateLine(
            "bad",
            _("Access ended"),
            authorization_required(_with_workspace(server, place), reason).user_message,
            grant.reason_at or grant.expires_at,
        ),
        "reconnect",
    )


def _missing(grant: McpServerOAuth) -> list[str]:
    """Return the wanted scopes that are not granted yet, or all of them where the server wants those once more."""
    wanted, granted = grant.wanted_scope.split(), set(grant.scope.split())
    return [scope for scope in wanted if scope not in granted] or wanted


def _unattended(place: Place, server: McpServer, grant: McpServerOAuth | None) -> _Standing:
    """Return how a server stands that is opened without asking anybody."""
    workload = server.auth_mode == McpServer.AuthMode.WORKLOAD
    if grant is None or grant.is_active:
        words = _("Opened by this deployment's identity") if workload else _("Opened by the application's own identity")
        return _Standing("connected", StateLine("ok", words), can_run=True)
    line = StateLine(
        "bad",
        _("Own identity refused"),
        _("An administrator has to check the client ID, and the operator the workload token.")
        if workload
        else _("An administrator has to check the client ID and its secret or key."),
        grant.reason_at,
    )
    return _Standing("needs_you" if place.is_admin else "available", line, can_run=True)


def _enterprise(place: Place, server: McpServer, grant: McpServerOAuth | None) -> _Standing:
    """Return how a server stands that opens for whoever signed in at the company."""
    if grant is None or grant.is_active or grant.server_generation != server.generation:
        return _Standing("connected", StateLine("ok", _("Opened with your company sign-in")), can_run=True)
    if grant.reason == "sign_in_again":
        needed = authorization_required(_with_workspace(server, place), grant.reason)
        words = f"{needed.user_message} {needed.next_step}"
        return _Standing("needs_you", StateLine("bad", _("Sign in again"), words, grant.reason_at), can_run=True)
    line = StateLine(
        "bad",
        _("Company sign-in refused"),
        _("An administrator has to check both clients, the scopes, and whether the company permits it."),
        grant.reason_at,
    )
    return _Standing("needs_you" if place.is_admin else "available", line, can_run=True)


def _shared(grant: McpServerOAuth | None) -> _Standing:
    """Return how a shared connection stands for somebody who cannot change it."""
    if grant is not None and still_good(grant):
        return _Standing(
            "connected", StateLine("ok", _("Shared by the workspace"), at=grant.connected_at), can_run=True
        )
    return _Standing("available", StateLine("idle", _("Waiting for an administrator to connect it")))


def _with_workspace(server: McpServer, place: Place) -> McpServer:
    server.workspace = place.workspace  # known already; spares a query per row
    return server


def _reachable(server: McpServer) -> StateLine | None:
    if server.reachable is None:
        return None
    if server.reachable:
        return StateLine("ok", _("Reachable"), at=server.contacted_at)
    return StateLine("warn", _("Unreachable"), server.contact_error, server.contacted_at)


def _kind_label(server: McpServer) -> str:
    if server.auth_mode == McpServer.AuthMode.OAUTH:
        if server.grant_is_shared:
            return _("Uses OAuth; one connection for the whole workspace")
        if server.client_id:
            return _("Uses OAuth with this workspace's own app")
        return _("Uses OAuth; you connect your own account")
    if server.auth_mode == McpServer.AuthMode.WORKLOAD:
        return _("Uses OAuth with this deployment's workload identity")
    if server.auth_mode == McpServer.AuthMode.ENTERPRISE:
        return _("Uses OAuth through your company's identity provider")
    if server.is_unattended:
        return _("Uses OAuth with the application's own identity")
    if server.auth_mode == McpServer.AuthMode.HEADERS:
        return _("Uses a key an administrator entered")
    return _("Open to everybody in this workspace")
