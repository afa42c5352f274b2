"""The call that a form makes, as a program, a request and a command: to be copied, and safe to paste."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pprint import pformat
from typing import Any

from django.utils.translation import gettext as _

from mcp_oauth.models import McpServer


@dataclass(frozen=True)
class Snippet:
    """One way to make the call elsewhere."""

    key: str
    title: str
    text: str


def snippets(
    server: McpServer, tool: str, arguments: dict[str, Any], *, url: str, username: str
) -> tuple[Snippet, ...]:
    """Return the ways to make a call; ``url`` is the API's address for it. No secret is in any of them."""
    # Escaped, so that one line stays one line whatever is in it.
    body = json.dumps(arguments)
    reference = server.natural_name()
    python = "\n".join(
        (
            "from mcp_oauth import call_tool",
            "",
            f"result = call_tool({reference!r}, user, {tool!r}, {pformat(arguments, width=88, sort_dicts=False)})",
        )
    )
    curl = " \\\n  ".join(
        (
            f"curl --fail-with-body -X POST {shlex.quote(url)}",
            '-H "Authorization: Bearer $TOKEN"',
            "-H 'Content-Type: application/json'",
            f"--data-raw {shlex.quote(json.dumps({'arguments': arguments}))}",
        )
    )
    # A name that begins with a dash is no option after the two dashes.
    command = (
        f"python manage.py call_mcp_tool --user {shlex.quote(username)} "
        f"--args {shlex.quote(body)} -- {shlex.quote(reference)} {shlex.quote(tool)}"
    )
    return (
        Snippet("python", _("Python"), python),
        Snippet("curl", _("curl"), curl),
        Snippet("command", _("Command"), command),
    )
