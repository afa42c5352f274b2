"""Goes the way of a connection step by step and shows what is wrong at each."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.management.base import TypedCommand, usage_error
from mcp_oauth.management.terminal import USUAL_WIDTH, harmless, wrapped
from mcp_oauth.oauth.options import OAuthOptions, parse_option
from mcp_oauth.services.diagnosis import Diagnosis, diagnose_address, diagnose_server
from mcp_oauth.services.server_options import options_of
from mcp_oauth.services.workspaces import find_server

_INDENT = " " * 27
_ROOMY = 72
_WRONG = {"warning", "tolerated", "refused", "error"}
_STYLES = {
    "ok": "SUCCESS",
    "challenge": "SUCCESS",
    "warning": "WARNING",
    "tolerated": "WARNING",
    "refused": "ERROR",
    "error": "ERROR",
}
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
        "and nothing is stored but when a saved server was reached."
    )
    examples = (
        ("check_mcp_server https://mcp.linear.app/mcp", "an address that nobody has added"),
        ("check_mcp_server acme/linear", "a saved server, with its own options"),
        ("check_mcp_server acme/linear --option tolerate_issuer_mismatch", "what an option would change"),
        ("check_mcp_server acme/linear --json | jq -r '.steps[] | select(.code) | .code'", "the codes alone"),
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
        finally:
            self.status.clear()
        self.print_result(diagnosis.as_json(), as_json=options["json"])
        if diagnosis.failures:
            self.tell(diagnosis.failures[0])
            sys.exit(1)

    def diagnosis(self, named: str, to_try: list[str]) -> Diagnosis:
        """Return the diagnosis of an address or a saved server.

        Raises:
            McpOAuthError: there is no such server, or nothing can be asked of it.
        """
        chosen = _options(to_try)
        if "://" in named:
            return diagnose_address(named, OAuthOptions.from_json(chosen), on_ask=self._asking)
        server = find_server(named)
        options = OAuthOptions.from_json({**options_of(server).to_json(), **chosen})
        return diagnose_server(server, options, on_ask=self._asking)

    def _asking(self, url: str, what: str) -> None:
        self.status.say(f"Asking {url} ({what})…")

    def in_words(self, result: dict[str, Any]) -> str:
        """Return the steps by stage, one line each, with the details of those that are wrong, and the verdict."""
        lines: list[str] = []
        told: set[tuple[str, ...]] = set()
        stage = ""
        for step in result["steps"]:
            if step["stage"] != stage:
                stage = step["stage"]
                lines += ([""] if lines else []) + [self.styled(_TITLES[stage], "MIGRATE_HEADING")]
            lines.extend(self._line(step))
            # Two documents that break one rule are told about once.
            details = tuple(str(step[name]) for name in ("stage", "what", "field", "rule", "note"))
            if step["verdict"] in _WRONG and details not in told:
                lines.extend(self._details(step))
            told.add(details)
        # What keeps people from connecting is said once, on standard error.
        return "\n".join([*lines, ""] + ([] if "error" in result else wrapped(result["verdict"], self._columns)))

    @property
    def _columns(self) -> int:
        # Longer lines are hard to read, however wide the terminal is.
        return min(self.width or USUAL_WIDTH, USUAL_WIDTH)

    def _line(self, step: dict[str, Any]) -> list[str]:
        asked = bool(step["method"])
        status = step["status"] if step["status"] is not None else "—" if asked else ""
        time = f"{step['milliseconds']} ms" if step["milliseconds"] is not None else ""
        what = f"{step['what']}: {step['note']}"
        if asked:
            about = {"contact": step["what"], "token_endpoint": step["note"] if step["verdict"] == "ok" else ""}
            what = f"{step['method']} {step['url']} {about.get(step['stage'], '')}".rstrip()
        verdict = f"{step['verdict']:<10}"
        head = f"  {verdict} {status!s:>3} {time:>8}  "
        lines = wrapped(harmless(what), self._columns, first=head, rest=self._indent)
        return [lines[0].replace(verdict, self.styled(verdict, _STYLES.get(step["verdict"], "")), 1), *lines[1:]]

    def _details(self, step: dict[str, Any]) -> list[str]:
        lines = wrapped(harmless(step["note"]), self._columns, first=self._indent) if step["method"] else []
        refused = step["verdict"] in {"refused", "error"} and step["rule"]
        details = {
            "field": step["field"],
            "rule": step["rule"],
            "option": step["option"] or ("none tolerates it" if refused else ""),
            "next": step["next_step"],
        }
        for name, value in details.items():
            if value:
                lines.extend(wrapped(harmless(value), self._columns, first=f"{self._indent}{name:<7} "))
        return lines

    @property
    def _indent(self) -> str:
        # Below the words of a step, unless too little were left of a narrow line.
        return _INDENT if self._columns >= _ROOMY else " " * 6


def _options(texts: list[str]) -> dict[str, Any]:
    try:
        return dict(parse_option(text) for text in texts)
    except McpOAuthError as error:
        raise usage_error(error.user_message) from error
