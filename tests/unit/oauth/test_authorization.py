"""The authorization request says what it must; its answer is believed only after every check."""

from __future__ import annotations

import base64
import copy
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.exceptions import AccessDenied, CallbackRefused, DiscoveryFailed
from mcp_oauth.oauth.authorization import (
    ValidatedCallback,
    authorization_url,
    code_challenge_s256,
    new_code_verifier,
    new_state,
    select_resource,
    select_scope,
    state_hash,
    validate_callback,
)
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.protected_resource import ProtectedResourceMetadata
from tests.unit.oauth.samples import (
    CODE,
    EXPECTED,
    ISSUER,
    METADATA,
    REDIRECT_URI,
    SERVER,
    STATE,
    VERIFIER,
    assert_shown_safely,
)

RESOURCE = ProtectedResourceMetadata(
    resource=f"{SERVER}/", authorization_servers=(ISSUER,), scopes_supported=("read", "write"), document=""
)
OFFLINE = replace(METADATA, scopes_supported=("admin", "offline_access"))
OUR_NAMES = {
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "code_challenge",
    "code_challenge_method",
    "scope",
    "resource",
}


def url_for(
    *,
    endpoint: str = METADATA.authorization_endpoint,
    scope: str = "read write",
    resource: str | None = SERVER,
    options: OAuthOptions | None = None,
) -> str:
    return authorization_url(
        replace(METADATA, authorization_endpoint=endpoint),
        client_id="client",
        redirect_uri=REDIRECT_URI,
        state=STATE,
        code_verifier=VERIFIER,
        scope=scope,
        resource=resource,
        options=options or OAuthOptions(),
    )


def query_of(url: str) -> dict[str, str]:
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs), "a parameter comes twice"
    return dict(pairs)


def answer(**changes: str | None) -> dict[str, list[str]]:
    values = {"code": CODE, "state": STATE, **changes}
    return {name: [value] for name, value in values.items() if value is not None}


@pytest.mark.requirement("rfc6749-10.10-guessing", "rfc7636-4.1-verifier", "T18")
def test_state_and_verifier_are_long_and_never_the_same() -> None:
    states, verifiers = {new_state() for _ in range(50)}, {new_code_verifier() for _ in range(50)}

    assert len(states) == len(verifiers) == 50
    assert all(len(base64.urlsafe_b64decode(state + "=")) == 32 for state in states)
    assert all(re.fullmatch(r"[A-Za-z0-9_~.-]{43,128}", verifier) for verifier in verifiers)


def test_a_state_is_stored_as_its_sha256() -> None:
    assert state_hash("abc") == hashlib.sha256(b"abc").hexdigest()
    assert state_hash("\ud800") != state_hash("?")


def test_the_challenge_is_the_one_of_the_rfc() -> None:
    # RFC 7636 appendix B.
    assert code_challenge_s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == (
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


@pytest.mark.requirement("mcp-auth-scope-challenged", "mcp-auth-scope-order", "mcp-auth-scope-kept")
@pytest.mark.requirement("mcp-auth-scope-least", "T21")
@pytest.mark.parametrize(
    ("options", "challenge", "resource", "metadata", "granted", "expected"),
    [
        ({}, None, None, METADATA, "", ""),
        ({}, None, None, OFFLINE, "", ""),
        ({}, "a b", RESOURCE, METADATA, "", "a b"),
        ({}, None, RESOURCE, METADATA, "", "read write"),
        ({}, "", RESOURCE, METADATA, "", "read write"),
        ({}, None, replace(RESOURCE, scopes_supported=None), METADATA, "", ""),
        ({}, None, replace(RESOURCE, scopes_supported=()), OFFLINE, "", ""),
        ({}, "a", RESOURCE, OFFLINE, "", "a offline_access"),
        ({}, "offline_access a", None, OFFLINE, "", "offline_access a"),
        ({"scopes": "x y"}, "a", RESOURCE, METADATA, "", "x y"),
        ({"scopes": "x"}, "a", RESOURCE, OFFLINE, "", "x"),
        ({}, "c", RESOURCE, METADATA, "a b", "a b c"),
        ({}, "b c", RESOURCE, OFFLINE, "a b", "a b c offline_access"),
        ({}, None, None, METADATA, "a b", "a b"),
        ({"scopes": "x"}, "c", RESOURCE, METADATA, "a", "a x"),
        ({}, ' a  "b" ', None, METADATA, "", "a"),
    ],
)
def test_scopes_are_the_choice_then_the_challenge_then_the_resources(
    options: dict[str, Any],
    challenge: str | None,
    resource: ProtectedResourceMetadata | None,
    metadata: AuthorizationServerMetadata,
    granted: str,
    expected: str,
) -> None:
    assert select_scope(OAuthOptions(**options), challenge, resource, metadata, granted) == expected


@pytest.mark.requirement("mcp-auth-resource-canonical", "mcp-auth-resource-always", "mcp-auth-resource-case", "T16")
@pytest.mark.parametrize(
    ("mode", "resource", "issuer", "expected"),
    [
        ("auto", RESOURCE, ISSUER, f"{SERVER}/"),
        ("auto", None, ISSUER, SERVER),
        ("auto", RESOURCE, "https://login.microsoftonline.com/tenant/v2.0", None),
        ("auto", RESOURCE, "https://acme.ciamlogin.com/tenant/v2.0", None),
        ("auto", RESOURCE, "https://ciamlogin.com.evil.example/", f"{SERVER}/"),
        ("auto", RESOURCE, "https://sts.windows.net/tenant/", None),
        ("auto", RESOURCE, "https://login.microsoftonline.com.evil.example/", f"{SERVER}/"),
        ("include", RESOURCE, "https://login.microsoftonline.com/tenant/v2.0", f"{SERVER}/"),
        ("include", None, ISSUER, SERVER),
        ("omit", RESOURCE, ISSUER, None),
        ("omit", None, ISSUER, None),
    ],
)
def test_the_resource_is_the_metadatas_byte_for_byte_unless_it_is_left_out(
    mode: Any, resource: ProtectedResourceMetadata | None, issuer: str, expected: str | None
) -> None:
    metadata = replace(METADATA, issuer=issuer)

    assert select_resource(OAuthOptions(resource=mode), resource, SERVER.upper().replace("/MCP", "/mcp"), metadata) == (
        expected
    )


@pytest.mark.requirement("mcp-auth-resource-in-both", "rfc6749-3.1-once")
def test_the_request_says_everything_once() -> None:
    url = url_for(options=OAuthOptions(audience="aud", prompt="consent", extra_parameters={"tenant": "1"}))

    assert url.startswith(f"{METADATA.authorization_endpoint}?")
    assert "read%20write" in url
    assert query_of(url) == {
        "response_type": "code",
        "client_id": "client",
        "redirect_uri": REDIRECT_URI,
        "state": STATE,
        "code_challenge": code_challenge_s256(VERIFIER),
        "code_challenge_method": "S256",
        "scope": "read write",
        "resource": SERVER,
        "audience": "aud",
        "prompt": "consent",
        "tenant": "1",
    }
    assert VERIFIER not in url


def test_what_is_empty_is_left_out() -> None:
    assert query_of(url_for(scope="", resource=None)).keys() == OUR_NAMES - {"scope", "resource"}


def test_an_existing_query_is_kept_and_our_parameters_win() -> None:
    url = url_for(
        endpoint=f"{ISSUER}/authorize?client_id=evil&tenant=1&%73tate=evil&scope=all&code_challenge_method=plain&"
        "redirect_uri=https://evil.example&flag&response_type=token&x=%C3%A9%00"
    )

    query = query_of(url)
    assert query["client_id"] == "client"
    assert query["state"] == STATE
    assert query["redirect_uri"] == REDIRECT_URI
    assert (query["tenant"], query["flag"]) == ("1", "")
    assert "x=%C3%A9%00" in url
    assert "evil" not in url


def test_a_parameter_that_we_leave_out_does_not_come_back_through_the_endpoint() -> None:
    assert (
        not {"scope", "resource"}
        & query_of(url_for(endpoint=f"{ISSUER}/authorize?scope=all&resource=x", scope="", resource=None)).keys()
    )


@pytest.mark.requirement("T09")
def test_a_semicolon_does_not_smuggle_a_parameter() -> None:
    assert ";" not in url_for(endpoint=f"{ISSUER}/authorize?tenant=1;client_id=evil")


@pytest.mark.parametrize("name", sorted(OUR_NAMES))
def test_extra_parameters_never_override_ours(name: str) -> None:
    for scope, resource in (("read", SERVER), ("", None)):
        url = url_for(scope=scope, resource=resource, options=OAuthOptions(extra_parameters={name: "evil"}))
        assert "evil" not in url


def test_extra_parameters_win_over_the_endpoints_own_and_lose_to_named_options() -> None:
    options = OAuthOptions(prompt="login", extra_parameters={"tenant": "2", "prompt": "none", "audience": "a"})

    query = query_of(url_for(endpoint=f"{ISSUER}/authorize?tenant=1&audience=x&prompt=y", options=options))

    assert (query["tenant"], query["prompt"], query["audience"]) == ("2", "login", "a")


@pytest.mark.requirement("mcp-bp-url-schemes", "mcp-bp-url-dangerous", "T09")
@pytest.mark.parametrize(
    "endpoint",
    [
        "javascript:alert(1)//",
        "data:text/html,x",
        "file:///etc/passwd",
        "http://as.example.com/authorize",
        "https://as.example.com/authorize#x",
        "https://u:p@as.example.com/authorize",
    ],
)
def test_a_browser_is_sent_to_no_other_kind_of_address(endpoint: str) -> None:
    with pytest.raises(DiscoveryFailed):
        url_for(endpoint=endpoint)


def test_a_good_answer_gives_the_code_and_what_belongs_to_it() -> None:
    callback = validate_callback(answer(), EXPECTED)

    assert (callback.code, callback.redirect_uri, callback.code_verifier, callback.issuer) == (
        CODE,
        REDIRECT_URI,
        VERIFIER,
        ISSUER,
    )


@pytest.mark.requirement("rfc6749-4.1.2-unknown-ignored")
def test_parameters_we_do_not_know_are_ignored() -> None:
    assert validate_callback({**answer(), "session_state": ["x"]}, EXPECTED).code == CODE


def test_plain_strings_are_single_values() -> None:
    assert validate_callback({"code": CODE, "state": STATE}, EXPECTED).code == CODE


# RFC 9207 §2.4: advertised or not, present or not.
@pytest.mark.requirement("mcp-auth-iss-before-code", "mcp-auth-iss-compared", "mcp-auth-iss-error-hidden")
@pytest.mark.requirement("rfc9207-2.4-error", "T13")
@pytest.mark.parametrize(
    ("advertised", "iss", "reason"),
    [
        (True, ISSUER, None),
        (True, None, "issuer_missing"),
        (True, "https://evil.example", "issuer_mismatch"),
        (False, ISSUER, None),
        (False, None, None),
        (False, "https://evil.example", "issuer_mismatch"),
        # Simple string comparison: nothing counts as the same.
        (True, f"{ISSUER}/", "issuer_mismatch"),
        (True, ISSUER.upper(), "issuer_mismatch"),
        (True, f"{ISSUER}:443", "issuer_mismatch"),
        (True, "", "issuer_mismatch"),
        (False, "", "issuer_mismatch"),
        (False, f" {ISSUER}", "issuer_mismatch"),
    ],
)
@pytest.mark.parametrize("error", [None, "access_denied"])
def test_the_issuer_is_checked_before_code_and_error(
    advertised: bool, iss: str | None, reason: str | None, error: str | None
) -> None:
    parameters = answer(
        iss=iss, error=error, error_description="secret words" if error else None, code=None if error else CODE
    )
    expected = replace(EXPECTED, iss_supported=advertised)

    if reason is not None:
        with pytest.raises(CallbackRefused) as refused:
            validate_callback(parameters, expected)
        assert refused.value.reason == reason
        assert "secret words" not in str(refused.value.as_json())
    elif error:
        with pytest.raises(AccessDenied, match="secret words"):
            validate_callback(parameters, expected)
    else:
        assert validate_callback(parameters, expected).code == CODE


def test_the_issuer_is_checked_before_the_state() -> None:
    with pytest.raises(CallbackRefused) as refused:
        validate_callback(answer(iss="https://evil.example", state="other"), EXPECTED)
    assert refused.value.reason == "issuer_mismatch"


@pytest.mark.requirement("mcp-security-state")
@pytest.mark.parametrize(
    "state", [None, "", "other", f"{STATE} ", STATE.upper(), state_hash(STATE), "\ud800", "x" * 10_000]
)
@pytest.mark.parametrize("error", [None, "access_denied"])
def test_a_wrong_or_missing_state_is_refused_before_code_and_error(state: str | None, error: str | None) -> None:
    with pytest.raises(CallbackRefused) as refused:
        validate_callback(answer(state=state, error=error, error_description="secret words"), EXPECTED)
    assert refused.value.reason == "unknown_state"
    assert "secret words" not in str(refused.value.as_json())


@pytest.mark.parametrize("name", ["iss", "state", "code", "error", "error_description", "session_state"])
@pytest.mark.parametrize("second", ["same", "other", ""])
def test_a_parameter_that_comes_twice_is_refused(name: str, second: str) -> None:
    parameters = {**answer(iss=ISSUER), name: [ISSUER if name == "iss" else STATE, second]}

    with pytest.raises(CallbackRefused) as refused:
        validate_callback(parameters, EXPECTED)
    assert refused.value.reason == "malformed"


@pytest.mark.parametrize("code", [None, "", "a\nb", "a\x00", "caf\u00e9", "\ud800", "x" * 10_000])
def test_an_unusable_code_is_refused(code: str | None) -> None:
    with pytest.raises(CallbackRefused) as refused:
        validate_callback(answer(code=code), EXPECTED)
    assert refused.value.reason == "malformed"


def test_an_error_counts_even_beside_a_code() -> None:
    with pytest.raises(AccessDenied):
        validate_callback(answer(error="access_denied"), EXPECTED)


def test_an_error_without_a_value_is_none() -> None:
    assert validate_callback(answer(error="", error_description="x"), EXPECTED).code == CODE


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        ("access_denied", "access_denied", "Access was not granted"),
        ("server_error", "server_error", "internal error"),
        ("temporarily_unavailable", "temporarily_unavailable", "overloaded"),
        ("invalid_scope", "invalid_scope", "does not grant"),
        ("vendor_specific", "vendor_specific", "with the error vendor_specific"),
        ("<script>", "unknown_error", "with the error unknown_error"),
        ("a b", "unknown_error", "with the error unknown_error"),
        ("x" * 500, "unknown_error", "with the error unknown_error"),
    ],
)
def test_every_error_has_a_sentence(error: str, code: str, sentence: str) -> None:
    with pytest.raises(AccessDenied, match=sentence) as denied:
        validate_callback(answer(code=None, error=error), EXPECTED)
    assert denied.value.oauth_error == code
    assert denied.value.next_step


def test_the_description_is_bounded_printable_and_without_tokens() -> None:
    description = "You\r\n\x00 may\u202e not; state=Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5 " + "x " * 1000

    with pytest.raises(AccessDenied) as denied:
        validate_callback(answer(code=None, error="access_denied", error_description=description), EXPECTED)

    words = denied.value.user_message.partition("It says: “")[2].removesuffix("”")
    assert words.startswith("You may not; […] x x")
    assert words.isprintable()
    assert len(words) <= 300


@pytest.mark.requirement("mcp-auth-iss-before-code")
def test_nobody_else_makes_a_validated_callback() -> None:
    with pytest.raises(TypeError):
        ValidatedCallback(code=CODE, redirect_uri="", code_verifier="", issuer="", proof=None)
    with pytest.raises(TypeError):
        ValidatedCallback(code=CODE, redirect_uri="", code_verifier="", issuer="")  # type: ignore[call-arg]


def test_a_validated_callback_cannot_be_given_another_code() -> None:
    callback = validate_callback(answer(), EXPECTED)

    with pytest.raises((TypeError, ValueError)):
        replace(callback, code="other")  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        callback.code = "other"  # type: ignore[misc]
    assert copy.copy(callback) == callback


def test_no_secret_is_in_the_text_of_either_callback() -> None:
    texts = f"{EXPECTED!r} {validate_callback(answer(), EXPECTED)!r}"

    assert CODE not in texts
    assert VERIFIER not in texts


text = st.text(max_size=30)


@pytest.mark.requirement("rfc9207-2.4-compared", "rfc9700-2.1-csrf", "T13")
@given(
    st.dictionaries(
        st.sampled_from(["iss", "state", "error", "error_description", "code", "other"]) | text,
        st.lists(text | st.sampled_from([STATE, ISSUER, CODE, "access_denied"]), max_size=2),
    ),
    st.booleans(),
)
def test_any_answer_is_refused_unless_state_and_issuer_are_right(
    parameters: Mapping[str, list[str]], iss_supported: bool
) -> None:
    try:
        callback = validate_callback(parameters, replace(EXPECTED, iss_supported=iss_supported))
    except (CallbackRefused, AccessDenied) as refused:
        assert_shown_safely(refused)
        return
    assert parameters["state"] == [STATE]
    assert parameters.get("iss") in ([ISSUER], [], *([] if iss_supported else [None]))
    assert parameters["code"] == [callback.code]
    assert not any(parameters.get("error", ()))


@given(
    st.dictionaries(text | st.sampled_from(sorted(OUR_NAMES)), text, max_size=5),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, blacklist_characters='#"<>\\'), max_size=40),
    text,
)
def test_whatever_surrounds_them_our_parameters_arrive_as_they_are(
    extra: dict[str, str], query: str, scope: str
) -> None:
    printable = {name: value for name, value in extra.items() if (name + value).isprintable() and name}
    scope = " ".join(scope.encode("ascii", "ignore").decode().split())

    url = url_for(endpoint=f"{ISSUER}/authorize?{query}", scope=scope, options=OAuthOptions(extra_parameters=printable))

    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    ours = [(name, value) for name, value in pairs if name in OUR_NAMES]
    assert urlsplit(url)._replace(query="").geturl() == f"{ISSUER}/authorize"
    assert len(dict(ours)) == len(ours)
    assert dict(ours) == query_of(url_for(scope=scope))
