"""One attempt of a call as this process carries it out: sent, and then ended or left waiting for its person."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import AuthorizationRequired, CallCancelled, InputRequired, InsufficientScope, McpOAuthError
from mcp_oauth.models import McpServer, ToolCall
from mcp_oauth.services import call_outcomes as outcomes
from mcp_oauth.services import call_records as records
from mcp_oauth.services import contacts, held_calls
from mcp_oauth.services.access import on_behalf
from mcp_oauth.services.call_records import Attempt
from mcp_oauth.services.catalog import find_tool, note_changed
from mcp_oauth.services.grants import UsableGrant
from mcp_oauth.services.steps import Plan
from mcp_oauth.services.workspaces import Person
from mcp_oauth.sessions.results import Answer, InputWanted, Progress, Question, ToolResult
from mcp_oauth.sessions.target import Target
from mcp_oauth.sessions.tasks import unpacked

OnProgress = Callable[[Progress], None]

# What an exchange takes beyond its own seconds at most: its margin, and the loop's.
MARGIN_SECONDS = 10.0


@dataclass
class Run:
    """One attempt of a call as this process carries it out."""

    attempt: Attempt
    server: McpServer
    user: Person
    arguments: dict[str, Any]
    seconds: float
    on_progress: OnProgress | None = None
    # One that is good now, where it is known already.
    grant: UsableGrant | None = None
    # Of a call that was asked something: the questions, the answers to them, how often, and the server's own state.
    questions: tuple[Question, ...] = ()
    answers: dict[str, Answer] | None = None
    rounds: int = 0
    request_state: str | None = None
    # Until when it may wait for access again; waiting anew does not make it longer.
    resumable_until: datetime | None = None
    progress: Progress = field(default_factory=Progress)
    _seen: int = 0

    @property
    def call(self) -> ToolCall:
        """The row as this attempt found it."""
        return self.attempt.call

    def tick(self) -> None:
        """Write down and pass on what the call told of itself, and see whether it was given up.

        Raises:
            CallCancelled: it was; this ends the exchange, and the sessions tell the server.
        """
        if self.progress.count != self._seen:
            self._seen = self.progress.count
            records.note_progress(self.attempt, self.progress)
            if self.on_progress is not None:
                self.on_progress(replace(self.progress))
        if records.cancel_requested(self.attempt):
            raise records.cancelled()


def plan_exchange(run: Run) -> Plan[ToolResult | InputWanted]:
    """Plan to send the call, or its next round, to the server."""
    found = yield from find_tool(run.server, run.user, run.attempt.tool, grant=run.grant)
    from mcp_oauth.sessions.client import call_tool as run_tool

    def work(target: Target) -> Coroutine[Any, Any, ToolResult | InputWanted]:
        return run_tool(
            target,
            run.attempt.tool,
            run.arguments,
            timeout=run.seconds,
            progress=run.progress,
            call_id=str(run.attempt.key),
            answers=run.answers,
            request_state=run.request_state,
        )

    try:
        outcome: ToolResult | InputWanted = yield from on_behalf(
            run.server,
            run.user,
            work,
            seconds=run.seconds,
            tools=found.tools,
            grant=found.grant,
            tick=run.tick,
        )
    finally:
        if run.progress.changed:
            note_changed(run.server, run.user, found.grant, run.progress.changed)
    contacts.record_negotiation(run.server, outcome.protocol_version, outcome.discover_result)
    return outcome


def plan_to_the_end(run: Run, exchange: Plan[ToolResult | InputWanted]) -> Plan[ToolResult]:
    """Plan an exchange and write down how it ends, whatever that is."""
    try:
        outcome = yield from exchange
        if isinstance(outcome, InputWanted):
            raise (yield from _plan_to_wait_for_answers(run, outcome))
    except (AuthorizationRequired, InsufficientScope) as error:
        _let_wait_for_access(run, error)
        raise
    except InputRequired:
        raise
    except McpOAuthError as error:
        records.fail(run.attempt, error.code, progress=run.progress)
        raise
    except GeneratorExit:
        # Whoever waited for it is gone, and the work on the wire was cancelled with them.
        records.fail(run.attempt, CallCancelled.code, progress=run.progress)
        raise
    except BaseException:
        records.fail(run.attempt, McpOAuthError.code, progress=run.progress)
        raise
    records.complete(run.attempt, outcome.to_json(), is_error=outcome.is_error, progress=run.progress)
    return outcome


def _let_wait_for_access(run: Run, error: AuthorizationRequired | InsufficientScope) -> None:
    """Let a call wait until the person has connected; nothing of it was carried out. The error names the call.

    Raises:
        CallCancelled: it was given up meanwhile.
    """
    pending = {
        "access": {"scope": error.scope} if isinstance(error, InsufficientScope) else {},
        "questions": [question.to_json() for question in run.questions],
        "rounds": run.rounds,
        # A call that lives on at its server as a task is asked about, and never sent again.
        "request_state": run.progress.underway or run.request_state,
    }
    records.let_wait(
        run.attempt,
        ToolCall.State.AUTHORIZATION_REQUIRED,
        error.code if isinstance(error, InsufficientScope) else error.reason,
        until=run.resumable_until or timezone.now() + timedelta(seconds=settings.CALL_RESUME_SECONDS),
        arguments=run.arguments,
        pending=pending,
        answers=answers_json(run.answers),
    )
    error.call = str(run.attempt.key)


def _plan_to_wait_for_answers(run: Run, wanted: InputWanted) -> Plan[McpOAuthError]:
    """Plan to let a call wait for what its server asks; returns the error that asks whoever called."""
    rounds = run.rounds + 1
    if rounds > settings.MAX_INPUT_ROUNDS:
        if wanted.held:
            held_calls.drop(run.attempt.key)
        yield from plan_to_drop(run.server, run.user, wanted.request_state)
        return held_calls.too_many_rounds()
    if wanted.held:
        held_calls.hold(run.attempt, wanted, rounds=rounds)
        return outcomes.input_required(run.call, run.server, wanted.questions)
    pending = {
        "questions": [question.to_json() for question in wanted.questions],
        "rounds": rounds,
        "request_state": wanted.request_state,
    }
    records.let_wait(
        run.attempt,
        ToolCall.State.INPUT_REQUIRED,
        "",
        until=timezone.now() + timedelta(seconds=settings.CALL_RESUME_SECONDS),
        arguments=run.arguments,
        pending=pending,
    )
    return outcomes.input_required(run.call, run.server, wanted.questions)


def plan_to_drop(server: McpServer, user: Person, state: str | None) -> Plan[None]:
    """Plan to have a server told that nobody goes on with a call that it made a task of."""
    if unpacked(state) is None:
        return
    from mcp_oauth.sessions.client import drop_task

    with contextlib.suppress(McpOAuthError):  # a courtesy; the task's own time ends it as well
        yield from on_behalf(
            server, user, lambda target: drop_task(target, state), seconds=settings.OAUTH_REQUEST_SECONDS
        )


def answers_json(answers: Mapping[str, Answer] | None) -> dict[str, Any] | None:
    """Return answers as they stand in the row of a call."""
    return None if answers is None else {key: answer.to_json() for key, answer in answers.items()}


def bound(server: McpServer, seconds: float) -> float:
    """Return within how many seconds an attempt ends unless its process is gone: a renewal, a listing, the exchange."""
    bound: float = settings.LIST_SECONDS + seconds + 2 * MARGIN_SECONDS
    if server.uses_grants:
        bound += settings.REFRESH_WAIT_SECONDS
    return bound
