"""Personal API tokens: what lets a program speak for one person in one workspace."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from mcp_oauth.models.workspace import Workspace

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser


class ApiToken(models.Model):
    """One token of one person for one workspace; only its hash is kept, so reading this table opens nothing."""

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.CASCADE, related_name="api_tokens", verbose_name=_("workspace")
    )
    user: models.ForeignKey[AbstractUser, AbstractUser] = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="mcp_api_tokens", verbose_name=_("person")
    )
    name = models.CharField(_("name"), max_length=80, help_text=_("What uses it, for you to tell it from others."))
    token_hash = models.CharField(_("hash of the token"), max_length=64, unique=True, editable=False)
    # The first characters, by which a person finds the token that a program holds.
    hint = models.CharField(_("begins with"), max_length=20, editable=False)
    created_at = models.DateTimeField(_("made"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires"), null=True, editable=False)
    last_used_at = models.DateTimeField(_("last used"), null=True, editable=False)
    revoked_at = models.DateTimeField(_("revoked"), null=True, editable=False)

    class Meta:
        ordering = ["-created_at", "id"]
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        indexes = [models.Index(fields=["user", "workspace"], name="mcp_oauth_token_of_person")]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"
