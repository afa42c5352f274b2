"""The last known tools of a server, as one person sees them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from mcp_oauth.models.server import McpServer

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser


class ToolCatalogue(models.Model):
    """One listing of one server's tools for one principal, with its age.

    ``user`` is empty where everybody sees the same: open servers and servers opened by configured headers. A
    listing of an earlier ``server_generation`` or of another grant is not used.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="catalogues")
    user: models.ForeignKey[AbstractUser | None, AbstractUser | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="mcp_catalogues"
    )
    server_generation = models.PositiveIntegerField()
    grant_id = models.UUIDField(null=True)
    tools = models.JSONField(default=list)
    tool_count = models.PositiveIntegerField(default=0)
    truncated = models.BooleanField(default=False)
    fetched_at = models.DateTimeField()

    class Meta:
        ordering = ["server", "user", "id"]
        verbose_name = _("tool catalogue")
        verbose_name_plural = _("tool catalogues")
        constraints = [
            models.UniqueConstraint(
                fields=["server", "user"], condition=Q(user__isnull=False), name="mcp_oauth_catalogue_once_per_person"
            ),
            models.UniqueConstraint(
                fields=["server"], condition=Q(user__isnull=True), name="mcp_oauth_catalogue_once_common"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tool_count} · {self.server}"
