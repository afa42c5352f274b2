"""What a call needs of a listing, kept in this process: whether there is a tool of a name, and its input schema."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mcp_oauth.conf import settings
from mcp_oauth.services.hot_listings import Head
from mcp_oauth.services.listing_owners import Asker, Owner
from mcp_oauth.services.listings import entries_of, find
from mcp_oauth.sessions.results import ToolDescription

# Owners are small beside what they own.
_MOST_OWNERS = 5000


@dataclass(frozen=True)
class KnownTool:
    """A tool that a listing has, or may have: ``description`` is ``None`` where the listing is cut short before it.

    Of a description, only name and input schema are there.
    """

    description: ToolDescription | None


@dataclass(frozen=True)
class _Index:
    """The input schemas of a listing's tools by name, as JSON text: each caller reads a copy of its own."""

    schemas: Mapping[str, str]
    size: int

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]]) -> _Index:
        schemas = {
            name: json.dumps(entry.get("inputSchema") or {}, ensure_ascii=False)
            for entry in entries
            if isinstance(name := entry.get("name"), str)
        }
        return cls(schemas, sum(len(name) + len(schema) + 100 for name, schema in schemas.items()))

    def get(self, name: str, *, truncated: bool) -> KnownTool | None:
        schema = self.schemas.get(name)
        if schema is None:
            return KnownTool(None) if truncated else None
        value = json.loads(schema)
        return KnownTool(ToolDescription(name, input_schema=value if isinstance(value, dict) else {}))


class _Memory:
    """Indexes by the digest of their listing, and which owner had which listing a moment ago; the oldest go first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._indexes: OrderedDict[str, _Index] = OrderedDict()
        self._size = 0
        self._owners: OrderedDict[tuple[Any, ...], tuple[str, float]] = OrderedDict()

    def of_owner(self, owner: Owner) -> _Index | None:
        """Return the index of the listing an owner had a moment ago."""
        with self._lock:
            digest, until = self._owners.get(owner.mark, ("", 0.0))
            return self._get(digest) if until > time.monotonic() else None

    def of_head(self, head: Head) -> _Index | None:
        with self._lock:
            index = self._get(head.digest)
            if index is not None:
                self._trust(head)
            return index

    def put(self, head: Head, index: _Index) -> None:
        if not head.digest or index.size > settings.CATALOGUE_MEMORY_BYTES:
            return
        with self._lock:
            if head.digest not in self._indexes:
                self._indexes[head.digest] = index
                self._size += index.size
            while self._size > settings.CATALOGUE_MEMORY_BYTES:
                self._size -= self._indexes.popitem(last=False)[1].size
            self._trust(head)

    def forget(self, owner: Owner) -> None:
        with self._lock:
            self._owners.pop(owner.mark, None)

    def _get(self, digest: str) -> _Index | None:
        index = self._indexes.get(digest)
        if index is not None:
            self._indexes.move_to_end(digest)
        return index

    def _trust(self, head: Head) -> None:
        key = head.owner.mark
        self._owners[key] = (head.digest, time.monotonic() + settings.CATALOGUE_TRUST_SECONDS)
        self._owners.move_to_end(key)
        while len(self._owners) > _MOST_OWNERS:
            self._owners.popitem(last=False)


_memory = _Memory()


def _start_anew() -> None:
    # A fork may have happened while a thread that is not there any more held the lock.
    global _memory
    _memory = _Memory()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def known_tool(asker: Asker, name: str) -> KnownTool | None:
    """Return what the asker's last known listing, of any age, says of a tool; ``None`` where it has no such tool.

    A listing belongs to one owner, with one generation of the server and one authorization. Another process may have a
    newer one; that there is a tool is told from memory, that there is none never.
    """
    for owner in asker.owners:
        index = _memory.of_owner(owner)
        found = None if index is None else index.get(name, truncated=False)
        if found is not None:
            return found
    head = find(asker)
    if head is None:
        return None
    index = _memory.of_head(head)
    if index is None:
        entries = entries_of(head)
        if entries is None:
            return None
        index = _Index.of(entries)
        _memory.put(head, index)
    return index.get(name, truncated=head.truncated)


def look_up(entries: Iterable[Mapping[str, Any]], name: str, *, truncated: bool) -> KnownTool | None:
    """Return what a listing says of a tool that has just come and may not be stored."""
    return _Index.of(entry for entry in entries if entry.get("name") == name).get(name, truncated=truncated)


def forget(asker: Asker) -> None:
    """Look anew, at the next call, which listing the asker has."""
    for owner in asker.owners:
        _memory.forget(owner)
