"""The token endpoint: requests carry the right things, and every answer has one meaning."""

from __future__ import annotations

import base64
import json
import math
from typing import Any, Literal
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.exceptions import (
    ConfigurationError,
    InvalidClient,
    InvalidGrant,
    TokenEndpointUnavailable,
    TokenRequestFailed,
)
from mcp_oauth.oauth.client_authentication import BasicShape
from mcp_oauth.oauth.registration import ClientCredentials
from mcp_oauth.oauth.revocation import revocation_request
from mcp_oauth.oauth.token import LONGEST_LIFETIME, TokenSet, code_request, parse_token_response, refresh_request
from tests.unit.oauth.samples import (
    CODE,
    ISSUER,
    PUBLIC_CLIENT,
    REDIRECT_URI,
    SERVER,
    TOKEN_ENDPOINT,
    VERIFIER,
    assert_shown_safely,
    confidential_client,
    form_of,
    json_response,
    raw_response,
    validated,
)

NOW = 1_800_000_000.0
GOOD: dict[str, Any] = {"access_token": "at", "token_type": "Bearer", "expires_in": 3600}


def parsed(document: dict[str, Any], *, requested_scope: str = "asked", status: int = 200) -> TokenSet:
    return parse_token_response(json_response(document, status=status), now=NOW, requested_scope=requested_scope)


@pytest.mark.requirement("rfc6749-3.2-post", "rfc6749-4.1.3-client-id", "rfc6749-4.1.3-same-redirect-uri")
@pytest.mark.requirement("oauth21-4.1.3-verifier")
def test_the_code_goes_out_with_its_verifier_redirect_uri_and_resource() -> None:
    request = code_request(validated(), token_endpoint=TOKEN_ENDPOINT, client=PUBLIC_CLIENT, resource=SERVER)

    assert (request.method, request.url) == ("POST", TOKEN_ENDPOINT)
    assert request.headers == {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    assert form_of(request) == {
        "grant_type": "authorization_code",
        "code": CODE,
        "redirect_uri": REDIRECT_URI,
        "code_verifier": VERIFIER,
        "resource": SERVER,
        "client_id": "client",
    }


@pytest.mark.requirement("rfc8707-2.2-refresh")
def test_a_refresh_repeats_the_resource() -> None:
    request = refresh_request("rt", token_endpoint=TOKEN_ENDPOINT, client=PUBLIC_CLIENT, resource=SERVER, scope="a b")

    assert form_of(request) == {
        "grant_type": "refresh_token",
        "refresh_token": "rt",
        "resource": SERVER,
        "scope": "a b",
        "client_id": "client",
    }


def test_without_a_resource_none_is_sent() -> None:
    exchange = code_request(validated(), token_endpoint=TOKEN_ENDPOINT, client=PUBLIC_CLIENT, resource=None)
    refresh = refresh_request("rt", token_endpoint=TOKEN_ENDPOINT, client=PUBLIC_CLIENT, resource=None)

    assert "resource" not in form_of(exchange)
    assert form_of(refresh).keys() == {"grant_type", "refresh_token", "client_id"}


@pytest.mark.requirement("T12", "mcp-discovery-no-sharing")
def test_a_client_of_another_issuer_is_not_shown_to_this_one() -> None:
    stranger = ClientCredentials("client", "s3cret", "client_secret_post", "https://other.example.com")

    with pytest.raises(ConfigurationError):
        code_request(validated(), token_endpoint=TOKEN_ENDPOINT, client=stranger, resource=None)


@pytest.mark.requirement("oauth21-2.4-one-method")
def test_a_secret_is_posted_in_the_body() -> None:
    request = refresh_request(
        "rt", token_endpoint=TOKEN_ENDPOINT, client=confidential_client("client_secret_post"), resource=None
    )

    assert "Authorization" not in request.headers
    assert form_of(request)["client_id"] == "client"
    assert form_of(request)["client_secret"] == "s3cret"


@pytest.mark.requirement("oauth21-2.4-one-method")
@pytest.mark.parametrize(("shape", "named_in_body"), [("header", False), ("header_and_client_id", True)])
def test_basic_authentication_encodes_both_halves_first(shape: BasicShape, named_in_body: bool) -> None:
    client = confidential_client("client_secret_basic", client_id="a:b c", secret="p%+/\u00e9")

    request = refresh_request("rt", token_endpoint=TOKEN_ENDPOINT, client=client, resource=None, basic_shape=shape)

    scheme, _, encoded = request.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(encoded) == b"a%3Ab+c:p%25%2B%2F%C3%A9"
    assert "client_secret" not in form_of(request)
    assert ("client_id" in form_of(request)) is named_in_body


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
@pytest.mark.parametrize("secret", [None, ""])
def test_a_missing_secret_is_noticed_before_anything_is_sent(method: str, secret: str | None) -> None:
    client = ClientCredentials("client", secret, method, ISSUER)

    with pytest.raises(ConfigurationError):
        refresh_request("rt", token_endpoint=TOKEN_ENDPOINT, client=client, resource=None)


def test_an_unknown_way_to_authenticate_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        refresh_request(
            "rt", token_endpoint=TOKEN_ENDPOINT, client=confidential_client("client_secret_jwt"), resource=None
        )


def test_a_public_client_sends_no_secret_even_if_it_has_one() -> None:
    request = refresh_request("rt", token_endpoint=TOKEN_ENDPOINT, client=confidential_client("none"), resource=None)

    assert b"s3cret" not in request.body
    assert "Authorization" not in request.headers


@pytest.mark.requirement("rfc7009-2.1-request")
def test_a_revocation_names_token_and_kind() -> None:
    request = revocation_request(
        "rt", "refresh_token", revocation_endpoint=f"{ISSUER}/revoke", client=confidential_client("client_secret_post")
    )

    assert request.url == f"{ISSUER}/revoke"
    assert form_of(request) == {
        "token": "rt",
        "token_type_hint": "refresh_token",
        "client_id": "client",
        "client_secret": "s3cret",
    }


@pytest.mark.requirement("T41")
def test_no_secret_is_in_any_text_of_request_client_callback_or_tokens() -> None:
    client = confidential_client("client_secret_basic")
    callback = validated()
    request = code_request(callback, token_endpoint=TOKEN_ENDPOINT, client=client, resource=None)
    tokens = parsed({**GOOD, "access_token": "secret-at", "refresh_token": "secret-rt"})

    text = f"{client!r} {callback!r} {request!r} {tokens!r} {client} {callback} {request} {tokens}"

    assert not [secret for secret in ("s3cret", CODE, VERIFIER, "secret-at", "secret-rt", "Basic ") if secret in text]


def test_a_plain_answer_is_read() -> None:
    assert parsed({**GOOD, "refresh_token": "rt", "scope": "a b"}) == TokenSet("at", NOW + 3600, "rt", "a b")


@pytest.mark.parametrize("status", [200, 201])
def test_any_success_status_is_a_success(status: int) -> None:
    assert parsed(GOOD, status=status).access_token == "at"


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", "", None])
def test_the_token_type_is_bearer_in_any_case_or_missing(token_type: str | None) -> None:
    assert parsed({**GOOD, "token_type": token_type}).access_token == "at"


@pytest.mark.requirement("rfc6749-7.1-type", "T23")
@pytest.mark.parametrize("token_type", ["DPoP", "mac", "Bearer ", 1, ["Bearer"], {"a": 1}, True])
def test_another_token_type_is_refused(token_type: object) -> None:
    with pytest.raises(TokenRequestFailed, match="no Bearer token"):
        parsed({**GOOD, "token_type": token_type})


@pytest.mark.requirement("rfc9449-5-type")
@pytest.mark.parametrize(
    ("expected_type", "found", "taken"),
    [
        ("Bearer", "Bearer", "Bearer"),
        ("Bearer", None, "Bearer"),
        ("Bearer", "DPoP", None),
        ("DPoP", "DPoP", "DPoP"),
        ("DPoP", "dpop", "DPoP"),
        ("DPoP", "Bearer", None),
        ("DPoP", None, None),
        ("DPoP", "", None),
        ("any", "DPOP", "DPoP"),
        ("any", "bearer", "Bearer"),
        ("any", None, "Bearer"),
        ("any", "N_A", None),
        ("any", ["DPoP"], None),
    ],
)
def test_a_bound_token_is_taken_only_by_who_asked_for_it(
    expected_type: Literal["Bearer", "DPoP", "any"], found: object, taken: str | None
) -> None:
    response = json_response({**GOOD, "token_type": found})

    if taken is None:
        with pytest.raises(TokenRequestFailed) as caught:
            parse_token_response(response, now=NOW, requested_scope="", expected_type=expected_type)
        assert type(caught.value) is TokenRequestFailed
    else:
        tokens = parse_token_response(response, now=NOW, requested_scope="", expected_type=expected_type)
        assert tokens.token_type == taken


@pytest.mark.requirement("T23")
@pytest.mark.parametrize(
    "token", [None, "", " ", "a b", "a\r\nX: y", "a\nb", "a\x00", "caf\u00e9", "\ud800", "a\x7f", 7, ["at"], {"a": 1}]
)
def test_an_access_token_that_is_no_visible_ascii_is_refused_and_not_repeated(token: object) -> None:
    with pytest.raises(TokenRequestFailed) as caught:
        parsed({**GOOD, "access_token": token})
    assert caught.value.user_message == "The token endpoint issued no usable access token."
    assert type(caught.value) is TokenRequestFailed


@pytest.mark.requirement("T23")
def test_an_access_token_may_have_any_length() -> None:
    assert parsed({**GOOD, "access_token": "x" * 40_000}).access_token == "x" * 40_000


@pytest.mark.parametrize("token", [None, "", "a\r\nb", "\ud800", 7, ["rt"]])
def test_a_malformed_refresh_token_counts_as_none(token: object) -> None:
    assert parsed({**GOOD, "refresh_token": token}).refresh_token is None


@pytest.mark.requirement("T23")
@pytest.mark.parametrize(
    ("value", "lifetime"),
    [
        (3600, 3600),
        ("3600", 3600),
        (" 3600 ", 3600),
        (3599.5, 3599.5),
        ("3599.5", 3599.5),
        (0, 0),
        (-5, 0),
        ("-5", 0),
        (10**12, LONGEST_LIFETIME),
        (10**400, LONGEST_LIFETIME),
        (-(10**400), 0),
        ("9" * 20, LONGEST_LIFETIME),
    ],
)
def test_a_lifetime_is_clamped(value: object, lifetime: float) -> None:
    assert parsed({**GOOD, "expires_in": value}).expires_at == NOW + lifetime


@pytest.mark.parametrize(
    "value", [None, "", "soon", True, False, [], {}, "1e5", "nan", "inf", "\u0663", "9" * 5000, math.nan, math.inf]
)
def test_a_lifetime_that_is_no_number_is_unknown(value: object) -> None:
    assert parsed({**GOOD, "expires_in": value}).expires_at is None


def test_a_number_of_ten_thousand_digits_does_no_harm() -> None:
    # Not through json.dumps: CPython refuses to write such a number, too.
    body = b'{"access_token": "at", "expires_in": ' + b"9" * 10_000 + b', "x": 1e999}'

    tokens = parse_token_response(raw_response(body), now=NOW, requested_scope="")

    assert tokens.expires_at == NOW + LONGEST_LIFETIME


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "asked"),
        (7, "asked"),
        ("", "asked"),
        ("  ", "asked"),
        (" a  b a ", "a b"),
        (["a", "b", 7], "a b"),
        ('a "b', "a"),
    ],
)
def test_a_missing_scope_is_the_requested_one(value: object, expected: str) -> None:
    assert parsed({**GOOD, "scope": value}).scope == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("repo,gist", "repo gist"), ("gist", "gist"), ("repo,else", "repo,else"), ("a,b", "a,b")],
    ids=["asked for", "one alone", "partly unknown", "a scope with a comma"],
)
def test_granted_scopes_are_told_apart_at_commas_only_where_each_was_asked_for(value: str, expected: str) -> None:
    assert parsed({**GOOD, "scope": value}, requested_scope="repo gist a,b").scope == expected


def test_a_null_error_is_no_error() -> None:
    assert parsed({**GOOD, "error": None, "error_description": ""}).access_token == "at"


@pytest.mark.requirement("T23")
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded; charset=utf-8", "text/plain", ""])
def test_a_form_encoded_answer_is_read(content_type: str) -> None:
    body = urlencode({"access_token": "at", "expires_in": "60", "refresh_token": "r+/=t", "scope": "a b"}).encode()

    tokens = parse_token_response(raw_response(body, content_type=content_type), now=NOW, requested_scope="")

    assert tokens == TokenSet("at", NOW + 60, "r+/=t", "a b")


@pytest.mark.parametrize("content_type", ["text/html", "text/plain", ""])
def test_json_is_read_whatever_it_is_called(content_type: str) -> None:
    response = raw_response(b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), content_type=content_type)

    assert parse_token_response(response, now=NOW, requested_scope="").access_token == "at"


@pytest.mark.requirement("T24")
@pytest.mark.parametrize(
    ("status", "document", "expected"),
    [
        (400, {"error": "invalid_grant"}, InvalidGrant),
        (401, {"error": "invalid_grant"}, InvalidGrant),
        (403, {"error": "invalid_grant"}, InvalidGrant),
        (404, {"error": "invalid_grant"}, InvalidGrant),
        (200, {"error": "invalid_grant"}, InvalidGrant),
        (200, {"error": "invalid_grant", "access_token": "at"}, InvalidGrant),
        (200, {"error": "bad_refresh_token"}, InvalidGrant),
        (200, {"ok": False, "error": "invalid_refresh_token"}, InvalidGrant),
        (400, {"error": {"code": "invalid_grant", "message": "dead"}}, InvalidGrant),
        (400, {"error": "invalid_client"}, InvalidClient),
        (401, {"error": "invalid_client"}, InvalidClient),
        (200, {"error": "invalid_client"}, InvalidClient),
        (401, {}, InvalidClient),
        (401, {"error": "something"}, InvalidClient),
        (404, {}, InvalidClient),
        (422, {"error": "client_not_found"}, InvalidClient),
        (408, {}, TokenEndpointUnavailable),
        (429, {"error": "rate_limited"}, TokenEndpointUnavailable),
        (429, {"error": "invalid_grant"}, TokenEndpointUnavailable),
        (500, {"error": "invalid_grant"}, TokenEndpointUnavailable),
        (500, {}, TokenEndpointUnavailable),
        (503, {"error": "invalid_client"}, TokenEndpointUnavailable),
        (599, {}, TokenEndpointUnavailable),
        (400, {"error": "temporarily_unavailable"}, TokenEndpointUnavailable),
        (200, {"error": "server_error"}, TokenEndpointUnavailable),
        (302, {}, TokenEndpointUnavailable),
        (400, {}, TokenRequestFailed),
        (400, {"error": "invalid_request"}, TokenRequestFailed),
        (422, {"error": "invalid_request"}, TokenRequestFailed),
        (400, {"error": "invalid_scope"}, TokenRequestFailed),
        (400, {"error": "invalid_target"}, TokenRequestFailed),
        (400, {"error": "unauthorized_client"}, TokenRequestFailed),
        (403, {}, TokenRequestFailed),
        (200, {"error": True}, TokenRequestFailed),
        (200, {"error": ["x"]}, TokenRequestFailed),
        (200, {}, TokenRequestFailed),
    ],
)
def test_every_refusal_has_one_meaning(status: int, document: dict[str, Any], expected: type[Exception]) -> None:
    with pytest.raises(TokenRequestFailed) as caught:
        parsed(document, status=status)
    assert type(caught.value) is expected
    assert caught.value.document == TOKEN_ENDPOINT


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, TokenRequestFailed), (401, InvalidClient), (502, TokenEndpointUnavailable), (200, TokenEndpointUnavailable)],
)
@pytest.mark.parametrize("body", [b"", b"<html>Maintenance</html>", b"[]", b"\xff\xfe", b"[" * 60_000])
def test_an_unreadable_answer_is_judged_by_its_status(status: int, expected: type[Exception], body: bytes) -> None:
    with pytest.raises(TokenRequestFailed) as caught:
        parse_token_response(raw_response(body, status=status), now=NOW, requested_scope="")
    assert type(caught.value) is expected


def test_a_form_encoded_error_is_an_error() -> None:
    body = b"error=bad_verification_code&error_description=The+code+is+incorrect"

    with pytest.raises(InvalidGrant, match="The code is incorrect"):
        parse_token_response(
            raw_response(body, content_type="application/x-www-form-urlencoded"), now=NOW, requested_scope=""
        )


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("999999999999999", 86_400),
        ("9" * 5000, 86_400),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("Fri, 15 Jan 2327 08:01:00 GMT", 86_400),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("\u0663", None),
        ("Fri, 99 Jan 2027 08:01:00 GMT", None),
    ],
)
def test_the_wait_a_server_asks_for_is_bounded(header: str, seconds: int | None) -> None:
    with pytest.raises(TokenEndpointUnavailable) as caught:
        parse_token_response(
            json_response({}, status=429, headers={"Retry-After": header}), now=NOW, requested_scope=""
        )
    assert caught.value.retry_after == seconds


def test_the_servers_words_are_bounded_printable_and_without_tokens() -> None:
    description = "no\r\n\x00\u202e " + "rt-8f3a9c2b7d6e5f4a3b2c1d0e " + "word " * 500

    with pytest.raises(InvalidGrant) as caught:
        parsed({"error": "invalid_grant", "error_description": description}, status=400)

    message = caught.value.user_message
    assert message.isprintable()
    assert len(message) < 420
    assert "rt-8f3a" not in message
    assert "no […] word word" in message


def test_an_error_code_that_is_no_code_is_not_repeated() -> None:
    with pytest.raises(TokenRequestFailed, match=r"HTTP status 400, unknown_error") as caught:
        parsed({"error": "<script>\n"}, status=400)
    assert "script" not in caught.value.user_message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
members = st.dictionaries(
    st.sampled_from(
        ["access_token", "token_type", "expires_in", "refresh_token", "scope", "error", "error_description"]
    ),
    json_values | st.sampled_from(["Bearer", "at", "invalid_grant", "3600", 3600]),
)


@given(members, st.integers(100, 599))
def test_any_answer_is_tokens_or_one_typed_error(document: dict[str, Any], status: int) -> None:
    try:
        tokens = parsed(document, status=status)
    except TokenRequestFailed as refused:
        assert_shown_safely(refused)
        return
    assert 200 <= status < 300
    assert tokens.access_token
    assert tokens.access_token.isascii()
    assert tokens.access_token.isprintable()
    assert tokens.expires_at is None or NOW <= tokens.expires_at <= NOW + LONGEST_LIFETIME
    assert tokens.scope is not None
    assert tokens.scope == " ".join(tokens.scope.split())


@given(
    st.binary(max_size=200), st.sampled_from(["", "application/json", "application/x-www-form-urlencoded", "text/html"])
)
def test_any_bytes_are_tokens_or_one_typed_error(body: bytes, content_type: str) -> None:
    try:
        parse_token_response(raw_response(body, content_type=content_type), now=NOW, requested_scope="")
    except TokenRequestFailed as refused:
        assert_shown_safely(refused)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1), st.integers(0, LONGEST_LIFETIME))
def test_what_a_good_server_says_is_what_we_store_in_either_encoding(token: str, lifetime: int) -> None:
    document = {"access_token": token, "token_type": "Bearer", "expires_in": lifetime, "refresh_token": token}
    as_form = raw_response(urlencode(document).encode(), content_type="application/x-www-form-urlencoded")

    expected = TokenSet(token, NOW + lifetime, token, "asked")

    assert parsed(document) == expected
    assert parse_token_response(as_form, now=NOW, requested_scope="asked") == expected
