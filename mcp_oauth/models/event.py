"""The audit trail: what became of grants and servers, by whom, and how it ended."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mcp_oauth.models.server import McpServer
from mcp_oauth.models.workspace import Workspace

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser


class EventQuerySet(models.QuerySet["Event"]):
    """Events are added and read; they go only when their time is over."""

    def update(self, **kwargs: Any) -> NoReturn:
        """Refuse: what happened does not change."""
        raise TypeError("Events are not changed.")

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: what happened does not change."""
        raise TypeError("Events are not changed.")

    def delete(self) -> NoReturn:
        """Refuse: see :meth:`forget_before`."""
        raise TypeError("Events are not deleted one by one.")

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def forget_before(self, moment: datetime, *, at_most: int) -> int:
        """Remove up to ``at_most`` events older than ``moment``; return how many went."""
        old = list(self.filter(at__lt=moment).order_by("at").values_list("pk", flat=True)[:at_most])
        return models.QuerySet.delete(self.filter(pk__in=old))[0] if old else 0


class Event(models.Model):
    """One thing that happened; append-only and without secrets.

    It outlives what it speaks of: the references are plain columns whose rows may be gone, which is why the names are
    kept beside them. ``user`` is the person whose grant it is, empty for a workspace's own; ``actor`` the person who
    did it, empty where the application acted by itself. What concerns a workspace as a whole names no server.
    """

    class Kind(models.TextChoices):
        CONNECTED = "connected", _("Connected")
        CONNECTION_FAILED = "connection_failed", _("Connecting failed")
        REFRESHED = "refreshed", _("Renewed")
        REFRESH_FAILED = "refresh_failed", _("Renewal failed")
        STEP_UP = "step_up", _("More access asked for")
        REAUTHORIZATION_NEEDED = "reauthorization_needed", _("Needs reconnecting")
        REVOKED = "revoked", _("Revocation")
        DISCONNECTED = "disconnected", _("Disconnected")
        SERVER_CHANGED = "server_changed", _("Server changed")
        TOOLS_CHANGED = "tools_changed", _("Tools changed")
        API_TOKEN_MADE = "api_token_made", _("API token made")
        API_TOKEN_REVOKED = "api_token_revoked", _("API token revoked")
        MEMBER_ADDED = "member_added", _("Member added")
        MEMBER_CHANGED = "member_changed", _("Member's role changed")
        MEMBER_REMOVED = "member_removed", _("Member removed")

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid.uuid4, editable=False)
    at = models.DateTimeField(_("time"), default=timezone.now, editable=False)
    kind = models.CharField(_("event"), max_length=30, choices=Kind, editable=False)
    # One word of a program: an error's code, a reason, a revocation's outcome, what was done to a server.
    outcome = models.CharField(_("outcome"), max_length=60, blank=True, editable=False)
    details = models.JSONField(_("details"), default=dict, blank=True, editable=False)

    workspace = models.ForeignKey(
        Workspace,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
        verbose_name=_("workspace"),
        editable=False,
    )
    server = models.ForeignKey(
        McpServer,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
        null=True,
        verbose_name=_("server"),
        editable=False,
    )
    server_name = models.CharField(_("server"), max_length=200, blank=True, editable=False)
    grant_id = models.UUIDField(_("grant"), null=True, editable=False)
    user: models.ForeignKey[AbstractUser | None, AbstractUser | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
        null=True,
        verbose_name=_("person"),
        editable=False,
    )
    user_name = models.CharField(_("person"), max_length=150, blank=True, editable=False)
    actor: models.ForeignKey[AbstractUser | None, AbstractUser | None] = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
        null=True,
        verbose_name=_("done by"),
        editable=False,
    )
    actor_name = models.CharField(_("done by"), max_length=150, blank=True, editable=False)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ["-at", "id"]
        verbose_name = _("event")
        verbose_name_plural = _("events")
        indexes = [
            models.Index(fields=["workspace", "-at"], name="mcp_oauth_event_of_workspace"),
            models.Index(fields=["server", "-at"], name="mcp_oauth_event_of_server"),
            models.Index(fields=["user", "-at"], name="mcp_oauth_event_of_user"),
            models.Index(fields=["at"], name="mcp_oauth_event_at"),
        ]

    def __str__(self) -> str:
        return " · ".join(filter(None, (f"{self.at:%Y-%m-%d %H:%M:%S}", self.get_kind_display(), self.server_name)))

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Add the event.

        Raises: ``TypeError`` when it exists already.
        """
        if not self._state.adding:
            raise TypeError("Events are not changed.")
        kwargs["force_insert"] = True
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: what happened does not go away.

        Raises: ``TypeError``.
        """
        raise TypeError("Events are not deleted one by one.")
