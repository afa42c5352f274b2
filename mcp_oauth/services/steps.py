"""One plan for two kinds of callers: rows are read and written in sync code, the wire is awaited on its loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

from mcp_oauth.sessions import loop

T = TypeVar("T")


@dataclass(frozen=True)
class WireStep:
    """Work for the process's event loop, bounded in seconds. It must not touch the database."""

    work: Callable[[], Coroutine[Any, Any, Any]]
    seconds: float


# A plan yields what has to happen on the wire, is resumed with the outcome, and returns its result.
Plan = Generator[WireStep, Any, T]


@dataclass(frozen=True)
class _Finished:
    value: Any


def drive(plan: Plan[T]) -> T:
    """Run a plan for a synchronous caller."""
    step = _advance(plan, None, None)
    while not isinstance(step, _Finished):
        try:
            outcome = loop.run(step.work, timeout=step.seconds)
        except Exception as error:  # handed to the plan, which decides; what it does not know it raises again
            step = _advance(plan, None, error)
        else:
            step = _advance(plan, outcome, None)
    value: T = step.value
    return value


async def adrive(plan: Plan[T]) -> T:
    """Run a plan for an asynchronous caller; its database work runs in Django's sync thread."""
    advance = sync_to_async(_advance)
    step = await advance(plan, None, None)
    while not isinstance(step, _Finished):
        try:
            outcome = await loop.arun(step.work, timeout=step.seconds)
        except Exception as error:  # as in drive()
            step = await advance(plan, None, error)
        else:
            step = await advance(plan, outcome, None)
    value: T = step.value
    return value


def _advance(plan: Plan[Any], outcome: Any, error: Exception | None) -> WireStep | _Finished:
    """Resume a plan; its return travels as a value, because StopIteration cannot leave a coroutine."""
    try:
        return plan.send(outcome) if error is None else plan.throw(error)
    except StopIteration as stop:
        return _Finished(stop.value)
