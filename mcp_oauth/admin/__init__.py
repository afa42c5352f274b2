"""The Django admin: what is configured and what became of it; secrets go in and never come out."""

from __future__ import annotations

# Importing them registers them; Django looks for this package by its name.
from mcp_oauth.admin import calls, events, grants, servers, tokens, workspaces

__all__ = ["calls", "events", "grants", "servers", "tokens", "workspaces"]
