"""The main job over real servers: connect with OAuth, list the tools, run one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mcp_oauth import call_tool, list_tools
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, ProtectedServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.requirement("mcp-auth-http", "mcp-auth-prm")
@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("same_origin", [True, False], ids=["same-origin", "other-origin"])
def test_a_member_connects_lists_and_runs(
    era: str, same_origin: bool, protected_mcp_server: Callable[..., ProtectedServer], person: Any
) -> None:
    peer = protected_mcp_server(era, same_origin=same_origin, as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    assert server.auth_mode == "oauth"

    grant = connect(browser_of(user), server, person("ada"))

    assert grant.issuer == peer.issuer
    names = {tool.name for tool in list_tools(server, user)}
    assert names
    print(names, grant.scope, grant.expires_at, [(r.method, r.path) for r in peer.authorization_server.requests])
    result = call_tool(server, user, "whoami")
    print(result)
