"""Failures that products of this kind have had in the field, over real servers that behave as those did."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone
from starlette.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp

from mcp_oauth import call_tool, list_tools
from mcp_oauth.exceptions import InsufficientScope, ServerRefused
from mcp_oauth.models import McpServer, McpServerOAuth, Workspace
from tests.people import browser_of, connect, member, new_server, new_workspace, start
from tests.servers import (
    AuthorizationServerOptions,
    Fault,
    PageRefused,
    Person,
    ProtectedServer,
    RecordedRequest,
    html_fault,
    json_fault,
)

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 20.0


@dataclass(frozen=True)
class Account:
    """A member in front of a protected server, connected or not."""

    peer: ProtectedServer
    workspace: Workspace
    user: User
    browser: Client
    server: McpServer
    person: Person = field(repr=False)

    @property
    def grant(self) -> McpServerOAuth:
        return McpServerOAuth.objects.get(server_id=self.server.pk)

    @property
    def refreshes(self) -> list[RecordedRequest]:
        found = self.peer.authorization_server.requests_to("/token")
        return [request for request in found if request.form.get("grant_type") == "refresh_token"]

    def whoami(self) -> str:
        return call_tool(self.server, self.user, "whoami").text

    def connect(self) -> McpServerOAuth:
        return connect(self.browser, self.server, self.person)

    def ends_in(self, seconds: float) -> None:
        """Let our copy of the access token have this much left."""
        McpServerOAuth.objects.update(expires_at=timezone.now() + timedelta(seconds=seconds))

    def choose(self, **options: Any) -> None:
        """Set the server's options as an administrator does who knows that they are needed."""
        McpServer.objects.filter(pk=self.server.pk).update(oauth_options=options)
        self.server.refresh_from_db()


@pytest.fixture
def account(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> Callable[..., Account]:
    """Sit a member down: ``account(connected=True, as_options={...}, options={...}, **peer_options)``."""

    def sit(
        *,
        connected: bool = True,
        as_options: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **peer_options: Any,
    ) -> Account:
        given = {"cimd": False, "auto_consent": "ada", **(as_options or {})}
        peer = protected_mcp_server(as_options=AuthorizationServerOptions(**given), **peer_options)
        workspace = new_workspace()
        user = member(workspace)
        server = new_server(workspace, peer.url, auth_mode="oauth", options=options or {})
        seat = Account(peer, workspace, user, browser_of(user), server, person("ada"))
        if connected:
            seat.connect()
            list_tools(server, user)
        return seat

    return sit


def json_answer(document: Mapping[str, Any]) -> Fault:
    return 200, {"content-type": "application/json"}, json.dumps(document).encode()


# Refresh.


def test_the_end_of_a_token_is_stored_as_the_moment_the_authorization_server_means(
    account: Callable[..., Account],
) -> None:
    at = account()
    for renewed in (False, True):
        if renewed:
            at.ends_in(-1)
            assert at.whoami() == "ada"
        meant = at.peer.authorization_server.access_tokens[-1]
        assert at.grant.access_token == meant.value
        assert at.grant.expires_at is not None
        assert meant.expires_at is not None
        assert abs(at.grant.expires_at.timestamp() - meant.expires_at) < 5
    # Whoever reads the row later finds less of it left, and in the end nothing.
    at.ends_in(-3600)
    assert at.whoami() == "ada"
    assert len(at.refreshes) == 2


@pytest.mark.parametrize("late", ["refused", "answered"])
def test_a_refresh_that_outlives_its_lease_neither_ends_nor_overwrites_what_another_renewed(
    account: Callable[..., Account], late: str
) -> None:
    at = account()
    at.ends_in(-1)
    seen: list[str] = []

    def another() -> None:
        try:
            # The one that hangs has had its time.
            McpServerOAuth.objects.update(lease_expires_at=timezone.now())
            seen.append(at.whoami())
        finally:
            connection.close()

    async def hangs_once(form: Mapping[str, Any]) -> Fault | None:
        seen.append("asked")
        if len(seen) > 1:
            return None
        await asyncio.to_thread(another)
        if late == "refused":
            return json_fault(400, "invalid_grant")
        # Within their time of grace some servers give a second answer.
        server = at.peer.authorization_server
        return json_answer(server.grant(client_id=form["client_id"], scope="read", resource=at.peer.url))

    at.peer.configure_authorization_server(token_faults=hangs_once)
    before = at.grant
    assert at.whoami() == "ada"

    assert seen == ["asked", "asked", "ada"]
    after = at.grant
    assert (after.state, after.reason, after.version) == ("active", "", before.version + 1)
    # What the other one was given, which was issued first.
    issued = [token.value for token in at.peer.authorization_server.access_tokens if token.value != before.access_token]
    assert after.access_token == issued[0]
    assert after.refresh_token in [token.value for token in at.peer.authorization_server.refresh_tokens if token.active]


def test_calls_run_side_by_side_although_their_token_had_to_be_renewed(account: Callable[..., Account]) -> None:
    inside: list[asyncio.Event] = []

    async def meet() -> str:
        inside.append(asyncio.Event())
        if len(inside) == 2:
            for waiting in inside:
                waiting.set()
        await asyncio.wait_for(inside[-1].wait(), PATIENCE)
        return "met"

    at = account(tools=[meet])
    at.peer.authorization_server.expire_access_tokens()
    at.ends_in(-1)

    def call() -> str:
        try:
            return call_tool(at.server, at.user, "meet").text
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        answers = [future.result(2 * PATIENCE) for future in [pool.submit(call), pool.submit(call)]]

    assert answers == ["met", "met"]
    assert len(at.refreshes) == 1


@pytest.mark.parametrize("refreshable", [True, False])
def test_an_access_that_cannot_be_renewed_is_said_to_end_before_it_does(
    account: Callable[..., Account], refreshable: bool
) -> None:
    at = account(as_options={"issue_refresh_token": refreshable})
    page = at.browser.get(f"/workspaces/{at.workspace.slug}/mcp/").content.decode()
    assert ("renews itself" in page) == refreshable
    assert bool(re.search(r"access ends <time[^>]*>in ", page)) == (not refreshable)


def answers_400(answered: list[str]) -> ASGIApp:
    """Return a server that has no word for a token that has ended but 400."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answered.append(scope["path"])
        await JSONResponse({"error": "token expired"}, status_code=400)(scope, receive, send)

    return app


def test_a_400_in_the_place_of_a_401_does_not_end_a_grant_that_is_known_to_be_good(
    account: Callable[..., Account],
) -> None:
    at = account()
    before, working = at.grant, at.peer.resource.mcp
    answered: list[str] = []
    at.peer.resource.mcp = answers_400(answered)

    with pytest.raises(ServerRefused):
        at.whoami()

    assert answered
    assert at.refreshes == []
    assert (at.grant.state, at.grant.version) == ("active", before.version)
    at.peer.resource.mcp = working
    # What decides is the end that is known: it is renewed before the server has a reason to say anything.
    at.ends_in(-1)
    assert at.whoami() == "ada"
    assert len(at.refreshes) == 1


def test_a_tool_that_says_its_token_has_expired_is_a_result_and_ends_no_grant(account: Callable[..., Account]) -> None:
    at = account()
    before = at.grant
    result = call_tool(at.server, at.user, "fail", {"reason": "401 Unauthorized: token expired"})
    assert result.is_error
    assert "token expired" in result.text
    assert at.refreshes == []
    assert (at.grant.state, at.grant.version) == ("active", before.version)


# Discovery.

FORMS = ["oauth", "openid-inserted", "openid-appended"]
ELSEWHERE: dict[str, Fault | None] = {"404": None, "500": html_fault(500), "a web page": html_fault(200)}


@pytest.mark.parametrize("otherwise", ELSEWHERE)
@pytest.mark.parametrize("form", FORMS)
def test_metadata_is_found_wherever_it_is_and_whatever_answers_elsewhere(
    account: Callable[..., Account], form: str, otherwise: str
) -> None:
    path = {
        "oauth": "/.well-known/oauth-authorization-server/tenant",
        "openid-inserted": "/.well-known/openid-configuration/tenant",
        "openid-appended": "/tenant/.well-known/openid-configuration",
    }[form]
    at = account(
        connected=False,
        as_options={
            "issuer_path": "/tenant",
            "metadata_forms": (form,),
            "metadata_faults": lambda about: None if about["path"] == path else ELSEWHERE[otherwise],
        },
    )
    at.connect()
    assert at.whoami() == "ada"
    asked = [request.path for request in at.peer.authorization_server.requests if "well-known" in request.path]
    # In the specification's order, and no further than the one that is good.
    assert (
        list(dict.fromkeys(asked))
        == [
            "/.well-known/oauth-authorization-server/tenant",
            "/.well-known/openid-configuration/tenant",
            "/tenant/.well-known/openid-configuration",
        ][: FORMS.index(form) + 1]
    )


async def single_page_application(scope: Any, receive: Any, send: Any) -> None:
    """Answer any address there is with a page."""
    await HTMLResponse("<!doctype html><title>Welcome</title>")(scope, receive, send)


@pytest.mark.parametrize("place", ["path", "root"])
def test_a_page_that_answers_at_every_address_is_no_metadata(account: Callable[..., Account], place: str) -> None:
    at = account(connected=False, metadata_at=(place,), challenge="bare")
    at.peer.resource.beside = single_page_application
    at.connect()
    assert at.whoami() == "ada"


def test_a_page_that_answers_at_every_address_authorizes_nobody(account: Callable[..., Account]) -> None:
    at = account(connected=False, metadata_at=(), challenge="bare")
    at.peer.resource.beside = single_page_application
    assert start(at.browser, at.server)["error"]["code"] == "discovery_failed"
    assert at.peer.authorization_server.requests == []


def test_a_resource_of_another_name_is_accepted_only_where_an_administrator_says_so(
    account: Callable[..., Account],
) -> None:
    at = account(connected=False, challenge="bare")
    at.peer.configure(resource="https://workers.example/mcp")
    assert start(at.browser, at.server)["error"]["code"] == "discovery_failed"
    assert at.peer.authorization_server.requests == []

    at.choose(tolerate_resource_mismatch=True)
    assert at.connect().resource == "https://workers.example/mcp"
    assert at.whoami() == "ada"


def test_an_issuer_of_another_name_is_accepted_only_where_an_administrator_says_so(
    account: Callable[..., Account],
) -> None:
    at = account(connected=False)
    name = "https://auth.example"
    at.peer.configure_authorization_server(metadata_overrides={"issuer": name}, wrong_iss=name)
    assert start(at.browser, at.server)["error"]["code"] == "discovery_failed"

    at.choose(tolerate_issuer_mismatch=True)
    assert at.connect().issuer == name
    assert at.whoami() == "ada"


# Scopes, resource, audience.


def asked_for(at: Account) -> dict[str, list[str]]:
    """Return the parameters a person is sent to the authorization server with."""
    return parse_qs(urlsplit(start(at.browser, at.server)["authorization_url"]).query, keep_blank_values=True)


def test_nothing_is_asked_for_that_the_server_did_not_ask_for(account: Callable[..., Account]) -> None:
    everything = {"read": "Read", "write": "Write", "admin": "Everything"}
    at = account(connected=False, as_options={"scopes": everything}, scopes=("read",))
    assert at.peer.authorization_server.metadata()["scopes_supported"] == list(everything)
    query = asked_for(at)
    assert set(query) == {
        *("response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method"),
        *("scope", "resource"),
    }
    assert query["scope"] == ["read"]


def test_an_authorization_server_that_wants_an_audience_gets_it_by_option(account: Callable[..., Account]) -> None:
    def wants_audience(query: Mapping[str, Any]) -> Fault | None:
        return None if query.get("audience") == "https://api.example" else html_fault(400)

    at = account(connected=False, as_options={"authorization_faults": wants_audience})
    with pytest.raises(PageRefused):
        at.connect()
    at.choose(audience="https://api.example")
    at.connect()
    assert at.whoami() == "ada"


def test_prompt_scopes_and_further_parameters_are_an_administrators_to_choose(account: Callable[..., Account]) -> None:
    chosen = {"prompt": "consent", "scopes": " write  read ", "extra_parameters": {"tenant": "one"}}
    at = account(connected=False, options=chosen)
    query = asked_for(at)
    assert (query["prompt"], query["tenant"]) == (["consent"], ["one"])
    # A blank too many is refused by some.
    assert query["scope"] == ["write read"]
    assert at.connect().scope == "write read"
    at.ends_in(-1)
    assert at.whoami() == "ada"
    [refresh] = at.refreshes
    assert {"prompt", "tenant", "scope"}.isdisjoint(refresh.form)
    assert at.grant.scope == "write read"


def test_a_call_that_lacks_a_scope_is_not_answered_with_a_refresh(account: Callable[..., Account]) -> None:
    at = account(tool_scopes={"whoami": "admin"})
    before = at.grant
    with pytest.raises(InsufficientScope):
        at.whoami()
    assert at.refreshes == []
    assert len([request for request in at.peer.mcp_requests if request.tool == "whoami"]) == 1
    assert (at.grant.state, at.grant.access_token) == ("active", before.access_token)
    assert asked_for(at)["scope"] == ["read admin"]


# Isolation.


def test_what_one_person_is_offered_is_neither_shown_to_another_nor_replaced_by_theirs(
    account: Callable[..., Account], person: Callable[..., Person]
) -> None:
    # A server of before 2026-07-28 says nothing of how long its listing is good.
    at = account(era="legacy")
    colleague = member(at.workspace)
    connect(browser_of(colleague), at.server, person("grace"))

    def for_her_alone() -> str:
        return "hers"

    at.peer.mcp.add_tool(for_her_alone)

    def offered(user: User) -> bool:
        return list_tools(at.server, user).find("for_her_alone") is not None

    # Each listing is young enough to be shown again without asking.
    assert [offered(colleague), offered(at.user), offered(colleague)] == [True, False, True]
