"""Other processes of one deployment: each with its own memory, connections and event loop, and the test's database.

A module of tests names what they can be told to do in its ``COMMANDS``. They are forked off a process that has done
nothing yet but import: what each needs of its own, it opens itself, and a test does not wait for imports.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

from django.conf import settings
from django.db import connection

ROOT = Path(__file__).resolve().parents[2]
# Far beyond what any of it takes; a process that hangs fails its test instead of the whole run.
PATIENCE = 60.0

_FORKS = multiprocessing.get_context("forkserver")


def obey(module: str, given: Mapping[str, Any], shared_cache: Mapping[str, Any], orders: Connection) -> None:
    """Carry out one command per message, each a JSON object; answer each with one."""
    from django.test import override_settings

    # What goes wrong here is told by the test that asked for it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    commands = importlib.import_module(module).COMMANDS
    # Which cache a test uses may differ from what this process was forked off with.
    with override_settings(MCP_OAUTH={**settings.MCP_OAUTH, **given}, CACHES={"default": shared_cache}):
        while True:
            try:
                command = json.loads(orders.recv_bytes())
            except EOFError:
                return
            name = command.pop("do")
            answer = True if name == "ready" else commands[name](**command)
            orders.send_bytes(json.dumps(answer).encode())


@dataclass(frozen=True)
class Worker:
    """Another process of the deployment."""

    process: BaseProcess
    orders: Connection

    def order(self, do: str, **arguments: Any) -> None:
        """Tell it what to do, and go on."""
        self.orders.send_bytes(json.dumps({"do": do, **arguments}).encode())

    def answer(self) -> Any:
        """Wait for what came of the oldest order that is not answered."""
        try:
            return json.loads(self.orders.recv_bytes())
        except (EOFError, ConnectionResetError):
            self.process.join(PATIENCE)
            raise AssertionError(f"the process ended with {self.process.exitcode}") from None

    def ask(self, do: str, **arguments: Any) -> Any:
        """Tell it what to do and wait for what comes of it."""
        self.order(do, **arguments)
        return self.answer()

    def kill(self) -> None:
        """End it as the kernel does when memory runs out: nothing of it gets to clean up."""
        self.process.kill()
        self.process.join(PATIENCE)


def database_url() -> str:
    """Return the URL of the database this test runs on."""
    used = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{used['NAME']}"
    place = f"{used['HOST']}:{used['PORT']}" if used["PORT"] else used["HOST"]
    password = f":{quote(used['PASSWORD'], safe='')}" if used["PASSWORD"] else ""
    return f"postgres://{quote(used['USER'], safe='')}{password}@{place}/{used['NAME']}"


@cache
def _prepare(database: str) -> None:
    """Have the process started that others are forked off; a run has one database, so it has one of them."""
    _FORKS.set_forkserver_preload(["tests.scale.imported"])
    with mock.patch.dict(os.environ, {"DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_URL": database}):
        forkserver.ensure_running()


@contextmanager
def running_worker(module: str, given: Mapping[str, Any]) -> Iterator[Worker]:
    """Run another process that obeys a module's commands; ``given`` are further ``MCP_OAUTH`` settings."""
    _prepare(database_url())
    ours, its = _FORKS.Pipe()
    process = _FORKS.Process(target=obey, args=(module, dict(given), dict(settings.CACHES["default"]), its))
    process.start()
    its.close()
    # A process that hangs is killed, so that whoever waits for its answer goes on.
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        yield Worker(process, ours)
    finally:
        watchdog.cancel()
        ours.close()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join(10)
        process.close()
