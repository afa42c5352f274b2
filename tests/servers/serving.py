"""Serves an ASGI application on a free loopback port, in a thread, for as long as a ``with`` block lasts."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from project.peers.serving import base_url_of, configuration, listening_socket

START_SECONDS = 20.0
STOP_SECONDS = 10.0
LAST_TURNS = 5


class ThreadedServer(uvicorn.Server):
    """A uvicorn server that says when it is ready and stops at once, open streams included."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    async def main_loop(self) -> None:
        """Wait to be stopped, without the polling of the original."""
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        await self.on_tick(0)
        self.ready.set()
        if not self.should_exit:
            await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut everything off, without the tenth of a second that the original waits for farewells."""
        # No longer accepting comes before closing: asyncio drops a connection that it has accepted and not yet attached
        # to its server when that server closes in between, and nobody ever closes that socket.
        loop = asyncio.get_running_loop()
        for server in self.servers:
            for listener in server.sockets:
                loop.remove_reader(listener.fileno())
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # The loop closes an aborted socket in its next turn; one accepted at the last moment appears only then.
        for _turn in range(LAST_TURNS):
            for connection in list(self.server_state.connections):
                connection.shutdown()
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        await self.lifespan.shutdown()

    def stop(self) -> None:
        """Ask the server to end; safe from any thread."""
        self.should_exit = True
        if self._loop is not None and self._stopping is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)


@contextmanager
def serve_on(listener: socket.socket, app: ASGIApp, *, idle_seconds: int = 5) -> Iterator[str]:
    """Serve on a socket that already listens; yield the base URL without a trailing slash."""
    base_url = base_url_of(listener)
    server = ThreadedServer(configuration(app, idle_seconds=idle_seconds))
    failure: list[BaseException] = []

    def run() -> None:
        try:
            server.run(sockets=[listener])
        except BaseException as error:  # reported by the thread that waits
            failure.append(error)
        finally:
            server.ready.set()

    thread = threading.Thread(target=run, name=f"serve {base_url}", daemon=True)
    thread.start()
    try:
        if not server.ready.wait(START_SECONDS) or failure or not server.started:
            raise RuntimeError(f"The server on {base_url} did not start.") from (failure[0] if failure else None)
        yield base_url
    finally:
        server.stop()
        thread.join(STOP_SECONDS)
        listener.close()
        if thread.is_alive():
            raise RuntimeError(f"The server on {base_url} did not stop.")


@contextmanager
def serve(app: ASGIApp | None = None, *, factory: Callable[[str], ASGIApp] | None = None) -> Iterator[str]:
    """Serve an application, or what ``factory(base_url)`` returns; yield the base URL without a trailing slash."""
    listener = listening_socket()
    if factory is not None:
        app = factory(base_url_of(listener))
    if app is None:
        listener.close()
        raise TypeError("serve() needs an application or a factory.")
    with serve_on(listener, app) as base_url:
        yield base_url
