"""A session that an older server keeps for a person ends with what it rests on, and is nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from mcp_oauth import call_tool, disconnect
from mcp_oauth.models import McpServer, McpServerOAuth, Membership, Workspace
from mcp_oauth.services.removal import schedule_removal
from mcp_oauth.services.renewal import needs_person
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import delete_server, update_server
from mcp_oauth.services.wire import end_sessions
from mcp_oauth.sessions import loop
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, OpenServer, Person, ProtectedServer, RecordedRequest

pytestmark = pytest.mark.django_db(transaction=True)


def sessions(peer: ProtectedServer | OpenServer) -> list[str]:
    """Return the sessions that calls were made in, in order."""
    return [request.headers["mcp-session-id"] for request in peer.requests if request.rpc_method == "tools/call"]


def ended(peer: ProtectedServer | OpenServer, count: int) -> list[str]:
    """Wait until the server was told of so many ends of sessions; return which."""

    def deletes() -> list[RecordedRequest]:
        return [request for request in peer.requests if request.method == "DELETE"]

    async def until() -> None:
        while len(deletes()) < count:
            await asyncio.sleep(0.01)

    loop.run(until, timeout=20)
    return [request.headers["mcp-session-id"] for request in deletes()]


def change(server: McpServer, **changes: Any) -> None:
    row = McpServer.objects.get(pk=server.pk)
    wanted = {"name": row.name, "url": row.url, "auth_mode": row.auth_mode, "client_id": row.client_id, **changes}
    update_server(row, ServerSettings(**wanted))


def lose(grant: McpServerOAuth) -> None:
    needs_person(grant, "revoked")


def people(grant: McpServerOAuth) -> User:
    return User.objects.get(mcp_grants=grant)


WAYS: dict[str, Callable[[McpServerOAuth], Any]] = {
    "the person disconnects": lambda grant: disconnect(grant.server, grant.user),  # type: ignore[arg-type]
    "the grant is of no use any more": lose,
    "the membership is removed": lambda grant: Membership.objects.filter(user=people(grant)).delete(),
    "the person is deleted": lambda grant: people(grant).delete(),
    "the server is changed": lambda grant: change(grant.server, client_id="another"),
    "the server is disabled": lambda grant: change(grant.server, enabled=False),
    "the server has other headers": lambda grant: change(grant.server, headers={"X-Team": "one"}),
    "the server is to be removed": lambda grant: schedule_removal(McpServer.objects.get(pk=grant.server_id)),
    "the server is removed": lambda grant: delete_server(McpServer.objects.get(pk=grant.server_id)),
    "the workspace is deleted": lambda grant: Workspace.objects.all().delete(),
}


@pytest.mark.requirement("T17")
@pytest.mark.parametrize("way", WAYS)
def test_a_session_ends_at_once_when(
    way: str, protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("legacy", as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    grant = connect(browser_of(user), server, person("ada"))
    for _ in range(3):
        call_tool(server, user, "whoami")
    [session] = set(sessions(peer))
    before = len(ended(peer, 0))

    WAYS[way](grant)

    assert session in ended(peer, before + 1)


def test_the_sessions_of_others_go_on(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("legacy", as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    people = {name: member(workspace) for name in ("ada", "grace")}
    for name, user in people.items():
        connect(browser_of(user), server, person(name))
    assert [call_tool(server, user, "whoami").text for user in people.values()] == ["ada", "grace"]
    adas, graces = sessions(peer)
    before = len(ended(peer, 0))

    disconnect(server, people["ada"])

    assert adas in ended(peer, before + 1)
    assert call_tool(server, people["grace"], "whoami").text == "grace"
    assert sessions(peer)[-1] == graces != adas


def test_who_connects_as_somebody_else_gets_another_session(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("legacy", as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    first = connect(browser_of(user), server, person("ada"))
    assert call_tool(server, user, "whoami").text == "ada"
    McpServerOAuth.objects.update(state="needs_reauthorization")
    before = len(ended(peer, 0))

    second = connect(browser_of(user), server, person("grace"))

    assert second.pk == first.pk
    [old] = sessions(peer)
    assert old in ended(peer, before + 1)
    assert call_tool(server, user, "whoami").text == "grace"
    assert sessions(peer)[-1] != old


@pytest.mark.requirement("T36")
@pytest.mark.parametrize("auth_mode", ["none", "headers"])
def test_members_of_an_open_server_have_sessions_of_their_own(
    auth_mode: str, open_mcp_server: Callable[..., OpenServer]
) -> None:
    peer = open_mcp_server("legacy")
    workspace = new_workspace()
    server = new_server(workspace, peer.url, auth_mode=auth_mode)
    people = [member(workspace), member(workspace)]

    for user in [*people, *people]:
        call_tool(server, user, "echo", {"text": "x"})
    first, second, third, fourth = sessions(peer)
    assert (first, second) == (third, fourth)
    assert first != second
    before = len(ended(peer, 0))
    Membership.objects.filter(user=people[0]).delete()

    assert first in ended(peer, before + 1)
    assert second not in ended(peer, 0)


def test_a_deletion_that_is_taken_back_ends_no_session(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("legacy", as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(user), server, person("ada"))
    call_tool(server, user, "whoami")

    with transaction.atomic():
        Membership.objects.all().delete()
        transaction.set_rollback(True)
    call_tool(server, user, "whoami")

    assert len(set(sessions(peer))) == 1


def test_naming_nothing_ends_nothing(open_mcp_server: Callable[..., OpenServer]) -> None:
    peer = open_mcp_server("legacy")
    workspace = new_workspace()
    user, server = member(workspace), new_server(workspace, peer.url)
    call_tool(server, user, "echo", {"text": "x"})

    end_sessions()
    end_sessions(server_id=None, user_id=None)
    call_tool(server, user, "echo", {"text": "x"})

    assert len(set(sessions(peer))) == 1
