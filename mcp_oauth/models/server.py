"""MCP servers as an administrator configures them."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlsplit

from django.db import models
from django.utils.translation import gettext_lazy as _

from mcp_oauth.fields import EncryptedJSONField, EncryptedTextField
from mcp_oauth.models.workspace import Workspace
from mcp_oauth.sentences import recalled


class McpServer(models.Model):
    """One MCP server of one workspace: where it is, how it is opened, and how the last contact went."""

    class AuthMode(models.TextChoices):
        NONE = "none", _("Open, no sign-in")
        HEADERS = "headers", _("Headers an administrator enters")
        OAUTH = "oauth", _("OAuth, people connect")
        CLIENT_CREDENTIALS = "client_credentials", _("OAuth, the application's own identity")
        WORKLOAD = "workload", _("OAuth, this deployment's workload identity")
        ENTERPRISE = "enterprise", _("OAuth, through the company's identity provider")

    class Sharing(models.TextChoices):
        MEMBER = "member", _("Each member's own")
        WORKSPACE = "workspace", _("One for the workspace, made by an administrator")

    class AuthModeSource(models.TextChoices):
        PROBE = "probe", _("found out by asking the server")
        PERSON = "person", _("chosen by a person")

    # The columns that hold what nobody reads again; lists leave them in the database.
    SECRETS = ("headers", "client_secret", "initial_access_token", "idp_client_secret")

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.CASCADE, related_name="servers", verbose_name=_("workspace")
    )
    name = models.CharField(_("name"), max_length=120)
    slug = models.SlugField(_("short name"), max_length=80, help_text=_("Names the server in commands."))
    url = models.CharField(_("address"), max_length=2000, help_text=_("The server's MCP endpoint."))
    enabled = models.BooleanField(
        _("enabled"), default=True, help_text=_("A disabled server cannot be connected or used.")
    )
    created_at = models.DateTimeField(_("added"), auto_now_add=True)
    # Set while an administrator can still think better of removing it; until then it is out of use.
    removal_at = models.DateTimeField(_("removed at"), null=True, editable=False)

    auth_mode = models.CharField(_("kind of authorization"), max_length=20, choices=AuthMode, default=AuthMode.NONE)
    auth_mode_source = models.CharField(
        _("kind known from"), max_length=10, choices=AuthModeSource, default=AuthModeSource.PROBE
    )

    sharing = models.CharField(
        _("connection"),
        max_length=10,
        choices=Sharing,
        default=Sharing.MEMBER,
        help_text=_("Whose account tools act with, when people connect with OAuth."),
    )

    # The headers' owner is the workspace: a row moved to another workspace opens nothing.
    headers = EncryptedJSONField(_("headers"), label="mcp_oauth.McpServer.headers", owner=("workspace_id",), null=True)
    client_id = models.CharField(
        _("client ID"), max_length=2000, blank=True, help_text=_("Of a client registered with the provider by hand.")
    )
    client_secret = EncryptedTextField(
        _("client secret"), label="mcp_oauth.McpServer.client_secret", owner=("workspace_id",), null=True
    )
    client_issuer = models.CharField(
        _("client's issuer"),
        max_length=2000,
        blank=True,
        help_text=_(
            "The authorization server that the client, or the token to register with, belongs to. Left empty, the "
            "first one found is kept."
        ),
    )
    # What permits a dynamic registration where not everybody may register (RFC 7591 §3).
    initial_access_token = EncryptedTextField(
        _("token to register with"),
        label="mcp_oauth.McpServer.initial_access_token",
        owner=("workspace_id",),
        null=True,
    )
    # Of the client that this application is at a company's identity provider, which the options name.
    idp_client_secret = EncryptedTextField(
        _("client secret at the identity provider"),
        label="mcp_oauth.McpServer.idp_client_secret",
        owner=("workspace_id",),
        null=True,
    )
    oauth_options = models.JSONField(_("OAuth options"), default=dict, blank=True)

    # Patterns of tool names ("create_*"): where any are allowed, only those; never one that is denied.
    allowed_tools = models.JSONField(_("allowed tools"), default=list, blank=True)
    denied_tools = models.JSONField(_("denied tools"), default=list, blank=True)

    # Counts changes that make earlier grants and listings invalid: address, issuer, client, kind of authorization.
    generation = models.PositiveIntegerField(_("generation"), default=1, editable=False)

    # Negotiated with the server; remembered so that a call needs no handshake.
    protocol_version = models.CharField(_("protocol version"), max_length=20, blank=True, editable=False)
    discover_result = models.JSONField(_("discover result"), null=True, editable=False)

    # Reachable is a fact of its own, kept apart from anybody's authorization.
    reachable = models.BooleanField(_("reachable"), null=True, editable=False)
    contacted_at = models.DateTimeField(_("last contact"), null=True, editable=False)
    contact_error_code = models.CharField(_("code of the last error"), max_length=60, blank=True, editable=False)
    # As sentences.kept() has it; last_error is for people.
    contact_error = models.CharField(_("last error"), max_length=600, blank=True, editable=False)

    # A fact about the configured headers, not about the network: the server answers and says no.
    headers_refused_at = models.DateTimeField(_("headers refused"), null=True, editable=False)

    # Evidence of the last probe, words as sentences.kept() has them; probe_evidence and last_verdict are for people.
    probe_steps = models.JSONField(_("probe steps"), default=list, blank=True, editable=False)
    probe_verdict = models.CharField(_("probe verdict"), max_length=600, blank=True, editable=False)
    probed_at = models.DateTimeField(_("last probe"), null=True, editable=False)

    class Meta:
        ordering = ["name", "id"]
        verbose_name = _("MCP server")
        verbose_name_plural = _("MCP servers")
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "slug"],
                name="mcp_oauth_server_slug_once",
                violation_error_message=_("Another server of this workspace already has this short name."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def last_error(self) -> str:
        """Why the server was not reached the last time, in the reader's language; empty where it was."""
        return recalled(self.contact_error)

    @property
    def last_verdict(self) -> str:
        """What the last probe showed, in the reader's language; empty before there was one."""
        return recalled(self.probe_verdict)

    @property
    def host(self) -> str:
        """The host part of the address, with its port if it is not the scheme's own; ``?`` when it has none."""
        try:
            return urlsplit(self.url).netloc or "?"
        except ValueError:  # an address written past the services must not hide the other rows
            return "?"

    @property
    def is_in_use(self) -> bool:
        """Whether people may connect and use it: it is enabled, and not about to be removed."""
        return self.enabled and self.removal_at is None

    @property
    def uses_grants(self) -> bool:
        """Whether a token stands between this application and the server."""
        return self.auth_mode == self.AuthMode.OAUTH or self.is_unattended

    @property
    def is_unattended(self) -> bool:
        """Whether a token is asked for whenever one is needed, without a page where a person agrees."""
        return self.auth_mode in UNATTENDED_MODES

    @property
    def acts_as_itself(self) -> bool:
        """Whether the application or the deployment is who it acts as, and no member."""
        return self.is_unattended and self.auth_mode != self.AuthMode.ENTERPRISE

    @property
    def grant_is_shared(self) -> bool:
        """Whether one grant serves the whole workspace."""
        return self.acts_as_itself or (self.auth_mode == self.AuthMode.OAUTH and self.sharing == self.Sharing.WORKSPACE)

    def grant_owner(self, user_pk: Any) -> Any:
        """Return whose grant serves this person: their own key, or ``None`` for the workspace's."""
        return None if self.grant_is_shared else user_pk

    @property
    def has_preregistered_client(self) -> bool:
        """Whether an administrator entered a client registered by hand."""
        return bool(self.client_id)

    def natural_name(self) -> str:
        """Return ``workspace/slug``, the name commands use."""
        return f"{self.workspace.slug}/{self.slug}"

    def probe_evidence(self) -> list[dict[str, Any]]:
        """Return the steps of the last probe in the reader's language; a malformed column reads as no evidence."""
        steps = self.probe_steps if isinstance(self.probe_steps, list) else []
        return [
            {
                name: recalled(value) if name in WORDS_OF_A_STEP and isinstance(value, str) else value
                for name, value in step.items()
            }
            for step in steps
            if isinstance(step, dict)
        ]


# The members of a probe's step that are for people.
WORDS_OF_A_STEP = ("note", "rule", "next_step")
# Kinds of authorization in which a token is asked for whenever one is needed, and no person is sent anywhere.
UNATTENDED_MODES = frozenset(
    {McpServer.AuthMode.CLIENT_CREDENTIALS, McpServer.AuthMode.WORKLOAD, McpServer.AuthMode.ENTERPRISE}
)
