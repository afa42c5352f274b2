"""Proving at every request that whoever shows a token also holds its key: DPoP (RFC 9449)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import replace
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.challenge import BearerChallenge, parse_challenges
from mcp_oauth.oauth.json_documents import NotAJsonObject, json_object
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.protected_resource import ProtectedResourceMetadata
from mcp_oauth.oauth.signing_keys import load_signing_key
from mcp_oauth.oauth.urls import canonical_resource
from mcp_oauth.sentences import sentence

DPOP_ALGORITHM: Final = "ES256"

_WANTS_NONCE: Final = "use_dpop_nonce"
_PUBLIC_MEMBERS: Final = ("kty", "crv", "x", "y")
# RFC 9449 §8.1's characters, bounded because the value is repeated in every proof.
_NONCE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,2048}")


def wants_dpop(metadata: AuthorizationServerMetadata) -> bool:
    """Tell whether the authorization server takes proofs signed as ours are (RFC 9449 §5.1)."""
    return DPOP_ALGORITHM in (metadata.dpop_signing_alg_values_supported or ())


def binds_to_key(
    metadata: AuthorizationServerMetadata,
    options: OAuthOptions,
    challenge: BearerChallenge | None,
    resource_metadata: ProtectedResourceMetadata | None,
) -> bool:
    """Tell whether a grant's tokens are to be bound to a key of its own.

    The authorization server has to offer it and the MCP server to show that it takes such tokens, by its challenge
    or its metadata: many offer DPoP for every client while the server behind them reads Bearer only.
    """
    taken = (challenge is not None and challenge.dpop) or (resource_metadata is not None and resource_metadata.dpop)
    return options.dpop == "auto" and taken and wants_dpop(metadata)


def new_dpop_key() -> str:
    """Return a new key for ES256 as unencrypted PKCS#8 PEM text; it is a secret and lives as long as its grant."""
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def dpop_proof(
    key: str,
    *,
    method: str,
    url: str,
    nonce: str | None = None,
    access_token: str | None = None,
    body: bytes | None = None,
    now: float,
) -> str:
    """Return the ``DPoP`` header's value for one request; a proof serves once (RFC 9449 §4.2).

    ``url`` is the address as sent, ``now`` in epoch seconds, ``access_token`` the token sent along, if any. ``body``
    binds the proof to a request to an MCP server, which has one address for everything (MCP's DPoP profile).
    Raises: ConfigurationError when the key is not one of :func:`new_dpop_key`; ValueError for no http address.
    """
    private_key = load_signing_key(key).private_key
    if not isinstance(private_key, EllipticCurvePrivateKey):
        raise ConfigurationError(sentence("The DPoP key is not an EC key on P-256."))
    claims: dict[str, Any] = {
        "jti": secrets.token_urlsafe(24),
        "htm": method.upper(),
        "htu": _target(url),
        "iat": int(now),
    }
    if nonce is not None:
        claims["nonce"] = nonce
    if access_token is not None:
        # Replaced rather than refused: an encoding error would carry the token with it.
        digest = hashlib.sha256(access_token.encode("ascii", "replace")).digest()
        claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
    if body is not None:
        # The value of RFC 9530's Content-Digest. Who does not know the claim passes over it (RFC 7519 §4).
        claims["content_digest"] = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"
    public = ECAlgorithm.to_jwk(private_key.public_key(), as_dict=True)
    headers = {"typ": "dpop+jwt", "jwk": {name: public[name] for name in _PUBLIC_MEMBERS}}
    return jwt.encode(claims, private_key, algorithm=DPOP_ALGORITHM, headers=headers)


def with_dpop_proof(request: HttpRequest, key: str, *, nonce: str | None = None, now: float) -> HttpRequest:
    """Return a request to a token endpoint with a new proof; ``now`` is in epoch seconds (RFC 9449 §5).

    Raises: ConfigurationError when the key is not one of :func:`new_dpop_key`.
    """
    proof = dpop_proof(key, method=request.method, url=request.url, nonce=nonce, now=now)
    return replace(request, headers={**request.headers, "DPoP": proof})


def dpop_nonce(response: HttpResponse) -> str | None:
    """Return the nonce for the next proof at the server that sent this answer, good or bad (RFC 9449 §8.2)."""
    nonce = response.header("dpop-nonce") or ""
    return nonce if _NONCE.fullmatch(nonce) else None


def dpop_nonce_error(response: HttpResponse) -> str | None:
    """Return the nonce that a refused request is to be repeated with, once and with a new proof; else ``None``.

    That is a token endpoint's 400 (RFC 9449 §8) or a server's 401 (§9); any other refusal may carry a nonce as well.
    """
    if response.status == 400:
        asked = _error_member(response) == _WANTS_NONCE
    elif response.status == 401:
        challenges = parse_challenges(response.header_values("www-authenticate"))
        asked = any(item.scheme == "dpop" and item.parameters.get("error") == _WANTS_NONCE for item in challenges)
    else:
        asked = False
    return dpop_nonce(response) if asked else None


def _target(url: str) -> str:
    """Return the address without query and fragment, written as the receiver puts it together again."""
    target = canonical_resource(url).partition("?")[0]
    return target if target.count("/") > 2 else f"{target}/"


def _error_member(response: HttpResponse) -> object:
    try:
        return json_object(response).get("error")
    except NotAJsonObject:
        return None
