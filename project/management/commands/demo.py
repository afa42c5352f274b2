"""Sets the demonstration up, starts it and stops it again."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from project.demo.content import PASSWORD, USER, fill
from project.demo.environment import FOLDER, PEER_PORTS, port_from
from project.demo.processes import Processes, StartFailed, python, refuse_taken_ports


class Command(BaseCommand):
    """``demo [--port N] [--check | --screenshots]``."""

    help = "Starts the application with four real MCP servers on this machine and says where. Ctrl-C stops everything."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the port and what may be done in a person's place."""
        parser.add_argument("--port", type=int, default=None, help="the port (default: PORT, or 8000)")
        visitor = parser.add_mutually_exclusive_group()
        visitor.add_argument(
            "--check", action="store_true", help="go through the demonstration without a person, then stop"
        )
        visitor.add_argument(
            "--screenshots", action="store_true", help="take the pictures of docs/images in a Chromium, then stop"
        )
        parser.add_argument("--json", action="store_true", help="print the address and sign-in as one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the demonstration until it is stopped."""
        port = options["port"] or port_from([])
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        try:
            refuse_taken_ports(range(port, port + len(PEER_PORTS) + 1))
            with Processes(FOLDER) as processes:
                _start(processes, port, short_tokens=options["check"])
                if options["check"] or options["screenshots"]:
                    self._visit("tests.journey" if options["check"] else "tests.screenshots", port)
                    return
                self._announce(port, as_json=options["json"])
                while not stop.wait(0.5):
                    ended = processes.first_that_ended()
                    if ended:
                        raise StartFailed(ended)
        except StartFailed as error:
            raise CommandError(str(error)) from error
        finally:
            connections.close_all()
        self.stderr.write("Stopped.")

    def _announce(self, port: int, *, as_json: bool) -> None:
        address = f"http://127.0.0.1:{port}/"
        if as_json:
            self.stdout.write(f'{{"url": "{address}", "user": "{USER}", "password": "{PASSWORD}"}}')
        else:
            self.stdout.write(
                f"\n  Open      {address}\n  Sign in   {USER} / {PASSWORD}\n"
                f"  Connect   the Issue tracker and Notes ask you to sign in: ada / ada\n"
                f"  Commands  DEMO=1 .venv/bin/python manage.py list_mcp_tools --user {USER}\n"
                f"  Stop      Ctrl-C\n"
            )
        self.stdout.flush()

    def _visit(self, visitor: str, port: int) -> None:
        visit = subprocess.run(  # noqa: S603  (our own program)
            python("-m", visitor, f"http://127.0.0.1:{port}"), check=False, stdin=subprocess.DEVNULL
        )
        if visit.returncode:
            sys.exit(visit.returncode)


def _start(processes: Processes, port: int, *, short_tokens: bool) -> None:
    """Start the peers, fill the database while they can be asked, then start the application."""
    # The check looks on while a token ends, so that one must end soon.
    environment = {"DEMO_ACCESS_TOKEN_SECONDS": "6"} if short_tokens else {}
    for peer, offset in PEER_PORTS.items():
        command = python("-m", "project.peers", peer, "--port", str(port + offset))
        if peer in {"tracker", "notes-login"}:
            command += ["--state", str(FOLDER / f"{peer}.json")]
        if peer == "notes":
            command += ["--issuer-port", str(port + PEER_PORTS["notes-login"])]
        processes.start(peer, command, environment)
    call_command("migrate", verbosity=0)
    for peer, offset in PEER_PORTS.items():
        processes.wait_until_listening(peer, port + offset)
    fill(port)
    processes.start(
        "application",
        python("-m", "gunicorn", "project.wsgi", "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "8"),
    )
    processes.wait_until_listening("application", port)
