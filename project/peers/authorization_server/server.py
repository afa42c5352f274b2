"""The whole server: its endpoints on their paths, and what tests and resource servers ask it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from project.peers.authorization_server.authorization import AuthorizationEndpoint
from project.peers.authorization_server.client_authentication import ClientAuthentication
from project.peers.authorization_server.clients import ClientDirectory
from project.peers.authorization_server.core import Core
from project.peers.authorization_server.grants import TokenEndpoint
from project.peers.authorization_server.messages import with_faults
from project.peers.authorization_server.metadata import metadata_document, metadata_route
from project.peers.authorization_server.records import TokenFacts
from project.peers.authorization_server.registration import RegistrationEndpoint
from project.peers.authorization_server.revocation import IntrospectionEndpoint, RevocationEndpoint
from project.peers.dpop import ProofChecker
from project.peers.options import AuthorizationServerOptions
from project.peers.recording import RecordedRequest, Recorder
from project.peers.registry import Client, IssuedToken


class AuthorizationServer(Core):
    """An OAuth 2.1 authorization server; ``app`` is what uvicorn runs.

    ``base_url`` is its origin without a trailing slash; empty takes it from the first request. ``options`` may be
    replaced while it runs (all but ``issuer_path``). ``requests`` holds everything received, in order.
    """

    def __init__(
        self, options: AuthorizationServerOptions | None = None, *, base_url: str = "", state_file: Path | None = None
    ) -> None:
        super().__init__(options, base_url=base_url, state_file=state_file)
        self.requests: list[RecordedRequest] = []
        self.proofs = ProofChecker()
        self._directory = ClientDirectory(self)
        self._authentication = ClientAuthentication(self, self._directory)
        self._tokens = TokenEndpoint(self, self._authentication, self.proofs)
        self._introspection = IntrospectionEndpoint(self)
        self.app: ASGIApp = Recorder(self._starlette(), self.requests)

    @property
    def access_tokens(self) -> list[IssuedToken]:
        """Return every access token, oldest first."""
        return [token for token in self.registry.tokens.values() if token.kind == "access"]

    @property
    def refresh_tokens(self) -> list[IssuedToken]:
        """Return every refresh token, oldest first."""
        return [token for token in self.registry.tokens.values() if token.kind == "refresh"]

    @property
    def clients(self) -> list[Client]:
        """Return the clients that registered themselves dynamically."""
        return list(self.registry.clients.values())

    def requests_to(self, endpoint: str) -> list[RecordedRequest]:
        """Return the recorded requests to an endpoint named by the end of its path, such as ``"/token"``."""
        return [request for request in self.requests if request.path.endswith(endpoint)]

    def introspect(self, token: str) -> TokenFacts | None:
        """Return what an access token stands for, or ``None`` when it is not accepted (any more)."""
        return self._introspection.facts(token)

    def expire_access_tokens(self) -> None:
        """Let every access token issued so far be past its end."""
        for token in self.access_tokens:
            token.expires_at = time.time() - 1
        self.registry.save()

    def revoke_refresh_tokens(self) -> None:
        """End every refresh token issued so far; the next refresh answers ``invalid_grant``."""
        for token in self.refresh_tokens:
            token.revoked = True
        self.registry.save()

    def forget_clients(self) -> None:
        """Forget every client that registered itself; it is ``invalid_client`` from now on."""
        self._directory.forget()

    def grant(
        self, *, client_id: str, user: str = "ada", scope: str | None = None, resource: str = ""
    ) -> dict[str, Any]:
        """Issue tokens as though the user had just allowed it; return the token response."""
        client = self._directory.known(client_id) or Client(client_id=client_id, kind="preregistered")
        granted = self.default_scope() if scope is None else scope
        return self._tokens.issued(client, user=user, scope=granted, audience=resource or self.options.default_resource)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata document (RFC 8414 §2)."""
        return metadata_document(self)

    def _starlette(self) -> Starlette:
        authorization = AuthorizationEndpoint(self, self._directory)
        registration = RegistrationEndpoint(self)
        revocation = RevocationEndpoint(self, self._authentication)
        path = self.path
        routes = [
            Route(f"/.well-known/oauth-authorization-server{path}", metadata_route(self, "oauth")),
            Route(f"/.well-known/openid-configuration{path}", metadata_route(self, "openid-inserted")),
            Route(
                f"{path}/authorize", with_faults(self, "authorization_faults", authorization.authorize), methods=["GET"]
            ),
            Route(f"{path}/sign-in", authorization.sign_in, methods=["POST"]),
            Route(f"{path}/sign-out", authorization.sign_out, methods=["POST"]),
            Route(f"{path}/consent", authorization.consent, methods=["GET", "POST"]),
            Route(f"{path}/token", with_faults(self, "token_faults", self._tokens.token), methods=["POST"]),
            Route(
                f"{path}/register", with_faults(self, "registration_faults", registration.register), methods=["POST"]
            ),
            Route(f"{path}/revoke", with_faults(self, "revocation_faults", revocation.revoke), methods=["POST"]),
            Route(f"{path}/introspect", self._introspection.introspect, methods=["POST"]),
            Route(f"{path}/pages.css", authorization.stylesheet),
        ]
        if path:
            well_known = f"{path}/.well-known"
            routes.append(Route(f"{well_known}/openid-configuration", metadata_route(self, "openid-appended")))
            routes.append(Route(f"{well_known}/oauth-authorization-server", metadata_route(self, "oauth-appended")))
        return Starlette(routes=routes)
