"""A stranger's words are quoted bounded, printable and without anything like a secret."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.oauth.server_words import error_code, printable, quotable, scope_tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain words", "plain words"),
        (" a\r\n\tb\x00\x1b[31mc ", "a b [31mc"),
        ("a\u202eb\u200bc\ud800d", "a b c d"),
        ("caf\u00e9 \u4f60\u597d", "caf\u00e9 \u4f60\u597d"),
        ("x" * 400, "x" * 299 + "…"),
        (None, ""),
        (7, ""),
        (["a"], ""),
    ],
)
def test_text_becomes_printable_and_bounded(text: object, expected: str) -> None:
    assert printable(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln is bad", "token […] is bad"),
        ("code 4f0d8c1b-2a3e-4d5c-9b8a-7f6e5d4c3b2a unknown", "code […] unknown"),
        ("AbCdEfGhIjKlMnOpQrStUvWxYz", "[…]"),
        (
            "AADSTS9010010: The resource parameter is not supported.",
            "AADSTS9010010: The resource parameter is not supported.",
        ),
        ("unsupported_token_type_requested", "unsupported_token_type_requested"),
        ("see https://docs.example.com/errors/invalid-grant-12345678901234567890", None),
        ("go to https://a.example/x?token=abc#frag now", "go to https://a.example/x now"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, expected: str | None) -> None:
    assert quotable(text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("invalid_grant", "invalid_grant"),
        ("urn:ietf:params:x", "urn:ietf:params:x"),
        ("", "unknown_error"),
        ("a b", "unknown_error"),
        ("a\n", "unknown_error"),
        ("eyJhbGciOiJIUzI1NiJ9abc", "unknown_error"),
        (None, "unknown_error"),
        (7, "unknown_error"),
    ],
)
def test_an_error_code_is_a_code(value: object, expected: str) -> None:
    assert error_code(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a b a", ("a", "b")),
        ("", ()),
        (None, ()),
        ('a"b c\\d \x7f e!', ("e!",)),
        (["a"], ()),
        ("https://x/y.z", ("https://x/y.z",)),
    ],
)
def test_scope_tokens_are_well_formed_and_come_once(value: object, expected: tuple[str, ...]) -> None:
    assert scope_tokens(value) == expected


@pytest.mark.parametrize("unit", ["https://", "a", "1", "http://a?", " ", "\x00", "aA", "x" * 19 + " "])
def test_hostile_words_cost_no_more_than_their_length(unit: str) -> None:
    started = time.process_time()

    quotable(unit * (65_536 // len(unit)))

    assert time.process_time() - started < 1


@given(st.text(), st.integers(1, 400))
def test_any_text_is_printable_and_bounded(text: str, limit: int) -> None:
    for quoted in (printable(text, limit), quotable(text, limit)):
        assert quoted.isprintable()
        assert len(quoted) <= limit
        assert quoted == quoted.strip()


@given(st.text(max_size=40), st.binary(min_size=16, max_size=64), st.sampled_from([" ", "'", '"', ": ", "("]))
def test_a_random_hexadecimal_token_is_never_repeated(before: str, secret: bytes, separator: str) -> None:
    token = "0a" + secret.hex()

    assert token not in quotable(f"{before}{separator}{token}")
