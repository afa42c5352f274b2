"""Workspaces: where the caller belongs, and all tools there are for them in one."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from django.utils.translation import gettext as _
from ninja import Query, Router
from pydantic import BaseModel, Field

from mcp_oauth.api.answers import SAFE, Moment, Problem
from mcp_oauth.api.callers import ApiRequest
from mcp_oauth.exceptions import NotFound
from mcp_oauth.models import Membership
from mcp_oauth.services import limits
from mcp_oauth.services.workspace_tools import ServerTools, list_workspace_tools
from mcp_oauth.services.workspaces import place_in

router = Router()


class Workspace(BaseModel):
    """A workspace and what the caller is in it."""

    name: str
    slug: str
    role: Literal["member", "admin"]


class Workspaces(BaseModel):
    """The caller's workspaces."""

    workspaces: list[Workspace]


class ToolsOfServer(BaseModel):
    """One server's tools, or in their place why there are none."""

    server: uuid.UUID
    name: str
    reference: str
    tools: list[dict[str, Any]] | None = Field(description="Each as the wire spells it (MCP Tool).")
    truncated: bool = Field(description="The server offers more than is listed here.")
    fetched_at: Moment | None
    error: Problem | None


class ToolsOfWorkspace(BaseModel):
    """The tools of a workspace's enabled servers, by server."""

    servers: list[ToolsOfServer]


@router.api_operation(SAFE, "workspaces/", response=Workspaces, url_name="api_workspaces", summary="List workspaces")
def list_workspaces(request: ApiRequest) -> Workspaces:
    """List the workspaces the caller belongs to; with an API token, the one it is for."""
    caller = request.auth
    rows = Membership.objects.filter(user_id=caller.user.pk).select_related("workspace")
    if caller.workspace_id is not None:
        rows = rows.filter(workspace_id=caller.workspace_id)
    return Workspaces.model_validate(
        {
            "workspaces": [
                {"name": row.workspace.name, "slug": row.workspace.slug, "role": row.role}
                for row in rows.order_by("workspace__name", "workspace__slug")
            ]
        }
    )


@router.api_operation(
    SAFE,
    "workspaces/{slug:slug}/tools/",
    response=ToolsOfWorkspace,
    exclude_unset=True,
    url_name="api_workspace_tools",
    summary="List a workspace's tools",
)
def list_tools_of_workspace(
    request: ApiRequest, slug: str, refresh: Annotated[bool, Query(description="Ask the servers now.")] = False
) -> ToolsOfWorkspace:
    """List what the caller can run at all servers of a workspace, asked at the same time: a slow one delays nobody."""
    caller = request.auth
    limits.count(caller.user, "ask" if refresh else "call")
    workspace = place_in(caller.user, slug).workspace
    if not caller.sees(workspace.pk):
        raise NotFound(_("There is no workspace of that name for you."))
    listed = list_workspace_tools(workspace, caller.user, refresh=refresh)
    return ToolsOfWorkspace(servers=[_one(item) for item in listed])


def _one(listed: ServerTools) -> ToolsOfServer:
    catalogue, error = listed.catalogue, listed.error
    return ToolsOfServer(
        server=listed.server.pk,
        name=listed.server.name,
        reference=listed.server.natural_name(),
        tools=None if catalogue is None else [tool.to_json() for tool in catalogue],
        truncated=catalogue is not None and catalogue.truncated,
        fetched_at=None if catalogue is None else catalogue.fetched_at,
        error=None if error is None else Problem.model_validate(error.as_json()),
    )
