"""What a server asks in the middle of a call, as a form: flat JSON Schema in, fields out, and back to JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from django.http import QueryDict
from django.utils.translation import gettext as _

from mcp_oauth.oauth.server_words import printable
from mcp_oauth.sessions.results import Question

# What a person reads and fills in at once.
_MOST_FIELDS: Final = 50
_MOST_CHOICES: Final = 200
_LONGEST_LABEL: Final = 200
_LONGEST_HELP: Final = 500

_INPUTS: Final = {"email": "email", "uri": "url", "date": "date"}


@dataclass(frozen=True)
class Choice:
    """One value of a field that has few."""

    value: str
    label: str
    chosen: bool


@dataclass(frozen=True)
class QuestionField:
    """One field of a question's form; ``kind`` is what the template draws."""

    id: str
    name: str
    kind: str
    label: str
    help: str
    required: bool
    value: str
    choices: tuple[Choice, ...] = ()
    input_type: str = "text"
    minimum: str = ""
    maximum: str = ""
    step: str = "any"


@dataclass(frozen=True)
class QuestionView:
    """One question as the page shows it."""

    key: str
    message: str
    url: str
    host: str
    fields: tuple[QuestionField, ...]


def question_view(question: Question, number: int, posted: QueryDict | None) -> QuestionView:
    """Return a question with what was typed so far, or with the defaults its server proposes."""
    properties = question.schema.get("properties")
    names = list(properties.items())[:_MOST_FIELDS] if isinstance(properties, dict) else []
    required = question.schema.get("required")
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    return QuestionView(
        question.key,
        question.message,
        question.url,
        urlsplit(question.url).netloc if question.url else "",
        tuple(
            _field(f"q{number}.{place}", name, schema if isinstance(schema, dict) else {}, name in needed, posted)
            for place, (name, schema) in enumerate(names)
        ),
    )


def content_of(question: Question, number: int, posted: QueryDict) -> dict[str, Any]:
    """Return what was filled in, each value of the type its field asks for where the text is one of it.

    What is left empty is left out; whether it fits is for the service to say.
    """
    properties = question.schema.get("properties")
    content: dict[str, Any] = {}
    for place, (name, schema) in enumerate(list(properties.items())[:_MOST_FIELDS] if properties else ()):
        kind = schema.get("type") if isinstance(schema, dict) else "string"
        values = posted.getlist(f"q{number}.{place}")
        if kind == "boolean":
            content[name] = bool(values)
        elif kind == "array":
            content[name] = values
        elif values and values[0] != "":
            content[name] = _typed(values[0], kind)
    return content


def _typed(text: str, kind: Any) -> Any:
    if kind not in ("integer", "number"):
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(number) if kind == "integer" and number.is_integer() else number


def _field(key: str, name: str, schema: Mapping[str, Any], required: bool, posted: QueryDict | None) -> QuestionField:
    kind = schema.get("type")
    given = posted.getlist(key) if posted is not None else _defaults(schema.get("default"))
    choices = _choices(schema.get("items") if kind == "array" else schema, given)
    drawn = "text"
    if kind == "boolean":
        drawn, given = "check", ["true"] if (posted is not None and given) or given == ["true"] else []
    elif choices:
        drawn = "checks" if kind == "array" else "select"
    numeric = kind in ("integer", "number")
    return QuestionField(
        id=f"id_{key.replace('.', '_')}",
        name=key,
        kind=drawn,
        label=printable(schema.get("title"), _LONGEST_LABEL) or printable(name, _LONGEST_LABEL),
        help=printable(schema.get("description"), _LONGEST_HELP),
        required=required and kind != "boolean",
        value=given[0] if given else "",
        choices=choices if drawn in ("select", "checks") else (),
        input_type="number" if numeric else _INPUTS.get(str(schema.get("format")), "text"),
        minimum=_number(schema.get("minimum")) if numeric else "",
        maximum=_number(schema.get("maximum")) if numeric else "",
        step="1" if kind == "integer" else "any",
    )


def _defaults(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [_text(item) for item in values]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else ""


def _number(value: Any) -> str:
    return _text(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _choices(schema: Any, given: list[str]) -> tuple[Choice, ...]:
    """Return the values a field may have, by `enum` with or without `enumNames`, or by titled constants (SEP-1330)."""
    if not isinstance(schema, dict):
        return ()
    titled = schema.get("oneOf") or schema.get("anyOf")
    if isinstance(titled, list):
        pairs = [(item.get("const"), item.get("title")) for item in titled if isinstance(item, dict)]
    elif isinstance(schema.get("enum"), list):
        names = schema.get("enumNames")
        names = names if isinstance(names, list) else []
        pairs = [(value, names[place] if place < len(names) else None) for place, value in enumerate(schema["enum"])]
    else:
        return ()
    return tuple(
        Choice(
            value, printable(label, _LONGEST_LABEL) or printable(value, _LONGEST_LABEL) or _("(empty)"), value in given
        )
        for value, label in pairs[:_MOST_CHOICES]
        if isinstance(value, str)
    )
