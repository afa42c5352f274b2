"""Ending tokens (RFC 7009) and telling resource servers about them (RFC 7662)."""

from __future__ import annotations

import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from project.peers.authorization_server.client_authentication import ClientAuthentication
from project.peers.authorization_server.core import Core
from project.peers.authorization_server.messages import NO_STORE, form_of
from project.peers.authorization_server.records import Refusal, TokenFacts


class RevocationEndpoint:
    """Ends the tokens that clients hand back."""

    def __init__(self, core: Core, authentication: ClientAuthentication) -> None:
        self.core = core
        self.authentication = authentication

    async def revoke(self, request: Request) -> Response:
        """End a token, and with a refresh token its grant (RFC 7009 §2)."""
        if not self.core.options.revocation:
            return JSONResponse({"error": "not_found"}, status_code=404)
        form = await form_of(request)
        methods = self.core.options.revocation_auth_methods
        client = await self.authentication.authenticated(request, form, methods=methods)
        if not form.get("token"):
            raise Refusal("invalid_request", "The token parameter is missing.")
        token = self.core.registry.find(form["token"])
        if token is not None and token.kind not in self.core.options.revocable:
            raise Refusal("unsupported_token_type", "Tokens of this type cannot be revoked.")
        # RFC 7009 §2.2: a token that is unknown or somebody else's is answered with 200 all the same.
        if token is not None and token.client_id == client.client_id:
            if token.kind == "refresh":
                self.core.registry.revoke_grant(token.grant_id)
            token.revoked = True
            self.core.registry.save()
        return Response(status_code=200, headers=NO_STORE)


class IntrospectionEndpoint:
    """Says what an access token stands for."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def facts(self, token: str) -> TokenFacts | None:
        """Return what an access token stands for, or ``None`` when it is not accepted (any more)."""
        issued = self.core.registry.find(token)
        if issued is None or issued.kind != "access" or not issued.active:
            return None
        return TokenFacts(
            user=issued.user,
            client_id=issued.client_id,
            scope=issued.scope,
            audience=issued.audience,
            issuer=self.core.issuer,
            expires_at=issued.expires_at,
            jkt=issued.jkt,
        )

    async def introspect(self, request: Request) -> Response:
        """Answer a resource server in another process (RFC 7662); it shows the shared secret as a bearer."""
        self.core.learn_base_url(request)
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        expected = self.core.options.introspection_secret.encode()
        if scheme.lower() != "bearer" or not secrets.compare_digest(secret.encode(), expected):
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        facts = self.facts((await form_of(request)).get("token", ""))
        if facts is None:
            return JSONResponse({"active": False}, headers=NO_STORE)
        document: dict[str, Any] = {
            "active": True,
            "sub": facts.user,
            "client_id": facts.client_id,
            "scope": facts.scope,
            "aud": facts.audience,
            "iss": facts.issuer,
        }
        if facts.expires_at is not None:
            document["exp"] = facts.expires_at
        if facts.jkt:
            document["cnf"] = {"jkt": facts.jkt}
        return JSONResponse(document, headers=NO_STORE)
