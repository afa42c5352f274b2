"""Lists the tools a person can run."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from mcp_oauth.management.base import TypedCommand, person_named
from mcp_oauth.models import McpServer
from mcp_oauth.services.catalog import Catalogue, Nobody, list_tools, list_tools_of_nobody
from mcp_oauth.services.workspace_tools import list_together
from mcp_oauth.services.workspaces import find_server


class Command(TypedCommand):
    """``list_mcp_tools [--server S] [--user U] [--refresh]``."""

    help = (
        "Lists tools: of one server, or of all servers of a person's workspaces (of all workspaces without --user). "
        "Example: list_mcp_tools --server acme/linear --user ada"
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
        """Return one block a server, one line a tool."""
        blocks = [_block(listing) for listing in result.get("servers", [result])]
        return "\n\n".join(blocks) or "There are no servers."


def _listing(server: McpServer, listing: Catalogue) -> dict[str, Any]:
    return {
        "server": server.natural_name(),
        "tools": [tool.to_json() for tool in listing],
        "truncated": listing.truncated,
        "left_out": listing.left_out,
        "fetched_at": listing.fetched_at.isoformat(),
    }


def _block(listing: dict[str, Any]) -> str:
    if "error" in listing:
        return f"{listing['server']}\n  {listing['error']['code']}: {listing['error']['message']}"
    width = min(40, max((len(tool["name"]) for tool in listing["tools"]), default=0))
    lines = [f"{listing['server']} ({len(listing['tools'])} tools)"]
    lines += [f"  {tool['name']:<{width}}  {_first_line(tool.get('description'))}" for tool in listing["tools"]]
    if listing["left_out"]:
        lines.append(f"  … {listing['left_out']} more may not be run here")
    if listing["truncated"]:
        lines.append("  … the server offers more than is listed here")
    return "\n".join(lines)


def _first_line(text: Any) -> str:
    line = next((line.strip() for line in str(text or "").splitlines() if line.strip()), "")
    return line if len(line) <= 100 else f"{line[:99]}…"
