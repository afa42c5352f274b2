"""Checks what a person answers against what a server asked, before anything of it is sent (MCP elicitation)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InvalidRequest
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.sessions.results import Answer, Question

Given = Mapping[str, Answer | Mapping[str, Any]]

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[^\s<>\"{}|\\^`]+")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# RFC 3339 §5.6; a time without an offset is none of it.
_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})")


def checked_answers(questions: Iterable[Question], given: Given | None) -> dict[str, Answer]:
    """Return an answer to every question, complete and fit to be sent.

    A missing value takes its field's default (SEP-1034). Whoever goes on without a word has been where a question of
    mode ``url`` sent them. A ``pattern`` is left to the server: it could keep this process busy for ever.

    Raises:
        InvalidRequest: an answer does not fit; ``field`` is ``question.name``, or the question's key alone.
    """
    asked = {question.key: question for question in questions}
    answers = {} if given is None else given
    if not isinstance(answers, Mapping):
        raise InvalidRequest(_("The answers must be an object with an answer for each question."))
    for key in answers:
        if key not in asked:
            raise InvalidRequest(_("“%(key)s” is not asked.") % {"key": printable(key, 60)}, field=printable(key, 60))
    checked = {key: _answer(question, answers.get(key)) for key, question in asked.items()}
    size = len(json.dumps([answer.to_json() for answer in checked.values()], ensure_ascii=False).encode())
    if size > settings.MAX_ARGUMENT_BYTES:
        raise InvalidRequest(
            _("The answers are %(size)d bytes; at most %(limit)d are sent.")
            % {"size": size, "limit": settings.MAX_ARGUMENT_BYTES}
        )
    return checked


def _answer(question: Question, given: Answer | Mapping[str, Any] | None) -> Answer:
    if given is None and question.mode == "url":
        return Answer("accept")
    if given is None:
        raise _unfit(question, _("An answer to “%(key)s” is missing."))
    answer = given if isinstance(given, Answer) else _read(question, given)
    if answer.action != "accept" or question.mode == "url":
        # What was typed before somebody declined stays here.
        return Answer(answer.action)
    return Answer("accept", _content(question, answer.content))


def _read(question: Question, given: object) -> Answer:
    if not isinstance(given, Mapping) or set(given) - {"action", "content"}:
        raise _unfit(question, _("The answer to “%(key)s” must have an “action” and may have a “content”."))
    action, content = given.get("action"), given.get("content")
    if action not in ("accept", "decline", "cancel"):
        raise _unfit(question, _("The action of the answer to “%(key)s” must be accept, decline or cancel."))
    return Answer(action, content)


def _content(question: Question, content: object) -> dict[str, Any]:
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise _unfit(question, _("The answer to “%(key)s” must be an object with its fields."))
    properties = question.schema.get("properties")
    fields = {
        str(name): schema if isinstance(schema, dict) else {}
        for name, schema in (properties.items() if isinstance(properties, dict) else ())
    }
    for name in content:
        if name not in fields:
            raise _refused(question, printable(name, 60), _("is not asked"))
    required = question.schema.get("required")
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    values: dict[str, Any] = {}
    for name, schema in fields.items():
        value = content.get(name)
        if value is None and schema.get("default") is not None:
            value = schema["default"]
        if value is not None:
            problem = _problem(schema, value)
            if problem:
                raise _refused(question, name, problem)
            values[name] = value
        elif name in needed:
            raise _refused(question, name, _("is needed"))
    return values


def _unfit(question: Question, sentence: str) -> InvalidRequest:
    key = printable(question.key, 60)
    return InvalidRequest(sentence % {"key": key}, field=key)


def _refused(question: Question, name: str, problem: str) -> InvalidRequest:
    """Return the error for one field; it never quotes what the person wrote."""
    return InvalidRequest(
        _("“%(field)s” %(problem)s.") % {"field": printable(name, 60), "problem": problem},
        field=f"{printable(question.key, 60)}.{printable(name, 60)}",
    )


def _problem(schema: Mapping[str, Any], value: Any) -> str:
    """Return what is wrong with a value for one field of a flat schema; empty if nothing is."""
    kind = schema.get("type")
    if kind == "boolean":
        return "" if isinstance(value, bool) else _("must be yes or no")
    if kind in ("integer", "number"):
        return _number_problem(schema, value, whole=kind == "integer")
    if kind == "array":
        return _list_problem(schema, value)
    # A schema of another type is none that a form may have; the server sees for itself what it makes of a text.
    return _text_problem(schema, value)


def _number_problem(schema: Mapping[str, Any], value: Any, *, whole: bool) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _("must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        return _("must be a number")
    if whole and value != int(value):
        return _("must be a whole number")
    least, most = _bound(schema, "minimum"), _bound(schema, "maximum")
    if least is not None and value < least:
        return _("must be at least %(limit)s") % {"limit": least}
    if most is not None and value > most:
        return _("must be at most %(limit)s") % {"limit": most}
    return ""


def _list_problem(schema: Mapping[str, Any], value: Any) -> str:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return _("must be a list of texts")
    items = schema.get("items")
    choices = _choices(items) if isinstance(items, dict) else None
    if choices is not None and any(item not in choices for item in value):
        return _("must hold nothing but what is offered")
    least, most = _bound(schema, "minItems"), _bound(schema, "maxItems")
    if least is not None and len(value) < least:
        return _("must hold at least %(limit)s") % {"limit": least}
    if most is not None and len(value) > most:
        return _("must hold at most %(limit)s") % {"limit": most}
    return ""


def _text_problem(schema: Mapping[str, Any], value: Any) -> str:
    if not isinstance(value, str):
        return _("must be a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        return _("must be a text that can be sent")
    choices = _choices(schema)
    if choices is not None and value not in choices:
        return _("must be one of what is offered")
    least, most = _bound(schema, "minLength"), _bound(schema, "maxLength")
    if least is not None and len(value) < least:
        return _("must have at least %(limit)s characters") % {"limit": least}
    if most is not None and len(value) > most:
        return _("must have at most %(limit)s characters") % {"limit": most}
    return format_problem(schema.get("format"), value)


def format_problem(name: object, value: str) -> str:
    """Return what is wrong with a text for one of the formats that are checked; empty if nothing is."""
    if name == "email":
        try:
            validate_email(value)
        except ValidationError:
            return _("must be an email address")
    if name == "uri" and not _URI.fullmatch(value):
        return _("must be an address with its scheme")
    if name == "date" and not (_DATE.fullmatch(value) and _parses(date.fromisoformat, value)):
        return _("must be a date like 2026-12-31")
    if name == "date-time" and not (_DATE_TIME.fullmatch(value) and _parses(datetime.fromisoformat, value.upper())):
        return _("must be a time like 2026-12-31T23:59:59Z")
    return ""


def _parses(read: Any, value: str) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True


def _choices(schema: Mapping[str, Any]) -> list[str] | None:
    """Return what may be chosen, in any of the spellings (``enum``, or ``const`` under ``oneOf`` or ``anyOf``)."""
    if isinstance(schema.get("enum"), list):
        return [choice for choice in schema["enum"] if isinstance(choice, str)]
    for name in ("oneOf", "anyOf"):
        if isinstance(schema.get(name), list):
            offered = [item.get("const") for item in schema[name] if isinstance(item, dict)]
            return [choice for choice in offered if isinstance(choice, str)]
    return None


def _bound(schema: Mapping[str, Any], name: str) -> int | float | None:
    value = schema.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
