"""What the API offers, described: as OpenAPI for programs, and as a page without script for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import get_script_prefix, reverse
from django.views.decorators.http import require_safe

from mcp_oauth.api.answers import SAFE, ErrorAnswer, JsonApi
from mcp_oauth.api.streams import EVENT_STREAM
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.services.workspaces import first_place
from mcp_oauth.views.access import SignedInRequest, page_context, person_required

# What stands for a value in the page's sketches of bodies and answers, by the type or format of its schema.
_SKETCHED = {"uuid": "<uuid>", "date-time": "<time>", "string": "<text>", "integer": 0, "number": 0.0, "boolean": True}
_REFERENCE = "#/components/schemas/"


@dataclass(frozen=True)
class Parameter:
    """One part of an address or query."""

    name: str
    where: str
    kind: str
    required: bool
    description: str


@dataclass(frozen=True)
class Operation:
    """One thing a program can ask for."""

    name: str
    method: str
    path: str
    # Without what all of them begin with.
    short_path: str
    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    body: str
    answer: str
    # What it answers instead where events are asked for; empty where none are sent.
    events: str


def described(api: JsonApi) -> dict[str, Any]:
    """Return the OpenAPI document for where this site is mounted; the caller may change what it gets."""
    return deepcopy(_described(api, get_script_prefix()))


@cache
def _described(api: JsonApi, prefix: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(api.get_openapi_schema(path_prefix=prefix)))
    failure = ErrorAnswer.model_json_schema(ref_template=f"{_REFERENCE}{{model}}", mode="serialization")
    document["components"]["schemas"] |= failure.pop("$defs")
    document["components"]["schemas"]["ErrorAnswer"] = failure
    refusal = {
        "description": "Refused or failed: a stable code, what happened, and what to do about it.",
        "content": {"application/json": {"schema": {"$ref": f"{_REFERENCE}ErrorAnswer"}}},
    }
    for methods in document["paths"].values():
        # HEAD is answered as GET is, and of no use to generated clients.
        methods.pop("head", None)
        for operation in methods.values():
            operation["responses"]["default"] = refusal
    return document


def schema_view(api: JsonApi) -> Callable[[HttpRequest], HttpResponse]:
    """Return the operation that answers with the OpenAPI document."""

    @api.api_operation(SAFE, "api/v1/openapi.json", url_name="api_schema", include_in_schema=False)
    def schema(request: HttpRequest) -> HttpResponse:
        return JsonResponse(described(api))

    return schema


def page_view(api: JsonApi) -> Callable[..., HttpResponseBase]:
    """Return the view that shows the same to people."""

    @require_safe
    @person_required
    def docs(request: SignedInRequest) -> HttpResponse:
        document = described(api)
        context = {
            **page_context(request, first_place(request.user)),
            "groups": list(_groups(document)),
            "codes": [(error.code, error.http_status, _first_line(error)) for error in _errors()],
            "schema_url": reverse("mcp_oauth:api_schema"),
            "example_url": request.build_absolute_uri(reverse("mcp_oauth:api_servers")),
        }
        response = render(request, "mcp_oauth/api_docs.html", context)
        response["Cache-Control"] = "no-store"
        return response

    return docs


def _groups(document: dict[str, Any]) -> Iterator[tuple[str, list[Operation]]]:
    groups: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, details in methods.items():
            groups.setdefault(details["tags"][0], []).append(_operation(document, path, method, details))
    yield from groups.items()


def _operation(document: dict[str, Any], path: str, method: str, details: dict[str, Any]) -> Operation:
    body = details.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    answers = details["responses"]["200"]["content"]
    return Operation(
        name=details["operationId"],
        method=method.upper(),
        path=path,
        short_path=path.partition("/api/v1/")[2],
        summary=details["summary"],
        description=_plain(details.get("description", "")),
        parameters=tuple(
            Parameter(
                name=given["name"],
                where=given["in"],
                kind=given["schema"].get("format") or given["schema"].get("type", ""),
                required=given["required"],
                description=_plain(given.get("description", "")),
            )
            for given in details["parameters"]
        ),
        body=_as_text(_sketch(document, body)) if body else "",
        answer=_as_text(_sketch(document, answers["application/json"]["schema"])),
        events=answers[EVENT_STREAM]["schema"]["description"] if EVENT_STREAM in answers else "",
    )


def _sketch(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """Return a value of the shape a schema describes."""
    if "$ref" in schema:
        return _sketch(document, document["components"]["schemas"][schema["$ref"].removeprefix(_REFERENCE)])
    for several in ("allOf", "anyOf"):
        if several in schema:
            return _sketch(document, schema[several][0])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return schema["const"]
    if schema.get("type") == "array":
        return [_sketch(document, schema["items"])]
    if "properties" in schema:
        return {name: _sketch(document, member) for name, member in schema["properties"].items()}
    return _SKETCHED.get(schema.get("format", ""), _SKETCHED.get(schema.get("type", ""), {}))


def _as_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _errors(of: type[McpOAuthError] = McpOAuthError) -> Iterator[type[McpOAuthError]]:
    for error in of.__subclasses__():
        # Those elsewhere are kinds of these, with the same code.
        if error.__module__ == McpOAuthError.__module__:
            yield error
        yield from _errors(error)


def _first_line(error: type[McpOAuthError]) -> str:
    return _plain((error.__doc__ or "").strip().splitlines()[0].rstrip("."))


def _plain(text: str) -> str:
    return text.replace("``", "")
