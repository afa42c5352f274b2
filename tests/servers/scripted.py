"""An MCP server written by hand: it answers each method with what the test says, well-formed or not, in either era."""

from __future__ import annotations

import inspect
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from mcp_types import METHOD_NOT_FOUND
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from project.peers.recording import RecordedRequest, Recorder
from project.peers.resource_server import modern_refusal
from tests.servers.mcp import rpc_methods
from tests.servers.serving import serve

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
SERVER_INFO = {"name": "scripted", "version": "1.0"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One JSON-RPC request as the server understood it; header names in lower case."""

    method: str
    params: dict[str, Any]
    request_id: Any
    headers: Mapping[str, str]

    @property
    def capabilities(self) -> dict[str, Any]:
        """Return the capabilities that a modern client names in each request."""
        meta = self.params.get("_meta") or {}
        found: dict[str, Any] = meta.get("io.modelcontextprotocol/clientCapabilities") or {}
        return found


class RpcError(Exception):
    """Raised by an answer: the request ends with this JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None, *, status: int = 200) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({} if data is None else {"data": data})
        self.status = status


Result = dict[str, Any]
Answer = Result | RpcError | Response | AsyncIterator[dict[str, Any]]
"""A result; an error; a whole HTTP answer; or the JSON-RPC messages of a stream, the response among them."""
Script = Mapping[str, Result | RpcError | Callable[[Asked], Answer | Awaitable[Answer]]]
"""What each method is answered with, read anew at each request."""


@dataclass(slots=True)
class ScriptedServer:
    """A running scripted server; ``requests`` is everything it received, ``sessions`` those open on a legacy one."""

    url: str
    script: dict[str, Any]
    requests: list[RecordedRequest] = field(default_factory=list, repr=False)
    sessions: set[str] = field(default_factory=set, repr=False)

    @property
    def rpc_methods(self) -> list[str]:
        """Return the JSON-RPC methods it received, in order."""
        return rpc_methods(self.requests)

    def asked(self, method: str) -> list[RecordedRequest]:
        """Return the requests of one JSON-RPC method, in order."""
        return [request for request in self.requests if request.rpc_method == method]


class _Scripted:
    def __init__(
        self,
        script: Mapping[str, Any],
        era: Literal["modern", "legacy"],
        sessions: set[str],
        capabilities: dict[str, Any],
        stream: bool,
    ) -> None:
        self.script = script
        self.era = era
        self.sessions = sessions
        self.capabilities = capabilities
        self.stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        session = request.headers.get("mcp-session-id", "")
        if request.method == "DELETE" and self.era == "legacy":
            self.sessions.discard(session)
            return Response(status_code=204)
        if request.method != "POST":
            return Response(status_code=405, headers={"allow": "POST"})
        message = json.loads(await request.body())
        if "method" not in message or "id" not in message:
            return Response(status_code=202)
        asked = Asked(message["method"], message.get("params") or {}, message["id"], dict(request.headers))
        headers: dict[str, str] = {}
        if self.era == "modern" and asked.headers.get("mcp-protocol-version") != MODERN:
            return modern_refusal(asked.headers.get("mcp-protocol-version"), asked.request_id)
        if self.era == "legacy":
            if asked.method == "initialize":
                session = secrets.token_hex(8)
                self.sessions.add(session)
                headers["mcp-session-id"] = session
            elif asked.method == "server/discover":
                return _answer(asked, RpcError(METHOD_NOT_FOUND, "Method not found", status=400), {})
            elif session not in self.sessions:
                return Response(status_code=404)
        return await self._perform(asked, headers)

    async def _perform(self, asked: Asked, headers: dict[str, str]) -> Response:
        entry = self.script.get(asked.method) or self._usual(asked)
        try:
            answer = entry(asked) if callable(entry) else entry
            if inspect.isawaitable(answer):
                answer = await answer
        except RpcError as error:
            answer = error
        if isinstance(answer, dict) and self.era == "modern":
            answer = {"resultType": "complete"} | answer
        if isinstance(answer, dict | RpcError) and self.stream:
            answer = _one(asked, answer)
        return _answer(asked, answer, headers)

    def _usual(self, asked: Asked) -> Result | RpcError:
        if asked.method == "server/discover":
            return {
                "supportedVersions": [MODERN],
                "capabilities": self.capabilities,
                "serverInfo": SERVER_INFO,
                "ttlMs": 0,
                "cacheScope": "private",
            }
        if asked.method == "initialize":
            return {"protocolVersion": LEGACY, "capabilities": self.capabilities, "serverInfo": SERVER_INFO}
        return RpcError(METHOD_NOT_FOUND, "Method not found", status=404 if self.era == "modern" else 200)


def message_of(asked: Asked, answer: Result | RpcError) -> dict[str, Any]:
    """Return the JSON-RPC response that carries a result or an error."""
    body = {"error": answer.error} if isinstance(answer, RpcError) else {"result": answer}
    return {"jsonrpc": "2.0", "id": asked.request_id, **body}


async def _one(asked: Asked, answer: Result | RpcError) -> AsyncIterator[dict[str, Any]]:
    yield message_of(asked, answer)


async def _events(messages: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    async for message in messages:
        yield f"event: message\ndata: {json.dumps(message)}\n\n".encode()


def _answer(asked: Asked, answer: Answer, headers: dict[str, str]) -> Response:
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, dict | RpcError):
        status = answer.status if isinstance(answer, RpcError) else 200
        return JSONResponse(message_of(asked, answer), status_code=status, headers=headers)
    return StreamingResponse(_events(answer), media_type="text/event-stream", headers=headers)


def scripted_app(
    script: Mapping[str, Any],
    era: Literal["modern", "legacy"] = "modern",
    *,
    capabilities: dict[str, Any] | None = None,
    stream: bool = False,
    sessions: set[str] | None = None,
) -> ASGIApp:
    """Return the application of `scripted_server`, to be put behind something else."""
    offered = {"tools": {}, "resources": {}, "prompts": {}} if capabilities is None else capabilities
    return _Scripted(script, era, set() if sessions is None else sessions, offered, stream)


@contextmanager
def scripted_server(
    script: Mapping[str, Any],
    era: Literal["modern", "legacy"] = "modern",
    *,
    capabilities: dict[str, Any] | None = None,
    stream: bool = False,
) -> Iterator[ScriptedServer]:
    """Serve a script (``Script``): method to result, to error, or to a function of ``Asked`` that returns either.

    Negotiation is answered as it should be unless the script has ``server/discover`` or ``initialize``. A modern result
    gets its ``resultType`` unless it has one. ``stream`` sends every answer as server-sent events. A legacy server
    keeps sessions. The script that runs may be changed.
    """
    requests: list[RecordedRequest] = []
    sessions: set[str] = set()
    kept = dict(script)
    app = scripted_app(kept, era, capabilities=capabilities, stream=stream, sessions=sessions)
    with serve(Recorder(app, requests)) as base_url:
        yield ScriptedServer(f"{base_url}/mcp", kept, requests, sessions)
