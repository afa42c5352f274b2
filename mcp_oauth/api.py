"""JSON for the workspace's own scripts and other programs of the signed-in person."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InvalidRequest, McpOAuthError, NotSignedIn
from mcp_oauth.models import McpServer, McpServerOAuth
from mcp_oauth.services import limits
from mcp_oauth.services.calls import call_tool
from mcp_oauth.services.catalog import list_tools
from mcp_oauth.services.workspaces import Person
from mcp_oauth.views.access import error_json
from mcp_oauth.views.cards import grants_of, still_good

P = ParamSpec("P")


def json_view(view: Callable[Concatenate[HttpRequest, P], dict[str, Any]]) -> Callable[..., HttpResponse]:
    """Answer a signed-in person with JSON, typed errors included; nothing is cached."""

    @wraps(view)
    def answered(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        try:
            if not request.user.is_authenticated:
                raise NotSignedIn(_("You are not signed in."))
            response: HttpResponse = JsonResponse(view(request, *args, **kwargs))
        except McpOAuthError as error:
            response = error_json(error)
        response["Cache-Control"] = "no-store"
        return response

    return answered


@require_safe
@json_view
def servers(request: HttpRequest) -> dict[str, Any]:
    """List the servers of the person's workspaces with the two facts about each."""
    return {"servers": servers_json(request.user)}


@require_safe
@json_view
def tools(request: HttpRequest, server_id: uuid.UUID) -> dict[str, Any]:
    """List a server's tools; ``?refresh=1`` asks the server."""
    limits.count(request.user, "ask" if request.GET.get("refresh") == "1" else "call")
    listing = list_tools(server_id, request.user, refresh=request.GET.get("refresh") == "1")
    return {
        "tools": [tool.to_json() for tool in listing],
        "truncated": listing.truncated,
        "fetched_at": listing.fetched_at.isoformat(),
    }


@require_POST
@json_view
def call(request: HttpRequest, server_id: uuid.UUID, name: str) -> dict[str, Any]:
    """Run a tool; the body is ``{"arguments": {...}}`` or empty."""
    limits.count(request.user, "call")
    try:
        sent = request.body
    except RequestDataTooBig as error:
        raise InvalidRequest(_("The request is too large.")) from error
    if len(sent) > settings.MAX_ARGUMENT_BYTES + 1024:
        raise InvalidRequest(_("The request is too large."))
    try:
        body = json.loads(sent or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(_("The body is not valid JSON.")) from error
    if not isinstance(body, dict) or set(body) - {"arguments"}:
        raise InvalidRequest(_("The body must be a JSON object with the member “arguments”."))
    return {"result": call_tool(server_id, request.user, name, body.get("arguments")).to_json()}


def servers_json(user: Person) -> list[dict[str, Any]]:
    """Return every server of a person's workspaces: what it is, authorized and reachable kept apart."""
    rows = (
        McpServer.objects.filter(workspace__memberships__user_id=user.pk)
        .select_related("workspace")
        .defer(*McpServer.SECRETS, "discover_result", "probe_steps", "oauth_options")
        .order_by("workspace__slug", "name", "pk")
    )
    listed = list(rows)
    grants = grants_of(user, listed)
    return [_server_json(row, grants.get(row.pk)) for row in listed]


def _server_json(server: McpServer, grant: McpServerOAuth | None) -> dict[str, Any]:
    # An identity of the application's own asks for its first token when it is first used.
    good = still_good(grant) if grant is not None else server.is_unattended
    reason = "" if good else "not_connected" if grant is None else "expired" if grant.is_active else grant.reason
    return {
        "id": str(server.pk),
        "name": server.name,
        "reference": server.natural_name(),
        "url": server.url,
        "enabled": server.is_in_use,
        "auth_mode": server.auth_mode,
        "shared": server.grant_is_shared,
        "authorized": good if server.uses_grants else server.headers_refused_at is None,
        "reason": reason if server.uses_grants else "",
        "expires_at": _moment(grant.expires_at if grant is not None else None),
        "renewed_at": _moment(grant.refreshed_at if grant is not None else None),
        "reachable": server.reachable,
        "contacted_at": _moment(server.contacted_at),
    }


def _moment(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
