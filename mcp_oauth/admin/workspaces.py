"""Workspaces and the people in them."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mcp_oauth.admin import help_texts as texts
from mcp_oauth.admin.cells import connections_page, links_of, number_of, rows_of
from mcp_oauth.admin.filters import needs_attention
from mcp_oauth.admin.people import USERNAME, signed_in
from mcp_oauth.admin.row_classes import Helped, Inline, NoNetworkInTransaction
from mcp_oauth.models import ApiToken, Event, McpServer, McpServerOAuth, Membership, ToolCall, Workspace
from mcp_oauth.services import membership_events, servers


class MembershipInline(Inline[Membership, Workspace]):
    """The people of a workspace."""

    model = Membership
    fields = ("user", "role")
    raw_id_fields = ("user",)
    extra = 0

    def get_formset(self, request: HttpRequest, obj: Workspace | None = None, **kwargs: Any) -> Any:
        """Hand the forms what their fields are."""
        return super().get_formset(request, obj, **{"help_texts": dict(texts.MEMBERSHIP), **kwargs})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Fetch what each row's title needs at once."""
        return super().get_queryset(request).select_related("user", "workspace")


@admin.register(Workspace)
class WorkspaceAdmin(Helped[Workspace], NoNetworkInTransaction[Workspace]):
    """Teams: who belongs to them and how many servers they have."""

    help_texts = texts.WORKSPACE
    list_display = ("name", "slug", "server_count", "attention_count", "member_count", "connections_page")
    search_fields = ("name", "slug")
    search_help_text = gettext_lazy("Name or short name")
    fields = ("name", "slug", "related", "connections_page")
    readonly_fields = ("related", "connections_page")
    prepopulated_fields: ClassVar = {"slug": ("name",)}
    inlines = (MembershipInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workspace]:
        """Count servers and members in the same query."""
        return (
            super()
            .get_queryset(request)
            .annotate(
                server_count=number_of(McpServer.objects.all(), "workspace"),
                attention_count=number_of(McpServer.objects.filter(needs_attention()), "workspace"),
                member_count=number_of(Membership.objects.all(), "workspace"),
            )
        )

    @admin.display(description=gettext_lazy("servers"), ordering="server_count")
    def server_count(self, workspace: Workspace) -> SafeString:
        """Return how many servers the workspace has, and the way to them."""
        return rows_of(McpServer, str(getattr(workspace, "server_count", 0)), workspace__id__exact=workspace.pk)

    @admin.display(description=gettext_lazy("need attention"), ordering="attention_count")
    def attention_count(self, workspace: Workspace) -> SafeString:
        """Return how many of its servers somebody should look at, and the way to them."""
        number = str(getattr(workspace, "attention_count", 0))
        return rows_of(McpServer, number, workspace__id__exact=workspace.pk, state="attention")

    @admin.display(description=gettext_lazy("members"), ordering="member_count")
    def member_count(self, workspace: Workspace) -> SafeString:
        """Return how many people belong to the workspace, and the way to them."""
        return rows_of(Membership, str(getattr(workspace, "member_count", 0)), workspace__id__exact=workspace.pk)

    @admin.display(description=gettext_lazy("what belongs to it"))
    def related(self, workspace: Workspace) -> SafeString | str:
        """Link to the rows and pages of this workspace."""
        if workspace._state.adding:
            return "-"
        activity = reverse("mcp_oauth:activity", kwargs={"slug": workspace.slug})
        return links_of(
            (
                rows_of(McpServer, _("Servers"), workspace__id__exact=workspace.pk),
                rows_of(McpServerOAuth, _("Grants"), server__workspace__id__exact=workspace.pk),
                rows_of(ToolCall, _("Calls"), server__workspace__id__exact=workspace.pk),
                rows_of(Event, _("Events"), workspace__id__exact=workspace.pk),
                rows_of(ApiToken, _("API tokens"), workspace__id__exact=workspace.pk),
                format_html('<a href="{}">{}</a>', activity, _("Its activity")),
            )
        )

    @admin.display(description=gettext_lazy("connections page"))
    def connections_page(self, workspace: Workspace) -> str:
        """Link to where the workspace's people connect."""
        return connections_page(workspace)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save the people, and put on record who came, went or got another role."""
        with membership_events.removed_by(signed_in(request)):
            formset.save()
        for membership in formset.new_objects:
            membership_events.record_added(membership, actor=signed_in(request))
        for membership, fields in formset.changed_objects:
            if "role" in fields:
                membership_events.record_role(membership, actor=signed_in(request))

    def delete_model(self, request: HttpRequest, obj: Workspace) -> None:
        """Delete the workspace's servers first, so that their grants are revoked upstream."""
        for server in McpServer.objects.filter(workspace=obj):
            servers.delete_server(server, actor=signed_in(request))
        with membership_events.removed_by(signed_in(request)):
            obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Workspace]) -> None:
        """Delete each as `delete_model` does."""
        for workspace in queryset:
            self.delete_model(request, workspace)


@admin.register(Membership)
class MembershipAdmin(Helped[Membership]):
    """Who belongs where; afterwards only the role changes."""

    help_texts = texts.MEMBERSHIP
    list_display = ("user", "workspace", "role", "created_at")
    list_filter = ("role", ("workspace", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("user", "workspace")
    search_fields = (USERNAME, "workspace__name", "workspace__slug")
    fields = ("workspace", "user", "role")
    raw_id_fields = ("user",)

    def get_readonly_fields(self, request: HttpRequest, obj: Membership | None = None) -> tuple[str, ...]:
        """Keep the place once it is given."""
        return ("workspace", "user") if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        """Save the membership, and put it on record."""
        obj.save()
        if not change:
            membership_events.record_added(obj, actor=signed_in(request))
        elif "role" in form.changed_data:
            membership_events.record_role(obj, actor=signed_in(request))

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        """Remove the person; what they granted there is revoked."""
        with membership_events.removed_by(signed_in(request)):
            obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        """Remove each as `delete_model` does."""
        for membership in queryset:
            self.delete_model(request, membership)
