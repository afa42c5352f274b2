"""Pages about one server: its tools, removing it, and what the probe saw."""

from __future__ import annotations

import math
import uuid

from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import (
    AuthorizationRequired,
    InsufficientScope,
    McpOAuthError,
    NotFound,
)
from mcp_oauth.models import McpServer, McpServerOAuth
from mcp_oauth.services import catalog, limits, servers
from mcp_oauth.services.catalog import list_tools
from mcp_oauth.services.diagnosis import Diagnosis, diagnose_server
from mcp_oauth.services.registrations import client_ids_of
from mcp_oauth.services.removal import keep_server, schedule_removal
from mcp_oauth.services.workspaces import Place, require_admin
from mcp_oauth.views.access import SignedInRequest, page_context, person_required, place_and_server, wants_json
from mcp_oauth.views.cards import card_for
from mcp_oauth.views.diagnosis import StageView, stage_views
from mcp_oauth.views.report import report_text
from mcp_oauth.views.sequence import Later, Sequence, drawing, what_follows
from mcp_oauth.views.toolbox import matches
from mcp_oauth.views.tools import ErrorView, tool_view

# What the person mends by going to the authorization server; the button is offered right where it happens.
_MENDED_BY_THE_PERSON = (AuthorizationRequired, InsufficientScope)


@sensitive_variables()
@require_safe
@person_required
def server(request: SignedInRequest, slug: str, server_id: uuid.UUID) -> HttpResponse:
    """Show a server's tools; when it cannot be asked, the last known ones and why."""
    place, shown = place_and_server(request, slug, server_id)
    error: McpOAuthError | None = None
    try:
        listing: catalog.Catalogue | None = list_tools(shown, request.user)
    except McpOAuthError as failure:
        error, listing = failure, catalog.last_known(shown, request.user)
    read_again(shown)
    run_url = _url("run", place, shown)
    query = request.GET.get("q", "").strip()[:200]
    context = {
        **page_context(request, place),
        "card": card_for(place, request.user, shown),
        "tools": [tool_view(tool, run_url) for tool in listing or () if matches(tool, query)],
        "truncated": listing is not None and listing.truncated,
        "left_out": listing.left_out if listing is not None else 0,
        "listing_error": ErrorView.of(error) if error else None,
        "reauth": isinstance(error, _MENDED_BY_THE_PERSON),
        "query": query,
        "back_url": reverse("mcp_oauth:settings", kwargs={"slug": slug}),
    }
    return _private(render(request, "mcp_oauth/server.html", context))


@sensitive_variables()
@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def delete(request: SignedInRequest, slug: str, server_id: uuid.UUID) -> HttpResponse:
    """Remove a server after saying what ends with it: in a while, or with ``now`` at once."""
    place, gone = place_and_server(request, slug, server_id)
    require_admin(place)
    if request.method == "POST" and request.POST.get("now"):
        name = gone.name
        ended = servers.delete_server(gone, actor=request.user)
        messages.success(request, (_("%(name)s is removed.") % {"name": name} + f" {ended.in_words()}").rstrip())
        return redirect(_settings_url(place))
    if request.method == "POST":
        schedule_removal(gone, actor=request.user)
        text = _("%(name)s is out of use now and will be removed. Until then you can keep it; nothing is revoked yet.")
        messages.success(request, text % {"name": gone.name})
        return redirect(_settings_url(place) + f"#server-{gone.pk}")
    context = {
        **page_context(request, place),
        "card": card_for(place, request.user, gone),
        "grant_count": McpServerOAuth.objects.filter(server=gone).count(),
        "grace_minutes": math.ceil(settings.REMOVAL_GRACE_SECONDS / 60),
        "back_url": _settings_url(place),
    }
    return _private(render(request, "mcp_oauth/server_delete.html", context))


@require_POST
@person_required
def keep(request: SignedInRequest, slug: str, server_id: uuid.UUID) -> HttpResponse:
    """Keep a server that was about to be removed."""
    place, kept = place_and_server(request, slug, server_id)
    require_admin(place)
    if keep_server(kept, actor=request.user):
        messages.success(request, _("%(name)s is kept and in use again.") % {"name": kept.name})
    else:
        messages.error(request, _("%(name)s was not about to be removed, or its time is over.") % {"name": kept.name})
    return redirect(_settings_url(place) + f"#server-{kept.pk}")


@sensitive_variables()
@require_POST
@person_required
def refresh(request: SignedInRequest, slug: str, server_id: uuid.UUID) -> HttpResponse:
    """Ask the server again: for its tools if the person may, and with ``probe`` for what it is."""
    place, asked = place_and_server(request, slug, server_id)
    limits.count(request.user, "ask")
    if request.POST.get("probe"):
        report = servers.probe_again(asked, keep_auth_mode=not place.is_admin)
        (messages.success if report.auth_mode else messages.error)(request, f"{asked.name}: {report.verdict}")
        return redirect(_url("diagnose" if place.is_admin else "server", place, asked))
    try:
        count = len(list_tools(asked, request.user, refresh=True))
    except McpOAuthError as error:
        if wants_json(request):
            raise
        messages.error(request, f"{error.user_message} {error.next_step}".strip())
    else:
        if wants_json(request):
            return JsonResponse({"tool_count": count})
        text = ngettext("%(name)s offers %(count)d tool.", "%(name)s offers %(count)d tools.", count)
        messages.success(request, text % {"name": asked.name, "count": count})
    return redirect(_settings_url(place) + f"#server-{asked.pk}")


@sensitive_variables()
@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def diagnose(request: SignedInRequest, slug: str, server_id: uuid.UUID) -> HttpResponse:
    """Try every step of a connection and show what came of it; before that, show what the last probe saw."""
    place, shown = place_and_server(request, slug, server_id)
    require_admin(place)
    diagnosis: Diagnosis | None = None
    if request.method == "POST":
        limits.count(request.user, "ask")
        diagnosis = diagnose_server(shown)
        read_again(shown)
    steps = diagnosis.as_json()["steps"] if diagnosis is not None else shown.probe_evidence()
    verdict = diagnosis.verdict if diagnosis is not None else shown.last_verdict
    asked_at = timezone.now() if diagnosis is not None else shown.probed_at
    stages = stage_views(steps)
    context = {
        **page_context(request, place),
        "card": card_for(place, request.user, shown),
        "diagnosis": diagnosis,
        "verdict": verdict,
        "stages": stages,
        "sequence": _sequence(shown, diagnosis, stages),
        "report": report_text(
            url=shown.url,
            verdict=verdict,
            asked_at=asked_at,
            protocol_version=shown.protocol_version,
            stages=stages,
            hidden=client_ids_of(shown),
        ),
        "asked_at": asked_at,
        "back_url": _settings_url(place),
    }
    return _private(render(request, "mcp_oauth/diagnose.html", context))


def _sequence(server: McpServer, diagnosis: Diagnosis | None, stages: list[StageView]) -> Sequence | None:
    """Draw what was asked, and after a diagnosis what would follow with a person."""
    follows: tuple[Later, ...] = ()
    if diagnosis is not None and server.uses_grants:
        follows = what_follows(diagnosis.registration, with_person=not server.is_unattended)
    return drawing(
        stages,
        server_host=server.host,
        issuer=diagnosis.issuer if diagnosis is not None else "",
        follows=follows,
        stopped=diagnosis is not None and bool(diagnosis.failures),
    )


def read_again(server: McpServer) -> None:
    """Read what asking the server changed.

    Raises:
        NotFound: it was deleted meanwhile.
    """
    try:
        server.refresh_from_db()
    except McpServer.DoesNotExist as error:
        raise NotFound(_("There is no server of that name for you.")) from error


def _settings_url(place: Place) -> str:
    return reverse("mcp_oauth:settings", kwargs={"slug": place.workspace.slug})


def _url(name: str, place: Place, server: McpServer) -> str:
    return reverse(f"mcp_oauth:{name}", kwargs={"slug": place.workspace.slug, "server_id": server.pk})


def _private(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response
