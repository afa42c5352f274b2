"""The peers of the demonstration: an issue tracker, notes with their sign-in service, a team board and a clock."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer
from starlette.types import ASGIApp

from project.peers.authorization_server import AuthorizationServer, TokenFacts
from project.peers.options import AuthorizationServerOptions, PreregisteredClient
from project.peers.resource_server import (
    MCP_PATH,
    HeaderProtected,
    ProtectedResource,
    RemoteIntrospection,
    ResourceOptions,
    mcp_app,
)
from project.peers.tools.board import add_board_tools
from project.peers.tools.clock import add_clock_tools
from project.peers.tools.notes import add_notes_tools
from project.peers.tools.tracker import add_tracker_tools

# Secrets of a demonstration on one machine: everybody may know them.
NOTES_CLIENT_ID = "demo-notes-client"
NOTES_CLIENT_SECRET = os.environ.get("DEMO_NOTES_CLIENT_SECRET", "demo-notes-secret")
BOARD_HEADER = "X-Api-Key"
BOARD_KEY = os.environ.get("DEMO_BOARD_KEY", "demo-board-key")
INTROSPECTION_SECRET = os.environ.get("DEMO_INTROSPECTION_SECRET", "demo-introspection-secret")
# Short enough that a renewal is seen while one looks on.
ACCESS_TOKEN_SECONDS = int(os.environ.get("DEMO_ACCESS_TOKEN_SECONDS", "120"))


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a peer lives: its own origin, the issuer of its tokens, and the file it keeps its state in."""

    base_url: str
    issuer: str = ""
    state_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer ready to be served; ``url`` is what a person enters."""

    url: str
    app: ASGIApp
    authorization_server: AuthorizationServer | None = None


def quiet_server(name: str, **details: Any) -> MCPServer[Any]:
    """Return an SDK server that logs warnings only."""
    return MCPServer(name, log_level="WARNING", version="1.0.0", **details)


def tracker(address: PeerAddress) -> Peer:
    """Return the issue tracker: 2026-07-28, its own authorization server on the same origin.

    ``close_issue`` asks for the scope ``issues:close`` on top of what connecting asks for.
    """
    resource = f"{address.base_url}{MCP_PATH}"
    authorization_server = AuthorizationServer(
        AuthorizationServerOptions(
            service_name="Issue tracker",
            show_accounts=True,
            scopes={
                "issues:read": "Read your issues and their comments",
                "issues:write": "Create issues and write comments",
                "issues:close": "Close issues",
            },
            default_scope="issues:read issues:write",
            access_token_seconds=ACCESS_TOKEN_SECONDS,
            resources=(resource,),
            resource_mode="required",
            introspection_secret=INTROSPECTION_SECRET,
        ),
        base_url=address.base_url,
        state_file=address.state_file,
    )
    server = quiet_server(
        "issue-tracker",
        title="Issue tracker",
        description="Issues of a small team: list, read, create, comment and close.",
        instructions="Every person has issues of their own. Look an issue up before changing it.",
    )
    add_tracker_tools(server)

    async def verify(token: str) -> TokenFacts | None:
        return authorization_server.introspect(token)

    app = ProtectedResource(
        mcp_app(server, "dual"),
        verify=verify,
        options=ResourceOptions(
            resource=resource,
            authorization_servers=(authorization_server.issuer,),
            name="Issue tracker",
            scopes=("issues:read", "issues:write"),
            scopes_supported=("issues:read", "issues:write", "issues:close"),
            tool_scopes={"close_issue": "issues:close"},
        ),
        beside=authorization_server.app,
    )
    return Peer(url=resource, app=app, authorization_server=authorization_server)


def notes_login(address: PeerAddress) -> Peer:
    """Return the sign-in service of the notes: no self-registration, one client made by hand."""
    authorization_server = AuthorizationServer(
        AuthorizationServerOptions(
            service_name="Notes sign-in",
            show_accounts=True,
            scopes={"notes": "Read, write and delete your notes"},
            dynamic_registration=False,
            cimd=False,
            clients=(
                PreregisteredClient(
                    client_id=NOTES_CLIENT_ID,
                    client_secret=NOTES_CLIENT_SECRET,
                    client_name="The demonstration workspace",
                ),
            ),
            token_endpoint_auth_methods=("client_secret_basic", "client_secret_post"),
            access_token_seconds=ACCESS_TOKEN_SECONDS,
            resource_mode="required",
            introspection_secret=INTROSPECTION_SECRET,
        ),
        base_url=address.base_url,
        state_file=address.state_file,
    )
    return Peer(
        url=authorization_server.issuer, app=authorization_server.app, authorization_server=authorization_server
    )


def notes(address: PeerAddress) -> Peer:
    """Return the notes: 2025-11-25 with sessions, tokens from the sign-in service at ``address.issuer``."""
    resource = f"{address.base_url}{MCP_PATH}"
    verify = RemoteIntrospection(f"{address.issuer}/introspect", INTROSPECTION_SECRET)

    @asynccontextmanager
    async def lifespan(server: MCPServer[Any]) -> AsyncIterator[None]:
        async with verify:
            yield

    server = quiet_server(
        "notes",
        title="Notes",
        description="A notebook for every person.",
        instructions="Search before adding, so that a note is not written twice.",
        lifespan=lifespan,
    )
    add_notes_tools(server)
    app = ProtectedResource(
        mcp_app(server, "legacy"),
        verify=verify,
        options=ResourceOptions(
            resource=resource, authorization_servers=(address.issuer,), name="Notes", scopes=("notes",)
        ),
    )
    return Peer(url=resource, app=app)


def board(address: PeerAddress) -> Peer:
    """Return the team board: one API key in a header, no OAuth."""
    server = quiet_server(
        "team-board", title="Team board", description="Who works on what, and how the services of the team are doing."
    )
    add_board_tools(server)
    app = HeaderProtected(mcp_app(server, "dual"), header=BOARD_HEADER, value=BOARD_KEY)
    return Peer(url=f"{address.base_url}{MCP_PATH}", app=app)


def clock(address: PeerAddress) -> Peer:
    """Return the clock: open to everybody."""
    server = quiet_server("clock", title="World clock", description="The time in any time zone, and days until a date.")
    add_clock_tools(server)
    return Peer(url=f"{address.base_url}{MCP_PATH}", app=mcp_app(server, "dual"))


PEERS: dict[str, Callable[[PeerAddress], Peer]] = {
    "tracker": tracker,
    "notes": notes,
    "notes-login": notes_login,
    "clock": clock,
    "board": board,
}
