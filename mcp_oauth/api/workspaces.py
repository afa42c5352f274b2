"""Workspaces: where the caller belongs."""

from __future__ import annotations

from typing import Literal

from ninja import Router
from pydantic import BaseModel

from mcp_oauth.api.answers import SAFE
from mcp_oauth.api.callers import ApiRequest
from mcp_oauth.models import Membership

router = Router()


class Workspace(BaseModel):
    """A workspace and what the caller is in it."""

    name: str
    slug: str
    role: Literal["member", "admin"]


class Workspaces(BaseModel):
    """The caller's workspaces."""

    workspaces: list[Workspace]


@router.api_operation(
    SAFE, "workspaces/", response=Workspaces, url_name="api_workspaces", summary="List the workspaces"
)
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
