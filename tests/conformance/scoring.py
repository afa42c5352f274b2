"""What a run showed, what was expected of it, and what the last run of the same scenario showed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).resolve().parent
EXPECTED = FOLDER / "expected.toml"
RESULTS = FOLDER / "results.json"

Verdict = Literal["pass", "fail"]
# How an errand ends that the person got through with.
DONE = "done"


@dataclass(frozen=True, order=True)
class Run:
    """One scenario at one revision of the protocol; ``extension`` when the scenario belongs to none."""

    scenario: str
    version: str
    extension: bool = False

    @property
    def key(self) -> str:
        """The name of the run in the results."""
        return f"{self.scenario} {self.version}"


@dataclass(frozen=True)
class Outcome:
    """What one run showed: ``ended`` is how the person's errand ended, ``complaints`` what the suite found wrong."""

    verdict: Verdict
    successes: frozenset[str]
    complaints: tuple[str, ...]
    ended: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return what is kept for the next run."""
        return {"verdict": self.verdict, "ended": self.ended, "successes": sorted(self.successes)}


def judge(
    checks: Iterable[Mapping[str, Any]], *, exit_code: int, transcript: str, seconds: float, ending: str = DONE
) -> Outcome:
    """Score one run strictly.

    It passes if the runner exits 0, at least one check succeeded, none failed or warned, and the errand ended as it
    has to. The runner alone lets a program pass that does nothing, or that fails where a scenario wants a refusal.
    """
    successes, complaints = set(), []
    for check in checks:
        if check["status"] == "SUCCESS":
            successes.add(str(check["id"]))
        elif check["status"] in {"FAILURE", "WARNING"}:
            why = check.get("errorMessage") or check.get("description") or ""
            complaints.append(f"{check['status']} {check['id']}: {why}")
    last = transcript.rstrip().rpartition("\n")[2]
    ended = last.removeprefix("outcome ") if last.startswith("outcome ") else "crashed"
    if ended != ending:
        complaints.append(f"ENDING {ended}: the errand has to end as {ending}")
    verdict: Verdict = "pass" if exit_code == 0 and successes and not complaints else "fail"
    # A check whose id both succeeded and failed is not one that holds.
    failed = {complaint.split(" ", 1)[1].partition(":")[0] for complaint in complaints}
    return Outcome(verdict, frozenset(successes - failed), tuple(complaints), ended, seconds)


def load_not_yet(path: Path = EXPECTED) -> dict[str, str]:
    """Return the reason for every run that is not expected to pass yet.

    Raises:
        ValueError: a run is listed twice.
    """
    reasons: dict[str, str] = {}
    for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("not_yet", []):
        for version in entry["versions"]:
            key = f"{entry['scenario']} {version}"
            if key in reasons:
                raise ValueError(f"{path.name} lists {key} twice.")
            reasons[key] = entry["reason"]
    return reasons


def load_endings(path: Path = EXPECTED) -> dict[str, str]:
    """Return how the errand has to end in every scenario in which the person is not meant to get through with it."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("refusal", [])
    return {scenario: entry["code"] for entry in entries for scenario in entry["scenarios"]}


def load_results(path: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return what the last runs showed, by the key of the run."""
    if not path.exists():
        return {}
    kept: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def save_results(results: Mapping[str, Mapping[str, Any]], path: Path = RESULTS) -> None:
    """Keep what the runs showed, in a form that shows every change in a diff."""
    path.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n", encoding="utf-8")


def surprises(run: Run, outcome: Outcome, not_yet: Mapping[str, str], before: Mapping[str, Any] | None) -> list[str]:
    """Return every way in which a run is not what was expected; each is a sentence for a person."""
    found = []
    if outcome.verdict == "fail" and run.key not in not_yet:
        found.append("fails and is expected to pass")
    if outcome.verdict == "pass" and run.key in not_yet:
        found.append(f"passes; take it out of {EXPECTED.name}")
    if before is not None:
        found += [f"no longer succeeds in {name}" for name in sorted(set(before["successes"]) - outcome.successes)]
        if before["ended"] != outcome.ended:
            found.append(f"ended as {outcome.ended}, last time as {before['ended']}")
    return found
