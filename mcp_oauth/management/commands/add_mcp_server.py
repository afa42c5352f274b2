"""Adds an MCP server to a workspace after asking it what it is."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from mcp_oauth.exceptions import NotFound
from mcp_oauth.management.base import TypedCommand, usage_error
from mcp_oauth.models import McpServer, Workspace
from mcp_oauth.oauth.options import parse_option
from mcp_oauth.services.headers import parse_headers
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import add_server

# RFC 6749 sets no length; real secrets are far below this, and a whole file by mistake is above.
_MAX_SECRET = 8000


class Command(TypedCommand):
    """``add_mcp_server NAME URL --workspace SLUG …``."""

    help = "Adds an MCP server. It is asked once, without credentials, how it wants to be opened."
    examples = (
        ("add_mcp_server Linear https://mcp.linear.app/mcp --workspace acme", "find out how it is opened"),
        (
            "add_mcp_server GitHub https://api.githubcopilot.com/mcp/ --workspace acme \\\n"
            "      --client-id Iv1.0123 --client-secret-stdin < secret.txt",
            "with a client registered by hand",
        ),
        (
            "add_mcp_server Board https://mcp.example.com/mcp --workspace acme --header 'X-Api-Key: …'",
            "with a key that is sent along",
        ),
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the server's settings."""
        super().add_arguments(parser)
        parser.add_argument("name", help="the name people see")
        parser.add_argument("url", help="the MCP endpoint")
        parser.add_argument("--workspace", required=True, metavar="SLUG", help="the workspace's short name")
        parser.add_argument(
            "--auth",
            choices=["auto", *McpServer.AuthMode.values],
            default="auto",
            help="the kind of authorization; auto finds out (default), anything else is kept whatever the server says",
        )
        parser.add_argument(
            "--sharing",
            choices=McpServer.Sharing.values,
            default=McpServer.Sharing.MEMBER.value,
            help="whose account tools act with: each member's own (default), or one for the workspace",
        )
        parser.add_argument("--client-id", default="", help="of a client registered with the provider by hand")
        parser.add_argument(
            "--client-secret-stdin",
            action="store_true",
            help="read that client's secret or private key (PEM) from standard input",
        )
        parser.add_argument(
            "--idp-client-secret-stdin",
            action="store_true",
            help="read the secret or private key (PEM) of the client at the identity provider (option idp_client_id) "
            "from standard input, after an empty line if --client-secret-stdin is given as well",
        )
        parser.add_argument(
            "--initial-access-token-stdin",
            action="store_true",
            help="read the token with which a client may be registered at the provider from standard input",
        )
        parser.add_argument(
            "--issuer", default="", help="the authorization server that client, or that token, belongs to"
        )
        parser.add_argument(
            "--header",
            action="append",
            default=[],
            metavar="'K: V'",
            help="a header to send (repeatable). Other users of this host may see a command line",
        )
        parser.add_argument(
            "--option", action="append", default=[], metavar="KEY=VALUE", help="an OAuth option (repeatable)"
        )
        parser.add_argument(
            "--allow-tool",
            action="append",
            default=[],
            metavar="PATTERN",
            help="a tool that may be run, such as 'get_*' (repeatable); if any is given, only those may be",
        )
        parser.add_argument(
            "--deny-tool",
            action="append",
            default=[],
            metavar="PATTERN",
            help="a tool that may not be run, whatever is allowed (repeatable)",
        )

    def run(self, **options: Any) -> dict[str, Any]:
        """Add the server."""
        if options["client_secret_stdin"] and not options["client_id"]:
            raise usage_error("--client-secret-stdin needs --client-id.")
        to_register = options["initial_access_token_stdin"]
        if options["issuer"] and not (options["client_id"] or to_register):
            raise usage_error("--issuer needs --client-id or --initial-access-token-stdin.")
        if to_register and (options["client_id"] or options["idp_client_secret_stdin"]):
            raise usage_error("--initial-access-token-stdin registers a client, so none is given beside it.")
        secret, idp_secret = _secrets(options["client_secret_stdin"] or to_register, options["idp_client_secret_stdin"])
        workspace = Workspace.objects.filter(slug=options["workspace"]).first()
        if workspace is None:
            raise NotFound(f"There is no workspace “{options['workspace'][:60]}”.")
        headers = parse_headers("\n".join(options["header"])) if options["header"] else None
        chosen = None if options["auth"] == "auto" else options["auth"]
        if chosen is None and headers:
            chosen = McpServer.AuthMode.HEADERS.value  # giving a key says how the server is opened
        self.status.say(f"Asking {options['url']}…")
        server = add_server(
            workspace,
            ServerSettings(
                name=options["name"],
                url=options["url"],
                auth_mode=chosen,
                headers=headers,
                client_id=options["client_id"],
                client_secret=None if to_register else secret,
                initial_access_token=secret if to_register else None,
                idp_client_secret=idp_secret,
                client_issuer=options["issuer"],
                sharing=options["sharing"],
                options=dict(parse_option(text) for text in options["option"]),
                allowed_tools=options["allow_tool"],
                denied_tools=options["deny_tool"],
            ),
        )
        return {
            "server": {
                "id": str(server.pk),
                "name": server.name,
                "reference": server.natural_name(),
                "url": server.url,
                "auth_mode": server.auth_mode,
                "auth_mode_source": server.auth_mode_source,
                "allowed_tools": server.allowed_tools,
                "denied_tools": server.denied_tools,
                "protocol_version": server.protocol_version,
                "reachable": server.reachable,
                "verdict": server.last_verdict,
                "steps": server.probe_evidence(),
            }
        }

    def in_words(self, result: dict[str, Any]) -> str:
        """Say what was added and what the server answered."""
        server = result["server"]
        return f"Added {server['name']} as {server['reference']} ({server['auth_mode']}).\n{server['verdict']}"


def _secrets(client: bool, identity_provider: bool) -> tuple[str | None, str | None]:
    """Read the wanted secrets from standard input, so that they appear in no command line and no history."""
    wanted = client + identity_provider
    if not wanted:
        return None, None
    text = sys.stdin.read(wanted * (_MAX_SECRET + 2) + 1).replace("\r\n", "\n").strip()
    secrets = [part.strip() for part in text.split("\n\n")] if wanted == 2 else [text]
    if len(secrets) != wanted or not all(0 < len(secret) <= _MAX_SECRET for secret in secrets):
        raise usage_error(
            f"Standard input must hold a client secret of 1 to {_MAX_SECRET} characters"
            + (", an empty line, and the one for the identity provider." if wanted == 2 else ".")
        )
    return (secrets[0] if client else None), (secrets[-1] if identity_provider else None)
