"""Runs a tool on a person's behalf, and goes on with a call that had to wait for its person."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import (
    AuthorizationRequired,
    CallCancelled,
    InputRequired,
    InsufficientScope,
    InvalidRequest,
    McpOAuthError,
    NotFound,
    ResponseTooLarge,
    SecretUnreadable,
    ToolNotFound,
)
from mcp_oauth.models import McpServer, ToolCall
from mcp_oauth.services import call_outcomes as outcomes
from mcp_oauth.services import call_records as records
from mcp_oauth.services import contacts, held_calls, tool_policy
from mcp_oauth.services.access import on_behalf
from mcp_oauth.services.answers import Given, checked_answers
from mcp_oauth.services.call_records import Attempt
from mcp_oauth.services.catalog import find_tool, note_changed
from mcp_oauth.services.grants import ready_grant
from mcp_oauth.services.removal import require_in_use
from mcp_oauth.services.steps import Plan, WireStep, adrive, drive
from mcp_oauth.services.workspaces import Person, server_for, server_to_use
from mcp_oauth.sessions.results import Answer, InputWanted, Progress, Question, ToolResult
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized
from mcp_oauth.sessions.target import Target
from mcp_oauth.sessions.tasks import unpacked

OnProgress = Callable[[Progress], None]

# What an exchange takes beyond its own seconds at most: its margin, and the loop's.
_MARGIN_SECONDS = 10.0
# What a listing sets aside has no longer name.
_LONGEST_NAME = 200


def call_tool(
    server: McpServer | uuid.UUID | str,
    user: Person,
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    timeout: float | None = None,
    call_id: uuid.UUID | str | None = None,
    on_progress: OnProgress | None = None,
) -> ToolResult:
    """Run one tool at a server with the person's own credentials and return its result.

    A tool that reports a failure of its own returns a result with ``is_error``; it is not raised, because it is
    an answer for whoever asked (a model, usually). ``timeout`` is in seconds. ``call_id`` is a UUID of the caller's
    own: the same one never runs twice, and under it others watch or cancel the call. ``on_progress`` is called now and
    then, in the thread that waits, when a call that lasts has told something new.

    Raises:
        NotFound: no such server for this person.
        ToolNotFound: the server offers no such tool.
        ToolNotAllowed: an administrator does not let the tool be run.
        InvalidRequest: the arguments are not a JSON object or too large; ``call_id`` names another call.
        AuthorizationRequired: the person has to connect, for the first time or again; ``call`` waits for it.
        InsufficientScope: the person has to grant more; ``call`` waits for it.
        InputRequired: the server asks the person something; ``call`` waits for the answers.
        CallCancelled: somebody gave the call up.
        CallNotResumable: a call of this ``call_id`` runs, or has ended and its result is not kept.
        ServerUnreachable, ServerRefused: the server's answer.
    """
    return drive(_plan_call(server, user, name, arguments, timeout, call_id, on_progress))


async def acall_tool(
    server: McpServer | uuid.UUID | str,
    user: Person,
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    timeout: float | None = None,
    call_id: uuid.UUID | str | None = None,
    on_progress: OnProgress | None = None,
) -> ToolResult:
    """Do the same as `call_tool`, for asynchronous callers."""
    return await adrive(_plan_call(server, user, name, arguments, timeout, call_id, on_progress))


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


def cancel_call(call: ToolCall | uuid.UUID | str, user: Person) -> bool:
    """Give a call up, in whichever process it runs or waits; return whether there was anything left to give up.

    A call that runs ends within moments, and its server is told; what the tool has done by then stays done.

    Raises:
        NotFound: no such call for this person.
    """
    found = find_call(call, user)
    state = None
    with contextlib.suppress(SecretUnreadable):  # what cannot be opened can be given up all the same
        state = outcomes.pending_of(found).get("request_state")
    given_up = records.cancel(found)
    held_calls.look_again()
    if given_up and found.is_waiting:
        drive(_plan_to_drop(found.server, user, state))
    return given_up


def find_call(call: ToolCall | uuid.UUID | str, user: Person) -> ToolCall:
    """Return a person's own call as it is now; one whose process is gone has ended.

    Raises:
        NotFound: no such call for this person, or not any more.
    """
    found = records.find(user, call)
    server_for(user, found.server)
    return found


@dataclass
class _Run:
    """One attempt of a call as this process carries it out."""

    attempt: Attempt
    server: McpServer
    user: Person
    arguments: dict[str, Any]
    seconds: float
    on_progress: OnProgress | None = None
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


def _plan_call(
    reference: McpServer | uuid.UUID | str,
    user: Person,
    name: str,
    arguments: dict[str, Any] | None,
    timeout: float | None,
    call_id: uuid.UUID | str | None,
    on_progress: OnProgress | None,
) -> Plan[ToolResult]:
    given, seconds, own_id = _checked(arguments), _seconds(timeout), _own_id(call_id)
    server = server_to_use(user, reference)
    _check_name(server, name)
    attempt = records.open_call(server, user, name, call_id=own_id, seconds=_bound(server, seconds))
    if attempt is None:
        return _outcome_before(user, own_id, server, name)
    run = _Run(attempt, server, user, given, seconds, on_progress)
    return (yield from _plan_to_the_end(run, _plan_exchange(run)))


def _outcome_before(user: Person, call_id: uuid.UUID | None, server: McpServer, name: str) -> ToolResult:
    """Return what the first call of an id brought."""
    call = records.find(user, str(call_id))
    if call.server_id != server.pk or call.tool != name:
        raise InvalidRequest(_("This call_id names another call."), field="call_id")
    return outcomes.outcome_of(call, server)


def _plan_exchange(run: _Run) -> Plan[ToolResult | InputWanted]:
    """Plan to send the call, or its next round, to the server."""
    found = yield from find_tool(run.server, run.user, run.attempt.tool)
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


def _plan_to_the_end(run: _Run, exchange: Plan[ToolResult | InputWanted]) -> Plan[ToolResult]:
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


def _let_wait_for_access(run: _Run, error: AuthorizationRequired | InsufficientScope) -> None:
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
        answers=_answers_json(run.answers),
    )
    error.call = str(run.attempt.key)


def _plan_to_wait_for_answers(run: _Run, wanted: InputWanted) -> Plan[McpOAuthError]:
    """Plan to let a call wait for what its server asks; returns the error that asks whoever called."""
    rounds = run.rounds + 1
    if rounds > settings.MAX_INPUT_ROUNDS:
        if wanted.held:
            held_calls.drop(run.attempt.key)
        yield from _plan_to_drop(run.server, run.user, wanted.request_state)
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


def _plan_to_drop(server: McpServer, user: Person, state: str | None) -> Plan[None]:
    """Plan to have a server told that nobody goes on with a call that it made a task of."""
    if unpacked(state) is None:
        return
    from mcp_oauth.sessions.client import drop_task

    with contextlib.suppress(McpOAuthError):  # a courtesy; the task's own time ends it as well
        yield from on_behalf(
            server, user, lambda target: drop_task(target, state), seconds=settings.OAUTH_REQUEST_SECONDS
        )


def _plan_resume(
    reference: ToolCall | uuid.UUID | str,
    user: Person,
    given: Given | None,
    timeout: float | None,
    on_progress: OnProgress | None,
) -> Plan[ToolResult]:
    seconds = _seconds(timeout)
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
    attempt = records.claim(call, seconds=_bound(server, seconds), held_by=call.held_by)
    if attempt is None:
        raise outcomes.already_resumed()
    run = _Run(
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
    return (yield from _plan_to_the_end(run, _plan_held(run) if call.held_by else _plan_exchange(run)))


def _plan_held(run: _Run) -> Plan[ToolResult | InputWanted]:
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
    left = {"seconds": seconds, "answers": _answers_json(answers)}
    attempt = records.claim(call, seconds=settings.HELD_LEASE_SECONDS, answers=left, held_by=call.held_by)
    if attempt is None:
        raise outcomes.already_resumed()
    watched = _Elsewhere(attempt, on_progress)
    ended = None
    while ended is None:
        try:
            # Nothing is sent: it is the caller who looks, so that no thread is kept waiting.
            yield WireStep(
                lambda: asyncio.sleep(seconds), seconds + _MARGIN_SECONDS, watched.tick, watched.tick_seconds
            )
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


def _answers_json(answers: Mapping[str, Answer] | None) -> dict[str, Any] | None:
    return None if answers is None else {key: answer.to_json() for key, answer in answers.items()}


def _bound(server: McpServer, seconds: float) -> float:
    """Return within how many seconds an attempt ends unless its process is gone: a renewal, a listing, the exchange."""
    bound: float = settings.LIST_SECONDS + seconds + 2 * _MARGIN_SECONDS
    if server.uses_grants:
        bound += settings.REFRESH_WAIT_SECONDS
    return bound


def _seconds(timeout: float | None) -> float:
    seconds: float = settings.CALL_SECONDS if timeout is None else timeout
    if seconds <= 0:
        raise InvalidRequest(_("The time limit must be more than zero seconds."))
    return seconds


def _own_id(call_id: uuid.UUID | str | None) -> uuid.UUID | None:
    if call_id is None or isinstance(call_id, uuid.UUID):
        return call_id
    try:
        return uuid.UUID(call_id)
    except ValueError as error:
        raise InvalidRequest(_("The call_id must be a UUID."), field="call_id") from error


def _check_name(server: McpServer, name: str) -> None:
    """Refuse a name that no listing holds, before it is written down.

    Raises:
        ToolNotFound: no tool can have it.
    """
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise _no_such_tool(server, name)


def _no_such_tool(server: McpServer, name: str) -> ToolNotFound:
    return ToolNotFound(_("%(server)s offers no tool named “%(tool)s”.") % {"server": server.name, "tool": name[:100]})


def _checked(arguments: dict[str, Any] | None) -> dict[str, Any]:
    """Return the arguments if they can travel.

    Raises:
        InvalidRequest: they cannot.
    """
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise InvalidRequest(_("The arguments must be a JSON object."))
    try:
        # As it travels: half a surrogate pair can be escaped, but not sent.
        size = len(json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(_("The arguments cannot be written as JSON.")) from error
    if size > settings.MAX_ARGUMENT_BYTES:
        raise InvalidRequest(
            _("The arguments are %(size)d bytes; at most %(limit)d are sent.")
            % {"size": size, "limit": settings.MAX_ARGUMENT_BYTES}
        )
    return arguments
