"""What every command shares: ``--json``, typed errors with their code, and the exit codes."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import translation

from mcp_oauth.exceptions import McpOAuthError, NotFound
from mcp_oauth.services.workspaces import Person


class TypedCommand(BaseCommand):
    """A command that prints a result and exits 0, or prints a typed error and exits 1; usage errors exit 2.

    With ``--json`` standard output holds exactly one JSON document, ``{"error": {...}}`` in the second case. The
    error in words goes to standard error either way.
    """

    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--json``."""
        parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command and turn a typed error into words, JSON and exit code 1.

        It speaks English in every language of the site, as its options and the log do.
        """
        with translation.override("en"):
            try:
                result = self.run(**options)
            except McpOAuthError as error:
                self.refuse(error, as_json=options["json"])
            else:
                self.print_result(result, as_json=options["json"])

    def run(self, **options: Any) -> dict[str, Any]:
        """Do the work and return the result as a JSON object."""
        raise NotImplementedError

    def in_words(self, result: dict[str, Any]) -> str:
        """Return the result for a person."""
        raise NotImplementedError

    def print_result(self, result: dict[str, Any], *, as_json: bool) -> None:
        """Print a result."""
        self.stdout.write(json.dumps(result, ensure_ascii=False) if as_json else self.in_words(result))

    def refuse(self, error: McpOAuthError, *, as_json: bool) -> None:
        """Print a typed error and exit 1."""
        if as_json:
            self.stdout.write(json.dumps({"error": error.as_json()}, ensure_ascii=False))
        self.stderr.write(f"{error.code}: {error.user_message}")
        if error.next_step:
            self.stderr.write(error.next_step)
        sys.exit(1)


def person_named(username: str) -> Person:
    """Return the person with that user name.

    Raises:
        NotFound: there is none.
    """
    model = get_user_model()
    person = model._default_manager.filter(**{model.USERNAME_FIELD: username}).first()
    if person is None:
        raise NotFound(f"There is no user named “{username[:150]}”.")
    return person


def usage_error(message: str) -> CommandError:
    """Return the error for options that do not go together (exit code 2)."""
    return CommandError(message, returncode=2)
