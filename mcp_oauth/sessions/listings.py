"""Between the SDK and its transport: tool listings lose output schemas and broken entries before they are parsed.

The SDK refuses a whole page for one broken tool, and checks a result against the server's own regular expressions
on the event loop.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self

from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse
from mcp_types import methods as wire_methods
from mcp_types.version import LATEST_HANDSHAKE_VERSION
from pydantic import ValidationError

from mcp_oauth.oauth.server_words import printable

_SHOWN_NAME = 100


class ListingFilter:
    """Clean the listings of one session; keeps the output schemas it took out and the names it set aside.

    ``version`` is the negotiated protocol version, to be set before the first listing is asked for. ``cut_short`` says
    that a page had more than ``max_tools`` tools and lost the rest. A tool of more than ``max_tool_bytes`` as JSON is
    set aside as a broken one is.
    """

    def __init__(self, max_tools: int, max_tool_bytes: int) -> None:
        self._max_tools = max_tools
        self._max_tool_bytes = max_tool_bytes
        self.version = LATEST_HANDSHAKE_VERSION
        self.cut_short = False
        self.output_schemas: dict[str, dict[str, Any]] = {}
        self.set_aside: list[str] = []

    @asynccontextmanager
    async def over(self, transport: AbstractAsyncContextManager[Any]) -> AsyncIterator[tuple[Any, Any]]:
        """Enter a transport of the SDK and put the filter on what it receives."""
        async with transport as (read_stream, write_stream):
            yield _FilteredStream(read_stream, self), write_stream

    async def clean(self, item: SessionMessage | Exception) -> SessionMessage | Exception:
        """Clean one received message in place; anything but a tool listing passes untouched."""
        if isinstance(item, SessionMessage) and isinstance(item.message, JSONRPCResponse):
            result = item.message.result
            if isinstance(result.get("tools"), list) and "content" not in result:
                # Thousands of tools are looked at one by one, while the loop has other things to do.
                await asyncio.to_thread(self._clean_page, result)
        return item

    def _clean_page(self, page: dict[str, Any]) -> None:
        tools: list[Any] = page["tools"]
        if len(tools) > self._max_tools:
            # What nobody will be shown is not judged either, here or by the SDK, which does it all at once.
            del tools[self._max_tools :]
            self.cut_short = True
        page["tools"] = tools = [tool for tool in tools if self._is_of_a_size(tool)]
        for tool in tools:
            if isinstance(tool, dict):
                schema = tool.pop("outputSchema", None)
                name = tool.get("name")
                if isinstance(schema, dict) and isinstance(name, str):
                    self.output_schemas[name] = schema
        if self._valid(page) or not self._valid({**page, "tools": []}):
            # Whole, or broken beyond its tools: then the SDK's verdict stands.
            return
        kept: list[Any] = []
        for tool in tools:
            if self._valid({**page, "tools": [tool]}):
                kept.append(tool)
            else:
                self._set_aside(tool)
        page["tools"] = kept

    def _is_of_a_size(self, tool: Any) -> bool:
        # Everything that is later shown, stored and handed to a model; not in ASCII, where a character may take six.
        if len(json.dumps(tool, ensure_ascii=False)) <= self._max_tool_bytes:
            return True
        self._set_aside(tool)
        return False

    def _set_aside(self, tool: Any) -> None:
        name = tool.get("name") if isinstance(tool, dict) else None
        self.set_aside.append(printable(name, _SHOWN_NAME) or "(without a name)")

    def _valid(self, page: dict[str, Any]) -> bool:
        try:
            wire_methods.parse_server_result("tools/list", self.version, _without_negative_ttl(page))
        except ValidationError:
            return False
        except (KeyError, ValueError):
            # No table for this version: leave the judgement to the SDK.
            return True
        return True


def _without_negative_ttl(page: dict[str, Any]) -> dict[str, Any]:
    # The SDK raises a negative ttlMs to zero after us and before it validates.
    ttl = page.get("ttlMs")
    if isinstance(ttl, int | float) and not isinstance(ttl, bool) and ttl < 0:
        return {**page, "ttlMs": 0}
    return page


class _FilteredStream:
    """The SDK's read stream with a filter in front; ``last_context`` and the rest are the inner stream's."""

    def __init__(self, inner: Any, listings: ListingFilter) -> None:
        self._inner = inner
        self._listings = listings

    async def receive(self) -> SessionMessage | Exception:
        return await self._listings.clean(await self._inner.receive())

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        return await self._listings.clean(await self._inner.__anext__())

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        result: bool | None = await self._inner.__aexit__(exc_type, exc, traceback)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
