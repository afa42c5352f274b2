"""The project's settings as the measurements run them: with everything that a call does in a deployment."""

from __future__ import annotations

from tests.settings import *

# Warnings of a run belong to its output, lines per request do not.
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR"}}
DATABASES["default"]["CONN_MAX_AGE"] = 60
# A commit costs what it costs in a deployment: the tests' faster one is not measured.
DATABASES["default"].get("OPTIONS", {}).pop("options", None)
# The limit on one person's calls would be all that the API's figures show.
MCP_OAUTH["CALLS_PER_MINUTE"] = 1_000_000
