"""The OAuth endpoints: start, callback, cancel, disconnect, and the client ID metadata document."""

from __future__ import annotations

from urllib.parse import urlencode

from django.conf import settings as django_settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import redirect, render, resolve_url
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST, require_safe

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import (
    CallbackRefused,
    McpOAuthError,
    NotFound,
    NotSignedIn,
)
from mcp_oauth.models import AuthorizationFlow, McpServer, ToolCall
from mcp_oauth.oauth.registration import client_metadata_document
from mcp_oauth.services import callbacks, connections, flows, limits
from mcp_oauth.services.registrations import client_metadata_url, redirect_uri
from mcp_oauth.services.workspaces import place_in, server_for
from mcp_oauth.views.access import SignedInRequest, browser_secret, page_context, person_required, wants_json

# `sensitive_variables()` is first on every view beneath which a secret is held: a report of a crash then shows no
# variable of any function that the view called.

# An hour: authorization servers fetch the document at every new authorization (client ID metadata documents, §5).
_CLIENT_METADATA_SECONDS = 3600


@sensitive_variables()
@require_POST
@person_required
def start(request: SignedInRequest) -> HttpResponse:
    """Open a flow and send the person to the authorization server."""
    limits.count(request.user, "start")
    started = connections.start_authorization(
        _named_server(request),
        request.user,
        browser=browser_secret(request, create=True),
        again=request.POST.get("again") == "1",
    )
    if started.status == "already_authorized":
        if wants_json(request):
            return JsonResponse({"status": started.status})
        messages.info(request, _("You are already connected to %(name)s.") % {"name": started.server.name})
        return redirect(_settings_url(started.server))
    return started_json(started) if wants_json(request) else leaving_page(request, started)


def started_json(started: connections.AuthorizationStart, **more: str) -> HttpResponse:
    """Tell a program where to send its person."""
    answer = {
        "status": started.status,
        "authorization_url": started.authorization_url,
        "flow": str(started.flow_id),
        **more,
    }
    return _unstored(JsonResponse(answer))


def leaving_page(request: SignedInRequest, started: connections.AuthorizationStart) -> HttpResponse:
    """Show where the person is about to go, and go there."""
    context = {
        **page_context(request, place_in(request.user, started.server.workspace.slug)),
        "server_name": started.server.name,
        "destination_host": started.destination_host,
        "scopes": started.scopes,
        "authorization_url": started.authorization_url,
        "flow_id": str(started.flow_id),
        "back_url": _settings_url(started.server),
    }
    response = render(request, "mcp_oauth/leaving.html", context)
    # A page that leaves by itself, not a redirect: CSP's form-action would stop a form's redirect to another
    # origin, and the person sees where they are going.
    response["Refresh"] = f"1; url={started.authorization_url}"
    return _unstored(response)


@sensitive_variables()
@require_safe
def callback(request: HttpRequest) -> HttpResponse:
    """Finish a flow and say how it ended; the page works in a popup, in a tab, and without script."""
    parameters = _taken_out(request)
    flow = _own_flow(request, parameters)
    server = flow.server if flow is not None else None
    error: McpOAuthError | None = None
    try:
        if request.method == "HEAD":
            raise CallbackRefused(_("This address answers a browser only."), reason="malformed")
        if not request.user.is_authenticated:
            raise NotSignedIn(
                _("You were signed out while you were away, so nothing was connected."),
                next_step=_("Sign in and start again from the connections page."),
            )
        limits.count(request.user, "callback")
        connected = callbacks.finish_authorization(
            request.user, browser=browser_secret(request, create=False), parameters=parameters
        )
        server = connected.server
    except McpOAuthError as failure:
        error = failure
    context = {
        **page_context(request, None),
        "outcome": "connected" if error is None else "refused",
        "title": _title_of(error),
        "message": (
            error.user_message
            if error is not None
            else _("%(name)s now works with your own account.") % {"name": server.name if server else ""}
        ),
        "next_step": error.next_step if error is not None else "",
        "code": error.code if error is not None else "",
        "server_name": server.name if server is not None else "",
        "slug": server.workspace.slug if server is not None else "",
        "server_id": str(server.pk) if server is not None else "",
        "flow_id": str(flow.pk) if flow is not None else "",
        "back_url": _way_back(request, server),
        "waiting": _waiting_call(request, server) if error is None else None,
        "sign_in_url": _sign_in_url() if isinstance(error, NotSignedIn) else "",
    }
    response = render(request, "mcp_oauth/callback.html", context, status=error.http_status if error else 200)
    # The callback answers a person; a gateway's status would invite proxies to try again.
    if response.status_code >= 500:
        response.status_code = 400
    return _unstored(response)


@require_POST
@person_required
def cancel(request: SignedInRequest) -> HttpResponse:
    """Close one of the person's own open flows."""
    server = flows.cancel_flow(request.POST.get("flow", ""), request.user)
    if wants_json(request):
        return JsonResponse({"status": "cancelled" if server is not None else "not_open"})
    return redirect(_way_back(request, server))


@require_POST
@person_required
def decline(request: SignedInRequest) -> HttpResponse:
    """Stop offering the additional access a tool asked for."""
    server = connections.decline_step_up(_named_server(request), request.user)
    if wants_json(request):
        return JsonResponse({"status": "declined"})
    return redirect(_settings_url(server))


@sensitive_variables()
@require_POST
@person_required
def disconnect(request: SignedInRequest) -> HttpResponse:
    """End the person's grant at a server."""
    ended = connections.disconnect(_named_server(request), request.user)
    if wants_json(request):
        return JsonResponse({"status": "disconnected", "revoked": ended.revoked})
    if not ended.existed:
        text = _("You were not connected to %(name)s.")
    elif ended.revoked:
        text = _("Disconnected from %(name)s; the provider confirmed that the access is revoked.")
    elif ended.revoked is None:
        text = _("Disconnected from %(name)s. The provider offers no revocation; the access ends there by itself.")
    else:
        text = _("Disconnected from %(name)s. The provider did not confirm it; remove the access there as well.")
    messages.success(request, text % {"name": ended.server.name})
    return redirect("mcp_oauth:account" if request.POST.get("from") == "account" else _settings_url(ended.server))


@require_safe
def client_metadata(request: HttpRequest) -> HttpResponse:
    """Publish who this application is, for authorization servers that accept client ID metadata documents."""
    document = client_metadata_document(
        client_id_url=client_metadata_url(),
        client_name=settings.CLIENT_NAME,
        redirect_uri=redirect_uri(),
        client_uri=settings.public_url,
    )
    response = JsonResponse(document)
    response["Cache-Control"] = f"public, max-age={_CLIENT_METADATA_SECONDS}"
    return response


def _named_server(request: SignedInRequest) -> str:
    named = request.POST.get("server", "")
    # PostgreSQL refuses to look for a text with a NUL in it.
    if not named or "\x00" in named:
        raise NotFound(_("The request names no server."))
    return named


def _taken_out(request: HttpRequest) -> dict[str, list[str]]:
    """Return the query, and leave the request without it: reports of crashes and logs show what a request holds."""
    parameters = {name: request.GET.getlist(name) for name in request.GET}
    request.GET = QueryDict()
    request.META["QUERY_STRING"] = ""
    return parameters


def _own_flow(request: HttpRequest, parameters: dict[str, list[str]]) -> AuthorizationFlow | None:
    """Return the flow a response names, if it is this person's; others learn nothing of it."""
    try:
        flow = flows.find_flow(parameters)
    except CallbackRefused:
        return None
    return flow if flow.user_id == request.user.pk else None


def _title_of(error: McpOAuthError | None) -> str:
    if error is None:
        return _("You are connected")
    # Opened twice, it may well have connected the first time.
    used = isinstance(error, CallbackRefused) and error.reason == "used"
    return _("This was used already") if used else _("Not connected")


def _way_back(request: HttpRequest, server: McpServer | None) -> str:
    """Return where the person can connect again; the first page, where the workspace is not theirs any more."""
    if server is None:
        return reverse("mcp_oauth:home")
    try:
        server_for(request.user, server)
    except NotFound:
        return reverse("mcp_oauth:home")
    return _settings_url(server)


def _waiting_call(request: HttpRequest, server: McpServer | None) -> ToolCall | None:
    """Return the newest call of the person's that waited for this access and can go on now."""
    if server is None or request.user.pk is None:
        return None
    rows = ToolCall.objects.filter(
        server_id=server.pk,
        user_id=request.user.pk,
        state=ToolCall.State.AUTHORIZATION_REQUIRED,
        resumable_until__gt=timezone.now(),
    )
    return rows.order_by("-started_at").only("pk", "tool", "server_id").first()


def _sign_in_url() -> str:
    # Not back to the callback: its address holds a code, which belongs into no other address.
    return f"{resolve_url(django_settings.LOGIN_URL)}?{urlencode({'next': reverse('mcp_oauth:home')})}"


def _settings_url(server: McpServer) -> str:
    return reverse("mcp_oauth:settings", kwargs={"slug": server.workspace.slug}) + f"#server-{server.pk}"


def _unstored(response: HttpResponse) -> HttpResponse:
    """Keep a response that carries a state or code out of caches and Referer headers."""
    response["Cache-Control"] = "no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response
