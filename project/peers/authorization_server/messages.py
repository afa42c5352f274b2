"""Reading requests, injecting faults, and saying no in JSON."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from project.peers.authorization_server.core import Core
from project.peers.authorization_server.records import Refusal
from project.peers.options import FaultHook

NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}

Handler = Callable[[Request], Awaitable[Response]]


def with_faults(core: Core, hook_name: str, handler: Handler) -> Handler:
    """Return a handler that lets the options' hook answer first, and says as JSON what is refused."""

    async def answer(request: Request) -> Response:
        core.learn_base_url(request)
        hook: FaultHook | None = getattr(core.options, hook_name)
        if hook is not None:
            fault = await injected(hook, await parameters(request))
            if fault is not None:
                return fault
        try:
            return await handler(request)
        except Refusal as refusal:
            return refused(request, refusal)

    return answer


async def form_of(request: Request) -> dict[str, str]:
    """Return the text fields of a form."""
    form = await request.form()
    return {name: value for name, value in form.items() if isinstance(value, str)}


async def parameters(request: Request) -> dict[str, Any]:
    """Return what a fault hook sees: the query, the form or the JSON object of a request."""
    if request.method == "GET":
        return dict(request.query_params)
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            document = json.loads(await request.body())
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}
    # The body is read first: Starlette then keeps it for the handler too.
    await request.body()
    return dict(await form_of(request))


def string_list(document: Mapping[str, Any], name: str, *, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return a member that has to be a list of strings.

    Raises: ``Refusal`` when it is something else.
    """
    values = document.get(name)
    if values is None:
        return default
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Refusal("invalid_client_metadata", f"{name} is not a list of strings.")
    return tuple(values)


async def injected(hook: FaultHook, parameters: Mapping[str, Any]) -> Response | None:
    """Return the answer a hook gives in the server's place, or ``None``."""
    fault = hook(parameters)
    if inspect.isawaitable(fault):
        fault = await fault
    if fault is None:
        return None
    status, headers, body = fault
    return Response(body, status_code=status, headers=dict(headers))


def refused(request: Request, refusal: Refusal) -> Response:
    """Return a refusal as JSON (RFC 6749 §5.2)."""
    document = {"error": refusal.error, "error_description": refusal.description}
    return JSONResponse(document, status_code=refusal.status, headers=challenge_headers(request, refusal))


def challenge_headers(request: Request, refusal: Refusal) -> dict[str, str]:
    """Return the headers of a refusal: a client that tried Basic authentication is told so (RFC 6749 §5.2)."""
    headers = NO_STORE | refusal.headers
    if refusal.status == 401 and request.headers.get("authorization", "").lower().startswith("basic "):
        headers["www-authenticate"] = 'Basic realm="token"'
    return headers
