"""One connection for the whole workspace, and the application acting as itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from mcp_oauth import AuthorizationRequired, NotAllowed, call_tool, disconnect, list_tools, start_authorization
from mcp_oauth.exceptions import CredentialsRefused, InsufficientScope
from mcp_oauth.models import McpServer, McpServerOAuth, Membership, StoredListing
from mcp_oauth.services.diagnosis import diagnose_server
from mcp_oauth.services.grants import server_with_grant
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import update_server
from tests.people import browser_of, connect, member, new_server, new_workspace, start
from tests.servers import AuthorizationServerOptions, PreregisteredClient, ProtectedServer

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "the-clients-own-secret"
Peer = Callable[..., ProtectedServer]


def unattended(peer: ProtectedServer, secret: str = SECRET, **options: Any) -> dict[str, Any]:
    """Return the settings of a server that the application opens as itself."""
    return {
        "auth_mode": "client_credentials",
        "client_id": "the-application",
        "client_secret": secret,
        "client_issuer": peer.issuer,
        "options": options,
    }


def identity(**details: Any) -> AuthorizationServerOptions:
    return AuthorizationServerOptions(
        clients=(PreregisteredClient("the-application", **{"client_secret": SECRET, **details}),)
    )


def token_requests(peer: ProtectedServer) -> list[dict[str, str]]:
    return [dict(request.form) for request in peer.authorization_server.requests_to("/token")]


# Shared by the workspace.


def test_an_administrator_connects_once_for_everybody(protected_mcp_server: Peer, person: Callable[..., Any]) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    admin, colleague = member(workspace, role=Membership.Role.ADMIN), member(workspace)
    server = new_server(workspace, peer.url, sharing="workspace")
    with pytest.raises(AuthorizationRequired):
        call_tool(server, colleague, "whoami")

    browser = browser_of(admin)
    answer = start(browser, server)
    callback = person("ada").authorize(answer["authorization_url"])
    assert browser.get("/mcp/oauth/callback/" + callback[callback.index("?") :]).status_code == 200

    assert McpServerOAuth.objects.get().user_id is None
    assert call_tool(server, colleague, "whoami").text == call_tool(server, admin, "whoami").text == "ada"
    assert StoredListing.objects.get().user_id is None
    page = browser_of(colleague).get(f"/workspaces/{workspace.slug}/mcp/").content.decode()
    assert "Shared by the workspace" in page
    assert "Disconnect" not in page


def test_a_member_can_neither_make_nor_end_the_shared_connection(protected_mcp_server: Peer) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, sharing="workspace")

    for attempt in (
        lambda: start_authorization(server, user, browser="b"),
        lambda: disconnect(server, user),
    ):
        with pytest.raises(NotAllowed):
            attempt()
    assert start(browser_of(user), server)["error"]["code"] == "not_allowed"
    assert peer.authorization_server.requests == []


def test_an_administrator_who_became_a_member_meanwhile_connects_nobody(
    protected_mcp_server: Peer, person: Callable[..., Any]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    admin = member(workspace, role=Membership.Role.ADMIN)
    server = new_server(workspace, peer.url, sharing="workspace")
    browser = browser_of(admin)
    callback = person("ada").authorize(start(browser, server)["authorization_url"])
    Membership.objects.update(role=Membership.Role.MEMBER)

    response = browser.get("/mcp/oauth/callback/" + callback[callback.index("?") :])

    assert (response.status_code, response.context["code"]) == (403, "not_allowed")
    assert token_requests(peer) == []


def test_a_change_of_sharing_ends_what_was_granted(protected_mcp_server: Peer, person: Callable[..., Any]) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace, role=Membership.Role.ADMIN)
    server = new_server(workspace, peer.url)
    connect(browser_of(user), server, person("ada"))

    update_server(server, ServerSettings(name="Tracker", url=peer.url, auth_mode="oauth", sharing="workspace"))

    with pytest.raises(AuthorizationRequired) as needed:
        call_tool(server, user, "whoami")
    assert needed.value.reason == "not_connected"
    assert len(peer.authorization_server.requests_to("/revoke")) == 2


# The application's own identity.


@pytest.mark.requirement("ext-cc-authenticated")
@pytest.mark.parametrize(
    ("changed", "opens"),
    [({}, True), ({"sharing": "workspace"}, False), ({"auth_mode": "headers"}, False), ({"generation": 2}, False)],
)
def test_a_grant_left_from_before_opens_nothing(changed: dict[str, Any], opens: bool) -> None:
    workspace = new_workspace()
    user = member(workspace)
    server = McpServer.objects.create(
        workspace=workspace, name="Tracker", slug="tracker", url="https://mcp.example/mcp", auth_mode="oauth"
    )
    McpServerOAuth.objects.create(server=server, user=user, access_token="one's own", connected_at=timezone.now())
    McpServer.objects.filter(pk=server.pk).update(**changed)

    for reference in (server.pk, server.natural_name()):
        found, grant = server_with_grant(user, reference)

        assert found == server
        assert (grant is not None) is opens


def test_the_application_acts_as_itself_and_asks_nobody(protected_mcp_server: Peer) -> None:
    peer = protected_mcp_server(as_options=identity())
    workspace = new_workspace()
    user, colleague = member(workspace), member(workspace)
    server = new_server(workspace, peer.url, **unattended(peer))

    assert call_tool(server, user, "whoami").text == "the-application"
    assert call_tool(server, colleague, "whoami").text == "the-application"

    requests = token_requests(peer)
    assert [request["grant_type"] for request in requests] == ["client_credentials"]
    assert requests[0]["resource"] == peer.url
    assert requests[0]["scope"] == "read"
    assert McpServerOAuth.objects.get().user_id is None
    assert "own identity" in browser_of(user).get(f"/workspaces/{workspace.slug}/mcp/").content.decode()


def test_a_token_that_ends_or_is_refused_is_asked_for_again_once(protected_mcp_server: Peer) -> None:
    peer = protected_mcp_server(as_options=identity())
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, **unattended(peer))
    call_tool(server, user, "whoami")

    peer.authorization_server.expire_access_tokens()
    assert call_tool(server, user, "whoami").text == "the-application"
    assert len(token_requests(peer)) == 2

    peer.reject_tokens()
    with pytest.raises(CredentialsRefused):
        call_tool(server, user, "whoami")
    assert len(token_requests(peer)) == 3


@pytest.mark.requirement("ext-cc-assertion", "ext-cc-authenticated", "rfc9700-2.5-asymmetric", "rfc7523-2.2-assertion")
@pytest.mark.requirement("ext-cc-credentials-protected")
def test_a_private_key_signs_instead_of_being_sent(protected_mcp_server: Peer) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    peer = protected_mcp_server(as_options=identity(client_secret=None, public_key=public.decode()))
    workspace = new_workspace()
    # As it arrives from a field of one line.
    server = new_server(workspace, peer.url, **unattended(peer, pem.replace("\n", "")))

    assert call_tool(server, member(workspace), "whoami").text == "the-application"

    (request,) = token_requests(peer)
    assert "client_secret" not in request
    assert request["client_assertion"].count(".") == 2
    assert not any("PRIVATE KEY" in str(seen.form) for seen in peer.authorization_server.requests)


def test_a_refused_identity_is_said_to_administrators_and_tried_again_after_a_while(
    protected_mcp_server: Peer,
) -> None:
    peer = protected_mcp_server(as_options=identity())
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, **unattended(peer, "a-wrong-secret"))
    for _ in range(3):
        with pytest.raises(CredentialsRefused) as refused:
            list_tools(server, user)
    assert "client" in refused.value.user_message
    assert len(token_requests(peer)) == 1

    with override_settings(MCP_OAUTH=settings_with(UNATTENDED_RETRY_SECONDS=0.0)), pytest.raises(CredentialsRefused):
        list_tools(server, user)
    assert len(token_requests(peer)) == 2

    update_server(server, ServerSettings(name="Tracker", url=peer.url, **unattended(peer)))
    assert call_tool(server, user, "whoami").text == "the-application"


def settings_with(**changes: Any) -> dict[str, Any]:
    from django.conf import settings

    return {**settings.MCP_OAUTH, **changes}


def test_a_scope_that_lacks_is_for_an_administrator_to_enter(protected_mcp_server: Peer) -> None:
    peer = protected_mcp_server(as_options=identity(), tool_scopes={"fail": "admin"})
    server = new_server(new_workspace(), peer.url, **unattended(peer))

    with pytest.raises(InsufficientScope) as lacks:
        call_tool(server, member(server.workspace), "fail")

    assert "administrator" in lacks.value.next_step
    assert McpServerOAuth.objects.get().wanted_scope == ""


@pytest.mark.requirement("ext-cc-credentials-protected")
def test_the_secret_goes_to_its_issuer_only(protected_mcp_server: Peer) -> None:
    peer = protected_mcp_server(as_options=identity())
    other = protected_mcp_server(as_options=identity())
    workspace = new_workspace()
    server = new_server(workspace, peer.url, **{**unattended(peer), "client_issuer": other.issuer})

    with pytest.raises(CredentialsRefused):
        call_tool(server, member(workspace), "whoami")

    assert token_requests(peer) == token_requests(other) == []


def test_the_command_adds_such_a_server(protected_mcp_server: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = protected_mcp_server(as_options=identity())
    new_workspace("acme")
    monkeypatch.setattr("sys.stdin", StringIO(SECRET + "\n"))

    call_command(
        "add_mcp_server", "Robot", peer.url, "--workspace", "acme", "--auth", "client_credentials",
        "--client-id", "the-application", "--client-secret-stdin", "--issuer", peer.issuer, stdout=StringIO(),
    )  # fmt: skip

    out = StringIO()
    call_command("list_mcp_tools", "--server", "acme/robot", stdout=out)
    assert "whoami" in out.getvalue()
    assert McpServer.objects.get().client_secret == SECRET


def test_without_a_client_nothing_is_saved(protected_mcp_server: Peer) -> None:
    from mcp_oauth.exceptions import InvalidRequest

    peer = protected_mcp_server(as_options=identity())
    with pytest.raises(InvalidRequest):
        new_server(new_workspace(), peer.url, auth_mode="client_credentials")
    assert not McpServer.objects.exists()


def test_an_authorization_server_that_nobody_signs_in_at_serves_the_application(protected_mcp_server: Peer) -> None:
    # RFC 8414 §2: without a grant that begins there, there is no authorization endpoint, and no PKCE to announce.
    nobody_signs_in = {
        "authorization_endpoint": None,
        "response_types_supported": [],
        "code_challenge_methods_supported": None,
        "grant_types_supported": ["client_credentials"],
    }
    peer = protected_mcp_server(as_options=replace(identity(), metadata_overrides=nobody_signs_in))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, **unattended(peer))

    assert call_tool(server, user, "whoami").text == "the-application"
    assert diagnose_server(server).failures == ()

    for_people = new_server(workspace, peer.url, name="For people", client_id="app", auth_mode="oauth")
    refused = start(browser_of(user), for_people)["error"]
    assert (refused["code"], refused["field"]) == ("discovery_failed", "authorization_endpoint")
