"""The ``MCP_OAUTH`` setting: every name it may hold, its default and the reason for that default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from mcp_oauth.exceptions import ConfigurationError


@dataclass(frozen=True)
class McpOAuthSettings:
    """The values of ``settings.MCP_OAUTH``; unknown names are refused. Times are in seconds, sizes in bytes."""

    # Key ring for values at rest, newest first: base64 of 32 random bytes each. Never derived from SECRET_KEY,
    # so that rotating the one does not lose the other.
    ENCRYPTION_KEYS: tuple[str, ...] = field(default=(), repr=False)

    # Scheme and host people reach this site at. The redirect URI is built from it and not from a request's
    # Host header, because it is registered with authorization servers and must not be chosen by a visitor.
    PUBLIC_URL: str = ""

    # Where the client ID metadata document is published, if not at PUBLIC_URL.
    CLIENT_METADATA_URL: str = ""

    # Shown on consent pages and in registrations.
    CLIENT_NAME: str = "Django MCP Connect"

    # Development only: permits plain http and loopback peers.
    ALLOW_LOOPBACK: bool = False

    # How long a person may take at the authorization server. RFC 6749 §4.1.2 advises codes of at most 10 minutes.
    FLOW_SECONDS: int = 600

    # One person may have several servers' consent pages open; more than this is a runaway script.
    MAX_OPEN_FLOWS_PER_USER: int = 20

    # How often one scope is asked for before the server is taken to accept no answer: once, and once more.
    MAX_STEP_UPS: int = 2

    # An access token is renewed this long before it expires, or at this part of its lifetime, whichever is less:
    # two minutes outlast any single call, a tenth keeps five-minute tokens usable.
    REFRESH_SKEW_SECONDS: float = 120.0
    REFRESH_SKEW_FRACTION: float = 0.1

    # A process that dies while refreshing holds the lease at most this long: one token request and its margin.
    REFRESH_LEASE_SECONDS: float = 20.0

    # How long a caller waits for another one's refresh before it reports the server as unavailable: one lease
    # of a dead process and one refresh of its own.
    REFRESH_WAIT_SECONDS: float = 35.0

    # How often such a caller looks: a refresh takes some 50 ms on a quick server.
    REFRESH_POLL_SECONDS: float = 0.05

    # An application's own identity that was refused is tried again after this, because nobody presses a button for it.
    UNATTENDED_RETRY_SECONDS: float = 60.0

    # Files in which the platform keeps a JWT that says who this deployment is, by the name a server's option
    # workload_token refers to. Only an operator names paths; an administrator of a workspace chooses among names.
    WORKLOAD_TOKENS: Mapping[str, str] = field(default_factory=dict)

    # Dotted path of the callable (user, server) -> IdentityToken | None that hands over what the company's identity
    # provider issued when the person signed in here. The site's sign-in holds it; this application keeps none.
    IDENTITY_TOKEN_PROVIDER: str = ""

    # Metadata documents, registrations and token answers are a few KiB; nobody needs more.
    OAUTH_DOCUMENT_BYTES: int = 64 * 1024

    # Tool results can carry images; sixteen of these fit a worker's memory.
    MCP_RESPONSE_BYTES: int = 16 * 1024 * 1024

    # One metadata, registration, token or revocation request, from name resolution to the last byte.
    OAUTH_REQUEST_SECONDS: float = 10.0

    # Opening a connection; a host that does not answer within this is down for a person who waits.
    CONNECT_SECONDS: float = 5.0

    # Everything the probe does when a server is added, so that the form answers while the person still looks.
    PROBE_SECONDS: float = 20.0

    # Listing all pages of one server's tools.
    LIST_SECONDS: float = 30.0

    # One tool call unless the caller says otherwise.
    CALL_SECONDS: float = 60.0

    # Arguments of one tool call as JSON; larger input belongs into a resource.
    MAX_ARGUMENT_BYTES: int = 1024 * 1024

    # A catalogue beyond this is not readable for people nor models; the rest is reported as truncated.
    MAX_TOOLS: int = 2000
    MAX_TOOL_PAGES: int = 50

    # How old a listing may be before it is fetched again in passing.
    CATALOGUE_SECONDS: float = 300.0

    # Redirects within one origin, for hosts that add a trailing slash.
    MAX_REDIRECTS: int = 3

    # Sockets of one process over all servers.
    MAX_CONNECTIONS: int = 100

    def __post_init__(self) -> None:
        """Refuse values that would fail later and far away from their cause."""
        for name in ("PUBLIC_URL", "CLIENT_METADATA_URL"):
            value = getattr(self, name)
            parts = urlsplit(value)
            if value and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment):
                raise ImproperlyConfigured(
                    f"MCP_OAUTH[{name!r}] must be an absolute http(s) URL without query or fragment."
                )
        for name, path in self.WORKLOAD_TOKENS.items():
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,60}", name) or not PurePath(path).is_absolute():
                raise ImproperlyConfigured(
                    "MCP_OAUTH['WORKLOAD_TOKENS'] must map names (letters, digits, '.', '_', '-') to absolute paths."
                )

    @property
    def public_url(self) -> str:
        """Return ``PUBLIC_URL`` without a trailing slash.

        Raises:
            ConfigurationError: it is not set; a redirect URI cannot be guessed safely.
        """
        if not self.PUBLIC_URL:
            raise ConfigurationError(
                "This site does not know its own public address, so nobody can be sent back to it.",
                next_step="Ask the operator to set MCP_OAUTH['PUBLIC_URL'], for example to https://app.example.com.",
            )
        return self.PUBLIC_URL.rstrip("/")


def _load() -> McpOAuthSettings:
    given: dict[str, Any] = dict(getattr(django_settings, "MCP_OAUTH", {}))
    known = {item.name for item in fields(McpOAuthSettings)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ImproperlyConfigured(f"MCP_OAUTH has no setting named {', '.join(unknown)}.")
    if "ENCRYPTION_KEYS" in given:
        given["ENCRYPTION_KEYS"] = tuple(given["ENCRYPTION_KEYS"])
    return McpOAuthSettings(**given)


class _LazySettings:
    """Reads ``settings.MCP_OAUTH`` on first use and again after a test overrides it."""

    def __init__(self) -> None:
        self._loaded: McpOAuthSettings | None = None

    def __getattr__(self, name: str) -> Any:
        if self._loaded is None:
            self._loaded = _load()
        return getattr(self._loaded, name)

    def reload(self) -> None:
        self._loaded = None


def _reload_when_changed(*, setting: str, **_: Any) -> None:
    if setting == "MCP_OAUTH":
        _lazy.reload()


_lazy = _LazySettings()
setting_changed.connect(_reload_when_changed)


def _settings() -> McpOAuthSettings:
    return _lazy  # type: ignore[return-value]  # the proxy has every attribute of what it loads


settings: McpOAuthSettings = _settings()
