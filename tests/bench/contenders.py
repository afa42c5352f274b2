"""The ways to run one tool that are compared: the bare HTTP request, the SDK, and this application."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from mcp_oauth import acall_tool, call_tool
from mcp_oauth.models import McpServer
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.net.transport import guarded_transport
from mcp_oauth.services.workspaces import Person
from mcp_oauth.sessions import channel
from tests.bench.server import TOKEN

TOOL = "add"
ARGUMENTS = {"a": 19, "b": 23}

Once = Callable[[], Awaitable[None]]
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Recorded:
    """The one request of a warm call, as this application sends it."""

    headers: dict[str, str]
    body: bytes


def record_call(server: McpServer, user: Person) -> Recorded:
    """Run the tool once and keep the request that did it."""
    seen: list[Recorded] = []
    name = "shared_transport"
    original = getattr(channel, name)

    def watched(policy: NetworkPolicy) -> httpx2.AsyncBaseTransport:
        return _Watched(original(policy), seen)

    setattr(channel, name, watched)
    try:
        _right(call_tool(server, user, TOOL, ARGUMENTS).structured_content)
    finally:
        setattr(channel, name, original)
    [only] = seen
    return only


class _Watched(httpx2.AsyncBaseTransport):
    def __init__(self, lender: httpx2.AsyncBaseTransport, seen: list[Recorded]) -> None:
        self._lender = lender
        self._seen = seen

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Keep what is sent."""
        own = {"host", "content-length", "connection", "accept-encoding"}
        headers = {name: value for name, value in request.headers.items() if name not in own}
        self._seen.append(Recorded(headers, await request.aread()))
        return await self._lender.handle_async_request(request)


@contextlib.asynccontextmanager
async def raw_post(url: str, recorded: Recorded) -> AsyncIterator[Once]:
    """Send the same request over one plain ``httpx2`` client."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        yield _posting(client, url, recorded)


@contextlib.asynccontextmanager
async def guarded_post(url: str, recorded: Recorded) -> AsyncIterator[Once]:
    """Send the same request through the guarded transport."""
    transport = guarded_transport(NetworkPolicy(allow_loopback=True))
    async with httpx2.AsyncClient(transport=transport) as client:
        yield _posting(client, url, recorded)


def _posting(client: httpx2.AsyncClient, url: str, recorded: Recorded) -> Once:
    async def once() -> None:
        response = await client.post(url, headers=recorded.headers, content=recorded.body)
        _right(_message(response)["result"]["structuredContent"])

    return once


@contextlib.asynccontextmanager
async def sdk_as_documented(url: str, _recorded: Recorded) -> AsyncIterator[Once]:
    """Open a client for every call, as the SDK's documentation shows it."""

    async def once() -> None:
        http = httpx2.AsyncClient(headers=AUTHORIZATION, timeout=30)
        async with http, Client(streamable_http_client(url, http_client=http)) as client:
            _right((await client.call_tool(TOOL, ARGUMENTS)).structured_content)

    yield once


@contextlib.asynccontextmanager
async def sdk_kept_open(url: str, _recorded: Recorded) -> AsyncIterator[Once]:
    """Keep one of the SDK's clients open for all calls."""
    http = httpx2.AsyncClient(headers=AUTHORIZATION, timeout=30)
    async with http, Client(streamable_http_client(url, http_client=http)) as client:
        await client.list_tools()

        async def once() -> None:
            _right((await client.call_tool(TOOL, ARGUMENTS)).structured_content)

        yield once


def asynchronous(server: McpServer, user: Person) -> Callable[[str, Recorded], Any]:
    """Return the contender that awaits ``acall_tool``."""

    @contextlib.asynccontextmanager
    async def contender(_url: str, _recorded: Recorded) -> AsyncIterator[Once]:
        async def once() -> None:
            _right((await acall_tool(server, user, TOOL, ARGUMENTS)).structured_content)

        yield once

    return contender


def synchronous_call(server: McpServer, user: Person) -> None:
    """Run the tool as synchronous code does."""
    _right(call_tool(server, user, TOOL, ARGUMENTS).structured_content)


async def settle(once: Once, times: int) -> None:
    """Warm a contender up."""
    for _ in range(times):
        await once()
    await asyncio.sleep(0)


def _message(response: httpx2.Response) -> Any:
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        text = next(line[5:] for line in text.splitlines() if line.startswith("data:") and "result" in line)
    return json.loads(text)


def _right(result: Any) -> None:
    if result != {"total": 42}:
        raise RuntimeError(f"a wrong answer is no measurement: {result!r}")
