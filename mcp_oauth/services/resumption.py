"""Goes on with a call that waited for its person: here, or in the process that holds its exchange with the server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InvalidRequest, NotFound, ResponseTooLarge
from mcp_oauth.models import McpServer, ToolCall
from mcp_oauth.services import call_outcomes as outcomes
from mcp_oauth.services import call_records as records
from mcp_oauth.services import held_calls, tool_policy
from mcp_oauth.services.answers import Given, checked_answers
from mcp_oauth.services.call_checks import checked_seconds
from mcp_oauth.services.call_records import Attempt
from mcp_oauth.services.call_runs import (
    MARGIN_SECONDS,
    OnProgress,
    Run,
    answers_json,
    bound,
    plan_exchange,
    plan_to_the_end,
)
from mcp_oauth.services.catalog import note_changed
from mcp_oauth.services.grants import ready_grant
from mcp_oauth.services.removal import require_in_use
from mcp_oauth.services.steps import Plan, WireStep, adrive, drive
from mcp_oauth.services.workspaces import Person, server_for
from mcp_oauth.sessions.results import Answer, InputWanted, Progress, Question, ToolResult
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized


def resume_call(
    call: ToolCall | uuid.UUID | str,
    user: Person,
    *,
    answers: Given | None = None,
    timeout: float | None = None,
    on_progress: OnProgress | None = None,
) -> ToolResult:
    """Go on with a call that waits for its person, in any process, and return its result.

    ``answers`` map the keys of the questions to an `Answer` or to ``{"action": "accept", "content": {...}}``; the other
    actions are ``decline`` and ``cancel``. They are checked before anything is sent. Of several who resume one call
    at once, one goes on with it.

    Raises:
        NotFound: no such call for this person.
        InvalidRequest: an answer is missing or does not fit; ``field`` names it, and the call still waits.
        CallNotResumable: the call does not wait, or not any more.
        CallInterrupted: the process that held the exchange is gone; the call has ended.
        AuthorizationRequired, InsufficientScope, InputRequired: something is still missing; the call waits again.
        CallCancelled, ServerUnreachable, ServerRefused: how it ended.
    """
    return drive(_plan_resume(call, user, answers, timeout, on_progress))


async def aresume_call(
    call: ToolCall | uuid.UUID | str,
    user: Person,
    *,
    answers: Given | None = None,
    timeout: float | None = None,
    on_progress: OnProgress | None = None,
) -> ToolResult:
    """Do the same as `resume_call`, for asynchronous callers."""
    return await adrive(_plan_resume(call, user, answers, timeout, on_progress))


def _plan_resume(
    reference: ToolCall | uuid.UUID | str,
    user: Person,
    given: Given | None,
    timeout: float | None,
    on_progress: OnProgress | None,
) -> Plan[ToolResult]:
    seconds = checked_seconds(timeout)
    call = records.find(user, reference)
    server = server_for(user, call.server)
    if not call.is_waiting:
        raise outcomes.not_resumable(call)
    # All of it before the call is claimed: what is refused here leaves it waiting.
    if call.server_generation != server.generation:
        records.end_waiting(call.pk, call.attempt, records.SERVER_CHANGED)
        raise outcomes.server_changed(call)
    require_in_use(server)
    tool_policy.require_allowed(server, call.tool)
    pending = outcomes.pending_of(call)
    questions = tuple(Question.from_json(question) for question in pending.get("questions", ()))
    answers = _answers_for(call, questions, given)
    if call.held_by and call.held_by != held_calls.process_name():
        return (yield from _plan_hand_over(call, server, answers or {}, seconds, on_progress))
    arguments = call.arguments or {}
    attempt = records.claim(call, seconds=bound(server, seconds), held_by=call.held_by)
    if attempt is None:
        raise outcomes.already_resumed()
    run = Run(
        attempt,
        server,
        user,
        arguments,
        seconds,
        on_progress,
        questions=questions,
        answers=answers,
        rounds=int(pending.get("rounds", 0)),
        request_state=pending.get("request_state"),
        resumable_until=call.resumable_until,
    )
    return (yield from plan_to_the_end(run, _plan_held(run) if call.held_by else plan_exchange(run)))


def _plan_held(run: Run) -> Plan[ToolResult | InputWanted]:
    """Plan to go on with an exchange that this process holds open."""
    if held_calls.take(run.call) is None:
        raise outcomes.interrupted(run.server)
    from mcp_oauth.sessions.client import continue_held

    try:
        outcome: ToolResult | InputWanted = yield WireStep(
            lambda: continue_held(str(run.attempt.key), run.answers or {}, timeout=run.seconds, progress=run.progress),
            run.seconds + held_calls.MARGIN_SECONDS,
            run.tick,
            settings.CALL_TICK_SECONDS,
        )
    except (Unauthorized, ScopeChallenged):
        # The answer was refused, but the call it belongs to has begun: it cannot be sent again.
        raise outcomes.interrupted(run.server) from None
    finally:
        if run.progress.changed:
            grant = ready_grant(run.server, run.user) if run.server.uses_grants else None
            note_changed(run.server, run.user, grant, run.progress.changed)
    return outcome


def _plan_hand_over(
    call: ToolCall, server: McpServer, answers: Mapping[str, Answer], seconds: float, on_progress: OnProgress | None
) -> Plan[ToolResult]:
    """Plan to leave the answers to the process that holds the exchange, and to wait for what comes of them."""
    left = {"seconds": seconds, "answers": answers_json(answers)}
    attempt = records.claim(call, seconds=settings.HELD_LEASE_SECONDS, answers=left, held_by=call.held_by)
    if attempt is None:
        raise outcomes.already_resumed()
    watched = _Elsewhere(attempt, on_progress)
    ended = None
    while ended is None:
        try:
            # Nothing is sent: it is the caller who looks, so that no thread is kept waiting.
            yield WireStep(lambda: asyncio.sleep(seconds), seconds + MARGIN_SECONDS, watched.tick, watched.tick_seconds)
        except _Ended as over:
            ended = over.call
    if ended.state == ToolCall.State.COMPLETED and outcomes.result_of(ended) is None:
        raise ResponseTooLarge(
            _("What the tool returned is more than %(limit)d bytes, too many to be handed over.")
            % {"limit": settings.CALL_RESULT_BYTES}
        )
    return outcomes.outcome_of(ended, server)


class _Ended(Exception):
    """The attempt that was watched runs no more."""

    def __init__(self, call: ToolCall) -> None:
        super().__init__("The call runs no more.")
        self.call = call


class _Elsewhere:
    """An attempt that another process carries out, as whoever answered watches it; its deadline bounds this."""

    def __init__(self, attempt: Attempt, on_progress: OnProgress | None) -> None:
        self._attempt = attempt
        self._on_progress = on_progress
        self._seen = Progress()
        self.tick_seconds = settings.CALL_TICK_SECONDS

    def tick(self) -> None:
        """Pass on what stands in the row.

        Raises:
            _Ended: the other process has written down how it ended, or is gone.
            NotFound: the row is gone.
        """
        rows = ToolCall.objects.select_related("server__workspace").order_by()
        row = rows.filter(pk=self._attempt.key).first()
        if row is None:
            raise NotFound(_("There is no call of that id for you."))
        told = Progress(row.progress, row.progress_total, row.progress_message)
        if told != self._seen:
            self._seen = told
            if self._on_progress is not None:
                self._on_progress(told)
        if records.settled(row).state != ToolCall.State.RUNNING or row.attempt != self._attempt.number:
            raise _Ended(row)


def _answers_for(call: ToolCall, questions: tuple[Question, ...], given: Given | None) -> dict[str, Answer] | None:
    """Return the answers a call goes on with: those given now, or those it had when it began to wait for access.

    Raises:
        InvalidRequest: they do not fit, or nothing is asked.
    """
    if call.state == ToolCall.State.INPUT_REQUIRED or (given and questions):
        return checked_answers(questions, given)
    if given:
        raise InvalidRequest(_("This call waits for access and asks nothing."), field="answers")
    return {key: Answer.from_json(answer) for key, answer in call.answers.items()} if call.answers else None
