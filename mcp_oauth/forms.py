"""The forms of the pages: a server, and a new API token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator
from django.utils.translation import gettext_lazy as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import McpServer, Workspace
from mcp_oauth.server_fields import (
    KINDS,
    HeaderLines,
    ScopesField,
    SecretLine,
    ToolPatterns,
    WriteOnlySecrets,
    chosen_kind,
)
from mcp_oauth.services.known_servers import known_server_at
from mcp_oauth.services.server_options import readable_options
from mcp_oauth.services.server_settings import ServerSettings


class ServerForm(WriteOnlySecrets, forms.Form):
    """Name, address and kind of authorization; the rest only where it is needed."""

    secret_fields = ("headers", "client_secret", "initial_access_token")

    name = forms.CharField(label=_("Name"), max_length=120)
    url = forms.CharField(
        label=_("Address"),
        max_length=2000,
        help_text=_("The server's MCP endpoint, for example https://mcp.example.com/mcp."),
        widget=forms.TextInput(attrs={"inputmode": "url", "autocomplete": "url", "spellcheck": "false"}),
    )
    auth_mode = forms.ChoiceField(
        label=_("Authorization"),
        required=False,
        choices=KINDS,
    )
    sharing = forms.ChoiceField(
        label=_("Connection"),
        required=False,
        choices=McpServer.Sharing.choices,
        help_text=_("Whose account tools act with, when people connect with OAuth."),
    )
    headers = HeaderLines(
        help_text=_(
            "One “Name: value” per line. Encrypted, never shown, not even after an error; left empty, they stay."
        ),
    )
    clear_headers = forms.BooleanField(label=_("Remove the stored headers"), required=False)
    client_id = forms.CharField(label=_("Client ID"), required=False, max_length=2000)
    client_secret = SecretLine(
        label=_("Client secret or private key"),
        help_text=_(
            "A secret, or a private key in PEM form. Encrypted, never shown, not even after an error; left empty, it "
            "stays."
        ),
    )
    clear_client_secret = forms.BooleanField(label=_("Remove the stored client secret"), required=False)
    client_issuer = forms.CharField(
        label=_("Issuer"),
        required=False,
        max_length=2000,
        help_text=_(
            "The authorization server that the client, or the token to register with, belongs to. Left empty, the "
            "first one found is kept."
        ),
    )
    initial_access_token = SecretLine(
        label=_("Token to register with"),
        help_text=_(
            "Only where the provider registers clients that bring an initial access token. Encrypted, never shown; "
            "left empty, it stays."
        ),
    )
    clear_initial_access_token = forms.BooleanField(label=_("Remove the stored token to register with"), required=False)
    scopes = ScopesField()
    allowed_tools = ToolPatterns()
    denied_tools = ToolPatterns(denied=True)
    enabled = forms.BooleanField(label=_("Enabled"), required=False, initial=True)
    # Of a new server only: the options that its provider is known to need.
    known_options = forms.BooleanField(
        label=_("Use the options that it is known to need"), required=False, initial=True
    )

    def __init__(self, *args: Any, server: McpServer | None = None, secrets_kept: bool = False, **kwargs: Any) -> None:
        self.server = server
        self.secrets_kept = secrets_kept
        if server is not None:
            kwargs.setdefault("initial", _initial(server))
        super().__init__(*args, **kwargs)
        if server is None:
            self.fields["headers"].help_text = _("One “Name: value” per line. Encrypted, and never shown again.")
            self.fields["client_secret"].help_text = _(
                "A secret, or a private key in PEM form. Encrypted, and never shown again."
            )
        # Kinds whose options only the Django admin and the command take are kept here, and not offered.
        kept = server.auth_mode if server is not None else ""
        elsewhere = {McpServer.AuthMode.WORKLOAD, McpServer.AuthMode.ENTERPRISE} - {kept}
        kinds = self.fields["auth_mode"]
        if isinstance(kinds, forms.ChoiceField):
            kinds.choices = [pair for pair in KINDS if pair[0] not in elsewhere]

    def cleared(self) -> set[str]:
        """Return which secrets the person asked to remove; only after ``is_valid()``."""
        return {name for name, clearing in self.clearing_fields().items() if self.cleaned_data[clearing]}

    def wanted(self) -> ServerSettings:
        """Return what the person asked for; only after ``is_valid()``."""
        data = self.cleaned_data
        options = readable_options(self.server) if self.server is not None else self._known_options()
        options.pop("scopes", None)
        if data["scopes"].split():
            options["scopes"] = " ".join(data["scopes"].split())
        return ServerSettings(
            name=data["name"],
            url=data["url"],
            auth_mode=data["auth_mode"] or None,
            enabled=data["enabled"],
            client_id=data["client_id"],
            client_issuer=data["client_issuer"],
            options=options,
            slug=self.server.slug if self.server is not None else "",
            sharing=data["sharing"] or McpServer.Sharing.MEMBER,
            allowed_tools=data["allowed_tools"],
            denied_tools=data["denied_tools"],
            **self.wanted_secrets(),
        )

    def _known_options(self) -> dict[str, Any]:
        known = known_server_at(self.cleaned_data["url"].strip()) if self.cleaned_data["known_options"] else None
        return known.options() if known is not None else {}

    def add_typed_error(self, error: McpOAuthError) -> None:
        """Show a typed error where it belongs."""
        field = "url" if error.code in {"invalid_address", "address_blocked"} else None
        self.add_error(field, f"{error.user_message} {error.next_step}".strip())
        self.ask_for_secrets_again()


def _initial(server: McpServer) -> dict[str, Any]:
    return {
        "name": server.name,
        "url": server.url,
        "auth_mode": chosen_kind(server),
        "sharing": server.sharing,
        "client_id": server.client_id,
        "client_issuer": server.client_issuer,
        "scopes": readable_options(server).get("scopes", ""),
        "allowed_tools": server.allowed_tools,
        "denied_tools": server.denied_tools,
        "enabled": server.enabled,
    }


# A quarter of a year: long enough to be of use, short enough to be missed when it ends.
_USUAL_DAYS = 90


class TokenForm(forms.Form):
    """A new API token: what uses it, where, and how long."""

    name = forms.CharField(label=_("Name"), max_length=80, help_text=_("What uses it, for you to tell it from others."))
    workspace = forms.ChoiceField(label=_("Workspace"), help_text=_("It opens nothing of your other workspaces."))
    days = forms.IntegerField(label=_("Days until it ends"), min_value=1)

    def __init__(self, *args: Any, workspaces: Sequence[Workspace], **kwargs: Any) -> None:
        kwargs.setdefault("initial", {"days": min(_USUAL_DAYS, settings.API_TOKEN_DAYS)})
        super().__init__(*args, **kwargs)
        self.workspaces = {workspace.slug: workspace for workspace in workspaces}
        where, days = self.fields["workspace"], self.fields["days"]
        if isinstance(where, forms.ChoiceField):
            where.choices = [(slug, workspace.name) for slug, workspace in self.workspaces.items()]
        days.validators.append(MaxValueValidator(settings.API_TOKEN_DAYS))
        days.widget.attrs["max"] = settings.API_TOKEN_DAYS

    def wanted(self) -> dict[str, Any]:
        """Return what `make_token` takes; only after ``is_valid()``."""
        data = self.cleaned_data
        return {"workspace": self.workspaces[data["workspace"]], "name": data["name"], "days": data["days"]}

    def add_typed_error(self, error: McpOAuthError) -> None:
        """Show a typed error where it belongs."""
        self.add_error(error.field if error.field in self.fields else None, f"{error.user_message} {error.next_step}")
