"""The periods one can look back at, and the parts each is drawn in, as the reader's own clock has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final, Literal, get_args

from django.utils import timezone

from mcp_oauth.conf import settings

Period = Literal["day", "week", "month", "all"]
Step = Literal["hour", "day", "days"]

PERIODS: Final[tuple[Period, ...]] = get_args(Period)
_DAYS: Final = {"week": 7, "month": 30}
# As many parts as a small drawing can have that a person can still tell apart.
_MOST_PARTS: Final = 30


@dataclass(frozen=True)
class Parts:
    """When the parts of a period begin, the oldest first; each but the last ends where the next one begins."""

    step: Step
    starts: tuple[datetime, ...]


def since(period: Period, now: datetime) -> datetime | None:
    """Return when a period begins; ``None`` for all there is."""
    return None if period == "all" else parts_of(period, now).starts[0]


def parts_of(period: Period, now: datetime) -> Parts:
    """Return the parts a period is drawn in: hours of a day, days of a week or month, longer ones of all calls kept."""
    local = timezone.localtime(now)
    if period == "day":
        # Whole hours of the clock, told apart in UTC: the one that is repeated in autumn is there twice.
        last = local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
        return Parts("hour", tuple(last - timedelta(hours=hours) for hours in reversed(range(24))))
    days = _DAYS.get(period, max(settings.CALL_DAYS, 1))
    length = -(-days // _MOST_PARTS)
    number = -(-days // length)
    today = local.date()
    # Days and not spans of 24 hours: a day has 23 of them in spring.
    starts = (
        timezone.make_aware(datetime.combine(today - timedelta(days=length * (back + 1) - 1), time()))
        for back in reversed(range(number))
    )
    return Parts("day" if length == 1 else "days", tuple(starts))
