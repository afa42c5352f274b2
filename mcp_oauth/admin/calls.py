"""Tool calls in the admin: who ran what and how it ended; never with what, nor what came back."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy

from mcp_oauth.admin import help_texts as texts
from mcp_oauth.admin.cells import stored
from mcp_oauth.admin.filters import ByServer, CallDuration
from mcp_oauth.admin.people import USERNAME
from mcp_oauth.admin.row_classes import Facts
from mcp_oauth.models import ToolCall
from mcp_oauth.views.happenings import took


@admin.register(ToolCall)
class ToolCallAdmin(Facts[ToolCall]):
    """Calls. Deletable, for people and servers could otherwise not be deleted by who may not do this."""

    help_texts = texts.CALL
    list_display = ("started_at", "tool", "server", "workspace", "user", "state", "outcome", "took")
    list_filter = (
        "state",
        CallDuration,
        ByServer,
        ("server__workspace", admin.RelatedOnlyFieldListFilter),
        "outcome",
    )
    search_fields = ("tool", "server__name", USERNAME)
    search_help_text = gettext_lazy("A tool, a server or a person")
    # Counting all calls ever made is what takes long in a list of them.
    show_full_result_count = False
    date_hierarchy = "started_at"
    fields = (
        "tool",
        "server",
        "workspace",
        "user",
        "state",
        "outcome",
        "attempt",
        "started_at",
        "ended_at",
        "duration_ms",
        "deadline_at",
        "cancel_requested_at",
        "progress",
        "progress_total",
        "progress_message",
        "resumable_until",
        "held_by",
        "stored_arguments",
        "stored_pending",
        "stored_answers",
        "stored_result",
        "erase_at",
        "server_generation",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ToolCall]:
        """Leave what is sealed in the database until one call is looked at."""
        rows = super().get_queryset(request).select_related("user", "server__workspace")
        return rows.defer("arguments", "pending", "answers", "result")

    @admin.display(description=gettext_lazy("duration"), ordering="duration_ms")
    def took(self, call: ToolCall) -> str:
        """Return how long the last attempt took."""
        return took(call.duration_ms) or "-"

    @admin.display(description=gettext_lazy("workspace"), ordering="server__workspace__name")
    def workspace(self, call: ToolCall) -> str:
        """Return where the server belongs."""
        return str(call.server.workspace)

    @admin.display(description=gettext_lazy("arguments"))
    def stored_arguments(self, call: ToolCall) -> str:
        """Say whether the arguments are kept."""
        return stored(call, "arguments")

    @admin.display(description=gettext_lazy("what the server asks"))
    def stored_pending(self, call: ToolCall) -> str:
        """Say whether there is a question, or a state that goes back to the server."""
        return stored(call, "pending")

    @admin.display(description=gettext_lazy("answers"))
    def stored_answers(self, call: ToolCall) -> str:
        """Say whether answers are kept."""
        return stored(call, "answers")

    @admin.display(description=gettext_lazy("result"))
    def stored_result(self, call: ToolCall) -> str:
        """Say whether the result is kept."""
        return stored(call, "result")
