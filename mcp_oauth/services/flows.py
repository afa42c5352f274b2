"""Open authorizations: found by their state, bound to person and browser, used once."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import CallbackRefused
from mcp_oauth.models import AuthorizationFlow, McpServer
from mcp_oauth.oauth.authorization import state_hash
from mcp_oauth.services.workspaces import Person


def find_flow(parameters: Mapping[str, Sequence[str]]) -> AuthorizationFlow:
    """Return the flow an authorization response names by its ``state``.

    Raises:
        CallbackRefused: there is none, or the response carries no single state.
    """
    states = parameters.get("state", ())
    flow = None
    if len(states) == 1 and len(states[0]) <= 200:
        flow = (
            AuthorizationFlow.objects.select_related("server__workspace", "registration")
            .filter(state_hash=state_hash(states[0]))
            .first()
        )
    if flow is None:
        raise CallbackRefused(
            _("No attempt to connect is open for this answer; it may have been cancelled, or its server removed."),
            reason="unknown_state",
            next_step=_("Start again from the connections page."),
        )
    return flow


def cancel_flow(flow_id: uuid.UUID | str, user: Person) -> McpServer | None:
    """Close one of the person's open flows; return the server it was for, ``None`` where it was not open."""
    try:
        key = uuid.UUID(str(flow_id))
    except ValueError:
        return None
    flow = open_flows(user).select_related("server__workspace").filter(pk=key).defer("server__headers").first()
    if flow is None:
        return None
    deleted, _details = open_flows(user).filter(pk=key).delete()
    return flow.server if deleted else None


def open_flows(user: Person) -> QuerySet[AuthorizationFlow]:
    """Return the flows a person may still come back from."""
    return AuthorizationFlow.objects.filter(user_id=user.pk, consumed_at__isnull=True, expires_at__gt=timezone.now())


def bound_open_flows(user: Person) -> None:
    """Forget flows that are over, and the oldest ones beyond the limit; never one of another person."""
    AuthorizationFlow.objects.filter(user_id=user.pk, expires_at__lte=timezone.now()).delete()
    keep = settings.MAX_OPEN_FLOWS_PER_USER - 1
    oldest = list(open_flows(user).order_by("-created_at").values_list("pk", flat=True)[keep:])
    if oldest:
        AuthorizationFlow.objects.filter(pk__in=oldest).delete()


def require_same_person(flow: AuthorizationFlow, user: Person, browser: str) -> None:
    """Refuse an answer that another person or another browser brings; the flow stays open for its own.

    Raises:
        CallbackRefused: with ``other_user`` or ``other_browser``.
    """
    if flow.user_id != user.pk:
        raise CallbackRefused(
            _("This answer belongs to somebody else's attempt to connect."),
            reason="other_user",
            next_step=_("Sign in as the person who started it, or start again from the connections page."),
        )
    if flow.browser_hash != browser_hash(browser):
        raise CallbackRefused(
            _("This attempt to connect was started in another browser."),
            reason="other_browser",
            next_step=_("Finish it there, or start again from the connections page."),
        )


def consume(flow: AuthorizationFlow) -> None:
    """Use the flow up: one conditional UPDATE, so that of racing callbacks one at most goes on."""
    now = timezone.now()
    consumed = AuthorizationFlow.objects.filter(pk=flow.pk, consumed_at__isnull=True, expires_at__gt=now).update(
        consumed_at=now
    )
    if consumed:
        return
    if flow.expires_at <= now:
        raise CallbackRefused(
            _("You took longer than %(minutes)d minutes, so this attempt to connect has ended.")
            % {"minutes": settings.FLOW_SECONDS // 60},
            reason="expired",
            next_step=_("Start again from the connections page."),
        )
    raise CallbackRefused(
        _("This answer has been used already."),
        reason="used",
        next_step=_("Look at the connections page; you may be connected."),
    )


def browser_hash(browser: str) -> str:
    """Return what is stored of a browser's secret."""
    return hashlib.sha256(browser.encode()).hexdigest()
