"""Has a company's identity provider vouch for a member at a server's authorization server (RFC 8693, RFC 7523)."""

from __future__ import annotations

import logging
import time
from typing import Any

from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import ConfigurationError, InvalidGrant, McpOAuthError, TokenEndpointUnavailable
from mcp_oauth.models import McpServer, McpServerOAuth
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.identity import IdentityToken
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.token import id_jag_request, parse_id_jag_response
from mcp_oauth.oauth.urls import check_endpoint, issuers_match, same_origin
from mcp_oauth.services.discovery import find_authorization_server, grant_type_of
from mcp_oauth.services.evidence import Evidence
from mcp_oauth.services.registrations import identity_provider_client
from mcp_oauth.services.wire import fetch

logger = logging.getLogger(__name__)


class SignInNeeded(Exception):
    """The member has to sign in at the company again; ``digest`` tells which token was of no use, empty for none."""

    def __init__(self, digest: str = "") -> None:
        super().__init__("The person has to sign in again.")
        self.digest = digest


def identity_token(grant: McpServerOAuth) -> IdentityToken | None:
    """Return what the site's sign-in has of the identity provider for the grant's person, ``None`` for nothing.

    Raises:
        ConfigurationError: nobody is set to be asked, or the answer is of another type.
        TokenEndpointUnavailable: who is asked failed.
    """
    dotted_path = settings.IDENTITY_TOKEN_PROVIDER
    if not dotted_path:
        raise ConfigurationError(
            _("This site has no source of identity tokens."),
            next_step=_("Ask the operator to set MCP_OAUTH['IDENTITY_TOKEN_PROVIDER']."),
        )
    try:
        provider = import_string(dotted_path)
    except ImportError as error:
        raise ConfigurationError(
            _("This site's source of identity tokens cannot be loaded."),
            next_step=_("Ask the operator to check MCP_OAUTH['IDENTITY_TOKEN_PROVIDER']."),
        ) from error
    try:
        found: Any = provider(grant.user, grant.server)
    except McpOAuthError:
        raise
    except Exception as error:  # the site's own code: whatever it raises must not keep the lease
        logger.exception("%s failed for grant %s", dotted_path, grant.pk)
        raise TokenEndpointUnavailable(_("Your company sign-in cannot be read for now.")) from error
    if found is not None and not isinstance(found, IdentityToken):
        raise ConfigurationError(_("This site's source of identity tokens returned something else."))
    return found


def identity_assertion(
    identity: IdentityToken,
    server: McpServer,
    options: OAuthOptions,
    *,
    audience: str,
    resource: str | None,
    scope: str,
) -> str:
    """Return the identity provider's assertion about a person for one authorization server (an ID-JAG).

    The identity token goes to the provider that issued it, whatever an administrator entered.

    Raises:
        SignInNeeded: the provider no longer accepts the identity token.
        ConfigurationError: the token is of another provider than the one entered, or the client cannot be used.
        DiscoveryFailed, TokenRequestFailed, ServerUnreachable: the provider's fault.
    """
    issuer = identity.issued_by()
    if options.idp_issuer and not issuers_match(options.idp_issuer, issuer):
        raise ConfigurationError(
            _("People here sign in at %(theirs)s, but %(server)s is set to %(entered)s.")
            % {"theirs": issuer[:200], "server": server.name, "entered": options.idp_issuer}
        )
    metadata: AuthorizationServerMetadata | None = None
    if options.idp_token_endpoint:
        token_endpoint = options.idp_token_endpoint
        check_address("idp_token_endpoint", token_endpoint)
        if not same_origin(token_endpoint, issuer):
            raise ConfigurationError(
                _("The token endpoint entered for the identity provider is not one of %(issuer)s.")
                % {"issuer": issuer[:200]}
            )
    else:
        # No authorization code is asked for there, so what it says about signing in is of no interest.
        metadata = find_authorization_server(
            issuer, OAuthOptions(), Evidence(), grant_type=grant_type_of(server.auth_mode)
        )
        token_endpoint = metadata.token_endpoint
    request = id_jag_request(
        token_endpoint=token_endpoint,
        client=identity_provider_client(server, options, issuer, metadata),
        subject_token=identity.token,
        subject_token_type=identity.token_type,
        audience=audience,
        resource=resource,
        scope=scope,
    )
    try:
        return parse_id_jag_response(fetch(request), now=time.time())
    except InvalidGrant as error:
        logger.info("the identity provider %s vouches no more for a person: %s", issuer, error.code)
        raise SignInNeeded(identity.digest()) from error


def check_address(name: str, url: str) -> None:
    """Refuse an address of the identity provider that this application may not contact.

    Raises:
        DiscoveryFailed: with the reason.
    """
    check_endpoint(url, name=name, document=url, allow_loopback=settings.ALLOW_LOOPBACK)
