"""Dynamic client registration (RFC 7591)."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from project.peers.authorization_server.clients import LOOPBACK_HOSTS
from project.peers.authorization_server.core import Core
from project.peers.authorization_server.messages import NO_STORE, string_list
from project.peers.authorization_server.records import Refusal
from project.peers.registry import Client, digest


class RegistrationEndpoint:
    """Takes whoever asks properly as a client."""

    def __init__(self, core: Core) -> None:
        self.core = core

    async def register(self, request: Request) -> Response:
        """Register a client (RFC 7591 §3)."""
        options = self.core.options
        if not options.dynamic_registration:
            return JSONResponse({"error": "not_found"}, status_code=404)
        if options.registration_token and not secrets.compare_digest(
            request.headers.get("authorization", "").encode(), f"Bearer {options.registration_token}".encode()
        ):
            raise Refusal("invalid_token", "Registering needs an initial access token.", status=401)
        try:
            wanted = json.loads(await request.body())
        except ValueError as error:
            raise Refusal("invalid_client_metadata", "The request is not JSON.") from error
        if not isinstance(wanted, dict):
            raise Refusal("invalid_client_metadata", "The request is not a JSON object.")
        for member in options.registration_requires:
            if not wanted.get(member):
                raise Refusal("invalid_client_metadata", f"{member} is missing.")
        redirect_uris = string_list(wanted, "redirect_uris", default=())
        if not redirect_uris:
            raise Refusal("invalid_redirect_uri", "redirect_uris is missing.")
        for redirect_uri in redirect_uris:
            if not _acceptable_redirect_uri(redirect_uri):
                raise Refusal("invalid_redirect_uri", "Only https, or http on a loopback host, without a fragment.")
        # RFC 7591 §2: what is left out means client_secret_basic and authorization_code.
        method = wanted.get("token_endpoint_auth_method", "client_secret_basic")
        supported = options.token_endpoint_auth_methods
        if method not in (supported if supported is not None else ("client_secret_basic", "client_secret_post")):
            raise Refusal("invalid_client_metadata", "This token_endpoint_auth_method is not supported.")
        grant_types = string_list(wanted, "grant_types", default=("authorization_code",))
        if "authorization_code" not in grant_types:
            raise Refusal("invalid_client_metadata", "grant_types has to contain authorization_code.")
        if string_list(wanted, "response_types", default=("code",)) != ("code",):
            raise Refusal("invalid_client_metadata", 'response_types has to be ["code"].')
        unsaid = options.registration_secret_unsaid
        secret = None if method == "none" and not unsaid else secrets.token_urlsafe(24)
        now = time.time()
        lifetime = options.client_secret_seconds
        client = Client(
            client_id=f"client-{secrets.token_hex(8)}",
            kind="dynamic",
            client_name=str(wanted.get("client_name") or "Unnamed client")[:100],
            client_uri=str(wanted.get("client_uri") or ""),
            redirect_uris=redirect_uris,
            token_endpoint_auth_method="" if unsaid else method,
            secret_digest=digest(secret) if secret else None,
            secret_expires_at=now + lifetime if secret and lifetime is not None else None,
            grant_types=grant_types,
        )
        self.core.registry.clients[client.client_id] = client
        self.core.registry.save()
        answer: dict[str, Any] = {
            **{name: value for name, value in wanted.items() if name not in {"client_id", "client_secret"}},
            "client_id": client.client_id,
            "client_id_issued_at": int(now),
            "redirect_uris": list(redirect_uris),
            "grant_types": list(grant_types),
            "response_types": ["code"],
            "token_endpoint_auth_method": method,
        }
        if unsaid:
            del answer["token_endpoint_auth_method"]
        if secret is not None:
            answer["client_secret"] = secret
            answer["client_secret_expires_at"] = int(client.secret_expires_at or 0)
        return JSONResponse(answer, status_code=201, headers=NO_STORE)


def _acceptable_redirect_uri(uri: str) -> bool:
    parts = urlsplit(uri)
    if parts.fragment or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS)
