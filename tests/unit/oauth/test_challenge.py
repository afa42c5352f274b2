"""``WWW-Authenticate`` is parsed, not searched."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.oauth.challenge import BearerChallenge, Challenge, bearer_challenge, parse_challenges

TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
tokens = st.text(TOKEN_CHARACTERS, min_size=1, max_size=12)
quotable_text = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x2FF, blacklist_characters="\x7f"), max_size=40
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.requirement("mcp-discovery-challenge-parsed", "T22")
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ()),
        ([""], ()),
        ([" , ,, "], ()),
        (["Bearer"], (Challenge("bearer"),)),
        (["BEARER Realm=x"], (Challenge("bearer", {"realm": "x"}),)),
        (['Bearer realm="a, b", error="x"'], (Challenge("bearer", {"realm": "a, b", "error": "x"}),)),
        (['Bearer realm = "a" ,error\t=\tx'], (Challenge("bearer", {"realm": "a", "error": "x"}),)),
        (['Bearer realm="say \\"hi\\" \\\\"'], (Challenge("bearer", {"realm": 'say "hi" \\'}),)),
        (["Negotiate dGVzdA==, Bearer error=x"], (Challenge("negotiate"), Challenge("bearer", {"error": "x"}))),
        (["Basic, Bearer, Digest a=b"], (Challenge("basic"), Challenge("bearer"), Challenge("digest", {"a": "b"}))),
        (
            ['Basic realm="x"', "Bearer error=y"],
            (Challenge("basic", {"realm": "x"}), Challenge("bearer", {"error": "y"})),
        ),
        (["Bearer a=1, a=2, A=3"], (Challenge("bearer", {"a": "1"}),)),
        (["Bearer ,,a=1,,b=2,"], (Challenge("bearer", {"a": "1", "b": "2"}),)),
        # The forgotten comma between two parameters.
        (['Bearer a="1" b="2"'], (Challenge("bearer", {"a": "1", "b": "2"}),)),
    ],
)
def test_well_formed_challenges_are_read(values: list[str], expected: tuple[Challenge, ...]) -> None:
    assert parse_challenges(values) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # Unquoted addresses are no tokens.
        ("Bearer resource_metadata=https://a.example/x, error=e", (Challenge("bearer", {"error": "e"}),)),
        # A quotation that never ends takes everything after it along.
        ('Bearer a=1, b="x, error=insufficient_scope', (Challenge("bearer", {"a": "1"}),)),
        ('Bearer a=1, b="x\\', (Challenge("bearer", {"a": "1"}),)),
        ('Bearer a="1"junk, b=2', (Challenge("bearer", {"b": "2"}),)),
        ("Bearer a=\x00, b=2", (Challenge("bearer", {"b": "2"}),)),
        ('Bearer a="x\r\ny", b=2', (Challenge("bearer", {"b": "2"}),)),
        ("error=x, realm=y", ()),
        ('=, "quoted, Bearer error=x", Bearer a=1', (Challenge("bearer", {"a": "1"}),)),
        ("Bearer a=", (Challenge("bearer"),)),
        # A scheme needs a comma before it, so this says nothing about Bearer.
        ('Custom a="x" Bearer error="insufficient_scope"', (Challenge("custom", {"a": "x"}),)),
        ("Custom/1 a=b", ()),
    ],
)
def test_malformed_text_leaves_what_is_well_formed(value: str, expected: tuple[Challenge, ...]) -> None:
    assert parse_challenges([value]) == expected


@pytest.mark.requirement("T22")
@pytest.mark.parametrize(
    "value",
    [
        'Custom foo_error="insufficient_scope"',
        'Custom error="insufficient_scope", scope="admin"',
        'XBearer error="insufficient_scope"',
        'Bearer-Token error="insufficient_scope"',
        'Basic realm="Bearer error=insufficient_scope"',
        'Basic realm="x\\", Bearer error=\\"insufficient_scope"',
        'DPoP-Bound error="insufficient_scope"',
    ],
)
def test_only_the_two_schemes_of_tokens_count(value: str) -> None:
    assert bearer_challenge([value]) is None


@pytest.mark.requirement("T22")
def test_parameters_need_their_exact_names() -> None:
    assert bearer_challenge(['Bearer foo_error="a", x-scope="b", resource_metadata_uri="c"']) == BearerChallenge()


@pytest.mark.requirement("T22")
def test_the_bearer_challenge_is_found_among_others() -> None:
    found = bearer_challenge(
        [
            'Basic realm="x"',
            'DPoP algs="ES256", bearer realm="y", '
            'resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource", '
            'scope="read write", error="insufficient_scope", error_description="More, please"',
        ]
    )

    assert found == BearerChallenge(
        resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource",
        scope="read write",
        error="insufficient_scope",
        error_description="More, please",
        dpop=True,
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (['DPoP algs="ES256", error="insufficient_scope", scope="a"'], ("insufficient_scope", "a", None)),
        (['DPoP resource_metadata="https://a.example/m"'], (None, None, "https://a.example/m")),
        (['Bearer, DPoP scope="a", resource_metadata="https://a.example/m"'], (None, "a", "https://a.example/m")),
        (['DPoP scope="a"', 'Bearer scope="b"'], (None, "b", None)),
        (['Bearer error="x", scope="b"', 'DPoP error="y", scope="a"'], ("x", "b", None)),
        # Only the scheme that the request was made with has an error.
        (
            ['Bearer scope="b", resource_metadata="https://a.example/m", DPoP error="y", scope="a"'],
            ("y", "a", "https://a.example/m"),
        ),
    ],
)
def test_a_dpop_challenge_counts_where_it_is_the_one_given(
    values: list[str], expected: tuple[str | None, str | None, str | None]
) -> None:
    found = bearer_challenge(values)

    assert found is not None
    assert (found.error, found.scope, found.resource_metadata) == expected


def test_of_several_bearer_challenges_the_telling_one_counts() -> None:
    assert bearer_challenge(['Bearer realm="x", Bearer scope="a", Bearer scope="b"']) == BearerChallenge(scope="a")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ('scope="  a   b a "', BearerChallenge(scope="a b")),
        ('scope="a \\"b c\\\\d e"', BearerChallenge(scope="a e")),
        ('scope=""', BearerChallenge()),
        ('scope="caf\xe9"', BearerChallenge()),
        ('error="bad\xe9"', BearerChallenge()),
        ('resource_metadata="https://a.example/ x"', BearerChallenge()),
        ('error_description="a\u202eb\tc"', BearerChallenge(error_description="a b c")),
    ],
)
def test_malformed_values_count_as_absent(parameters: str, expected: BearerChallenge) -> None:
    assert bearer_challenge([f"Bearer {parameters}"]) == expected


def test_a_token_in_the_description_is_not_repeated() -> None:
    found = bearer_challenge(['Bearer error_description="Token eyJhbGciOiJIUzI1NiJ9.e30.abc123 expired"'])

    assert found == BearerChallenge(error_description="Token […] expired")


def test_no_more_than_32_challenges_are_read() -> None:
    assert len(parse_challenges(["Basic, " * 100])) == 32
    assert len(parse_challenges(["Basic"] * 100)) == 32


def test_no_more_than_16_kib_are_read_and_nothing_half() -> None:
    filler = "Basic a=" + "x" * (16 * 1024 - 20)

    assert parse_challenges([filler + ", Bearer error=x"])[-1].scheme == "basic"
    assert parse_challenges(["Bearer a=1, b=" + "x" * 20_000]) == (Challenge("bearer", {"a": "1"}),)
    assert parse_challenges([filler, "Bearer error=insufficient_scope"]) == parse_challenges([filler])


@pytest.mark.parametrize("unit", ['"', "\\", "a ", "a=", 'a="', "=,", "a\t", 'a="\\', "a=b ", "/", "a/ "])
def test_hostile_repetition_costs_no_more_than_its_length(unit: str) -> None:
    value = "Bearer " + unit * (16 * 1024 // len(unit))
    started = time.process_time()

    parse_challenges([value])

    assert time.process_time() - started < 1


@given(st.lists(st.text(max_size=80), max_size=6))
def test_any_text_is_read_without_an_error(values: list[str]) -> None:
    for challenge in parse_challenges(values):
        assert challenge.scheme == challenge.scheme.lower()
        assert all(name == name.lower() for name in challenge.parameters)
    bearer_challenge(values)


@given(st.lists(st.sampled_from(['"', "\\", ",", " ", "=", "Bearer", "error", "x", "\t", "\x00"]), max_size=30))
def test_any_arrangement_of_separators_is_read_without_an_error(parts: list[str]) -> None:
    bearer_challenge(["".join(parts)])


@given(
    st.lists(
        st.tuples(tokens, st.dictionaries(tokens, st.one_of(tokens, quotable_text), min_size=1, max_size=4)),
        max_size=5,
    ),
    st.booleans(),
)
def test_whatever_is_written_by_the_rules_is_read_back(
    challenges: list[tuple[str, dict[str, str]]], in_one_value: bool
) -> None:
    written = [
        f"{scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
        for scheme, parameters in challenges
    ]

    read = parse_challenges([", ".join(written)] if in_one_value else written)

    assert read == tuple(Challenge(scheme, parameters) for scheme, parameters in challenges)


@given(quotable_text)
def test_nothing_inside_a_quotation_becomes_a_challenge(text: str) -> None:
    assert bearer_challenge([f"Basic realm={quoted(text)}"]) is None
