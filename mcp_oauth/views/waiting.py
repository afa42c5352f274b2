"""Calls that wait for their person: what each wants, and the way on."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from mcp_oauth.exceptions import AuthorizationRequired, InsufficientScope, McpOAuthError, NotFound
from mcp_oauth.models import ToolCall
from mcp_oauth.services import limits
from mcp_oauth.services.calls import cancel_call, find_call
from mcp_oauth.services.resumption import resume_call
from mcp_oauth.views.access import MediaResponse, SignedInRequest, page_context, person_required, place_and_server
from mcp_oauth.views.cards import card_for
from mcp_oauth.views.content import result_view
from mcp_oauth.views.questions import answers_from, questions_for
from mcp_oauth.views.tools import ErrorView

# What one page shows; a person has at most MAX_WAITING_CALLS of them at a server.
_MOST_SHOWN = 100


@dataclass(frozen=True)
class WaitingView:
    """One call that waits, in a list."""

    tool: str
    url: str
    since: datetime
    until: datetime | None
    asks: bool


@sensitive_variables()
@require_safe
@person_required
def waiting(request: SignedInRequest, slug: str, server_id: uuid.UUID) -> HttpResponse:
    """List the person's own calls at a server that wait for them."""
    place, server = place_and_server(request, slug, server_id)
    rows = ToolCall.objects.filter(
        server_id=server.pk,
        user_id=request.user.pk,
        state__in=(ToolCall.State.AUTHORIZATION_REQUIRED, ToolCall.State.INPUT_REQUIRED),
        resumable_until__gt=timezone.now(),
    ).only("tool", "state", "started_at", "resumable_until")
    calls = [
        WaitingView(
            row.tool,
            reverse("mcp_oauth:waiting_call", args=[slug, server.pk, row.pk]),
            row.started_at,
            row.resumable_until,
            row.state == ToolCall.State.INPUT_REQUIRED,
        )
        for row in rows[:_MOST_SHOWN]
    ]
    context = {**page_context(request, place), "card": card_for(place, request.user, server), "calls": calls}
    return _private(render(request, "mcp_oauth/waiting.html", context))


@sensitive_variables()
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def waiting_call(request: SignedInRequest, slug: str, server_id: uuid.UUID, call_id: uuid.UUID) -> HttpResponse:
    """Show one waiting call, and let it go on or give it up; what was typed is kept whatever happens."""
    place, server = place_and_server(request, slug, server_id)
    call = find_call(call_id, request.user)
    if call.server_id != server.pk:
        raise NotFound(_("There is no call of that id for you."))
    error: McpOAuthError | None = None
    result = None
    if request.method == "POST" and "give_up" in request.POST:
        cancel_call(call, request.user)
        messages.success(request, _("The call was given up."))
        return redirect("mcp_oauth:server", slug, server.pk)
    if request.method == "POST":
        started = time.perf_counter()
        try:
            limits.count(request.user, "call")
            answer = resume_call(call, request.user, answers=answers_from(call, request.POST))
            result = result_view(answer, round((time.perf_counter() - started) * 1000))
        except McpOAuthError as failure:
            error = failure
        call = find_call(call_id, request.user)
    server.refresh_from_db(fields=["reachable", "contacted_at", "contact_error", "contact_error_code"])
    context: dict[str, Any] = {
        **page_context(request, place),
        "card": card_for(place, request.user, server),
        "call": call,
        # A new round of questions begins empty.
        "questions": questions_for(call, request.POST, error) if getattr(error, "field", "") else questions_for(call),
        "error": ErrorView.of(error) if error is not None and getattr(error, "call", "") != str(call.pk) else None,
        "wants": ErrorView.of(error) if error is not None and getattr(error, "call", "") == str(call.pk) else None,
        "reauth": isinstance(error, AuthorizationRequired | InsufficientScope),
        "result": result,
    }
    status = error.http_status if error is not None and context["error"] is not None else 200
    page = render_to_string("mcp_oauth/waiting_call.html", context, request)
    return _private(MediaResponse(page, status=status))


def _private(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response
