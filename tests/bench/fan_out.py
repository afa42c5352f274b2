"""Measures listing a whole workspace of slow servers against listing one of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from django.contrib.auth.models import User

from mcp_oauth import list_tools, list_workspace_tools
from mcp_oauth.models import Workspace
from tests.bench.data import grants_for, servers_at, team
from tests.bench.effort import Effort
from tests.bench.facts import SLOW_SECONDS, SLOW_TOOLS
from tests.bench.report import Finding, Goal, Table
from tests.bench.stage import Stage


def measure(stage: Stage, effort: Effort) -> Iterator[Finding]:
    """List all and one in turn; medians."""
    urls = stage.peers["slow"]
    with stage.worker("fan-out") as measuring:
        seconds = measuring.ask("fan_out:listings", urls=urls, times=effort.listings)
    ratio = seconds["all"] / seconds["one"]
    yield Table(
        f"Listing servers that answer after {SLOW_SECONDS * 1000:.0f} ms, {SLOW_TOOLS} tools each",
        ("", "ms", "÷ one"),
        [
            ("one server", seconds["one"] * 1000, 1.0),
            (f"a workspace of {len(urls)}", seconds["all"] * 1000, ratio),
        ],
    )
    yield Goal(f"list a workspace of {len(urls)} slow servers ÷ one", ratio, most=1.3)


# What runs in the measuring process.


def listings(urls: list[str], times: int) -> dict[str, float]:
    """Return the median seconds of listing one server, and all of them."""
    workspace, [user] = team("fan-out", 1)
    servers = servers_at(workspace, urls)
    grants_for([(server, user) for server in servers])
    _list_all(workspace, user)  # every server is known then
    servers = servers_at(workspace, urls)
    one: list[float] = []
    everything: list[float] = []
    for _ in range(times):
        one.append(_seconds(lambda: _expect(1, len(list_tools(servers[0], user, refresh=True)))))
        everything.append(_seconds(lambda: _expect(len(servers), _list_all(workspace, user))))
    return {"one": statistics.median(one), "all": statistics.median(everything)}


def _list_all(workspace: Workspace, user: User) -> int:
    """Return how many tools there are of all servers that could be listed."""
    listed = list_workspace_tools(workspace, user, refresh=True)
    return sum(len(one.catalogue) for one in listed if one.catalogue is not None)


def _expect(servers: int, tools: int) -> None:
    if tools != servers * SLOW_TOOLS:
        raise RuntimeError(f"a wrong answer is no measurement: {tools} tools of {servers} servers")


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
