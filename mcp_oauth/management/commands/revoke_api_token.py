"""Revokes an API token, whoever it speaks for."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from mcp_oauth.management.base import TypedCommand
from mcp_oauth.services.api_tokens import find_token, revoke_token


class Command(TypedCommand):
    """``revoke_api_token HINT|ID``."""

    help = "Revokes an API token."
    examples = (("revoke_api_token mcpo_3kTz9Q", "by the characters it begins with"),)

    def add_arguments(self, parser: CommandParser) -> None:
        """Add which token."""
        super().add_arguments(parser)
        parser.add_argument("token", help="the token's ID, or the characters it begins with")

    def run(self, **options: Any) -> dict[str, Any]:
        """Revoke the token."""
        token = find_token(options["token"])
        revoked = revoke_token(token)
        return {"id": str(token.pk), "hint": token.hint, "name": token.name, "revoked": revoked}

    def in_words(self, result: dict[str, Any]) -> str:
        """Say what became of it."""
        words = "is revoked" if result["revoked"] else "was revoked before"
        return f"{result['name']} ({result['hint']}…) {words}."
