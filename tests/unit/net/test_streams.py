"""Byte streams against plain sockets: what is sent when, what is kept, how each ending looks to the HTTP library."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import httpcore2
import pytest

from mcp_oauth.net.streams import AsyncioBackend
from tests.unit.net.test_transport import certificate

T = TypeVar("T")

PATIENCE = 10.0
SOON = 0.05


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def address_of(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()
    return host, port


def accepted(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    connection.settimeout(PATIENCE)
    return connection


@asynccontextmanager
async def connected(listener: socket.socket) -> AsyncIterator[tuple[httpcore2.AsyncNetworkStream, socket.socket]]:
    """Connect to a listener; yields both ends."""
    stream = await AsyncioBackend().connect_tcp(*address_of(listener), timeout=PATIENCE)
    with accepted(listener) as peer:
        try:
            yield stream, peer
        finally:
            await stream.aclose()


def between(work: Callable[[httpcore2.AsyncNetworkStream, socket.socket], Awaitable[T]]) -> T:
    """Run a coroutine with the two ends of a new connection."""

    async def run() -> T:
        with listening() as listener:
            async with connected(listener) as (stream, peer):
                return await work(stream, peer)

    return asyncio.run(run())


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def test_head_and_body_of_a_request_arrive_together() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> tuple[bytes, bytes]:
        await stream.write(b"head ")
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(100)
        peer.settimeout(PATIENCE)
        await stream.write(b"body")
        reading = asyncio.create_task(stream.read(100, timeout=PATIENCE))
        seen = await asyncio.to_thread(peer.recv, 100)
        peer.sendall(b"answer")
        return seen, await reading

    assert between(work) == (b"head body", b"answer")


def test_a_body_larger_than_the_socket_takes_arrives_whole() -> None:
    body = bytes(range(256)) * 8192

    def receive(peer: socket.socket) -> bytes:
        received = b""
        while len(received) < len(body):
            received += peer.recv(65536)
        return received

    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> bytes:
        receiving = asyncio.create_task(asyncio.to_thread(receive, peer))
        await stream.write(body, timeout=PATIENCE)
        return await receiving

    assert between(work) == body


def test_a_peer_that_takes_nothing_is_given_up() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> None:
        await stream.write(b"0" * 16 * 1024 * 1024, timeout=SOON)

    with pytest.raises(httpcore2.WriteTimeout):
        between(work)


def test_what_arrives_is_read_in_order_and_in_the_pieces_that_are_asked_for() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> list[bytes]:
        peer.sendall(b"abcdef")
        peer.close()
        return [await stream.read(4, timeout=PATIENCE) for _ in range(3)]

    assert between(work) == [b"abcd", b"ef", b""]


def test_a_flood_that_nobody_reads_stays_with_the_peer() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> tuple[int, int]:
        flood = b"0" * 64 * 1024 * 1024
        peer.settimeout(1.0)

        def pour() -> int:
            sent = 0
            try:
                while sent < len(flood):
                    sent += peer.send(flood[sent : sent + 65536])
            except TimeoutError:
                pass  # nobody takes any more
            return sent

        sent = await asyncio.to_thread(pour)
        received = 0
        while received < sent:
            received += len(await stream.read(65536, timeout=PATIENCE))
        return sent, received

    sent, received = between(work)

    # What the kernel keeps on both sides is some megabytes.
    assert sent < 32 * 1024 * 1024
    assert received == sent


def test_a_silent_peer_is_a_read_timeout() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> None:
        await stream.read(100, timeout=SOON)

    with pytest.raises(httpcore2.ReadTimeout):
        between(work)


def test_a_read_that_was_given_up_leaves_the_stream_usable() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> bytes:
        with pytest.raises(httpcore2.ReadTimeout):
            await stream.read(100, timeout=SOON)
        peer.sendall(b"late")
        return await stream.read(100, timeout=PATIENCE)

    assert between(work) == b"late"


def test_a_reset_is_a_read_error_after_what_came_before_it() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> bytes:
        peer.sendall(b"half")
        first = await stream.read(100, timeout=PATIENCE)
        reset(peer)
        with pytest.raises(httpcore2.ReadError):
            await stream.read(100, timeout=PATIENCE)
        return first

    assert between(work) == b"half"


def test_a_request_to_a_peer_that_answered_early_and_left_still_finds_the_answer() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> bytes:
        peer.sendall(b"too large")
        peer.close()
        first = await stream.read(3, timeout=PATIENCE)
        await stream.write(b"the rest of the request")
        return first + await stream.read(100, timeout=PATIENCE)

    assert between(work) == b"too large"


def test_a_large_write_to_a_peer_that_left_is_a_write_error() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> None:
        peer.close()
        assert await stream.read(1, timeout=PATIENCE) == b""
        await stream.write(b"0" * 1024 * 1024, timeout=PATIENCE)

    with pytest.raises(httpcore2.WriteError):
        between(work)


def test_nobody_listening_is_a_connect_error() -> None:
    with listening() as listener:
        address = address_of(listener)

    with pytest.raises(httpcore2.ConnectError):
        asyncio.run(AsyncioBackend().connect_tcp(*address, timeout=PATIENCE))


def test_an_idle_connection_is_known_to_have_ended_before_the_loop_has_looked() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> tuple[bool, bool]:
        before = stream.get_extra_info("is_readable")
        # The loop gets no turn in between.
        peer.shutdown(socket.SHUT_WR)
        with socket.socket(fileno=socket.dup(stream.get_extra_info("socket").fileno())) as own:
            own.setblocking(True)
            assert own.recv(1, socket.MSG_PEEK) == b""
        return before, stream.get_extra_info("is_readable")

    assert between(work) == (False, True)


def test_closing_reaches_the_peer_at_once() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> bytes:
        await stream.aclose()
        return await asyncio.to_thread(peer.recv, 1)

    assert between(work) == b""


def test_closing_twice_and_after_the_peer_has_gone_is_nothing() -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> None:
        reset(peer)
        with pytest.raises(httpcore2.ReadError):
            await stream.read(1, timeout=PATIENCE)
        await stream.aclose()
        await stream.aclose()

    between(work)


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server that is peer.example, and of a client that trusts it."""
    path, serving = certificate(tmp_path, "peer.example")
    return serving, ssl.create_default_context(cafile=path)


def answering_under_tls(listener: socket.socket, context: ssl.SSLContext, *, plainly: bytes = b"") -> threading.Thread:
    """Echo what comes, under TLS; ``plainly`` is sent before."""

    def serve() -> None:
        with accepted(listener) as peer:
            peer.sendall(plainly)
            try:
                with context.wrap_socket(peer, server_side=True) as secured:
                    while data := secured.recv(100):
                        secured.sendall(data)
            except OSError:
                return  # the other side thought better of it

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


async def under_tls(listener: socket.socket, trusting: ssl.SSLContext, name: str, *, first: int = 0) -> bytes:
    stream = await AsyncioBackend().connect_tcp(*address_of(listener), timeout=PATIENCE)
    try:
        if first:
            await stream.read(first, timeout=PATIENCE)
        secured = await stream.start_tls(trusting, server_hostname=name, timeout=PATIENCE)
        await secured.write(b"hello")
        assert secured.get_extra_info("ssl_object") is not None
        return await secured.read(100, timeout=PATIENCE)
    finally:
        await stream.aclose()


def test_a_stream_goes_on_under_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    serving, trusting = tls
    with listening() as listener:
        thread = answering_under_tls(listener, serving)

        assert asyncio.run(under_tls(listener, trusting, "peer.example")) == b"hello"
        thread.join()


def test_a_server_that_proves_to_be_another_is_a_connect_error(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    serving, trusting = tls
    with listening() as listener:
        thread = answering_under_tls(listener, serving)

        with pytest.raises(httpcore2.ConnectError) as caught:
            asyncio.run(under_tls(listener, trusting, "other.example"))
        thread.join()
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_words_in_the_clear_do_not_slip_in_before_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    serving, trusting = tls
    with listening() as listener:
        thread = answering_under_tls(listener, serving, plainly=b"x: injected")

        with pytest.raises(httpcore2.ConnectError, match="before TLS"):
            asyncio.run(under_tls(listener, trusting, "peer.example", first=1))
        thread.join()


def test_a_handshake_that_hangs_is_a_connect_timeout(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async def work(stream: httpcore2.AsyncNetworkStream, peer: socket.socket) -> None:
        await stream.start_tls(tls[1], server_hostname="peer.example", timeout=SOON)

    with pytest.raises(httpcore2.ConnectTimeout):
        between(work)
