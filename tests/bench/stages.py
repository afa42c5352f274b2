"""Takes a warm call apart with a stopwatch: where its time goes, in microseconds.

The seams are those between layers and libraries: the hop to the loop, the connection pool, the database cursor and the
key ring. What lies between two of them is the stage's name.
"""

from __future__ import annotations

import contextlib
import functools
import re
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpcore2
from django.contrib.auth.models import User
from django.db import connection

from mcp_oauth.crypto import KeyRing
from mcp_oauth.models import McpServer
from mcp_oauth.sessions import loop
from tests.bench import contenders
from tests.bench.calls import KINDS
from tests.bench.data import one_pair
from tests.bench.effort import Effort
from tests.bench.processes import worker
from tests.bench.report import Finding, Table
from tests.bench.stage import Stage

# The order in which a call goes through them.
STAGES = (
    "database",
    "sealing and opening",
    "services",
    "hop to the loop",
    "session: the request is built",
    "HTTP exchange",
    "session: the answer is read",
    "hop back",
)
_TABLE = re.compile(r'(?:FROM|INTO|UPDATE) "(?:mcp_oauth_)?(\w+)"')


@dataclass
class _Laps:
    """What the stopwatch read during one call, in seconds."""

    marks: dict[str, float] = field(default_factory=dict)
    queries: dict[str, list[float]] = field(default_factory=dict)
    sealing: float = 0.0
    exchanging: float = 0.0
    under_way: int = 0
    under_way_since: float = 0.0

    def stages(self) -> dict[str, float]:
        """Return the time of each stage; together they are the whole call."""
        at = self.marks
        database = sum(sum(times) for times in self.queries.values())
        whole = at["returned"] - at["called"]
        hopping = (at["on the loop"] - at["submitted"], at["back"] - at["off the loop"])
        return {
            "database": database,
            "sealing and opening": self.sealing,
            "services": whole - (at["back"] - at["submitted"]) - database - self.sealing,
            "hop to the loop": hopping[0],
            "session: the request is built": at["sent"] - at["on the loop"],
            "HTTP exchange": self.exchanging,
            "session: the answer is read": at["off the loop"] - at["sent"] - self.exchanging,
            "hop back": hopping[1],
        }


class _Stopwatch:
    """Stands at every seam; one call at a time."""

    def __init__(self) -> None:
        self.laps = _Laps()

    def mark(self, name: str) -> None:
        self.laps.marks[name] = time.perf_counter()

    def query(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            found = _TABLE.search(sql)
            name = f"{sql.split(None, 1)[0]} {found[1]}" if found else sql[:30]
            self.laps.queries.setdefault(name, []).append(time.perf_counter() - began)

    def sealing(self, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*args)
            finally:
                # What happens on the loop belongs to the session.
                if threading.current_thread() is threading.main_thread():
                    self.laps.sealing += time.perf_counter() - began

        return timed

    def hop(self, run: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run)
        def timed(factory: Callable[[], Coroutine[Any, Any, Any]], **options: Any) -> Any:
            async def on_the_loop() -> Any:
                self.mark("on the loop")
                try:
                    return await factory()
                finally:
                    self.mark("off the loop")

            self.mark("submitted")
            try:
                return run(on_the_loop, **options)
            finally:
                self.mark("back")

        return timed

    def exchange(self, handle: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handle)
        async def timed(pool: httpcore2.AsyncConnectionPool, request: httpcore2.Request) -> httpcore2.Response:
            self.laps.marks.setdefault("sent", time.perf_counter())
            with self.under_way():
                response: httpcore2.Response = await handle(pool, request)
            response.stream = _Timed(response.stream, self)
            return response

        return timed

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Count the time in which any exchange is under way once: an older server has several at a time."""
        laps, began = self.laps, time.perf_counter()
        if not laps.under_way:
            laps.under_way_since = began
        laps.under_way += 1
        try:
            yield
        finally:
            laps.under_way -= 1
            if not laps.under_way:
                laps.exchanging += time.perf_counter() - laps.under_way_since


class _Timed:
    """A body whose waiting counts as the exchange's."""

    def __init__(self, inner: Any, watch: _Stopwatch) -> None:
        self._inner = inner
        self._watch = watch

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self._inner)
        while True:
            with self._watch.under_way():
                part = await anext(parts, None)
            if part is None:
                return
            yield part

    async def aclose(self) -> None:
        with self._watch.under_way():
            await self._inner.aclose()


def measure(stage: Stage, effort: Effort) -> Iterator[Finding]:
    """Take a warm call of each kind of server apart."""
    with worker(stage.databases.new("profile")) as measuring:
        for kind, described in KINDS.items():
            taken = measuring.ask("stages:profile", kind=kind, url=stage.peers[kind], calls=effort.profiled_calls)
            raw, whole = taken["raw"], sum(taken["stages"].values())
            rows = [("raw POST", raw, 1.0), ("call_tool, without the stopwatch", taken["call"], taken["call"] / raw)]
            rows += [(f"  {name}", spent, spent / raw) for name, spent in taken["stages"].items()]
            rows += [("  together, with the stopwatch", whole, whole / raw)]
            yield Table(f"Stages of a warm call_tool, {described}", ("", "µs", "÷ raw"), rows)
            queries = [(name, query["times"], query["microseconds"]) for name, query in taken["queries"].items()]
            yield Table("Its queries, execution alone", ("", "times", "µs"), queries)


# What runs in the measuring process.


@contextlib.contextmanager
def _at_every_seam(watch: _Stopwatch) -> Iterator[None]:
    seams: list[tuple[Any, str, Callable[..., Any]]] = [
        (loop, "run", watch.hop),
        (httpcore2.AsyncConnectionPool, "handle_async_request", watch.exchange),
        (KeyRing, "open", watch.sealing),
        (KeyRing, "seal", watch.sealing),
    ]
    originals = [(place, name, getattr(place, name)) for place, name, _ in seams]
    for place, name, wrap in seams:
        setattr(place, name, wrap(getattr(place, name)))
    try:
        with connection.execute_wrapper(watch.query):
            yield
    finally:
        for place, name, original in originals:
            setattr(place, name, original)


def profile(kind: str, url: str, calls: int) -> dict[str, Any]:
    """Return the mean time of every stage and query of a warm call, and the raw request's beside it, in microseconds.

    Means of the middle half of the calls by their whole time, so that the stages add up.
    """
    server, user = one_pair(f"profile-{kind}", url)
    recorded = contenders.record_call(server, user)
    for _ in range(20):
        contenders.call(server, user)
    laps: list[_Laps] = []
    raw: list[float] = []
    plain: list[float] = []
    for _ in range(10):
        raw += contenders.raw_latencies(recorded, calls // 10)
        plain += [_seconds(server, user) for _ in range(calls // 10)]
        laps += _measured(server, user, calls // 10)
    laps.sort(key=lambda lap: lap.marks["returned"] - lap.marks["called"])
    middle = laps[len(laps) // 4 : len(laps) - len(laps) // 4]
    stages = [lap.stages() for lap in middle]
    names = dict.fromkeys(name for lap in middle for name in lap.queries)
    return {
        "raw": statistics.median(raw) * 1e6,
        "call": statistics.median(plain) * 1e6,
        "stages": {name: statistics.mean(stage[name] for stage in stages) * 1e6 for name in STAGES},
        "queries": {
            name: {
                "times": statistics.mean(len(lap.queries.get(name, [])) for lap in middle),
                "microseconds": statistics.mean(sum(lap.queries.get(name, [])) for lap in middle) * 1e6,
            }
            for name in names
        },
    }


def _measured(server: McpServer, user: User, calls: int) -> list[_Laps]:
    laps = []
    watch = _Stopwatch()
    with _at_every_seam(watch):
        for _ in range(calls):
            watch.laps = _Laps()
            watch.mark("called")
            contenders.call(server, user)
            watch.mark("returned")
            laps.append(watch.laps)
    return laps


def _seconds(server: McpServer, user: User) -> float:
    began = time.perf_counter()
    contenders.call(server, user)
    return time.perf_counter() - began
