"""Reads from a call's row what became of the call: its result, what it waits for, or why there is neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from mcp_oauth.exceptions import (
    AddressBlocked,
    AuthorizationRequired,
    CallCancelled,
    CallInterrupted,
    CallNotResumable,
    DeadlineExceeded,
    InputRequired,
    InsufficientScope,
    McpOAuthError,
    RedirectRefused,
    ResponseTooLarge,
    SecretUnreadable,
    ServerRefused,
    ServerUnreachable,
    ToolNotFound,
)
from mcp_oauth.models import McpServer, ToolCall
from mcp_oauth.services import call_records as records
from mcp_oauth.services import grants
from mcp_oauth.sessions.results import Question, ToolResult

State = ToolCall.State

# What an exchange that goes on in another process can end with.
_TOLD_BY_OTHERS: dict[str, type[McpOAuthError]] = {
    error.code: error
    for error in (
        AddressBlocked,
        CallCancelled,
        CallInterrupted,
        DeadlineExceeded,
        RedirectRefused,
        ResponseTooLarge,
        SecretUnreadable,
        ServerRefused,
        ServerUnreachable,
        ToolNotFound,
    )
}


def result_of(call: ToolCall) -> ToolResult | None:
    """Return the result of a call while it is kept.

    Raises:
        SecretUnreadable: no key opens it.
    """
    kept = call.result
    return ToolResult.from_json(kept) if isinstance(kept, dict) and "content" in kept else None


def questions_of(call: ToolCall) -> tuple[Question, ...]:
    """Return what the server asks the person; nothing where a call waits for no answer.

    Raises:
        SecretUnreadable: no key opens it.
    """
    if call.state != State.INPUT_REQUIRED:
        return ()
    return tuple(Question.from_json(question) for question in pending_of(call).get("questions", ()))


def pending_of(call: ToolCall) -> dict[str, Any]:
    """Return what a waiting call needs to go on, beside its arguments.

    Raises:
        SecretUnreadable: no key opens it.
    """
    pending = call.pending
    return dict(pending) if isinstance(pending, dict) else {}


def outcome_of(call: ToolCall, server: McpServer) -> ToolResult:
    """Return the result that a call brought somebody else, or the same person before.

    Raises:
        AuthorizationRequired, InsufficientScope, InputRequired: it waits for its person.
        CallInterrupted: it lost its process.
        CallNotResumable: it runs, or what it brought is not kept.
        CallCancelled, ServerUnreachable, ServerRefused: how it ended, where that is kept.
    """
    result = result_of(call)
    if result is not None:
        return result
    if call.is_waiting:
        raise waits_for(call, server)
    told = call.result
    if isinstance(told, dict) and isinstance(told.get("error"), dict):
        raise _told(told["error"])
    raise not_resumable(call)


def waits_for(call: ToolCall, server: McpServer) -> AuthorizationRequired | InsufficientScope | InputRequired:
    """Return the error that says what a waiting call waits for, as it was said when it began to."""
    if call.state == State.INPUT_REQUIRED:
        return input_required(call, server, questions_of(call))
    error: AuthorizationRequired | InsufficientScope = (
        grants.more_access_required(server, str(pending_of(call).get("access", {}).get("scope", "")))
        if call.outcome == InsufficientScope.code
        else grants.authorization_required(server, call.outcome)
    )
    error.call = str(call.pk)
    return error


def input_required(call: ToolCall, server: McpServer, questions: tuple[Question, ...]) -> InputRequired:
    """Return the error that hands a server's questions to whoever can ask the person."""
    return InputRequired(
        _("%(server)s asks you something before “%(tool)s” goes on.") % {"server": server.name, "tool": call.tool},
        call=str(call.pk),
        questions=[question.to_json() for question in questions],
    )


def interrupted(server: McpServer) -> CallInterrupted:
    """Return the error of a call whose process went away."""
    return CallInterrupted(
        _("The process that ran this call at %(server)s went away; nobody knows whether the tool ran.")
        % {"server": server.name}
    )


def not_resumable(call: ToolCall) -> CallInterrupted | CallNotResumable:
    """Return why a call that does not wait cannot go on."""
    if call.state == State.RUNNING:
        return CallNotResumable(
            _("The call is still running."), reason="running", next_step=_("Wait until it ends, or cancel it.")
        )
    if call.outcome == CallInterrupted.code:
        return interrupted(call.server)
    if call.outcome in (records.EXPIRED, records.REPLACED):
        return CallNotResumable(_("The call waited too long and was given up."), reason="expired")
    if call.outcome == records.SERVER_CHANGED:
        return server_changed(call)
    return CallNotResumable(
        _("The call has ended (%(outcome)s).") % {"outcome": call.outcome or call.get_state_display()},
        reason="ended",
        next_step=_("Look at how it ended; run the tool again as another call if you want it again."),
    )


def server_changed(call: ToolCall) -> CallNotResumable:
    """Return the error of a call whose arguments were meant for the server as it was."""
    return CallNotResumable(
        _("%(server)s was changed by an administrator since; what the call was to send is not sent there.")
        % {"server": call.server.name},
        reason="server_changed",
    )


def already_resumed() -> CallNotResumable:
    """Return the error of whoever comes second."""
    return CallNotResumable(
        _("Somebody has just gone on with this call."),
        reason="already_resumed",
        next_step=_("Look at how it ends; it runs once."),
    )


def _told(error: Mapping[str, Any]) -> McpOAuthError:
    kind = _TOLD_BY_OTHERS.get(str(error.get("code")), ServerRefused)
    return kind(str(error.get("message", "")), next_step=str(error.get("next_step", "")))
