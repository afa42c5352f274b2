"""Connecting and disconnecting a person's account: the OAuth flow, split over two requests."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import (
    AccessDenied,
    AuthorizationFailed,
    AuthorizationRequired,
    CallbackRefused,
    ConfigurationError,
    InvalidClient,
    McpOAuthError,
    NotAllowed,
    NotFound,
    SecretUnreadable,
)
from mcp_oauth.models import AuthorizationFlow, Event, McpServer, McpServerOAuth, Membership, StoredListing
from mcp_oauth.oauth.authorization import (
    ExpectedCallback,
    ValidatedCallback,
    authorization_url,
    new_code_verifier,
    new_state,
    select_resource,
    select_scope,
    state_hash,
    validate_callback,
)
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.dpop import binds_to_key, new_dpop_key
from mcp_oauth.oauth.registration import ClientCredentials
from mcp_oauth.oauth.token import TokenSet, code_request, parse_token_response
from mcp_oauth.services import grants, listings, step_up
from mcp_oauth.services.discovery import discover
from mcp_oauth.services.events import record
from mcp_oauth.services.flows import bound_open_flows, browser_hash, consume, find_flow, require_same_person
from mcp_oauth.services.probe_records import record_probe
from mcp_oauth.services.probes import probe
from mcp_oauth.services.registrations import Client, client_for, forget, redirect_uri
from mcp_oauth.services.removal import require_in_use
from mcp_oauth.services.renewal import store_tokens
from mcp_oauth.services.revocation import end_grant
from mcp_oauth.services.server_options import opt_outs_of, options_of
from mcp_oauth.services.wire import end_sessions, fetch_tokens
from mcp_oauth.services.workspaces import Person, server_for

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AuthorizationStart:
    """Where to send the person; ``status`` is ``already_authorized`` when there is nothing to do."""

    status: Literal["redirect", "already_authorized"]
    server: McpServer
    flow_id: uuid.UUID | None = None
    # Contains the state, which opens the flow together with the person's session.
    authorization_url: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ()

    @property
    def destination_host(self) -> str:
        """The host the person is about to see."""
        return urlsplit(self.authorization_url).netloc


@dataclass(frozen=True)
class Connected:
    """A finished authorization."""

    flow_id: uuid.UUID
    server: McpServer
    grant: McpServerOAuth


@dataclass(frozen=True)
class Disconnected:
    """A grant that is gone; ``revoked`` says whether the authorization server confirmed it."""

    server: McpServer
    existed: bool
    revoked: bool | None


def start_authorization(
    server: McpServer | uuid.UUID | str, user: Person, *, browser: str, again: bool = False
) -> AuthorizationStart:
    """Open a flow for one person and browser and return where to send them.

    ``browser`` is a secret kept in the person's session; the callback must come with the same one. ``again``
    starts even if a working grant exists; that grant stays as it is until the new one is there. When a tool asked
    for more than the grant holds, the flow asks for both (step-up).

    Raises:
        NotFound: no such server for this person.
        ConfigurationError: the server does not use OAuth, is disabled, or its options cannot work.
        DiscoveryFailed, RegistrationRequired, RegistrationFailed: the authorization server cannot be used.
    """
    target = server_for(user, server)
    _require_oauth(target)
    _require_owner(target, user)
    grant = grants.find_grant(target, user)
    step_up_scope = grant.wanted_scope if grant is not None and grant.is_active else ""
    if not again and not step_up_scope and _works_already(target, user):
        return AuthorizationStart("already_authorized", target)
    bound_open_flows(user)

    options = options_of(target)
    if opt_outs := options.opt_outs():
        logger.warning("connecting to server %s without these checks: %s", target.pk, ", ".join(opt_outs))
    report = probe(target.url, options)
    try:
        if report.auth_mode is None and report.error is not None:
            raise report.error
        found = discover(
            target.url, report.challenge, options, report.evidence, resource_metadata=report.resource_metadata
        )
    finally:
        # However it ended, the steps are there to be looked at.
        record_probe(target, report, keep_auth_mode=True)
    metadata = found.authorization_server
    client = client_for(target, metadata, options)
    scope = select_scope(
        options,
        report.challenge.scope if report.challenge else None,
        found.resource_metadata,
        metadata,
        previously_granted=f"{grant.scope} {step_up_scope}" if grant is not None and step_up_scope else "",
    )
    resource = select_resource(options, found.resource_metadata, target.url, metadata)

    state, verifier = new_state(), new_code_verifier()
    now = timezone.now()
    flow = AuthorizationFlow(
        server=target,
        user_id=user.pk,
        server_generation=target.generation,
        state_hash=state_hash(state),
        browser_hash=browser_hash(browser),
        code_verifier=verifier,
        issuer=metadata.issuer,
        metadata=metadata.to_json(),
        redirect_uri=redirect_uri(),
        resource=resource or "",
        scope=scope,
        step_up_scope=step_up_scope,
        client_id=client.credentials.client_id,
        binds_to_key=binds_to_key(metadata, options, report.challenge, found.resource_metadata),
        registration=client.registration,
        created_at=now,
        expires_at=now + timedelta(seconds=settings.FLOW_SECONDS),
    )
    url = authorization_url(
        metadata,
        client_id=flow.client_id,
        redirect_uri=flow.redirect_uri,
        state=state,
        code_verifier=verifier,
        scope=scope,
        resource=resource,
        options=options,
    )
    flow.save(force_insert=True)
    return AuthorizationStart("redirect", target, flow.pk, url, tuple(scope.split()))


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
    _require_oauth(server)
    _require_owner(server, user)
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


def decline_step_up(server: McpServer | uuid.UUID | str, user: Person) -> McpServer:
    """Stop offering the additional access a tool asked for; it is offered again when a tool asks again.

    Raises:
        NotFound: no such server for this person.
    """
    target = server_for(user, server)
    _require_owner(target, user)
    McpServerOAuth.objects.filter(server_id=target.pk, user_id=target.grant_owner(user.pk)).update(wanted_scope="")
    return target


def disconnect(server: McpServer | uuid.UUID | str, user: Person) -> Disconnected:
    """End the person's own grant at a server: revoke it upstream as far as possible, then forget it.

    The row goes whatever the authorization server answers.

    Raises:
        NotFound: no such server for this person.
    """
    target = server_for(user, server)
    _require_owner(target, user)
    grant = grants.find_grant(target, user)
    if grant is None:
        # Nothing to revoke; what is under way ends all the same.
        AuthorizationFlow.objects.filter(server_id=target.pk, user_id=user.pk).delete()
        return Disconnected(target, False, None)
    return Disconnected(target, True, end_grant(grant, actor=user))


def _require_oauth(server: McpServer) -> None:
    require_in_use(server)
    if server.auth_mode != McpServer.AuthMode.OAUTH:
        raise ConfigurationError(_("%(server)s does not use OAuth.") % {"server": server.name})


def _require_owner(server: McpServer, user: Person) -> None:
    """Refuse members where one connection serves everybody: it is an administrator's to make and to end.

    Raises:
        NotAllowed: the person is no administrator of the workspace.
    """
    if not server.grant_is_shared:
        return
    admins = Membership.objects.filter(workspace_id=server.workspace_id, role=Membership.Role.ADMIN)
    if not admins.filter(user_id=user.pk).exists():
        raise NotAllowed(
            _("The connection to %(server)s is shared by the workspace; an administrator makes and ends it.")
            % {"server": server.name}
        )


def _works_already(server: McpServer, user: Person) -> bool:
    try:
        grants.usable_grant(server, user)
    except AuthorizationRequired:
        return False
    except McpOAuthError:
        # The grant is kept while its authorization server is away; a new attempt may still succeed.
        return False
    return True


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
