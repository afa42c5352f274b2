"""Makes an API token for a person."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from mcp_oauth.management.base import TypedCommand, person_named
from mcp_oauth.services.api_tokens import make_token
from mcp_oauth.services.workspaces import place_in


class Command(TypedCommand):
    """``add_api_token WORKSPACE --user U --name N [--days D]``."""

    help = "Makes an API token and prints it, once."
    examples = (
        ("add_api_token acme --user ada --name 'Nightly report' --days 30", "for a program, for a month"),
        ("add_api_token acme --user ada --name CI > token.txt", "standard output has the token alone"),
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the workspace, the person, the name and the days."""
        super().add_arguments(parser)
        parser.add_argument("workspace", help="the workspace's short name")
        parser.add_argument("--user", required=True, help="the person it speaks for, a member of the workspace")
        parser.add_argument("--name", required=True, help="what uses it")
        parser.add_argument("--days", type=int, help="how long it is good (default: as long as the settings allow)")

    def run(self, **options: Any) -> dict[str, Any]:
        """Make the token."""
        user = person_named(options["user"])
        place = place_in(user, options["workspace"])
        made = make_token(user, place.workspace, options["name"], days=options["days"])
        return {
            "token": made.secret,
            "id": str(made.token.pk),
            "hint": made.token.hint,
            "workspace": place.workspace.slug,
            "user": options["user"],
            "expires_at": made.token.expires_at.isoformat() if made.token.expires_at else None,
        }

    def in_words(self, result: dict[str, Any]) -> str:
        """Print the token alone, for a program that reads it."""
        return str(result["token"])
