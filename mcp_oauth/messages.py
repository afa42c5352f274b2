"""HTTP messages as plain values, shared by the protocol code and the guarded transport."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request to send. ``headers`` and ``body`` may hold secrets and stay out of ``repr``.

    ``is_enough`` is shown the events of a stream as they come, whole ones only, and says when the rest need not be
    read; it is called on the event loop. Any other answer is read whole.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    is_enough: Callable[[bytes], bool] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One complete answer. ``body`` is bounded by whoever received it and stays out of ``repr``."""

    url: str
    status: int
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """Return the first value of a header, compared without case, or ``None``."""
        return next(iter(self.header_values(name)), None)

    def header_values(self, name: str) -> tuple[str, ...]:
        """Return every value of a header, in the order they arrived."""
        wanted = name.lower()
        return tuple(value for key, value in self.headers if key.lower() == wanted)
