"""Looks back at calls and events of a workspace together: members at their own, administrators at everybody's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast, get_args

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from mcp_oauth.exceptions import CallInterrupted, InvalidRequest
from mcp_oauth.models import Event, McpServer, ToolCall
from mcp_oauth.services import call_records as records
from mcp_oauth.services.activity_periods import Period, since
from mcp_oauth.services.workspaces import Person, Place

Kind = Literal["calls", "access", "changes"]
Outcome = Literal["completed", "failed", "running", "waiting"]
# Who did it, as far as the reader may know: the application by itself, the reader, or somebody else.
By = Literal["application", "you", "other"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

# What became of grants; every other event is a change of a server, of people, or of their API tokens.
ACCESS: Final = (
    Event.Kind.CONNECTED,
    Event.Kind.CONNECTION_FAILED,
    Event.Kind.REFRESHED,
    Event.Kind.REFRESH_FAILED,
    Event.Kind.STEP_UP,
    Event.Kind.REAUTHORIZATION_NEEDED,
    Event.Kind.REVOKED,
    Event.Kind.DISCONNECTED,
)
_FAILED_KINDS: Final = (
    Event.Kind.CONNECTION_FAILED,
    Event.Kind.REFRESH_FAILED,
    Event.Kind.REAUTHORIZATION_NEEDED,
)
# Of a revocation, what is no failure: it was confirmed, or there was nobody to ask or nothing to ask for.
_REVOKED_WELL: Final = ("confirmed", "not_offered", "nothing_to_revoke")

_CALL: Final = "call"
# Of a call and an event of the same moment, the call is shown first.
_RANKS: Final[Mapping[str, int]] = {_CALL: 0, "event": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Rows of one query of an export: what a process keeps in memory of it.
_ROWS_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Wanted:
    """What somebody looks for; empty means everything. ``person_id`` is for administrators and ignored for others."""

    period: Period = "week"
    kind: Kind | Literal[""] = ""
    outcome: Outcome | Literal[""] = ""
    server_id: uuid.UUID | None = None
    person_id: Any = None


@dataclass(frozen=True)
class Happening:
    """One call or event, without anything that is sealed of it.

    ``kind`` is ``call`` or the event's kind, ``state`` how it ended, ``code`` one word of a program for why. ``person``
    is whose it is, empty for the workspace's own, and ``yours`` says that it is the reader's. ``actor`` is who did it,
    empty where the reader may not know the name. ``resumable``: it waits for the reader.
    """

    id: uuid.UUID
    at: datetime
    kind: str
    state: Outcome
    code: str
    server_id: uuid.UUID | None
    server: str
    person: str
    yours: bool
    by: By
    actor: str = ""
    tool: str = ""
    duration_ms: int | None = None
    ended_at: datetime | None = None
    asks: bool = False
    resumable: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_call(self) -> bool:
        """Whether it is a call and no event."""
        return self.kind == _CALL

    @property
    def place(self) -> tuple[timedelta, int, uuid.UUID]:
        """Return where it stands: the newest first, and always the same one of two of one moment."""
        return _EPOCH - self.at, _RANKS[_CALL if self.is_call else "event"], self.id


@dataclass(frozen=True)
class Page:
    """Some happenings, the newest first, and the cursor of the older ones; empty where there are none."""

    happenings: tuple[Happening, ...]
    cursor: str


def happenings(place: Place, user: Person, wanted: Wanted, *, limit: int, now: datetime, cursor: str = "") -> Page:
    """Return one page of what happened in a workspace and this person may know, in three queries.

    ``cursor`` is what the page before gave; what happens meanwhile moves nothing.

    Raises:
        InvalidRequest: the cursor is none of ours.
    """
    after = _read(cursor) if cursor else None
    servers = dict(McpServer.objects.filter(workspace=place.workspace).values_list("pk", "name"))
    found = [
        *_called(place, user, wanted, servers, limit + 1, now, after),
        *_recorded(place, user, wanted, limit + 1, now, after),
    ]
    found.sort(key=lambda happening: happening.place)
    page = found[:limit]
    return Page(tuple(page), _write(page[-1]) if len(found) > limit else "")


def walk(place: Place, user: Person, wanted: Wanted, *, most: int, now: datetime) -> Iterator[Happening]:
    """Yield what `happenings` has page by page, at most so many, never more than a few hundred in memory."""
    cursor = ""
    while most > 0:
        page = happenings(place, user, wanted, limit=min(_ROWS_AT_ONCE, most), now=now, cursor=cursor)
        yield from page.happenings
        most -= len(page.happenings)
        cursor = page.cursor
        if not cursor:
            return


def visible_calls(
    place: Place, user: Person, wanted: Wanted, servers: Mapping[uuid.UUID, str], now: datetime
) -> QuerySet[ToolCall]:
    """Return the calls at a workspace's servers that this person may know of and looks for, however they ended.

    The servers are given by name, because a list of keys lets the database choose its index by how many rows it knows
    of them.
    """
    keys = [key for key in servers if wanted.server_id in (None, key)]
    rows = ToolCall.objects.filter(server_id__in=keys).order_by()
    if not place.is_admin:
        rows = rows.filter(user_id=user.pk)
    elif wanted.person_id is not None:
        rows = rows.filter(user_id=wanted.person_id)
    begins = since(wanted.period, now)
    return rows if begins is None else rows.filter(started_at__gte=begins)


def _visible_events(place: Place, user: Person, wanted: Wanted, now: datetime) -> QuerySet[Event]:
    rows = Event.objects.filter(workspace_id=place.workspace.pk)
    if not place.is_admin:
        rows = rows.filter(user_id=user.pk)
    elif wanted.person_id is not None:
        rows = rows.filter(Q(user_id=wanted.person_id) | Q(actor_id=wanted.person_id))
    if wanted.server_id is not None:
        rows = rows.filter(server_id=wanted.server_id)
    begins = since(wanted.period, now)
    return rows if begins is None else rows.filter(at__gte=begins)


@dataclass(frozen=True)
class _Place:
    """Where a page ended."""

    at: datetime
    rank: int
    key: uuid.UUID

    def after(self, rank: int, moment: str) -> Q:
        """Return what comes after it among rows of one rank; the first part is what an index answers."""
        older = Q(**{f"{moment}__lt": self.at})
        if rank == self.rank:
            older |= Q(**{moment: self.at}, pk__gt=self.key)
        elif rank > self.rank:
            older |= Q(**{moment: self.at})
        return Q(**{f"{moment}__lte": self.at}) & older


def _called(
    place: Place,
    user: Person,
    wanted: Wanted,
    servers: Mapping[uuid.UUID, str],
    most: int,
    now: datetime,
    after: _Place | None,
) -> list[Happening]:
    if wanted.kind not in ("", "calls"):
        return []
    rows = visible_calls(place, user, wanted, servers, now)
    if wanted.outcome:
        rows = rows.filter(_CALLS_THAT[wanted.outcome](now))
    if after is not None:
        rows = rows.filter(after.after(_RANKS[_CALL], "started_at"))
    name = f"user__{get_user_model().USERNAME_FIELD}"
    # The columns by name: what is sealed of a call is not even asked for.
    columns = (
        *("pk", "server_id", "user_id", name, "tool", "state", "outcome", "started_at", "ended_at", "duration_ms"),
        *("deadline_at", "resumable_until", "held_by"),
    )
    found = rows.order_by("-started_at", "pk").values(*columns)[:most]
    return [_of_call(row, servers[row["server_id"]], str(row[name]), user, now) for row in found]


def _recorded(
    place: Place, user: Person, wanted: Wanted, most: int, now: datetime, after: _Place | None
) -> list[Happening]:
    if wanted.kind == "calls" or wanted.outcome in ("running", "waiting"):
        return []
    rows = _visible_events(place, user, wanted, now)
    if wanted.kind == "access":
        rows = rows.filter(kind__in=ACCESS)
    elif wanted.kind == "changes":
        rows = rows.exclude(kind__in=ACCESS)
    failed = Q(kind__in=_FAILED_KINDS) | Q(kind=Event.Kind.REVOKED) & ~Q(outcome__in=_REVOKED_WELL)
    if wanted.outcome:
        rows = rows.filter(failed if wanted.outcome == "failed" else ~failed)
    if after is not None:
        rows = rows.filter(after.after(_RANKS["event"], "at"))
    return [_of_event(event, place, user) for event in rows.order_by("-at", "pk")[:most]]


def _of_call(row: Mapping[str, Any], server: str, person: str, user: Person, now: datetime) -> Happening:
    state, code = _state_of_call(row, now)
    yours = row["user_id"] == user.pk
    return Happening(
        id=row["pk"],
        at=row["started_at"],
        kind=_CALL,
        state=state,
        code=code,
        server_id=row["server_id"],
        server=server,
        person=person,
        yours=yours,
        by="you" if yours else "other",
        actor=person,
        tool=row["tool"],
        duration_ms=row["duration_ms"],
        ended_at=row["ended_at"],
        asks=row["state"] == ToolCall.State.INPUT_REQUIRED,
        resumable=yours and state == "waiting",
    )


def _of_event(event: Event, place: Place, user: Person) -> Happening:
    by: By = "application" if event.actor_id is None else "you" if event.actor_id == user.pk else "other"
    failed = event.kind in _FAILED_KINDS or (event.kind == Event.Kind.REVOKED and event.outcome not in _REVOKED_WELL)
    return Happening(
        id=event.pk,
        at=event.at,
        kind=event.kind,
        state="failed" if failed else "completed",
        code=event.outcome,
        server_id=event.server_id,
        server=event.server_name,
        person=event.user_name,
        yours=event.user_id is not None and event.user_id == user.pk,
        by=by,
        # Who administers a workspace is its administrators' business where somebody is acted upon.
        actor=event.actor_name if place.is_admin or by == "you" else "",
        details=event.details if isinstance(event.details, dict) else {},
    )


def _state_of_call(row: Mapping[str, Any], now: datetime) -> tuple[Outcome, str]:
    """Return how a call stands and why; one whose time is over has failed, also before a sweep says so."""
    state, code = row["state"], row["outcome"]
    if state == ToolCall.State.RUNNING:
        return ("failed", CallInterrupted.code) if row["deadline_at"] < now else ("running", code)
    if state in records.WAITING:
        if row["resumable_until"] is None or row["resumable_until"] <= now:
            return "failed", records.EXPIRED
        if row["held_by"] and row["deadline_at"] < now:
            return "failed", CallInterrupted.code
        return "waiting", code
    return ("completed" if state == ToolCall.State.COMPLETED else "failed"), code


def _waits(now: datetime) -> Q:
    held = Q(held_by="") | Q(deadline_at__gte=now)
    return Q(state__in=records.WAITING, resumable_until__gt=now) & held


def _runs(now: datetime) -> Q:
    return Q(state=ToolCall.State.RUNNING, deadline_at__gte=now)


def _failed(now: datetime) -> Q:
    over = Q(state=ToolCall.State.RUNNING, deadline_at__lt=now)
    waited = Q(state__in=records.WAITING) & (
        Q(resumable_until__isnull=True) | Q(resumable_until__lte=now) | (~Q(held_by="") & Q(deadline_at__lt=now))
    )
    return Q(state=ToolCall.State.FAILED) | over | waited


# What `_state_of_call` says of one row, as conditions for many.
_CALLS_THAT: Final = {
    "completed": lambda _now: Q(state=ToolCall.State.COMPLETED),
    "failed": _failed,
    "running": _runs,
    "waiting": _waits,
}


def _write(happening: Happening) -> str:
    rank = _RANKS[_CALL if happening.is_call else "event"]
    return f"{(happening.at - _EPOCH) // timedelta(microseconds=1)}-{rank}-{happening.id.hex}"


def _read(cursor: str) -> _Place:
    moment, _dash, rest = cursor.partition("-")
    rank, _dash, key = rest.partition("-")
    try:
        if not (moment.isascii() and moment.isdigit() and rank in {"0", "1"}):
            raise ValueError(cursor)
        return _Place(_EPOCH + timedelta(microseconds=int(moment)), int(rank), uuid.UUID(hex=key))
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(_("This cursor is none that a page gave."), field="cursor") from error


def one_of(text: str, among: tuple[Any, ...]) -> Any:
    """Return the text if it is one of these, or an empty one."""
    return cast(Any, text if text in among else "")
