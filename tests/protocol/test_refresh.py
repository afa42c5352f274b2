"""Keeping a grant good over real servers: when it is renewed, how often, where, and what ends it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from mcp_oauth import call_tool, list_tools
from mcp_oauth.exceptions import (
    AuthorizationRequired,
    McpOAuthError,
    ServerUnreachable,
    TokenEndpointUnavailable,
)
from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth, OAuthRegistration, Workspace
from mcp_oauth.services.grants import refresh_due_grants
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import update_server
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, pause_is_over, start
from tests.servers import (
    AuthorizationServerOptions,
    AuthorizationServerPeer,
    Fault,
    OddServer,
    Person,
    PreregisteredClient,
    ProtectedServer,
    RecordedRequest,
    html_fault,
    json_fault,
)

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass(frozen=True)
class Account:
    """A connected account: the person here, the same person there, and the servers between."""

    peer: ProtectedServer
    workspace: Workspace
    user: User
    browser: Client
    server: McpServer
    person: Person = field(repr=False)

    @property
    def grant(self) -> McpServerOAuth:
        return McpServerOAuth.objects.get(server_id=self.server.pk, user=self.user)

    @property
    def refreshes(self) -> list[RecordedRequest]:
        found = self.peer.authorization_server.requests_to("/token")
        return [request for request in found if request.form.get("grant_type") == "refresh_token"]

    @property
    def rejections(self) -> int:
        """How many requests came with a token that was not good."""
        good = {f"Bearer {token.value}" for token in self.peer.authorization_server.access_tokens if token.active}
        return len([r for r in self.peer.mcp_requests if r.authorization and r.authorization not in good])

    def whoami(self) -> str:
        return call_tool(self.server, self.user, "whoami").text

    def ends_in(self, seconds: float) -> None:
        """Let our copy of the access token have this much left; the authorization server is not asked."""
        moment = timezone.now() + timedelta(seconds=seconds)
        McpServerOAuth.objects.filter(pk=self.grant.pk).update(expires_at=moment)

    def pause_is_over(self) -> None:
        """Let the pause that follows a failed renewal be over."""
        pause_is_over()

    def end(self) -> None:
        """Let the access token be over here and there."""
        self.peer.authorization_server.expire_access_tokens()
        self.ends_in(-1)

    def answer(self, fault: Callable[[Mapping[str, Any]], Any] | Fault | None) -> None:
        """Decide what the token endpoint answers; ``None`` lets it answer as it does."""
        hook = fault if fault is None or callable(fault) else lambda form: fault
        self.peer.configure_authorization_server(token_faults=hook)

    def reconnect(self) -> None:
        started = start(self.browser, self.server, again="1")
        response = come_back(self.browser, self.person.authorize(started["authorization_url"]))
        assert response.status_code == 200

    def listed(self) -> None:
        """List the tools, so that a call is one request."""
        list_tools(self.server, self.user)


@pytest.fixture
def account(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> Callable[..., Account]:
    """Connect an account: ``account(as_options={...}, server_settings={...}, **peer_options)``."""

    def open_one(
        *,
        as_options: Mapping[str, Any] | None = None,
        server_settings: Mapping[str, Any] | None = None,
        **peer_options: Any,
    ) -> Account:
        options = {"cimd": False, "auto_consent": "ada", **(as_options or {})}
        peer = protected_mcp_server(as_options=AuthorizationServerOptions(**options), **peer_options)
        workspace = new_workspace()
        user = member(workspace)
        server = new_server(workspace, peer.url, **(server_settings or {}))
        opened = Account(peer, workspace, user, browser_of(user), server, person("ada"))
        connect(opened.browser, server, opened.person)
        opened.listed()
        return opened

    return open_one


def meanwhile(account: Account, work: Callable[[], object]) -> list[object]:
    """Do something in another thread while the next refresh waits for its answer; returns what came of it."""
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(work())
        finally:
            connection.close()

    async def hook(form: Mapping[str, Any]) -> None:
        if form.get("grant_type") == "refresh_token" and not outcomes:
            await asyncio.to_thread(run)

    account.answer(hook)
    return outcomes


# When.


def test_a_token_with_time_left_is_used_as_it_is(account: Callable[..., Account]) -> None:
    at = account()
    assert at.whoami() == "ada"
    assert at.refreshes == []


@pytest.mark.requirement("T23")
def test_a_token_is_renewed_before_it_ends(account: Callable[..., Account]) -> None:
    at = account()
    old = at.grant
    at.ends_in(100)  # of an hour: within two minutes

    assert at.whoami() == "ada"

    assert len(at.refreshes) == 1
    assert at.rejections == 0
    new = at.grant
    assert new.access_token != old.access_token
    assert new.version == old.version + 1
    assert new.expires_at is not None
    assert timedelta(minutes=58) < new.expires_at - timezone.now() <= timedelta(hours=1)
    assert at.peer.mcp_requests[-1].authorization == f"Bearer {new.access_token}"
    assert at.whoami() == "ada"
    assert len(at.refreshes) == 1


def test_a_short_token_is_renewed_in_the_last_tenth_of_its_life(account: Callable[..., Account]) -> None:
    at = account(as_options={"access_token_seconds": 300})
    at.ends_in(60)
    assert at.whoami() == "ada"
    assert at.refreshes == []
    at.ends_in(29)
    assert at.whoami() == "ada"
    assert len(at.refreshes) == 1


@pytest.mark.requirement("T23")
@pytest.mark.parametrize("lifetime", [0, -5])
def test_a_lifetime_that_is_over_at_once_makes_no_endless_loop(account: Callable[..., Account], lifetime: int) -> None:
    at = account()
    at.ends_in(-1)
    issued = 0

    async def hopeless(form: Mapping[str, Any]) -> Fault | None:
        nonlocal issued
        issued += 1
        if issued > 5:
            return json_fault(400, "invalid_grant")  # so that a loop ends
        # What the clock says is one thing; the token itself works.
        server = at.peer.authorization_server
        answer = server.grant(client_id=form["client_id"], scope="read", resource=at.peer.url)
        return json_answer({**answer, "expires_in": lifetime})

    at.answer(hopeless)
    assert at.whoami() == "ada"
    assert issued == 1


def test_a_token_that_says_nothing_of_its_end_is_used_until_it_is_rejected(account: Callable[..., Account]) -> None:
    at = account(as_options={"access_token_seconds": None})
    assert at.grant.expires_at is None
    assert at.whoami() == "ada"
    assert at.refreshes == []
    at.peer.authorization_server.expire_access_tokens()
    assert at.whoami() == "ada"
    assert len(at.refreshes) == 1


def test_a_rejected_token_is_renewed_once_and_the_tool_runs_once(account: Callable[..., Account]) -> None:
    at = account()
    at.peer.authorization_server.expire_access_tokens()
    at.peer.requests.clear()

    assert at.whoami() == "ada"

    assert len(at.refreshes) == 1
    calls = [request for request in at.peer.mcp_requests if request.tool == "whoami"]
    assert len(calls) == 2  # the refused one and the one that ran
    assert at.rejections == 1
    assert at.grant.is_active


def test_a_fresh_token_that_is_rejected_too_asks_the_person(account: Callable[..., Account]) -> None:
    at = account()
    at.peer.reject_tokens()

    with pytest.raises(AuthorizationRequired) as required:
        at.whoami()

    assert required.value.reason == "rejected"
    assert required.value.server == str(at.server.pk)
    assert len(at.refreshes) == 1
    assert (at.grant.state, at.grant.reason) == ("needs_reauthorization", "rejected")

    # It stays said: nobody is asked again until the person has connected.
    asked = len(at.peer.requests)
    with pytest.raises(AuthorizationRequired) as again:
        at.whoami()
    assert again.value.reason == "rejected"
    assert len(at.refreshes) == 1
    assert len(at.peer.requests) == asked

    at.peer.accept_tokens()
    at.reconnect()
    assert at.whoami() == "ada"


# What ends a grant.


@pytest.mark.requirement("T24")
@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_dead_refresh_token_ends_the_grant_and_the_row_says_so(account: Callable[..., Account], status: int) -> None:
    at = account()
    at.end()
    at.answer(json_fault(status, "invalid_grant"))

    with pytest.raises(AuthorizationRequired) as required:
        at.whoami()

    assert required.value.reason == "revoked"
    assert (at.grant.state, at.grant.reason) == ("needs_reauthorization", "revoked")
    assert at.grant.reason_at is not None
    assert at.grant.lease_id is None
    # The reason is there for every later caller, and the authorization server is left alone.
    with pytest.raises(AuthorizationRequired):
        at.whoami()
    assert len(at.refreshes) == 1
    at.answer(None)
    at.reconnect()
    assert at.whoami() == "ada"


def test_a_grant_revoked_at_the_provider_is_noticed(account: Callable[..., Account]) -> None:
    at = account()
    at.end()
    at.peer.authorization_server.revoke_refresh_tokens()
    with pytest.raises(AuthorizationRequired) as required:
        at.whoami()
    assert required.value.reason == "revoked"


@pytest.mark.parametrize("error", ["invalid_request", "invalid_target", "unsupported_grant_type"])
def test_another_refusal_ends_the_grant_too(account: Callable[..., Account], error: str) -> None:
    at = account()
    at.end()
    at.answer(json_fault(400, error))
    with pytest.raises(AuthorizationRequired) as required:
        at.whoami()
    assert required.value.reason == "refused"
    assert len(at.refreshes) == 1


@pytest.mark.requirement("mcp-auth-refresh-not-assumed")
def test_a_grant_without_a_refresh_token_ends_with_its_access_token(account: Callable[..., Account]) -> None:
    at = account(as_options={"issue_refresh_token": False})
    at.ends_in(1000)
    assert at.whoami() == "ada"
    at.ends_in(50)  # due, but there is nothing to renew it with, and it still works
    assert at.whoami() == "ada"
    at.ends_in(-1)
    with pytest.raises(AuthorizationRequired) as required:
        at.whoami()
    assert required.value.reason == "expired"
    assert at.refreshes == []


def test_a_rejected_token_without_a_refresh_token_asks_the_person_at_once(account: Callable[..., Account]) -> None:
    at = account(as_options={"issue_refresh_token": False})
    at.peer.authorization_server.expire_access_tokens()
    with pytest.raises(AuthorizationRequired) as required:
        at.whoami()
    assert required.value.reason == "revoked"
    assert "renewed" not in required.value.user_message
    assert at.refreshes == []


# What does not.


def json_answer(document: Mapping[str, Any], status: int = 200) -> Fault:
    return status, {"content-type": "application/json"}, json.dumps(document).encode()


BAD_MOMENTS: dict[str, Fault] = {
    "503": json_fault(503, "temporarily_unavailable"),
    "503 with a dead grant": json_fault(503, "invalid_grant"),
    "429": json_fault(429, "slow_down", headers={"retry-after": "30"}),
    "408": (408, {}, b""),
    "500 and a page": html_fault(500),
    "200 and a page": html_fault(200),
    "200 and nothing": (200, {"content-type": "application/json"}, b""),
    "200 and half an answer": (200, {"content-type": "application/json"}, b'{"access_token": "a'),
    "a large answer": (200, {"content-type": "application/json"}, b'{"a": "' + b"a" * 100_000 + b'"}'),
    "a redirect elsewhere": (307, {"location": "http://127.0.0.1:9/token"}, b""),
}


@pytest.mark.requirement("T24")
@pytest.mark.parametrize("moment", BAD_MOMENTS, ids=str)
def test_a_bad_moment_of_the_token_endpoint_keeps_the_grant(account: Callable[..., Account], moment: str) -> None:
    at = account()
    before = at.grant
    at.answer(BAD_MOMENTS[moment])

    # While the old token lasts, it goes on being used, and the endpoint is not asked again at once.
    at.ends_in(60)
    assert [at.whoami(), at.whoami()] == ["ada", "ada"]
    assert len(at.refreshes) == 1

    # When it is over, that is said, and nothing is lost.
    at.ends_in(-1)
    with pytest.raises(TokenEndpointUnavailable) as paused:
        at.whoami()
    assert paused.value.retry_after is not None
    assert len(at.refreshes) == 1
    at.pause_is_over()
    with pytest.raises((TokenEndpointUnavailable, ServerUnreachable)):
        at.whoami()
    assert len(at.refreshes) == 2
    after = at.grant
    assert (after.state, after.version, after.reason) == ("active", before.version, "")
    assert after.refresh_token == before.refresh_token
    assert after.lease_id is None

    at.answer(None)
    at.pause_is_over()
    assert at.whoami() == "ada"
    renewed = at.grant
    assert (renewed.refresh_failures, renewed.refresh_not_before) == (0, None)


@pytest.mark.parametrize(
    ("headers", "failures", "least", "most"),
    [({}, 0, 1, 1.2), ({}, 3, 8, 9.6), ({}, 60, 300, 360), ({"retry-after": "30"}, 0, 30, 36)],
    ids=["the first", "the fourth", "one of many", "one that says when"],
)
def test_each_further_failure_leaves_the_endpoint_alone_for_longer_and_as_long_as_it_asks(
    account: Callable[..., Account], headers: dict[str, str], failures: int, least: float, most: float
) -> None:
    at = account()
    McpServerOAuth.objects.update(refresh_failures=failures)
    at.answer(json_fault(503, "temporarily_unavailable", headers=headers))
    at.ends_in(60)
    before = timezone.now()
    assert at.whoami() == "ada"
    after = timezone.now()

    grant = at.grant
    assert grant.refresh_failures == failures + 1
    assert grant.refresh_not_before is not None
    assert before + timedelta(seconds=least) <= grant.refresh_not_before <= after + timedelta(seconds=most)


def test_what_is_left_alone_is_left_alone_by_the_background_as_well(account: Callable[..., Account]) -> None:
    at = account()
    at.answer(json_fault(429, "slow_down", headers={"retry-after": "30"}))
    at.ends_in(60)
    assert [error.code for _grant, error in refresh_due_grants(within=300) if error] == ["token_endpoint_unavailable"]
    assert refresh_due_grants(within=300) == []
    assert len(at.refreshes) == 1

    at.answer(None)
    at.pause_is_over()
    assert [error for _grant, error in refresh_due_grants(within=300)] == [None]


@pytest.mark.requirement("T24")
def test_a_token_rejected_in_a_bad_moment_keeps_the_grant(account: Callable[..., Account]) -> None:
    at = account()
    at.peer.authorization_server.expire_access_tokens()
    at.answer(BAD_MOMENTS["503"])
    with pytest.raises(TokenEndpointUnavailable):
        at.whoami()
    assert at.grant.is_active
    at.answer(None)
    at.pause_is_over()
    assert at.whoami() == "ada"


@pytest.mark.requirement("T24")
def test_a_token_endpoint_that_cannot_be_reached_keeps_the_grant(
    account: Callable[..., Account], odd_server: Callable[..., OddServer]
) -> None:
    at = account()
    endpoint = at.grant.token_endpoint
    silent = odd_server("silent")
    McpServerOAuth.objects.update(token_endpoint=f"{silent.base_url}/token")

    at.ends_in(60)
    assert at.whoami() == "ada"
    assert silent.connections
    at.ends_in(-1)
    at.pause_is_over()
    with pytest.raises(ServerUnreachable):
        at.whoami()
    assert at.grant.is_active

    McpServerOAuth.objects.update(token_endpoint=endpoint)
    at.pause_is_over()
    assert at.whoami() == "ada"


# The refresh token.


@pytest.mark.requirement("T24")
def test_an_answer_without_a_refresh_token_keeps_the_old_one(account: Callable[..., Account]) -> None:
    at = account(as_options={"rotate_refresh": False})
    kept = at.grant.refresh_token
    for _ in range(2):
        at.end()
        assert at.whoami() == "ada"
    assert at.grant.refresh_token == kept
    assert [request.form["refresh_token"] for request in at.refreshes] == [kept, kept]


@pytest.mark.requirement("oauth21-4.3-replaced", "ext-ema-refresh-tokens")
def test_a_rotated_refresh_token_takes_the_place_of_the_old_one(account: Callable[..., Account]) -> None:
    at = account()
    used = []
    for _ in range(3):
        used.append(at.grant.refresh_token)
        at.end()
        assert at.whoami() == "ada"
    assert [request.form["refresh_token"] for request in at.refreshes] == used
    assert len(set(used)) == 3


@pytest.mark.requirement("oauth21-4.3-narrow")
def test_a_refresh_asks_for_no_other_scope_and_keeps_the_granted_one(account: Callable[..., Account]) -> None:
    at = account()

    async def silent_about_scope(form: Mapping[str, Any]) -> Fault:
        answer = at.peer.authorization_server.grant(
            client_id=form["client_id"], scope="read write", resource=at.peer.url
        )
        return json_answer({name: value for name, value in answer.items() if name != "scope"})

    at.answer(silent_about_scope)
    at.end()
    assert at.whoami() == "ada"
    assert "scope" not in at.refreshes[0].form
    assert at.grant.scope == "read"


# Where.


@pytest.mark.requirement("T24")
def test_a_refresh_goes_to_the_recorded_token_endpoint_and_asks_nobody_else(
    account: Callable[..., Account], authorization_server: Callable[..., AuthorizationServerPeer]
) -> None:
    at = account()
    bait = authorization_server(AuthorizationServerOptions(auto_consent="ada"))
    # Server and metadata now name somebody else, and the challenge with them.
    at.peer.configure(authorization_servers=(bait.issuer,))
    at.peer.configure_authorization_server(metadata_overrides={"token_endpoint": f"{bait.issuer}/token"})
    at.peer.authorization_server.requests.clear()
    at.peer.requests.clear()

    at.end()
    assert at.whoami() == "ada"
    at.peer.authorization_server.expire_access_tokens()  # and once after a 401
    assert at.whoami() == "ada"

    assert bait.requests == []
    assert {request.path for request in at.peer.authorization_server.requests} == {"/token"}
    assert {request.path for request in at.peer.requests} == {"/mcp"}
    assert len(at.refreshes) == 2


@pytest.mark.requirement("mcp-auth-refresh-confidential", "ext-cc-credentials-protected", "rfc6750-5.3-safeguarded")
def test_no_refresh_token_and_no_client_secret_reaches_the_mcp_server(account: Callable[..., Account]) -> None:
    at = account(as_options={"token_endpoint_auth_methods": ("client_secret_basic",)})
    at.end()
    assert at.whoami() == "ada"
    secret = OAuthRegistration.objects.get().client_secret
    assert secret
    told = repr([(request.headers, request.raw_query, request.body) for request in at.peer.requests])
    assert secret not in told
    assert all(token.value not in told for token in at.peer.authorization_server.refresh_tokens)


# Races.


def test_a_reconnect_during_a_refresh_wins_over_its_answer(account: Callable[..., Account]) -> None:
    at = account()
    at.end()
    done = meanwhile(at, at.reconnect)

    assert at.whoami() == "ada"

    assert done == [None]
    assert len(at.refreshes) == 1
    newest = [token for token in at.peer.authorization_server.access_tokens if token.active]
    # The refresh was answered last; the row still holds what the person connected.
    exchanged = next(token for token in newest if token.value == at.grant.access_token)
    assert exchanged.grant_id != newest[-1].grant_id
    assert at.grant.is_active


@pytest.mark.requirement("T24")
def test_a_reconnect_during_a_refused_refresh_is_not_ended_by_it(account: Callable[..., Account]) -> None:
    at = account()
    at.end()
    done = []

    def reconnect() -> None:
        try:
            at.reconnect()
        finally:
            connection.close()

    async def refuse(form: Mapping[str, Any]) -> Fault | None:
        if form["grant_type"] != "refresh_token":
            return None
        await asyncio.to_thread(reconnect)
        done.append(True)
        return json_fault(400, "invalid_grant")

    at.answer(refuse)
    assert at.whoami() == "ada"
    assert done == [True]
    assert (at.grant.state, at.grant.reason) == ("active", "")


def test_a_disconnect_during_a_refresh_is_not_undone_by_it(account: Callable[..., Account]) -> None:
    at = account()
    at.end()
    meanwhile(at, lambda: McpServerOAuth.objects.all().delete())
    with pytest.raises(AuthorizationRequired) as required:
        at.whoami()
    assert required.value.reason == "not_connected"
    assert McpServerOAuth.objects.count() == 0


@pytest.mark.requirement("T17")
def test_an_edit_during_a_refresh_is_not_undone_by_it(account: Callable[..., Account]) -> None:
    at = account()
    at.end()
    other_client = ServerSettings(name="Tracker", url=at.peer.url, auth_mode="oauth", client_id="other")
    meanwhile(at, lambda: update_server(McpServer.objects.get(pk=at.server.pk), other_client))
    with pytest.raises(AuthorizationRequired) as required:
        at.whoami()
    assert required.value.reason == "server_changed"
    assert at.grant.access_token is None
    assert at.grant.refresh_token is None


def test_other_callers_go_on_with_the_old_token_while_one_renews_it(account: Callable[..., Account]) -> None:
    at = account()
    at.ends_in(60)
    done = meanwhile(at, at.whoami)
    assert at.whoami() == "ada"
    assert done == ["ada"]
    assert len(at.refreshes) == 1


# With the longer pause they only come back because the renewal, which ends in their process, wakes them.
@pytest.mark.parametrize("pause", [0.05, 120.0])
def test_callers_with_an_ended_token_wait_for_the_one_who_renews_it(
    account: Callable[..., Account], settings: Any, pause: float
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "REFRESH_POLL_SECONDS": pause}
    at = account()
    at.end()
    at.peer.requests.clear()
    waiting = threading.Barrier(8)

    def call() -> str:
        try:
            waiting.wait(10)
            return at.whoami()
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result(60) for future in [pool.submit(call) for _ in range(8)]]

    assert answers == ["ada"] * 8
    assert len(at.refreshes) == 1
    assert at.rejections == 0


def test_callers_who_are_rejected_at_once_renew_once(account: Callable[..., Account]) -> None:
    at = account()
    at.peer.authorization_server.expire_access_tokens()
    waiting = threading.Barrier(4)

    def call() -> str:
        try:
            waiting.wait(10)
            return at.whoami()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = [future.result(60) for future in [pool.submit(call) for _ in range(4)]]

    assert answers == ["ada"] * 4
    assert len(at.refreshes) == 1


# The lease.


def lease(at: Account, seconds: float) -> None:
    """Let somebody else hold the lease for so long."""
    McpServerOAuth.objects.filter(pk=at.grant.pk).update(
        lease_id="00000000-0000-0000-0000-000000000001", lease_expires_at=timezone.now() + timedelta(seconds=seconds)
    )


def test_the_lease_of_a_dead_process_ends_by_itself(account: Callable[..., Account]) -> None:
    at = account()
    at.end()
    lease(at, -1)
    assert at.whoami() == "ada"
    assert len(at.refreshes) == 1
    assert at.grant.lease_id is None


def test_nobody_renews_under_a_lease_of_another(account: Callable[..., Account], settings: Any) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "REFRESH_WAIT_SECONDS": 0.1, "REFRESH_POLL_SECONDS": 0.01}
    at = account()
    lease(at, 60)
    at.ends_in(60)
    assert at.whoami() == "ada"

    at.ends_in(-1)
    with pytest.raises(TokenEndpointUnavailable):
        at.whoami()

    assert at.refreshes == []
    assert at.grant.is_active


# The client.


@pytest.mark.requirement("T29")
def test_a_forgotten_client_is_registered_once_more_when_the_person_connects(account: Callable[..., Account]) -> None:
    at = account()
    at.end()
    at.peer.authorization_server.forget_clients()

    with pytest.raises(AuthorizationRequired) as required:
        at.whoami()
    assert required.value.reason == "client_forgotten"
    assert len(at.peer.authorization_server.requests_to("/register")) == 1

    at.reconnect()
    assert at.whoami() == "ada"
    at.end()
    assert at.whoami() == "ada"
    assert len(at.peer.authorization_server.requests_to("/register")) == 2


@pytest.mark.requirement("T29")
@pytest.mark.parametrize("answer", [(404, {}, b""), (422, {}, b""), json_fault(400, "invalid_client")], ids=str)
def test_a_forgotten_client_is_recognised_in_every_dialect(account: Callable[..., Account], answer: Fault) -> None:
    at = account()
    at.end()
    at.answer(answer)
    with pytest.raises(AuthorizationRequired) as required:
        at.whoami()
    assert required.value.reason == "client_forgotten"
    assert OAuthRegistration.objects.get().forgotten_at is not None


def test_the_colleagues_of_whoever_noticed_are_told_the_same(
    account: Callable[..., Account], person: Callable[..., Person]
) -> None:
    at = account()
    colleague = member(at.workspace)
    connect(browser_of(colleague), at.server, person("grace"))
    at.peer.authorization_server.forget_clients()
    at.end()
    McpServerOAuth.objects.update(expires_at=timezone.now())
    for user in (at.user, colleague):
        with pytest.raises(AuthorizationRequired) as required:
            call_tool(at.server, user, "whoami")
        assert required.value.reason == "client_forgotten"


@pytest.mark.requirement("T29")
def test_a_client_registered_by_hand_is_never_replaced(account: Callable[..., Account]) -> None:
    client = PreregisteredClient("by hand", "the-client-secret")
    at = account(
        as_options={"clients": (client,)},
        server_settings={"client_id": "by hand", "client_secret": "the-client-secret"},
    )
    at.end()
    at.answer(json_fault(401, "invalid_client"))
    with pytest.raises(AuthorizationRequired):
        at.whoami()
    at.answer(None)
    at.reconnect()
    assert at.whoami() == "ada"
    assert at.peer.authorization_server.requests_to("/register") == []


# What cannot be read, and what is renewed unasked.


@pytest.mark.requirement("T42")
def test_a_grant_that_no_key_opens_asks_the_person_to_connect(account: Callable[..., Account], settings: Any) -> None:
    at = account()
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "ENCRYPTION_KEYS": ["another key of more than thirty-two characters"]}
    with pytest.raises(AuthorizationRequired) as required:
        at.whoami()
    assert required.value.reason == "unreadable"
    assert at.refreshes == []


def test_idle_grants_are_renewed_in_the_background_and_one_failure_stops_no_other(
    account: Callable[..., Account], person: Callable[..., Person]
) -> None:
    first, second = account(), account()
    for each in (first, second):
        each.ends_in(300)
    idle = account()
    first.answer(json_fault(503, "temporarily_unavailable"))

    outcomes = {grant.server_id: error for grant, error in refresh_due_grants(within=600)}

    assert set(outcomes) == {first.server.pk, second.server.pk}
    assert isinstance(outcomes[first.server.pk], TokenEndpointUnavailable)
    assert outcomes[second.server.pk] is None
    assert len(second.refreshes) == 1
    assert idle.refreshes == []
    assert first.grant.is_active
    assert AuthorizationFlow.objects.filter(consumed_at=None).count() == 0


@pytest.mark.requirement("T41")
def test_no_error_of_a_refresh_repeats_a_token(account: Callable[..., Account], caplog: Any) -> None:
    at = account()
    at.end()
    grant = at.grant
    tokens = [str(grant.access_token), str(grant.refresh_token)]

    def echo(form: Mapping[str, Any]) -> Fault:
        return json_fault(400, "invalid_grant", f"The refresh token {form['refresh_token']} is unknown.")

    at.answer(echo)
    with caplog.at_level("DEBUG"), pytest.raises(McpOAuthError) as refused:
        at.whoami()
    said = repr(refused.value) + str(refused.value) + caplog.text + repr(at.grant)
    assert all(token not in said for token in tokens)
