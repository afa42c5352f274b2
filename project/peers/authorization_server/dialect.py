"""How one server spells the answers of its token endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from project.peers.authorization_server.messages import NO_STORE, challenge_headers
from project.peers.authorization_server.records import Refusal
from project.peers.options import TokenDialect


def granted(request: Request, answer: Mapping[str, Any], dialect: TokenDialect) -> Response:
    """Return an answer that grants tokens (RFC 6749 §5.1)."""
    document = dict(answer)
    if document.get("token_type") == "Bearer":
        document["token_type"] = dialect.token_type
    if "scope" in document:
        scopes = [scope for scope in document.pop("scope").split() if scope not in dialect.unsaid_scopes]
        if dialect.scope != "absent":
            document["scope"] = {"spaces": " ", "commas": ","}.get(dialect.scope, "").join(
                scopes if dialect.scope != "empty" else ()
            )
    return _encoded(request, {**document, **dialect.members}, dialect, status=dialect.status, headers=NO_STORE)


def refused(request: Request, refusal: Refusal, dialect: TokenDialect) -> Response:
    """Return an answer that grants nothing (RFC 6749 §5.2)."""
    document = {
        "error": dialect.error_names.get(refusal.error, refusal.error),
        "error_description": dialect.error_words.get(refusal.error, refusal.description),
        **dialect.error_members,
    }
    status = dialect.error_status or refusal.status
    return _encoded(request, document, dialect, status=status, headers=challenge_headers(request, refusal))


def _encoded(
    request: Request, document: Mapping[str, Any], dialect: TokenDialect, *, status: int, headers: Mapping[str, str]
) -> Response:
    wants_json = "application/json" in request.headers.get("accept", "")
    if dialect.encoding == "json" or (dialect.encoding == "by_accept" and wants_json):
        return JSONResponse(document, status_code=status, headers=dict(headers))
    return Response(
        urlencode(document), status_code=status, headers=dict(headers), media_type="application/x-www-form-urlencoded"
    )
