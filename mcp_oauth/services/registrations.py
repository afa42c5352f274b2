"""Which client this application is at an authorization server, registering it when it must."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import (
    ConfigurationError,
    RegistrationFailed,
    RegistrationRequired,
    SecretUnreadable,
    ServerUnreachable,
)
from mcp_oauth.messages import HttpRequest
from mcp_oauth.models import McpServer, McpServerOAuth, OAuthRegistration
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.registration import (
    AUTH_METHODS,
    ApplicationType,
    ClientCredentials,
    RegisteredClient,
    application_type_for,
    choose_registration,
    parse_registration_response,
    registration_pause,
    registration_request,
)
from mcp_oauth.services.wire import fetch

# What a private key contains that an administrator entered in a secret's place (RFC 7468 §10).
_PEM = "PRIVATE KEY-----"


@dataclass(frozen=True)
class Client:
    """A client ready for use; ``registration`` is ``None`` for the one on the server's row."""

    credentials: ClientCredentials
    registration: OAuthRegistration | None


def redirect_uri() -> str:
    """Return the address authorization servers send people back to."""
    return settings.public_url + reverse("mcp_oauth:callback")


def shown_redirect_uri() -> str:
    """Return the redirect URI for a page that shows it; why there is none, where the site's address is not set."""
    try:
        return redirect_uri()
    except ConfigurationError as error:
        return error.user_message


def client_ids_of(server: McpServer) -> list[str]:
    """Return the client IDs this application has in a server's workspace, except those that it publishes itself."""
    rows = OAuthRegistration.objects.filter(workspace_id=server.workspace_id).exclude(kind=OAuthRegistration.Kind.CIMD)
    return [server.client_id, *rows.values_list("client_id", flat=True)]


def client_metadata_url() -> str:
    """Return where this application's client ID metadata document is published."""
    return settings.CLIENT_METADATA_URL or settings.public_url + reverse("mcp_oauth:client_metadata")


def client_for(server: McpServer, metadata: AuthorizationServerMetadata, options: OAuthOptions) -> Client:
    """Return the client to use at an authorization server: pre-registered, else metadata document, else dynamic.

    Raises:
        ConfigurationError: the pre-registered client belongs to another issuer.
        RegistrationRequired: the authorization server registers nobody by itself.
        RegistrationFailed: it refused to register this application.
    """
    try:
        kind = choose_registration(
            metadata,
            has_preregistered=server.has_preregistered_client,
            client_metadata_url=client_metadata_url(),
            options=options,
        )
    except RegistrationRequired as error:
        raise RegistrationRequired(
            error.user_message,
            next_step=_(
                "Create an OAuth client at the provider with the redirect URI %(uri)s, then enter its client ID "
                "in the server's settings."
            )
            % {"uri": redirect_uri()},
            document=metadata.document,
        ) from error
    if kind == "preregistered":
        return Client(preregistered_client(server, metadata, options), None)
    if kind == "cimd":
        return _document_client(server, metadata)
    return _dynamic_client(server, metadata, options)


def forget(registration: OAuthRegistration) -> None:
    """Note that the issuer no longer knows a client it registered; the next connection registers another one."""
    OAuthRegistration.objects.filter(
        pk=registration.pk, kind=OAuthRegistration.Kind.DYNAMIC, forgotten_at__isnull=True
    ).update(forgotten_at=timezone.now())


def credentials_of(grant: McpServerOAuth) -> ClientCredentials:
    """Return the client a grant was issued to.

    Raises:
        ConfigurationError: that client is gone or was replaced, so the grant cannot be renewed.
        SecretUnreadable: its secret cannot be opened.
    """
    if grant.registration is not None:
        registration = grant.registration
        client_id, secret = registration.client_id, registration.client_secret
        issuer = registration.issuer
    else:
        client_id, secret, issuer = grant.server.client_id, grant.server.client_secret, grant.server.client_issuer
    # A secret goes to the issuer it belongs to and nowhere else.
    if client_id != grant.client_id or issuer != grant.issuer:
        raise ConfigurationError(_("The client this connection was made with is no longer configured."))
    return _with_secret(client_id, secret, grant.token_endpoint_auth_method, issuer)


def preregistered_client(
    server: McpServer, metadata: AuthorizationServerMetadata, options: OAuthOptions
) -> ClientCredentials:
    """Return the client an administrator entered, for the one issuer it belongs to.

    What stands where a secret would may be a private key (PEM); it then signs instead of being sent.

    Raises:
        ConfigurationError: it belongs to another issuer.
        SecretUnreadable: its secret cannot be opened.
    """
    _require_own_issuer(server, metadata)
    secret = server.client_secret
    method = options.token_endpoint_auth_method or _method_for(secret, metadata)
    return _with_secret(server.client_id, secret, method, metadata.issuer)


def _require_own_issuer(server: McpServer, metadata: AuthorizationServerMetadata) -> None:
    """Refuse to show what an administrator entered to another issuer than the one it belongs to.

    Raises:
        ConfigurationError: the server names another issuer now.
    """
    if not server.client_issuer:
        # The first issuer found is kept, so that a later change of metadata cannot redirect the secret.
        McpServer.objects.filter(pk=server.pk, client_issuer="").update(client_issuer=metadata.issuer)
        server.client_issuer = (
            McpServer.objects.filter(pk=server.pk).values_list("client_issuer", flat=True).first() or ""
        )
    if server.client_issuer != metadata.issuer:
        raise ConfigurationError(
            _("The registered client belongs to %(theirs)s, but the server now names %(found)s.")
            % {"theirs": server.client_issuer, "found": metadata.issuer},
            next_step=_("Check with the provider; if the move is genuine, enter the new client and its issuer."),
            document=metadata.document,
        )


def identity_provider_client(
    server: McpServer, options: OAuthOptions, issuer: str, metadata: AuthorizationServerMetadata | None
) -> ClientCredentials:
    """Return the client an administrator entered for a company's identity provider.

    Raises:
        SecretUnreadable: its secret cannot be opened.
    """
    secret = server.idp_client_secret
    return _with_secret(options.idp_client_id, secret, _method_for(secret, metadata), issuer)


def _method_for(secret: str | None, metadata: AuthorizationServerMetadata | None) -> str:
    offered = metadata.token_endpoint_auth_methods_supported if metadata is not None else None
    if secret is None:
        return "none"
    if _PEM in secret:
        return "private_key_jwt"
    # RFC 8414 §2: Basic is the default when the metadata does not say.
    if offered is None or ("client_secret_post" not in offered and "client_secret_basic" in offered):
        return "client_secret_basic"
    return "client_secret_post"


def _with_secret(client_id: str, secret: str | None, method: str, issuer: str) -> ClientCredentials:
    if secret is not None and _PEM in secret:
        return ClientCredentials(client_id, None, method, issuer, private_key=secret)
    return ClientCredentials(client_id, secret, method, issuer)


def _document_client(server: McpServer, metadata: AuthorizationServerMetadata) -> Client:
    registration = _keep(
        server,
        OAuthRegistration.Kind.CIMD,
        RegisteredClient(
            client_id=client_metadata_url(),
            client_secret=None,
            client_secret_expires_at=None,
            token_endpoint_auth_method="none",  # noqa: S106  (a method's name)
        ),
        metadata.issuer,
    )
    return Client(_credentials(registration), registration)


def _dynamic_client(server: McpServer, metadata: AuthorizationServerMetadata, options: OAuthOptions) -> Client:
    registration = _existing(server, OAuthRegistration.Kind.DYNAMIC, metadata.issuer)
    if registration is not None and _is_usable(registration):
        return Client(_credentials(registration), registration)
    if registration is not None:
        forget(registration)
    registered = _register(server, metadata, options)
    registration = _keep(server, OAuthRegistration.Kind.DYNAMIC, registered, metadata.issuer)
    return Client(_credentials(registration), registration)


def _register(server: McpServer, metadata: AuthorizationServerMetadata, options: OAuthOptions) -> RegisteredClient:
    _require_no_pause(metadata)
    token = server.initial_access_token
    if token is not None:
        _require_own_issuer(server, metadata)
    method = options.token_endpoint_auth_method

    def ask(application_type: ApplicationType | None) -> RegisteredClient:
        return _request_registration(
            metadata,
            registration_request(
                metadata,
                client_name=settings.CLIENT_NAME,
                redirect_uri=redirect_uri(),
                client_uri=settings.public_url,
                application_type=application_type,
                # A key is not registered this way, so a server set to one is left to choose for itself.
                token_endpoint_auth_method=method if method in AUTH_METHODS else "",
                initial_access_token=token,
            ),
        )

    try:
        return ask(application_type_for(redirect_uri()))
    except _MemberRejected:
        # Some servers reject a member they do not know, so the second try goes without application_type.
        return ask(None)


class _MemberRejected(RegistrationFailed):
    """The server answered 400, which may mean a member it does not know."""


def _request_registration(metadata: AuthorizationServerMetadata, request: HttpRequest) -> RegisteredClient:
    try:
        response = fetch(request)
    except ServerUnreachable as error:
        raise RegistrationFailed(error.user_message, document=request.url) from error
    try:
        return parse_registration_response(
            response, metadata=metadata, requested_method=_method_of(request.body), redirect_uri=redirect_uri()
        )
    except RegistrationFailed as error:
        if error.retry_after is not None:
            _pause(metadata, error.retry_after)
        if response.status != 400:
            raise
        raise _MemberRejected(error.user_message, document=error.document) from error


def _pause(metadata: AuthorizationServerMetadata, seconds: int) -> None:
    """Remember, for every process, that an issuer registers nobody for now."""
    seconds = min(seconds, int(settings.REGISTRATION_MAX_BACKOFF_SECONDS))
    cache.set(_pause_key(metadata), time.time() + seconds, timeout=seconds)


def _require_no_pause(metadata: AuthorizationServerMetadata) -> None:
    """Refuse to ask an issuer again before it said it may be asked.

    Raises:
        RegistrationFailed: with the time that is left.
    """
    until = cache.get(_pause_key(metadata))
    left = math.ceil(until - time.time()) if isinstance(until, float) else 0
    if left > 0:
        raise RegistrationFailed(
            _("The authorization server registers no further clients for now."),
            next_step=registration_pause(left),
            document=metadata.registration_endpoint or metadata.document,
            retry_after=left,
        )


def _pause_key(metadata: AuthorizationServerMetadata) -> str:
    # The endpoint it speaks of: whoever names another issuer's endpoint pauses only what they could use themselves.
    digest = hashlib.sha256(f"{metadata.issuer} {metadata.registration_endpoint}".encode()).hexdigest()
    return f"mcp_oauth.registration_pause.{digest}"


def _method_of(body: bytes) -> str:
    return str(json.loads(body).get("token_endpoint_auth_method", "none"))


def _existing(server: McpServer, kind: OAuthRegistration.Kind, issuer: str) -> OAuthRegistration | None:
    return OAuthRegistration.objects.filter(
        workspace_id=server.workspace_id,
        kind=kind,
        issuer=issuer,
        redirect_uri=redirect_uri(),
        forgotten_at__isnull=True,
    ).first()


def _is_usable(registration: OAuthRegistration) -> bool:
    expires = registration.client_secret_expires_at
    if expires is not None and expires <= timezone.now():
        return False
    try:
        public = registration.token_endpoint_auth_method == "none"  # noqa: S105  (a method's name)
        return public or registration.client_secret is not None
    except SecretUnreadable:
        return False


def _keep(server: McpServer, kind: OAuthRegistration.Kind, client: RegisteredClient, issuer: str) -> OAuthRegistration:
    """Store a client; of two processes that registered at once, the first one's client is used by both."""
    existing = _existing(server, kind, issuer)
    if existing is not None and existing.client_id == client.client_id:
        return existing
    if existing is not None and kind == OAuthRegistration.Kind.CIMD:
        existing.delete()  # the document moved to another address
    expires_at = client.client_secret_expires_at
    registration = OAuthRegistration(
        workspace_id=server.workspace_id,
        kind=kind,
        issuer=issuer,
        redirect_uri=redirect_uri(),
        client_id=client.client_id,
        client_secret=client.client_secret,
        # RFC 7591 §3.2.1: zero means that the secret does not expire.
        client_secret_expires_at=datetime.fromtimestamp(expires_at, UTC) if expires_at else None,
        token_endpoint_auth_method=client.token_endpoint_auth_method,
    )
    try:
        with transaction.atomic():
            registration.save(force_insert=True)
    except IntegrityError:
        winner = _existing(server, kind, issuer)
        if winner is None:
            raise
        return winner
    return registration


def _credentials(registration: OAuthRegistration) -> ClientCredentials:
    return ClientCredentials(
        registration.client_id,
        registration.client_secret,
        registration.token_endpoint_auth_method,
        registration.issuer,
    )
