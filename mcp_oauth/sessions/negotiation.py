"""Finding out which revision a server speaks, and what each revision wants with every request.

Since 2026-07-28 a request says everything itself (``server/discover``, ``_meta``); before, a handshake opens a session
(``initialize``), which the server may name in a header.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    UNSUPPORTED_PROTOCOL_VERSION,
    DiscoverResult,
    InitializeResult,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION, MODERN_PROTOCOL_VERSIONS
from opentelemetry import baggage, propagate

from mcp_oauth.exceptions import ResponseTooLarge
from mcp_oauth.net.faults import NetworkFault
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.sentences import sentence
from mcp_oauth.sessions import rpc, tasks
from mcp_oauth.sessions.channel import Channel
from mcp_oauth.sessions.results import LARGEST_SELF_DESCRIPTION, storable
from mcp_oauth.sessions.rpc import BrokenOff, Listener, NotMcp, RpcError
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized
from mcp_oauth.sessions.target import Target
from mcp_oauth.sessions.validation import InvalidResult, validated

LATEST_MODERN: Final = MODERN_PROTOCOL_VERSIONS[-1]

# A server that knows nothing of the question may let it wait for ever; the older handshake then has time left.
_DISCOVER_SECONDS: Final = 10.0
# The farewell to a session is a courtesy and must not delay the result.
_FAREWELL_SECONDS: Final = 1.0
# What a session may be called: visible ASCII (MCP 2025-11-25, session management), no longer than a header bears.
_LONGEST_SESSION_ID: Final = 1024
_NAMES: Final = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
# What a server may ask of the person: an answer in a form, a visit to a page.
_CAPABILITIES: Final[dict[str, Any]] = {"elicitation": {"form": {}, "url": {}}}
# And since 2026-07-28 it may answer a call with a task.
_MODERN_CAPABILITIES: Final[dict[str, Any]] = {**_CAPABILITIES, "extensions": {tasks.EXTENSION: {}}}


@dataclass(slots=True)
class Facts:
    """What negotiating taught us; one value serves every request to the same server, or in the same session."""

    version: str
    capabilities: dict[str, Any] = field(default_factory=dict)
    discover_result: dict[str, Any] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    session_id: str = ""
    # Whether the server speaks outside of requests as well; None until it was asked.
    has_stream: bool | None = None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    @property
    def is_modern(self) -> bool:
        """Whether each request says everything itself."""
        return self.version in MODERN_PROTOCOL_VERSIONS

    def as_keywords(self) -> dict[str, Any]:
        """Return what the results of the facade carry on."""
        return {"protocol_version": self.version, "discover_result": self.discover_result}

    def names(self) -> dict[str, Any]:
        """Return how the server calls itself, fit to be shown."""
        name = self.info.get("title") or self.info.get("name")
        return {"server_name": printable(name, 200), "server_version": printable(self.info.get("version"), 100)}


@dataclass(slots=True)
class Session:
    """A channel, and what the server at its other end wants to find in a request."""

    channel: Channel
    facts: Facts

    async def request(
        self,
        method: str,
        params: dict[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        listener: Listener | None = None,
        progress: bool = False,
    ) -> dict[str, Any]:
        """Send a request in the server's revision and return its result, not yet validated.

        ``headers`` are further ones (``Mcp-Param-…``); with ``progress`` reports of it are asked for.

        Raises:
            RpcError, NotMcp, BrokenOff, NetworkFault, Unauthorized, ScopeChallenged: See `rpc.request`.
        """
        number = next(self.facts.numbers)
        modern = self.facts.is_modern
        own = _modern_headers(self.facts.version, method, params) if modern else session_headers(self.facts)
        meta = _meta(self.channel.target, self.facts.version) if modern else _trace()
        if progress:
            meta["progressToken"] = number
        message = {"jsonrpc": "2.0", "id": number, "method": method}
        message["params"] = {**params, "_meta": meta} if meta else params
        result, _response = await rpc.request(
            self.channel,
            message,
            {**own, **headers} if headers else own,
            reply_headers=own,
            listener=listener,
            tell_when_cancelled=not modern,
        )
        return result


def known(target: Target) -> Facts | None:
    """Return the facts of a server of which everything is known, so that no request is needed to learn it."""
    version, discovered = target.protocol_version, target.discover_result
    if version not in MODERN_PROTOCOL_VERSIONS or not isinstance(discovered, dict):
        return None
    supported = discovered.get("supportedVersions")
    if not isinstance(supported, list) or version not in supported:
        return None
    capabilities = discovered.get("capabilities")
    return Facts(
        version, capabilities if isinstance(capabilities, dict) else {}, discovered, info=_modern_info(discovered)
    )


async def negotiate(channel: Channel) -> Facts:
    """Ask a server what it speaks: the question of today first, the handshake where that is no answer.

    An error is no evidence of an era, unless it names versions; whatever is wrong with the connection or with our
    authorization is raised.

    Raises:
        RpcError, NotMcp, BrokenOff, InvalidResult: The handshake failed as well.
        NetworkFault, Unauthorized, ScopeChallenged: See `Channel.send`.
    """
    # Twice: a handshake may be refused with the name of a version that the question is then repeated in.
    for attempt in range(2):
        try:
            facts = await _discover(channel)
        except RpcError as error:
            supported = _versions_named(error)
            if supported and not any(name in (*HANDSHAKE_PROTOCOL_VERSIONS, LATEST_MODERN) for name in supported):
                raise  # it has neither of our eras, and says so
            facts = None
        except (NotMcp, BrokenOff):
            facts = None
        if facts is not None:
            return facts
        try:
            return await handshake(channel)
        except RpcError as error:
            if attempt or LATEST_MODERN not in _versions_named(error):
                raise
    raise AssertionError("unreachable")  # pragma: no cover - the second round returns or raises


async def handshake(channel: Channel) -> Facts:
    """Open a session as revisions before 2026-07-28 want it (MCP 2025-11-25, lifecycle).

    Raises:
        RpcError, NotMcp, BrokenOff, InvalidResult: The server's fault.
        NetworkFault, Unauthorized, ScopeChallenged: See `Channel.send`.
    """
    target = channel.target
    facts = Facts(LATEST_HANDSHAKE_VERSION)
    params = {
        "protocolVersion": LATEST_HANDSHAKE_VERSION,
        "capabilities": _CAPABILITIES,
        "clientInfo": _client_info(target),
    }
    message = {"jsonrpc": "2.0", "id": next(facts.numbers), "method": "initialize", "params": params}
    before = channel.received
    result, response = await rpc.request(channel, message, {}, reply_headers={})
    _require_brevity(channel, channel.received - before)
    validated(InitializeResult, result)
    if result["protocolVersion"] not in HANDSHAKE_PROTOCOL_VERSIONS:
        raise InvalidResult
    facts.version = result["protocolVersion"]
    facts.capabilities, facts.info = result["capabilities"], result["serverInfo"]
    session_id = response.header("mcp-session-id") or ""
    if len(session_id) > _LONGEST_SESSION_ID or not session_id.isascii() or not session_id.isprintable():
        raise InvalidResult
    facts.session_id = session_id
    await rpc.notify(channel, "notifications/initialized", {}, session_headers(facts))
    return facts


async def end_session(channel: Channel, facts: Facts) -> None:
    """Tell a server that a session is over (MCP 2025-11-25, session management); whatever becomes of it."""
    if not facts.session_id:
        return
    try:
        async with asyncio.timeout(_FAREWELL_SECONDS), channel.send("DELETE", session_headers(facts)):
            pass
    except (TimeoutError, NetworkFault, Unauthorized, ScopeChallenged):
        pass  # it was a courtesy


def certainly_not_run(refusal: RpcError | NotMcp, facts: Facts) -> bool:
    """Tell whether a refusal shows that the server did not know the protocol or the session, and so ran nothing."""
    if isinstance(refusal, NotMcp):
        return refusal.status in (404, 405)
    if refusal.code == UNSUPPORTED_PROTOCOL_VERSION:
        return True
    if refusal.status in (404, 405):
        return refusal.code != INVALID_PARAMS
    # A server of the other era misses its session, or does not know the method.
    return refusal.status == 400 and refusal.code in (INVALID_REQUEST, METHOD_NOT_FOUND)


def require_complete(result: dict[str, Any]) -> None:
    """Refuse a result of another kind than the one that ends a request; older servers do not say which it is.

    Raises:
        InvalidResult: It is one nobody here knows (MCP 2026-07-28, result types).
    """
    if result.get("resultType", "complete") != "complete":
        raise InvalidResult


async def _discover(channel: Channel) -> Facts | None:
    """Return the facts of a modern server; ``None`` where the answer is no evidence of one.

    Raises:
        RpcError, NotMcp, BrokenOff, NetworkFault, Unauthorized, ScopeChallenged: See `rpc.request`.
    """
    facts = Facts(LATEST_MODERN)
    before = channel.received
    try:
        async with asyncio.timeout(_DISCOVER_SECONDS) as patience:
            result = await Session(channel, facts).request("server/discover", {})
    except TimeoutError:
        if not patience.expired():
            raise
        return None
    _require_brevity(channel, channel.received - before)
    ttl = result.get("ttlMs")
    try:
        # A negative time to live is none, and no reason to think the server old.
        validated(DiscoverResult, {**result, "ttlMs": 0} if isinstance(ttl, int | float) and ttl < 0 else result)
    except InvalidResult:
        return None
    if LATEST_MODERN not in result["supportedVersions"]:
        return None
    facts.capabilities, facts.discover_result = result["capabilities"], storable(result)
    facts.info = _modern_info(result)
    return facts


def _require_brevity(channel: Channel, size: int) -> None:
    if size > LARGEST_SELF_DESCRIPTION:
        boast = sentence(
            "%(shown)s says more about itself than the %(most)s bytes that are kept.",
            shown=channel.shown,
            most=LARGEST_SELF_DESCRIPTION,
        )
        raise NetworkFault(ResponseTooLarge(boast, document=channel.shown))


def _versions_named(error: RpcError) -> list[str]:
    supported = error.data.get("supported") if isinstance(error.data, dict) else None
    if error.code != UNSUPPORTED_PROTOCOL_VERSION or not isinstance(supported, list):
        return []
    return [name for name in supported if isinstance(name, str)]


def _modern_info(discovered: dict[str, Any]) -> dict[str, Any]:
    meta = discovered.get("_meta")
    info = meta.get(SERVER_INFO_META_KEY) if isinstance(meta, dict) else None
    return info if isinstance(info, dict) else {}


def _client_info(target: Target) -> dict[str, str]:
    return {"name": target.client_name, "version": target.client_version}


def _meta(target: Target, version: str) -> dict[str, Any]:
    return {
        PROTOCOL_VERSION_META_KEY: version,
        CLIENT_INFO_META_KEY: _client_info(target),
        CLIENT_CAPABILITIES_META_KEY: _MODERN_CAPABILITIES,
        **_trace(),
    }


def _trace() -> dict[str, Any]:
    # Trace context may go to third parties, baggage may not: it is ours to know.
    carrier: dict[str, Any] = {}
    propagate.inject(carrier, context=baggage.clear())
    return carrier


def session_headers(facts: Facts) -> dict[str, str]:
    """Return what names a session in a request (MCP 2025-11-25, transports)."""
    headers = {"mcp-protocol-version": facts.version}
    return {**headers, "mcp-session-id": facts.session_id} if facts.session_id else headers


def _modern_headers(version: str, method: str, params: Mapping[str, Any]) -> dict[str, str]:
    headers = {"mcp-protocol-version": version, "mcp-method": method}
    if (key := _NAMES.get(method)) is not None:
        headers["mcp-name"] = header_value(str(params.get(key, "")))
    return headers


def header_value(text: str) -> str:
    """Return text as a header carries it (MCP 2026-07-28, custom headers): as it is, or in Base64."""
    if text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?"):
        return text
    from mcp.shared.inbound import encode_header_value

    return encode_header_value(text)
