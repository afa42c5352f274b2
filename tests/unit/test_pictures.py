"""Pictures for the documentation get small without being changed in what one sees."""

from __future__ import annotations

import struct
import zlib

import pytest

from tests.pictures import with_few_colours


def png(rows: list[list[tuple[int, int, int]]], kind: int) -> bytes:
    """Return a picture whose rows are all filtered in one way (PNG, third edition, §9.2)."""
    plain = [[value for pixel in row for value in pixel] for row in rows]
    width, data, before = len(plain[0]), b"", [0] * len(plain[0])
    for row in plain:
        left, corner = [0, 0, 0, *row[:-3]], [0, 0, 0, *before[:-3]]
        predicted = {
            0: [0] * width,
            1: left,
            2: before,
            3: [(a + b) // 2 for a, b in zip(left, before, strict=True)],
            4: [paeth(*near) for near in zip(left, before, corner, strict=True)],
        }[kind]
        data += bytes([kind, *((value - guess) & 255 for value, guess in zip(row, predicted, strict=True))])
        before = row
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    written = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    distances = [(abs(guess - value), order, value) for order, value in enumerate((left, above, corner))]
    return min(distances)[2]


def seen(picture: bytes) -> list[list[tuple[int, int, int]]]:
    """Return the pixels of a picture with a palette."""
    width, height = struct.unpack(">II", picture[16:24])
    at = picture.index(b"PLTE")
    (length,) = struct.unpack(">I", picture[at - 4 : at])
    palette = picture[at + 4 : at + 4 + length]
    at = picture.index(b"IDAT")
    (length,) = struct.unpack(">I", picture[at - 4 : at])
    data = zlib.decompress(picture[at + 4 : at + 4 + length])
    rows = [data[row * (width + 1) + 1 : (row + 1) * (width + 1)] for row in range(height)]
    return [[tuple(palette[3 * index : 3 * index + 3]) for index in row] for row in rows]  # type: ignore[misc]


@pytest.mark.parametrize("kind", range(5))
def test_a_picture_of_few_colours_stays_as_it_is(kind: int) -> None:
    rows = [[((x * 37) % 256, (y * 91) % 256, (x * y) % 7) for x in range(9)] for y in range(7)]

    assert seen(with_few_colours(png(rows, kind))) == rows


def test_a_rare_colour_becomes_the_nearest_common_one() -> None:
    rows = [[(x, 0, 0) for x in range(256)], [(x, 0, 0) for x in range(256)]]
    rows[1][255] = (254, 3, 0)  # so that 255 red and this one are the rarest

    shown = seen(with_few_colours(png(rows, 0)))

    assert shown[0][:255] == rows[0][:255]
    assert {shown[0][255], shown[1][255]} <= {(255, 0, 0), (254, 0, 0), (254, 3, 0)}
