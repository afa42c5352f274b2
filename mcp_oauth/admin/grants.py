"""What the application writes when people connect: grants, registrations, attempts and the tools it saw."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mcp_oauth.admin import help_texts as texts
from mcp_oauth.admin.cells import links_of, list_of, rows_of, stored
from mcp_oauth.admin.filters import ByServer, GrantEnds
from mcp_oauth.admin.people import USERNAME, name_of, signed_in
from mcp_oauth.admin.rotation import Rotating
from mcp_oauth.admin.row_classes import Facts, NoNetworkInTransaction
from mcp_oauth.models import AuthorizationFlow, Event, McpServerOAuth, OAuthRegistration, StoredListing, ToolCall
from mcp_oauth.services import listings
from mcp_oauth.services.revocation import end_grant


@admin.register(McpServerOAuth)
class McpServerOAuthAdmin(Rotating[McpServerOAuth], Facts[McpServerOAuth], NoNetworkInTransaction[McpServerOAuth]):
    """Grants: who connected what and how it stands; ending one tells the authorization server."""

    help_texts = texts.GRANT
    list_display = ("person", "server", "workspace", "state", "reason", "expires_at", "connected_at", "refreshed_at")
    list_filter = (
        "state",
        GrantEnds,
        "reason",
        ByServer,
        ("server__workspace", admin.RelatedOnlyFieldListFilter),
    )
    date_hierarchy = "connected_at"
    search_fields = (USERNAME, "server__name", "server__url", "issuer")
    search_help_text = gettext_lazy("A person, a server's name or address, or an issuer")
    fields = (
        "person",
        "account",
        "server",
        "workspace",
        "related",
        "state",
        "reason",
        "reason_at",
        "stored_access_token",
        "stored_refresh_token",
        "token_type",
        "expires_at",
        "scope",
        "issuer",
        "resource",
        "token_endpoint",
        "revocation_endpoint",
        "client_id",
        "token_endpoint_auth_method",
        "connected_at",
        "refreshed_at",
        "server_generation",
        "version",
    )
    actions = ("revoke", "rotate_keys")

    def get_queryset(self, request: HttpRequest) -> QuerySet[McpServerOAuth]:
        """Leave the tokens in the database until one grant is looked at or ended."""
        rows = super().get_queryset(request).select_related("user", "server__workspace", "registration")
        return rows.defer("access_token", "refresh_token", "dpop_key")

    @admin.display(description=gettext_lazy("person"), ordering="user")
    def person(self, grant: McpServerOAuth) -> str:
        """Return whose grant it is."""
        return name_of(grant.user)

    @admin.display(description=gettext_lazy("workspace"), ordering="server__workspace__name")
    def workspace(self, grant: McpServerOAuth) -> str:
        """Return where the server belongs."""
        return str(grant.server.workspace)

    @admin.display(description=gettext_lazy("what belongs to it"))
    def related(self, grant: McpServerOAuth) -> SafeString:
        """Link to the server's events and calls, and to its page."""
        page = reverse("mcp_oauth:server", kwargs={"slug": grant.server.workspace.slug, "server_id": grant.server_id})
        return links_of(
            (
                rows_of(Event, _("Events of the server"), server=grant.server_id),
                rows_of(ToolCall, _("Calls of the server"), server=grant.server_id),
                format_html('<a href="{}">{}</a>', page, _("The server's own page")),
            )
        )

    @admin.display(description=gettext_lazy("access token"))
    def stored_access_token(self, grant: McpServerOAuth) -> str:
        """Say whether there is an access token."""
        return stored(grant, "access_token")

    @admin.display(description=gettext_lazy("refresh token"))
    def stored_refresh_token(self, grant: McpServerOAuth) -> str:
        """Say whether the grant can be renewed."""
        return stored(grant, "refresh_token")

    @admin.action(description=gettext_lazy("Revoke the selected grants"), permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[McpServerOAuth]) -> None:
        """End each grant and say what the authorization server made of it."""
        self.log_deletions(request, queryset)
        for grant in queryset:
            name = str(grant)
            revoked = end_grant(grant, actor=signed_in(request))
            if revoked:
                self.message_user(request, _("%(grant)s is revoked.") % {"grant": name}, messages.SUCCESS)
                continue
            text = (
                _("%(grant)s is forgotten here; its authorization server offers no revocation.")
                if revoked is None
                else _("%(grant)s is forgotten here; its authorization server did not confirm the revocation.")
            )
            self.message_user(request, text % {"grant": name}, messages.WARNING)

    def delete_model(self, request: HttpRequest, obj: McpServerOAuth) -> None:
        """End the grant, upstream too."""
        end_grant(obj, actor=signed_in(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[McpServerOAuth]) -> None:
        """End each as `delete_model` does."""
        for grant in queryset:
            end_grant(grant, actor=signed_in(request))


@admin.register(OAuthRegistration)
class OAuthRegistrationAdmin(Rotating[OAuthRegistration], Facts[OAuthRegistration]):
    """Clients this application registered; a deleted one is registered anew when somebody connects."""

    actions = ("rotate_keys",)
    help_texts = texts.REGISTRATION
    list_display = ("issuer", "workspace", "kind", "client_id", "client_secret_expires_at", "created_at")
    list_filter = ("kind", ("workspace", admin.RelatedOnlyFieldListFilter))
    search_fields = ("issuer", "client_id", "workspace__name")
    fields = (
        "workspace",
        "kind",
        "issuer",
        "redirect_uri",
        "client_id",
        "token_endpoint_auth_method",
        "stored_secret",
        "client_secret_expires_at",
        "created_at",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[OAuthRegistration]:
        """Leave the secrets in the database."""
        return super().get_queryset(request).select_related("workspace").defer("client_secret")

    @admin.display(description=gettext_lazy("client secret"))
    def stored_secret(self, registration: OAuthRegistration) -> str:
        """Say whether there is a secret."""
        return stored(registration, "client_secret")


@admin.register(AuthorizationFlow)
class AuthorizationFlowAdmin(Facts[AuthorizationFlow]):
    """Attempts to connect; what could finish one is not shown."""

    help_texts = texts.FLOW
    list_display = ("user", "server", "issuer", "created_at", "expires_at", "consumed_at")
    list_filter = (ByServer, ("server__workspace", admin.RelatedOnlyFieldListFilter), "consumed_at")
    date_hierarchy = "created_at"
    search_fields = (USERNAME, "server__name", "issuer")
    fields = (
        "user",
        "server",
        "issuer",
        "client_id",
        "redirect_uri",
        "resource",
        "scope",
        "created_at",
        "expires_at",
        "consumed_at",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuthorizationFlow]:
        """Leave the verifier, the hashes and the pinned metadata in the database."""
        hidden = ("code_verifier", "state_hash", "browser_hash", "metadata")
        return super().get_queryset(request).select_related("user", "server").defer(*hidden)


@admin.register(StoredListing)
class StoredListingAdmin(Facts[StoredListing]):
    """Last known listings. Deletable, for people and servers could otherwise not be deleted by who may not do this."""

    help_texts = texts.LISTING
    list_display = ("server", "kind", "person", "entry_count", "truncated", "fetched_at")
    list_filter = ("kind", "truncated", ByServer, ("server__workspace", admin.RelatedOnlyFieldListFilter))
    search_fields = ("server__name", USERNAME)
    fields = ("server", "kind", "person", "entry_count", "truncated", "fetched_at", "fresh_until", "entry_names")

    def get_queryset(self, request: HttpRequest) -> QuerySet[StoredListing]:
        """Leave the listings in the database until one is looked at."""
        return super().get_queryset(request).select_related("server", "user").defer("entries")

    def delete_model(self, request: HttpRequest, obj: StoredListing) -> None:
        """Delete the listing, and what the cache has of it."""
        listings.forget(StoredListing.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[StoredListing]) -> None:
        """Delete each as `delete_model` does."""
        listings.forget(StoredListing.objects.filter(pk__in=queryset.values("pk")))

    @admin.display(description=gettext_lazy("person"), ordering="user")
    def person(self, listing: StoredListing) -> str:
        """Return who sees these entries."""
        return _("everybody") if listing.user is None else str(listing.user)

    @admin.display(description=gettext_lazy("entries"))
    def entry_names(self, listing: StoredListing) -> str:
        """List the names of the entries."""
        entries = listing.entries if isinstance(listing.entries, list) else []
        return list_of(str(entry.get("name", "?")) for entry in entries if isinstance(entry, dict))
