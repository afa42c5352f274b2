"""Settings of the gunicorn that serves the application to the suite: a process per request, forked from one parent."""

from __future__ import annotations

import importlib
from typing import Any

wsgi_app = "project.wsgi"
preload_app = True
workers = 6
# A worker ends after one request. Whatever a request leaves in memory is gone when the next one comes, so a state or a
# verifier that is not stored is found out.
max_requests = 1
# Longer than a tool call may take (CALL_SECONDS), so that the application says what is wrong and not gunicorn.
timeout = 120
access_log_format = "%(p)s %(s)s %(m)s %(U)s"


def when_ready(server: Any) -> None:
    """Import the MCP client once in the parent; each worker would otherwise spend a second on it."""
    importlib.import_module("mcp_oauth.sessions.client")
