"""The project's settings as the measurements run them: quiet, and with everything that a call does in a deployment."""

from __future__ import annotations

from tests.settings import *

LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR"}}
DATABASES["default"]["CONN_MAX_AGE"] = 60
