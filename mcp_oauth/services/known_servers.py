"""MCP servers that people often add: the gallery's data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal, cast, get_args

from django.utils.translation import gettext as _

from mcp_oauth.services.providers import Provider, providers
from mcp_oauth.services.shipped_lists import ShippedList

SignIn = Literal["oauth", "key", "open"]
Category = Literal[
    "planning", "documents", "code", "data", "customers", "payments", "design", "automation", "reference"
]

_LIST: Final = ShippedList(
    file="known_servers.toml",
    entry="known server",
    entries="known servers",
    required=frozenset({"name", "url", "documentation", "sign_in", "category", "summary"}),
    optional=frozenset({"provider", "notes"}),
    choices={"sign_in": get_args(SignIn), "category": get_args(Category)},
    addresses=frozenset({"url", "documentation"}),
)
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
    return MappingProxyType(parse_known_servers(_LIST.text()))


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
    known = _LIST.parse(text, _known_server)
    seen: dict[str, str] = {}
    for key, server in known.items():
        other = seen.setdefault(server.url.rstrip("/"), key)
        if other != key:
            raise _LIST.refusal(key, f"has the address of {other!r}")
    return known


def _known_server(key: str, entry: dict[str, Any]) -> KnownServer:
    if len(entry["summary"]) > _LONGEST_SUMMARY:
        raise _LIST.refusal(key, f"has a summary of more than {_LONGEST_SUMMARY} characters")
    provider = providers().get(entry["provider"]) if "provider" in entry else None
    if "provider" in entry and provider is None:
        raise _LIST.refusal(key, f"names the provider {entry['provider']!r}, which is not on record")
    if provider is not None and provider.server_url.rstrip("/") != entry["url"].rstrip("/"):
        raise _LIST.refusal(key, "has another address than its provider")
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
