"""The three things we ask of an MCP server: its facts, its tools, one call. Importing this imports the SDK."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from mcp.client import CacheEntry, CacheKey, Client, ResponseCacheStore
from mcp.shared.exceptions import MCPError
from mcp_types import METHOD_NOT_FOUND, ListToolsResult, Tool

from mcp_oauth.exceptions import DeadlineExceeded, ResponseTooLarge, ServerRefused
from mcp_oauth.net.budget import request_budget
from mcp_oauth.net.transport import shown_url
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.sessions.exchange import Exchange, Negotiation
from mcp_oauth.sessions.results import ConnectionFacts, ToolDescription, ToolListing, ToolResult, storable
from mcp_oauth.sessions.target import Target

T = TypeVar("T")

_LONGEST_NAME = 200


async def connect(target: Target) -> ConnectionFacts:
    """Negotiate with a server and return what it says of itself; always reaches the server.

    Raises:
        Unauthorized: The server answered 401.
        ScopeChallenged: The server answered 403 ``insufficient_scope``.
        ServerUnreachable: No usable answer.
        ServerRefused: An error, or something that is not MCP.
    """

    async def work(exchange: Exchange, client: Client) -> ConnectionFacts:
        return ConnectionFacts(**exchange.facts(client))

    # A pinned version would open the session without a single request.
    known = Negotiation.known(target)
    opening = known if known.mode == "legacy" else Negotiation("auto")
    return await _perform(target, work, opening, seconds=target.policy.mcp_seconds)


async def list_tools(target: Target) -> ToolListing:
    """List a server's tools, page by page within the target's limits; the rest is reported as ``truncated``.

    Raises:
        Unauthorized: The server answered 401.
        ScopeChallenged: The server answered 403 ``insufficient_scope``.
        ServerUnreachable: No usable answer.
        ServerRefused: An error, or something that is not MCP.
    """
    walk = _Walk(target)
    try:
        await _perform(target, walk, Negotiation.known(target), seconds=target.policy.mcp_seconds)
    except ResponseTooLarge:
        if not walk.pages:
            raise
        walk.truncated = True
    return walk.listing()


async def call_tool(target: Target, name: str, arguments: dict[str, Any], *, timeout: float) -> ToolResult:
    """Call one tool and return its result; ``timeout`` is in seconds and covers everything.

    With a known version and discovery of 2026-07-28 this is one HTTP request. The call is sent a second time only
    when the server rejected the protocol version and so certainly did not run it. A result that says ``is_error``
    is a result. Output schemas are never evaluated.

    Raises:
        Unauthorized: The server answered 401.
        ScopeChallenged: The server answered 403 ``insufficient_scope``.
        ToolNotFound: The server says that it has no such tool.
        ServerUnreachable: No usable answer; ``DeadlineExceeded`` when it came too late.
        ServerRefused: An error, or something that is not MCP.
    """
    store = _KnownTool(name, target.tools)

    async def work(exchange: Exchange, client: Client) -> ToolResult:
        # Served by the store: it gives the session the tool's header map and spares it a listing of its own.
        await client.list_tools()
        result = await client.call_tool(name, arguments, read_timeout_seconds=timeout)
        facts = exchange.facts(client)
        return ToolResult(
            content=tuple(
                storable(block.model_dump(by_alias=True, mode="json", exclude_none=True)) for block in result.content
            ),
            structured_content=storable(result.structured_content),
            is_error=result.is_error,
            protocol_version=facts["protocol_version"],
            discover_result=facts["discover_result"],
        )

    return await _perform(target, work, Negotiation.known(target), seconds=timeout, store=store)


async def _perform(
    target: Target,
    work: Callable[[Exchange, Client], Awaitable[T]],
    opening: Negotiation,
    *,
    seconds: float,
    store: ResponseCacheStore | None = None,
) -> T:
    """Run work in a session, and once more in a newly negotiated one when the server has changed its era."""
    try:
        with request_budget(target.policy.max_requests):
            async with asyncio.timeout(seconds) as deadline:
                exchange = Exchange(target, opening, store=store)
                try:
                    return await _run(exchange, work, seconds)
                except ServerRefused:
                    if not exchange.certainly_not_run():
                        raise
                return await _run(Exchange(target, Negotiation("auto"), store=store), work, seconds)
    except TimeoutError as exc:
        shown = shown_url(target.url)
        if not deadline.expired():
            raise DeadlineExceeded(f"{shown} did not answer in time.", document=shown) from exc
        raise DeadlineExceeded(f"{shown} did not answer within {seconds:g} seconds.", document=shown) from exc


async def _run(exchange: Exchange, work: Callable[[Exchange, Client], Awaitable[T]], seconds: float) -> T:
    return await exchange.run(lambda client: work(exchange, client), seconds=seconds)


class _Walk:
    """Read a listing page by page; what was read stays here when a later page breaks a limit."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tools: dict[str, ToolDescription] = {}
        self._set_aside: list[str] = []
        self._facts: dict[str, Any] = {}
        self.pages = 0
        self.truncated = False

    async def __call__(self, exchange: Exchange, client: Client) -> None:
        self._facts = exchange.facts(client)
        self._set_aside = exchange.listings.set_aside
        cursor: str | None = None
        seen: set[str] = set()
        while True:
            try:
                page = await client.list_tools(cursor=cursor)
            except MCPError as exc:
                if exc.code == METHOD_NOT_FOUND and cursor is None and client.server_capabilities.tools is None:
                    # It never said that it has tools.
                    return
                raise
            self.pages += 1
            self.truncated = self.truncated or exchange.listings.cut_short
            # Thousands of tools take their time, which is not the other sessions'.
            await asyncio.to_thread(self._add_page, page.tools, exchange.listings.output_schemas)
            cursor = page.next_cursor or None
            if cursor is None:
                return
            if self.pages >= self._target.max_pages or len(self._tools) >= self._target.max_tools or cursor in seen:
                self.truncated = True
                return
            seen.add(cursor)

    def _add_page(self, tools: list[Tool], output_schemas: Mapping[str, dict[str, Any]]) -> None:
        for tool in tools:
            self._add(tool, output_schemas.get(tool.name))

    def _add(self, tool: Tool, output_schema: dict[str, Any] | None) -> None:
        if not tool.name or len(tool.name) > _LONGEST_NAME or not tool.name.isprintable():
            self._set_aside.append(printable(tool.name, 100) or "(without a name)")
        elif tool.name not in self._tools:
            if len(self._tools) >= self._target.max_tools:
                self.truncated = True
                return
            self._tools[tool.name] = _description(tool, output_schema)

    def listing(self) -> ToolListing:
        """Return what was read so far."""
        return ToolListing(
            tools=tuple(self._tools.values()),
            truncated=self.truncated,
            set_aside=tuple(self._set_aside),
            **self._facts,
        )


class _KnownTool(ResponseCacheStore):
    """A response cache that holds one thing: a listing with the tool about to be called.

    A tool that is not in the stored listing is listed without a schema. Should the server want headers derived from
    its schema, it says so (``HEADER_MISMATCH``) and the SDK lists once and repeats the call.
    """

    def __init__(self, name: str, tools: tuple[ToolDescription, ...] | None) -> None:
        schema = next((tool.input_schema for tool in tools or () if tool.name == name), {})
        tool = Tool(name=name, input_schema=schema or {"type": "object"})
        self._entry = CacheEntry(
            value=ListToolsResult(tools=[tool], ttl_ms=0, cache_scope="private"), scope="private", expires_at=math.inf
        )

    async def get(self, key: CacheKey) -> CacheEntry | None:
        return self._entry if key.method == "tools/list" else None

    async def set(self, key: CacheKey, entry: CacheEntry) -> None:
        """Keep nothing: the store ends with the call."""

    async def delete(self, key: CacheKey) -> None:
        """Delete nothing."""

    async def clear(self) -> None:
        """Clear nothing."""


def _description(tool: Tool, output_schema: dict[str, Any] | None) -> ToolDescription:
    annotations = tool.annotations.model_dump(by_alias=True, mode="json", exclude_none=True) if tool.annotations else {}
    return ToolDescription(
        name=tool.name,
        title=storable(tool.title or annotations.get("title") or ""),
        description=storable(tool.description or ""),
        input_schema=storable(tool.input_schema),
        annotations=storable(annotations),
        output_schema=storable(output_schema),
    )
