"""What an authorization server remembers: clients, codes and tokens, optionally in a small JSON file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

ClientKind = Literal["preregistered", "dynamic", "cimd"]


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret in hex: the only form that is written to disk."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Client:
    """A client as the authorization server knows it; an empty ``redirect_uris`` accepts any."""

    client_id: str
    kind: ClientKind
    client_name: str = ""
    client_uri: str = ""
    redirect_uris: tuple[str, ...] = ()
    token_endpoint_auth_method: str = "none"  # noqa: S105 - the name of a method, not a secret
    secret_digest: str | None = field(default=None, repr=False)
    secret_expires_at: float | None = None
    # PEM, for private_key_jwt (RFC 7523 §2.2).
    public_key: str | None = None
    grant_types: tuple[str, ...] = ("authorization_code", "refresh_token")


@dataclass(slots=True)
class AuthorizationCode:
    """A code that waits to be exchanged, with everything it is bound to."""

    client_id: str
    redirect_uri: str
    code_challenge: str = field(repr=False)
    scope: str
    resource: str
    user: str
    expires_at: float
    # The grant it was exchanged for; a second use ends that grant (RFC 6749 §4.1.2).
    grant_id: str = ""


@dataclass(slots=True)
class IssuedToken:
    """An access or refresh token. ``value`` is empty after a restart: the file holds digests only.

    ``expires_at`` is epoch seconds, ``None`` without end.
    """

    kind: Literal["access", "refresh"]
    value: str = field(repr=False)
    grant_id: str
    client_id: str
    user: str
    scope: str
    audience: str
    issued_at: float
    expires_at: float | None = None
    revoked: bool = False
    # A refresh token that was already exchanged; a second use ends its grant.
    used: bool = False
    used_at: float = 0.0
    # The digest of the refresh token that was issued for it last.
    successor: str = ""
    # The thumbprint of the key it is bound to (RFC 9449 §6), empty for a bearer token.
    jkt: str = ""

    @property
    def active(self) -> bool:
        """Return whether the token would be accepted now."""
        return not (self.revoked or self.used) and (self.expires_at is None or self.expires_at > time.time())


@dataclass(slots=True)
class Registry:
    """Clients and tokens of one authorization server; ``path`` names the file that outlives the process."""

    path: Path | None = None
    clients: dict[str, Client] = field(default_factory=dict)
    codes: dict[str, AuthorizationCode] = field(default_factory=dict)
    tokens: dict[str, IssuedToken] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Load the file when there is one."""
        if self.path is None or not self.path.exists():
            return
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            clients = [Client(**_with_tuples(entry)) for entry in document["clients"]]
            tokens = {key: IssuedToken(value="", **entry) for key, entry in document["tokens"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            # A demonstration starts afresh rather than not at all when its file is damaged.
            return
        self.clients = {client.client_id: client for client in clients}
        self.tokens = tokens

    def save(self) -> None:
        """Write the file atomically and readable by its owner only; a no-op without ``path``."""
        if self.path is None:
            return
        now = time.time()
        tokens: dict[str, Any] = {}
        for key, token in self.tokens.items():
            if token.kind == "access" and not token.active:
                continue
            # Used refresh tokens are kept for a day, so that their reuse is still noticed.
            if token.kind == "refresh" and not token.active and token.issued_at < now - 86400:
                continue
            tokens[key] = {name: value for name, value in asdict(token).items() if name != "value"}
        document = {"clients": [asdict(client) for client in self.clients.values()], "tokens": tokens}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(document, stream, indent=1)
            os.replace(name, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    def issue(
        self,
        kind: Literal["access", "refresh"],
        *,
        grant_id: str,
        client_id: str,
        user: str,
        scope: str,
        audience: str,
        lifetime: int | None,
        jkt: str = "",
    ) -> IssuedToken:
        """Create and remember an opaque token; ``lifetime`` in seconds."""
        now = time.time()
        token = IssuedToken(
            kind=kind,
            value=f"{kind[0]}t_{secrets.token_urlsafe(32)}",
            grant_id=grant_id,
            client_id=client_id,
            user=user,
            scope=scope,
            audience=audience,
            issued_at=now,
            expires_at=None if lifetime is None else now + lifetime,
            jkt=jkt,
        )
        self.tokens[digest(token.value)] = token
        return token

    def find(self, value: str) -> IssuedToken | None:
        """Return the token with this value, whatever its state."""
        return self.tokens.get(digest(value))

    def revoke_grant(self, grant_id: str) -> None:
        """End every token of one grant."""
        for token in self.tokens.values():
            if token.grant_id == grant_id:
                token.revoked = True


def _with_tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
