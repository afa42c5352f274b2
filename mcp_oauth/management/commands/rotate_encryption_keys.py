"""Seals every stored secret with the newest key."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mcp_oauth.management.base import TypedCommand
from mcp_oauth.services.keys import rotate_encryption_keys


class Command(TypedCommand):
    """``rotate_encryption_keys``."""

    help = (
        "Seals every stored secret with the first key of MCP_OAUTH['ENCRYPTION_KEYS']. Put the new key first, restart, "
        "run this, then drop the old key. Safe while the application runs."
    )
    examples = (("rotate_encryption_keys", "after the new key was put before the old one"),)

    def run(self, **options: Any) -> dict[str, Any]:
        """Rotate."""
        return asdict(rotate_encryption_keys())

    def in_words(self, result: dict[str, Any]) -> str:
        """Say what was done, and whether the old key may go."""
        words = f"{result['resealed']} sealed again, {result['current']} on the newest key already."
        if result["unreadable"]:
            words += f" {result['unreadable']} cannot be opened by any key; the people concerned connect again."
        return words
