"""The audit trail in the admin: to be looked at and searched, never changed."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mcp_oauth.admin import help_texts as texts
from mcp_oauth.admin.filters import ByServer
from mcp_oauth.admin.row_classes import Facts
from mcp_oauth.models import Event, Workspace


@admin.register(Event)
class EventAdmin(Facts[Event]):
    """What became of grants and servers; it outlives both."""

    help_texts = texts.EVENT
    list_display = ("at", "kind", "outcome", "server_name", "person", "done_by")
    list_filter = ("kind", ByServer, ("workspace", admin.RelatedOnlyFieldListFilter), "outcome")
    search_fields = ("server_name", "user_name", "actor_name", "outcome")
    search_help_text = gettext_lazy("A server or person by name, or an outcome")
    show_full_result_count = False
    date_hierarchy = "at"
    # Names are kept beside the references, whose rows may be gone.
    fields = (
        "at",
        "kind",
        "outcome",
        "server_name",
        "server_key",
        "workspace_name",
        "person",
        "done_by",
        "grant_id",
        "details_as_text",
    )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody removes these by hand; they go when their time is over."""
        return False

    @admin.display(description=gettext_lazy("person"), ordering="user_name")
    def person(self, event: Event) -> str:
        """Return whose grant it is."""
        return event.user_name or _("the workspace")

    @admin.display(description=gettext_lazy("done by"), ordering="actor_name")
    def done_by(self, event: Event) -> str:
        """Return who did it."""
        return event.actor_name or _("the application")

    @admin.display(description=gettext_lazy("key of the server"))
    def server_key(self, event: Event) -> str:
        """Return the server's key, whether or not there is still a server of that key."""
        return str(event.server_id or "") or self.get_empty_value_display()

    @admin.display(description=gettext_lazy("workspace"))
    def workspace_name(self, event: Event) -> str:
        """Return the workspace, by name while it exists."""
        name = Workspace.objects.filter(pk=event.workspace_id).values_list("name", flat=True).first()
        return name or str(event.workspace_id)

    @admin.display(description=gettext_lazy("details"))
    def details_as_text(self, event: Event) -> SafeString:
        """Return the details as indented JSON."""
        return format_html("<pre>{}</pre>", json.dumps(event.details, indent=2, ensure_ascii=False, default=str))
