"""Lists a server's prompts, fills them in, and completes what a person begins to type, on that person's behalf."""

from __future__ import annotations

import uuid
from typing import Any

from django.utils.translation import gettext as _

from mcp_oauth.exceptions import InvalidRequest
from mcp_oauth.models import McpServer
from mcp_oauth.services.entries import Entries, check_name, check_texts, check_uri, plan_exchange, plan_list
from mcp_oauth.services.listing_owners import Kind
from mcp_oauth.services.steps import Plan, adrive, drive
from mcp_oauth.services.workspaces import Person


def list_prompts(server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool = False) -> Entries:
    """Return the prompts a server offers a person; ``refresh`` asks the server even if the listing is recent.

    Raises:
        NotFound: no such server for this person.
        AuthorizationRequired: the person has to connect, for the first time or again.
        InsufficientScope, ServerUnreachable, ServerRefused: the server's answer.
    """
    return drive(plan_list(server, user, Kind.PROMPTS, refresh=refresh))


async def alist_prompts(server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool = False) -> Entries:
    """Return the same as `list_prompts`, for asynchronous callers."""
    return await adrive(plan_list(server, user, Kind.PROMPTS, refresh=refresh))


def get_prompt(
    server: McpServer | uuid.UUID | str,
    user: Person,
    name: str,
    arguments: dict[str, str] | None = None,
    *,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Return a prompt filled in with arguments, in the wire's spelling (MCP `GetPromptResult`); all of it is untrusted.

    ``arguments`` are texts by name, ``timeout`` is in seconds.

    Raises:
        NotFound: no such server for this person.
        InvalidRequest: name or arguments are malformed or too large.
        AuthorizationRequired: the person has to connect, for the first time or again.
        InsufficientScope, ServerUnreachable, ServerRefused: the server's answer.
    """
    return drive(_plan_to_get(server, user, name, arguments, timeout))


async def aget_prompt(
    server: McpServer | uuid.UUID | str,
    user: Person,
    name: str,
    arguments: dict[str, str] | None = None,
    *,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Return the same as `get_prompt`, for asynchronous callers."""
    return await adrive(_plan_to_get(server, user, name, arguments, timeout))


def complete(
    server: McpServer | uuid.UUID | str,
    user: Person,
    ref: dict[str, str],
    argument: dict[str, str],
    *,
    context: dict[str, str] | None = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Return how a server would complete an argument, in the wire's spelling (MCP `CompleteResult`).

    ``ref`` is ``{"type": "ref/prompt", "name": …}`` or ``{"type": "ref/resource", "uri": …}``, ``argument`` is
    ``{"name": …, "value": …}`` with what is typed so far, ``context`` the arguments that are filled in already, by
    name. ``timeout`` is in seconds.

    Raises:
        NotFound: no such server for this person.
        InvalidRequest: one of the three is malformed or too large.
        AuthorizationRequired: the person has to connect, for the first time or again.
        InsufficientScope, ServerUnreachable, ServerRefused: the server's answer.
    """
    return drive(_plan_to_complete(server, user, ref, argument, context, timeout))


async def acomplete(
    server: McpServer | uuid.UUID | str,
    user: Person,
    ref: dict[str, str],
    argument: dict[str, str],
    *,
    context: dict[str, str] | None = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Return the same as `complete`, for asynchronous callers."""
    return await adrive(_plan_to_complete(server, user, ref, argument, context, timeout))


def _plan_to_get(
    server: McpServer | uuid.UUID | str,
    user: Person,
    name: str,
    arguments: dict[str, str] | None,
    timeout: float | None,
) -> Plan[dict[str, Any]]:
    wanted, given = check_name(name), check_texts(arguments)
    from mcp_oauth.sessions import client

    return (
        yield from plan_exchange(
            server, user, lambda target, seconds: client.get_prompt(target, wanted, given, timeout=seconds), timeout
        )
    )


def _plan_to_complete(
    server: McpServer | uuid.UUID | str,
    user: Person,
    ref: dict[str, str],
    argument: dict[str, str],
    context: dict[str, str] | None,
    timeout: float | None,
) -> Plan[dict[str, Any]]:
    begun = check_texts(argument)
    if set(begun) != {"name", "value"}:
        raise InvalidRequest(_("An argument to complete has a name and a value."))
    check_name(begun["name"])
    place, known = _checked_ref(ref), check_texts(context)
    from mcp_oauth.sessions import client

    return (
        yield from plan_exchange(
            server,
            user,
            lambda target, seconds: client.complete(target, place, begun, known, timeout=seconds),
            timeout,
        )
    )


def _checked_ref(ref: dict[str, str]) -> dict[str, str]:
    kind = ref.get("type") if isinstance(ref, dict) else None
    if kind == "ref/prompt" and set(ref) == {"type", "name"}:
        return {"type": kind, "name": check_name(ref["name"])}
    if kind == "ref/resource" and set(ref) == {"type", "uri"}:
        return {"type": kind, "uri": check_uri(ref["uri"])}
    raise InvalidRequest(_("What is completed is a prompt by its name or a resource template by its URI."))
