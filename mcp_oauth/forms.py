"""The forms of the pages: a server, whose secrets never come back to it, and a new API token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.core.validators import MaxValueValidator
from django.utils.translation import gettext_lazy as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import McpServer, Workspace
from mcp_oauth.services.headers import parse_headers
from mcp_oauth.services.known_servers import known_server_at
from mcp_oauth.services.server_options import readable_options
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.tool_policy import check_patterns

if TYPE_CHECKING:
    _AnyForm = forms.BaseForm
else:
    _AnyForm = object


class UnechoedText(forms.Textarea):
    """A text area that never renders what was typed, as ``PasswordInput`` does not."""

    def format_value(self, value: Any) -> None:
        """Render nothing."""
        return


class SecretsTypedAgain(_AnyForm):
    """A form that says of each typed secret that it is gone when the form comes back, for it is not repeated."""

    secret_fields: ClassVar[tuple[str, ...]] = ()
    # They wait, sealed, in the form itself.
    secrets_kept: bool = False

    def full_clean(self) -> None:
        """Validate as forms do; a mistake anywhere means that the secrets are entered once more."""
        super().full_clean()
        self._ask_for_secrets_again()

    def _ask_for_secrets_again(self) -> None:
        if not self.is_bound or not self.errors or self.secrets_kept:
            return
        for name in self.secret_fields:
            if self.data.get(self.add_prefix(name)):
                self.add_error(name, _("Enter it once more; nothing is saved yet and what you typed is not shown."))


class ToolPatterns(forms.CharField):
    """Patterns of tool names, one per line."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 3, "cols": 60, "spellcheck": "false", "autocomplete": "off"})
        super().__init__(required=False, max_length=30_000, widget=widget, **kwargs)

    def clean(self, value: Any) -> Any:
        """Return the patterns as a list.

        Raises: ``ValidationError`` when one cannot be kept.
        """
        try:
            return check_patterns(super().clean(value).splitlines())
        except McpOAuthError as error:
            raise forms.ValidationError(f"{error.user_message} {error.next_step}".strip(), code=error.code) from error

    def prepare_value(self, value: Any) -> Any:
        """Return stored patterns as they are edited; what was typed stays as it is."""
        return "\n".join(str(pattern) for pattern in value) if isinstance(value, list) else value


_KINDS = [("", _("Find out by asking the server")), *McpServer.AuthMode.choices]


class ServerForm(SecretsTypedAgain, forms.Form):
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
        choices=_KINDS,
    )
    sharing = forms.ChoiceField(
        label=_("Connection"),
        required=False,
        choices=McpServer.Sharing.choices,
        help_text=_("Whose account tools act with, when people connect with OAuth."),
    )
    headers = forms.CharField(
        label=_("Headers"),
        required=False,
        max_length=20_000,
        strip=False,
        help_text=_(
            "One “Name: value” per line. Encrypted, never shown, not even after an error; left empty, they stay."
        ),
        widget=UnechoedText(attrs={"rows": 3, "spellcheck": "false", "autocomplete": "off"}),
    )
    clear_headers = forms.BooleanField(label=_("Remove the stored headers"), required=False)
    client_id = forms.CharField(label=_("Client ID"), required=False, max_length=2000)
    client_secret = forms.CharField(
        label=_("Client secret or private key"),
        required=False,
        max_length=8000,
        help_text=_(
            "A secret, or a private key in PEM form. Encrypted, never shown, not even after an error; left empty, it "
            "stays."
        ),
        # Browsers fill a saved password into a field that merely says "off".
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
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
    initial_access_token = forms.CharField(
        label=_("Token to register with"),
        required=False,
        max_length=8000,
        help_text=_(
            "Only where the provider registers clients that bring an initial access token. Encrypted, never shown; "
            "left empty, it stays."
        ),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    clear_initial_access_token = forms.BooleanField(label=_("Remove the stored token to register with"), required=False)
    scopes = forms.CharField(
        label=_("Scopes"),
        required=False,
        max_length=2000,
        help_text=_("Separated by spaces. Left empty, the server says what it needs."),
    )
    allowed_tools = ToolPatterns(
        label=_("Tools that may be run"),
        help_text=_("One name or pattern per line, such as get_*. Left empty, all may be run."),
    )
    denied_tools = ToolPatterns(
        label=_("Tools that may not be run"),
        help_text=_("One name or pattern per line, such as delete_*. They are refused whatever is allowed."),
    )
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
            kinds.choices = [pair for pair in _KINDS if pair[0] not in elsewhere]

    def clean_headers(self) -> dict[str, str] | None:
        """Return the headers, or ``None`` to keep what is stored."""
        text = self.cleaned_data["headers"]
        if not text.strip():
            return None
        try:
            return parse_headers(text)
        except McpOAuthError as error:
            raise forms.ValidationError(error.user_message, code=error.code) from error

    def cleared(self) -> set[str]:
        """Return which secrets the person asked to remove; only after ``is_valid()``."""
        return {name for name in self.secret_fields if self.cleaned_data[f"clear_{name}"]}

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
            headers={} if data["clear_headers"] else data["headers"],
            client_id=data["client_id"],
            client_secret="" if data["clear_client_secret"] else (data["client_secret"] or None),
            client_issuer=data["client_issuer"],
            initial_access_token="" if data["clear_initial_access_token"] else (data["initial_access_token"] or None),
            options=options,
            slug=self.server.slug if self.server is not None else "",
            sharing=data["sharing"] or McpServer.Sharing.MEMBER,
            allowed_tools=data["allowed_tools"],
            denied_tools=data["denied_tools"],
        )

    def _known_options(self) -> dict[str, Any]:
        known = known_server_at(self.cleaned_data["url"].strip()) if self.cleaned_data["known_options"] else None
        return known.options() if known is not None else {}

    def add_typed_error(self, error: McpOAuthError) -> None:
        """Show a typed error where it belongs."""
        field = "url" if error.code in {"invalid_address", "address_blocked"} else None
        self.add_error(field, f"{error.user_message} {error.next_step}".strip())
        self._ask_for_secrets_again()


def _initial(server: McpServer) -> dict[str, Any]:
    return {
        "name": server.name,
        "url": server.url,
        "auth_mode": server.auth_mode if server.auth_mode_source == McpServer.AuthModeSource.PERSON else "",
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
