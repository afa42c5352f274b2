"""Starts the demonstration's processes, waits until they answer, and ends exactly those."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

# Importing the SDK takes a second or two on a slow machine; five processes do so at once.
START_SECONDS = 60.0
STOP_SECONDS = 5.0


class StartFailed(Exception):
    """A process ended or did not answer; the message says which and why."""


class Processes:
    """The processes this demonstration started, ended together in reverse order."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self._running: list[tuple[str, subprocess.Popen[bytes], Path]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        """Start one process; what it prints goes to a file named after it."""
        log = self._log_folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  (our own programs)
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                # Ctrl-C reaches the whole terminal; the children are ended in order by stop() instead.
                start_new_session=True,
            )
        self._running.append((name, process, log))

    def wait_until_listening(self, name: str, port: int) -> None:
        """Return when something accepts connections on the port.

        Raises:
            StartFailed: the process ended, or nothing listens in time.
        """
        _name, process, log = next(entry for entry in self._running if entry[0] == name)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise StartFailed(f"{name} did not start:\n{_end_of(log)}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.05)
        raise StartFailed(f"{name} does not answer on port {port}:\n{_end_of(log)}")

    def first_that_ended(self) -> str | None:
        """Return the name of a process that is gone, with the end of what it printed."""
        for name, process, log in self._running:
            if process.poll() is not None:
                return f"{name} ended:\n{_end_of(log)}"
        return None

    def stop(self) -> None:
        """End what was started, the last first."""
        for _name, process, _log in reversed(self._running):
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for _name, process, _log in reversed(self._running):
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def refuse_taken_ports(ports: Sequence[int]) -> None:
    """Say at once that a port is taken, instead of talking to a stranger's server.

    Raises:
        StartFailed: naming the port.
    """
    for port in ports:
        if not 1024 <= port <= 65535:
            raise StartFailed(f"Port {port} cannot be used; choose one from 1024 to 65530.")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise StartFailed(
                    f"Port {port} is in use (the demonstration needs {ports[0]} to {ports[-1]}). "
                    "Stop what uses it or choose another, for example: make demo PORT=8100"
                ) from None


def python(*arguments: str) -> list[str]:
    """Return the command line of a Python program in this environment."""
    return [sys.executable, *arguments]


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:].strip() or "(it printed nothing)"
