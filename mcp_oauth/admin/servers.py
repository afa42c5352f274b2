"""MCP servers in the admin; every change takes the same way as on the workspace's own pages."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from mcp_oauth.admin import help_texts as texts
from mcp_oauth.admin.cells import connections_page, links_of, list_of, number_of, rows_of, stored
from mcp_oauth.admin.disconnecting import disconnect_everybody
from mcp_oauth.admin.filters import ServerAuthorized, ServerState
from mcp_oauth.admin.people import signed_in
from mcp_oauth.admin.rotation import Rotating
from mcp_oauth.admin.row_classes import Helped, NoNetworkInTransaction
from mcp_oauth.admin.server_actions import ask_what_they_are, diagnose, list_anew, test_listing
from mcp_oauth.admin.server_form import OPTION_FIELDS, McpServerForm
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import AuthorizationFlow, Event, McpServer, McpServerOAuth, StoredListing, ToolCall
from mcp_oauth.services import servers
from mcp_oauth.services.registrations import shown_redirect_uri
from mcp_oauth.services.revocation import Ended
from mcp_oauth.services.server_settings import ServerSettings

_Fieldsets = list[tuple[Any, Any]]

_POLICY = ("allow_tools", "deny_tools")
_ABOUT = ("related", "connections_page", "name", "url", "enabled")
# What is counted beside a server in the list.
_RECENTLY = timedelta(days=7)
_STATUS = (
    gettext_lazy("Status"),
    {
        "fields": (
            "reachable",
            "contacted_at",
            "last_error",
            "headers_refused_at",
            "last_verdict",
            "probed_at",
            "probe_table",
            "protocol_version",
            "active_grants",
            "generation",
            "created_at",
        )
    },
)


@admin.register(McpServer)
class McpServerAdmin(Rotating[McpServer], Helped[McpServer], NoNetworkInTransaction[McpServer]):
    """MCP servers; every change takes the same way as on the workspace's own pages."""

    form = McpServerForm
    help_texts = texts.SERVER
    list_display = (
        "name",
        "workspace",
        "standing",
        "reachable",
        "contacted_at",
        "active_grants",
        "ended_grants",
        "recent_calls",
    )
    list_filter = (
        ServerState,
        "reachable",
        ServerAuthorized,
        "auth_mode",
        "sharing",
        ("workspace", admin.RelatedOnlyFieldListFilter),
    )
    search_fields = ("name", "slug", "url", "workspace__name", "workspace__slug")
    search_help_text = gettext_lazy("Name, short name or address of a server, or of its workspace")
    actions = (ask_what_they_are, diagnose, test_listing, list_anew, disconnect_everybody, "rotate_keys")

    def has_disconnect_permission(self, request: HttpRequest) -> bool:
        """Whoever may delete grants may end those of a server together."""
        return bool(request.user.has_perm("mcp_oauth.delete_mcpserveroauth"))

    def view_on_site(self, server: McpServer) -> str:
        """Return the server's own page."""
        return reverse("mcp_oauth:server", kwargs={"slug": server.workspace.slug, "server_id": server.pk})

    def get_queryset(self, request: HttpRequest) -> QuerySet[McpServer]:
        """Leave the secrets and long documents in the database until one row is looked at."""
        active = McpServerOAuth.objects.filter(state=McpServerOAuth.State.ACTIVE)
        ended = McpServerOAuth.objects.filter(state=McpServerOAuth.State.NEEDS_REAUTHORIZATION)
        recent = ToolCall.objects.filter(started_at__gte=timezone.now() - _RECENTLY)
        return (
            super()
            .get_queryset(request)
            .select_related("workspace")
            .defer(*McpServer.SECRETS, "discover_result", "probe_steps")
            .annotate(
                active_grants=number_of(active, "server"),
                ended_grants=number_of(ended, "server"),
                recent_calls=number_of(recent, "server"),
            )
        )

    def get_fieldsets(self, request: HttpRequest, obj: McpServer | None = None) -> _Fieldsets:
        """Leave out what there is nothing to say about yet, or what the person cannot change."""
        if obj is None:
            return [
                (gettext_lazy("What it is"), {"fields": ("workspace", "name", "slug", "url", "enabled")}),
                (gettext_lazy("Authorization"), {"fields": ("kind", "sharing", "new_headers")}),
                (
                    gettext_lazy("Client at the provider"),
                    {
                        "classes": ["collapse"],
                        "fields": (
                            "register_with",
                            "client_id",
                            "new_client_secret",
                            "client_issuer",
                            "new_initial_access_token",
                        ),
                    },
                ),
                (
                    gettext_lazy("OAuth options"),
                    {"classes": ["collapse"], "fields": (*OPTION_FIELDS, "new_idp_client_secret")},
                ),
                (gettext_lazy("Tools"), {"classes": ["collapse"], "fields": _POLICY}),
            ]
        changes = self.has_change_permission(request, obj)
        return [
            (gettext_lazy("What it is"), {"fields": ("workspace", "slug", *_ABOUT)}),
            (
                gettext_lazy("Authorization"),
                {
                    "fields": (
                        "known_kind",
                        *_if(changes, "kind"),
                        "sharing",
                        "stored_headers",
                        *_if(changes, "new_headers", "clear_headers"),
                    )
                },
            ),
            (
                gettext_lazy("Client at the provider"),
                {
                    "fields": (
                        "register_with",
                        "client_id",
                        "stored_client_secret",
                        *_if(changes, "new_client_secret", "clear_client_secret"),
                        "client_issuer",
                        "stored_initial_access_token",
                        *_if(changes, "new_initial_access_token", "clear_initial_access_token"),
                    )
                },
            ),
            (
                gettext_lazy("OAuth options"),
                {
                    "classes": ["collapse"],
                    "fields": (
                        *(OPTION_FIELDS if changes else ("options_as_text",)),
                        "stored_idp_client_secret",
                        *_if(changes, "new_idp_client_secret", "clear_idp_client_secret"),
                    ),
                },
            ),
            (
                gettext_lazy("Tools"),
                {"classes": ["collapse"], "fields": _POLICY if changes else ("allowed_tools", "denied_tools")},
            ),
            _STATUS,
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: McpServer | None = None) -> tuple[str, ...]:
        """Keep workspace and short name once given: secrets are sealed for the one, commands use the other."""
        shown = (
            "related",
            "connections_page",
            "known_kind",
            "stored_headers",
            "stored_client_secret",
            "stored_initial_access_token",
            "stored_idp_client_secret",
            "register_with",
            "options_as_text",
            "allowed_tools",
            "denied_tools",
            *_STATUS[1]["fields"],
        )
        return shown if obj is None else ("workspace", "slug", *shown)

    def get_form(
        self, request: HttpRequest, obj: McpServer | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[McpServer]]:
        """Hand the form what the server said when it was asked while saving."""
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.refusal = getattr(request, "_mcp_oauth_refusal", None)
        made: type[forms.ModelForm[McpServer]] = form
        return made

    @method_decorator(
        sensitive_post_parameters(
            "new_headers", "new_client_secret", "new_initial_access_token", "new_idp_client_secret"
        )
    )
    @method_decorator(csrf_protect)
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Save outside Django's transaction, for servers are asked meanwhile; a refusal comes back as a form error."""
        view = self._changeform_view  # type: ignore[attr-defined]
        response: HttpResponse
        try:
            response = view(request, object_id, form_url, extra_context)
        except McpOAuthError as error:
            # Nothing is stored. The second run finds the same input invalid, and so shows it with the reason.
            request._mcp_oauth_refusal = error  # type: ignore[attr-defined]
            response = view(request, object_id, form_url, extra_context)
        return response

    def save_model(self, request: HttpRequest, obj: McpServer, form: Any, change: bool) -> None:
        """Add or change the server through the services, which ask it and end grants that no longer hold.

        Raises:
            McpOAuthError: nothing is stored.
        """
        wanted: ServerSettings = form.wanted()
        probed_at = None
        if change:
            # The form has written onto its own instance; what ends grants is the difference to the stored row.
            before = McpServer.objects.get(pk=obj.pk)
            generation, probed_at = before.generation, before.probed_at
            ended = servers.update_server(before, wanted, actor=signed_in(request))
            if before.generation != generation:
                self.message_user(request, _("People have to connect to this server again."), messages.WARNING)
                self._tell(request, ended)
        else:
            saved = servers.add_server(obj.workspace, wanted, actor=signed_in(request))
            obj.pk = saved.pk
            obj._state.adding, obj._state.db = False, saved._state.db
        obj.refresh_from_db()
        if obj.probed_at != probed_at:
            level = messages.INFO if obj.reachable else messages.WARNING
            self.message_user(request, f"{obj.name}: {obj.last_verdict}", level)

    def delete_model(self, request: HttpRequest, obj: McpServer) -> None:
        """Delete the server; its grants are revoked upstream as far as possible."""
        self._tell(request, servers.delete_server(obj, actor=signed_in(request)))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[McpServer]) -> None:
        """Delete each as `delete_model` does."""
        for server in queryset:
            self._tell(request, servers.delete_server(server, actor=signed_in(request)))

    def _tell(self, request: HttpRequest, ended: Ended) -> None:
        if words := ended.in_words():
            self.message_user(request, words, messages.INFO if not ended.unconfirmed else messages.WARNING)

    @admin.display(description=gettext_lazy("state"), ordering="enabled")
    def standing(self, server: McpServer) -> str:
        """Return in words whether somebody should look at the server, and why."""
        if server.removal_at is not None:
            return _("Being removed")
        if not server.enabled:
            return _("Disabled")
        if server.headers_refused_at is not None:
            return _("Headers not accepted")
        if server.reachable is False:
            return _("Unreachable")
        if getattr(server, "ended_grants", 0):
            return _("Somebody has to reconnect")
        return _("In use")

    @admin.display(description=gettext_lazy("connected"), ordering="active_grants")
    def active_grants(self, server: McpServer) -> SafeString:
        """Return how many grants are good, and the way to them."""
        return rows_of(
            McpServerOAuth, str(getattr(server, "active_grants", 0)), server=server.pk, state__exact="active"
        )

    @admin.display(description=gettext_lazy("to reconnect"), ordering="ended_grants")
    def ended_grants(self, server: McpServer) -> SafeString:
        """Return how many grants need their person, and the way to them."""
        state = McpServerOAuth.State.NEEDS_REAUTHORIZATION.value
        return rows_of(McpServerOAuth, str(getattr(server, "ended_grants", 0)), server=server.pk, state__exact=state)

    @admin.display(description=gettext_lazy("calls in a week"), ordering="recent_calls")
    def recent_calls(self, server: McpServer) -> SafeString:
        """Return how often it was called of late, and the way to all its calls."""
        return rows_of(ToolCall, str(getattr(server, "recent_calls", 0)), server=server.pk)

    @admin.display(description=gettext_lazy("what belongs to it"))
    def related(self, server: McpServer) -> SafeString:
        """Link to the rows and pages about this server."""
        if server._state.adding:
            return links_of(())
        activity = reverse("mcp_oauth:activity", kwargs={"slug": server.workspace.slug})
        return links_of(
            (
                rows_of(McpServerOAuth, _("Grants"), server=server.pk),
                rows_of(ToolCall, _("Calls"), server=server.pk),
                rows_of(Event, _("Events"), server=server.pk),
                rows_of(StoredListing, _("Listings"), server=server.pk),
                rows_of(AuthorizationFlow, _("Attempts to connect"), server=server.pk),
                format_html('<a href="{}">{}</a>', self.view_on_site(server), _("Its own page")),
                format_html('<a href="{}?server={}">{}</a>', activity, server.pk, _("Its activity")),
            )
        )

    @admin.display(description=gettext_lazy("connections page"))
    def connections_page(self, server: McpServer) -> str:
        """Link to where people connect to the server."""
        return connections_page(server.workspace)

    @admin.display(description=gettext_lazy("known to be"))
    def known_kind(self, server: McpServer) -> str:
        """Return the kind of authorization and how it is known."""
        return f"{server.get_auth_mode_display()} ({server.get_auth_mode_source_display()})"

    @admin.display(description=gettext_lazy("stored headers"))
    def stored_headers(self, server: McpServer) -> str:
        """Say whether there are headers."""
        return stored(server, "headers")

    @admin.display(description=gettext_lazy("stored client secret"))
    def stored_client_secret(self, server: McpServer) -> str:
        """Say whether there is a client secret."""
        return stored(server, "client_secret")

    @admin.display(description=gettext_lazy("token to register with"))
    def stored_initial_access_token(self, server: McpServer) -> str:
        """Say whether there is a token to register with."""
        return stored(server, "initial_access_token")

    @admin.display(description=gettext_lazy("stored client secret at the identity provider"))
    def stored_idp_client_secret(self, server: McpServer) -> str:
        """Say whether there is a client secret for the identity provider."""
        return stored(server, "idp_client_secret")

    @admin.display(description=gettext_lazy("redirect URI to register"))
    def register_with(self, server: McpServer) -> str:
        """Return what the provider asks for when a client is created there."""
        return shown_redirect_uri()

    @admin.display(description=gettext_lazy("OAuth options"))
    def options_as_text(self, server: McpServer) -> str:
        """Return the options as they are stored."""
        return json.dumps(server.oauth_options, indent=2, sort_keys=True)

    @admin.display(description=McpServer._meta.get_field("contact_error").verbose_name, empty_value="-")
    def last_error(self, server: McpServer) -> str:
        """Say why the server was not reached the last time."""
        return server.last_error

    @admin.display(description=McpServer._meta.get_field("probe_verdict").verbose_name, empty_value="-")
    def last_verdict(self, server: McpServer) -> str:
        """Say what the server turned out to be the last time it was asked."""
        return server.last_verdict

    @admin.display(description=gettext_lazy("requests of the last probe"))
    def probe_table(self, server: McpServer) -> str:
        """List what the last probe asked and what came back."""
        return list_of(
            " · ".join(str(step.get(part) or "-") for part in ("method", "url", "what", "status", "verdict", "note"))
            for step in server.probe_evidence()
        )


def _if(wanted: bool, *names: str) -> tuple[str, ...]:
    return names if wanted else ()
