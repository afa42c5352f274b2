"""Grants and flows shared by several processes: one refresh for all of them, and no process that takes others down.

They run on whichever database the run uses.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection, connections
from django.utils import timezone

from mcp_oauth import acall_tool, call_tool
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth
from mcp_oauth.services.callbacks import finish_authorization
from mcp_oauth.services.connections import start_authorization
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.scale.processes import PATIENCE, Worker
from tests.servers import AuthorizationServerOptions, Fault, Person, ProtectedServer, RecordedRequest, json_fault

pytestmark = pytest.mark.django_db(transaction=True)

# A thread has a database connection of its own, and PostgreSQL by default has 97 for everything that is tested at once.
# The tasks of a process share one, and sixteen threads in which they wait for a renewal: 76 in four processes.
THREADS, TASKS = 2, 23


# What runs in the other processes.


def _call(server: str, user: int, threads: int, tasks: int = 0) -> list[str]:
    """Run a tool from many threads and tasks at once; returns each one's answer or error code."""
    person = User.objects.get(pk=user)
    together = threading.Barrier(threads + bool(tasks))

    def call() -> list[str]:
        try:
            together.wait(PATIENCE)
            return [call_tool(server, person, "whoami").text]
        except McpOAuthError as error:
            return [_what(error)]
        finally:
            connection.close()

    async def acall() -> str:
        try:
            return (await acall_tool(server, person, "whoami")).text
        except McpOAuthError as error:
            return _what(error)

    async def acall_all() -> list[str]:
        try:
            return list(await asyncio.gather(*[acall() for _ in range(tasks)]))
        finally:
            await sync_to_async(connections.close_all)()

    def call_from_tasks() -> list[str]:
        together.wait(PATIENCE)
        return asyncio.run(acall_all())

    work = [call] * threads + [call_from_tasks] * bool(tasks)
    with ThreadPoolExecutor(len(work)) as pool:
        return [answer for future in [pool.submit(one) for one in work] for answer in future.result(PATIENCE)]


def _what(error: McpOAuthError) -> str:
    return f"{error.code} {getattr(error, 'reason', '')}".strip()


def _start(server: str, user: int, browser: str) -> str:
    return start_authorization(server, User.objects.get(pk=user), browser=browser).authorization_url


def _finish(user: int, browser: str, answer: str) -> str:
    try:
        finish_authorization(User.objects.get(pk=user), browser=browser, parameters=parse_qs(urlsplit(answer).query))
    except McpOAuthError as error:
        return _what(error)
    return "connected"


COMMANDS: dict[str, Callable[..., Any]] = {"call": _call, "start": _start, "finish": _finish}


@dataclass(frozen=True)
class Account:
    """A connected account, shared by every process."""

    peer: ProtectedServer
    user: User
    server: McpServer
    person: Person

    @property
    def grant(self) -> McpServerOAuth:
        return McpServerOAuth.objects.get(server_id=self.server.pk)

    @property
    def refreshes(self) -> list[RecordedRequest]:
        found = self.peer.authorization_server.requests_to("/token")
        return [request for request in found if request.form.get("grant_type") == "refresh_token"]

    @property
    def who(self) -> dict[str, Any]:
        return {"server": str(self.server.pk), "user": self.user.pk}

    def end(self) -> None:
        """Let the access token be over, here and there."""
        self.peer.authorization_server.expire_access_tokens()
        McpServerOAuth.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


@pytest.fixture
def account(protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]) -> Account:
    """Connect an account at a server whose refresh tokens rotate."""
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False, auto_consent="ada"))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    opened = Account(peer, user, server, person("ada"))
    connect(browser_of(user), server, opened.person)
    return opened


@pytest.mark.parametrize("known_to_be_over", [True, False], ids=["expired", "rejected"])
def test_a_hundred_callers_in_four_processes_renew_one_token_once(
    account: Account, workers: Callable[..., list[Worker]], known_to_be_over: bool
) -> None:
    four = workers(4)
    if known_to_be_over:
        account.end()
    else:
        account.peer.authorization_server.expire_access_tokens()

    for worker in four:
        worker.order("call", threads=THREADS, tasks=TASKS, **account.who)
    answers = [answer for worker in four for answer in worker.answer()]

    assert answers == ["ada"] * 100
    assert len(account.refreshes) == 1
    assert account.grant.is_active
    assert account.grant.lease_id is None
    # A second refresh token would mean that one got lost; a used one would have ended the grant.
    assert [token.used for token in account.peer.authorization_server.refresh_tokens] == [True, False]


def test_rounds_of_refreshes_keep_one_chain_of_tokens(account: Account, workers: Callable[..., list[Worker]]) -> None:
    pair = workers(2)
    for rounds in range(1, 5):
        account.end()
        for worker in pair:
            worker.order("call", threads=3, **account.who)
        assert [answer for worker in pair for answer in worker.answer()] == ["ada"] * 6
        assert len(account.refreshes) == rounds


def test_a_flow_started_in_one_process_is_finished_in_another_once(
    account: Account, workers: Callable[..., list[Worker]]
) -> None:
    McpServerOAuth.objects.all().delete()
    first, second = workers(2)
    browser = "one browser"
    address = first.ask("start", browser=browser, **account.who)
    answer = account.person.authorize(address)
    account.peer.authorization_server.requests.clear()

    for worker in (first, second):
        worker.order("finish", user=account.user.pk, browser=browser, answer=answer)
    outcomes = sorted(worker.answer() for worker in (first, second))

    assert outcomes == ["callback_refused used", "connected"]
    assert len(account.peer.authorization_server.requests_to("/token")) == 1
    assert not AuthorizationFlow.objects.filter(consumed_at=None).exists()
    for worker in (first, second):
        assert worker.ask("call", threads=1, **account.who) == ["ada"]


def test_two_processes_that_connect_the_same_person_at_once_leave_one_grant(
    account: Account, workers: Callable[..., list[Worker]]
) -> None:
    McpServerOAuth.objects.all().delete()
    pair = workers(2)
    answers = [account.person.authorize(worker.ask("start", browser="b", **account.who)) for worker in pair]

    for worker, answer in zip(pair, answers, strict=True):
        worker.order("finish", user=account.user.pk, browser="b", answer=answer)

    assert [worker.answer() for worker in pair] == ["connected", "connected"]
    assert McpServerOAuth.objects.count() == 1
    assert pair[0].ask("call", threads=1, **account.who) == ["ada"]


def test_others_go_on_after_the_process_that_renews_is_killed(
    account: Account, workers: Callable[..., list[Worker]]
) -> None:
    doomed, other = workers(2, REFRESH_LEASE_SECONDS=1.0, REFRESH_POLL_SECONDS=0.01)
    asked, dead = threading.Event(), threading.Event()

    async def hang_once(form: Mapping[str, Any]) -> Fault | None:
        if asked.is_set():
            return None
        asked.set()
        await asyncio.to_thread(dead.wait, PATIENCE)
        # Nothing was done for the process that died, so its refresh token is still the good one.
        return json_fault(503, "temporarily_unavailable")

    account.end()
    account.peer.configure_authorization_server(token_faults=hang_once)
    doomed.order("call", threads=1, **account.who)
    assert asked.wait(PATIENCE)
    held = account.grant
    assert held.lease_id is not None
    assert held.lease_expires_at is not None
    doomed.kill()
    dead.set()

    assert other.ask("call", threads=5, **account.who) == ["ada"] * 5

    first, second = account.refreshes
    assert first.form["refresh_token"] == second.form["refresh_token"]
    # Nobody was quicker than the lease.
    assert second.at >= held.lease_expires_at.timestamp()
    assert account.grant.version == held.version + 1
    assert account.grant.lease_id is None


def test_a_lease_of_a_live_process_is_not_broken_by_others(
    account: Account, workers: Callable[..., list[Worker]]
) -> None:
    first, second = workers(2, REFRESH_WAIT_SECONDS=0.1, REFRESH_POLL_SECONDS=0.01)
    asked, go_on = threading.Event(), threading.Event()

    async def slow(form: Mapping[str, Any]) -> Fault | None:
        asked.set()
        await asyncio.to_thread(go_on.wait, PATIENCE)
        return None

    account.end()
    account.peer.configure_authorization_server(token_faults=slow)
    first.order("call", threads=1, **account.who)
    assert asked.wait(PATIENCE)
    # The second process finds the lease taken; all it can do is wait, and its patience is short.
    answers = second.ask("call", threads=5, **account.who)
    go_on.set()

    assert answers == ["token_endpoint_unavailable"] * 5
    assert first.answer() == ["ada"]
    assert len(account.refreshes) == 1
    assert second.ask("call", threads=5, **account.who) == ["ada"] * 5
