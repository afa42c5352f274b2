"""The limits of one kind of outbound traffic, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Say what the guarded transport allows; sizes are bytes after decoding, times are seconds.

    ``allow_loopback`` is for development: it admits loopback addresses, and plain http to loopback hosts.
    ``request_seconds`` bounds one OAuth exchange from name lookup to the last byte, ``mcp_seconds`` one whole
    operation with an MCP server.

    ``hosts`` are the only ones contacted if there are any: names, or ``*.name`` for everything below one. It switches
    no other check off. ``private_hosts`` are ``host:port`` pairs that may resolve into a private network. ``proxy`` is
    the URL of an egress proxy that every request goes through; it then resolves names, so that only addresses written
    in a URL are checked here.
    """

    allow_loopback: bool = False
    oauth_document_bytes: int = 64 * 1024
    mcp_response_bytes: int = 16 * 1024 * 1024
    max_json_values: int = 100_000
    connect_seconds: float = 5.0
    request_seconds: float = 10.0
    mcp_seconds: float = 60.0
    max_redirects: int = 3
    max_connections: int = 100
    max_connections_per_origin: int = 50
    max_requests: int = 200
    hosts: tuple[str, ...] = ()
    private_hosts: frozenset[str] = frozenset()
    proxy: str = field(default="", repr=False)

    def may_contact(self, host: str) -> bool:
        """Tell whether a host is among those that may be contacted at all."""
        name = host.lower().rstrip(".")
        return not self.hosts or any(
            name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern for pattern in self.hosts
        )

    def may_be_private(self, host: str, port: int) -> bool:
        """Tell whether a host at a port is exempted from the rule that addresses are public."""
        return f"{host.lower().rstrip('.')}:{port}" in self.private_hosts
