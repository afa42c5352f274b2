"""Any schema draws a form within bounds, and what is filled in comes back as it went."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.template.loader import render_to_string
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.services.schema_check import problems_of
from mcp_oauth.views.schema_form import MOST_FIELDS, form_of
from mcp_oauth.views.schema_nodes import fields_of, root_fields, value_of
from mcp_oauth.views.schema_values import ABSENT
from tests.fuzz.mutations import JSON_VALUES, mutated, thorough
from tests.unit.test_schema_form import CIRCLE, HOSTILE, SQUARE, posted, schema

pytestmark = pytest.mark.once

NAMES = st.text(min_size=1, max_size=6)
TEXTS = st.text(max_size=20).filter(lambda text: "\r" not in text)


def field_with_value() -> st.SearchStrategy[tuple[dict[str, Any], Any]]:
    """Return schemas with a value that fits each."""
    leaf = st.one_of(
        TEXTS.map(lambda text: ({"type": "string"}, text)),
        st.integers(-(10**30), 10**30).map(lambda number: ({"type": "integer"}, number)),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda number: ({"type": "number"}, number)),
        st.booleans().map(lambda on: ({"type": "boolean"}, on)),
        st.lists(TEXTS, min_size=1, max_size=4, unique=True).map(lambda some: ({"enum": some}, some[-1])),
        st.none().map(lambda _none: ({"type": ["string", "null"]}, None)),
        JSON_VALUES.map(lambda value: ({}, value)),
    )

    def more(inner: st.SearchStrategy[tuple[dict[str, Any], Any]]) -> st.SearchStrategy[tuple[dict[str, Any], Any]]:
        members = st.dictionaries(NAMES, st.tuples(inner, st.booleans()), min_size=1, max_size=4)
        objects = members.map(
            lambda given: (
                schema(
                    tuple(name for name, (_pair, needed) in given.items() if needed),
                    **{},
                )
                | {"properties": {name: pair[0] for name, (pair, _needed) in given.items()}},
                {name: pair[1] for name, (pair, _needed) in given.items()},
            )
        )
        lists = inner.map(lambda pair: ({"type": "array", "items": pair[0]}, [pair[1], pair[1]]))
        either = st.tuples(inner, inner).map(lambda two: ({"anyOf": [two[0][0], two[1][0]]}, two[1][1]))
        return st.one_of(objects, lists, either)

    return st.recursive(leaf, more, max_leaves=8)


@thorough
@given(
    st.one_of(
        JSON_VALUES,
        mutated(schema(("shape",), shape={"oneOf": [CIRCLE, SQUARE]}, many={"type": "array", "items": CIRCLE})),
        st.sampled_from(list(HOSTILE.values())),
    ),
    JSON_VALUES,
)
def test_any_schema_and_any_value_make_a_page(asked: Any, value: Any) -> None:
    for form in (
        form_of(asked, "a"),
        form_of(asked, "a", value=value),
        form_of(asked, "a", posted=posted(form_of(asked, "a"))),
    ):
        assert len(fields_of(form)) <= 2 * MOST_FIELDS
        html = "".join(
            render_to_string("mcp_oauth/_schema_field.html", {"field": field}) for field in root_fields(form)
        )
        html.encode(errors="surrogatepass")
        value_of(form, {})
    if isinstance(asked, dict):
        problems_of(asked, value)


@thorough
@given(field_with_value())
def test_a_value_that_fits_comes_back_as_it_went(pair: tuple[dict[str, Any], Any]) -> None:
    asked, value = schema(("it",), it=pair[0]), {"it": pair[1]}

    form = form_of(asked, "a", value=value)
    again = form_of(asked, "a", posted=posted(form))

    assert value_of(form) is not ABSENT
    for found in (value_of(form), value_of(again)):
        assert json.dumps(found, sort_keys=True) == json.dumps(value, sort_keys=True)
