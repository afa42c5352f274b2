"""What every command shares: ``--json``, typed errors with their code, exit codes, and how it looks on a terminal."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from typing import Any, Final, cast

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.utils import translation

from mcp_oauth.exceptions import McpOAuthError, NotFound
from mcp_oauth.management.terminal import Cell, Status, columns, harmless, takes_colour, width_of
from mcp_oauth.services.workspaces import Person

# What a shell reports of a program that a signal ended: 128 and the signal's number.
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141

_EXIT_CODES: Final = """exit codes:
  0    done
  1    refused: the line on standard error begins with the error's code
  2    the command line cannot be right
  130  stopped with Ctrl-C"""


class _HelpFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Django's order of options, with examples left as they are written."""


class TypedCommand(BaseCommand):
    """A command that prints a result and exits 0, or prints a typed error and exits 1; usage errors exit 2.

    With ``--json`` standard output holds exactly one JSON document, ``{"error": {...}}`` in the second case. The
    error in words goes to standard error either way, and so does what is going on meanwhile. It speaks English in every
    language of the site, as its options and the log do.
    """

    requires_migrations_checks = False
    # What follows "manage.py" in the examples of --help, each with what it does.
    examples: tuple[tuple[str, str], ...] = ()

    status: Status
    width: int | None = None

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser, whose help ends with examples and the exit codes."""
        examples = "\n".join(f"  # {does}\n  manage.py {line}\n" for line, does in self.examples)
        parser = super().create_parser(
            prog_name,
            subcommand,
            formatter_class=_HelpFormatter,
            epilog=f"examples:\n{examples}\n{_EXIT_CODES}" if examples else _EXIT_CODES,
            **kwargs,
        )
        parser.description = textwrap.fill(self.help, 78)
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--json``."""
        parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command in English, and end as shells expect it when a person or the reader of a pipe stops it."""
        out = cast(Any, options.get("stdout") or self.stdout)
        if not options.get("force_color") and not takes_colour(out):
            options["no_color"] = True
        self.width = width_of(out)
        self.status = Status(cast(Any, options.get("stderr") or self.stderr), self._write_status)
        try:
            with translation.override("en"):
                printed = super().execute(*args, **options)
            out.flush()
        except KeyboardInterrupt:
            self.status.clear()
            self.stderr.write("Stopped.")
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # Python flushes once more when it ends, into what is not there any more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(PIPE_CLOSED)
        return printed

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command and turn a typed error into words, JSON and exit code 1."""
        try:
            result = self.run(**options)
        except McpOAuthError as error:
            self.refuse(error, as_json=options["json"])
        else:
            self.print_result(result, as_json=options["json"])
        finally:
            self.status.clear()

    def run(self, **options: Any) -> dict[str, Any]:
        """Do the work and return the result as a JSON object."""
        raise NotImplementedError

    def in_words(self, result: dict[str, Any]) -> str:
        """Return the result for a person."""
        raise NotImplementedError

    def print_result(self, result: dict[str, Any], *, as_json: bool) -> None:
        """Print a result."""
        self.status.clear()
        self.stdout.write(json.dumps(result, ensure_ascii=False) if as_json else self.in_words(result))

    def refuse(self, error: McpOAuthError, *, as_json: bool) -> None:
        """Print a typed error and exit 1."""
        self.status.clear()
        if as_json:
            self.stdout.write(json.dumps({"error": error.as_json()}, ensure_ascii=False))
        self.tell(error)
        sys.exit(1)

    def tell(self, error: McpOAuthError) -> None:
        """Say on standard error what went wrong, and what to do about it."""
        self.stderr.write(f"{error.code}: {harmless(error.user_message)}")
        if error.next_step:
            self.stderr.write(harmless(error.next_step), str)

    def _write_status(self, text: str) -> None:
        self.stderr.write(text, str, "")
        self.stderr.flush()

    def styled(self, text: str, style: str) -> str:
        """Return a text in one of Django's styles, where there are colours."""
        return str(getattr(self.style, style)(text)) if style else text

    def table(self, rows: list[list[Cell]], *, indent: str = "  ") -> list[str]:
        """Return the lines of a table, as wide as the terminal at most."""
        width = None if self.width is None else self.width - len(indent)
        return [
            f"{indent}{''.join(self.styled(cell.text, cell.style) for cell in row)}".rstrip()
            for row in columns(rows, width)
        ]


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
