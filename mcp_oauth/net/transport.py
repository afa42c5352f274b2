"""The guarded transport: the one place where a connection to another host is made."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Final

import aiohttp
import httpx2
from yarl import URL

from mcp_oauth.exceptions import AddressBlocked, DeadlineExceeded, McpOAuthError, ResponseTooLarge, ServerUnreachable
from mcp_oauth.net.budget import OriginSlots, spend_request
from mcp_oauth.net.dialling import AddressRule, GuardedConnector, Resolver
from mcp_oauth.net.faults import NetworkFault, shown_url, translate_fault
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.oauth.urls import is_loopback_host
from mcp_oauth.sentences import sentence

LIMIT_EXTENSION: Final = "mcp_oauth_limit"
"""Key in ``request.extensions`` of the largest acceptable body, in bytes."""

SILENCE_EXTENSION: Final = "mcp_oauth_silence"
"""Key in ``request.extensions`` of the longest acceptable silence, in seconds (default: ``request_seconds``)."""

# The head of an answer: pages of large sites announce policies of several kilobytes in a line.
_HEAD_LINE_BYTES: Final = 16 * 1024
_HEAD_LINES: Final = 128
# What is read ahead of whoever reads; a flood waits in the kernel, and then at its source.
_READ_AHEAD_BYTES: Final = 64 * 1024
# Origins whose addresses were found acceptable as they are written; a process talks to fewer.
_ORIGINS_KEPT: Final = 1024
# The library wants larger bodies as files, so that copying one does not hold up its loop.
_LARGEST_PLAIN_BODY: Final = 1024 * 1024
# RFC 9110 §5.5, checked here so that no other layer quotes a refused value in its error text.
_HEADER_VALUE: Final = re.compile(rb"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")
_HEADER_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def guarded_transport(policy: NetworkPolicy, *, resolve: Resolver | None = None) -> httpx2.AsyncBaseTransport:
    """Return a transport that dials only checked addresses and reads only bounded, unencoded bodies.

    It belongs to the event loop that first uses it. Environment variables such as ``HTTP_PROXY`` have no effect.
    ``resolve`` replaces the system's name lookup.

    A request raises ``NetworkFault``, whose ``error`` is of the ``ServerUnreachable`` family.
    """
    return _GuardedTransport(policy, resolve)


def has_arrived(body: httpx2.AsyncByteStream) -> bool:
    """Tell whether the whole body of an answer is here, read or not; only then its connection serves again."""
    return isinstance(body, _BoundedStream) and body.has_arrived


class _BoundedStream(httpx2.AsyncByteStream):
    """A response body that ends in a fault once it exceeds its limit."""

    def __init__(
        self, response: aiohttp.ClientResponse, limit: int, url: httpx2.URL, *, closed: Callable[[], None]
    ) -> None:
        self._response = response
        self._limit = limit
        self._url = url
        self._closed: Callable[[], None] | None = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        try:
            async for part in self._response.content.iter_any():
                received += len(part)
                if received > self._limit:
                    raise _too_large(self._url, self._limit)
                yield part
        except NetworkFault:
            raise
        except Exception as exc:  # boundary: whatever the HTTP stack raises becomes one typed fault
            raise NetworkFault(translate_fault(exc, self._url)) from exc

    @property
    def has_arrived(self) -> bool:
        """Whether all of it is here, read or not, so that its connection is free already."""
        return self._response.content.is_eof()

    async def aclose(self) -> None:
        # The connection of an answer that was read to its end has gone back by itself.
        self._response.close()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()


class _GuardedTransport(httpx2.AsyncBaseTransport):
    def __init__(self, policy: NetworkPolicy, resolve: Resolver | None) -> None:
        self._policy = policy
        self._rule = AddressRule(policy)
        self._slots = OriginSlots(policy.max_connections_per_origin, policy.max_connections)
        self._resolve = resolve
        self._proxy: URL | None = None
        self._proxy_auth = ""
        if policy.proxy:
            self._proxy, self._proxy_auth = _proxy(policy.proxy)
        self._let_through: set[tuple[bytes, bytes, bytes]] = set()
        self._opened: aiohttp.ClientSession | None = None

    @property
    def _client(self) -> aiohttp.ClientSession:
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=GuardedConnector(self._policy, self._resolve),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                trust_env=False,
                read_bufsize=_READ_AHEAD_BYTES,
                max_line_size=_HEAD_LINE_BYTES,
                max_field_size=_HEAD_LINE_BYTES,
                max_headers=_HEAD_LINES,
            )
            # It would send a GET or DELETE once more where its connection breaks, past the budget of requests.
            self._opened._retry_connection = False
        return self._opened

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        limit = int(request.extensions.get(LIMIT_EXTENSION, self._policy.oauth_document_bytes))
        origin = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"
        try:
            self._check_request(request)
            if most := spend_request():
                shown = shown_url(url)
                raise ServerUnreachable(
                    sentence("%(shown)s wants more than %(most)s requests for one operation.", shown=shown, most=most),
                    document=shown,
                )
            await self._slots.take(origin, seconds=self._policy.connect_seconds)
        except McpOAuthError as exc:
            raise NetworkFault(exc) from None
        except TimeoutError as exc:
            shown = shown_url(url)
            crowded = sentence("Too many requests are under way to contact %(url)s in time.", url=shown)
            raise NetworkFault(DeadlineExceeded(crowded, document=shown)) from exc
        try:
            response = await self._exchange(request, limit)
        except BaseException:
            self._slots.give_back(origin)
            raise
        return httpx2.Response(
            status_code=response.status,
            headers=response.raw_headers,
            stream=_BoundedStream(response, limit, url, closed=lambda: self._slots.give_back(origin)),
            request=request,
        )

    async def _exchange(self, request: httpx2.Request, limit: int) -> aiohttp.ClientResponse:
        """Send a request and return the answer once its head is acceptable."""
        url, body = request.url, request.content
        headers = _headers(request)
        if self._proxy_auth and url.scheme == "http":
            headers.append(("Proxy-Authorization", self._proxy_auth))
        seconds = request.extensions.get(SILENCE_EXTENSION, self._policy.request_seconds)
        try:
            response = await self._client.request(
                request.method,
                URL(f"{url.scheme}://{url.netloc.decode()}{url.raw_path.decode()}", encoded=True),
                headers=headers,
                data=(io.BytesIO(body) if len(body) > _LARGEST_PLAIN_BODY else body) or None,
                allow_redirects=False,
                timeout=_timeouts(self._policy.connect_seconds, seconds),
                proxy=self._proxy,
                proxy_headers={"Proxy-Authorization": self._proxy_auth} if self._proxy_auth else None,
            )
        except NetworkFault:
            raise
        except Exception as exc:  # boundary: whatever the HTTP stack raises becomes one typed fault
            raise NetworkFault(translate_fault(exc, url)) from exc
        try:
            _check_response(response, limit, url)
        except NetworkFault:
            response.close()
            raise
        return response

    async def aclose(self) -> None:
        if self._opened is not None:
            await self._opened.close()

    def _check_request(self, request: httpx2.Request) -> None:
        url = request.url
        # What was let through is let through again; names are looked up for every connection.
        origin = (url.raw_scheme, url.netloc, url.userinfo)
        if origin not in self._let_through:
            self._check_origin(url)
            if len(self._let_through) >= _ORIGINS_KEPT:
                self._let_through.clear()
            self._let_through.add(origin)
        for name, value in request.headers.raw:
            if _HEADER_NAME.fullmatch(name) is None or _HEADER_VALUE.fullmatch(value) is None:
                raise ServerUnreachable(
                    sentence(
                        "A request to %(shown)s cannot be sent: a header contains characters HTTP does not allow.",
                        shown=shown_url(url),
                    ),
                    next_step=sentence("Ask an administrator to correct the server's headers, or connect again."),
                )

    def _check_origin(self, url: httpx2.URL) -> None:
        if url.scheme not in ("http", "https") or not url.host:
            raise AddressBlocked(sentence("Only https addresses with a host are contacted."))
        if url.userinfo:
            raise AddressBlocked(
                sentence("%(url)s is not contacted: its URL carries a user name or password.", url=shown_url(url))
            )
        if url.scheme == "http" and not (self._policy.allow_loopback and is_loopback_host(url.host)):
            raise AddressBlocked(sentence("%(url)s is not contacted: it is not https.", url=shown_url(url)))
        if not self._policy.may_contact(url.host):
            raise AddressBlocked(
                sentence(
                    "%(url)s is not contacted: its host is not among those this site contacts.", url=shown_url(url)
                )
            )
        self._rule.check_literal(url.host, url.port or (443 if url.scheme == "https" else 80))


def _headers(request: httpx2.Request) -> list[tuple[str, str]]:
    # An encoded body would have to be decoded before it can be counted; we ask for none and accept none.
    return [
        *(
            (name.decode("ascii"), value.decode("ascii"))
            for name, value in request.headers.raw
            if name.lower() != b"accept-encoding"
        ),
        ("Accept-Encoding", "identity"),
    ]


def _proxy(address: str) -> tuple[URL, str]:
    """Return where a proxy is, and what it is shown; its password stays out of every URL that an error may name."""
    url = httpx2.URL(address)
    shown = aiohttp.encode_basic_auth(url.username, url.password) if url.userinfo else ""
    return URL(str(url.copy_with(userinfo=b""))), shown


@lru_cache(maxsize=16)
def _timeouts(connect: float, read: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_connect=connect, sock_read=read)


def _check_response(response: aiohttp.ClientResponse, limit: int, url: httpx2.URL) -> None:
    for name, value in response.raw_headers:
        kind = name.lower()
        if kind == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            shown = shown_url(url)
            encoded = sentence("%(shown)s sent an encoded body although none was asked for.", shown=shown)
            raise NetworkFault(ServerUnreachable(encoded, document=shown))
        if kind == b"content-length" and value.isdigit() and (len(value) > 15 or int(value) > limit):
            raise _too_large(url, limit)


def _too_large(url: httpx2.URL, limit: int) -> NetworkFault:
    shown = shown_url(url)
    return NetworkFault(
        ResponseTooLarge(
            sentence("%(shown)s sent more than %(limit)s bytes.", shown=shown, limit=limit), document=shown
        )
    )
