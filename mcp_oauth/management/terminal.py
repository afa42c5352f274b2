"""Writing for a terminal: as wide as it is, in colour where it can be, and safe from what strangers' texts do to it."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

# Where nobody says how wide it is: a file, a pipe, a log.
USUAL_WIDTH: Final = 100
# Narrower ones get lines of this width, which they break themselves.
NARROWEST: Final = 40

_ERASE_LINE: Final = "\r\x1b[K"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table; ``style`` is the name of one of Django's styles, empty for none."""

    text: str
    style: str = ""


def width_of(stream: TextIO) -> int | None:
    """Return how many cells a line of a terminal has, ``None`` where it is none."""
    if not stream.isatty():
        return None
    return max(NARROWEST, shutil.get_terminal_size((USUAL_WIDTH, 24)).columns)


def takes_colour(stream: TextIO) -> bool:
    """Tell whether a stream may be coloured: a terminal that understands it, and nobody minds (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def cells(text: str) -> int:
    """Return how many cells a text takes: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(char) for char in text)


def _cells_of(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def harmless(text: str) -> str:
    """Return a text of several lines without what would move the cursor, set colours or turn the text around.

    Line ends and the indentation that tabs make are kept.
    """
    return "\n".join(
        "".join(char if char.isprintable() else " " for char in line.expandtabs(4)) for line in text.splitlines()
    )


def fitted(text: str, width: int | None) -> str:
    """Return a text cut to a number of cells, with a sign that something is missing; ``None`` cuts nothing."""
    if width is None or cells(text) <= width:
        return text
    kept, used = "", 0
    for char in text:
        used += _cells_of(char)
        if used > width - 1:
            break
        kept += char
    return f"{kept.rstrip()}…"


def padded(text: str, width: int) -> str:
    """Return a text filled up with blanks to a number of cells."""
    return text + " " * (width - cells(text))


def wrapped(text: str, width: int, *, first: str = "", rest: str | None = None) -> list[str]:
    """Return a text in lines of at most ``width`` cells, begun with ``first`` and then ``rest`` (blanks, if not given).

    A word that is longer than a line, such as an address, stays whole: it is there to be copied.
    """
    rest = " " * cells(first) if rest is None else rest
    lines, line, empty = [], first, True
    for word in text.split():
        if not empty and cells(line) + 1 + cells(word) > width:
            lines.append(line)
            line, empty = rest, True
        line += word if empty else f" {word}"
        empty = False
    return [*lines, line.rstrip() if empty else line]


def columns(rows: Sequence[Sequence[Cell]], width: int | None) -> list[list[Cell]]:
    """Return a table's cells padded so that its columns stand below each other, two blanks apart.

    Where they do not fit into ``width`` the last column is cut, and the first if it alone takes more than half.
    """
    count = max((len(row) for row in rows), default=0)
    widths = [max(cells(row[index].text) for row in rows) for index in range(count)]
    if width is not None and count > 1:
        widths[0] = min(widths[0], width // 2)
        widths[-1] = max(8, width - sum(widths[:-1]) - 2 * (count - 1))
    return [
        [
            Cell(
                fitted(cell.text, None if width is None else widths[index])
                if index == count - 1
                else padded(fitted(cell.text, None if width is None else widths[index]), widths[index] + 2),
                cell.style,
            )
            for index, cell in enumerate(row)
        ]
        for row in rows
    ]


class Status:
    """One line on standard error that says what is going on, and goes away again; nothing where nobody sees it."""

    def __init__(self, stream: TextIO, write: Callable[[str], None]) -> None:
        self._width = width_of(stream) if os.environ.get("TERM") != "dumb" else None
        self._write = write
        self._said = False

    def say(self, text: str) -> None:
        """Put a text into the line's place."""
        if self._width is not None:
            self._write(f"{_ERASE_LINE}{fitted(harmless(text), self._width - 1)}")
            self._said = True

    def clear(self) -> None:
        """Take the line away."""
        if self._said:
            self._write(_ERASE_LINE)
            self._said = False


def joined(blocks: Iterable[Sequence[str]]) -> str:
    """Return blocks of lines with an empty line between them."""
    return "\n\n".join("\n".join(block) for block in blocks)
