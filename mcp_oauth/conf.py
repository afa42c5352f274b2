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

    # The same where nobody agreed to anything: finding the authorization server comes before every token request.
    UNATTENDED_LEASE_SECONDS: float = 60.0

    # How long a caller waits for another one's refresh before it reports the server as unavailable: one lease
    # of a dead process and one refresh of its own.
    REFRESH_WAIT_SECONDS: float = 35.0

    # When such a caller looks first whether another process has renewed it, and then less and less often: a refresh
    # takes some 50 ms on a quick server. One that ends in its own process wakes it at once.
    REFRESH_POLL_SECONDS: float = 0.05

    # After a failure that passes (no answer, 408, 429, 5xx) the token endpoint is left alone for this long, twice as
    # long after each further one, and for as long as its Retry-After says; at most for the second value, after which
    # somebody who waits would rather be told no.
    REFRESH_BACKOFF_SECONDS: float = 1.0
    REFRESH_MAX_BACKOFF_SECONDS: float = 300.0

    # An authorization server that limits registrations may ask for an hour; more is not remembered.
    REGISTRATION_MAX_BACKOFF_SECONDS: float = 3600.0

    # An application's own identity that was refused is tried again after this, because nobody presses a button for it.
    UNATTENDED_RETRY_SECONDS: float = 60.0

    # Files in which the platform keeps a JWT that says who this deployment is, by the name a server's option
    # workload_token refers to. Only an operator names paths; an administrator of a workspace chooses among names.
    WORKLOAD_TOKENS: Mapping[str, str] = field(default_factory=dict)

    # Dotted path of the callable (user, server) -> IdentityToken | None that hands over what the company's identity
    # provider issued when the person signed in here. The site's sign-in holds it; this application keeps none.
    IDENTITY_TOKEN_PROVIDER: str = ""

    # How long the audit trail reaches back: a year and the month in which somebody looks at it. Older events go in
    # rounds of refresh_mcp_tokens, so many at once, because one statement must not hold a table for minutes.
    EVENT_DAYS: int = 400
    EVENTS_FORGOTTEN_AT_ONCE: int = 5000

    # How long a removed server can still be kept: long enough to notice a mistake, short enough that nobody's access
    # lingers. It goes in the next round of refresh_mcp_tokens after that.
    REMOVAL_GRACE_SECONDS: float = 900.0

    # Metadata documents, registrations and token answers are a few KiB; nobody needs more.
    OAUTH_DOCUMENT_BYTES: int = 64 * 1024

    # Tool results can carry images; sixteen of these fit a worker's memory.
    MCP_RESPONSE_BYTES: int = 16 * 1024 * 1024

    # Values in one answer of an MCP server, counted before it is parsed: bytes do not bound what parsing costs. Two
    # thousand tools of fifty values each amount to this; a result that holds more belongs into a text.
    MAX_JSON_VALUES: int = 100_000

    # One metadata, registration, token or revocation request, from name resolution to the last byte.
    OAUTH_REQUEST_SECONDS: float = 10.0

    # Opening a connection; a host that does not answer within this is down for a person who waits.
    CONNECT_SECONDS: float = 5.0

    # Everything the probe does when a server is added, so that the form answers while the person still looks.
    PROBE_SECONDS: float = 20.0

    # Everything a diagnosis asks, of the server and of its authorization server; what is left then is not asked.
    DIAGNOSIS_SECONDS: float = 30.0

    # Listing all pages of one server's tools.
    LIST_SECONDS: float = 30.0

    # One tool call unless the caller says otherwise.
    CALL_SECONDS: float = 60.0

    # How often a running call writes down its progress and looks whether it was given up: often enough for a progress
    # bar, and never for a call that is over sooner.
    CALL_TICK_SECONDS: float = 0.5

    # How long a call waits for its person: an hour covers a meeting; after it, the arguments are no longer kept.
    CALL_RESUME_SECONDS: float = 3600.0

    # One person's calls at one server that wait at the same time; an agent that goes on asking replaces the oldest.
    MAX_WAITING_CALLS: int = 20

    # How long a result stays readable, sealed, for whoever started the call in another request; and how large it may
    # be, because it stays in the database so long.
    CALL_RESULT_SECONDS: float = 900.0
    CALL_RESULT_BYTES: int = 1024 * 1024

    # How often one call may come back with another question, as the SDKs have it.
    MAX_INPUT_ROUNDS: int = 10

    # How long a process holds an exchange open for a server of before 2026-07-28 that asks in the middle of a call, and
    # how many at once: each costs a socket here and there.
    HELD_CALL_SECONDS: float = 600.0
    MAX_HELD_CALLS: int = 50

    # Such a process gives a sign of life for the calls it holds; without one for so long, it is taken to be gone. How
    # often it looks whether somebody answered in another process: a person does not notice a second.
    HELD_LEASE_SECONDS: float = 15.0
    HELD_POLL_SECONDS: float = 1.0

    # How long a call stays on record, without arguments and result. Older ones go in rounds of refresh_mcp_tokens, as
    # events do.
    CALL_DAYS: int = 90
    CALLS_SWEPT_AT_ONCE: int = 5000

    # Sessions with servers of before 2026-07-28 that are kept for the next call, in one process; one that nobody used
    # for so long is ended, because servers keep memory for it.
    MAX_SESSIONS: int = 500
    SESSION_IDLE_SECONDS: float = 60.0

    # Arguments of one tool call as JSON; larger input belongs into a resource.
    MAX_ARGUMENT_BYTES: int = 1024 * 1024

    # A catalogue beyond this is not readable for people nor models; the rest is reported as truncated.
    MAX_TOOLS: int = 2000
    MAX_TOOL_PAGES: int = 50

    # One tool's name, description and schemas, as JSON. A model is shown all of it; a larger one is set aside alone.
    MAX_TOOL_BYTES: int = 64 * 1024

    # How old a listing may be before it is fetched again in passing, where the server says nothing about it
    # (``ttlMs``); and the longest that a server may say.
    CATALOGUE_SECONDS: float = 300.0
    MAX_CATALOGUE_SECONDS: float = 24 * 3600.0

    # The largest listing, as JSON, that is put into Django's cache as well, for that memory is everybody's.
    CATALOGUE_CACHE_BYTES: int = 256 * 1024

    # How much of listings one process keeps at hand, so that a call finds its tool without reading all of them; and how
    # long it goes by that before it looks whether another process has a newer one.
    CATALOGUE_MEMORY_BYTES: int = 8 * 1024 * 1024
    CATALOGUE_TRUST_SECONDS: float = 30.0

    # One caller asks a server for a listing, the others wait for what comes: so long where an older listing can serve
    # in its place, and as long as listing may take where there is none; and how often they look.
    CATALOGUE_WAIT_SECONDS: float = 2.0
    CATALOGUE_POLL_SECONDS: float = 0.05

    # When the servers of a workspace are listed together: how long each may take before the others go on without it;
    # and after which silence what has come is stored, so that others can have it before the slowest is there.
    LIST_TOGETHER_SECONDS: float = 10.0
    LIST_TOGETHER_PAUSE_SECONDS: float = 0.1

    # Patterns of tool names that one server's policy may allow, and as many that it may deny. Nobody reads more.
    MAX_TOOL_PATTERNS: int = 100

    # The URI of a resource; longer than any address that works in a browser is a mistake.
    MAX_URI_CHARACTERS: int = 2000

    # Redirects within one origin, for hosts that add a trailing slash.
    MAX_REDIRECTS: int = 3

    # Sockets of one process over all servers, and to one origin: a slow one must leave the others half of them.
    MAX_CONNECTIONS: int = 100
    MAX_CONNECTIONS_PER_ORIGIN: int = 50

    # Requests of one listing or tool call, reconnections included: four times the pages of the longest listing. A
    # server whose streams break off at once would else be asked for ever.
    MAX_REQUESTS_PER_OPERATION: int = 200

    # How often in a minute one person may start a connection, come back from one, run a tool through this
    # application's pages and JSON, and have a server asked what it is. People stay far below; a script that runs wild,
    # or somebody who uses this site to knock at others, does not.
    STARTS_PER_MINUTE: int = 20
    CALLBACKS_PER_MINUTE: int = 40
    CALLS_PER_MINUTE: int = 600
    ASKS_PER_MINUTE: int = 30

    # Personal API tokens: how many one person may have in one workspace, and how long one lasts at most. A forgotten
    # token in some script is the usual way in.
    MAX_API_TOKENS: int = 20
    API_TOKEN_DAYS: int = 365

    # How often the use of a token is written down: people look at the day, and a row must not be written per request.
    API_TOKEN_USE_SECONDS: float = 60.0

    # The longest time limit that a program may give to a call through the JSON API; a request of an hour is no request.
    MAX_CALL_SECONDS: float = 600.0

    # Calls on one page of the JSON API.
    MAX_PAGE_SIZE: int = 100

    # Rows of one exported file of a workspace's activity: a few megabytes that a spreadsheet still opens; sending it
    # keeps a worker busy for some seconds.
    ACTIVITY_EXPORT_ROWS: int = 20_000

    # Answers of the JSON API that are streamed as events: how often one says that it is alive, for proxies cut idle
    # connections after 30 s and a reader who left is noticed by writing; and how many one process sends at once, for
    # each costs a thread.
    STREAM_PING_SECONDS: float = 10.0
    MAX_STREAMS: int = 100

    # How often in a minute an administrator may look somebody up by name or address, to add them to a workspace: who
    # has an account here is not to be found out by trying.
    LOOKUPS_PER_MINUTE: int = 20

    # Who may create workspaces: "permission" (holders of Django's permission mcp_oauth.add_workspace, superusers among
    # them), "anyone" who is signed in, or "nobody" but the command and the Django admin. Whoever creates one
    # administers it: names addresses that this site contacts, and looks people up. That is given and not taken.
    WORKSPACE_CREATION: str = "permission"

    # A pasted mcp.json: fifty servers with their headers are some 20 KiB, and each of them is asked what it is.
    MAX_IMPORT_BYTES: int = 256 * 1024
    MAX_IMPORT_SERVERS: int = 50

    # Asking all servers that are imported together; those that are left then stay on the page for another go.
    IMPORT_SECONDS: float = 40.0

    # How long what was entered on one page waits, sealed, for the next: an hour is enough to look a key up.
    DRAFT_SECONDS: float = 3600.0

    # Telling the providers that many grants are over, all at once, while a person waits for the page. What is not
    # confirmed by then is reported so.
    REVOKE_TOGETHER_SECONDS: float = 25.0

    # If not empty, the only hosts that servers, metadata and authorization servers may be at: names, or "*.name" for
    # everything below one. No other check is switched off by it.
    OUTBOUND_HOSTS: tuple[str, ...] = ()

    # "host:port" of peers that may resolve into a private network (RFC 1918, RFC 4193, RFC 6598), over https as all
    # others. Loopback, link-local and cloud metadata addresses stay out of reach.
    OUTBOUND_PRIVATE_HOSTS: tuple[str, ...] = ()

    # The http(s) URL of an egress proxy that every request goes through, with its user and password if it wants them.
    # It resolves the names and has to refuse private addresses itself. HTTP_PROXY and its like are not read.
    OUTBOUND_PROXY: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Refuse values that would fail later and far away from their cause."""
        for name in ("PUBLIC_URL", "CLIENT_METADATA_URL"):
            value = getattr(self, name)
            parts = urlsplit(value)
            if value and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment):
                raise ImproperlyConfigured(
                    f"MCP_OAUTH[{name!r}] must be an absolute http(s) URL without query or fragment."
                )
        for pattern in self.OUTBOUND_HOSTS:
            if not re.fullmatch(r"(?:\*\.)?[a-z0-9._-]{1,253}", pattern):
                raise ImproperlyConfigured(
                    "MCP_OAUTH['OUTBOUND_HOSTS'] must hold host names in lower case, or '*.' before one."
                )
        for pair in self.OUTBOUND_PRIVATE_HOSTS:
            if not re.fullmatch(r"[a-z0-9._-]{1,253}:[0-9]{1,5}", pair):
                raise ImproperlyConfigured(
                    "MCP_OAUTH['OUTBOUND_PRIVATE_HOSTS'] must hold 'host:port' pairs in lower case, without wildcards."
                )
        if self.OUTBOUND_PROXY and not re.fullmatch(r"https?://[^/?#\s]+/?", self.OUTBOUND_PROXY):
            raise ImproperlyConfigured(
                "MCP_OAUTH['OUTBOUND_PROXY'] must be the http(s) URL of a proxy, without a path."
            )
        if self.WORKSPACE_CREATION not in {"permission", "anyone", "nobody"}:
            raise ImproperlyConfigured("MCP_OAUTH['WORKSPACE_CREATION'] must be 'permission', 'anyone' or 'nobody'.")
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
    for name in ("ENCRYPTION_KEYS", "OUTBOUND_HOSTS", "OUTBOUND_PRIVATE_HOSTS"):
        if name in given:
            given[name] = tuple(given[name])
    return McpOAuthSettings(**given)


class _LazySettings:
    """Reads ``settings.MCP_OAUTH`` on first use and again after a test overrides it."""

    _loaded: McpOAuthSettings | None = None

    def __getattr__(self, name: str) -> Any:
        if self._loaded is None:
            # Values are found without this function from then on; a call asks for some thirty of them.
            loaded = _load()
            self.__dict__.update(vars(loaded), _loaded=loaded)
        return getattr(self._loaded, name)

    def reload(self) -> None:
        self.__dict__.clear()


def _reload_when_changed(*, setting: str, **_: Any) -> None:
    if setting == "MCP_OAUTH":
        _lazy.reload()


_lazy = _LazySettings()
setting_changed.connect(_reload_when_changed)


def _settings() -> McpOAuthSettings:
    return _lazy  # type: ignore[return-value]  # the proxy has every attribute of what it loads


settings: McpOAuthSettings = _settings()
