"""The list of servers: what it can be narrowed to, its order, and its groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from django.utils.translation import gettext as _

from mcp_oauth.views.cards import ServerCard, State
from mcp_oauth.views.standing import Group

Sort = Literal["name", "connected", "contact", "tools"]

STATES: Final[tuple[State, ...]] = get_args(State)
SORTS: Final[tuple[Sort, ...]] = get_args(Sort)

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class CardGroup:
    """Cards that ask the same of the person."""

    key: Group
    title: str
    cards: tuple[ServerCard, ...]


@dataclass(frozen=True)
class StateChoice:
    """One state the list can be narrowed to, and how many servers are in it."""

    key: str
    title: str
    count: int
    chosen: bool


def state_choices(cards: Iterable[ServerCard], chosen: str) -> list[StateChoice]:
    """Return what the list can be narrowed to; a state that no server is in is left out unless it is chosen."""
    listed = list(cards)
    titles: dict[State, str] = {
        "needs_you": _("Needs you"),
        "connected": _("Connected"),
        "available": _("Available"),
        "leaving": _("Being removed"),
        "unreachable": _("Unreachable"),
    }
    counted = {key: sum(key in card.states for card in listed) for key in STATES}
    everything = StateChoice("", _("All"), len(listed), chosen not in STATES)
    return [
        everything,
        *(
            StateChoice(key, titles[key], counted[key], key == chosen)
            for key in STATES
            if counted[key] or key == chosen
        ),
    ]


def in_order(cards: Iterable[ServerCard], sort: str) -> list[ServerCard]:
    """Return cards by name, by the newest connection or contact, or by how many tools there are."""
    by_name = sorted(cards, key=lambda card: (card.name.casefold(), str(card.id)))
    if sort == "connected":
        return sorted(by_name, key=lambda card: card.connected_at or _LONG_AGO, reverse=True)
    if sort == "contact":
        return sorted(by_name, key=lambda card: card.contacted_at or _LONG_AGO, reverse=True)
    if sort == "tools":
        return sorted(by_name, key=lambda card: card.tool_count or 0, reverse=True)
    return by_name


def grouped(cards: Iterable[ServerCard]) -> list[CardGroup]:
    """Group cards by what the person has to do, leaving out empty groups."""
    titles: dict[Group, str] = {
        "needs_you": _("Needs you"),
        "connected": _("Connected"),
        "available": _("Available"),
        "leaving": _("Being removed"),
    }
    by_group: dict[Group, list[ServerCard]] = {key: [] for key in titles}
    for card in cards:
        by_group[card.group].append(card)
    return [CardGroup(key, titles[key], tuple(members)) for key, members in by_group.items() if members]
