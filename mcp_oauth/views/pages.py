"""The connections page of a workspace, and the way to it."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from mcp_oauth.services.workspaces import place_in, workspaces_of
from mcp_oauth.views.access import SignedInRequest, page_context, person_required
from mcp_oauth.views.cards import cards_for, grouped


@require_safe
@person_required
def home(request: SignedInRequest) -> HttpResponse:
    """Send the person to their workspace."""
    workspace = workspaces_of(request.user).first()
    if workspace is None:
        return render(request, "mcp_oauth/no_workspace.html", page_context(request, None))
    return redirect("mcp_oauth:settings", slug=workspace.slug)


@require_safe
@person_required
def settings(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show the workspace's servers; ``?part=servers`` is the list alone, for a page that re-reads itself."""
    place = place_in(request.user, slug)
    # PostgreSQL refuses a text with a NUL in it.
    query = request.GET.get("q", "").replace("\x00", "").strip()[:200]
    cards = cards_for(place, request.user, query=query)
    part = request.GET.get("part") == "servers"
    context = {
        **page_context(request, place),
        "groups": grouped(cards),
        "total": len(cards),
        "query": query,
        "refresh_url": f"{reverse('mcp_oauth:settings', kwargs={'slug': slug})}?part=servers",
        "add_url": reverse("mcp_oauth:add", kwargs={"slug": slug}),
    }
    response = render(request, "mcp_oauth/_servers.html" if part else "mcp_oauth/settings.html", context)
    response["Cache-Control"] = "no-store"
    return response
