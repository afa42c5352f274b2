"""Says which token is good now, and when a person is needed."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import F, FilteredRelation, Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import (
    AuthorizationRequired,
    CredentialsRefused,
    InsufficientScope,
    McpOAuthError,
    SecretUnreadable,
    ServerUnreachable,
    TokenEndpointUnavailable,
)
from mcp_oauth.models import McpServer, McpServerOAuth
from mcp_oauth.models.prepared import Given, PreparedPair, PreparedQuery
from mcp_oauth.services import renewal_ends, unattended
from mcp_oauth.services.renewal import LostRace, may_be_asked, needs_person, renew, take_lease
from mcp_oauth.services.workspaces import Person, found_for_member, server_to_use, to_use_by_key, to_use_by_name

logger = logging.getLogger(__name__)

# The longest pause between two looks, in multiples of the first one.
_LONGEST_PAUSE = 8


# What says whether a token is good now, and the token.
_READY = (
    "server_id",
    "user_id",
    "version",
    "state",
    "reason",
    "server_generation",
    "connected_at",
    "scope",
    "access_token",
    "token_type",
    "dpop_key",
    "expires_at",
    "lifetime_seconds",
)


@dataclass(frozen=True)
class UsableGrant:
    """An access token that is good now, and the version of the row it came from.

    A row outlives its authorization: a person who connects anew may be another account at the server. What was learned
    with a grant therefore belongs to ``grant_id`` and ``connected_at`` together.
    """

    grant_id: uuid.UUID
    connected_at: datetime
    version: int
    scope: str
    access_token: str = field(repr=False)
    # The key the access token is bound to; None for a bearer token.
    dpop_key: str | None = field(default=None, repr=False)


def find_grant(server: McpServer, user: Person) -> McpServerOAuth | None:
    """Return the grant that serves a person at a server, their own or the workspace's, whatever its state."""
    return (
        McpServerOAuth.objects.select_related("server", "registration")
        .filter(server_id=server.pk, user_id=server.grant_owner(user.pk))
        .first()
    )


def ready_grant(server: McpServer, user: Person) -> UsableGrant | None:
    """Return a token that is good now and not due to be renewed; ``None`` where anything has to be done first."""
    # On the way of every call: what a renewal would need as well is left in the database.
    owner = server.grant_owner(user.pk)
    grant = _SHARED.first(server=server.pk) if owner is None else _OWN.first(server=server.pk, user=owner)
    return None if grant is None else _ready(grant, server)


def server_with_grant(user: Person, reference: McpServer | uuid.UUID | str) -> tuple[McpServer, UsableGrant | None]:
    """Return what `server_to_use` does, and the person's own grant from the same statement where it is good now.

    ``None`` in its place says nothing: it is still to be looked up.

    Raises:
        NotFound: as `server_to_use`.
    """
    if isinstance(reference, McpServer):
        return server_to_use(user, reference), None
    server, own = found_for_member(user, reference, _BY_KEY, _BY_NAME)
    # A row of the person's may be left from before the server was opened otherwise.
    if own is None or not server.uses_grants or server.grant_is_shared:
        return server, None
    return server, _ready(own, server)


def ready_grants(servers: Iterable[McpServer], user: Person) -> dict[uuid.UUID, UsableGrant | AuthorizationRequired]:
    """Return, by server, a token that is good now, or why a person is needed; one query for all of them.

    Servers are left out that use no grants, and those where anything has to be done first (`usable_grant` does it).
    """
    wanted = {server.pk: server for server in servers if server.uses_grants}
    if not wanted:
        return {}
    rows = McpServerOAuth.objects.filter(Q(user_id=user.pk) | Q(user__isnull=True), server_id__in=wanted).order_by()
    found = {
        row.server_id: row for row in rows.only(*_READY) if row.user_id == wanted[row.server_id].grant_owner(user.pk)
    }
    known: dict[uuid.UUID, UsableGrant | AuthorizationRequired] = {}
    for pk, server in wanted.items():
        grant = found.get(pk)
        usable = None if grant is None else _ready(grant, server)
        if usable is not None:
            known[pk] = usable
        elif not server.is_unattended and (reason := _reason_for_person(grant, server)):
            known[pk] = authorization_required(server, reason)
    return known


def _ready(grant: McpServerOAuth, server: McpServer) -> UsableGrant | None:
    if not grant.is_active or grant.server_generation != server.generation:
        return None
    if _has_ended(grant) or is_due(grant):
        return None
    try:
        return _opened(grant)
    except SecretUnreadable:
        return None


def _of_server() -> QuerySet[McpServerOAuth]:
    return McpServerOAuth.objects.filter(server_id=Given(McpServerOAuth, "server")).only(*_READY).order_by()


_OWN = PreparedQuery(McpServerOAuth, lambda: _of_server().filter(user_id=Given(McpServerOAuth, "user")))
_SHARED = PreparedQuery(McpServerOAuth, lambda: _of_server().filter(user__isnull=True))


def _with_own(servers: QuerySet[McpServer]) -> QuerySet[McpServer]:
    its_person = Q(grants__user_id=Given(McpServerOAuth, "user"))
    own = FilteredRelation("grants", condition=its_person)
    return servers.annotate(own=own).annotate(**PreparedPair.beside(McpServerOAuth, "own", _READY))


_BY_KEY = PreparedPair(McpServer, McpServerOAuth, lambda: _with_own(to_use_by_key()))
_BY_NAME = PreparedPair(McpServer, McpServerOAuth, lambda: _with_own(to_use_by_name()))


def _reason_for_person(grant: McpServerOAuth | None, server: McpServer) -> str:
    """Return why only the person can help, as far as the row alone says it."""
    if grant is None:
        return "not_connected"
    if not grant.is_active:
        return grant.reason or "revoked"
    return "server_changed" if grant.server_generation != server.generation else ""


def usable_grant(server: McpServer, user: Person, *, rejected_version: int | None = None) -> UsableGrant:
    """Return a token that is good for a call now, renewing it when it is due.

    ``rejected_version`` names the row version whose token the server has just answered with 401: a newer row is
    used as it is, the same one is renewed once. Of many callers one renews; the others go on with the old token
    while it lasts, or wait for the new one.

    Raises:
        AuthorizationRequired: only a person can mend it.
        CredentialsRefused: only an administrator can, because an identity nobody has to agree to is refused.
        TokenEndpointUnavailable: the token has ended and cannot be renewed for now.
    """
    deadline = time.monotonic() + settings.REFRESH_WAIT_SECONDS
    opened = renewed = reopened = False
    pause_before_looking = settings.REFRESH_POLL_SECONDS
    while True:
        ended_so_far = renewal_ends.so_far()
        grant = find_grant(server, user)
        # Once: where the person or the server has gone meanwhile, no row can be made.
        if grant is None and server.is_unattended and not opened:
            unattended.open_row(server, user)
            opened = True
            continue
        if grant is None:
            raise authorization_required(server, "not_connected")
        if server.is_unattended and not reopened and unattended.may_try_again(grant, server):
            unattended.reopen(grant, server)
            reopened = True
            continue
        if not grant.is_active and server.is_unattended:
            if grant.reason == "sign_in_again":
                raise authorization_required(server, grant.reason)
            raise identity_refused(server)
        if reason := _reason_for_person(grant, server):
            raise authorization_required(server, reason)
        try:
            usable, renewable = _opened(grant), server.is_unattended or grant.refresh_token is not None
        except SecretUnreadable:
            needs_person(grant, "unreadable")
            continue
        rejected = rejected_version is not None and grant.version <= rejected_version
        # What this call has just renewed is tried whatever its lifetime says: one of zero would be renewed for ever.
        still_good = usable is not None and not rejected and (renewed or not _has_ended(grant))
        if usable is not None and still_good and (renewed or not (renewable and is_due(grant))):
            return usable
        if not renewable:
            # "rejected" would say that the token had just been renewed.
            needs_person(grant, "revoked" if rejected else "expired")
            continue
        pause = _pause_left(grant)
        if pause > 0 and usable is not None and still_good:
            return usable
        if pause > 0:
            raise TokenEndpointUnavailable(
                _("The access to %(server)s cannot be renewed for now.") % {"server": server.name},
                document=grant.token_endpoint,
                retry_after=math.ceil(pause),
            )
        lease = take_lease(grant)
        if lease is not None:
            try:
                renew(grant, lease)
                renewed = True
            except (TokenEndpointUnavailable, ServerUnreachable):
                if usable is None or not still_good:
                    raise
                return usable
            except LostRace:
                logger.debug("grant %s changed while it was renewed", grant.pk)
            finally:
                renewal_ends.tell()
            continue
        if usable is not None and still_good:
            return usable
        if time.monotonic() > deadline:
            raise TokenEndpointUnavailable(
                _("The access to %(server)s is being renewed and that takes too long.") % {"server": server.name},
                document=grant.token_endpoint,
            )
        renewal_ends.wait(ended_so_far, seconds=pause_before_looking)
        # A renewal of another process that takes long is looked at less often: each look costs others their turn.
        pause_before_looking = min(2 * pause_before_looking, _LONGEST_PAUSE * settings.REFRESH_POLL_SECONDS)


def _pause_left(grant: McpServerOAuth) -> float:
    """Return for how many seconds the token endpoint is still left alone after a failure."""
    if grant.refresh_not_before is None:
        return 0.0
    return max(0.0, (grant.refresh_not_before - timezone.now()).total_seconds())


def is_due(grant: McpServerOAuth, *, within: float = 0.0) -> bool:
    """Whether the access token ends within the refresh skew, or within ``within`` seconds if that is more."""
    if grant.expires_at is None:
        return False
    skew = settings.REFRESH_SKEW_SECONDS
    if grant.lifetime_seconds is not None:
        skew = min(skew, grant.lifetime_seconds * settings.REFRESH_SKEW_FRACTION)
    return grant.expires_at <= timezone.now() + timedelta(seconds=max(skew, within))


def refresh_due_grants(*, within: float) -> list[tuple[McpServerOAuth, McpOAuthError | None]]:
    """Renew every active grant whose access token ends within so many seconds; return each with its error.

    Safe to run on many hosts at once: a grant whose lease another one holds is left to it.
    """
    due = McpServerOAuth.objects.select_related("server", "registration").filter(
        state=McpServerOAuth.State.ACTIVE,
        refresh_token__isnull=False,
        server__enabled=True,
        server__removal_at__isnull=True,
        server_generation=F("server__generation"),
    )
    due = due.filter(expires_at__lte=timezone.now() + timedelta(seconds=max(within, settings.REFRESH_SKEW_SECONDS)))
    due = due.filter(may_be_asked(timezone.now()))
    outcomes: list[tuple[McpServerOAuth, McpOAuthError | None]] = []
    for grant in due.iterator(chunk_size=200):
        if not is_due(grant, within=within):
            continue
        lease = take_lease(grant)
        if lease is None:
            continue
        try:
            renew(grant, lease)
        except LostRace:
            continue
        except McpOAuthError as error:
            outcomes.append((grant, error))
        else:
            fresh = McpServerOAuth.objects.select_related("server").filter(pk=grant.pk).first()
            if fresh is None:
                continue
            failed = None if fresh.is_active else authorization_required(fresh.server, fresh.reason)
            outcomes.append((fresh, failed))
    return outcomes


def reject(grant_id: uuid.UUID, version: int) -> None:
    """End a grant whose freshly renewed token the server still answers with 401."""
    grant = McpServerOAuth.objects.filter(pk=grant_id, version=version).first()
    if grant is not None:
        needs_person(grant, "rejected")


def authorization_required(server: McpServer, reason: str) -> AuthorizationRequired:
    """Return the one answer for a grant that only a person can mend."""
    sentences = {
        "not_connected": _("You have not connected your account at %(server)s yet."),
        "expired": _("Your access to %(server)s has expired and the server gave no way to renew it."),
        "revoked": _("%(server)s no longer accepts your connection; it was revoked or has expired."),
        "rejected": _("%(server)s rejects your access although it was just renewed."),
        "refused": _("%(server)s refused to renew your access."),
        "client_forgotten": _("%(server)s no longer knows this application."),
        "unreadable": _("Your stored access to %(server)s can no longer be read."),
        "server_changed": _("%(server)s was changed by an administrator since you connected."),
        "sign_in_again": _("Your company sign-in no longer opens %(server)s."),
    }
    sentence = sentences.get(reason, _("Your connection to %(server)s has to be made again."))
    return AuthorizationRequired(
        sentence % {"server": server.name},
        reason=reason,
        server=str(server.pk),
        connect_url=connect_url(server),
        next_step=_("Sign out here, sign in again with your company account, and try again.")
        if reason == "sign_in_again"
        else "",
    )


def more_access_required(server: McpServer, scope: str, *, missing: str = "", next_step: str = "") -> InsufficientScope:
    """Return the one answer for a grant that lacks a scope; ``missing`` is the part of it that is not granted."""
    return InsufficientScope(
        _("%(server)s asks for more access than it was granted: %(scope)s.")
        % {"server": server.name, "scope": missing or scope or _("it does not say which")},
        scope=scope,
        server=str(server.pk),
        connect_url=connect_url(server),
        next_step=next_step,
    )


def identity_refused(server: McpServer) -> CredentialsRefused:
    """Return the one answer for an identity that nobody has to agree to and that is not accepted."""
    if server.auth_mode == McpServer.AuthMode.WORKLOAD:
        sentence = _("The authorization server of %(server)s gives this deployment's workload identity no access.")
        next_step = _("Ask an administrator to check the client ID and scopes, and the operator the workload token.")
    elif server.auth_mode == McpServer.AuthMode.ENTERPRISE:
        sentence = _("%(server)s cannot be opened with your company sign-in.")
        next_step = _("Ask an administrator to check both clients, the scopes, and whether the company permits it.")
    else:
        sentence = _("The authorization server of %(server)s does not accept this application's own client.")
        next_step = _("Ask an administrator to check the client ID, its secret or key, and the scopes.")
    return CredentialsRefused(sentence % {"server": server.name}, next_step=next_step, document=server.url)


def connect_url(server: McpServer) -> str:
    """Return the page where a person finds the server's Connect button; a path if the public address is not set."""
    path = reverse("mcp_oauth:settings", kwargs={"slug": server.workspace.slug})
    return f"{settings.PUBLIC_URL.rstrip('/')}{path}#server-{server.pk}"


def _opened(grant: McpServerOAuth) -> UsableGrant | None:
    token = grant.access_token
    if token is None:
        return None
    # A server that was sent proofs may still have issued a bearer token; the key then only serves refreshes.
    key = grant.dpop_key if grant.token_type == McpServerOAuth.TokenType.DPOP else None
    return UsableGrant(grant.pk, grant.connected_at, grant.version, grant.scope, token, key)


def _has_ended(grant: McpServerOAuth) -> bool:
    return grant.expires_at is not None and grant.expires_at <= timezone.now()
