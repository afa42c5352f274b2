"""The tools of the world clock."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ZoneName = Annotated[str, Field(max_length=64, description='An IANA name such as "Europe/Paris", or "UTC".')]


class Moment(BaseModel):
    """One moment in one place."""

    timezone: str
    time: str = Field(description="ISO 8601 with offset.")
    weekday: str


class Converted(BaseModel):
    """The same moment in two places."""

    source: Moment
    target: Moment
    hours_apart: float


class Countdown(BaseModel):
    """Days between today and a date; negative for the past."""

    today: str
    date: str
    days: int


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ToolError(f"There is no time zone {name!r}.") from error


def _moment(time: datetime, name: str) -> Moment:
    return Moment(timezone=name, time=time.isoformat(timespec="seconds"), weekday=f"{time:%A}")


def add_clock_tools(server: MCPServer[Any]) -> None:
    """Give a server the world clock's tools."""

    @server.tool(title="What time is it?", annotations=READS)
    def now(timezone: ZoneName = "UTC") -> Moment:
        """Return the current time in a time zone."""
        return _moment(datetime.now(_zone(timezone)), timezone)

    @server.tool(title="Convert a time", annotations=READS)
    def convert_time(
        time: Annotated[str, Field(description='A local date and time, such as "2026-08-01T09:30".')],
        source: ZoneName,
        target: ZoneName,
    ) -> Converted:
        """Say what a local time in one time zone is in another."""
        try:
            local = datetime.fromisoformat(time).replace(tzinfo=_zone(source))
        except ValueError as error:
            raise ToolError(f"{time!r} is not a date and time.") from error
        there = local.astimezone(_zone(target))
        apart = (there.utcoffset() or local - local) - (local.utcoffset() or local - local)
        return Converted(
            source=_moment(local, source), target=_moment(there, target), hours_apart=apart.total_seconds() / 3600
        )

    @server.tool(title="Days until a date", annotations=READS)
    def days_until(
        day: Annotated[str, Field(description='A date such as "2026-12-24".')], timezone: ZoneName = "UTC"
    ) -> Countdown:
        """Count the days from today, in a time zone, to a date."""
        try:
            wanted = date.fromisoformat(day)
        except ValueError as error:
            raise ToolError(f"{day!r} is not a date.") from error
        today = datetime.now(_zone(timezone)).date()
        return Countdown(today=today.isoformat(), date=wanted.isoformat(), days=(wanted - today).days)
