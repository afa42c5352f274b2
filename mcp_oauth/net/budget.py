"""What one operation and one origin may use up, so that neither takes what belongs to all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class _Spending:
    limit: int
    spent: int = 0


@dataclass(slots=True)
class _Slots:
    semaphore: asyncio.Semaphore
    users: int = 0


# The tasks of an operation inherit the variable and share the object in it.
_current: ContextVar[_Spending | None] = ContextVar("mcp_oauth_request_budget", default=None)


@contextlib.contextmanager
def request_budget(limit: int) -> Iterator[None]:
    """Let everything inside send at most this many requests together, retries and reconnections included."""
    token = _current.set(_Spending(limit))
    try:
        yield
    finally:
        _current.reset(token)


def spend_request() -> int:
    """Count one request of the running operation; return its limit if this is one too many, else 0.

    Outside of an operation nothing is counted.
    """
    spending = _current.get()
    if spending is None:
        return 0
    spending.spent += 1
    return spending.limit if spending.spent > spending.limit else 0


class OriginSlots:
    """How many exchanges are under way, with each origin and with all; belongs to one event loop."""

    def __init__(self, limit: int, limit_of_all: int) -> None:
        self._limit = limit
        self._all = asyncio.Semaphore(limit_of_all)
        # Kept while somebody holds or waits for a slot, so that origins seen once cost nothing.
        self._slots: dict[str, _Slots] = {}

    async def take(self, origin: str, *, seconds: float) -> None:
        """Wait for a slot, which :meth:`give_back` returns.

        Raises:
            TimeoutError: None became free in time.
        """
        slots = self._slots.get(origin)
        if slots is None:
            slots = self._slots[origin] = _Slots(asyncio.Semaphore(self._limit))
        slots.users += 1
        try:
            if slots.semaphore.locked() or self._all.locked():
                async with asyncio.timeout(seconds):
                    await self._acquire(slots)
            else:
                await self._acquire(slots)  # at once
        except BaseException:
            self._leave(origin, slots)
            raise

    async def _acquire(self, slots: _Slots) -> None:
        await slots.semaphore.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            slots.semaphore.release()
            raise

    def give_back(self, origin: str) -> None:
        """Return a slot that was taken."""
        slots = self._slots[origin]
        self._all.release()
        slots.semaphore.release()
        self._leave(origin, slots)

    def _leave(self, origin: str, slots: _Slots) -> None:
        slots.users -= 1
        if not slots.users:
            del self._slots[origin]
