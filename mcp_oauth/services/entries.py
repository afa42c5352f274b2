"""Lists what a server offers beside tools, and does one thing with one of them, on a person's behalf."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InvalidRequest
from mcp_oauth.models import McpServer
from mcp_oauth.services.access import on_behalf
from mcp_oauth.services.call_checks import LONGEST_NAME, checked_seconds, require_sendable
from mcp_oauth.services.catalog import plan_entries
from mcp_oauth.services.steps import Plan
from mcp_oauth.services.workspaces import Person, server_to_use
from mcp_oauth.sessions.target import Target


@dataclass(frozen=True)
class Entries:
    """Prompts, resources or resource templates of one server for one person; every text in them is untrusted.

    Each entry is a JSON object in the wire's spelling (MCP `Prompt`, `Resource`, `ResourceTemplate`). ``truncated``
    says that the server offers more than the limits allow.
    """

    entries: tuple[dict[str, Any], ...]
    truncated: bool
    fetched_at: datetime

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def plan_list(server: McpServer | uuid.UUID | str, user: Person, kind: str, *, refresh: bool) -> Plan[Entries]:
    """Plan to list one kind of entries of a server that the person may use."""
    listed = yield from plan_entries(server_to_use(user, server), user, kind, refresh=refresh)
    return Entries(tuple(listed.entries), listed.truncated, listed.fetched_at)


def plan_exchange(
    server: McpServer | uuid.UUID | str,
    user: Person,
    work: Callable[[Target, float], Coroutine[Any, Any, dict[str, Any]]],
    timeout: float | None,
) -> Plan[dict[str, Any]]:
    """Plan one exchange with a server that the person may use; ``timeout`` is in seconds.

    Raises:
        InvalidRequest: the time limit is none.
    """
    seconds = checked_seconds(timeout)
    result: dict[str, Any] = yield from on_behalf(
        server_to_use(user, server), user, lambda target: work(target, seconds), seconds=seconds
    )
    return result


def check_uri(uri: str) -> str:
    """Return the URI of a resource if it can be asked for; which schemes there are is the server's affair.

    Raises:
        InvalidRequest: it is empty, too long, or no one line of visible characters.
    """
    if not isinstance(uri, str) or not uri or len(uri) > settings.MAX_URI_CHARACTERS:
        raise InvalidRequest(
            _("A resource's URI has 1 to %(limit)d characters.") % {"limit": settings.MAX_URI_CHARACTERS}
        )
    if not uri.isprintable() or uri != uri.strip():
        raise InvalidRequest(_("A resource's URI is one line of visible characters."))
    return uri


def check_name(name: str) -> str:
    """Return the name of a prompt or argument if it can be asked for.

    Raises:
        InvalidRequest: it is empty, too long or not printable.
    """
    if not isinstance(name, str) or not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidRequest(_("A name has 1 to %(limit)d printable characters.") % {"limit": LONGEST_NAME})
    return name


def check_texts(arguments: dict[str, str] | None) -> dict[str, str]:
    """Return the arguments of a prompt, which are texts by name, if they can travel.

    Raises:
        InvalidRequest: they are something else, or larger than ``MAX_ARGUMENT_BYTES``.
    """
    if arguments is None:
        return {}
    if not isinstance(arguments, dict) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in arguments.items()
    ):
        raise InvalidRequest(_("The arguments must be texts by name."))
    require_sendable(arguments)
    return arguments
