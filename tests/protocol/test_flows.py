"""Connecting an account over real servers: what a callback must be, what is sent where, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from mcp_oauth import call_tool, list_tools
from mcp_oauth.exceptions import (
    AuthorizationRequired,
    CallbackRefused,
    ConfigurationError,
    DiscoveryFailed,
    McpOAuthError,
    RegistrationRequired,
)
from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth, Membership, OAuthRegistration, Workspace
from mcp_oauth.services import callbacks, connections, flows
from mcp_oauth.services.callbacks import finish_authorization
from mcp_oauth.services.connections import start_authorization
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import delete_server, update_server
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, start
from tests.servers import (
    AuthorizationServerOptions,
    AuthorizationServerPeer,
    Fault,
    OddServer,
    OpenServer,
    Person,
    PreregisteredClient,
    ProtectedServer,
    RecordedRequest,
    html_fault,
    json_fault,
)

pytestmark = pytest.mark.django_db(transaction=True)

CALLBACK = "http://127.0.0.1:8000/mcp/oauth/callback/"
REFRESH = "refresh_token"
CODE = "authorization_code"


@dataclass(frozen=True)
class Desk:
    """A member of a workspace in front of one protected server, with an account at its authorization server."""

    peer: ProtectedServer
    workspace: Workspace
    user: User
    browser: Client
    server: McpServer
    person: Person = field(repr=False)

    def start(self, **data: str) -> dict[str, Any]:
        return start(self.browser, self.server, **data)

    def answer(self, **data: str) -> str:
        """Press Connect and Allow; returns the callback's address, unopened."""
        return self.person.authorize(str(self.start(**data)["authorization_url"]))

    def connect(self) -> McpServerOAuth:
        return connect(self.browser, self.server, self.person)

    def token_requests(self, grant_type: str | None = None) -> list[RecordedRequest]:
        found = self.peer.authorization_server.requests_to("/token")
        return [request for request in found if grant_type in {None, request.form.get("grant_type")}]

    def grants(self) -> list[McpServerOAuth]:
        return list(McpServerOAuth.objects.filter(server_id=self.server.pk))


@pytest.fixture
def desk(protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]) -> Callable[..., Desk]:
    """Sit a member down: ``desk(as_options={...}, server_settings={...}, **peer_options)``."""

    def sit(
        *,
        as_options: Mapping[str, Any] | None = None,
        server_settings: Mapping[str, Any] | None = None,
        **peer_options: Any,
    ) -> Desk:
        options = {"cimd": False, "auto_consent": "ada", **(as_options or {})}
        peer = protected_mcp_server(as_options=AuthorizationServerOptions(**options), **peer_options)
        workspace = new_workspace()
        user = member(workspace)
        server = new_server(workspace, peer.url, **(server_settings or {}))
        return Desk(peer, workspace, user, browser_of(user), server, person("ada"))

    return sit


def changed(callback_url: str, **changes: str | None) -> str:
    """Return a callback with parameters replaced, or left out where ``None``."""
    query = {**dict(parse_qsl(urlsplit(callback_url).query)), **changes}
    return f"{CALLBACK}?{urlencode({name: value for name, value in query.items() if value is not None})}"


def parameters_of(callback_url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(callback_url).query, keep_blank_values=True)


def assert_refused(response: Any, code: str, status: int = 400) -> None:
    assert (response.status_code, response.context["code"]) == (status, code)
    assert response.context["outcome"] == "refused"


# The state.


@pytest.mark.requirement("mcp-security-state", "rfc6749-10.12-csrf", "T18")
@pytest.mark.parametrize("state", ["invented", "", None, "x" * 5000, "\udcff"])
def test_a_callback_with_a_state_nobody_gave_out_gets_no_code_exchanged(
    desk: Callable[..., Desk], state: str | None
) -> None:
    at = desk()
    answer = at.answer()

    query = urlencode(
        {"code": "stolen", "iss": at.peer.issuer} | ({} if state is None else {"state": state}), errors="surrogatepass"
    )
    assert_refused(at.browser.get(f"/mcp/oauth/callback/?{query}"), "callback_refused")

    assert at.token_requests() == []
    # The open flow was not touched.
    assert come_back(at.browser, answer).status_code == 200


@pytest.mark.requirement("rfc6749-10.14-sanitized")
def test_two_values_of_one_parameter_are_refused(desk: Callable[..., Desk]) -> None:
    at = desk()
    for name in ("state", "code", "iss"):
        answer = at.answer(again="1")
        assert_refused(come_back(at.browser, f"{answer}&{name}=second"), "callback_refused")
    assert at.token_requests() == []


@pytest.mark.requirement("rfc6749-4.1.2-once", "T18")
def test_an_answer_is_good_once(desk: Callable[..., Desk]) -> None:
    at = desk()
    answer = at.answer()
    assert come_back(at.browser, answer).status_code == 200
    [grant] = at.grants()

    assert_refused(come_back(at.browser, answer), "callback_refused")

    assert len(at.token_requests()) == 1
    # A code used twice makes an authorization server revoke the grant; ours never saw it twice.
    assert call_tool(at.server, at.user, "whoami").text == "ada"
    assert at.grants()[0].version == grant.version


@pytest.mark.requirement("rfc6749-4.1.2-once", "T18")
def test_a_failed_exchange_uses_the_state_up_too(desk: Callable[..., Desk]) -> None:
    at = desk()
    at.peer.configure_authorization_server(token_faults=lambda form: json_fault(503, "temporarily_unavailable"))
    answer = at.answer()
    # A gateway's status would invite proxies to ask again.
    assert_refused(come_back(at.browser, answer), "token_endpoint_unavailable")
    at.peer.configure_authorization_server(token_faults=None)

    assert_refused(come_back(at.browser, answer), "callback_refused")
    assert len(at.token_requests()) == 1


@pytest.mark.requirement("T18")
def test_an_answer_after_ten_minutes_is_too_late(desk: Callable[..., Desk]) -> None:
    at = desk()
    answer = at.answer()
    flow = AuthorizationFlow.objects.get()
    assert flow.expires_at - flow.created_at == timedelta(minutes=10)
    AuthorizationFlow.objects.update(expires_at=timezone.now())

    with pytest.raises(CallbackRefused) as refused:
        finish_authorization(at.user, browser=at.browser.session["mcp_oauth_browser"], parameters=parameters_of(answer))

    assert refused.value.reason == "expired"
    assert at.token_requests() == []


@pytest.mark.requirement("T18", "rfc6749-10.10-guessing")
def test_the_state_is_stored_as_a_hash_only(desk: Callable[..., Desk]) -> None:
    at = desk()
    [state] = parse_qs(urlsplit(at.start()["authorization_url"]).query)["state"]
    flow = AuthorizationFlow.objects.get()
    assert len(state) >= 43
    assert flow.state_hash == hashlib.sha256(state.encode()).hexdigest()
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM mcp_oauth_authorizationflow")
        stored = repr(cursor.fetchall())
    assert state not in stored
    assert at.browser.session["mcp_oauth_browser"] not in stored
    assert flow.code_verifier
    assert flow.code_verifier not in stored


@pytest.mark.requirement("rfc6749-10.12-csrf", "T18")
def test_another_person_cannot_use_an_answer_and_the_one_who_started_still_can(desk: Callable[..., Desk]) -> None:
    at = desk()
    answer = at.answer()
    colleague = member(at.workspace)

    response = come_back(browser_of(colleague), answer)

    assert_refused(response, "callback_refused")
    assert at.server.name not in response.content.decode()
    assert at.token_requests() == []
    assert come_back(at.browser, answer).status_code == 200
    assert [grant.user_id for grant in at.grants()] == [at.user.pk]


@pytest.mark.requirement("T18")
def test_another_person_in_the_very_same_browser_cannot_use_an_answer(desk: Callable[..., Desk]) -> None:
    at = desk()
    answer = at.answer()
    colleague = member(at.workspace)
    same = at.browser.session["mcp_oauth_browser"]
    with pytest.raises(CallbackRefused) as refused:
        finish_authorization(colleague, browser=same, parameters=parameters_of(answer))
    assert refused.value.reason == "other_user"
    assert at.token_requests() == []
    assert come_back(at.browser, answer).status_code == 200


@pytest.mark.requirement("rfc6749-10.12-csrf", "rfc9700-2.1-csrf", "rfc9700-2.1.1-transaction", "T18")
def test_another_browser_of_the_same_person_cannot_use_an_answer(desk: Callable[..., Desk]) -> None:
    at = desk()
    answer = at.answer()
    other = browser_of(at.user)
    assert_refused(come_back(other, answer), "callback_refused")

    # Nor one that has flows of its own.
    start(other, at.server)
    assert_refused(come_back(other, answer), "callback_refused")

    assert at.token_requests() == []
    assert come_back(at.browser, answer).status_code == 200


def test_a_person_who_was_signed_out_can_finish_after_signing_in_only(desk: Callable[..., Desk]) -> None:
    at = desk()
    answer = at.answer()
    assert_refused(come_back(Client(), answer), "not_signed_in", status=401)
    assert at.token_requests() == []
    assert come_back(at.browser, answer).status_code == 200


def test_a_link_preview_does_not_use_an_answer_up(desk: Callable[..., Desk]) -> None:
    at = desk()
    answer = at.answer()
    parts = urlsplit(answer)
    assert at.browser.head(f"{parts.path}?{parts.query}").status_code == 400
    assert at.token_requests() == []
    assert come_back(at.browser, answer).status_code == 200


@pytest.mark.requirement("T18")
def test_of_two_racing_callbacks_one_reaches_the_token_endpoint(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = desk()
    started = start_authorization(at.server, at.user, browser="one browser")
    parameters = parameters_of(at.person.authorize(started.authorization_url))
    both_have_read = threading.Barrier(2)
    find_flow = flows.find_flow

    def find_and_wait(given: Any) -> AuthorizationFlow:
        flow = find_flow(given)
        both_have_read.wait(10)
        return flow

    monkeypatch.setattr(callbacks, "find_flow", find_and_wait)

    def finish() -> str:
        try:
            finish_authorization(at.user, browser="one browser", parameters=parameters)
        except CallbackRefused as error:
            return error.reason
        finally:
            connection.close()
        return "connected"

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(future.result(30) for future in [pool.submit(finish) for _ in range(2)])

    assert outcomes == ["connected", "used"]
    assert len(at.token_requests()) == 1
    assert call_tool(at.server, at.user, "whoami").text == "ada"


@pytest.mark.requirement("T18")
def test_a_second_callback_during_the_exchange_of_the_first_is_refused(desk: Callable[..., Desk]) -> None:
    at = desk()
    answer = at.answer()
    refused: list[int] = []

    def come_back_again() -> None:
        try:
            refused.append(come_back(at.browser, answer).status_code)
        finally:
            connection.close()

    async def meanwhile(form: Mapping[str, Any]) -> Fault | None:
        if not refused:
            await asyncio.to_thread(come_back_again)
        return None

    at.peer.configure_authorization_server(token_faults=meanwhile)

    assert come_back(at.browser, answer).status_code == 200
    assert refused == [400]
    assert len(at.token_requests()) == 1


# What may have changed while the person was away.


@pytest.mark.requirement("T19")
def test_a_member_removed_meanwhile_gets_nothing_exchanged(desk: Callable[..., Desk]) -> None:
    at = desk()
    answer = at.answer()
    Membership.objects.filter(user=at.user).delete()

    assert_refused(come_back(at.browser, answer), "not_found", status=404)

    assert at.token_requests() == []
    assert at.grants() == []


def _disable(at: Desk) -> None:
    McpServer.objects.filter(pk=at.server.pk).update(enabled=False)


def _delete(at: Desk) -> None:
    delete_server(at.server)


def _make_it_header_mode(at: Desk) -> None:
    update_server(at.server, ServerSettings(name="Tracker", url=at.server.url, auth_mode="headers"))


def _give_it_another_client(at: Desk) -> None:
    update_server(
        at.server,
        ServerSettings(name="Tracker", url=at.server.url, auth_mode="oauth", client_id="somebody", client_secret="s"),
    )


def _raise_its_generation(at: Desk) -> None:
    # As another process does between our reading the flow and our looking at the server.
    McpServer.objects.filter(pk=at.server.pk).update(generation=99)


CHANGES = [_disable, _delete, _make_it_header_mode, _give_it_another_client, _raise_its_generation]


@pytest.mark.requirement("T19", "T17")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_a_server_changed_meanwhile_gets_nothing_exchanged(
    desk: Callable[..., Desk], change: Callable[[Desk], None]
) -> None:
    at = desk()
    answer = at.answer()
    change(at)

    response = come_back(at.browser, answer)

    assert response.status_code in {400, 404, 409}
    assert response.context["outcome"] == "refused"
    assert at.token_requests() == []
    assert at.grants() == []


@pytest.mark.requirement("T17", "T19")
def test_a_server_pointed_elsewhere_meanwhile_gets_nothing_exchanged(
    desk: Callable[..., Desk], open_mcp_server: Callable[..., OpenServer]
) -> None:
    at = desk()
    answer = at.answer()
    elsewhere = open_mcp_server()
    update_server(at.server, ServerSettings(name="Tracker", url=elsewhere.url, auth_mode="oauth"))

    assert_refused(come_back(at.browser, answer), "callback_refused")

    assert at.token_requests() == []
    assert at.grants() == []


@pytest.mark.requirement("T19", "T17")
@pytest.mark.parametrize("change", [_delete, _make_it_header_mode], ids=["deleted", "edited"])
def test_a_server_changed_during_the_exchange_gets_no_grant(
    desk: Callable[..., Desk], change: Callable[[Desk], None]
) -> None:
    at = desk()
    answer = at.answer()

    def change_it() -> None:
        try:
            change(at)
        finally:
            connection.close()

    async def meanwhile(form: Mapping[str, Any]) -> None:
        await asyncio.to_thread(change_it)

    at.peer.configure_authorization_server(token_faults=meanwhile)

    assert_refused(come_back(at.browser, answer), "callback_refused")
    assert at.grants() == []


@pytest.mark.requirement("T19")
@pytest.mark.parametrize("connected", [True, False], ids=["connected before", "first time"])
def test_a_disconnect_during_the_exchange_is_not_undone_by_it(desk: Callable[..., Desk], connected: bool) -> None:
    at = desk()
    if connected:
        at.connect()
    answer = at.answer(again="1")

    def leave() -> None:
        try:
            connections.disconnect(at.server, at.user)
        finally:
            connection.close()

    async def meanwhile(form: Mapping[str, Any]) -> None:
        await asyncio.to_thread(leave)

    at.peer.configure_authorization_server(token_faults=meanwhile)

    assert_refused(come_back(at.browser, answer), "callback_refused")
    assert at.grants() == []


def test_a_renamed_server_still_connects(desk: Callable[..., Desk]) -> None:
    at = desk()
    answer = at.answer()
    update_server(at.server, ServerSettings(name="Another name", url=at.server.url, auth_mode="oauth"))
    assert come_back(at.browser, answer).status_code == 200


# Who the answer comes from (RFC 9207 §2.4).


@pytest.mark.requirement("mcp-auth-iss-before-code", "mcp-auth-iss-compared", "mcp-auth-iss-not-normalized")
@pytest.mark.requirement("mcp-auth-iss-error-hidden", "mcp-auth-issuer-recorded", "rfc9207-2.4-compared")
@pytest.mark.requirement("rfc9207-2.4-rejected", "rfc9207-2.4-error", "rfc9700-2.1-mix-up")
@pytest.mark.requirement("rfc9700-4.4.2-issuer-stored", "T13")
@pytest.mark.parametrize("advertised", [True, False])
@pytest.mark.parametrize("wrong", ["https://evil.example", "the issuer with a slash", "the issuer in capitals"])
@pytest.mark.parametrize("kind", ["code", "error"])
def test_an_answer_of_another_issuer_is_refused_and_its_words_are_not_shown(
    desk: Callable[..., Desk], advertised: bool, wrong: str, kind: str
) -> None:
    at = desk(as_options={"advertise_iss": advertised})
    answer = at.answer()
    issuer = {
        "the issuer with a slash": f"{at.peer.issuer}/",
        "the issuer in capitals": at.peer.issuer.upper(),
    }.get(wrong, wrong)
    changes: dict[str, str | None] = {"iss": issuer}
    if kind == "error":
        changes |= {"code": None, "error": "access_denied", "error_description": "call-this-number"}

    response = come_back(at.browser, changed(answer, **changes))

    assert_refused(response, "callback_refused")
    assert "call-this-number" not in response.content.decode()
    assert at.token_requests() == []
    assert at.grants() == []


@pytest.mark.requirement("mcp-auth-iss-missing", "rfc9207-2.4-missing", "T13")
@pytest.mark.parametrize("kind", ["code", "error"])
def test_an_answer_that_leaves_out_an_advertised_issuer_is_refused(desk: Callable[..., Desk], kind: str) -> None:
    at = desk(as_options={"send_iss": False, "deny": kind == "error"})
    response = come_back(at.browser, at.answer())
    assert_refused(response, "callback_refused")
    assert "did not allow it" not in response.content.decode()
    assert at.token_requests() == []


@pytest.mark.requirement("mcp-auth-iss-not-promised", "T13")
@pytest.mark.parametrize("sent", [True, False])
def test_an_issuer_that_was_not_advertised_may_be_left_out_or_be_right(desk: Callable[..., Desk], sent: bool) -> None:
    at = desk(as_options={"advertise_iss": False, "send_iss": sent})
    assert come_back(at.browser, at.answer()).status_code == 200


# Errors in the answer.


def test_a_person_who_says_no_is_told_so_and_nothing_is_exchanged(desk: Callable[..., Desk]) -> None:
    at = desk(as_options={"auto_consent": ""})
    answer = at.person.deny(at.start()["authorization_url"])

    response = come_back(at.browser, answer)

    assert_refused(response, "access_denied")
    assert "The person did not allow it." in response.content.decode()
    assert at.token_requests() == []
    assert at.grants() == []


@pytest.mark.requirement("rfc6749-10.14-sanitized")
def test_the_words_of_the_authorization_server_are_bounded_and_escaped(desk: Callable[..., Desk]) -> None:
    at = desk()
    words = "<script>alert(1)</script>\r\n\x00\u202e" + "a" * 5000
    answer = changed(at.answer(), code=None, error="<b>server_error", error_description=words)

    response = come_back(at.browser, answer)

    assert response.status_code == 400
    page = response.content.decode()
    assert "<script>alert" not in page
    assert "<b>server_error" not in page
    assert "a" * 400 not in page
    assert "\x00" not in page
    assert "\u202e" not in page
    assert len(response.context["message"]) < 600


@pytest.mark.requirement("rfc9700-4.2.4-referrer", "T40")
def test_the_answer_to_a_callback_is_kept_by_nobody_and_repeats_no_code(desk: Callable[..., Desk]) -> None:
    at = desk()
    answer = at.answer()
    secrets = parse_qs(urlsplit(answer).query)
    for response in (come_back(at.browser, answer), come_back(at.browser, answer)):
        assert response["Cache-Control"] == "no-store"
        assert response["Referrer-Policy"] == "no-referrer"
        assert secrets["code"][0] not in response.content.decode()
        assert secrets["state"][0] not in response.content.decode()


# Connecting again.


def _code_refused(at: Desk) -> None:
    at.peer.configure_authorization_server(token_faults=lambda form: json_fault(400, "invalid_grant"))
    assert_refused(come_back(at.browser, at.answer(again="1")), "invalid_grant")


def _token_endpoint_down(at: Desk) -> None:
    at.peer.configure_authorization_server(token_faults=lambda form: html_fault(503))
    assert_refused(come_back(at.browser, at.answer(again="1")), "token_endpoint_unavailable")


def _useless_token(at: Desk) -> None:
    answer = b'{"access_token": "a\\r\\nX-Injected: 1", "token_type": "Bearer"}'
    at.peer.configure_authorization_server(
        token_faults=lambda form: (200, {"content-type": "application/json"}, answer)
    )
    assert_refused(come_back(at.browser, at.answer(again="1")), "token_request_failed")


def _denied(at: Desk) -> None:
    at.peer.configure_authorization_server(deny=True)
    assert_refused(come_back(at.browser, at.answer(again="1")), "access_denied")


def _abandoned(at: Desk) -> None:
    at.start(again="1")


def _metadata_gone(at: Desk) -> None:
    at.peer.configure_authorization_server(metadata_forms=())
    assert at.start(again="1")["error"]["code"] == "discovery_failed"


def _wrong_issuer(at: Desk) -> None:
    assert_refused(come_back(at.browser, changed(at.answer(again="1"), iss="https://evil.example")), "callback_refused")


FAILURES = [_code_refused, _token_endpoint_down, _useless_token, _denied, _abandoned, _metadata_gone, _wrong_issuer]


@pytest.mark.requirement("T25")
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__.strip("_"))
def test_a_failed_attempt_to_connect_again_leaves_the_working_grant_as_it_was(
    desk: Callable[..., Desk], failure: Callable[[Desk], None]
) -> None:
    at = desk()
    before = at.connect()
    failure(at)

    [after] = at.grants()
    assert (after.version, after.state) == (before.version, "active")
    assert (after.access_token, after.refresh_token) == (before.access_token, before.refresh_token)
    assert call_tool(at.server, at.user, "whoami").text == "ada"


def test_connecting_again_replaces_the_grant_in_its_row(desk: Callable[..., Desk]) -> None:
    at = desk()
    before = at.connect()
    assert at.start()["status"] == "already_authorized"
    assert come_back(at.browser, at.answer(again="1")).status_code == 200

    [after] = at.grants()
    assert after.pk == before.pk
    assert after.version > before.version
    assert after.access_token != before.access_token
    assert call_tool(at.server, at.user, "whoami").text == "ada"


# Several flows of one person.


@pytest.mark.requirement("T20")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_open_flows_of_one_person_complete_in_any_order(desk: Callable[..., Desk], order: tuple[int, ...]) -> None:
    at = desk()
    servers = [at.server, *(new_server(at.workspace, at.peer.url, name=name) for name in ("Second", "Third"))]
    addresses = [start(at.browser, server)["authorization_url"] for server in servers]

    for index in order:
        assert come_back(at.browser, at.person.authorize(addresses[index])).status_code == 200
        assert call_tool(servers[index], at.user, "whoami").text == "ada"

    assert McpServerOAuth.objects.filter(user=at.user, state="active").count() == 3


@pytest.mark.requirement("T20")
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=str)
def test_two_tabs_for_the_same_server_both_complete(desk: Callable[..., Desk], order: tuple[int, ...]) -> None:
    at = desk()
    addresses = [at.start()["authorization_url"] for _ in range(2)]
    for index in order:
        assert come_back(at.browser, at.person.authorize(addresses[index])).status_code == 200
    assert len(at.grants()) == 1
    assert call_tool(at.server, at.user, "whoami").text == "ada"


@pytest.mark.requirement("T20")
def test_nothing_in_the_background_ends_an_open_flow(desk: Callable[..., Desk]) -> None:
    at = desk()
    at.connect()
    answer = at.answer(again="1")

    at.peer.authorization_server.expire_access_tokens()
    at.peer.authorization_server.revoke_refresh_tokens()
    with pytest.raises(AuthorizationRequired):
        call_tool(at.server, at.user, "whoami")

    assert come_back(at.browser, answer).status_code == 200
    assert call_tool(at.server, at.user, "whoami").text == "ada"


def test_a_runaway_script_loses_its_own_oldest_flows_only(desk: Callable[..., Desk], settings: Any) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "MAX_OPEN_FLOWS_PER_USER": 2}
    at = desk()
    colleague = member(at.workspace)
    their_browser = browser_of(colleague)
    theirs = start(their_browser, at.server)["authorization_url"]
    addresses = [at.start()["authorization_url"] for _ in range(3)]

    assert AuthorizationFlow.objects.filter(user=at.user).count() == 2
    assert_refused(come_back(at.browser, at.person.authorize(addresses[0])), "callback_refused")
    assert come_back(at.browser, at.person.authorize(addresses[2])).status_code == 200
    assert come_back(their_browser, at.person.authorize(theirs)).status_code == 200


def test_a_cancelled_flow_cannot_be_finished(desk: Callable[..., Desk]) -> None:
    at = desk()
    started = at.start()
    answer = at.person.authorize(started["authorization_url"])
    stranger = browser_of(member(at.workspace))
    json_only = {"accept": "application/json"}
    other = stranger.post("/mcp/oauth/cancel/", {"flow": started["flow"]}, headers=json_only)
    assert other.json()["status"] == "not_open"
    own = at.browser.post("/mcp/oauth/cancel/", {"flow": started["flow"]}, headers=json_only)
    assert own.json()["status"] == "cancelled"

    assert_refused(come_back(at.browser, answer), "callback_refused")
    assert at.token_requests() == []


# What the authorization server sees.


def expire_here(grant: McpServerOAuth) -> None:
    """Let our copy of the access token be past its end."""
    McpServerOAuth.objects.filter(pk=grant.pk).update(expires_at=timezone.now() - timedelta(seconds=1))


@pytest.mark.requirement("mcp-auth-resource-in-both", "mcp-auth-resource-of-server", "mcp-auth-scope-least")
@pytest.mark.requirement("mcp-security-pkce", "mcp-security-pkce-s256", "oauth21-4.1.3-verifier", "rfc7636-4.2-s256")
@pytest.mark.requirement("rfc6749-4.1.3-same-redirect-uri", "rfc8707-2.2-refresh", "rfc9700-2.1.2-no-implicit")
@pytest.mark.requirement("rfc9700-2.3-least", "T10", "T16")
@pytest.mark.parametrize(
    ("mode", "sent"), [("auto", True), ("include", True), ("omit", False)], ids=["auto", "include", "omit"]
)
def test_pkce_state_and_resource_travel_as_they_should(desk: Callable[..., Desk], mode: str, sent: bool) -> None:
    at = desk(
        as_options={"resource_mode": "required" if sent else "refused"}, server_settings={"options": {"resource": mode}}
    )
    grant = at.connect()
    expire_here(grant)
    list_tools(at.server, at.user, refresh=True)

    [authorization] = at.peer.authorization_server.requests_to("/authorize")
    [exchange] = at.token_requests(CODE)
    [refresh] = at.token_requests(REFRESH)
    digest = hashlib.sha256(exchange.form["code_verifier"].encode()).digest()
    assert authorization.query["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert authorization.query["code_challenge_method"] == "S256"
    assert authorization.query["response_type"] == "code"
    assert len(authorization.query["state"]) >= 43
    assert authorization.query["redirect_uri"] == exchange.form["redirect_uri"] == CALLBACK
    assert authorization.query["scope"] == "read"
    expected = at.peer.url if sent else None
    resources = [authorization.query.get("resource"), exchange.form.get("resource"), refresh.form.get("resource")]
    assert resources == [expected] * 3
    assert grant.resource == (expected or "")
    assert "code_verifier" not in refresh.form
    assert "state" not in exchange.form


@pytest.mark.requirement("oauth21-4.1.1-each-challenge", "rfc9700-2.1.1-transaction", "T18")
def test_each_flow_has_its_own_state_and_verifier(desk: Callable[..., Desk]) -> None:
    at = desk()
    for _ in range(2):
        come_back(at.browser, at.answer(again="1"))
    states = {request.query["state"] for request in at.peer.authorization_server.requests_to("/authorize")}
    verifiers = {request.form["code_verifier"] for request in at.token_requests(CODE)}
    assert len(states) == len(verifiers) == 2


@pytest.mark.requirement("T15", "T16")
def test_the_resource_of_the_root_document_is_sent_byte_for_byte(desk: Callable[..., Desk]) -> None:
    at = desk(metadata_at=("root",))
    root = f"http://{urlsplit(at.peer.url).netloc}/"
    at.peer.configure(metadata_overrides={"resource": root})
    come_back(at.browser, at.answer())
    [authorization] = at.peer.authorization_server.requests_to("/authorize")
    [exchange] = at.token_requests(CODE)
    assert authorization.query["resource"] == exchange.form["resource"] == root


@pytest.mark.requirement("rfc6749-3.1-query-kept", "rfc6749-3.1-once", "T09")
def test_a_query_of_the_authorization_endpoint_stays_but_never_wins(desk: Callable[..., Desk]) -> None:
    at = desk()
    endpoint = f"{at.peer.issuer}/authorize?tenant=1&client_id=evil&state=fixed&code_challenge_method=plain"
    at.peer.configure_authorization_server(metadata_overrides={"authorization_endpoint": endpoint})
    query = parse_qs(urlsplit(at.start()["authorization_url"]).query)
    assert query["tenant"] == ["1"]
    assert query["client_id"] == [OAuthRegistration.objects.get().client_id]
    assert query["code_challenge_method"] == ["S256"]
    assert query["state"] != ["fixed"]
    assert len(query["state"]) == 1


@pytest.mark.requirement("mcp-bp-url-schemes", "mcp-bp-url-dangerous", "T09")
@pytest.mark.parametrize(
    "endpoint", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "https://u:p@as.example/authorize"]
)
def test_nobody_is_sent_to_an_authorization_endpoint_that_is_no_web_address(
    desk: Callable[..., Desk], endpoint: str
) -> None:
    at = desk()
    at.peer.configure_authorization_server(metadata_overrides={"authorization_endpoint": endpoint})
    body = at.start()
    assert body["error"]["code"] == "discovery_failed"
    assert endpoint not in str(body.get("authorization_url"))
    assert AuthorizationFlow.objects.count() == 0


# Discovery that is refused.


def assert_start_fails(at: Desk, code: str) -> dict[str, Any]:
    error: dict[str, Any] = at.start()["error"]
    assert error["code"] == code
    assert AuthorizationFlow.objects.count() == 0
    for endpoint in ("/authorize", "/register", "/token"):
        assert at.peer.authorization_server.requests_to(endpoint) == []
    return error


@pytest.mark.requirement("mcp-security-pkce-verified", "mcp-security-pkce-absent", "rfc7636-7.2-no-downgrade", "T10")
@pytest.mark.parametrize("methods", [None, (), ("plain",)], ids=["absent", "empty", "plain"])
def test_metadata_without_s256_is_refused_unless_an_administrator_says_otherwise(
    desk: Callable[..., Desk], methods: tuple[str, ...] | None
) -> None:
    at = desk(as_options={"code_challenge_methods": methods})
    error = assert_start_fails(at, "discovery_failed")
    assert error["document"].startswith(at.peer.issuer)

    McpServer.objects.update(oauth_options={"tolerate_missing_s256": True})
    assert come_back(at.browser, at.answer()).status_code == 200
    [authorization] = at.peer.authorization_server.requests_to("/authorize")
    assert authorization.query["code_challenge_method"] == "S256"


@pytest.mark.requirement("mcp-discovery-issuer-validated", "mcp-discovery-issuer-mismatch", "rfc8414-3.3-issuer", "T14")
@pytest.mark.parametrize("issuer", ["https://evil.example", "{issuer}/tenant", "{issuer}x"])
def test_metadata_of_another_issuer_is_refused(desk: Callable[..., Desk], issuer: str) -> None:
    at = desk()
    named = issuer.format(issuer=at.peer.issuer)
    at.peer.configure_authorization_server(metadata_overrides={"issuer": named})
    error = assert_start_fails(at, "discovery_failed")
    assert error["document"].startswith(at.peer.issuer)


@pytest.mark.requirement("mcp-auth-issuer-recorded", "mcp-auth-iss-not-normalized", "T13", "T14")
def test_an_issuer_with_a_root_slash_in_its_metadata_is_then_compared_as_it_is_written(
    desk: Callable[..., Desk],
) -> None:
    at = desk()
    written = f"{at.peer.issuer}/"
    at.peer.configure_authorization_server(metadata_overrides={"issuer": written}, wrong_iss=written)
    assert come_back(at.browser, at.answer()).status_code == 200
    assert at.grants()[0].issuer == written

    at.peer.configure_authorization_server(wrong_iss="")
    assert_refused(come_back(at.browser, at.answer(again="1")), "callback_refused")
    assert len(at.token_requests()) == 1


@pytest.mark.requirement("rfc9728-3.3-resource", "rfc9728-3.3-challenge", "T15")
@pytest.mark.parametrize(
    "resource",
    [
        "http://127.0.0.1:{port}/mcp2",
        "http://127.0.0.1:{port}/",
        "http://127.0.0.1:9/mcp",
        "http://localhost:{port}/mcp",
    ],
)
def test_resource_metadata_of_another_resource_is_refused(desk: Callable[..., Desk], resource: str) -> None:
    at = desk()
    other = resource.format(port=urlsplit(at.peer.url).port)
    at.peer.configure(metadata_overrides={"resource": other})
    error = assert_start_fails(at, "discovery_failed")
    assert "/.well-known/oauth-protected-resource" in error["document"]
    # Not even its authorization server is asked anything.
    assert at.peer.authorization_server.requests == []


def _metadata_404(at: Desk) -> None:
    at.peer.configure_authorization_server(metadata_forms=())


def _metadata_500(at: Desk) -> None:
    at.peer.configure_authorization_server(metadata_faults=lambda about: html_fault(500))


def _metadata_html(at: Desk) -> None:
    at.peer.configure_authorization_server(metadata_faults=lambda about: html_fault(200))


def _metadata_empty(at: Desk) -> None:
    empty: Fault = (200, {"content-type": "application/json"}, b"{}")
    at.peer.configure_authorization_server(metadata_faults=lambda about: empty)


def _resource_metadata_gone(at: Desk) -> None:
    at.peer.configure(metadata_at=())


def _resource_metadata_gone_and_challenge_bare(at: Desk) -> None:
    at.peer.configure(metadata_at=(), challenge="bare")


BREAKAGES = [
    _metadata_404,
    _metadata_500,
    _metadata_html,
    _metadata_empty,
    _resource_metadata_gone,
    _resource_metadata_gone_and_challenge_bare,
]


@pytest.mark.requirement("mcp-auth-prm", "T11")
@pytest.mark.parametrize("secret", [None, "the-client-secret"], ids=["dynamic", "preregistered"])
@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__.strip("_"))
def test_without_metadata_nothing_is_guessed_at_the_servers_own_origin(
    desk: Callable[..., Desk], breakage: Callable[[Desk], None], secret: str | None
) -> None:
    client = {"client_id": "by-hand", "client_secret": secret} if secret else {}
    # One origin: whoever guesses /authorize, /register and /token finds them there, and they work.
    at = desk(same_origin=True, server_settings=client)
    assert at.server.auth_mode == "oauth"
    breakage(at)

    error = assert_start_fails(at, "discovery_failed")

    assert "/.well-known/" in error["document"]
    for request in at.peer.authorization_server.requests:
        assert request.method == "GET"
        assert "the-client-secret" not in repr((request.headers, request.raw_query, request.body))


@pytest.mark.requirement("T11")
def test_a_server_marked_as_2025_03_26_uses_the_endpoints_of_its_origin(desk: Callable[..., Desk]) -> None:
    at = desk(same_origin=True, server_settings={"auth_mode": "oauth", "options": {"legacy_endpoints": True}})
    at.peer.configure(metadata_at=(), challenge="bare")
    at.peer.configure_authorization_server(metadata_forms=())
    at.connect()
    assert call_tool(at.server, at.user, "whoami").text == "ada"


# Which client.


@pytest.mark.requirement("mcp-auth-client-id", "mcp-auth-refresh-grant-type", "mcp-security-redirect-uri-registered")
@pytest.mark.requirement("rfc7591-2-redirect-uris")
def test_a_client_is_registered_where_documents_are_not_read(desk: Callable[..., Desk]) -> None:
    at = desk()
    at.connect()
    [registration] = at.peer.authorization_server.requests_to("/register")
    wanted = registration.json
    assert wanted["redirect_uris"] == [CALLBACK]
    assert set(wanted["grant_types"]) == {"authorization_code", "refresh_token"}
    assert wanted["response_types"] == ["code"]
    assert wanted["token_endpoint_auth_method"] == "none"
    [client] = at.peer.authorization_server.clients
    [authorization] = at.peer.authorization_server.requests_to("/authorize")
    assert authorization.query["client_id"] == client.client_id == OAuthRegistration.objects.get().client_id


@pytest.mark.requirement("mcp-registration-bound")
def test_one_registration_serves_the_whole_workspace_and_no_other(
    desk: Callable[..., Desk], person: Callable[..., Person]
) -> None:
    at = desk()
    at.connect()
    come_back(at.browser, at.answer(again="1"))
    colleague = member(at.workspace)
    connect(browser_of(colleague), at.server, person("grace"))
    second = new_server(at.workspace, at.peer.url, name="Second")
    connect(at.browser, second, at.person)
    register = at.peer.authorization_server.requests_to
    assert len(register("/register")) == 1
    assert len({grant.client_id for grant in McpServerOAuth.objects.all()}) == 1

    others = new_workspace()
    stranger = member(others)
    connect(browser_of(stranger), new_server(others, at.peer.url), person("grace"))
    assert len(register("/register")) == 2
    assert len({grant.client_id for grant in McpServerOAuth.objects.all()}) == 2


@pytest.mark.requirement("mcp-security-redirect-uri-registered", "T18")
def test_another_redirect_uri_is_another_registration(desk: Callable[..., Desk], settings: Any) -> None:
    at = desk()
    at.connect()
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "PUBLIC_URL": "http://localhost:8000"}
    query = parse_qs(urlsplit(at.start(again="1")["authorization_url"]).query)
    [old, new] = at.peer.authorization_server.clients
    assert query["client_id"] == [new.client_id] != [old.client_id]
    assert query["redirect_uri"] == list(new.redirect_uris) == ["http://localhost:8000/mcp/oauth/callback/"]


@pytest.mark.parametrize("methods", [("client_secret_post",), ("client_secret_basic",)], ids=["post", "basic"])
def test_a_registered_client_authenticates_as_it_was_registered(
    desk: Callable[..., Desk], methods: tuple[str, ...]
) -> None:
    at = desk(as_options={"token_endpoint_auth_methods": methods})
    grant = at.connect()
    expire_here(grant)
    assert call_tool(at.server, at.user, "whoami").text == "ada"
    for request in at.token_requests():
        assert ("client_secret" in request.form) == (methods == ("client_secret_post",))
        assert (request.authorization or "").startswith("Basic ") == (methods == ("client_secret_basic",))


@pytest.mark.requirement("mcp-registration-refused", "mcp-registration-application-type")
def test_a_registration_that_dislikes_a_member_is_tried_once_without_it(desk: Callable[..., Desk]) -> None:
    def strict(wanted: Mapping[str, Any]) -> Fault | None:
        return json_fault(400, "invalid_client_metadata") if "application_type" in wanted else None

    at = desk(as_options={"registration_faults": strict})
    at.connect()
    assert len(at.peer.authorization_server.requests_to("/register")) == 2
    assert call_tool(at.server, at.user, "whoami").text == "ada"


@pytest.mark.requirement("mcp-registration-refusal-told")
def test_a_refused_registration_is_said_in_the_servers_bounded_words(desk: Callable[..., Desk]) -> None:
    words = "<i>no</i>" + "x" * 2000
    at = desk(as_options={"registration_faults": lambda wanted: json_fault(403, "access_denied", words)})
    error = at.start()["error"]
    assert error["code"] == "registration_failed"
    assert error["document"] == f"{at.peer.issuer}/register"
    assert len(error["message"]) < 700
    assert AuthorizationFlow.objects.count() == 0
    assert OAuthRegistration.objects.count() == 0


@pytest.mark.requirement("T29")
def test_a_client_forgotten_between_start_and_callback_is_registered_anew_at_the_next_attempt(
    desk: Callable[..., Desk],
) -> None:
    at = desk()
    answer = at.answer()
    at.peer.authorization_server.forget_clients()
    assert_refused(come_back(at.browser, answer), "invalid_client")

    assert come_back(at.browser, at.answer()).status_code == 200
    assert len(at.peer.authorization_server.requests_to("/register")) == 2


@pytest.mark.requirement("mcp-registration-by-hand", "mcp-registration-order", "oauth21-2.4-one-method")
@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
@pytest.mark.parametrize("offered", [True, False], ids=["advertised", "by option"])
def test_a_client_registered_by_hand_authenticates_and_registers_nobody(
    desk: Callable[..., Desk], method: str, offered: bool
) -> None:
    # Everything else is on offer too; what an administrator entered comes first.
    client = PreregisteredClient("by hand", "s3cret:/ +%", redirect_uris=(CALLBACK,), token_endpoint_auth_method=method)
    both = ("client_secret_post", "client_secret_basic")
    at = desk(
        as_options={
            "clients": (client,),
            "cimd": True,
            "token_endpoint_auth_methods": (method,) if offered else both,
        },
        server_settings={
            "client_id": client.client_id,
            "client_secret": client.client_secret,
            "options": {} if offered else {"token_endpoint_auth_method": method},
        },
    )
    expire_here(at.connect())
    assert call_tool(at.server, at.user, "whoami").text == "ada"

    assert at.peer.authorization_server.requests_to("/register") == []
    assert OAuthRegistration.objects.count() == 0
    exchange, refresh = at.token_requests()
    for request in (exchange, refresh):
        if method == "client_secret_post":
            assert request.form["client_secret"] == client.client_secret
            assert request.authorization is None
        else:
            assert (request.authorization or "").startswith("Basic ")
            assert "client_secret" not in request.form
    for request in [*at.peer.requests, *at.peer.authorization_server.requests]:
        if request not in (exchange, refresh):
            assert str(client.client_secret) not in repr((request.headers, request.query, request.body))
    at.server.refresh_from_db()
    assert at.server.client_issuer == at.peer.issuer


@pytest.mark.requirement("mcp-registration-not-reused", "mcp-registration-mismatch-told", "mcp-discovery-no-sharing")
@pytest.mark.requirement("T12")
def test_the_secret_of_a_client_registered_by_hand_follows_no_change_of_issuer(
    desk: Callable[..., Desk], authorization_server: Callable[..., AuthorizationServerPeer]
) -> None:
    client = PreregisteredClient("by hand", "the-client-secret", redirect_uris=(CALLBACK,))
    options = {"clients": (client,)}
    at = desk(as_options=options, server_settings={"client_id": "by hand", "client_secret": "the-client-secret"})
    at.connect()
    bait = authorization_server(AuthorizationServerOptions(auto_consent="ada", clients=(client,)))
    at.peer.configure(authorization_servers=(bait.issuer,))

    assert at.start(again="1")["error"]["code"] == "configuration_error"

    assert {request.method for request in bait.requests} == {"GET"}
    assert all("the-client-secret" not in repr((r.headers, r.raw_query, r.body)) for r in bait.requests)
    assert AuthorizationFlow.objects.filter(consumed_at=None).count() == 0
    # The grant of the old issuer goes on, renewed where it came from.
    expire_here(at.grants()[0])
    assert call_tool(at.server, at.user, "whoami").text == "ada"
    assert bait.requests_to("/token") == []


@pytest.mark.requirement("mcp-registration-anew", "mcp-registration-not-reused", "mcp-registration-bound")
@pytest.mark.requirement("mcp-discovery-state-per-issuer", "mcp-discovery-no-sharing", "rfc9728-5.2-changed", "T12")
def test_a_dynamic_client_is_registered_anew_at_another_issuer(
    desk: Callable[..., Desk], authorization_server: Callable[..., AuthorizationServerPeer]
) -> None:
    at = desk(as_options={"token_endpoint_auth_methods": ("client_secret_post",)})
    at.connect()
    secret = OAuthRegistration.objects.get().client_secret
    other = authorization_server(
        AuthorizationServerOptions(auto_consent="ada", cimd=False, default_scope="read", default_resource=at.peer.url)
    )
    at.peer.configure(authorization_servers=(other.issuer,))

    assert come_back(at.browser, at.answer(again="1")).status_code == 200

    assert len(other.requests_to("/register")) == 1
    assert secret
    assert all(secret not in repr((r.headers, r.raw_query, r.body)) for r in other.requests)
    assert at.grants()[0].issuer == other.issuer


@pytest.mark.requirement("mcp-auth-client-id", "mcp-registration-order")
def test_a_server_that_registers_nobody_asks_for_a_client_and_names_the_redirect_uri(
    desk: Callable[..., Desk],
) -> None:
    at = desk(as_options={"dynamic_registration": False})
    error = assert_start_fails(at, "registration_required")
    assert CALLBACK in error["next_step"]
    assert at.peer.issuer in error["message"]
    with pytest.raises(RegistrationRequired):
        start_authorization(at.server, at.user, browser="b")


@pytest.mark.requirement("mcp-auth-cimd", "mcp-registration-cimd-matches", "cimd-4-redirect-uris")
@pytest.mark.requirement("rfc6749-4.1.3-client-id", "T28")
def test_the_published_document_is_what_the_authorization_server_reads_and_what_is_sent(
    desk: Callable[..., Desk], live_server: Any, settings: Any
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "PUBLIC_URL": live_server.url}
    at = desk(as_options={"cimd": True})
    at.connect()
    assert call_tool(at.server, at.user, "whoami").text == "ada"

    [authorization] = at.peer.authorization_server.requests_to("/authorize")
    [exchange] = at.token_requests()
    address = authorization.query["client_id"]
    with httpx.Client(trust_env=False) as http:
        published = http.get(address)
    document = published.json()
    assert address == f"{live_server.url}/mcp/oauth/client.json" == document["client_id"]
    assert document["redirect_uris"] == [authorization.query["redirect_uri"]] == [exchange.form["redirect_uri"]]
    assert document["token_endpoint_auth_method"] == "none"
    assert exchange.form["client_id"] == address
    assert "client_secret" not in exchange.form
    assert exchange.authorization is None
    assert "set-cookie" not in published.headers
    assert "public" in published.headers["cache-control"]
    assert at.peer.authorization_server.requests_to("/register") == []
    assert OAuthRegistration.objects.get().kind == "cimd"


# What goes where.


@pytest.mark.requirement("T27")
def test_configured_headers_go_to_the_server_alone_and_never_stand_in_for_the_grant(desk: Callable[..., Desk]) -> None:
    headers = {"X-Team": "the-team-secret", "AUTHORIZATION": "Bearer the-shared-secret"}
    at = desk(server_settings={"headers": headers})
    at.connect()
    expire_here(at.grants()[0])
    assert call_tool(at.server, at.user, "whoami").text == "ada"
    at.browser.post("/mcp/oauth/disconnect/", {"server": str(at.server.pk)})

    asked = [request for request in at.peer.mcp_requests if request.authorization]
    tokens = {f"Bearer {token.value}" for token in at.peer.authorization_server.access_tokens}
    assert asked
    for request in asked:
        assert request.headers["x-team"] == "the-team-secret"
        assert request.authorization in tokens
    others = [request for request in at.peer.requests if request not in asked]
    elsewhere = [*others, *at.peer.authorization_server.requests]
    assert at.peer.authorization_server.requests_to("/revoke")
    for request in elsewhere:
        seen = repr((request.headers, request.raw_query, request.body))
        assert "the-team-secret" not in seen
        assert "the-shared-secret" not in seen


@pytest.mark.requirement("T27")
def test_configured_headers_do_not_reach_the_authorization_server_on_the_same_origin(
    desk: Callable[..., Desk],
) -> None:
    at = desk(same_origin=True, server_settings={"headers": {"X-Team": "the-team-secret"}})
    at.connect()
    assert call_tool(at.server, at.user, "whoami").text == "ada"
    assert all("x-team" not in request.headers for request in at.peer.authorization_server.requests)
    assert all("x-team" not in request.headers for request in at.peer.requests if request.path != "/mcp")


@pytest.mark.requirement("T36")
def test_no_cookie_travels_from_one_exchange_to_the_next(desk: Callable[..., Desk]) -> None:
    at = desk()
    at.connect()
    ours = [r for r in at.peer.authorization_server.requests if not r.path.endswith("/authorize")]
    assert all("cookie" not in request.headers for request in [*ours, *at.peer.requests])


def test_a_person_outside_the_workspace_starts_nothing(desk: Callable[..., Desk]) -> None:
    at = desk()
    before = len(at.peer.requests)
    body = start(browser_of(member()), at.server)
    assert body["error"]["code"] == "not_found"
    assert len(at.peer.requests) == before
    assert AuthorizationFlow.objects.count() == 0


def test_a_disabled_server_starts_nothing(desk: Callable[..., Desk]) -> None:
    at = desk()
    _disable(at)
    before = len(at.peer.requests)
    with pytest.raises(ConfigurationError):
        start_authorization(at.server.pk, at.user, browser="b")
    assert len(at.peer.requests) == before


@pytest.mark.requirement("mcp-bp-redirects", "T05")
def test_a_redirect_of_the_token_endpoint_carries_the_code_nowhere(
    desk: Callable[..., Desk], document_server: Callable[..., OddServer]
) -> None:
    at = desk()
    bait = document_server({})
    away: Fault = (307, {"location": f"{bait.base_url}/token"}, b"")
    at.peer.configure_authorization_server(token_faults=lambda form: away)
    with pytest.raises(McpOAuthError):
        finish_authorization(
            at.user,
            parameters=parameters_of(at.answer()),
            browser=at.browser.session["mcp_oauth_browser"],
        )
    assert bait.requests == []
    assert at.grants() == []


def test_discovery_that_fails_is_a_typed_error_for_programs_too(desk: Callable[..., Desk]) -> None:
    at = desk()
    at.peer.configure_authorization_server(metadata_forms=())
    with pytest.raises(DiscoveryFailed) as failed:
        start_authorization(at.server, at.user, browser="b")
    assert failed.value.document.startswith(at.peer.issuer)
