"""Measures what stays in memory: the process's resident size after few calls by some, and after many by all."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.bench import contenders
from tests.bench.data import grants_for, servers_at, team
from tests.bench.effort import Effort
from tests.bench.report import Finding, Goal, Table
from tests.bench.stage import Stage

_THREADS = 8


def measure(stage: Stage, effort: Effort) -> Iterator[Finding]:
    """Let people call, take the size, let all of them call on, take it again; a process and a database per server."""
    rows, goals = [], []
    for kind in effort.memory_kinds:
        with stage.worker(f"memory-{kind}") as measuring:
            measuring.ask("memory:prepare", url=stage.peers[kind], people=effort.memory_users)
            few, few_used = measuring.ask("memory:resident_after", first=0, calls=effort.memory_first)
            many, many_used = measuring.ask(
                "memory:resident_after", first=effort.memory_first, calls=effort.memory_calls - effort.memory_first
            )
        for what, before, after in ((kind, few, many), ("  without what is free in it", few_used, many_used)):
            rows.append((what, before / 2**20, after / 2**20, after / before))
        goals.append(
            Goal(
                f"memory after {effort.memory_calls} calls ÷ after {effort.memory_first}, {kind}", many / few, most=1.2
            )
        )
    columns = ("", f"MiB after {effort.memory_first} calls", f"MiB after {effort.memory_calls}", "ratio")
    title = f"Resident size, garbage collected, {effort.memory_users} people in turn from {_THREADS} threads"
    yield Table(title, columns, rows)
    yield from goals


# What runs in the measuring process.


def prepare(url: str, people: int) -> None:
    """Make people who are connected to one server."""
    workspace, users = team("memory", people)
    [server] = servers_at(workspace, [url])
    grants_for([(server, user) for user in users])


def resident_after(first: int, calls: int) -> tuple[int, int]:
    """Let people call in turn, beginning with the one of that number; return the resident size in bytes then.

    The second figure is the size once the allocator of C has given back what is free; it keeps that for the next calls.
    """
    workspace, users = team("memory", 0)
    [server] = servers_at(workspace, [])
    with ThreadPoolExecutor(_THREADS) as pool:
        for done in [
            pool.submit(contenders.call, server, users[number % len(users)]) for number in range(first, first + calls)
        ]:
            done.result()
    gc.collect()
    resident = _resident()
    with suppress(OSError, AttributeError):  # elsewhere than with glibc, both are the same
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return resident, _resident()


def _resident() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024
    # Where there is no such file, the peak has to do.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
