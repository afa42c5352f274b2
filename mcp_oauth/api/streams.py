"""A call whose answer is a stream of server-sent events: progress while it runs, then its result or its error."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import McpOAuthError, NotFound, TooManyRequests
from mcp_oauth.sessions.results import Progress

logger = logging.getLogger("mcp_oauth.api")

EVENT_STREAM = "text/event-stream"

# How long a reader who left waits for a call to be written down that has only just begun, before it gives it up.
_PATIENCE_SECONDS = 2.0
_LOOK_SECONDS = 0.05

# A comment (WHATWG HTML §9.2.5): it carries the headers to the reader at once, and says later that somebody is here.
_PING = b": ping\n\n"

# What the schema says of operations that answer so.
EVENTS: dict[str, Any] = {
    "responses": {
        200: {
            "content": {
                EVENT_STREAM: {
                    "schema": {
                        "type": "string",
                        "description": (
                            "Asked for with Accept: text/event-stream. Any number of events “progress” with the data "
                            "{progress, total, message}, then one “result” or “error” with the data that the answer "
                            "would be otherwise. Comments in between say that the connection is alive; closing it "
                            "gives the call up."
                        ),
                    }
                }
            }
        }
    }
}

Work = Callable[[Callable[[Progress], None]], dict[str, Any]]


def wants_events(request: HttpRequest) -> bool:
    """Whether the caller asks for a stream of events."""
    return EVENT_STREAM in request.headers.get("Accept", "")


def stream_of(request: HttpRequest, work: Work, give_up: Callable[[], object]) -> StreamingHttpResponse:
    """Answer with the events of work that goes on in a thread of its own.

    ``work`` takes what is to be called with progress, and returns the JSON that the answer without events would be.
    ``give_up`` ends it when the reader is gone; `NotFound` says that it has not begun yet.

    Raises:
        TooManyRequests: this process sends enough streams already.
    """
    running = _Running(work, give_up)
    # This thread waits for the network from now on, and needs no connection to the database meanwhile.
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
    reader = _AsyncReader(running) if isinstance(request, ASGIRequest) else _Reader(running)
    response = StreamingHttpResponse(reader, content_type=EVENT_STREAM)
    # nginx and its like would collect what is meant to arrive at once.
    response["X-Accel-Buffering"] = "no"
    return response


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


class _Count:
    """How many streams this process sends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0

    def one_more(self) -> None:
        with self._lock:
            if self._number >= settings.MAX_STREAMS:
                raise TooManyRequests(_("Too many answers are being streamed right now."), retry_after=5)
            self._number += 1

    def one_less(self) -> None:
        with self._lock:
            self._number -= 1


_streams = _Count()


class _Running:
    """Work in a thread, and the newest of what it told: progress that nobody took is replaced by the next."""

    def __init__(self, work: Work, give_up: Callable[[], object]) -> None:
        self._work = work
        self._give_up = give_up
        self._news = threading.Condition()
        self._progress: bytes | None = None
        self._last: bytes | None = None
        self.wake: Callable[[], object] = _nobody
        _streams.one_more()
        # What belongs to the request goes along: the person's language, and a trace.
        self._language = get_language()
        context = contextvars.copy_context()
        try:
            # A process that ends does not wait for it: the call's own deadline says what became of it.
            threading.Thread(target=context.run, args=(self._run,), name="mcp-oauth-stream", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            _streams.one_less()
            raise

    @property
    def has_ended(self) -> bool:
        return self._last is not None

    def take(self, *, wait: float = 0.0) -> tuple[bytes | None, bool]:
        """Return the next event, or ``None`` where none came within so many seconds; and whether it is the last."""
        with self._news:
            self._news.wait_for(lambda: self._progress is not None or self._last is not None, wait)
            if self._progress is not None:
                event, self._progress = self._progress, None
                return event, False
            return self._last, self._last is not None

    def leave(self) -> None:
        """Give the work up if it still goes on: nobody reads any more."""
        ends = time.monotonic() + _PATIENCE_SECONDS
        while not self.has_ended:
            try:
                self._give_up()
            except NotFound:
                if time.monotonic() > ends:
                    return
                with self._news:
                    self._news.wait_for(lambda: self._last is not None, _LOOK_SECONDS)
            else:
                return

    @sensitive_variables()
    def _run(self) -> None:
        try:
            with override(self._language):
                last = self._outcome()
        finally:
            connections.close_all()
            _streams.one_less()
        self._put(last=last)

    def _outcome(self) -> bytes:
        try:
            return _event("result", self._work(self._tell))
        except McpOAuthError as error:
            return _event("error", {"error": error.as_json()})
        except Exception:  # whatever it is, the reader learns that it is over
            logger.exception("a streamed call failed")
            return _event("error", {"error": {"code": McpOAuthError.code, "message": _("Something went wrong here.")}})

    def _tell(self, progress: Progress) -> None:
        told = {"progress": progress.progress, "total": progress.total, "message": progress.message}
        self._put(progress=_event("progress", told))

    def _put(self, *, progress: bytes | None = None, last: bytes | None = None) -> None:
        with self._news:
            self._progress = progress or self._progress
            self._last = last
            self._news.notify_all()
        self.wake()


def _nobody() -> None:
    """Wake nobody."""


class _Reader(Iterator[bytes]):
    """The events for a server that gives each answer a thread."""

    def __init__(self, running: _Running) -> None:
        self._running = running
        self._began = False
        self._over = False

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        if not self._began:
            self._began = True
            return _PING
        event, self._over = self._running.take(wait=settings.STREAM_PING_SECONDS)
        return event or _PING

    def close(self) -> None:
        """Give the call up unless it has ended; the server calls this when the connection is gone, too."""
        self._running.leave()


class _AsyncReader(AsyncIterator[bytes]):
    """The events for a server that gives each answer a task."""

    def __init__(self, running: _Running) -> None:
        self._running = running
        self._news: asyncio.Event | None = None
        self._over = False

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        if self._news is None:
            self._news = asyncio.Event()
            loop, news = asyncio.get_running_loop(), self._news
            self._running.wake = lambda: _wake(loop, news)
            return _PING
        self._news.clear()
        event, self._over = self._running.take()
        if event is None:
            try:
                await asyncio.wait_for(self._news.wait(), settings.STREAM_PING_SECONDS)
            except TimeoutError:
                return _PING
            event, self._over = self._running.take()
        return event or _PING

    def close(self) -> None:
        """Give the call up unless it has ended."""
        self._running.leave()


def _wake(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    try:
        loop.call_soon_threadsafe(news.set)
    except RuntimeError:  # the loop is closed: its reader is gone with it
        return
