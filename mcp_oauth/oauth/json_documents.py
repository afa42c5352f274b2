"""Reading a JSON object out of an untrusted answer, with a reason in plain words when there is none."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from mcp_oauth.messages import HttpResponse
from mcp_oauth.sentences import predicate

# More digits than any number in these documents has; CPython refuses to convert beyond 4300 of them.
_MOST_DIGITS: Final = 20


class NotAJsonObject(ValueError):
    """The body is not a JSON object; ``problem`` completes the sentence "The document …"."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def json_object(response: HttpResponse) -> dict[str, Any]:
    """Return the JSON object in the body, whatever the content type says.

    Raises: NotAJsonObject with a reason such as "is a web page (HTML), not JSON".
    """
    content_type = media_type(response)
    try:
        value = json.loads(
            response.body.decode("utf-8-sig"),
            parse_int=_bounded_int,
            parse_float=_finite_float,
            parse_constant=_no_such_constant,
        )
    except (ValueError, RecursionError) as error:
        # RecursionError: a few thousand nested brackets are malformed for every document read here.
        if "html" in content_type or response.body.lstrip()[:1] == b"<":
            raise NotAJsonObject(predicate("is a web page (HTML), not JSON")) from error
        if not response.body.strip():
            raise NotAJsonObject(predicate("is empty")) from error
        raise NotAJsonObject(predicate("is not JSON")) from error
    if not isinstance(value, dict):
        raise NotAJsonObject(predicate("is JSON but not an object"))
    return value


def media_type(response: HttpResponse) -> str:
    """Return the media type of the answer in lower case, without parameters, or the empty string."""
    return (response.header("content-type") or "").partition(";")[0].strip().lower()


def _bounded_int(digits: str) -> int:
    if len(digits) <= _MOST_DIGITS:
        return int(digits)
    return -(10**_MOST_DIGITS) if digits.startswith("-") else 10**_MOST_DIGITS


def _finite_float(digits: str) -> float | None:
    # 1e400 is JSON that neither a float holds nor a database takes back; it counts as null, like Infinity.
    value = float(digits)
    return value if math.isfinite(value) else None


def _no_such_constant(name: str) -> None:
    # NaN and Infinity are no JSON; a member holding one counts as null.
    return None
