"""The peers are what they claim to be: driven here by the bare SDK and by plain HTTP, without our application."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import json
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from project.peers.authorization_server import AuthorizationServer
from project.peers.recording import RecordedRequest
from project.peers.registry import Registry
from project.peers.servers import NOTES_CLIENT_ID, NOTES_CLIENT_SECRET
from tests.servers import (
    AuthorizationServerOptions,
    AuthorizationServerPeer,
    HeaderServer,
    OddServer,
    OpenServer,
    PageRefused,
    Person,
    PreregisteredClient,
    ProtectedServer,
    html_fault,
    json_fault,
    serve,
)
from tests.servers.person import tls_context

pytestmark = pytest.mark.once

REDIRECT_URI = "http://127.0.0.1:8000/mcp/oauth/callback/"
ROOT = Path(__file__).resolve().parents[2]
Answer = dict[str, Any]


class Flow:
    """One authorization, step by step, as an OAuth client takes it."""

    def __init__(self, issuer: str, client_id: str, *, redirect_uri: str = REDIRECT_URI) -> None:
        self.issuer = issuer
        self.client_id = client_id
        self.redirect_uri = redirect_uri
        self.verifier = secrets.token_urlsafe(48)
        self.state = secrets.token_urlsafe(16)

    def url(self, **changes: str) -> str:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "state": self.state,
            "scope": "read",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        } | changes
        kept = {name: value for name, value in parameters.items() if value}
        return f"{self.issuer}/authorize?{urlencode(kept)}"

    def token(self, form: dict[str, str], *, auth: tuple[str, str] | None = None) -> httpx.Response:
        return post(f"{self.issuer}/token", form, auth=auth)

    def exchange(self, code: str, *, auth: tuple[str, str] | None = None, **changes: str) -> httpx.Response:
        form = (
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self.redirect_uri,
                "code_verifier": self.verifier,
            }
            | ({} if auth else {"client_id": self.client_id})
            | changes
        )
        return self.token({name: value for name, value in form.items() if value}, auth=auth)

    def refresh(self, refresh_token: str, **changes: str) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": self.client_id} | changes
        return self.token(form)


def get(url: str, **kwargs: Any) -> httpx.Response:
    with httpx.Client(trust_env=False, verify=tls_context()) as http:
        return http.get(url, **kwargs)


def post(url: str, form: dict[str, str], *, auth: tuple[str, str] | None = None) -> httpx.Response:
    with httpx.Client(trust_env=False, auth=auth, verify=tls_context()) as http:
        return http.post(url, data=form)


def register(issuer: str, **changes: Any) -> httpx.Response:
    document = {
        "client_name": "A workspace",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    } | changes
    with httpx.Client(trust_env=False, verify=tls_context()) as http:
        return http.post(f"{issuer}/register", json=document)


def answer_of(callback: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}


def connected(
    server: AuthorizationServer, person: Person, *, resource: str = "", scope: str = "read"
) -> tuple[Flow, Answer]:
    """Register, authorize and exchange; return the flow and the token response."""
    flow = Flow(server.issuer, register(server.issuer).json()["client_id"])
    callback = person.authorize(flow.url(resource=resource, scope=scope))
    response = flow.exchange(answer_of(callback)["code"], resource=resource)
    assert response.status_code == 200, response.text
    document: Answer = response.json()
    return flow, document


async def _session(url: str, mode: str, headers: dict[str, str], work: Callable[[Client], Any]) -> Any:
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=20, verify=tls_context()) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, read_timeout_seconds=20) as client,
    ):
        return await work(client)


def with_client(
    url: str,
    work: Callable[[Client], Any],
    *,
    mode: str = "auto",
    token: str = "",
    headers: dict[str, str] | None = None,
) -> Any:
    """Run something on a connected SDK client; a single error comes out of the groups it travels in."""
    sent = dict(headers or {}) | ({"authorization": f"Bearer {token}"} if token else {})
    try:
        return asyncio.run(_session(url, mode, sent, work))
    except ExceptionGroup as group:
        error: Exception = group
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


def call(url: str, tool: str, arguments: Answer | None = None, **kwargs: Any) -> CallToolResult:
    result = with_client(url, lambda client: client.call_tool(tool, arguments or {}), **kwargs)
    assert isinstance(result, CallToolResult)
    return result


def version(url: str, **kwargs: Any) -> str:
    async def read(client: Client) -> str:
        return client.protocol_version

    result = with_client(url, read, **kwargs)
    assert isinstance(result, str)
    return result


def text_of(result: CallToolResult) -> str:
    return "".join(block.text for block in result.content if block.type == "text")


# The authorization server.


def test_metadata_is_served_in_both_forms_under_the_issuer(
    authorization_server: Callable[..., AuthorizationServerPeer],
) -> None:
    server = authorization_server(AuthorizationServerOptions(issuer_path="/tenant"))
    for path in (
        "/.well-known/oauth-authorization-server/tenant",
        "/.well-known/openid-configuration/tenant",
        "/tenant/.well-known/openid-configuration",
    ):
        document = get(server.base_url + path).json()
        assert document["issuer"] == server.issuer == f"{server.base_url}/tenant"
        assert document["token_endpoint"] == f"{server.issuer}/token"
        assert document["code_challenge_methods_supported"] == ["S256"]
        assert document["authorization_response_iss_parameter_supported"] is True
        assert document["client_id_metadata_document_supported"] is True


def test_metadata_says_only_what_the_options_say(
    authorization_server: Callable[..., AuthorizationServerPeer],
) -> None:
    server = authorization_server(
        AuthorizationServerOptions(
            code_challenge_methods=None,
            token_endpoint_auth_methods=None,
            dynamic_registration=False,
            cimd=False,
            advertise_iss=False,
            metadata_overrides={"issuer": "https://elsewhere.example", "scopes_supported": None},
            metadata_forms=("oauth",),
        )
    )
    document = get(f"{server.base_url}/.well-known/oauth-authorization-server").json()
    assert document["issuer"] == "https://elsewhere.example"
    assert not set(document) & {
        "code_challenge_methods_supported",
        "token_endpoint_auth_methods_supported",
        "registration_endpoint",
        "client_id_metadata_document_supported",
        "authorization_response_iss_parameter_supported",
        "scopes_supported",
    }
    assert get(f"{server.base_url}/.well-known/openid-configuration").status_code == 404
    assert register(server.issuer).status_code == 404


def test_a_person_signs_in_and_allows_and_the_code_buys_a_token_for_the_resource(
    authorization_server: Callable[..., AuthorizationServerPeer], person: Callable[..., Person]
) -> None:
    server = authorization_server()
    ada = person("ada")
    flow = Flow(server.issuer, register(server.issuer).json()["client_id"])
    callback = ada.authorize(flow.url(resource="https://mcp.example/mcp"))
    answer = answer_of(callback)
    assert callback.startswith(REDIRECT_URI)
    assert answer["state"] == flow.state
    assert answer["iss"] == server.issuer
    tokens = flow.exchange(answer["code"], resource="https://mcp.example/mcp").json()
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 3600
    facts = server.introspect(tokens["access_token"])
    assert facts is not None
    assert (facts.user, facts.scope, facts.audience) == ("ada", "read", "https://mcp.example/mcp")
    assert [request.form["grant_type"] for request in server.requests_to("/token")] == ["authorization_code"]


def test_a_person_who_denies_sends_back_access_denied_with_state_and_issuer(
    authorization_server: Callable[..., AuthorizationServerPeer], person: Callable[..., Person]
) -> None:
    server = authorization_server()
    flow = Flow(server.issuer, register(server.issuer).json()["client_id"])
    answer = answer_of(person("grace").deny(flow.url()))
    assert answer["error"] == "access_denied"
    assert (answer["state"], answer["iss"]) == (flow.state, server.issuer)
    assert "code" not in answer


def test_a_wrong_password_is_refused(
    authorization_server: Callable[..., AuthorizationServerPeer], person: Callable[..., Person]
) -> None:
    server = authorization_server()
    flow = Flow(server.issuer, register(server.issuer).json()["client_id"])
    with pytest.raises(PageRefused, match="password is not right"):
        person("ada", "wrong").authorize(flow.url())


def test_a_second_authorization_finds_the_person_signed_in(
    authorization_server: Callable[..., AuthorizationServerPeer], person: Callable[..., Person]
) -> None:
    server = authorization_server()
    ada = person("ada")
    connected(server, ada)
    connected(server, ada)
    assert len(server.requests_to("/sign-in")) == 1
    assert len(server.requests_to("/consent")) == 4


def test_the_consent_form_is_bound_to_the_page_that_was_shown(
    authorization_server: Callable[..., AuthorizationServerPeer], person: Callable[..., Person]
) -> None:
    server = authorization_server()
    ada = person("ada")
    connected(server, ada)
    shown = server.requests_to("/consent")[-1]
    forged = post(f"{server.base_url}/consent", {"request": shown.form["request"], "decision": "allow"})
    assert forged.status_code == 400


def test_the_pages_escape_the_name_of_a_client_and_run_no_script(
    authorization_server: Callable[..., AuthorizationServerPeer],
) -> None:
    server = authorization_server()
    client = register(server.issuer, client_name="<script>alert(1)</script>").json()
    page = get(Flow(server.issuer, client["client_id"]).url())
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cross-origin-opener-policy"] == "same-origin"
    assert get(f"{server.base_url}/pages.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"scope": "everything"}, "invalid_scope"),
        ({"resource": "https://other.example/mcp"}, "invalid_target"),
        ({"resource": ""}, "invalid_target"),
    ],
)
def test_a_malformed_authorization_request_is_answered_in_the_redirect(
    changes: dict[str, str], error: str, authorization_server: Callable[..., AuthorizationServerPeer]
) -> None:
    resource = "https://mcp.example/mcp"
    server = authorization_server(AuthorizationServerOptions(resources=(resource,), resource_mode="required"))
    flow = Flow(server.issuer, register(server.issuer).json()["client_id"])
    response = get(flow.url(**({"resource": resource} | changes)))
    assert response.status_code == 303
    answer = answer_of(response.headers["location"])
    assert (answer["error"], answer["state"], answer["iss"]) == (error, flow.state, server.issuer)


@pytest.mark.parametrize("changes", [{"client_id": "nobody"}, {"redirect_uri": "https://evil.example/"}])
def test_an_unknown_client_or_redirect_uri_is_never_redirected(
    changes: dict[str, str], authorization_server: Callable[..., AuthorizationServerPeer]
) -> None:
    server = authorization_server()
    flow = Flow(server.issuer, register(server.issuer).json()["client_id"])
    response = get(flow.url(**changes))
    assert response.status_code == 400
    assert "location" not in response.headers


@pytest.mark.parametrize(
    ("name", "value"),
    [("code_verifier", "x" * 43), ("redirect_uri", "http://127.0.0.1:8000/other/"), ("client_id", "other")],
)
def test_a_code_is_worth_nothing_without_what_it_is_bound_to(
    name: str,
    value: str,
    authorization_server: Callable[..., AuthorizationServerPeer],
    person: Callable[..., Person],
) -> None:
    other = PreregisteredClient("other")
    server = authorization_server(AuthorizationServerOptions(clients=(other,)))
    flow = Flow(server.issuer, register(server.issuer).json()["client_id"])
    code = answer_of(person("ada").authorize(flow.url()))["code"]
    response = flow.exchange(code, auth=None, **{name: value})
    assert (response.status_code, response.json()["error"]) == (400, "invalid_grant")
    assert server.access_tokens == []


def test_a_code_used_twice_ends_the_grant_it_bought(
    authorization_server: Callable[..., AuthorizationServerPeer], person: Callable[..., Person]
) -> None:
    server = authorization_server()
    flow = Flow(server.issuer, register(server.issuer).json()["client_id"])
    code = answer_of(person("ada").authorize(flow.url()))["code"]
    tokens = flow.exchange(code).json()
    assert flow.exchange(code).json()["error"] == "invalid_grant"
    assert server.introspect(tokens["access_token"]) is None


def test_a_refresh_token_rotates_and_its_reuse_revokes_the_family(
    authorization_server: Callable[..., AuthorizationServerPeer], person: Callable[..., Person]
) -> None:
    server = authorization_server()
    flow, first = connected(server, person("ada"), resource="https://mcp.example/mcp")
    second = flow.refresh(first["refresh_token"], resource="https://mcp.example/mcp").json()
    assert second["refresh_token"] != first["refresh_token"]
    facts = server.introspect(second["access_token"])
    assert facts is not None
    assert facts.audience == "https://mcp.example/mcp"
    assert flow.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
    assert server.introspect(second["access_token"]) is None
    assert flow.refresh(second["refresh_token"]).json()["error"] == "invalid_grant"


def test_without_rotation_a_refresh_answers_without_a_refresh_token_and_the_old_one_stays_good(
    authorization_server: Callable[..., AuthorizationServerPeer], person: Callable[..., Person]
) -> None:
    server = authorization_server(AuthorizationServerOptions(rotate_refresh=False))
    flow, first = connected(server, person("ada"))
    assert "refresh_token" not in flow.refresh(first["refresh_token"]).json()
    assert flow.refresh(first["refresh_token"]).status_code == 200


def test_a_refresh_cannot_widen_scope_or_change_resource(
    authorization_server: Callable[..., AuthorizationServerPeer], person: Callable[..., Person]
) -> None:
    server = authorization_server()
    flow, tokens = connected(server, person("ada"), resource="https://mcp.example/mcp")
    assert flow.refresh(tokens["refresh_token"], scope="read write").json()["error"] == "invalid_scope"
    other = flow.refresh(tokens["refresh_token"], resource="https://mcp.example/other")
    assert other.json()["error"] == "invalid_target"


def test_a_client_without_the_refresh_grant_type_gets_no_refresh_token(
    authorization_server: Callable[..., AuthorizationServerPeer],
) -> None:
    server = authorization_server(AuthorizationServerOptions(auto_consent="ada"))
    client_id = register(server.issuer, grant_types=["authorization_code"]).json()["client_id"]
    flow = Flow(server.issuer, client_id)
    code = answer_of(get(flow.url()).headers["location"])["code"]
    assert "refresh_token" not in flow.exchange(code).json()


def test_tokens_are_expired_revoked_and_clients_forgotten_on_request(
    authorization_server: Callable[..., AuthorizationServerPeer], person: Callable[..., Person]
) -> None:
    server = authorization_server()
    flow, tokens = connected(server, person("ada"))
    server.expire_access_tokens()
    assert server.introspect(tokens["access_token"]) is None
    renewed = flow.refresh(tokens["refresh_token"]).json()
    assert server.introspect(renewed["access_token"]) is not None
    server.revoke_refresh_tokens()
    assert flow.refresh(renewed["refresh_token"]).json()["error"] == "invalid_grant"
    server.forget_clients()
    forgotten = flow.refresh(renewed["refresh_token"])
    assert (forgotten.status_code, forgotten.json()["error"]) == (401, "invalid_client")
    assert get(flow.url()).status_code == 400


def test_revoking_the_refresh_token_ends_the_access_token_too(
    authorization_server: Callable[..., AuthorizationServerPeer], person: Callable[..., Person]
) -> None:
    server = authorization_server()
    flow, tokens = connected(server, person("ada"))
    form = {"token": tokens["refresh_token"], "client_id": flow.client_id}
    assert post(f"{server.issuer}/revoke", form).status_code == 200
    assert server.introspect(tokens["access_token"]) is None
    assert flow.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert post(f"{server.issuer}/revoke", {"token": "unknown", "client_id": flow.client_id}).status_code == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": ["http://app.example/callback"]}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://app.example/callback#x"]}, "invalid_redirect_uri"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
        ({"grant_types": ["refresh_token"]}, "invalid_client_metadata"),
        ({"response_types": ["token"]}, "invalid_client_metadata"),
    ],
)
def test_registration_refuses_what_it_cannot_serve(
    changes: Answer, error: str, authorization_server: Callable[..., AuthorizationServerPeer]
) -> None:
    response = register(authorization_server().issuer, **changes)
    assert (response.status_code, response.json()["error"]) == (400, error)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_registered_secret_is_accepted_only_by_its_registered_method(
    method: str, authorization_server: Callable[..., AuthorizationServerPeer]
) -> None:
    server = authorization_server(AuthorizationServerOptions(auto_consent="ada"))
    client = register(server.issuer, token_endpoint_auth_method=method).json()
    assert client["client_secret_expires_at"] == 0
    name, secret = client["client_id"], client["client_secret"]
    flow = Flow(server.issuer, name)

    def exchange(used: str, with_secret: str) -> httpx.Response:
        code = answer_of(get(flow.url()).headers["location"])["code"]
        if used == "client_secret_basic":
            return flow.exchange(code, auth=(name, with_secret))
        return flow.exchange(code, client_secret=with_secret)

    other = {"client_secret_basic": "client_secret_post", "client_secret_post": "client_secret_basic"}[method]
    assert exchange(method, secret).status_code == 200
    assert exchange(method, "wrong").status_code == 401
    assert exchange(other, secret).json()["error"] == "invalid_client"
    assert exchange("client_secret_post", "").json()["error"] == "invalid_client"


def test_a_preregistered_client_needs_no_registration_endpoint(
    authorization_server: Callable[..., AuthorizationServerPeer],
) -> None:
    client = PreregisteredClient("hand made", "s:e/c+r t", redirect_uris=(REDIRECT_URI,))
    server = authorization_server(
        AuthorizationServerOptions(clients=(client,), dynamic_registration=False, auto_consent="grace")
    )
    flow = Flow(server.issuer, "hand made")
    code = answer_of(get(flow.url()).headers["location"])["code"]
    # RFC 6749 §2.3.1: form-encoded before they are joined.
    assert flow.exchange(code, auth=("hand+made", "s%3Ae%2Fc%2Br+t")).status_code == 200
    code = answer_of(get(flow.url()).headers["location"])["code"]
    assert flow.exchange(code, client_secret="s:e/c+r t").status_code == 200
    assert "s:e/c+r t" not in repr(client) + repr(server.options)


def test_a_client_metadata_document_stands_for_its_url(
    authorization_server: Callable[..., AuthorizationServerPeer],
    document_server: Callable[..., OddServer],
    person: Callable[..., Person],
) -> None:
    documents: Answer = {}
    site = document_server(documents)
    url = f"{site.base_url}/client.json"
    documents["/client.json"] = {
        "client_id": url,
        "client_name": "A workspace",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    }
    server = authorization_server(AuthorizationServerOptions(dynamic_registration=False))
    flow = Flow(server.issuer, url)
    tokens = flow.exchange(answer_of(person("ada").authorize(flow.url()))["code"]).json()
    facts = server.introspect(tokens["access_token"])
    assert facts is not None
    assert facts.client_id == url
    assert "refresh_token" in tokens
    assert [request.path for request in site.requests] == ["/client.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "https://other.example/client.json"},
        {"redirect_uris": ["https://other.example/"]},
        {"redirect_uris": []},
        {"token_endpoint_auth_method": "client_secret_post"},
    ],
)
def test_a_client_metadata_document_that_does_not_fit_is_refused(
    change: Answer,
    authorization_server: Callable[..., AuthorizationServerPeer],
    document_server: Callable[..., OddServer],
) -> None:
    documents: Answer = {}
    url = f"{document_server(documents).base_url}/client.json"
    documents["/client.json"] = {"client_id": url, "client_name": "X", "redirect_uris": [REDIRECT_URI]} | change
    assert get(Flow(authorization_server().issuer, url).url()).status_code == 400


def test_faults_replace_answers_and_every_request_is_recorded(
    authorization_server: Callable[..., AuthorizationServerPeer],
) -> None:
    seen: list[dict[str, Any]] = []

    def later(form: Any) -> Any:
        seen.append(dict(form))
        return json_fault(503, "temporarily_unavailable", headers={"retry-after": "7"}) if len(seen) == 1 else None

    async def page(parameters: Any) -> Any:
        return html_fault() if parameters["path"].startswith("/.well-known/openid") else None

    server = authorization_server(
        AuthorizationServerOptions(
            token_faults=later,
            metadata_faults=page,
            registration_faults=lambda wanted: json_fault(429, "slow_down") if "client_name" not in wanted else None,
        )
    )
    refused = post(f"{server.issuer}/token", {"grant_type": "refresh_token", "client_id": "x"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
    assert post(f"{server.issuer}/token", {"client_id": "x"}).json()["error"] == "invalid_client"
    assert seen == [{"grant_type": "refresh_token", "client_id": "x"}, {"client_id": "x"}]
    html = get(f"{server.base_url}/.well-known/openid-configuration")
    assert (html.status_code, html.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert get(f"{server.base_url}/.well-known/oauth-authorization-server").json()["issuer"] == server.issuer
    assert register(server.issuer).status_code == 201
    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", "/token"),
        ("POST", "/token"),
        ("GET", "/.well-known/openid-configuration"),
        ("GET", "/.well-known/oauth-authorization-server"),
        ("POST", "/register"),
    ]
    assert server.requests[-1].json["client_name"] == "A workspace"


@pytest.mark.parametrize(
    ("options", "iss"),
    [
        (AuthorizationServerOptions(auto_consent="ada", send_iss=False), None),
        (AuthorizationServerOptions(auto_consent="ada", wrong_iss="https://evil.example"), "https://evil.example"),
        (AuthorizationServerOptions(deny=True, wrong_iss="https://evil.example"), "https://evil.example"),
    ],
)
def test_the_issuer_of_a_response_can_be_missing_or_wrong(
    options: AuthorizationServerOptions, iss: str | None, authorization_server: Callable[..., AuthorizationServerPeer]
) -> None:
    server = authorization_server(options)
    flow = Flow(server.issuer, register(server.issuer).json()["client_id"])
    assert answer_of(get(flow.url()).headers["location"]).get("iss") == iss


def test_clients_and_grants_outlive_the_process_in_the_state_file_without_a_secret_in_it(tmp_path: Path) -> None:
    state = tmp_path / "state" / "authorization.json"
    first = AuthorizationServer(base_url="http://127.0.0.1:1", state_file=state)
    tokens = first.grant(client_id="someone", resource="https://mcp.example/mcp")
    second = AuthorizationServer(base_url="http://127.0.0.1:1", state_file=state)
    facts = second.introspect(tokens["access_token"])
    assert facts is not None
    assert (facts.user, facts.audience) == ("ada", "https://mcp.example/mcp")
    assert tokens["access_token"] not in state.read_text()
    assert tokens["refresh_token"] not in state.read_text()
    assert state.stat().st_mode & 0o077 == 0
    state.write_text("{")
    assert Registry(state).tokens == {}


# MCP servers and their eras.


def test_a_modern_server_speaks_2026_only_and_keeps_no_session(open_mcp_server: Callable[..., OpenServer]) -> None:
    server = open_mcp_server("modern")
    assert version(server.url) == "2026-07-28"
    assert server.rpc_methods == ["server/discover"]
    assert call(server.url, "add", {"a": 2, "b": 3}).structured_content == {"total": 5}
    assert not any("mcp-session-id" in request.headers for request in server.requests)
    with pytest.raises(MCPError, match="Unsupported protocol version"):
        version(server.url, mode="legacy")


def test_a_legacy_server_speaks_2025_only_and_keeps_a_session(open_mcp_server: Callable[..., OpenServer]) -> None:
    server = open_mcp_server("legacy")
    assert version(server.url) == "2025-11-25"
    assert server.rpc_methods[:3] == ["server/discover", "initialize", "notifications/initialized"]
    assert text_of(call(server.url, "echo", {"text": "hello"}, mode="legacy")) == "hello"
    assert any("mcp-session-id" in request.headers for request in server.requests)
    with pytest.raises(MCPError, match="Unsupported protocol version"):
        call(server.url, "echo", {"text": "hello"}, mode="2026-07-28")


def test_a_legacy_server_answers_400_to_a_call_outside_a_session(open_mcp_server: Callable[..., OpenServer]) -> None:
    server = open_mcp_server("legacy")
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"accept": "application/json, text/event-stream"}
    with httpx.Client(trust_env=False, verify=tls_context()) as http:
        assert http.post(server.url, json=message, headers=headers).status_code == 400
        headers["mcp-session-id"] = "gone"
        assert http.post(server.url, json=message, headers=headers).status_code == 404


def test_a_dual_server_speaks_both_eras(open_mcp_server: Callable[..., OpenServer]) -> None:
    server = open_mcp_server("dual")
    assert version(server.url) == "2026-07-28"
    assert version(server.url, mode="legacy") == "2025-11-25"


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("same_origin", [True, False])
def test_a_protected_server_challenges_and_then_knows_its_user(
    era: str,
    same_origin: bool,
    protected_mcp_server: Callable[..., ProtectedServer],
    person: Callable[..., Person],
) -> None:
    server = protected_mcp_server(era, same_origin=same_origin, scopes=("read",))
    base_url = server.url.removesuffix("/mcp")
    refused = get(server.url)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == (
        f'Bearer scope="read", resource_metadata="{base_url}/.well-known/oauth-protected-resource/mcp"'
    )
    document = get(f"{base_url}/.well-known/oauth-protected-resource/mcp").json()
    assert document["resource"] == server.url
    assert document["authorization_servers"] == [server.issuer]
    assert (server.issuer == base_url) is same_origin
    _, tokens = connected(server.authorization_server, person("grace"), resource=server.url)
    assert text_of(call(server.url, "whoami", token=tokens["access_token"])) == "grace"
    assert server.mcp_requests[-1].authorization == f"Bearer {tokens['access_token']}"


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_token_for_another_resource_or_a_rejected_one_is_refused(
    era: str, protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    server = protected_mcp_server(era)
    issue = server.authorization_server.grant
    good = issue(client_id="x", scope="read")["access_token"]
    foreign = issue(client_id="x", scope="read", resource="https://other.example/mcp")["access_token"]
    assert get(server.url, headers={"authorization": f"Bearer {foreign}"}).status_code == 401
    assert text_of(call(server.url, "whoami", token=good)) == "ada"
    server.reject_tokens()
    refused = get(server.url, headers={"authorization": f"Bearer {good}"})
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    server.accept_tokens()
    server.authorization_server.expire_access_tokens()
    assert get(server.url, headers={"authorization": f"Bearer {good}"}).status_code == 401


def test_a_tool_that_needs_more_is_refused_with_the_scopes_it_needs(
    protected_mcp_server: Callable[..., ProtectedServer],
) -> None:
    server = protected_mcp_server("modern", scopes=("read",), tool_scopes={"add": "sums"})
    token = server.authorization_server.grant(client_id="x", scope="read")["access_token"]
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add"}}
    with httpx.Client(trust_env=False, verify=tls_context()) as http:
        refused = http.post(server.url, json=message, headers={"authorization": f"Bearer {token}"})
    assert refused.status_code == 403
    challenge = refused.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="read sums"' in challenge
    assert text_of(call(server.url, "echo", {"text": "still"}, token=token)) == "still"
    wider = server.authorization_server.grant(client_id="x", scope="read sums")["access_token"]
    assert call(server.url, "add", {"a": 1, "b": 1}, token=wider).structured_content == {"total": 2}


def test_a_header_server_wants_its_key_and_sends_no_challenge(header_mcp_server: Callable[..., HeaderServer]) -> None:
    server = header_mcp_server("X-Api-Key", "k1")
    refused = get(server.url)
    assert refused.status_code == 401
    assert "www-authenticate" not in refused.headers
    assert text_of(call(server.url, "echo", {"text": "in"}, headers={"X-Api-Key": "k1"})) == "in"
    server.change_value("k2")
    assert get(server.url, headers={"X-Api-Key": "k1"}).status_code == 401


def test_tools_may_be_plain_functions_or_fail(open_mcp_server: Callable[..., OpenServer]) -> None:
    def greet(name: str) -> str:
        """Greet somebody."""
        return f"Hello {name}"

    assert text_of(call(open_mcp_server(tools=[greet]).url, "greet", {"name": "Ada"})) == "Hello Ada"
    failed = call(open_mcp_server().url, "fail", {"reason": "No paper."})
    assert failed.is_error
    assert "No paper." in text_of(failed)


# Odd servers.


@pytest.mark.parametrize(
    ("kind", "status", "content_type"),
    [
        ("html", 200, "text/html; charset=utf-8"),
        ("http500", 500, "text/html; charset=utf-8"),
        ("ok_to_everything", 200, "application/json"),
        ("text_to_everything", 200, "text/plain; charset=utf-8"),
        ("not_json_metadata", 401, "application/json"),
        ("html_metadata", 401, "application/json"),
        ("wrong_resource", 401, "application/json"),
        ("challenge_without_metadata", 401, "application/json"),
    ],
)
def test_an_odd_server_is_odd(kind: str, status: int, content_type: str, odd_server: Callable[..., OddServer]) -> None:
    server = odd_server(kind)
    response = get(server.url)
    assert (response.status_code, response.headers["content-type"]) == (status, content_type)
    assert [request.path for request in server.requests] == ["/mcp"]


def test_a_silent_server_closes_without_a_word(odd_server: Callable[..., OddServer]) -> None:
    server = odd_server("silent")
    with pytest.raises(httpx.TransportError):
        get(server.url)
    assert server.connections == 1


def test_a_server_that_stops_leaves_no_half_accepted_connection_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: lost.append(unraisable.exc_value))
    clients: list[socket.socket] = []

    def knock(port: int, knocked: threading.Event) -> None:
        with suppress(OSError):
            for _ in range(20):
                clients.append(socket.create_connection(("127.0.0.1", port), timeout=5))
                knocked.set()

    for _ in range(8):
        with serve(AuthorizationServer().app) as base_url:
            knocked = threading.Event()
            visitor = threading.Thread(target=knock, args=(urlsplit(base_url).port, knocked))
            visitor.start()
            assert knocked.wait(5)
        visitor.join()
    for client in clients:
        client.close()
    gc.collect()

    assert lost == []


def test_a_recorded_request_keeps_its_secrets_out_of_repr() -> None:
    request = RecordedRequest("POST", "/token", form={"code": "s3cret"}, headers={"authorization": "Bearer s3cret"})
    assert "s3cret" not in repr(request)


# The peers of the demonstration, as the processes that they are.


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(*arguments: str) -> Iterator[str]:
    """Start a peer; yield its URL; it has to leave with code 0 when it is asked to."""
    with subprocess.Popen(
        [sys.executable, "-m", "project.peers", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as peer:
        try:
            assert peer.stdout is not None
            name, _, url = peer.stdout.readline().strip().partition(" ")
            assert name == arguments[0]
            yield url
            peer.send_signal(signal.SIGTERM)
            assert peer.wait(10) == 0
        finally:
            peer.kill()


def test_the_tracker_process_keeps_grants_over_a_restart_and_asks_for_more_to_close(
    tmp_path: Path, person: Callable[..., Person]
) -> None:
    arguments = ("tracker", "--port", str(free_port()), "--state", str(tmp_path / "tracker.json"))
    with process(*arguments) as url:
        issuer = url.removesuffix("/mcp")
        flow = Flow(issuer, register(issuer).json()["client_id"])
        scope = "issues:read issues:write"
        code = answer_of(person("ada").authorize(flow.url(resource=url, scope=scope)))["code"]
        tokens = flow.exchange(code, resource=url).json()
        assert tokens["expires_in"] == 120
        created = call(url, "create_issue", {"title": "It works", "labels": ["new"]}, token=tokens["access_token"])
        assert created.structured_content is not None
        assert created.structured_content["number"] == 4
        assert version(url, token=tokens["access_token"]) == "2026-07-28"
    with process(*arguments) as url:
        whoami = call(url, "whoami", token=tokens["access_token"])
        assert whoami.structured_content == {"user": "ada", "open_issues": 3}
        renewed = flow.refresh(tokens["refresh_token"], resource=url).json()["access_token"]
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "close_issue"}}
        with httpx.Client(trust_env=False, verify=tls_context()) as http:
            refused = http.post(url, json=message, headers={"authorization": f"Bearer {renewed}"})
        assert refused.status_code == 403
        assert 'scope="issues:read issues:write issues:close"' in refused.headers["www-authenticate"]


def test_the_notes_process_trusts_its_sign_in_process(person: Callable[..., Person]) -> None:
    with (
        process("notes-login", "--port", "0") as issuer,
        process("notes", "--port", "0", "--issuer-port", str(urlsplit(issuer).port)) as url,
    ):
        assert get(url).status_code == 401
        assert register(issuer).status_code == 404
        flow = Flow(issuer, NOTES_CLIENT_ID)
        code = answer_of(person("grace").authorize(flow.url(resource=url, scope="notes")))["code"]
        tokens = flow.exchange(code, auth=(NOTES_CLIENT_ID, NOTES_CLIENT_SECRET), resource=url).json()
        assert version(url, token=tokens["access_token"]) == "2025-11-25"
        token = tokens["access_token"]
        call(url, "add_note", {"title": "Shopping", "text": "Tea"}, token=token)
        found = call(url, "search_notes", {"query": "tea"}, token=token).structured_content
        assert found is not None
        assert [note["title"] for note in found["notes"]] == ["Shopping"]
        form = {"token": tokens["refresh_token"], "client_id": NOTES_CLIENT_ID, "client_secret": NOTES_CLIENT_SECRET}
        assert post(f"{issuer}/revoke", form).status_code == 200
        assert get(url, headers={"authorization": f"Bearer {token}"}).status_code == 401


def test_the_board_and_clock_processes_do_their_work() -> None:
    with process("board", "--port", "0") as url:
        assert "www-authenticate" not in get(url).headers
        metrics = call(url, "get_metrics", {"service": "api", "days": 2}, headers={"X-Api-Key": "demo-board-key"})
        assert metrics.structured_content is not None
        assert len(metrics.structured_content["days"]) == 2
    with process("clock", "--port", "0") as url:
        result = call(
            url, "convert_time", {"time": "2026-01-15T12:00", "source": "Europe/Paris", "target": "America/New_York"}
        )
        assert result.structured_content is not None
        assert result.structured_content["hours_apart"] == -6
        tools = with_client(url, lambda client: client.list_tools())
        assert all(tool.annotations.read_only_hint for tool in tools.tools)
        assert json.dumps([tool.input_schema for tool in tools.tools])
