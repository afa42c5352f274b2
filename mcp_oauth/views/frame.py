"""The frame around every page: the way to the other pages, and what belongs to the person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy


@dataclass(frozen=True)
class Destination:
    """One page of a workspace that every other page leads to.

    ``icon`` is a symbol of ``icons.svg``. ``within`` are the names of the views that belong to it, so that the frame
    shows where one is.
    """

    view: str
    label: Promise
    icon: str
    within: frozenset[str] = frozenset()


# In the order they are shown. A page is added here and nowhere else.
DESTINATIONS: Final[tuple[Destination, ...]] = (
    Destination(
        "settings",
        gettext_lazy("Connections"),
        "connections",
        frozenset(
            {
                *("server", "waiting", "waiting_call", "edit", "delete", "diagnose"),
                *("add", "ask", "import_servers", "export_servers"),
            }
        ),
    ),
    Destination("tools", gettext_lazy("Tools"), "tools", frozenset({"run"})),
    Destination("activity", gettext_lazy("Activity"), "activity"),
    Destination("members", gettext_lazy("Members"), "members", frozenset({"member_role", "member_remove"})),
)
# What is the person's own, in the menu behind their name.
PERSONAL: Final[tuple[Destination, ...]] = (
    Destination("account", gettext_lazy("Your account"), "person", frozenset({"disconnect_everything"})),
    Destination("tokens", gettext_lazy("API tokens"), "key", frozenset({"api_docs"})),
)


@dataclass(frozen=True)
class Link:
    """A link of the frame; ``current`` is the value of ``aria-current``, empty where one is elsewhere."""

    label: str
    url: str
    icon: str
    current: str


def links(request: HttpRequest, destinations: tuple[Destination, ...], names: Mapping[str, str]) -> list[Link]:
    """Return the links of a frame; ``names`` is what their addresses need, for example the workspace's slug."""
    match = getattr(request, "resolver_match", None)
    here = match.url_name if match is not None else ""

    def current(to: Destination) -> str:
        return "page" if here == to.view else "true" if here in to.within else ""

    return [
        Link(str(to.label), reverse(f"mcp_oauth:{to.view}", kwargs=dict(names)), to.icon, current(to))
        for to in destinations
    ]
