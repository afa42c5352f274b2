"""What a server's form is made of, on the pages and in the Django admin: fields, and secrets that are only written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.utils.translation import gettext_lazy as _

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import McpServer
from mcp_oauth.services.headers import parse_headers
from mcp_oauth.services.tool_policy import check_patterns

if TYPE_CHECKING:
    _AnyForm = forms.BaseForm
else:
    _AnyForm = object

KINDS = [("", _("Find out by asking the server")), *McpServer.AuthMode.choices]


def chosen_kind(server: McpServer) -> str:
    """Return the kind of authorization that a person chose, empty where it was found out."""
    return server.auth_mode if server.auth_mode_source == McpServer.AuthModeSource.PERSON else ""


class UnechoedText(forms.Textarea):
    """A text area that never renders what was typed, as ``PasswordInput`` does not."""

    def format_value(self, value: Any) -> None:
        """Render nothing."""
        return


class HeaderLines(forms.CharField):
    """Headers, one “Name: value” per line; ``says_next_step`` adds to a refusal what to do about it."""

    def __init__(self, *, says_next_step: bool = False, attrs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.says_next_step = says_next_step
        widget = UnechoedText(attrs={"rows": 3, **(attrs or {}), "spellcheck": "false", "autocomplete": "off"})
        super().__init__(label=_("Headers"), required=False, max_length=20_000, strip=False, widget=widget, **kwargs)

    def clean(self, value: Any) -> Any:
        """Return the headers, or ``None`` where nothing was typed.

        Raises: ``ValidationError`` when a line is none, or names a header that may not be set.
        """
        text = super().clean(value)
        if not text.strip():
            return None
        try:
            return parse_headers(text)
        except McpOAuthError as error:
            told = f"{error.user_message} {error.next_step}".strip() if self.says_next_step else error.user_message
            raise forms.ValidationError(told, code=error.code) from error


class SecretLine(forms.CharField):
    """A secret or a private key on one line."""

    def __init__(self, *, attrs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        # Browsers fill a saved password into a field that merely says "off".
        widget = forms.PasswordInput(attrs={"autocomplete": "new-password", **(attrs or {})})
        super().__init__(required=False, max_length=8000, widget=widget, **kwargs)


class ScopesField(forms.CharField):
    """The scopes that are asked for, whatever the server says."""

    def __init__(self) -> None:
        super().__init__(
            label=_("Scopes"),
            required=False,
            max_length=2000,
            help_text=_("Separated by spaces. Left empty, the server says what it needs."),
        )


class ToolPatterns(forms.CharField):
    """Patterns of tool names, one per line: of those that may be run, or of those that are ``denied``."""

    def __init__(self, *, denied: bool = False) -> None:
        widget = forms.Textarea(attrs={"rows": 3, "cols": 60, "spellcheck": "false", "autocomplete": "off"})
        super().__init__(
            label=_("Tools that may not be run") if denied else _("Tools that may be run"),
            help_text=_("One name or pattern per line, such as delete_*. They are refused whatever is allowed.")
            if denied
            else _("One name or pattern per line, such as get_*. Left empty, all may be run."),
            required=False,
            max_length=30_000,
            widget=widget,
        )

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


class WriteOnlySecrets(_AnyForm):
    """A form of a server whose secrets are typed into one field, or removed by another, and never shown again.

    A secret's field is called ``typed_prefix`` and the secret's name, and what removes it ``clear_`` and the name. When
    the form comes back, each typed secret is said to be gone, for it is not repeated.
    """

    secret_fields: ClassVar[tuple[str, ...]] = ()
    typed_prefix: ClassVar[str] = ""
    # They wait, sealed, in the form itself.
    secrets_kept: bool = False

    def full_clean(self) -> None:
        """Validate as forms do; a mistake anywhere means that the secrets are entered once more."""
        super().full_clean()
        self.ask_for_secrets_again()

    def ask_for_secrets_again(self) -> None:
        """Say of each typed secret that it is gone, where there are mistakes and the secrets are not kept."""
        if not self.is_bound or not self.errors or self.secrets_kept:
            return
        for name in self.secret_fields:
            if self.data.get(self.add_prefix(name)):
                self.add_error(name, _("Enter it once more; nothing is saved yet and what you typed is not shown."))

    def clearing_fields(self) -> dict[str, str]:
        """Return, by the field a secret is typed into, the one that removes it."""
        return {field: f"clear_{field.removeprefix(self.typed_prefix)}" for field in self.secret_fields}

    def wanted_secrets(self) -> dict[str, Any]:
        """Return the secrets as `ServerSettings` takes them: ``None`` stays, what is empty goes.

        Only after ``is_valid()``.
        """
        wanted: dict[str, Any] = {}
        for field, clearing in self.clearing_fields().items():
            name = field.removeprefix(self.typed_prefix)
            nothing: Any = {} if name == "headers" else ""
            wanted[name] = nothing if self.cleaned_data[clearing] else (self.cleaned_data[field] or None)
        return wanted
