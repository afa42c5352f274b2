"""The guarded transport: the one place where a connection to another host is made."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import aiohttp
import httpx2
from yarl import URL

from mcp_oauth.exceptions import AddressBlocked, DeadlineExceeded, McpOAuthError, ResponseTooLarge, ServerUnreachable
from mcp_oauth.messages import HttpRequest
from mcp_oauth.net.budget import OriginSlots, spend_request
from mcp_oauth.net.dialling import AddressRule, GuardedConnector, Resolver
from mcp_oauth.net.faults import NetworkFault, shown_url, translate_fault
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.oauth.urls import is_loopback_host
from mcp_oauth.sentences import sentence

# The head of an answer: pages of large sites announce policies of several kilobytes in a line.
_HEAD_LINE_BYTES: Final = 16 * 1024
_HEAD_LINES: Final = 128
# What is read ahead of whoever reads; a flood waits in the kernel, and then at its source.
_READ_AHEAD_BYTES: Final = 64 * 1024
# Addresses whose parts are remembered, and origins that were found acceptable as they are written; a process talks to
# fewer.
_ADDRESSES_KEPT: Final = 1024
# The library wants larger bodies as files, so that copying one does not hold up its loop.
_LARGEST_PLAIN_BODY: Final = 1024 * 1024
# RFC 9110 §5.5, checked here so that no other layer quotes a refused value in its error text.
_HEADER_VALUE: Final = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class StreamedResponse:
    """An answer whose head is acceptable and whose body is still to be read: by `read_some`, or not at all.

    Whoever has it closes it, or lets it end.
    """

    __slots__ = ("_closed", "_ends_by_itself", "_limit", "_received", "_response", "_url", "status")

    def __init__(
        self, response: aiohttp.ClientResponse, limit: int, url: httpx2.URL, *, closed: Callable[[], None]
    ) -> None:
        """Hold an answer; ``limit`` is in bytes, ``closed`` is called once."""
        self.status = response.status
        self._response = response
        self._limit = limit
        self._received = 0
        self._url = url
        self._closed: Callable[[], None] | None = closed
        self._ends_by_itself = False

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return all headers in the order they arrived."""
        return tuple((name.decode("ascii", "replace"), _text(value)) for name, value in self._response.raw_headers)

    def header(self, name: str) -> str | None:
        """Return the first value of a header, compared without case, or ``None``."""
        return next(iter(self.header_values(name)), None)

    def header_values(self, name: str) -> tuple[str, ...]:
        """Return every value of a header, in the order they arrived."""
        wanted = name.lower().encode()
        return tuple([_text(value) for key, value in self._response.raw_headers if key.lower() == wanted])

    async def read_some(self) -> bytes:
        """Return what has arrived of the body, once there is something; nothing at its end.

        Raises:
            NetworkFault: It exceeds its limit, or broke off.
        """
        try:
            part = await self._response.content.readany()
        except Exception as exc:  # boundary: whatever the HTTP stack raises becomes one typed fault
            raise NetworkFault(translate_fault(exc, self._url)) from exc
        self._received += len(part)
        if self._received > self._limit:
            raise _too_large(self._url, self._limit)
        return part

    def let_end(self, seconds: float) -> None:
        """Wait a moment for the rest without reading it, so that the connection serves the next request.

        A rest that is not here by then, or is more than what is read ahead, costs the connection.
        """
        if self._closed is None or self._ends_by_itself:
            return
        content = self._response.content
        if content.is_eof():
            self.close()
            return
        self._ends_by_itself = True
        timer = asyncio.get_running_loop().call_later(seconds, self._finish)

        def ended() -> None:
            timer.cancel()
            self._finish()

        content.on_eof(ended)

    def close(self) -> None:
        """Close the connection, unless all of the answer is here; nothing where the answer was let end."""
        if not self._ends_by_itself:
            self._finish()

    def _finish(self) -> None:
        # The connection of an answer that has arrived to its end has gone back by itself.
        self._response.close()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()


class GuardedTransport:
    """Dials only checked addresses and reads only bounded, unencoded bodies.

    It belongs to the event loop that first uses it. Environment variables such as ``HTTP_PROXY`` have no effect.
    """

    def __init__(self, policy: NetworkPolicy, *, resolve: Resolver | None = None) -> None:
        """Open nothing yet; ``resolve`` replaces the system's name lookup."""
        self._policy = policy
        self._rule = AddressRule(policy)
        self._slots = OriginSlots(policy.max_connections_per_origin, policy.max_connections)
        self._resolve = resolve
        self._proxy: URL | None = None
        self._proxy_auth = ""
        if policy.proxy:
            self._proxy, self._proxy_auth = _proxy(policy.proxy)
        self._let_through: set[str] = set()
        self._opened: aiohttp.ClientSession | None = None

    async def send(
        self, request: HttpRequest, *, limit_bytes: int | None = None, silence_seconds: float | None = None
    ) -> StreamedResponse:
        """Send a request and return the answer as soon as its head is here; redirects are the caller's.

        ``limit_bytes`` bounds the body (default: the policy's ``oauth_document_bytes``), ``silence_seconds`` every
        wait for more of the answer (default: the policy's ``request_seconds``).

        Raises:
            NetworkFault: No acceptable answer came; its ``error`` is of the ``ServerUnreachable`` family.
        """
        try:
            address = _address(request.url)
        except (httpx2.InvalidURL, ValueError) as exc:
            raise NetworkFault(translate_fault(exc, request.url)) from exc
        limit = self._policy.oauth_document_bytes if limit_bytes is None else limit_bytes
        silence = self._policy.request_seconds if silence_seconds is None else silence_seconds
        try:
            headers = self._checked(request, address)
            if most := spend_request():
                shown = shown_url(address.url)
                raise ServerUnreachable(
                    sentence("%(shown)s wants more than %(most)s requests for one operation.", shown=shown, most=most),
                    document=shown,
                )
            await self._slots.take(address.origin, seconds=self._policy.connect_seconds)
        except McpOAuthError as exc:
            raise NetworkFault(exc) from None
        except TimeoutError as exc:
            shown = shown_url(address.url)
            crowded = sentence("Too many requests are under way to contact %(url)s in time.", url=shown)
            raise NetworkFault(DeadlineExceeded(crowded, document=shown)) from exc
        try:
            response = await self._exchange(request, address, headers, limit, silence)
        except BaseException:
            self._slots.give_back(address.origin)
            raise
        return StreamedResponse(response, limit, address.url, closed=lambda: self._slots.give_back(address.origin))

    async def aclose(self) -> None:
        """Close every connection."""
        if self._opened is not None:
            await self._opened.close()

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

    async def _exchange(
        self, request: HttpRequest, address: _Address, headers: dict[str, str], limit: int, silence: float
    ) -> aiohttp.ClientResponse:
        """Send a request and return the answer once its head is acceptable."""
        body = request.body
        try:
            response = await self._client.request(
                request.method,
                address.wire,
                headers=headers,
                data=(io.BytesIO(body) if len(body) > _LARGEST_PLAIN_BODY else body) or None,
                allow_redirects=False,
                timeout=_timeouts(self._policy.connect_seconds, silence),
                proxy=self._proxy,
                proxy_headers={"Proxy-Authorization": self._proxy_auth} if self._proxy_auth else None,
            )
        except NetworkFault:
            raise
        except Exception as exc:  # boundary: whatever the HTTP stack raises becomes one typed fault
            raise NetworkFault(translate_fault(exc, address.url)) from exc
        try:
            _check_response(response, limit, address.url)
        except NetworkFault:
            response.close()
            raise
        return response

    def _checked(self, request: HttpRequest, address: _Address) -> dict[str, str]:
        """Return the headers of a request that may be sent."""
        # What was let through is let through again; names are looked up for every connection.
        if address.origin not in self._let_through:
            self._check_origin(address.url)
            if len(self._let_through) >= _ADDRESSES_KEPT:
                self._let_through.clear()
            self._let_through.add(address.origin)
        headers = {}
        for name, value in request.headers.items():
            if _HEADER_NAME.fullmatch(name) is None or _HEADER_VALUE.fullmatch(value) is None:
                raise ServerUnreachable(
                    sentence(
                        "A request to %(shown)s cannot be sent: a header contains characters HTTP does not allow.",
                        shown=shown_url(address.url),
                    ),
                    next_step=sentence("Ask an administrator to correct the server's headers, or connect again."),
                )
            # An encoded body would have to be decoded before it can be counted; we ask for none and accept none.
            if name.lower() != "accept-encoding":
                headers[name] = value
        headers["Accept-Encoding"] = "identity"
        if self._proxy_auth and address.url.scheme == "http":
            headers["Proxy-Authorization"] = self._proxy_auth
        return headers

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


@dataclass(frozen=True, slots=True)
class _Address:
    """A URL, and what is made of it for every request."""

    url: httpx2.URL
    # As the HTTP library wants it: it is not to write it anew.
    wire: URL
    # With a user name and password, if there are any: what is let through has none.
    origin: str


# Parsing costs more than most of a request.
@lru_cache(maxsize=_ADDRESSES_KEPT)
def _address(url: str) -> _Address:
    parsed = httpx2.URL(url)
    place = f"{parsed.scheme}://{parsed.netloc.decode()}"
    wire = URL(f"{place}{parsed.raw_path.decode()}", encoded=True)
    return _Address(parsed, wire, f"{parsed.userinfo.decode()}@{place}" if parsed.userinfo else place)


def _text(value: bytes) -> str:
    """Return a header's value; some servers write them in Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("iso-8859-1")


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
    return NetworkFault(
        ResponseTooLarge(
            sentence("%(shown)s sent more than %(limit)s bytes.", shown=shown_url(url), limit=limit),
            document=shown_url(url),
        )
    )
