"""Finds out how a server is opened and what is still needed for it, without storing anything."""

from __future__ import annotations

import contextvars
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal
from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import (
    CredentialsRefused,
    DeadlineExceeded,
    InvalidServerAddress,
    McpOAuthError,
    RegistrationRequired,
)
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.registration import RegistrationKind, choose_registration
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.oauth.urls import check_server_address, host_of
from mcp_oauth.sentences import sentence
from mcp_oauth.services.discovery import discover, grant_type_of
from mcp_oauth.services.evidence import Evidence, Step
from mcp_oauth.services.known_servers import KnownServer, known_server_at, known_servers
from mcp_oauth.services.probes import ProbeReport, probe
from mcp_oauth.services.providers import Provider, provider_of
from mcp_oauth.services.registrations import client_metadata_url
from mcp_oauth.services.wire import target_for
from mcp_oauth.sessions import loop
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized

# What is still needed before the server can be used.
Need = Literal["nothing", "client", "key", "decision"]
Tone = Literal["ok", "warn", "bad"]

# What a host says of itself beside its name.
_GENERIC_LABELS: Final = frozenset({"mcp", "api", "www", "app", "server", "remote"})
_HOST_AND_PATH = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]{1,5})?(?:[/?].*)?")


@dataclass(frozen=True)
class Trial:
    """What came of listing the tools with the headers: their number, or why it failed."""

    tools: int = 0
    error: McpOAuthError | None = None


@dataclass(frozen=True)
class Finding:
    """What asking a server showed; ``error`` says why it cannot be used as it is.

    ``registration`` is how this application would become a client there, ``None`` where it is not known or none is
    needed. ``options`` are those that were used. ``trial`` is ``None`` where no headers were tried.
    """

    url: str
    report: ProbeReport
    options: OAuthOptions = field(default_factory=OAuthOptions)
    known: KnownServer | None = None
    provider: Provider | None = None
    metadata: AuthorizationServerMetadata | None = None
    registration: RegistrationKind | None = None
    error: McpOAuthError | None = None
    trial: Trial | None = None

    @property
    def needs(self) -> Need:
        """What an administrator still has to bring."""
        if isinstance(self.error, RegistrationRequired):
            return "client"
        if self.error is not None or self.report.auth_mode is None:
            return "decision"
        if self.report.auth_mode == McpServer.AuthMode.HEADERS and (self.trial is None or self.trial.error is not None):
            return "key"
        return "nothing"

    @property
    def uses_oauth(self) -> bool:
        """Whether people connect their own accounts."""
        return self.report.auth_mode == McpServer.AuthMode.OAUTH

    @property
    def sign_in_host(self) -> str:
        """Where people sign in; empty where it is not known."""
        return host_of(self.metadata.issuer) if self.metadata is not None else ""

    @property
    def tone(self) -> Tone:
        """How good the news is."""
        return {"nothing": "ok", "client": "warn", "key": "warn", "decision": "bad"}[self.needs]  # type: ignore[return-value]

    @property
    def headline(self) -> str:
        """The result in one line."""
        if self.needs == "client":
            return _("Uses OAuth at %(host)s, which wants a client registered by hand") % {"host": self.sign_in_host}
        if self.needs == "decision":
            return _("It is not clear how to open this server") if self.uses_oauth else _("No MCP server answers there")
        if self.uses_oauth:
            return _("Uses OAuth at %(host)s") % {"host": self.sign_in_host}
        if self.report.auth_mode == McpServer.AuthMode.HEADERS:
            return _("Opens with the headers") if self.needs == "nothing" else _("Wants a key")
        return _("Open to everybody")

    @property
    def sentences(self) -> list[str]:
        """What it means and what comes next."""
        if self.needs == "client":
            return [_("Create a client there once; everybody in the workspace then connects through it.")]
        if self.needs == "decision":
            error = self.error
            return [self.report.verdict] if error is None else [text for text in _words_of(error) if text]
        if self.uses_oauth:
            return [_HOW_CLIENTS_ARE_MADE[self.registration]() if self.registration else ""]
        if self.report.auth_mode == McpServer.AuthMode.HEADERS:
            return self._about_headers()
        return [_("Nobody needs to sign in; every member can use it at once.")]

    @property
    def suggestion(self) -> str:
        """Another address that is more likely to work; empty where none comes to mind."""
        if self.needs != "decision" or self.report.auth_mode is not None:
            return ""
        for known in known_servers().values():
            if host_of(known.url) == host_of(self.url) and known is not self.known:
                return known.url
        parts = urlsplit(self.url)
        return f"{self.url.rstrip('/')}/mcp" if parts.path in {"", "/"} and not parts.query else ""

    @property
    def name(self) -> str:
        """What the server could be called."""
        return self.known.name if self.known is not None else _own_name(self.report) or _name_from(self.url)

    def _about_headers(self) -> list[str]:
        if self.trial is not None and self.trial.error is None:
            text = ngettext(
                "It lists %(count)d tool with them.", "It lists %(count)d tools with them.", self.trial.tools
            )
            return [text % {"count": self.trial.tools}]
        if self.trial is not None and self.trial.error is not None:
            return [text for text in _words_of(self.trial.error) if text]
        return [_("It asks for a credential and offers no OAuth. Enter the header it wants; it serves everybody here.")]


_HOW_CLIENTS_ARE_MADE: Final[Mapping[str, Callable[[], str]]] = {
    "preregistered": lambda: _("People connect through the client you entered."),
    "cimd": lambda: _("Nothing to set up: it reads who this application is from the application's own document."),
    "dynamic": lambda: _("Nothing to set up: this application registers itself there."),
}


@dataclass(frozen=True)
class Asked:
    """A request that is about to be made: its address, and what it is for."""

    url: str
    what: str


def address_from(text: str) -> str:
    """Return the address a person means; ``https://`` may be left out.

    Raises:
        InvalidServerAddress: it is not one this application may contact.
    """
    text = text.strip()
    if "://" not in text and _HOST_AND_PATH.fullmatch(text) and "." in text:
        text = f"https://{text}"
    if len(text) > 2000:
        raise InvalidServerAddress(_("The address is too long."))
    return check_server_address(text, allow_loopback=settings.ALLOW_LOOPBACK)


def find_out(
    url: str,
    options: OAuthOptions,
    evidence: Evidence,
    *,
    auth_mode: str | None = None,
    has_client: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Finding:
    """Ask a server what it is, and its authorization server how one becomes a client there.

    ``auth_mode`` is the kind an administrator chose, ``has_client`` tells that a client is entered, and ``headers`` are
    tried where the server wants some. Everything together ends with ``PROBE_SECONDS``. Never raises for what the
    servers do; the finding carries the error.
    """
    evidence.deadline = time.monotonic() + settings.PROBE_SECONDS
    report = probe(url, options, evidence)
    known = known_server_at(url)
    finding = Finding(url, report, options, known, known.provider if known else provider_of(url), error=report.error)
    if headers and report.error is None and McpServer.AuthMode.HEADERS in {auth_mode, report.auth_mode}:
        report = replace(report, auth_mode=McpServer.AuthMode.HEADERS)
        return replace(finding, report=report, trial=_try(url, headers, evidence))
    if report.auth_mode != McpServer.AuthMode.OAUTH or report.error is not None:
        return finding
    try:
        found = discover(
            url,
            report.challenge,
            options,
            evidence,
            resource_metadata=report.resource_metadata,
            grant_type=grant_type_of(auth_mode or ""),
        )
    except McpOAuthError as error:
        return replace(finding, error=error)
    metadata = found.authorization_server
    finding = replace(finding, metadata=metadata, provider=finding.provider or provider_of(url, metadata.issuer))
    try:
        kind = choose_registration(
            metadata, has_preregistered=has_client, client_metadata_url=client_metadata_url(), options=options
        )
    except McpOAuthError as error:
        return replace(finding, error=error)
    return replace(finding, registration=kind)


def told_as_it_happens(work: Callable[[Evidence], Finding]) -> Iterator[Asked | Step | Finding]:
    """Do the work of `find_out` and tell of each request and step at once, and of the finding at the end.

    The work goes on in a thread of its own, which touches no database and ends by itself when nobody listens any more.
    """
    told: queue.SimpleQueue[Asked | Step | Finding | BaseException] = queue.SimpleQueue()
    evidence = Evidence(on_ask=lambda url, what: told.put(Asked(url, what)), on_step=told.put)

    def run() -> None:
        try:
            told.put(work(evidence))
        except BaseException as error:  # it is raised where the work is waited for
            told.put(error)

    # The reader's language travels in the context.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name="mcp-oauth-asking", daemon=True).start()
    while True:
        try:
            item = told.get(timeout=settings.PROBE_SECONDS + settings.LIST_SECONDS)
        except queue.Empty:
            raise DeadlineExceeded(_("The server was not asked within the time for it.")) from None
        if isinstance(item, BaseException):
            raise item
        yield item
        if isinstance(item, Finding):
            return


def _try(url: str, headers: Mapping[str, str], evidence: Evidence) -> Trial:
    """List the tools with the headers; they stand in no step."""
    server = McpServer(url=url, auth_mode=McpServer.AuthMode.HEADERS, headers=dict(headers))
    target = target_for(server, access_token=None)
    if evidence.on_ask is not None:
        evidence.on_ask(url, "headers")

    from mcp_oauth.sessions import client  # imports the SDK, which only this needs

    try:
        listing = loop.run(lambda: client.list_tools(target), timeout=settings.LIST_SECONDS)
    except (Unauthorized, ScopeChallenged):
        error: McpOAuthError = CredentialsRefused(sentence("The server does not accept these headers."), document=url)
    except McpOAuthError as failure:
        error = failure
    else:
        evidence.fact("contact", "headers", "ok", sentence("The server lists its tools with the headers."), url=url)
        return Trial(len(listing.tools))
    evidence.fact("contact", "headers", "error", error.sentence, url=url, error=error)
    return Trial(error=error)


def _words_of(error: McpOAuthError) -> tuple[str, str]:
    return error.user_message, error.next_step


def _own_name(report: ProbeReport) -> str:
    """Return what an open server calls itself."""
    info = (report.discover_result or {}).get("serverInfo")
    title = (info.get("title") or info.get("name")) if isinstance(info, dict) else None
    return printable(title, 60).strip() if isinstance(title, str) else ""


def _name_from(url: str) -> str:
    """Return a name made of an address: ``https://mcp.linear.app/mcp`` is Linear."""
    host = host_of(url)
    labels = host.split(".")
    if ":" in host or labels[-1].isdigit() or len(labels) < 2:
        return host[:120]
    telling = [label for label in labels[:-1] if label not in _GENERIC_LABELS] or labels
    return telling[0].replace("-", " ").replace("_", " ").capitalize()[:120]
