"""The token endpoint: codes, refresh tokens, the client itself, and other issuers' assertions."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from project.peers.authorization_server.client_authentication import ClientAuthentication
from project.peers.authorization_server.core import Core
from project.peers.authorization_server.dialect import granted, refused
from project.peers.authorization_server.messages import form_of
from project.peers.authorization_server.records import Refusal
from project.peers.dpop import ProofChecker, ProofRefused
from project.peers.foreign import ID_JAG_TYPE, IdentityProvider, NotAccepted, NotPermitted, accepted_claims
from project.peers.registry import Client, IssuedToken, digest

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant type
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class TokenEndpoint:
    """Exchanges grants for tokens."""

    def __init__(self, core: Core, authentication: ClientAuthentication, proofs: ProofChecker) -> None:
        self.core = core
        self.authentication = authentication
        self.proofs = proofs

    async def token(self, request: Request) -> Response:
        """Answer a token request in the server's own dialect."""
        dialect = self.core.options.token_dialect
        try:
            return granted(request, await self._answer(request), dialect)
        except Refusal as refusal:
            return refused(request, refusal, dialect)

    async def _answer(self, request: Request) -> dict[str, Any]:
        """Return what is granted, by the grant type of the request (RFC 6749 §4)."""
        form = await form_of(request)
        client = await self.authentication.authenticated(request, form)
        jkt = self._proven(request)
        grant_type = form.get("grant_type", "")
        if grant_type == "authorization_code":
            return self._exchanged(client, form, jkt)
        if grant_type == "refresh_token":
            return self._refreshed(client, form, jkt)
        if grant_type == "client_credentials":
            return self._granted_to_client(client, form, jkt)
        if grant_type == JWT_BEARER and self.core.options.trusted_issuers:
            return self._granted_for_assertion(client, form)
        if grant_type == TOKEN_EXCHANGE and (provider := self.core.options.identity_provider) is not None:
            return self._identity_assertion(provider, client, form)
        raise Refusal("unsupported_grant_type", "This grant type is not supported.")

    def _proven(self, request: Request) -> str:
        """Return the thumbprint of the key that a token request proves; empty where none has to (RFC 9449 §5)."""
        if not self.core.options.require_dpop:
            return ""
        try:
            return self.proofs.check(
                request.headers.get("dpop"),
                method=request.method,
                url=self.core.url("token"),
                with_nonce=self.core.options.dpop_nonces,
            )
        except ProofRefused as refused:
            headers = {"dpop-nonce": self.proofs.nonce} if self.core.options.dpop_nonces else {}
            raise Refusal(refused.error, refused.description, headers=headers) from refused

    def _exchanged(self, client: Client, form: Mapping[str, str], jkt: str) -> dict[str, Any]:
        code = self.core.registry.codes.get(digest(form.get("code", "")))
        if code is None or code.client_id != client.client_id:
            raise Refusal("invalid_grant", "The code is not known here.")
        if code.grant_id:
            self.core.registry.revoke_grant(code.grant_id)
            self.core.registry.save()
            raise Refusal("invalid_grant", "The code was used before; its tokens are revoked.")
        if code.expires_at <= time.time():
            raise Refusal("invalid_grant", "The code has expired.")
        if form.get("redirect_uri", "") != code.redirect_uri:
            raise Refusal("invalid_grant", "The redirect URI is not the one of the authorization request.")
        verifier = form.get("code_verifier", "")
        if not re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier) or s256(verifier) != code.code_challenge:
            raise Refusal("invalid_grant", "The code verifier does not fit the code challenge.")
        self._same_resource(form, code.resource)
        code.grant_id = secrets.token_hex(8)
        return self.issued(
            client,
            user=code.user,
            scope=code.scope,
            audience=code.resource or self.core.options.default_resource,
            grant_id=code.grant_id,
            jkt=jkt,
        )

    def _refreshed(self, client: Client, form: Mapping[str, str], jkt: str) -> dict[str, Any]:
        token = self.core.registry.find(form.get("refresh_token", ""))
        if token is None or token.kind != "refresh" or token.client_id != client.client_id:
            raise Refusal("invalid_grant", "The refresh token is not known here.")
        if token.used and not self._may_be_used_again(token):
            # OAuth 2.1 §4.3.1: somebody else holds the successor, and nobody knows who is the thief.
            self.core.registry.revoke_grant(token.grant_id)
            self.core.registry.save()
            raise Refusal("invalid_grant", "The refresh token was used before; the grant is revoked.")
        if token.revoked or (token.expires_at is not None and token.expires_at <= time.time()):
            raise Refusal("invalid_grant", "The refresh token is revoked or has expired.")
        if token.jkt != jkt:
            raise Refusal("invalid_grant", "The refresh token is bound to another key.")
        # A grant without a resource of its own was given the default audience.
        self._same_resource(form, token.audience)
        scope = " ".join(form.get("scope", "").split()) or token.scope
        if not set(scope.split()) <= set(token.scope.split()):
            raise Refusal("invalid_scope", "A refresh cannot ask for more than was granted.")
        rotate = self.core.options.rotate_refresh
        successor = self.core.registry.tokens.get(token.successor)
        repeated = token.used and self.core.options.refresh_reuse == "in_grace" and successor is not None
        if rotate and not token.used:
            token.used, token.used_at = True, time.time()
        answer = self.issued(
            client,
            user=token.user,
            scope=scope,
            audience=token.audience,
            grant_id=token.grant_id,
            refresh_scope=token.scope if rotate and not repeated else None,
            jkt=jkt,
        )
        if repeated and successor is not None:
            answer["refresh_token"] = successor.value
        token.successor = digest(answer.get("refresh_token", ""))
        self.core.registry.save()
        return answer

    def _may_be_used_again(self, token: IssuedToken) -> bool:
        options = self.core.options
        successor = self.core.registry.tokens.get(token.successor)
        return {
            "ends_grant": False,
            "in_grace": time.time() - token.used_at <= options.refresh_grace_seconds,
            "until_successor_used": successor is None or not successor.used,
            "always": True,
        }[options.refresh_reuse]

    def _granted_to_client(self, client: Client, form: Mapping[str, str], jkt: str) -> dict[str, Any]:
        """Issue a token to the client itself; without a refresh token (RFC 6749 §4.4.3)."""
        public = client.secret_digest is None and client.public_key is None
        if client.kind != "preregistered" or public:
            raise Refusal("unauthorized_client", "The client may not act as itself.")
        scope = form.get("scope", "") or self.core.options.default_scope
        if not set(scope.split()) <= set(self.core.options.scopes):
            raise Refusal("invalid_scope", "A scope is not known here.")
        resource = form.get("resource", "")
        if self.core.options.resource_mode == "required" and not resource:
            raise Refusal("invalid_target", "The resource parameter is required.")
        return self.issued(
            client,
            user=client.client_id,
            scope=scope,
            audience=resource or self.core.options.default_resource,
            refresh_scope=None,
            jkt=jkt,
        )

    def _granted_for_assertion(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        """Issue a token to whom a trusted issuer vouches for (RFC 7523 §2.1); without a refresh token."""
        scope = form.get("scope", "") or self.core.options.default_scope
        if not set(scope.split()) <= set(self.core.options.scopes):
            raise Refusal("invalid_scope", "A scope is not known here.")
        resource = form.get("resource", "") or self.core.options.default_resource
        try:
            claims = accepted_claims(
                form.get("assertion", ""),
                trusted=self.core.options.trusted_issuers,
                audiences=[self.core.issuer, self.core.url("token")],
                client_id=client.client_id,
                resource=resource,
            )
        except NotAccepted as error:
            raise Refusal("invalid_grant", f"The assertion is not accepted: {error}") from error
        return self.issued(client, user=str(claims["sub"]), scope=scope, audience=resource, refresh_scope=None)

    def _identity_assertion(
        self, provider: IdentityProvider, client: Client, form: Mapping[str, str]
    ) -> dict[str, Any]:
        """Issue an identity assertion, which is no access token (RFC 8693 §2.2.1)."""
        try:
            assertion = provider.assertion(form, issuer=self.core.issuer, client_id=client.client_id)
        except NotAccepted as error:
            raise Refusal("invalid_request", f"The subject token is not accepted: {error}") from error
        except NotPermitted as error:
            raise Refusal("invalid_target", str(error)) from error
        return {"access_token": assertion, "issued_token_type": ID_JAG_TYPE, "token_type": "N_A", "expires_in": 300}

    def _same_resource(self, form: Mapping[str, str], granted_for: str) -> None:
        if self.core.options.resource_mode in {"ignored", "audience"}:
            return
        resource = form.get("resource", "")
        if self.core.options.resource_mode == "required" and not resource:
            raise Refusal("invalid_target", "The resource parameter is required.")
        if self.core.options.resource_mode == "refused" and resource:
            raise Refusal("invalid_target", self.core.options.resource_refusal)
        if resource and resource != granted_for:
            raise Refusal("invalid_target", "The resource is not the one that was granted.")

    def issued(
        self,
        client: Client,
        *,
        user: str,
        scope: str,
        audience: str,
        grant_id: str = "",
        refresh_scope: str | None = "",
        jkt: str = "",
    ) -> dict[str, Any]:
        """Issue the tokens of one answer; ``refresh_scope`` empty means ``scope``, ``None`` issues no refresh token."""
        options = self.core.options
        grant_id = grant_id or secrets.token_hex(8)
        access = self.core.registry.issue(
            "access",
            grant_id=grant_id,
            client_id=client.client_id,
            user=user,
            scope=scope,
            audience=audience,
            lifetime=options.access_token_seconds,
            jkt=jkt,
        )
        token_type = "DPoP" if jkt else "Bearer"
        answer: dict[str, Any] = {"access_token": access.value, "token_type": token_type, "scope": scope}
        if options.access_token_seconds is not None:
            answer["expires_in"] = options.access_token_seconds
        wanted = not options.refresh_scope or options.refresh_scope in scope.split()
        allowed = options.issue_refresh_token and "refresh_token" in client.grant_types
        if allowed and wanted and refresh_scope is not None:
            refresh = self.core.registry.issue(
                "refresh",
                grant_id=grant_id,
                client_id=client.client_id,
                user=user,
                scope=refresh_scope or scope,
                audience=audience,
                lifetime=None,
                jkt=jkt,
            )
            answer["refresh_token"] = refresh.value
        self.core.registry.save()
        return answer


def s256(verifier: str) -> str:
    """Return the S256 code challenge of a verifier (RFC 7636 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
