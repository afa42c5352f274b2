"""A stored secret is for whom it was entered for: an edit that points elsewhere does not take it along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mcp_oauth import call_tool
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import McpServer, Membership
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import update_server
from tests.people import browser_of, member, new_server, new_workspace, start
from tests.servers import AuthorizationServerOptions, HeaderServer, OpenServer, PreregisteredClient, ProtectedServer

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "the-key-an-administrator-entered"
SECRET = "the-secret-an-administrator-entered"
CLIENT = AuthorizationServerOptions(clients=(PreregisteredClient("app", SECRET),), dynamic_registration=False)


def everything(requests: list[Any]) -> str:
    return " ".join(f"{request.headers} {request.body!r} {request.raw_query!r}" for request in requests)


def test_headers_do_not_follow_a_server_to_another_origin(
    header_mcp_server: Callable[..., HeaderServer], open_mcp_server: Callable[..., OpenServer]
) -> None:
    peer, elsewhere = header_mcp_server("X-Api-Key", KEY), open_mcp_server("modern")
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, auth_mode="headers", headers={"X-Api-Key": KEY})
    assert call_tool(server, user, "echo", {"text": "hello"}).text == "hello"

    update_server(server, ServerSettings(name="Moved", url=elsewhere.url, auth_mode="headers"))
    call_tool(server, user, "echo", {"text": "hello"})

    assert KEY not in everything(elsewhere.requests)
    assert McpServer.objects.get().headers is None


def test_headers_stay_with_another_path_and_go_along_when_they_are_entered_again(
    header_mcp_server: Callable[..., HeaderServer],
) -> None:
    peer, other = header_mcp_server("X-Api-Key", KEY), header_mcp_server("X-Api-Key", KEY)
    workspace = new_workspace()
    server = new_server(workspace, peer.url, auth_mode="headers", headers={"X-Api-Key": KEY})

    update_server(server, ServerSettings(name="Path", url=f"{peer.url}/", auth_mode="headers"))
    assert McpServer.objects.get().headers == {"X-Api-Key": KEY}

    update_server(server, ServerSettings(name="Moved", url=other.url, auth_mode="headers", headers={"X-Api-Key": KEY}))
    assert call_tool(server, member(workspace), "echo", {"text": "hello"}).text == "hello"


@pytest.mark.requirement("T12", "mcp-registration-not-reused")
@pytest.mark.parametrize("issuer", ["the other's", "found anew"])
@pytest.mark.parametrize("mode", ["oauth", "client_credentials"])
def test_a_client_secret_does_not_follow_a_server_to_another_issuer(
    mode: str, issuer: str, protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    peer, elsewhere = protected_mcp_server(as_options=CLIENT), protected_mcp_server(as_options=CLIENT)
    workspace = new_workspace()
    user = member(workspace)
    settings: dict[str, Any] = {"auth_mode": mode, "client_id": "app"}
    server = new_server(workspace, peer.url, **settings, client_secret=SECRET, client_issuer=peer.issuer)

    named = elsewhere.issuer if issuer == "the other's" else ""
    update_server(server, ServerSettings(name="Moved", url=elsewhere.url, **settings, client_issuer=named))
    browser = browser_of(user)
    answer = start(browser, server)
    if answer.get("status") == "redirect":
        callback = person("ada").authorize(answer["authorization_url"])
        browser.get("/mcp/oauth/callback/" + callback[callback.index("?") :])
    with pytest.raises(McpOAuthError):
        call_tool(server, user, "whoami")

    assert SECRET not in everything(elsewhere.authorization_server.requests)
    assert McpServer.objects.get().client_secret is None


def test_an_issuer_left_blank_on_the_same_server_keeps_the_one_that_was_found(
    protected_mcp_server: Callable[..., ProtectedServer],
) -> None:
    peer = protected_mcp_server(as_options=CLIENT)
    workspace = new_workspace()
    settings: dict[str, Any] = {"auth_mode": "oauth", "client_id": "app"}
    server = new_server(workspace, peer.url, **settings, client_secret=SECRET)
    start(browser_of(member(workspace)), server)
    server.refresh_from_db()
    assert server.client_issuer == peer.issuer
    generation = server.generation

    update_server(server, ServerSettings(name="Renamed", url=peer.url, **settings))

    kept = McpServer.objects.get()
    assert (kept.client_issuer, kept.client_secret, kept.generation) == (peer.issuer, SECRET, generation)


def test_the_page_says_that_a_secret_was_left_behind(
    header_mcp_server: Callable[..., HeaderServer], open_mcp_server: Callable[..., OpenServer]
) -> None:
    peer, elsewhere = header_mcp_server("X-Api-Key", KEY), open_mcp_server("modern")
    workspace = new_workspace()
    browser = browser_of(member(workspace, role=Membership.Role.ADMIN))
    server = new_server(workspace, peer.url, auth_mode="headers", headers={"X-Api-Key": KEY})
    page = f"/workspaces/{workspace.slug}/mcp/{server.pk}/edit/"
    given = {"name": "Board", "auth_mode": "headers", "enabled": "on"}

    renamed = browser.post(page, {**given, "url": peer.url}, follow=True).content.decode()
    asked = browser.post(page, {**given, "url": elsewhere.url}).content.decode()
    moved = browser.post(page, {**given, "url": elsewhere.url, "agreed": "secrets"}, follow=True).content.decode()

    assert "was removed; enter it again" not in renamed
    assert "is erased; enter it again" in asked
    assert "was removed; enter it again" in moved
