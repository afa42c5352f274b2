"""Lists that come with the application as TOML files: read, and every entry checked in the same way."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeVar

from mcp_oauth.exceptions import ConfigurationError, McpOAuthError
from mcp_oauth.oauth.urls import check_server_address

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ShippedList:
    """What a list is called and what its entries look like.

    ``entry`` and ``entries`` are the words for one and for several. A member is text on one line unless it is
    ``structured``. ``choices`` holds what some of them may be, and ``addresses`` names those that are links.
    """

    file: str
    entry: str
    entries: str
    required: frozenset[str]
    optional: frozenset[str]
    choices: Mapping[str, Sequence[str]]
    addresses: frozenset[str]
    structured: frozenset[str] = frozenset()

    def text(self) -> str:
        """Return the file as it is."""
        return files("mcp_oauth").joinpath(self.file).read_text(encoding="utf-8")

    def parse(self, text: str, make: Callable[[str, dict[str, Any]], T]) -> dict[str, T]:
        """Return what ``make`` makes of each entry of a TOML document, by its short name and in order.

        Raises:
            ConfigurationError: naming the entry, for an unknown or missing key, or a value that cannot be used.
        """
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"The list of {self.entries} is not TOML: {error}.") from error
        return {key: make(key, self._checked(key, entry)) for key, entry in document.items()}

    def refusal(self, key: str, problem: str) -> ConfigurationError:
        """Return the error that says what is wrong with an entry."""
        return ConfigurationError(f"The {self.entry} {key!r} {problem}.")

    def _checked(self, key: str, entry: Any) -> dict[str, Any]:
        if not isinstance(entry, dict):
            raise self.refusal(key, "is not a table")
        if unknown := sorted(entry.keys() - self.required - self.optional):
            raise self.refusal(key, f"has the unknown key {unknown[0]!r}")
        if missing := sorted(self.required - entry.keys()):
            raise self.refusal(key, f"lacks the key {missing[0]!r}")
        for name in sorted(entry.keys() - self.structured):
            if not isinstance(entry[name], str) or not entry[name].strip() or not entry[name].isprintable():
                raise self.refusal(key, f"has a {name} that is not text on one line")
        for name, choices in self.choices.items():
            if entry[name] not in choices:
                raise self.refusal(key, f"has a {name} that is not one of {', '.join(choices)}")
        for name in sorted(entry.keys() & self.addresses):
            try:
                check_server_address(entry[name], allow_loopback=False)
            except McpOAuthError as error:
                raise self.refusal(key, f"has an unusable {name}") from error
        return entry
