"""Lists the tools a person can run."""

from __future__ import annotations

from typing import Any, Final

from django.core.management.base import CommandParser

from mcp_oauth.management.base import TypedCommand, person_named
from mcp_oauth.management.terminal import USUAL_WIDTH, Cell, harmless, joined, wrapped
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.services.catalog import Catalogue, Nobody, list_tools, list_tools_of_nobody
from mcp_oauth.services.workspace_tools import list_together
from mcp_oauth.services.workspaces import find_server

# What the server says of a tool is a hint, and told as such on its page; here it is one word.
_HEAD: Final = [Cell("TOOL", "MIGRATE_LABEL"), Cell("KIND", "MIGRATE_LABEL"), Cell("DOES", "MIGRATE_LABEL")]
# Where no terminal says how wide a line may be.
_LONGEST_LINE: Final = 200


class Command(TypedCommand):
    """``list_mcp_tools [--server S] [--user U] [--refresh]``."""

    help = "Lists tools: of one server, or of all servers of a person's workspaces (of all workspaces without --user)."
    examples = (
        ("list_mcp_tools --user ada", "everything that ada can run, of all servers at once"),
        ("list_mcp_tools --server acme/linear --user ada --refresh", "one server, asked now"),
        ("list_mcp_tools --user ada --json | jq -r '.servers[].tools[]?.name'", "names alone, for a program"),
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add whose tools, and of which server."""
        super().add_arguments(parser)
        parser.add_argument("--server", metavar="S", help="a server's UUID or workspace/short-name")
        parser.add_argument("--user", metavar="U", help="list as this person; servers with OAuth need one")
        parser.add_argument("--refresh", action="store_true", help="ask the servers even if a listing is recent")

    def run(self, **options: Any) -> dict[str, Any]:
        """List one server, or all of them with the errors beside."""
        user = person_named(options["user"]) if options["user"] else None
        refresh = options["refresh"]
        if options["server"]:
            server = find_server(options["server"])
            self.status.say(f"Asking {server.natural_name()}…")
            listing = (
                list_tools(server, user, refresh=refresh)
                if user is not None
                else list_tools_of_nobody(server, refresh=refresh)
            )
            return _listing(server, listing)
        servers = McpServer.objects.select_related("workspace").filter(enabled=True, removal_at__isnull=True)
        if user is not None:
            servers = servers.filter(workspace__memberships__user_id=user.pk)
        wanted = list(servers.order_by("workspace__slug", "name", "pk"))
        self.status.say(f"Asking {len(wanted)} servers…")
        found = list_together(wanted, user if user is not None else Nobody(), refresh=refresh)
        return {
            "servers": [
                _listing(one.server, one.catalogue)
                if one.catalogue is not None
                else {"server": one.server.natural_name(), "error": one.error.as_json() if one.error else {}}
                for one in found
            ]
        }

    def in_words(self, result: dict[str, Any]) -> str:
        """Return one table a server, one line a tool."""
        return joined(self._block(listing) for listing in result.get("servers", [result])) or "There are no servers."

    def _block(self, listing: dict[str, Any]) -> list[str]:
        name = self.styled(listing["server"], "MIGRATE_HEADING")
        if error := listing.get("error"):
            words = wrapped(f"{error['code']}: {harmless(error['message'])}", self.width or USUAL_WIDTH, first="  ")
            return [name, *(self.styled(line, "ERROR") for line in words)]
        tools = listing["tools"]
        lines = [f"{name}  {len(tools)} tool{'' if len(tools) == 1 else 's'}"]
        if tools:
            lines += self.table([_HEAD, *(_row(tool) for tool in tools)])
        if listing["left_out"]:
            lines.append(f"  … {listing['left_out']} more may not be run here")
        if listing["truncated"]:
            lines.append("  … the server offers more than is listed here")
        return lines


def _listing(server: McpServer, listing: Catalogue) -> dict[str, Any]:
    return {
        "server": server.natural_name(),
        "tools": [tool.to_json() for tool in listing],
        "truncated": listing.truncated,
        "left_out": listing.left_out,
        "fetched_at": listing.fetched_at.isoformat(),
    }


def _row(tool: dict[str, Any]) -> list[Cell]:
    said = tool.get("annotations") or {}
    if said.get("readOnlyHint") is not True and said.get("destructiveHint") is True:
        kind = Cell("destroys", "ERROR")
    elif said.get("readOnlyHint") is False:
        kind = Cell("writes", "WARNING")
    else:
        kind = Cell("reads" if said.get("readOnlyHint") is True else "")
    return [Cell(printable(tool["name"], 200), "MIGRATE_LABEL"), kind, Cell(_first_line(tool.get("description")))]


def _first_line(text: Any) -> str:
    line = next((line for line in str(text or "").splitlines() if line.strip()), "")
    return printable(line, _LONGEST_LINE)
