"""The servers of a workspace are listed at the same time; a slow or broken one delays and hides no other."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from mcp_oauth import NotAllowed, alist_workspace_tools, list_tools, list_workspace_tools
from mcp_oauth.models import McpServer, McpServerOAuth, Membership, StoredListing, Workspace
from mcp_oauth.services.workspace_tools import ServerTools
from tests.caching import empty_cache
from tests.people import member, new_workspace
from tests.servers import Offering, OpenServer
from tests.servers.mcp import open_mcp_server
from tests.servers.offering import MODERN, tool
from tests.team import Team, Threads, grow_old

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")
MakeTeam = Callable[..., Team]
PATIENCE = 30.0
DISCOVERED = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "serverInfo": {"name": "o", "version": "1"}}

ListThem = Callable[..., list[ServerTools]]


@dataclass
class Fleet:
    """A workspace with several open servers, by name."""

    workspace: Workspace
    ada: User
    offerings: dict[str, Offering]
    servers: dict[str, McpServer]


@pytest.fixture
def fleet(peer_stack: ExitStack) -> Callable[..., Fleet]:
    """Make a workspace with so many servers: ``fleet(3)``; what is known of them needs no asking."""

    def make(count: int) -> Fleet:
        workspace = new_workspace()
        made = Fleet(workspace, member(workspace), {}, {})
        for number in range(count):
            name = f"s{number}"
            made.offerings[name] = Offering(tools=[tool(f"{name}_tool")])
            peer: OpenServer = peer_stack.enter_context(open_mcp_server(app=made.offerings[name].app()))
            made.servers[name] = McpServer.objects.create(
                workspace=workspace,
                name=name,
                slug=name,
                url=peer.url,
                auth_mode="none",
                protocol_version=MODERN,
                discover_result=DISCOVERED,
            )
        return made

    return make


def asynchronously(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def closing() -> T:
        try:
            return await work()
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(closing())


def alist_them(*arguments: Any, **options: Any) -> list[ServerTools]:
    return asynchronously(lambda: alist_workspace_tools(*arguments, **options))


BOTH = pytest.mark.parametrize("list_them", [list_workspace_tools, alist_them], ids=["sync", "async"])


def outcome(found: list[ServerTools]) -> dict[str, Any]:
    """Return, by server, the tools' names or the error's code."""
    return {
        one.server.name: one.error.code if one.error else [tool.name for tool in one.catalogue or ()] for one in found
    }


@BOTH
def test_every_server_is_asked_before_any_has_answered(
    fleet: Callable[..., Fleet], threads: Threads, list_them: ListThem
) -> None:
    at = fleet(6)
    for offering in at.offerings.values():
        offering.open.clear()

    listing = threads.submit(lambda: list_them(at.workspace, at.ada))
    for offering in at.offerings.values():
        assert offering.asked.wait(PATIENCE)
    for offering in at.offerings.values():
        offering.open.set()

    assert outcome(listing.result(PATIENCE)) == {name: [f"{name}_tool"] for name in at.offerings}
    assert [row.entry_count for row in StoredListing.objects.all()] == [1] * 6
    assert all(server.reachable for server in McpServer.objects.all())


@BOTH
def test_a_server_that_does_not_answer_delays_nobody(
    fleet: Callable[..., Fleet], limits: Callable[..., None], list_them: ListThem
) -> None:
    limits(LIST_TOGETHER_SECONDS=1.0)
    at = fleet(4)
    at.offerings["s1"].open.clear()

    began = time.monotonic()
    found = outcome(list_them(at.workspace.slug, at.ada))
    took = time.monotonic() - began
    at.offerings["s1"].open.set()

    assert found == {"s0": ["s0_tool"], "s1": "timeout", "s2": ["s2_tool"], "s3": ["s3_tool"]}
    assert 1.0 <= took < 5.0
    row = McpServer.objects.get(name="s1")
    assert (row.reachable, row.contact_error_code) == (False, "timeout")


def test_what_has_come_can_be_had_before_the_slowest_is_there(fleet: Callable[..., Fleet], threads: Threads) -> None:
    at = fleet(3)
    at.offerings["s1"].open.clear()
    at.offerings["s1"].asked.clear()
    listing = threads.submit(lambda: list_workspace_tools(at.workspace, at.ada))
    assert at.offerings["s1"].asked.wait(PATIENCE)

    # Waits for whoever is asking, and not for the slow one beside it.
    assert [found.name for found in list_tools(at.servers["s2"], at.ada)] == ["s2_tool"]
    assert not listing.done()
    at.offerings["s1"].open.set()

    assert len(listing.result(PATIENCE)) == 3
    assert at.offerings["s2"].listings() == 1


@BOTH
def test_a_broken_server_hides_no_other(fleet: Callable[..., Fleet], list_them: ListThem) -> None:
    at = fleet(5)
    at.offerings["s0"].status = 500
    at.servers["s1"].url = "http://127.0.0.1:9/mcp"
    at.servers["s1"].save()
    McpServer.objects.filter(name="s2").update(oauth_options='"junk"', discover_result="junk", allowed_tools="junk")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE mcp_oauth_mcpserver SET headers='unreadable', auth_mode='headers' WHERE name='s3'")

    found = outcome(list_them(at.workspace, at.ada))

    assert found == {
        "s0": "server_refused",
        "s1": "server_unreachable",
        "s2": [],
        "s3": "secret_unreadable",
        "s4": ["s4_tool"],
    }
    errors = {server.name: server.contact_error_code for server in McpServer.objects.all()}
    assert errors == {"s0": "", "s1": "server_unreachable", "s2": "", "s3": "", "s4": ""}


def test_a_listing_of_now_is_asked_for_and_an_older_one_is_not(fleet: Callable[..., Fleet]) -> None:
    at = fleet(2)
    list_workspace_tools(at.workspace, at.ada)
    at.offerings["s0"].tools.append(tool("new"))

    assert outcome(list_workspace_tools(at.workspace, at.ada)) == {"s0": ["s0_tool"], "s1": ["s1_tool"]}
    assert outcome(list_workspace_tools(at.workspace, at.ada, refresh=True)) == {
        "s0": ["s0_tool", "new"],
        "s1": ["s1_tool"],
    }
    assert [offering.listings() for offering in at.offerings.values()] == [2, 2]


def test_a_workspace_of_others_is_not_found(fleet: Callable[..., Fleet]) -> None:
    at = fleet(1)
    stranger = member(new_workspace())

    for workspace in (at.workspace, at.workspace.slug, "no-such-place"):
        with pytest.raises(NotAllowed):
            list_workspace_tools(workspace, stranger)
    with pytest.raises(NotAllowed):
        alist_them(at.workspace, stranger)
    assert at.offerings["s0"].listings() == 0


def test_a_server_out_of_use_is_left_out(fleet: Callable[..., Fleet]) -> None:
    at = fleet(3)
    McpServer.objects.filter(name="s0").update(enabled=False)
    McpServer.objects.filter(name="s1").update(removal_at=timezone.now() + timedelta(hours=1))

    assert outcome(list_workspace_tools(at.workspace, at.ada)) == {"s2": ["s2_tool"]}
    assert [offering.listings() for offering in at.offerings.values()] == [0, 0, 1]


@BOTH
def test_each_member_is_shown_their_own_and_told_what_keeps_them(
    team: MakeTeam, threads: Threads, list_them: ListThem
) -> None:
    offering = Offering(by_user={"ada": [tool("adas")], "grace": [tool("graces")]})
    at = team("ada", "grace", offering=offering)
    stranger = member(at.workspace)

    assert outcome(list_them(at.workspace, at.ada)) == {"Tracker": ["adas"]}
    assert outcome(list_them(at.workspace, at.grace)) == {"Tracker": ["graces"]}
    assert outcome(list_them(at.workspace, stranger)) == {"Tracker": "reauth_required"}
    McpServerOAuth.objects.filter(user=at.ada).update(state="needs_reauthorization", reason="revoked")
    [dead] = list_them(at.workspace, at.ada)

    assert dead.error is not None
    assert dead.error.as_json()["reason"] == "revoked"
    assert at.offering.listings() == 2


@BOTH
def test_a_grant_that_has_to_be_renewed_is_renewed_on_the_way(
    team: MakeTeam, fleet: Callable[..., Fleet], list_them: ListThem
) -> None:
    at, others = team("ada"), fleet(2)
    McpServer.objects.filter(pk__in=[server.pk for server in others.servers.values()]).update(workspace=at.workspace)
    McpServerOAuth.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    at.peer.authorization_server.expire_access_tokens()  # type: ignore[union-attr]

    assert outcome(list_them(at.workspace, at.ada)) == {
        "Tracker": ["look", "write"],
        "s0": ["s0_tool"],
        "s1": ["s1_tool"],
    }
    assert McpServerOAuth.objects.get().refreshed_at is not None
    at.peer.authorization_server.expire_access_tokens()  # type: ignore[union-attr]
    assert outcome(list_them(at.workspace, at.ada, refresh=True))["Tracker"] == ["look", "write"]


@pytest.fixture
def stored_at_once(settings: Any) -> None:
    """Have everything stored together that comes, however far apart a busy machine lets it come."""
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "LIST_TOGETHER_PAUSE_SECONDS": 60.0}


@pytest.mark.parametrize("state", ["cold", "old", "fresh", "fresh and evicted"])
def test_the_number_of_statements_does_not_grow_with_the_servers(
    fleet: Callable[..., Fleet], state: str, stored_at_once: None
) -> None:
    def statements(count: int) -> int:
        at = fleet(count)
        if state != "cold":
            list_workspace_tools(at.workspace, at.ada)
        if state == "old":
            grow_old()
            McpServer.objects.update(contacted_at=timezone.now() - timedelta(hours=1))
        if state == "fresh and evicted":
            empty_cache()
        with CaptureQueriesContext(connection) as queries:
            assert outcome(list_workspace_tools(at.workspace, at.ada)) == {
                name: [f"{name}_tool"] for name in at.offerings
            }
        StoredListing.objects.all().delete()
        return len(queries)

    few = statements(2)
    assert statements(12) == few
    assert few <= {"cold": 12, "old": 11, "fresh": 2, "fresh and evicted": 4}[state]


def test_the_number_of_statements_does_not_grow_with_grants_either(team: MakeTeam, stored_at_once: None) -> None:
    at = team("ada")
    [grant] = McpServerOAuth.objects.all()

    def statements(count: int) -> int:
        for _ in range(count):
            number = McpServer.objects.count()
            server = at.again()
            server.pk, server.slug, server.name = None, f"more-{number}", f"More {number}"
            server.id = McpServer._meta.pk.get_default()
            server._state.adding = True
            server.save()
            copy = McpServerOAuth(server=server, user=at.ada, connected_at=timezone.now())
            copy.access_token = grant.access_token
            copy.save()
        empty_cache()
        with CaptureQueriesContext(connection) as queries:
            found = outcome(list_workspace_tools(at.workspace, at.ada, refresh=True))
        assert list(found.values()) == [["look", "write"]] * McpServer.objects.count()
        return len(queries)

    few = statements(1)
    assert statements(10) - few <= 1  # those that are new are inserted


def test_changes_of_several_servers_are_recorded_together(fleet: Callable[..., Fleet]) -> None:
    from mcp_oauth.models import Event

    at = fleet(3)
    list_workspace_tools(at.workspace, at.ada)
    for name in ("s0", "s2"):
        at.offerings[name].tools.append(tool("new"))

    list_workspace_tools(at.workspace, at.ada, refresh=True)

    events = Event.objects.filter(kind=Event.Kind.TOOLS_CHANGED)
    assert {(event.server_name, *event.details["added"]) for event in events} == {("s0", "new"), ("s2", "new")}


def test_the_command_lists_every_server_at_once(
    fleet: Callable[..., Fleet], capsys: pytest.CaptureFixture[str], limits: Callable[..., None]
) -> None:
    limits(LIST_TOGETHER_SECONDS=0.5)
    at = fleet(3)
    at.offerings["s1"].open.clear()

    call_command("list_mcp_tools", user=at.ada.username, json=True)
    as_ada = json.loads(capsys.readouterr().out)["servers"]
    at.offerings["s1"].open.set()
    call_command("list_mcp_tools", json=True)
    of_nobody = json.loads(capsys.readouterr().out)["servers"]

    assert [one.get("error", {}).get("code") for one in as_ada] == [None, "timeout", None]
    assert [[found["name"] for found in one["tools"]] for one in of_nobody] == [["s0_tool"], ["s1_tool"], ["s2_tool"]]


def test_nobody_opens_what_people_open_for_themselves(
    team: MakeTeam, fleet: Callable[..., Fleet], capsys: pytest.CaptureFixture[str]
) -> None:
    at, _others = team("ada"), fleet(1)

    call_command("list_mcp_tools", json=True)

    found = json.loads(capsys.readouterr().out)["servers"]
    assert sorted(one.get("error", {}).get("code", "listed") for one in found) == ["listed", "reauth_required"]
    assert at.offering.listings() == 0


def test_asynchronous_callers_are_not_held_up_by_a_slow_listing(fleet: Callable[..., Fleet]) -> None:
    at = fleet(2)
    at.offerings["s0"].open.clear()
    done = threading.Event()

    async def both() -> int:
        listing = asyncio.create_task(alist_workspace_tools(at.workspace, at.ada))
        assert await asyncio.to_thread(at.offerings["s0"].asked.wait, PATIENCE)
        # Django's one thread for database work is free.
        await sync_to_async(Membership.objects.count)()
        done.set()
        at.offerings["s0"].open.set()
        return len(await listing)

    assert asynchronously(both) == 2
    assert done.is_set()
