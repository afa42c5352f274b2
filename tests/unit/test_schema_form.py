"""Forms from schemas: what is drawn, what comes back, and what is found wrong before anything is sent."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.http import QueryDict

from mcp_oauth.services.schema_check import problems_of
from mcp_oauth.views.schema_form import MOST_FIELDS, form_of, is_drawable
from mcp_oauth.views.schema_nodes import Node, fields_of, node_at, value_of
from mcp_oauth.views.schema_values import ABSENT


def schema(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def posted(form: Node, **typed: str | list[str]) -> QueryDict:
    """Return what a browser sends of a form, with what was typed in place of what it showed."""
    data = QueryDict(mutable=True)
    for field in fields_of(form):
        if field.kind in ("text", "area"):
            data[field.name] = field.text.replace("\n", "\r\n")
        elif field.kind == "json":
            data[f"{field.name}.j"] = field.text
        elif field.kind == "check" and field.text:
            data[field.name] = "true"
        elif field.kind in ("select", "checks"):
            data.setlist(field.name, [choice.value for choice in field.choices if choice.chosen])
        elif field.kind == "variant":
            data.setlist(f"{field.name}.v", [choice.value for choice in field.choices if choice.chosen])
        elif field.kind == "list":
            data.setlist(field.name, [child.mark for child in field.children])
        elif field.kind == "object" and field.optional and field.present:
            data[field.name] = "0"
    for name, text in typed.items():
        data.setlist(name.replace("_", "."), [text] if isinstance(text, str) else text)
    return data


def trip(asked: dict[str, Any], **typed: str | list[str]) -> Any:
    """Return what comes back of a form with its defaults and with what was typed."""
    return value_of(form_of(asked, "a", posted=posted(form_of(asked, "a"), **typed)))


def kinds(form: Node) -> dict[str, str]:
    return {field.name: field.kind for field in fields_of(form)}


def test_every_type_comes_back_as_itself() -> None:
    asked = schema(
        (),
        text={"type": "string"},
        whole={"type": "integer"},
        number={"type": "number"},
        on={"type": "boolean"},
        pick={"enum": ["a", 1, True]},
        many={"type": "array", "items": {"enum": ["x", "y"]}},
        when={"type": "string", "format": "date"},
    )

    assert trip(asked) == {}
    assert trip(asked, a_0="Hi", a_1="07", a_2="2.5", a_3="false", a_4="1", a_5=["x", "y"], a_6="2026-12-31") == {
        "text": "Hi",
        "whole": 7,
        "number": 2.5,
        "on": False,
        "pick": 1,
        "many": ["x", "y"],
        "when": "2026-12-31",
    }


def test_defaults_are_filled_in_and_may_be_cleared() -> None:
    asked = schema((), state={"type": "string", "default": "open"}, limit={"type": "integer", "default": 20})

    assert trip(asked) == {"state": "open", "limit": 20}
    assert trip(asked, a_0="", a_1="") == {"state": ""}


def test_a_number_that_is_none_stays_as_typed_and_is_named() -> None:
    asked = schema(("limit",), limit={"type": "integer"})

    assert trip(asked, a_0="many") == {"limit": "many"}
    assert [problem.message for problem in problems_of(asked, {"limit": "many"})] == ["must be a whole number"]


def test_a_reference_in_a_circle_is_drawn_as_far_as_one_goes() -> None:
    asked = schema(("name",), name={"type": "string"}, parent={"$ref": "#"})

    form = form_of(asked, "a")
    assert kinds(form) == {"a": "object", "a.0": "text", "a.1": "object"}
    assert not form.children[1].present
    once = form_of(asked, "a", posted=posted(form, a_0="child", add="a.1"))
    assert kinds(once)["a.1.0"] == "text"
    assert value_of(form_of(asked, "a", posted=posted(once, a_1_0="mother"))) == {
        "name": "child",
        "parent": {"name": "mother"},
    }


def test_items_are_added_and_taken_away_without_losing_the_others() -> None:
    asked = schema((), people={"type": "array", "items": schema(("name",), name={"type": "string", "default": "?"})})
    form = form_of(asked, "a", value={"people": [{"name": "Ada"}, {"name": "Grace"}]})

    more = form_of(asked, "a", posted=posted(form, add="a.0"))
    assert value_of(more) == {"people": [{"name": "Ada"}, {"name": "Grace"}, {"name": "?"}]}
    fewer = form_of(asked, "a", posted=posted(more, remove="a.0.0"))
    assert value_of(fewer) == {"people": [{"name": "Grace"}, {"name": "?"}]}
    assert value_of(form_of(asked, "a", posted=posted(fewer, add="a.0")))["people"][0] == {"name": "Grace"}


CIRCLE = schema(("kind", "r"), kind={"const": "circle"}, r={"type": "number"})
SQUARE = schema(("kind", "side"), kind={"const": "square"}, side={"type": "number"})


def test_one_of_several_is_chosen_and_a_value_finds_its_own() -> None:
    asked = schema(("shape",), shape={"oneOf": [{"$ref": "#/$defs/c"}, {"$ref": "#/$defs/s"}]})
    asked["$defs"] = {"c": CIRCLE, "s": SQUARE}
    form = form_of(asked, "a")

    assert [choice.label for choice in form.children[0].choices] == ["circle", "square"]
    assert value_of(form) == {"shape": {"kind": "circle"}}
    square = form_of(asked, "a", posted=posted(form, a_0_v="1", show="a.0"))
    assert value_of(form_of(asked, "a", posted=posted(square, a_0_1_1="3"))) == {"shape": {"kind": "square", "side": 3}}
    assert value_of(form_of(asked, "a", value={"shape": {"kind": "square", "side": 3}})) == {
        "shape": {"kind": "square", "side": 3}
    }
    wrong = problems_of(asked, {"shape": {"kind": "square"}})
    assert [(problem.path, problem.message) for problem in wrong] == [(("shape", "side"), "is needed")]
    assert node_at(square, wrong[0].path).name == "a.0.1.1"


def test_alternatives_under_one_title_are_called_by_what_they_are() -> None:
    asked = schema((), where={"title": "Where", "anyOf": [{"type": "string"}, {"type": "integer"}], "default": 7})

    (field,) = form_of(asked, "a").children

    assert [choice.label for choice in field.choices] == ["Text", "Whole number"]
    assert value_of(form_of(asked, "a")) == {"where": 7}


def test_what_may_be_null_is_left_empty() -> None:
    asked = schema(
        ("must",),
        must={"type": ["string", "null"]},
        may={"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
    )

    assert trip(asked) == {"must": None}
    assert trip(asked, a_0="x", a_1="3") == {"must": "x", "may": 3}


@pytest.mark.parametrize(
    "value",
    [
        {"text": 5},
        {"text": "two\nlines"},
        {"text": "\r"},
        {"text": ""},
        {"whole": 1.0},
        {"whole": 10**400},
        {"list": "none"},
        {"list": list(range(100))},
        {"other": {"deep": [1, None]}},
        {"pick": "c"},
        {"nested": None},
        {"nested": {"x": [], "more": True}},
        {"when": "2026-12-31T23:59:59+05:00"},
    ],
)
def test_no_value_is_lost_on_its_way_through_the_form(value: dict[str, Any]) -> None:
    asked = schema(
        (),
        text={"type": "string"},
        whole={"type": "integer"},
        list={"type": "array", "items": {"type": "integer"}},
        pick={"enum": ["a", "b"]},
        nested=schema((), x={"type": "array", "items": {"type": "string"}}),
        when={"type": "string", "format": "date-time"},
    )

    form = form_of(asked, "a", value=value)

    assert value_of(form) == value
    assert value_of(form_of(asked, "a", posted=posted(form))) == value


@pytest.mark.parametrize("asked", [{"type": "string"}, {"properties": 5}, {"anyOf": [{"type": "object"}]}])
def test_what_cannot_be_drawn_is_json(asked: Any) -> None:
    assert not is_drawable(asked)
    assert value_of(form_of(asked, "a")) is ABSENT


@pytest.mark.parametrize(
    "asked", [None, [], {}, {"type": "object"}, {"$ref": "#"}, schema(), {"additionalProperties": False}]
)
def test_a_tool_without_parameters_has_a_form_without_fields(asked: Any) -> None:
    assert is_drawable(asked)
    assert value_of(form_of(asked, "a")) == {}
    assert form_of(asked, "a", value={"x": 1}).kind == "json"


def test_json_that_is_none_is_named_and_kept() -> None:
    asked = schema((), anything={})
    form = form_of(asked, "a", posted=posted(form_of(asked, "a"), a_0_j="{"))

    problems: dict[str, str] = {}
    assert value_of(form, problems) == {}
    assert problems == {"a.0": "is not valid JSON: line 1, column 2"}
    assert form.children[0].text == "{"


HOSTILE: dict[str, Any] = {
    "a circle": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    "needs itself": schema(("me",), me={"$ref": "#"}),
    "a tree": {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/d0"}},
        "$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 4} for n in range(30)},
    },
    "wide": schema((), **{f"member{n}": {"type": "string"} for n in range(2000)}),
    "wide and deep": schema((), **{f"m{n}": schema((), **{f"n{k}": {} for k in range(90)}) for n in range(20)}),
    "a pattern": schema((), text={"type": "string", "pattern": "^(a+)+$"}),
    "no schema": {"type": 5, "properties": [], "required": "x", "anyOf": 3, "enum": {}},
    "elsewhere": schema((), x={"$ref": "http://127.0.0.1:9/schema"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_costs_little(name: str) -> None:
    began = time.process_time()

    form = form_of(HOSTILE[name], "a")
    form_of(HOSTILE[name], "a", value={"x": 1, "me": {}, "text": "a" * 40 + "!"})
    problems_of(HOSTILE[name], {"x": 1, "me": {"me": {}}, "text": "a" * 40 + "!"})

    assert len(fields_of(form)) <= 2 * MOST_FIELDS
    assert time.process_time() - began < 2
