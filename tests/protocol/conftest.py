"""A plain MCP server on loopback, in either era of the protocol."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from mcp.server import MCPServer

from tests.servers.serving import serve

MODERN = "2026-07-28"
LEGACY = "2025-11-25"

Era = Literal["modern", "legacy"]


@dataclass
class PlainServer:
    """A running server: its address, and what arrived there."""

    url: str = ""
    # One entry per HTTP request: the HTTP method and, for a POST, the JSON-RPC method.
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    era: Era = "modern"

    def forget(self) -> None:
        for seen in (self.requests, self.headers, self.bodies, self.runs):
            seen.clear()


def _tools(server: PlainServer) -> MCPServer:
    mcp = MCPServer("plain", version="1.2.3")

    @mcp.tool(title="Add two numbers")
    def add(first: int, second: int) -> int:
        """Add."""
        server.runs.append("add")
        return first + second

    @mcp.tool()
    def fail() -> str:
        """Fail."""
        raise ValueError("on purpose")

    return mcp


def _refusal(era: Era, method: str, version: str) -> dict[str, Any] | None:
    """Return the error with which a server of one era meets a request of the other, as the wild ones do."""
    if era == "modern" and (method == "initialize" or version != MODERN):
        return {
            "code": -32022,
            "message": "Unsupported protocol version",
            "data": {"supported": [MODERN], "requested": version},
        }
    if era == "legacy" and version == MODERN:
        return {"code": -32600, "message": "Bad Request: Missing session ID"}
    return None


def _application(server: PlainServer) -> Any:
    inner = _tools(server).streamable_http_app(stateless_http=server.era == "modern", json_response=True)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        parsed = json.loads(body) if body else {}
        method = parsed.get("method", "")
        server.requests.append(f"{scope['method']} {method}".strip())
        server.headers.append(headers)
        server.bodies.append(parsed)
        error = _refusal(server.era, method, headers.get("mcp-protocol-version", "")) if body else None
        if error is not None:
            answer = json.dumps({"jsonrpc": "2.0", "id": parsed.get("id"), "error": error}).encode()
            start = {"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"application/json")]}
            await send(start)
            await send({"type": "http.response.body", "body": answer})
            return
        replayed = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Any:
            return replayed.pop() if replayed else await receive()

        await inner(scope, replay, send)

    return application


@contextlib.contextmanager
def running_plain_server(era: Era) -> Iterator[PlainServer]:
    """Run a server for a while."""
    server = PlainServer(era=era)
    with serve(_application(server)) as base_url:
        server.url = f"{base_url}/mcp"
        yield server


@pytest.fixture
def plain_mcp_server() -> Iterator[Callable[[Era], PlainServer]]:
    """Start a server of an era: ``modern`` is stateless 2026-07-28 only, ``legacy`` stateful 2025-11-25 only."""
    with contextlib.ExitStack() as stack:
        yield lambda era: stack.enter_context(running_plain_server(era))
