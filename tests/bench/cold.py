"""Measures a process's first call: at a server this application knows, at one it has never met, and without it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from mcp_oauth.models import McpServer, StoredListing
from tests.bench import contenders
from tests.bench.data import one_pair
from tests.bench.effort import Effort
from tests.bench.processes import ROOT, environment_on
from tests.bench.report import Finding, Goal, Table
from tests.bench.stage import Stage

_RAW, _SDK = "raw POST (httpx2, no Django)", "import of the SDK's client"
_KNOWN, _NEW = "call_tool, a server it knows", "call_tool, a server never met"
_MARKS = ("interpreter", "httpx2", "Django", "client", "answer", "second answer")


def measure(stage: Stage, effort: Effort) -> Iterator[Finding]:
    """Start processes, one kind after the other, round after round."""
    url = stage.peers["json"]
    marks: dict[str, list[dict[str, float]]] = {_RAW: [], _SDK: [], _KNOWN: [], _NEW: []}
    requests: dict[str, int] = {}
    with stage.worker("cold") as preparing:
        database = preparing.database_url
        known = preparing.ask("cold:known", url=url)
        who = {"server": known["server"], "user": known["user"]}
        for _ in range(effort.starts):
            marks[_RAW].append(_start("raw", database, known["recorded"]))
            marks[_SDK].append(_start("sdk", database, {}))
            for name in (_KNOWN, _NEW):
                if name == _NEW:
                    preparing.ask("cold:forget")
                before = contenders.requests_to(url)
                marks[name].append(_start("call", database, who))
                # The second of the two calls is a warm one.
                requests[name] = contenders.requests_to(url) - before - 1
    raw = _median(marks[_RAW], "answer")
    rows = []
    for name, starts in marks.items():
        reached = [_median(starts, mark) * 1000 if mark in starts[0] else "" for mark in _MARKS]
        rows.append((name, *reached, _median(starts, "answer") / raw, requests.get(name, "")))
    yield Table(
        "A process's first answer, in milliseconds after its start",
        ("", *_MARKS, "answer ÷ raw", "requests"),
        rows,
    )
    yield Goal("requests of a cold call_tool at a known server", requests[_KNOWN], most=1, least=1)


def _start(what: str, database: str, arguments: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.fresh", what, str(time.monotonic()), json.dumps(arguments)]
    environment = {**os.environ, **environment_on(database)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE)
    marks: dict[str, float] = json.loads(done.stdout)
    return marks


def _median(starts: list[dict[str, float]], mark: str) -> float:
    return statistics.median(start[mark] for start in starts)


# What runs in the process that prepares the database.


def known(url: str) -> dict[str, Any]:
    """Return a server and a person who has used it, and the request that a call there is."""
    server, user = one_pair("cold", url)
    recorded = contenders.record_call(server, user)
    request = {"url": recorded.url, "headers": recorded.headers, "message": recorded.message}
    return {"server": str(server.pk), "user": user.pk, "recorded": request}


def forget() -> None:
    """Let every server be one that was never met."""
    McpServer.objects.update(protocol_version="", discover_result=None, reachable=None, contacted_at=None)
    StoredListing.objects.all().delete()
