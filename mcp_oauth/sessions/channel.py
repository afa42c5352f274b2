"""The HTTP side of one operation with an MCP server: one identity, one budget of bytes, redirects within the origin."""

from __future__ import annotations

import asyncio
import codecs
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
from pydantic_core import from_json

from mcp_oauth.exceptions import RedirectRefused, ResponseTooLarge
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.net.faults import NetworkFault, shown_url
from mcp_oauth.net.transport import StreamedResponse
from mcp_oauth.net.weight import JsonWeight
from mcp_oauth.oauth.bearer import WireAuth
from mcp_oauth.oauth.challenge import bearer_challenge
from mcp_oauth.sentences import sentence
from mcp_oauth.sessions.events import Event, EventParser
from mcp_oauth.sessions.loop import shared_transport
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized
from mcp_oauth.sessions.target import Target

logger = logging.getLogger(__name__)

# Set by HTTP, the transport or the protocol; a configured value would only break the exchange.
_OWN_HEADERS: Final = frozenset(
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
        "user-agent",
    }
)
# What of a stream is taken apart at once: every event of a part is handled before others get their turn on the loop.
_PART_BYTES: Final = 4096
# The rest of an answer that was understood: most servers end it in the packet that follows.
_ENDING_SECONDS: Final = 0.25
# Redirects that keep method and body (RFC 9110 §15.4.8, §15.4.9); no other is of use to a POST.
_KEEPING: Final = frozenset({307, 308})


class Channel:
    """Send HTTP requests to one MCP server for one operation, and no further than the limits of its target.

    ``status`` and ``media_type`` are those of the last answer. ``received`` is the number of bytes in all answers.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.shown = shown_url(target.url)
        self.status = 0
        self.media_type = ""
        self.received = 0
        self._transport = shared_transport(target.policy)
        self._auth = WireAuth(target.url, target.access_token, dpop_key=target.dpop_key)
        self._headers = {
            # Two libraries' servers answer 406 unless both kinds are named (MCP, Streamable HTTP).
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "user-agent": f"{target.client_name}/{target.client_version}",
            **_configured(target.headers),
        }

    @asynccontextmanager
    async def send(self, method: str, headers: Mapping[str, str], body: bytes = b"") -> AsyncIterator[StreamedResponse]:
        """Send a request and yield the answer, whose body is still to be read.

        Raises:
            Unauthorized: The server answered 401.
            ScopeChallenged: The server answered 403 ``insufficient_scope``.
            NetworkFault: No usable answer; a redirect to another origin is one.
        """
        url = self.target.url
        for _ in range(self.target.policy.max_redirects + 1):
            response = await self._authorized(method, url, {**self._headers, **headers}, body)
            try:
                self.status = response.status
                self.media_type = (response.header("content-type") or "").partition(";")[0].strip().lower()
                if logger.isEnabledFor(logging.DEBUG):
                    logger.debug("%s %s: HTTP %d", method, shown_url(url), self.status)
                if self.status in (401, 403):
                    self._refuse(response.header_values("www-authenticate"))
                location = response.header("location") if 300 <= self.status < 400 else None
                if location is None:
                    yield response
                    return
                url = self._next(url, location)
            finally:
                response.close()
        raise self._redirected()

    def let_end(self, response: StreamedResponse) -> None:
        """Leave what is left of an answer that was understood: it matters no more, but its connection may serve on."""
        response.let_end(_ENDING_SECONDS)

    async def read(self, response: StreamedResponse) -> bytearray:
        """Return a whole body, within the budgets of bytes and of JSON values.

        Raises:
            NetworkFault: It is larger, or broke off.
        """
        # Joining parts at the end would have all of it in memory twice.
        body = bytearray()
        weight: JsonWeight | None = None
        while part := await response.read_some():
            self.received += len(part)
            body += part
            if weight is not None:
                self._weigh(weight, part)
            elif len(body) > self.target.policy.max_json_values:
                # A body holds no more values than bytes, so the smaller ones need no weighing.
                weight = JsonWeight()
                self._weigh(weight, bytes(body))
        return body

    def events(self, response: StreamedResponse) -> EventStream:
        """Return the events of a stream, to be read within the same budgets."""
        return EventStream(response, self)

    async def _authorized(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> StreamedResponse:
        response = await self._sent(method, url, headers, body)
        if not self._auth.needs_answers(url) or not self._auth.wants_nonce(_head(response)):
            return response
        # Refused for want of a nonce, which the next request carries (RFC 9449 §9); no refusal of that one is followed.
        response.close()
        response = await self._sent(method, url, headers, body)
        self._auth.wants_nonce(_head(response))
        return response

    async def _sent(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> StreamedResponse:
        policy = self.target.policy
        remaining = policy.mcp_response_bytes - self.received
        if remaining <= 0:
            raise self._too_large(sentence("%(shown)s sent too much in one session.", shown=self.shown))
        request = HttpRequest(method, url, self._auth.headers_for(method, url, headers, body), body)
        return await self._transport.send(request, limit_bytes=remaining, silence_seconds=policy.mcp_seconds)

    def _refuse(self, values: tuple[str, ...]) -> None:
        if self.status == 401:
            raise Unauthorized(values)
        challenge = bearer_challenge(values)
        if challenge is not None and challenge.error == "insufficient_scope":
            raise ScopeChallenged(challenge.scope or "", values)

    def _next(self, url: str, location: str) -> str:
        """Return where a redirect leads, if everything sent may be sent there as well."""
        if self.status in _KEEPING:
            here = httpx2.URL(url)
            try:
                following = here.join(location)
            except (httpx2.InvalidURL, UnicodeError):
                raise self._redirected() from None
            if _place(following) == _place(here):
                return str(following)
        raise self._redirected()

    def _redirected(self) -> NetworkFault:
        away = sentence("%(shown)s redirects to an address where nothing of ours is sent.", shown=self.shown)
        return NetworkFault(RedirectRefused(away, document=self.shown))

    def _weigh(self, weight: JsonWeight, part: bytes) -> None:
        most = self.target.policy.max_json_values
        if weight.add(part) > most:
            raise self._too_large(
                sentence("%(shown)s sent more than %(most)s JSON values in one answer.", shown=self.shown, most=most)
            )

    def _too_large(self, what: str) -> NetworkFault:
        return NetworkFault(ResponseTooLarge(what, document=self.shown))


class EventStream:
    """The events of one answer, in small parts, so that one flood of them does not keep the loop from the others."""

    def __init__(self, response: StreamedResponse, channel: Channel) -> None:
        self._response = response
        self._channel = channel
        self._weight = JsonWeight()
        self._parser = EventParser(channel.target.policy.mcp_response_bytes)
        # What has arrived and is not taken apart yet.
        self._rest = memoryview(b"")
        self._found: Iterator[Event] = iter(())

    async def next(self) -> Event | None:
        """Return the next event; ``None`` at the end of the stream.

        Raises:
            NetworkFault: The answer is larger than it may be, or broke off.
            EventTooLarge: An event is larger than an answer may be.
        """
        while True:
            if (event := next(self._found, None)) is not None:
                return event
            if self._rest:
                await asyncio.sleep(0)
            else:
                part = await self._response.read_some()
                if not part:
                    return None
                self._channel.received += len(part)
                self._rest = memoryview(part)
            piece, self._rest = bytes(self._rest[:_PART_BYTES]), self._rest[_PART_BYTES:]
            self._channel._weigh(self._weight, piece)
            self._found = self._parser.feed(piece)


def _place(url: httpx2.URL) -> tuple[str, str, int | None, bytes]:
    return url.scheme, url.host, url.port, url.userinfo


def parse_json(body: bytes | bytearray | str) -> Any:
    """Parse JSON that a stranger sent; no deeper than two hundred levels, which bounds every recursion over it.

    A byte order mark is overlooked (RFC 8259 §8.1).

    Raises:
        ValueError: It is none, is nested deeper, is not UTF-8, or has half a surrogate pair.
    """
    # What a server says is not kept in the parser's own memory; the names of its members are the same in every answer.
    if not isinstance(body, str) and body.startswith(codecs.BOM_UTF8):
        body = body.removeprefix(codecs.BOM_UTF8)
    return from_json(body, cache_strings="keys")


def _head(response: StreamedResponse) -> HttpResponse:
    """Return an answer without its body, which nobody has received yet."""
    return HttpResponse("", response.status, response.headers)


def _configured(headers: Mapping[str, str]) -> dict[str, str]:
    lowered = ((name.lower(), value) for name, value in headers.items())
    return {name: value for name, value in lowered if name not in _OWN_HEADERS and not name.startswith("mcp-")}
