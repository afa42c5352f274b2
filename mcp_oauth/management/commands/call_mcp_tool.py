"""Runs one tool on a person's behalf."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandParser

from mcp_oauth.management.base import TypedCommand, person_named, usage_error
from mcp_oauth.services.calls import call_tool


class Command(TypedCommand):
    """``call_mcp_tool S TOOL --user U --args JSON``."""

    help = """Runs a tool. Example: call_mcp_tool acme/linear create_issue --user ada --args '{"title": "Hello"}'"""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the server, the tool, the person and the arguments."""
        super().add_arguments(parser)
        parser.add_argument("server", help="a server's UUID or workspace/short-name")
        parser.add_argument("tool", help="the tool's name")
        parser.add_argument("--user", required=True, metavar="U", help="on whose behalf")
        parser.add_argument(
            "--args",
            dest="arguments",  # Django takes "args" for itself
            default="{}",
            metavar="JSON",
            help="the arguments as a JSON object",
        )
        parser.add_argument("--timeout", type=float, default=None, metavar="SECONDS", help="the limit for the call")

    def run(self, **options: Any) -> dict[str, Any]:
        """Run the tool."""
        try:
            arguments = json.loads(options["arguments"])
        except (ValueError, RecursionError) as error:
            raise usage_error("--args is not valid JSON.") from error
        if not isinstance(arguments, dict):
            raise usage_error("--args must be a JSON object.")
        result = call_tool(
            options["server"],
            person_named(options["user"]),
            options["tool"],
            arguments,
            timeout=options["timeout"],
        )
        return {"result": result.to_json()}

    def in_words(self, result: dict[str, Any]) -> str:
        """Return the text of the result, or its structure when it has no text."""
        answer = result["result"]
        texts = [str(block.get("text", "")) for block in answer.get("content", []) if block.get("type") == "text"]
        words = "\n".join(texts) or json.dumps(answer, indent=2, ensure_ascii=False)
        return f"The tool reports a failure:\n{words}" if answer.get("isError") else words
