"""Reading a server's listings page by page: what is broken, too large or one too many is left out, and said so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Literal

from mcp_types import METHOD_NOT_FOUND, Prompt, Resource, ResourceTemplate, Tool
from pydantic import BaseModel

from mcp_oauth.exceptions import ResponseTooLarge
from mcp_oauth.net.faults import NetworkFault
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.sessions.negotiation import Session, require_complete
from mcp_oauth.sessions.results import EntryListing, ToolDescription, ToolListing, is_storable, storable, written
from mcp_oauth.sessions.rpc import RpcError
from mcp_oauth.sessions.validation import InvalidResult, validated

EntryKind = Literal["prompts", "resources", "resource_templates"]

_LONGEST_NAME: Final = 200
_SHOWN_NAME: Final = 100
# Where an entry stands in the answer, how one is told from another, and what it has to be.
_KINDS: Final[dict[str, tuple[str, str, str, str, type[BaseModel]]]] = {
    "tools": ("tools/list", "tools", "name", "tools", Tool),
    "prompts": ("prompts/list", "prompts", "name", "prompts", Prompt),
    "resources": ("resources/list", "resources", "uri", "resources", Resource),
    "resource_templates": (
        "resources/templates/list",
        "resourceTemplates",
        "uriTemplate",
        "resources",
        ResourceTemplate,
    ),
}
_LONGEST_KEY: Final = {"tools": _LONGEST_NAME, "prompts": _LONGEST_NAME}
_LONGEST_URI: Final = 2000
_LONGEST_CURSOR: Final = 8192
# Fewer are looked at at once; more get a thread, because thousands take their time, which is not the other sessions'.
_AT_ONCE: Final = 20


class Walk:
    """One listing; what was read stays here when a later page breaks a limit."""

    def __init__(self, kind: str, session: Session) -> None:
        self._session = session
        self._method, self._member, self._key, self._capability, self._model = _KINDS[kind]
        self._longest_key = _LONGEST_KEY.get(kind, _LONGEST_URI)
        self._target = session.channel.target
        self._entries: dict[str, dict[str, Any]] = {}
        self._set_aside: list[str] = []
        self._pages = 0
        self._truncated = False
        self._ttl_ms: int | None = None
        self._public = True

    async def run(self) -> None:
        """Read pages up to the last one or a limit.

        Raises:
            InvalidResult: A page is none.
            RpcError, NotMcp, BrokenOff, NetworkFault, Unauthorized, ScopeChallenged: See `Session.request`.
        """
        cursor: str | None = None
        seen: set[str] = set()
        while True:
            try:
                page = await self._session.request(self._method, {} if cursor is None else {"cursor": cursor})
            except RpcError as error:
                if error.code == METHOD_NOT_FOUND and not self._pages and not self._announced:
                    return  # it never said that it has any
                raise
            except NetworkFault as fault:
                if not self._pages or not isinstance(fault.error, ResponseTooLarge):
                    raise
                self._truncated = True
                return
            cursor = await self._take(page)
            if cursor is None:
                return
            if self._pages >= self._target.max_pages or len(self._entries) >= self._target.max_tools or cursor in seen:
                self._truncated = True
                return
            seen.add(cursor)

    def tools(self) -> ToolListing:
        """Return what was read of a listing of tools."""
        facts = self._session.facts
        return ToolListing(
            tools=tuple(_description(entry) for entry in self._entries.values()),
            truncated=self._truncated,
            set_aside=tuple(self._set_aside),
            ttl_ms=self._ttl_ms,
            cache_scope="public" if self._is_public else "private",
            **facts.as_keywords(),
            **facts.names(),
        )

    def entries(self) -> EntryListing:
        """Return what was read of any other listing."""
        return EntryListing(
            entries=tuple(self._entries.values()),
            truncated=self._truncated,
            set_aside=tuple(self._set_aside),
            ttl_ms=self._ttl_ms,
            cache_scope="public" if self._is_public else "private",
            **self._session.facts.as_keywords(),
        )

    @property
    def _announced(self) -> bool:
        return self._session.facts.capabilities.get(self._capability) is not None

    @property
    def _is_public(self) -> bool:
        return self._pages > 0 and self._public and self._session.facts.is_modern

    async def _take(self, page: dict[str, Any]) -> str | None:
        """Add a page and return the cursor of the next one."""
        require_complete(page)
        entries, cursor = page.get(self._member), page.get("nextCursor")
        if not isinstance(entries, list) or not (cursor is None or isinstance(cursor, str)):
            raise InvalidResult
        self._pages += 1
        if len(entries) > self._target.max_tools:
            # What nobody will be shown is not judged either.
            del entries[self._target.max_tools :]
            self._truncated = True
        if self._session.facts.is_modern:
            self._note_caching(page.get("ttlMs"), page.get("cacheScope"))
        if len(entries) > _AT_ONCE:
            await asyncio.to_thread(self._add, entries)
        else:
            self._add(entries)
        if cursor is not None and len(cursor) > _LONGEST_CURSOR:
            self._truncated = True
            return None
        return cursor or None

    def _note_caching(self, ttl_ms: Any, scope: Any) -> None:
        """The shortest time and the narrowest circle of all pages count (MCP 2026-07-28, caching)."""
        if scope != "public":
            self._public = False
        if isinstance(ttl_ms, int | float) and not isinstance(ttl_ms, bool) and ttl_ms == ttl_ms:
            ttl = int(min(max(ttl_ms, 0), 2**53))
            self._ttl_ms = ttl if self._ttl_ms is None else min(self._ttl_ms, ttl)

    def _add(self, entries: list[Any]) -> None:
        modern = self._session.facts.is_modern
        for entry in entries:
            usable = self._key_and_text(entry, modern=modern)
            if usable is None:
                name = entry.get("name") if isinstance(entry, dict) else None
                self._set_aside.append(printable(name, _SHOWN_NAME) or "(without a name)")
                continue
            key, text = usable
            if key not in self._entries:
                if len(self._entries) >= self._target.max_tools:
                    self._truncated = True
                    return
                self._entries[key] = entry if is_storable(text) else storable(entry)

    def _key_and_text(self, entry: Any, *, modern: bool) -> tuple[str, str] | None:
        """Return what an entry is known by, and the entry as JSON; ``None`` where it cannot be used."""
        key = entry.get(self._key) if isinstance(entry, dict) else None
        if not isinstance(key, str) or not 0 < len(key) <= self._longest_key or not key.isprintable():
            return None
        # Everything that is later shown, stored and handed to a model; not in ASCII, where a character may take six.
        text = written(entry)
        if len(text) > self._target.max_tool_bytes:
            return None
        try:
            validated(self._model, entry)
        except InvalidResult:
            return None
        if self._model is Tool and modern and '"x-mcp-header"' in text and not _headers_are_valid(entry["inputSchema"]):
            return None
        return key, text


def _headers_are_valid(schema: Any) -> bool:
    """Clients MUST drop tools whose ``x-mcp-header`` annotations are invalid (MCP 2026-07-28, custom headers)."""
    from mcp.shared.inbound import find_invalid_x_mcp_header

    find: Callable[[Any], str | None] = find_invalid_x_mcp_header
    return find(schema) is None


def _description(entry: dict[str, Any]) -> ToolDescription:
    """Return a valid tool as it is read back once it was stored."""
    annotations = entry.get("annotations") or {}
    title = annotations.get("title")
    return ToolDescription(
        name=entry["name"],
        title=entry.get("title") or (title if isinstance(title, str) else ""),
        description=entry.get("description") or "",
        input_schema=entry["inputSchema"],
        annotations=annotations,
        output_schema=entry.get("outputSchema") or None,
    )
