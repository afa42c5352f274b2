"""Tool calls: who ran what where, how it ended, and what a call waits for that needs its person."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from mcp_oauth.fields import EncryptedJSONField
from mcp_oauth.models.server import McpServer

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser


class ToolCall(models.Model):
    """One call of one tool by one person; the durable record of it, whoever goes on with it in whichever process.

    ``state`` changes by conditional UPDATE only, and ``attempt`` counts how often the call was set going: of two who
    resume a waiting call one wins. Arguments, answers and result are sealed, kept only while somebody can still use
    them, and erased by ``erase_at`` at the latest.
    """

    class State(models.TextChoices):
        RUNNING = "running", _("Running")
        COMPLETED = "completed", _("Completed")
        FAILED = "failed", _("Failed")
        AUTHORIZATION_REQUIRED = "authorization_required", _("Waits for access")
        INPUT_REQUIRED = "input_required", _("Waits for an answer")

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid.uuid4, editable=False)
    # The indexes below begin with these two; each of their own would be one more to write with every call.
    server = models.ForeignKey(
        McpServer, on_delete=models.CASCADE, related_name="calls", db_index=False, verbose_name=_("server")
    )
    user: models.ForeignKey[AbstractUser, AbstractUser] = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="mcp_calls",
        db_index=False,
        verbose_name=_("person"),
    )
    server_generation = models.PositiveIntegerField(_("generation of the server"), editable=False)
    tool = models.CharField(_("tool"), max_length=200, editable=False)

    state = models.CharField(_("state"), max_length=30, choices=State, default=State.RUNNING, editable=False)
    # Of a failed call: the code of the error, ``tool_error`` where the tool itself reported one, ``cancelled``.
    # Of a call that waits for access: the reason, as the error that said so gives it.
    outcome = models.CharField(_("outcome"), max_length=60, blank=True, editable=False)
    attempt = models.PositiveSmallIntegerField(_("attempt"), default=1, editable=False)

    started_at = models.DateTimeField(_("started"), editable=False)
    ended_at = models.DateTimeField(_("ended"), null=True, editable=False)
    # How long the last attempt took, in milliseconds.
    duration_ms = models.PositiveIntegerField(_("duration"), null=True, editable=False)
    # When a running call must have ended; one that is still running later lost its process.
    deadline_at = models.DateTimeField(_("must have ended by"), editable=False)
    cancel_requested_at = models.DateTimeField(_("given up"), null=True, editable=False)

    progress = models.FloatField(_("progress"), null=True, editable=False)
    progress_total = models.FloatField(_("progress out of"), null=True, editable=False)
    progress_message = models.CharField(_("progress in the server's words"), max_length=300, blank=True, editable=False)

    # Until when a waiting call may be resumed.
    resumable_until = models.DateTimeField(_("can go on until"), null=True, editable=False)
    # The process that holds the exchange open while its server waits for an answer; empty where any process may go on.
    held_by = models.CharField(_("held by"), max_length=100, blank=True, editable=False)
    arguments = EncryptedJSONField(
        _("arguments"), label="mcp_oauth.ToolCall.arguments", owner=("server_id", "user_id"), null=True
    )
    # What the server asks and the state it wants back with the answers.
    pending = EncryptedJSONField(
        _("what the server asks"), label="mcp_oauth.ToolCall.pending", owner=("server_id", "user_id"), null=True
    )
    # What the person answered, for the process that holds the exchange.
    answers = EncryptedJSONField(
        _("answers"), label="mcp_oauth.ToolCall.answers", owner=("server_id", "user_id"), null=True
    )
    result = EncryptedJSONField(
        _("result"), label="mcp_oauth.ToolCall.result", owner=("server_id", "user_id"), null=True
    )
    # When what is sealed above goes; empty when there is nothing of it.
    erase_at = models.DateTimeField(_("erased at"), null=True, editable=False)

    class Meta:
        ordering = ["-started_at", "id"]
        verbose_name = _("tool call")
        verbose_name_plural = _("tool calls")
        indexes = [
            models.Index(fields=["server", "-started_at"], name="mcp_oauth_call_of_server"),
            models.Index(fields=["user", "-started_at"], name="mcp_oauth_call_of_user"),
            # For what is older than its time, and for lists of everybody's.
            models.Index(fields=["started_at"], name="mcp_oauth_call_started"),
            # What is over after its time is few among many, and looked for in every round.
            models.Index(
                fields=["erase_at"], name="mcp_oauth_call_erase_at", condition=models.Q(erase_at__isnull=False)
            ),
            models.Index(fields=["deadline_at"], name="mcp_oauth_call_running", condition=models.Q(state="running")),
        ]

    def __str__(self) -> str:
        return f"{self.tool} · {self.get_state_display()}"

    @property
    def is_waiting(self) -> bool:
        """Whether the call needs its person before it goes on."""
        return self.state in (self.State.AUTHORIZATION_REQUIRED, self.State.INPUT_REQUIRED)
