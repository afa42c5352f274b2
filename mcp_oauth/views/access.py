"""Who gets to a view: signed-in people, inside their own workspaces, with typed errors as pages or JSON."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _

from mcp_oauth.exceptions import McpOAuthError, NotFound, NotSignedIn
from mcp_oauth.models import McpServer
from mcp_oauth.services.members import surely_creates_workspaces
from mcp_oauth.services.workspaces import Place, place_in, server_for, workspaces_of
from mcp_oauth.views.frame import DESTINATIONS, PERSONAL, links
from mcp_oauth.views.marks import hue_of, initials_of

if TYPE_CHECKING:
    from django.contrib.auth.models import User

P = ParamSpec("P")

# Where the session keeps the secret that ties a flow to this browser. Unlike the session's own key it
# survives the key's rotation at sign-in.
_BROWSER_KEY = "mcp_oauth_browser"


class SignedInRequest(HttpRequest):
    """A request of a signed-in person."""

    user: User


class MediaResponse(HttpResponse):
    """A page that may show pictures and sounds which it holds itself, at addresses that begin with ``data:``."""


def wants_json(request: HttpRequest) -> bool:
    """Whether the caller is a program: JSON is asked for and HTML is not."""
    accept = request.headers.get("Accept", "")
    return "application/json" in accept and "text/html" not in accept


def person_required(
    view: Callable[Concatenate[SignedInRequest, P], HttpResponseBase],
) -> Callable[..., HttpResponseBase]:
    """Let signed-in people in, and turn typed errors into a page or JSON."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            if wants_json(request):
                return error_response(request, NotSignedIn(_("You are not signed in.")))
            # After signing in, a form cannot be sent again; the person starts from where the form is.
            destination = request.get_full_path() if request.method in {"GET", "HEAD"} else reverse("mcp_oauth:home")
            return redirect_to_login(destination)
        try:
            return view(request, *args, **kwargs)  # type: ignore[arg-type]  # narrowed by the check above
        except McpOAuthError as error:
            return error_response(request, error)

    return guarded


def error_response(request: HttpRequest, error: McpOAuthError, *, place: Place | None = None) -> HttpResponse:
    """Answer with a typed error, as JSON or as a page."""
    if wants_json(request):
        return error_json(error)
    context = {
        "title": _("That did not work"),
        "message": error.user_message,
        "next_step": error.next_step,
        "document": error.document,
        "code": error.code,
        "back_url": _back_url(place),
        **page_context(request, place),
    }
    response = render(request, "mcp_oauth/error.html", context, status=error.http_status)
    # What is missing today may be there tomorrow, and the frame around it is this person's.
    response["Cache-Control"] = "no-store"
    return _when_again(response, error)


def error_json(error: McpOAuthError) -> HttpResponse:
    """Answer a program with a typed error."""
    return _when_again(JsonResponse({"error": error.as_json()}, status=error.http_status), error)


def _when_again(response: HttpResponse, error: McpOAuthError) -> HttpResponse:
    # RFC 9110 §10.2.3, for programs that know the header and not our JSON.
    seconds = getattr(error, "retry_after", None)
    if seconds is not None:
        response["Retry-After"] = str(seconds)
    return response


def page_context(request: HttpRequest, place: Place | None) -> dict[str, Any]:
    """Return what every page's frame shows."""
    user = request.user
    frame: dict[str, Any] = {
        "workspace": None,
        "membership": None,
        "is_admin": False,
        "workspaces": [],
        "new_workspace_url": "",
        "destinations": [],
        "personal": links(request, PERSONAL, {}) if user.is_authenticated else [],
        "person": _named(user.get_username()) if user.is_authenticated else None,
    }
    if place is None:
        return frame
    workspace = place.workspace
    return {
        **frame,
        "workspace": {**_named(workspace.name), "slug": workspace.slug},
        "membership": place.membership,
        "is_admin": place.is_admin,
        "workspaces": [
            {**_named(other.name), "slug": other.slug} for other in workspaces_of(user) if other.pk != workspace.pk
        ],
        # Anybody else finds it among their workspaces, where it is asked: permissions cost every page two queries.
        "new_workspace_url": reverse("mcp_oauth:new_workspace") if surely_creates_workspaces(user) else "",
        "own_workspaces_url": reverse("mcp_oauth:account") + "#workspaces-title",
        "destinations": links(request, DESTINATIONS, {"slug": workspace.slug}),
    }


def _named(name: str) -> dict[str, Any]:
    """Return a name with the mark that stands for it."""
    return {"name": name, "initials": initials_of(name), "hue": hue_of(name)}


def place_and_server(request: HttpRequest, slug: str, server_id: Any) -> tuple[Place, McpServer]:
    """Return the person's place and a server of that very workspace.

    Raises:
        NotFound: either does not exist for this person.
    """
    place = place_in(request.user, slug)
    server = server_for(request.user, server_id)
    if server.workspace_id != place.workspace.pk:
        raise NotFound(_("There is no server of that name in this workspace."))
    server.workspace = place.workspace
    return place, server


def browser_secret(request: HttpRequest, *, create: bool) -> str:
    """Return the secret that ties flows to this browser session; empty when there is none yet."""
    secret = request.session.get(_BROWSER_KEY)
    if isinstance(secret, str) and secret:
        return secret
    if not create:
        return ""
    secret = secrets.token_urlsafe(32)
    request.session[_BROWSER_KEY] = secret
    return secret


def _back_url(place: Place | None) -> str:
    if place is None:
        return reverse("mcp_oauth:home")
    return reverse("mcp_oauth:settings", kwargs={"slug": place.workspace.slug})
