"""One plan for two kinds of callers: rows are read and written in sync code, the wire is awaited on its loop."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Generic, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections
from django.utils import translation

from mcp_oauth.exceptions import DeadlineExceeded, ServerUnreachable
from mcp_oauth.sentences import sentence
from mcp_oauth.sessions import loop

logger = logging.getLogger(__name__)

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


# Given what came of plans, by their numbers, to store it together.
Settle = Callable[[list[tuple[int, T | Exception]]], None]


def drive_all(
    plans: Sequence[Plan[T]], *, seconds: float, at_once: int, settle: Settle[T] | None = None, pause: float = 0.0
) -> list[T | Exception]:
    """Run many plans at the same time for a synchronous caller; return each one's result or error, in their order.

    Each plan has ``seconds`` of its own from its start, and ``at_once`` of them are under way; one that is late gets
    `DeadlineExceeded` and delays nobody. All database work is the calling thread's, that of waiting steps excepted.

    ``settle`` is called with results that have come, each once: when nothing more came for ``pause`` seconds, and at
    the end.
    """
    woken = threading.Event()
    crowd = _Crowd(plans, seconds, at_once, woken.set)
    try:
        crowd.turn()
        while not crowd.is_over:
            if not woken.wait(crowd.patience(pause if settle is not None else math.inf)) and settle is not None:
                crowd.settle(settle)
            woken.clear()
            crowd.turn()
        if settle is not None:
            crowd.settle(settle)
    except BaseException:
        crowd.give_up()
        raise
    return crowd.results


async def adrive_all(
    plans: Sequence[Plan[T]], *, seconds: float, at_once: int, settle: Settle[T] | None = None, pause: float = 0.0
) -> list[T | Exception]:
    """Do the same as `drive_all` for an asynchronous caller; the database work runs in Django's sync thread.

    Everything that can go on at a moment does so in one hop into that thread.
    """
    woken, home = asyncio.Event(), asyncio.get_running_loop()

    def wake() -> None:
        home.call_soon_threadsafe(woken.set)

    crowd = _Crowd(plans, seconds, at_once, wake)
    turn, store, give_up = sync_to_async(crowd.turn), sync_to_async(crowd.settle), sync_to_async(crowd.give_up)
    try:
        await turn()
        while not crowd.is_over:
            try:
                async with asyncio.timeout(crowd.patience(pause if settle is not None else math.inf)):
                    await woken.wait()
            except TimeoutError:
                if settle is not None:
                    await store(settle)
            woken.clear()
            await turn()
        if settle is not None:
            await store(settle)
    except BaseException:
        await give_up()
        raise
    return crowd.results


@dataclass
class _Running:
    """A plan that waits for something, and until when it may; ``next_tick`` is when its caller looks after it."""

    ends_at: float
    step: WireStep | WaitingStep
    future: Future[Any]
    next_tick: float


class _Crowd(Generic[T]):
    """Many plans and how far each of them is. Only ``wake`` is called from other threads."""

    def __init__(self, plans: Sequence[Plan[T]], seconds: float, at_once: int, wake: Callable[[], None]) -> None:
        self._plans = list(plans)
        self._seconds = seconds
        self._at_once = max(1, at_once)
        self._wake = wake
        self._next = 0
        self._leaving: list[tuple[int, float, WireStep | WaitingStep]] = []
        self._running: dict[int, _Running] = {}
        self._came: deque[tuple[int, Future[Any]]] = deque()
        self._came_at = 0.0
        self._results: dict[int, T | Exception] = {}
        self._unsettled: list[int] = []
        self._given_up = False

    @property
    def is_over(self) -> bool:
        return len(self._results) == len(self._plans)

    @property
    def results(self) -> list[T | Exception]:
        return [self._results[number] for number in range(len(self._plans))]

    def patience(self, pause: float) -> float:
        """Return for how many seconds there is nothing to do unless something comes."""
        moments = [min(running.ends_at, running.next_tick) for running in self._running.values()]
        if self._unsettled:
            moments.append(self._came_at + pause)
        return max(0.0, min(moments) - time.monotonic())

    def turn(self) -> None:
        """Go on with every plan that can, and start others in the place of those that ended."""
        moves = deque(self._due())
        while moves or (self._next < len(self._plans) and len(self._running) + len(self._leaving) < self._at_once):
            if moves:
                self._advance(*moves.popleft())
            else:
                self._next += 1
                self._advance(self._next - 1, time.monotonic() + self._seconds, None, None)
        self._launch()

    def settle(self, settle: Settle[T]) -> None:
        """Hand over what was not handed over yet."""
        numbers, self._unsettled = self._unsettled, []
        if numbers:
            settle([(number, self._results[number]) for number in numbers])

    def give_up(self) -> None:
        """End everything that is under way."""
        self._given_up = True
        for running in self._running.values():
            running.future.cancel()
        for plan in self._plans:
            try:
                plan.close()
            except Exception:  # the others are to be closed as well, and the reason to give up is what counts
                logger.exception("a plan that was given up failed once more")

    def _due(self) -> list[tuple[int, float, Any, Exception | None]]:
        """Take out the plans that got what they waited for, are late, or whose caller wants their step to end."""
        due: list[tuple[int, float, Any, Exception | None]] = []
        while self._came:
            number, future = self._came.popleft()
            running = self._running.get(number)
            if running is not None and running.future is future:
                del self._running[number]
                due.append((number, running.ends_at, *_outcome(future)))
        now = time.monotonic()
        for number, running in list(self._running.items()):
            error: Exception | None = _too_late(self._seconds) if running.ends_at <= now else _ticked(running, now)
            if error is not None:
                running.future.cancel()
                del self._running[number]
                due.append((number, running.ends_at, None, error))
        return due

    def _advance(self, number: int, ends_at: float, outcome: Any, error: Exception | None) -> None:
        plan = self._plans[number]
        try:
            step = _advance(plan, outcome, error)
        except Exception as failure:  # a result like any other: the plan of one does not end the others
            self._finish(number, failure)
            return
        if isinstance(step, _Finished):
            self._finish(number, step.value)
        elif ends_at <= time.monotonic():
            plan.close()
            self._finish(number, _too_late(self._seconds))
        else:
            self._leaving.append((number, ends_at, step))

    def _finish(self, number: int, result: T | Exception) -> None:
        self._results[number] = result
        self._unsettled.append(number)
        self._came_at = time.monotonic()

    def _launch(self) -> None:
        """Start what plans wait for; the loop is woken once for all of it."""
        leaving, self._leaving = self._leaving, []
        wire = [(step.work, step.seconds) for _number, _ends_at, step in leaving if isinstance(step, WireStep)]
        on_loop = iter(loop.submit_all(wire) if wire else ())
        for number, ends_at, step in leaving:
            if isinstance(step, WaitingStep):
                # Django keeps the language beside the context, and for one thread alone.
                work = partial(_in_language, translation.get_language(), step.work)
                future: Future[Any] = _threads().submit(copy_context().run, _then_close, work)
                next_tick = math.inf
            else:
                future = next(on_loop)
                next_tick = math.inf if step.tick is None else time.monotonic() + step.tick_seconds
            self._running[number] = _Running(ends_at, step, future, next_tick)
            future.add_done_callback(partial(self._arrive, number))

    def _arrive(self, number: int, future: Future[Any]) -> None:
        self._came.append((number, future))
        if not self._given_up:
            self._wake()


def _outcome(future: Future[Any]) -> tuple[Any, Exception | None]:
    try:
        return future.result(), None
    except CancelledError:
        return None, ServerUnreachable(sentence("The operation was given up because this process is ending."))
    except Exception as error:  # handed to the plan, as in drive()
        return None, error


def _ticked(running: _Running, now: float) -> Exception | None:
    """Look after a step where it is time to; return what its caller wants it to end with."""
    if running.next_tick > now or isinstance(running.step, WaitingStep) or running.step.tick is None:
        return None
    running.next_tick = now + running.step.tick_seconds
    try:
        running.step.tick()
    except Exception as error:  # handed to the plan, as in drive()
        return error
    return None


def _in_language(language: str | None, work: Callable[[], T]) -> T:
    with translation.override(language):
        return work()


def _too_late(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(sentence("The operation did not finish within %(seconds)g seconds.", seconds=seconds))


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
