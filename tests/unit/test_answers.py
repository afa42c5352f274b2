"""What a person answers is checked against what was asked, field by field, and completed with the defaults."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_oauth import Answer
from mcp_oauth.exceptions import InvalidRequest
from mcp_oauth.services.answers import checked_answers
from mcp_oauth.sessions.results import Question

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 5},
        "email": {"type": "string", "format": "email"},
        "site": {"type": "string", "format": "uri"},
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "seat": {"type": "string", "enum": ["window", "bar"], "enumNames": ["At the window", "At the bar"]},
        "city": {"type": "string", "oneOf": [{"const": "cdg", "title": "Paris"}, {"const": "lhr", "title": "London"}]},
        "extras": {"type": "array", "items": {"type": "string", "enum": ["a", "b", "c"]}, "minItems": 1, "maxItems": 2},
        "titled": {"type": "array", "items": {"anyOf": [{"const": "x", "title": "X"}]}},
        "guests": {"type": "integer", "minimum": 1, "maximum": 12},
        "tip": {"type": "number", "minimum": 0, "maximum": 9.5},
        "outside": {"type": "boolean"},
        "code": {"type": "string", "pattern": "^(a+)+$"},
    },
}
FORM = Question("booking", "form", "Who comes?", SCHEMA)
VISIT = Question("sign", "url", "Sign there.", url="https://sign.example/7")


def accepted(question: Question = FORM, /, **content: Any) -> dict[str, Any] | None:
    return checked_answers([question], {question.key: Answer("accept", content)})[question.key].content


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "Ada"),
        ("name", "äöüßé"),
        ("email", "ada@example.org"),
        ("site", "https://example.org/a?b=c"),
        ("site", "urn:isbn:0451450523"),
        ("day", "2026-02-28"),
        ("at", "2026-12-31T23:59:59Z"),
        ("at", "2026-12-31T23:59:59.123+02:00"),
        ("seat", "bar"),
        ("city", "lhr"),
        ("extras", ["a", "c"]),
        ("titled", ["x"]),
        ("titled", []),
        ("guests", 12),
        ("guests", 3.0),
        ("tip", 9.5),
        ("tip", 0),
        ("outside", False),
        # A pattern is the server's to look at: this one would keep a process busy for ever.
        ("code", "a" * 40 + "!"),
    ],
)
def test_what_fits_is_sent_as_it_is(name: str, value: Any) -> None:
    assert accepted(**{name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", "A"),
        ("name", "Adalberta"),
        ("name", 7),
        ("name", "half \ud800"),
        ("email", "ada"),
        ("email", "ada@"),
        ("site", "example.org"),
        ("site", "https://two words"),
        ("day", "20260228"),
        ("day", "2026-02-30"),
        ("day", "2026-W09-6"),
        ("at", "2027-01-30T20:59:59"),
        ("at", "2027-01-30"),
        ("at", "2026-13-31T23:59:59Z"),
        ("seat", "garden"),
        ("seat", "At the bar"),
        ("city", "Paris"),
        ("extras", ["a", "d"]),
        ("extras", []),
        ("extras", ["a", "b", "c"]),
        ("extras", "a"),
        ("extras", [1]),
        ("titled", ["X"]),
        ("guests", 0),
        ("guests", 13),
        ("guests", 2.5),
        ("guests", True),
        ("guests", "3"),
        ("guests", 10**400),
        ("tip", float("nan")),
        ("tip", float("inf")),
        ("tip", 10),
        ("outside", "yes"),
        ("outside", 1),
        ("unasked", "anything"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_name_of_its_field_and_not_quoted(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        accepted(**{name: value})

    assert refused.value.field == f"booking.{name}"
    assert name in refused.value.user_message
    if isinstance(value, str) and len(value) > 3 and value not in refused.value.field:
        assert value not in refused.value.user_message


def test_what_is_needed_is_needed_and_what_has_a_default_takes_it() -> None:
    form = Question(
        "booking",
        "form",
        "Who comes?",
        {
            "type": "object",
            "properties": {
                "name": {"type": "string", "default": "Ada"},
                "seat": {"type": "string", "enum": ["window", "bar"], "default": "bar"},
                "guests": {"type": "integer"},
                "outside": {"type": "boolean", "default": False},
                "extras": {"type": "array", "items": {"type": "string", "enum": ["a"]}, "default": ["a"]},
                "note": {"type": "string"},
            },
            "required": ["guests", "name"],
        },
    )

    with pytest.raises(InvalidRequest) as missing:
        accepted(form, name="Grace")
    assert missing.value.field == "booking.guests"
    assert accepted(form, guests=2, name="Grace", note=None) == {
        "name": "Grace",
        "seat": "bar",
        "guests": 2,
        "outside": False,
        "extras": ["a"],
    }


def test_a_default_that_breaks_its_own_schema_is_not_sent_for_the_person() -> None:
    broken = {"type": "object", "properties": {"seat": {"type": "string", "enum": ["bar"], "default": "roof"}}}

    with pytest.raises(InvalidRequest) as refused:
        accepted(Question("booking", "form", "Where?", broken))
    assert refused.value.field == "booking.seat"


def test_every_question_needs_an_answer_and_only_questions_are_answered() -> None:
    with pytest.raises(InvalidRequest) as missing:
        checked_answers([FORM, VISIT], {"sign": {"action": "accept"}})
    assert missing.value.field == "booking"
    with pytest.raises(InvalidRequest) as unasked:
        checked_answers([VISIT], {"sign": {"action": "accept"}, "other": {"action": "accept"}})
    assert unasked.value.field == "other"


def test_going_on_without_a_word_is_having_been_where_an_address_led() -> None:
    assert checked_answers([VISIT], None) == {"sign": Answer("accept")}


@pytest.mark.parametrize("action", ["decline", "cancel"])
@pytest.mark.parametrize("question", [FORM, VISIT])
def test_who_declines_keeps_what_was_typed(question: Question, action: Any) -> None:
    given = {question.key: {"action": action, "content": {"name": 7}}}

    assert checked_answers([question], given) == {question.key: Answer(action)}


@pytest.mark.parametrize(
    "given",
    [
        [],
        "accept",
        {"booking": "accept"},
        {"booking": {"action": "agree"}},
        {"booking": {"content": {}}},
        {"booking": {"action": "accept", "content": ["Ada"]}},
        {"booking": {"action": "accept", "contents": {}}},
    ],
)
def test_answers_of_another_shape_are_refused(given: Any) -> None:
    with pytest.raises(InvalidRequest):
        checked_answers([FORM], given)


@pytest.mark.parametrize("schema", [{}, {"properties": []}, {"properties": {"name": "text"}, "required": "name"}])
def test_a_schema_that_is_none_asks_for_nothing_more_than_it_says(schema: dict[str, Any]) -> None:
    assert accepted(Question("booking", "form", "?", schema)) == {}


def test_more_than_a_call_may_carry_is_not_sent() -> None:
    form = Question("booking", "form", "?", {"properties": {"note": {"type": "string"}}})

    with pytest.raises(InvalidRequest):
        accepted(form, note="x" * (1024 * 1024))
