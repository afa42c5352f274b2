"""API tokens in the admin: whose they are and when they were used; to be revoked, and never to be read."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy, ngettext

from mcp_oauth.admin import help_texts as texts
from mcp_oauth.admin.filters import TokenLife
from mcp_oauth.admin.people import USERNAME, signed_in
from mcp_oauth.admin.row_classes import Facts
from mcp_oauth.models import ApiToken
from mcp_oauth.services.api_tokens import revoke_token


@admin.register(ApiToken)
class ApiTokenAdmin(Facts[ApiToken]):
    """Tokens that people made for their programs."""

    help_texts = texts.TOKEN
    list_display = ("name", "hint", "user", "workspace", "created_at", "expires_at", "last_used_at", "revoked_at")
    list_filter = (TokenLife, ("workspace", admin.RelatedOnlyFieldListFilter), "expires_at", "last_used_at")
    search_help_text = gettext_lazy("What a token is called or begins with, or its person")
    list_select_related = ("user", "workspace")
    search_fields = ("name", "hint", USERNAME)
    fields = list_display
    actions = ("revoke",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        """Leave the hashes in the database."""
        return super().get_queryset(request).defer("token_hash")

    @admin.action(description=gettext_lazy("Revoke the selected API tokens"), permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        """Revoke each; it stays in the list as what it was."""
        revoked = sum(revoke_token(token, actor=signed_in(request)) for token in queryset)
        words = ngettext("%(number)d API token is revoked.", "%(number)d API tokens are revoked.", revoked)
        self.message_user(request, words % {"number": revoked}, messages.SUCCESS)

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:
        """Revoke the token first, so that the trail says it."""
        revoke_token(obj, actor=signed_in(request))
        obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        """Delete each as `delete_model` does."""
        for token in queryset:
            self.delete_model(request, token)
