"""Measures what a call costs, prints every figure, and says which goals were reached."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from tests.bench import calls, cold, fan_out, growth, memory, renewal, stages
from tests.bench.database import databases
from tests.bench.effort import FULL, QUICK, Effort
from tests.bench.processes import peers
from tests.bench.report import Findings, goal_lines
from tests.bench.stage import Stage

MEASUREMENTS: dict[str, Callable[[Stage, Effort], Findings]] = {
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
    found: dict[str, Findings] = {}
    began = time.monotonic()
    with peers() as addresses, databases() as made:
        for name in chosen:
            found[name] = MEASUREMENTS[name](Stage(addresses, made), effort)
            for table in found[name].tables:
                print("\n".join(table.lines()), flush=True)
    goals = [goal for findings in found.values() for goal in findings.goals]
    if goals:
        print("\n".join(goal_lines(goals)))
    facts = _machine()
    print(f"\n{', '.join(facts.values())}; {time.monotonic() - began:.0f} s; garbage collection on, as deployed")
    if options.json is not None:
        document = {**facts, "findings": {name: findings.to_json() for name, findings in found.items()}}
        options.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _machine() -> dict[str, str]:
    return {
        "date": date.today().isoformat(),
        "python": f"Python {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processors": f"{os.cpu_count()} processors",
    }
