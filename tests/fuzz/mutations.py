"""Answers as a hostile or broken server writes them: valid ones with a few things changed, and now and then noise."""

from __future__ import annotations

import copy
import json
from collections import Counter
from typing import Any, Final, TypeAlias

from hypothesis import Phase, settings
from hypothesis import strategies as st

from mcp_oauth.exceptions import McpOAuthError

# Enough that each outcome a property insists on is met whatever the seed. A failing example is one document and
# readable as it is; making it smaller would take longer than a test may.
thorough: Final = settings(max_examples=200, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))

Path: TypeAlias = tuple[Any, ...]

# What one word of a server may add to a message; every message is a few of them and a sentence of ours.
LONGEST_MESSAGE: Final = 1500

ODD_TEXTS: Final = (
    "",
    " ",
    "\x00",
    "a\r\nSet-Cookie: x=1",
    "\ud800",
    "\u202e\u2066",
    "\ufeff",
    "\x1b[31m",
    "é\u0301\U0001f600",
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ settings.SECRET_KEY }}",
    "%s %(x)s {0}",
    "../../etc/passwd",
    "javascript:alert(1)",
    "https://user:pw@as.example.com/x",
    "http://127.0.0.1:1/",
    "https://[::ffff:127.0.0.1]/",
    "https://as.example.com:99999/x",
    "https://as.example.com/x#y",
    "https://as.example.com\\@evil.example/",
    "//evil.example",
    "x" * 3000,
    "a b\tc\nd",
    "0",
    "-1",
    "true",
    "none",
    "null",
    "S256",
    "Bearer",
    "invalid_grant",
)
ODD_NUMBERS: Final = (0, -1, 1, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e308, float("inf"), float("nan"))
SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.sampled_from(ODD_NUMBERS),
    st.none(),
    st.booleans(),
    st.text(max_size=20),
    st.text(st.characters(codec=None), max_size=8),
)
# Any JSON value, odd ones preferred.
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_MUTATIONS: Final = ("drop", "scalar", "any", "wrap", "unwrap", "deepen", "repeat", "enlarge", "copy", "text", "add")
_DEPTH: Final = 40


@st.composite
def mutated(draw: st.DrawFn, *valid: Any, most: int = 3) -> Any:
    """Return one of the valid documents with up to ``most`` places changed; none at all in every fourth or so."""
    document = copy.deepcopy(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(0, most))):
        document = _changed(draw, document)
    return document


def _changed(draw: st.DrawFn, document: Any) -> Any:
    paths = list(_paths(document))
    # Mostly a place inside, and a slip in a text: what is not even a document is refused before anything is read.
    path = draw(st.sampled_from((paths[1:] or paths) * 5 + paths[:1]))
    value = _at(document, path)
    kind = draw(st.sampled_from(_MUTATIONS + ("text",) * (20 if isinstance(value, str) and not path else 3)))
    if kind == "drop" and path:
        del _at(document, path[:-1])[path[-1]]
        return document
    if kind == "add" and isinstance(value, dict):
        value[draw(st.sampled_from(ODD_TEXTS) | st.text(max_size=8))] = draw(JSON_VALUES)
        return document
    return _with(document, path, _other(draw, kind, document, value))


def _other(draw: st.DrawFn, kind: str, document: Any, value: Any) -> Any:
    if kind == "wrap":
        return draw(st.sampled_from([[value], {"value": value}, [value, value]]))
    if kind == "unwrap" and isinstance(value, list) and value:
        return value[0]
    if kind == "deepen" and depth_of(document) < _DEPTH:
        lists = draw(st.booleans())
        for _ in range(_DEPTH):
            value = [value] if lists else {"type": "array", "items": value}
        return value
    if kind == "repeat" and isinstance(value, list) and len(value) < 10:
        return value * draw(st.sampled_from([2, 50, 300]))
    if kind == "enlarge" and isinstance(value, str) and len(value) < 100:
        return value * draw(st.sampled_from([2, 100, 1000]))
    if kind == "copy":
        return copy.deepcopy(_at(document, draw(st.sampled_from(list(_paths(document))))))
    if kind == "text" and isinstance(value, str):
        return _text(draw, value)
    return draw(JSON_VALUES if kind == "any" else SCALARS)


def _text(draw: st.DrawFn, text: str) -> str:
    """Return a text with something odd in it, or written otherwise."""
    at = draw(st.integers(0, len(text)))
    how = draw(st.sampled_from(["insert", "cut", "upper", "end", "slash"]))
    if how == "insert":
        return text[:at] + draw(st.sampled_from(ODD_TEXTS)) + text[at:]
    return {"cut": text[:at], "upper": text.upper(), "end": f"{text}\n", "slash": f"{text}/"}[how]


def _paths(document: Any, at: Path = ()) -> list[Path]:
    found = [at]
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inner:
        found += _paths(value, (*at, key))
        if len(found) > 200:
            break
    return found


def depth_of(value: Any) -> int:
    """Return how deeply a value is nested."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((depth_of(item) for item in inner), default=0)


def _at(document: Any, path: Path) -> Any:
    for key in path:
        document = document[key]
    return document


def _with(document: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    _at(document, path[:-1])[path[-1]] = value
    return document


@st.composite
def json_bytes(draw: st.DrawFn, documents: st.SearchStrategy[Any]) -> bytes:
    """Return a document as bytes, well-formed as a rule, else broken in one of the ways in which JSON breaks."""
    document = draw(documents)
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    how = draw(
        st.sampled_from(
            ["plain"] * 24 + ["huge"] * 3 + ["bom", "cut", "twice", "digits", "deep", "html", "tail", "any"]
        )
    )
    if how == "twice" and text.startswith("{") and len(text) > 2:
        # The same members once more, with other values: readers differ in which one counts.
        text = '{"issuer": 1, "resource": 1, "access_token": 1, "client_id": 1, ' + text[1:]
    elif how == "huge":
        text = text.replace("3600", "1e400").replace("true", "-1e999")
    elif how == "digits":
        text = text.replace("3600", "9" * 5000)
    elif how == "deep":
        text = text.replace("3600", "[" * 20_000)
    elif how == "html":
        text = f"<!doctype html><p>{text}"
    elif how == "tail":
        text += draw(st.sampled_from([" ", "\n\n", "\x00", "{}", "//"]))
    body = text.encode("utf-8", "surrogatepass")
    if how == "bom":
        return draw(st.sampled_from([b"\xef\xbb\xbf", b"\xff\xfe", b" \r\n"])) + body
    if how == "cut":
        return body[: draw(st.integers(0, len(body)))]
    return draw(st.binary(max_size=60)) if how == "any" else body


class Reached(Counter[str]):
    """How often each outcome was reached, so that a property that stops at the first check is noticed."""

    def insist_on(self, *outcomes: str) -> None:
        """Fail when one of the outcomes was never reached."""
        missing = [outcome for outcome in outcomes if not self[outcome]]
        assert not missing, f"never reached: {missing}; reached: {dict(self)}"


def assert_bounded(error: McpOAuthError) -> None:
    """Insist that what an error says is printable and bounded, whatever the server said."""
    for shown in (error.user_message, error.next_step, error.document, error.field, error.rule, str(error)):
        assert shown.isprintable(), shown
        assert len(shown) <= LONGEST_MESSAGE, len(shown)
    json.dumps(error.as_json(), allow_nan=False).encode()
    str(error.as_json()).encode()
