"""A server's OAuth options, as values with types, and as far as they can be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.options import OAuthOptions


def options_of(server: McpServer) -> OAuthOptions:
    """Return a server's OAuth options as a typed value.

    Raises:
        ConfigurationError: the stored options name an unknown key or a wrong type.
    """
    return OAuthOptions.from_json(server.oauth_options)


def readable_options(server: McpServer) -> dict[str, Any]:
    """Return the stored options without those that mean nothing, so that the rest can be seen and saved."""
    stored = server.oauth_options if isinstance(server.oauth_options, Mapping) else {}
    options: dict[str, Any] = {}
    for name, value in stored.items():
        try:
            options |= OAuthOptions.from_json({name: value}).to_json()
        except McpOAuthError:
            continue
    return options


def opt_outs_of(server: McpServer) -> tuple[str, ...]:
    """Return the checks that a server's options switch off; one option that cannot be read hides no other."""
    return OAuthOptions.from_json(readable_options(server)).opt_outs()
