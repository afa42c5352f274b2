"""Lists and reads a server's resources on a person's behalf."""

from __future__ import annotations

import uuid
from typing import Any

from mcp_oauth.models import McpServer
from mcp_oauth.services.entries import Entries, check_uri, plan_exchange, plan_list
from mcp_oauth.services.listing_owners import Kind
from mcp_oauth.services.steps import Plan, adrive, drive
from mcp_oauth.services.workspaces import Person


def list_resources(server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool = False) -> Entries:
    """Return the resources a server offers a person; ``refresh`` asks the server even if the listing is recent.

    Raises:
        NotFound: no such server for this person.
        AuthorizationRequired: the person has to connect, for the first time or again.
        InsufficientScope, ServerUnreachable, ServerRefused: the server's answer.
    """
    return drive(plan_list(server, user, Kind.RESOURCES, refresh=refresh))


async def alist_resources(server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool = False) -> Entries:
    """Return the same as `list_resources`, for asynchronous callers."""
    return await adrive(plan_list(server, user, Kind.RESOURCES, refresh=refresh))


def list_resource_templates(server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool = False) -> Entries:
    """Return the templates (RFC 6570) of the URIs at which a server has resources that it does not list one by one.

    Raises what `list_resources` raises.
    """
    return drive(plan_list(server, user, Kind.RESOURCE_TEMPLATES, refresh=refresh))


async def alist_resource_templates(
    server: McpServer | uuid.UUID | str, user: Person, *, refresh: bool = False
) -> Entries:
    """Return the same as `list_resource_templates`, for asynchronous callers."""
    return await adrive(plan_list(server, user, Kind.RESOURCE_TEMPLATES, refresh=refresh))


def read_resource(
    server: McpServer | uuid.UUID | str, user: Person, uri: str, *, timeout: float | None = None
) -> dict[str, Any]:
    """Return what a server has at a URI, in the wire's spelling (MCP `ReadResourceResult`); all of it is untrusted.

    Only the server is asked for the URI, whatever its scheme says. ``timeout`` is in seconds.

    Raises:
        NotFound: no such server for this person.
        InvalidRequest: the URI cannot be asked for.
        AuthorizationRequired: the person has to connect, for the first time or again.
        InsufficientScope, ServerUnreachable, ServerRefused: the server's answer.
    """
    return drive(_plan_to_read(server, user, uri, timeout))


async def aread_resource(
    server: McpServer | uuid.UUID | str, user: Person, uri: str, *, timeout: float | None = None
) -> dict[str, Any]:
    """Return the same as `read_resource`, for asynchronous callers."""
    return await adrive(_plan_to_read(server, user, uri, timeout))


def _plan_to_read(
    server: McpServer | uuid.UUID | str, user: Person, uri: str, timeout: float | None
) -> Plan[dict[str, Any]]:
    checked = check_uri(uri)
    from mcp_oauth.sessions import client

    return (
        yield from plan_exchange(
            server, user, lambda target, seconds: client.read_resource(target, checked, timeout=seconds), timeout
        )
    )
