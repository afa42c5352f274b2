"""Asks a server how it wants to be opened and shows every step."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.management.base import TypedCommand
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.urls import check_server_address
from mcp_oauth.services.discovery import discover
from mcp_oauth.services.probes import probe
from mcp_oauth.services.servers import options_of
from mcp_oauth.services.workspaces import find_server


class Command(TypedCommand):
    """``check_mcp_server S|URL``."""

    help = (
        "Contacts a server without credentials and shows each step with its address, status and verdict. "
        "Nothing is stored. Example: check_mcp_server https://mcp.linear.app/mcp"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the server."""
        super().add_arguments(parser)
        parser.add_argument("server", help="a server's UUID, workspace/short-name, or an address")

    def run(self, **options: Any) -> dict[str, Any]:
        """Probe the server and, if it uses OAuth, its authorization server."""
        named = options["server"]
        if "://" in named:
            url, chosen = check_server_address(named, allow_loopback=settings.ALLOW_LOOPBACK), OAuthOptions()
        else:
            server = find_server(named)
            url, chosen = server.url, options_of(server)
        report = probe(url, chosen)
        if report.error is not None and report.auth_mode is None:
            self.show_steps(report.evidence.as_json(), as_json=options["json"])
            raise report.error
        if report.auth_mode == McpServer.AuthMode.OAUTH:
            try:
                discover(url, report.challenge, chosen, report.evidence, resource_metadata=report.resource_metadata)
            except McpOAuthError:
                self.show_steps(report.evidence.as_json(), as_json=options["json"])
                raise
        return {
            "url": url,
            "verdict": report.verdict,
            "auth_mode": report.auth_mode,
            "protocol_version": report.protocol_version,
            "steps": report.evidence.as_json(),
        }

    def in_words(self, result: dict[str, Any]) -> str:
        """Return the steps and the verdict."""
        return f"{_table(result['steps'])}\n{result['verdict']}"

    def show_steps(self, steps: list[dict[str, Any]], *, as_json: bool) -> None:
        """Print the steps that led to an error, where they do not disturb the JSON."""
        (self.stderr if as_json else self.stdout).write(_table(steps))


def _table(steps: list[dict[str, Any]]) -> str:
    rows = []
    for step in steps:
        status = step["status"] if step["status"] is not None else "—"
        rows.append(f"{step['verdict']:<9} {status!s:<4} {step['method']:<6} {step['url']}  {step['what']}")
        if step["note"]:
            rows.append(f"{'':<21} {step['note']}")
    return "\n".join(rows)
