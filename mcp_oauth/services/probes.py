"""Asks a server once, without any credential, what it speaks and how it wants to be opened."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any

from mcp_oauth import __version__
from mcp_oauth.conf import settings
from mcp_oauth.exceptions import DeadlineExceeded, McpOAuthError, ResponseTooLarge, ServerRefused, ServerUnreachable
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.models import McpServer
from mcp_oauth.net.faults import shown_url
from mcp_oauth.net.weight import JsonWeight
from mcp_oauth.oauth.challenge import BearerChallenge, bearer_challenge, parse_challenges
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.protected_resource import ProtectedResourceMetadata
from mcp_oauth.sentences import said, sentence
from mcp_oauth.services.discovery import ResourceMetadataSearch, search_resource_metadata
from mcp_oauth.services.evidence import Evidence, Verdict
from mcp_oauth.sessions.channel import parse_json
from mcp_oauth.sessions.results import LARGEST_SELF_DESCRIPTION, storable

# The two revisions asked for by name; the session room negotiates within them later.
MODERN_VERSION = "2026-07-28"
HANDSHAKE_VERSION = "2025-11-25"
_UNSUPPORTED_VERSION = -32022
# Each question is an exchange of its own, so one number serves all.
_NUMBER = 1
_VISIBLE = re.compile(r"[\x21-\x7e]+")
# Longer than any, and short enough for what HTTP servers take as a header.
_LONGEST_SESSION_ID = 4096


@dataclass(frozen=True)
class ProbeReport:
    """What one contact showed, in one ``sentence``; ``verdict`` says it in the language of whoever reads.

    ``auth_mode`` is ``None`` when the server did not answer as an MCP server; ``error`` then says why.
    ``schemes`` are those of every challenge, in lower case, and ``None`` when the server let a stranger in.
    ``resource_search`` is ``None`` where the server's metadata was not asked for.
    ``protocol_version`` and ``discover_result`` are known when the server told them to a stranger.
    """

    evidence: Evidence
    sentence: str
    auth_mode: McpServer.AuthMode | None
    challenge: BearerChallenge | None = None
    resource_metadata: ProtectedResourceMetadata | None = None
    protocol_version: str = ""
    discover_result: dict[str, Any] | None = None
    error: McpOAuthError | None = None
    resource_search: ResourceMetadataSearch | None = None
    schemes: tuple[str, ...] | None = None

    @property
    def verdict(self) -> str:
        """What it showed, in the reader's language."""
        return said(self.sentence)


@dataclass(frozen=True)
class _Answer:
    """One JSON-RPC answer: ``result`` of a success, or neither when the server refused or is no MCP server."""

    response: HttpResponse
    result: dict[str, Any] | None
    error: dict[str, Any] | None

    @property
    def is_json_rpc(self) -> bool:
        """Whether it is a JSON-RPC answer at all."""
        return self.result is not None or self.error is not None

    @property
    def asks_for_authorization(self) -> bool:
        return self.response.status in {401, 403}


class _Prober:
    """The contact itself: three questions at most, each a plain POST without credentials."""

    def __init__(self, url: str, evidence: Evidence) -> None:
        self.url = url
        self.evidence = evidence
        self.deadline = time.monotonic() + settings.PROBE_SECONDS

    def ask(
        self, method: str, params: dict[str, Any], headers: dict[str, str], *, notification: bool = False
    ) -> _Answer:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if not notification:
            message["id"] = _NUMBER
        request = HttpRequest(
            "POST",
            self.url,
            {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers},
            json.dumps(message).encode(),
            # Not every server closes its stream after the response.
            is_enough=_holds_response,
        )
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise DeadlineExceeded(
                sentence(
                    "%(url)s did not answer within %(seconds)d seconds.", url=self.url, seconds=settings.PROBE_SECONDS
                ),
                document=self.url,
            )
        response = self.evidence.fetch(
            request,
            method,
            seconds=min(remaining, settings.OAUTH_REQUEST_SECONDS),
            # A listing is a protocol message, not a metadata document: a hundred tools are more than 64 KiB.
            limit_bytes=settings.MCP_RESPONSE_BYTES,
        )
        result, error = _json_rpc(response)
        verdict: Verdict
        if result is not None or (notification and response.status < 300):
            verdict, note = "ok", ""
        elif response.status in {401, 403}:
            said_by_it = response.header("WWW-Authenticate")
            verdict, note = "challenge", _printable(said_by_it or "") or sentence("no WWW-Authenticate header")
        elif error is not None or response.status in {400, 404, 405, 406}:
            verdict, note = "absent", sentence("the server does not know this request")
        else:
            verdict, note = "error", _what_came_back(response)
        self.evidence.note(request, method, response.status, verdict, note)
        return _Answer(response, storable(result), error)

    def modern(self, method: str) -> _Answer:
        return self.ask(
            method,
            {
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
                    "io.modelcontextprotocol/clientInfo": _client_info(),
                    "io.modelcontextprotocol/clientCapabilities": {},
                }
            },
            {"MCP-Protocol-Version": MODERN_VERSION, "Mcp-Method": method},
        )

    def handshake(self) -> _Answer:
        return self.ask(
            "initialize",
            {"protocolVersion": HANDSHAKE_VERSION, "capabilities": {}, "clientInfo": _client_info()},
            {},
        )

    def in_session(self, method: str, version: str, session_id: str, *, notification: bool = False) -> _Answer:
        headers = {"MCP-Protocol-Version": version}
        if session_id:
            headers["Mcp-Session-Id"] = session_id
        return self.ask(method, {}, headers, notification=notification)

    def close(self, version: str, session_id: str) -> None:
        request = HttpRequest("DELETE", self.url, {"Mcp-Session-Id": session_id, "MCP-Protocol-Version": version})
        try:
            response = self.evidence.fetch(request, "end of session", seconds=settings.CONNECT_SECONDS)
        except ServerUnreachable:
            return  # recorded as a step; a session left behind is the server's to expire
        self.evidence.note(request, "end of session", response.status, "ok" if response.status < 300 else "absent")


def probe(url: str, options: OAuthOptions, evidence: Evidence | None = None) -> ProbeReport:
    """Contact a server without credentials and say what it is.

    Asks ``server/discover`` (2026-07-28), then ``initialize`` (2025-11-25), then ``tools/list`` if those are
    open, and decides from the Bearer challenge and the protected resource metadata. Never raises for what the
    server does; the report carries the error. The steps join ``evidence`` if it is given.
    """
    evidence = evidence if evidence is not None else Evidence()
    prober = _Prober(url, evidence)
    try:
        return _contact(prober, options)
    except ServerUnreachable as error:
        return ProbeReport(evidence, error.sentence, None, error=error)


def _contact(prober: _Prober, options: OAuthOptions) -> ProbeReport:
    version, discover_result, session_id = "", None, ""
    answer = prober.modern("server/discover")
    if MODERN_VERSION in _supported_versions(answer.error):
        # It names our version and refused it all the same, as servers do that were just started; once more.
        answer = prober.modern("server/discover")
    if answer.result is not None and MODERN_VERSION in _strings(answer.result.get("supportedVersions")):
        if len(answer.response.body) > LARGEST_SELF_DESCRIPTION:
            error = sentence(
                "%(url)s says more about itself than the %(number)d bytes that are kept.",
                url=prober.url,
                number=LARGEST_SELF_DESCRIPTION,
            )
            raise ResponseTooLarge(error, document=prober.url)
        version, discover_result = MODERN_VERSION, answer.result
        answer = prober.modern("tools/list")
    elif not answer.asks_for_authorization:
        discovered = answer
        answer = prober.handshake()
        version = _header_text(answer.result.get("protocolVersion") if answer.result is not None else None, 20)
        if version:
            session_id = _header_text(answer.response.header("Mcp-Session-Id"), _LONGEST_SESSION_ID)
            prober.in_session("notifications/initialized", version, session_id, notification=True)
            answer = prober.in_session("tools/list", version, session_id)
            if session_id:
                prober.close(version, session_id)
        elif not answer.asks_for_authorization:
            return _no_mcp_server(prober, answer if not answer.is_json_rpc else discovered, answer)
    return _judge(prober, answer, version, discover_result, options)


def _judge(
    prober: _Prober,
    answer: _Answer,
    version: str,
    discover_result: dict[str, Any] | None,
    options: OAuthOptions,
) -> ProbeReport:
    evidence = prober.evidence
    refused = answer.asks_for_authorization
    values = answer.response.header_values("WWW-Authenticate")
    challenge = bearer_challenge(values) if refused else None
    schemes = tuple(dict.fromkeys(item.scheme for item in parse_challenges(values))) if refused else None
    search = search_resource_metadata(prober.url, challenge, options, evidence)
    metadata, failure = search.accepted, search.failure

    def report(mode: McpServer.AuthMode, verdict: str, error: McpOAuthError | None = None) -> ProbeReport:
        return ProbeReport(
            evidence, verdict, mode, challenge, metadata, version, discover_result, error, search, schemes
        )

    if metadata is not None:
        names = ", ".join(metadata.authorization_servers)
        if refused:
            return report(McpServer.AuthMode.OAUTH, sentence("Uses OAuth; people sign in at %(names)s.", names=names))
        return report(
            McpServer.AuthMode.OAUTH,
            sentence("Answers strangers, but publishes that it uses OAuth; people sign in at %(names)s.", names=names),
        )
    if challenge is not None and challenge.resource_metadata:
        # The server says it uses OAuth and its own document is broken: OAuth, with the failing document named.
        return report(
            McpServer.AuthMode.OAUTH,
            sentence(
                "Asks for OAuth, but its metadata cannot be used: %(why)s", why=failure.sentence if failure else ""
            ),
            failure,
        )
    if refused:
        return report(
            McpServer.AuthMode.HEADERS,
            sentence("Wants a credential but does not offer OAuth; an administrator enters the headers it needs."),
        )
    return report(McpServer.AuthMode.NONE, sentence("Open; nobody needs to sign in."))


def _no_mcp_server(prober: _Prober, telling: _Answer, last: _Answer) -> ProbeReport:
    came = _what_came_back((telling if telling.response.status >= 500 else last).response)
    error = ServerRefused(
        sentence("%(url)s answers, but not as an MCP server: %(came)s.", url=prober.url, came=came),
        document=prober.url,
        next_step=sentence("Check the address; an MCP endpoint often ends in /mcp."),
        field="body",
        rule=sentence("MCP transports: an endpoint answers a POST with a JSON-RPC 2.0 message"),
    )
    return ProbeReport(prober.evidence, error.sentence, None, error=error)


def _client_info() -> dict[str, str]:
    return {"name": settings.CLIENT_NAME, "version": __version__}


def _json_rpc(response: HttpResponse) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the result object or the error object of a JSON-RPC answer to our request, or neither.

    What is accepted here is what a call would accept, so that a server that can be added can be used.
    """
    media_type = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
    is_stream = media_type == "text/event-stream"
    for document in _event_data(response.body) if is_stream else [response.body]:
        if JsonWeight().add(document) > settings.MAX_JSON_VALUES:
            shown = shown_url(response.url)
            error = sentence(
                "%(url)s sent more than %(number)d JSON values in one answer.",
                url=shown,
                number=settings.MAX_JSON_VALUES,
            )
            raise ResponseTooLarge(error, document=shown)
        try:
            parsed = parse_json(document)
        except ValueError:
            continue
        for message in parsed if isinstance(parsed, list) else [parsed]:
            if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or "method" in message:
                continue
            number = message.get("id")
            ours = not isinstance(number, bool) and number in (_NUMBER, str(_NUMBER))
            if "error" in message and (ours or number is None or response.status >= 400):
                return None, message["error"] if isinstance(message["error"], dict) else {}
            if ours and isinstance(message.get("result"), dict) and (is_stream or media_type == "application/json"):
                return (message["result"], None) if response.status == 200 else (None, {})
    return None, None


def _holds_response(events: bytes) -> bool:
    """Tell whether there is a JSON-RPC response among events, to whatever request, or what was meant to be one."""
    for document in _event_data(events):
        # Most events are notifications, and are not parsed here on the event loop only to know that.
        named = b'"method"' in document and b'"result"' not in document and b'"error"' not in document
        if named or not document.startswith(b"{"):
            continue
        if JsonWeight().add(document) > settings.MAX_JSON_VALUES:
            return True  # refused as what it is by whoever reads it
        try:
            message = json.loads(document)
        except (ValueError, RecursionError):
            continue
        if isinstance(message, dict) and "method" not in message:
            return True
    return False


def _supported_versions(error: dict[str, Any] | None) -> list[str]:
    """Return the versions an "unsupported protocol version" error names (MCP 2026-07-28, -32022)."""
    data = error.get("data") if error is not None and error.get("code") == _UNSUPPORTED_VERSION else None
    return _strings(data.get("supported")) if isinstance(data, dict) else []


def _event_data(body: bytes) -> list[bytes]:
    """Return the data of each server-sent event."""
    events = body.replace(b"\r\n", b"\n").split(b"\n\n")
    return [
        b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")) for event in events
    ]


def _what_came_back(response: HttpResponse) -> str:
    content_type = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
    if response.status >= 400:
        return sentence("status %(status)d", status=response.status)
    if "html" in content_type:
        return sentence("a web page (HTML)")
    if not response.body:
        return sentence("an empty answer")
    return sentence("an answer that is not JSON-RPC (%(type)s)", type=_printable(content_type)[:60] or "?")


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _header_text(value: Any, longest: int) -> str:
    """Return a text that can be sent back as a header (MCP transports, session management), or nothing."""
    return value if isinstance(value, str) and len(value) <= longest and _VISIBLE.fullmatch(value) else ""


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
