"""What stands for a name where there is no picture: letters on a colour."""

from __future__ import annotations

import zlib


def hue_of(name: str) -> int:
    """Return which of twelve colours stands behind the letters; the same on every machine."""
    return zlib.crc32(name.encode()) % 12


def initials_of(name: str) -> str:
    """Return the letters that stand for a name: two where its script has capitals, one elsewhere, ``?`` for none."""
    words = [word for word in name.replace("_", " ").replace("-", " ").split() if word[0].isalnum()]
    if not words:
        return (name.strip()[:1] or "?").upper()[0]
    first = words[0][0].upper()[0]
    last = words[-1][0].upper()[0] if len(words) > 1 else ""
    # Letters of scripts without capitals change their shape, or their meaning, when they stand together.
    return first + last if first.isupper() and last.isupper() else first
