"""Runs a tool on a person's behalf."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InvalidRequest, ServerRefused, ToolNotFound
from mcp_oauth.models import McpServer
from mcp_oauth.services import contacts
from mcp_oauth.services.access import on_behalf
from mcp_oauth.services.catalog import last_known, plan_listing
from mcp_oauth.services.steps import Plan, adrive, drive
from mcp_oauth.services.workspaces import Person, server_for
from mcp_oauth.sessions.results import Progress, ToolResult


def call_tool(
    server: McpServer | uuid.UUID | str,
    user: Person,
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    timeout: float | None = None,
) -> ToolResult:
    """Run one tool at a server with the person's own credentials and return its result.

    A tool that reports a failure of its own returns a result with ``is_error``; it is not raised, because it is
    an answer for whoever asked (a model, usually). ``timeout`` is in seconds.

    Raises:
        NotFound: no such server for this person.
        ToolNotFound: the server offers no such tool.
        InvalidRequest: the arguments are not a JSON object or too large.
        AuthorizationRequired: the person has to connect, for the first time or again.
        InsufficientScope, ServerUnreachable, ServerRefused: the server's answer.
    """
    return drive(_plan(server, user, name, arguments, timeout))


async def acall_tool(
    server: McpServer | uuid.UUID | str,
    user: Person,
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    timeout: float | None = None,
) -> ToolResult:
    """Do the same as `call_tool`, for asynchronous callers."""
    return await adrive(_plan(server, user, name, arguments, timeout))


def _plan(
    reference: McpServer | uuid.UUID | str,
    user: Person,
    name: str,
    arguments: dict[str, Any] | None,
    timeout: float | None,
) -> Plan[ToolResult]:
    given = _checked(arguments)
    seconds = settings.CALL_SECONDS if timeout is None else timeout
    if seconds <= 0:
        raise InvalidRequest(_("The time limit must be more than zero seconds."))
    server = server_for(user, reference)
    catalogue = last_known(server, user)
    if catalogue is None or (catalogue.find(name) is None and not catalogue.truncated):
        # The tool may be new; only a listing of now can say that there is no such tool.
        catalogue = yield from plan_listing(server, user, refresh=True)
    if catalogue.find(name) is None and not catalogue.truncated:
        raise ToolNotFound(
            _("%(server)s offers no tool named “%(tool)s”.") % {"server": server.name, "tool": name[:100]}
        )
    from mcp_oauth.sessions.client import call_tool as run_tool

    # The same one after a renewed token, so that a call that lives on as a task is gone on with.
    progress = Progress()
    result = yield from on_behalf(
        server,
        user,
        lambda target: run_tool(target, name, given, timeout=seconds, progress=progress),
        seconds=seconds,
        tools=catalogue.tools,
    )
    if not isinstance(result, ToolResult):
        raise ServerRefused(_("%(server)s asks for input in the middle of the call.") % {"server": server.name})
    contacts.record_negotiation(server, result.protocol_version, result.discover_result)
    return result


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
