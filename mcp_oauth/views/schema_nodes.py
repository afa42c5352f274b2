"""A form as a tree of fields: what templates draw, and what of it is JSON.

Names of fields are places and not a server's words: ``a.0.2`` is the third member of the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from django.utils.translation import gettext as _

from mcp_oauth.views.schema_values import ABSENT, Unreadable, from_text, json_from

Drawn = Literal["text", "area", "check", "select", "checks", "list", "object", "variant", "json", "const"]


@dataclass(frozen=True)
class Choice:
    """One value of a field that has few; ``value`` is what is posted."""

    value: str
    label: str
    chosen: bool


@dataclass(frozen=True)
class Node:
    """One field of the form, or several under one heading; ``kind`` is what the template draws.

    ``key`` is the member or the place of the item this is. ``present`` is for what can be added and removed.
    """

    name: str
    kind: Drawn
    key: str | int | None = None
    label: str = ""
    help: str = ""
    required: bool = True
    nullable: bool = False
    type: str = "string"
    text: str = ""
    choices: tuple[Choice, ...] = ()
    values: tuple[Any, ...] = ()
    children: tuple[Node, ...] = ()
    present: bool = True
    optional: bool = False
    full: bool = False
    input_type: str = "text"
    minimum: str = ""
    maximum: str = ""
    step: str = "any"
    shortest: str = ""
    longest: str = ""
    # An empty field says "without it", unless the server would fill it again.
    refills: bool = False
    problem: str = ""

    @property
    def id(self) -> str:
        """The field's id in the page."""
        return f"id_{self.name.replace('.', '_')}"

    @property
    def mark(self) -> str:
        """What tells an item from its neighbours."""
        return self.name.rpartition(".")[2]


def value_of(node: Node, problems: dict[str, str] | None = None) -> Any:
    """Return what a form says as JSON, or `ABSENT` for nothing; ``problems`` gets what is not JSON, by field."""
    if node.kind == "object":
        return _object_of(node, problems)
    if node.kind == "list":
        items = [value_of(child, problems) for child in node.children]
        kept = [item for item in items if item is not ABSENT]
        return kept if kept or node.required or node.refills else ABSENT
    if node.kind == "variant":
        return value_of(node.children[0], problems) if node.children else ABSENT
    if node.kind == "const":
        return node.values[0] if node.required else ABSENT
    if node.kind == "check":
        return node.text == "true"
    if node.kind in ("select", "checks"):
        chosen = [value for choice, value in zip(node.choices, node.values, strict=True) if choice.chosen]
        if node.kind == "checks":
            return chosen if chosen or node.required or node.refills else ABSENT
        return chosen[0] if chosen else _nothing(node)
    if node.kind == "json":
        try:
            found = json_from(node.text)
        except Unreadable as error:
            if problems is not None:
                problems[node.name] = str(error)
            return ABSENT
        return found
    if node.text == "":
        return "" if node.refills and node.type == "string" else _nothing(node)
    return from_text(node.text, node.type, node.input_type)


def node_at(node: Node, path: tuple[str | int, ...]) -> Node:
    """Return the field for a place in the value: the innermost that there is."""
    while node.kind == "variant" and node.children:
        node = node.children[0]
    if not path:
        return node
    for child in node.children:
        if child.key == path[0]:
            return node_at(child, path[1:])
    return next((child for child in node.children if child.key is None), node)


def with_problems(node: Node, problems: Mapping[str, str]) -> Node:
    """Return the form with each problem beside its field."""
    children = tuple(with_problems(child, problems) for child in node.children)
    return replace(node, children=children, problem=problems.get(node.name, ""))


def fields_of(node: Node) -> list[Node]:
    """Return a form's fields one after the other, as they are drawn."""
    return [node, *(found for child in node.children for found in fields_of(child))]


def _object_of(node: Node, problems: dict[str, str] | None) -> Any:
    if not node.present:
        return None if node.nullable and node.required else ABSENT
    members: dict[str, Any] = {}
    for child in node.children:
        found = value_of(child, problems)
        if child.key is not None and found is not ABSENT:
            members[str(child.key)] = found
        elif child.key is None and isinstance(found, dict):
            members.update(found)
        elif child.key is None and found is not ABSENT and problems is not None:
            problems[child.name] = _("must be a JSON object")
    return members


def _nothing(node: Node) -> Any:
    return None if node.nullable and node.required else ABSENT


def root_fields(node: Node) -> tuple[Node, ...]:
    """Return the fields of a form without the heading around all of them."""
    return node.children if node.kind == "object" else (node,)
