"""The limits of one kind of outbound traffic, as one value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Say what the guarded transport allows; sizes are bytes after decoding, times are seconds.

    ``allow_loopback`` is for development: it admits loopback addresses, and plain http to loopback hosts.
    ``request_seconds`` bounds one OAuth exchange from name lookup to the last byte, ``mcp_seconds`` one whole
    operation with an MCP server.
    """

    allow_loopback: bool = False
    oauth_document_bytes: int = 64 * 1024
    mcp_response_bytes: int = 16 * 1024 * 1024
    connect_seconds: float = 5.0
    request_seconds: float = 10.0
    mcp_seconds: float = 60.0
    max_redirects: int = 3
    max_connections: int = 100
