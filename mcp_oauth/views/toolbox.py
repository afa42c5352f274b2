"""All tools of a workspace on one page, by server and as they were last known; nobody is asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_safe

from mcp_oauth.services.catalog import last_known_of_all
from mcp_oauth.services.workspace_tools import servers_in_use
from mcp_oauth.services.workspaces import place_in
from mcp_oauth.sessions.results import ToolDescription
from mcp_oauth.views.access import SignedInRequest, page_context, person_required
from mcp_oauth.views.cards import ServerCard, cards_of
from mcp_oauth.views.tools import Badge, anchor_of, badges_of

# What a browser shows at once; whoever looks for one of more searches.
MOST_TOOLS: Final = 400
MOST_OF_ONE: Final = 50
_LONGEST_GIST: Final = 300


@dataclass(frozen=True)
class ToolLine:
    """One tool in the list."""

    name: str
    gist: str
    badges: tuple[Badge, ...]
    url: str
    run_url: str


@dataclass(frozen=True)
class ServerTools:
    """The tools of one server; ``left_out`` of them are on its own page."""

    card: ServerCard
    tools: tuple[ToolLine, ...]
    count: int
    left_out: int


@sensitive_variables()
@require_safe
@person_required
def tools(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show every tool the person can see in the workspace, narrowed by ``q``."""
    place = place_in(request.user, slug)
    query = request.GET.get("q", "").strip()[:200]
    servers = servers_in_use(place.workspace)
    cards = {card.id: card for card in cards_of(place, request.user, servers)}
    known = last_known_of_all(servers, request.user)
    groups, left, total = [], MOST_TOOLS, 0
    for server in servers:
        found = [tool for tool in known.get(server.pk, ()) if matches(tool, query)]
        total += len(found)
        shown = found[: min(left, len(found) if query else MOST_OF_ONE)]
        left -= len(shown)
        if shown:
            card = cards[server.pk]
            run_url = reverse("mcp_oauth:run", args=[slug, server.pk])
            lines = tuple(_line(tool, card, run_url) for tool in shown)
            groups.append(ServerTools(card, lines, len(found), len(found) - len(shown)))
    context = {
        **page_context(request, place),
        "groups": groups,
        "query": query,
        "total": total,
        "all_shown": MOST_TOOLS - left == total,
        "unknown": sum(server.pk not in known for server in servers),
    }
    response = render(request, "mcp_oauth/tools.html", context)
    response["Cache-Control"] = "no-store"
    return response


def matches(tool: ToolDescription, query: str) -> bool:
    """Whether a tool's name, title or description has what was searched for, whatever its case."""
    return query.casefold() in f"{tool.name} {tool.title} {tool.description}".casefold()


def _line(tool: ToolDescription, card: ServerCard, run_url: str) -> ToolLine:
    return ToolLine(
        tool.name,
        (tool.title or tool.description)[:_LONGEST_GIST],
        badges_of(tool),
        f"{card.tools_url}#{anchor_of(tool.name)}",
        f"{run_url}?tool={quote(tool.name, safe='')}" if card.can_run else "",
    )
