"""The HTTP side of one operation with an MCP server: one identity, one budget of bytes, redirects within the origin."""

from __future__ import annotations

import asyncio
import codecs
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache
from typing import Any, Final, cast

import httpx2
from pydantic_core import from_json

from mcp_oauth.exceptions import RedirectRefused, ResponseTooLarge
from mcp_oauth.net.faults import NetworkFault, shown_url
from mcp_oauth.net.transport import LIMIT_EXTENSION, SILENCE_EXTENSION, has_arrived
from mcp_oauth.net.weight import JsonWeight
from mcp_oauth.oauth.bearer import WireAuth
from mcp_oauth.oauth.challenge import bearer_challenge
from mcp_oauth.sentences import sentence
from mcp_oauth.sessions.loop import in_background, shared_transport
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
# What the stream decoder is given at once: it handles every event of a part before others get their turn on the loop.
_PART_BYTES: Final = 4096
# An answer that was understood is let end, so that its connection serves the next request; most servers end it in the
# packet that follows. One that does not, or has much more to say, costs its connection.
_ENDING_SECONDS: Final = 0.25
_ENDING_BYTES: Final = 16 * 1024
# Redirects that keep method and body (RFC 9110 §15.4.8, §15.4.9); no other is of use to a POST.
_KEEPING: Final = frozenset({307, 308})


class Channel:
    """Send HTTP requests to one MCP server for one operation, and no further than the limits of its target.

    ``status`` and ``media_type`` are those of the last answer; ``refusals`` the ``WWW-Authenticate`` values of the last
    401 or 403. ``received`` is the number of bytes in all answers.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.shown = shown_url(target.url)
        self.status = 0
        self.media_type = ""
        self._url = _parsed(target.url)
        self._transport = shared_transport(target.policy)
        self._auth = WireAuth(target.url, target.access_token, dpop_key=target.dpop_key)
        self.received = 0
        self._counted: _Counted | None = None
        self._ending: tuple[httpx2.Response, AsyncGenerator[Any]] | None = None
        self._headers = {
            # Two libraries' servers answer 406 unless both kinds are named (MCP, Streamable HTTP).
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "user-agent": f"{target.client_name}/{target.client_version}",
            **_configured(target.headers),
        }

    @asynccontextmanager
    async def send(self, method: str, headers: Mapping[str, str], body: bytes = b"") -> AsyncIterator[httpx2.Response]:
        """Send a request and yield the answer, whose body is still to be read.

        Raises:
            Unauthorized: The server answered 401.
            ScopeChallenged: The server answered 403 ``insufficient_scope``.
            NetworkFault: No usable answer; a redirect to another origin is one.
        """
        url = self._url
        for _ in range(self.target.policy.max_redirects + 1):
            response = await self._authorized(self._request(method, url, headers, body))
            try:
                self.status = response.status_code
                self.media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                if logger.isEnabledFor(logging.DEBUG):
                    logger.debug("%s %s: HTTP %d", method, shown_url(url), self.status)
                if self.status in (401, 403):
                    self._refuse(response.headers.get_list("WWW-Authenticate"))
                if not 300 <= self.status < 400 or "location" not in response.headers:
                    yield response
                    return
                url = self._next(url, response)
            finally:
                ending, self._ending = self._ending, None
                if ending is None or ending[0] is not response:
                    await response.aclose()
                elif self._counted is not None and self._counted.has_arrived:
                    # Read to its end as well, at once: each generator left in the middle costs a task to be closed.
                    await _end(*ending)
                else:
                    in_background(_end(*ending))
        raise self._redirected()

    def let_end(self, response: httpx2.Response, rest: AsyncGenerator[Any] | None = None) -> None:
        """Have what is left of an answer read in the background, for a moment, once it is left; it matters no more.

        ``rest`` are its `events` where those were read.
        """
        if rest is None or self._counted is None:
            self._counted = _Counted(response, self)
            rest = aiter(self._counted)
        self._counted.most = _ENDING_BYTES
        self._ending = (response, rest)

    async def read(self, response: httpx2.Response) -> bytearray:
        """Return a whole body, within the budgets of bytes and of JSON values.

        Raises:
            NetworkFault: It is larger, or broke off.
        """
        # Joining parts at the end would have all of it in memory twice.
        body = bytearray()
        weight: JsonWeight | None = None
        async for part in _stream_of(response):
            self._count(len(part))
            body += part
            if weight is not None:
                self._weigh(weight, part)
            elif len(body) > self.target.policy.max_json_values:
                # A body holds no more values than bytes, so the smaller ones need no weighing.
                weight = JsonWeight()
                self._weigh(weight, bytes(body))
        return body

    def events(self, response: httpx2.Response) -> AsyncGenerator[httpx2.ServerSentEvent]:
        """Return the events of a stream as they come, within the same budgets.

        Raises:
            NetworkFault: It is larger, or broke off.
            httpx2.SSEError: An event is larger than an answer may be.
        """
        response.stream = self._counted = _Counted(response, self)
        source = httpx2.EventSource(response, max_event_size=self.target.policy.mcp_response_bytes)
        return cast("AsyncGenerator[httpx2.ServerSentEvent]", aiter(source))

    async def _authorized(self, request: httpx2.Request) -> httpx2.Response:
        flow = self._auth.auth_flow(request)
        try:
            request = next(flow)
            while True:
                response = await self._transport.handle_async_request(request)
                try:
                    request = flow.send(response)
                except StopIteration:
                    return response
                # Refused for want of a nonce, which this request carries (RFC 9449 §9).
                await response.aclose()
        finally:
            flow.close()

    def _request(self, method: str, url: httpx2.URL, headers: Mapping[str, str], body: bytes) -> httpx2.Request:
        remaining = self.target.policy.mcp_response_bytes - self.received
        if remaining <= 0:
            raise self._too_large(sentence("%(shown)s sent too much in one session.", shown=self.shown))
        return httpx2.Request(
            method,
            url,
            headers={**self._headers, **headers},
            content=body,
            extensions={SILENCE_EXTENSION: self.target.policy.mcp_seconds, LIMIT_EXTENSION: remaining},
        )

    def _refuse(self, values: list[str]) -> None:
        if self.status == 401:
            raise Unauthorized(tuple(values))
        challenge = bearer_challenge(values)
        if challenge is not None and challenge.error == "insufficient_scope":
            raise ScopeChallenged(challenge.scope or "", tuple(values))

    def _next(self, url: httpx2.URL, response: httpx2.Response) -> httpx2.URL:
        """Return where a redirect leads, if everything sent may be sent there as well."""
        if self.status in _KEEPING:
            try:
                following = url.join(response.headers["location"])
            except (httpx2.InvalidURL, UnicodeError):
                raise self._redirected() from None
            here = (url.scheme, url.host, url.port, url.userinfo)
            if (following.scheme, following.host, following.port, following.userinfo) == here:
                return following
        raise self._redirected()

    def _redirected(self) -> NetworkFault:
        away = sentence("%(shown)s redirects to an address where nothing of ours is sent.", shown=self.shown)
        return NetworkFault(RedirectRefused(away, document=self.shown))

    def _count(self, received: int) -> None:
        self.received += received

    def _weigh(self, weight: JsonWeight, part: bytes) -> None:
        most = self.target.policy.max_json_values
        if weight.add(part) > most:
            raise self._too_large(
                sentence("%(shown)s sent more than %(most)s JSON values in one answer.", shown=self.shown, most=most)
            )

    def _too_large(self, what: str) -> NetworkFault:
        return NetworkFault(ResponseTooLarge(what, document=self.shown))


async def _end(response: httpx2.Response, rest: AsyncGenerator[Any]) -> None:
    try:
        async with asyncio.timeout(_ENDING_SECONDS), aclosing(rest):
            async for _ in rest:
                pass
    except (TimeoutError, NetworkFault, httpx2.SSEError):
        pass  # what mattered was said before
    finally:
        await response.aclose()


class _Counted(httpx2.AsyncByteStream):
    """A stream in small parts, so that one flood of events does not keep the loop from the others.

    It ends after ``most`` further bytes, once that is set.
    """

    def __init__(self, response: httpx2.Response, channel: Channel) -> None:
        self._stream = _stream_of(response)
        self._channel = channel
        self._weight = JsonWeight()
        self.most: int | None = None

    @property
    def has_arrived(self) -> bool:
        """Whether all of it is here, counted or not."""
        return has_arrived(self._stream)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for part in self._stream:
            self._channel._count(len(part))
            if self.most is not None:
                self.most -= len(part)
                if self.most < 0:
                    return
            for start in range(0, len(part), _PART_BYTES):
                piece = part[start : start + _PART_BYTES]
                self._channel._weigh(self._weight, piece)
                yield piece
                if len(part) > _PART_BYTES:
                    await asyncio.sleep(0)


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


def _stream_of(response: httpx2.Response) -> httpx2.AsyncByteStream:
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)  # noqa: S101 - the guarded transport makes them
    return stream


def _configured(headers: Mapping[str, str]) -> dict[str, str]:
    lowered = ((name.lower(), value) for name, value in headers.items())
    return {name: value for name, value in lowered if name not in _OWN_HEADERS and not name.startswith("mcp-")}


@lru_cache(maxsize=1024)
def _parsed(url: str) -> httpx2.URL:
    # Parsing costs more than the rest of building a request, and a process talks to few addresses.
    return httpx2.URL(url)
