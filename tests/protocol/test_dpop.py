"""Tokens that are bound to a key of their grant, as authorization server and MCP server see them (RFC 9449)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.contrib.auth.models import User
from django.db import connection

from mcp_oauth import AuthorizationRequired, call_tool, list_tools
from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InsufficientScope, TokenEndpointUnavailable
from mcp_oauth.fields import sealed_value
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.models import McpServer, McpServerOAuth
from mcp_oauth.oauth.dpop import dpop_proof, new_dpop_key
from mcp_oauth.services.grants import usable_grant
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import update_server
from mcp_oauth.services.wire import fetch, target_for
from project.peers.dpop import ProofRefused, thumbprint
from tests.people import browser_of, connect, member, new_server, new_workspace, pause_is_over
from tests.servers import AuthorizationServerOptions, PreregisteredClient, ProtectedServer, RecordedRequest

pytestmark = pytest.mark.django_db(transaction=True)

Peer = Callable[..., ProtectedServer]
Persons = Callable[..., Any]
# What an authorization server says that can bind tokens but does not insist on it.
ANNOUNCED = {"dpop_signing_alg_values_supported": ["ES256"]}


@pytest.fixture
def bound_peer(protected_mcp_server: Peer) -> Peer:
    """Serve an MCP server and an authorization server that take bound tokens only: ``bound_peer(nonces=True)``."""

    def serve(era: str = "modern", *, nonces: bool = False, resource: Any = None, **options: Any) -> ProtectedServer:
        return protected_mcp_server(
            era,
            as_options=AuthorizationServerOptions(cimd=False, require_dpop=True, dpop_nonces=nonces, **options),
            resource_options={"require_dpop": True, "dpop_nonces": nonces, **(resource or {})},
        )

    return serve


def connected(peer: ProtectedServer, person: Any, **details: Any) -> tuple[McpServer, User, McpServerOAuth]:
    """Connect a new person at a new server that is the peer's."""
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, **details)
    return server, user, connect(browser_of(user), server, person)


def claims(request: RecordedRequest) -> dict[str, Any]:
    return jwt.decode(request.headers["dpop"], options={"verify_signature": False})


def key_of(request: RecordedRequest) -> str:
    return thumbprint(jwt.get_unverified_header(request.headers["dpop"])["jwk"])


def token_requests(peer: ProtectedServer) -> list[RecordedRequest]:
    return peer.authorization_server.requests_to("/token")


def with_tokens(peer: ProtectedServer) -> list[RecordedRequest]:
    """Return what reached the MCP server with a token."""
    return [request for request in peer.mcp_requests if request.authorization]


def everything(peer: ProtectedServer) -> list[RecordedRequest]:
    return [*peer.requests, *peer.authorization_server.requests]


def unused(requests: Sequence[RecordedRequest]) -> bool:
    """Whether no proof was sent twice."""
    seen = [claims(request)["jti"] for request in requests]
    return len(set(seen)) == len(seen)


def send(url: str, request: RecordedRequest, **headers: str) -> httpx.Response:
    """Repeat a recorded request as somebody would who saw it."""
    kept = {name: value for name, value in request.headers.items() if name not in {"host", "content-length", "dpop"}}
    with httpx.Client(trust_env=False, timeout=10) as client:
        return client.post(url, content=request.body, headers={**kept, **headers})


# What is sent.


@pytest.mark.requirement("ext-dpop-proof", "ext-dpop-scheme", "rfc9449-5-token-request", "rfc9449-7.1-scheme")
@pytest.mark.requirement("rfc9700-2.2.1-bound")
def test_a_connected_person_calls_with_a_bound_token_and_a_proof_for_each_request(
    bound_peer: Peer, person: Persons
) -> None:
    peer = bound_peer()

    server, user, grant = connected(peer, person("ada"))
    assert call_tool(server, user, "whoami").text == "ada"
    assert call_tool(server, user, "whoami").text == "ada"

    assert grant.token_type == "DPoP"
    (exchange,) = token_requests(peer)
    assert (claims(exchange)["htm"], claims(exchange)["htu"]) == ("POST", f"{peer.issuer}/token")
    assert "ath" not in claims(exchange)
    calls = with_tokens(peer)
    assert len(calls) >= 2
    assert all(request.authorization == f"DPoP {grant.access_token}" for request in calls)
    assert {claims(request)["htu"] for request in calls} == {peer.url}
    assert {key_of(request) for request in [exchange, *calls]} == {key_of(exchange)}
    assert unused([exchange, *calls])


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_server_of_either_era_gets_its_proofs(era: str, bound_peer: Peer, person: Persons) -> None:
    server, user, _grant = connected(bound_peer(era), person("ada"))

    assert list_tools(server, user).tools
    assert call_tool(server, user, "whoami").text == "ada"


@pytest.mark.requirement("rfc9449-5-refresh-key")
def test_a_refresh_proves_the_key_of_the_grant_and_keeps_it(bound_peer: Peer, person: Persons) -> None:
    peer = bound_peer()
    server, user, before = connected(peer, person("ada"))
    peer.authorization_server.expire_access_tokens()

    assert call_tool(server, user, "whoami").text == "ada"

    after = McpServerOAuth.objects.get()
    assert after.access_token != before.access_token
    assert after.dpop_key == before.dpop_key
    exchange, refresh = token_requests(peer)
    assert refresh.form["grant_type"] == "refresh_token"
    assert key_of(refresh) == key_of(exchange)
    assert unused([exchange, refresh])


def test_two_grants_have_two_keys_and_a_new_connection_has_a_new_one(bound_peer: Peer, person: Persons) -> None:
    peer = bound_peer()
    ada, grace = person("ada"), person("grace")
    server, user, grant = connected(peer, ada)
    _server, _user, other = connected(peer, grace)
    browser = browser_of(user)
    again = browser.post(
        "/mcp/oauth/start/", {"server": str(server.pk), "again": "1"}, headers={"accept": "application/json"}
    ).json()
    callback = ada.authorize(again["authorization_url"])
    assert browser.get("/mcp/oauth/callback/" + callback[callback.index("?") :]).status_code == 200

    renewed = McpServerOAuth.objects.get(pk=grant.pk)
    assert len({grant.dpop_key, other.dpop_key, renewed.dpop_key}) == 3
    assert len({key_of(request) for request in token_requests(peer)}) == 3
    assert call_tool(server, user, "whoami").text == "ada"


def test_the_application_as_itself_proves_a_key_as_well(bound_peer: Peer) -> None:
    # The client signs for itself too, and neither signature may be used twice.
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    peer = bound_peer(nonces=True, clients=(PreregisteredClient("the-application", public_key=public.decode()),))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(
        workspace,
        peer.url,
        auth_mode="client_credentials",
        client_id="the-application",
        client_secret=pem,
        client_issuer=peer.issuer,
    )

    assert call_tool(server, user, "whoami").text == "the-application"
    first = McpServerOAuth.objects.get().dpop_key
    peer.authorization_server.expire_access_tokens()
    assert call_tool(server, user, "whoami").text == "the-application"

    assert first
    assert McpServerOAuth.objects.get().dpop_key
    requests = token_requests(peer)
    assert ["nonce" in claims(request) for request in requests] == [False, True, False, True]
    assert len({request.form["client_assertion"] for request in requests}) == 4


# Nonces.


@pytest.mark.requirement("rfc9449-4.2-nonce")
def test_both_servers_get_their_nonce_after_asking_once(bound_peer: Peer, person: Persons) -> None:
    peer = bound_peer(nonces=True)
    server, user, _grant = connected(peer, person("ada"))

    assert call_tool(server, user, "whoami").text == "ada"

    assert [claims(request).get("nonce") for request in token_requests(peer)] == [
        None,
        peer.authorization_server.proofs.nonce,
    ]
    # Negotiating and listing is one session, in which the nonce is asked for once.
    nonces = [claims(request).get("nonce") for request in with_tokens(peer)]
    assert nonces[:3] == [None, peer.resource.proofs.nonce, peer.resource.proofs.nonce]
    assert unused([*token_requests(peer), *with_tokens(peer)])


def test_a_session_of_the_older_era_goes_on_after_the_nonce(bound_peer: Peer, person: Persons) -> None:
    peer = bound_peer("legacy", nonces=True)
    server, user, _grant = connected(peer, person("ada"))

    list_tools(server, user)
    before = len(with_tokens(peer))

    assert call_tool(server, user, "whoami").text == "ada"

    session = with_tokens(peer)[before:]
    # The standing stream and the call, in the session that the listing opened; each learns the nonce anew.
    assert [request.rpc_method for request in session] == [None, None, "tools/call", "tools/call"]
    assert ["nonce" in claims(request) for request in session] == [False, True, False, True]


def test_a_call_that_is_repeated_with_a_nonce_runs_once(bound_peer: Peer, person: Persons) -> None:
    peer = bound_peer(nonces=True)
    server, user, _grant = connected(peer, person("ada"))
    list_tools(server, user)
    peer.resource.proofs.rotate_nonce()
    before = len(with_tokens(peer))

    assert call_tool(server, user, "whoami").text == "ada"

    first, second = with_tokens(peer)[before:]
    assert (first.tool, second.tool) == ("whoami", "whoami")
    assert first.body == second.body
    assert claims(second)["nonce"] == peer.resource.proofs.nonce
    assert len(token_requests(peer)) == 2  # the 401 was no reason to renew the token


@pytest.mark.requirement("rfc9449-8.2-newest")
def test_a_refresh_gives_a_new_nonce_back(bound_peer: Peer, person: Persons) -> None:
    peer = bound_peer(nonces=True)
    server, user, _grant = connected(peer, person("ada"))
    peer.authorization_server.proofs.rotate_nonce()
    peer.authorization_server.expire_access_tokens()

    assert call_tool(server, user, "whoami").text == "ada"

    nonces = [claims(request).get("nonce") for request in token_requests(peer)]
    assert nonces[2:] == [None, peer.authorization_server.proofs.nonce]


def test_asking_twice_takes_no_longer_than_asking_once_may(
    bound_peer: Peer, person: Persons, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A lease that ended in between would let another process spend the same refresh token.
    peer = bound_peer(nonces=True)
    limits: list[float | None] = []

    def noting(request: HttpRequest, *, seconds: float | None = None, **options: Any) -> HttpResponse:
        if request.url.endswith("/token"):
            limits.append(seconds)
        return fetch(request, seconds=seconds, **options)

    monkeypatch.setattr("mcp_oauth.services.wire.fetch", noting)
    connected(peer, person("ada"))

    first, second = limits
    assert first is not None
    assert second is not None
    assert 0 < second < first <= settings.OAUTH_REQUEST_SECONDS


def never_content(*_args: Any, **_kwargs: Any) -> str:
    raise ProofRefused("use_dpop_nonce", "Another nonce, please.")


def test_a_server_that_never_is_content_with_a_nonce_is_asked_twice_for_each_token(
    bound_peer: Peer, person: Persons, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = bound_peer(nonces=True)
    server, user, _grant = connected(peer, person("ada"))
    monkeypatch.setattr(peer.resource.proofs, "check", never_content)

    with pytest.raises(AuthorizationRequired) as needed:
        call_tool(server, user, "whoami")

    assert needed.value.reason == "rejected"
    assert len(with_tokens(peer)) == 4


def test_an_endpoint_that_never_is_content_with_a_nonce_ends_no_grant(
    bound_peer: Peer, person: Persons, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = bound_peer(nonces=True)
    server, user, _grant = connected(peer, person("ada"))
    peer.authorization_server.expire_access_tokens()
    McpServerOAuth.objects.update(expires_at="2001-01-01T00:00:00Z")
    before = len(token_requests(peer))
    with monkeypatch.context() as patched:
        patched.setattr(peer.authorization_server.proofs, "check", never_content)
        with pytest.raises(TokenEndpointUnavailable):
            call_tool(server, user, "whoami")
    assert len(token_requests(peer)) == before + 2

    assert McpServerOAuth.objects.get().is_active
    pause_is_over()
    assert call_tool(server, user, "whoami").text == "ada"


# What it is good for.


def test_a_stolen_token_opens_nothing_without_its_key(bound_peer: Peer, person: Persons) -> None:
    peer = bound_peer()
    server, user, grant = connected(peer, person("ada"))
    call_tool(server, user, "whoami")
    seen = with_tokens(peer)[-1]
    token = grant.access_token or ""

    def proof(key: str) -> str:
        return dpop_proof(key, method="POST", url=peer.url, access_token=token, now=seen.at)

    mine, theirs = grant.dpop_key or "", new_dpop_key()
    for headers in (
        {"authorization": f"Bearer {token}"},
        {"authorization": f"DPoP {token}"},
        {"authorization": f"DPoP {token}", "dpop": proof(theirs)},
        {"authorization": f"Bearer {token}", "dpop": proof(mine)},
    ):
        assert send(peer.url, seen, **headers).status_code == 401
    assert send(peer.url, seen, authorization=f"DPoP {token}", dpop=proof(mine)).status_code == 200

    # Nor does a server that knows bearer tokens only take it for one.
    peer.configure(require_dpop=False)
    assert send(peer.url, seen, authorization=f"Bearer {token}").status_code == 401


def test_a_stolen_refresh_token_is_refused_without_its_key(bound_peer: Peer, person: Persons) -> None:
    peer = bound_peer()
    _server, _user, grant = connected(peer, person("ada"))
    form = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token, "client_id": grant.client_id}
    proof = dpop_proof(new_dpop_key(), method="POST", url=grant.token_endpoint, now=token_requests(peer)[0].at)

    with httpx.Client(trust_env=False, timeout=10) as client:
        answer = client.post(grant.token_endpoint, data=form, headers={"dpop": proof})

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_a_request_that_was_overheard_cannot_be_repeated(bound_peer: Peer, person: Persons) -> None:
    peer = bound_peer()
    server, user, _grant = connected(peer, person("ada"))
    call_tool(server, user, "whoami")
    seen = with_tokens(peer)[-1]

    answer = send(peer.url, seen, dpop=seen.headers["dpop"])

    assert answer.status_code == 401
    assert 'error="invalid_dpop_proof"' in answer.headers["www-authenticate"]


@pytest.mark.requirement("T22")
def test_a_dpop_challenge_leads_to_more_access(protected_mcp_server: Peer, person: Persons) -> None:
    peer = protected_mcp_server(
        as_options=AuthorizationServerOptions(cimd=False, require_dpop=True),
        tool_scopes={"whoami": "write"},
        resource_options={"require_dpop": True},
    )
    server, user, _grant = connected(peer, person("ada"))
    with pytest.raises(InsufficientScope) as lacking:
        call_tool(server, user, "whoami")
    assert lacking.value.scope == "read write"

    connect(browser_of(user), server, person("ada"))

    assert call_tool(server, user, "whoami").text == "ada"


# Where it is not used.


def test_a_server_without_dpop_sees_no_proof(protected_mcp_server: Peer, person: Persons) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    server, user, grant = connected(peer, person("ada"))
    peer.authorization_server.expire_access_tokens()

    assert call_tool(server, user, "whoami").text == "ada"

    assert (grant.token_type, grant.dpop_key) == ("Bearer", None)
    assert not any("dpop" in request.headers for request in everything(peer))


def test_the_option_off_sends_none(protected_mcp_server: Peer, person: Persons) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False, metadata_overrides=ANNOUNCED))
    server, user, grant = connected(peer, person("ada"), options={"dpop": "off"})
    peer.authorization_server.expire_access_tokens()

    assert call_tool(server, user, "whoami").text == "ada"

    assert (grant.token_type, grant.dpop_key) == ("Bearer", None)
    assert not any("dpop" in request.headers for request in everything(peer))


@pytest.mark.requirement("mcp-auth-bearer-header")
def test_an_authorization_server_that_binds_nothing_is_taken_at_its_word(
    protected_mcp_server: Peer, person: Persons
) -> None:
    peer = protected_mcp_server(
        as_options=AuthorizationServerOptions(cimd=False, metadata_overrides=ANNOUNCED),
        resource_options={"announce_dpop": True},
    )
    server, user, grant = connected(peer, person("ada"))
    peer.authorization_server.expire_access_tokens()

    assert call_tool(server, user, "whoami").text == "ada"

    assert grant.token_type == "Bearer"
    assert all("dpop" in request.headers for request in token_requests(peer))
    assert len({key_of(request) for request in token_requests(peer)}) == 1
    assert all((request.authorization or "").startswith("Bearer ") for request in with_tokens(peer))
    assert not any("dpop" in request.headers for request in peer.mcp_requests)


def test_a_server_that_shows_no_sign_of_it_gets_bearer_tokens_whatever_its_authorization_server_announces(
    protected_mcp_server: Peer, person: Persons
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False, metadata_overrides=ANNOUNCED))
    server, user, grant = connected(peer, person("ada"))

    assert call_tool(server, user, "whoami").text == "ada"

    assert (grant.token_type, grant.dpop_key) == ("Bearer", None)
    assert not any("dpop" in request.headers for request in everything(peer))


def test_switching_it_off_leaves_grants_usable_until_they_are_made_again(bound_peer: Peer, person: Persons) -> None:
    peer = bound_peer()
    server, user, _grant = connected(peer, person("ada"))
    update_server(server, ServerSettings(name=server.name, url=server.url, auth_mode="oauth", options={"dpop": "off"}))
    peer.authorization_server.expire_access_tokens()
    assert call_tool(server, user, "whoami").text == "ada"

    peer.configure(require_dpop=False)
    peer.configure_authorization_server(require_dpop=False, metadata_overrides=ANNOUNCED)
    peer.authorization_server.revoke_refresh_tokens()
    peer.authorization_server.expire_access_tokens()
    with pytest.raises(AuthorizationRequired):
        call_tool(server, user, "whoami")
    grant = connect(browser_of(user), server, person("ada"))
    assert (grant.token_type, grant.dpop_key) == ("Bearer", None)
    assert call_tool(server, user, "whoami").text == "ada"


# Custody.


@pytest.mark.requirement("ext-dpop-key-protected", "T41")
def test_the_key_is_sealed_and_shown_nowhere(
    bound_peer: Peer, person: Persons, caplog: pytest.LogCaptureFixture, admin_client: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    peer = bound_peer(nonces=True)
    server, user, grant = connected(peer, person("ada"))
    peer.authorization_server.expire_access_tokens()
    call_tool(server, user, "whoami")
    grant = McpServerOAuth.objects.get()
    key = grant.dpop_key or ""
    secret = "".join(key.split("-----")[2].split())
    assert len(secret) > 100

    usable = usable_grant(server, user)
    target = target_for(server, access_token=usable.access_token, dpop_key=usable.dpop_key)
    browser = browser_of(user)
    shown = [
        caplog.text,
        repr([usable, target, grant, replace(target, url="https://a.example/")]),
        json.dumps(McpServerOAuth.objects.filter(pk=grant.pk).values().first(), default=str),
        browser.get(f"/workspaces/{server.workspace.slug}/mcp/").content.decode(),
        admin_client.get(f"/admin/mcp_oauth/mcpserveroauth/{grant.pk}/change/").content.decode(),
        browser.get("/api/v1/servers/").content.decode(),
        browser.get(f"/api/v1/servers/{server.pk}/tools/").content.decode(),
        admin_client.get("/admin/mcp_oauth/mcpserveroauth/").content.decode(),
        *(str(request.headers) + request.body.decode() for request in everything(peer)),
    ]

    assert "DPoP" in shown[4]
    assert not any("PRIVATE KEY" in text or secret[:40] in text or secret[-40:] in text for text in shown)
    assert (sealed_value(grant, "dpop_key") or "").startswith("v1.")


def test_a_key_that_can_no_longer_be_read_asks_the_person_to_reconnect(bound_peer: Peer, person: Persons) -> None:
    peer = bound_peer()
    server, user, _grant = connected(peer, person("ada"))
    _server, _user, other = connected(peer, person("grace"))
    # Moved there from another row, as somebody could who writes the database.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE mcp_oauth_mcpserveroauth SET dpop_key = %s", [sealed_value(other, "dpop_key")])

    with pytest.raises(AuthorizationRequired) as needed:
        call_tool(server, user, "whoami")

    assert needed.value.reason == "unreadable"
    assert not with_tokens(peer)
