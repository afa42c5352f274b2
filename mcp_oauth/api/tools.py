"""Tools: what a server offers the caller, and running one."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, ClassVar

from django.utils.translation import gettext as _
from ninja import Query, Router
from pydantic import BaseModel, Field, field_validator

from mcp_oauth.api.answers import SAFE, Body, Mistake, Moment
from mcp_oauth.api.callers import ApiRequest
from mcp_oauth.services import calls, catalog, limits

router = Router()


class Tools(BaseModel):
    """A server's tools, each as the wire spells it (MCP ``Tool``)."""

    tools: list[dict[str, Any]]
    truncated: bool = Field(description="The server offers more than is listed here.")
    fetched_at: Moment


class CallBody(Body):
    """What a call brings."""

    MEMBER: ClassVar[str] = "arguments"

    arguments: dict[str, Any] | None = Field(
        default=None, repr=False, description="As the tool's inputSchema wants them."
    )

    @field_validator("arguments", mode="before")
    @classmethod
    def _arguments_are_an_object(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, dict):
            raise Mistake(_("The arguments must be a JSON object."))
        return value


_NO_ARGUMENTS = CallBody()


class Result(BaseModel):
    """What a tool returned (MCP ``CallToolResult``); all of it is the server's words and untrusted."""

    content: list[dict[str, Any]] = Field(repr=False)
    is_error: bool = Field(alias="isError", description="The tool itself reports a failure.")
    structured_content: Any = Field(default=None, alias="structuredContent", repr=False)


class CallAnswer(BaseModel):
    """A call that ended."""

    result: Result


@router.api_operation(
    SAFE, "servers/{uuid:server_id}/tools/", response=Tools, url_name="api_tools", summary="List a server's tools"
)
def list_tools(
    request: ApiRequest,
    server_id: uuid.UUID,
    refresh: Annotated[bool, Query(description="Ask the server now.")] = False,
) -> Tools:
    """List the tools the caller can run at a server; a recent listing serves unless ``refresh`` asks for another."""
    caller = request.auth
    limits.count(caller.user, "ask" if refresh else "call")
    listing = catalog.list_tools(caller.server(server_id), caller.user, refresh=refresh)
    return Tools(tools=[tool.to_json() for tool in listing], truncated=listing.truncated, fetched_at=listing.fetched_at)


@router.post(
    "servers/{uuid:server_id}/tools/{path:name}/call/",
    response=CallAnswer,
    by_alias=True,
    exclude_unset=True,
    url_name="api_call",
    summary="Run a tool",
)
def call_tool(request: ApiRequest, server_id: uuid.UUID, name: str, body: CallBody = _NO_ARGUMENTS) -> CallAnswer:
    """Run a tool and wait for its result. A failure that the tool reports itself is a result with ``isError``."""
    caller = request.auth
    limits.count(caller.user, "call")
    result = calls.call_tool(caller.server(server_id), caller.user, name, body.arguments)
    return CallAnswer(result=Result.model_validate(result.to_json()))
