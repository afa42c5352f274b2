"""The guarded transport: the one place where a connection to another host is made."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import cache, lru_cache

import httpcore2
import httpx2

from mcp_oauth.exceptions import (
    AddressBlocked,
    DeadlineExceeded,
    McpOAuthError,
    ResponseTooLarge,
    ServerUnreachable,
)
from mcp_oauth.net.addresses import blocked_kind
from mcp_oauth.net.budget import OriginSlots, spend_request
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.net.streams import AsyncioBackend
from mcp_oauth.oauth.urls import is_loopback_host
from mcp_oauth.sentences import marked, sentence

logger = logging.getLogger(__name__)

LIMIT_EXTENSION = "mcp_oauth_limit"
"""Key in ``request.extensions`` of the largest acceptable body, in bytes."""

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Turns a host name and port into IP addresses as text, in the order of preference."""

# A host with a thousand addresses must not be able to make us dial them all.
_MAX_ADDRESSES = 8
# How long an address that is not the last may keep us from trying the next one.
_FALLOVER_SECONDS = 1.0
# Shorter than the five seconds after which many servers close an idle connection: a request that crosses their
# goodbye fails, and a tool call may not be sent again.
_KEEPALIVE_SECONDS = 4.0
# RFC 9110 §5.5, checked here so that no other layer quotes a refused value in its error text.
_HEADER_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_HEADER_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class NetworkFault(httpx2.TransportError):
    """Carry one of our errors through httpx2, which lets its own exceptions pass; ``error`` is ours."""

    def __init__(self, error: McpOAuthError) -> None:
        super().__init__(error.user_message)
        self.error = error


def guarded_transport(policy: NetworkPolicy, *, resolve: Resolver | None = None) -> httpx2.AsyncBaseTransport:
    """Return a transport that dials only checked addresses and reads only bounded, unencoded bodies.

    It belongs to the event loop that first uses it. Environment variables such as ``HTTP_PROXY`` have no effect.
    ``resolve`` replaces the system's name lookup.

    A request raises ``NetworkFault``, whose ``error`` is of the ``ServerUnreachable`` family.
    """
    return _GuardedTransport(policy, resolve or _system_addresses)


def shown_url(url: str | httpx2.URL) -> str:
    """Return a URL without userinfo, query and fragment, bounded: what may stand in a message."""
    return _shown(url) if isinstance(url, str) else _without_secrets(url)


def _without_secrets(url: str | httpx2.URL) -> str:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        return sentence("the address")
    return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))[:300]


# Parsing costs more than most of a request, and an address is shown for every one, should it fail.
_shown = lru_cache(maxsize=256)(_without_secrets)


def translate_fault(exc: BaseException, url: str | httpx2.URL) -> McpOAuthError:
    """Return our error for whatever the HTTP stack raised; its own words are not repeated.

    They may quote a header, and they name no URL.
    """
    shown = shown_url(url)
    if isinstance(exc, NetworkFault):
        return exc.error
    if isinstance(exc, McpOAuthError):
        return exc
    for kind in (*_FAULT_SENTENCES,):
        if isinstance(exc, kind):
            error, entry = _FAULT_SENTENCES[kind]
            if error is ServerUnreachable and _is_tls_fault(exc):
                entry = marked(
                    "%(url)s does not prove its identity: its TLS certificate or handshake is not acceptable."
                )
            return error(sentence(entry, url=shown), document=shown)
    return ServerUnreachable(sentence("The exchange with %(shown)s failed.", shown=shown), document=shown)


# The most specific class first.
_FAULT_SENTENCES: dict[type[BaseException], tuple[type[ServerUnreachable], str]] = {
    httpcore2.ConnectTimeout: (DeadlineExceeded, marked("%(url)s did not accept a connection in time.")),
    httpx2.ConnectTimeout: (DeadlineExceeded, marked("%(url)s did not accept a connection in time.")),
    httpcore2.PoolTimeout: (DeadlineExceeded, marked("Too many requests are under way to contact %(url)s in time.")),
    httpx2.PoolTimeout: (DeadlineExceeded, marked("Too many requests are under way to contact %(url)s in time.")),
    httpcore2.TimeoutException: (DeadlineExceeded, marked("%(url)s did not answer in time.")),
    httpx2.TimeoutException: (DeadlineExceeded, marked("%(url)s did not answer in time.")),
    TimeoutError: (DeadlineExceeded, marked("%(url)s did not answer in time.")),
    httpcore2.ConnectError: (ServerUnreachable, marked("%(url)s cannot be reached: the connection failed.")),
    httpx2.ConnectError: (ServerUnreachable, marked("%(url)s cannot be reached: the connection failed.")),
    httpcore2.NetworkError: (ServerUnreachable, marked("%(url)s broke the connection off.")),
    httpx2.NetworkError: (ServerUnreachable, marked("%(url)s broke the connection off.")),
    httpcore2.ProxyError: (
        ServerUnreachable,
        marked("%(url)s cannot be reached: the egress proxy does not let it through."),
    ),
    httpcore2.LocalProtocolError: (ServerUnreachable, marked("The request to %(url)s cannot be sent over HTTP.")),
    httpx2.LocalProtocolError: (ServerUnreachable, marked("The request to %(url)s cannot be sent over HTTP.")),
    httpcore2.ProtocolError: (ServerUnreachable, marked("%(url)s closed the connection early or does not speak HTTP.")),
    httpx2.ProtocolError: (ServerUnreachable, marked("%(url)s closed the connection early or does not speak HTTP.")),
    OSError: (ServerUnreachable, marked("%(url)s cannot be reached: the connection failed.")),
}


def _is_tls_fault(exc: BaseException) -> bool:
    seen: BaseException | None = exc
    for _ in range(8):
        if seen is None:
            return False
        if isinstance(seen, ssl.SSLError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


async def _system_addresses(host: str, port: int) -> Sequence[str]:
    """Resolve with the system's resolver (getaddrinfo), off the event loop."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(entry[4][0]) for entry in found]


@cache
def _tls_context() -> ssl.SSLContext:
    # Building one costs 20 ms; connections share it safely.
    return httpx2.create_ssl_context(trust_env=False)


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Dial a host by an address that was checked, so that a second lookup cannot change it (DNS rebinding)."""

    def __init__(self, policy: NetworkPolicy, resolve: Resolver) -> None:
        self._policy = policy
        self._resolve = resolve
        self._dialler = AsyncioBackend()
        # The operator's own, wherever it stands.
        self._proxy = _host_and_port(policy.proxy) if policy.proxy else None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        clock = asyncio.get_running_loop().time
        seconds = self._policy.connect_seconds if timeout is None else min(timeout, self._policy.connect_seconds)
        deadline = clock() + seconds
        if self._proxy == (host, port):
            return await self._dialler.connect_tcp(
                host, port, timeout=seconds, local_address=local_address, socket_options=socket_options
            )
        addresses = await self._checked_addresses(host, port, seconds)
        last_fault: Exception | None = None
        for position, address in enumerate(addresses, start=1):
            remaining = deadline - clock()
            if remaining <= 0:
                break
            patience = remaining if position == len(addresses) else min(remaining, _FALLOVER_SECONDS)
            try:
                return await self._dialler.connect_tcp(
                    address, port, timeout=patience, local_address=local_address, socket_options=socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as exc:
                last_fault = exc
        raise last_fault or httpcore2.ConnectTimeout("no time left to connect")

    async def _checked_addresses(self, host: str, port: int, seconds: float) -> Sequence[str]:
        try:
            async with asyncio.timeout(seconds):
                found = await self._resolve(host, port)
        except TimeoutError as exc:
            raise NetworkFault(
                DeadlineExceeded(sentence("The name %(host)r was not resolved in time.", host=host))
            ) from exc
        except (OSError, UnicodeError) as exc:
            raise NetworkFault(
                ServerUnreachable(sentence("The name %(host)r does not resolve to an address.", host=host))
            ) from exc
        addresses = list(dict.fromkeys(found))
        if not addresses:
            raise NetworkFault(
                ServerUnreachable(sentence("The name %(host)r does not resolve to an address.", host=host))
            )
        for address in addresses:
            self._check(host, port, address)
        # A host that announces IPv6 without routing it is far more common than the reverse.
        return sorted(addresses, key=lambda address: ":" in address)[:_MAX_ADDRESSES]

    def _check(self, host: str, port: int, address: str) -> None:
        kind = blocked_kind(
            address,
            allow_loopback=self._policy.allow_loopback,
            allow_private=self._policy.may_be_private(host, port),
        )
        if kind:
            # Where a name leads to in our network is for the operator's log, not for whoever entered it.
            logger.warning("%s:%d leads to %s (%s) and is not contacted", host, port, address, kind)
            raise NetworkFault(
                AddressBlocked(
                    sentence(
                        "%(host)s:%(port)s is not contacted: it is not on the public internet.", host=host, port=port
                    )
                )
            )

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        raise NetworkFault(AddressBlocked("Unix sockets are not contacted."))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _pool(policy: NetworkPolicy, backend: _GuardedBackend) -> httpcore2.AsyncConnectionPool:
    if policy.proxy:
        proxy = httpx2.URL(policy.proxy)
        return httpcore2.AsyncHTTPProxy(
            str(proxy.copy_with(userinfo=b"")),
            proxy_auth=(proxy.username, proxy.password) if proxy.userinfo else None,
            ssl_context=_tls_context(),
            proxy_ssl_context=_tls_context() if proxy.scheme == "https" else None,
            max_connections=policy.max_connections,
            max_keepalive_connections=policy.max_connections,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            network_backend=backend,
        )
    return httpcore2.AsyncConnectionPool(
        ssl_context=_tls_context(),
        max_connections=policy.max_connections,
        max_keepalive_connections=policy.max_connections,
        keepalive_expiry=_KEEPALIVE_SECONDS,
        http1=True,
        http2=False,
        retries=0,
        network_backend=backend,
    )


def _host_and_port(proxy: str) -> tuple[str, int]:
    url = httpx2.URL(proxy)
    return url.host, url.port or (443 if url.scheme == "https" else 80)


class _BoundedStream(httpx2.AsyncByteStream):
    """A response body that ends in a fault once it exceeds its limit."""

    def __init__(self, inner: AsyncIterable[bytes], limit: int, url: httpx2.URL, *, closed: Callable[[], None]) -> None:
        self._inner = inner
        self._limit = limit
        self._url = url
        self._closed: Callable[[], None] | None = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        try:
            async for part in self._inner:
                received += len(part)
                if received > self._limit:
                    raise _too_large(self._url, self._limit)
                yield part
        except NetworkFault:
            raise
        except Exception as exc:  # boundary: whatever the HTTP stack raises becomes one typed fault
            raise NetworkFault(translate_fault(exc, self._url)) from exc

    async def aclose(self) -> None:
        close = getattr(self._inner, "aclose", None)
        try:
            if close is not None:
                await close()
        finally:
            closed, self._closed = self._closed, None
            if closed is not None:
                closed()


class _GuardedTransport(httpx2.AsyncBaseTransport):
    def __init__(self, policy: NetworkPolicy, resolve: Resolver) -> None:
        self._policy = policy
        self._slots = OriginSlots(policy.max_connections_per_origin)
        self._pool = _pool(policy, _GuardedBackend(policy, resolve))

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
            crowded = sentence("Too many requests to %(shown)s are under way; none was answered in time.", shown=shown)
            raise NetworkFault(DeadlineExceeded(crowded, document=shown)) from exc
        try:
            response = await self._exchange(request, limit)
        except BaseException:
            self._slots.give_back(origin)
            raise
        stream = response.stream
        assert isinstance(stream, AsyncIterable)  # noqa: S101 - the pool is the asynchronous one
        return httpx2.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_BoundedStream(stream, limit, url, closed=lambda: self._slots.give_back(origin)),
            extensions=response.extensions,
        )

    async def _exchange(self, request: httpx2.Request, limit: int) -> httpcore2.Response:
        """Send a request and return the answer once its head is acceptable."""
        url = request.url
        try:
            response = await self._pool.handle_async_request(self._core_request(request))
        except NetworkFault:
            raise
        except httpcore2.LocalProtocolError:
            # Its text quotes what could not be sent.
            raise NetworkFault(translate_fault(httpcore2.LocalProtocolError(), url)) from None
        except Exception as exc:  # boundary: whatever the HTTP stack raises becomes one typed fault
            raise NetworkFault(translate_fault(exc, url)) from exc
        try:
            _check_response(response, limit, url)
        except NetworkFault:
            await response.aclose()
            raise
        return response

    async def aclose(self) -> None:
        await self._pool.aclose()

    def _check_request(self, request: httpx2.Request) -> None:
        url = request.url
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
        if self._policy.proxy:
            self._check_literal(url)
        for name, value in request.headers.raw:
            if _HEADER_NAME.fullmatch(name) is None or _HEADER_VALUE.fullmatch(value) is None:
                raise ServerUnreachable(
                    sentence(
                        "A request to %(shown)s cannot be sent: a header contains characters HTTP does not allow.",
                        shown=shown_url(url),
                    ),
                    next_step=sentence("Ask an administrator to correct the server's headers, or connect again."),
                )

    def _check_literal(self, url: httpx2.URL) -> None:
        """Check an address that stands in the URL itself; names are for the egress proxy to resolve and to judge."""
        try:
            address = str(ipaddress.ip_address(url.host))
        except ValueError:
            return
        port = url.port or (443 if url.scheme == "https" else 80)
        private = self._policy.may_be_private(url.host, port)
        if blocked_kind(address, allow_loopback=self._policy.allow_loopback, allow_private=private):
            raise AddressBlocked(
                sentence("%(url)s is not contacted: it is not on the public internet.", url=shown_url(url))
            )

    def _core_request(self, request: httpx2.Request) -> httpcore2.Request:
        # An encoded body would have to be decoded before it can be counted; we ask for none and accept none.
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"accept-encoding"]
        headers.append((b"accept-encoding", b"identity"))
        timeouts = {
            "connect": self._policy.connect_seconds,
            "read": self._policy.request_seconds,
            "write": self._policy.request_seconds,
            "pool": self._policy.connect_seconds,
            **request.extensions.get("timeout", {}),
        }
        assert isinstance(request.stream, httpx2.AsyncByteStream)  # noqa: S101 - built by an asynchronous client
        return httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=headers,
            content=request.stream,
            extensions={**request.extensions, "timeout": timeouts},
        )


def _check_response(response: httpcore2.Response, limit: int, url: httpx2.URL) -> None:
    for name, value in response.headers:
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
