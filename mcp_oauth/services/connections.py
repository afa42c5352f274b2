"""Connecting and disconnecting a person's account: who may, where they are sent, and what ends it."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import AuthorizationRequired, ConfigurationError, McpOAuthError, NotAllowed
from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth, Membership
from mcp_oauth.oauth.authorization import (
    authorization_url,
    new_code_verifier,
    new_state,
    select_resource,
    select_scope,
    state_hash,
)
from mcp_oauth.oauth.dpop import binds_to_key
from mcp_oauth.services import grants
from mcp_oauth.services.discovery import discover
from mcp_oauth.services.flows import bound_open_flows, browser_hash
from mcp_oauth.services.probe_records import record_probe
from mcp_oauth.services.probes import probe
from mcp_oauth.services.registrations import client_for, redirect_uri
from mcp_oauth.services.removal import require_in_use
from mcp_oauth.services.revocation import end_grant
from mcp_oauth.services.server_options import options_of
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
    require_oauth(target)
    require_owner(target, user)
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


def decline_step_up(server: McpServer | uuid.UUID | str, user: Person) -> McpServer:
    """Stop offering the additional access a tool asked for; it is offered again when a tool asks again.

    Raises:
        NotFound: no such server for this person.
    """
    target = server_for(user, server)
    require_owner(target, user)
    McpServerOAuth.objects.filter(server_id=target.pk, user_id=target.grant_owner(user.pk)).update(wanted_scope="")
    return target


def disconnect(server: McpServer | uuid.UUID | str, user: Person) -> Disconnected:
    """End the person's own grant at a server: revoke it upstream as far as possible, then forget it.

    The row goes whatever the authorization server answers.

    Raises:
        NotFound: no such server for this person.
    """
    target = server_for(user, server)
    require_owner(target, user)
    grant = grants.find_grant(target, user)
    if grant is None:
        # Nothing to revoke; what is under way ends all the same.
        AuthorizationFlow.objects.filter(server_id=target.pk, user_id=user.pk).delete()
        return Disconnected(target, False, None)
    return Disconnected(target, True, end_grant(grant, actor=user))


def require_oauth(server: McpServer) -> None:
    """Refuse a server that people do not connect to, or not now.

    Raises:
        ConfigurationError: it does not use OAuth, is disabled, or is being removed.
    """
    require_in_use(server)
    if server.auth_mode != McpServer.AuthMode.OAUTH:
        raise ConfigurationError(_("%(server)s does not use OAuth.") % {"server": server.name})


def require_owner(server: McpServer, user: Person) -> None:
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
