"""Tools as the pages show them; everything in here was said by a server and is untrusted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from django.utils.text import slugify
from django.utils.translation import gettext as _

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.sessions.results import ToolDescription
from mcp_oauth.views.schema_form import is_drawable

# A page stays readable; the whole schema is shown as JSON beside it.
_MAX_PARAMETERS = 100
_MAX_TEXT = 2000
_MAX_TYPE = 200


@dataclass(frozen=True)
class Badge:
    """A hint the server gives about a tool; it may warn, it never permits."""

    text: str
    tone: str
    explanation: str


@dataclass(frozen=True)
class Parameter:
    """One top-level property of a tool's input."""

    name: str
    type: str
    required: bool
    description: str
    default: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class ToolView:
    """One tool."""

    name: str
    title: str
    description: str
    badges: tuple[Badge, ...]
    parameters: tuple[Parameter, ...]
    raw_schema: str
    run_url: str
    has_form: bool
    anchor: str


@dataclass(frozen=True)
class ErrorView:
    """A typed error in words."""

    code: str
    message: str
    next_step: str
    document: str

    @classmethod
    def of(cls, error: McpOAuthError) -> ErrorView:
        """Return what a page may say of an error."""
        return cls(error.code, error.user_message, error.next_step, error.document)


def tool_view(tool: ToolDescription, run_url: str) -> ToolView:
    """Return a tool as the pages show it; a schema that is not what it should be shows as no parameters."""
    schema: dict[str, Any] = tool.input_schema if isinstance(tool.input_schema, dict) else {}
    properties = schema.get("properties")
    required = schema.get("required")
    names = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    parameters = tuple(
        _parameter(name, value if isinstance(value, dict) else {}, name in names)
        for name, value in list(properties.items() if isinstance(properties, dict) else ())[:_MAX_PARAMETERS]
    )
    return ToolView(
        name=tool.name,
        title=tool.title or "",
        description=(tool.description or "")[:_MAX_TEXT],
        badges=badges_of(tool),
        parameters=parameters,
        raw_schema=_pretty(schema)[:20_000],
        run_url=f"{run_url}?tool={quote(tool.name, safe='')}",
        has_form=is_drawable(schema),
        anchor=anchor_of(tool.name),
    )


def anchor_of(name: str) -> str:
    """Return where a tool is on its server's page."""
    slug = slugify(name)
    return f"tool-{slug}" if slug else "tool"


def _parameter(name: str, value: dict[str, Any], required: bool) -> Parameter:
    choices = value.get("enum")
    return Parameter(
        name=str(name)[:200],
        type=_type(value)[:_MAX_TYPE],
        required=required,
        description=str(value.get("description", ""))[:_MAX_TEXT],
        default=_compact(value["default"]) if "default" in value else "",
        choices=tuple(_compact(choice) for choice in choices[:50]) if isinstance(choices, list) else (),
    )


def _type(value: dict[str, Any]) -> str:
    kind = value.get("type")
    if isinstance(kind, list):
        return _either([str(item)[:40] for item in kind[:5]])
    if kind == "array" and isinstance(value.get("items"), dict):
        return _("list of %(type)s") % {"type": _type(value["items"])}
    if isinstance(kind, str):
        return kind[:40]
    if isinstance(value.get("anyOf"), list):
        return _either([_type(item) for item in value["anyOf"][:5] if isinstance(item, dict)])
    return "enum" if "enum" in value else _("any")


def _either(words: list[str]) -> str:
    """Return words of which one holds, such as ``text, number or nothing``."""
    if len(words) < 2:
        return "".join(words)
    return _("%(first)s or %(last)s") % {"first": ", ".join(words[:-1]), "last": words[-1]}


def badges_of(tool: ToolDescription) -> tuple[Badge, ...]:
    """Return what a server hints of a tool, with what each hint means."""
    annotations: dict[str, Any] = tool.annotations if isinstance(tool.annotations, dict) else {}
    badges = []
    # The warning first: a hint that soothes takes none away.
    if annotations.get("destructiveHint") is True:
        badges.append(Badge(_("destroys"), "bad", _("The server says that this tool can delete or overwrite.")))
    elif annotations.get("readOnlyHint") is True:
        badges.append(Badge(_("reads"), "idle", _("The server says that this tool changes nothing.")))
    elif annotations.get("readOnlyHint") is False:
        badges.append(Badge(_("writes"), "warn", _("The server says that this tool changes something.")))
    if annotations.get("openWorldHint") is True:
        badges.append(Badge(_("outside"), "idle", _("The server says that this tool reaches other systems.")))
    return tuple(badges)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _compact(value: Any) -> str:
    return value[:200] if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)[:200]
