"""An MCP server of 2026-07-28 that is all listings: what it offers, to whom, for how long, and what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from project.peers.recording import read_request
from project.peers.resource_server import MCP_PATH, current_user

MODERN = "2026-07-28"
PATIENCE = 30.0


def tool(name: str, description: str = "", **schema: Any) -> dict[str, Any]:
    """Return a tool as it travels."""
    return {"name": name, "description": description or f"Do {name}.", "inputSchema": {"type": "object", **schema}}


@dataclass
class Offering:
    """What the server offers; everything may be changed while it runs.

    ``by_user`` has what single people see in place of ``tools``. ``caching`` joins every listing. While ``open`` is not
    set, listings wait; with ``status`` other than 200, they fail.
    """

    tools: list[dict[str, Any]] = field(default_factory=lambda: [tool("look"), tool("write")])
    by_user: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    entries: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    caching: dict[str, Any] = field(default_factory=lambda: {"ttlMs": 60_000, "cacheScope": "private"})
    caching_by_user: dict[str, dict[str, Any]] = field(default_factory=dict)
    pages: list[list[dict[str, Any]]] | None = None
    status: int = 200
    seconds: float = 0.0
    # Notifications that come with the result of every call.
    says: list[str] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    # Set when a listing has arrived; and released once for each.
    asked: threading.Event = field(default_factory=threading.Event)
    arrivals: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    # Who asked for which listing, and who ran which tool, in order.
    listed: list[tuple[str, str]] = field(default_factory=list)
    ran: list[tuple[str, str]] = field(default_factory=list)
    params: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open.set()

    def listings(self, kind: str = "tools") -> int:
        """Return how often it was asked for a listing of a kind."""
        return Counter(method for _user, method in self.listed)[_METHODS[kind]]

    def app(self) -> ASGIApp:
        """Return the server as an ASGI application at ``/mcp``."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                while (message := await receive())["type"] != "lifespan.shutdown":
                    await send({"type": f"{message['type']}.complete"})
                await send({"type": "lifespan.shutdown.complete"})
                return
            recorded, receive = await read_request(scope, receive)
            if scope["path"] != MCP_PATH or scope["method"] != "POST":
                await Response(status_code=405)(scope, receive, send)
                return
            await (await self._answer(recorded.json))(scope, receive, send)

        return serve

    async def _answer(self, message: dict[str, Any]) -> Response:
        method, params = message.get("method", ""), message.get("params") or {}
        if method == "server/discover":
            return _result(message, _DISCOVERED)
        if method == "initialize":
            error = {"code": -32022, "message": "Unsupported", "data": {"supported": [MODERN], "requested": "older"}}
            return JSONResponse({"jsonrpc": "2.0", "id": message.get("id"), "error": error}, status_code=400)
        if method in _MEMBERS:
            return await self._list(message, method, params)
        self.params.append({name: value for name, value in params.items() if name != "_meta"})
        if method == "tools/call":
            self.ran.append((current_user(), params["name"]))
            result = {"content": [{"type": "text", "text": f"{params['name']} for {current_user()}"}]}
            if self.says:
                return _stream(message, self.says, result)
            return _result(message, result)
        if method == "resources/read":
            contents = [{"uri": params["uri"], "mimeType": "text/plain", "text": f"for {current_user()}"}]
            return _result(message, {"contents": contents, "ttlMs": 0, "cacheScope": "private"})
        if method == "prompts/get":
            text = f"{params['name']} {json.dumps(params.get('arguments') or {}, sort_keys=True)}"
            return _result(message, {"messages": [{"role": "user", "content": {"type": "text", "text": text}}]})
        if method == "completion/complete":
            return _result(message, {"completion": {"values": [params["argument"]["value"] + "…"]}})
        error = {"code": -32601, "message": "Method not found"}
        return JSONResponse({"jsonrpc": "2.0", "id": message.get("id"), "error": error}, status_code=404)

    async def _list(self, message: dict[str, Any], method: str, params: Mapping[str, Any]) -> Response:
        user = current_user()
        page = int(params.get("cursor") or 0)
        if not page:
            self.listed.append((user, method))
        self.asked.set()
        self.arrivals.release()
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if not self.open.is_set():
            await asyncio.to_thread(self.open.wait, PATIENCE)
        if self.status != 200:
            return Response("Out of order.", status_code=self.status)
        found = self.entries.get(method, []) if method != "tools/list" else self.by_user.get(user, self.tools)
        following: dict[str, Any] = {}
        if self.pages is not None and method == "tools/list":
            found = self.pages[page]
            following = {"nextCursor": str(page + 1)} if page + 1 < len(self.pages) else {}
        caching = self.caching_by_user.get(user, self.caching)
        return _result(message, {_MEMBERS[method]: found, **caching, **following})


_METHODS = {
    "tools": "tools/list",
    "prompts": "prompts/list",
    "resources": "resources/list",
    "resource_templates": "resources/templates/list",
}
_MEMBERS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
_DISCOVERED = {
    "supportedVersions": [MODERN],
    "capabilities": {"tools": {"listChanged": True}, "prompts": {}, "resources": {}, "completions": {}},
    "serverInfo": {"name": "offering", "version": "1.0"},
    "ttlMs": 0,
    "cacheScope": "private",
}


def _result(message: dict[str, Any], result: Mapping[str, Any]) -> Response:
    body = {"jsonrpc": "2.0", "id": message.get("id"), "result": {"resultType": "complete", **result}}
    return JSONResponse(body)


def _stream(message: dict[str, Any], methods: list[str], result: Mapping[str, Any]) -> Response:
    """Return a result with notifications before it, as a stream of server-sent events."""
    answer = {"jsonrpc": "2.0", "id": message.get("id"), "result": {"resultType": "complete", **result}}
    messages = [*({"jsonrpc": "2.0", "method": method} for method in methods), answer]
    body = "".join(f"event: message\ndata: {json.dumps(one)}\n\n" for one in messages)
    return Response(body, media_type="text/event-stream")
