"""What is known of providers that people often connect to: how to become a client there, and what to expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal, cast, get_args

from django.utils.translation import gettext as _

from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.services.shipped_lists import ShippedList

Registration = Literal["cimd", "dynamic", "manual"]

REDIRECT_URI: Final = "{redirect_uri}"
SERVER_URL: Final = "{server_url}"
_LIST: Final = ShippedList(
    file="providers.toml",
    entry="provider",
    entries="providers",
    required=frozenset({"name", "documentation", "registration", "auth_mode", "setup", "notes"}),
    optional=frozenset({"server_url", "issuers", "options"}),
    choices={"registration": get_args(Registration), "auth_mode": McpServer.AuthMode.values},
    addresses=frozenset({"server_url", "documentation"}),
    structured=frozenset({"issuers", "options"}),
)


@dataclass(frozen=True, slots=True)
class Provider:
    """One entry of ``mcp_oauth/providers.toml``; ``server_url`` is empty for an identity provider.

    ``issuers`` are patterns of issuers without their scheme. ``options`` may contain ``{server_url}`` and ``setup``
    contains ``{redirect_uri}`` where a client is made by hand.
    """

    key: str
    name: str
    server_url: str
    documentation: str
    registration: Registration
    auth_mode: McpServer.AuthMode
    options: Mapping[str, Any]
    setup: str
    notes: str
    issuers: tuple[str, ...] = ()

    def options_for(self, server_url: str) -> dict[str, Any]:
        """Return the OAuth options for a server of this provider, as a JSON object."""
        return {
            name: value.replace(SERVER_URL, server_url) if isinstance(value, str) else value
            for name, value in self.options.items()
        }

    def setup_for(self, redirect_uri: str) -> str:
        """Return what an administrator does, with the redirect URI to copy."""
        return _(self.setup).replace(REDIRECT_URI, redirect_uri)


@cache
def providers() -> Mapping[str, Provider]:
    """Return every known provider by its short name, in the order of the file."""
    return MappingProxyType(parse_providers(_LIST.text()))


def provider_of(server_url: str, issuer: str = "") -> Provider | None:
    """Return the provider that a server's address, or else its issuer, belongs to."""
    at = server_url.rstrip("/")
    by_address = (known for known in providers().values() if known.server_url and known.server_url.rstrip("/") == at)
    named = issuer.partition("://")[2].lower().rstrip("/") + "/"
    by_issuer = (
        known for known in providers().values() if any(fnmatchcase(named, pattern) for pattern in known.issuers)
    )
    return next(by_address, None) or (next(by_issuer, None) if issuer else None)


def parse_providers(text: str) -> dict[str, Provider]:
    """Return the providers that a TOML document describes.

    Raises:
        ConfigurationError: naming the entry, for an unknown or missing key, or a value that cannot be used.
    """
    return _LIST.parse(text, _provider)


def _provider(key: str, entry: dict[str, Any]) -> Provider:
    if entry["registration"] == "manual" and REDIRECT_URI not in entry["setup"]:
        raise _LIST.refusal(key, f"does not say in its setup where {REDIRECT_URI} goes")
    issuers = entry.get("issuers", [])
    if not isinstance(issuers, list) or not all(isinstance(item, str) and "/" in item for item in issuers):
        raise _LIST.refusal(key, "has issuers that are not a list of patterns with a path")
    options = entry.get("options", {})
    try:
        OAuthOptions.from_json(options)
    except ConfigurationError as error:
        raise _LIST.refusal(key, "has options that cannot be used") from error
    return Provider(
        key=key,
        name=entry["name"],
        server_url=entry.get("server_url", ""),
        documentation=entry["documentation"],
        registration=cast(Registration, entry["registration"]),
        auth_mode=McpServer.AuthMode(entry["auth_mode"]),
        options=MappingProxyType(options),
        setup=entry["setup"],
        notes=entry["notes"],
        issuers=tuple(issuers),
    )
