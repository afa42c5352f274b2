"""The values of a form's single fields: JSON to the text that an input shows, and back."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from typing import Any, Final

from django.utils import timezone
from django.utils.translation import gettext as _

# In place of a value that is not given.
ABSENT: Final[Any] = object()

# What an input for date and time sends (WHATWG HTML, local date and time).
_LOCAL_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?")
_INTEGER = re.compile(r"[+-]?\d{1,4000}")


class Unreadable(ValueError):
    """A text is not JSON; the message says where it breaks."""


def to_text(value: Any, input_type: str) -> str:
    """Return a value as an input shows it; empty for what it cannot show."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int | float):
        return json.dumps(value) if input_type == "number" and abs(value) < 10**300 else ""
    return value if isinstance(value, str) and input_type != "number" else ""


def from_text(text: str, kind: str, input_type: str) -> Any:
    """Return what was typed as its field wants it; as it is where it is none of that, for the check to name."""
    if kind in ("integer", "number"):
        return _number(text.strip(), kind)
    if input_type == "datetime-local" and _LOCAL_TIME.fullmatch(text):
        return _with_offset(text)
    return text


def json_from(text: str) -> Any:
    """Return what a text says as JSON; `ABSENT` for an empty one.

    Raises:
        Unreadable: it is none.
    """
    if not text.strip():
        return ABSENT
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Unreadable(
            _("is not valid JSON: line %(line)d, column %(column)d") % {"line": error.lineno, "column": error.colno}
        ) from error
    except (ValueError, RecursionError) as error:  # a number of more digits than Python reads; too deep
        raise Unreadable(_("is not valid JSON")) from error


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same JSON: 1 is not true, and 1.0 is not 1."""
    if first is ABSENT or second is ABSENT:
        return first is second
    try:
        return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    except (TypeError, ValueError, RecursionError):  # a key that is none, or deeper than Python goes
        return False


def _number(text: str, kind: str) -> Any:
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(number) if kind == "integer" and number.is_integer() else number


def _with_offset(text: str) -> str:
    """Return a time without an offset as one of this site's time zone (RFC 3339 §5.6)."""
    try:
        moment = datetime.fromisoformat(text)
        return timezone.make_aware(moment).isoformat("T", "auto" if moment.microsecond else "seconds")
    except (ValueError, OverflowError):
        return text
