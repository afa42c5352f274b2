"""Times calls by one or many callers at once, and keeps contenders comparable: round by round, in turn."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

Once = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Turn:
    """One contender's calls in one round: each one's seconds, those of all together, and this process's processor's."""

    latencies: list[float]
    elapsed: float
    processor: float

    @property
    def p50(self) -> float:
        """Return the median, in seconds."""
        return statistics.median(self.latencies)

    @property
    def p95(self) -> float:
        """Return the 95th percentile, in seconds."""
        return percentile95(self.latencies)

    @property
    def work(self) -> float:
        """Return the processor's seconds per call."""
        return self.processor / len(self.latencies)

    @property
    def rate(self) -> float:
        """Return the calls per second."""
        return len(self.latencies) / self.elapsed


@dataclass
class Series:
    """What one contender took in every round, and how many requests its server counted for how many calls."""

    turns: list[Turn] = field(default_factory=list)
    requests: int = 0
    calls: int = 0

    def over(self, other: Series, of: Callable[[Turn], float]) -> float:
        """Return the median of the rounds' ratios: what slows a whole round down slows both."""
        return statistics.median(of(mine) / of(its) for mine, its in zip(self.turns, other.turns, strict=True))

    def figures(self, raw: Series) -> dict[str, float]:
        """Return what is reported of it; times in milliseconds."""
        latencies = [seconds for turn in self.turns for seconds in turn.latencies]
        return {
            "p50_ms": statistics.median(latencies) * 1000,
            "p95_ms": percentile95(latencies) * 1000,
            "per_second": statistics.median(turn.rate for turn in self.turns),
            "cpu_ms": statistics.median(turn.work for turn in self.turns) * 1000,
            "p50_over_raw": self.over(raw, lambda turn: turn.p50),
            "p95_over_raw": self.over(raw, lambda turn: turn.p95),
            "rate_over_raw": self.over(raw, lambda turn: turn.rate),
            "cpu_over_raw": self.over(raw, lambda turn: turn.work),
            "requests_per_call": self.requests / self.calls if self.calls else 0.0,
        }


def percentile95(values: list[float]) -> float:
    """Return the 95th percentile; of a single value that value."""
    return statistics.quantiles(values, n=20)[18] if len(values) > 1 else values[0]


async def from_tasks(once: Once, calls: int, callers: int) -> Turn:
    """Make so many calls from so many tasks at once."""
    latencies: list[float] = []
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            await once()
            latencies.append(time.perf_counter() - began)

    began, worked = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return Turn(latencies, time.perf_counter() - began, time.process_time() - worked)


def from_threads(pool: ThreadPoolExecutor, once: Callable[[], Any], calls: int, callers: int) -> Turn:
    """Make so many calls from so many threads at once."""
    latencies: list[float] = []
    left, lock = iter(range(calls)), threading.Lock()

    def caller() -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            began = time.perf_counter()
            once()
            latencies.append(time.perf_counter() - began)

    began, worked = time.perf_counter(), time.process_time()
    for done in [pool.submit(caller) for _ in range(callers)]:
        done.result()
    return Turn(latencies, time.perf_counter() - began, time.process_time() - worked)
