"""Checks arguments against a tool's input schema before they are sent: in bounded time, and never asking anybody.

The server has the last word. What would take too long, or a schema that is none, is left to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry

from mcp_oauth.oauth.server_words import printable
from mcp_oauth.services.answers import format_problem

# What a person mends at once.
MOST_PROBLEMS: Final = 50
# Keywords looked at; a large form needs some hundreds.
_MOST_STEPS: Final = 8000
# Comparing each with each is quick up to here.
_MOST_COMPARED: Final = 200
# A pattern may keep a process busy for ever; the others search what a hostile schema makes endless.
_LEFT_TO_THE_SERVER: Final = (
    *("pattern", "patternProperties", "$dynamicRef", "unevaluatedItems", "unevaluatedProperties"),
)

Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


@dataclass(frozen=True)
class Problem:
    """What does not fit: ``path`` are the members and places that lead to it, the message goes after a name."""

    path: tuple[str | int, ...]
    message: str


class _TooMuch(Exception):
    """The check takes longer than it is worth."""


def problems_of(schema: Mapping[str, Any], value: Any) -> list[Problem]:
    """Return what is wrong with a value, at most `MOST_PROBLEMS`; nothing where that cannot be told."""
    left = [_MOST_STEPS]

    def counted(check: Keyword) -> Keyword:
        def look(validator: Any, said: Any, instance: Any, whole: Any) -> Iterator[ValidationError]:
            left[0] -= 1
            if left[0] < 0:
                raise _TooMuch
            yield from check(validator, said, instance, whole) or ()

        return look

    keywords = {name: counted(check) for name, check in Draft202012Validator.VALIDATORS.items()}
    keywords |= {name: _nothing for name in _LEFT_TO_THE_SERVER}
    keywords |= {name: counted(check) for name, check in _OWN.items()}
    judge = extend(Draft202012Validator, keywords)
    try:
        # An empty registry: a reference to elsewhere is followed by nobody.
        errors = list(islice(judge(schema, registry=Registry()).iter_errors(value), MOST_PROBLEMS))
        found = [problem for error in errors for problem in _told(error)]
    except Exception:  # whatever a schema that is none leads to: then its server says what is wrong
        return []
    return list({(problem.path, problem.message): problem for problem in found}.values())[:MOST_PROBLEMS]


def _nothing(validator: Any, said: Any, instance: Any, whole: Any) -> Iterable[ValidationError]:
    return ()


def _unique(validator: Any, said: Any, instance: Any, whole: Any) -> Iterable[ValidationError]:
    if isinstance(instance, list) and len(instance) > _MOST_COMPARED:
        return ()
    return Draft202012Validator.VALIDATORS["uniqueItems"](validator, said, instance, whole) or ()


def _format(validator: Any, said: Any, instance: Any, whole: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and (problem := format_problem(said, instance)):
        yield ValidationError(problem)


def _additional(validator: Any, said: Any, instance: Any, whole: Any) -> Iterable[ValidationError]:
    # Which members are additional depends on the patterns beside it.
    if "patternProperties" in whole:
        return ()
    return Draft202012Validator.VALIDATORS["additionalProperties"](validator, said, instance, whole) or ()


_OWN: Final[dict[str, Keyword]] = {"uniqueItems": _unique, "format": _format, "additionalProperties": _additional}


def _told(error: ValidationError) -> Iterator[Problem]:
    """Return an error in words, at the place that a person can mend."""
    path = tuple(error.absolute_path)
    if error.validator == "required" and isinstance(error.instance, dict):
        listed = error.validator_value if isinstance(error.validator_value, list) else []
        # One error for each missing member, each with all of them beside it.
        missing = [name for name in listed if isinstance(name, str) and name not in error.instance]
        for name in missing[:MOST_PROBLEMS]:
            yield Problem((*path, name), _("is needed"))
    elif error.validator in ("anyOf", "oneOf") and error.context:
        yield from _nearest(error)
    else:
        yield Problem(path, _words(error))


def _nearest(error: ValidationError) -> Iterator[Problem]:
    """Return what is wrong with the alternative that the value comes nearest to."""
    context = error.context or ()
    groups: dict[Any, list[ValidationError]] = {}
    for inner in context:
        groups.setdefault(inner.schema_path[0], []).append(inner)

    def distance(group: list[ValidationError]) -> tuple[int, int]:
        # Another type, or another mark, is another alternative; a missing member is only not filled in yet.
        kinds = Counter(str(inner.validator) for inner in group)
        return kinds["type"] + kinds["const"] + kinds["enum"], len(group)

    for inner in min(groups.values(), key=distance):
        yield from _told(inner)


def _words(error: ValidationError) -> str:
    said = error.validator_value
    limit = printable(said if isinstance(said, str) else str(said), 60)
    if error.validator == "type":
        return _type_words(said)
    if error.validator in ("minLength", "maxLength", "minItems", "maxItems") and isinstance(said, int | float):
        number = int(said)
        texts = {
            "minLength": ngettext("must have at least %d character", "must have at least %d characters", number),
            "maxLength": ngettext("must have at most %d character", "must have at most %d characters", number),
            "minItems": ngettext("must have at least %d item", "must have at least %d items", number),
            "maxItems": ngettext("must have at most %d item", "must have at most %d items", number),
        }
        return texts[str(error.validator)] % number
    texts = {
        "minimum": _("must be at least %(limit)s"),
        "maximum": _("must be at most %(limit)s"),
        "exclusiveMinimum": _("must be more than %(limit)s"),
        "exclusiveMaximum": _("must be less than %(limit)s"),
        "multipleOf": _("must be a multiple of %(limit)s"),
    }
    if error.validator in texts:
        return texts[str(error.validator)] % {"limit": limit}
    if error.validator in ("enum", "const"):
        return _("must be one of what is offered")
    if error.validator == "uniqueItems":
        return _("must not have the same item twice")
    if error.validator == "additionalProperties":
        return _("has members that the tool does not take")
    if error.validator == "format":
        return str(error.message)
    return _("does not fit what the tool asks for")


def _type_words(said: Any) -> str:
    words = {
        "string": _("must be a text"),
        "number": _("must be a number"),
        "integer": _("must be a whole number"),
        "boolean": _("must be yes or no"),
        "array": _("must be a list"),
        "object": _("must be a JSON object"),
    }
    return words.get(said, _("must be of another type")) if isinstance(said, str) else _("must be of another type")
