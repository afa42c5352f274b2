"""One plan for two kinds of callers: rows are read and written in sync code, the wire is awaited on its loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

from mcp_oauth.sessions import loop

T = TypeVar("T")


@dataclass(frozen=True)
class WireStep:
    """Work for the process's event loop, bounded in seconds. It must not touch the database.

    ``tick`` is done by the waiting caller every ``tick_seconds`` while the work lasts, and may touch it; what it raises
    ends the work.
    """

    work: Callable[[], Coroutine[Any, Any, Any]]
    seconds: float
    tick: Callable[[], None] | None = None
    tick_seconds: float = 1.0


@dataclass(frozen=True)
class WaitingStep:
    """Database work that waits for others as it goes: an asynchronous caller gives it a thread of its own.

    In Django's one sync thread it would hold up the database work of every other caller.
    """

    work: Callable[[], Any]


# A plan yields what has to happen elsewhere, is resumed with the outcome, and returns its result.
Plan = Generator[WireStep | WaitingStep, Any, T]

# Renewals of different grants wait for different servers; more of them at once than this wait for each other.
_WAITING_THREADS = 16


@dataclass(frozen=True)
class _Finished:
    value: Any


def drive(plan: Plan[T]) -> T:
    """Run a plan for a synchronous caller."""
    try:
        step = _advance(plan, None, None)
        while not isinstance(step, _Finished):
            try:
                outcome = (
                    step.work()
                    if isinstance(step, WaitingStep)
                    else loop.run(step.work, timeout=step.seconds, tick=step.tick, tick_seconds=step.tick_seconds)
                )
            except Exception as error:  # handed to the plan, which decides; what it does not know it raises again
                step = _advance(plan, None, error)
            else:
                step = _advance(plan, outcome, None)
    finally:
        # A caller that is interrupted does not leave its plan in the middle: what it opened, it closes.
        plan.close()
    value: T = step.value
    return value


async def adrive(plan: Plan[T]) -> T:
    """Run a plan for an asynchronous caller; its database work runs in Django's sync thread."""
    advance = sync_to_async(_advance)
    try:
        step = await advance(plan, None, None)
        while not isinstance(step, _Finished):
            try:
                if isinstance(step, WaitingStep):
                    outcome = await sync_to_async(_then_close, thread_sensitive=False, executor=_threads())(step.work)
                else:
                    tick = None if step.tick is None else sync_to_async(step.tick)
                    outcome = await loop.arun(
                        step.work, timeout=step.seconds, tick=tick, tick_seconds=step.tick_seconds
                    )
            except Exception as error:  # as in drive()
                step = await advance(plan, None, error)
            else:
                step = await advance(plan, outcome, None)
    except asyncio.CancelledError:
        # As in drive(); and not on this loop, where a plan may not touch the database.
        await sync_to_async(plan.close)()
        raise
    value: T = step.value
    return value


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WAITING_THREADS, thread_name_prefix="mcp-oauth-waiting")


def _then_close(work: Callable[[], T]) -> T:
    """Work with database connections of the thread's own, and keep none of them."""
    try:
        return work()
    finally:
        connections.close_all()


def _advance(plan: Plan[Any], outcome: Any, error: Exception | None) -> WireStep | WaitingStep | _Finished:
    """Resume a plan; its return travels as a value, because StopIteration cannot leave a coroutine."""
    try:
        return plan.send(outcome) if error is None else plan.throw(error)
    except StopIteration as stop:
        return _Finished(stop.value)
