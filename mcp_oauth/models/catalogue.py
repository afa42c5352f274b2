"""The last known listings of a server, as one person sees them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from mcp_oauth.models.ordered_json import OrderedJSONField
from mcp_oauth.models.server import McpServer

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser


class StoredListing(models.Model):
    """One listing of one kind that one server gave to one principal, with its age.

    ``user`` is empty where everybody sees the same: open servers, servers opened by configured headers, and listings
    that their server calls public (MCP 2026-07-28, ``cacheScope``). A listing of an earlier ``server_generation`` or of
    another grant is not used.
    """

    class Kind(models.TextChoices):
        TOOLS = "tools", _("Tools")
        PROMPTS = "prompts", _("Prompts")
        RESOURCES = "resources", _("Resources")
        RESOURCE_TEMPLATES = "resource_templates", _("Resource templates")

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid.uuid4, editable=False)
    server = models.ForeignKey(McpServer, on_delete=models.CASCADE, related_name="listings", verbose_name=_("server"))
    user: models.ForeignKey[AbstractUser | None, AbstractUser | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        related_name="mcp_listings",
        verbose_name=_("person"),
    )
    kind = models.CharField(_("kind"), max_length=20, choices=Kind, default=Kind.TOOLS)
    server_generation = models.PositiveIntegerField(_("generation of the server"))
    grant_id = models.UUIDField(_("grant"), null=True)
    # What the server said, entry by entry, in the wire's spelling; bounded before it gets here.
    entries = OrderedJSONField(_("entries"), default=list)
    entry_count = models.PositiveIntegerField(_("number of entries"), default=0)
    # SHA-256 of the entries, so that an unchanged listing is known without reading them.
    digest = models.CharField(_("digest"), max_length=64, blank=True, editable=False)
    truncated = models.BooleanField(_("shortened"), default=False)
    # When the server was asked for it; what it says may be older than that, and never younger.
    fetched_at = models.DateTimeField(_("fetched"))
    # Until when the server lets it be used without asking again (``ttlMs``), or a time of ours where it says nothing.
    fresh_until = models.DateTimeField(_("fresh until"), null=True)

    class Meta:
        ordering = ["server", "user", "kind", "id"]
        verbose_name = _("listing")
        verbose_name_plural = _("listings")
        constraints = [
            models.UniqueConstraint(
                fields=["server", "user", "kind"],
                condition=Q(user__isnull=False),
                name="mcp_oauth_listing_once_per_person",
            ),
            models.UniqueConstraint(
                fields=["server", "kind"], condition=Q(user__isnull=True), name="mcp_oauth_listing_once_common"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.entry_count} {self.get_kind_display()} · {self.server}"
