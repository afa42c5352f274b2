"""Notices that a server's tools are not what they were, and puts it on record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_oauth.models import Event, McpServer
from mcp_oauth.services.events import MAX_DETAIL_ITEMS, record_all


@dataclass(frozen=True)
class ToolsChanged:
    """Two listings of one server's tools, entry by entry in the wire's spelling; ``user_id`` is who sees them.

    Of a listing that is not whole, nothing can be said of what is missing from it.
    """

    server: McpServer
    user_id: Any
    before: Sequence[Mapping[str, Any]] = field(repr=False)
    after: Sequence[Mapping[str, Any]] = field(repr=False)
    before_is_whole: bool = True
    after_is_whole: bool = True

    def details(self) -> dict[str, Any]:
        """Return the names of tools that are new, gone, or described differently; empty when there are none.

        Where there are more names than an event holds, their number stands beside them.
        """
        before = {str(tool.get("name")): tool for tool in self.before}
        after = {str(tool.get("name")): tool for tool in self.after}
        found = {
            "added": sorted(after.keys() - before.keys()) if self.before_is_whole else [],
            "removed": sorted(before.keys() - after.keys()) if self.after_is_whole else [],
            "changed": sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
        }
        numbers = {f"{what}_number": len(names) for what, names in found.items() if len(names) > MAX_DETAIL_ITEMS}
        return {what: names for what, names in found.items() if names} | numbers


def record_changes(found: Iterable[ToolsChanged]) -> None:
    """Record one event for each pair of listings that differ."""
    record_all(
        Event.Kind.TOOLS_CHANGED,
        [(change.server, change.user_id, details) for change in found if (details := change.details())],
        outcome="tools",
    )
