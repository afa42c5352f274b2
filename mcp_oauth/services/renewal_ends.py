"""Wakes those who wait, in this process, for a renewal that ends in it; for one of another process they look again."""

from __future__ import annotations

import os
import threading


class _Ends:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.count = 0


_ends = _Ends()


def _start_anew() -> None:
    # A fork may have happened while a thread that is not there any more held the lock.
    global _ends
    _ends = _Ends()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def so_far() -> int:
    """Return how many renewals have ended; asked before the row is read, so that none is missed in between."""
    return _ends.count


def tell() -> None:
    """Say that a renewal has ended, whatever came of it."""
    with _ends.changed:
        _ends.count += 1
        _ends.changed.notify_all()


def wait(known: int, *, seconds: float) -> None:
    """Wait until more have ended than were ``known``, at most so many seconds."""
    ends = _ends
    with ends.changed:
        ends.changed.wait_for(lambda: ends.count != known, seconds)
