"""However many callers want a listing at the same moment, its server is asked once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.db import connections

from mcp_oauth import ServerUnreachable, acall_tool, alist_tools, call_tool, list_tools
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.services import flights
from tests.servers.offering import Offering, tool
from tests.team import Team, Threads, grow_old

pytestmark = pytest.mark.django_db(transaction=True)

MakeTeam = Callable[..., Team]
CALLERS = 12
PATIENCE = 30.0


class Waiting:
    """Counts the callers who found that another one is asking."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, others: int) -> None:
        self.all_there = threading.Event()
        self.names: set[Any] = set()
        take_off = flights.take_off

        def watched(name: str) -> Any:
            flight = take_off(name)
            if flight is None:
                self.names.add((threading.get_ident(), len(self.names)))
            if len(self.names) >= others:
                self.all_there.set()
            return flight

        monkeypatch.setattr(flights, "take_off", watched)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Waiting]:
    """Watch how many callers wait for another one: ``waiting(11).all_there.wait(…)``."""
    return lambda others: Waiting(monkeypatch, others)


def listed(at: Team, **options: Any) -> list[str]:
    return [found.name for found in list_tools(at.server, at.ada, **options)]


def test_many_threads_that_list_at_once_ask_once(
    team: MakeTeam, threads: Threads, waiting: Callable[[int], Waiting]
) -> None:
    at = team("ada")
    others = waiting(CALLERS - 1)
    at.offering.open.clear()

    lists = [threads.submit(lambda: listed(at)) for _ in range(CALLERS)]
    assert others.all_there.wait(PATIENCE)
    at.offering.open.set()

    assert [one.result(PATIENCE) for one in lists] == [["look", "write"]] * CALLERS
    assert at.offering.listings() == 1


def test_calls_of_a_tool_nobody_has_seen_yet_list_once_and_run_each(
    team: MakeTeam, threads: Threads, waiting: Callable[[int], Waiting]
) -> None:
    at = team("ada")
    others = waiting(CALLERS - 1)
    at.offering.open.clear()

    calls = [threads.submit(lambda: call_tool(at.server, at.ada, "look").text) for _ in range(CALLERS)]
    assert others.all_there.wait(PATIENCE)
    at.offering.open.set()

    assert [one.result(PATIENCE) for one in calls] == ["look for ada"] * CALLERS
    assert at.offering.listings() == 1
    assert len(at.offering.ran) == CALLERS


def test_many_tasks_that_list_at_once_ask_once_and_hold_up_nobody(
    team: MakeTeam, waiting: Callable[[int], Waiting]
) -> None:
    # More than there are threads for waiting.
    tasks = 40
    at = team("ada", "grace")
    list_tools(at.server, at.grace)
    others = waiting(tasks - 1)
    at.offering.listed.clear()
    at.offering.open.clear()

    async def everybody() -> list[int]:
        try:
            lists = [asyncio.create_task(alist_tools(at.server, at.ada)) for _ in range(tasks)]
            assert await asyncio.to_thread(others.all_there.wait, PATIENCE)
            # Somebody else's call goes on meanwhile, in the same threads.
            assert (await acall_tool(at.server, at.grace, "look")).text == "look for grace"
            at.offering.open.set()
            return [len(catalogue) for catalogue in await asyncio.gather(*lists)]
        finally:
            await sync_to_async(connections.close_all)()

    assert asyncio.run(everybody()) == [2] * tasks
    assert at.offering.listings() == 1


def test_members_who_see_the_same_public_listing_ask_once_when_it_is_old(
    team: MakeTeam, threads: Threads, waiting: Callable[[int], Waiting]
) -> None:
    at = team("ada", "grace", offering=Offering(caching={"ttlMs": 0, "cacheScope": "public"}))
    listed(at)
    at.offering.listed.clear()
    others = waiting(1)
    at.offering.open.clear()

    lists = [threads.submit(lambda user=user: len(list_tools(at.server, user))) for user in (at.ada, at.grace)]  # type: ignore[misc]
    assert others.all_there.wait(PATIENCE)
    at.offering.open.set()

    assert [one.result(PATIENCE) for one in lists] == [2, 2]
    assert at.offering.listings() == 1


def test_members_who_see_listings_of_their_own_do_not_wait_for_each_other(team: MakeTeam, threads: Threads) -> None:
    at = team("ada", "grace")
    at.offering.open.clear()

    lists = [threads.submit(lambda user=user: len(list_tools(at.server, user))) for user in (at.ada, at.grace)]  # type: ignore[misc]
    assert all(at.offering.arrivals.acquire(timeout=PATIENCE) for _ in at.members)
    at.offering.open.set()

    assert [one.result(PATIENCE) for one in lists] == [2, 2]


def test_who_has_an_older_listing_does_not_wait_long_for_a_newer_one(
    team: MakeTeam, threads: Threads, limits: Callable[..., None]
) -> None:
    limits(CATALOGUE_WAIT_SECONDS=0.05)
    at = team("ada")
    listed(at)
    grow_old()
    at.offering.tools.append(tool("new"))
    at.offering.asked.clear()
    at.offering.open.clear()

    slow = threads.submit(lambda: listed(at))
    assert at.offering.asked.wait(PATIENCE)
    assert listed(at) == ["look", "write"]
    at.offering.open.set()

    assert slow.result(PATIENCE) == ["look", "write", "new"]
    assert at.offering.listings() == 2


def test_who_wants_a_listing_of_now_takes_none_that_was_asked_for_before(
    team: MakeTeam, threads: Threads, waiting: Callable[[int], Waiting]
) -> None:
    at = team("ada")
    others = waiting(1)
    at.offering.open.clear()
    first = threads.submit(lambda: listed(at))
    assert at.offering.asked.wait(PATIENCE)

    # What is answered to the first may have been decided before this.
    second = threads.submit(lambda: listed(at, refresh=True))
    assert others.all_there.wait(PATIENCE)
    at.offering.open.set()

    assert first.result(PATIENCE) == second.result(PATIENCE) == ["look", "write"]
    assert at.offering.listings() == 2


def test_who_waited_for_a_listing_that_failed_asks_once_themselves(
    team: MakeTeam, threads: Threads, waiting: Callable[[int], Waiting]
) -> None:
    at = team("ada")
    others = waiting(CALLERS - 1)
    at.offering.status = 500
    at.offering.open.clear()

    def failing() -> str:
        try:
            return str(listed(at))
        except McpOAuthError as error:
            return error.code

    lists = [threads.submit(failing) for _ in range(CALLERS)]
    assert others.all_there.wait(PATIENCE)
    at.offering.open.set()

    assert [one.result(PATIENCE) for one in lists] == ["server_refused"] * CALLERS
    assert at.offering.listings() <= CALLERS
    at.offering.status = 200
    assert listed(at) == ["look", "write"]


def test_a_caller_who_died_while_asking_is_not_waited_for_longer_than_a_listing_takes(
    team: MakeTeam, limits: Callable[..., None]
) -> None:
    limits(LIST_SECONDS=0.2)
    at = team("ada")
    listed(at)
    [mark] = marks_of(at)
    grow_old()

    # As it stands when a process is killed.
    cache.set(mark, "somebody who is gone", timeout=60)

    assert listed(at, refresh=True) == ["look", "write"]
    assert cache.get(mark) == "somebody who is gone"
    assert at.offering.listings() == 2


def test_a_mark_that_is_junk_is_nobodys(team: MakeTeam) -> None:
    at = team("ada")
    listed(at)
    [mark] = marks_of(at)
    grow_old()
    cache.set(mark, ["junk"], timeout=60)

    assert listed(at) == ["look", "write"]
    assert at.offering.listings() == 2


def test_a_listing_that_fails_leaves_no_mark(team: MakeTeam) -> None:
    at = team("ada")
    at.offering.status = 503

    with pytest.raises(McpOAuthError):
        listed(at)

    assert [cache.get(mark) for mark in marks_of(at)] == [None]


def marks_of(at: Team) -> list[str]:
    """Return the marks under which the members' listings are asked for."""
    from mcp_oauth.services.grants import ready_grant
    from mcp_oauth.services.listing_owners import Asker, Kind

    askers = [Asker.of(at.server, user, Kind.TOOLS, ready_grant(at.server, user)) for user in at.members.values()]
    return [f"mcp_oauth.flight.{asker.own.name}" for asker in askers]


def test_a_server_that_does_not_answer_is_not_asked_for_ever(team: MakeTeam, limits: Callable[..., None]) -> None:
    limits(CALL_SECONDS=0.2, LIST_SECONDS=0.2)
    at = team("ada")
    at.offering.open.clear()

    with pytest.raises(ServerUnreachable):
        listed(at)
    at.offering.open.set()
