"""Draws counts as bars, what failed on top; in whole numbers below 1000, which are written alike in every language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# In units of the drawing, which is stretched to its place: a bar and the gap beside it, and the height of all.
_STEP: Final = 12
_BAR: Final = 10
HEIGHT: Final = 48
# What is there is seen, however little it is beside the largest.
_LEAST: Final = 2


@dataclass(frozen=True)
class Bar:
    """One part: where it stands, and from the top down where its two pieces begin and how high they are."""

    x: int
    width: int
    failed_y: int
    failed_height: int
    completed_y: int
    completed_height: int
    title: str


@dataclass(frozen=True)
class Bars:
    """A whole drawing; parts in which nothing was counted have no bar."""

    width: int
    height: int
    bars: tuple[Bar, ...]


def bars_of(completed: Sequence[int], failed: Sequence[int], titles: Sequence[str]) -> Bars:
    """Return the drawing of as many parts as there are titles; the highest bar is as high as the drawing."""
    most = max((good + bad for good, bad in zip(completed, failed, strict=True)), default=0)
    bars = []
    for number, (good, bad, title) in enumerate(zip(completed, failed, titles, strict=True)):
        if not good + bad:
            continue
        high = min(_height(bad, most), HEIGHT - (_LEAST if good else 0))
        low = min(_height(good, most), HEIGHT - high)
        bars.append(Bar(number * _STEP, _BAR, HEIGHT - low - high, high, HEIGHT - low, low, title))
    return Bars(max(len(titles) * _STEP - (_STEP - _BAR), _BAR), HEIGHT, tuple(bars))


def _height(count: int, most: int) -> int:
    return max(round(count * HEIGHT / most), _LEAST) if count else 0
