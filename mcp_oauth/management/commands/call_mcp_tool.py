"""Runs one tool on a person's behalf, or goes on with a call that waited for its person."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandParser

from mcp_oauth.exceptions import AuthorizationRequired, InputRequired, InsufficientScope, McpOAuthError
from mcp_oauth.management.base import TypedCommand, person_named, usage_error
from mcp_oauth.management.terminal import harmless
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.services.calls import call_tool
from mcp_oauth.services.resumption import resume_call
from mcp_oauth.sessions.results import Progress


class Command(TypedCommand):
    """``call_mcp_tool S TOOL --user U --args JSON`` or ``call_mcp_tool --resume CALL --user U --answers JSON``."""

    help = (
        "Runs a tool and prints what it answers. A call that needs its person says so and waits; --resume goes on with "
        "it. On a terminal the call's progress is shown while it runs."
    )
    examples = (
        ("""call_mcp_tool acme/linear create_issue --user ada --args '{"title": "Hello"}'""", "run a tool"),
        ("call_mcp_tool acme/reports nightly --user ada --timeout 600 --progress 2> progress.log", "run a long one"),
        ("call_mcp_tool --resume CALL --user ada", "go on after the person has connected"),
        (
            "call_mcp_tool --resume CALL --user ada \\\n"
            """      --answers '{"confirm": {"action": "accept", "content": {"sure": true}}}'""",
            "go on with answers, by the keys of the questions",
        ),
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the server, the tool, the person and the arguments, or the call and the answers."""
        super().add_arguments(parser)
        parser.add_argument("server", nargs="?", help="a server's UUID or workspace/short-name")
        parser.add_argument("tool", nargs="?", help="the tool's name")
        parser.add_argument("--user", required=True, metavar="U", help="on whose behalf")
        parser.add_argument(
            "--args",
            dest="arguments",  # Django takes "args" for itself
            metavar="JSON",
            help="the arguments as a JSON object",
        )
        parser.add_argument("--resume", metavar="CALL", help="go on with the call of this id instead")
        parser.add_argument(
            "--answers", metavar="JSON", help="what the person answers: a JSON object, with an answer for each question"
        )
        parser.add_argument("--timeout", type=float, default=None, metavar="SECONDS", help="the limit for the call")
        parser.add_argument("--progress", action="store_true", help="print the call's progress on standard error")

    def run(self, **options: Any) -> dict[str, Any]:
        """Run the tool, or go on with the call."""
        resumed = options["resume"]
        if resumed and (options["server"] or options["arguments"] is not None):
            raise usage_error("--resume goes on with a call as it was; leave server, tool and --args out.")
        if not resumed and not options["tool"]:
            raise usage_error("Name a server and a tool, or a call with --resume.")
        if not resumed and options["answers"] is not None:
            raise usage_error("--answers belongs to --resume.")
        arguments = _json_object("--args", options["arguments"])
        answers = _json_object("--answers", options["answers"])
        user = person_named(options["user"])
        limits: dict[str, Any] = {
            "timeout": options["timeout"],
            "on_progress": self._print_progress if options["progress"] else self._show_progress,
        }
        self.status.say(f"Going on with {resumed}…" if resumed else f"Running {options['tool']}…")
        result = (
            resume_call(resumed, user, answers=answers, **limits)
            if resumed
            else call_tool(options["server"], user, options["tool"], arguments, **limits)
        )
        return {"result": result.to_json()}

    def in_words(self, result: dict[str, Any]) -> str:
        """Return the text of the result, or its structure when it has no text."""
        answer = result["result"]
        texts = [str(block.get("text", "")) for block in answer.get("content", []) if block.get("type") == "text"]
        words = harmless("\n".join(texts) or json.dumps(answer, indent=2, ensure_ascii=False))
        return f"{self.styled('The tool reports a failure:', 'ERROR')}\n{words}" if answer.get("isError") else words

    def refuse(self, error: McpOAuthError, *, as_json: bool) -> None:
        """Say besides which call waits, and for what."""
        self.status.clear()
        if isinstance(error, InputRequired):
            for question in error.questions:
                words = f"{question['key']}: {question['message']} {question.get('url', '')}"
                self.stderr.write(printable(words, 2000))
        if isinstance(error, AuthorizationRequired | InsufficientScope | InputRequired) and error.call:
            self.stderr.write(f"The call waits. Go on with --resume {error.call}")
        super().refuse(error, as_json=as_json)

    def _print_progress(self, progress: Progress) -> None:
        self.status.clear()
        self.stderr.write(_in_words(progress), str)

    def _show_progress(self, progress: Progress) -> None:
        self.status.say(_in_words(progress))


def _in_words(progress: Progress) -> str:
    total = "" if progress.total is None else f" of {progress.total:g}"
    count = "" if progress.progress is None else f"{progress.progress:g}{total}"
    return f"{count} {printable(progress.message)}".strip()


def _json_object(option: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise usage_error(f"{option} is not valid JSON.") from error
    if not isinstance(value, dict):
        raise usage_error(f"{option} must be a JSON object.")
    return value
