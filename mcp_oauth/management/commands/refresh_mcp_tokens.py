"""Renews access tokens before they end, so that idle grants do not die."""

from __future__ import annotations

import random
import signal
import threading
from typing import Any

from django.core.management.base import CommandParser
from django.db import close_old_connections

from mcp_oauth.management.base import TypedCommand, usage_error
from mcp_oauth.services.call_records import sweep
from mcp_oauth.services.events import forget_old_events
from mcp_oauth.services.grants import refresh_due_grants
from mcp_oauth.services.removal import remove_due_servers


class Command(TypedCommand):
    """``refresh_mcp_tokens [--within SECONDS] [--watch]``."""

    help = (
        "Renews every access token that ends soon. Safe to run on many hosts at once; asks nobody anything. "
        "Servers whose removal is due, and old events and calls, go as well; calls that lost their process end."
    )
    examples = (
        ("refresh_mcp_tokens --within 600", "once, for example from cron"),
        ("refresh_mcp_tokens --watch", "as a service, until SIGTERM"),
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add how soon, and whether to go on."""
        super().add_arguments(parser)
        parser.add_argument(
            "--within", type=float, default=300.0, metavar="SECONDS", help="what ends within this (default 300)"
        )
        parser.add_argument("--watch", action="store_true", help="go on until stopped")
        parser.add_argument(
            "--interval", type=float, default=60.0, metavar="SECONDS", help="pause between rounds (default 60)"
        )

    def run(self, **options: Any) -> dict[str, Any]:
        """Renew once, or in rounds until SIGTERM or Ctrl-C."""
        if options["within"] < 0 or options["interval"] < 1:
            raise usage_error("--within must not be negative and --interval must be at least 1.")
        if not options["watch"]:
            return _round(options["within"])
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while True:
            result = _round(options["within"])
            # Hosts started together drift apart, so that they do not ask one authorization server at once.
            if stop.wait(options["interval"] * random.uniform(0.8, 1.2)):  # noqa: S311  (no secret)
                return result
            self.print_result(result, as_json=options["json"])

    def in_words(self, result: dict[str, Any]) -> str:
        """Say how many were renewed, and name each failure."""
        lines = [f"{result['refreshed']} renewed, {len(result['failed'])} failed."]
        lines += [f"  {item['server']} · {item['user']}: {item['code']}" for item in result["failed"]]
        lines += [f"  {name}: removed" for name in result["servers_removed"]]
        return "\n".join(lines)


def _round(within: float) -> dict[str, Any]:
    close_old_connections()
    outcomes = refresh_due_grants(within=within)
    failed = [
        {
            "grant": str(grant.pk),
            "server": grant.server.natural_name(),
            "user": str(grant.user) if grant.user_id is not None else "",
            "code": error.code,
            "message": error.user_message,
        }
        for grant, error in outcomes
        if error is not None
    ]
    # The one job that runs all the time also removes what is due, and keeps the audit trail and the calls in order.
    swept = sweep()
    return {
        "refreshed": len(outcomes) - len(failed),
        "failed": failed,
        "servers_removed": remove_due_servers(),
        "events_forgotten": forget_old_events(),
        "calls_interrupted": swept.interrupted,
        "calls_expired": swept.expired,
        "calls_erased": swept.erased,
        "calls_forgotten": swept.forgotten,
    }
