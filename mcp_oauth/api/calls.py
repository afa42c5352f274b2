"""Calls: looking at them, going on with one that waits, giving one up."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from django.http import HttpRequest, StreamingHttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router
from pydantic import BaseModel, Field, field_validator

from mcp_oauth.api.answers import SAFE, Mistake, Moment, TimedBody
from mcp_oauth.api.callers import ApiRequest, Caller
from mcp_oauth.api.streams import EVENTS, stream_of, wants_events
from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InputRequired, InvalidRequest, NotFound
from mcp_oauth.models import ToolCall
from mcp_oauth.services import call_outcomes, calls, limits, resumption
from mcp_oauth.services.call_history import calls_of
from mcp_oauth.services.call_runs import OnProgress
from mcp_oauth.services.workspaces import Person, server_for
from mcp_oauth.sessions.results import ToolResult

router = Router()

State = Literal["running", "completed", "failed", "authorization_required", "input_required"]

_USUAL_PAGE = 50


class ResumeBody(TimedBody):
    """What the person answered, where something was asked."""

    MEMBER: ClassVar[str] = "answers"

    answers: dict[str, Any] | None = Field(
        default=None,
        repr=False,
        description='By the keys of the questions: {"action": "accept", "content": {…}}, or "decline" or "cancel".',
    )

    @field_validator("answers", mode="before")
    @classmethod
    def _answers_are_an_object(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, dict):
            raise Mistake(_("The answers must be an object with an answer for each question."))
        return value


NO_ANSWERS = ResumeBody()


class Result(BaseModel):
    """What a tool returned (MCP ``CallToolResult``); all of it is the server's words and untrusted."""

    content: list[dict[str, Any]] = Field(repr=False)
    is_error: bool = Field(alias="isError", description="The tool itself reports a failure.")
    structured_content: Any = Field(default=None, alias="structuredContent", repr=False)


class CallAnswer(BaseModel):
    """A call that ended, and the id under which its result is kept for a while, where it has one."""

    result: Result
    call: uuid.UUID | None = None


class Progress(BaseModel):
    """What a call last told of itself."""

    progress: float | None
    total: float | None
    message: str


class Call(BaseModel):
    """A call on record; ``outcome`` says how it failed or why it waits."""

    id: uuid.UUID
    server: uuid.UUID
    reference: str
    tool: str
    state: State
    outcome: str
    attempt: int
    started_at: Moment
    ended_at: Moment | None
    duration_ms: int | None
    resumable_until: Moment | None
    progress: Progress | None


class Calls(BaseModel):
    """A page of calls, the newest first, and the cursor of the page that follows."""

    calls: list[Call]
    next: str | None = Field(description="What the next page is asked for with; null on the last one.")


class CallDetails(Call):
    """A call with what it waits for or brought, as long as that is kept."""

    questions: list[dict[str, Any]] = Field(description="What the server asks: key, mode, message, schema or url.")
    connect_url: str | None = Field(description="Where the person finds the button, if it waits for access.")
    result: Result | None


class OneCall(BaseModel):
    """One call."""

    call: CallDetails


class GivenUp(BaseModel):
    """Whether there was anything left to give up."""

    cancelled: bool


@router.api_operation(SAFE, "calls/", response=Calls, url_name="api_calls", summary="List your calls")
def list_calls(
    request: ApiRequest,
    state: Annotated[State | None, Query(description="Only calls of this state.")] = None,
    server: Annotated[uuid.UUID | None, Query(description="Only calls at this server.")] = None,
    limit: Annotated[int, Query(ge=1, description="Calls on the page.")] = _USUAL_PAGE,
    cursor: Annotated[str, Query(description="From the page before.")] = "",
) -> Calls:
    """List the caller's own calls, the newest first and page by page."""
    caller = request.auth
    if server is not None:
        server_for(caller.user, caller.server(server))
    if limit > settings.MAX_PAGE_SIZE:
        raise InvalidRequest(
            _("A page has at most %(limit)d calls.") % {"limit": settings.MAX_PAGE_SIZE}, field="limit"
        )
    page = calls_of(
        caller.user,
        limit=limit,
        cursor=cursor,
        state=state or "",
        server_id=server,
        workspace_id=caller.workspace_id,
    )
    return Calls(calls=[Call(**_facts(call)) for call in page.calls], next=page.cursor or None)


@router.api_operation(
    SAFE,
    "calls/{uuid:call_id}/",
    response=OneCall,
    by_alias=True,
    url_name="api_get_call",
    summary="Look at one call",
)
def get_call(request: ApiRequest, call_id: uuid.UUID) -> OneCall:
    """Look at one of the caller's calls: its progress while it runs, what it waits for, its result while it is kept."""
    call = _own(request.auth, call_id)
    needed = call_outcomes.waits_for(call, call.server) if call.is_waiting else None
    result = call_outcomes.result_of(call)
    return OneCall(
        call=CallDetails(
            **_facts(call),
            questions=needed.questions if isinstance(needed, InputRequired) else [],
            connect_url=None if needed is None or isinstance(needed, InputRequired) else needed.connect_url,
            result=None if result is None else Result.model_validate(result.to_json()),
        )
    )


@router.post(
    "calls/{uuid:call_id}/resume/",
    response=CallAnswer,
    by_alias=True,
    exclude_unset=True,
    openapi_extra=EVENTS,
    url_name="api_resume",
    summary="Go on with a call",
)
def resume_call(
    request: ApiRequest, call_id: uuid.UUID, body: ResumeBody = NO_ANSWERS
) -> CallAnswer | StreamingHttpResponse:
    """Go on with a call that waits for its person, after they connected or with what they answered; it runs once."""
    caller = request.auth
    limits.count(caller.user, "call")
    call = _own(caller, call_id)

    def work(tell: OnProgress | None) -> ToolResult:
        return resumption.resume_call(call, caller.user, answers=body.answers, timeout=body.timeout, on_progress=tell)

    if wants_events(request):
        return events_of(request, work, call_id, caller.user)
    return answer_of(work(None), call_id)


@router.post("calls/{uuid:call_id}/cancel/", response=GivenUp, url_name="api_cancel", summary="Give a call up")
def cancel_call(request: ApiRequest, call_id: uuid.UUID) -> GivenUp:
    """Give a call up, wherever it runs or waits. What its tool has done by then stays done."""
    caller = request.auth
    limits.count(caller.user, "call")
    return GivenUp(cancelled=calls.cancel_call(_own(caller, call_id), caller.user))


def answer_of(result: ToolResult, call_id: uuid.UUID | None) -> CallAnswer:
    """Return what whoever waited for a call is answered; a member that has no value is left out."""
    known = {} if call_id is None else {"call": call_id}
    return CallAnswer(result=Result.model_validate(result.to_json()), **known)


def events_of(
    request: HttpRequest, work: Callable[[OnProgress], ToolResult], call_id: uuid.UUID, user: Person
) -> StreamingHttpResponse:
    """Answer with the events of a call, which is given up when nobody reads them any more."""

    def answer(tell: OnProgress) -> dict[str, Any]:
        return answer_of(work(tell), call_id).model_dump(mode="json", by_alias=True, exclude_unset=True)

    return stream_of(request, answer, lambda: calls.cancel_call(call_id, user))


def _own(caller: Caller, call_id: uuid.UUID) -> ToolCall:
    call = calls.find_call(call_id, caller.user)
    if not caller.sees(call.server.workspace_id):
        raise NotFound(_("There is no call of that id for you."))
    return call


def _facts(call: ToolCall) -> dict[str, Any]:
    told = call.progress is not None or bool(call.progress_message)
    return {
        "id": call.pk,
        "server": call.server_id,
        "reference": call.server.natural_name(),
        "tool": call.tool,
        "state": call.state,
        "outcome": call.outcome,
        "attempt": call.attempt,
        "started_at": call.started_at,
        "ended_at": call.ended_at,
        "duration_ms": call.duration_ms,
        "resumable_until": call.resumable_until if call.is_waiting else None,
        "progress": Progress(progress=call.progress, total=call.progress_total, message=call.progress_message)
        if told
        else None,
    }
