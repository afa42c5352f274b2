"""The rows of calls: opened, ended, left waiting, claimed, given up, erased, forgotten; each by one UPDATE."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db import DatabaseError, IntegrityError, connections, router, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import CallCancelled, CallInterrupted, NotFound
from mcp_oauth.fields import seal_for_update
from mcp_oauth.models import McpServer, ToolCall
from mcp_oauth.models.prepared import PreparedInsert, PreparedUpdate
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.services.workspaces import Person
from mcp_oauth.sessions.results import Progress

logger = logging.getLogger(__name__)

State = ToolCall.State
WAITING = (State.AUTHORIZATION_REQUIRED, State.INPUT_REQUIRED)

# Outcomes of failed calls that are no error's code: the tool said so itself; nobody came in time; others took its
# place; an administrator changed the server.
TOOL_ERROR = "tool_error"
EXPIRED = "expired"
REPLACED = "replaced"
SERVER_CHANGED = "server_changed"

# What an ended call no longer needs.
_NOTHING_SEALED: dict[str, Any] = {"arguments": None, "pending": None, "answers": None, "result": None}

# Every call that needs nobody costs these two and no more.
_BEGIN = PreparedInsert(ToolCall, "id", "server", "user", "server_generation", "tool", "started_at", "deadline_at")
_ENDS = ("state", "outcome", "ended_at", "duration_ms")
_FIRST: int = ToolCall._meta.get_field("attempt").get_default()
_END = PreparedUpdate(ToolCall, where=("id", "state", "attempt"), columns=_ENDS)


@dataclass
class Attempt:
    """One go of a call by one process: only who holds the newest one may write how it ends."""

    key: uuid.UUID
    tool: str
    number: int
    # Whether somebody may ask for the result in another request.
    keeps_result: bool
    # Most calls end without anybody looking at their row as an object.
    _row: Callable[[], ToolCall]
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, call: ToolCall, number: int) -> Attempt:
        """Return an attempt of a call that was there before."""
        return cls(call.pk, call.tool, number, True, lambda: call)

    @cached_property
    def call(self) -> ToolCall:
        """Return the row as this attempt found it."""
        return self._row()

    @property
    def rows(self) -> QuerySet[ToolCall]:
        """Return the row, as long as this attempt is the one that runs."""
        return ToolCall.objects.filter(pk=self.key, state=State.RUNNING, attempt=self.number).order_by()

    @property
    def duration_ms(self) -> int:
        """Return how long it has taken."""
        return round((time.monotonic() - self.began) * 1000)


def open_call(
    server: McpServer, user: Person, tool: str, *, call_id: uuid.UUID | None, seconds: float
) -> Attempt | None:
    """Write down that a call begins and has so many seconds; ``None`` where a call of that id exists already.

    Raises:
        NotFound: the server or the person is being deleted.
    """
    now = timezone.now()
    begun: dict[str, Any] = {
        "id": call_id or uuid.uuid4(),
        "server_generation": server.generation,
        "tool": tool,
        "started_at": now,
        "deadline_at": now + timedelta(seconds=seconds),
    }
    alias = router.db_for_write(ToolCall)
    # A caller's transaction has to outlive the refusal of a second row.
    own = transaction.atomic(using=alias) if call_id and connections[alias].in_atomic_block else nullcontext()
    try:
        with own:
            _BEGIN.run(server=server.pk, user=user.pk, **begun)
    except IntegrityError as error:
        if call_id is not None and ToolCall.objects.filter(pk=call_id).exists():
            return None
        raise NotFound(_("There is no server of that name for you.")) from error
    return Attempt(
        begun["id"],
        tool,
        _FIRST,
        keeps_result=call_id is not None,
        _row=lambda: ToolCall(server_id=server.pk, user_id=user.pk, **begun),
    )


def find(user: Person, reference: ToolCall | uuid.UUID | str) -> ToolCall:
    """Return a person's own call as it is now, with its server.

    Raises:
        NotFound: there is none; whether somebody else has one of that id is not said.
    """
    try:
        key = reference.pk if isinstance(reference, ToolCall) else uuid.UUID(str(reference))
    except ValueError:
        call = None
    else:
        rows = ToolCall.objects.select_related("server__workspace").order_by()
        call = rows.filter(pk=key, user_id=user.pk).first()
    if call is None:
        raise NotFound(_("There is no call of that id for you."))
    return settled(call)


def settled(call: ToolCall) -> ToolCall:
    """Return a call as ended whose time is over, in the row as well: nobody takes a dead call for a living one."""
    now = timezone.now()
    over = call.deadline_at < now or (call.erase_at is not None and call.erase_at <= now)
    for rows, outcome in _overdue(now) if over else ():
        if rows.filter(pk=call.pk).update(**_ended(outcome, now)):
            call.refresh_from_db()
            break
    return call


def complete(
    attempt: Attempt, result: Mapping[str, Any], *, is_error: bool = False, progress: Progress | None = None
) -> None:
    """Write down that a call brought a result (JSON, MCP `CallToolResult`); keep it where it is asked for later."""
    values: dict[str, Any] = {"state": State.COMPLETED, "outcome": ""}
    if is_error:
        values = {"state": State.FAILED, "outcome": TOOL_ERROR}
    if attempt.keeps_result:
        values |= _NOTHING_SEALED | _kept(attempt, result)
    _end(attempt, values, progress)


def fail(
    attempt: Attempt, outcome: str, *, error: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> None:
    """Write down that a call failed; ``error`` (JSON) is kept, sealed, for whoever waits in another process."""
    values: dict[str, Any] = {"state": State.FAILED, "outcome": outcome[:60]}
    if attempt.keeps_result:
        values |= _NOTHING_SEALED | (
            _kept(attempt, {"error": dict(error)}) if error is not None else {"erase_at": None}
        )
    _end(attempt, values, progress)


def let_wait(
    attempt: Attempt,
    state: ToolCall.State,
    outcome: str,
    *,
    until: datetime,
    arguments: Mapping[str, Any] | None = None,
    pending: Mapping[str, Any] | None = None,
    answers: Mapping[str, Any] | None = None,
    held_by: str = "",
) -> None:
    """Let a call wait for its person until a time, with what it needs to go on.

    One that a process holds waits as long as this process gives signs of life (`stay_alive`). The oldest calls that
    wait at the same server give way to what is too many.

    Raises:
        CallCancelled: it was given up while it ran; this ends it.
    """
    call = attempt.call
    values: dict[str, Any] = {
        "state": state,
        "outcome": outcome[:60],
        "duration_ms": attempt.duration_ms,
        "resumable_until": until,
        "erase_at": until,
        "held_by": held_by,
        "arguments": seal_for_update(call, "arguments", arguments),
        "pending": seal_for_update(call, "pending", pending),
        "answers": seal_for_update(call, "answers", answers),
        "result": None,
    }
    if held_by:
        values["deadline_at"] = timezone.now() + timedelta(seconds=settings.HELD_LEASE_SECONDS)
    if not attempt.rows.filter(cancel_requested_at__isnull=True).update(**values):
        error = cancelled()
        fail(attempt, error.code, error=error.as_json())
        raise error
    # Only what waits has something to erase, which is few among all the calls of a person.
    waiting = ToolCall.objects.filter(
        server_id=call.server_id, user_id=call.user_id, state__in=WAITING, erase_at__isnull=False
    )
    newest_first = waiting.order_by("-started_at", "-pk").values_list("pk", flat=True)
    too_many = list(newest_first[settings.MAX_WAITING_CALLS :][: settings.MAX_WAITING_CALLS])
    if too_many:
        waiting.filter(pk__in=too_many).update(**_ended(REPLACED, timezone.now()))


def claim(
    call: ToolCall, *, seconds: float, answers: Mapping[str, Any] | None = None, held_by: str = ""
) -> Attempt | None:
    """Become the one who goes on with a waiting call, for so many seconds; ``None`` where somebody else was quicker.

    ``held_by`` leaves it to the process that holds the exchange, which finds ``answers`` in the row.
    """
    now = timezone.now()
    deadline = now + timedelta(seconds=seconds)
    won = ToolCall.objects.filter(pk=call.pk, state=call.state, attempt=call.attempt, resumable_until__gt=now).update(
        state=State.RUNNING,
        outcome="",
        attempt=call.attempt + 1,
        deadline_at=deadline,
        erase_at=deadline,
        duration_ms=None,
        cancel_requested_at=None,
        progress=None,
        progress_total=None,
        progress_message="",
        held_by=held_by,
        answers=seal_for_update(call, "answers", answers),
    )
    return Attempt.of(call, call.attempt + 1) if won else None


def pick_up(attempt: Attempt, *, seconds: float) -> bool:
    """Take the answers that another process left in the row; return whether they are still this process's to take."""
    deadline = timezone.now() + timedelta(seconds=seconds)
    rows = attempt.rows.filter(answers__isnull=False, cancel_requested_at__isnull=True)
    return bool(rows.update(answers=None, deadline_at=deadline, erase_at=deadline))


def stay_alive(held_by: str, calls: list[uuid.UUID]) -> None:
    """Say that the process lives which holds these calls."""
    deadline = timezone.now() + timedelta(seconds=settings.HELD_LEASE_SECONDS)
    ToolCall.objects.filter(pk__in=calls, state=State.INPUT_REQUIRED, held_by=held_by).update(deadline_at=deadline)


def note_progress(attempt: Attempt, progress: Progress) -> None:
    """Write down what a running call tells of itself."""
    attempt.rows.update(**_progress(progress))


def cancel_requested(attempt: Attempt) -> bool:
    """Whether somebody gave the running call up."""
    return attempt.rows.filter(cancel_requested_at__isnull=False).exists()


def cancelled() -> CallCancelled:
    """Return the error of a call that somebody gave up."""
    return CallCancelled(_("The call was given up."))


def cancel(call: ToolCall) -> bool:
    """Give a call up: at once if it waits, otherwise by asking whoever runs it; return whether it had not ended."""
    now = timezone.now()
    rows = ToolCall.objects.filter(pk=call.pk)
    if rows.filter(state__in=WAITING).update(**_ended(CallCancelled.code, now), cancel_requested_at=now):
        return True
    return bool(rows.filter(state=State.RUNNING).update(cancel_requested_at=now))


def end_waiting(key: uuid.UUID, attempt: int, outcome: str) -> None:
    """End a call that waits for something that cannot come any more."""
    rows = ToolCall.objects.filter(pk=key, state__in=WAITING, attempt=attempt)
    rows.update(**_ended(outcome, timezone.now()))


@dataclass(frozen=True)
class Swept:
    """How many calls a sweep ended, and how many rows it erased something of or removed."""

    interrupted: int
    expired: int
    erased: int
    forgotten: int


def sweep() -> Swept:
    """End what is over, erase what nobody may read any more, forget what is older than ``CALL_DAYS``.

    Safe to run on many hosts at once; each statement concerns a bounded number of rows.
    """
    now = timezone.now()
    counts = {CallInterrupted.code: 0, EXPIRED: 0}
    for rows, outcome in _overdue(now):
        counts[outcome] += _some(rows).update(**_ended(outcome, now))
    # The result of an ended call; of the others, the sealed values go with the state.
    over = ToolCall.objects.filter(erase_at__lte=now, state__in=(State.COMPLETED, State.FAILED))
    erased = _some(over).update(**_NOTHING_SEALED, erase_at=None)
    old = ToolCall.objects.filter(started_at__lt=now - timedelta(days=settings.CALL_DAYS)).order_by("started_at")
    keys = list(old.values_list("pk", flat=True)[: settings.CALLS_SWEPT_AT_ONCE])
    forgotten = ToolCall.objects.filter(pk__in=keys).delete()[0] if keys else 0
    return Swept(counts[CallInterrupted.code], counts[EXPIRED], erased, forgotten)


def _some(rows: QuerySet[ToolCall]) -> QuerySet[ToolCall]:
    """Return a bounded number of rows; the condition holds again when they change."""
    keys = list(rows.order_by().values_list("pk", flat=True)[: settings.CALLS_SWEPT_AT_ONCE])
    return rows.filter(pk__in=keys)


def _overdue(now: datetime) -> tuple[tuple[QuerySet[ToolCall], str], ...]:
    """Return the rows whose time is over, with what that makes of them."""
    rows = ToolCall.objects.order_by()
    return (
        (rows.filter(state=State.RUNNING, deadline_at__lt=now), CallInterrupted.code),
        # The process that held it gave no sign of life.
        (
            rows.filter(state=State.INPUT_REQUIRED, erase_at__isnull=False, deadline_at__lt=now).exclude(held_by=""),
            CallInterrupted.code,
        ),
        (rows.filter(state__in=WAITING, erase_at__lte=now), EXPIRED),
    )


def _ended(outcome: str, now: datetime) -> dict[str, Any]:
    return {"state": State.FAILED, "outcome": outcome, "ended_at": now, "erase_at": None, **_NOTHING_SEALED}


def _kept(attempt: Attempt, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a result that is kept for a while; none of one that is too large."""
    if len(json.dumps(result, ensure_ascii=False).encode("utf-8", "surrogatepass")) > settings.CALL_RESULT_BYTES:
        return {"erase_at": None}
    until = timezone.now() + timedelta(seconds=settings.CALL_RESULT_SECONDS)
    return {"result": seal_for_update(attempt.call, "result", dict(result)), "erase_at": until}


def _progress(progress: Progress) -> dict[str, Any]:
    return {
        "progress": progress.progress,
        "progress_total": progress.total,
        "progress_message": printable(progress.message, 300),
    }


def _end(attempt: Attempt, values: dict[str, Any], progress: Progress | None) -> None:
    values |= {"ended_at": timezone.now(), "duration_ms": attempt.duration_ms}
    if progress is not None and progress.count:
        values |= _progress(progress)
    running = {"id": attempt.key, "state": State.RUNNING, "attempt": attempt.number}
    try:
        # That the call began has reached the disk. How it ended need not, where nobody comes back for its result: a
        # call whose end is lost counts as interrupted, and does not run again.
        changed = (
            _END.run(running, may_be_lost=not attempt.keeps_result, **values)
            if len(values) == len(_ENDS)
            else attempt.rows.update(**values)
        )
        if not changed:
            # Taken for dead, because it took longer than anybody thought; what is known now is better.
            late = Q(state=State.FAILED, outcome=CallInterrupted.code, attempt=attempt.number)
            ToolCall.objects.filter(late, pk=attempt.key).update(**values)
    except DatabaseError:
        # The tool has run: its answer is worth more than its record, which a sweep ends.
        logger.exception("the end of call %s could not be written down", attempt.key)
