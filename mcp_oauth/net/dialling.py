"""Whom a connection may be opened to, and which of those that are kept may serve once more."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import select
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial
from typing import Any, Final, cast

import aiohttp
import httpx2
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from mcp_oauth.exceptions import AddressBlocked, DeadlineExceeded, ServerUnreachable
from mcp_oauth.net.addresses import blocked_kind
from mcp_oauth.net.faults import NetworkFault
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.sentences import sentence

logger = logging.getLogger(__name__)

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Turns a host name and port into IP addresses as text, in the order of preference."""

# A host with a thousand addresses must not be able to make us dial them all.
_MAX_ADDRESSES: Final = 8
# After how long without an answer the next address is tried beside the one before (RFC 8305 §5).
_NEXT_ADDRESS_SECONDS: Final = 0.25
# Shorter than the five seconds after which many servers close an idle connection: a request that crosses their
# goodbye fails, and a tool call may not be sent again.
_KEEPALIVE_SECONDS: Final = 4.0
# Interim answers before the one that counts (RFC 9110 §15.2); nothing we send calls for any.
_MOST_INTERIM: Final = 8
# What is parsed at once until the head of an answer is complete.
_HEAD_PART_BYTES: Final = 16 * 1024


class AddressRule:
    """Which addresses a policy lets be dialled."""

    def __init__(self, policy: NetworkPolicy) -> None:
        self._policy = policy

    def check(self, host: str, port: int, address: str) -> None:
        """Refuse an address that a host leads to.

        Raises:
            NetworkFault: with ``AddressBlocked``.
        """
        kind = blocked_kind(
            address,
            allow_loopback=self._policy.allow_loopback,
            allow_private=self._policy.may_be_private(host, port),
        )
        if kind:
            self._refuse(host, port, address, kind)

    def check_literal(self, host: str, port: int) -> None:
        """Refuse an address that stands in a URL itself, where no name is looked up.

        Raises:
            NetworkFault: with ``AddressBlocked``.
        """
        try:
            address = str(ipaddress.ip_address(host))
        except ValueError:
            if host.replace(".", "").isdigit():
                # A lookup makes addresses of such numbers (127.1, 2130706433); nobody writes one in good faith.
                self._refuse(host, port, host, "a number")
            return
        self.check(host, port, address)

    def _refuse(self, host: str, port: int, address: str, kind: str) -> None:
        # Where a name leads to in our network is for the operator's log, not for whoever entered it.
        logger.warning("%s:%d leads to %s (%s) and is not contacted", host, port, address, kind)
        raise NetworkFault(
            AddressBlocked(
                sentence("%(host)s:%(port)s is not contacted: it is not on the public internet.", host=host, port=port)
            )
        )


class GuardedConnector(aiohttp.TCPConnector):
    """Opens connections to checked addresses alone, and keeps them for a while.

    What is dialled is what was checked, so that a second lookup cannot change it (DNS rebinding).
    """

    def __init__(self, policy: NetworkPolicy, resolve: Resolver | None = None) -> None:
        super().__init__(
            resolver=_GuardedResolver(policy, resolve or system_addresses),
            # Each connection is to where its name leads now.
            use_dns_cache=False,
            ssl=_tls_context(),
            limit=policy.max_connections,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
            # The order is ours.
            interleave=_MAX_ADDRESSES,
        )
        # Made for every connection; the library has no other place for a protocol of one's own.
        self._factory = cast(Any, partial(_Answers, loop=asyncio.get_running_loop()))

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        """Lend a connection, a kept one only if its server has been silent since.

        Whatever has arrived meanwhile would be read as the answer to the next request, which is somebody else's; or it
        is a goodbye, and a tool call that crosses that is lost.
        """
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol, transport = connection.protocol, connection.transport
            kept = isinstance(protocol, _Answers) and protocol.has_answered
            if not kept or (transport is not None and not _has_unseen(transport)):
                return connection
            connection.close()


class _Answers(ResponseHandler):
    """What arrives on one connection: one answer to each request, after a few interim ones at most.

    The library reads as many as there are, for as long as they come.
    """

    has_answered = False
    _interim = 0

    def set_response_params(self, **options: Any) -> None:
        """Expect the answer to another request."""
        self.has_answered, self._interim = False, 0
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        """Read in parts until the answer has begun: what follows one that is too many is not parsed any more."""
        while data and not self.has_answered and self.transport is not None:
            super().data_received(data[:_HEAD_PART_BYTES])
            data = data[_HEAD_PART_BYTES:]
            if not data:
                return
        if self.transport is not None:
            super().data_received(data)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take an answer whose head is complete; end the connection at what nobody waits for."""
        final = not 100 <= data[0].code < 200 or data[0].code == 101
        self._interim += not final
        if self.has_answered or self._interim > _MOST_INTERIM:
            self.set_exception(aiohttp.ServerDisconnectedError())
            self.abort()
            return
        self.has_answered = final
        super().feed_data(data, size)


def _has_unseen(transport: asyncio.Transport) -> bool:
    """Whether something has arrived that the loop has not seen yet."""
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return True
    if not hasattr(select, "poll"):
        return False
    watch = select.poll()
    watch.register(descriptor, select.POLLIN)
    return bool(watch.poll(0))


class _GuardedResolver(AbstractResolver):
    """Looks names up and lets through what may be dialled; an address written out is checked before."""

    def __init__(self, policy: NetworkPolicy, resolve: Resolver) -> None:
        self._seconds = policy.connect_seconds
        self._rule = AddressRule(policy)
        self._lookup = resolve
        # The operator's own, wherever it stands.
        self._proxy = _host_and_port(policy.proxy) if policy.proxy else None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if self._proxy == (host, port):
            addresses = await self._addresses(system_addresses, host, port)
        else:
            addresses = await self._addresses(self._lookup, host, port)
            for address in addresses:
                self._rule.check(host, port, address)
        # A host that announces IPv6 without routing it is far more common than the reverse.
        addresses.sort(key=lambda address: ":" in address)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses[:_MAX_ADDRESSES]
        ]

    async def _addresses(self, lookup: Resolver, host: str, port: int) -> list[str]:
        unknown = ServerUnreachable(sentence("The name %(host)r does not resolve to an address.", host=host))
        try:
            async with asyncio.timeout(self._seconds):
                found = await lookup(host, port)
        except TimeoutError as exc:
            raise NetworkFault(
                DeadlineExceeded(sentence("The name %(host)r was not resolved in time.", host=host))
            ) from exc
        except (OSError, UnicodeError) as exc:
            raise NetworkFault(unknown) from exc
        if not found:
            raise NetworkFault(unknown)
        return list(dict.fromkeys(found))

    async def close(self) -> None:
        """Nothing is held."""


async def system_addresses(host: str, port: int) -> Sequence[str]:
    """Resolve with the system's resolver (getaddrinfo), off the event loop."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(entry[4][0]) for entry in found]


@cache
def _tls_context() -> ssl.SSLContext:
    # Building one costs 20 ms; connections share it safely.
    context = httpx2.create_ssl_context(trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _host_and_port(proxy: str) -> tuple[str, int]:
    url = httpx2.URL(proxy)
    return url.host, url.port or (443 if url.scheme == "https" else 80)
