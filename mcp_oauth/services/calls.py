"""Runs a tool on a person's behalf; the call is found again and given up under its id."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

from django.utils.translation import gettext as _

from mcp_oauth.exceptions import InvalidRequest, SecretUnreadable
from mcp_oauth.models import McpServer, ToolCall
from mcp_oauth.services import call_outcomes as outcomes
from mcp_oauth.services import call_records as records
from mcp_oauth.services import held_calls
from mcp_oauth.services.call_checks import check_name, checked_arguments, checked_id, checked_seconds
from mcp_oauth.services.call_runs import OnProgress, Run, bound, plan_exchange, plan_to_drop, plan_to_the_end
from mcp_oauth.services.grants import server_with_grant
from mcp_oauth.services.steps import Plan, adrive, drive
from mcp_oauth.services.workspaces import Person, server_for
from mcp_oauth.sessions.results import ToolResult


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
        drive(plan_to_drop(found.server, user, state))
    return given_up


def find_call(call: ToolCall | uuid.UUID | str, user: Person) -> ToolCall:
    """Return a person's own call as it is now; one whose process is gone has ended.

    Raises:
        NotFound: no such call for this person, or not any more.
    """
    found = records.find(user, call)
    server_for(user, found.server)
    return found


def _plan_call(
    reference: McpServer | uuid.UUID | str,
    user: Person,
    name: str,
    arguments: dict[str, Any] | None,
    timeout: float | None,
    call_id: uuid.UUID | str | None,
    on_progress: OnProgress | None,
) -> Plan[ToolResult]:
    given, seconds, own_id = checked_arguments(arguments), checked_seconds(timeout), checked_id(call_id)
    server, grant = server_with_grant(user, reference)
    check_name(server, name)
    attempt = records.open_call(server, user, name, call_id=own_id, seconds=bound(server, seconds))
    if attempt is None:
        return _outcome_before(user, own_id, server, name)
    run = Run(attempt, server, user, given, seconds, on_progress, grant)
    return (yield from plan_to_the_end(run, plan_exchange(run)))


def _outcome_before(user: Person, call_id: uuid.UUID | None, server: McpServer, name: str) -> ToolResult:
    """Return what the first call of an id brought."""
    call = records.find(user, str(call_id))
    if call.server_id != server.pk or call.tool != name:
        raise InvalidRequest(_("This call_id names another call."), field="call_id")
    return outcomes.outcome_of(call, server)
