"""What MCP servers tell us, as plain values that survive a round trip through JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import is_
from typing import Any, Literal

# What a server says of itself is kept with its row or its session, and read with every call. Instructions may be long;
# nobody's are longer than this.
LARGEST_SELF_DESCRIPTION = 256 * 1024

# Made once: `json.dumps` makes an encoder for each value.
written = json.JSONEncoder(ensure_ascii=False).encode
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ToolDescription:
    """One tool as its server describes it; every text in it is untrusted.

    ``input_schema`` and ``output_schema`` are JSON Schema objects, ``annotations`` the wire's hint object.
    """

    name: str
    title: str = ""
    description: str = ""
    input_schema: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)
    output_schema: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the tool in the wire's spelling (MCP `Tool`); ``from_json`` reads it back."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.input_schema,
            "annotations": self.annotations,
            "outputSchema": self.output_schema,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ToolDescription:
        """Read what ``to_json`` wrote; unknown keys are ignored, broken optional ones are emptied.

        Raises:
            ValueError: There is no name.
        """
        name = value.get("name")
        if not isinstance(name, str) or not name:
            raise ValueError("A stored tool has no name.")
        return cls(
            name=name,
            title=_text(value.get("title")),
            description=_text(value.get("description")),
            input_schema=_object(value.get("inputSchema")),
            annotations=_object(value.get("annotations")),
            output_schema=_object(value.get("outputSchema")) or None,
        )


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """What negotiating with a server taught us; store it and later calls need fewer requests.

    ``discover_result`` is the wire's answer to ``server/discover``, ``None`` for servers before 2026-07-28.
    """

    protocol_version: str
    discover_result: dict[str, Any] | None = None
    server_name: str = ""
    server_version: str = ""


@dataclass(frozen=True, slots=True)
class ToolListing:
    """A server's tools; ``truncated`` says that there are more than the limits let us read.

    ``set_aside`` names the entries that are not valid tools and were left out.
    """

    tools: tuple[ToolDescription, ...]
    truncated: bool
    protocol_version: str
    discover_result: dict[str, Any] | None = None
    server_name: str = ""
    server_version: str = ""
    set_aside: tuple[str, ...] = ()
    # How long the server lets the listing be used, and for whom (MCP 2026-07-28, caching); None where it does not say.
    ttl_ms: int | None = None
    cache_scope: Literal["private", "public"] = "private"


@dataclass(frozen=True, slots=True)
class EntryListing:
    """A server's prompts, resources or resource templates: valid entries in the wire's spelling, bounded.

    ``truncated``, ``set_aside``, ``ttl_ms`` and ``cache_scope`` mean what they mean for tools.
    """

    entries: tuple[dict[str, Any], ...]
    truncated: bool
    protocol_version: str
    discover_result: dict[str, Any] | None = None
    set_aside: tuple[str, ...] = ()
    ttl_ms: int | None = None
    cache_scope: Literal["private", "public"] = "private"


@dataclass(frozen=True, slots=True)
class Question:
    """One thing a server asks the person in the middle of a call (MCP elicitation); every text is untrusted.

    ``mode`` is ``form`` with a flat JSON Schema object in ``schema``, or ``url`` with an absolute ``url`` to visit.
    """

    key: str
    mode: Literal["form", "url"]
    message: str
    schema: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the question as the JSON API shows it; ``from_json`` reads it back."""
        body: dict[str, Any] = {"key": self.key, "mode": self.mode, "message": self.message}
        return body | ({"schema": self.schema} if self.mode == "form" else {"url": self.url})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Question:
        """Read what ``to_json`` wrote.

        Raises:
            KeyError: something is missing.
        """
        return cls(value["key"], value["mode"], value["message"], value.get("schema") or {}, value.get("url") or "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person says to a question: ``content`` fits the question's schema where a form is accepted."""

    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the answer in the wire's spelling (MCP `ElicitResult`); ``from_json`` reads it back."""
        return {"action": self.action} if self.content is None else {"action": self.action, "content": self.content}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Answer:
        """Read what ``to_json`` wrote.

        Raises:
            KeyError: something is missing.
        """
        return cls(value["action"], value.get("content"))


@dataclass(frozen=True, slots=True)
class InputWanted:
    """A call that did not end: the server wants answers first.

    ``request_state`` goes back to the server as it came; whoever holds it and the answers can go on, in any process.
    With ``held`` the exchange itself stays open in this process, under the call's name, and only here it can go on.
    """

    questions: tuple[Question, ...]
    request_state: str | None = field(default=None, repr=False)
    held: bool = False
    protocol_version: str = ""
    discover_result: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(slots=True)
class Progress:
    """What a running call last told about itself; written on the loop, read by whoever waits for the call.

    ``count`` grows with every report. ``changed`` names the listings that the server said have changed. ``underway`` is
    not empty while the call lives on at the server as a task: whoever goes on with it passes this as ``request_state``,
    so that the tool does not run twice; the same value passed in again does that by itself.
    """

    progress: float | None = None
    total: float | None = None
    message: str = ""
    count: int = 0
    changed: set[str] = field(default_factory=set)
    underway: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned; everything in it is untrusted and stays out of ``repr``.

    ``content`` holds the wire's content blocks, ``structured_content`` any JSON value or ``None``.
    """

    content: tuple[dict[str, Any], ...] = field(repr=False)
    structured_content: Any = field(repr=False)
    is_error: bool
    protocol_version: str
    discover_result: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def text(self) -> str:
        """Return the text blocks, one per line."""
        texts = (block.get("text") for block in self.content if block.get("type") == "text")
        return "\n".join(text for text in texts if isinstance(text, str))

    def to_json(self) -> dict[str, Any]:
        """Return the result in the wire's spelling (MCP `CallToolResult`); ``from_json`` reads it back."""
        body: dict[str, Any] = {"content": list(self.content), "isError": self.is_error}
        if self.structured_content is not None:
            body["structuredContent"] = self.structured_content
        return body

    @classmethod
    def from_json(cls, value: Mapping[str, Any], protocol_version: str = "") -> ToolResult:
        """Read what ``to_json`` wrote.

        Raises:
            KeyError: something is missing.
        """
        return cls(tuple(value["content"]), value.get("structuredContent"), value["isError"], protocol_version)


def storable(value: Any) -> Any:
    """Return a JSON value without what no database stores as JSON: NUL, half a surrogate pair, a number like 1e400.

    It is no deeper than a parser lets it be, which bounds the recursion. What needs no change is not copied.
    """
    # Writing all of it takes a small part of the time that looking at each of its values does.
    return value if is_storable(written(value)) else _made_storable(value)


def _made_storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        items = [_made_storable(item) for item in value]
        return value if all(map(is_, items, value)) else items
    if isinstance(value, dict):
        members = {_made_storable(key): _made_storable(item) for key, item in value.items()}
        same = all(map(is_, members, value)) and all(map(is_, members.values(), value.values()))
        return value if same and len(members) == len(value) else members
    return value


def is_storable(text: str) -> bool:
    """Whether `storable` changes nothing of a value that ``json.dumps(value, ensure_ascii=False)`` wrote as this text.

    Quicker than looking at everything in the value; a text that only speaks of such characters is not told apart.
    """
    if _UNSTORABLE.search(text) is not None:
        return False
    return "\\u0000" not in text and "NaN" not in text and "Infinity" not in text


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
