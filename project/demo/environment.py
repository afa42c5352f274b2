"""The environment the demonstration runs in: its own folder, database, keys and port."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / ".demo"
DEFAULT_PORT = 8000
# The application listens on the port itself, the peers on the five behind it.
PEER_PORTS = {"tracker": 1, "notes": 2, "notes-login": 3, "board": 4, "clock": 5}


def port_from(arguments: list[str]) -> int:
    """Return the port of ``--port`` or ``PORT``, 8000 without either; what is no number is left to the command."""
    text = os.environ.get("PORT", "")
    for position, argument in enumerate(arguments):
        if argument == "--port" and position + 1 < len(arguments):
            text = arguments[position + 1]
        elif argument.startswith("--port="):
            text = argument.partition("=")[2]
    return int(text) if text.isdecimal() else DEFAULT_PORT


def prepare(arguments: list[str]) -> None:
    """Set the environment before the settings are read; nothing of a developer's own environment is used."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    port = port_from(arguments)
    os.environ.update(
        DEBUG="0",
        SHOW_STYLEGUIDE="1",
        SECRET_KEY=_kept("secret_key", lambda: secrets.token_urlsafe(50)),
        MCP_OAUTH_ENCRYPTION_KEYS=_kept("encryption_key", lambda: base64.b64encode(os.urandom(32)).decode()),
        MCP_OAUTH_ALLOW_LOOPBACK="1",
        MCP_OAUTH_CLIENT_METADATA_URL="",
        MCP_OAUTH_IDENTITY_TOKEN_PROVIDER="",
        MCP_OAUTH_WORKLOAD_TOKENS="",
        DATABASE_URL=f"sqlite:///{FOLDER / 'db.sqlite3'}",
        CACHE_URL="",
        PUBLIC_URL=f"http://127.0.0.1:{port}",
        ALLOWED_HOSTS="127.0.0.1,localhost",
        TRUST_PROXY_HEADERS="0",
        WHITENOISE_USE_FINDERS="1",
    )


def _kept(name: str, make: Callable[[], str]) -> str:
    """Return a secret of this demonstration, made once and kept: what is sealed today must open tomorrow."""
    path = FOLDER / name
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
    return path.read_text().strip()
