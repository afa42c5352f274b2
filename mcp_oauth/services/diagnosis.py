"""Goes the way of a connection step by step, without a person or a secret, and says what is wrong at each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, get_args

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import ConfigurationError, McpOAuthError, ServerRefused, ServerUnreachable, TokenRequestFailed
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.oauth.token_endpoint import read_refusal, refusable_request
from mcp_oauth.oauth.urls import check_server_address
from mcp_oauth.services.contacts import record_contact
from mcp_oauth.services.diagnosis_client import ClientInquiry
from mcp_oauth.services.diagnosis_documents import read_documents
from mcp_oauth.services.evidence import Evidence, Stage, Step
from mcp_oauth.services.grant_counts import GrantCount, count_grants
from mcp_oauth.services.inquiry import Inquiry
from mcp_oauth.services.probes import ProbeReport, probe
from mcp_oauth.services.registrations import redirect_uri
from mcp_oauth.services.server_options import options_of

_STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


@dataclass(frozen=True)
class Diagnosis:
    """What one diagnosis saw: steps in the order of a connection, and what stands in its way.

    ``failures`` holds what would keep people from connecting or calling, the first one first; a document that is
    refused while another one serves is a step and no failure. ``auth_mode`` is what the server itself shows, ``None``
    when it did not answer as an MCP server. ``server`` is ``None`` for an address that is not saved.
    """

    url: str
    server: McpServer | None
    verdict: str
    auth_mode: str | None
    protocol_version: str
    steps: tuple[Step, ...]
    failures: tuple[McpOAuthError, ...]
    issuer: str = ""
    registration: str = ""
    redirect_uri: str = ""
    token_endpoint_auth_method: str = ""
    grants: GrantCount | None = None

    @property
    def kind_differs(self) -> bool:
        """Whether the kind of authorization that was found out earlier is not what the server shows now."""
        return _kind_differs(self.server, self.auth_mode)

    def as_json(self) -> dict[str, Any]:
        """Return everything as a JSON object; ``error``, the first failure, is there only if there is one."""
        body: dict[str, Any] = {
            "url": self.url,
            "server": self.server.natural_name() if self.server is not None else None,
            "ok": not self.failures,
            "verdict": self.verdict,
            "auth_mode": self.auth_mode,
            "protocol_version": self.protocol_version,
            "issuer": self.issuer,
            "registration": self.registration,
            "redirect_uri": self.redirect_uri,
            "token_endpoint_auth_method": self.token_endpoint_auth_method,
            "grants": self.grants.as_json() if self.grants is not None else None,
            "steps": Evidence(list(self.steps)).as_json(),
        }
        if self.failures:
            body["error"] = self.failures[0].as_json()
        return body


def diagnose_address(
    url: str, options: OAuthOptions | None = None, *, on_ask: Callable[[str, str], None] | None = None
) -> Diagnosis:
    """Diagnose an address that is not saved; nothing is stored. ``on_ask`` is told of each request before it is made.

    Raises:
        InvalidServerAddress: it is none that may be contacted.
    """
    checked = check_server_address(url, allow_loopback=settings.ALLOW_LOOPBACK)
    return _diagnose(Inquiry(checked, None, options or OAuthOptions(), _evidence(on_ask)))


def diagnose_server(
    server: McpServer, options: OAuthOptions | None = None, *, on_ask: Callable[[str, str], None] | None = None
) -> Diagnosis:
    """Diagnose a saved server, with other options than its own if they are given.

    Nothing secret is sent, not even to the server: neither its headers nor anybody's token. Nothing is registered, and
    of the rows only the facts of the last contact change.

    Raises:
        ConfigurationError: the stored options cannot be read.
    """
    options = options if options is not None else options_of(server)
    return _diagnose(Inquiry(server.url, server, options, _evidence(on_ask)))


def _diagnose(inquiry: Inquiry) -> Diagnosis:
    report = probe(inquiry.url, inquiry.options, inquiry.evidence)
    if inquiry.server is not None:
        record_contact(inquiry.server, report.error if report.auth_mode is None else None)
    _contact(inquiry, report)
    metadata = read_documents(inquiry, report)
    client: ClientInquiry | None = None
    if metadata is not None:
        client = ClientInquiry(inquiry, metadata)
        client.look()
        _token_endpoint(inquiry, metadata)
    grants = _grants(inquiry)
    return Diagnosis(
        url=inquiry.url,
        server=inquiry.server,
        verdict=inquiry.failures[0].user_message if inquiry.failures else report.verdict,
        auth_mode=report.auth_mode.value if report.auth_mode is not None else None,
        protocol_version=report.protocol_version,
        steps=tuple(sorted(inquiry.evidence.steps, key=lambda step: _STAGES.index(step.stage))),
        failures=tuple(inquiry.failures),
        issuer=metadata.issuer if metadata is not None else "",
        registration=(client.kind or "") if client is not None else "",
        redirect_uri=_redirect_uri(),
        token_endpoint_auth_method=client.auth_method if client is not None else "",
        grants=grants,
    )


def _evidence(on_ask: Callable[[str, str], None] | None) -> Evidence:
    return Evidence(deadline=time.monotonic() + settings.DIAGNOSIS_SECONDS, on_ask=on_ask)


def _contact(inquiry: Inquiry, report: ProbeReport) -> None:
    if report.auth_mode is None and report.error is not None:
        inquiry.failures.append(report.error)
        if isinstance(report.error, ServerRefused):  # the others are steps of their own already
            inquiry.evidence.fact(
                "contact", "answer", "refused", report.error.user_message, url=inquiry.url, error=report.error
            )
    if report.schemes is not None:
        _challenge(inquiry, report)
    if _kind_differs(inquiry.server, report.auth_mode) and inquiry.server is not None and report.auth_mode is not None:
        inquiry.evidence.fact(
            "contact",
            "kind of authorization",
            "warning",
            _("It was found out as “%(stored)s”, and the server now shows “%(found)s”.")
            % {"stored": inquiry.server.get_auth_mode_display(), "found": report.auth_mode.label},
            field="auth_mode",
            next_step=_("Find out again how the server is opened, on its Diagnose page; people then connect anew."),
        )


def _challenge(inquiry: Inquiry, report: ProbeReport) -> None:
    challenge = report.challenge
    if challenge is None:
        schemes = ", ".join(scheme[:40] for scheme in report.schemes or ())
        inquiry.evidence.fact(
            "contact",
            "challenge",
            "absent",
            _("It names no Bearer challenge, but %(schemes)s.") % {"schemes": schemes}
            if schemes
            else _("It names no scheme to sign in with."),
            field="WWW-Authenticate",
            rule=_("RFC 6750 §3: a protected server names the Bearer scheme, and RFC 9728 §5.1 its resource_metadata"),
        )
        return
    said = {
        "resource_metadata": challenge.resource_metadata,
        "scope": challenge.scope,
        "error": challenge.error,
        "error_description": challenge.error_description,
    }
    names = " ".join({"bearer": "Bearer", "dpop": "DPoP"}.get(name, name[:40]) for name in report.schemes or ())
    parts = [names, *(f"{name}={printable(value, 200)}" for name, value in said.items() if value)]
    inquiry.evidence.fact("contact", "challenge", "ok", ", ".join(parts))


def _token_endpoint(inquiry: Inquiry, metadata: AuthorizationServerMetadata) -> None:
    """Ask the token endpoint for what nobody can be granted."""
    request = refusable_request(metadata.token_endpoint)
    what = _("a code that nobody issued")
    try:
        response = inquiry.evidence.fetch(request, what, stage="token_endpoint")
    except ServerUnreachable as error:
        inquiry.failures.append(error)
        return
    try:
        refusal = read_refusal(response)
    except TokenRequestFailed as error:
        inquiry.failures.append(error)
        inquiry.evidence.note(
            request, what, response.status, "refused", error.user_message, stage="token_endpoint", error=error
        )
        return
    note = _("answers as a token endpoint: %(error)s") % {"error": refusal}
    inquiry.evidence.note(request, what, response.status, "ok", note, stage="token_endpoint")


def _grants(inquiry: Inquiry) -> GrantCount | None:
    """Say how many grants exist, where tokens open the server at all."""
    if inquiry.server is None or not inquiry.server.uses_grants:
        return None
    count = count_grants(inquiry.server)
    words = ngettext("%(count)d works", "%(count)d work", count.active) % {"count": count.active}
    ended = ", ".join(f"{reason} {number}" for reason, number in count.ended.items())
    if ended:
        words += "; " + _("need reconnecting: %(ended)s") % {"ended": ended}
    if not count.active and not ended:
        words = _("Nobody is connected yet.")
    inquiry.evidence.fact("grants", "grants", "warning" if ended else "ok" if count.active else "absent", words)
    return count


def _kind_differs(server: McpServer | None, found: str | None) -> bool:
    if server is None or found is None or server.auth_mode_source != McpServer.AuthModeSource.PROBE:
        return False
    return server.auth_mode != found


def _redirect_uri() -> str:
    try:
        return redirect_uri()
    except ConfigurationError:  # the registration's own step says so where it matters
        return ""
