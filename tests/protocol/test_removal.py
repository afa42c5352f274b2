"""A removed server can be kept for a while: it is out of use at once, and revoked when its time is over."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from mcp_oauth import call_tool
from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.models import Event, McpServer, McpServerOAuth
from mcp_oauth.services import servers
from mcp_oauth.services.connections import start_authorization
from mcp_oauth.services.grants import refresh_due_grants
from mcp_oauth.services.removal import keep_server, remove_due_servers, schedule_removal
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, ProtectedServer

pytestmark = pytest.mark.django_db(transaction=True)

Protect = Callable[..., ProtectedServer]
REGISTERING = AuthorizationServerOptions(cimd=False)


def its_time_is_over(server: McpServer) -> None:
    """Let a removal be due for long enough that no clock disagrees."""
    McpServer.objects.filter(pk=server.pk).update(removal_at=timezone.now() - timedelta(minutes=1))


@pytest.fixture
def used(protected_mcp_server: Protect, person: Callable[..., Any]) -> tuple[ProtectedServer, McpServer, Any]:
    """Return a peer, the server at it, and somebody connected to it."""
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(user), server, person("ada"))
    return peer, server, user


def test_a_server_that_is_being_removed_is_out_of_use_and_nothing_is_revoked_yet(
    used: tuple[ProtectedServer, McpServer, Any],
) -> None:
    peer, server, user = used
    asked = len(peer.requests)

    at = schedule_removal(server, actor=user)

    assert timedelta(minutes=14) < at - timezone.now() <= timedelta(minutes=15)
    with pytest.raises(ConfigurationError, match="is being removed"):
        call_tool(server, user, "whoami")
    with pytest.raises(ConfigurationError, match="is being removed"):
        start_authorization(server, user, browser="b", again=True)
    McpServerOAuth.objects.update(expires_at=timezone.now())
    assert refresh_due_grants(within=60) == []
    assert remove_due_servers() == []
    assert len(peer.requests) == asked
    assert peer.authorization_server.requests_to("/revoke") == []
    assert McpServerOAuth.objects.filter(access_token__isnull=False).exists()


def test_a_server_that_is_kept_works_as_before(used: tuple[ProtectedServer, McpServer, Any]) -> None:
    _peer, server, user = used
    schedule_removal(server, actor=user)

    assert keep_server(server, actor=user)

    assert "ada" in str(call_tool(server, user, "whoami").content)
    assert not keep_server(server)
    outcomes = Event.objects.filter(kind=Event.Kind.SERVER_CHANGED).order_by("at").values_list("outcome", flat=True)
    assert list(outcomes) == ["added", "removal_scheduled", "removal_undone"]


def test_asking_twice_does_not_lengthen_the_time(used: tuple[ProtectedServer, McpServer, Any]) -> None:
    _peer, server, _user = used

    assert schedule_removal(server) == schedule_removal(server)
    assert Event.objects.filter(outcome="removal_scheduled").count() == 1


def test_the_next_round_removes_what_is_due_and_revokes_it(
    used: tuple[ProtectedServer, McpServer, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    peer, server, user = used
    token = McpServerOAuth.objects.get().access_token or ""
    other = McpServer.objects.create(
        workspace=server.workspace, name="Other", slug="other", url="https://o.example/mcp"
    )
    schedule_removal(server, actor=user)
    its_time_is_over(server)

    assert not keep_server(server, actor=user)
    call_command("refresh_mcp_tokens", "--json")

    assert json.loads(capsys.readouterr().out)["servers_removed"] == [server.natural_name()]
    assert list(McpServer.objects.all()) == [other]
    assert peer.authorization_server.introspect(token) is None
    assert Event.objects.filter(outcome="removed").count() == 1


def test_of_two_hosts_one_removes_and_the_other_goes_on(
    used: tuple[ProtectedServer, McpServer, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _peer, server, _user = used
    schedule_removal(server)
    its_time_is_over(server)
    slow = servers.delete_server

    def overtaken(found: McpServer) -> Any:
        """Remove it as another host does, right before this one."""
        monkeypatch.setattr("mcp_oauth.services.removal.delete_server", slow)
        assert remove_due_servers() == [server.natural_name()]
        return slow(found)

    monkeypatch.setattr("mcp_oauth.services.removal.delete_server", overtaken)

    assert remove_due_servers() == []
    assert Event.objects.filter(outcome="removed").count() == 1
    assert "could not be removed" not in caplog.text


def test_one_that_cannot_be_removed_does_not_keep_the_others(
    used: tuple[ProtectedServer, McpServer, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _peer, server, _user = used
    second = McpServer.objects.create(workspace=server.workspace, name="Two", slug="two", url="https://o.example/mcp")
    for due in (server, second):
        schedule_removal(due)
        its_time_is_over(due)
    remove = servers.delete_server

    def fail_once(found: McpServer) -> Any:
        if found.pk == server.pk:
            raise OSError("the disk is full")
        return remove(found)

    monkeypatch.setattr("mcp_oauth.services.removal.delete_server", fail_once)

    assert remove_due_servers() == [second.natural_name()]
    assert "could not be removed" in caplog.text
    assert list(McpServer.objects.all()) == [server]
