"""Protected resource metadata: where it is looked for, and what it must say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.exceptions import DiscoveryFailed
from mcp_oauth.oauth.protected_resource import (
    ProtectedResourceMetadata,
    ResourceMetadataLocation,
    parse_protected_resource_metadata,
    resource_metadata_locations,
)
from tests.unit.oauth.samples import ISSUER, SERVER, json_response, raw_response

ORIGIN = "https://mcp.example.com"
WELL_KNOWN = f"{ORIGIN}/.well-known/oauth-protected-resource"
BY_CHALLENGE = ResourceMetadataLocation("https://elsewhere.example/prm.json", "challenge")
BY_PATH = ResourceMetadataLocation(f"{WELL_KNOWN}/mcp", "path")
BY_ROOT = ResourceMetadataLocation(WELL_KNOWN, "root")


def parse(
    document: object,
    *,
    server_url: str = SERVER,
    location: ResourceMetadataLocation = BY_PATH,
    **options: Any,
) -> ProtectedResourceMetadata:
    return parse_protected_resource_metadata(
        json_response(document, url=location.url), server_url=server_url, location=location, **options
    )


def document(**changes: object) -> dict[str, object]:
    return {"resource": SERVER, "authorization_servers": [ISSUER], **changes}


@pytest.mark.requirement("mcp-discovery-challenge-first", "mcp-discovery-fallback", "rfc9728-3.1-inserted")
def test_the_challenge_comes_before_the_path_and_the_path_before_the_root() -> None:
    assert resource_metadata_locations(SERVER, BY_CHALLENGE.url) == (BY_CHALLENGE, BY_PATH, BY_ROOT)


@pytest.mark.parametrize("challenge", [None, ""])
def test_without_a_challenge_path_and_root_are_left(challenge: str | None) -> None:
    assert resource_metadata_locations(SERVER, challenge) == (BY_PATH, BY_ROOT)


@pytest.mark.parametrize("server_url", [ORIGIN, f"{ORIGIN}/", "HTTPS://MCP.example.com:443"])
def test_a_server_without_a_path_has_one_location(server_url: str) -> None:
    assert resource_metadata_locations(server_url, None) == (BY_ROOT,)


def test_no_location_comes_twice() -> None:
    assert resource_metadata_locations(SERVER, BY_PATH.url) == (
        ResourceMetadataLocation(BY_PATH.url, "challenge"),
        BY_ROOT,
    )


def test_the_root_document_is_one_however_we_came_to_know_of_it() -> None:
    assert resource_metadata_locations(SERVER, WELL_KNOWN) == (BY_ROOT, BY_PATH)


def test_a_query_stays_behind_the_path() -> None:
    urls = [location.url for location in resource_metadata_locations(f"{SERVER}?tenant=1", None)]

    assert urls == [f"{WELL_KNOWN}/mcp?tenant=1", WELL_KNOWN]


def test_a_good_document_is_read() -> None:
    metadata = parse(document(scopes_supported=["read", "write", "read", 'a"b', "two words", "", 7, "caf\u00e9"]))

    assert metadata == ProtectedResourceMetadata(
        resource=SERVER,
        authorization_servers=(ISSUER,),
        scopes_supported=("read", "write"),
        document=BY_PATH.url,
    )


@pytest.mark.parametrize(("value", "expected"), [(None, None), ("read", None), ({}, None), ([], ())])
def test_scopes_that_are_no_list_are_none(value: object, expected: tuple[str, ...] | None) -> None:
    assert parse(document(scopes_supported=value)).scopes_supported == expected


OTHER_RESOURCES = [
    f"{ORIGIN}/other",
    f"{ORIGIN}/mcp2",
    f"{ORIGIN}/mcp/",
    f"{ORIGIN}/mcp/sub",
    f"{ORIGIN}/MCP",
    f"{ORIGIN}/m",
    f"{ORIGIN}/mcp?x",
    f"{ORIGIN}:8443/mcp",
    "http://mcp.example.com/mcp",
    "https://evil.example/mcp",
    "https://mcp.example.com.evil.example/mcp",
    "https://x@mcp.example.com/mcp",
]


@pytest.mark.requirement("rfc9728-3.3-resource", "rfc9728-3.3-challenge", "T15")
@pytest.mark.parametrize("resource", [*OTHER_RESOURCES, ORIGIN, f"{ORIGIN}/"])
@pytest.mark.parametrize("location", [BY_CHALLENGE, BY_PATH])
def test_challenge_and_path_documents_describe_exactly_this_server(
    resource: str, location: ResourceMetadataLocation
) -> None:
    with pytest.raises(DiscoveryFailed, match="which is not this server") as caught:
        parse(document(resource=resource), location=location)
    assert caught.value.document == location.url


@pytest.mark.parametrize("resource", OTHER_RESOURCES)
def test_the_root_document_describes_the_origin_or_exactly_this_server(resource: str) -> None:
    with pytest.raises(DiscoveryFailed, match="which is not this server"):
        parse(document(resource=resource), location=BY_ROOT)


@pytest.mark.requirement("T15")
@pytest.mark.parametrize("resource", [ORIGIN, f"{ORIGIN}/", SERVER])
def test_the_root_document_may_name_the_origin(resource: str) -> None:
    assert parse(document(resource=resource), location=BY_ROOT).resource == resource


@pytest.mark.requirement("mcp-auth-resource-case")
@pytest.mark.parametrize("location", [BY_CHALLENGE, BY_PATH, BY_ROOT])
@pytest.mark.parametrize("server_url", [SERVER, "HTTPS://MCP.Example.com:443/mcp"])
def test_the_case_of_the_host_as_entered_does_not_matter(location: ResourceMetadataLocation, server_url: str) -> None:
    assert parse(document(), location=location, server_url=server_url).resource == SERVER


@pytest.mark.parametrize("server_url", [ORIGIN, f"{ORIGIN}/"])
@pytest.mark.parametrize("resource", [ORIGIN, f"{ORIGIN}/"])
def test_an_empty_path_and_a_slash_are_one_resource_and_kept_as_written(server_url: str, resource: str) -> None:
    assert parse(document(resource=resource), location=BY_CHALLENGE, server_url=server_url).resource == resource


@pytest.mark.parametrize("resource", [*OTHER_RESOURCES, "api://1234"])
def test_the_opt_out_accepts_another_resource_byte_for_byte(resource: str) -> None:
    assert parse(document(resource=resource), tolerate_mismatch=True).resource == resource


@pytest.mark.parametrize("resource", [None, "", 7, [SERVER], f"{SERVER}\n", f"{SERVER} x", f"{SERVER}#x", "\ud800"])
def test_the_opt_out_does_not_accept_what_is_no_address(resource: object) -> None:
    with pytest.raises(DiscoveryFailed, match="resource"):
        parse(document(resource=resource), tolerate_mismatch=True)


@pytest.mark.parametrize("value", [None, [], ISSUER, {}, 7])
def test_a_document_without_authorization_servers_is_refused(value: object) -> None:
    with pytest.raises(DiscoveryFailed, match="lacks the member authorization_servers"):
        parse(document(authorization_servers=value))


@pytest.mark.requirement("mcp-bp-urls-validated", "mcp-security-https")
@pytest.mark.parametrize(
    "issuer",
    [
        "http://as.example.com",
        "http://localhost:9000",
        "https://localhost:9000",
        "https://u:p@as.example.com",
        "https://as.example.com#x",
        "https://as.example.com?x",
        "javascript:alert(1)",
        "",
        None,
        7,
    ],
)
def test_unusable_authorization_servers_are_passed_over(issuer: object) -> None:
    assert parse(document(authorization_servers=[issuer, ISSUER, ISSUER])).authorization_servers == (ISSUER,)
    with pytest.raises(DiscoveryFailed, match="authorization_servers"):
        parse(document(authorization_servers=[issuer]))


def test_an_authorization_server_on_this_machine_is_for_development() -> None:
    local = document(authorization_servers=["http://localhost:9000"])

    assert parse(local, allow_loopback=True).authorization_servers == ("http://localhost:9000",)


@pytest.mark.parametrize("status", [199, 201, 204, 301, 401, 404, 500])
def test_only_200_counts(status: int) -> None:
    response = json_response(document(), url=BY_PATH.url, status=status)

    with pytest.raises(DiscoveryFailed, match=f"HTTP status {status}") as caught:
        parse_protected_resource_metadata(response, server_url=SERVER, location=BY_PATH)
    assert caught.value.document == BY_PATH.url


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"<!doctype html><title>App</title>", "text/html; charset=utf-8", "is a web page (HTML), not JSON"),
        (b"  <html>", "", "is a web page (HTML), not JSON"),
        (b"", "application/json", "is empty"),
        (b"{", "application/json", "is not JSON"),
        (b"\xff\xfe{}", "application/json", "is not JSON"),
        (b'{"a":' * 20_000, "application/json", "is not JSON"),
        (b"[]", "application/json", "is JSON but not an object"),
        (b'"x"', "text/plain", "is JSON but not an object"),
        (b"{}", "application/json", "lacks the member resource"),
    ],
)
def test_the_reason_is_told_in_plain_words(body: bytes, content_type: str, reason: str) -> None:
    response = raw_response(body, url=BY_PATH.url, content_type=content_type)

    with pytest.raises(DiscoveryFailed) as caught:
        parse_protected_resource_metadata(response, server_url=SERVER, location=BY_PATH)
    assert caught.value.user_message == f"The protected resource metadata {reason}."


@given(st.binary(max_size=100) | st.builds(lambda value: str(value).encode(), st.dictionaries(st.text(), st.text())))
def test_any_body_is_metadata_or_one_typed_error(body: bytes) -> None:
    with pytest.raises(DiscoveryFailed):
        parse_protected_resource_metadata(raw_response(body, url=BY_PATH.url), server_url=SERVER, location=BY_PATH)


@given(st.text(max_size=30), st.sampled_from([BY_CHALLENGE, BY_PATH, BY_ROOT]))
def test_no_resource_but_the_servers_own_or_its_origin_is_accepted(
    suffix: str, location: ResourceMetadataLocation
) -> None:
    resource = ORIGIN + suffix
    allowed = {SERVER, ORIGIN, f"{ORIGIN}/"} if location.form == "root" else {SERVER}
    try:
        metadata = parse(document(resource=resource), location=location)
    except DiscoveryFailed:
        assert resource not in allowed
    else:
        assert metadata.resource in allowed
