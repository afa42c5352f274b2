"""The one event-loop thread of a process, on which every network operation runs."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from mcp_oauth.exceptions import DeadlineExceeded, ServerUnreachable
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.net.transport import GuardedTransport
from mcp_oauth.sentences import sentence

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long a cancelled operation may take to clean up before its caller stops waiting for it.
_GRACE_SECONDS = 2.0
_STOP_SECONDS = 2.0


class _LoopThread:
    """An event loop running in a daemon thread of its own."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, name="mcp-oauth-loop", daemon=True)
        running = threading.Event()
        self.loop.call_soon(running.set)
        self.thread.start()
        running.wait()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            # Whatever ended the loop, nobody may be left waiting for it.
            self.loop.run_until_complete(self._wind_down())
            self.loop.close()

    def usable(self) -> bool:
        return self.pid == os.getpid() and self.thread.is_alive() and self.loop.is_running()

    def stop(self) -> None:
        if self.pid == os.getpid() and self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(_STOP_SECONDS * 1.5)

    async def _wind_down(self) -> None:
        for goodbye in _goodbyes:
            try:
                async with asyncio.timeout(_STOP_SECONDS / 2):
                    await goodbye()
            except Exception:  # whoever says goodbye, the process ends
                logger.debug("a farewell failed", exc_info=True)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_SECONDS / 2)
        for transport in _take_transports(self.loop):
            await transport.aclose()
        await self.loop.shutdown_asyncgens()


class _State:
    """What a process holds; a forked child starts with an empty one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.worker: _LoopThread | None = None
        self.transports: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[NetworkPolicy, GuardedTransport]] = (
            WeakKeyDictionary()
        )


_state = _State()
# What is done on a loop before it stops; registered once, at import.
_goodbyes: list[Callable[[], Coroutine[Any, Any, None]]] = []
# Collecting an inherited loop would close descriptors it shares with the parent's, so a child keeps them all.
_inherited: list[_State] = []


def _forget_in_child() -> None:
    global _state
    _inherited.append(_state)
    _state = _State()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


@atexit.register
def _stop_at_exit() -> None:
    if _state.worker is not None:
        _state.worker.stop()


def before_stopping(goodbye: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have something done on the loop, for a second at most, before it stops."""
    _goodbyes.append(goodbye)


def _worker() -> _LoopThread:
    with _state.lock:
        if _state.worker is None or not _state.worker.usable():
            _state.worker = _LoopThread()
        return _state.worker


# `timeout` is part of the contract with callers that are not coroutines; `asyncio.timeout` cannot reach them.
def run(
    factory: Callable[[], Coroutine[Any, Any, T]],
    *,
    timeout: float,
    tick: Callable[[], None] | None = None,
    tick_seconds: float = 1.0,
) -> T:
    """Run a coroutine on the loop thread and wait for its result; ``timeout`` is in seconds.

    ``tick`` is called in the waiting thread every ``tick_seconds``; what it raises cancels the operation and is raised.

    Raises:
        DeadlineExceeded: It took longer; it has been cancelled.
        ServerUnreachable: The process is ending.
        RuntimeError: Called on the loop thread, where waiting would never end.
    """
    future = submit(factory, timeout=timeout)
    try:
        while tick is not None:
            try:
                return future.result(tick_seconds)
            except concurrent.futures.TimeoutError:
                if future.done():
                    # It has ended meanwhile, or this error is its own.
                    return future.result()
            tick()
        return future.result(timeout + _GRACE_SECONDS)
    except concurrent.futures.CancelledError:
        raise ServerUnreachable(sentence("The operation was given up because this process is ending.")) from None
    except concurrent.futures.TimeoutError:
        if future.done():
            raise
        future.cancel()
        raise _too_late(timeout) from None
    except BaseException:
        # The caller is being interrupted: nobody waits for the result any more.
        future.cancel()
        raise


async def arun(
    factory: Callable[[], Coroutine[Any, Any, T]],
    *,
    timeout: float,
    tick: Callable[[], Awaitable[None]] | None = None,
    tick_seconds: float = 1.0,
) -> T:
    """Await, from another event loop, a coroutine that runs on the loop thread; ``timeout`` is in seconds.

    ``tick`` is awaited on the caller's loop as `run` calls it.

    Raises:
        DeadlineExceeded: It took longer; it has been cancelled.
        RuntimeError: Called on the loop thread.
    """
    future = asyncio.wrap_future(submit(factory, timeout=timeout))
    if tick is None:
        return await future
    try:
        while not (await asyncio.wait([future], timeout=tick_seconds))[0]:
            await tick()
    except BaseException:
        future.cancel()
        raise
    return await future


def soon(factory: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Have something done on the loop thread without waiting for it; nothing where no loop runs yet."""
    with _state.lock:
        worker = _state.worker
    if worker is not None and worker.usable():
        asyncio.run_coroutine_threadsafe(factory(), worker.loop)


_tasks: set[asyncio.Task[None]] = set()


def in_background(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that bounds itself on the running loop, which alone would let it be collected."""
    task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def submit(factory: Callable[[], Coroutine[Any, Any, T]], *, timeout: float) -> concurrent.futures.Future[T]:
    """Start a coroutine on the loop thread for a caller who waits otherwise; see `submit_all`."""
    return submit_all([(factory, timeout)])[0]


def submit_all(
    work: Sequence[tuple[Callable[[], Coroutine[Any, Any, Any]], float]],
) -> list[concurrent.futures.Future[Any]]:
    """Start coroutines on the loop thread, each with its timeout in seconds, for a caller that waits for several.

    The loop is woken once for all of them. A future fails as `run` does, with ``DeadlineExceeded`` after its time, and
    with ``CancelledError`` where the process is ending. Cancelling it cancels the operation.

    Raises:
        RuntimeError: Called on the loop thread.
    """
    worker = _worker_for_others()
    futures: list[concurrent.futures.Future[Any]] = [concurrent.futures.Future() for _ in work]

    def start() -> None:
        for (factory, timeout), future in zip(work, futures, strict=True):
            if not future.cancelled():
                task = worker.loop.create_task(_carry(future, factory, timeout))
                task.add_done_callback(partial(_pass_on, future))
                future.add_done_callback(partial(_cancel_too, worker.loop, task))

    worker.loop.call_soon_threadsafe(start)
    return futures


async def _carry(
    future: concurrent.futures.Future[Any], factory: Callable[[], Coroutine[Any, Any, Any]], timeout: float
) -> None:
    """Have whoever waits go on at once, and not a turn of the loop later."""
    try:
        result = await _bounded(factory, timeout)
    except Exception as error:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
    else:
        if future.set_running_or_notify_cancel():
            future.set_result(result)


def _pass_on(future: concurrent.futures.Future[Any], task: asyncio.Task[None]) -> None:
    """Tell whoever waits where the work could not: it never began, was cancelled, or ended with the loop."""
    if task.cancelled():
        future.cancel()
        future.set_running_or_notify_cancel()
    elif (error := task.exception()) is not None and future.set_running_or_notify_cancel():
        future.set_exception(error)


def _cancel_too(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], future: concurrent.futures.Future[Any]
) -> None:
    if future.cancelled() and not loop.is_closed():
        loop.call_soon_threadsafe(task.cancel)


def shared_transport(policy: NetworkPolicy) -> GuardedTransport:
    """Return the running loop's guarded transport for a policy, with its connection pool; the loop closes it."""
    loop = asyncio.get_running_loop()
    with _state.lock:
        transports = _state.transports.get(loop)
        if transports is None:
            # A transport keeps its loop alive, so closed loops have to be let go by hand.
            for other in [known for known in _state.transports if known.is_closed()]:
                del _state.transports[other]
            transports = _state.transports[loop] = {}
        if policy not in transports:
            transports[policy] = GuardedTransport(policy)
        return transports[policy]


def _worker_for_others() -> _LoopThread:
    worker = _worker()
    if threading.get_ident() == worker.thread.ident:
        raise RuntimeError("An operation on the loop thread cannot wait for another one; await it instead.")
    return worker


async def _bounded(factory: Callable[[], Coroutine[Any, Any, T]], timeout: float) -> T:
    try:
        async with asyncio.timeout(timeout) as deadline:
            return await factory()
    except TimeoutError as exc:
        if not deadline.expired():
            raise
        raise _too_late(timeout) from exc


def _too_late(timeout: float) -> DeadlineExceeded:
    return DeadlineExceeded(sentence("The operation did not finish within %(timeout)g seconds.", timeout=timeout))


def _take_transports(loop: asyncio.AbstractEventLoop) -> list[GuardedTransport]:
    with _state.lock:
        return list(_state.transports.pop(loop, {}).values())
