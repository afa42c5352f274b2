"""Servers: which ones there are for the caller, and the two facts about each."""

from __future__ import annotations

import uuid

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from ninja import Router
from pydantic import BaseModel

from mcp_oauth.api.answers import SAFE, Moment
from mcp_oauth.api.callers import ApiRequest, Caller
from mcp_oauth.exceptions import NotFound
from mcp_oauth.models import McpServer, McpServerOAuth
from mcp_oauth.services.serving_grants import grants_of, still_good

router = Router()


class Server(BaseModel):
    """A server as the caller sees it; whether it is authorized and whether it is reachable are two facts."""

    id: uuid.UUID
    name: str
    reference: str
    url: str
    enabled: bool
    auth_mode: str
    shared: bool
    authorized: bool
    reason: str
    expires_at: Moment | None
    renewed_at: Moment | None
    reachable: bool | None
    contacted_at: Moment | None


class Servers(BaseModel):
    """The servers of the caller's workspaces."""

    servers: list[Server]


class OneServer(BaseModel):
    """One server."""

    server: Server


@router.api_operation(SAFE, "servers/", response=Servers, url_name="api_servers", summary="List the servers")
def list_servers(request: ApiRequest) -> Servers:
    """List the servers of the caller's workspaces with the two facts about each."""
    return Servers(servers=_described(request.auth, _servers_of(request.auth)))


@router.api_operation(
    SAFE, "servers/{uuid:server_id}/", response=OneServer, url_name="api_server", summary="Look at one server"
)
def get_server(request: ApiRequest, server_id: uuid.UUID) -> OneServer:
    """Look at one server."""
    found = _described(request.auth, _servers_of(request.auth).filter(pk=server_id))
    if not found:
        raise NotFound(_("There is no server of that name for you."))
    return OneServer(server=found[0])


def _servers_of(caller: Caller) -> QuerySet[McpServer]:
    rows = (
        McpServer.objects.filter(workspace__memberships__user_id=caller.user.pk)
        .select_related("workspace")
        .defer(*McpServer.SECRETS, "discover_result", "probe_steps", "oauth_options")
        .order_by("workspace__slug", "name", "pk")
    )
    return rows if caller.workspace_id is None else rows.filter(workspace_id=caller.workspace_id)


def _described(caller: Caller, rows: QuerySet[McpServer]) -> list[Server]:
    listed = list(rows)
    grants = grants_of(caller.user, listed)
    return [_one(row, grants.get(row.pk)) for row in listed]


def _one(server: McpServer, grant: McpServerOAuth | None) -> Server:
    # An identity of the application's own asks for its first token when it is first used.
    good = still_good(grant) if grant is not None else server.is_unattended
    reason = "" if good else "not_connected" if grant is None else "expired" if grant.is_active else grant.reason
    return Server(
        id=server.pk,
        name=server.name,
        reference=server.natural_name(),
        url=server.url,
        enabled=server.is_in_use,
        auth_mode=server.auth_mode,
        shared=server.grant_is_shared,
        authorized=good if server.uses_grants else server.headers_refused_at is None,
        reason=reason if server.uses_grants else "",
        expires_at=grant.expires_at if grant is not None else None,
        renewed_at=grant.refreshed_at if grant is not None else None,
        reachable=server.reachable,
        contacted_at=server.contacted_at,
    )
