"""A peer on loopback that misbehaves byte by byte, and remembers who came."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import EllipsisType


@dataclass(frozen=True)
class Received:
    """One request as it arrived; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Reply = bytes | Iterable[bytes | EllipsisType | None]
"""A whole answer, or the pieces of one after which the connection ends; ``None`` among them resets it at once, and
``...`` ends the answer alone, so that the connection serves the next request."""

Answer = Callable[[Received], Reply]


@dataclass
class Peer:
    """What a running peer saw; ``closing`` is set when it shuts down, so that answers can wait on it."""

    port: int
    scheme: str = "http"
    connections: int = 0
    requests: list[Received] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"


def http_answer(
    status: int = 200,
    body: bytes = b"{}",
    *,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> bytes:
    """Return a whole HTTP answer of known length."""
    lines = [f"HTTP/1.1 {status} Anything", f"content-length: {len(body)}"]
    if content_type:
        lines.append(f"content-type: {content_type}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def drip(peer: Peer, start: bytes, drop: bytes, *, every: float = 0.05) -> Iterator[bytes]:
    """Send a beginning, then one small piece after another until the other side has had enough."""
    yield start
    while not peer.closing.wait(every):
        yield drop


@contextlib.contextmanager
def running_peer(
    answer: Answer, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Peer]:
    """Run a peer for a while; an answer that is empty or that is an iterable ends the connection."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(50)
    peer = Peer(port=listener.getsockname()[1], scheme="https" if tls else "http")
    open_sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            stream = tls.wrap_socket(connection, server_side=True) if tls else connection
            with stream:
                _converse(peer, stream, answer)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            peer.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            open_sockets.append(connection)
            thread = threading.Thread(target=serve, args=(connection,), daemon=True)
            threads.append(thread)
            thread.start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield peer
    finally:
        peer.closing.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)
        for connection in open_sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in threads:
            thread.join(5)


def _converse(peer: Peer, stream: socket.socket, answer: Answer) -> None:
    with stream.makefile("rb") as reader:
        while True:
            start = reader.readline().decode("latin-1").split(" ")
            if len(start) < 3:
                return
            headers: dict[str, str] = {}
            while line := reader.readline().decode("latin-1").strip():
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            body = reader.read(int(headers.get("content-length", "0")))
            received = Received(start[0], start[1], headers, body)
            peer.requests.append(received)
            reply = answer(received)
            if isinstance(reply, bytes):
                if not reply:
                    return
                stream.sendall(reply)
                continue
            for piece in reply:
                if piece is ...:
                    break
                if piece is None:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                stream.sendall(piece)
            else:
                return
