"""Adds a workspace and its first people."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from mcp_oauth.management.base import TypedCommand, person_named
from mcp_oauth.services.members import found_workspace


class Command(TypedCommand):
    """``add_workspace NAME --slug SLUG [--admin USER …] [--member USER …]``."""

    help = "Adds a workspace and its first people."
    examples = (
        ("add_workspace 'Acme Research' --slug acme --admin ada --member grace", "with an administrator and a member"),
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the name, the short name and the people."""
        super().add_arguments(parser)
        parser.add_argument("name", help="the workspace's name")
        parser.add_argument("--slug", required=True, help="its short name: lower-case letters, digits, hyphens")
        parser.add_argument("--admin", action="append", default=[], metavar="USER", help="may configure (repeatable)")
        parser.add_argument("--member", action="append", default=[], metavar="USER", help="may connect (repeatable)")

    def run(self, **options: Any) -> dict[str, Any]:
        """Add the workspace."""
        workspace = found_workspace(
            options["name"],
            options["slug"],
            admins=[person_named(name) for name in options["admin"]],
            members=[person_named(name) for name in options["member"]],
        )
        return {
            "workspace": {
                "id": str(workspace.pk),
                "name": workspace.name,
                "slug": workspace.slug,
                "admins": options["admin"],
                "members": [name for name in options["member"] if name not in options["admin"]],
            }
        }

    def in_words(self, result: dict[str, Any]) -> str:
        """Say what was added."""
        workspace = result["workspace"]
        people = len(workspace["admins"]) + len(workspace["members"])
        return f"Added the workspace {workspace['name']} ({workspace['slug']}) with {people} people."
