"""``python -m tests.bench``: every contender in turn, round after round, against one server; prints ratios."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Row:
    """What one contender took: seconds per call, and calls per second of each round."""

    latencies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def add(self, latencies: list[float], elapsed: float) -> None:
        """Take one round."""
        self.latencies += latencies
        self.rates.append(len(latencies) / elapsed)

    @property
    def p50(self) -> float:
        """Return the median, in seconds."""
        return statistics.median(self.latencies)

    @property
    def p95(self) -> float:
        """Return the 95th percentile, in seconds."""
        return statistics.quantiles(self.latencies, n=20)[18]

    @property
    def rate(self) -> float:
        """Return the median of the rounds' rates, in calls per second."""
        return statistics.median(self.rates)


async def timed(once: Callable[[], Any], calls: int, callers: int) -> tuple[list[float], float]:
    """Make calls from so many tasks at once; return each one's seconds and those of all together."""
    latencies: list[float] = []
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            await once()
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return latencies, time.perf_counter() - began


def timed_threads(
    pool: ThreadPoolExecutor, once: Callable[[], None], calls: int, callers: int
) -> tuple[list[float], float]:
    """Do the same from threads."""
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

    began = time.perf_counter()
    for done in [pool.submit(caller) for _ in range(callers)]:
        done.result()
    return latencies, time.perf_counter() - began


@contextlib.contextmanager
def served(era: str) -> Iterator[str]:
    """Run the server to measure against; yields its address."""
    command = [sys.executable, "-m", "tests.bench.server", era]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/mcp"
        finally:
            process.terminate()


def prepare(url: str) -> tuple[Any, Any]:
    """Make a workspace, a person, the server and a grant that needs no renewal, in a database of this run."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.utils import timezone

    from mcp_oauth import list_tools
    from mcp_oauth.models import McpServer, McpServerOAuth, Membership, Workspace
    from tests.bench.server import TOKEN

    call_command("migrate", verbosity=0)
    workspace = Workspace.objects.create(name="Bench", slug="bench")
    user = User.objects.create_user("ada")
    Membership.objects.create(workspace=workspace, user=user)
    server = McpServer.objects.create(workspace=workspace, name="Bench", slug="bench", url=url, auth_mode="oauth")
    McpServerOAuth(
        server=server, user=user, access_token=TOKEN, issuer="http://127.0.0.1:9", connected_at=timezone.now()
    ).save()
    list_tools(server, user)
    return server, user


def measure(callers: int, rounds: int, calls: int) -> dict[str, Row]:
    """Return what every contender took with so many callers at once."""
    from tests.bench import contenders

    with served("modern") as url:
        server, user = prepare(url)
        recorded = contenders.record_call(server, user)
        asynchronous: dict[str, Any] = {
            "raw POST": contenders.raw_post,
            "guarded POST": contenders.guarded_post,
            "SDK as documented": contenders.sdk_as_documented,
            "SDK kept open": contenders.sdk_kept_open,
            "acall_tool": contenders.asynchronous(server, user),
        }
        rows = {name: Row() for name in [*asynchronous, "call_tool"]}

        async def contest() -> None:
            async with contextlib.AsyncExitStack() as stack:
                ready = {
                    name: await stack.enter_async_context(contender(url, recorded))
                    for name, contender in asynchronous.items()
                }
                for once in ready.values():
                    await contenders.settle(once, 5)
                for _ in range(rounds):
                    for name, once in ready.items():
                        # Opening a client takes twenty times as long; its share of calls is as much smaller.
                        share = max(callers, calls // 10) if name == "SDK as documented" else calls
                        rows[name].add(*await timed(once, share, callers))
                    rows["call_tool"].add(*await asyncio.to_thread(from_threads))

        def from_threads() -> tuple[list[float], float]:
            return timed_threads(pool, lambda: contenders.synchronous_call(server, user), calls, callers)

        with ThreadPoolExecutor(callers) as pool:
            timed_threads(pool, lambda: contenders.synchronous_call(server, user), callers * 3, callers)
            asyncio.run(contest())
    return rows


def main() -> None:
    """Measure, print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=60, help="per contender and round")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    results = []
    for callers in options.callers:
        with tempfile.TemporaryDirectory() as folder:
            figures = _in_process_of_its_own(callers, options.rounds, options.calls, folder)
        results.append({"callers": callers, "rows": figures})
        _print(callers, figures)
    if options.json is not None:
        facts = {"date": date.today().isoformat(), "python": platform.python_version(), "processors": os.cpu_count()}
        options.json.write_text(json.dumps({**facts, "results": results}, indent=2) + "\n")


def _in_process_of_its_own(callers: int, rounds: int, calls: int, folder: str) -> dict[str, dict[str, float]]:
    """Measure where nothing of another measurement is left: no rows, no connections, no warm caches."""
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/bench.sqlite3", "MCP_OAUTH_ALLOW_LOOPBACK": "1"}
    program = f"from tests.bench.__main__ import child; child({callers}, {rounds}, {calls})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, capture_output=True)
    figures: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return figures


def child(callers: int, rounds: int, calls: int) -> None:
    """Measure and print one line of JSON."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.bench.settings"
    import django

    django.setup()
    rows = measure(callers, rounds, calls)
    raw = rows["raw POST"]
    print(
        json.dumps(
            {
                name: {
                    "p50_ms": row.p50 * 1000,
                    "p95_ms": row.p95 * 1000,
                    "per_second": row.rate,
                    "p50_over_raw": row.p50 / raw.p50,
                    "rate_over_raw": row.rate / raw.rate,
                }
                for name, row in rows.items()
            }
        )
    )


def _print(callers: int, figures: dict[str, dict[str, float]]) -> None:
    print(f"\n{callers} caller{'s' if callers > 1 else ''} at once, modern server (2026-07-28)")
    print(f"{'':20}{'p50 ms':>9}{'p95 ms':>9}{'calls/s':>9}{'p50 ÷ raw':>11}{'rate ÷ raw':>12}")
    for name, row in figures.items():
        print(
            f"{name:20}{row['p50_ms']:9.2f}{row['p95_ms']:9.2f}{row['per_second']:9.0f}"
            f"{row['p50_over_raw']:11.2f}{row['rate_over_raw']:12.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
