"""Gets tokens where no person is asked: as the application, as this deployment, or for who signed in at a company."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.messages import HttpRequest
from mcp_oauth.models import McpServer, McpServerOAuth
from mcp_oauth.oauth.authorization import select_resource, select_scope
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.client_authentication import BasicShape
from mcp_oauth.oauth.dpop import binds_to_key, new_dpop_key
from mcp_oauth.oauth.identity import IdentityToken
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.token import TokenSet, client_credentials_request, jwt_bearer_request, parse_token_response
from mcp_oauth.services.discovery import discover, grant_type_of
from mcp_oauth.services.enterprise import SignInNeeded, identity_assertion, identity_token
from mcp_oauth.services.probes import probe
from mcp_oauth.services.registrations import preregistered_client
from mcp_oauth.services.wire import fetch_tokens
from mcp_oauth.services.workload import workload_token
from mcp_oauth.services.workspaces import Person


def request_unattended(grant: McpServerOAuth) -> tuple[TokenSet, dict[str, Any]]:
    """Return a token that nobody had to agree to, and the facts of the grant it makes.

    One request is made with the one kind of grant the server is set to; a refusal is not answered with another kind.

    Discovery is repeated with every token, hourly at most for usual lifetimes, because there is no person who
    would notice a move of the authorization server; the client stays bound to its issuer.

    Raises:
        ConfigurationError: no client is entered, it belongs to another issuer, or there is no usable assertion.
        SignInNeeded: the identity provider has nothing to say of the person any more.
        DiscoveryFailed: the server's or its authorization server's documents cannot be used.
        TokenRequestFailed: the token endpoint refused.
        ServerUnreachable: no answer.
    """
    server = grant.server
    if not server.has_preregistered_client:
        raise ConfigurationError(
            _("%(server)s is opened without asking anybody, but no client is entered.") % {"server": server.name},
            next_step=_("Ask an administrator to enter the client ID and its secret or private key."),
        )
    options = OAuthOptions.from_json(server.oauth_options)
    identity = None
    if server.auth_mode == McpServer.AuthMode.ENTERPRISE and (identity := identity_token(grant)) is None:
        raise SignInNeeded
    report = probe(server.url, options)
    found = discover(
        server.url,
        report.challenge,
        options,
        report.evidence,
        resource_metadata=report.resource_metadata,
        grant_type=grant_type_of(server.auth_mode),
    )
    metadata = found.authorization_server
    client = preregistered_client(server, metadata, options)
    challenged = report.challenge.scope if report.challenge else None
    # A refresh token is of no use to a client that can ask again (RFC 6749 §4.4.3).
    scope = " ".join(
        name
        for name in select_scope(options, challenged, found.resource_metadata, metadata).split()
        if name != "offline_access"
    )
    resource = select_resource(options, found.resource_metadata, server.url, metadata)
    assertion = _assertion(server, options, metadata, identity, resource, scope)

    def request(shape: BasicShape) -> HttpRequest:
        if assertion is None:
            return client_credentials_request(
                token_endpoint=metadata.token_endpoint,
                client=client,
                resource=resource,
                scope=scope,
                basic_shape=shape,
            )
        return jwt_bearer_request(
            assertion,
            token_endpoint=metadata.token_endpoint,
            client=client,
            resource=resource,
            scope=scope,
            basic_shape=shape,
        )

    # A new key for every token: there is no refresh token that an older one would be needed for.
    bound = binds_to_key(metadata, options, report.challenge, found.resource_metadata)
    dpop_key = new_dpop_key() if bound else None
    response = fetch_tokens(request, dpop_key=dpop_key)
    tokens = parse_token_response(
        response, now=time.time(), requested_scope=scope, expected_type="any" if dpop_key else "Bearer"
    )
    return tokens, {
        "dpop_key": dpop_key,
        "issuer": metadata.issuer,
        "resource": resource or "",
        "token_endpoint": metadata.token_endpoint,
        "revocation_endpoint": metadata.revocation_endpoint or "",
        "client_id": client.client_id,
        "token_endpoint_auth_method": client.token_endpoint_auth_method,
    }


def _assertion(
    server: McpServer,
    options: OAuthOptions,
    metadata: AuthorizationServerMetadata,
    identity: IdentityToken | None,
    resource: str | None,
    scope: str,
) -> str | None:
    """Return what vouches for this deployment or the person; ``None`` where the client's own secret does."""
    if server.auth_mode == McpServer.AuthMode.CLIENT_CREDENTIALS:
        return None
    if options.tolerate_issuer_mismatch:
        raise ConfigurationError(_("What is addressed to one issuer is not sent to an address of another one."))
    if identity is None:
        return workload_token(options, metadata)
    return identity_assertion(identity, server, options, audience=metadata.issuer, resource=resource, scope=scope)


def open_row(server: McpServer, user: Person) -> None:
    """Make the row that tokens nobody agrees to are kept in; of two at once the first one's is used by both."""
    with contextlib.suppress(IntegrityError), transaction.atomic():
        McpServerOAuth(
            server=server,
            user_id=server.grant_owner(user.pk),
            server_generation=server.generation,
            connected_at=timezone.now(),
        ).save(force_insert=True)


def may_try_again(grant: McpServerOAuth, server: McpServer) -> bool:
    """Whether an unattended grant is of an earlier configuration, was refused some time ago, or has new backing."""
    if grant.server_generation != server.generation:
        return True
    if not grant.is_active and grant.reason == "sign_in_again":
        identity = identity_token(grant)
        if identity is None or identity.digest() != grant.subject_digest:
            return identity is not None
    pause = timedelta(seconds=settings.UNATTENDED_RETRY_SECONDS)
    return not grant.is_active and (grant.reason_at is None or grant.reason_at <= timezone.now() - pause)


def reopen(grant: McpServerOAuth, server: McpServer) -> None:
    """Let a refused or outdated row ask for a token again."""
    McpServerOAuth.objects.filter(pk=grant.pk, version=grant.version).update(
        version=grant.version + 1,
        server_generation=server.generation,
        state=McpServerOAuth.State.ACTIVE,
        reason="",
        reason_at=None,
        access_token=None,
        lease_id=None,
        lease_expires_at=None,
        refresh_failures=0,
        refresh_not_before=None,
    )
