"""Everything a session needs to know about one server and one caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.sessions.results import ToolDescription


@dataclass(frozen=True, slots=True)
class Target:
    """Name a server, the credentials to use there, and what is already known of it.

    ``protocol_version`` and ``discover_result`` come from an earlier ``ConnectionFacts``; ``tools`` is the stored
    listing, from which a call takes the tool's input schema. ``dpop_key`` is the key the access token is bound to.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    access_token: str | None = field(default=None, repr=False)
    dpop_key: str | None = field(default=None, repr=False)
    policy: NetworkPolicy = field(default_factory=NetworkPolicy)
    protocol_version: str | None = None
    discover_result: dict[str, Any] | None = field(default=None, repr=False)
    client_name: str = "mcp-oauth"
    client_version: str = "0"
    tools: tuple[ToolDescription, ...] | None = field(default=None, repr=False)
    # Whose session it is with a server that keeps one (workspace, server and its generation, user, grant): calls of the
    # same key go on in it. None opens one for this exchange alone.
    session_key: tuple[str, ...] | None = None
    session_idle_seconds: float = 60.0
    max_sessions: int = 500
    # How long an exchange may wait for a person's answer, and how many may in one process.
    held_call_seconds: float = 600.0
    max_held_calls: int = 50
    max_pages: int = 50
    max_tools: int = 2000
    max_tool_bytes: int = 64 * 1024
