"""The application's entry in ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext, pgettext
from django.utils.translation import gettext_lazy as _

from mcp_oauth.sentences import speak_through


class McpOAuthConfig(AppConfig):
    """Names the application and registers its system checks."""

    name = "mcp_oauth"
    label = "mcp_oauth"
    verbose_name = _("MCP connections")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the translator, the system checks, and what follows from deleting a person, membership or server."""
        from django.db.models.signals import pre_delete

        from mcp_oauth import checks  # noqa: F401  (registers by import)
        from mcp_oauth.models import McpServerOAuth, Membership
        from mcp_oauth.services import api_tokens, membership_events, revocation

        speak_through(gettext, pgettext)
        pre_delete.connect(revocation.revoke_when_deleted, sender=McpServerOAuth, dispatch_uid="mcp_oauth.revoke")
        pre_delete.connect(revocation.end_grants_of_member, sender=Membership, dispatch_uid="mcp_oauth.leave")
        pre_delete.connect(api_tokens.revoke_tokens_of_member, sender=Membership, dispatch_uid="mcp_oauth.tokens")
        pre_delete.connect(membership_events.record_removed, sender=Membership, dispatch_uid="mcp_oauth.removed")
