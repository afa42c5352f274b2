"""Becoming a client: in the right order, saying the right things, obeying what was assigned."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.exceptions import RegistrationFailed, RegistrationRequired
from mcp_oauth.oauth.options import OAuthOptions, RegistrationMode
from mcp_oauth.oauth.registration import (
    AUTH_METHODS,
    ClientCredentials,
    RegisteredClient,
    application_type_for,
    choose_registration,
    client_metadata_document,
    client_metadata_url_usable,
    parse_registration_response,
    preferred_auth_method,
    registration_request,
)
from tests.unit.oauth.samples import ISSUER, METADATA, REDIRECT_URI, assert_shown_safely, json_response, raw_response

CIMD_URL = "https://app.example.org/mcp/oauth/client.json"
REGISTER = f"{ISSUER}/register"
NOTHING = replace(METADATA, registration_endpoint=None)
WITH_CIMD = replace(METADATA, client_id_metadata_document_supported=True)


@pytest.mark.requirement("mcp-registration-order", "mcp-registration-cimd-checked")
@pytest.mark.parametrize("has_preregistered", [True, False])
@pytest.mark.parametrize("advertised", [True, False])
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("endpoint", [True, False])
def test_by_itself_the_order_is_preregistered_document_dynamic(
    has_preregistered: bool, advertised: bool, published: bool, endpoint: bool
) -> None:
    metadata = replace(
        METADATA,
        client_id_metadata_document_supported=advertised,
        registration_endpoint=REGISTER if endpoint else None,
    )
    possible = [
        kind
        for kind, available in (
            ("preregistered", has_preregistered),
            ("cimd", advertised and published),
            ("dynamic", endpoint),
        )
        if available
    ]

    def choice() -> str:
        return choose_registration(
            metadata,
            has_preregistered=has_preregistered,
            client_metadata_url=CIMD_URL if published else "",
            options=OAuthOptions(),
        )

    if possible:
        assert choice() == possible[0]
    else:
        with pytest.raises(RegistrationRequired):
            choice()


@pytest.mark.parametrize("mode", [mode for mode in get_args(RegistrationMode) if mode != "auto"])
def test_an_explicit_choice_wins_over_what_is_advertised(mode: RegistrationMode) -> None:
    for metadata in (METADATA, WITH_CIMD):
        chosen = choose_registration(
            metadata,
            has_preregistered=True,
            client_metadata_url=CIMD_URL,
            options=OAuthOptions(registration=mode),
        )
        assert chosen == mode


@pytest.mark.parametrize("mode", get_args(RegistrationMode))
def test_a_client_that_signs_with_its_own_key_is_registered_by_hand(mode: RegistrationMode) -> None:
    options = OAuthOptions(registration=mode, token_endpoint_auth_method="private_key_jwt")

    with pytest.raises(RegistrationRequired):
        choose_registration(WITH_CIMD, has_preregistered=False, client_metadata_url=CIMD_URL, options=options)
    if mode in {"auto", "preregistered"}:
        kind = choose_registration(WITH_CIMD, has_preregistered=True, client_metadata_url=CIMD_URL, options=options)
        assert kind == "preregistered"


@pytest.mark.parametrize(
    ("mode", "metadata", "url"),
    [
        ("preregistered", WITH_CIMD, CIMD_URL),
        ("cimd", WITH_CIMD, ""),
        ("cimd", WITH_CIMD, "http://localhost:8000/client.json"),
        ("dynamic", replace(WITH_CIMD, registration_endpoint=None), CIMD_URL),
        ("auto", NOTHING, CIMD_URL),
    ],
)
def test_where_nothing_is_left_an_administrator_learns_what_to_create(
    mode: RegistrationMode, metadata: Any, url: str
) -> None:
    with pytest.raises(RegistrationRequired) as caught:
        choose_registration(
            metadata, has_preregistered=False, client_metadata_url=url, options=OAuthOptions(registration=mode)
        )
    assert ISSUER in caught.value.user_message
    assert "redirect URI" in caught.value.user_message
    assert ISSUER in caught.value.next_step


@pytest.mark.requirement("mcp-registration-cimd-hosted", "mcp-registration-cimd-url", "cimd-3-plain-url")
@pytest.mark.parametrize(
    ("url", "issuer", "usable"),
    [
        (CIMD_URL, ISSUER, True),
        (CIMD_URL, "http://localhost:9000", True),
        ("http://localhost:8000/client.json", "http://localhost:9000", True),
        ("https://127.0.0.1/client.json", "http://[::1]:9000", True),
        ("http://localhost:8000/client.json", ISSUER, False),
        ("https://127.0.0.1/client.json", ISSUER, False),
        ("http://app.example.org/client.json", ISSUER, False),
        ("http://app.example.org/client.json", "http://localhost:9000", False),
        ("https://app.example.org", ISSUER, False),
        ("https://app.example.org/", ISSUER, False),
        ("https://app.example.org/a/../client.json", ISSUER, False),
        ("https://app.example.org/client.json#x", ISSUER, False),
        ("https://u@app.example.org/client.json", ISSUER, False),
        ("", ISSUER, False),
        ("client.json", ISSUER, False),
    ],
)
def test_our_document_is_used_where_the_issuer_could_read_it(url: str, issuer: str, usable: bool) -> None:
    assert client_metadata_url_usable(url, issuer=issuer) is usable
    if not usable:
        metadata = replace(WITH_CIMD, issuer=issuer)
        assert (
            choose_registration(metadata, has_preregistered=False, client_metadata_url=url, options=OAuthOptions())
            == "dynamic"
        )


@pytest.mark.requirement("mcp-registration-native", "mcp-registration-web")
@pytest.mark.parametrize(
    ("redirect_uri", "expected"),
    [
        (REDIRECT_URI, "web"),
        ("https://localhost/callback/", "web"),
        ("http://localhost:8000/callback/", "native"),
        ("http://127.0.0.1/callback/", "native"),
        ("http://[::1]:8000/callback/", "native"),
        ("http://app.example.org/callback/", None),
        ("myapp://callback", None),
        ("", None),
    ],
)
def test_a_client_on_https_is_web_and_on_loopback_native(redirect_uri: str, expected: str | None) -> None:
    assert application_type_for(redirect_uri) == expected


@pytest.mark.requirement("mcp-registration-cimd-members", "mcp-registration-cimd-matches", "cimd-4-no-secret")
@pytest.mark.requirement("mcp-auth-refresh-grant-type")
def test_our_document_names_itself() -> None:
    document = client_metadata_document(
        client_id_url=CIMD_URL, client_name="App", redirect_uri=REDIRECT_URI, client_uri="https://app.example.org"
    )

    assert document == {
        "client_id": CIMD_URL,
        "client_name": "App",
        "client_uri": "https://app.example.org",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "web",
    }


@pytest.mark.requirement("mcp-registration-application-type", "rfc7591-3.1-json", "rfc7591-2-redirect-uris")
def test_the_registration_says_what_the_client_will_do() -> None:
    request = registration_request(
        METADATA,
        client_name="App",
        redirect_uri=REDIRECT_URI,
        client_uri="https://app.example.org",
        application_type="web",
        scope="read write",
    )

    assert (request.method, request.url) == ("POST", REGISTER)
    assert request.headers == {"Content-Type": "application/json", "Accept": "application/json"}
    assert json.loads(request.body) == {
        "client_name": "App",
        "client_uri": "https://app.example.org",
        "redirect_uris": [REDIRECT_URI],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "web",
        "scope": "read write",
    }


def test_what_is_unknown_is_left_out_of_the_registration() -> None:
    request = registration_request(
        METADATA, client_name="App", redirect_uri=REDIRECT_URI, client_uri="", application_type=None
    )

    assert not {"application_type", "scope", "client_uri"} & json.loads(request.body).keys()


def test_without_an_endpoint_nobody_is_registered() -> None:
    with pytest.raises(RegistrationRequired):
        registration_request(
            NOTHING, client_name="App", redirect_uri=REDIRECT_URI, client_uri="", application_type=None
        )


@pytest.mark.parametrize(
    ("supported", "expected"),
    [
        (None, "none"),
        ((), "none"),
        (("client_secret_basic", "client_secret_post", "none"), "none"),
        (("client_secret_basic", "client_secret_post"), "client_secret_post"),
        (("client_secret_basic",), "client_secret_basic"),
        (("private_key_jwt", "client_secret_basic"), "client_secret_basic"),
        (("private_key_jwt",), "none"),
    ],
)
def test_no_secret_is_preferred_then_post_then_basic(supported: tuple[str, ...] | None, expected: str) -> None:
    metadata = replace(METADATA, token_endpoint_auth_methods_supported=supported)
    request = registration_request(
        metadata, client_name="App", redirect_uri=REDIRECT_URI, client_uri="", application_type=None
    )

    assert preferred_auth_method(metadata) == expected
    assert json.loads(request.body)["token_endpoint_auth_method"] == expected


def test_an_administrators_choice_of_method_is_registered() -> None:
    options = OAuthOptions(token_endpoint_auth_method="client_secret_basic")
    request = registration_request(
        METADATA,
        client_name="App",
        redirect_uri=REDIRECT_URI,
        client_uri="",
        application_type=None,
        token_endpoint_auth_method=preferred_auth_method(METADATA, options),
    )

    assert json.loads(request.body)["token_endpoint_auth_method"] == "client_secret_basic"


def registered(
    document: object, *, requested_method: str = "none", status: int = 201, supported: tuple[str, ...] | None = None
) -> RegisteredClient:
    return parse_registration_response(
        json_response(document, url=REGISTER, status=status),
        metadata=replace(METADATA, token_endpoint_auth_methods_supported=supported),
        requested_method=requested_method,
    )


@pytest.mark.parametrize("status", [200, 201])
def test_a_public_client_is_registered(status: int) -> None:
    assert registered({"client_id": "c"}, status=status) == RegisteredClient("c", None, None, "none")


@pytest.mark.requirement("rfc7591-3.2.1-checked")
@pytest.mark.parametrize(
    ("answer", "requested", "method", "secret"),
    [
        ({"client_secret": "s"}, "none", "client_secret_post", "s"),
        ({"client_secret": "s"}, "client_secret_post", "client_secret_post", "s"),
        ({"client_secret": "s"}, "client_secret_basic", "client_secret_basic", "s"),
        ({"client_secret": "s", "token_endpoint_auth_method": None}, "none", "client_secret_post", "s"),
        ({"client_secret": "s", "token_endpoint_auth_method": "none"}, "none", "none", None),
        ({"client_secret": "s", "token_endpoint_auth_method": "none"}, "client_secret_post", "none", None),
        (
            {"client_secret": "s", "token_endpoint_auth_method": "client_secret_basic"},
            "none",
            "client_secret_basic",
            "s",
        ),
        (
            {"client_secret": "s", "token_endpoint_auth_method": "client_secret_post"},
            "client_secret_basic",
            "client_secret_post",
            "s",
        ),
        ({"client_secret": ""}, "client_secret_post", "none", None),
        ({"client_secret": None}, "none", "none", None),
    ],
)
def test_the_assigned_method_is_obeyed(answer: dict[str, Any], requested: str, method: str, secret: str | None) -> None:
    client = registered({"client_id": "c", **answer}, requested_method=requested)

    assert (client.token_endpoint_auth_method, client.client_secret) == (method, secret)


def test_a_secret_without_a_method_is_for_basic_where_nothing_else_is_supported() -> None:
    client = registered({"client_id": "c", "client_secret": "s"}, supported=("client_secret_basic",))

    assert client.token_endpoint_auth_method == "client_secret_basic"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, None),
        ("0", None),
        (None, None),
        (1_900_000_000, 1_900_000_000),
        ("1900000000", 1_900_000_000),
        (1_900_000_000.5, 1_900_000_000),
        (-1, None),
        (True, None),
        ("soon", None),
        ("\u0663", None),
        ("9" * 5000, None),
        (10**30, None),
        ([], None),
    ],
)
def test_the_end_of_a_secret_is_in_epoch_seconds_or_never(value: object, expected: int | None) -> None:
    client = registered({"client_id": "c", "client_secret": "s", "client_secret_expires_at": value})

    assert client.client_secret_expires_at == expected


@pytest.mark.requirement("rfc7591-3.2.1-checked")
@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"client_id": ""},
        {"client_id": 7},
        {"client_id": "a\nb"},
        {"client_id": "\ud800"},
        {"client_id": "c", "client_secret": 7},
        {"client_id": "c", "client_secret": "a\r\nb"},
        {"client_id": "c", "token_endpoint_auth_method": "private_key_jwt"},
        {"client_id": "c", "token_endpoint_auth_method": "client_secret_post"},
        {"client_id": "c", "error": "invalid_client_metadata"},
    ],
)
def test_an_answer_that_makes_no_usable_client_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(RegistrationFailed) as caught:
        registered(answer)
    assert caught.value.document == REGISTER
    assert caught.value.user_message.isprintable()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b"[" * 60_000])
@pytest.mark.parametrize("status", [200, 201, 204, 400, 500])
def test_an_unreadable_answer_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(RegistrationFailed):
        parse_registration_response(
            raw_response(body, url=REGISTER, status=status), metadata=METADATA, requested_method="none"
        )


@pytest.mark.requirement("mcp-registration-refusal-told")
def test_the_servers_own_words_are_told_bounded_and_clean() -> None:
    with pytest.raises(RegistrationFailed) as caught:
        registered(
            {"error": "invalid_redirect_uri", "error_description": "not\x00 allowed\r\n \u202e" + "x " * 1000},
            status=400,
        )

    message = caught.value.user_message
    assert "HTTP status 400, invalid_redirect_uri" in message
    assert "not allowed x x" in message
    assert message.isprintable()
    assert len(message) < 450


@pytest.mark.parametrize(
    ("header", "next_step"),
    [
        ({"Retry-After": "120"}, "Try again in 120 seconds."),
        ({}, "Try again in an hour."),
        ({"Retry-After": "x"}, "Try again in an hour."),
    ],
)
def test_too_many_registrations_say_when_to_try_again(header: dict[str, str], next_step: str) -> None:
    with pytest.raises(RegistrationFailed) as caught:
        parse_registration_response(
            json_response({}, url=REGISTER, status=429, headers=header), metadata=METADATA, requested_method="none"
        )
    assert caught.value.next_step == next_step


@pytest.mark.parametrize("status", [401, 403])
def test_a_closed_registration_leads_to_the_administrator(status: int) -> None:
    with pytest.raises(RegistrationFailed) as caught:
        registered({"error": "access_denied"}, status=status)
    assert "client ID" in caught.value.next_step


def test_no_secret_is_in_the_text_of_a_client() -> None:
    client = registered({"client_id": "c", "client_secret": "canary"})

    assert "canary" not in repr(client)
    assert "canary" not in repr(ClientCredentials("c", "canary", "client_secret_post", ISSUER))


@given(
    st.dictionaries(
        st.sampled_from(
            ["client_id", "client_secret", "client_secret_expires_at", "token_endpoint_auth_method", "error"]
        ),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(AUTH_METHODS),
    ),
    st.sampled_from(AUTH_METHODS),
)
def test_any_answer_is_a_working_client_or_one_typed_error(answer: dict[str, Any], requested: str) -> None:
    try:
        client = registered(answer, requested_method=requested)
    except RegistrationFailed as refused:
        assert_shown_safely(refused)
        return
    assert client.client_id
    assert client.token_endpoint_auth_method in AUTH_METHODS
    assert (client.client_secret is None) is (client.token_endpoint_auth_method == "none")
