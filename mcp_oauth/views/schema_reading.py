"""What a JSON Schema asks for, as far as a form can draw it; a schema is a server's word: anything may be in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import unquote

from django.utils.translation import gettext as _

from mcp_oauth.oauth.server_words import printable

Plain = Literal["string", "number", "integer", "boolean"]
Kind = Literal[Plain, "object", "array", "choice", "checks", "const", "variant", "any"]

# What a person reads and chooses from.
MOST_CHOICES: Final = 200
MOST_VARIANTS: Final = 20
LONGEST_LABEL: Final = 200
# References that lead to references, and parts that are joined; real schemas need two or three.
_MOST_STEPS: Final = 20
# Members copied while one form is read: a hundred times what a large schema has.
_MOST_WORK: Final = 300_000

# What is said of all alternatives tells none of them apart.
_OF_ALL: Final = ("title", "description", "default")
_PLAIN: Final[dict[str, Plain]] = {
    "string": "string",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
}
_TYPES: Final = ("string", "number", "integer", "boolean", "object", "array")


class Document:
    """A whole schema, and how much of reading it is left to do: references may lead to references in circles."""

    def __init__(self, root: Any) -> None:
        self.root: dict[str, Any] = root if isinstance(root, dict) else {}
        self._left = _MOST_WORK

    def spend(self, schema: Any) -> bool:
        """Whether one more schema may be joined with another."""
        self._left -= 1 + (len(schema) if isinstance(schema, dict) else 0)
        return self._left > 0


@dataclass(frozen=True)
class Shape:
    """What a schema asks for: ``schema`` has its references followed and its parts joined.

    ``choices`` are values with their labels, ``variants`` schemas of which one is to be filled in.
    """

    kind: Kind
    schema: Mapping[str, Any]
    nullable: bool = False
    choices: tuple[tuple[Any, str], ...] = ()
    variants: tuple[dict[str, Any], ...] = ()


def shape_of(schema: Any, document: Document) -> Shape:
    """Return what a schema asks for; ``document`` is where its references point into."""
    whole = joined_parts(schema, document)
    nullable = False
    for name in ("anyOf", "oneOf"):
        listed = whole.get(name)
        if not isinstance(listed, list) or not listed:
            continue
        outer = {key: value for key, value in whole.items() if key != name}
        parts = [joined_parts(part, document) for part in listed[:MOST_CHOICES]]
        left = [part for part in parts if not _is_null(part)]
        nullable = nullable or len(left) < len(parts)
        if left and all("const" in part for part in left):
            choices = tuple((part["const"], _label(part.get("title"), part["const"])) for part in left)
            return Shape("choice", outer, nullable, choices)
        if len(left) == 1:
            inner = shape_of(_joined(left[0], outer), document)
            return Shape(inner.kind, inner.schema, nullable or inner.nullable, inner.choices, inner.variants)
        # Alternatives that only say which members are needed are for the check, not for the form.
        if left and not all(set(part) <= {"required", "title", "description"} for part in left):
            shared = {key: value for key, value in outer.items() if key not in _OF_ALL}
            variants = tuple(_joined(shared, part) for part in left[:MOST_VARIANTS])
            return Shape("variant", outer, nullable, variants=variants)
        whole = outer
    return _simple(whole, document, nullable)


def joined_parts(schema: Any, document: Document) -> dict[str, Any]:
    """Return a schema with its references into the same document followed and its ``allOf`` joined.

    What cannot be followed is a schema that says nothing.
    """
    for _step in range(_MOST_STEPS):
        if not isinstance(schema, dict) or not document.spend(schema):
            return {}
        reference, parts = schema.get("$ref"), schema.get("allOf")
        if isinstance(reference, str):
            schema = _joined(_target(reference, document), {key: schema[key] for key in schema if key != "$ref"})
        elif isinstance(parts, list):
            whole: dict[str, Any] = {}
            for part in parts[:_MOST_STEPS]:
                whole = _joined(whole, _followed(part, document))
            schema = _joined(whole, {key: schema[key] for key in schema if key != "allOf"})
        else:
            return schema
    return {}


def kind_word(schema: Mapping[str, Any], document: Document) -> str:
    """Return how a variant is called: by its title, by the value that marks it, or by its type."""
    if isinstance(schema.get("title"), str) and schema["title"].strip():
        return printable(schema["title"], LONGEST_LABEL)
    properties = schema.get("properties")
    for member in properties.values() if isinstance(properties, dict) else ():
        read = joined_parts(member, document)
        if isinstance(read.get("const"), str):
            return printable(read["const"], LONGEST_LABEL)
    words = {
        "string": _("Text"),
        "number": _("Number"),
        "integer": _("Whole number"),
        "boolean": _("Yes or no"),
        "object": _("Several fields"),
        "array": _("List"),
        "choice": _("One of several"),
        "const": _("A fixed value"),
    }
    return words.get(shape_of(schema, document).kind, _("Anything"))


def _simple(whole: dict[str, Any], document: Document, nullable: bool) -> Shape:
    """Return what a schema without alternatives asks for."""
    kind = whole.get("type")
    if isinstance(kind, list):
        names = [name for name in _TYPES if name in kind]
        nullable = nullable or "null" in kind
        if len(names) > 1 and not ("enum" in whole or "const" in whole):
            return Shape("variant", whole, nullable, variants=tuple(_of_type(whole, name) for name in names))
        kind = names[0] if names else None
        whole = {**whole, "type": kind}
    if "const" in whole:
        return Shape("const", whole, nullable, ((whole["const"], _label(None, whole["const"])),))
    if isinstance(whole.get("enum"), list) and whole["enum"]:
        values = whole["enum"][:MOST_CHOICES]
        named = whole.get("enumNames")
        labels = named if isinstance(named, list) else []
        pairs = tuple(
            (value, _label(labels[place] if place < len(labels) else None, value)) for place, value in enumerate(values)
        )
        return Shape("choice", whole, nullable or None in values, tuple(pair for pair in pairs if pair[0] is not None))
    if kind == "array" or (kind is None and "items" in whole):
        return _list_shape(whole, document, nullable)
    if kind == "object" or (kind is None and isinstance(whole.get("properties"), dict)):
        return Shape("object" if _has_members(whole) else "any", whole, nullable)
    plain: Kind = _PLAIN.get(kind, "any") if isinstance(kind, str) else "any"
    return Shape(plain, whole, nullable)


def _list_shape(whole: dict[str, Any], document: Document, nullable: bool) -> Shape:
    items = whole.get("items")
    if not isinstance(items, dict) or not items or "prefixItems" in whole:
        return Shape("any", whole, nullable)
    each = shape_of(items, document)
    few = each.kind == "choice" and len(each.choices) <= MOST_CHOICES and not each.nullable
    return Shape("checks" if few else "array", whole, nullable, each.choices if few else ())


def _has_members(whole: Mapping[str, Any]) -> bool:
    return isinstance(whole.get("properties"), dict) and bool(whole["properties"])


def _of_type(whole: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return one of several types as a schema of its own."""
    return {key: value for key, value in whole.items() if key not in _OF_ALL} | {"type": name}


def _is_null(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "null" or ("const" in schema and schema["const"] is None)


def _label(title: Any, value: Any) -> str:
    if isinstance(value, bool):
        plain = _("Yes") if value else _("No")
    else:
        plain = value if isinstance(value, str) else compact(value)
    return printable(title, LONGEST_LABEL) or printable(plain, LONGEST_LABEL) or _("(empty)")


def compact(value: Any) -> str:
    """Return a JSON value as short as it is written."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return two schemas as one; what both say is said by the second, but for members, which are those of both."""
    whole = {**first, **second}
    for name in ("properties", "$defs", "definitions"):
        if isinstance(first.get(name), dict) and isinstance(second.get(name), dict):
            whole[name] = {**first[name], **second[name]}
    if isinstance(first.get("required"), list) and isinstance(second.get("required"), list):
        whole["required"] = [*first["required"], *second["required"]]
    return whole


def _followed(schema: Any, document: Document) -> dict[str, Any]:
    for _step in range(_MOST_STEPS):
        if not isinstance(schema, dict) or not document.spend(schema):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = _joined(_target(reference, document), {key: schema[key] for key in schema if key != "$ref"})
    return {}


def _target(reference: str, document: Document) -> dict[str, Any]:
    """Return what a reference into the same document points at (RFC 6901); others are asked of nobody."""
    if not reference.startswith("#"):
        return {}
    found: Any = document.root
    for part in unquote(reference[1:]).split("/")[1:_MOST_STEPS]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(key)
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return {}
    return found if isinstance(found, dict) else {}
