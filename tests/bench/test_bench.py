"""The measurements still measure: right answers from every contender, and requests counted. No clock decides here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.calls import KINDS
from tests.bench.processes import ROOT
from tests.bench.run import MEASUREMENTS

CONTENDERS = [
    "raw POST",
    "guarded POST",
    "SDK as documented",
    "SDK kept open",
    "call_tool",
    "acall_tool",
    "JSON API, gunicorn",
]


@pytest.mark.once
def test_every_measurement_runs_and_counts_what_reached_the_servers(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"

    # Whatever gets a wrong answer, or none, fails the run.
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--json", str(figures)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())["findings"]
    assert list(found) == list(MEASUREMENTS)
    contests = found["calls"]["tables"]
    assert [[row[0] for row in contest["rows"]] for contest in contests] == [CONTENDERS] * len(KINDS)
    for contest in contests[:2]:
        assert requests_of(contest) == {name: 3 if name == "SDK as documented" else 1 for name in CONTENDERS}
    goals = {goal["what"]: goal for measured in found.values() for goal in measured["goals"]}
    counted = {what: goal["value"] for what, goal in goals.items() if goal["most"] == goal["least"]}
    assert set(counted.values()) == {1}
    assert len(counted) == 4
    assert all(goal["value"] > 0 for goal in goals.values())
    assert "Goals" in done.stdout


def requests_of(contest: dict[str, Any]) -> dict[str, float]:
    return {row[0]: row[-1] for row in contest["rows"]}
