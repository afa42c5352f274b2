"""Many plans at once: each has its own time and its own end, and what came of them is handed over once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.utils import translation

from mcp_oauth.exceptions import DeadlineExceeded, InvalidRequest, ServerUnreachable
from mcp_oauth.services.steps import Plan, WaitingStep, WireStep, adrive_all, drive_all

PATIENCE = 20.0

Run = Callable[..., list[Any]]


def run_in_tasks(plans: Sequence[Plan[Any]], **options: Any) -> list[Any]:
    """Run plans as an asynchronous caller does."""

    async def run() -> list[Any]:
        try:
            return await adrive_all(plans, **options)
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(run())


@pytest.fixture(params=[drive_all, run_in_tasks], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run plans as either kind of caller: ``run(plans, seconds=1)``."""

    def run(plans: Sequence[Plan[Any]], **options: Any) -> list[Any]:
        found: list[Any] = request.param(plans, **{"seconds": PATIENCE, "at_once": 100, **options})
        return found

    return run


async def answer(value: Any) -> Any:
    """Return a value, from the loop."""
    if isinstance(value, Exception):
        raise value
    return value


async def never() -> None:
    """Wait for what does not come."""
    await asyncio.Event().wait()


def wire(*values: Any) -> Plan[list[Any]]:
    """Fetch values from the loop, one after the other."""
    found = []
    for value in values:
        found.append((yield WireStep(lambda value=value: answer(value), PATIENCE)))  # type: ignore[misc]
    return found


def test_each_result_stands_where_its_plan_stood(run: Run) -> None:
    assert run([wire(number, -number) for number in range(50)]) == [[number, -number] for number in range(50)]


def test_no_plans_have_no_results(run: Run) -> None:
    assert run([]) == []


def test_plans_that_wait_for_each_other_go_on_together(run: Run) -> None:
    there: list[asyncio.Event] = []

    async def wait_for_all() -> None:
        mine = asyncio.Event()
        there.append(mine)
        if len(there) == 8:
            for event in there:
                event.set()
        await mine.wait()

    def meet() -> Plan[str]:
        yield WireStep(wait_for_all, PATIENCE)
        return "met"

    assert run([meet() for _ in range(8)]) == ["met"] * 8


def test_an_error_is_the_result_of_its_own_plan(run: Run) -> None:
    def stubborn() -> Plan[str]:
        try:
            yield WireStep(lambda: answer(ValueError("from the wire")), PATIENCE)
        except ValueError:
            return "mended"
        return "unreachable"

    def broken() -> Plan[None]:
        raise InvalidRequest("at once")
        yield

    error = ServerUnreachable("from the wire")
    found = run([wire(1), wire(error), stubborn(), broken(), wire(2)])

    assert found[0] == [1]
    assert found[1] is error
    assert found[2] == "mended"
    assert isinstance(found[3], InvalidRequest)
    assert found[4] == [2]


def test_a_plan_that_is_late_delays_no_other(run: Run) -> None:
    heard: list[str] = []
    cancelled = threading.Event()

    async def endless() -> None:
        try:
            await never()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def late() -> Plan[None]:
        try:
            yield WireStep(endless, PATIENCE)
        except DeadlineExceeded:
            heard.append("told")
            raise

    began = time.monotonic()
    found = run([wire(1), late(), wire(2)], seconds=0.3)

    assert time.monotonic() - began < PATIENCE / 2
    assert [found[0], found[2]] == [[1], [2]]
    assert isinstance(found[1], DeadlineExceeded)
    assert heard == ["told"]
    assert cancelled.wait(PATIENCE)


def test_a_plan_that_is_late_gets_no_more_time_by_asking_for_it(run: Run) -> None:
    closed: list[str] = []

    def greedy() -> Plan[None]:
        try:
            while True:
                try:
                    yield WireStep(never, PATIENCE)
                except DeadlineExceeded:
                    continue
        finally:
            closed.append("closed")

    [found] = run([greedy()], seconds=0.2)

    assert isinstance(found, DeadlineExceeded)
    assert closed == ["closed"]


def test_database_work_that_waits_does_so_in_a_thread_of_its_own(run: Run) -> None:
    there = threading.Barrier(5)

    def renew() -> Plan[str]:
        name: str = yield WaitingStep(lambda: f"{threading.current_thread().name} {there.wait(PATIENCE)}")
        return name.partition("_")[0]

    assert run([renew() for _ in range(5)]) == ["mcp-oauth-waiting"] * 5


def test_work_in_other_threads_speaks_the_callers_language(run: Run) -> None:
    def renew() -> Plan[str]:
        language: str = yield WaitingStep(translation.get_language)
        return language

    with translation.override("de"):
        assert run([renew()]) == ["de"]


def test_all_database_work_is_done_in_one_thread(run: Run) -> None:
    def work() -> Plan[set[int]]:
        threads = {threading.get_ident()}
        for _ in range(3):
            yield WireStep(lambda: answer(None), PATIENCE)
            threads.add(threading.get_ident())
        return threads

    assert len(set.union(*run([work() for _ in range(10)]))) == 1


def test_no_more_plans_are_under_way_than_are_to_be(run: Run) -> None:
    lock, under_way, most = threading.Lock(), [0], [0]

    def counted() -> Plan[int]:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        yield WireStep(lambda: asyncio.sleep(0.01), PATIENCE)
        with lock:
            under_way[0] -= 1
        return 1

    assert sum(run([counted() for _ in range(20)], at_once=3)) == 20
    assert most == [3]


def test_a_plan_has_its_time_from_when_it_starts(run: Run) -> None:
    def slow() -> Plan[str]:
        yield WireStep(lambda: asyncio.sleep(0.2), PATIENCE)
        return "done"

    assert run([slow() for _ in range(4)], at_once=1, seconds=0.6) == ["done"] * 4


def test_the_caller_looks_after_steps_that_want_it(run: Run) -> None:
    ticks: list[int] = []
    ended = threading.Event()

    def tick() -> None:
        ticks.append(threading.get_ident())
        if len(ticks) == 3:
            raise InvalidRequest("given up")

    async def endless() -> None:
        try:
            await never()
        finally:
            ended.set()

    def ticking() -> Plan[None]:
        yield WireStep(endless, PATIENCE, tick=tick, tick_seconds=0.02)

    [found] = run([ticking()])

    assert isinstance(found, InvalidRequest)
    assert len(ticks) == 3
    assert ended.wait(PATIENCE)


def test_results_are_handed_over_once_and_before_the_slowest_has_come(run: Run) -> None:
    batches: list[list[int]] = []
    settled = threading.Event()

    def settle(outcomes: list[tuple[int, Any]]) -> None:
        batches.append(sorted(number for number, _result in outcomes))
        settled.set()

    def slow() -> Plan[str]:
        yield WireStep(lambda: asyncio.to_thread(settled.wait, PATIENCE), PATIENCE)
        return "last"

    found = run([wire(1), slow(), wire(2), wire(3)], settle=settle, pause=0.05)

    assert found == [[1], "last", [2], [3]]
    assert batches == [[0, 2, 3], [1]]


def test_what_comes_together_is_handed_over_together(run: Run) -> None:
    batches: list[int] = []

    run([wire(number) for number in range(30)], settle=lambda found: batches.append(len(found)), pause=5.0)

    assert batches == [30]


def test_a_failure_to_store_ends_everything_that_is_under_way(run: Run) -> None:
    closed: list[str] = []

    def endless() -> Plan[None]:
        try:
            yield WireStep(never, PATIENCE)
        finally:
            closed.append("closed")

    def settle(outcomes: list[tuple[int, Any]]) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        run([wire(1), endless()], settle=settle, pause=0.01)

    assert closed == ["closed"]


def test_a_plan_that_fails_to_end_keeps_no_other_from_ending(run: Run) -> None:
    closed: list[str] = []

    def bad() -> Plan[None]:
        try:
            yield WireStep(never, PATIENCE)
        finally:
            raise ValueError("in the end")

    def good() -> Plan[None]:
        try:
            yield WireStep(never, PATIENCE)
        finally:
            closed.append("closed")

    def interrupt() -> Plan[None]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        run([bad(), good(), interrupt()])

    assert closed == ["closed"]


def test_an_asynchronous_caller_who_is_cancelled_ends_what_is_under_way() -> None:
    closed, started = threading.Event(), threading.Event()

    def endless() -> Plan[None]:
        started.set()
        try:
            yield WireStep(never, PATIENCE)
        finally:
            closed.set()

    async def cancelled() -> bool:
        task = asyncio.create_task(adrive_all([endless()], seconds=PATIENCE, at_once=1))
        assert await asyncio.to_thread(started.wait, PATIENCE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled()

    assert asyncio.run(cancelled())
    assert closed.is_set()
