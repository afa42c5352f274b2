"""What the connections page says about each server: two facts kept apart, and one next step."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mcp_oauth.models import UNATTENDED_MODES, AuthorizationFlow, McpServer, McpServerOAuth, StoredListing, ToolCall
from mcp_oauth.services.catalog import tool_counts
from mcp_oauth.services.flows import open_flows
from mcp_oauth.services.grants import authorization_required
from mcp_oauth.services.listings import is_personal
from mcp_oauth.services.workspaces import Person, Place
from mcp_oauth.views.marks import hue_of, initials_of
from mcp_oauth.views.scopes import scopes_in_words, scopes_with_names, shortened

Tone = Literal["ok", "warn", "bad", "idle"]
Group = Literal["needs_you", "connected", "available", "leaving"]
# The one next step: of the person at the provider, of anybody at the server, of an administrator, or to use it.
Action = Literal[
    "connect",
    "reconnect",
    "grant_access",
    "open_again",
    "sign_in",
    "retry",
    "diagnose",
    "enter_headers",
    "keep",
    "continue",
    "none",
]
# What the list can be narrowed to: a group, or whether servers were reached, which is a fact apart.
State = Literal["needs_you", "connected", "available", "leaving", "unreachable"]
Sort = Literal["name", "connected", "contact", "tools"]

STATES: Final[tuple[State, ...]] = get_args(State)
SORTS: Final[tuple[Sort, ...]] = get_args(Sort)

# Columns a list does not need; one that cannot be read must not hide the other rows.
_NOT_LISTED = (*McpServer.SECRETS, "oauth_options", "discover_result", "probe_steps")
# A server that answered so was reached; asking once more changes nothing, and its documents say what is wrong.
_WRONG_ANSWERS = frozenset({"server_refused", "redirect_refused", "response_too_large", "address_blocked"})
# What a card has an address of.
_LINKED = ("tools", "waiting", "refresh", "edit", "delete", "diagnose", "start", "disconnect")
_NO_SERVER = "00000000-0000-0000-0000-000000000000"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class StateLine:
    """One fact in words, with the time it is from."""

    tone: Tone
    text: str
    detail: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Step:
    """One thing to press: a link, or a button that posts ``name`` and ``value`` to its address.

    ``look`` is a button's class. ``connects``: it leads to the authorization server. ``stays``: its answer is the list
    again, so that script can show what is new where one is.
    """

    key: str
    label: str
    url: str
    look: str = ""
    name: str = ""
    value: str = ""
    is_link: bool = False
    connects: bool = False
    stays: bool = False


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


@dataclass(frozen=True)
class CardGroup:
    """Cards that ask the same of the person."""

    key: Group
    title: str
    cards: tuple[ServerCard, ...]


@dataclass(frozen=True)
class StateChoice:
    """One state the list can be narrowed to, and how many servers are in it."""

    key: str
    title: str
    count: int
    chosen: bool


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


def state_choices(cards: Iterable[ServerCard], chosen: str) -> list[StateChoice]:
    """Return what the list can be narrowed to; a state that no server is in is left out unless it is chosen."""
    listed = list(cards)
    titles: dict[State, str] = {
        "needs_you": _("Needs you"),
        "connected": _("Connected"),
        "available": _("Available"),
        "leaving": _("Being removed"),
        "unreachable": _("Unreachable"),
    }
    counted = {key: sum(key in card.states for card in listed) for key in STATES}
    everything = StateChoice("", _("All"), len(listed), chosen not in STATES)
    return [
        everything,
        *(
            StateChoice(key, titles[key], counted[key], key == chosen)
            for key in STATES
            if counted[key] or key == chosen
        ),
    ]


def in_order(cards: Iterable[ServerCard], sort: str) -> list[ServerCard]:
    """Return cards by name, by the newest connection or contact, or by how many tools there are."""
    by_name = sorted(cards, key=lambda card: (card.name.casefold(), str(card.id)))
    if sort == "connected":
        return sorted(by_name, key=lambda card: card.connected_at or _LONG_AGO, reverse=True)
    if sort == "contact":
        return sorted(by_name, key=lambda card: card.contacted_at or _LONG_AGO, reverse=True)
    if sort == "tools":
        return sorted(by_name, key=lambda card: card.tool_count or 0, reverse=True)
    return by_name


def grouped(cards: Iterable[ServerCard]) -> list[CardGroup]:
    """Group cards by what the person has to do, leaving out empty groups."""
    titles: dict[Group, str] = {
        "needs_you": _("Needs you"),
        "connected": _("Connected"),
        "available": _("Available"),
        "leaving": _("Being removed"),
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
    waiting, addresses = _waiting_calls(user, keys), _addresses(place)
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
    counts: Mapping[uuid.UUID, int],
    waiting_calls: int,
    addresses: Mapping[str, str],
) -> ServerCard:
    standing = _standing(place, server, grant, flow)
    if waiting_calls and standing.can_run and standing.action == "none":
        standing = replace(standing, group="needs_you", action="continue")
    waiting = standing.action == "open_again"
    unreachable = server.reachable is False
    active = grant if grant is not None and grant.is_active else None
    scopes = tuple(active.scope.split()) if active is not None else ()
    permits = scopes_in_words(scopes)
    action = _next_step(place, server, standing)
    links = {name: pattern.replace(_NO_SERVER, str(server.pk)) for name, pattern in addresses.items()}
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
        step=_step(server, action, standing.group, links),
        aside=_aside(server, action, flow, links),
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


def _addresses(place: Place) -> dict[str, str]:
    """Return the addresses of a server's pages, with a mark in the server's place: one look-up a page and not a row."""
    names = {"slug": place.workspace.slug, "server_id": _NO_SERVER}
    of_a_server = {
        "tools": "server",
        **{name: name for name in ("refresh", "edit", "delete", "keep", "diagnose", "waiting")},
    }
    try:
        sign_out = reverse("logout")
    except NoReverseMatch:  # the site signs people in by other means
        sign_out = ""
    return {
        **{name: reverse(f"mcp_oauth:{view}", kwargs=names) for name, view in of_a_server.items()},
        **{name: reverse(f"mcp_oauth:{name}") for name in ("start", "cancel", "decline", "disconnect")},
        "sign_out": sign_out,
    }


def _step(server: McpServer, action: Action, group: Group, links: Mapping[str, str]) -> Step | None:
    """Return what is pressed for an action."""
    pk = str(server.pk)
    if action in {"connect", "reconnect", "grant_access", "open_again"}:
        labels = {
            "connect": _("Connect with OAuth"),
            "reconnect": _("Reconnect"),
            "grant_access": _("Grant access"),
            "open_again": _("Open again"),
        }
        # The strong colour only where something is wanted of the person.
        look = {"connect": "soft", "open_again": ""}.get(action, "strong")
        return Step("connect", labels[action], links["start"], look, "server", pk, connects=True)
    if action == "retry":
        return Step("retry", _("Retry"), links["refresh"], stays=True)
    if action == "diagnose":
        return Step("diagnose", _("Diagnose"), links["diagnose"], "strong" if group == "needs_you" else "")
    if action == "enter_headers":
        return Step("enter", _("Enter the key"), links["edit"], "strong", is_link=True)
    if action == "keep":
        return Step("keep", _("Keep it"), links["keep"], "soft", stays=True)
    if action == "continue":
        return Step("continue", _("Continue"), links["waiting"], "strong", is_link=True)
    if action == "sign_in":
        return Step("leave", _("Sign in again"), links["sign_out"], "strong") if links["sign_out"] else None
    return Step("tools", _("Tools"), links["tools"], is_link=True)


def _aside(server: McpServer, action: Action, flow: AuthorizationFlow | None, links: Mapping[str, str]) -> Step | None:
    """Return the way to say no to what is offered."""
    if action == "open_again" and flow is not None:
        return Step("cancel", _("Cancel"), links["cancel"], "quiet", "flow", str(flow.pk), stays=True)
    if action == "grant_access":
        return Step("decline", _("Not now"), links["decline"], "quiet", "server", str(server.pk), stays=True)
    return None


def _next_step(place: Place, server: McpServer, standing: _Standing) -> Action:
    """Return the one step that is offered: the standing's own, or what helps a server that was not reached."""
    if standing.action != "none" or not server.is_in_use or server.reachable is not False:
        return standing.action
    return "diagnose" if place.is_admin and server.contact_error_code in _WRONG_ANSWERS else "retry"


def _standing(
    place: Place, server: McpServer, grant: McpServerOAuth | None, flow: AuthorizationFlow | None
) -> _Standing:
    if server.removal_at is not None:
        line = StateLine(
            "warn", _("Being removed"), _("It is out of use. What people granted is revoked when it goes.")
        )
        return _Standing("leaving", line, "keep" if place.is_admin and server.removal_at > timezone.now() else "none")
    if not server.enabled:
        return _Standing("available", StateLine("idle", _("Disabled by an administrator")))
    if server.auth_mode == McpServer.AuthMode.NONE:
        return _Standing("connected", StateLine("ok", _("Open, no sign-in needed")), can_run=True)
    if server.auth_mode == McpServer.AuthMode.HEADERS:
        return _headers(place, server)
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
            _("A tool asks to: %(scopes)s.") % {"scopes": ", ".join(scopes_with_names(_missing(grant)[:5]))[:300]},
        )
        return _Standing("needs_you", line, "grant_access", can_run=True)
    if grant is not None and still_good(grant):
        words = _("Shared by the workspace") if server.grant_is_shared else _connected(grant)
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


def _headers(place: Place, server: McpServer) -> _Standing:
    """Return how a server stands that a key opens which an administrator entered."""
    if server.headers_refused_at is None:
        return _Standing("connected", StateLine("ok", _("Opened by the workspace's own key")), can_run=True)
    line = StateLine(
        "bad",
        _("Key not accepted"),
        _("An administrator has to enter the server's headers again."),
        server.headers_refused_at,
    )
    if place.is_admin:
        return _Standing("needs_you", line, "enter_headers")
    return _Standing("available", line)


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
    return _refused_to_all(place, line)


def _enterprise(place: Place, server: McpServer, grant: McpServerOAuth | None) -> _Standing:
    """Return how a server stands that opens for whoever signed in at the company."""
    if grant is None or grant.is_active or grant.server_generation != server.generation:
        return _Standing("connected", StateLine("ok", _("Opened with your company sign-in")), can_run=True)
    if grant.reason == "sign_in_again":
        needed = authorization_required(_with_workspace(server, place), grant.reason)
        words = f"{needed.user_message} {needed.next_step}"
        line = StateLine("bad", _("Sign in again"), words, grant.reason_at)
        return _Standing("needs_you", line, "sign_in", can_run=True)
    line = StateLine(
        "bad",
        _("Company sign-in refused"),
        _("An administrator has to check both clients, the scopes, and whether the company permits it."),
        grant.reason_at,
    )
    return _refused_to_all(place, line)


def _refused_to_all(place: Place, line: StateLine) -> _Standing:
    """Return the standing of an identity that nobody agreed to, which a call may still try again."""
    if place.is_admin:
        return _Standing("needs_you", line, "diagnose", can_run=True)
    return _Standing("available", line, can_run=True)


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


def _connected(grant: McpServerOAuth) -> str:
    return _("Connected as %(account)s") % {"account": grant.account} if grant.account else _("Connected")


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
