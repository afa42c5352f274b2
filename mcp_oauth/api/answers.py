"""How the JSON API answers: typed errors as ``{"error": {...}}``, times as text, and nothing that a cache keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Annotated, Any, ClassVar

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, RawPostDataException
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError, ValidationErrorContext
from ninja.operation import Operation
from ninja.parser import Parser
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema, field_validator, model_validator

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InvalidRequest, McpOAuthError, NotSignedIn
from mcp_oauth.views.access import error_json

# Every address that answers without changing anything; the library names HEAD apart.
SAFE = ["GET", "HEAD"]

# Around the arguments or answers that a body holds.
_BODY_MARGIN_BYTES = 1024

Moment = Annotated[
    datetime,
    PlainSerializer(datetime.isoformat, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class Problem(BaseModel):
    """What went wrong: a stable code for programs, words and a next step for people; more by the code."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str
    next_step: str | None = None
    document: str | None = None
    field: str | None = None
    rule: str | None = None
    option: str | None = None


class ErrorAnswer(BaseModel):
    """Every answer of status 400 and above."""

    error: Problem


class Body(BaseModel):
    """What a request brings: a JSON object of known members, of which ``MEMBER`` is the one it is sent for."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    MEMBER: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _is_an_object_of_known_members(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        unknown = sorted(set(value) - set(cls.model_fields)) if isinstance(value, dict) else []
        if unknown or not isinstance(value, dict):
            words = _("The body must be a JSON object with the member “%(member)s”.") % {"member": cls.MEMBER}
            raise Mistake(words, field=unknown[0][:100] if unknown else "")
        return value


class Mistake(ValueError):
    """What a validator raises to have its own words shown; ``field`` is the member at fault, if it is another one."""

    def __init__(self, words: str, *, field: str = "") -> None:
        super().__init__(words)
        self.field = field


class TimedBody(Body):
    """What a request that waits for a server brings beside all else."""

    timeout: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Seconds to wait for the server; there is a longest."
    )

    @field_validator("timeout")
    @classmethod
    def _is_not_too_long(cls, value: float | None) -> float | None:
        if value is not None and value > settings.MAX_CALL_SECONDS:
            raise Mistake(_("A time limit is at most %(limit)g seconds.") % {"limit": settings.MAX_CALL_SECONDS})
        return value


class _Malformed(ValidationError):
    """The first thing that is wrong with a request, as we say it."""

    def __init__(self, refusal: InvalidRequest) -> None:
        super().__init__([])
        self.refusal = refusal


class _BoundedParser(Parser):
    """Reads JSON bodies up to a size, and says in our words what is wrong with them."""

    def parse_body(self, request: HttpRequest) -> Any:
        if len(request.body) > settings.MAX_ARGUMENT_BYTES + _BODY_MARGIN_BYTES:
            raise _too_large()
        return json.loads(request.body)


class JsonApi(NinjaAPI):
    """The library's API with this application's errors."""

    def __init__(self, **kwargs: Any) -> None:
        # Both documents are served by views of our own: to signed-in people, and without script.
        super().__init__(openapi_url=None, docs_url=None, parser=_BoundedParser(), **kwargs)
        self.add_exception_handler(McpOAuthError, _refused)
        self.add_exception_handler(_Malformed, _malformed)
        self.add_exception_handler(HttpError, _unreadable)
        # A form's body that was read as a form before is no JSON either.
        self.add_exception_handler(RawPostDataException, _unreadable)
        self.add_exception_handler(RequestDataTooBig, lambda request, error: _refused(request, _too_large()))
        self.add_exception_handler(Exception, _unexpected)

    def get_openapi_operation_id(self, operation: Operation) -> str:
        """Return the name that generated clients give to an operation."""
        return str(operation.view_func.__name__)

    def validation_error_from_error_contexts(self, error_contexts: list[ValidationErrorContext[Any]]) -> _Malformed:
        """Return the first mistake in the address, the query or the body, with the member it is in."""
        error = error_contexts[0].pydantic_validation_error.errors(include_url=False, include_input=False)[0]
        place = [str(part) for part in error["loc"]]
        if error_contexts[0].model.__ninja_param_source__ == "body":
            place = place[1:]  # the name the body has in our code
        member = ".".join(place)
        own = error.get("ctx", {}).get("error")
        if isinstance(own, Mistake):
            return _Malformed(InvalidRequest(str(own), field=own.field or member))
        return _Malformed(InvalidRequest(f"{member}: {error['msg']}", field=member))

    def get_content_type(self) -> str:
        """Return the type without a charset, which JSON does not have (RFC 8259 §11)."""
        return "application/json"


def _refused(request: HttpRequest, error: Any) -> HttpResponse:
    response = error_json(error)
    if isinstance(error, NotSignedIn):
        # RFC 9110 §11.6.1 wants it with every 401; RFC 6750 §3.1 names the error where a token was sent.
        sent = "Authorization" in request.headers
        response["WWW-Authenticate"] = 'Bearer error="invalid_token"' if sent else "Bearer"
    return response


def _malformed(request: HttpRequest, error: Any) -> HttpResponse:
    return _refused(request, error.refusal)


def _too_large() -> InvalidRequest:
    return InvalidRequest(_("The request is too large."))


def _unreadable(request: HttpRequest, error: Any) -> HttpResponse:
    """Answer for a body that could not be read; the library keeps the reason as the cause."""
    cause = error.__cause__
    known = cause if isinstance(cause, McpOAuthError) else InvalidRequest(_("The body is not valid JSON."))
    return _refused(request, known)


def _unexpected(request: HttpRequest, error: Any) -> HttpResponse:
    # Django reports it, without what this view held.
    raise error


def answered(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Let no cache keep what a view answers, and no report of a crash show what it held; refuse a method in JSON."""

    @wraps(view)
    def answering(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        if isinstance(response, HttpResponseNotAllowed):
            allowed = response["Allow"]
            response = error_json(InvalidRequest(_("This address takes %(methods)s only.") % {"methods": allowed}))
            response.status_code = HttpResponseNotAllowed.status_code
            response["Allow"] = allowed
        response["Cache-Control"] = "no-store"
        return response

    return sensitive_variables()(answering)
