"""Measures what a piece of work costs the process: time, memory, and how long the event loop could not go on."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mcp_oauth.sessions import loop

_TICK_SECONDS = 0.004
_SAMPLE_SECONDS = 0.005
_LONGEST_SECONDS = 600.0


@dataclass
class Costs:
    """What was measured: ``bytes`` is how much more memory was resident at most, ``gap_seconds`` the longest stop.

    A stop does not count the time for which other processes kept the processors from this one.
    """

    seconds: float = 0.0
    bytes: int = 0
    gap_seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, {self.bytes // 1024} KiB, a gap of {self.gap_seconds * 1000:.0f} ms"


class Watch:
    """Looks at the process from a thread and at its event loop from within, as long as the ``with`` block lasts."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._gap = 0.0
        self._peak = 0
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._sample, lambda: loop.run(self._tick, timeout=_LONGEST_SECONDS))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(5)

    @contextlib.contextmanager
    def measured(self) -> Iterator[Costs]:
        """Measure what happens inside; the result is filled in at the end."""
        costs = Costs()
        before = self._peak = _resident_bytes()
        self._gap, started = 0.0, time.monotonic()
        try:
            yield costs
        finally:
            costs.seconds = time.monotonic() - started
            costs.gap_seconds = self._gap
            costs.bytes = max(self._peak, _resident_bytes()) - before

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            self._peak = max(self._peak, _resident_bytes())

    async def _tick(self) -> None:
        while not self._over.is_set():
            waited, before = _waits(), time.monotonic()
            await asyncio.sleep(_TICK_SECONDS)
            gap = time.monotonic() - before - _TICK_SECONDS
            if gap > self._gap:
                # Whichever thread held the loop up, it did not while it was ready and no processor was free for it.
                kept_off = max((wait - waited.get(thread, 0) for thread, wait in _waits().items()), default=0)
                self._gap = max(self._gap, gap - kept_off / 1e9)


def _waits() -> dict[str, int]:
    """Return for how many nanoseconds each thread was ready to run and did not, where the system says so."""
    waits: dict[str, int] = {}
    for statistics in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            waits[statistics.parent.name] = int(statistics.read_text().split()[1])
    return waits


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
