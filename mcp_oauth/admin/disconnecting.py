"""Ends every grant of chosen servers, after a page that says how many these are and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mcp_oauth.admin.people import signed_in
from mcp_oauth.admin.row_classes import Admin
from mcp_oauth.models import McpServer, McpServerOAuth
from mcp_oauth.services.revocation import Ended, end_grants


@dataclass(frozen=True)
class Ending:
    """One server, and how many grants of it end: how many of them the provider is told of."""

    server: McpServer
    grants: int
    told: int


@admin.action(description=gettext_lazy("Disconnect everybody…"), permissions=["disconnect"])
def disconnect_everybody(
    site_admin: Admin[McpServer], request: HttpRequest, queryset: QuerySet[McpServer]
) -> TemplateResponse | None:
    """Say what would end; once that is confirmed, end it and say what the providers answered."""
    grants = McpServerOAuth.objects.filter(server__in=queryset.order_by().values("pk"))
    if request.POST.get("post"):
        rows = list(grants.select_related("server__workspace", "registration").order_by("server__name", "pk"))
        ended = Ended.of(end_grants(rows, actor=signed_in(request)))
        for server in {grant.server_id: grant.server for grant in rows}.values():
            site_admin.log_change(request, server, _("Disconnected everybody."))
        words = ended.in_words() or _("Nobody was connected.")
        level = messages.WARNING if ended.unconfirmed or ended.not_offered else messages.SUCCESS
        site_admin.message_user(request, words, level)
        return None
    endings = _endings(queryset)
    number = sum(ending.grants for ending in endings)
    if not number:
        site_admin.message_user(request, _("Nobody is connected there."), messages.INFO)
        return None
    context: dict[str, Any] = {
        **site_admin.admin_site.each_context(request),
        "title": ngettext("Disconnect %(number)d grant", "Disconnect %(number)d grants", number) % {"number": number},
        "subtitle": None,
        "opts": site_admin.opts,
        "endings": endings,
        "number": number,
        "not_told": number - sum(ending.told for ending in endings),
        "queryset": queryset,
        "action_checkbox_name": ACTION_CHECKBOX_NAME,
        "media": site_admin.media,
    }
    return TemplateResponse(request, "mcp_oauth/admin/disconnect.html", context)


def _endings(queryset: QuerySet[McpServer]) -> list[Ending]:
    servers = McpServer.objects.filter(pk__in=queryset.order_by().values("pk")).select_related("workspace")
    counted = servers.only("name", "workspace__name").annotate(
        number=Count("grants"), told=Count("grants", filter=~Q(grants__revocation_endpoint=""))
    )
    return [
        Ending(server, server.number, server.told) for server in counted.filter(number__gt=0).order_by("name", "pk")
    ]
