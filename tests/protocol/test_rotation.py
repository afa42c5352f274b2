"""The encryption key is rotated while grants go on working, and a lost key asks for reconnection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command
from django.test import override_settings

from mcp_oauth import AuthorizationRequired, call_tool
from mcp_oauth.crypto import key_id_of, new_key
from mcp_oauth.fields import sealed_value
from mcp_oauth.models import McpServerOAuth
from mcp_oauth.services.keys import Rotation, rotate_encryption_keys
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, ProtectedServer

pytestmark = pytest.mark.django_db(transaction=True)


def keys(*ring: str) -> Any:
    """Return the settings with another key ring."""
    return override_settings(MCP_OAUTH={**django_settings.MCP_OAUTH, "ENCRYPTION_KEYS": list(ring)})


@pytest.mark.requirement("ext-ema-rotation", "T42")
def test_rotation_moves_every_secret_to_the_new_key_and_a_lost_key_asks_to_reconnect(
    protected_mcp_server: Callable[..., ProtectedServer], person: Any
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace)
    old, new = new_key(), new_key()
    with keys(old):
        server = new_server(workspace, peer.url)
        connect(browser_of(user), server, person("ada"))
        old_id = key_id_of(sealed_value(McpServerOAuth.objects.get(), "access_token") or "")
    with keys(new, old):
        assert call_tool(server, user, "whoami").text == "ada"
        # The grant's two tokens and the flow's verifier.
        assert rotate_encryption_keys() == Rotation(resealed=3, current=0, unreadable=0)
        assert rotate_encryption_keys() == Rotation(resealed=0, current=3, unreadable=0)
        call_command("rotate_encryption_keys", "--json")
    with keys(new):
        grant = McpServerOAuth.objects.get()
        assert key_id_of(sealed_value(grant, "access_token") or "") != old_id
        assert call_tool(server, user, "whoami").text == "ada"
    with keys(new_key()):
        assert rotate_encryption_keys() == Rotation(resealed=0, current=0, unreadable=3)
        with pytest.raises(AuthorizationRequired) as needed:
            call_tool(server, user, "whoami")
        assert needed.value.reason == "unreadable"
        assert browser_of(user).get(f"/workspaces/{workspace.slug}/mcp/").status_code == 200
