"""Tokens that nobody signs in for: the client's own, and those that another issuer vouches for."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_oauth.exceptions import (
    ConfigurationError,
    InvalidClient,
    InvalidGrant,
    TokenEndpointUnavailable,
    TokenRequestFailed,
)
from mcp_oauth.oauth.client_authentication import BasicShape
from mcp_oauth.oauth.token import (
    ID_JAG_TYPE,
    ID_TOKEN_TYPE,
    client_credentials_request,
    id_jag_request,
    jwt_bearer_request,
    parse_id_jag_response,
)
from tests.unit.oauth.samples import (
    ISSUER,
    PUBLIC_CLIENT,
    SERVER,
    TOKEN_ENDPOINT,
    assert_shown_safely,
    confidential_client,
    form_of,
    json_response,
    raw_response,
)

NOW = 1_800_000_000.0
IDP_TOKEN_ENDPOINT = "https://idp.example.com/token"
VOUCHED: dict[str, Any] = {
    "access_token": "head.claims.signature",
    "issued_token_type": "urn:ietf:params:oauth:token-type:id-jag",
    "token_type": "N_A",
    "expires_in": 300,
}


def id_jag(document: object, status: int = 200) -> str:
    return parse_id_jag_response(json_response(document, url=IDP_TOKEN_ENDPOINT, status=status), now=NOW)


def test_a_client_asks_for_a_token_of_its_own() -> None:
    request = client_credentials_request(
        token_endpoint=TOKEN_ENDPOINT, client=confidential_client("client_secret_post"), resource=SERVER, scope="a b"
    )

    assert (request.method, request.url) == ("POST", TOKEN_ENDPOINT)
    assert form_of(request) == {
        "grant_type": "client_credentials",
        "resource": SERVER,
        "scope": "a b",
        "client_id": "client",
        "client_secret": "s3cret",
    }


@pytest.mark.requirement("oauth21-4.2-confidential", "ext-cc-authenticated")
def test_a_public_client_has_no_token_of_its_own() -> None:
    with pytest.raises(ConfigurationError):
        client_credentials_request(token_endpoint=TOKEN_ENDPOINT, client=PUBLIC_CLIENT, resource=SERVER, scope=None)


@pytest.mark.requirement("ext-ema-audience", "ext-ema-resource", "ext-ema-scope", "rfc8693-2.1-request")
def test_an_identity_provider_is_asked_to_vouch_for_a_person() -> None:
    request = id_jag_request(
        token_endpoint=IDP_TOKEN_ENDPOINT,
        client=PUBLIC_CLIENT,
        subject_token="the.id.token",
        subject_token_type=ID_TOKEN_TYPE,
        audience=ISSUER,
        resource=SERVER,
        scope="a b",
    )

    assert (request.method, request.url) == ("POST", IDP_TOKEN_ENDPOINT)
    assert form_of(request) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "requested_token_type": "urn:ietf:params:oauth:token-type:id-jag",
        "subject_token": "the.id.token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "audience": ISSUER,
        "resource": SERVER,
        "scope": "a b",
        "client_id": "client",
    }


def test_an_assertion_is_exchanged_for_a_token() -> None:
    request = jwt_bearer_request(
        "head.claims.signature", token_endpoint=TOKEN_ENDPOINT, client=PUBLIC_CLIENT, resource=SERVER, scope="a b"
    )

    assert (request.method, request.url) == ("POST", TOKEN_ENDPOINT)
    assert form_of(request) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": "head.claims.signature",
        "resource": SERVER,
        "scope": "a b",
        "client_id": "client",
    }


@pytest.mark.requirement("ext-ema-client-authentication")
@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize(("shape", "named_in_body"), [("header", False), ("header_and_client_id", True)])
def test_what_is_not_asked_for_is_left_out_and_the_client_authenticates(
    nothing: str | None, shape: BasicShape, named_in_body: bool
) -> None:
    client = confidential_client("client_secret_basic")
    own = client_credentials_request(
        token_endpoint=TOKEN_ENDPOINT, client=client, resource=nothing, scope=nothing, basic_shape=shape
    )
    exchanged = jwt_bearer_request(
        "a.b.c", token_endpoint=TOKEN_ENDPOINT, client=client, resource=nothing, scope=nothing, basic_shape=shape
    )
    vouched = id_jag_request(
        token_endpoint=IDP_TOKEN_ENDPOINT,
        client=client,
        subject_token="the.id.token",
        subject_token_type=ID_TOKEN_TYPE,
        audience=ISSUER,
        resource=nothing,
        scope=nothing,
        basic_shape=shape,
    )

    for request in (own, exchanged, vouched):
        assert request.headers["Authorization"].startswith("Basic ")
        assert not {"resource", "scope", "client_secret"} & form_of(request).keys()
        assert ("client_id" in form_of(request)) is named_in_body


@pytest.mark.requirement("ext-ema-not-logged")
def test_no_assertion_is_in_the_text_of_a_request() -> None:
    exchanged = jwt_bearer_request(
        "a.b.c", token_endpoint=TOKEN_ENDPOINT, client=PUBLIC_CLIENT, resource=None, scope=None
    )

    assert "a.b.c" not in f"{exchanged!r} {exchanged}"


@pytest.mark.parametrize("token_type", ["N_A", "n_a"])
def test_the_assertion_is_read(token_type: str) -> None:
    assert id_jag({**VOUCHED, "token_type": token_type}) == "head.claims.signature"
    assert VOUCHED["issued_token_type"] == ID_JAG_TYPE


@pytest.mark.requirement("rfc8693-2.2.1-type")
@pytest.mark.parametrize(
    "change",
    [
        {"issued_token_type": None},
        {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"issued_token_type": "urn:ietf:params:oauth:token-type:ID-JAG"},
        {"issued_token_type": [ID_JAG_TYPE]},
        {"token_type": None},
        {"token_type": ""},
        {"token_type": "Bearer"},
        {"token_type": "DPoP"},
        {"token_type": ["N_A"]},
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "a\r\nX: y"},
        {"access_token": ["a.b.c"]},
    ],
)
def test_what_is_no_assertion_goes_no_further(change: dict[str, Any]) -> None:
    with pytest.raises(TokenRequestFailed) as caught:
        id_jag({**VOUCHED, **change})

    assert type(caught.value) is TokenRequestFailed
    assert caught.value.document == IDP_TOKEN_ENDPOINT
    assert "head.claims.signature" not in str(caught.value)
    assert_shown_safely(caught.value)


@pytest.mark.parametrize(
    ("status", "document", "expected"),
    [
        (400, {"error": "invalid_grant"}, InvalidGrant),
        (200, {**VOUCHED, "error": "invalid_grant"}, InvalidGrant),
        (401, {"error": "invalid_client"}, InvalidClient),
        (400, {"error": "invalid_request"}, InvalidGrant),
        (400, {"error": "invalid_target"}, TokenRequestFailed),
        (400, {"error": "unsupported_grant_type"}, TokenRequestFailed),
        (503, {}, TokenEndpointUnavailable),
    ],
)
def test_a_refusal_to_vouch_means_what_any_refusal_means(
    status: int, document: dict[str, Any], expected: type[TokenRequestFailed]
) -> None:
    with pytest.raises(TokenRequestFailed) as caught:
        id_jag(document, status)
    assert type(caught.value) is expected


def test_a_page_instead_of_an_assertion_says_nothing_of_the_grant() -> None:
    response = raw_response(b"<html>", content_type="text/html", headers={"Retry-After": "5"})

    with pytest.raises(TokenEndpointUnavailable) as caught:
        parse_id_jag_response(response, now=NOW)
    assert caught.value.retry_after == 5
