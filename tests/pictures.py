"""Makes the picture of a page small: 256 colours, which is more than one sees in letters and lines."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = 256
# Of these, how many are kept because they are common.
_COMMONEST = 128


def with_few_colours(png: bytes) -> bytes:
    """Return a PNG of eight bits a channel without transparency as one with a palette (PNG, third edition, §11).

    Its commonest colours stay as they are, and of the others those that would be missed most; the rest become the
    nearest of them.
    """
    chunks = list(_chunks(png))
    width, height, _depth, kind = struct.unpack(">IIBB", chunks[0][1][:10])
    size = {2: 3, 6: 4}[kind]
    pixels = _unfiltered(
        zlib.decompress(b"".join(data for name, data in chunks if name == b"IDAT")), width * size, size
    )
    rows = [[row[at : at + 3] for at in range(0, width * size, size)] for row in pixels]
    palette, index = _palette(Counter(colour for row in rows for colour in row))
    image = b"".join(b"\0" + bytes([index[colour] for colour in row]) for row in rows)
    return _SIGNATURE + b"".join(
        _chunk(name, data)
        for name, data in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", b"".join(palette)),
            (b"IDAT", zlib.compress(image, 9)),
            (b"IEND", b""),
        )
    )


def _palette(counted: Counter[bytes]) -> tuple[list[bytes], dict[bytes, int]]:
    """Return the colours that are kept, and for every colour the number of the one it is shown as."""
    palette = [colour for colour, _ in counted.most_common(_COMMONEST)]
    shown = {colour: number for number, colour in enumerate(palette)}
    # Of each other colour: how far it is from the nearest that is kept, and which that is.
    others = {
        colour: min((_distance(kept, colour), number) for number, kept in enumerate(palette))
        for colour in counted.keys() - shown.keys()
    }
    while others and len(palette) < _COLOURS:
        missed = max(others, key=lambda colour: (others[colour][0] * counted[colour], colour))
        del others[missed]
        shown[missed] = number = len(palette)
        palette.append(missed)
        for colour, nearest in others.items():
            others[colour] = min(nearest, (_distance(missed, colour), number))
    return palette, shown | {colour: number for colour, (_, number) in others.items()}


def _distance(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += length + 12


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _unfiltered(data: bytes, stride: int, size: int) -> Iterator[bytes]:
    """Yield rows of pixels, without the filters that make them easier to compress (§9)."""
    before = bytearray(stride)
    for at in range(0, len(data), stride + 1):
        kind, row = data[at], bytearray(data[at + 1 : at + 1 + stride])
        if kind == 1:
            for x in range(size, stride):
                row[x] = (row[x] + row[x - size]) & 255
        elif kind == 2:
            row = bytearray((a + b) & 255 for a, b in zip(row, before, strict=True))
        elif kind == 3:
            for x in range(stride):
                row[x] = (row[x] + ((row[x - size] if x >= size else 0) + before[x]) // 2) & 255
        elif kind == 4:
            for x in range(stride):
                left, above, corner = (row[x - size], before[x], before[x - size]) if x >= size else (0, before[x], 0)
                row[x] = (row[x] + _paeth(left, above, corner)) & 255
        yield bytes(row)
        before = row


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))
