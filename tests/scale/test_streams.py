"""Streamed answers through the servers people deploy: gunicorn with threads, and an ASGI server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from mcp_oauth.models import ToolCall
from tests.scale.processes import PATIENCE, ROOT, database_url
from tests.servers import OpenServer
from tests.servers.conversing import Conversation
from tests.web.desk import Desk

pytestmark = pytest.mark.django_db(transaction=True)

COMMANDS = {
    "gunicorn": ("gunicorn", "project.wsgi", "--workers", "1", "--threads", "4", "--bind", "fd://{fd}"),
    "uvicorn": ("uvicorn", "project.asgi:application", "--log-level", "error", "--fd", "{fd}"),
}


@contextmanager
def deployment(kind: str) -> Iterator[str]:
    """Serve the project from a process of its own, with the test's database; returns its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        listener.set_inheritable(True)
        arguments = [part.format(fd=listener.fileno()) for part in COMMANDS[kind]]
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.scale.streaming_settings",
                "DATABASE_URL": database_url(),
            },
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            # Who connects before it accepts is served once it does.
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(PATIENCE)


@pytest.mark.parametrize("kind", COMMANDS)
def test_progress_arrives_as_it_happens_and_hanging_up_ends_the_call(
    kind: str, open_mcp_server: Callable[..., OpenServer], conversation: Conversation
) -> None:
    desk = Desk(open_mcp_server(tools=conversation.register))
    headers = {"authorization": desk.program.defaults["HTTP_AUTHORIZATION"], "accept": "text/event-stream"}
    tools = f"/api/v1/servers/{desk.server.pk}/tools"

    with deployment(kind) as site, httpx.Client(base_url=site, headers=headers, timeout=PATIENCE) as program:
        with program.stream("POST", f"{tools}/march/call/", json={"arguments": {"steps": 2}}) as answer:
            lines = (line for line in answer.iter_lines() if line.startswith("event"))
            for _step in range(2):
                # The tool stands still until its last word was read here: nothing collects what is on its way.
                assert next(lines) == "event: progress"
                conversation.gate("march").let_pass()
            assert list(lines) == ["event: result"]

        with program.stream("POST", f"{tools}/slow/call/", json={}) as answer:
            assert next(line for line in answer.iter_lines() if line.startswith("event")) == "event: progress"
        conversation.gate("slow").wait_for_cancellations()

    assert conversation.ran == {"march": 1}
    assert sorted(ToolCall.objects.values_list("tool", "state", "outcome")) == [
        ("march", "completed", ""),
        ("slow", "failed", "cancelled"),
    ]
