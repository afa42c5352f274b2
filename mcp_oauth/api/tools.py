"""Tools: what a server offers the caller, and running one."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, ClassVar

from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _
from ninja import Query, Router
from pydantic import BaseModel, Field, field_validator

from mcp_oauth.api.answers import SAFE, Mistake, Moment, TimedBody
from mcp_oauth.api.callers import ApiRequest
from mcp_oauth.api.calls import CallAnswer, answer_of, events_of
from mcp_oauth.api.streams import EVENTS, wants_events
from mcp_oauth.services import calls, catalog, limits
from mcp_oauth.services.call_runs import OnProgress
from mcp_oauth.services.workspaces import server_for
from mcp_oauth.sessions.results import ToolResult

router = Router()


class Tools(BaseModel):
    """A server's tools, each as the wire spells it (MCP ``Tool``)."""

    tools: list[dict[str, Any]]
    truncated: bool = Field(description="The server offers more than is listed here.")
    fetched_at: Moment


class CallBody(TimedBody):
    """What a call brings."""

    MEMBER: ClassVar[str] = "arguments"

    arguments: dict[str, Any] | None = Field(
        default=None, repr=False, description="As the tool's inputSchema wants them."
    )
    call: uuid.UUID | None = Field(
        default=None,
        description="A UUID of your own: the same one never runs twice, and under it the call is watched or given up.",
    )

    @field_validator("arguments", mode="before")
    @classmethod
    def _arguments_are_an_object(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, dict):
            raise Mistake(_("The arguments must be a JSON object."))
        return value


_NO_ARGUMENTS = CallBody()


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
    openapi_extra=EVENTS,
    url_name="api_call",
    summary="Run a tool",
)
def call_tool(
    request: ApiRequest, server_id: uuid.UUID, name: str, body: CallBody = _NO_ARGUMENTS
) -> CallAnswer | StreamingHttpResponse:
    """Run a tool and wait for its result. A failure that the tool reports itself is a result with ``isError``."""
    caller = request.auth
    limits.count(caller.user, "call")
    server = caller.server(server_id)
    streamed = wants_events(request)
    # A call without an id is over with its answer: nothing of it is kept.
    call_id = body.call or (uuid.uuid4() if streamed else None)

    def work(tell: OnProgress | None) -> ToolResult:
        return calls.call_tool(
            server, caller.user, name, body.arguments, timeout=body.timeout, call_id=call_id, on_progress=tell
        )

    if streamed and call_id is not None:
        # Before the stream begins, so that the status can say it.
        server = server_for(caller.user, server)
        return events_of(request, work, call_id, caller.user)
    return answer_of(work(None), call_id)
