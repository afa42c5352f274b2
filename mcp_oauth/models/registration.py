"""This application's clients at authorization servers."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from mcp_oauth.fields import EncryptedTextField
from mcp_oauth.models.workspace import Workspace


class OAuthRegistration(models.Model):
    """One client at one issuer for one redirect URI, reused by every grant there.

    A client registered by hand lives on its server's row; these are the ones this application made itself. They
    are kept per workspace, so that a document tolerated for one team's server cannot plant a client for another.
    """

    class Kind(models.TextChoices):
        CIMD = "cimd", _("Client ID metadata document")
        DYNAMIC = "dynamic", _("Dynamic registration")

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.CASCADE, related_name="registrations", verbose_name=_("workspace")
    )
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    issuer = models.CharField(_("issuer"), max_length=2000)
    redirect_uri = models.CharField(_("redirect URI"), max_length=2000)
    client_id = models.CharField(_("client ID"), max_length=2000)
    client_secret = EncryptedTextField(
        _("client secret"),
        label="mcp_oauth.OAuthRegistration.client_secret",
        owner=("workspace_id", "issuer"),
        null=True,
    )
    client_secret_expires_at = models.DateTimeField(_("secret expires"), null=True)
    token_endpoint_auth_method = models.CharField(_("token endpoint authentication"), max_length=40, default="none")
    created_at = models.DateTimeField(_("registered"), auto_now_add=True)
    # Set when the issuer no longer knows the client: the next connection registers another one, and the grants of
    # this one live or die by what the issuer answers each of them.
    forgotten_at = models.DateTimeField(_("forgotten"), null=True, editable=False)

    class Meta:
        ordering = ["issuer", "id"]
        verbose_name = _("client registration")
        verbose_name_plural = _("client registrations")
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "issuer", "redirect_uri", "kind"],
                condition=Q(forgotten_at__isnull=True),
                name="mcp_oauth_registration_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {self.issuer}"
