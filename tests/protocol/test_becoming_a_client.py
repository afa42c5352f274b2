"""Registering where not everybody may, waiting where a provider asks to, and the two dialects of Basic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from mcp_oauth import call_tool
from mcp_oauth.models import McpServer, McpServerOAuth, Membership, OAuthRegistration
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import update_server
from tests.caching import empty_cache
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, start
from tests.servers import (
    AuthorizationServerOptions,
    AuthorizationServerPeer,
    PreregisteredClient,
    ProtectedServer,
    json_fault,
)

pytestmark = pytest.mark.django_db(transaction=True)

Peers = Callable[..., ProtectedServer]
Persons = Callable[..., Any]
TOKEN = "initial-access-token"
GUARDED = AuthorizationServerOptions(cimd=False, registration_token=TOKEN)


def bearers(peer: ProtectedServer, path: str) -> list[str | None]:
    return [request.headers.get("authorization") for request in peer.authorization_server.requests_to(path)]


# The token to register with.


def test_a_token_to_register_with_is_shown_where_clients_are_registered_and_nowhere_else(
    protected_mcp_server: Peers, person: Persons
) -> None:
    peer = protected_mcp_server(as_options=GUARDED)
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, initial_access_token=TOKEN)
    connect(browser_of(user), server, person("ada"))

    assert call_tool(server, user, "whoami").text == "ada"
    assert bearers(peer, "/register") == [f"Bearer {TOKEN}"]
    elsewhere = [*peer.requests, *peer.authorization_server.requests]
    assert [request.path for request in elsewhere if TOKEN in str(request.headers) + str(request.form)] == ["/register"]
    # It belongs to the issuer it was first shown to.
    server.refresh_from_db()
    assert server.client_issuer == peer.issuer


def test_without_it_the_person_reads_what_an_administrator_has_to_enter(protected_mcp_server: Peers) -> None:
    peer = protected_mcp_server(as_options=GUARDED)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)

    refused = start(browser_of(member(workspace)), server)

    assert refused["error"]["code"] == "registration_failed"
    assert "token to register with" in refused["error"]["next_step"]


def test_it_is_not_shown_to_another_issuer(
    protected_mcp_server: Peers, authorization_server: Callable[..., AuthorizationServerPeer], person: Persons
) -> None:
    peer = protected_mcp_server(as_options=GUARDED)
    other = authorization_server(AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    browser = browser_of(member(workspace))
    server = new_server(workspace, peer.url, initial_access_token=TOKEN)
    connect(browser, server, person("ada"))
    OAuthRegistration.objects.all().delete()
    peer.configure(authorization_servers=(other.issuer,))

    refused = start(browser, server, again="1")

    assert refused["error"]["code"] == "configuration_error"
    assert other.requests_to("/register") == []


def test_it_stays_with_the_origin_and_issuer_it_was_entered_for(protected_mcp_server: Peers) -> None:
    peer, elsewhere = protected_mcp_server(as_options=GUARDED), protected_mcp_server(as_options=GUARDED)
    workspace = new_workspace()
    server = new_server(workspace, peer.url, initial_access_token=TOKEN)

    update_server(server, ServerSettings(name="Renamed", url=peer.url))
    assert McpServer.objects.get().initial_access_token == TOKEN
    update_server(server, ServerSettings(name="Moved", url=elsewhere.url))
    assert McpServer.objects.get().initial_access_token is None


def test_an_administrator_enters_it_and_takes_it_back_and_never_reads_it(protected_mcp_server: Peers) -> None:
    peer = protected_mcp_server(as_options=GUARDED)
    workspace = new_workspace()
    browser = browser_of(member(workspace, role=Membership.Role.ADMIN))
    server = new_server(workspace, peer.url)
    address = f"/workspaces/{workspace.slug}/mcp/{server.pk}/edit/"
    form = {"name": "Tracker", "url": peer.url, "enabled": "on"}

    browser.post(address, {**form, "initial_access_token": TOKEN})
    assert McpServer.objects.get().initial_access_token == TOKEN
    page = browser.get(address).content.decode()
    assert "a token to register with is stored" in page
    assert TOKEN not in page

    browser.post(address, form)
    assert McpServer.objects.get().initial_access_token == TOKEN
    browser.post(address, {**form, "clear_initial_access_token": "on"})
    assert McpServer.objects.get().initial_access_token is None


# A provider that limits registrations.


def test_a_provider_that_limits_registrations_is_left_alone_for_as_long_as_it_says(
    protected_mcp_server: Peers, person: Persons
) -> None:
    limit = json_fault(429, "too_many_requests", headers={"retry-after": "1200"})
    peer = protected_mcp_server(
        as_options=AuthorizationServerOptions(cimd=False, registration_faults=lambda form: limit)
    )
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    first, second = (start(browser_of(member(workspace)), server)["error"] for _person in range(2))

    assert (first["code"], second["code"]) == ("registration_failed", "registration_failed")
    assert first["next_step"] == second["next_step"] == "Try again in 20 minutes."
    assert len(peer.authorization_server.requests_to("/register")) == 1

    empty_cache()
    peer.configure_authorization_server(registration_faults=None)
    connect(browser_of(member(workspace)), server, person("ada"))


def test_the_limit_of_one_provider_is_not_that_of_another(protected_mcp_server: Peers, person: Persons) -> None:
    limit = json_fault(429, "too_many_requests")
    limited = protected_mcp_server(
        as_options=AuthorizationServerOptions(cimd=False, registration_faults=lambda form: limit)
    )
    other = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    browser = browser_of(member(workspace))
    assert "error" in start(browser, new_server(workspace, limited.url))

    connect(browser, new_server(workspace, other.url, name="Other"), person("ada"))


# How the client shows itself.


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic", "none"])
def test_the_method_an_administrator_chose_is_asked_for_when_registering(
    method: str, protected_mcp_server: Peers, person: Persons
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    options = {"registration": "dynamic", "token_endpoint_auth_method": method}
    server = new_server(workspace, peer.url, options=options)
    connect(browser_of(member(workspace)), server, person("ada"))

    registration = OAuthRegistration.objects.get()
    client = peer.authorization_server.registry.clients[registration.client_id]
    assert (client.token_endpoint_auth_method, registration.token_endpoint_auth_method) == (method, method)


@pytest.mark.parametrize(("dialect", "asked"), [("allowed", 1), ("refused", 1), ("required", 2)])
def test_both_dialects_of_basic_authentication_work_and_the_right_one_is_remembered(
    dialect: str, asked: int, protected_mcp_server: Peers, person: Persons
) -> None:
    client = PreregisteredClient(
        "app", client_secret="s3cret", redirect_uris=(REDIRECT_URI,), token_endpoint_auth_method="client_secret_basic"
    )
    peer = protected_mcp_server(
        as_options=AuthorizationServerOptions(clients=(client,), basic_client_id_in_body=dialect)  # type: ignore[arg-type]
    )
    workspace = new_workspace()
    user = member(workspace)
    basic = {"token_endpoint_auth_method": "client_secret_basic"}
    server = new_server(workspace, peer.url, client_id="app", client_secret="s3cret", options=basic)
    connect(browser_of(user), server, person("ada"))
    assert len(peer.authorization_server.requests_to("/token")) == asked

    McpServerOAuth.objects.update(expires_at=timezone.now())
    assert call_tool(server, user, "whoami").text == "ada"
    assert len(peer.authorization_server.requests_to("/token")) == asked + 1


def test_a_wrong_secret_is_shown_in_both_dialects_once_and_reported_as_what_it_is(
    protected_mcp_server: Peers, person: Persons
) -> None:
    client = PreregisteredClient(
        "app", client_secret="s3cret", redirect_uris=(REDIRECT_URI,), token_endpoint_auth_method="client_secret_basic"
    )
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(clients=(client,)))
    workspace = new_workspace()
    browser = browser_of(member(workspace))
    basic = {"token_endpoint_auth_method": "client_secret_basic"}
    server = new_server(workspace, peer.url, client_id="app", client_secret="wrong", options=basic)
    page = come_back(browser, person("ada").authorize(start(browser, server)["authorization_url"]))

    assert page.status_code >= 400
    assert "invalid_client" in page.content.decode()
    assert len(peer.authorization_server.requests_to("/token")) == 2


REDIRECT_URI = "http://127.0.0.1:8000/mcp/oauth/callback/"
