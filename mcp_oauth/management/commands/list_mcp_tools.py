"""Lists the tools a person can run."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.management.base import TypedCommand, person_named
from mcp_oauth.models import McpServer
from mcp_oauth.services.catalog import list_tools, list_tools_of_nobody
from mcp_oauth.services.workspaces import Person, find_server


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
        if options["server"]:
            return _listing(find_server(options["server"]), user, refresh=options["refresh"])
        servers = McpServer.objects.select_related("workspace").filter(enabled=True, removal_at__isnull=True)
        if user is not None:
            servers = servers.filter(workspace__memberships__user_id=user.pk)
        listings = []
        for server in servers.order_by("workspace__slug", "name", "pk"):
            try:
                listings.append(_listing(server, user, refresh=options["refresh"]))
            except McpOAuthError as error:
                listings.append({"server": server.natural_name(), "error": error.as_json()})
        return {"servers": listings}

    def in_words(self, result: dict[str, Any]) -> str:
        """Return one block a server, one line a tool."""
        blocks = [_block(listing) for listing in result.get("servers", [result])]
        return "\n\n".join(blocks) or "There are no servers."


def _listing(server: McpServer, user: Person | None, *, refresh: bool) -> dict[str, Any]:
    listing = (
        list_tools(server, user, refresh=refresh) if user is not None else list_tools_of_nobody(server, refresh=refresh)
    )
    return {
        "server": server.natural_name(),
        "tools": [tool.to_json() for tool in listing],
        "truncated": listing.truncated,
        "fetched_at": listing.fetched_at.isoformat(),
    }


def _block(listing: dict[str, Any]) -> str:
    if "error" in listing:
        return f"{listing['server']}\n  {listing['error']['code']}: {listing['error']['message']}"
    width = min(40, max((len(tool["name"]) for tool in listing["tools"]), default=0))
    lines = [f"{listing['server']} ({len(listing['tools'])} tools)"]
    lines += [f"  {tool['name']:<{width}}  {_first_line(tool.get('description'))}" for tool in listing["tools"]]
    if listing["truncated"]:
        lines.append("  … the server offers more than is listed here")
    return "\n".join(lines)


def _first_line(text: Any) -> str:
    line = next((line.strip() for line in str(text or "").splitlines() if line.strip()), "")
    return line if len(line) <= 100 else f"{line[:99]}…"
