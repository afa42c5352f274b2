"""What a JWT of another issuer says of itself: read to decide where it may go, never to believe it (RFC 7519 §4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt

from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.oauth.urls import issuers_match
from mcp_oauth.sentences import sentence


def unverified_claims(token: str) -> Mapping[str, Any]:
    """Return a JWT's claims without checking its signature, which is for whom it is addressed to.

    Raises: ConfigurationError for what is no JWT, quoting nothing of it.
    """
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, UnicodeError):
        # Without its cause, which may quote the token.
        raise ConfigurationError(sentence("The token is not a JWT.")) from None
    return claims


def addressed_to(token: str, *, issuer: str, token_endpoint: str) -> bool:
    """Whether a JWT names this authorization server as its audience, by issuer or token endpoint (RFC 7523 §3).

    Raises: ConfigurationError for what is no JWT.
    """
    audience = unverified_claims(token).get("aud")
    names = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    return any(isinstance(name, str) and (name == token_endpoint or issuers_match(name, issuer)) for name in names)
