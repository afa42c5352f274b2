"""Running one tool on its page: the form for its arguments, the call, and what came of it."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpResponse, QueryDict
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from mcp_oauth.exceptions import (
    AuthorizationRequired,
    InputRequired,
    InsufficientScope,
    InvalidRequest,
    McpOAuthError,
    NotFound,
)
from mcp_oauth.models import McpServer, ToolCall
from mcp_oauth.services import catalog, limits
from mcp_oauth.services.calls import call_tool, cancel_call, find_call
from mcp_oauth.services.resumption import resume_call
from mcp_oauth.services.schema_check import problems_of
from mcp_oauth.services.workspaces import Person
from mcp_oauth.sessions.results import ToolDescription
from mcp_oauth.views.access import MediaResponse, SignedInRequest, page_context, person_required, place_and_server
from mcp_oauth.views.cards import card_for
from mcp_oauth.views.content import ResultView, result_view
from mcp_oauth.views.questions import answers_from, questions_for
from mcp_oauth.views.schema_form import form_of, is_drawable
from mcp_oauth.views.schema_nodes import Node, fields_of, node_at, root_fields, value_of, with_problems
from mcp_oauth.views.schema_values import ABSENT, Unreadable, json_from
from mcp_oauth.views.servers import read_again
from mcp_oauth.views.snippets import Snippet, snippets
from mcp_oauth.views.tools import ErrorView, tool_view

# What the person mends by going to the authorization server; the button is offered right where it happens.
_MENDED_BY_THE_PERSON: Final = (AuthorizationRequired, InsufficientScope)
# The name of the form's fields.
_FORM: Final = "a"
# Buttons that change the form and run nothing.
_CHANGES: Final = ("add", "remove", "show", "switch", "copy")
# Buttons that do something with the call whose id they carry.
_ON_A_CALL: Final = ("continue", "decline", "give_up")


@dataclass(frozen=True)
class FieldProblem:
    """One line of the summary: which field, where it is, and what is wrong with it."""

    id: str
    label: str
    message: str


@dataclass(frozen=True)
class Typed:
    """What a person has typed so far, as the form shows it again: fields, or with ``as_json`` one text."""

    as_json: bool
    text: str
    form: Node | None
    problems: tuple[FieldProblem, ...] = ()

    @property
    def fields(self) -> tuple[Node, ...]:
        """The form's fields."""
        return root_fields(self.form) if self.form is not None else ()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments as far as they are there.

        Raises:
            InvalidRequest: the text is no JSON object; the message says where it breaks.
        """
        if self.as_json or self.form is None:
            return arguments_from(self.text)
        found = value_of(self.form)
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Outcome:
    """What came of pressing a button: a result, an error, a call that waits for its person, or that there is none."""

    result: ResultView | None = None
    told: str = ""
    error: McpOAuthError | None = None
    call: ToolCall | None = None


@sensitive_variables()
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def run(request: SignedInRequest, slug: str, server_id: uuid.UUID) -> HttpResponse:
    """Show a tool's form, run it, and go on with a call that waits; what was typed is kept whatever happens.

    ``?part=run`` is what changes alone, for a page that shows it in its place.
    """
    place, server = place_and_server(request, slug, server_id)
    name = request.GET.get("tool", "")
    outcome = Outcome()
    try:
        # Of a new access nothing is known yet.
        tool = _tool(server, request.user, name, ask=request.method != "POST" or "form" in request.POST)
    except McpOAuthError as failure:
        outcome, tool = Outcome(error=failure), None
    typed = typed_so_far(tool, request.POST if request.method == "POST" else None, request.GET.get("as") == "json")
    if request.method == "POST" and outcome.error is None and not any(change in request.POST for change in _CHANGES):
        typed, outcome = _pressed(request, server, name, tool, typed)
    tool = tool or _tool(server, request.user, name, ask=False)
    run_url = reverse("mcp_oauth:run", args=[slug, server.pk])
    read_again(server)
    error, call = outcome.error, outcome.call
    reauth = isinstance(error, _MENDED_BY_THE_PERSON)
    unfit = error if getattr(error, "field", "") else None
    context = {
        **page_context(request, place),
        "card": card_for(place, request.user, server),
        "tool": tool_view(tool, run_url) if tool is not None else None,
        "tool_name": name,
        "typed": typed,
        "error": ErrorView.of(error) if error is not None and not isinstance(error, InputRequired) else None,
        "reauth": reauth,
        "call": call,
        "questions": questions_for(call, request.POST if unfit else None, unfit) if call is not None else [],
        "result": outcome.result,
        "told": outcome.told,
        "snippets": _snippets(request, server, name, typed) if tool is not None else (),
        "copying": "copy" in request.POST,
    }
    if request.GET.get("part") == "run":
        response: HttpResponse = MediaResponse(render_to_string("mcp_oauth/_run.html", context, request))
    else:
        status = error.http_status if error is not None else 400 if typed.problems else 200
        response = MediaResponse(render_to_string("mcp_oauth/run.html", context, request), status=status)
    response["Cache-Control"] = "no-store"
    return response


def _pressed(
    request: SignedInRequest, server: McpServer, name: str, tool: ToolDescription | None, typed: Typed
) -> tuple[Typed, Outcome]:
    """Run the tool, or do with a call that waits what was pressed."""
    posted = request.POST
    waiting = next((posted[button] for button in _ON_A_CALL if button in posted), "")
    started = time.perf_counter()
    call: ToolCall | None = None
    try:
        if waiting:
            call = _own_call(waiting, request, server, name)
            if "give_up" in posted:
                given_up = cancel_call(call, request.user)
                told = _("The call was given up.") if given_up else _("The call had already ended.")
                return typed, Outcome(told=told)
            limits.count(request.user, "call")
            answer = resume_call(call, request.user, answers=answers_from(call, posted))
        else:
            typed = checked(tool, typed)
            if typed.problems:
                return typed, Outcome()
            limits.count(request.user, "call")
            call_id = posted.get("call_id") or None
            answer = call_tool(server, request.user, name, typed.arguments(), call_id=call_id)
    except McpOAuthError as failure:
        return typed, Outcome(error=failure, call=_waiting(failure, call, request))
    return typed, Outcome(result=result_view(answer, round((time.perf_counter() - started) * 1000)))


def _own_call(call_id: str, request: SignedInRequest, server: McpServer, name: str) -> ToolCall:
    """Return a call of this very tool.

    Raises:
        NotFound: there is none of that id for this person.
    """
    call = find_call(call_id, request.user)
    if call.server_id != server.pk or call.tool != name:
        raise NotFound(_("There is no call of that id for you."))
    return call


def _waiting(error: McpOAuthError, before: ToolCall | None, request: SignedInRequest) -> ToolCall | None:
    """Return the call that goes on once the person has done something, if there is one."""
    call_id = getattr(error, "call", "") or (str(before.pk) if before is not None else "")
    if not call_id:
        return None
    try:
        call = find_call(call_id, request.user)
    except McpOAuthError:  # gone meanwhile; the error says enough
        return None
    return call if call.is_waiting else None


def _snippets(request: SignedInRequest, server: McpServer, name: str, typed: Typed) -> tuple[Snippet, ...]:
    """Return what is typed as programs write it; nothing where it is no JSON object yet."""
    try:
        arguments = typed.arguments()
    except InvalidRequest:
        return ()
    url = request.build_absolute_uri(reverse("mcp_oauth:api_call", args=[server.pk, name])) if name else ""
    return snippets(server, name, arguments, url=url, username=request.user.get_username())


def _tool(server: McpServer, user: Person, name: str, *, ask: bool) -> ToolDescription | None:
    """Return the tool as its server described it last; ``ask`` its server where no description is kept.

    What is typed into a form is understood only with the schema it was made from, and nothing is kept of a listing that
    another access brought.
    """
    listing = catalog.last_known(server, user)
    if listing is None and ask:
        listing = catalog.list_tools(server, user)
    return listing.find(name) if listing is not None else None


def typed_so_far(tool: ToolDescription | None, posted: QueryDict | None, as_json: bool = False) -> Typed:
    """Return what was typed, with what a button adds, takes away or turns into the other way of typing."""
    schema = tool.input_schema if tool is not None else {}
    drawable = is_drawable(schema)
    if posted is None:
        form = form_of(schema, _FORM)
        return Typed(as_json or not drawable, _pretty(value_of(form)), form if drawable else None)
    if "form" not in posted or not drawable:
        text = posted.get("arguments", "").replace("\r\n", "\n")
        if "form" in posted:
            # There is no such form any more; what was typed into it is shown all the same.
            text = _pretty({field: posted.getlist(field) for field in posted if field.startswith(f"{_FORM}.")})
        wants_form = drawable and posted.get("switch") == "form"
        return _switched_to_form(schema, text) if wants_form else Typed(True, text, None)
    form = form_of(schema, _FORM, posted=posted)
    if posted.get("switch") == "json":
        return Typed(True, _pretty(value_of(form)), None)
    return Typed(False, "", form)


def checked(tool: ToolDescription | None, typed: Typed) -> Typed:
    """Return what was typed with everything that the tool's schema finds wrong with it."""
    if tool is None:
        return typed
    broken: dict[str, str] = {}
    try:
        arguments = typed.arguments() if typed.form is None else value_of(typed.form, broken)
    except InvalidRequest:
        return typed
    found = problems_of(tool.input_schema, arguments) if _can_travel(arguments) else []
    if typed.form is None:
        lines = [FieldProblem("arguments", _path_words(problem.path), problem.message) for problem in found]
        return Typed(True, typed.text, None, tuple(lines))
    for problem in found:
        broken.setdefault(node_at(typed.form, problem.path).name, problem.message)
    form = with_problems(typed.form, broken)
    wrong = [field for field in fields_of(form) if field.problem]
    return Typed(False, "", form, tuple(FieldProblem(field.id, field.label, field.problem) for field in wrong))


def arguments_from(text: str) -> dict[str, Any]:
    """Read the arguments a person typed.

    Raises:
        InvalidRequest: they are not a JSON object; the message says where they break.
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            _("The arguments are not valid JSON: line %(line)d, column %(column)d.")
            % {"line": error.lineno, "column": error.colno}
        ) from error
    except ValueError as error:  # a number of more digits than Python reads
        raise InvalidRequest(_("The arguments are not valid JSON: a number in them is too long.")) from error
    except RecursionError as error:
        raise InvalidRequest(_("The arguments are nested too deeply.")) from error
    if not isinstance(value, dict):
        raise InvalidRequest(_('The arguments must be a JSON object, for example {"title": "Hello"}.'))
    return value


def _switched_to_form(schema: dict[str, Any], text: str) -> Typed:
    """Return the text as fields; one that is no JSON object stays a text, with what is wrong with it."""
    try:
        value = json_from(text)
        if value is not ABSENT and not isinstance(value, dict):
            raise Unreadable(_("must be a JSON object"))
    except Unreadable as error:
        return Typed(True, text, None, (FieldProblem("arguments", _("Arguments, as JSON"), str(error)),))
    form = form_of(schema, _FORM, value=value)
    if form.kind == "json":
        return Typed(True, text, None)
    return Typed(False, "", form)


def _can_travel(arguments: Any) -> bool:
    """Whether arguments can be written as JSON at all; the call says it where they cannot."""
    try:
        json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _path_words(path: tuple[str | int, ...]) -> str:
    return ".".join(str(part)[:60] for part in path[:20]) or _("Arguments, as JSON")


def _pretty(value: Any) -> str:
    return "{}" if value is ABSENT else json.dumps(value, indent=2, ensure_ascii=False, default=str)
