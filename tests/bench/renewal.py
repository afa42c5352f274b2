"""Measures calls while one of several grants is renewed: who waits, how long, and what the token endpoint saw."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from mcp_oauth import acall_tool, call_tool
from mcp_oauth.models import McpServer, McpServerOAuth
from tests.bench import contenders
from tests.bench.data import grants_for, servers_at, team
from tests.bench.effort import Effort
from tests.bench.facts import RENEWAL_SECONDS, TOKEN_PATH
from tests.bench.report import Finding, Goal, Table
from tests.bench.stage import Stage
from tests.bench.timing import percentile95

_GRANTS = 10


def measure(stage: Stage, effort: Effort) -> Iterator[Finding]:
    """Let everybody call at once, with and without a grant that ends meanwhile, in turn."""
    for way in effort.renewal_ways:
        with stage.worker(f"renewal-{way}") as measuring:
            measuring.ask("renewal:prepare", url=stage.peers["json"])
            bursts: dict[bool, list[dict[str, float]]] = {False: [], True: []}
            order = {"way": way, "callers": effort.renewal_callers, "calls": effort.renewal_calls}
            measuring.ask("renewal:burst", ends=False, **order)
            for _ in range(effort.renewal_rounds):
                for ends in bursts:
                    bursts[ends].append(measuring.ask("renewal:burst", ends=ends, **order))
        yield from _findings(f"{effort.renewal_callers} {way}", bursts)


def _findings(callers: str, bursts: dict[bool, list[dict[str, float]]]) -> Iterator[Finding]:
    """Compare neighbouring bursts: the machine may have slowed down in between, but less so than over all of them."""
    pairs = list(zip(bursts[True], bursts[False], strict=True))
    others = statistics.median(ending["others_p95"] / quiet["others_p95"] for ending, quiet in pairs)
    waits = statistics.median(
        (ending["its_longest"] - quiet["its_longest"]) / RENEWAL_SECONDS for ending, quiet in pairs
    )
    rows = [
        (
            "one grant ends meanwhile" if ends else "no grant ends",
            statistics.median(burst["others_p95"] for burst in bursts[ends]) * 1000,
            statistics.median(burst["its_longest"] for burst in bursts[ends]) * 1000,
            max(burst["renewals"] for burst in bursts[ends]),
        )
        for ends in bursts
    ]
    yield Table(
        f"{callers} of {_GRANTS} people at once; a renewal takes {RENEWAL_SECONDS * 1000:.0f} ms",
        ("", "p95 ms, the other grants", "longest call ms, that grant", "token requests"),
        rows,
    )
    yield Goal(f"calls that need no renewal, p95 ÷ the same without one, {callers}", others, most=1.1)
    yield Goal(f"delay of the calls that do ÷ one renewal, {callers}", waits, most=1.5)
    asked = max(burst["renewals"] for burst in bursts[True])
    yield Goal(f"token requests of one renewal, {callers}", asked, most=1, least=1)


# What runs in the measuring process.


@dataclass
class _Burst:
    """The calls of everybody at once; in the middle of them one grant ends, if it is to."""

    server: McpServer
    users: list[User]
    ends: bool
    middle: int
    done: int = 0
    latencies: dict[tuple[int, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    reached_middle: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def who(self, caller: int) -> User:
        return self.users[caller % len(self.users)]

    def took(self, caller: int, seconds: float) -> None:
        with self.lock:
            self.latencies[self.who(caller).pk, caller].append(seconds)
            self.done += 1
            if self.done == self.middle:
                self.reached_middle.set()

    def end_a_grant(self) -> None:
        self.reached_middle.wait()
        over = timezone.now() - timedelta(seconds=1)
        McpServerOAuth.objects.filter(user=self.users[0]).update(expires_at=over)
        self.ended.set()

    def calls_once_more(self, caller: int) -> bool:
        """Tell whether a caller should wait for the end of the grant and then call: somebody has to meet it."""
        return self.ends and self.who(caller).pk == self.users[0].pk


def prepare(url: str) -> None:
    """Make people who are connected to one server and have used it."""
    workspace, users = team("renewal", _GRANTS)
    [server] = servers_at(workspace, [url])
    grants_for([(server, user) for user in users])
    for user in users:
        contenders.call(server, user)


def burst(way: str, ends: bool, callers: int, calls: int) -> dict[str, float]:
    """Let so many callers make so many calls each, at once.

    Returns the 95th percentile of the calls under the grants that last, the median of the longest call of each caller
    under the one that ends, and how often the token endpoint was asked.
    """
    workspace, users = team("renewal", 0)
    [server] = servers_at(workspace, [])
    running = _Burst(server, users, ends, middle=callers * calls // 3)
    token_url = server.url.rpartition("/")[0] + TOKEN_PATH
    before = contenders.requests_to(token_url)
    watching = threading.Thread(target=running.end_a_grant)
    if ends:
        watching.start()
    {"threads": _from_threads, "tasks": _from_tasks}[way](running, callers, calls)
    if ends:
        watching.join()
    its = [max(taken) for (user, _), taken in running.latencies.items() if user == users[0].pk]
    others = [one for (user, _), taken in running.latencies.items() if user != users[0].pk for one in taken]
    return {
        "others_p95": percentile95(others),
        "its_longest": statistics.median(its),
        "renewals": contenders.requests_to(token_url) - before,
    }


def _from_threads(running: _Burst, callers: int, calls: int) -> None:
    def call(number: int) -> None:
        began = time.perf_counter()
        result = call_tool(running.server, running.who(number), contenders.TOOL, contenders.ARGUMENTS)
        running.took(number, time.perf_counter() - began)
        contenders.expect_sum(result.structured_content)

    def caller(number: int) -> None:
        for _ in range(calls):
            call(number)
        if running.calls_once_more(number):
            running.ended.wait()
            call(number)

    with ThreadPoolExecutor(callers) as pool:
        for done in [pool.submit(caller, number) for number in range(callers)]:
            done.result()


def _from_tasks(running: _Burst, callers: int, calls: int) -> None:
    async def call(number: int) -> None:
        began = time.perf_counter()
        result = await acall_tool(running.server, running.who(number), contenders.TOOL, contenders.ARGUMENTS)
        running.took(number, time.perf_counter() - began)
        contenders.expect_sum(result.structured_content)

    async def caller(number: int) -> None:
        for _ in range(calls):
            await call(number)
        if running.calls_once_more(number):
            await asyncio.to_thread(running.ended.wait)
            await call(number)

    async def everybody() -> None:
        await asyncio.gather(*(caller(number) for number in range(callers)))

    asyncio.run(everybody())
