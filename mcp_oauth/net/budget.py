"""What one operation and one origin may use up, so that neither takes what belongs to all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from mcp_oauth.exceptions import DeadlineExceeded, ServerUnreachable


@dataclass(slots=True)
class _Spending:
    limit: int
    spent: int = 0


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


def spend_request(shown: str) -> None:
    """Count one request of the running operation; outside of one, nothing is counted.

    Raises:
        ServerUnreachable: The operation has used up what it may send.
    """
    spending = _current.get()
    if spending is None:
        return
    spending.spent += 1
    if spending.spent > spending.limit:
        raise ServerUnreachable(f"{shown} wants more than {spending.limit} requests for one operation.", document=shown)


class OriginSlots:
    """How many exchanges with each origin are under way; belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Kept while somebody holds or waits for a slot, so that origins seen once cost nothing.
        self._slots: dict[str, tuple[asyncio.Semaphore, int]] = {}

    async def take(self, origin: str, shown: str, *, seconds: float) -> None:
        """Wait for a slot, which :meth:`give_back` returns.

        Raises:
            DeadlineExceeded: None became free in time.
        """
        semaphore, users = self._slots.get(origin, (asyncio.Semaphore(self._limit), 0))
        self._slots[origin] = (semaphore, users + 1)
        try:
            async with asyncio.timeout(seconds):
                await semaphore.acquire()
        except BaseException as exc:
            self._leave(origin)
            if isinstance(exc, TimeoutError):
                raise DeadlineExceeded(
                    f"Too many requests to {shown} are under way; none was answered in time.", document=shown
                ) from exc
            raise

    def give_back(self, origin: str) -> None:
        """Return a slot that was taken."""
        self._slots[origin][0].release()
        self._leave(origin)

    def _leave(self, origin: str) -> None:
        semaphore, users = self._slots[origin]
        if users <= 1:
            del self._slots[origin]
        else:
            self._slots[origin] = (semaphore, users - 1)
