"""The MCP server that everything is measured against: modern, behind a fixed bearer token, in a process of its own."""

from __future__ import annotations

import sys

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from project.peers.resource_server import Era, mcp_app
from project.peers.serving import listening_socket, run_until_stopped
from tests.servers.mcp import build_mcp

TOKEN = "bench-access-token"


def behind_token(app: ASGIApp) -> ASGIApp:
    """Let in who shows the token; anything dearer would be measured with it."""
    expected = f"Bearer {TOKEN}".encode()

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (b"authorization", expected) not in scope["headers"]:
            await PlainTextResponse("no", status_code=401)(scope, receive, send)
            return
        await app(scope, receive, send)

    return guarded


def main(era: Era) -> None:
    """Serve until told to stop; the first line of standard output is the port."""
    listener = listening_socket()
    print(listener.getsockname()[1], flush=True)
    run_until_stopped(behind_token(mcp_app(build_mcp(None), era)), listener)


if __name__ == "__main__":
    main(sys.argv[1])  # type: ignore[arg-type]
