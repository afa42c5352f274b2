"""Resources and prompts: what else a server offers the caller, and what completes it."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, ClassVar, Literal

from django.utils.translation import gettext as _
from ninja import Query, Router
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mcp_oauth.api.answers import SAFE, Mistake, Moment, TimedBody
from mcp_oauth.api.callers import ApiRequest
from mcp_oauth.services import limits, prompts, resources

router = Router()

Refresh = Annotated[bool, Query(description="Ask the server now.")]


class Resources(BaseModel):
    """A server's resources, each as the wire spells it (MCP ``Resource``)."""

    resources: list[dict[str, Any]]
    truncated: bool = Field(description="The server offers more than is listed here.")
    fetched_at: Moment


class ResourceTemplates(BaseModel):
    """A server's resource templates, each as the wire spells it (MCP ``ResourceTemplate``)."""

    resource_templates: list[dict[str, Any]]
    truncated: bool = Field(description="The server offers more than is listed here.")
    fetched_at: Moment


class Prompts(BaseModel):
    """A server's prompts, each as the wire spells it (MCP ``Prompt``)."""

    prompts: list[dict[str, Any]]
    truncated: bool = Field(description="The server offers more than is listed here.")
    fetched_at: Moment


class Exchanged(BaseModel):
    """What the server answered, as the wire spells it; all of it is its words and untrusted."""

    result: dict[str, Any] = Field(repr=False)


class PromptBody(TimedBody):
    """What a prompt is filled in with."""

    MEMBER: ClassVar[str] = "arguments"

    arguments: dict[str, str] | None = Field(default=None, repr=False, description="Texts by name.")

    @field_validator("arguments", mode="before")
    @classmethod
    def _arguments_are_texts(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, dict):
            raise Mistake(_("The arguments must be a JSON object."))
        return value


_NO_ARGUMENTS = PromptBody()


class Reference(BaseModel):
    """What an argument belongs to: a prompt by its name, or a resource template by its URI."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["ref/prompt", "ref/resource"]
    name: str | None = None
    uri: str | None = None


class Argument(BaseModel):
    """An argument, and what is typed of it so far."""

    model_config = ConfigDict(extra="forbid")

    name: str
    value: str = Field(repr=False)


class CompletionBody(TimedBody):
    """What is to be completed."""

    MEMBER: ClassVar[str] = "ref"

    ref: Reference
    argument: Argument
    context: dict[str, str] | None = Field(
        default=None, repr=False, description="Arguments that are filled in already."
    )


@router.api_operation(
    SAFE,
    "servers/{uuid:server_id}/resources/",
    response=Resources,
    url_name="api_resources",
    summary="List a server's resources",
)
def list_resources(request: ApiRequest, server_id: uuid.UUID, refresh: Refresh = False) -> Resources:
    """List the resources a server offers the caller; a recent listing serves unless ``refresh`` asks for another."""
    caller = request.auth
    limits.count(caller.user, "ask" if refresh else "call")
    listed = resources.list_resources(caller.server(server_id), caller.user, refresh=refresh)
    return Resources(resources=list(listed), truncated=listed.truncated, fetched_at=listed.fetched_at)


@router.api_operation(
    SAFE,
    "servers/{uuid:server_id}/resource-templates/",
    response=ResourceTemplates,
    url_name="api_resource_templates",
    summary="List a server's resource templates",
)
def list_resource_templates(request: ApiRequest, server_id: uuid.UUID, refresh: Refresh = False) -> ResourceTemplates:
    """List the templates (RFC 6570) of URIs at which a server has resources that it does not list one by one."""
    caller = request.auth
    limits.count(caller.user, "ask" if refresh else "call")
    listed = resources.list_resource_templates(caller.server(server_id), caller.user, refresh=refresh)
    return ResourceTemplates(resource_templates=list(listed), truncated=listed.truncated, fetched_at=listed.fetched_at)


@router.api_operation(
    SAFE,
    "servers/{uuid:server_id}/resources/read/",
    response=Exchanged,
    url_name="api_read_resource",
    summary="Read a resource",
)
def read_resource(
    request: ApiRequest, server_id: uuid.UUID, uri: Annotated[str, Query(description="Of the resource.")]
) -> Exchanged:
    """Read a resource; the result is an MCP ``ReadResourceResult``."""
    caller = request.auth
    limits.count(caller.user, "call")
    return Exchanged(result=resources.read_resource(caller.server(server_id), caller.user, uri))


@router.api_operation(
    SAFE,
    "servers/{uuid:server_id}/prompts/",
    response=Prompts,
    url_name="api_prompts",
    summary="List a server's prompts",
)
def list_prompts(request: ApiRequest, server_id: uuid.UUID, refresh: Refresh = False) -> Prompts:
    """List the prompts a server offers the caller; a recent listing serves unless ``refresh`` asks for another."""
    caller = request.auth
    limits.count(caller.user, "ask" if refresh else "call")
    listed = prompts.list_prompts(caller.server(server_id), caller.user, refresh=refresh)
    return Prompts(prompts=list(listed), truncated=listed.truncated, fetched_at=listed.fetched_at)


@router.post(
    "servers/{uuid:server_id}/prompts/{path:name}/",
    response=Exchanged,
    url_name="api_prompt",
    summary="Fill in a prompt",
)
def get_prompt(request: ApiRequest, server_id: uuid.UUID, name: str, body: PromptBody = _NO_ARGUMENTS) -> Exchanged:
    """Fill in a prompt; the result is an MCP ``GetPromptResult``."""
    caller = request.auth
    limits.count(caller.user, "call")
    filled_in = prompts.get_prompt(caller.server(server_id), caller.user, name, body.arguments, timeout=body.timeout)
    return Exchanged(result=filled_in)


@router.post(
    "servers/{uuid:server_id}/complete/", response=Exchanged, url_name="api_complete", summary="Complete an argument"
)
def complete(request: ApiRequest, server_id: uuid.UUID, body: CompletionBody) -> Exchanged:
    """Ask how a server would complete what is typed of an argument; the result is an MCP ``CompleteResult``."""
    caller = request.auth
    limits.count(caller.user, "call")
    completed = prompts.complete(
        caller.server(server_id),
        caller.user,
        body.ref.model_dump(exclude_none=True),
        body.argument.model_dump(),
        context=body.context,
        timeout=body.timeout,
    )
    return Exchanged(result=completed)
