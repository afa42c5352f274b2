"""Checks what a caller gives for an exchange, before anything is written down or sent: name, arguments, time, id."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InvalidRequest, ToolNotFound
from mcp_oauth.models import McpServer

# What a listing sets aside has no longer name.
LONGEST_NAME = 200
# A call's row says until when it may run, which has to be a date; what runs for a week is no call.
_LONGEST_SECONDS = 7 * 24 * 3600.0


def checked_seconds(timeout: float | None) -> float:
    """Return within how many seconds the exchange has to end.

    Raises:
        InvalidRequest: there is no time, or no end of it.
    """
    seconds: float = settings.CALL_SECONDS if timeout is None else timeout
    if not seconds > 0:  # nor is it "not a number"
        raise InvalidRequest(_("The time limit must be more than zero seconds."))
    if seconds > _LONGEST_SECONDS:
        raise InvalidRequest(_("A time limit is at most %(limit)g seconds.") % {"limit": _LONGEST_SECONDS})
    return seconds


def checked_id(call_id: uuid.UUID | str | None) -> uuid.UUID | None:
    """Return the caller's own id of the call, if it has one.

    Raises:
        InvalidRequest: it is no UUID.
    """
    if call_id is None or isinstance(call_id, uuid.UUID):
        return call_id
    try:
        return uuid.UUID(call_id)
    except ValueError as error:
        raise InvalidRequest(_("The call_id must be a UUID."), field="call_id") from error


def check_name(server: McpServer, name: str) -> None:
    """Refuse a name that no listing holds, before it is written down.

    Raises:
        ToolNotFound: no tool can have it.
    """
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise _no_such_tool(server, name)


def _no_such_tool(server: McpServer, name: str) -> ToolNotFound:
    return ToolNotFound(_("%(server)s offers no tool named “%(tool)s”.") % {"server": server.name, "tool": name[:100]})


def checked_arguments(arguments: dict[str, Any] | None) -> dict[str, Any]:
    """Return the arguments if they can travel.

    Raises:
        InvalidRequest: they cannot.
    """
    if arguments is None:
        return {}
    if not isinstance(arguments, dict):
        raise InvalidRequest(_("The arguments must be a JSON object."))
    require_sendable(arguments)
    return arguments


def require_sendable(arguments: dict[str, Any]) -> None:
    """Refuse what is no JSON, or larger than ``MAX_ARGUMENT_BYTES``.

    Raises:
        InvalidRequest: it is.
    """
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
