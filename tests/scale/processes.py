"""Other processes of one deployment: each its own interpreter, connections and event loop, with the test's database.

A module of tests names what they can be told to do in its ``COMMANDS``.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from django.db import connection

ROOT = Path(__file__).resolve().parents[2]
# Django first: a module of tests needs its models.
PROGRAM = "import sys, django; django.setup(); from tests.scale.processes import obey; obey(sys.argv[1])"
# Far beyond what any of it takes; a process that hangs fails its test instead of the whole run.
PATIENCE = 60.0


def obey(module: str) -> None:
    """Carry out one command per line of standard input, each a JSON object; answer each with one line."""
    from django.conf import settings
    from django.test.utils import override_settings

    commands = importlib.import_module(module).COMMANDS
    given = json.loads(os.environ["MCP_OAUTH_TEST_SETTINGS"])
    with override_settings(MCP_OAUTH={**settings.MCP_OAUTH, **given}):
        for line in sys.stdin:
            command = json.loads(line)
            name = command.pop("do")
            answer = True if name == "ready" else commands[name](**command)
            print(json.dumps(answer), flush=True)


@dataclass(frozen=True)
class Worker:
    """Another process of the deployment."""

    process: subprocess.Popen[str]

    def order(self, do: str, **arguments: Any) -> None:
        """Tell it what to do, and go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for what came of the oldest order that is not answered."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the process ended with {self.process.wait(PATIENCE)}"
        return json.loads(line)

    def ask(self, do: str, **arguments: Any) -> Any:
        """Tell it what to do and wait for what comes of it."""
        self.order(do, **arguments)
        return self.answer()

    def kill(self) -> None:
        """End it as the kernel does when memory runs out: nothing of it gets to clean up."""
        self.process.kill()
        self.process.wait(PATIENCE)


def database_url() -> str:
    """Return the URL of the database this test runs on."""
    used = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{used['NAME']}"
    place = f"{used['HOST']}:{used['PORT']}" if used["PORT"] else used["HOST"]
    password = f":{quote(used['PASSWORD'], safe='')}" if used["PASSWORD"] else ""
    return f"postgres://{quote(used['USER'], safe='')}{password}@{place}/{used['NAME']}"


@contextmanager
def running_worker(module: str, settings: Mapping[str, Any]) -> Iterator[Worker]:
    """Run another process that obeys a module's commands; ``settings`` are further ``MCP_OAUTH`` settings."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url(),
        "MCP_OAUTH_TEST_SETTINGS": json.dumps(settings),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, module],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    # A process that hangs is killed, so that whoever waits for its answer goes on.
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        yield Worker(process)
    finally:
        watchdog.cancel()
        with suppress(BrokenPipeError):
            assert process.stdin is not None
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
