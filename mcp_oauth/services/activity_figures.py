"""Counts a workspace's calls by server and part of a period, and finds how long they take; in the database."""

from __future__ import annotations

import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Case, Count, F, IntegerField, Q, QuerySet, Value, When, Window
from django.db.models.functions import RowNumber

from mcp_oauth.models import McpServer, ToolCall
from mcp_oauth.services.activity import Wanted, visible_calls
from mcp_oauth.services.activity_periods import Parts, parts_of
from mcp_oauth.services.workspaces import Person, Place

# Drawings on one page. Those of the busiest servers are shown; who wants another one's narrows the list to it.
MOST_SERVERS: Final = 8

_ENDED: Final = (ToolCall.State.COMPLETED, ToolCall.State.FAILED)


@dataclass(frozen=True)
class ServerFigures:
    """One server's calls: how many completed and failed in each part, and the median of those that completed."""

    server_id: uuid.UUID
    name: str
    completed: tuple[int, ...]
    failed: tuple[int, ...]
    median_ms: int | None

    @property
    def total(self) -> int:
        """Return how many calls have ended."""
        return sum(self.completed) + sum(self.failed)


@dataclass(frozen=True)
class Figures:
    """The busiest servers of a workspace, the parts they are counted by, and how many servers more had calls."""

    parts: Parts
    servers: tuple[ServerFigures, ...]
    left_out: int


def figures(place: Place, user: Person, wanted: Wanted, *, now: datetime) -> Figures:
    """Return the figures of the calls that somebody may know of and looks for, in three queries.

    How a call ended is what is counted, so of what is looked for the outcome is left aside.
    """
    parts = parts_of(wanted.period, now)
    if wanted.kind not in ("", "calls"):
        return Figures(parts, (), 0)
    names = dict(McpServer.objects.filter(workspace=place.workspace).values_list("pk", "name"))
    rows = visible_calls(place, user, wanted, names, now).filter(started_at__gte=parts.starts[0], state__in=_ENDED)
    counted = _counted(rows, parts)
    busiest = sorted(counted, key=lambda key: (-_total(counted[key]), names[key].casefold(), key))
    shown = busiest[:MOST_SERVERS]
    medians = _medians(rows.filter(server_id__in=shown)) if shown else {}
    return Figures(
        parts,
        tuple(
            ServerFigures(
                key,
                names[key],
                tuple(counted[key][ToolCall.State.COMPLETED]),
                tuple(counted[key][ToolCall.State.FAILED]),
                medians.get(key),
            )
            for key in shown
        ),
        len(busiest) - len(shown),
    )


def _counted(rows: QuerySet[ToolCall], parts: Parts) -> dict[uuid.UUID, dict[str, list[int]]]:
    # Told apart by when each part begins and not by a function of the database: these cut days in their own way on
    # every database, and one part may be several days.
    newest_first = reversed(list(enumerate(parts.starts)))
    part = Case(
        *(When(started_at__gte=begins, then=Value(number)) for number, begins in newest_first),
        output_field=IntegerField(),
    )
    counted: dict[uuid.UUID, dict[str, list[int]]] = defaultdict(
        lambda: {state: [0] * len(parts.starts) for state in _ENDED}
    )
    grouped = rows.values("server_id", "state", part=part).annotate(number=Count("pk"))
    for server_id, state, number, count in grouped.values_list("server_id", "state", "part", "number"):
        counted[server_id][state][number] = count
    return dict(counted)


def _medians(rows: QuerySet[ToolCall]) -> dict[uuid.UUID, int]:
    """Return the lower median of each server's completed calls, in milliseconds."""
    timed = rows.filter(state=ToolCall.State.COMPLETED, duration_ms__isnull=False)
    placed = timed.annotate(
        place=Window(RowNumber(), partition_by="server_id", order_by=["duration_ms", "pk"]),
        number=Window(Count("pk"), partition_by="server_id"),
    )
    middle = placed.filter(Q(number=F("place") * 2) | Q(number=F("place") * 2 - 1))
    return {key: duration for key, duration in middle.values_list("server_id", "duration_ms") if duration is not None}


def _total(states: dict[str, list[int]]) -> int:
    return sum(sum(numbers) for numbers in states.values())
