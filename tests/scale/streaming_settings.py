"""The settings of a deployment whose streams give signs of life quickly, so that its tests need not wait for them."""

from __future__ import annotations

from tests.settings import *

MCP_OAUTH = {**MCP_OAUTH, "STREAM_PING_SECONDS": 0.2, "CALL_TICK_SECONDS": 0.1}
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR"}}
