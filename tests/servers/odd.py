"""Servers that are no MCP servers, or broken ones."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from project.peers.recording import RecordedRequest, Recorder
from project.peers.serving import base_url_of, listening_socket
from tests.servers.serving import serve

OddKind = Literal[
    "html",
    "http500",
    "silent",
    "ok_to_everything",
    "text_to_everything",
    "not_json_metadata",
    "html_metadata",
    "wrong_resource",
    "challenge_without_metadata",
]
"""What the server does.

- ``html``: 200 and a web page to everything, as a single-page application does
- ``http500``: 500 and a web page to everything
- ``silent``: accepts the connection and closes it without a word
- ``ok_to_everything``: 200 and ``{}`` to everything
- ``text_to_everything``: 200 and ``OK`` as plain text to everything
- ``not_json_metadata``: 401 with a challenge; its resource metadata is not JSON
- ``html_metadata``: 401 with a challenge; good resource metadata; the authorization server's metadata is a web page
- ``wrong_resource``: 401 with a challenge; its resource metadata speaks for another server
- ``challenge_without_metadata``: 401 with ``Bearer error="invalid_token"``; every document is 404
"""

PAGE = "<!doctype html><html><head><title>Welcome</title></head><body><h1>Welcome</h1></body></html>"
RESOURCE_METADATA_PATH = "/.well-known/oauth-protected-resource/mcp"


@dataclass(slots=True)
class OddServer:
    """A server that misbehaves; ``requests`` is what it received, ``connections`` counts those of ``silent``."""

    url: str
    base_url: str
    requests: list[RecordedRequest] = field(default_factory=list, repr=False)
    connections: int = 0


class _Odd:
    def __init__(self, kind: OddKind) -> None:
        self.kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _no_lifespan(receive, send)
            return
        host, port = scope["server"]
        await self._answer(scope["path"], f"http://{host}:{port}")(scope, receive, send)

    def _answer(self, path: str, base_url: str) -> Response:
        match self.kind:
            case "html":
                return HTMLResponse(PAGE)
            case "http500":
                return HTMLResponse(PAGE, status_code=500)
            case "ok_to_everything":
                return JSONResponse({})
            case "text_to_everything":
                return PlainTextResponse("OK")
        if path == "/mcp":
            challenge = f'Bearer resource_metadata="{base_url}{RESOURCE_METADATA_PATH}"'
            if self.kind == "challenge_without_metadata":
                challenge = 'Bearer error="invalid_token"'
            return JSONResponse({}, status_code=401, headers={"www-authenticate": challenge})
        if path == RESOURCE_METADATA_PATH and self.kind != "challenge_without_metadata":
            if self.kind == "not_json_metadata":
                return Response(b'{"resource": ', media_type="application/json")
            other = "http://127.0.0.1:9/mcp" if self.kind == "wrong_resource" else f"{base_url}/mcp"
            return JSONResponse({"resource": other, "authorization_servers": [base_url]})
        if path.startswith("/.well-known/") and self.kind == "html_metadata":
            return HTMLResponse(PAGE)
        return JSONResponse({"error": "not_found"}, status_code=404)


async def _no_lifespan(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


@contextmanager
def odd_server(kind: OddKind) -> Iterator[OddServer]:
    """Serve something that is no working MCP server; see ``OddKind``."""
    if kind == "silent":
        with _silent_server() as odd:
            yield odd
        return
    requests: list[RecordedRequest] = []
    app: ASGIApp = Recorder(_Odd(kind), requests)
    with serve(app) as base_url:
        yield OddServer(url=f"{base_url}/mcp", base_url=base_url, requests=requests)


@contextmanager
def _silent_server() -> Iterator[OddServer]:
    listener = listening_socket()
    odd = OddServer(url=f"{base_url_of(listener)}/mcp", base_url=base_url_of(listener))

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            odd.connections += 1
            connection.close()

    thread = threading.Thread(target=run, name="silent server", daemon=True)
    thread.start()
    try:
        yield odd
    finally:
        # A plain close() would leave accept() waiting.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@contextmanager
def document_server(documents: Mapping[str, Any]) -> Iterator[OddServer]:
    """Serve documents by path: a ``Response``, ``bytes`` or anything JSON; 404 for every other path.

    The mapping is read at each request, so a test may fill it once it knows the address.
    """
    requests: list[RecordedRequest] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _no_lifespan(receive, send)
            return
        document = documents.get(scope["path"])
        if document is None:
            response: Response = JSONResponse({"error": "not_found"}, status_code=404)
        elif isinstance(document, Response):
            response = document
        elif isinstance(document, bytes):
            response = Response(document, media_type="application/octet-stream")
        else:
            response = Response(json.dumps(document), media_type="application/json")
        await response(scope, receive, send)

    with serve(Recorder(answer, requests)) as base_url:
        yield OddServer(url=f"{base_url}/mcp", base_url=base_url, requests=requests)
