"""What passes between the endpoints: what is known of a token, a request that waits, and the ways of saying no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from project.peers.registry import Client


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What a resource server may know about a token; ``expires_at`` is epoch seconds."""

    user: str
    client_id: str
    scope: str
    audience: str
    issuer: str
    expires_at: float | None
    # The thumbprint of the key the token is bound to (RFC 9449 §6), empty for a bearer token.
    jkt: str = ""


@dataclass(slots=True)
class PendingAuthorization:
    """One authorization request between its arrival and the person's decision."""

    client: Client
    redirect_uri: str
    state: str = field(repr=False)
    scope: str
    resource: str
    code_challenge: str = field(repr=False)
    created: float
    # Ties the consent form to the browser that was shown it.
    nonce: str = field(default="", repr=False)


class Refusal(Exception):
    """An OAuth error that goes back to the client as JSON (RFC 6749 §5.2, RFC 7591 §3.2.2)."""

    def __init__(
        self, error: str, description: str, *, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.headers = dict(headers or {})


class AuthorizationRefusal(Exception):
    """An OAuth error that goes back to the client in the redirect (RFC 6749 §4.1.2.1)."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.error = error
        self.description = description


class UnknownClient(Exception):
    """A client or redirect URI nobody vouches for: the person is told, nothing is redirected."""
