"""Values the protocol tests start from; each test changes the one thing it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.oauth.authorization import ExpectedCallback, ValidatedCallback, state_hash, validate_callback
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.registration import ClientCredentials

SERVER = "https://mcp.example.com/mcp"
ISSUER = "https://as.example.com"
TOKEN_ENDPOINT = f"{ISSUER}/token"
REDIRECT_URI = "https://app.example.org/mcp/oauth/callback/"
STATE = "state-of-this-flow"
VERIFIER = "verifier-" + "v" * 40
CODE = "the-code"

METADATA = AuthorizationServerMetadata(
    issuer=ISSUER,
    authorization_endpoint=f"{ISSUER}/authorize",
    token_endpoint=TOKEN_ENDPOINT,
    registration_endpoint=f"{ISSUER}/register",
    revocation_endpoint=f"{ISSUER}/revoke",
    code_challenge_methods_supported=("S256",),
    document=f"{ISSUER}/.well-known/oauth-authorization-server",
)
EXPECTED = ExpectedCallback(
    state_hash=state_hash(STATE), issuer=ISSUER, iss_supported=False, redirect_uri=REDIRECT_URI, code_verifier=VERIFIER
)
PUBLIC_CLIENT = ClientCredentials(
    client_id="client", client_secret=None, token_endpoint_auth_method="none", issuer=ISSUER
)


def confidential_client(method: str, *, client_id: str = "client", secret: str = "s3cret") -> ClientCredentials:
    """Return a client with a secret and the given way of showing it."""
    return replace(PUBLIC_CLIENT, client_id=client_id, client_secret=secret, token_endpoint_auth_method=method)


def json_response(
    document: object, *, url: str = TOKEN_ENDPOINT, status: int = 200, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Return an answer whose body is a JSON document."""
    return raw_response(
        json.dumps(document).encode(), url=url, status=status, content_type="application/json", headers=headers
    )


def raw_response(
    body: bytes,
    *,
    url: str = TOKEN_ENDPOINT,
    status: int = 200,
    content_type: str = "",
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """Return an answer with any body."""
    all_headers = [("Content-Type", content_type)] if content_type else []
    return HttpResponse(url=url, status=status, headers=(*all_headers, *(headers or {}).items()), body=body)


def form_of(request: HttpRequest) -> dict[str, str]:
    """Return the form in a request's body, insisting that nothing comes twice."""
    pairs = parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def validated(**changes: Any) -> ValidatedCallback:
    """Return the validated callback of a good answer."""
    return validate_callback({"code": [CODE], "state": [STATE]}, replace(EXPECTED, **changes))


def assert_shown_safely(error: McpOAuthError) -> None:
    """Insist that whatever an error shows to a person is printable and of bounded length."""
    for shown in (error.user_message, error.next_step):
        assert shown.isprintable()
        assert len(shown) < 1000
