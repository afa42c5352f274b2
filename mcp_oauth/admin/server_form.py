"""The form of a server: every column and option an administrator decides about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from typing import Any, ClassVar

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from mcp_oauth.admin.cells import told
from mcp_oauth.admin.row_classes import Form
from mcp_oauth.conf import settings
from mcp_oauth.exceptions import McpOAuthError, ServerUnreachable
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.urls import check_server_address
from mcp_oauth.server_fields import (
    KINDS,
    HeaderLines,
    ScopesField,
    SecretLine,
    ToolPatterns,
    WriteOnlySecrets,
    chosen_kind,
)
from mcp_oauth.services.server_settings import ServerSettings

_WIDE = {"size": 60}
OPTION_FIELDS = tuple(f"option_{item.name}" for item in dataclass_fields(OAuthOptions))


class McpServerForm(WriteOnlySecrets, Form[McpServer]):
    """A server's settings; headers and client secret are written and never read back."""

    # Not named like the columns, so that nothing of Django's can read one in place of the other.
    secret_fields = ("new_headers", "new_client_secret", "new_initial_access_token", "new_idp_client_secret")
    typed_prefix = "new_"
    # Set on the class of one request when the server, asked while saving, was the reason not to save.
    refusal: ClassVar[McpOAuthError | None] = None

    kind = forms.ChoiceField(
        label=gettext_lazy("Kind of authorization"),
        required=False,
        choices=KINDS,
        help_text=gettext_lazy("Chosen here it always wins; a change ends everybody's connection."),
    )
    new_headers = HeaderLines(
        says_next_step=True,
        help_text=gettext_lazy("One “Name: value” per line. Stored encrypted, never shown; left empty, they stay."),
        attrs={"cols": 60},
    )
    clear_headers = forms.BooleanField(
        label=gettext_lazy("Remove the stored headers"),
        required=False,
        help_text=gettext_lazy("They are forgotten when the form is saved."),
    )
    new_client_secret = SecretLine(
        label=gettext_lazy("Client secret or private key"),
        help_text=gettext_lazy(
            "A secret, or a private key in PEM form. Stored encrypted, never shown; left empty, it stays."
        ),
        attrs=_WIDE,
    )
    clear_client_secret = forms.BooleanField(
        label=gettext_lazy("Remove the stored client secret"),
        required=False,
        help_text=gettext_lazy("It is forgotten when the form is saved."),
    )
    new_initial_access_token = SecretLine(
        label=gettext_lazy("Token to register with"),
        help_text=gettext_lazy(
            "Only where the provider registers clients that bring an initial access token (RFC 7591 §3). Stored "
            "encrypted, never shown; left empty, it stays."
        ),
        attrs=_WIDE,
    )
    clear_initial_access_token = forms.BooleanField(
        label=gettext_lazy("Remove the stored token to register with"),
        required=False,
        help_text=gettext_lazy("It is forgotten when the form is saved."),
    )
    new_idp_client_secret = SecretLine(
        label=gettext_lazy("Client secret or private key at the identity provider"),
        help_text=gettext_lazy(
            "Of the client named above at the company's identity provider, if it needs one. Stored encrypted, never "
            "shown; left empty, it stays."
        ),
        attrs=_WIDE,
    )
    clear_idp_client_secret = forms.BooleanField(
        label=gettext_lazy("Remove the stored client secret at the identity provider"),
        required=False,
        help_text=gettext_lazy("It is forgotten when the form is saved."),
    )

    allow_tools = ToolPatterns()
    deny_tools = ToolPatterns(denied=True)

    option_scopes = ScopesField()
    option_resource = forms.ChoiceField(
        label=gettext_lazy("Resource parameter"),
        required=False,
        choices=[
            ("auto", gettext_lazy("Sent, except where it is known to fail")),
            ("include", gettext_lazy("Always sent")),
            ("omit", gettext_lazy("Never sent")),
        ],
        help_text=gettext_lazy("RFC 8707; a few providers refuse it."),
    )
    option_audience = forms.CharField(
        label=gettext_lazy("Audience parameter"),
        required=False,
        max_length=2000,
        help_text=gettext_lazy("For providers that want an audience in the authorization request."),
    )
    option_prompt = forms.CharField(
        label=gettext_lazy("Prompt parameter"),
        required=False,
        max_length=200,
        help_text=gettext_lazy("For example consent, for providers that give a refresh token only then."),
    )
    option_extra_parameters = forms.JSONField(
        label=gettext_lazy("Further parameters"),
        required=False,
        help_text=gettext_lazy("A JSON object of texts that joins the authorization request."),
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60, "spellcheck": "false"}),
    )
    option_registration = forms.ChoiceField(
        label=gettext_lazy("Client registration"),
        required=False,
        choices=[
            ("auto", gettext_lazy("The first that works")),
            ("preregistered", gettext_lazy("The client entered above")),
            ("cimd", gettext_lazy("Client ID metadata document")),
            ("dynamic", gettext_lazy("Dynamic registration")),
        ],
        help_text=gettext_lazy("How this application becomes a client at the provider."),
    )
    option_token_endpoint_auth_method = forms.ChoiceField(
        label=gettext_lazy("Client authentication"),
        required=False,
        choices=[
            ("", gettext_lazy("As the authorization server's metadata says")),
            ("none", "none"),
            ("client_secret_post", "client_secret_post"),
            ("client_secret_basic", "client_secret_basic"),
            ("private_key_jwt", "private_key_jwt"),
        ],
        help_text=gettext_lazy("How the client shows the provider who it is."),
    )
    option_dpop = forms.ChoiceField(
        label=gettext_lazy("Tokens bound to a key (DPoP)"),
        required=False,
        choices=[
            ("auto", gettext_lazy("Where both servers speak it")),
            ("off", gettext_lazy("Never")),
        ],
        help_text=gettext_lazy("Takes effect when somebody connects."),
    )
    option_tolerate_missing_s256 = forms.BooleanField(
        label=gettext_lazy("Tolerate metadata that does not name S256"),
        required=False,
        help_text=gettext_lazy("For providers that support PKCE without saying so (RFC 8414 §2)."),
    )
    option_tolerate_issuer_mismatch = forms.BooleanField(
        label=gettext_lazy("Tolerate metadata with another issuer"),
        required=False,
        help_text=gettext_lazy(
            "Switches a check off (RFC 8414 §3.3): only for a provider whose document is known to be wrong."
        ),
    )
    option_tolerate_resource_mismatch = forms.BooleanField(
        label=gettext_lazy("Tolerate metadata with another resource"),
        required=False,
        help_text=gettext_lazy(
            "Switches a check off (RFC 9728 §3.3): only for a server whose document is known to be wrong."
        ),
    )
    option_legacy_endpoints = forms.BooleanField(
        label=gettext_lazy("Endpoints of the 2025-03-26 specification"),
        required=False,
        help_text=gettext_lazy(
            "For providers without metadata: /authorize, /token and /register at the server's own origin."
        ),
    )

    option_workload_token = forms.CharField(
        label=gettext_lazy("Workload token"),
        required=False,
        max_length=60,
        help_text=gettext_lazy("The operator's name for the token that says who this deployment is."),
    )

    option_idp_issuer = forms.CharField(
        label=gettext_lazy("Identity provider's issuer"),
        required=False,
        max_length=2000,
        help_text=gettext_lazy("Where people sign in at their company; its metadata names the token endpoint."),
    )
    option_idp_token_endpoint = forms.CharField(
        label=gettext_lazy("Identity provider's token endpoint"),
        required=False,
        max_length=2000,
        help_text=gettext_lazy("Only if the identity provider publishes no metadata."),
    )
    option_idp_client_id = forms.CharField(
        label=gettext_lazy("Client ID at the identity provider"),
        required=False,
        max_length=2000,
        help_text=gettext_lazy("What this application is called there."),
    )

    class Meta:
        model = McpServer
        fields = ("workspace", "name", "slug", "url", "enabled", "sharing", "client_id", "client_issuer")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        server: McpServer | None = kwargs.get("instance")
        if server is not None:
            kwargs["initial"] = {**_initial(server), **(kwargs.get("initial") or {})}
        super().__init__(*args, **kwargs)
        if "slug" in self.fields:
            self.fields["slug"].required = False
            self.fields["slug"].help_text = _("Names the server in commands. Left empty, it is made from the name.")

    def clean_url(self) -> str:
        """Return the address if it is one this application may contact."""
        try:
            return check_server_address(self.cleaned_data["url"], allow_loopback=settings.ALLOW_LOOPBACK)
        except McpOAuthError as error:
            raise forms.ValidationError(told(error), code=error.code) from error

    def clean(self) -> dict[str, Any] | None:
        """Check what can be checked without asking anybody, and say what the server made of the rest."""
        super().clean()
        for key, value in self._options().items():
            try:
                OAuthOptions.from_json({key: value})
            except McpOAuthError as error:
                self.add_error(f"option_{key}", error.user_message)
        given = self.cleaned_data
        for typed, clear in self.clearing_fields().items():
            if given.get(typed) and given.get(clear):
                self.add_error(clear, _("Either enter a new value or remove the stored one."))
        if given.get("new_client_secret") and not given.get("client_id"):
            self.add_error("client_id", _("A client secret needs the client ID it belongs to."))
        if given.get("new_idp_client_secret") and not given.get("option_idp_client_id"):
            self.add_error("option_idp_client_id", _("A client secret needs the client ID it belongs to."))
        if self.refusal is not None:
            of_address = isinstance(self.refusal, ServerUnreachable) or self.refusal.code == "invalid_address"
            self.add_error("url" if of_address else None, told(self.refusal))
        return given

    def wanted(self) -> ServerSettings:
        """Return what the person asked for; only after ``is_valid()``."""
        given = self.cleaned_data
        return ServerSettings(
            name=given["name"],
            url=given["url"],
            auth_mode=given["kind"] or None,
            enabled=given["enabled"],
            client_id=given["client_id"],
            client_issuer=given["client_issuer"],
            options=self._options(),
            slug=given.get("slug") or "",
            sharing=given["sharing"],
            allowed_tools=given["allow_tools"],
            denied_tools=given["deny_tools"],
            **self.wanted_secrets(),
        )

    def _options(self) -> dict[str, Any]:
        """Return the OAuth options that were filled in and passed their own field."""
        given = {item.name: self.cleaned_data.get(f"option_{item.name}") for item in dataclass_fields(OAuthOptions)}
        return {name: value for name, value in given.items() if value not in (None, "", False)}


def _initial(server: McpServer) -> dict[str, Any]:
    """Return the fields that are no columns; options that no longer can be read keep what is readable."""
    stored = server.oauth_options if isinstance(server.oauth_options, Mapping) else {}
    default = OAuthOptions()
    options = {
        f"option_{item.name}": stored.get(item.name, getattr(default, item.name))
        for item in dataclass_fields(OAuthOptions)
    }
    return {
        **options,
        "kind": chosen_kind(server),
        "allow_tools": server.allowed_tools,
        "deny_tools": server.denied_tools,
    }
