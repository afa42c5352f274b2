"""A call finds its tool without reading the listing, and never in somebody else's or an earlier one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from mcp_oauth.models import McpServer, StoredListing
from mcp_oauth.services import arrivals, tool_index
from mcp_oauth.services.arrivals import Fetched
from mcp_oauth.services.grants import UsableGrant
from mcp_oauth.services.listing_owners import Asker, Kind
from mcp_oauth.services.tool_index import KnownTool, known_tool
from tests.caching import empty_cache
from tests.people import member, new_workspace
from tests.servers.offering import tool

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_memory_of_other_tests() -> None:
    tool_index._start_anew()


@pytest.fixture
def ada() -> User:
    return member(new_workspace())


@pytest.fixture
def server(ada: User) -> McpServer:
    workspace = ada.mcp_memberships.get().workspace
    return McpServer.objects.create(workspace=workspace, name="Any", slug="any", url="https://mcp.example/mcp")


@pytest.fixture
def store(django_capture_on_commit_callbacks: Any) -> Callable[..., None]:
    """Store a listing as it has just come: ``store(asker, tool("look"), …)``."""

    def store(asker: Asker, *tools: dict[str, Any], truncated: bool = False) -> None:
        now = timezone.now()
        with django_capture_on_commit_callbacks(execute=True):
            arrivals.keep([Fetched(asker, list(tools), truncated, now, now)])

    return store


def asker_of(server: McpServer, user: User, grant: UsableGrant | None = None) -> Asker:
    return Asker.of(server, user, Kind.TOOLS, grant)


def looks(work: Callable[[], Any]) -> int:
    """Return how many statements some work takes."""
    with CaptureQueriesContext(connection) as queries:
        work()
    return len(queries)


def found(known: KnownTool | None) -> Any:
    """Return the input schema, ``None`` where there may be the tool, and ``False`` where there is none."""
    if known is None:
        return False
    return None if known.description is None else known.description.input_schema


def test_a_tool_is_found_with_its_schema_and_then_from_memory(
    server: McpServer, ada: User, store: Callable[..., None]
) -> None:
    asker = asker_of(server, ada)
    assert found(known_tool(asker, "look")) is False
    store(asker, tool("look", properties={"a": {}}), tool("write"))

    assert found(known_tool(asker, "look")) == {"type": "object", "properties": {"a": {}}}
    empty_cache()
    assert looks(lambda: known_tool(asker, "look")) == 0
    assert found(known_tool(asker, "write")) == {"type": "object"}


def test_a_caller_who_changes_a_schema_changes_it_for_nobody_else(
    server: McpServer, ada: User, store: Callable[..., None]
) -> None:
    asker = asker_of(server, ada)
    store(asker, tool("look"))

    found(known_tool(asker, "look"))["planted"] = True

    assert found(known_tool(asker, "look")) == {"type": "object"}


def test_a_tool_that_a_listing_cut_short_does_not_have_may_be_there(
    server: McpServer, ada: User, store: Callable[..., None]
) -> None:
    asker = asker_of(server, ada)
    store(asker, tool("look"), truncated=True)
    assert found(known_tool(asker, "other")) is None

    store(asker, tool("look"))
    assert found(known_tool(asker, "other")) is False


def test_that_there_is_no_such_tool_is_never_told_from_memory(
    server: McpServer, ada: User, store: Callable[..., None]
) -> None:
    asker = asker_of(server, ada)
    store(asker, tool("look"))
    known_tool(asker, "look")

    # As another process stores it.
    memory = tool_index._memory
    tool_index._start_anew()
    store(asker, tool("look"), tool("new"))
    tool_index._memory = memory

    assert found(known_tool(asker, "new")) == {"type": "object"}


def test_what_another_process_has_stored_is_noticed_after_a_while(
    server: McpServer, ada: User, store: Callable[..., None], limits: Callable[..., None]
) -> None:
    asker = asker_of(server, ada)
    for trusted, seen in ((30.0, "old"), (0.0, "new")):
        limits(CATALOGUE_TRUST_SECONDS=trusted)
        tool_index._start_anew()
        store(asker, tool("look", title="old"))
        known_tool(asker, "look")
        store(asker, tool("look", title="new"))
        assert found(known_tool(asker, "look"))["title"] == seen
    tool_index.forget(asker)
    assert found(known_tool(asker, "look"))["title"] == "new"


@pytest.mark.requirement("T36")
def test_each_persons_tools_are_their_own(server: McpServer, ada: User, store: Callable[..., None]) -> None:
    server.auth_mode = "oauth"
    grace = member(server.workspace)
    now = timezone.now()
    askers = [asker_of(server, user, UsableGrant(uuid.uuid4(), now, 1, "", "token")) for user in (ada, grace)]
    for asker, name in zip(askers, ("adas", "graces"), strict=True):
        owner = asker.own
        StoredListing.objects.create(
            server=server,
            user_id=owner.user_id,
            server_generation=1,
            grant_id=owner.grant_id,
            entries=[tool(name)],
            digest=name * 9,
            fetched_at=now,
        )

    for _ in range(2):
        assert [found(known_tool(asker, "adas")) for asker in askers] == [{"type": "object"}, False]
        assert [found(known_tool(asker, "graces")) for asker in askers] == [False, {"type": "object"}]


@pytest.mark.requirement("T36")
def test_neither_another_generation_nor_another_authorization_finds_it(
    server: McpServer, ada: User, store: Callable[..., None]
) -> None:
    server.auth_mode = "oauth"
    now = timezone.now()
    grant = UsableGrant(uuid.uuid4(), now, 1, "", "token")
    asker = asker_of(server, ada, grant)
    StoredListing.objects.create(
        server=server,
        user=ada,
        server_generation=1,
        grant_id=grant.grant_id,
        entries=[tool("look")],
        digest="d" * 64,
        fetched_at=now,
    )
    assert found(known_tool(asker, "look")) == {"type": "object"}
    StoredListing.objects.all().delete()
    assert found(known_tool(asker, "look")) == {"type": "object"}

    again = asker_of(server, ada, replace(grant, connected_at=now + timedelta(seconds=1)))
    assert found(known_tool(again, "look")) is False
    server.generation += 1
    assert found(known_tool(asker_of(server, ada, grant), "look")) is False


def test_a_process_keeps_no_more_than_it_may(
    server: McpServer, ada: User, store: Callable[..., None], limits: Callable[..., None]
) -> None:
    limits(CATALOGUE_MEMORY_BYTES=2000)
    others = [
        McpServer.objects.create(workspace=server.workspace, name=f"s{n}", slug=f"s{n}", url=server.url)
        for n in range(30)
    ]
    for number, other in enumerate(others):
        asker = asker_of(other, ada)
        store(asker, tool(f"tool_{number}", title="x" * 300))
        assert found(known_tool(asker, f"tool_{number}")) is not False
    memory = tool_index._memory
    assert 0 < memory._size <= 2000
    assert sum(index.size for index in memory._indexes.values()) == memory._size
    # What had to go is read again, and what is larger than everything is read each time.
    assert found(known_tool(asker_of(others[0], ada), "tool_0")) is not False
    store(asker_of(server, ada), tool("huge", title="x" * 5000))
    assert found(known_tool(asker_of(server, ada), "huge")) is not False
    assert memory._size <= 2000


def test_the_same_listing_of_many_people_is_kept_once(server: McpServer, ada: User, store: Callable[..., None]) -> None:
    others = [
        McpServer.objects.create(workspace=server.workspace, name=f"s{n}", slug=f"s{n}", url=server.url)
        for n in range(5)
    ]
    for other in others:
        store(asker_of(other, ada), tool("look"))
        known_tool(asker_of(other, ada), "look")

    assert len(tool_index._memory._indexes) == 1


def test_entries_nobody_can_read_are_no_tools(server: McpServer, ada: User) -> None:
    StoredListing.objects.create(
        server=server,
        server_generation=1,
        entries=[1, None, {"no": "name"}, {"name": 5}, {"name": "odd", "inputSchema": "text"}],
        fetched_at=timezone.now(),
    )

    assert found(known_tool(asker_of(server, ada), "odd")) == {}
    assert found(known_tool(asker_of(server, ada), "5")) is False
