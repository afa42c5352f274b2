"""MCP servers that people often add: the gallery's data, read from one file and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, Literal, cast, get_args

from django.utils.translation import gettext as _

from mcp_oauth.exceptions import ConfigurationError, McpOAuthError
from mcp_oauth.oauth.urls import check_server_address
from mcp_oauth.services.providers import Provider, providers

SignIn = Literal["oauth", "key", "open"]
Category = Literal[
    "planning", "documents", "code", "data", "customers", "payments", "design", "automation", "reference"
]

_REQUIRED: Final = frozenset({"name", "url", "documentation", "sign_in", "category", "summary"})
_OPTIONAL: Final = frozenset({"provider", "notes"})
# A gallery entry is a name and a line below it.
_LONGEST_SUMMARY: Final = 90


@dataclass(frozen=True, slots=True)
class KnownServer:
    """One entry of ``mcp_oauth/known_servers.toml``.

    ``provider`` is the entry of ``providers.toml`` that says how to become a client there, ``None`` where none is
    needed; ``notes`` is empty where nothing is peculiar.
    """

    key: str
    name: str
    url: str
    documentation: str
    sign_in: SignIn
    category: Category
    summary: str
    notes: str = ""
    provider: Provider | None = None

    def options(self) -> dict[str, Any]:
        """Return the OAuth options the server needs, as a JSON object."""
        return self.provider.options_for(self.url) if self.provider is not None else {}

    def matches(self, query: str) -> bool:
        """Tell whether every word of a search stands in the name, the address, the summary or the category."""
        text = f"{self.name} {self.url} {self.summary} {_(self.summary)} {category_titles()[self.category]}".casefold()
        return all(word in text for word in query.casefold().split())


@dataclass(frozen=True, slots=True)
class Shelf:
    """The servers of one category."""

    category: Category
    title: str
    servers: tuple[KnownServer, ...] = field(default=())


def category_titles() -> dict[Category, str]:
    """Return what the categories are called, in the gallery's order."""
    return {
        "planning": _("Planning"),
        "documents": _("Documents and messages"),
        "code": _("Code and operations"),
        "data": _("Data and analytics"),
        "customers": _("Customers"),
        "payments": _("Payments"),
        "design": _("Design and websites"),
        "automation": _("Automation"),
        "reference": _("Reference and search"),
    }


@cache
def known_servers() -> Mapping[str, KnownServer]:
    """Return every known server by its short name, in the order of the file."""
    text = files("mcp_oauth").joinpath("known_servers.toml").read_text(encoding="utf-8")
    return MappingProxyType(parse_known_servers(text))


def known_server_at(url: str) -> KnownServer | None:
    """Return the known server with exactly this address; a slash at the end makes no difference."""
    return next((known for known in known_servers().values() if known.url.rstrip("/") == url.rstrip("/")), None)


def shelves(query: str = "") -> list[Shelf]:
    """Return the known servers that match a search, by category and without empty ones."""
    found = [known for known in known_servers().values() if known.matches(query)]
    all_shelves = (
        Shelf(category, title, tuple(known for known in found if known.category == category))
        for category, title in category_titles().items()
    )
    return [shelf for shelf in all_shelves if shelf.servers]


def parse_known_servers(text: str) -> dict[str, KnownServer]:
    """Return the servers that a TOML document describes.

    Raises:
        ConfigurationError: naming the entry, for an unknown or missing key, or a value that cannot be used.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"The list of known servers is not TOML: {error}.") from error
    known = {key: _known_server(key, entry) for key, entry in document.items()}
    seen: dict[str, str] = {}
    for key, server in known.items():
        other = seen.setdefault(server.url.rstrip("/"), key)
        if other != key:
            raise ConfigurationError(f"The known server {key!r} has the address of {other!r}.")
    return known


def _known_server(key: str, entry: Any) -> KnownServer:
    def refuse(problem: str) -> ConfigurationError:
        return ConfigurationError(f"The known server {key!r} {problem}.")

    if not isinstance(entry, dict):
        raise refuse("is not a table")
    if unknown := sorted(entry.keys() - _REQUIRED - _OPTIONAL):
        raise refuse(f"has the unknown key {unknown[0]!r}")
    if missing := sorted(_REQUIRED - entry.keys()):
        raise refuse(f"lacks the key {missing[0]!r}")
    for name in sorted(entry):
        if not isinstance(entry[name], str) or not entry[name].strip() or not entry[name].isprintable():
            raise refuse(f"has a {name} that is not text on one line")
    for name, choices in (("sign_in", get_args(SignIn)), ("category", get_args(Category))):
        if entry[name] not in choices:
            raise refuse(f"has a {name} that is not one of {', '.join(choices)}")
    if len(entry["summary"]) > _LONGEST_SUMMARY:
        raise refuse(f"has a summary of more than {_LONGEST_SUMMARY} characters")
    for name in ("url", "documentation"):
        try:
            check_server_address(entry[name], allow_loopback=False)
        except McpOAuthError as error:
            raise refuse(f"has an unusable {name}") from error
    provider = providers().get(entry["provider"]) if "provider" in entry else None
    if "provider" in entry and provider is None:
        raise refuse(f"names the provider {entry['provider']!r}, which is not on record")
    if provider is not None and provider.server_url.rstrip("/") != entry["url"].rstrip("/"):
        raise refuse("has another address than its provider")
    return KnownServer(
        key=key,
        name=entry["name"],
        url=entry["url"],
        documentation=entry["documentation"],
        sign_in=cast(SignIn, entry["sign_in"]),
        category=cast(Category, entry["category"]),
        summary=entry["summary"],
        notes=entry.get("notes", ""),
        provider=provider,
    )
