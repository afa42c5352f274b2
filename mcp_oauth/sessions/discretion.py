"""Keeping what the libraries log during our sessions free of message bodies, session ids and query strings."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import httpx2

from mcp_oauth.net.transport import shown_url

# Loggers whose records quote what a server sent. A filter does not reach child loggers, so each is named.
_TALKATIVE = ("client", "mcp.client.client", "mcp.client.streamable_http", "mcp.shared.jsonrpc_dispatcher")

# A server that sends nonsense a million times must not fill a disk with our lines about it.
_MOST_WARNINGS = 10


@dataclass(slots=True)
class _Session:
    warnings: int = 0


# The tasks of a session inherit the variable and share the object in it.
_session: ContextVar[_Session | None] = ContextVar("mcp_oauth_session", default=None)


@contextlib.contextmanager
def discreet_logging() -> Iterator[None]:
    """Filter the libraries' records within this context; other users of the same libraries are not affected."""
    token = _session.set(_Session())
    try:
        yield
    finally:
        _session.reset(token)


def _without_bodies(record: logging.LogRecord) -> bool:
    """Drop records below a warning; of the first others keep where they come from and the kind of exception.

    Their text and traceback quote whatever the server sent, which may be our own token.
    """
    session = _session.get()
    if session is None:
        return True
    if record.levelno < logging.WARNING or session.warnings >= _MOST_WARNINGS:
        return False
    session.warnings += 1
    kind = record.exc_info[0] if record.exc_info else None
    record.msg, record.args = "%s: %s", (record.funcName, kind.__name__ if kind else "see the error that follows")
    record.exc_info = record.exc_text = None
    return True


def _without_queries(record: logging.LogRecord) -> bool:
    """Shorten the URLs in httpx2's line per request: a query may hold a key."""
    if _session.get() is not None and isinstance(record.args, tuple):
        record.args = tuple(shown_url(value) if isinstance(value, httpx2.URL) else value for value in record.args)
    return True


for _name in _TALKATIVE:
    logging.getLogger(_name).addFilter(_without_bodies)
logging.getLogger("httpx2").addFilter(_without_queries)
