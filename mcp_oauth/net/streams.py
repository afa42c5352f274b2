"""TCP and TLS for the HTTP library, straight on asyncio's transports.

The library's own way goes through a layer that serves several event loops, which takes as long as the rest of a small
exchange on this side, and sends the head and the body of a request apart, so that a server is woken twice.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Iterable
from typing import Any, Final, cast

import httpcore2

# What is kept for a reader who takes its time; a flood waits in the kernel, and then at its source.
_MOST_UNREAD: Final = 128 * 1024
# Less than this waits for what follows it; a request's head and its body mostly fit together.
_LEAST_SENT: Final = 64 * 1024


class AsyncioBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections on the running event loop."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to a host.

        Raises:
            httpcore2.ConnectTimeout, httpcore2.ConnectError: nothing came of it.
        """
        local = None if local_address is None else (local_address, 0)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                transport, connection = await loop.create_connection(_Connection, host, port, local_addr=local)
        except TimeoutError as exc:
            raise httpcore2.ConnectTimeout(str(exc)) from exc
        except OSError as exc:
            raise httpcore2.ConnectError(str(exc)) from exc
        for option in socket_options or ():
            transport.get_extra_info("socket").setsockopt(*option)
        return _Stream(connection)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Refuse: nothing here talks to one.

        Raises:
            httpcore2.ConnectError: always.
        """
        raise httpcore2.ConnectError("Unix sockets are not contacted.")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class _Connection(asyncio.Protocol):
    """What asyncio tells of one connection, kept until it is asked for; one reader and one writer at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.received = bytearray()
        self.ended = False
        self.fault: Exception | None = None
        self.lost = False
        self._paused = False
        self._full = False
        self._waiting: asyncio.Future[None] | None = None
        self._watch: select.poll | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) >= _MOST_UNREAD and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended, self.lost, self.fault = True, True, exc
        self._full = False
        self._wake()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()

    async def something_received(self) -> None:
        """Wait until there is something to read, or there will never be."""
        while not self.received and not self.ended:
            await self._woken()

    async def sent(self) -> None:
        """Wait until the transport wants to be given more."""
        while self._full:
            await self._woken()

    def take(self, most: int) -> bytes:
        """Return what was received, at most so many bytes of it."""
        taken = bytes(self.received[:most])
        del self.received[:most]
        if self._paused and not self.received and not self.ended:
            self._paused = False
            self.transport.resume_reading()
        return taken

    def has_unseen(self) -> bool:
        """Whether something has arrived that the loop has not seen yet.

        Asked of a connection that idles, where it can only be the other side's goodbye: a tool call that crosses that
        is lost. Every request asks it of all that idle, so what asks the kernel is made once; the descriptor stays this
        connection's until `connection_lost`.
        """
        if self._watch is None:
            descriptor = self.transport.get_extra_info("socket").fileno()
            if descriptor < 0:
                return True
            if not hasattr(select, "poll"):
                return False
            self._watch = select.poll()
            self._watch.register(descriptor, select.POLLIN)
        return bool(self._watch.poll(0))

    async def _woken(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class _Stream(httpcore2.AsyncNetworkStream):
    """One connection as the HTTP library reads and writes it."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._unsent = bytearray()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what comes next; nothing where the other side has ended it. What was written is sent first.

        Raises:
            httpcore2.ReadTimeout, httpcore2.ReadError: nothing will come, or too late.
        """
        connection = self._connection
        self._send()
        if not connection.received and not connection.ended:
            try:
                async with asyncio.timeout(timeout):
                    await connection.something_received()
            except TimeoutError as exc:
                raise httpcore2.ReadTimeout(str(exc)) from exc
        if not connection.received and connection.fault is not None:
            raise httpcore2.ReadError(str(connection.fault)) from connection.fault
        return connection.take(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send bytes, at the latest before the next reading.

        Raises:
            httpcore2.WriteTimeout, httpcore2.WriteError: the other side does not take them.
        """
        self._unsent += buffer
        if len(self._unsent) < _LEAST_SENT:
            return
        if self._connection.ended:
            raise httpcore2.WriteError("The connection has ended.")
        self._send()
        try:
            async with asyncio.timeout(timeout):
                await self._connection.sent()
        except TimeoutError as exc:
            raise httpcore2.WriteTimeout(str(exc)) from exc

    def _send(self) -> None:
        # A server that ended it early may have said why; whoever reads next will see.
        if self._unsent and not self._connection.ended:
            self._connection.transport.write(bytes(self._unsent))
        self._unsent.clear()

    async def aclose(self) -> None:
        """End the connection at once, whatever the other side makes of it."""
        if self._connection.lost:
            return
        self._connection.transport.abort()
        # The loop closes the socket in its next turn; there may be no other.
        await asyncio.sleep(0)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Go on under TLS, with a server that proves to be this host.

        Raises:
            httpcore2.ConnectTimeout, httpcore2.ConnectError: it does not.
        """
        connection = self._connection
        self._send()
        try:
            if connection.received:
                # Sent in the clear, and would be read as though it had come under TLS.
                raise httpcore2.ConnectError("Something came before TLS began.")
            async with asyncio.timeout(timeout):
                transport = await asyncio.get_running_loop().start_tls(
                    connection.transport, connection, ssl_context, server_hostname=server_hostname
                )
            if transport is None:
                raise httpcore2.ConnectError("The connection ended before TLS began.")
        except BaseException as exc:
            connection.transport.abort()
            if isinstance(exc, TimeoutError):
                raise httpcore2.ConnectTimeout(str(exc)) from exc
            if isinstance(exc, OSError):
                raise httpcore2.ConnectError(str(exc)) from exc
            raise
        connection.transport = transport
        return self

    def get_extra_info(self, info: str) -> Any:
        """Return what the HTTP library asks for by its own names, ``None`` for what there is not."""
        transport = self._connection.transport
        if info == "is_readable":
            return bool(self._connection.received) or self._connection.ended or self._connection.has_unseen()
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return transport.get_extra_info(names.get(info, info))
