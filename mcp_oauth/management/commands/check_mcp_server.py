"""Goes the way of a connection step by step and shows what is wrong at each."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

from django.core.management.base import CommandParser

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.management.base import TypedCommand, usage_error
from mcp_oauth.oauth.options import OAuthOptions, parse_option
from mcp_oauth.services.diagnosis import Diagnosis, diagnose_address, diagnose_server
from mcp_oauth.services.servers import options_of
from mcp_oauth.services.workspaces import find_server

_WIDTH = 100
_INDENT = " " * 27
_WRONG = {"warning", "tolerated", "refused", "error"}
_TITLES = {
    "contact": "Contact, without credentials",
    "protected_resource": "What protects the server (RFC 9728)",
    "authorization_server": "The authorization server (RFC 8414)",
    "registration": "The client this application would be",
    "token_endpoint": "The token endpoint",
    "grants": "Grants",
}


class Command(TypedCommand):
    """``check_mcp_server S|URL``."""

    help = (
        "Goes the way of a connection without credentials and shows each step: address, status, time, and where "
        "something is wrong the member, the rule it breaks and the option that tolerates it. Nothing is registered, "
        "and nothing is stored but when a saved server was reached. "
        "Example: check_mcp_server https://mcp.linear.app/mcp"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the server, and options to try."""
        super().add_arguments(parser)
        parser.add_argument("server", help="a server's UUID, workspace/short-name, or an address")
        parser.add_argument(
            "--option",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="an OAuth option to try, on top of the server's own (repeatable); it is not stored",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the diagnosis whatever it found, and exit 1 with the code of the first failure if there is one."""
        try:
            diagnosis = self.diagnosis(options["server"], options["option"])
        except McpOAuthError as error:
            self.refuse(error, as_json=options["json"])
            return
        self.print_result(diagnosis.as_json(), as_json=options["json"])
        if diagnosis.failures:
            first = diagnosis.failures[0]
            self.stderr.write(f"{first.code}: {first.user_message}")
            if first.next_step:
                self.stderr.write(first.next_step)
            sys.exit(1)

    def diagnosis(self, named: str, to_try: list[str]) -> Diagnosis:
        """Return the diagnosis of an address or a saved server.

        Raises:
            McpOAuthError: there is no such server, or nothing can be asked of it.
        """
        chosen = _options(to_try)
        if "://" in named:
            return diagnose_address(named, OAuthOptions.from_json(chosen))
        server = find_server(named)
        return diagnose_server(server, OAuthOptions.from_json({**options_of(server).to_json(), **chosen}))

    def in_words(self, result: dict[str, Any]) -> str:
        """Return the steps by stage, one line each, with the details of those that are wrong, and the verdict."""
        lines: list[str] = []
        told: set[tuple[str, ...]] = set()
        stage = ""
        for step in result["steps"]:
            if step["stage"] != stage:
                stage = step["stage"]
                lines += ([""] if lines else []) + [_TITLES[stage]]
            lines.extend(_line(step))
            # Two documents that break one rule are told about once.
            details = tuple(str(step[name]) for name in ("stage", "what", "field", "rule", "note"))
            if step["verdict"] in _WRONG and details not in told:
                lines.extend(_details(step))
            told.add(details)
        # What keeps people from connecting is said once, on standard error.
        return "\n".join([*lines, ""] + ([] if "error" in result else [result["verdict"]]))


def _options(texts: list[str]) -> dict[str, Any]:
    try:
        return dict(parse_option(text) for text in texts)
    except McpOAuthError as error:
        raise usage_error(error.user_message) from error


def _line(step: dict[str, Any]) -> list[str]:
    asked = bool(step["method"])
    status = step["status"] if step["status"] is not None else "—" if asked else ""
    time = f"{step['milliseconds']} ms" if step["milliseconds"] is not None else ""
    what = f"{step['what']}: {step['note']}"
    if asked:
        about = {"contact": step["what"], "token_endpoint": step["note"] if step["verdict"] == "ok" else ""}
        what = f"{step['method']} {step['url']} {about.get(step['stage'], '')}".rstrip()
    return _wrapped(f"  {step['verdict']:<10} {status!s:>3} {time:>8}  ", what)


def _details(step: dict[str, Any]) -> list[str]:
    lines = _wrapped(_INDENT, step["note"]) if step["method"] else []
    refused = step["verdict"] in {"refused", "error"} and step["rule"]
    details = {
        "field": step["field"],
        "rule": step["rule"],
        "option": step["option"] or ("none tolerates it" if refused else ""),
        "next": step["next_step"],
    }
    for name, value in details.items():
        if value:
            lines.extend(_wrapped(f"{_INDENT}{name:<7} ", value))
    return lines


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        # An address is copied as a whole, however long it is.
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]
