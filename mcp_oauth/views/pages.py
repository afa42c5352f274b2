"""The connections page of a workspace, and the way to it."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from mcp_oauth.services.members import may_create_workspaces
from mcp_oauth.services.workspaces import place_in, workspaces_of
from mcp_oauth.views.access import SignedInRequest, page_context, person_required
from mcp_oauth.views.card_list import SORTS, grouped, in_order, state_choices
from mcp_oauth.views.cards import cards_for


@require_safe
@person_required
def home(request: SignedInRequest) -> HttpResponse:
    """Send the person to their workspace."""
    workspace = workspaces_of(request.user).first()
    if workspace is None:
        context = {**page_context(request, None), "may_create": may_create_workspaces(request.user)}
        return render(request, "mcp_oauth/no_workspace.html", context)
    return redirect("mcp_oauth:settings", slug=workspace.slug)


@require_safe
@person_required
def settings(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show the workspace's servers, narrowed by ``q`` and ``state`` and in the order ``sort`` says.

    ``?part=servers`` is the list alone, for a page that re-reads itself.
    """
    place = place_in(request.user, slug)
    # PostgreSQL refuses a text with a NUL in it.
    query = request.GET.get("q", "").replace("\x00", "").strip()[:200]
    state, sort = request.GET.get("state", ""), request.GET.get("sort", "")
    cards = in_order(cards_for(place, request.user, query=query), sort)
    choices = state_choices(cards, state)
    narrowed = any(choice.chosen and choice.key for choice in choices)
    shown = [card for card in cards if state in card.states] if narrowed else cards
    part = request.GET.get("part") == "servers"
    context = {
        **page_context(request, place),
        "groups": grouped(shown),
        "total": len(cards),
        "query": query,
        "state": state if narrowed else "",
        "sort": sort if sort in SORTS else SORTS[0],
        "states": choices,
        "sorts": _sorts(),
        "refresh_url": f"{reverse('mcp_oauth:settings', kwargs={'slug': slug})}?part=servers",
        "add_url": reverse("mcp_oauth:add", kwargs={"slug": slug}),
        "export_url": reverse("mcp_oauth:export_servers", kwargs={"slug": slug}),
    }
    response = render(request, "mcp_oauth/_servers.html" if part else "mcp_oauth/settings.html", context)
    response["Cache-Control"] = "no-store"
    return response


def _sorts() -> dict[str, str]:
    return {
        "name": _("By name"),
        "connected": _("Newest connection first"),
        "contact": _("Last contact first"),
        "tools": _("Most tools first"),
    }
