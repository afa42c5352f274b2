"""Runs an ASGI application on a loopback port until it is told to stop."""

from __future__ import annotations

import signal
import socket
import sys
from types import FrameType

import uvicorn
from starlette.types import ASGIApp


def listening_socket(port: int = 0, *, host: str = "127.0.0.1") -> socket.socket:
    """Return a bound, listening TCP socket; port 0 picks a free one.

    asyncio turns Nagle's algorithm off only for a socket whose ``proto`` says TCP; otherwise a small answer waits for
    the delayed acknowledgement, some 40 ms each time.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def base_url_of(listener: socket.socket) -> str:
    """Return the origin that a listening socket serves, without a trailing slash."""
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def configuration(app: ASGIApp, *, idle_seconds: int = 5) -> uvicorn.Config:
    """Return how every peer is served: HTTP/1.1, quiet, open streams cut off when it stops.

    A connection that is idle for ``idle_seconds`` is closed.
    """
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=idle_seconds,
    )


def leave_on_signals() -> None:
    """Let SIGTERM and SIGINT end the process with exit code 0, before, while and after it serves."""

    def leave(number: int, frame: FrameType | None) -> None:
        # While it serves, uvicorn takes the signals over and raises them again after a clean stop.
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def run_until_stopped(app: ASGIApp, listener: socket.socket) -> None:
    """Serve in the main thread until a signal says stop; that takes about a second at most."""
    uvicorn.Server(configuration(app)).run(sockets=[listener])
