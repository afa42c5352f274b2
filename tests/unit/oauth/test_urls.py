"""What may be contacted, and what counts as the same origin, issuer or resource."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.exceptions import DiscoveryFailed, InvalidServerAddress
from mcp_oauth.oauth.urls import (
    canonical_resource,
    check_endpoint,
    check_server_address,
    host_of,
    insert_well_known,
    is_loopback_host,
    issuers_match,
    origin,
    same_origin,
)

hosts = st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z][a-z0-9]{0,8}){1,2}", fullmatch=True)
paths = st.from_regex(r"(/[A-Za-z0-9._~%-]{0,8}){0,4}", fullmatch=True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example", "https://a.example"),
        ("HTTPS://A.Example/Path?Q#f", "https://a.example"),
        ("https://a.example:443/", "https://a.example"),
        ("https://a.example:/", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("https://a.example:80", "https://a.example:80"),
        ("https://a.example:8443", "https://a.example:8443"),
        ("https://user:pw@a.example/", "https://a.example"),
        ("https://[0:0:0:0:0:0:0:1]:443/x", "https://[::1]"),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000"),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, expected: str) -> None:
    assert origin(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "//a.example",
        "/path",
        "ftp://a.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "https:a.example",
        "https:/a.example",
        "https:///path",
        "https://",
        "https://:443",
        "https://a.example:0",
        "https://a.example:65536",
        "https://a.example:x",
        "https://[::1",
        "https://[::1]evil.example/",
        "https://[::1%25lo]/",
        "https://a.example\\@evil.example/",
        "https://a%2eexample/",
        "https://a..example/",
        "https://.example/",
        "https://b\u00fccher.example/",
        "https://a.example/\u00e9",
        "https://a.exa\tmple/",
        "https://a.example/\n",
        " https://a.example",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://127.0.0.1.1/",
        'https://a.example/"',
        "https://a.example/" + "x" * 2048,
    ],
)
def test_what_has_two_readings_or_none_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|contains|does) "):
        origin(url)
    assert not same_origin(url, url)
    assert host_of(url) == ""


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("https://a.example/x", "https://A.example:443/y?z", True),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example:8443", False),
        ("https://a.example", "https://b.a.example", False),
        ("https://a.example", "https://a.example.", False),
        ("https://a.example", "https://a.example@evil.example", False),
        ("http://localhost:1", "http://127.0.0.1:1", False),
    ],
)
def test_origins_are_compared_by_scheme_host_and_port(first: str, second: str, same: bool) -> None:
    assert same_origin(first, second) is same
    assert same_origin(second, first) is same


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.255.255.254", "::1", "[::1]", "0:0:0:0:0:0:0:1"]
)
def test_this_machine_is_recognised(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "2130706433",
        "128.0.0.1",
        "126.255.255.255",
        "0.0.0.0",  # noqa: S104  (nothing is bound to it)
        "10.0.0.1",
        "::",
        "::2",
        "::1%lo",
        "::ffff:127.0.0.1",
        "foo.localhost",
    ],
)
def test_nothing_else_is_taken_for_this_machine(host: str) -> None:
    assert not is_loopback_host(host)


@pytest.mark.parametrize(
    "address",
    [
        "https://mcp.example.com/mcp",
        "https://mcp.example.com",
        "https://1.2.3.4:8443/x?y=z",
        "HTTPS://Mcp.Example.com/M",
    ],
)
@pytest.mark.parametrize("allow_loopback", [True, False])
def test_a_public_https_address_is_kept_as_entered(address: str, allow_loopback: bool) -> None:
    assert check_server_address(f"  {address}\n", allow_loopback=allow_loopback) == address


@pytest.mark.parametrize(
    "address", ["http://localhost:8000/mcp", "http://127.0.0.1/mcp", "http://[::1]:1/", "https://localhost/mcp"]
)
def test_this_machine_is_an_address_in_development_only(address: str) -> None:
    assert check_server_address(address, allow_loopback=True) == address
    with pytest.raises(InvalidServerAddress) as caught:
        check_server_address(address, allow_loopback=False)
    assert caught.value.user_message == "The address points at this machine, which is allowed in development only."


@pytest.mark.requirement("mcp-bp-urls-validated", "rfc8707-2-no-fragment")
@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("", "Enter the server's address."),
        ("  \n", "Enter the server's address."),
        ("mcp.example.com/mcp", "The address does not start with https://."),
        ("ftp://mcp.example.com", "The address does not start with https://."),
        ("javascript:alert(1)", "The address does not start with https://."),
        ("http://mcp.example.com/mcp", "The address does not start with https://."),
        ("http://10.0.0.1/mcp", "The address does not start with https://."),
        ("https://", "The address has no host."),
        ("https:///mcp", "The address has no host."),
        ("https://user@mcp.example.com/", "The address must not contain a user name or password."),
        ("https://user:pw@mcp.example.com/", "The address must not contain a user name or password."),
        ("https://@mcp.example.com/", "The address must not contain a user name or password."),
        ("https://mcp.example.com/#", "The address must not contain a fragment (#)."),
        ("https://mcp.example.com/#x", "The address must not contain a fragment (#)."),
        ("https://mcp.example.com/a b", "The address contains a space or control character."),
        ("https://mcp.example.com/a\x00b", "The address contains a space or control character."),
        ("https://mcp.example.com/a\r\nb", "The address contains a space or control character."),
        ("https://mcp.exa\u200bmple.com/", "The address contains a space or control character."),
        (
            "https://m\u0441p.example.com/",
            "The address contains a character that no web address may contain unencoded.",
        ),
        ("https://mcp.example.com\\x", "The address contains a character that no web address may contain unencoded."),
        ("https://mcp.example.com:99999/", "The address has an impossible port number."),
        ("https://127.1/", "The address has a host that is no valid name or IP address."),
        ("https://mcp.example.com/" + "x" * 2048, "The address is longer than 2048 characters."),
    ],
)
@pytest.mark.parametrize("allow_loopback", [True, False])
def test_a_bad_address_is_refused_with_one_sentence(address: str, sentence: str, allow_loopback: bool) -> None:
    with pytest.raises(InvalidServerAddress) as caught:
        check_server_address(address, allow_loopback=allow_loopback)
    assert caught.value.user_message == sentence


@pytest.mark.requirement("mcp-bp-urls-validated", "mcp-bp-https", "T08")
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (None, "is missing"),
        ("", "is missing"),
        (7, "is not text"),
        (["https://as.example.com/token"], "is not text"),
        ("http://as.example.com/token", "does not start with https://"),
        ("javascript:alert(1)//", "does not start with https://"),
        ("data:text/html,x", "does not start with https://"),
        ("file:///x", "does not start with https://"),
        ("/token", "does not start with https://"),
        ("https://u:p@as.example.com/token", "contains a user name or password"),
        ("https://as.example.com/token#x", "contains a fragment (#)"),
        ("https://as.example.com/to ken", "contains a space or control character"),
    ],
)
@pytest.mark.parametrize("allow_loopback", [True, False])
def test_a_bad_endpoint_is_refused_by_name_and_document(url: object, problem: str, allow_loopback: bool) -> None:
    with pytest.raises(DiscoveryFailed) as caught:
        check_endpoint(url, name="token_endpoint", document="https://d.example/", allow_loopback=allow_loopback)
    assert caught.value.user_message == f"The metadata's token_endpoint {problem}."
    assert caught.value.document == "https://d.example/"


def test_an_endpoint_on_this_machine_is_for_development() -> None:
    url = "http://localhost:9000/token"

    assert check_endpoint(url, name="token_endpoint", document="", allow_loopback=True) == url
    with pytest.raises(DiscoveryFailed, match="points at this machine"):
        check_endpoint(url, name="token_endpoint", document="", allow_loopback=False)


@pytest.mark.parametrize("url", ["https://as.example.com//token", "https://as.example.com/token?tenant=1"])
def test_an_unusual_but_valid_endpoint_is_kept_byte_for_byte(url: str) -> None:
    assert check_endpoint(url, name="token_endpoint", document="", allow_loopback=False) == url


@pytest.mark.requirement("T14")
@pytest.mark.parametrize(
    ("a", "b", "match"),
    [
        ("https://as.example", "https://as.example", True),
        ("https://as.example", "https://as.example/", True),
        ("https://as.example/t", "https://as.example/t/", False),
        ("https://as.example/t", "https://as.example/T", False),
        ("https://as.example", "https://AS.example", False),
        ("https://as.example", "https://as.example:443", False),
        ("https://as.example", "http://as.example", False),
        ("https://as.example", "https://as.example//", False),
        ("https://as.example", "https://as.example?/", False),
        ("https://as.example/", "https://as.example/t", False),
        ("https://as.example", "https://as.example.evil", False),
        ("", "/", False),
    ],
)
def test_issuers_match_literally_but_for_a_root_slash(a: str, b: str, match: bool) -> None:
    assert issuers_match(a, b) is match
    assert issuers_match(b, a) is match


@pytest.mark.requirement("mcp-auth-resource-canonical", "mcp-auth-resource-specific", "mcp-auth-resource-slash")
@pytest.mark.requirement("rfc8707-2-absolute", "rfc8707-2-no-fragment", "rfc8707-2-no-query")
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTPS://MCP.Example.com:443/Mcp/?A=b#frag", "https://mcp.example.com/Mcp/?A=b"),
        ("https://mcp.example.com", "https://mcp.example.com"),
        ("https://mcp.example.com/", "https://mcp.example.com/"),
        ("https://mcp.example.com/a/../b//c/%7e", "https://mcp.example.com/a/../b//c/%7e"),
        ("https://mcp.example.com?x=/", "https://mcp.example.com?x=/"),
        ("http://localhost:8000/mcp", "http://localhost:8000/mcp"),
    ],
)
def test_a_canonical_resource_keeps_path_and_query(url: str, expected: str) -> None:
    assert canonical_resource(url) == expected


@pytest.mark.requirement("rfc9728-3.1-inserted")
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h.example", "https://h.example/.well-known/x"),
        ("https://h.example/", "https://h.example/.well-known/x"),
        ("https://h.example/a", "https://h.example/.well-known/x/a"),
        ("https://h.example/a/", "https://h.example/.well-known/x/a/"),
        ("https://h.example/a?b=/c", "https://h.example/.well-known/x/a?b=/c"),
        ("https://h.example/?b", "https://h.example/.well-known/x?b"),
    ],
)
def test_a_well_known_name_goes_between_host_and_path(url: str, expected: str) -> None:
    assert insert_well_known(url, "x") == expected


@given(hosts, paths, st.booleans())
def test_case_of_the_host_and_a_default_port_do_not_change_the_origin(host: str, path: str, upper: bool) -> None:
    written = f"https://{host.upper() if upper else host}:443{path}"

    assert same_origin(written, f"https://{host}/other")
    assert canonical_resource(written) == f"https://{host}{path}"
    assert canonical_resource(canonical_resource(written)) == canonical_resource(written)


@given(hosts, hosts, paths)
def test_different_hosts_never_share_an_origin(first: str, second: str, path: str) -> None:
    assert same_origin(f"https://{first}{path}", f"https://{second}{path}") is (first == second)


@given(st.text(max_size=60))
def test_comparing_any_text_never_raises(text: str) -> None:
    same_origin(text, "https://a.example")
    is_loopback_host(text)
    host_of(text)
    assert issuers_match(text, text)


@given(hosts, paths, hosts, paths)
def test_issuers_that_match_differ_by_a_root_slash_at_most(h1: str, p1: str, h2: str, p2: str) -> None:
    a, b = f"https://{h1}{p1}", f"https://{h2}{p2}"
    same_root = h1 == h2 and {p1, p2} <= {"", "/"}

    assert issuers_match(a, b) is (a == b or same_root)


@given(st.text(st.sampled_from("htps:/\\@#?.[]%aA1 \t\x00\u00e9localhost127"), max_size=40), st.booleans())
def test_an_accepted_address_is_https_or_this_machine(text: str, allow_loopback: bool) -> None:
    try:
        address = check_server_address(text, allow_loopback=allow_loopback)
    except InvalidServerAddress:
        return
    host = host_of(address)
    assert host
    assert not {"@", "#", " ", "\\", "\t", "\x00"} & set(
        address.partition("?")[0].partition("://")[2].partition("/")[0]
    )
    assert origin(address).startswith("https://") or (allow_loopback and is_loopback_host(host))
    assert allow_loopback or not is_loopback_host(host)
