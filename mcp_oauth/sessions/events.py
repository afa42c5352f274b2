"""A stream of events, taken apart as it comes (HTML, "Server-sent events")."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# Longer numbers are larger than any time that is waited for.
_DIGITS: Final = 15


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``id`` is the last that its stream has named, ``retry`` a time in milliseconds where it names one."""

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None


class EventTooLarge(Exception):
    """An event is larger than what may be held of one."""


class EventParser:
    """Finds the events in the parts of a stream, each as soon as the empty line behind it is there.

    Other than in a browser, one without data counts as well where it names an id or a time: by those a stream is
    resumed (MCP 2025-11-25, transports). What the stream ends in the middle of is no event.
    """

    def __init__(self, most_bytes: int) -> None:
        """Begin a stream; ``most_bytes`` bounds what is held of an event."""
        self._most = most_bytes
        self._line = bytearray()
        self._is_first = True
        self._after_return = False
        self._size = 0
        self._event = ""
        self._data: list[bytes] = []
        self._id = ""
        self._retry: int | None = None
        self._is_any = False

    def feed(self, part: bytes) -> Iterator[Event]:
        """Yield the events that a part completes.

        Raises:
            EventTooLarge: One is.
        """
        if self._after_return and part.startswith(b"\n"):
            # The second half of a line's end.
            part, self._after_return = part[1:], False
        for piece in part.splitlines(keepends=True):
            end = piece[-1:]
            self._after_return = end == b"\r"
            if end not in (b"\n", b"\r"):
                self._line += piece
                self._hold(len(self._line))
                break
            line = piece.rstrip(b"\r\n")
            if self._line:
                line = bytes(self._line) + line
                self._line.clear()
            if self._is_first:
                self._is_first, line = False, line.removeprefix(codecs.BOM_UTF8)
            if line:
                self._take(line)
            else:
                if self._is_any:
                    yield Event(self._event or "message", _text(b"\n".join(self._data)), self._id, self._retry)
                self._event, self._data, self._retry, self._is_any, self._size = "", [], None, False, 0

    def _take(self, line: bytes) -> None:
        """Take a field of the event; a comment has no name, and other names mean nothing."""
        name, _, value = line.partition(b":")
        if not name:
            return
        self._hold(len(line))
        self._size += len(line)
        value = value.removeprefix(b" ")
        match name:
            case b"event":
                self._event = _text(value)
            case b"data":
                self._data.append(value)
            case b"id" if b"\0" not in value:
                self._id = _text(value)
            case b"retry" if value.isdigit():
                self._retry = int(value[:_DIGITS])
            case _:
                return
        self._is_any = True

    def _hold(self, size: int) -> None:
        if self._size + size > self._most:
            raise EventTooLarge


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
