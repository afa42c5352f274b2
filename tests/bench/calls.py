"""Compares the ways to run one tool: every contender in turn, round after round, against the same servers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from django.contrib.auth.models import User

from mcp_oauth.models import McpServer
from tests.bench import contenders
from tests.bench.contenders import Contender
from tests.bench.data import one_pair
from tests.bench.effort import Effort
from tests.bench.processes import gunicorn
from tests.bench.report import Finding, Goal, Table
from tests.bench.stage import Stage
from tests.bench.timing import Series, Turn, from_tasks, from_threads

KINDS = {
    "json": "a server of 2026-07-28 that answers in JSON",
    "sse": "a server of 2026-07-28 that answers in events",
    "legacy": "a server of 2025-11-25 with sessions",
}
RAW, GUARDED, DOCUMENTED, KEPT = "raw POST", "guarded POST", "SDK as documented", "SDK kept open"
CALL, ACALL, API = "call_tool", "acall_tool", "JSON API, gunicorn"
_COLUMNS = {
    "p50 ms": "p50_ms",
    "p95 ms": "p95_ms",
    "calls/s": "per_second",
    "p50 ÷ raw": "p50_over_raw",
    "p95 ÷ raw": "p95_over_raw",
    "rate ÷ raw": "rate_over_raw",
    # Of the measuring process; what the API does happens elsewhere.
    "processor ÷ raw": "cpu_over_raw",
    "requests": "requests_per_call",
}

# Callers at once for whom there is a goal of throughput.
_SEVERAL = 8

Figures = dict[str, dict[str, float]]


def measure(stage: Stage, effort: Effort) -> Iterator[Finding]:
    """Run every contest in one process, beside one gunicorn, on one database."""
    found: dict[tuple[str, int], Figures] = {}
    with stage.worker("calls") as measuring, gunicorn(measuring.database_url) as origin:
        for kind, callers in itertools.product(KINDS, effort.callers):
            figures: Figures = measuring.ask(
                "calls:contest",
                kind=kind,
                url=stage.peers[kind],
                origin=origin,
                callers=callers,
                rounds=effort.rounds,
                # With more callers one call each says little.
                calls=max(effort.calls, callers * 3),
            )
            found[kind, callers] = figures
            yield Table(
                f"{callers} caller{'s' if callers > 1 else ''} at once, {KINDS[kind]}",
                ("", *_COLUMNS),
                [(name, *(row[key] for key in _COLUMNS.values())) for name, row in figures.items()],
            )
    yield from _goals(found, effort)


def _goals(found: dict[tuple[str, int], Figures], effort: Effort) -> Iterator[Goal]:
    warm = {kind: found[kind, effort.callers[0]] for kind in KINDS}
    modern = {"json": "JSON", "sse": "events"}
    for kind, what in modern.items():
        yield Goal(f"warm call_tool ÷ raw POST, p50, {what}", warm[kind][CALL]["p50_over_raw"], most=1.5)
    yield Goal("warm call_tool ÷ raw POST, p50, legacy", warm["legacy"][CALL]["p50_over_raw"], most=2.5)
    for kind, what in modern.items() if _SEVERAL in effort.callers else ():
        rate = found[kind, _SEVERAL][CALL]["rate_over_raw"]
        yield Goal(f"calls/s at {_SEVERAL} callers ÷ raw POST, {what}", rate, least=0.75)
    for kind, what in modern.items():
        yield Goal(f"requests of a warm call_tool, {what}", warm[kind][CALL]["requests_per_call"], most=1, least=1)
    yield Goal("guarded POST ÷ raw POST, p50", warm["json"][GUARDED]["p50_over_raw"], most=1.05)


# What runs in the measuring process.


def contest(kind: str, url: str, origin: str, callers: int, rounds: int, calls: int) -> Figures:
    """Return what every contender took with so many callers at once."""
    server, user = one_pair(kind, url)
    with ThreadPoolExecutor(callers) as pool:
        return asyncio.run(_contest(server, user, origin, pool, callers, rounds, calls))


async def _contest(
    server: McpServer, user: User, origin: str, pool: ThreadPoolExecutor, callers: int, rounds: int, calls: int
) -> Figures:
    from tests.bench import sdk  # the other measurements import this module for its names

    recorded = await asyncio.to_thread(contenders.record_call, server, user)
    entered: dict[str, Contender] = {
        RAW: contenders.raw_post,
        GUARDED: contenders.guarded_post,
        DOCUMENTED: sdk.as_documented,
        KEPT: sdk.kept_open,
        ACALL: contenders.asynchronous(server, user),
        API: await asyncio.to_thread(contenders.json_api, origin, server, user),
    }
    names = [RAW, GUARDED, DOCUMENTED, KEPT, CALL, ACALL, API]
    series = {name: Series() for name in names}
    async with contextlib.AsyncExitStack() as stack:
        ready = {name: await stack.enter_async_context(contender(recorded)) for name, contender in entered.items()}

        async def turn(name: str, number: int) -> Turn:
            if name == CALL:
                return await asyncio.to_thread(
                    from_threads, pool, lambda: contenders.call(server, user), number, callers
                )
            return await from_tasks(ready[name], number, callers)

        for name in names:
            # Connections are open then, and nothing is left to import, in none of the API's workers.
            await turn(name, callers if name == DOCUMENTED else callers * 4)
        for round_number in range(rounds):
            # Nobody always follows the one that leaves the most behind.
            shift = round_number % len(names)
            for name in [*names[shift:], *names[:shift]]:
                # Opening a client takes twenty times as long; its share of calls is as much smaller.
                share = max(callers, calls // 10) if name == DOCUMENTED else calls
                gc.collect()  # nobody clears up after another
                if name != DOCUMENTED:
                    await turn(name, callers)  # an idle connection may have been closed meanwhile
                before = contenders.requests_to(server.url)
                series[name].turns.append(await turn(name, share))
                series[name].requests += contenders.requests_to(server.url) - before
                series[name].calls += share
    return {name: measured.figures(series[RAW]) for name, measured in series.items()}
