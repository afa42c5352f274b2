"""Changing a server: trying the change, saying what it ends, and doing it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.forms import ServerForm
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.urls import same_origin
from mcp_oauth.services import limits, servers
from mcp_oauth.services.consequences import Consequences, consequences_of
from mcp_oauth.services.drafts import open_draft, seal_draft
from mcp_oauth.services.evidence import Evidence
from mcp_oauth.services.findings import Finding, find_out, told_as_it_happens
from mcp_oauth.services.registrations import shown_redirect_uri
from mcp_oauth.services.server_settings import ServerSettings, check_settings
from mcp_oauth.services.workspaces import Place, require_admin
from mcp_oauth.views.access import SignedInRequest, page_context, person_required, place_and_server
from mcp_oauth.views.asking import finding_context, refusal_lines, streamed, wants_lines
from mcp_oauth.views.diagnosis import step_views

_KEPT = "server form"


@sensitive_variables()
@sensitive_post_parameters(*ServerForm.secret_fields)
@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def edit(request: SignedInRequest, slug: str, server_id: uuid.UUID) -> HttpResponseBase:
    """Change a server; where somebody would lose something by it, that is said first and has to be agreed to.

    With ``test`` the change is only tried, and with ``back`` the form is shown again.
    """
    place, changed = place_and_server(request, slug, server_id)
    require_admin(place)
    if request.method != "POST":
        return form_page(request, place, ServerForm(server=changed), changed)
    if "test" in request.POST:
        return _test(request, place, changed)
    data = _with_kept(request, place)
    form = ServerForm(data, server=changed, secrets_kept="kept" in request.POST)
    if "back" in request.POST or not form.is_valid():
        return form_page(request, place, form, changed, kept=_kept(request, place, data))
    generation = changed.generation
    try:
        limits.count(request.user, "ask")
        prepared = servers.prepare_update(changed, form.wanted())
        if not prepared.consequences.kinds <= set(request.POST.getlist("agreed")):
            return _change_page(request, place, changed, form, data, prepared.consequences)
        ended = servers.update_server(changed, form.wanted(), actor=request.user, prepared=prepared)
    except McpOAuthError as error:
        changed.refresh_from_db()
        form.add_typed_error(error)
        return form_page(request, place, form, changed, kept=_kept(request, place, data))
    text = _("%(name)s is saved.") % {"name": changed.name}
    if changed.generation != generation:
        text += " " + _("People have to connect to it again.") + f" {ended.in_words()}".rstrip()
    if set(prepared.consequences.secrets) - form.cleared():
        text += " " + _("A stored secret belonged to the old settings and was removed; enter it again.")
    messages.success(request, text)
    return redirect(reverse("mcp_oauth:settings", kwargs={"slug": slug}) + f"#server-{changed.pk}")


def _test(request: SignedInRequest, place: Place, changed: McpServer) -> HttpResponseBase:
    """Ask a changed address with changed settings, store nothing, and say what saving them would end."""
    data = _with_kept(request, place)
    form = ServerForm(data, server=changed, secrets_kept=True)
    if form.is_valid():
        try:
            wanted = form.wanted()
            url = check_settings(wanted, changed)
            limits.count(request.user, "ask")
            headers = _headers_to_try(changed, wanted, url)
        except McpOAuthError as error:
            form.add_typed_error(error)
    if form.errors:
        if wants_lines(request):
            return refusal_lines(request, form)
        return form_page(request, place, form, changed, kept=_kept(request, place, data))

    def work(evidence: Evidence) -> Finding:
        return find_out(
            url,
            OAuthOptions.from_json(dict(wanted.options)),
            evidence,
            auth_mode=wanted.auth_mode,
            has_client=bool(wanted.client_id),
            headers=headers,
        )

    context = {"consequences": consequences_of(changed, wanted, url).in_words(), "testing": True}
    if wants_lines(request):
        return streamed(request, told_as_it_happens(work), context)
    finding = work(Evidence())
    return form_page(
        request,
        place,
        form,
        changed,
        kept=_kept(request, place, data),
        more={**finding_context(finding), **context},
    )


def form_page(
    request: SignedInRequest,
    place: Place,
    form: ServerForm,
    server: McpServer | None,
    *,
    kept: str = "",
    more: Mapping[str, Any] | None = None,
) -> HttpResponse:
    """Show the whole form of a server, an existing one or a new one; ``kept`` are the sealed secrets it carries on."""
    stored = stored_secrets(server) if server is not None else set()
    context = {
        **page_context(request, place),
        "form": form,
        "kept": kept,
        "server": server,
        "redirect_uri": shown_redirect_uri(),
        "has_headers": "headers" in stored,
        "has_client_secret": "client_secret" in stored,
        "has_initial_access_token": "initial_access_token" in stored,
        "probe_steps": step_views(server.probe_evidence()) if server is not None else [],
        "back_url": reverse("mcp_oauth:settings", kwargs={"slug": place.workspace.slug}),
        **(more or {}),
    }
    status = 400 if form.errors else 200
    response = render(request, "mcp_oauth/server_form.html", context, status=status)
    response["Cache-Control"] = "no-store"
    return response


def stored_secrets(server: McpServer) -> set[str]:
    """Return which secrets a server has, without opening them."""
    row = McpServer.objects.filter(pk=server.pk).values(*ServerForm.secret_fields).first()
    return {name for name, sealed in row.items() if sealed} if row is not None else set()


def _change_page(
    request: SignedInRequest,
    place: Place,
    server: McpServer,
    form: ServerForm,
    data: QueryDict,
    consequences: Consequences,
) -> HttpResponse:
    """Say what a change ends; the page carries the whole change, its secrets sealed."""
    carried = [(name, value) for name, value in data.items() if name in form.fields and name not in form.secret_fields]
    context = {
        **page_context(request, place),
        "server": server,
        "consequences": consequences.in_words(),
        "agreed": sorted(consequences.kinds),
        "carried": carried,
        "kept": _kept(request, place, data),
        "edit_url": reverse("mcp_oauth:edit", kwargs={"slug": place.workspace.slug, "server_id": server.pk}),
        "back_url": reverse("mcp_oauth:settings", kwargs={"slug": place.workspace.slug}),
    }
    response = render(request, "mcp_oauth/server_change.html", context)
    response["Cache-Control"] = "no-store"
    return response


def _with_kept(request: SignedInRequest, place: Place) -> QueryDict:
    """Return what was entered, with the secrets that the page carried along sealed; one that is typed again wins.

    Raises:
        InvalidRequest: they were kept for too long.
    """
    data = request.POST.copy()
    if not data.get("kept"):
        return data
    for name, value in open_draft(_KEPT, request.user, place.workspace, str(data["kept"])).items():
        if name in ServerForm.secret_fields and not data.get(name):
            data[name] = value
    return data


def _kept(request: SignedInRequest, place: Place, data: QueryDict) -> str:
    """Return the typed secrets, sealed for a hidden field; empty where none was typed."""
    typed = {name: data[name] for name in ServerForm.secret_fields if data.get(name)}
    return seal_draft(_KEPT, request.user, place.workspace, typed) if typed else ""


def _headers_to_try(server: McpServer, wanted: ServerSettings, url: str) -> Mapping[str, str] | None:
    """Return the headers that would be stored: those that were entered, or else the stored ones of the same origin."""
    if wanted.headers is not None:
        return wanted.headers
    return server.headers if same_origin(server.url, url) else None
