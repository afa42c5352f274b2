"""What an administrator asks of several servers at once, and how the answers are told."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mcp_oauth.admin.cells import told
from mcp_oauth.admin.people import name_of
from mcp_oauth.admin.row_classes import Admin
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import McpServer, McpServerOAuth, StoredListing
from mcp_oauth.services import listings, servers
from mcp_oauth.services.catalog import Catalogue, list_tools, plan_listing
from mcp_oauth.services.diagnosis import diagnose_server
from mcp_oauth.services.steps import drive

# An action asks one server after the other while a person and a worker wait; each may take half a minute.
_MOST_SERVERS_PER_ACTION = 10
# A diagnosis asks the server and its authorization server, up to half a minute of each.
_MOST_DIAGNOSED = 3
# More names than this hide the result they stand beside.
_MOST_NAMES = 10


@admin.action(description=gettext_lazy("Ask the selected servers what they are"), permissions=["change"])
def ask_what_they_are(site_admin: Admin[McpServer], request: HttpRequest, queryset: QuerySet[McpServer]) -> None:
    """Probe each server and say what it turned out to be."""
    for server in _few_enough(site_admin, request, queryset):
        try:
            report = servers.probe_again(server)
        except McpOAuthError as error:
            site_admin.message_user(request, f"{server.name}: {told(error)}", messages.ERROR)
            continue
        said = f"{server.name}: {report.verdict}"
        if report.error is None:
            site_admin.message_user(request, said, messages.SUCCESS)
        else:
            level = messages.ERROR if report.auth_mode is None else messages.WARNING
            site_admin.message_user(request, f"{said} {report.error.next_step}".strip(), level)


@admin.action(description=gettext_lazy("Test: list tools"), permissions=["change"])
def test_listing(site_admin: Admin[McpServer], request: HttpRequest, queryset: QuerySet[McpServer]) -> None:
    """List each server's tools, behind OAuth with the acting person's own grant."""
    for server in _few_enough(site_admin, request, queryset):
        connected = _connected_people(server) if server.auth_mode == McpServer.AuthMode.OAUTH else ""
        try:
            count = len(_listing(server, request.user))
        except McpOAuthError as error:
            site_admin.message_user(request, f"{server.name}: {told(error)} {connected}".strip(), messages.ERROR)
            continue
        text = ngettext("%(name)s offers %(count)d tool.", "%(name)s offers %(count)d tools.", count)
        text %= {"name": server.name, "count": count}
        site_admin.message_user(request, f"{text} {connected}".strip(), messages.SUCCESS)


@admin.action(description=gettext_lazy("Diagnose: try every step of a connection"), permissions=["change"])
def diagnose(site_admin: Admin[McpServer], request: HttpRequest, queryset: QuerySet[McpServer]) -> None:
    """Try each server's way of connecting, without an account, and say what stands in it."""
    for server in _few_enough(site_admin, request, queryset, most=_MOST_DIAGNOSED):
        try:
            found = diagnose_server(server)
        except McpOAuthError as error:
            site_admin.message_user(request, f"{server.name}: {told(error)}", messages.ERROR)
            continue
        if not found.failures:
            text = _("%(name)s: nothing stands in the way. %(verdict)s") % {
                "name": server.name,
                "verdict": found.verdict,
            }
            site_admin.message_user(request, text, messages.SUCCESS)
        for failure in found.failures:
            site_admin.message_user(request, f"{server.name}: {told(failure)} ({failure.code})", messages.ERROR)


@admin.action(description=gettext_lazy("Let tools be listed anew"), permissions=["change"])
def list_anew(site_admin: Admin[McpServer], request: HttpRequest, queryset: QuerySet[McpServer]) -> None:
    """Let everybody's listings of each server be asked for again when they are wanted next; nobody acts as them."""
    number = listings.let_expire(StoredListing.objects.filter(server__in=queryset.order_by().values("pk")))
    text = ngettext(
        "%(number)d listing is asked for again when somebody wants it next.",
        "%(number)d listings are asked for again when somebody wants them next.",
        number,
    )
    site_admin.message_user(request, text % {"number": number}, messages.SUCCESS)


def _few_enough(
    site_admin: Admin[McpServer],
    request: HttpRequest,
    queryset: QuerySet[McpServer],
    *,
    most: int = _MOST_SERVERS_PER_ACTION,
) -> list[McpServer]:
    """Return the selected servers, or none and a word about it when there are too many."""
    chosen = list(queryset[: most + 1])
    if len(chosen) <= most:
        return chosen
    text = _("Select at most %(count)d servers; they are asked one after the other.")
    site_admin.message_user(request, text % {"count": most}, messages.ERROR)
    return []


def _listing(server: McpServer, user: Any) -> Catalogue:
    """List a server's tools for whoever administers the site.

    What opens the server for everybody needs no place in its workspace; a personal grant does.
    """
    if server.auth_mode == McpServer.AuthMode.OAUTH:
        return list_tools(server, user, refresh=True)
    return drive(plan_listing(server, user, refresh=True))


def _connected_people(server: McpServer) -> str:
    grants = McpServerOAuth.objects.filter(server=server, state=McpServerOAuth.State.ACTIVE).select_related("user")
    names = [
        name_of(grant.user) for grant in grants.defer("access_token", "refresh_token", "dpop_key")[: _MOST_NAMES + 1]
    ]
    if not names:
        return _("Nobody is connected.")
    more = ["…"] if len(names) > _MOST_NAMES else []
    return _("Connected: %(names)s.") % {"names": ", ".join([*names[:_MOST_NAMES], *more])}
