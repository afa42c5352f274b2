"""A renewal holds up nobody but those who need it, whichever kind of caller they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.utils import timezone

from mcp_oauth import acall_tool
from mcp_oauth.models import McpServerOAuth
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, ProtectedServer, json_fault

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")


def closing_connections(work: Callable[[], Awaitable[T]]) -> Callable[[], Coroutine[Any, Any, T]]:
    """Leave no connection behind in the thread that does asynchronous callers' database work."""

    async def closed() -> T:
        try:
            return await work()
        finally:
            await sync_to_async(connections.close_all)()

    return closed


def test_an_asynchronous_caller_is_not_held_up_by_the_renewal_of_another_one(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    ada, grace = member(workspace), member(workspace)
    server = new_server(workspace, peer.url)
    for user, name in ((ada, "ada"), (grace, "grace")):
        connect(browser_of(user), server, person(name))
    McpServerOAuth.objects.filter(user=ada).update(expires_at=timezone.now())
    asked, answered = threading.Event(), threading.Event()

    def when_the_other_is_done(form: Any) -> Any:
        asked.set()
        return None if answered.wait(20) else json_fault(503, "temporarily_unavailable")

    peer.configure_authorization_server(token_faults=when_the_other_is_done)

    @closing_connections
    async def both() -> tuple[str, str]:
        renewing = asyncio.create_task(acall_tool(server, ada, "whoami"))
        assert await asyncio.to_thread(asked.wait, 20)
        other = await acall_tool(server, grace, "whoami")
        answered.set()
        return (await renewing).text, other.text

    assert asyncio.run(both()) == ("ada", "grace")
    assert len(peer.authorization_server.requests_to("/token")) == 3


def test_asynchronous_callers_of_one_grant_wait_for_one_renewal(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(ada), server, person("ada"))
    McpServerOAuth.objects.update(expires_at=timezone.now())

    @closing_connections
    async def many() -> list[str]:
        results = await asyncio.gather(*(acall_tool(server, ada, "whoami") for _ in range(8)))
        return [result.text for result in results]

    assert asyncio.run(many()) == ["ada"] * 8
    assert len(peer.authorization_server.requests_to("/token")) == 2
