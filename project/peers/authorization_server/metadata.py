"""The metadata document and the places where it is served (RFC 8414, OpenID discovery)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from project.peers.authorization_server.core import Core
from project.peers.authorization_server.grants import JWT_BEARER, TOKEN_EXCHANGE
from project.peers.authorization_server.messages import Handler, injected
from project.peers.dpop import ALGORITHM


def metadata_route(core: Core, form: str) -> Handler:
    """Return the handler of one place where metadata may be, a 404 where the options leave it out."""

    async def answer(request: Request) -> Response:
        core.learn_base_url(request)
        hook = core.options.metadata_faults
        if hook is not None:
            fault = await injected(hook, {"path": request.url.path})
            if fault is not None:
                return fault
        if form not in core.options.metadata_forms:
            return JSONResponse({"error": "not_found"}, status_code=404)
        return JSONResponse(metadata_document(core))

    return answer


def metadata_document(core: Core) -> dict[str, Any]:
    """Return the metadata document (RFC 8414 §2)."""
    options = core.options
    methods = options.token_endpoint_auth_methods
    document: dict[str, Any] = {
        "issuer": core.issuer,
        "authorization_endpoint": core.url("authorize"),
        "token_endpoint": core.url("token"),
        "registration_endpoint": core.url("register") if options.dynamic_registration else None,
        "revocation_endpoint": core.url("revoke") if options.revocation else None,
        "revocation_endpoint_auth_methods_supported": listed(options.revocation_auth_methods or methods)
        if options.revocation
        else None,
        "scopes_supported": list(options.scopes),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "client_credentials"]
        + ["refresh_token"] * options.issue_refresh_token
        + [JWT_BEARER] * bool(options.trusted_issuers)
        + [TOKEN_EXCHANGE] * (options.identity_provider is not None),
        "token_endpoint_auth_methods_supported": listed(methods),
        "code_challenge_methods_supported": listed(options.code_challenge_methods),
        "dpop_signing_alg_values_supported": [ALGORITHM] if options.require_dpop else None,
        "client_id_metadata_document_supported": True if options.cimd else None,
        "authorization_response_iss_parameter_supported": True if options.advertise_iss else None,
    }
    document.update(options.metadata_overrides)
    return {name: value for name, value in document.items() if value is not None}


def listed(values: tuple[str, ...] | None) -> list[str] | None:
    """Return a JSON list, ``None`` for what is to be left out."""
    return None if values is None else list(values)
