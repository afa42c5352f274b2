"""An egress proxy on loopback: tunnels CONNECT, whatever the name, to one peer, and remembers what was asked for."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """What a running proxy was asked for: each request's first line and its headers, names in lower case."""

    port: int
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextlib.contextmanager
def running_proxy(to_port: int, *, status: int = 200, plainly: bytes = b"") -> Iterator[Proxy]:
    """Run a proxy that lets everything through to a port of this machine, or answers with another status.

    It says ``plainly`` before what comes from there.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(listener.getsockname()[1])
    open_sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def serve(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            part = connection.recv(4096)
            if not part:
                return
            head += part
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        pairs = (line.split(":", 1) for line in lines)
        proxy.asked.append((first, {name.lower(): value.strip() for name, value in pairs}))
        if status != 200:
            connection.sendall(f"HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n".encode())
            return
        onward = socket.create_connection(("127.0.0.1", to_port))
        open_sockets.append(onward)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n" + plainly)
        back = threading.Thread(target=pump, args=(onward, connection), daemon=True)
        threads.append(back)
        back.start()
        pump(connection, onward)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_sockets.append(connection)
                thread = threading.Thread(target=serve, args=(connection,), daemon=True)
                threads.append(thread)
                thread.start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield proxy
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)
        for one in open_sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in threads:
            thread.join(5)
