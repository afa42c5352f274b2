"""Takes a warm call apart with a stopwatch: where its time goes, in microseconds.

The seams are those between layers and libraries: the hop to the loop, the connection pool, the database cursor and the
key ring. What lies between two of them is the stage's name. Beside the time that passed stands the processor's time of
the thread that does the work, which other programs on the machine disturb much less.
"""

from __future__ import annotations

import contextlib
import functools
import re
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.db import connection

from mcp_oauth.crypto import KeyRing
from mcp_oauth.models import McpServer
from mcp_oauth.net.transport import GuardedTransport, StreamedResponse
from mcp_oauth.sessions import loop
from tests.bench import contenders
from tests.bench.calls import KINDS
from tests.bench.data import one_pair
from tests.bench.effort import Effort
from tests.bench.report import Finding, Table
from tests.bench.stage import Stage

_TABLE = re.compile(r'(?:FROM|INTO|UPDATE) "(?:mcp_oauth_)?(\w+)"')


def measure(stage: Stage, effort: Effort) -> Iterator[Finding]:
    """Take a warm call of each kind of server apart."""
    with stage.worker("profile") as measuring:
        for kind, described in KINDS.items():
            taken = measuring.ask("stages:profile", kind=kind, url=stage.peers[kind], calls=effort.profiled_calls)
            raw = taken["raw"]["wall"]
            rows = [
                (name, spent["wall"], spent["wall"] / raw, spent["cpu"])
                for name, spent in (
                    ("raw POST", taken["raw"]),
                    ("call_tool", taken["call"]),
                    *((f"  {name}", spent) for name, spent in taken["stages"].items()),
                )
            ]
            title = f"Stages of a warm call_tool, with a stopwatch at every seam, {described}"
            yield Table(title, ("", "µs", "÷ raw", "processor µs"), rows)
            queries = [(name, query["times"], query["microseconds"]) for name, query in taken["queries"].items()]
            yield Table("Its statements, execution alone", ("", "times", "µs"), queries)


# What runs in the measuring process.


class _Time(NamedTuple):
    """A moment or a while, in seconds: as it passed, and of this thread's work."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> _Time:
        return cls(time.perf_counter(), time.thread_time())

    def plus(self, other: _Time) -> _Time:
        return _Time(self.wall + other.wall, self.cpu + other.cpu)

    def minus(self, other: _Time) -> _Time:
        return _Time(self.wall - other.wall, self.cpu - other.cpu)


_NONE = _Time(0.0, 0.0)


@dataclass
class _Laps:
    """What the stopwatch read during one call."""

    marks: dict[str, _Time] = field(default_factory=dict)
    queries: dict[str, list[_Time]] = field(default_factory=lambda: defaultdict(list))
    sealing: _Time = _NONE
    exchanging: _Time = _NONE
    under_way: int = 0
    under_way_since: _Time = _NONE

    @property
    def whole(self) -> _Time:
        return self.marks["returned"].minus(self.marks["called"])

    def stages(self) -> dict[str, _Time]:
        """Return the time of each stage, in the order of a call; together they are the whole call."""
        at = self.marks
        waited = at["back"].minus(at["submitted"])
        worked = at["off the loop"].minus(at["on the loop"])
        database = functools.reduce(_Time.plus, (taken for times in self.queries.values() for taken in times), _NONE)
        built = at["sent"].minus(at["on the loop"])
        return {
            "services": self.whole.minus(waited).minus(database).minus(self.sealing),
            "database": database,
            "sealing and opening": self.sealing,
            # Of the processor, what the waiting thread needed; the work itself was another's.
            "hop to the loop and back": _Time(waited.wall - worked.wall, waited.cpu),
            "session: the request is built": built,
            "HTTP exchange": self.exchanging,
            "session: the answer is read": worked.minus(built).minus(self.exchanging),
        }


class _Stopwatch:
    """Stands at every seam; one call at a time."""

    def __init__(self) -> None:
        self.laps = _Laps()

    def mark(self, name: str) -> None:
        self.laps.marks[name] = _Time.now()

    def query(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        began = _Time.now()
        try:
            return execute(sql, params, many, context)
        finally:
            found = _TABLE.search(sql)
            name = f"{sql.split(None, 1)[0]} {found[1]}" if found else sql[:30]
            self.laps.queries[name].append(_Time.now().minus(began))

    def sealing(self, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def timed(*args: Any) -> Any:
            began = _Time.now()
            try:
                return work(*args)
            finally:
                # What happens on the loop belongs to the session.
                if threading.current_thread() is threading.main_thread():
                    self.laps.sealing = self.laps.sealing.plus(_Time.now().minus(began))

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
        async def timed(*arguments: Any) -> Any:
            self.laps.marks.setdefault("sent", _Time.now())
            with self.under_way():
                return await handle(*arguments)

        return timed

    def reading(self, read: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(read)
        async def timed(*arguments: Any) -> Any:
            # Waiting for a part counts as the exchange's, whoever waits.
            with self.under_way():
                return await read(*arguments)

        return timed

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Count the time in which any exchange is under way once: an older server has several at a time."""
        laps = self.laps
        if not laps.under_way:
            laps.under_way_since = _Time.now()
        laps.under_way += 1
        try:
            yield
        finally:
            laps.under_way -= 1
            if not laps.under_way:
                laps.exchanging = laps.exchanging.plus(_Time.now().minus(laps.under_way_since))


@contextlib.contextmanager
def _at_every_seam(watch: _Stopwatch) -> Iterator[None]:
    seams: list[tuple[Any, str, Callable[..., Any]]] = [
        (loop, "run", watch.hop),
        (GuardedTransport, "_exchange", watch.exchange),
        (StreamedResponse, "read_some", watch.reading),
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
    """Return the mean time of every stage and statement of a warm call, and the raw request's beside it.

    In microseconds; means of the middle half of the calls by their whole time, so that the stages add up.
    """
    server, user = one_pair(f"profile-{kind}", url)
    recorded = contenders.record_call(server, user)
    for _ in range(20):
        contenders.call(server, user)
    laps: list[_Laps] = []
    raw: list[_Time] = []
    plain: list[_Time] = []
    for _ in range(10):
        raw += [_Time(*taken) for taken in contenders.raw_times(recorded, calls // 10)]
        plain += [_process_time(lambda: contenders.call(server, user)) for _ in range(calls // 10)]
        laps += _measured(server, user, calls // 10)
    laps.sort(key=lambda lap: lap.whole)
    middle = laps[len(laps) // 4 : len(laps) - len(laps) // 4]
    stages = [lap.stages() for lap in middle]
    names = dict.fromkeys(name for lap in middle for name in lap.queries)
    return {
        "raw": _microseconds(raw, statistics.median),
        "call": _microseconds(plain, statistics.median),
        "stages": {name: _microseconds([stage[name] for stage in stages], statistics.mean) for name in stages[0]},
        "queries": {
            name: {
                "times": statistics.mean(len(lap.queries[name]) for lap in middle),
                "microseconds": statistics.mean(sum(taken.wall for taken in lap.queries[name]) for lap in middle) * 1e6,
            }
            for name in names
        },
    }


def _microseconds(times: list[_Time], of: Callable[[list[float]], float]) -> dict[str, float]:
    return {"wall": of([taken.wall for taken in times]) * 1e6, "cpu": of([taken.cpu for taken in times]) * 1e6}


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


def _process_time(work: Callable[[], None]) -> _Time:
    """Time a call whose work several threads share."""
    began = _Time(time.perf_counter(), time.process_time())
    work()
    return _Time(time.perf_counter(), time.process_time()).minus(began)
