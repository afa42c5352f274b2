"""Authorization server metadata: where it is looked for, and what it must say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.exceptions import DiscoveryFailed
from mcp_oauth.oauth.authorization_server import (
    AuthorizationServerMetadata,
    legacy_metadata,
    metadata_urls,
    parse_authorization_server_metadata,
)
from tests.unit.oauth.samples import ISSUER, METADATA, SERVER, assert_shown_safely, json_response, raw_response

URL = f"{ISSUER}/.well-known/oauth-authorization-server"


def document(**changes: object) -> dict[str, object]:
    return {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/authorize",
        "token_endpoint": f"{ISSUER}/token",
        "code_challenge_methods_supported": ["S256"],
        **changes,
    }


def parse(content: object, *, issuer: str = ISSUER, **options: Any) -> AuthorizationServerMetadata:
    return parse_authorization_server_metadata(json_response(content, url=URL), issuer=issuer, **options)


@pytest.mark.requirement("mcp-discovery-several-locations", "mcp-discovery-order-with-path")
@pytest.mark.requirement("mcp-discovery-order-without-path", "rfc8414-3.1-inserted")
@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://as.example",
            (
                "https://as.example/.well-known/oauth-authorization-server",
                "https://as.example/.well-known/openid-configuration",
            ),
        ),
        (
            "https://as.example/",
            (
                "https://as.example/.well-known/oauth-authorization-server",
                "https://as.example/.well-known/openid-configuration",
            ),
        ),
        (
            "https://as.example/t/1",
            (
                "https://as.example/.well-known/oauth-authorization-server/t/1",
                "https://as.example/.well-known/openid-configuration/t/1",
                "https://as.example/t/1/.well-known/openid-configuration",
            ),
        ),
        (
            "https://as.example/t/",
            (
                "https://as.example/.well-known/oauth-authorization-server/t",
                "https://as.example/.well-known/openid-configuration/t",
                "https://as.example/t/.well-known/openid-configuration",
            ),
        ),
    ],
)
def test_the_locations_are_in_the_specifications_order(issuer: str, urls: tuple[str, ...]) -> None:
    assert metadata_urls(issuer) == urls


@pytest.mark.parametrize(
    "issuer", ["", "as.example", "ftp://as.example", "https://as.example?x", "https://as.example#"]
)
def test_what_is_no_issuer_has_no_locations(issuer: str) -> None:
    with pytest.raises(DiscoveryFailed):
        metadata_urls(issuer)


@pytest.mark.requirement("rfc8414-2-unknown-ignored")
def test_a_full_document_is_read_and_survives_storage() -> None:
    metadata = parse(
        document(
            registration_endpoint=f"{ISSUER}/register",
            revocation_endpoint=f"{ISSUER}/revoke",
            scopes_supported=["read", "offline_access"],
            token_endpoint_auth_methods_supported=["none"],
            grant_types_supported=["authorization_code"],
            client_id_metadata_document_supported=True,
            authorization_response_iss_parameter_supported=True,
            dpop_signing_alg_values_supported=["ES256", "none", 7],
            unknown={"x": 1},
        )
    )

    assert metadata == AuthorizationServerMetadata(
        issuer=ISSUER,
        authorization_endpoint=f"{ISSUER}/authorize",
        token_endpoint=f"{ISSUER}/token",
        registration_endpoint=f"{ISSUER}/register",
        revocation_endpoint=f"{ISSUER}/revoke",
        scopes_supported=("read", "offline_access"),
        code_challenge_methods_supported=("S256",),
        token_endpoint_auth_methods_supported=("none",),
        grant_types_supported=("authorization_code",),
        client_id_metadata_document_supported=True,
        authorization_response_iss_parameter_supported=True,
        dpop_signing_alg_values_supported=("ES256", "none"),
        document=URL,
    )
    stored = json.loads(json.dumps(metadata.to_json()))
    assert AuthorizationServerMetadata.from_json({**stored, "from_a_later_version": 1}) == metadata


def test_absent_lists_stay_absent_in_storage() -> None:
    metadata = replace(METADATA, scopes_supported=None, grant_types_supported=())

    assert AuthorizationServerMetadata.from_json(metadata.to_json()) == metadata


@pytest.mark.parametrize("name", ["issuer", "authorization_endpoint", "token_endpoint"])
def test_a_stored_copy_without_a_required_member_is_refused(name: str) -> None:
    with pytest.raises(DiscoveryFailed, match=name):
        AuthorizationServerMetadata.from_json({**METADATA.to_json(), name: None})


@pytest.mark.parametrize("name", ["issuer", "authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize("value", [None, "", 7, [], {}])
def test_a_required_member_is_text(name: str, value: object) -> None:
    with pytest.raises(DiscoveryFailed, match=name) as caught:
        parse(document(**{name: value}), tolerate_issuer_mismatch=True)
    assert caught.value.document == URL


BAD_ENDPOINTS = [
    "javascript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "http://as.example.com/x",
    "http://localhost/x",
    "https://u:p@as.example.com/x",
    "https://as.example.com/x#y",
    "https://as.example.com/ x",
    "https://as.example.com/\r\nx",
    "/x",
]


@pytest.mark.requirement("mcp-security-https", "mcp-bp-https", "mcp-bp-urls-validated", "oauth21-1.5-https")
@pytest.mark.requirement("ext-ema-https", "T08")
@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize("url", BAD_ENDPOINTS)
def test_a_bad_required_endpoint_is_refused(name: str, url: str) -> None:
    with pytest.raises(DiscoveryFailed, match=f"The metadata's {name} "):
        parse(document(**{name: url}))


@pytest.mark.requirement("mcp-security-https", "rfc7009-2-https", "rfc7591-5-https")
@pytest.mark.parametrize("name", ["registration_endpoint", "revocation_endpoint"])
@pytest.mark.parametrize("url", [*BAD_ENDPOINTS, None, 7, [], {}])
def test_a_bad_optional_endpoint_counts_as_absent(name: str, url: object) -> None:
    assert getattr(parse(document(**{name: url})), name) is None


def test_endpoints_on_this_machine_are_for_development() -> None:
    local = {name: str(value).replace(ISSUER, "http://localhost:9000") for name, value in document().items()}
    local_document = {**local, "code_challenge_methods_supported": ["S256"]}

    assert parse(local_document, issuer="http://localhost:9000", allow_loopback=True).token_endpoint == (
        "http://localhost:9000/token"
    )
    with pytest.raises(DiscoveryFailed):
        parse(local_document, issuer="http://localhost:9000")


@pytest.mark.requirement("mcp-discovery-issuer-validated", "mcp-discovery-issuer-mismatch", "rfc8414-3.3-issuer", "T14")
@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("https://as.example", "https://evil.example"),
        ("https://as.example", "https://as.example/t"),
        ("https://as.example/t", "https://as.example"),
        ("https://as.example/t", "https://as.example/t/"),
        ("https://as.example", "https://AS.example"),
        ("https://as.example", "https://as.example:443"),
        ("https://as.example", "http://as.example"),
    ],
)
def test_the_issuer_is_the_one_asked_for(asked: str, found: str) -> None:
    with pytest.raises(DiscoveryFailed, match="is for the issuer") as caught:
        parse(document(issuer=found), issuer=asked)
    assert caught.value.document == URL

    assert parse(document(issuer=found), issuer=asked, tolerate_issuer_mismatch=True).issuer == found


@pytest.mark.parametrize(("asked", "found"), [(ISSUER, f"{ISSUER}/"), (f"{ISSUER}/", ISSUER)])
def test_a_root_slash_makes_no_difference_and_the_documents_own_text_is_kept(asked: str, found: str) -> None:
    assert parse(document(issuer=found), issuer=asked).issuer == found


@pytest.mark.requirement("mcp-security-pkce-verified", "mcp-security-pkce-absent", "T10")
@pytest.mark.parametrize("methods", [None, [], ["plain"], "S256", ["s256"], [["S256"]], {"S256": True}, [None]])
def test_metadata_that_does_not_promise_s256_is_refused(methods: object) -> None:
    content = document(code_challenge_methods_supported=methods)
    if methods is None:
        del content["code_challenge_methods_supported"]

    with pytest.raises(DiscoveryFailed, match="does not list S256"):
        parse(content)
    assert parse(content, tolerate_missing_s256=True).token_endpoint == f"{ISSUER}/token"


@pytest.mark.parametrize("methods", [["S256"], ["plain", "S256"], ["S256", 7, None]])
def test_metadata_that_promises_s256_is_accepted(methods: list[object]) -> None:
    assert "S256" in (parse(document(code_challenge_methods_supported=methods)).code_challenge_methods_supported or ())


@pytest.mark.parametrize("value", ["true", 1, "yes", None, [], {}])
def test_a_promise_is_a_json_true(value: object) -> None:
    metadata = parse(
        document(client_id_metadata_document_supported=value, authorization_response_iss_parameter_supported=value)
    )

    assert not metadata.client_id_metadata_document_supported
    assert not metadata.authorization_response_iss_parameter_supported


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("a b", None), ({}, None), ([], ()), (["a", 7, "", "b c", "\ud800", "a", "x" * 400], ("a",))],
)
def test_malformed_lists_and_entries_count_as_absent(value: object, expected: tuple[str, ...] | None) -> None:
    metadata = parse(
        document(scopes_supported=value, token_endpoint_auth_methods_supported=value, grant_types_supported=value)
    )

    assert metadata.scopes_supported == expected
    assert metadata.token_endpoint_auth_methods_supported == expected
    assert metadata.grant_types_supported == expected


@pytest.mark.parametrize("status", [201, 204, 302, 404, 500])
def test_only_200_counts(status: int) -> None:
    with pytest.raises(DiscoveryFailed, match=f"HTTP status {status}"):
        parse_authorization_server_metadata(json_response(document(), url=URL, status=status), issuer=ISSUER)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"<!doctype html>", "text/html", "is a web page (HTML), not JSON"),
        (b"", "", "is empty"),
        (b"nope", "application/json", "is not JSON"),
        (b"[1]", "application/json", "is JSON but not an object"),
        (b"{}", "application/json", "lacks the member issuer"),
    ],
)
def test_a_200_that_is_no_metadata_is_refused_with_the_reason(body: bytes, content_type: str, reason: str) -> None:
    with pytest.raises(DiscoveryFailed) as caught:
        parse_authorization_server_metadata(raw_response(body, url=URL, content_type=content_type), issuer=ISSUER)
    assert caught.value.user_message == f"The authorization server's metadata {reason}."
    assert caught.value.document == URL


def test_legacy_endpoints_are_at_the_servers_origin() -> None:
    metadata = legacy_metadata(SERVER)

    assert (
        metadata.issuer,
        metadata.authorization_endpoint,
        metadata.token_endpoint,
        metadata.registration_endpoint,
    ) == (
        "https://mcp.example.com",
        "https://mcp.example.com/authorize",
        "https://mcp.example.com/token",
        "https://mcp.example.com/register",
    )
    assert metadata.revocation_endpoint is None
    assert not metadata.authorization_response_iss_parameter_supported


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(METADATA.to_json())), json_values), st.booleans())
def test_any_member_is_read_or_refused_with_one_typed_error(changes: dict[str, Any], tolerant: bool) -> None:
    try:
        metadata = parse(document(**changes), tolerate_issuer_mismatch=tolerant, tolerate_missing_s256=tolerant)
    except DiscoveryFailed as refused:
        assert_shown_safely(refused)
        return
    assert AuthorizationServerMetadata.from_json(json.loads(json.dumps(metadata.to_json()))) == metadata
    assert json.dumps(metadata.to_json(), ensure_ascii=False).isascii()
    assert metadata.token_endpoint.startswith("https://")
