"""One listing of a server for all processes and threads of a deployment, and nobody's listing for anybody else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import connection

from mcp_oauth import call_tool, list_tools, list_workspace_tools
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import StoredListing
from tests.availability import redis_url
from tests.scale.processes import PATIENCE, Worker
from tests.servers import Offering
from tests.servers.offering import tool
from tests.team import Team, grow_old

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.redis]

THREADS = 6


# What runs in the other processes.


def _list(server: str, users: list[int], threads: int) -> list[list[str]]:
    """List from many threads at once, each as one person in turn."""
    people = [User.objects.get(pk=pk) for pk in users]
    together = threading.Barrier(threads)

    def work(number: int) -> list[str]:
        try:
            together.wait(PATIENCE)
            return [found.name for found in list_tools(server, people[number % len(people)])]
        except McpOAuthError as error:
            return [error.code]
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(threads)))


def _call(server: str, user: int, tool: str) -> str:
    try:
        return call_tool(server, User.objects.get(pk=user), tool).text
    except McpOAuthError as error:
        return error.code


def _together(workspace: str, user: int) -> int:
    return len(list_workspace_tools(workspace, User.objects.get(pk=user)))


COMMANDS: dict[str, Callable[..., Any]] = {"list": _list, "call": _call, "together": _together}


@pytest.fixture(autouse=True)
def _one_cache_for_all(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process use the cache that the others use."""
    entry = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": redis_url(),
        "KEY_PREFIX": os.environ["MCP_OAUTH_TEST_CACHE_PREFIX"],
    }
    monkeypatch.setitem(settings.CACHES, "default", entry)
    monkeypatch.setitem(caches.settings, "default", entry)
    before = caches["default"]
    del caches["default"]
    yield
    caches["default"].close()
    caches["default"] = before


def test_threads_of_several_processes_list_a_server_once(
    team: Callable[..., Team], workers: Callable[..., list[Worker]]
) -> None:
    at = team("ada", offering=Offering(seconds=0.3))
    three = workers(3)

    for worker in three:
        worker.order("list", server=str(at.server.pk), users=[at.ada.pk], threads=THREADS)
    answers = [answer for worker in three for answer in worker.answer()]

    assert answers == [["look", "write"]] * (3 * THREADS)
    assert at.offering.listings() == 1
    grow_old()
    for worker in three:
        worker.order("list", server=str(at.server.pk), users=[at.ada.pk], threads=THREADS)
    assert [answer for worker in three for answer in worker.answer()] == answers
    assert at.offering.listings() == 2


def test_what_one_process_has_listed_another_calls_without_asking(
    team: Callable[..., Team], workers: Callable[..., list[Worker]]
) -> None:
    at = team("ada")
    first, second = workers(2)

    assert first.ask("list", server=str(at.server.pk), users=[at.ada.pk], threads=1) == [["look", "write"]]
    assert second.ask("call", server=str(at.server.pk), user=at.ada.pk, tool="look") == "look for ada"
    at.offering.tools.append(tool("new"))
    assert first.ask("call", server=str(at.server.pk), user=at.ada.pk, tool="new") == "new for ada"
    assert second.ask("list", server=str(at.server.pk), users=[at.ada.pk], threads=1) == [["look", "write", "new"]]

    assert at.offering.listings() == 2


@pytest.mark.requirement("T36")
def test_what_members_are_offered_crosses_in_no_process(
    team: Callable[..., Team], workers: Callable[..., list[Worker]]
) -> None:
    at = team("ada", "grace", offering=Offering(by_user={"ada": [tool("adas")], "grace": [tool("graces")]}))
    pair = workers(2)

    for _ in range(3):
        for worker in pair:
            worker.order("list", server=str(at.server.pk), users=[at.ada.pk, at.grace.pk], threads=THREADS)
        answers = [answer for worker in pair for answer in worker.answer()]
        assert answers == [["adas"], ["graces"]] * THREADS
        grow_old()

    assert at.offering.listings() == 6
    assert pair[0].ask("call", server=str(at.server.pk), user=at.grace.pk, tool="adas") == "tool_not_found"
    assert StoredListing.objects.count() == 2


def test_a_workspace_listed_by_two_processes_is_asked_once(
    team: Callable[..., Team], workers: Callable[..., list[Worker]]
) -> None:
    at = team("ada", offering=Offering(seconds=0.3))
    pair = workers(2)

    for worker in pair:
        worker.order("together", workspace=at.workspace.slug, user=at.ada.pk)

    assert [worker.answer() for worker in pair] == [1, 1]
    assert at.offering.listings() == 1
