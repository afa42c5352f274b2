"""A form from a JSON Schema, drawn from values or from what was posted, and back to JSON of the right types.

Whatever cannot be drawn, or not without losing something, is a field for JSON at that place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from django.http import QueryDict
from django.utils.translation import gettext as _

from mcp_oauth.oauth.server_words import printable
from mcp_oauth.views.schema_nodes import Choice, Node, fields_of, value_of
from mcp_oauth.views.schema_reading import LONGEST_LABEL, Document, Shape, compact, joined_parts, kind_word, shape_of
from mcp_oauth.views.schema_values import ABSENT, from_text, same, to_text

# What a person fills in on one page; the rest of a larger schema is JSON.
MOST_FIELDS: Final = 200
MOST_ITEMS: Final = 50
_MOST_MEMBERS: Final = 80
_DEEPEST: Final = 6
_MOST_WORK: Final = 1500
_LONGEST_HELP: Final = 1000
# From this many characters on a text has more than one line.
_ONE_LINE: Final = 200

# In place of a value: what was posted tells.
_POSTED: Final = object()

_INPUTS: Final = {"email": "email", "uri": "url", "date": "date", "date-time": "datetime-local", "time": "time"}


def form_of(schema: Any, name: str, *, value: Any = ABSENT, posted: QueryDict | None = None) -> Node:
    """Return the form of a whole schema: with a value, with what was posted, or with the schema's defaults.

    With what was posted, ``add`` and ``remove`` name places where something is added or taken away.
    """
    if takes_nothing(schema) and (value is ABSENT or value == {}):
        return Node(name, "object", label=_("Arguments"))
    fresh: frozenset[str] = frozenset()
    if posted is not None:
        posted, fresh = _changed(posted)
    builder = _Builder(Document(schema), posted, fresh)
    return builder.node(
        builder.document.root, name, None, _("Arguments"), True, 0, _POSTED if posted is not None else value
    )


def _changed(posted: QueryDict) -> tuple[QueryDict, frozenset[str]]:
    """Return what was posted with what its button adds or takes away, and what is new."""
    added, removed = posted.get("add", ""), posted.get("remove", "")
    if not added and not removed:
        return posted, frozenset()
    posted = posted.copy()
    fresh: frozenset[str] = frozenset()
    if added:
        marks = [int(mark) for mark in posted.getlist(added) if mark.isascii() and mark.isdecimal() and len(mark) < 7]
        mark = str(max(marks, default=-1) + 1)
        posted.appendlist(added, mark)
        fresh = frozenset({added, f"{added}.{mark}"})
    parent, _dot, mark = removed.rpartition(".")
    if mark in posted.getlist(parent):
        posted.setlist(parent, [other for other in posted.getlist(parent) if other != mark])
    elif removed:
        for name in [name for name in posted if name == removed or name.startswith(f"{removed}.")]:
            del posted[name]
    return posted, fresh


class _Builder:
    """Builds one form; how many fields it has is counted over all of it."""

    def __init__(self, document: Document, posted: QueryDict | None, fresh: frozenset[str]) -> None:
        self.document = document
        # What was just added begins with its defaults.
        self.fresh = fresh
        self.posted = posted
        self.left = MOST_FIELDS
        # Of fields that are built to see whether a value fits, too.
        self.work = _MOST_WORK

    def node(
        self, schema: Any, name: str, key: str | int | None, label: str, required: bool, depth: int, value: Any
    ) -> Node:
        """Return the field for one schema, or a field for JSON where the value would not come back from it."""
        shape = shape_of(schema, self.document)
        label = (printable(shape.schema.get("title"), LONGEST_LABEL) or label) if depth else label
        if isinstance(key, int):
            label = _("%(item)s %(number)d") % {"item": label, "number": key + 1}
        base = Node(
            name,
            "json",
            key,
            label,
            printable(shape.schema.get("description"), _LONGEST_HELP) if depth else "",
            required,
            shape.nullable,
            shape.kind,
        )
        self.left -= 1
        self.work -= 1
        if value is _POSTED and name in self.fresh and shape.kind != "array":
            value = {} if shape.kind == "object" else ABSENT
        if value is _POSTED and f"{name}.j" in self._posted:
            return replace(base, text=self._text(f"{name}.j"))
        default = shape.schema.get("default", ABSENT)
        if value is ABSENT:
            value = default
        if not required and value is not _POSTED and same(value, default) and _is_empty(default):
            value = ABSENT  # left out, the server takes the very same
        if shape.kind == "any" or self.left < 0 or self.work < 0 or depth > _DEEPEST:
            return self._json(base, value)
        node = self._drawn(shape, base, depth, value)
        if value is _POSTED or value is ABSENT or _holds(node, value):
            return node
        return self._json(base, value)

    @property
    def _posted(self) -> QueryDict:
        return self.posted if self.posted is not None else QueryDict()

    def _text(self, name: str) -> str:
        # As a form sends lines (WHATWG HTML, multipart and urlencoded alike).
        return str(self._posted.get(name, "")).replace("\r\n", "\n")

    def _json(self, base: Node, value: Any) -> Node:
        if value is _POSTED:
            return replace(base, kind="json", text=self._text(f"{base.name}.j"))
        text = "" if value is ABSENT else json.dumps(value, ensure_ascii=False, indent=2, default=str)
        return replace(base, kind="json", text=text)

    def _drawn(self, shape: Shape, base: Node, depth: int, value: Any) -> Node:
        if shape.kind == "object":
            return self._object(shape, base, depth, value)
        if shape.kind == "array":
            return self._list(shape, base, depth, value)
        if shape.kind == "variant":
            return self._variant(shape, base, depth, value)
        if shape.kind == "boolean":
            return self._boolean(shape, base, value)
        if shape.kind == "const" and base.required:
            return replace(base, kind="const", values=(shape.choices[0][0],))
        if shape.kind in ("choice", "const", "checks"):
            return self._choices(shape, base, value)
        return self._leaf(shape, base, value)

    def _object(self, shape: Shape, base: Node, depth: int, value: Any) -> Node:
        optional = depth > 0 and (not base.required or base.nullable) and base.key is not None
        if value is _POSTED:
            present = not optional or base.name in self._posted
        else:
            present = not optional or isinstance(value, dict)
        base = replace(base, kind="object", optional=optional, present=present)
        if not present:
            return base
        given = value if isinstance(value, dict) else {}
        listed = shape.schema.get("required")
        needed = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
        members = list(shape.schema["properties"].items())[:_MOST_MEMBERS]
        children = [
            self.node(
                schema,
                f"{base.name}.{place}",
                name,
                printable(name, LONGEST_LABEL) or _("(empty)"),
                name in needed,
                depth + 1,
                _POSTED if value is _POSTED else given.get(name, ABSENT),
            )
            for place, (name, schema) in enumerate(members)
        ]
        rest = self._rest(shape, base, dict(members), given, posted=value is _POSTED)
        return replace(base, children=(*children, *([rest] if rest is not None else [])))

    def _rest(
        self, shape: Shape, base: Node, drawn: Mapping[str, Any], given: Mapping[str, Any], *, posted: bool
    ) -> Node | None:
        """Return the field for members that have none of their own, where there may be some."""
        left = {name: given[name] for name in given if name not in drawn}
        name = f"{base.name}.m"
        extra = shape.schema.get("additionalProperties")
        open_ended = isinstance(extra, dict) or extra is True or isinstance(shape.schema.get("patternProperties"), dict)
        more = len(shape.schema["properties"]) > len(drawn)
        if not (open_ended or more or left or (posted and f"{name}.j" in self._posted)):
            return None
        node = Node(name, "json", None, _("More members"), _("A JSON object."), required=False, type="object")
        return self._json(node, _POSTED if posted else left or ABSENT)

    def _list(self, shape: Shape, base: Node, depth: int, value: Any) -> Node:
        if value is _POSTED:
            marks = [mark for mark in self._posted.getlist(base.name) if mark.isascii() and mark.isdecimal()]
            places = list(dict.fromkeys(mark[:6] for mark in marks))[:MOST_ITEMS]
        else:
            if not isinstance(value, list):
                value = []
            if len(value) > MOST_ITEMS:
                return self._json(base, value)
            places = [str(place) for place in range(len(value))]
        children = tuple(
            self.node(
                shape.schema["items"],
                f"{base.name}.{place}",
                number,
                base.label,
                True,
                depth + 1,
                _POSTED if value is _POSTED else value[number],
            )
            for number, place in enumerate(places)
        )
        return replace(
            base,
            kind="list",
            children=children,
            refills=bool(shape.schema.get("default")),
            full=len(places) >= MOST_ITEMS,
        )

    def _variant(self, shape: Shape, base: Node, depth: int, value: Any) -> Node:
        labels = [kind_word(variant, self.document) for variant in shape.variants]
        if value is _POSTED:
            chosen = self._text(f"{base.name}.v")
        elif value is ABSENT:
            chosen = "0" if base.required else ""
        else:
            chosen = self._fitting(shape, base, depth, value)
        place = int(chosen) if chosen.isascii() and chosen.isdecimal() and int(chosen[:4]) < len(labels) else None
        choices = tuple(Choice(str(number), label, number == place) for number, label in enumerate(labels))
        node = replace(base, kind="variant", choices=choices, values=tuple(range(len(labels))))
        if place is None:
            return node
        inner = shape.variants[place]
        within = f"{base.name}.{place}"
        if value is _POSTED and not any(name.startswith(within) for name in self._posted):
            value = ABSENT  # just chosen
        child = self.node(inner, within, None, base.label, True, depth + 1, value)
        return replace(node, children=(child,))

    def _fitting(self, shape: Shape, base: Node, depth: int, value: Any) -> str:
        """Return which variant a value is of: the first whose form gives it back without a field for JSON."""
        left = self.left
        for place, variant in enumerate(shape.variants):
            node = self.node(variant, f"{base.name}.{place}", None, base.label, True, depth + 1, value)
            self.left = left
            if not any(field.kind == "json" and field.type != "any" for field in fields_of(node)):
                return str(place)
        return ""

    def _boolean(self, shape: Shape, base: Node, value: Any) -> Node:
        default = shape.schema.get("default")
        if (base.required or isinstance(default, bool)) and not base.nullable:
            ticked = base.name in self._posted if value is _POSTED else value is True
            return replace(base, kind="check", text="true" if ticked else "")
        return self._choices(replace(shape, choices=((True, _("Yes")), (False, _("No")))), base, value)

    def _choices(self, shape: Shape, base: Node, value: Any) -> Node:
        values = tuple(choice for choice, _name in shape.choices)
        plain = all(isinstance(choice, str) and choice for choice in values)
        posts = [choice if plain else compact(choice) for choice in values]
        if value is _POSTED:
            given = [text for text in self._posted.getlist(base.name) if text]
        elif shape.kind == "checks":
            given = [item if plain and isinstance(item, str) else compact(item) for item in _listed(value)]
        else:
            given = [] if value is ABSENT else [value if plain and isinstance(value, str) else compact(value)]
        # What is not offered stays as it was posted; the check says that it does not fit.
        others = [text for text in dict.fromkeys(given) if text not in posts][:MOST_ITEMS] if value is _POSTED else []
        labels = [name for _choice, name in shape.choices]
        return replace(
            base,
            kind="checks" if shape.kind == "checks" else "select",
            text=given[0] if given else "",
            choices=tuple(
                Choice(post, name, post in given)
                for post, name in [*zip(posts, labels, strict=True), *((text, printable(text, 200)) for text in others)]
            ),
            values=(*values, *others),
            refills=shape.kind == "checks" and bool(shape.schema.get("default")),
        )

    def _leaf(self, shape: Shape, base: Node, value: Any) -> Node:
        schema = shape.schema
        numeric = shape.kind in ("integer", "number")
        input_type = "number" if numeric else _INPUTS.get(str(schema.get("format")), "text")
        text = self._text(base.name) if value is _POSTED else to_text(value, input_type)
        longest = _whole(schema.get("maxLength"))
        if input_type == "datetime-local" and text and from_text(text, shape.kind, input_type) == text:
            input_type = "text"  # with an offset of its own
        long = input_type == "text" and ("\n" in text or len(text) > 80 or (longest or 0) > _ONE_LINE)
        return replace(
            base,
            kind="area" if long else "text",
            text=text,
            input_type=input_type,
            minimum=_bound(schema, "minimum", "exclusiveMinimum", 1) if numeric else "",
            maximum=_bound(schema, "maximum", "exclusiveMaximum", -1) if numeric else "",
            step=_step(schema, shape.kind),
            shortest=str(_whole(schema.get("minLength")) or "") if not numeric else "",
            longest=str(longest or "") if not numeric else "",
            refills=bool(schema.get("default")) and not base.required,
        )


def is_drawable(schema: Any) -> bool:
    """Whether a form says more than a field for JSON would."""
    document = Document(schema)
    return takes_nothing(schema) or shape_of(document.root, document).kind == "object"


def takes_nothing(schema: Any) -> bool:
    """Whether a tool's input has no members that could be filled in."""
    whole = joined_parts(schema, Document(schema))
    said = {name for name, value in whole.items() if value not in ({}, [], False, None)}
    return said <= {"type", "title", "description", "$schema"} and whole.get("type", "object") == "object"


def _holds(node: Node, value: Any) -> bool:
    """Whether a field gives back the value it was made with; fields with others in them leave that to those."""
    if node.kind == "object" and isinstance(value, dict):
        return True
    if node.kind == "list" and isinstance(value, list) and value:
        return True
    if node.kind == "variant":
        return bool(node.children)
    return same(value_of(node), value)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10_000_000 else None


def _bound(schema: Mapping[str, Any], name: str, exclusive: str, next_one: int) -> str:
    """Return a limit as an input takes it; one that is itself excluded moves by one for whole numbers."""
    limit = schema.get(name)
    if isinstance(limit, int | float) and not isinstance(limit, bool):
        return to_text(limit, "number")
    limit = schema.get(exclusive)
    if schema.get("type") == "integer" and isinstance(limit, int) and not isinstance(limit, bool):
        return to_text(limit + next_one, "number")
    return ""


def _step(schema: Mapping[str, Any], kind: str) -> str:
    step = schema.get("multipleOf")
    # An input counts its steps from the minimum, JSON Schema from zero.
    if isinstance(step, int | float) and not isinstance(step, bool) and step > 0 and "minimum" not in schema:
        return to_text(step, "number")
    return "1" if kind == "integer" else "any"
