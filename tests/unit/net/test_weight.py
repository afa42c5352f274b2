"""Counting the values of JSON before it is parsed: never too few, whatever it is cut into and wrapped in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.net.weight import JsonWeight

TEXTS = st.text(alphabet=st.sampled_from('a"\\,[{\n\r:é'), max_size=8)
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def containers_and_separators(value: Any) -> int:
    """Return how many lists and objects a value holds, and how many commas lie between their members."""
    if not isinstance(value, list | dict):
        return 0
    members = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(0, len(members) - 1) + sum(containers_and_separators(member) for member in members)


def weighed(body: bytes, size: int) -> int:
    weight = JsonWeight()
    for start in range(0, len(body), size):
        weight.add(body[start : start + size])
    return weight.values


@pytest.mark.requirement("T30")
@given(VALUES, st.integers(1, 7), st.sampled_from([None, 1]))
def test_values_are_counted_exactly_however_the_answer_is_cut(value: Any, size: int, indent: int | None) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=False).encode()

    assert weighed(body, size) == containers_and_separators(value)


@pytest.mark.requirement("T30")
@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("comment", [b': "', b': \\"', b': "\\', b'event: "x'])
def test_a_quotation_mark_on_another_line_of_an_event_stream_hides_nothing(comment: bytes, line_end: bytes) -> None:
    body = comment + line_end + b"data: [[],[],[]]" + line_end * 2

    assert {weighed(body, size) for size in range(1, 30)} == {6}


def test_a_long_text_weighs_nothing() -> None:
    text = json.dumps({"text": '{"a": [1, 2, 3]}, ' * 100_000}).encode()

    assert weighed(text, 4096) == 1
