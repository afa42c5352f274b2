"""Checks DPoP proofs as a server does (RFC 9449 §4.3), with nothing borrowed from the application."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from typing import Any

import jwt

ALGORITHM = "ES256"
# How far the clocks of client and server may be apart.
WINDOW_SECONDS = 60


class ProofRefused(Exception):
    """A proof is missing, wrong or was used; ``error`` is the OAuth error code."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.error = error
        self.description = description


class ProofChecker:
    """Accepts every proof once; ``nonce`` is the one that proofs have to carry where nonces are asked for."""

    def __init__(self) -> None:
        self.nonce = secrets.token_urlsafe(12)
        self._used: set[str] = set()

    def rotate_nonce(self) -> None:
        """Accept no proof with the nonce given out so far."""
        self.nonce = secrets.token_urlsafe(12)

    def check(
        self, proof: str | None, *, method: str, url: str, access_token: str | None = None, with_nonce: bool = False
    ) -> str:
        """Return the thumbprint of the key that signed a proof for this request (RFC 7638).

        Raises: ``ProofRefused``.
        """
        if not proof:
            raise ProofRefused("invalid_dpop_proof", "There is no proof.")
        key, claims = _signed(proof)
        if (claims.get("htm"), claims.get("htu")) != (method, url):
            raise ProofRefused("invalid_dpop_proof", "The proof is for another request.")
        if not isinstance(claims["iat"], int) or abs(time.time() - claims["iat"]) > WINDOW_SECONDS:
            raise ProofRefused("invalid_dpop_proof", "The proof is too old or from the future.")
        if access_token is not None and claims.get("ath") != _base64url(hashlib.sha256(access_token.encode()).digest()):
            raise ProofRefused("invalid_dpop_proof", "The proof is for another token.")
        if claims["jti"] in self._used:
            raise ProofRefused("invalid_dpop_proof", "The proof was used before.")
        self._used.add(claims["jti"])
        if with_nonce and claims.get("nonce") != self.nonce:
            raise ProofRefused("use_dpop_nonce", "The proof has to carry the nonce.")
        return thumbprint(key)


def thumbprint(key: dict[str, Any]) -> str:
    """Return the thumbprint of an EC key (RFC 7638 §3)."""
    members = json.dumps({name: key[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(members.encode()).digest())


def _signed(proof: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the key in a proof's header and the claims it signed."""
    try:
        header = jwt.get_unverified_header(proof)
        key = header.get("jwk")
        if header.get("typ") != "dpop+jwt" or not isinstance(key, dict) or "d" in key:
            raise ProofRefused("invalid_dpop_proof", "The header of the proof is not a proof's.")
        claims = jwt.decode(
            proof,
            jwt.PyJWK.from_dict(key, algorithm=ALGORITHM),
            algorithms=[ALGORITHM],
            options={"require": ["jti", "iat"], "verify_iat": False},
        )
    except jwt.PyJWTError as error:
        raise ProofRefused("invalid_dpop_proof", "The proof is not signed with the key it names.") from error
    return key, claims


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
