"""Grants: what a person allowed this application to do at one server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from mcp_oauth.fields import EncryptedTextField
from mcp_oauth.models.registration import OAuthRegistration
from mcp_oauth.models.server import McpServer

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser


class McpServerOAuth(models.Model):
    """One grant: the tokens of one person at one server, and all that is needed to renew them.

    Discovery is stored with the grant (issuer, endpoints, client), so that a refresh depends on one request only.
    A row changes by compare-and-set on ``version``; ``lease_id`` marks the one caller that may refresh it.
    """

    class State(models.TextChoices):
        ACTIVE = "active", _("Active")
        NEEDS_REAUTHORIZATION = "needs_reauthorization", _("Needs reconnecting")

    class TokenType(models.TextChoices):
        BEARER = "Bearer", "Bearer"
        DPOP = "DPoP", "DPoP"

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid.uuid4, editable=False)
    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="grants", verbose_name=_("server"))
    user: models.ForeignKey[AbstractUser | None, AbstractUser | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="mcp_grants",
        null=True,
        blank=True,
        verbose_name=_("person"),
        help_text=_("Empty when the workspace shares one grant."),
    )
    server_generation = models.PositiveIntegerField(_("generation of the server"), editable=False, default=1)

    access_token = EncryptedTextField(
        _("access token"), label="mcp_oauth.McpServerOAuth.access_token", owner=("server_id", "user_id"), null=True
    )
    refresh_token = EncryptedTextField(
        _("refresh token"), label="mcp_oauth.McpServerOAuth.refresh_token", owner=("server_id", "user_id"), null=True
    )
    token_type = models.CharField(
        _("token type"), max_length=10, choices=TokenType, default=TokenType.BEARER, editable=False
    )
    # The private key that the tokens are bound to (RFC 9449); a refresh has to prove it as well.
    dpop_key = EncryptedTextField(
        _("key the tokens are bound to"),
        label="mcp_oauth.McpServerOAuth.dpop_key",
        owner=("server_id", "user_id"),
        null=True,
    )
    # The moment the access token ends, not a duration: a restart must not make it young again.
    expires_at = models.DateTimeField(_("expires"), null=True, editable=False)
    # The lifetime the token came with, in seconds; the refresh skew is a part of it.
    lifetime_seconds = models.FloatField(_("lifetime in seconds"), null=True, editable=False)
    scope = models.TextField(_("scope"), blank=True, editable=False)

    # Whose account it is, where the authorization server said so; for people to recognize it.
    account = models.CharField(_("account"), max_length=254, blank=True, editable=False)

    issuer = models.CharField(_("issuer"), max_length=2000, editable=False)
    resource = models.CharField(_("resource"), max_length=2000, blank=True, editable=False)
    token_endpoint = models.CharField(_("token endpoint"), max_length=2000, editable=False)
    revocation_endpoint = models.CharField(_("revocation endpoint"), max_length=2000, blank=True, editable=False)
    client_id = models.CharField(_("client ID"), max_length=2000, editable=False)
    token_endpoint_auth_method = models.CharField(
        _("token endpoint authentication"), max_length=40, default="none", editable=False
    )
    # Empty when the client is the one registered by hand on the server's row.
    registration = models.ForeignKey(
        OAuthRegistration,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="grants",
        editable=False,
        verbose_name=_("client registration"),
    )

    # Scopes a tool asked for beyond the grant (RFC 6750 §3.1), shown to the person; and how often each was asked for.
    wanted_scope = models.TextField(_("wanted scope"), blank=True, editable=False)
    step_up_attempts = models.JSONField(_("times each scope was asked for"), default=dict, editable=False)

    state = models.CharField(_("state"), max_length=30, choices=State, default=State.ACTIVE, editable=False)
    reason = models.CharField(_("reason"), max_length=40, blank=True, editable=False)
    reason_at = models.DateTimeField(_("since"), null=True, editable=False)

    # Which identity token was of no use last (a digest), so that the next one is tried at once.
    subject_digest = models.CharField(
        _("digest of the last refused identity token"), max_length=64, blank=True, editable=False
    )

    version = models.PositiveBigIntegerField(_("version"), default=1, editable=False)
    lease_id = models.UUIDField(_("renewing caller"), null=True, editable=False)
    lease_expires_at = models.DateTimeField(_("renewing caller has until"), null=True, editable=False)

    # Transient failures in a row, and the moment before which the token endpoint is not asked again.
    refresh_failures = models.PositiveSmallIntegerField(_("failed renewals in a row"), default=0, editable=False)
    refresh_not_before = models.DateTimeField(_("not renewed before"), null=True, editable=False)

    connected_at = models.DateTimeField(_("connected"), editable=False)
    refreshed_at = models.DateTimeField(_("renewed"), null=True, editable=False)

    class Meta:
        ordering = ["server", "user", "id"]
        verbose_name = _("grant")
        verbose_name_plural = _("grants")
        constraints = [
            models.UniqueConstraint(
                fields=["server", "user"], condition=Q(user__isnull=False), name="mcp_oauth_grant_once_per_person"
            ),
            models.UniqueConstraint(
                fields=["server"], condition=Q(user__isnull=True), name="mcp_oauth_grant_once_shared"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user or _('Workspace')} · {self.server}"

    @property
    def is_active(self) -> bool:
        """Whether the grant was good when it was last used."""
        return self.state == self.State.ACTIVE
