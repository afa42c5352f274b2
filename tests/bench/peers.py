"""The servers to measure against, in one process of their own: they count what reaches them.

The first line of standard output is a JSON object of their addresses; they end when standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from contextlib import ExitStack
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from project.peers.recording import read_request
from project.peers.resource_server import MCP_PATH, mcp_app
from project.peers.serving import base_url_of, listening_socket
from tests.bench.facts import RENEWAL_SECONDS, TOKEN, TOKEN_PATH
from tests.bench.slow_peers import serve_slowly
from tests.servers.mcp import build_mcp
from tests.servers.serving import serve_on

# Contenders take turns. Whoever's turn comes does not meet a connection that is just being closed: the plain client
# among them would fail there.
_IDLE_SECONDS = 120
# What belongs to one connection and not to the request.
_HOP = frozenset({"host", "content-length", "connection", "accept-encoding", "transfer-encoding"})


class Counting:
    """ASGI wrapper: lets in who shows a token, and counts the requests to each path.

    ``GET /counts`` shows the counts. ``GET /recorded`` shows the tool call that came after the previous
    ``GET /recorded``, as it arrived, if there was one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._counts: Counter[str] = Counter()
        self._recording = False
        self._recorded: dict[str, Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request and pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path == "/counts":
            await JSONResponse(self._counts)(scope, receive, send)
            return
        if path == "/recorded":
            recorded, self._recorded, self._recording = self._recorded, None, True
            await JSONResponse(recorded)(scope, receive, send)
            return
        self._counts[path] += 1
        if path == TOKEN_PATH:
            await _renew(scope, receive, send)
            return
        shown = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not shown.startswith(f"Bearer {TOKEN}".encode()):
            await PlainTextResponse("no", status_code=401)(scope, receive, send)
            return
        if self._recording:
            receive = await self._record(scope, receive)
        await self._app(scope, receive, send)

    async def _record(self, scope: Scope, receive: Receive) -> Receive:
        request, receive = await read_request(scope, receive)
        if request.rpc_method == "tools/call":
            headers = {name: value for name, value in request.headers.items() if name not in _HOP}
            self._recorded, self._recording = {"headers": headers, "message": request.json}, False
        return receive


async def _renew(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a token request, whatever it shows, after a while."""
    await asyncio.sleep(RENEWAL_SECONDS)
    tokens = {"access_token": f"{TOKEN}renewed", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "next"}
    await JSONResponse(tokens)(scope, receive, send)


def as_events(app: ASGIApp) -> ASGIApp:
    """Send every JSON answer as the one event of a stream, as the servers of other SDKs do by themselves."""

    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_event(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {b"content-length", b"content-type"}
                kept = [(name, value) for name, value in message["headers"] if name not in own]
                message = {**message, "headers": [*kept, (b"content-type", b"text/event-stream")]}
            elif message["type"] == "http.response.body":
                message = {**message, "body": b"event: message\r\ndata: " + message["body"] + b"\r\n\r\n"}
            await send(message)

        await app(scope, receive, send_event if scope["type"] == "http" else send)

    return streaming


def main() -> None:
    """Serve until standard input ends."""
    kinds: dict[str, ASGIApp] = {
        "json": mcp_app(build_mcp(None), "modern"),
        "sse": as_events(mcp_app(build_mcp(None), "modern")),
        "legacy": mcp_app(build_mcp(None), "legacy"),
    }
    with ExitStack() as stack:
        listeners = {kind: listening_socket() for kind in kinds}
        for kind, app in kinds.items():
            stack.enter_context(serve_on(listeners[kind], Counting(app), idle_seconds=_IDLE_SECONDS))
        addresses: dict[str, Any] = {kind: f"{base_url_of(listeners[kind])}{MCP_PATH}" for kind in kinds}
        addresses["slow"] = stack.enter_context(serve_slowly())
        print(json.dumps(addresses), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
