"""JSON as people keep it in their settings: with comments, and with commas before a closing bracket."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, Final

from django.utils.translation import gettext as _

from mcp_oauth.exceptions import InvalidRequest

# A string is taken whole, an unfinished one to the end: nothing in it is a comment, and no text is read twice.
_STRING: Final = r'"(?:\\.|[^"\\])*(?:"|\Z)'
_COMMENTS = re.compile(rf"({_STRING})|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_LAST_COMMAS = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)


class JsonObject(dict[str, Any]):
    """A JSON object that remembers which of its names stood there more than once."""

    repeated: frozenset[str] = frozenset()


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    value = JsonObject(pairs)
    if len(value) < len(pairs):
        value.repeated = frozenset(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return value


def read_json(text: str) -> Any:
    """Parse JSON with comments; blanks take the place of what is dropped, so that line and column stay true.

    Raises:
        InvalidRequest: it is none; the message says where it breaks.
    """

    def blank(match: re.Match[str]) -> str:
        return match[1] or re.sub(r"[^\n]", " ", match[0])

    plain = _LAST_COMMAS.sub(blank, _COMMENTS.sub(blank, text))
    try:
        return json.loads(plain, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            _("This is not JSON: it breaks at line %(line)d, column %(column)d.")
            % {"line": error.lineno, "column": error.colno}
        ) from error
    except ValueError as error:  # a number of more digits than Python reads
        raise InvalidRequest(_("This is not JSON: a number in it is too long.")) from error
    except RecursionError as error:
        raise InvalidRequest(_("This is nested too deeply.")) from error
