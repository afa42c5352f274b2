"""What the demonstration's MCP servers can do; one module per server."""

from __future__ import annotations
