"""Does one thing at a server with one person's credentials, renewing them once if the server rejects them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import (
    CredentialsRefused,
    InsufficientScope,
    McpOAuthError,
    ServerRefused,
    ServerUnreachable,
)
from mcp_oauth.models import McpServer
from mcp_oauth.services import contacts, grants, step_up
from mcp_oauth.services.grants import UsableGrant
from mcp_oauth.services.removal import require_in_use
from mcp_oauth.services.steps import Plan, WaitingStep, WireStep
from mcp_oauth.services.wire import session_key_for, target_for
from mcp_oauth.services.workspaces import Person
from mcp_oauth.sessions.results import ToolDescription
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized
from mcp_oauth.sessions.target import Target

T = TypeVar("T")


def on_behalf(
    server: McpServer,
    user: Person,
    work: Callable[[Target], Coroutine[Any, Any, T]],
    *,
    seconds: float,
    tools: tuple[ToolDescription, ...] | None = None,
    grant: UsableGrant | None = None,
    note: Callable[[McpServer, McpOAuthError | None], None] = contacts.record_contact,
    tick: Callable[[], None] | None = None,
) -> Plan[T]:
    """Plan one exchange with a server for one person.

    A 401 means that the request was not carried out, so it is repeated once with a renewed token. ``grant`` is one
    that `plan_grant` has just returned; without it, it is asked for. ``note`` is told how the contact went, and
    ``tick`` is done every ``CALL_TICK_SECONDS`` while the exchange lasts.

    Raises:
        AuthorizationRequired: only the person can mend it.
        CredentialsRefused: the server wants credentials, or other ones, that an administrator enters.
        InsufficientScope: the grant lacks a scope.
        ServerUnreachable, ServerRefused: the server's fault.
    """
    require_in_use(server)
    rejected_version: int | None = None
    while True:
        if server.uses_grants and (grant is None or rejected_version is not None):
            grant = yield from plan_grant(server, user, rejected_version=rejected_version)
        target = target_for(
            server,
            access_token=grant.access_token if grant else None,
            dpop_key=grant.dpop_key if grant else None,
            tools=tools,
            session_key=session_key_for(
                server,
                user,
                None if grant is None else grant.grant_id,
                None if grant is None else grant.connected_at,
            ),
        )
        try:
            # The work bounds itself; the margin only covers a loop that does not run.
            result: T = yield WireStep(
                lambda target=target: work(target),  # type: ignore[misc]
                seconds + 5.0,
                tick,
                settings.CALL_TICK_SECONDS,
            )
        except Unauthorized:
            note(server, None)
            if grant is None:
                contacts.record_headers_verdict(server, refused=True)
                raise CredentialsRefused(_refusal(server), document=server.url) from None
            if rejected_version is not None:
                grants.reject(grant.grant_id, grant.version)
                if server.is_unattended:
                    raise grants.identity_refused(server) from None
                raise grants.authorization_required(server, "rejected") from None
            rejected_version = grant.version
            continue
        except ScopeChallenged as challenge:
            note(server, None)
            raise _more_access(server, grant, challenge.scope) from None
        except ServerUnreachable as error:
            note(server, error)
            raise
        except ServerRefused:
            note(server, None)
            raise
        note(server, None)
        contacts.record_headers_verdict(server, refused=False)
        return result


def plan_grant(server: McpServer, user: Person, *, rejected_version: int | None = None) -> Plan[UsableGrant]:
    """Plan to get a token that is good now: at once where it needs no renewal, else without holding up others.

    Raises what `grants.usable_grant` raises.
    """
    if rejected_version is None and (ready := grants.ready_grant(server, user)) is not None:
        return ready
    renewed: UsableGrant = yield WaitingStep(
        lambda: grants.usable_grant(server, user, rejected_version=rejected_version)
    )
    return renewed


def _more_access(server: McpServer, grant: UsableGrant | None, scope: str) -> InsufficientScope:
    """Remember what is wanted and return the error that leads to the button, as long as asking can help."""
    granted = grant.scope.split() if grant is not None else []
    missing = " ".join(name for name in scope.split() if name not in granted) or scope
    # Nobody presses a button where nobody is asked; an administrator enters the scopes.
    offered = grant is not None and not server.is_unattended and step_up.want_more(grant, scope)
    return grants.more_access_required(
        server,
        scope,
        missing=missing,
        next_step=""
        if offered
        else _("Ask an administrator to add the scopes to the server's settings.")
        if server.is_unattended
        else _("It was asked for before and did not help; ask the server's operator what the account lacks."),
    )


def _refusal(server: McpServer) -> str:
    if server.auth_mode == McpServer.AuthMode.HEADERS:
        return _("%(server)s does not accept the headers configured for it.") % {"server": server.name}
    return _("%(server)s wants people to sign in, but is configured as open.") % {"server": server.name}
