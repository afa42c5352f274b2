"""Calls whose exchange this process keeps open while a server of before 2026-07-28 waits for an answer.

Only here such a call can go on. Whoever answers in another process leaves the answers in the row; one small thread of
this process, which lives while something is held, finds them there and carries on.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import close_old_connections, connections
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import CallCancelled, CallInterrupted, McpOAuthError, SecretUnreadable, ServerRefused
from mcp_oauth.models import ToolCall
from mcp_oauth.services import call_records as records
from mcp_oauth.services.call_records import Attempt
from mcp_oauth.sessions import loop
from mcp_oauth.sessions.results import Answer, InputWanted, Progress, ToolResult

logger = logging.getLogger(__name__)

State = ToolCall.State

# The loop's own margin over the seconds of an exchange, as in `services.access`.
MARGIN_SECONDS = 5.0


@dataclass
class Held:
    """One exchange that is open: the attempt that asked last, and the one that carries on, if one does."""

    attempt: Attempt
    # How many questions came back so far.
    rounds: int
    future: concurrent.futures.Future[ToolResult | InputWanted] | None = None
    progress: Progress = field(default_factory=Progress)
    seen: int = 0

    @property
    def key(self) -> uuid.UUID:
        """Return the call's id."""
        return self.attempt.key


class _Holder:
    """What a process holds; a forked child starts with an empty one."""

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()[:50]}:{os.getpid()}:{secrets.token_hex(8)}"
        self.lock = threading.Lock()
        self.held: dict[uuid.UUID, Held] = {}
        self.thread: threading.Thread | None = None
        self.wake = threading.Event()


_holder = _Holder()


def _forget_in_child() -> None:
    global _holder
    _holder = _Holder()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def process_name() -> str:
    """Return what this process is called in the rows of the calls it holds."""
    return _holder.name


def hold(attempt: Attempt, wanted: InputWanted, *, rounds: int) -> None:
    """Keep an exchange open until somebody answers, for ``HELD_CALL_SECONDS`` at most.

    Raises:
        CallCancelled: the call was given up meanwhile.
    """
    held = Held(attempt, rounds)
    try:
        _let_wait(held, wanted)
    except CallCancelled:
        drop(held.key)
        raise
    keep(held)


def keep(held: Held) -> None:
    """Look after an exchange, from now on or again."""
    holder = _holder
    with holder.lock:
        holder.held[held.key] = held
        if holder.thread is None:
            holder.thread = threading.Thread(target=_watch, args=(holder,), name="mcp-oauth-held-calls", daemon=True)
            holder.thread.start()
    holder.wake.set()


def take(call: ToolCall) -> Held | None:
    """Hand over an exchange to a caller in this process who goes on with it; ``None`` if it is not held here."""
    holder = _holder
    with holder.lock:
        held = holder.held.get(call.pk)
        if held is None or held.future is not None:
            return None
        return holder.held.pop(call.pk)


def look_again() -> None:
    """Have the rows looked at now: one of them was changed in this process."""
    _holder.wake.set()


def watching_thread() -> threading.Thread | None:
    """Return the thread that looks after what is held, while there is one."""
    return _holder.thread


def drop(key: uuid.UUID) -> None:
    """Give an exchange up; its server is told."""
    from mcp_oauth.sessions.client import drop_held

    loop.soon(lambda: drop_held(str(key)))


def too_many_rounds() -> ServerRefused:
    """Return the error of a call whose server goes on asking."""
    return ServerRefused(
        _("The server asked %(limit)d times and wants to ask again.") % {"limit": settings.MAX_INPUT_ROUNDS}
    )


def _let_wait(held: Held, wanted: InputWanted) -> None:
    records.let_wait(
        held.attempt,
        State.INPUT_REQUIRED,
        "",
        until=timezone.now() + timedelta(seconds=settings.HELD_CALL_SECONDS),
        pending={"questions": [question.to_json() for question in wanted.questions], "rounds": held.rounds},
        held_by=process_name(),
    )


def _watch(holder: _Holder) -> None:
    """Look after what is held until nothing is; the body of the thread."""
    alive_at = time.monotonic()
    try:
        while True:
            holder.wake.wait(settings.HELD_POLL_SECONDS)
            holder.wake.clear()
            with holder.lock:
                if not holder.held:
                    holder.thread = None
                    return
                held = list(holder.held.values())
            try:
                close_old_connections()
                if time.monotonic() - alive_at > settings.HELD_LEASE_SECONDS / 3:
                    alive_at = time.monotonic()
                    records.stay_alive(holder.name, [one.key for one in held])
                _look(holder, held)
                # Where connections are not kept between requests, none is kept between looks.
                close_old_connections()
            except Exception:  # whatever became of one look, the next one comes, and others are waiting for it
                logger.exception("the held calls could not be looked after")
                connections.close_all()
    finally:
        connections.close_all()


def _look(holder: _Holder, held: list[Held]) -> None:
    rows = {
        row.pk: row
        for row in ToolCall.objects.filter(pk__in=[one.key for one in held])
        .only("state", "attempt", "held_by", "cancel_requested_at", "deadline_at", "erase_at", "server_id", "user_id")
        .order_by()
    }
    for one in held:
        with holder.lock:
            if holder.held.get(one.key) is not one:
                continue  # taken meanwhile by a caller in this process
        try:
            if not _attend(one, rows.get(one.key), holder.name):
                with holder.lock:
                    holder.held.pop(one.key, None)
        except Exception:  # one row's trouble is not the others'
            logger.exception("call %s could not be looked after", one.key)


def _attend(held: Held, row: ToolCall | None, name: str) -> bool:
    """Do what is next for one exchange; return whether it stays open."""
    if held.future is not None:
        if held.future.done():
            return _take_in(held, held.future)
        if row is None or row.cancel_requested_at is not None:
            # The sessions tell the server when their work is cancelled.
            held.future.cancel()
            records.fail(held.attempt, CallCancelled.code, error=records.cancelled().as_json())
            return False
        if held.progress.count != held.seen:
            held.seen = held.progress.count
            records.note_progress(held.attempt, held.progress)
        return True
    if row is not None and row.state == State.INPUT_REQUIRED and row.held_by == name:
        if records.settled(row).is_waiting:
            return True
    elif row is not None and row.state == State.RUNNING and row.held_by == name:
        if row.cancel_requested_at is None:
            return _carry_on(held, row)
        records.fail(Attempt.of(row, row.attempt), CallCancelled.code, error=records.cancelled().as_json())
    drop(held.key)
    return False


def _carry_on(held: Held, row: ToolCall) -> bool:
    """Go on with what another process left in the row."""
    from mcp_oauth.sessions.client import continue_held

    attempt = Attempt.of(row, row.attempt)
    try:
        left: Mapping[str, Any] = row.answers
    except SecretUnreadable as error:
        records.fail(attempt, error.code, error=error.as_json())
        drop(held.key)
        return False
    if left is None:
        return True  # somebody in this process is about to go on with it
    seconds: float = left["seconds"]
    if not records.pick_up(attempt, seconds=seconds + MARGIN_SECONDS * 2):
        return True  # the row has changed since; the next look shows how
    answers = {key: Answer.from_json(answer) for key, answer in left["answers"].items()}
    held.attempt, held.progress, held.seen = attempt, Progress(), 0
    progress, key = held.progress, str(held.key)
    held.future = loop.submit(
        lambda: continue_held(key, answers, timeout=seconds, progress=progress), timeout=seconds + MARGIN_SECONDS
    )
    held.future.add_done_callback(lambda done: look_again())
    return True


def _take_in(held: Held, future: concurrent.futures.Future[ToolResult | InputWanted]) -> bool:
    """Write down how it went on; return whether the server asks once more and the exchange stays open."""
    try:
        outcome = future.result()
    except McpOAuthError as error:
        records.fail(held.attempt, error.code, error=error.as_json(), progress=held.progress)
        return False
    except (Exception, concurrent.futures.CancelledError):
        logger.exception("call %s broke off", held.key)
        lost = CallInterrupted(_("The exchange with the server broke off."))
        records.fail(held.attempt, lost.code, error=lost.as_json(), progress=held.progress)
        return False
    if isinstance(outcome, ToolResult):
        records.complete(held.attempt, outcome.to_json(), is_error=outcome.is_error, progress=held.progress)
        return False
    held.rounds, held.future = held.rounds + 1, None
    if held.rounds > settings.MAX_INPUT_ROUNDS:
        refused = too_many_rounds()
        records.fail(held.attempt, refused.code, error=refused.as_json())
        drop(held.key)
        return False
    try:
        _let_wait(held, outcome)
    except CallCancelled:
        drop(held.key)
        return False
    return True
