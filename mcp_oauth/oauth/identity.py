"""What a company's identity provider says of a person, as the site's own sign-in keeps it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.oauth.foreign_tokens import unverified_claims
from mcp_oauth.oauth.token import ID_TOKEN_TYPE
from mcp_oauth.sentences import sentence


@dataclass(frozen=True, slots=True)
class IdentityToken:
    """A token that the identity provider issued to this site when the person signed in, mostly an ID token.

    ``token_type`` is one of RFC 8693 §3. ``issuer`` has to be given for what is no JWT; a JWT names its own.
    """

    token: str = field(repr=False)
    token_type: str = ID_TOKEN_TYPE
    issuer: str = ""

    def issued_by(self) -> str:
        """Return the identity provider that issued it, the only one it may be shown to.

        Raises: ConfigurationError when it does not say so.
        """
        issuer = self.issuer or unverified_claims(self.token).get("iss")
        if not isinstance(issuer, str) or not issuer:
            raise ConfigurationError(sentence("The identity token does not name its issuer."))
        return issuer

    def digest(self) -> str:
        """Return what tells this token from the next one, and nothing of it (SHA-256, hex)."""
        return hashlib.sha256(self.token.encode()).hexdigest()
