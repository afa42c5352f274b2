"""Who belongs to a workspace, and creating one."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from mcp_oauth.exceptions import McpOAuthError, NotAllowed
from mcp_oauth.models import Membership
from mcp_oauth.services import limits, members
from mcp_oauth.services.workspaces import Place, first_place, place_in
from mcp_oauth.views.access import SignedInRequest, page_context, person_required
from mcp_oauth.views.marks import hue_of, initials_of
from mcp_oauth.views.tools import ErrorView


@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def members_page(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show who belongs to a workspace; a POST adds somebody."""
    place = place_in(request.user, slug)
    if request.method != "POST":
        return _page(request, place)
    named, role = request.POST.get("person", ""), request.POST.get("role", Membership.Role.MEMBER)
    try:
        if place.is_admin:
            limits.count(request.user, "look_up")
        added = members.add_member(place, named, role)
    except NotAllowed:
        raise
    except McpOAuthError as error:
        return _page(request, place, error=error, named=named[:320], role=role)
    messages.success(request, _("%(name)s is a member now.") % {"name": members.name_of(added.user)})
    return redirect("mcp_oauth:members", slug=slug)


@require_POST
@person_required
def role(request: SignedInRequest, slug: str, membership_id: uuid.UUID) -> HttpResponse:
    """Change what a member may do."""
    place = place_in(request.user, slug)
    try:
        changed = members.change_role(place, membership_id, request.POST.get("role", ""))
    except NotAllowed:
        raise
    except McpOAuthError as error:
        return _page(request, place, error=error)
    name = members.name_of(changed.user)
    text = _("%(name)s is an administrator now.") if changed.is_admin else _("%(name)s is a member now.")
    messages.success(request, text % {"name": name})
    return redirect("mcp_oauth:members", slug=slug)


@sensitive_variables()
@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def remove(request: SignedInRequest, slug: str, membership_id: uuid.UUID) -> HttpResponse:
    """Remove somebody, or leave, after saying what ends with it."""
    place = place_in(request.user, slug)
    membership = members.find_membership(place, membership_id)
    leaving = membership.user_id == request.user.pk
    if not leaving and not place.is_admin:
        raise NotAllowed(_("Only administrators of this workspace can change who belongs to it."))
    if request.method == "POST":
        try:
            left = members.remove_member(place, membership_id, actor=request.user)
        except NotAllowed:
            raise
        except McpOAuthError as error:
            return _page(request, place, error=error)
        gone = _("You left %(workspace)s.") if leaving else _("%(name)s is removed from %(workspace)s.")
        text = gone % {"name": left.name, "workspace": place.workspace.name}
        messages.success(request, f"{text} {left.ended.in_words()}".rstrip())
        return redirect("mcp_oauth:home") if leaving else redirect("mcp_oauth:members", slug=slug)
    context = {
        **page_context(request, place),
        "name": members.name_of(membership.user),
        "leaving": leaving,
        "connection_count": getattr(membership, "connection_count", 0),
        "members_url": reverse("mcp_oauth:members", kwargs={"slug": slug}),
    }
    return _private(render(request, "mcp_oauth/member_remove.html", context))


@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def new_workspace(request: SignedInRequest) -> HttpResponse:
    """Create a workspace, with the person as its administrator."""
    if not members.may_create_workspaces(request.user):
        raise NotAllowed(
            _("You may not create workspaces."), next_step=_("Ask the operator of this site to create one for you.")
        )
    name, slug = request.POST.get("name", ""), request.POST.get("slug", "")
    error: McpOAuthError | None = None
    if request.method == "POST":
        try:
            created = members.create_workspace(request.user, name, slug)
        except McpOAuthError as failure:
            error = failure
        else:
            messages.success(request, _("%(name)s is ready. Add its first server.") % {"name": created.name})
            return redirect("mcp_oauth:settings", slug=created.slug)
    context = {**page_context(request, first_place(request.user)), "name": name[:120], "slug": slug[:60]}
    context["error"] = ErrorView.of(error) if error is not None else None
    return _private(render(request, "mcp_oauth/workspace_new.html", context, status=400 if error else 200))


def _page(
    request: SignedInRequest,
    place: Place,
    *,
    error: McpOAuthError | None = None,
    named: str = "",
    role: str = Membership.Role.MEMBER,
) -> HttpResponse:
    belonging = list(members.members_of(place.workspace))
    admins = sum(membership.is_admin for membership in belonging)
    context = {
        **page_context(request, place),
        "members": [_shown(request, place, membership, admins) for membership in belonging],
        "roles": Membership.Role.choices,
        "error": ErrorView.of(error) if error is not None else None,
        "named": named,
        "role": role,
    }
    status = error.http_status if error is not None else 200
    return _private(render(request, "mcp_oauth/members.html", context, status=status))


def _shown(request: SignedInRequest, place: Place, membership: Membership, admins: int) -> dict[str, Any]:
    name = members.name_of(membership.user)
    names = {"slug": place.workspace.slug, "membership_id": membership.pk}
    return {
        "membership": membership,
        "name": name,
        "full_name": membership.user.get_full_name(),
        "email": membership.user.email,
        "hue": hue_of(name),
        "initials": initials_of(name),
        "is_needed": membership.is_admin and admins == 1,
        "is_you": membership.user_id == request.user.pk,
        "connection_count": getattr(membership, "connection_count", 0),
        "role_url": reverse("mcp_oauth:member_role", kwargs=names),
        "remove_url": reverse("mcp_oauth:member_remove", kwargs=names),
    }


def _private(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response
