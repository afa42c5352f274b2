"""Adding a server: a known one or an address, looking on while it is asked, and then only what is still needed."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.forms import ServerForm
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.services import limits, servers
from mcp_oauth.services.connections import start_authorization
from mcp_oauth.services.evidence import Evidence
from mcp_oauth.services.findings import Finding, address_from, find_out, told_as_it_happens
from mcp_oauth.services.known_servers import KnownServer, known_server_at, known_servers, shelves
from mcp_oauth.services.workspaces import Place, place_in, require_admin
from mcp_oauth.views.access import SignedInRequest, browser_secret, page_context, person_required, wants_json
from mcp_oauth.views.asking import error_lines, finding_context, streamed, wants_lines
from mcp_oauth.views.editing import form_page
from mcp_oauth.views.marks import hue_of, initials_of
from mcp_oauth.views.oauth import leaving_page, started_json


@sensitive_variables()
@sensitive_post_parameters(*ServerForm.secret_fields)
@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def add(request: SignedInRequest, slug: str) -> HttpResponse:
    """Offer the known servers and a field for an address; a POST adds the server that the form describes.

    With ``then=connect`` the person goes on to the authorization server.
    """
    place = place_in(request.user, slug)
    require_admin(place)
    if request.method != "POST":
        return _choice_page(request, place, request.GET.get("address", "")[:2000])
    form = ServerForm(request.POST)
    if form.is_valid():
        try:
            limits.count(request.user, "ask")
            added = servers.add_server(place.workspace, form.wanted(), actor=request.user)
        except McpOAuthError as error:
            form.add_typed_error(error)
        else:
            messages.success(request, f"{added.name}: {added.last_verdict}")
            return _added(request, added)
    if wants_json(request):
        # The page's script shows it where the form still holds what was entered.
        html = render_to_string("mcp_oauth/_form_errors.html", {"form": form})
        return JsonResponse({"html": html}, status=400)
    return form_page(request, place, form, None)


@sensitive_variables()
@require_POST
@person_required
def ask(request: SignedInRequest, slug: str) -> HttpResponseBase:
    """Ask an address, or a known server, what it is; nothing is stored."""
    place = place_in(request.user, slug)
    require_admin(place)
    known = known_servers().get(request.POST.get("known", ""))
    typed = known.url if known is not None else request.POST.get("url", "")
    try:
        url = address_from(typed)
        limits.count(request.user, "ask")
    except McpOAuthError as error:
        return error_lines(error) if wants_lines(request) else _choice_page(request, place, typed[:2000], error)
    known = known or known_server_at(url)
    options = OAuthOptions.from_json(known.options() if known is not None else {})

    def work(evidence: Evidence) -> Finding:
        return find_out(url, options, evidence)

    context: dict[str, Any] = {
        "add_url": reverse("mcp_oauth:add", kwargs={"slug": slug}),
        "ask_url": reverse("mcp_oauth:ask", kwargs={"slug": slug}),
        "already": _already(place, url),
    }
    if wants_lines(request):
        return streamed(request, _with_form(told_as_it_happens(work), context), context)
    finding = work(Evidence())
    context = {**page_context(request, place), **context, **finding_context(finding), "form": new_form(finding)}
    response = render(request, "mcp_oauth/add_found.html", context)
    response["Cache-Control"] = "no-store"
    return response


def new_form(finding: Finding) -> ServerForm:
    """Return the form of a new server with what was found out filled in."""
    by_hand = finding.needs == "client" and finding.metadata is not None
    issuer = finding.metadata.issuer if finding.metadata is not None and by_hand else ""
    return ServerForm(initial={"url": finding.url, "name": finding.name, "client_issuer": issuer})


def _with_form(told: Any, context: dict[str, Any]) -> Any:
    """Pass on what is told, and put the form into the context before the finding is rendered."""
    for item in told:
        if isinstance(item, Finding):
            context["form"] = new_form(item)
        yield item


def _added(request: SignedInRequest, added: McpServer) -> HttpResponse:
    """Go on from a server that was just added: to its page, or first to its authorization server."""
    page = reverse("mcp_oauth:server", kwargs={"slug": added.workspace.slug, "server_id": added.pk})
    if request.POST.get("then") != "connect" or added.auth_mode != McpServer.AuthMode.OAUTH:
        return JsonResponse({"page": page}) if wants_json(request) else redirect(page)
    try:
        limits.count(request.user, "start")
        started = start_authorization(added, request.user, browser=browser_secret(request, create=True))
    except McpOAuthError as error:
        # The server is there; why connecting did not begin is said on its page.
        messages.error(request, f"{error.user_message} {error.next_step}".strip())
        return JsonResponse({"page": page}) if wants_json(request) else redirect(page)
    if wants_json(request):
        return started_json(started, page=page)
    return leaving_page(request, started)


def _choice_page(
    request: SignedInRequest, place: Place, address: str, error: McpOAuthError | None = None
) -> HttpResponse:
    query = request.GET.get("q", "").replace("\x00", "").strip()[:200]
    here = set(McpServer.objects.filter(workspace=place.workspace).values_list("url", flat=True))
    slug = place.workspace.slug
    context = {
        **page_context(request, place),
        "address": address,
        "error": error,
        "query": query,
        "shelves": [
            (shelf.title, [_shown(known, known.url in here) for known in shelf.servers]) for shelf in shelves(query)
        ],
        "ask_url": reverse("mcp_oauth:ask", kwargs={"slug": slug}),
        "import_url": reverse("mcp_oauth:import_servers", kwargs={"slug": slug}),
        "back_url": reverse("mcp_oauth:settings", kwargs={"slug": slug}),
    }
    response = render(request, "mcp_oauth/add.html", context, status=error.http_status if error is not None else 200)
    response["Cache-Control"] = "no-store"
    return response


def _shown(known: KnownServer, is_here: bool) -> dict[str, Any]:
    return {"known": known, "hue": hue_of(known.name), "initials": initials_of(known.name), "is_here": is_here}


def _already(place: Place, url: str) -> str:
    """Return the name of a server of this workspace with that address; empty when there is none."""
    names = McpServer.objects.filter(workspace=place.workspace, url=url).values_list("name", flat=True)
    return str(names.first() or "")
