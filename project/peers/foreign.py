"""What an authorization server makes of JWTs that another issuer signed (RFC 7523 §3)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization

ID_JAG_HEADER_TYPE = "oauth-id-jag+jwt"
ID_JAG_TYPE = "urn:ietf:params:oauth:token-type:id-jag"
ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - the name of a type
ALGORITHMS = ["ES256", "RS256", "EdDSA"]


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer whose JWTs are accepted as assertions; ``public_key`` is PEM.

    ``vouches_for`` says for what: the machine a deployment runs on, or people who signed in at their company.
    """

    issuer: str
    public_key: str
    vouches_for: str = "workload"


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """What makes an authorization server a company's identity provider.

    ``private_key`` (PEM, P-256) signs; ``permitted`` maps an authorization server to the client that the asking client
    is there, for those the company permits.
    """

    private_key: str = field(repr=False)
    permitted: Mapping[str, str]

    def id_token(self, *, issuer: str, user: str, client_id: str, lifetime: int = 3600) -> str:
        """Return what a client gets when a person signs in (OpenID Connect Core §2); seconds."""
        now = int(time.time())
        claims = {"iss": issuer, "sub": user, "aud": client_id, "iat": now, "exp": now + lifetime}
        return jwt.encode(claims, self.private_key, algorithm="ES256")

    def assertion(self, form: Mapping[str, str], *, issuer: str, client_id: str) -> str:
        """Return an identity assertion for the person of a subject token (RFC 8693 §2.1).

        Raises: ``NotAccepted`` for a bad subject token, ``NotPermitted`` for an audience the company does not permit.
        """
        public_key = serialization.load_pem_private_key(self.private_key.encode(), password=None).public_key()
        if form.get("requested_token_type") != ID_JAG_TYPE or form.get("subject_token_type") != ID_TOKEN_TYPE:
            raise NotAccepted("A token of this type is not exchanged for one of that type.")
        try:
            claims = jwt.decode(
                form.get("subject_token", ""),
                public_key,  # type: ignore[arg-type]  # P-256, by what this class takes
                algorithms=["ES256"],
                audience=client_id,
                issuer=issuer,
                options={"require": ["exp", "iat", "sub", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise NotAccepted(str(error)) from error
        audience = form.get("audience", "")
        if audience not in self.permitted:
            raise NotPermitted("The company does not permit this application.")
        now = int(time.time())
        vouched = {
            "iss": issuer,
            "sub": claims["sub"],
            "aud": audience,
            "client_id": self.permitted[audience],
            "resource": form.get("resource", ""),
            "scope": form.get("scope", ""),
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + 300,
        }
        return jwt.encode(vouched, self.private_key, algorithm="ES256", headers={"typ": ID_JAG_HEADER_TYPE})


class NotPermitted(Exception):
    """The company's policy says no."""


class NotAccepted(Exception):
    """The assertion is not good here; the text says why."""


def accepted_claims(
    assertion: str, *, trusted: Iterable[TrustedIssuer], audiences: list[str], client_id: str, resource: str
) -> Mapping[str, Any]:
    """Return the verified claims of an assertion.

    Raises: ``NotAccepted`` for a wrong signature, issuer, audience, time, kind, client or resource.
    """
    try:
        header = jwt.get_unverified_header(assertion)
        issuer = jwt.decode(assertion, options={"verify_signature": False}).get("iss")
        known = next((entry for entry in trusted if entry.issuer == issuer), None)
        if known is None:
            raise NotAccepted("Nobody trusts its issuer.")
        claims: dict[str, Any] = jwt.decode(
            assertion,
            known.public_key,
            algorithms=ALGORITHMS,
            audience=audiences,
            issuer=known.issuer,
            options={"require": ["exp", "iat", "sub", "aud"]},
        )
    except jwt.PyJWTError as error:
        raise NotAccepted(str(error)) from error
    about_people = header.get("typ") == ID_JAG_HEADER_TYPE
    if about_people != (known.vouches_for == "people"):
        raise NotAccepted("It is of another kind than its issuer may sign.")
    if about_people and claims.get("client_id") != client_id:
        raise NotAccepted("It was issued for another client.")
    if about_people and claims.get("resource", resource) != resource:
        raise NotAccepted("It was issued for another resource.")
    return claims
