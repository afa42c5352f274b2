"""The SDK's two ways to run one tool, in a module of their own: importing the SDK takes time and memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from tests.bench.contenders import ARGUMENTS, TOOL, Recorded, expect_sum
from tests.bench.facts import TOKEN
from tests.bench.timing import Once


@contextlib.asynccontextmanager
async def as_documented(recorded: Recorded) -> AsyncIterator[Once]:
    """Open a client for every call, as the SDK's documentation shows it."""

    async def once() -> None:
        async with _client(recorded.url) as client:
            expect_sum((await client.call_tool(TOOL, ARGUMENTS)).structured_content)

    yield once


@contextlib.asynccontextmanager
async def kept_open(recorded: Recorded) -> AsyncIterator[Once]:
    """Keep one of the SDK's clients open for all calls."""
    async with _client(recorded.url) as client:
        await client.list_tools()

        async def once() -> None:
            expect_sum((await client.call_tool(TOOL, ARGUMENTS)).structured_content)

        yield once


@contextlib.asynccontextmanager
async def _client(url: str) -> AsyncIterator[Client]:
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}sdk"}, timeout=30)
    async with http, Client(streamable_http_client(url, http_client=http)) as client:
        yield client
