"""Keeps what a peer received, so that a test can assert on the wire instead of on our own code."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A demonstration may run for days; a test never comes near this.
MAXIMUM_RECORDED = 5000


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One HTTP request as it arrived: header names in lower case, first value of a repeated parameter.

    ``at`` is epoch seconds. Whatever may hold a secret stays out of ``repr``.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    at: float = field(default=0.0, repr=False)
    body: bytes = field(default=b"", repr=False)
    raw_query: str = field(default="", repr=False)

    @property
    def json(self) -> Any:
        """Return the decoded JSON body, or ``None`` when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def authorization(self) -> str | None:
        """Return the ``Authorization`` header, or ``None``."""
        return self.headers.get("authorization")

    @property
    def rpc_method(self) -> str | None:
        """Return the JSON-RPC method of an MCP request, or ``None``."""
        message = self.json
        method = message.get("method") if isinstance(message, dict) else None
        return method if isinstance(method, str) else None

    @property
    def rpc_params(self) -> dict[str, Any]:
        """Return the JSON-RPC parameters of an MCP request, empty when there are none."""
        message = self.json
        params = message.get("params") if isinstance(message, dict) else None
        return params if isinstance(params, dict) else {}

    @property
    def tool(self) -> str | None:
        """Return the tool that a ``tools/call`` names, or ``None``."""
        name = self.rpc_params.get("name") if self.rpc_method == "tools/call" else None
        return name if isinstance(name, str) else None


def first_values(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return a dict that keeps the first value of each name."""
    values: dict[str, str] = {}
    for name, value in pairs:
        values.setdefault(name, value)
    return values


def header_values(scope: Scope) -> dict[str, str]:
    """Return the request headers of an ASGI scope, names in lower case, repeated ones joined by a comma."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def read_request(scope: Scope, receive: Receive) -> tuple[RecordedRequest, Receive]:
    """Read the whole body; return the request as a value and a ``receive`` that plays the body once more."""
    chunks: list[bytes] = []
    pending: list[Message] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            pending.append(message)
            break
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    body = b"".join(chunks)
    pending.insert(0, {"type": "http.request", "body": body, "more_body": False})

    async def replay() -> Message:
        return pending.pop(0) if pending else await receive()

    headers = header_values(scope)
    form: dict[str, str] = {}
    if headers.get("content-type", "").partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        form = first_values(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    raw_query = scope.get("query_string", b"").decode("latin-1")
    recorded = RecordedRequest(
        method=scope["method"],
        path=scope["path"],
        query=first_values(parse_qsl(raw_query, keep_blank_values=True)),
        form=form,
        headers=headers,
        at=time.time(),
        body=body,
        raw_query=raw_query,
    )
    return recorded, replay


def remember(requests: list[RecordedRequest], request: RecordedRequest) -> None:
    """Append a request, forgetting the oldest ones beyond ``MAXIMUM_RECORDED``."""
    requests.append(request)
    if len(requests) > MAXIMUM_RECORDED:
        del requests[: len(requests) - MAXIMUM_RECORDED]


class Recorder:
    """ASGI wrapper that appends every HTTP request to ``requests`` before the application sees it."""

    def __init__(self, app: ASGIApp, requests: list[RecordedRequest]) -> None:
        self.app = app
        self.requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record one request and pass it on unchanged."""
        if scope["type"] == "http":
            recorded, receive = await read_request(scope, receive)
            remember(self.requests, recorded)
        await self.app(scope, receive, send)
