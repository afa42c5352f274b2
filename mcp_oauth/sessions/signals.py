"""What an MCP server says about our authorization, for the services to act on; never shown to a person."""

from __future__ import annotations


class Unauthorized(Exception):
    """The server answered 401; ``challenge_values`` are its ``WWW-Authenticate`` values (RFC 9110 §11.6.1)."""

    def __init__(self, challenge_values: tuple[str, ...] = ()) -> None:
        super().__init__("The MCP server answered 401.")
        self.challenge_values = challenge_values


class ScopeChallenged(Exception):
    """The server answered 403 ``insufficient_scope``; ``scope`` is what it asks for (RFC 6750 §3.1)."""

    def __init__(self, scope: str = "", challenge_values: tuple[str, ...] = ()) -> None:
        super().__init__("The MCP server asks for more scope.")
        self.scope = scope
        self.challenge_values = challenge_values
