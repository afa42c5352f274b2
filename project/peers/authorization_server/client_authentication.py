"""How a client proves itself at the token and revocation endpoints (RFC 6749 §2.3, RFC 7523 §2.2)."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Mapping
from urllib.parse import unquote_plus

import jwt
from starlette.requests import Request

from project.peers.authorization_server.clients import ClientDirectory
from project.peers.authorization_server.core import Core
from project.peers.authorization_server.records import Refusal
from project.peers.registry import Client, digest

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class ClientAuthentication:
    """Holds a client to the one method it is registered for."""

    def __init__(self, core: Core, clients: ClientDirectory) -> None:
        self.core = core
        self.clients = clients
        self._seen_assertions: set[str] = set()

    async def authenticated(
        self, request: Request, form: Mapping[str, str], *, methods: tuple[str, ...] | None = None
    ) -> Client:
        """Authenticate the client with exactly the method it is registered for (RFC 6749 §2.3).

        ``methods`` are those that the endpoint takes, ``None`` for all.
        """
        client_id, secret, method = form.get("client_id", ""), form.get("client_secret", ""), "none"
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            method = "client_secret_basic"
            name, secret = _basic_credentials(credentials)
            named_twice = self.core.options.basic_client_id_in_body
            if named_twice == ("required" if not client_id else "refused"):
                raise Refusal("invalid_request", "This form of Basic authentication is not taken here.")
            if client_id and client_id != name:
                raise Refusal("invalid_request", "Two different clients are named.")
            client_id = name
        elif "client_secret" in form:
            method = "client_secret_post"
        elif "client_assertion" in form:
            method = "private_key_jwt"
            client_id = client_id or _unverified_subject(form["client_assertion"])
        client = await self.clients.find(client_id) if client_id else None
        if client is None:
            raise Refusal("invalid_client", "The client is not known here.", status=401)
        allowed = (
            (client.token_endpoint_auth_method,)
            if client.token_endpoint_auth_method
            else (
                "client_secret_basic",
                "client_secret_post",
            )
        )
        if method not in allowed or (methods is not None and method not in methods):
            raise Refusal("invalid_client", "The client is not registered for this authentication.", status=401)
        if method == "private_key_jwt":
            self._verify_assertion(client, form)
        elif client.secret_digest is not None:
            if not secrets.compare_digest(client.secret_digest, digest(secret)):
                raise Refusal("invalid_client", "The client secret is wrong.", status=401)
            if client.secret_expires_at is not None and client.secret_expires_at <= time.time():
                raise Refusal("invalid_client", "The client secret has expired.", status=401)
        return client

    def _verify_assertion(self, client: Client, form: Mapping[str, str]) -> None:
        """Accept an assertion signed with the client's key, addressed to this issuer, once (RFC 7523 §3)."""
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise Refusal("invalid_client", "The type of the client assertion is not supported.", status=401)
        try:
            claims = jwt.decode(
                form["client_assertion"],
                client.public_key or "",
                algorithms=["ES256", "RS256", "EdDSA"],
                audience=self.core.issuer,
                issuer=client.client_id,
                options={"require": ["exp", "iat", "jti", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise Refusal("invalid_client", f"The client assertion is not valid: {error}", status=401) from error
        if claims["sub"] != client.client_id or claims["jti"] in self._seen_assertions:
            raise Refusal("invalid_client", "The client assertion is of another client or was used.", status=401)
        self._seen_assertions.add(claims["jti"])


def _unverified_subject(assertion: str) -> str:
    """Return whom an assertion claims to be of, in order to look the key up that verifies it."""
    try:
        return str(jwt.decode(assertion, options={"verify_signature": False}).get("sub", ""))
    except jwt.PyJWTError:
        return ""


def _basic_credentials(text: str) -> tuple[str, str]:
    """Return client id and secret, each form-decoded (RFC 6749 §2.3.1)."""
    try:
        name, _, secret = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refusal("invalid_client", "The Basic credentials are malformed.", status=401) from error
    return unquote_plus(name), unquote_plus(secret)
