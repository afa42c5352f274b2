"""Measures what a call costs, prints every figure, and says which goals were reached."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import calls, cold, fan_out, growth, memory, renewal, stages
from tests.bench.effort import FULL, QUICK, Effort
from tests.bench.processes import peers
from tests.bench.report import Finding, Goal, Table, as_json, goal_lines
from tests.bench.stage import Stage

MEASUREMENTS: dict[str, Callable[[Stage, Effort], Iterator[Finding]]] = {
    "calls": calls.measure,
    "cold": cold.measure,
    "fan-out": fan_out.measure,
    "renewal": renewal.measure,
    "memory": memory.measure,
    "growth": growth.measure,
    "profile": stages.measure,
}


def main() -> None:
    """Measure and print; nothing fails for being slow."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a handful of calls each: shows that it works, no figures")
    parser.add_argument("--only", nargs="+", choices=[*MEASUREMENTS], metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--profile", action="store_true", help="only take a warm call apart (--only profile)")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    chosen = ["profile"] if options.profile else options.only or list(MEASUREMENTS)
    effort = QUICK if options.quick else FULL
    # Told to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    found: dict[str, list[Finding]] = {name: [] for name in chosen}
    began = time.monotonic()
    with peers() as addresses, TemporaryDirectory(prefix="mcp-oauth-bench-") as folder, ExitStack() as stack:
        stage = Stage(addresses, Path(folder), stack, shared=options.quick)
        for name in chosen:
            for item in MEASUREMENTS[name](stage, effort):
                found[name].append(item)
                if isinstance(item, Table):
                    print("\n".join(item.lines()), flush=True)
    goals = [item for items in found.values() for item in items if isinstance(item, Goal)]
    if goals:
        print("\n".join(goal_lines(goals)))
    facts = _machine()
    print(f"\n{', '.join(facts.values())}; {time.monotonic() - began:.0f} s; garbage collection on, as deployed")
    if options.json is not None:
        document = {**facts, "findings": {name: as_json(items) for name, items in found.items()}}
        options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _machine() -> dict[str, str]:
    return {
        "date": date.today().isoformat(),
        "python": f"Python {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processors": f"{os.cpu_count()} processors",
    }
