"""What a server says, put through the pages' own views and templates."""

from __future__ import annotations

import json
from functools import lru_cache
from html.parser import HTMLParser
from typing import Any

from django.template.loader import render_to_string

from mcp_oauth.sessions.results import ToolDescription, ToolResult
from mcp_oauth.views.content import result_view
from mcp_oauth.views.diagnosis import stage_views
from mcp_oauth.views.tools import tool_view

# A page stays one that a browser shows at once, whatever one tool says of itself.
LONGEST_TOOL = 500_000


# Where a link may lead, what a page may hold itself, and what Markdown becomes.
GO_TO = ("http://", "https://", "mailto:")
HELD = ("data:image/", "data:audio/", "data:text/plain;charset=utf-8;base64,")
MARKDOWN = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li"),
    *("a", "table", "thead", "tbody", "tr", "th", "td"),
}


class Structure(HTMLParser):
    """Collects what of a page is markup: elements with the names of their attributes, and addresses to load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[tuple[str, ...]] = set()
        self.addresses: set[str] = set()
        self.sources: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add((tag, *sorted(name for name, _ in attrs)))
        self.sources |= {value or "" for name, value in attrs if name == "src"}
        self.addresses |= {value or "" for name, value in attrs if name in {"src", "href", "srcset", "action", "style"}}


def shown_tool(tool: ToolDescription) -> str:
    """Return a tool as its server's page shows it."""
    view = tool_view(tool, "/run/")
    for text in (view.title, view.description, view.raw_schema, view.anchor):
        assert len(text) <= LONGEST_TOOL
    for parameter in view.parameters:
        said = (parameter.name, parameter.type, parameter.description, parameter.default, *parameter.choices)
        assert all(len(text) <= 2000 for text in said)
    html = render_to_string("mcp_oauth/_tool.html", {"tool": view, "card": {"can_run": True}})
    assert len(html) < 8 * LONGEST_TOOL
    html.encode()
    return html


def shown_result(result: ToolResult) -> str:
    """Return a result as the page of a run shows it."""
    view = result_view(result, 1)
    json.dumps([*(block.text for block in view.blocks), view.structured])
    context = {"result": view, "card": {"name": "Tracker", "tools_url": "/tools/"}, "tool_name": "look"}
    return str(render_to_string("mcp_oauth/run.html", context))


def shown_steps(steps: list[dict[str, Any]]) -> str:
    """Return stored evidence as the diagnosis shows it."""
    return "".join(render_to_string("mcp_oauth/_steps.html", {"steps": stage.steps}) for stage in stage_views(steps))


def assert_only_text_is_added(html: str) -> None:
    """Insist that a page has no element, attribute or address beyond those that the templates write."""
    found, ours = Structure(html), _ours()
    assert not {element[0] for element in found.elements} - ours[0] - MARKDOWN, found.elements
    assert not {name for element in found.elements for name in element[1:]} - ours[1], found.elements
    assert all(address.startswith(("/", "#", *GO_TO, *HELD)) for address in found.addresses), found.addresses
    assert all(address.startswith(("/", *HELD)) for address in found.sources), found.sources


@lru_cache
def _ours() -> tuple[set[str], set[str]]:
    """Return the elements and attributes of the same pages when nothing a server says looks like markup."""
    schema = {
        "properties": {"a": {"type": "string", "description": "d", "default": "x", "enum": ["x"]}},
        "required": ["a"],
    }
    hints = {"destructiveHint": True, "openWorldHint": True}
    blocks = (
        {"type": "text", "text": "x"},
        {"type": "text", "text": "# x\n[x](https://x.example) **x**"},
        {"type": "text", "text": '{"x": [1]}'},
        {"type": "image"},
        {"type": "image", "data": "AAAA", "mimeType": "image/png"},
        {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
        {"type": "resource_link", "uri": "https://x.example/x", "name": "x"},
        {"type": "resource", "resource": {"uri": "x:x", "text": "x"}},
    )
    result = ToolResult(blocks, {"a": [{"b": 1}] * 300}, False, "x")
    step = {"method": "GET", "url": "u", "what": "w", "status": 1, "note": "n", "milliseconds": 1, "verdict": "refused"}
    broken = {"field": "f", "rule": "r", "option": "o", "next_step": "n"}
    html = (
        shown_tool(ToolDescription("look", "Look", "Looks", schema, hints))
        + shown_tool(ToolDescription("look"))
        + shown_result(result)
        + shown_result(ToolResult((), None, True, "x"))
        + shown_result(ToolResult((), {"a": 1}, False, "x"))
        + shown_steps([{**step, **broken}, {**step, "verdict": "absent", "method": ""}, {}])
        + shown_steps([{**step, "method": "", "verdict": "refused", "rule": "r"}])
    )
    elements = Structure(html).elements
    return {element[0] for element in elements}, {name for element in elements for name in element[1:]}
