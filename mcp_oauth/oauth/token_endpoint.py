"""Asking whether a token endpoint is one, with a request that no server can grant (RFC 6749 §5.2)."""

from __future__ import annotations

import secrets
from typing import Any, Final
from urllib.parse import urlencode

from mcp_oauth.exceptions import TokenEndpointUnavailable, TokenRequestFailed
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.oauth.json_documents import NotAJsonObject, json_object
from mcp_oauth.oauth.server_words import error_code
from mcp_oauth.sentences import sentence

_RULE: Final = sentence(
    "RFC 6749 §5.2: a request that cannot be granted is refused with a JSON object that has an error"
)


def refusable_request(token_endpoint: str) -> HttpRequest:
    """Return a token request that has to be refused and concerns nobody (RFC 6749 §4.1.3).

    It names no client, so that no client's failures are counted, holds no secret, and its code is one that this
    application made up: no grant, token or person stands behind it.
    """
    form = {"grant_type": "authorization_code", "code": f"none-{secrets.token_urlsafe(12)}"}
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    return HttpRequest("POST", token_endpoint, headers, urlencode(form).encode("ascii"))


def read_refusal(response: HttpResponse) -> str:
    """Return the error code with which a token endpoint refused :func:`refusable_request`.

    A refusal may come with any 4xx status but 404 and 405, or with 200, as GitHub and Slack answer.
    Raises: TokenEndpointUnavailable when the endpoint is overloaded or broken, TokenRequestFailed when it is none.
    """
    status, document = response.status, response.url
    if status == 429 or status >= 500:
        raise TokenEndpointUnavailable(
            sentence("The token endpoint is overloaded for now (HTTP status %(status)s).", status=status)
            if status == 429
            else sentence("The token endpoint is broken for now (HTTP status %(status)s).", status=status),
            document=document,
            field="status",
            rule=_RULE,
        )
    if status in {404, 405}:
        raise _none(
            sentence("The token endpoint answers with HTTP status %(status)s.", status=status), document, "status"
        )
    try:
        data = json_object(response)
    except NotAJsonObject as error:
        raise _none(
            sentence("The answer of the token endpoint %(problem)s.", problem=error.problem), document, "body"
        ) from error
    found = data.get("error")
    if not found:
        raise _none(sentence("The token endpoint does not refuse a code that nobody issued."), document, "error")
    return error_code(_inner(found))


def _none(problem: str, document: str, field: str) -> TokenRequestFailed:
    return TokenRequestFailed(
        problem,
        document=document,
        field=field,
        rule=_RULE,
        next_step=sentence(
            "Ask the provider for the token endpoint's address; the authorization server's metadata names it."
        ),
    )


def _inner(found: Any) -> Any:
    """Return the code of an error object, as some providers write it in the code's place."""
    if isinstance(found, dict):
        return next((found[key] for key in ("code", "status", "type") if isinstance(found.get(key), str)), None)
    return found
