"""What servers say is fit to be stored, whichever way that is found out."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.sessions.results import is_storable, storable

TEXTS = st.text(st.characters(codec=None)) | st.sampled_from(["\x00", "\ud800", "\\u0000", "NaN", "Infinity", "ü", "𝄞"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return repr(one) == repr(other)


@given(VALUES)
def test_a_text_that_looks_storable_is_of_a_value_that_is(value: Any) -> None:
    if is_storable(json.dumps(value, ensure_ascii=False)):
        assert same(storable(value), value)


@pytest.mark.parametrize(
    "value",
    [
        "a\x00b",
        {"\x00": 1},
        ["\udfff"],
        {"a": [{"b": "\ud800"}]},
        math.inf,
        -math.inf,
        math.nan,
        [1.0, {"a": math.inf}],
    ],
    ids=repr,
)
def test_what_no_database_stores_is_found_in_the_text(value: Any) -> None:
    assert not is_storable(json.dumps(value, ensure_ascii=False))


@pytest.mark.parametrize("value", [{"a": ["ü", 1, 2.5, None, True, "line\nline"]}, "", [], "\\", "\x01"], ids=repr)
def test_what_is_storable_is_known_from_the_text(value: Any) -> None:
    assert is_storable(json.dumps(value, ensure_ascii=False))
