"""The ways to run one tool that are compared: the bare HTTP request, and this application; `sdk` has the SDK's."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import httpx2
from django.contrib.auth.models import User
from django.test import Client as Browser

from mcp_oauth import acall_tool, call_tool
from mcp_oauth.messages import HttpRequest
from mcp_oauth.models import McpServer
from mcp_oauth.net.fetch import fetch
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.net.transport import GuardedTransport
from tests.bench.timing import Once

TOOL = "add"
ARGUMENTS = {"a": 19, "b": 23}
SUM = {"total": 42}

_SESSION_ID = "mcp-session-id"
_CSRF = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Recorded:
    """The request of a warm call, as this application sends it and its server received it."""

    url: str
    headers: dict[str, str]
    message: dict[str, Any]


Contender = Callable[[Recorded], AbstractAsyncContextManager[Once]]


def record_call(server: McpServer, user: User) -> Recorded:
    """Run the tool once and ask the server what it received."""
    origin = server.url.rpartition("/")[0]
    _get(f"{origin}/recorded")
    call(server, user)
    return Recorded(server.url, **_get(f"{origin}/recorded"))


def requests_to(url: str) -> int:
    """Return how many requests its server has counted at this address."""
    origin, _, path = url.rpartition("/")
    return int(_get(f"{origin}/counts").get(f"/{path}", 0))


def _get(url: str) -> Any:
    with urlopen(url) as answer:
        return json.load(answer)


@contextlib.asynccontextmanager
async def raw_post(recorded: Recorded) -> AsyncIterator[Once]:
    """Send the same request over one plain ``httpx2`` client."""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:

        async def post(headers: dict[str, str], body: bytes) -> tuple[str, str]:
            answer = await client.post(recorded.url, headers=headers, content=body)
            return answer.headers["content-type"], answer.text

        yield await _posting(client, recorded, post)


@contextlib.asynccontextmanager
async def guarded_post(recorded: Recorded) -> AsyncIterator[Once]:
    """Send the same request through the guarded transport, and read the whole answer."""
    policy = NetworkPolicy(allow_loopback=True)
    transport = GuardedTransport(policy)

    async def post(headers: dict[str, str], body: bytes) -> tuple[str, str]:
        answer = await fetch(transport, HttpRequest("POST", recorded.url, headers, body), policy=policy)
        return answer.header("content-type") or "", answer.body.decode()

    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
            yield await _posting(client, recorded, post)
    finally:
        await transport.aclose()


async def _posting(
    client: httpx2.AsyncClient,
    recorded: Recorded,
    post: Callable[[dict[str, str], bytes], Awaitable[tuple[str, str]]],
) -> Once:
    """Return what sends the request; ``post`` returns the media type and text of the answer."""
    headers, numbers = dict(recorded.headers), itertools.count(1000)
    if _SESSION_ID in headers:
        headers[_SESSION_ID] = await _session_of_its_own(client, recorded)

    async def once() -> None:
        # A number of its own: a server of the older kind tells the answers of a session apart by it.
        body = json.dumps({**recorded.message, "id": next(numbers)}).encode()
        expect_sum(_message(*await post(headers, body))["result"]["structuredContent"])

    return once


async def _session_of_its_own(client: httpx2.AsyncClient, recorded: Recorded) -> str:
    headers = {name: value for name, value in recorded.headers.items() if name != _SESSION_ID}
    version = headers.pop("mcp-protocol-version")
    facts = {
        "protocolVersion": version,
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    }
    opening = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": facts}
    session_id = (await client.post(recorded.url, headers=headers, json=opening)).headers[_SESSION_ID]
    headers |= {_SESSION_ID: session_id, "mcp-protocol-version": version}
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    (await client.post(recorded.url, headers=headers, json=done)).raise_for_status()
    return session_id


def asynchronous(server: McpServer, user: User) -> Contender:
    """Return the contender that awaits ``acall_tool``."""

    @contextlib.asynccontextmanager
    async def contender(_recorded: Recorded) -> AsyncIterator[Once]:
        async def once() -> None:
            expect_sum((await acall_tool(server.pk, user, TOOL, ARGUMENTS)).structured_content)

        yield once

    return contender


def json_api(origin: str, server: McpServer, user: User) -> Contender:
    """Return the contender that asks the application's JSON API, signed in as a browser is."""
    browser = Browser()
    browser.force_login(user)
    cookies = f"sessionid={browser.cookies['sessionid'].value}; csrftoken={_CSRF}"
    address = f"{origin}/api/v1/servers/{server.pk}/tools/{TOOL}/call/"

    @contextlib.asynccontextmanager
    async def contender(_recorded: Recorded) -> AsyncIterator[Once]:
        headers = {"Cookie": cookies, "X-CSRFToken": _CSRF}
        async with httpx2.AsyncClient(trust_env=False, timeout=30, headers=headers) as client:

            async def once() -> None:
                response = await client.post(address, json={"arguments": ARGUMENTS})
                expect_sum(response.raise_for_status().json()["result"]["structuredContent"])

            yield once

    return contender


def call(server: McpServer, user: User) -> None:
    """Run the tool as synchronous code does that knows the server's key."""
    expect_sum(call_tool(server.pk, user, TOOL, ARGUMENTS).structured_content)


def raw_times(recorded: Recorded, calls: int) -> list[tuple[float, float]]:
    """Send the raw request so many times, one after the other.

    Returns the seconds of each as they passed, and those of the processor.
    """

    async def one_after_the_other() -> list[tuple[float, float]]:
        times = []
        async with raw_post(recorded) as once:
            await once()
            for _ in range(calls):
                began = time.perf_counter(), time.process_time()
                await once()
                times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
        return times

    return asyncio.run(one_after_the_other())


def _message(media_type: str, text: str) -> Any:
    if media_type.startswith("text/event-stream"):
        text = next(line[5:] for line in text.splitlines() if line.startswith("data:") and "result" in line)
    return json.loads(text)


def expect_sum(result: Any) -> None:
    """Refuse to measure anything but the right answer."""
    if result != SUM:
        raise RuntimeError(f"a wrong answer is no measurement: {result!r}")
