"""The application as the suite meets it: its own database, one person for each run, and a process for each request."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from project.demo.processes import Processes, python
from tests.conformance.driver import APPLICATION
from tests.conformance.people import name_of
from tests.conformance.sign_in import SIGN_INS

ROOT = Path(__file__).resolve().parents[2]
# The suite's authorization servers know a metadata document at this address and no other.
CLIENT_METADATA_URL = "https://conformance-test.local/client-metadata.json"


class Application:
    """A running application. A context manager; what it wrote stays in the folder."""

    def __init__(self, folder: Path, runs: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self._folder = folder
        self._runs = runs
        self._password = secrets.token_urlsafe(16)
        self._secret_key = secrets.token_urlsafe(50)
        self._encryption_key = base64.b64encode(secrets.token_bytes(32)).decode()
        self._processes = Processes(folder)
        self._requests = folder / "requests.log"
        self.base_url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        """Make the database and the people, and start."""
        environment = self._environment()
        for command in (
            python("manage.py", "migrate", "--verbosity", "0"),
            python("-m", "tests.conformance.people", str(self._runs), self._password),
        ):
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
        self._processes.start(
            "application",
            python(
                *("-m", "gunicorn", "--config", "python:tests.conformance.serving"),
                *("--bind", f"127.0.0.1:{self._port}", "--access-logfile", str(self._requests)),
            ),
            environment,
        )
        self._processes.wait_until_listening("application", self._port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._processes.stop()

    def environment_for(self, number: int) -> dict[str, str]:
        """Return the environment of one run: the administrator's commands, and whom the driver plays."""
        who = {
            "base_url": self.base_url,
            "workspace": name_of(number),
            "person": name_of(number),
            "password": self._password,
            "platform_file": str(self._platform_file(number)),
            "sign_ins": str(self._folder),
        }
        return {**self._environment(), APPLICATION: json.dumps(who)}

    def _platform_file(self, number: int) -> Path:
        """Where the platform puts the token of the deployment that a run is about."""
        return self._folder / f"{name_of(number)}.jwt"

    def processes_that_served_twice(self) -> list[str]:
        """Return the processes that served more than one request; there should be none."""
        lines = self._requests.read_text(encoding="utf-8").splitlines()
        return [process for process, count in Counter(line.split(" ", 1)[0] for line in lines).items() if count > 1]

    def _environment(self) -> dict[str, str]:
        # What the shell of whoever starts this has set for an application of theirs must not decide anything here.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
        return {
            **inherited,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DEBUG": "0",
            "SECRET_KEY": self._secret_key,
            "MCP_OAUTH_ENCRYPTION_KEYS": self._encryption_key,
            "MCP_OAUTH_ALLOW_LOOPBACK": "1",
            "MCP_OAUTH_CLIENT_METADATA_URL": CLIENT_METADATA_URL,
            "MCP_OAUTH_IDENTITY_TOKEN_PROVIDER": "tests.conformance.sign_in.identity_token",
            SIGN_INS: str(self._folder),
            "MCP_OAUTH_WORKLOAD_TOKENS": ",".join(
                f"{name_of(number)}={self._platform_file(number)}" for number in range(self._runs)
            ),
            "DATABASE_URL": f"sqlite:///{self._folder / 'db.sqlite3'}",
            "CACHE_URL": "",
            "PUBLIC_URL": self.base_url,
            "ALLOWED_HOSTS": "127.0.0.1",
            "TRUST_PROXY_HEADERS": "0",
            "WHITENOISE_USE_FINDERS": "1",
        }
