"""A server's options are strict when they are written and complete when they are read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.oauth.options import OAuthOptions, parse_option

EVERYTHING: dict[str, Any] = {
    "scopes": "read write",
    "resource": "omit",
    "audience": "https://api.example.com",
    "prompt": "consent",
    "extra_parameters": {"tenant": "1"},
    "registration": "cimd",
    "token_endpoint_auth_method": "client_secret_basic",
    "dpop": "off",
    "tolerate_missing_s256": True,
    "tolerate_issuer_mismatch": True,
    "tolerate_resource_mismatch": True,
    "legacy_endpoints": True,
}


@pytest.mark.parametrize("method", ["none", "client_secret_post", "client_secret_basic", "private_key_jwt"])
def test_every_way_to_authenticate_can_be_chosen(method: str) -> None:
    assert parse_option(f"token_endpoint_auth_method={method}") == ("token_endpoint_auth_method", method)
    assert OAuthOptions.from_json({"token_endpoint_auth_method": method}).token_endpoint_auth_method == method


def test_the_defaults_are_strict_and_need_no_words() -> None:
    options = OAuthOptions.from_json({})

    assert options == OAuthOptions()
    assert options.to_json() == {}
    assert not any(
        (
            options.tolerate_missing_s256,
            options.tolerate_issuer_mismatch,
            options.tolerate_resource_mismatch,
            options.legacy_endpoints,
        )
    )


def test_every_option_survives_storage() -> None:
    options = OAuthOptions.from_json(EVERYTHING)

    assert options.to_json() == EVERYTHING
    assert OAuthOptions.from_json(options.to_json()) == options
    assert hash(options) == hash(OAuthOptions.from_json(EVERYTHING))


def test_only_what_differs_from_the_default_is_stored() -> None:
    assert OAuthOptions.from_json(
        {**EVERYTHING, "resource": "auto", "prompt": "", "extra_parameters": {}}
    ).to_json() == {
        key: value for key, value in EVERYTHING.items() if key not in {"resource", "prompt", "extra_parameters"}
    }


def test_blanks_around_scopes_go() -> None:
    assert OAuthOptions.from_json({"scopes": "  read   write read "}).scopes == "read write"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scope", "read"),
        ("Resource", "auto"),
        ("__class__", "x"),
        ("scopes", ["read"]),
        ("scopes", 'a"b'),
        ("scopes", "caf\u00e9"),
        ("scopes", "a\nb"),
        ("resource", "always"),
        ("resource", None),
        ("resource", True),
        ("registration", "static"),
        ("token_endpoint_auth_method", "client_secret_jwt"),
        ("dpop", "required"),
        ("audience", 7),
        ("prompt", "a\r\nb"),
        ("extra_parameters", "a=b"),
        ("extra_parameters", {"a": 1}),
        ("extra_parameters", {1: "a"}),
        ("extra_parameters", {"": "a"}),
        ("extra_parameters", {"a": "b\n"}),
        ("extra_parameters", ["a"]),
        ("tolerate_missing_s256", "true"),
        ("tolerate_issuer_mismatch", 1),
        ("tolerate_resource_mismatch", None),
        ("legacy_endpoints", "no"),
    ],
)
def test_a_wrong_option_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=key):
        OAuthOptions.from_json({key: value})


@pytest.mark.parametrize("data", [[], "scopes", None, 7])
def test_options_are_an_object(data: Any) -> None:
    with pytest.raises(ConfigurationError):
        OAuthOptions.from_json(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scopes=read write", ("scopes", "read write")),
        ("scopes=", ("scopes", "")),
        (" resource = omit ", ("resource", "omit")),
        ("audience=https://api.example.com/?a=b", ("audience", "https://api.example.com/?a=b")),
        ("tolerate_missing_s256=yes", ("tolerate_missing_s256", True)),
        ("tolerate_missing_s256=True", ("tolerate_missing_s256", True)),
        ("legacy_endpoints=0", ("legacy_endpoints", False)),
        ("extra_parameters=tenant=1&kind=", ("extra_parameters", {"tenant": "1", "kind": ""})),
        ('extra_parameters={"tenant": "1"}', ("extra_parameters", {"tenant": "1"})),
        ("extra_parameters=", ("extra_parameters", {})),
    ],
)
def test_an_option_on_the_command_line_becomes_typed(text: str, expected: tuple[str, object]) -> None:
    assert parse_option(text) == expected
    assert isinstance(OAuthOptions.from_json(dict([parse_option(text)])), OAuthOptions)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "named ''"),
        ("nonsense=1", "nonsense"),
        ("scopes", "scopes needs a value"),
        ("resource=never", "resource"),
        ("tolerate_missing_s256=maybe", "tolerate_missing_s256"),
        ("tolerate_missing_s256=", "tolerate_missing_s256"),
        ("extra_parameters=tenant", "extra_parameters"),
        ("extra_parameters={", "extra_parameters"),
        ('extra_parameters={"a": 1}', "extra_parameters"),
    ],
)
def test_a_wrong_option_on_the_command_line_is_refused_by_name(text: str, names: str) -> None:
    with pytest.raises(ConfigurationError, match=names):
        parse_option(text)


@given(
    st.dictionaries(
        st.sampled_from([*EVERYTHING, "unknown"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.dictionaries(st.text(), st.text()),
    )
)
def test_any_object_is_options_or_one_typed_error(data: dict[str, Any]) -> None:
    try:
        options = OAuthOptions.from_json(data)
    except ConfigurationError:
        return
    assert OAuthOptions.from_json(options.to_json()) == options
