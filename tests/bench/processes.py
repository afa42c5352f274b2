"""The processes of a run: the servers' one, ones that measure, and gunicorn; all end with the run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
# Far beyond what any of it takes.
PATIENCE = 60.0
# Two for two processors; as many threads together as there are callers at most.
API_WORKERS, API_THREADS = 2, 16


@contextmanager
def peers() -> Iterator[dict[str, Any]]:
    """Run the servers to measure against; yields their addresses by kind."""
    with _program("from tests.bench.peers import main; main()", {}) as process:
        assert process.stdout is not None
        addresses: dict[str, Any] = json.loads(process.stdout.readline())
        yield addresses


class Worker:
    """A process of its own that obeys orders: nothing of another measurement is left in it."""

    def __init__(self, process: subprocess.Popen[str], database_url: str) -> None:
        self._process = process
        self.database_url = database_url

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have a function run there and return its answer; ``do`` is ``module:function`` of this package.

        Raises:
            RuntimeError: it failed; its traceback stands on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{do} failed; the process that should have measured it says why.")
        return json.loads(line)


@contextmanager
def worker(database_url: str) -> Iterator[Worker]:
    """Run a process that measures, with Django set up on a database."""
    program = "import django; django.setup(); from tests.bench.processes import obey; obey()"
    with _program(program, environment_on(database_url)) as process:
        yield Worker(process, database_url)


def obey() -> None:
    """Carry out one order per line of standard input; answer each with one line."""
    for line in sys.stdin:
        order = json.loads(line)
        module, _, name = order["do"].partition(":")
        answer = getattr(import_module(f"tests.bench.{module}"), name)(**order["with"])
        print(json.dumps(answer), flush=True)


def environment_on(database_url: str) -> dict[str, str]:
    """Return what a process of this application needs to know."""
    return {"DJANGO_SETTINGS_MODULE": "tests.bench.settings", "DATABASE_URL": database_url, "CACHE_URL": ""}


@contextmanager
def gunicorn(database_url: str) -> Iterator[str]:
    """Serve the project as a deployment does; yields its origin."""
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    command = [sys.executable, "-m", "gunicorn", "project.wsgi", "--bind", f"fd://{listener.fileno()}"]
    command += ["--worker-class", "gthread", "--workers", str(API_WORKERS), "--threads", str(API_THREADS)]
    # As behind a proxy, which keeps its connections.
    command += ["--keep-alive", "75", "--log-level", "error"]
    environment = {**os.environ, **environment_on(database_url)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[listener.fileno()])
    try:
        # The socket listens already: whoever connects waits for the first worker.
        with urlopen(f"{origin}/accounts/login/", timeout=PATIENCE):
            pass
        yield origin
    finally:
        process.terminate()
        process.wait(PATIENCE)
        listener.close()


@contextmanager
def _program(program: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program that ends when its standard input does."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
