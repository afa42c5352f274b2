"""A process that has just started: how long until its first answer, and where that time goes.

``python -m tests.bench.fresh WHAT STARTED ARGUMENTS``, where ``STARTED`` is the monotonic clock as it stood before and
``ARGUMENTS`` a JSON object. Prints the seconds from there to each mark. Nothing is imported before it is needed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any


class _Marks:
    def __init__(self, started: float) -> None:
        self._started = started
        self.seconds: dict[str, float] = {}

    def reach(self, name: str) -> None:
        self.seconds[name] = time.monotonic() - self._started


def call(marks: _Marks, server: str, user: int) -> None:
    """Run a tool twice, as a command or a task worker does whose process is new."""
    import django

    django.setup()
    from django.contrib.auth.models import User

    from mcp_oauth import call_tool

    person = User.objects.get(pk=user)
    marks.reach("Django")
    # What the first call would import; the loop, the TLS context and the connection are left to it.
    import mcp_oauth.sessions.client  # noqa: F401

    marks.reach("client")
    for name in ("answer", "second answer"):
        if call_tool(server, person, "add", {"a": 19, "b": 23}).structured_content != {"total": 42}:
            raise RuntimeError("a wrong answer is no measurement")
        marks.reach(name)


def raw(marks: _Marks, url: str, headers: dict[str, str], message: dict[str, Any]) -> None:
    """Send the same request without Django and the SDK."""
    import httpx2

    marks.reach("httpx2")
    with httpx2.Client(trust_env=False) as client:
        for name in ("answer", "second answer"):
            client.post(url, headers=headers, json=message).raise_for_status()
            marks.reach(name)


def sdk(marks: _Marks) -> None:
    """Import the SDK's client and nothing else."""
    import mcp.client.streamable_http  # noqa: F401

    marks.reach("answer")


def main() -> None:
    """Do what the command line says and print when which mark was reached."""
    what, started, arguments = sys.argv[1:]
    marks = _Marks(float(started))
    marks.reach("interpreter")
    work: dict[str, Callable[..., None]] = {"call": call, "raw": raw, "sdk": sdk}
    work[what](marks, **json.loads(arguments))
    print(json.dumps(marks.seconds))


if __name__ == "__main__":
    main()
