"""Measures how a warm call grows with the servers and people in the database: one process and database per size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

from django.utils import timezone

from mcp_oauth import list_tools
from mcp_oauth.models import StoredListing, ToolCall
from tests.bench import contenders
from tests.bench.data import grants_for, servers_at, team
from tests.bench.database import on_postgres, postgres_url
from tests.bench.effort import Effort
from tests.bench.processes import Worker, worker
from tests.bench.report import Finding, Goal, Table
from tests.bench.stage import Stage

# Past calls of each person that are on record.
_CALLS = 10
# So many people call in turn, each at a server of their own, spread over all there are.
_CALLERS = 10


def measure(stage: Stage, effort: Effort) -> Iterator[Finding]:
    """Measure on SQLite, and on PostgreSQL where ``DATABASE_URL`` names one."""
    sizes, url = effort.growth_sizes, stage.peers["json"]
    with ExitStack() as stack:
        workers = [stack.enter_context(stage.worker(f"growth-{size}")) for size in sizes]
        yield from _on("SQLite", workers, url, effort)
    if postgres_url():
        with on_postgres(len(sizes)) as databases, ExitStack() as stack:
            workers = [stack.enter_context(worker(database)) for database in databases]
            yield from _on("PostgreSQL", workers, url, effort)


def _on(vendor: str, workers: list[Worker], url: str, effort: Effort) -> Iterator[Finding]:
    sizes = effort.growth_sizes
    for size, filling in zip(sizes, workers, strict=True):
        filling.ask("growth:fill", url=url, size=size)
    taken: list[list[dict[str, float]]] = [[] for _ in sizes]
    for _ in range(effort.growth_rounds):
        for rounds, measuring in zip(taken, workers, strict=True):
            rounds.append(measuring.ask("growth:take_turns", size_of_turn=effort.growth_calls))
    # Ratios within a round, so that a slow moment does not look like growth.
    grown = [
        statistics.median(mine["call"] / least["call"] for mine, least in zip(rounds, taken[0], strict=True))
        for rounds in taken
    ]
    rows = [
        (
            f"{size}",
            statistics.median(round_["call"] for round_ in rounds) * 1000,
            statistics.median(round_["call"] / round_["raw"] for round_ in rounds),
            ratio,
        )
        for size, rounds, ratio in zip(sizes, taken, grown, strict=True)
    ]
    yield Table(
        f"A warm call_tool by servers and people in the database ({_CALLS} calls on record each), {vendor}",
        ("", "p50 ms", "÷ raw", f"÷ that with {sizes[0]}"),
        rows,
    )
    what = f"warm call_tool with {sizes[-1]} servers and people ÷ with {sizes[0]}, {vendor}"
    yield Goal(what, grown[-1], most=1.1)


# What runs in the measuring processes.


def fill(url: str, size: int) -> None:
    """Make one workspace of so many servers and people, each connected to one server and with calls on record."""
    workspace, users = team("growth", size)
    servers = servers_at(workspace, [url] * size)
    pairs = list(zip(servers, users, strict=True))
    grants_for(pairs)
    list_tools(*pairs[0])
    seen = StoredListing.objects.get(server=servers[0])
    others = pairs[1:]
    StoredListing.objects.bulk_create(
        (
            StoredListing(
                server=server,
                user=user,
                server_generation=server.generation,
                grant_id=server.grants.get().pk,
                entries=seen.entries,
                entry_count=seen.entry_count,
                fetched_at=seen.fetched_at,
                fresh_until=seen.fresh_until,
            )
            for server, user in others
        ),
        batch_size=500,
    )
    servers[0].refresh_from_db()
    known = {name: getattr(servers[0], name) for name in ("protocol_version", "discover_result", "reachable")}
    workspace.servers.update(**known, contacted_at=timezone.now())
    now = timezone.now()
    ToolCall.objects.bulk_create(
        (
            ToolCall(
                server=server,
                user=user,
                server_generation=server.generation,
                tool=contenders.TOOL,
                state=ToolCall.State.COMPLETED,
                started_at=now - timedelta(hours=number),
                ended_at=now - timedelta(hours=number),
                deadline_at=now,
            )
            for server, user in pairs
            for number in range(1, _CALLS + 1)
        ),
        batch_size=500,
    )


def take_turns(size_of_turn: int) -> dict[str, float]:
    """Return the median seconds of a warm call and of the raw request."""
    workspace, users = team("growth", 0)
    servers = servers_at(workspace, [])
    step = max(1, len(users) // _CALLERS)
    pairs = [(server, server.grants.get().user) for server in servers[::step][:_CALLERS]]
    people = {user.pk: user for user in users}
    known = [(server, people[user.pk]) for server, user in pairs if user is not None]
    for pair in known:
        contenders.call(*pair)
    recorded = contenders.record_call(*known[0])
    raw = [wall for wall, _ in contenders.raw_times(recorded, size_of_turn)]
    calls = []
    for number in range(size_of_turn):
        began = time.perf_counter()
        contenders.call(*known[number % len(known)])
        calls.append(time.perf_counter() - began)
    return {"call": statistics.median(calls), "raw": statistics.median(raw)}
