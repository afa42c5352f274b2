"""Anything that can happen to the grants of two people at two servers, in any order, against a model of what is right.

The model is a few plain values that are changed by hand in each rule; after each step rows, pages and what the other
sides saw have to agree with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

import hypothesis
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import SearchStrategy

from mcp_oauth import call_tool, list_tools
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth, Membership, Workspace
from mcp_oauth.services.grants import refresh_due_grants
from mcp_oauth.services.revocation import revoked_already
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import update_server
from tests.people import browser_of, come_back, member, new_server, new_workspace, start
from tests.servers import (
    AuthorizationServerOptions,
    Fault,
    Person,
    ProtectedServer,
    RecordedRequest,
    html_fault,
    json_fault,
    protected_mcp_server,
)

pytestmark = pytest.mark.django_db(transaction=True)

MEMBERS = ("ada", "grace")
SERVERS = (0, 1)
# Few, so that the oldest are forgotten within one run.
OPEN_FLOWS = 3
# No pause ends by itself, and nobody is too quick, however long or short the machine takes.
LIMITS = {
    "MAX_OPEN_FLOWS_PER_USER": OPEN_FLOWS,
    "REFRESH_BACKOFF_SECONDS": 300.0,
    "STARTS_PER_MINUTE": 1_000_000,
    "CALLBACKS_PER_MINUTE": 1_000_000,
}
# What says nothing about a grant, however it is worded.
TRANSIENT: dict[str, Fault] = {
    "503": json_fault(503, "temporarily_unavailable"),
    "500 that speaks of the grant": json_fault(500, "invalid_grant"),
    "429": json_fault(429, "slow_down", headers={"retry-after": "7"}),
    "a page": html_fault(200),
}

# How somebody comes back from the authorization server, or does not.
Way = Literal[
    "good",
    "without refresh token",
    "denied",
    "other issuer",
    "no issuer",
    "other person",
    "other browser",
    "too late",
    "twice",
    "no member any more",
    "server moved",
]
WAYS: tuple[Way, ...] = (
    "good",
    "twice",
    "without refresh token",
    "denied",
    "other issuer",
    "no issuer",
    "other person",
    "other browser",
    "too late",
    "no member any more",
    "server moved",
)
# Whoever has a working grant goes nowhere unless they insist.
AGAIN = st.sampled_from([True, True, True, False])
Clock = Literal["fresh", "due", "ended"]
# What can happen to a token: its time comes, here or there, or the other side takes it back with or without the rest.
Event = Literal["nothing", "due", "ended", "ended here", "ended there", "taken back"]
EVENTS: tuple[Event, ...] = ("nothing", "due", "ended", "ended here", "ended there", "taken back")
Key = tuple[str, int]


@dataclass(eq=False)
class Flow:
    """A flow as it should be; ``gone`` means that its row was forgotten."""

    id: str
    member: str
    server: int
    peer: ProtectedServer
    generation: int
    address: str = field(repr=False)
    state: Literal["open", "used", "expired", "gone"] = "open"
    answer: str = field(default="", repr=False)


@dataclass(eq=False)
class Grant:
    """A grant as it should be; ``reason`` says why a person is needed, ``upstream`` is its name at the other side."""

    peer: ProtectedServer
    upstream: str
    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    clock: Clock = "fresh"
    accepted: bool = True
    renewable: bool = True
    # After a failure that passes the token endpoint is left alone for a while.
    paused: bool = False
    reason: str = ""


@dataclass(eq=False)
class World:
    """What all runs share because it takes long to start: people, their browsers, and three servers."""

    peers: list[ProtectedServer]
    users: dict[str, User]
    browsers: dict[str, Client]
    other_browsers: dict[str, Client]
    people: dict[str, Person]


ANYBODY_ANYWHERE = st.tuples(st.sampled_from(MEMBERS), st.sampled_from(SERVERS))
# Whose grants are there in the very run that draws.
CONNECTED: SearchStrategy[Key] = st.runner().flatmap(lambda machine: st.sampled_from(sorted(machine.grants)))


def somebody_is_connected(machine: GrantMachine) -> bool:
    return bool(machine.grants)


class GrantMachine(RuleBasedStateMachine):
    """Two members, two servers of one workspace, and a third place that a server can move to."""

    flows: Bundle[Flow] = Bundle("flows")

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        for peer in world.peers:
            forget_everything(peer)
        self.workspace: Workspace = new_workspace()
        self.members: set[str] = set()
        self.at = {server: world.peers[server] for server in SERVERS}
        self.generation = dict.fromkeys(SERVERS, 1)
        self.rows = {server: new_server(self.workspace, self.at[server].url, f"Server {server}") for server in SERVERS}
        self.grants: dict[Key, Grant] = {}
        self.known_flows: list[Flow] = []
        self.paused_before: set[str | None] = set()
        # Tokens that must not be shown to anybody any more.
        self.retired: set[str] = set()
        self.exchanged: list[str] = []
        self.consumed = 0
        self.versions: dict[Any, tuple[int, str]] = {}
        self._begin_step()

    def teardown(self) -> None:
        try:
            for name in MEMBERS:
                self._look(name)
        finally:
            # Whatever this run has found, the next one finds nothing of it.
            with revoked_already():
                self.workspace.delete()

    @initialize(
        connected=st.lists(ANYBODY_ANYWHERE, min_size=1, max_size=4, unique=True),
        rotating=st.sampled_from([(True, False, True), (False, True, False)]),
    )
    def begins(self, connected: list[Key], rotating: tuple[bool, ...]) -> None:
        for peer, rotates in zip(self.world.peers, rotating, strict=True):
            peer.configure_authorization_server(rotate_refresh=rotates)
        for name in MEMBERS:
            Membership.objects.create(workspace=self.workspace, user=self.world.users[name])
            self.members.add(name)
        for key in connected:
            self.connects(key, "good", again=True)

    # Connecting.

    @rule(target=flows, key=ANYBODY_ANYWHERE, way=st.sampled_from([*WAYS, "not at all"]), again=AGAIN)
    def connects(self, key: Key, way: Way | Literal["not at all"], again: bool) -> Any:
        self._begin_step()
        flow = self._start(*key, again=again)
        if flow is not None and way != "not at all":
            self._come_back(flow, way)
        return flow or multiple()

    @rule(flow=flows, way=st.sampled_from(WAYS))
    def comes_back(self, flow: Flow, way: Way) -> None:
        self._begin_step()
        self._come_back(flow, way)

    # Time, and the other sides.

    @rule(server=st.sampled_from(SERVERS), change=st.sampled_from([*TRANSIENT, "well", "well", "rotates"]))
    def the_other_side_changes(self, server: int, change: str) -> None:
        self._begin_step()
        peer = self.at[server]
        if change == "rotates":
            rotates = peer.authorization_server.options.rotate_refresh
            peer.configure_authorization_server(rotate_refresh=not rotates)
        else:
            hook = None if change == "well" else (lambda form: TRANSIENT[change])
            peer.configure_authorization_server(token_faults=hook)
        if change == "well":
            McpServerOAuth.objects.filter(server_id=self.rows[server].pk).update(refresh_not_before=timezone.now())
            for (_name, there), grant in self.grants.items():
                grant.paused = grant.paused and there != server

    # Using, renewing, ending.

    @rule(key=CONNECTED, event=st.sampled_from(EVENTS), how=st.sampled_from(["call", "list", "call in vain"]))
    @precondition(somebody_is_connected)
    def uses(self, key: Key, event: Event, how: str) -> None:
        self._happens(key, event)
        # A server may turn good tokens away, fresh ones too.
        resource = self.grants[key].peer.resource
        resource.rejecting = how == "call in vain"
        self._use(key, how)
        resource.rejecting = False

    @rule(key=ANYBODY_ANYWHERE)
    def anybody_calls(self, key: Key) -> None:
        self._use(key, "call")

    @rule(
        key=CONNECTED,
        event=st.sampled_from(EVENTS),
        moment=st.sampled_from(["", *TRANSIENT]),
        within=st.sampled_from([0, 7200]),
    )
    @precondition(somebody_is_connected)
    def background_job_runs(self, key: Key, event: Event, moment: str, within: int) -> None:
        self._happens(key, event)
        if moment:
            self.grants[key].peer.configure_authorization_server(token_faults=lambda form: TRANSIENT[moment])
        self._begin_step()
        expected: dict[Key, str] = {}
        outcomes = {
            (grant.user.username.partition("-")[0], self._number(grant.server)): error.code if error else ""
            for grant, error in refresh_due_grants(within=within)
            if grant.user is not None
        }
        for key, grant in self.grants.items():
            if not grant.reason and not grant.paused and grant.refresh and (grant.clock != "fresh" or within):
                expected[key] = self._renew(grant) or ("reauth_required" if grant.reason else "")
        assert outcomes == expected

    @rule(key=CONNECTED, what=st.sampled_from(["disconnect", "disconnect", "move", "leave"]))
    @precondition(somebody_is_connected)
    def something_ends(self, key: Key, what: str) -> None:
        self._begin_step()
        if what == "disconnect":
            self._disconnect(*key)
        elif what == "move":
            self._move(key[1])
        else:
            self._leave(key[0])

    @rule(name=st.sampled_from(MEMBERS))
    @precondition(lambda self: len(self.members) < len(MEMBERS))
    def returns(self, name: str) -> None:
        self._begin_step()
        if name not in self.members:
            Membership.objects.create(workspace=self.workspace, user=self.world.users[name])
            self.members.add(name)

    def _disconnect(self, name: str, server: int) -> None:
        response = self.world.browsers[name].post(
            "/mcp/oauth/disconnect/", {"server": str(self.rows[server].pk)}, headers={"accept": "application/json"}
        )
        grant = self.grants.pop((name, server))
        assert response.json() == {"status": "disconnected", "revoked": True if grant.access else None}
        for flow in self.known_flows:
            if (flow.member, flow.server) == (name, server):
                flow.state = "gone"
        if grant.access:
            self._assert_revoked(grant)
        self._retire(grant)

    def _move(self, server: int) -> None:
        [spare] = [peer for peer in self.world.peers if peer not in self.at.values()]
        row = self.rows[server] = McpServer.objects.get(pk=self.rows[server].pk)
        update_server(row, ServerSettings(name=row.name, url=spare.url, slug=row.slug))
        self.at[server] = spare
        self.generation[server] += 1
        for (_name, there), grant in self.grants.items():
            if there == server:
                if not grant.reason:
                    self._assert_revoked(grant)
                self._retire(grant)
                grant.reason, grant.access, grant.refresh = "server_changed", "", None

    def _leave(self, name: str) -> None:
        Membership.objects.get(workspace=self.workspace, user=self.world.users[name]).delete()
        self.members.remove(name)
        for key in [key for key in self.grants if key[0] == name]:
            grant = self.grants.pop(key)
            if not grant.reason:
                self._assert_revoked(grant)
            self._retire(grant)

    # What has to be so after each step.

    @invariant()
    def grants_are_what_the_model_says(self) -> None:
        rows = McpServerOAuth.objects.select_related("user", "server").all()
        found: dict[Key, McpServerOAuth] = {}
        for row in rows:
            assert row.user is not None
            key = row.user.username.partition("-")[0], self._number(row.server)
            assert key not in found, "two grants of one person at one server"
            found[key] = row
        assert found.keys() == self.grants.keys()
        for key, grant in self.grants.items():
            row = found[key]
            assert (row.is_active, row.reason) == (not grant.reason, grant.reason)
            assert row.lease_id is None
            if not grant.reason or grant.reason == "server_changed":
                assert (row.access_token or "", row.refresh_token) == (grant.access, grant.refresh)
            content = f"{row.state} {row.reason} {row.access_token} {row.refresh_token}"
            version, before = self.versions.get(row.pk, (0, ""))
            assert row.version > version or (row.version == version and content == before)
            self.versions[row.pk] = row.version, content

    @invariant()
    def flows_are_what_the_model_says(self) -> None:
        now = timezone.now()
        found = {
            str(pk): "expired" if expires <= now else "used" if consumed else "open"
            for pk, expires, consumed in AuthorizationFlow.objects.values_list("pk", "expires_at", "consumed_at")
        }
        assert found == {flow.id: flow.state for flow in self.known_flows if flow.state != "gone"}

    @invariant()
    def nobody_saw_what_was_not_meant_for_them(self) -> None:
        for peer in self.world.peers:
            for token in self._shown(peer):
                issued = peer.authorization_server.registry.find(token)
                assert issued is not None, "a token of another authorization server"
                assert issued.user == self.actor, "a token of somebody else, or with nobody calling"
                assert token not in self.retired_before, "a token of a grant that was over"

    @invariant()
    def codes_and_refresh_tokens_are_used_once(self) -> None:
        codes = [*self.exchanged, *self._codes()]
        assert len(set(codes)) == len(codes)
        assert len(codes) <= self.consumed
        for peer in self.world.peers:
            for form in forms(peer.authorization_server.requests_to("/token")):
                token = form.get("refresh_token")
                assert token is None or token not in self.retired_before | self.paused_before

    # The model.

    def _use(self, key: Key, how: str) -> None:
        name, server = key
        self._begin_step(actor=name)
        user, row = self.world.users[name], self.rows[server].pk
        try:
            if how != "list":
                assert call_tool(row, user, "whoami").text == name
            else:
                assert "whoami" in [tool.name for tool in list_tools(row, user, refresh=True)]
            outcome = ""
        except McpOAuthError as error:
            outcome = f"{error.code} {getattr(error, 'reason', '')}".strip()
        grant = self.grants.get((name, server))
        if name not in self.members:
            assert outcome == "not_found"
        elif grant is None:
            assert outcome == "reauth_required not_connected"
        else:
            assert outcome == self._used(grant)
            if not outcome:
                assert self._shown(grant.peer)[-1] == grant.access
        self._look(name)

    def _look(self, name: str) -> None:
        listed = self.world.browsers[name].get("/api/v1/servers/").json()["servers"]
        assert {server["id"]: (server["authorized"], server["reason"]) for server in listed} == {
            str(self.rows[server].pk): self._said(self.grants.get((name, server)))
            for server in SERVERS
            if name in self.members
        }

    def _happens(self, key: Key, event: Event) -> None:
        grant = self.grants[key]
        if event in {"due", "ended", "ended here"} and not grant.reason:
            left = timedelta(seconds=30 if event == "due" else -1)
            row = McpServerOAuth.objects.filter(user=self.world.users[key[0]], server_id=self.rows[key[1]].pk)
            row.update(expires_at=timezone.now() + left)
            grant.clock = "due" if event == "due" else "ended"
        if event in {"ended", "ended there", "taken back"}:
            self._end_upstream(grant, "both" if event == "taken back" else "access")

    def _start(self, name: str, server: int, *, again: bool) -> Flow | None:
        answer = start(self.world.browsers[name], self.rows[server], **({"again": "1"} if again else {}))
        if name not in self.members:
            assert answer["error"]["code"] == "not_found"
            return None
        grant = self.grants.get((name, server))
        if grant is not None and not grant.reason and not again and self._usable(grant) == "":
            assert answer["status"] == "already_authorized"
            return None
        assert answer["status"] == "redirect", answer
        self._forget_old_flows(name)
        flow = Flow(answer["flow"], name, server, self.at[server], self.generation[server], answer["authorization_url"])
        self.known_flows.append(flow)
        return flow

    def _begin_step(self, actor: str | None = None) -> None:
        self.exchanged += self._codes()
        for peer in self.world.peers:
            peer.authorization_server.requests.clear()
            peer.requests.clear()
        # Who calls; nobody's token is shown in any other step.
        self.actor = actor
        # How many codes this step has a right to exchange.
        self.exchanges_due = 0
        self.retired_before = set(self.retired)
        self.paused_before = {grant.refresh for grant in self.grants.values() if grant.paused}

    def _come_back(self, flow: Flow, way: Way) -> None:
        flow.peer.configure_authorization_server(
            auto_consent=flow.member, deny=way == "denied", issue_refresh_token=way != "without refresh token"
        )
        flow.answer = answer = self.world.people[flow.member].authorize(flow.address)
        browser = self.world.browsers[flow.member]
        if way == "other issuer":
            answer = changed(answer, iss="https://elsewhere.example")
        elif way == "no issuer":
            answer = changed(answer, iss=None)
        elif way == "other browser":
            browser = self.world.other_browsers[flow.member]
        elif way == "other person":
            browser = self.world.browsers[other(flow.member)]
        elif way == "too late" and flow.state != "gone":
            AuthorizationFlow.objects.filter(pk=flow.id).update(expires_at=timezone.now() - timedelta(seconds=1))
            flow.state = "expired"
        elif way == "no member any more" and flow.member in self.members:
            self._leave(flow.member)
        elif way == "server moved":
            self._move(flow.server)
        for _visit in range(2 if way == "twice" else 1):
            self._answered(flow, come_back(browser, answer), way)
        flow.peer.configure_authorization_server(issue_refresh_token=True)

    def _answered(self, flow: Flow, response: Any, way: Way) -> None:
        """Compare the callback's page with what has to come of it."""
        authorization_server = flow.peer.authorization_server
        expected = self._verdict(flow, way, out_of_order=authorization_server.options.token_faults is not None)
        assert response.context["code"] == expected
        assert (response.status_code == 200) == (expected == "")
        self.exchanges_due += expected in {"", "token_endpoint_unavailable"}
        exchanges = [form for form in forms(authorization_server.requests_to("/token")) if "code" in form]
        assert len(exchanges) == self.exchanges_due
        if expected == "":
            self._connected(flow)

    def _verdict(self, flow: Flow, way: Way, *, out_of_order: bool) -> str:
        if flow.state != "open" or way in {"other person", "other browser"}:
            return "callback_refused"
        flow.state = "used"
        self.consumed += 1
        if flow.member not in self.members:
            return "not_found"
        if flow.generation != self.generation[flow.server] or way in {"other issuer", "no issuer"}:
            return "callback_refused"
        if parse_qs(urlsplit(flow.answer).query).get("error"):
            return "access_denied"
        return "token_endpoint_unavailable" if out_of_order else ""

    def _connected(self, flow: Flow) -> None:
        before = self.grants.get((flow.member, flow.server))
        if before is not None:
            self._retire(before)
        tokens = flow.peer.authorization_server.access_tokens
        grant = Grant(flow.peer, tokens[-1].grant_id, "", None)
        self._read_tokens(grant)
        self.grants[flow.member, flow.server] = grant

    def _used(self, grant: Grant) -> str:
        """Return the error of a call with a grant, empty for none; what it does to the grant is done."""
        if not grant.reason:
            if error := self._usable(grant):
                return error
            rejecting = grant.peer.resource.rejecting
            if not grant.reason and (rejecting or not grant.accepted):
                if error := self._usable(grant, rejected=True):
                    return error
                if not grant.reason and rejecting:
                    self._end(grant, "rejected")
        return f"reauth_required {grant.reason}" if grant.reason else ""

    def _usable(self, grant: Grant, *, rejected: bool = False) -> str:
        """Make the token good for a call; return why there is none, which leaves the grant as it is."""
        if grant.clock == "fresh" and not rejected:
            return ""
        if grant.refresh is None:
            if rejected or grant.clock == "ended":
                self._end(grant, "revoked" if rejected else "expired")
                return f"reauth_required {grant.reason}"
            return ""
        error = self._renew(grant)
        if grant.reason:
            return f"reauth_required {grant.reason}"
        return error if rejected or grant.clock == "ended" else ""

    def _renew(self, grant: Grant) -> str:
        authorization_server = grant.peer.authorization_server
        if grant.paused or authorization_server.options.token_faults is not None:
            grant.paused = True
            return "token_endpoint_unavailable"
        if not grant.renewable:
            self._end(grant, "revoked")
            return ""
        self._read_tokens(grant)
        grant.clock, grant.accepted = "fresh", True
        return ""

    def _read_tokens(self, grant: Grant) -> None:
        """Take the newest tokens of a grant from who issued them; an answer without a refresh token keeps the old."""
        issued = grant.peer.authorization_server.registry.tokens.values()
        mine = [token for token in issued if token.grant_id == grant.upstream]
        access = [token.value for token in mine if token.kind == "access"]
        refresh = [token.value for token in mine if token.kind == "refresh"]
        grant.access, grant.refresh = access[-1], refresh[-1] if refresh else None
        self.retired |= {*access[:-1], *refresh[:-1]}

    def _end(self, grant: Grant, reason: str) -> None:
        grant.reason = reason
        self._retire(grant)

    def _retire(self, grant: Grant) -> None:
        self.retired |= {token for token in (grant.access, grant.refresh) if token}

    def _end_upstream(self, grant: Grant, kinds: Literal["access", "both"]) -> None:
        for token in grant.peer.authorization_server.registry.tokens.values():
            if token.grant_id == grant.upstream and token.kind == "access":
                token.expires_at = time.time() - 1
            elif token.grant_id == grant.upstream and kinds == "both":
                token.revoked = True
        grant.accepted = False
        grant.renewable = grant.renewable and kinds != "both"

    def _forget_old_flows(self, name: str) -> None:
        mine = [flow for flow in self.known_flows if flow.member == name]
        open_ones = [flow for flow in mine if flow.state == "open"]
        for flow in [*[flow for flow in mine if flow.state == "expired"], *open_ones[: 1 - OPEN_FLOWS]]:
            flow.state = "gone"

    def _said(self, grant: Grant | None) -> tuple[bool, str]:
        if grant is None:
            return False, "not_connected"
        if not grant.reason and grant.refresh is None and grant.clock == "ended":
            return False, "expired"
        return not grant.reason, grant.reason

    # What the other sides saw.

    def _codes(self) -> list[str]:
        seen = [form for peer in self.world.peers for form in forms(peer.authorization_server.requests_to("/token"))]
        return [form["code"] for form in seen if form["grant_type"] == "authorization_code"]

    def _shown(self, peer: ProtectedServer) -> list[str]:
        return [str(request.authorization).split()[1] for request in peer.requests if request.authorization]

    def _assert_revoked(self, grant: Grant) -> None:
        seen = {form["token"] for form in forms(grant.peer.authorization_server.requests_to("/revoke"))}
        assert {token for token in (grant.access, grant.refresh) if token} <= seen
        assert grant.peer.authorization_server.introspect(grant.access) is None

    def _number(self, server: McpServer) -> int:
        return next(number for number, row in self.rows.items() if row.pk == server.pk)


def other(name: str) -> str:
    return next(candidate for candidate in MEMBERS if candidate != name)


def forms(requests: Iterable[RecordedRequest]) -> list[Mapping[str, str]]:
    return [request.form for request in requests]


def changed(address: str, **changes: str | None) -> str:
    """Return an address with parameters replaced, or left out where ``None``."""
    parts = urlsplit(address)
    query = {**dict(parse_qsl(parts.query)), **changes}
    return urlunsplit(parts._replace(query=urlencode({k: v for k, v in query.items() if v is not None})))


def forget_everything(peer: ProtectedServer) -> None:
    """Let a server be as it was when it started."""
    registry = peer.authorization_server.registry
    for remembered in (registry.clients, registry.codes, registry.tokens):
        remembered.clear()
    peer.authorization_server.requests.clear()
    peer.requests.clear()
    peer.accept_tokens()
    peer.configure_authorization_server(token_faults=None, rotate_refresh=True, issue_refresh_token=True)


@pytest.fixture
def world() -> Iterator[World]:
    """Start what every run needs."""
    with ExitStack() as stack:
        options = AuthorizationServerOptions(cimd=False, auto_consent="ada")
        peers = [
            stack.enter_context(protected_mcp_server(as_options=options, same_origin=True)) for _ in (*SERVERS, "spare")
        ]
        users = {name: member(name=f"{name}-of-the-machine") for name in MEMBERS}
        people = {name: stack.enter_context(Person(name)) for name in MEMBERS}
        stack.enter_context(override_settings(MCP_OAUTH={**django_settings.MCP_OAUTH, **LIMITS}))
        browsers = {name: browser_of(user) for name, user in users.items()}
        for browser in browsers.values():
            # One computer that both use: the secret that ties a flow to a browser must not stand in for the person.
            session = browser.session
            session["mcp_oauth_browser"] = "the same browser"
            session.save()
        yield World(peers, users, browsers, {name: browser_of(user) for name, user in users.items()}, people)


def test_whatever_happens_in_whatever_order_grants_stay_what_people_agreed_to(world: World) -> None:
    class Here(GrantMachine):
        def __init__(self) -> None:
            super().__init__(world)

    run_state_machine_as_test(
        Here,
        settings=hypothesis.settings(
            max_examples=20,
            stateful_step_count=30,
            # Real servers answer: to find the shortest way to a failure would take longer than a test may.
            phases=[hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate],
        ),
    )
