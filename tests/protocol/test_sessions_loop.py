"""The loop thread: one per process, bounded, restartable, and forgotten by forked children."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time

import pytest

from mcp_oauth.exceptions import DeadlineExceeded, ServerUnreachable
from mcp_oauth.messages import HttpRequest
from mcp_oauth.net.fetch import fetch
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.sessions import loop
from tests.servers.peer import http_answer, running_peer


async def here() -> int:
    return threading.get_ident()


async def endless(seen: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise


def test_every_caller_is_served_by_the_same_other_thread() -> None:
    found: list[int] = []
    callers = [threading.Thread(target=lambda: found.append(loop.run(here, timeout=5))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert len(found) == 8
    assert set(found) == {loop.run(here, timeout=5)}
    assert threading.get_ident() not in found


def test_a_callers_exception_comes_back_as_it_is() -> None:
    async def fail() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        loop.run(fail, timeout=5)


def test_a_timeout_of_the_callers_own_is_not_taken_for_the_deadline() -> None:
    async def fail() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        loop.run(fail, timeout=5)


@pytest.mark.requirement("T31")
def test_what_takes_too_long_is_cancelled() -> None:
    seen: list[str] = []

    with pytest.raises(DeadlineExceeded, match=r"within 0\.1 seconds"):
        loop.run(lambda: endless(seen), timeout=0.1)

    assert seen == ["cancelled"]


def test_what_does_not_let_itself_be_cancelled_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_GRACE_SECONDS", 0.1)
    release = threading.Event()

    async def stubborn() -> None:
        release.wait(10)

    try:
        with pytest.raises(DeadlineExceeded):
            loop.run(stubborn, timeout=0.1)
    finally:
        release.set()

    assert loop.run(here, timeout=5)


def test_waiting_on_the_loop_thread_for_itself_is_refused() -> None:
    async def nested() -> int:
        return loop.run(here, timeout=1)

    async def nested_await() -> int:
        return await loop.arun(here, timeout=1)

    for factory in (nested, nested_await):
        with pytest.raises(RuntimeError, match="loop thread"):
            loop.run(factory, timeout=5)


def test_another_event_loop_awaits_without_being_blocked() -> None:
    async def work() -> tuple[int, int]:
        return await asyncio.gather(loop.arun(here, timeout=5), loop.arun(here, timeout=5))

    first, second = asyncio.run(work())

    assert first == second == loop.run(here, timeout=5)


def test_another_event_loop_gets_the_deadline_too() -> None:
    seen: list[str] = []

    with pytest.raises(DeadlineExceeded):
        asyncio.run(loop.arun(lambda: endless(seen), timeout=0.1))

    assert seen == ["cancelled"]


def test_a_caller_that_is_cancelled_cancels_its_operation() -> None:
    seen: list[str] = []
    done = threading.Event()
    started = threading.Event()

    async def operation() -> None:
        started.set()
        try:
            await endless(seen)
        finally:
            done.set()

    async def work() -> None:
        waiting = asyncio.create_task(loop.arun(operation, timeout=30))
        await asyncio.to_thread(started.wait, 5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(work())

    assert done.wait(5)
    assert seen == ["cancelled"]


def test_a_loop_that_died_is_replaced() -> None:
    async def die() -> None:
        asyncio.get_running_loop().stop()

    before = loop._worker()
    loop.run(die, timeout=5)
    before.thread.join(5)

    assert loop.run(here, timeout=5)
    assert loop._worker() is not before
    assert before.loop.is_closed()


def test_nobody_is_left_waiting_for_a_loop_that_died() -> None:
    started = threading.Event()
    seen: list[str] = []
    errors: list[Exception] = []

    async def operation() -> None:
        started.set()
        await endless(seen)

    def wait() -> None:
        try:
            loop.run(operation, timeout=60)
        except ServerUnreachable as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert started.wait(5)
    before = loop._worker()
    before.stop()
    waiting.join(5)

    assert seen == ["cancelled"]
    assert len(errors) == 1
    assert loop.run(here, timeout=5)


def test_a_transport_is_shared_per_policy_and_outlives_its_borrowers() -> None:
    policy = NetworkPolicy(allow_loopback=True, max_connections=7)

    async def borrow(url: str, policy: NetworkPolicy) -> int:
        return (await fetch(loop.shared_transport(policy), HttpRequest("GET", url), policy=policy)).status

    with running_peer(lambda received: http_answer()) as peer:
        for _ in range(3):
            assert loop.run(lambda: borrow(peer.url(), policy), timeout=5) == 200
        assert peer.connections == 1
        other = NetworkPolicy(allow_loopback=True, max_connections=8)
        assert loop.run(lambda: borrow(peer.url(), other), timeout=5) == 200
        assert peer.connections == 2


def test_transports_of_closed_loops_are_let_go() -> None:
    async def borrow() -> None:
        loop.shared_transport(NetworkPolicy())

    for _ in range(3):
        asyncio.run(borrow())
    asyncio.run(borrow())

    assert sum(known.is_closed() for known in loop._state.transports) <= 1


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment,
    )


PREFACE = """
import os, sys, threading
from mcp_oauth.messages import HttpRequest
from mcp_oauth.net.fetch import fetch
from mcp_oauth.messages import HttpRequest
from mcp_oauth.net.fetch import fetch
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.sessions import loop

policy = NetworkPolicy(allow_loopback=True)

def ask():
    request = HttpRequest("GET", sys.argv[1])
    return loop.run(lambda: fetch(loop.shared_transport(policy), request, policy=policy), timeout=5).status
"""

FORK = (
    PREFACE
    + """
assert ask() == 200
loop._state.lock.acquire()  # as if another thread were just starting the loop
child = os.fork()
if child == 0:
    code = 1
    try:
        assert ask() == 200 and ask() == 200
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if ask() == 200 else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
    finally:
        os._exit(code)
loop._state.lock.release()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert ask() == 200
print("fine")
"""
)

EXIT = (
    PREFACE
    + """
import asyncio
assert ask() == 200
async def forever():
    await asyncio.Event().wait()
threading.Thread(target=lambda: loop.run(forever, timeout=600), daemon=True).start()
print("fine")
"""
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_starts_a_loop_of_its_own_and_leaves_the_parents_alone() -> None:
    with running_peer(lambda received: http_answer()) as peer:
        done = run_script(FORK, peer.url())

    assert (done.stdout, done.stderr, done.returncode) == ("fine\n", "", 0)
    # Parent, child and grandchild each opened one connection; none used another's.
    assert (peer.connections, len(peer.requests)) == (3, 5)


def test_a_process_that_used_the_loop_ends_promptly() -> None:
    with running_peer(lambda received: http_answer()) as peer:
        started = time.monotonic()
        done = run_script(EXIT, peer.url())
        taken = time.monotonic() - started

    assert (done.stdout, done.returncode) == ("fine\n", 0)
    assert taken < 10
