"""The tools of the team board; one board for everybody who has the key, kept in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import MCPServer
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

Service = Literal["api", "web", "worker"]
State = Literal["available", "focused", "in a meeting", "away"]

# Errors per thousand requests, and requests per minute in thousands; the days differ by a fixed pattern.
BASELINE: dict[Service, tuple[float, float]] = {"api": (1.4, 42.0), "web": (0.6, 18.5), "worker": (3.1, 7.2)}


class Status(BaseModel):
    """What one person is doing."""

    person: str
    state: State
    note: str
    since: str = Field(description="ISO 8601, UTC.")


class Board(BaseModel):
    """Everybody on the board."""

    people: list[Status]


class Day(BaseModel):
    """One day of one service."""

    date: str
    requests_per_minute: int
    errors_per_thousand: float


class Metrics(BaseModel):
    """The days of one service, oldest first."""

    service: Service
    days: list[Day]
    worst_day: str


def add_board_tools(server: MCPServer[Any]) -> None:
    """Give a server the team board's tools."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    people = {
        "Ada": Status(person="Ada", state="focused", note="Release notes for 2.4", since=started),
        "Grace": Status(person="Grace", state="available", note="", since=started),
        "Linus": Status(person="Linus", state="away", note="Back on Monday", since=started),
    }

    @server.tool(title="Service metrics", annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    def get_metrics(
        service: Annotated[Service, Field(description="Which service to look at.")],
        days: Annotated[int, Field(ge=1, le=30, description="How many days back, today included.")] = 7,
    ) -> Metrics:
        """Return traffic and error rate of a service, day by day."""
        errors, traffic = BASELINE[service]
        today = datetime.now(UTC).date()
        rows = []
        for back in range(days - 1, -1, -1):
            date = today - timedelta(days=back)
            swing = ((date.toordinal() * 37) % 21 - 10) / 100
            rows.append(
                Day(
                    date=date.isoformat(),
                    requests_per_minute=round(traffic * 1000 * (1 + swing)),
                    errors_per_thousand=round(errors * (1 - swing), 2),
                )
            )
        worst = max(rows, key=lambda row: row.errors_per_thousand)
        return Metrics(service=service, days=rows, worst_day=worst.date)

    @server.tool(title="Team board", annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    def team_status() -> Board:
        """Return what everybody on the team is doing."""
        return Board(people=list(people.values()))

    @server.tool(
        title="Set a status",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
    )
    def set_status(
        person: Annotated[str, Field(min_length=1, max_length=60, description="Whose status it is.")],
        state: Annotated[State, Field(description="What the person is doing.")],
        note: Annotated[str, Field(max_length=200, description="A few words more; may be empty.")] = "",
    ) -> Board:
        """Say what a person is doing and return the whole board."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        people[person] = Status(person=person, state=state, note=note, since=since)
        return Board(people=list(people.values()))
