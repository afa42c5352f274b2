"""A person's own page: their workspaces and connections, and ending all of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from mcp_oauth.models import McpServerOAuth, Membership
from mcp_oauth.services import account, members
from mcp_oauth.services.grants import authorization_required
from mcp_oauth.services.serving_grants import still_good
from mcp_oauth.services.workspaces import first_place
from mcp_oauth.views.access import SignedInRequest, page_context, person_required
from mcp_oauth.views.marks import hue_of, initials_of
from mcp_oauth.views.standing import StateLine


@dataclass(frozen=True)
class ConnectionView:
    """One of the person's connections."""

    grant: McpServerOAuth
    hue: int
    initials: str
    state: StateLine
    renews: bool
    page_url: str


@require_safe
@person_required
def account_page(request: SignedInRequest) -> HttpResponse:
    """Show who one is here, where one belongs, and what one is connected to."""
    connections = [_shown(grant) for grant in account.connections_of(request.user)]
    memberships = Membership.objects.filter(user_id=request.user.pk).select_related("workspace")
    workspaces = [
        {
            "workspace": membership.workspace,
            "hue": hue_of(membership.workspace.name),
            "initials": initials_of(membership.workspace.name),
            "is_admin": membership.is_admin,
            "leave_url": reverse(
                "mcp_oauth:member_remove",
                kwargs={"slug": membership.workspace.slug, "membership_id": membership.pk},
            ),
        }
        for membership in memberships.order_by("workspace__name", "workspace__slug")
    ]
    context = {
        **page_context(request, first_place(request.user)),
        "connections": connections,
        "own_workspaces": workspaces,
        "may_create": members.may_create_workspaces(request.user),
    }
    return _private(render(request, "mcp_oauth/account.html", context))


@sensitive_variables()
@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def disconnect_everything(request: SignedInRequest) -> HttpResponse:
    """End all of one's own connections after saying what that revokes; then say what each provider answered."""
    context: dict[str, Any] = page_context(request, first_place(request.user))
    if request.method == "POST":
        context["ended"] = [
            {
                "server": item.server,
                "outcome": item.outcome,
                "hue": hue_of(item.server.name),
                "initials": initials_of(item.server.name),
            }
            for item in account.disconnect_everything(request.user)
        ]
    else:
        context["connections"] = [_shown(grant) for grant in account.connections_of(request.user)]
    return _private(render(request, "mcp_oauth/account_disconnect.html", context))


def _shown(grant: McpServerOAuth) -> ConnectionView:
    server = grant.server
    good = still_good(grant) and grant.server_generation == server.generation
    if good:
        state = StateLine("ok", _("Connected"), at=grant.connected_at)
    else:
        changed = grant.server_generation != server.generation
        reason = "server_changed" if changed else "expired" if grant.is_active else grant.reason
        words = authorization_required(server, reason).user_message
        state = StateLine("bad", _("Access ended"), words, grant.reason_at or grant.expires_at)
    return ConnectionView(
        grant=grant,
        hue=hue_of(server.name),
        initials=initials_of(server.name),
        state=state,
        renews=good and bool(getattr(grant, "renews", False)),
        page_url=reverse("mcp_oauth:server", kwargs={"slug": server.workspace.slug, "server_id": server.pk}),
    )


def _private(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response
