"""Open authorizations: between pressing Connect and coming back."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from mcp_oauth.fields import EncryptedTextField
from mcp_oauth.models.registration import OAuthRegistration
from mcp_oauth.models.server import McpServer

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser


class AuthorizationFlow(models.Model):
    """One open authorization, usable once, by the person and the browser that started it."""

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid.uuid4, editable=False)
    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="flows", verbose_name=_("server"))
    user: models.ForeignKey[AbstractUser, AbstractUser] = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="mcp_flows", verbose_name=_("person")
    )
    server_generation = models.PositiveIntegerField(_("generation of the server"), editable=False)

    # Only hashes are kept of what the browser holds, so that reading this table opens no flow.
    state_hash = models.CharField(_("hash of the state parameter"), max_length=64, unique=True, editable=False)
    browser_hash = models.CharField(_("hash of the browser's secret"), max_length=64, editable=False)
    code_verifier = EncryptedTextField(
        _("code verifier"), label="mcp_oauth.AuthorizationFlow.code_verifier", owner=("server_id", "user_id"), null=True
    )

    # Pinned at the start: the callback must be answered by this issuer and its metadata (RFC 9207 §2.4).
    issuer = models.CharField(_("issuer"), max_length=2000, editable=False)
    metadata = models.JSONField(_("metadata of the authorization server"), editable=False)
    redirect_uri = models.CharField(_("redirect URI"), max_length=2000, editable=False)
    resource = models.CharField(_("resource"), max_length=2000, blank=True, editable=False)
    scope = models.TextField(_("scope"), blank=True, editable=False)
    # The part of the scope this flow exists for, when it widens a grant.
    step_up_scope = models.TextField(_("additional scope"), blank=True, editable=False)
    client_id = models.CharField(_("client ID"), max_length=2000, editable=False)
    # Whether the tokens will be bound to a key (RFC 9449): both servers showed at the start that they know how.
    binds_to_key = models.BooleanField(_("bound to a key"), default=False, editable=False)
    registration = models.ForeignKey(
        OAuthRegistration,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="flows",
        editable=False,
        verbose_name=_("client registration"),
    )

    created_at = models.DateTimeField(_("started"), editable=False)
    expires_at = models.DateTimeField(_("expires"), editable=False)
    consumed_at = models.DateTimeField(_("answered"), null=True, editable=False)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = _("authorization flow")
        verbose_name_plural = _("authorization flows")
        indexes = [models.Index(fields=["user", "expires_at"], name="mcp_oauth_flow_user_expiry")]

    def __str__(self) -> str:
        return f"{self.user} → {self.server}"
