"""Whatever way a grant goes, the provider is told: no living token is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from mcp_oauth import disconnect
from mcp_oauth.models import McpServer, McpServerOAuth, Membership, Workspace
from mcp_oauth.services.servers import delete_server
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, PreregisteredClient, ProtectedServer, json_fault

pytestmark = pytest.mark.django_db(transaction=True)

WAYS: dict[str, Callable[[McpServerOAuth], Any]] = {
    "the membership is removed": lambda grant: Membership.objects.all().delete(),
    "the person is deleted": lambda grant: User.objects.all().delete(),
    "the server is deleted": lambda grant: McpServer.objects.filter(pk=grant.server_id).delete(),
    "the workspace is deleted": lambda grant: Workspace.objects.all().delete(),
    "the row is deleted": lambda grant: grant.delete(),
}


@pytest.mark.requirement("ext-ema-revocation", "T26")
@pytest.mark.parametrize("way", WAYS)
def test_the_provider_is_told_when(
    way: str, protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace)
    grant = connect(browser_of(user), new_server(workspace, peer.url), person("ada"))
    token = grant.access_token or ""

    WAYS[way](grant)

    hints = [request.form["token_type_hint"] for request in peer.authorization_server.requests_to("/revoke")]
    assert hints == ["refresh_token", "access_token"]
    assert peer.authorization_server.introspect(token) is None
    assert not McpServerOAuth.objects.exists()


def test_nothing_is_told_when_the_deletion_is_taken_back(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace)
    connect(browser_of(user), new_server(workspace, peer.url), person("ada"))

    with transaction.atomic():
        workspace.delete()
        assert peer.authorization_server.requests_to("/revoke") == []
        transaction.set_rollback(True)

    assert not connection.in_atomic_block
    assert peer.authorization_server.requests_to("/revoke") == []
    assert McpServerOAuth.objects.count() == 1


@pytest.mark.requirement("T26")
def test_a_disconnect_tells_it_once(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    browser = browser_of(member(workspace))
    server = new_server(workspace, peer.url)
    connect(browser, server, person("ada"))

    browser.post("/mcp/oauth/disconnect/", {"server": str(server.pk)})

    assert len(peer.authorization_server.requests_to("/revoke")) == 2


def test_a_secret_is_shown_by_the_other_method_where_the_revocation_endpoint_wants_that(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    client = PreregisteredClient(
        "app",
        client_secret="s3cret",
        redirect_uris=("http://127.0.0.1:8000/mcp/oauth/callback/",),
        token_endpoint_auth_method="",
    )
    peer = protected_mcp_server(
        as_options=AuthorizationServerOptions(clients=(client,), revocation_auth_methods=("client_secret_basic",))
    )
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, client_id="app", client_secret="s3cret")
    token = connect(browser_of(user), server, person("ada")).access_token or ""

    ended = disconnect(server, user)

    assert ended.revoked is True
    assert peer.authorization_server.introspect(token) is None


def test_an_empty_secret_is_shown_where_the_revocation_endpoint_wants_one_of_public_clients(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    def answer(form: Any) -> Any:
        return (200, {}, b"") if form.get("client_secret") == "" else json_fault(400, "invalid_request")

    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False, revocation_faults=answer))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(user), server, person("ada"))

    assert disconnect(server, user).revoked is True
    assert len(peer.authorization_server.requests_to("/revoke")) == 4


def test_a_grant_that_needs_its_person_and_still_holds_tokens_is_revoked_with_the_server(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    for name, reason in (("ada", "rejected"), ("grace", "server_changed")):
        grant = connect(browser_of(member(workspace)), server, person(name))
        grant.state, grant.reason = McpServerOAuth.State.NEEDS_REAUTHORIZATION, reason
        if reason == "server_changed":
            grant.access_token = grant.refresh_token = None
        grant.save()

    ended = delete_server(server)

    assert len(peer.authorization_server.requests_to("/revoke")) == 2
    assert (ended.confirmed, ended.unconfirmed, ended.not_offered) == (1, 0, 0)
