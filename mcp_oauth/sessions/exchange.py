"""One session with an MCP server through the SDK, and the one place where its failures become ours."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from mcp.client import CacheConfig, Client, InputRequiredRoundsExceededError, ResponseCacheStore
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    REQUEST_TIMEOUT,
    UNSUPPORTED_PROTOCOL_VERSION,
    DiscoverResult,
    Implementation,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from opentelemetry import baggage
from opentelemetry import context as trace_context
from pydantic import ValidationError

from mcp_oauth.exceptions import (
    DeadlineExceeded,
    McpOAuthError,
    RedirectRefused,
    ServerRefused,
    ServerUnreachable,
    ToolNotFound,
)
from mcp_oauth.net.transport import NetworkFault, shown_url, translate_fault
from mcp_oauth.oauth.bearer import WireAuth
from mcp_oauth.oauth.challenge import bearer_challenge
from mcp_oauth.oauth.server_words import printable, quotable
from mcp_oauth.sessions.discretion import discreet_logging
from mcp_oauth.sessions.listings import ListingFilter
from mcp_oauth.sessions.loop import shared_transport
from mcp_oauth.sessions.results import storable
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized
from mcp_oauth.sessions.target import Target
from mcp_oauth.sessions.wire import SessionWire

T = TypeVar("T")

# Set by HTTP, the transport or the protocol; a configured value would only break the exchange.
_OWN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "last-event-id",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# What the SDK says in a server's place: of an HTTP error without a JSON-RPC error, and of an answer that breaks off
# or is none. Codes do not tell: -32000 is the SDK's for a lost connection and many servers' for anything.
_STAND_INS = frozenset({"Not Found", "Session terminated", "Server returned an error response"})
_BROKEN_OFF = ("SSE stream ended", "SSE stream failed", "Connection closed")
_NO_MESSAGE = ("Failed to parse", "Unexpected content type", "server answered a request with 202")
_INPUT_REFUSALS = frozenset({"Sampling not supported", "Elicitation not supported", "List roots not supported"})
_UNKNOWN_TOOL = re.compile(r"\b(unknown|no such|not found|not exist|nonexistent|unrecognized)\b", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}")
_SHORTEST_SECRET = 6


@dataclass(frozen=True, slots=True)
class Negotiation:
    """How to open a session: ``mode`` as the SDK spells it, and the stored discovery for a pinned version."""

    mode: str
    prior: DiscoverResult | None = None

    @classmethod
    def known(cls, target: Target) -> Negotiation:
        """Return what an earlier session with the server taught us; ``auto`` when that is nothing usable."""
        version = target.protocol_version
        if version in HANDSHAKE_PROTOCOL_VERSIONS:
            return cls("legacy")
        if version not in MODERN_PROTOCOL_VERSIONS or version is None:
            return cls("auto")
        try:
            prior = DiscoverResult.model_validate(target.discover_result)
        except ValidationError:
            return cls("auto")
        if version not in prior.supported_versions:
            return cls("auto")
        return cls(version, prior)


class Exchange:
    """One session. Use it once; ``connected`` says whether negotiation succeeded."""

    def __init__(self, target: Target, negotiation: Negotiation, *, store: ResponseCacheStore | None = None) -> None:
        self.target = target
        self.negotiation = negotiation
        self.listings = ListingFilter(target.max_tools, target.max_tool_bytes)
        self.connected = False
        self.fell_short: MCPError | None = None
        self._store = store
        self._wire = SessionWire(shared_transport(target.policy), target.policy)
        self._auth = WireAuth(target.url, target.access_token, dpop_key=target.dpop_key)

    async def run(self, work: Callable[[Client], Awaitable[T]], *, seconds: float) -> T:
        """Open the session, do the work, close it; ``seconds`` bounds each single answer.

        Raises:
            Unauthorized: The server answered 401.
            ScopeChallenged: The server answered 403 ``insufficient_scope``.
            McpOAuthError: ``ServerUnreachable``, ``ServerRefused``, ``ToolNotFound`` or a subclass.
        """
        outcome: list[T] = []
        # Trace context may go to third parties, baggage may not: it is ours to know.
        token = trace_context.attach(baggage.clear())
        try:
            with discreet_logging():
                async with self._http_client() as http_client, self._client(http_client, seconds) as client:
                    self.connected = True
                    self.listings.version = client.protocol_version
                    outcome.append(await work(client))
        except Exception as exc:  # boundary: the SDK raises errors of five libraries, nested in groups
            if not outcome:
                leaves = list(_leaves(exc))
                error = self._explain(leaves)
                raise error from (None if self._quotes_secret(leaves) else exc)
            # The work was done; only the farewell failed.
        finally:
            trace_context.detach(token)
        return outcome[0]

    def facts(self, client: Client) -> dict[str, Any]:
        """Return what the session knows of the server, as keyword arguments of the result classes."""
        discovered = client.session.discover_result
        info = client.server_info
        return {
            "protocol_version": client.protocol_version,
            "discover_result": None
            if discovered is None
            else storable(discovered.model_dump(by_alias=True, mode="json", exclude_none=True)),
            "server_name": printable(info.title or info.name, 200) if info else "",
            "server_version": printable(info.version, 100) if info else "",
        }

    def certainly_not_run(self) -> bool:
        """Tell whether the failed exchange shows that the server rejected the protocol, not the request."""
        if self.negotiation.mode == "auto" or self.fell_short is None:
            return False
        if not self.connected:
            return True
        code, status = self.fell_short.code, self._wire.status
        return (
            code == UNSUPPORTED_PROTOCOL_VERSION
            or (status in (404, 405) and code != INVALID_PARAMS)
            # A server of the older era misses its session or does not know the method.
            or (status == 400 and code in (INVALID_REQUEST, METHOD_NOT_FOUND))
        )

    def _http_client(self) -> httpx2.AsyncClient:
        policy = self.target.policy
        headers = {
            name: value
            for name, value in self.target.headers.items()
            if name.lower() not in _OWN_HEADERS and not name.lower().startswith("mcp-")
        }
        return httpx2.AsyncClient(
            transport=self._wire,
            auth=self._auth,
            headers={"user-agent": f"{self.target.client_name}/{self.target.client_version}", **headers},
            timeout=httpx2.Timeout(policy.mcp_seconds, connect=policy.connect_seconds),
            max_redirects=policy.max_redirects,
            trust_env=False,
        )

    def _client(self, http_client: httpx2.AsyncClient, seconds: float) -> Client:
        transport = streamable_http_client(
            self.target.url, http_client=http_client, max_sse_event_size=self.target.policy.mcp_response_bytes
        )
        cache = None
        if self._store is not None:
            # The store lives as long as this session, so nothing is shared whatever the partition says.
            cache = CacheConfig(store=self._store, partition="session", target_id=self.target.url)
        return Client(
            self.listings.over(transport),
            client_info=Implementation(name=self.target.client_name, version=self.target.client_version),
            read_timeout_seconds=seconds,
            mode=self.negotiation.mode,
            prior_discover=self.negotiation.prior,
            cache=cache,
        )

    def _explain(self, leaves: list[BaseException]) -> Exception:
        """Return the one error that says what happened, from the wire's notes first and the SDK's errors second."""
        shown = shown_url(self.target.url)
        refusals = self._auth.challenges
        if self._wire.status == 401:
            return Unauthorized(next((seen.values for seen in refusals if seen.status == 401), ()))
        if self._wire.status == 403 and refusals:
            values = refusals[-1].values
            challenge = bearer_challenge(values)
            if challenge is not None and challenge.error == "insufficient_scope":
                return ScopeChallenged(challenge.scope or "", values)
        if self._wire.fault is not None:
            return self._wire.fault
        for leaf in leaves:
            if isinstance(leaf, McpOAuthError | Unauthorized | ScopeChallenged):
                return leaf
            if isinstance(leaf, NetworkFault):
                return leaf.error
        if self._wire.location and 300 <= self._wire.status < 400:
            return RedirectRefused(f"{shown} redirects to an address where nothing of ours is sent.", document=shown)
        for leaf in leaves:
            if isinstance(leaf, MCPError):
                self.fell_short = leaf
                return self._explain_protocol_error(leaf, shown)
        for leaf in leaves:
            if isinstance(leaf, httpx2.HTTPError | httpx2.StreamError | OSError):
                return translate_fault(leaf, shown)
            if isinstance(leaf, InputRequiredRoundsExceededError):
                return _wants_input(shown)
            if isinstance(leaf, ValidationError):
                return ServerRefused(f"{shown} sent a result that does not follow the MCP specification.")
            if isinstance(leaf, UnicodeError | httpx2.InvalidURL):
                return ServerUnreachable(f"A request to {shown} cannot be sent over HTTP.", document=shown)
        return ServerRefused(f"{shown} answered in a way this application does not understand.")

    def _explain_protocol_error(self, error: MCPError, shown: str) -> McpOAuthError:
        if error.code == REQUEST_TIMEOUT:
            return DeadlineExceeded(f"{shown} did not answer in time.", document=shown)
        if not self._words_are_the_servers(error):
            return self._no_mcp_answer(error, shown)
        words = quotable(self._without_secrets(error.message)) or "no explanation"
        if error.code == INVALID_PARAMS and "tool" in error.message.lower() and _UNKNOWN_TOOL.search(error.message):
            return ToolNotFound(f"{shown} offers no such tool: {words}", document=shown)
        if error.code == INVALID_REQUEST and error.message in _INPUT_REFUSALS:
            return _wants_input(shown)
        return ServerRefused(f"{shown} refused the request: {words} (error {error.code})", document=shown)

    def _words_are_the_servers(self, error: MCPError) -> bool:
        status, media = self._wire.status, self._wire.content_type
        if status >= 400:
            return media == "application/json" and error.message not in _STAND_INS
        if error.message.startswith((*_BROKEN_OFF, *_NO_MESSAGE)):
            return False
        return status == 200 and media in ("application/json", "text/event-stream")

    def _no_mcp_answer(self, error: MCPError, shown: str) -> McpOAuthError:
        status, media = self._wire.status, self._wire.content_type
        if status == 0:
            return ServerUnreachable(f"{shown} gave no answer.", document=shown)
        kind = "no content type"
        if media:
            kind = self._without_secrets(media) if _MEDIA_TYPE.fullmatch(media) else "an unusable content type"
        if status == 200 and error.message.startswith(_BROKEN_OFF):
            return ServerUnreachable(f"{shown} ended its answer (HTTP 200, {kind}) early.", document=shown)
        return ServerRefused(
            f"{shown} answered HTTP {status} with {kind} instead of an MCP message.",
            next_step="Check the server's address, or try again later." if status >= 500 else "",
            document=shown,
        )

    def _secrets(self) -> list[str]:
        values = [*self.target.headers.values(), self.target.access_token or ""]
        # A header often is a scheme and a secret: either part alone must not appear.
        parts = [part for value in values for part in (value, *value.split())]
        return sorted({part for part in parts if len(part) >= _SHORTEST_SECRET}, key=len, reverse=True)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets():
            text = text.replace(secret, "[…]")
        return text

    def _quotes_secret(self, leaves: list[BaseException]) -> bool:
        texts = [repr(cause) + str(cause) for leaf in leaves for cause in _chain(leaf)]
        return any(secret in text for secret in self._secrets() for text in texts)


def _wants_input(shown: str) -> McpOAuthError:
    return ServerRefused(
        f"{shown} asks for input from a person in the middle of the call, which this application does not relay.",
        document=shown,
    )


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    """Yield what is inside nested exception groups."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from _leaves(inner)
    else:
        yield exc


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = exc
    for _ in range(16):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__
