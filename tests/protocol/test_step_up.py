"""A tool asks for more than was granted: the person is asked for both, a bounded number of times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mcp_oauth import call_tool
from mcp_oauth.exceptions import InsufficientScope
from mcp_oauth.models import McpServerOAuth
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, start
from tests.servers import AuthorizationServerOptions, ProtectedServer

pytestmark = pytest.mark.django_db(transaction=True)

NO_CIMD = AuthorizationServerOptions(cimd=False)


@pytest.mark.requirement("mcp-auth-scope-no-relation", "mcp-auth-scope-challenged", "mcp-auth-scope-kept")
@pytest.mark.requirement("mcp-auth-step-up", "mcp-auth-step-up-person", "mcp-bp-scope-union", "T21")
def test_the_person_grants_more_and_keeps_what_was_granted(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    peer = protected_mcp_server(as_options=NO_CIMD, scopes=("read",), tool_scopes={"fail": "admin"})
    workspace = new_workspace()
    user = member(workspace)
    browser, server = browser_of(user), new_server(workspace, peer.url)
    connect(browser, server, person("ada"))

    with pytest.raises(InsufficientScope) as lacks:
        call_tool(server, user, "fail")
    assert "admin" in lacks.value.scope.split()
    assert str(server.pk) in lacks.value.connect_url
    assert "Grant access" in browser.get(f"/workspaces/{workspace.slug}/mcp/").content.decode()

    peer.authorization_server.requests.clear()
    grant = connect(browser, server, person("ada"))

    asked = peer.authorization_server.requests_to("/authorize")[0].query["scope"].split()
    assert set(asked) == {"read", "admin"}
    assert set(grant.scope.split()) == {"read", "admin"}
    assert grant.wanted_scope == ""
    assert call_tool(server, user, "fail").is_error  # it ran: failing is what it does

    peer.authorization_server.expire_access_tokens()
    assert call_tool(server, user, "whoami").text == "ada"
    assert set(McpServerOAuth.objects.get().scope.split()) == {"read", "admin"}


@pytest.mark.requirement("mcp-auth-step-up-limit", "mcp-auth-step-up-tracked", "T21")
def test_a_server_that_is_never_content_is_not_followed_for_ever(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    peer = protected_mcp_server(as_options=NO_CIMD, scopes=("read",), tool_scopes={"fail": "admin"})
    workspace = new_workspace()
    user = member(workspace)
    browser, server = browser_of(user), new_server(workspace, peer.url)
    connect(browser, server, person("ada"))
    # It hands tokens out without what was asked for, and the tool goes on asking.
    peer.configure_authorization_server(scopes={"read": "Read"})
    peer.authorization_server.requests.clear()

    for _ in range(5):
        with pytest.raises(InsufficientScope) as lacks:
            call_tool(server, user, "fail")
        answer = start(browser, server)
        if answer["status"] == "redirect":
            come_back(browser, person("ada").authorize(answer["authorization_url"]))

    assert start(browser, server)["status"] == "already_authorized"
    assert len(peer.authorization_server.requests_to("/authorize")) == 2
    assert "operator" in lacks.value.next_step
    assert call_tool(server, user, "whoami").text == "ada"


def test_a_person_who_declines_is_left_alone_until_a_tool_asks_again(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    peer = protected_mcp_server(as_options=NO_CIMD, scopes=("read",), tool_scopes={"fail": "admin"})
    workspace = new_workspace()
    user = member(workspace)
    browser, server = browser_of(user), new_server(workspace, peer.url)
    connect(browser, server, person("ada"))
    with pytest.raises(InsufficientScope):
        call_tool(server, user, "fail")

    assert browser.post("/mcp/oauth/decline/", {"server": str(server.pk)}).status_code == 302

    assert start(browser, server)["status"] == "already_authorized"
    with pytest.raises(InsufficientScope):
        call_tool(server, user, "fail")
    assert start(browser, server)["status"] == "redirect"
