"""Servers that a file brings, as values: each with what it leaves open, filled with answers, carried along sealed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils.translation import gettext as _

from mcp_oauth.exceptions import InvalidRequest

# Where a text leaves something open.
PLACEHOLDER = re.compile(r"\$\{([^{}]{1,200})\}")
# A header that carries a credential by its name.
_CREDENTIAL = re.compile(r"authorization|key|token|secret|password", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Something the file leaves open: ``${input:…}``, ``${env:…}`` or ``${NAME}``.

    ``key`` is what stands between the braces, without a default. ``secret`` tells that it is not to be shown.
    """

    key: str
    label: str
    description: str = ""
    secret: bool = True
    default: str = field(default="", repr=False)
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportEntry:
    """One server of a file; ``problem`` says why it cannot be imported, empty where it can.

    ``url`` and the values of ``headers`` may contain placeholders, whose keys are ``placeholders``. ``notes`` say what
    was left out or is to be known.
    """

    name: str
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    enabled: bool = True
    problem: str = ""
    notes: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()

    @property
    def key_in_headers(self) -> bool:
        """Whether a header is meant to open the server."""
        return any(_CREDENTIAL.search(name) or PLACEHOLDER.search(value) for name, value in self.headers.items())

    def filled(self, answers: Mapping[str, str], placeholders: Mapping[str, Placeholder]) -> ImportEntry:
        """Return the entry with the answers in their places.

        Raises:
            InvalidRequest: one is missing; it is named.
        """

        def answer(match: re.Match[str]) -> str:
            key = match[1].partition(":-")[0].strip()
            known = placeholders.get(key)
            value = answers.get(key, "") or (known.default if known is not None else "")
            if not value:
                raise InvalidRequest(_("“%(name)s” is still missing.") % {"name": known.label if known else key})
            return value

        return replace(
            self,
            url=PLACEHOLDER.sub(answer, self.url),
            headers={name: PLACEHOLDER.sub(answer, value) for name, value in self.headers.items()},
            placeholders=(),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the entry as a JSON object, its headers included: for a sealed place only."""
        return {name: getattr(self, name) for name in self.__slots__} | {"headers": dict(self.headers)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImportEntry:
        """Read what ``to_json`` wrote."""
        return cls(**{**value, "notes": tuple(value["notes"]), "placeholders": tuple(value["placeholders"])})


@dataclass(frozen=True, slots=True)
class McpJson:
    """What a file holds, in its order."""

    entries: tuple[ImportEntry, ...]
    placeholders: Mapping[str, Placeholder] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON object, headers included: for a sealed place only."""
        return {
            "entries": [entry.to_json() for entry in self.entries],
            "placeholders": [{name: getattr(item, name) for name in item.__slots__} for item in self.asked_for()],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> McpJson:
        """Read what ``to_json`` wrote."""
        asked = [Placeholder(**{**item, "choices": tuple(item["choices"])}) for item in value["placeholders"]]
        entries = tuple(ImportEntry.from_json(item) for item in value["entries"])
        return cls(entries, {item.key: item for item in asked})

    def asked_for(self) -> list[Placeholder]:
        """Return what the importable entries leave open, each once."""
        return list(self.placeholders.values())
