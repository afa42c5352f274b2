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
from mcp_oauth.models import McpServer, McpServerOAuth
from mcp_oauth.services import servers
from mcp_oauth.services.catalog import Catalogue, list_tools, plan_listing
from mcp_oauth.services.steps import drive

# An action asks one server after the other while a person and a worker wait; each may take half a minute.
_MOST_SERVERS_PER_ACTION = 10
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


def _few_enough(site_admin: Admin[McpServer], request: HttpRequest, queryset: QuerySet[McpServer]) -> list[McpServer]:
    """Return the selected servers, or none and a word about it when there are too many."""
    chosen = list(queryset[: _MOST_SERVERS_PER_ACTION + 1])
    if len(chosen) <= _MOST_SERVERS_PER_ACTION:
        return chosen
    text = _("Select at most %(count)d servers; they are asked one after the other.")
    site_admin.message_user(request, text % {"count": _MOST_SERVERS_PER_ACTION}, messages.ERROR)
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
