"""Runs the suite: ``python -m tests.conformance [--scenario S] [--spec-version V] [--accept]``; see README.md beside.

Prints one line a run and exits 0 if every run did what was expected of it: those in ``expected.toml`` fail, all others
pass, no check that succeeded last time is missing, and every errand ended as it did last time.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from project.demo.processes import StartFailed
from tests.conformance.application import Application
from tests.conformance.scoring import (
    DONE,
    EXPECTED,
    RESULTS,
    Outcome,
    Run,
    load_endings,
    load_not_yet,
    load_results,
    save_results,
    surprises,
)
from tests.conformance.suite import FOLDER, NotInstalled, all_runs, execute

# Each is a chain of programs that wait for each other; two of them keep two processors busy.
AT_ONCE = 2


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    described = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    described.add_argument("--scenario", help="only this one, for example auth/scope-step-up")
    described.add_argument("--spec-version", help="only this revision, for example 2026-07-28")
    described.add_argument(
        "--accept", action="store_true", help=f"keep what is new in {RESULTS.name} although it differs"
    )
    return described


def chosen(runs: list[Run], scenario: str | None, version: str | None) -> list[Run]:
    """Return the runs somebody asked for."""
    return [run for run in runs if scenario in {None, run.scenario} and version in {None, run.version}]


def unknown_entries(runs: list[Run], not_yet: dict[str, str]) -> list[str]:
    """Return what is listed as not passing and is no run of the suite."""
    return sorted(set(not_yet) - {run.key for run in runs})


def outcomes(
    runs: list[Run], folder: Path, application: Application, endings: dict[str, str]
) -> Iterator[tuple[Run, Path, Outcome]]:
    """Execute the runs, each for a person of its own; yield them in order, with what they wrote and how they ended."""
    places = [folder / run.key.replace("/", "-").replace(" ", "-") for run in runs]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [
            pool.submit(
                execute, run, place, application.environment_for(number), ending=endings.get(run.scenario, DONE)
            )
            for number, (run, place) in enumerate(zip(runs, places, strict=True))
        ]
        try:
            for run, place, future in zip(runs, places, futures, strict=True):
                yield run, place, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def main() -> int:
    """Run what was asked for and return the exit code."""
    options = parser().parse_args()
    try:
        everything = all_runs()
    except NotInstalled as error:
        print(error, file=sys.stderr)
        return 2
    runs = chosen(everything, options.scenario, options.spec_version)
    if not runs:
        print("The suite has no such run.", file=sys.stderr)
        return 2
    not_yet, endings, results = load_not_yet(), load_endings(), load_results()
    wrong = [
        f"{key}: {EXPECTED.name} lists it and the suite has no such run" for key in unknown_entries(everything, not_yet)
    ]
    folder = FOLDER / "last"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    width = max(len(run.scenario) for run in runs)
    passed, began = 0, time.monotonic()
    try:
        with Application(folder, len(runs)) as application:
            for run, place, outcome in outcomes(runs, folder, application, endings):
                passed += outcome.verdict == "pass"
                found = surprises(run, outcome, not_yet, results.get(run.key))
                expectation = "not yet" if run.key in not_yet and outcome.verdict == "fail" else outcome.verdict
                print(
                    f"{run.scenario:<{width}}  {run.version}  {expectation:<7}  {len(outcome.successes):>2} checks  "
                    f"{outcome.seconds:>4.1f} s  {outcome.ended}",
                    flush=True,
                )
                if outcome.verdict == "fail" and (found or options.scenario):
                    for line in outcome.complaints:
                        print(f"{'':<{width}}  {line}")
                    print(f"{'':<{width}}  all of it: {place}")
                wrong += [f"{run.key} {sentence}" for sentence in found]
                if not found or options.accept or run.key not in results:
                    results[run.key] = outcome.to_json()
            wrong += [f"process {pid} served two requests" for pid in application.processes_that_served_twice()]
    except (StartFailed, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 2
    if runs == everything:
        results = {run.key: results[run.key] for run in runs}
    save_results(results)
    print(f"\n{passed} of {len(runs)} runs pass, in {time.monotonic() - began:.0f} s.")
    for sentence in wrong:
        print(f"Not as expected: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
