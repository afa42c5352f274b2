"""A workspace whose members are connected to one server that is all listings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone

from mcp_oauth.models import McpServer, Membership, StoredListing, Workspace
from tests.caching import empty_cache
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, Offering, OpenServer, Person, ProtectedServer

T = TypeVar("T")


@dataclass
class Team:
    """The workspace, its one server, what it offers, and its members by the name of their account there."""

    workspace: Workspace
    server: McpServer
    offering: Offering
    members: dict[str, User]
    peer: ProtectedServer | OpenServer

    @property
    def ada(self) -> User:
        return self.members["ada"]

    @property
    def grace(self) -> User:
        return self.members["grace"]

    def again(self) -> McpServer:
        """Return the server as it is stored now."""
        return McpServer.objects.select_related("workspace").get(pk=self.server.pk)


def grow_old() -> None:
    """Let every stored listing be one that is not fresh any more, however it got there."""
    past = timezone.now() - timedelta(hours=1)
    StoredListing.objects.update(fetched_at=past, fresh_until=past)
    empty_cache()


@pytest.fixture
def team(protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]) -> Callable[..., Team]:
    """Make a team behind OAuth: ``team("ada", "grace")``; further arguments are the server's."""

    def make(*names: str, offering: Offering | None = None, **server: Any) -> Team:
        offered = offering or Offering()
        peer = protected_mcp_server(app=offered.app(), as_options=AuthorizationServerOptions(cimd=False))
        workspace = new_workspace()
        row = new_server(workspace, peer.url, **server)
        made = Team(workspace, row, offered, {}, peer)
        for name in names:
            made.members[name] = member(workspace)
            connect(browser_of(made.members[name]), row, person(name))
        offered.listed.clear()
        return made

    return make


@pytest.fixture
def open_team(open_mcp_server: Callable[..., OpenServer]) -> Callable[..., Team]:
    """Make a team around a server that lets anybody in: ``open_team("ada")``."""

    def make(*names: str, offering: Offering | None = None, **server: Any) -> Team:
        offered = offering or Offering()
        peer = open_mcp_server(app=offered.app())
        workspace = new_workspace()
        row = new_server(workspace, peer.url, **server)
        members = {name: member(workspace, role=Membership.Role.ADMIN) for name in names}
        offered.listed.clear()
        return Team(workspace, row, offered, members, peer)

    return make


class Threads:
    """Threads that leave no database connection behind."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Begin some work."""

        def closing() -> T:
            try:
                return work()
            finally:
                connections.close_all()

        return self._pool.submit(closing)


@pytest.fixture
def threads() -> Iterator[Threads]:
    """Return threads for what happens at the same time."""
    with ThreadPoolExecutor(32) as pool:
        yield Threads(pool)


@pytest.fixture
def limits(settings: Any) -> Callable[..., None]:
    """Change this application's limits: ``limits(LIST_SECONDS=1.0)``."""

    def change(**values: Any) -> None:
        settings.MCP_OAUTH = {**settings.MCP_OAUTH, **values}

    return change
