"""Turning the authorization server's answer into a grant: the second of the two requests of a connection."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.exceptions import (
    AccessDenied,
    AuthorizationFailed,
    CallbackRefused,
    InvalidClient,
    McpOAuthError,
    NotFound,
    SecretUnreadable,
)
from mcp_oauth.models import AuthorizationFlow, Event, McpServer, McpServerOAuth, StoredListing
from mcp_oauth.oauth.authorization import ExpectedCallback, ValidatedCallback, validate_callback
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.dpop import new_dpop_key
from mcp_oauth.oauth.registration import ClientCredentials
from mcp_oauth.oauth.token import TokenSet, code_request, parse_token_response
from mcp_oauth.services import listings, step_up
from mcp_oauth.services.connections import require_oauth, require_owner
from mcp_oauth.services.events import record
from mcp_oauth.services.flows import consume, find_flow, require_same_person
from mcp_oauth.services.registrations import Client, client_for, forget
from mcp_oauth.services.renewal import store_tokens
from mcp_oauth.services.server_options import opt_outs_of, options_of
from mcp_oauth.services.wire import end_sessions, fetch_tokens
from mcp_oauth.services.workspaces import Person, server_for


@dataclass(frozen=True)
class Connected:
    """A finished authorization."""

    flow_id: uuid.UUID
    server: McpServer
    grant: McpServerOAuth


def finish_authorization(user: Person, *, browser: str, parameters: Mapping[str, Sequence[str]]) -> Connected:
    """Turn an authorization response into a grant.

    ``parameters`` is the callback's whole query. The flow is used up before the code is exchanged, so that of two
    callbacks one at most reaches the token endpoint. When anything fails, an earlier grant stays as it was.

    Raises:
        CallbackRefused: the response belongs to no open flow of this person and browser, or to another issuer.
        AccessDenied: the authorization server or the person said no.
        NotFound, ConfigurationError: the person or the server may no longer do this.
        TokenRequestFailed: the code could not be exchanged.
    """
    flow = find_flow(parameters)
    try:
        return _finish(flow, user, browser, parameters)
    except McpOAuthError as error:
        reason = str(getattr(error, "reason", ""))
        # A page that is opened again is no event; everything else of a flow of ours is.
        if reason not in {"used", "expired"}:
            record(
                Event.Kind.CONNECTION_FAILED,
                flow.server,
                user_id=flow.user_id,
                actor=user,
                outcome=error.code,
                reason=reason,
                issuer=flow.issuer,
            )
        raise


def _finish(flow: AuthorizationFlow, user: Person, browser: str, parameters: Mapping[str, Sequence[str]]) -> Connected:
    require_same_person(flow, user, browser)
    consume(flow)
    try:
        server = server_for(user, flow.server)
    except NotFound as error:
        raise NotFound(
            _("You no longer belong to the workspace of %(server)s, so nothing was connected.")
            % {"server": flow.server.name},
            next_step=_("Ask one of its administrators to add you again."),
        ) from error
    require_oauth(server)
    require_owner(server, user)
    if flow.server_generation != server.generation:
        raise CallbackRefused(
            _("%(server)s was changed while you were away.") % {"server": server.name},
            reason="server_changed",
            next_step=_("Connect again; you then see what it has become."),
        )
    metadata = AuthorizationServerMetadata.from_json(flow.metadata)
    try:
        verifier = flow.code_verifier
    except SecretUnreadable as error:
        raise CallbackRefused(_("This attempt to connect can no longer be completed."), reason="expired") from error
    try:
        callback = validate_callback(
            parameters,
            ExpectedCallback(
                state_hash=flow.state_hash,
                issuer=flow.issuer,
                iss_supported=metadata.authorization_response_iss_parameter_supported,
                redirect_uri=flow.redirect_uri,
                code_verifier=verifier or "",
            ),
        )
    except AccessDenied as error:
        if error.oauth_error != "access_denied":
            # The server refused, not the person, who may still change their mind.
            _count_step_up(flow)
        raise
    client = _client_of(flow, server)
    dpop_key = new_dpop_key() if flow.binds_to_key else None
    tokens = _exchange(callback, metadata, client, flow, dpop_key)
    grant = _store(flow, server, metadata, client, tokens, dpop_key)
    return Connected(flow.pk, server, grant)


def _client_of(flow: AuthorizationFlow, server: McpServer) -> Client:
    """Return the client the flow was started with.

    Raises:
        CallbackRefused: it was replaced meanwhile; its code is of no use to another client.
    """
    changed = CallbackRefused(
        _("The settings of %(server)s changed while you were away.") % {"server": server.name}, reason="server_changed"
    )
    if flow.registration is not None:
        registration = flow.registration
        if registration.client_id != flow.client_id or registration.issuer != flow.issuer:
            raise changed
        secret, method = registration.client_secret, registration.token_endpoint_auth_method
        return Client(ClientCredentials(flow.client_id, secret, method, flow.issuer), registration)
    if server.client_id != flow.client_id or server.client_issuer != flow.issuer:
        raise changed
    return client_for(server, AuthorizationServerMetadata.from_json(flow.metadata), options_of(server))


def _exchange(
    callback: ValidatedCallback,
    metadata: AuthorizationServerMetadata,
    client: Client,
    flow: AuthorizationFlow,
    dpop_key: str | None,
) -> TokenSet:
    response = fetch_tokens(
        lambda shape: code_request(
            callback,
            token_endpoint=metadata.token_endpoint,
            client=client.credentials,
            resource=flow.resource or None,
            basic_shape=shape,
        ),
        dpop_key=dpop_key,
    )
    try:
        # A server that announces DPoP may have bound nothing for this client; its answer says so.
        return parse_token_response(
            response, now=time.time(), requested_scope=flow.scope, expected_type="any" if dpop_key else "Bearer"
        )
    except InvalidClient:
        # The server forgot a client it registered: the next attempt registers a new one.
        if client.registration is not None:
            forget(client.registration)
        raise


def _store(
    flow: AuthorizationFlow,
    server: McpServer,
    metadata: AuthorizationServerMetadata,
    client: Client,
    tokens: TokenSet,
    dpop_key: str | None,
) -> McpServerOAuth:
    """Put the new grant in the place of the old one; a refresh that is under way loses against it."""
    owner = server.grant_owner(flow.user_id)
    facts = {
        "server_generation": flow.server_generation,
        "issuer": metadata.issuer,
        "resource": flow.resource,
        "token_endpoint": metadata.token_endpoint,
        "revocation_endpoint": metadata.revocation_endpoint or "",
        "client_id": flow.client_id,
        "token_endpoint_auth_method": client.credentials.token_endpoint_auth_method,
        "registration": client.registration,
        "dpop_key": dpop_key,
        "connected_at": timezone.now(),
        "refreshed_at": None,
        "lease_id": None,
        "lease_expires_at": None,
    }
    for _attempt in range(2):
        try:
            with transaction.atomic():
                # The row changes only while the server still is what the person agreed to.
                if not McpServer.objects.filter(pk=server.pk, generation=flow.server_generation).exists():
                    raise CallbackRefused(
                        _("%(server)s was changed while you were away.") % {"server": server.name},
                        reason="server_changed",
                    )
                # A person who disconnected during the exchange ended this flow with the rest.
                if AuthorizationFlow.objects.select_for_update().filter(pk=flow.pk).first() is None:
                    raise CallbackRefused(
                        _("This attempt to connect was ended while it was being completed."), reason="unknown_state"
                    )
                rows = McpServerOAuth.objects.filter(server_id=server.pk, user_id=owner)
                rows.update(version=F("version") + 1)  # takes the row before it is read, on every database
                grant = rows.select_related("server").first()
                if grant is None:
                    grant = McpServerOAuth(server=server, user_id=owner)
                for name, value in facts.items():
                    setattr(grant, name, value)
                store_tokens(grant, tokens)
                step_up.count_request(grant, flow.step_up_scope)
                grant.save()
                listings.forget(StoredListing.objects.filter(server_id=server.pk, user_id=owner))
                # The row is the same, and whoever connected may now be somebody else at the server.
                end_sessions(grant_id=grant.pk)
                record(
                    Event.Kind.CONNECTED,
                    server,
                    grant=grant,
                    actor=flow.user,
                    issuer=grant.issuer,
                    client_id=grant.client_id,
                    scope=grant.scope,
                    stepped_up=flow.step_up_scope,
                    resource=grant.resource,
                    opt_outs=opt_outs_of(server),
                )
        except IntegrityError:
            continue  # the first two callbacks of this person raced; the row exists now
        return grant
    raise AuthorizationFailed(_("The connection could not be stored."))


def _count_step_up(flow: AuthorizationFlow) -> None:
    """Count a step-up the authorization server refused; the grant itself stays as it is."""
    with transaction.atomic():
        owner = flow.server.grant_owner(flow.user_id)
        rows = McpServerOAuth.objects.select_for_update().filter(server_id=flow.server_id, user_id=owner)
        grant = rows.first()
        if grant is not None and flow.step_up_scope:
            step_up.count_request(grant, flow.step_up_scope)
            grant.save(update_fields=["wanted_scope", "step_up_attempts"])
