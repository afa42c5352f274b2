"""Renews one grant: under a lease, by compare-and-set, with every refusal told apart."""

from __future__ import annotations

import logging
import random
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import (
    AuthorizationFailed,
    ConfigurationError,
    InvalidClient,
    InvalidGrant,
    McpOAuthError,
    SecretUnreadable,
    ServerUnreachable,
    TokenEndpointUnavailable,
    TokenRequestFailed,
)
from mcp_oauth.models import Event, McpServerOAuth
from mcp_oauth.oauth.token import TokenSet, parse_token_response, refresh_request
from mcp_oauth.services.enterprise import SignInNeeded
from mcp_oauth.services.events import record
from mcp_oauth.services.registrations import credentials_of, forget
from mcp_oauth.services.unattended import request_unattended
from mcp_oauth.services.wire import end_sessions, fetch_tokens

logger = logging.getLogger(__name__)


class LostRace(Exception):
    """The row changed meanwhile; whoever changed it decides."""


def take_lease(grant: McpServerOAuth) -> uuid.UUID | None:
    """Become the one who may renew this version of the row now: one conditional UPDATE, on any database."""
    now = timezone.now()
    lease = uuid.uuid4()
    unattended = grant.server.is_unattended
    seconds = settings.UNATTENDED_LEASE_SECONDS if unattended else settings.REFRESH_LEASE_SECONDS
    taken = (
        McpServerOAuth.objects.filter(pk=grant.pk, version=grant.version, state=McpServerOAuth.State.ACTIVE)
        .filter(Q(lease_id__isnull=True) | Q(lease_expires_at__lte=now))
        .filter(may_be_asked(now))
        .update(lease_id=lease, lease_expires_at=now + timedelta(seconds=seconds))
    )
    return lease if taken else None


def may_be_asked(now: datetime) -> Q:
    """Select the grants whose token endpoint is not being left alone after a failure."""
    return Q(refresh_not_before__isnull=True) | Q(refresh_not_before__lte=now)


def _put_off(grant: McpServerOAuth, lease: uuid.UUID, error: McpOAuthError) -> None:
    """Give the lease back after a failure that passes, and leave the token endpoint alone for a while.

    Every caller and host would else ask a server that is down, one after the other, for as long as it is down.
    """
    doubled = settings.REFRESH_BACKOFF_SECONDS * 2 ** min(grant.refresh_failures, 16)
    asked_for = getattr(error, "retry_after", None) or 0
    pause = min(max(doubled, asked_for), settings.REFRESH_MAX_BACKOFF_SECONDS)
    # Grants that failed together are not tried again together; never sooner than the server asked for.
    pause *= random.uniform(1.0, 1.2)  # noqa: S311  (no secret)
    with transaction.atomic():
        kept = McpServerOAuth.objects.filter(pk=grant.pk, lease_id=lease).update(
            lease_id=None,
            lease_expires_at=None,
            refresh_failures=F("refresh_failures") + 1,
            refresh_not_before=timezone.now() + timedelta(seconds=pause),
        )
        if kept:
            record(
                Event.Kind.REFRESH_FAILED,
                grant.server,
                grant=grant,
                outcome=error.code,
                message=error.user_message,
                document=error.document,
                seconds_until_next_try=round(pause, 1),
            )


def renew(grant: McpServerOAuth, lease: uuid.UUID) -> None:
    """Ask the recorded token endpoint for a new token and store it, under a lease the caller holds.

    A refusal that only a person can mend ends the grant, provided the row still holds the token that failed.
    On return the row has changed; read it again.

    Raises:
        TokenEndpointUnavailable: try later; the grant is kept.
        ServerUnreachable: the same, without an answer.
        LostRace: somebody else changed the row meanwhile.
    """
    facts: dict[str, Any] = {}
    try:
        if grant.server.is_unattended:
            tokens, facts = request_unattended(grant)
        else:
            tokens = _refresh(grant)
    except (TokenEndpointUnavailable, ServerUnreachable) as error:
        _put_off(grant, lease, error)
        raise
    except SecretUnreadable:
        needs_person(grant, "unreadable")
    except SignInNeeded as error:
        needs_person(grant, "sign_in_again", subject_digest=error.digest)
    except InvalidGrant:
        needs_person(grant, "revoked")
    except InvalidClient:
        # A client the server forgot is registered anew when the person reconnects; its refresh tokens died with it.
        if grant.registration is not None:
            forget(grant.registration)
        needs_person(grant, "client_forgotten")
    except ConfigurationError as error:
        # Nobody was asked: the client went away when a colleague's refresh found it forgotten, or was replaced.
        logger.info("grant %s cannot be asked for: %s", grant.pk, error)
        needs_person(grant, "misconfigured" if grant.server.is_unattended else "client_forgotten")
    except TokenRequestFailed as error:
        logger.info("refresh of grant %s refused: %s", grant.pk, error.code)
        needs_person(grant, "refused")
    except AuthorizationFailed as error:
        # The documents of an unattended identity's authorization server are not in order right now.
        _put_off(grant, lease, error)
        raise TokenEndpointUnavailable(error.user_message, document=error.document) from error
    else:
        _store_renewed(grant, tokens, facts)


def _refresh(grant: McpServerOAuth) -> TokenSet:
    refresh_token = grant.refresh_token
    if refresh_token is None:
        raise InvalidGrant(_("There is no refresh token."))
    # The option is not asked: a refresh token that was bound to a key stays bound to it.
    client, key = credentials_of(grant), grant.dpop_key
    response = fetch_tokens(
        lambda shape: refresh_request(
            refresh_token,
            token_endpoint=grant.token_endpoint,
            client=client,
            resource=grant.resource or None,
            basic_shape=shape,
        ),
        dpop_key=key,
    )
    return parse_token_response(
        response, now=time.time(), requested_scope=grant.scope, expected_type="any" if key else "Bearer"
    )


def store_tokens(grant: McpServerOAuth, tokens: TokenSet, *, keep_refresh_token: bool = False) -> None:
    """Write a fresh token set onto an unsaved or locked grant row (the caller saves it)."""
    now = timezone.now()
    grant.access_token = tokens.access_token
    grant.token_type = tokens.token_type
    if tokens.refresh_token is not None or not keep_refresh_token:
        grant.refresh_token = tokens.refresh_token
    grant.expires_at = None if tokens.expires_at is None else datetime.fromtimestamp(tokens.expires_at, UTC)
    grant.lifetime_seconds = None if grant.expires_at is None else max(0.0, (grant.expires_at - now).total_seconds())
    if tokens.scope is not None:
        grant.scope = tokens.scope
    if tokens.account or not keep_refresh_token:  # a renewal need not say again whose account it is
        grant.account = tokens.account
    grant.state = McpServerOAuth.State.ACTIVE
    grant.reason = ""
    grant.reason_at = None
    grant.refresh_failures = 0
    grant.refresh_not_before = None


TOKEN_FIELDS = [
    "access_token",
    "token_type",
    "refresh_token",
    "expires_at",
    "lifetime_seconds",
    "scope",
    "account",
    "state",
    "reason",
    "reason_at",
    "refresh_failures",
    "refresh_not_before",
]


def _store_renewed(grant: McpServerOAuth, tokens: TokenSet, facts: dict[str, Any]) -> None:
    # The version alone decides: a lease that ran out while the answer was on its way must not lose a rotated token.
    with transaction.atomic():
        won = McpServerOAuth.objects.filter(pk=grant.pk, version=grant.version).update(
            version=grant.version + 1, lease_id=None, lease_expires_at=None, refreshed_at=timezone.now()
        )
        if not won:
            raise LostRace
        store_tokens(grant, tokens, keep_refresh_token=True)
        for name, value in facts.items():
            setattr(grant, name, value)
        grant.save(update_fields=[*TOKEN_FIELDS, *facts])
        first = grant.refreshed_at is None and grant.server.is_unattended
        record(
            Event.Kind.CONNECTED if first else Event.Kind.REFRESHED,
            grant.server,
            grant=grant,
            scope=grant.scope,
            issuer=grant.issuer,
            expires_at="" if grant.expires_at is None else grant.expires_at.isoformat(timespec="seconds"),
            rotated=tokens.refresh_token is not None,
        )


def needs_person(grant: McpServerOAuth, reason: str, **facts: Any) -> None:
    """Mark a grant as needing a person, if the row is still the one that failed; ``facts`` are further columns."""
    with transaction.atomic():
        ended = McpServerOAuth.objects.filter(pk=grant.pk, version=grant.version).update(
            version=grant.version + 1,
            state=McpServerOAuth.State.NEEDS_REAUTHORIZATION,
            reason=reason,
            reason_at=timezone.now(),
            lease_id=None,
            lease_expires_at=None,
            **facts,
        )
        if ended:
            end_sessions(grant_id=grant.pk)
            record(Event.Kind.REAUTHORIZATION_NEEDED, grant.server, grant=grant, outcome=reason, issuer=grant.issuer)
