"""What an administrator says about a server: checked, and taken over into its row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.text import slugify
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import ConfigurationError, InvalidRequest, McpOAuthError
from mcp_oauth.fields import sealed_value
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.urls import check_endpoint, check_server_address, same_origin
from mcp_oauth.services.enterprise import check_address
from mcp_oauth.services.headers import check_headers
from mcp_oauth.services.tool_policy import check_patterns
from mcp_oauth.services.workload import check_name


@dataclass(frozen=True)
class ServerSettings:
    """What an administrator says about a server.

    ``auth_mode`` is ``None`` for "find out". ``headers``, ``client_secret``, ``initial_access_token`` and
    ``idp_client_secret``: ``None`` keeps what is stored, an empty value clears it; so do ``allowed_tools`` and
    ``denied_tools``, which hold patterns of tool names.
    """

    name: str
    url: str
    auth_mode: str | None = None
    enabled: bool = True
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    client_id: str = ""
    client_secret: str | None = field(default=None, repr=False)
    client_issuer: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    slug: str = ""
    sharing: str = McpServer.Sharing.MEMBER
    idp_client_secret: str | None = field(default=None, repr=False)
    initial_access_token: str | None = field(default=None, repr=False)
    allowed_tools: Sequence[str] | None = None
    denied_tools: Sequence[str] | None = None

    def secrets_given(self) -> list[str]:
        """Return the names of the secrets that are entered or cleared, without their values."""
        return [name for name in McpServer.SECRETS if getattr(self, name) is not None]


def check_settings(wanted: ServerSettings, server: McpServer | None = None) -> str:
    """Check what would be stored, for a new server or an existing one, and return the address as it would be stored.

    Raises:
        InvalidServerAddress, InvalidRequest: the input is malformed.
    """
    token_stored = server is not None and sealed_value(server, "initial_access_token") is not None
    _check(wanted, token_stored=token_stored)
    return check_server_address(wanted.url, allow_loopback=settings.ALLOW_LOOPBACK)


def _check(wanted: ServerSettings, *, token_stored: bool) -> None:
    if not wanted.name.strip() or len(wanted.name.strip()) > 120:
        raise InvalidRequest(_("Give the server a name of at most 120 characters."))
    if wanted.auth_mode is not None and wanted.auth_mode not in McpServer.AuthMode.values:
        raise InvalidRequest(_("“%(mode)s” is not a kind of authorization.") % {"mode": wanted.auth_mode[:40]})
    if wanted.sharing not in McpServer.Sharing.values:
        raise InvalidRequest(_("“%(sharing)s” is not a kind of sharing.") % {"sharing": wanted.sharing[:40]})
    if wanted.auth_mode == McpServer.AuthMode.CLIENT_CREDENTIALS and not wanted.client_id.strip():
        raise InvalidRequest(
            _("To act as itself, the application needs a client ID and its secret or private key."),
            next_step=_("Register a client with the provider and enter it."),
        )
    if wanted.auth_mode in {McpServer.AuthMode.WORKLOAD, McpServer.AuthMode.ENTERPRISE}:
        _check_vouched_for(wanted)
    if wanted.slug.strip() and (slugify(wanted.slug.strip()) != wanted.slug.strip() or len(wanted.slug.strip()) > 80):
        raise InvalidRequest(_("A short name has lower-case letters, digits and hyphens only."))
    for patterns in (wanted.allowed_tools, wanted.denied_tools):
        check_patterns(patterns or ())
    if wanted.headers is not None:
        check_headers(wanted.headers)
    if wanted.client_issuer:
        try:
            check_endpoint(
                wanted.client_issuer,
                name="issuer",
                document=wanted.client_issuer,
                allow_loopback=settings.ALLOW_LOOPBACK,
            )
        except McpOAuthError as error:
            raise InvalidRequest(_("The issuer must be the https address of an authorization server.")) from error
    if wanted.client_secret and not wanted.client_id:
        raise InvalidRequest(_("A client secret needs the client ID it belongs to."))
    if wanted.client_issuer and not (wanted.client_id or wanted.initial_access_token or token_stored):
        raise InvalidRequest(_("An issuer needs the client ID, or the token to register with, that belongs to it."))
    if wanted.initial_access_token and not re.fullmatch(r"[\x21-\x7e]{1,8000}", wanted.initial_access_token.strip()):
        # It travels in a header (RFC 6750 §2.1).
        raise InvalidRequest(_("A token to register with is one line of printable ASCII without blanks."))
    if wanted.initial_access_token and wanted.client_id:
        raise InvalidRequest(
            _("A token to register with is of no use beside a client that is registered already."),
            next_step=_("Enter either the client ID or the initial access token."),
        )
    if wanted.idp_client_secret and not wanted.options.get("idp_client_id"):
        raise InvalidRequest(_("The identity provider's client secret needs the option idp_client_id."))
    try:
        OAuthOptions.from_json(dict(wanted.options))
    except ConfigurationError as error:
        raise InvalidRequest(error.user_message, next_step=error.next_step) from error


def _check_vouched_for(wanted: ServerSettings) -> None:
    """Check what a server needs that is opened because the platform or the company vouches for somebody."""
    if not wanted.client_id.strip():
        raise InvalidRequest(
            _("The client ID is missing by which the server's provider knows this application."),
            next_step=_("Register a client with the provider and enter it."),
        )
    try:
        options = OAuthOptions.from_json(dict(wanted.options))
        if wanted.auth_mode == McpServer.AuthMode.WORKLOAD:
            check_name(options.workload_token)
        else:
            _check_identity_provider(options)
    except McpOAuthError as error:
        raise InvalidRequest(error.user_message, next_step=error.next_step) from error
    if options.tolerate_issuer_mismatch:
        raise InvalidRequest(
            _("What is addressed to one authorization server is sent to no other one."),
            next_step=_("Switch tolerate_issuer_mismatch off."),
        )


def _check_identity_provider(options: OAuthOptions) -> None:
    if not settings.IDENTITY_TOKEN_PROVIDER:
        raise ConfigurationError(
            _("This site does not know its people from a company's identity provider."),
            next_step=_("Ask the operator to set MCP_OAUTH['IDENTITY_TOKEN_PROVIDER']."),
        )
    if not options.idp_client_id or not (options.idp_issuer or options.idp_token_endpoint):
        raise ConfigurationError(
            _("The company's identity provider is missing."),
            next_step=_("Enter the options idp_client_id and idp_issuer, or idp_token_endpoint in its place."),
        )
    for name in ("idp_issuer", "idp_token_endpoint"):
        if address := getattr(options, name):
            check_address(name, address)


def apply_settings(server: McpServer, wanted: ServerSettings, url: str) -> None:
    """Take over what was checked, and forget what belongs to the old settings; nothing is stored."""
    _leave_behind(server, wanted, url)
    server.name = wanted.name.strip()
    server.url = url
    server.enabled = wanted.enabled
    server.sharing = wanted.sharing
    server.client_id = wanted.client_id.strip()
    options = OAuthOptions.from_json(dict(wanted.options)).to_json()
    before = server.oauth_options if isinstance(server.oauth_options, Mapping) else {}
    if identity_provider(options) != identity_provider(before):
        server.idp_client_secret = None  # it belongs to one client at one provider, too
    server.oauth_options = options
    if wanted.allowed_tools is not None:
        server.allowed_tools = check_patterns(wanted.allowed_tools)
    if wanted.denied_tools is not None:
        server.denied_tools = check_patterns(wanted.denied_tools)
    if wanted.headers is not None:
        server.headers = dict(wanted.headers) or None
        server.headers_refused_at = None
    if wanted.idp_client_secret is not None:
        server.idp_client_secret = _with_line_breaks(wanted.idp_client_secret.strip()) or None
    if wanted.initial_access_token is not None:
        server.initial_access_token = wanted.initial_access_token.strip() or None
    if wanted.client_secret is not None:
        server.client_secret = _with_line_breaks(wanted.client_secret.strip()) or None
    if not server.client_id and not (wanted.initial_access_token or sealed_value(server, "initial_access_token")):
        server.client_issuer = ""  # nothing is left that belongs to it
    if wanted.auth_mode is not None:
        server.auth_mode = wanted.auth_mode
        server.auth_mode_source = McpServer.AuthModeSource.PERSON


def _leave_behind(server: McpServer, wanted: ServerSettings, url: str) -> None:
    """Forget the stored secrets that were entered for another origin, client or issuer than the wanted one.

    They are write-only: whoever may change an address must not have them sent to one of their own choice. What is
    entered along with the change is stored afterwards.
    """
    moved = bool(server.url) and not same_origin(server.url, url)
    client_id, issuer = wanted.client_id.strip(), wanted.client_issuer.strip()
    if not issuer and client_id == server.client_id and not moved:
        issuer = server.client_issuer  # left empty, the one that was found stays
    if moved:
        server.headers = None
    if moved or (client_id, issuer) != (server.client_id, server.client_issuer):
        server.client_secret = server.initial_access_token = None
    server.client_issuer = issuer


def _with_line_breaks(secret: str) -> str:
    """Return a secret as it is, and a private key with the line breaks that a one-line field took out of it."""
    key = re.fullmatch(r"(-----BEGIN [A-Z ]{3,40}-----)\s*([A-Za-z0-9+/=\s]+?)\s*(-----END [A-Z ]{3,40}-----)", secret)
    return secret if key is None else "\n".join([key[1], *re.findall(r"\S{1,64}", key[2]), key[3], ""])


def identity_provider(options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells a company's identity provider, and the client there, from others."""
    return tuple(options.get(name) for name in ("idp_issuer", "idp_token_endpoint", "idp_client_id"))
