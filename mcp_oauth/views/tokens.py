"""A person's own API tokens: making one, which is shown once, and revoking it."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.forms import TokenForm
from mcp_oauth.services import api_tokens
from mcp_oauth.services.workspaces import first_place, workspaces_of
from mcp_oauth.views.access import SignedInRequest, page_context, person_required
from mcp_oauth.views.marks import hue_of


@sensitive_variables()
@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def tokens(request: SignedInRequest) -> HttpResponse:
    """List the person's tokens and make new ones; the answer that made one is the only place that shows it."""
    workspaces = list(workspaces_of(request.user))
    form = TokenForm(request.POST if request.method == "POST" else None, workspaces=workspaces)
    made: api_tokens.NewToken | None = None
    if form.is_bound and form.is_valid():
        try:
            made = api_tokens.make_token(request.user, **form.wanted(), actor=request.user)
        except McpOAuthError as error:
            form.add_typed_error(error)
    rows = list(api_tokens.tokens_of(request.user))
    for row in rows:
        row.workspace.hue = hue_of(row.workspace.name)  # type: ignore[attr-defined]  # for the template
    context = {
        **page_context(request, first_place(request.user)),
        "form": TokenForm(workspaces=workspaces) if made else form,
        "made": made,
        "tokens": rows,
        "can_make": bool(workspaces),
        "example_url": request.build_absolute_uri(reverse("mcp_oauth:api_servers")),
    }
    response = render(request, "mcp_oauth/tokens.html", context, status=400 if form.errors else 200)
    response["Cache-Control"] = "no-store"
    return response


@require_POST
@person_required
def revoke(request: SignedInRequest, token_id: uuid.UUID) -> HttpResponse:
    """Revoke one of the person's tokens."""
    token = api_tokens.token_of(request.user, token_id)
    api_tokens.revoke_token(token, actor=request.user)
    messages.success(request, _("%(token)s is revoked.") % {"token": token.name})
    return redirect("mcp_oauth:tokens")
