"""What a tool returned, shown as what it is and never more than is safe."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from mcp_oauth.sessions.results import ToolResult
from mcp_oauth.views.content import MOST_BRANCHES, MOST_ROWS, Block, Branch, ResultView, result_view
from mcp_oauth.views.markdown import LONGEST, as_html, looks_like_markdown
from tests.servers.showing import MARKDOWN


def shown(*blocks: dict[str, Any], structured: Any = None) -> ResultView:
    return result_view(ToolResult(blocks, structured, False, ""), 1)


def only(*blocks: dict[str, Any]) -> Block:
    (block,) = shown(*blocks).blocks
    return block


def size(branch: Branch | None) -> int:
    return 0 if branch is None else 1 + sum(size(child) for child in branch.children)


@pytest.mark.requirement("T37")
def test_markdown_has_its_shape_and_nothing_that_acts_or_loads() -> None:
    html = as_html(MARKDOWN)

    assert "<h3>Trip to Lisbon</h3>" in html
    assert "<strong>three</strong>" in html
    assert "<td>Porto</td>" in html
    assert '<a href="https://travel.example/plan" target="_blank" rel="noopener noreferrer">the plan</a>' in html
    assert "</a> (travel.example)" in html
    assert "&lt;script&gt;" in html
    for never in ("<script", "<img", "style=", "onerror", "onload"):
        assert never not in html


@pytest.mark.requirement("T37")
@pytest.mark.parametrize(
    "text",
    [
        "[x](javascript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "<javascript:alert(1)>",
        "[x](vbscript:x)",
        "[x]: javascript:alert(1)\n\n[x]",
        "<a href='x' onclick='alert(1)'>x</a>",
        "```html\n<script>alert(1)</script>\n```",
        "![x](https://tracker.example/x.png)",
        "<svg/onload=alert(1)>",
        "&lt;script&gt;",
    ],
)
def test_no_markdown_makes_a_page_act(text: str) -> None:
    html = as_html(text)

    assert not re.search(r"<(?:script|svg|img|iframe|style|form|input)", html)
    assert not re.search(r"<[^>]*\son\w+=", html)
    assert all(
        address.startswith(("http://", "https://", "mailto:")) for address in re.findall(r'href="([^"]*)"', html)
    )


def test_plain_text_is_not_taken_for_markdown() -> None:
    for text in ("Hello", "a - b - c", "2 * 3 * 4", "- one line", "# " + "x" * LONGEST, "snake_case_name and *this"):
        assert not looks_like_markdown(text), text
    for text in (MARKDOWN, "- one\n- two", "```\nx\n```", "**a** and **b**", "[x](https://x.example)"):
        assert looks_like_markdown(text), text


@pytest.mark.parametrize(
    "sign", ["[", "![", "`", "*_", "> ", "- ", "<", "](", "|", "a**b", "\\", "&#", "~~", "[a](b", "1. "]
)
def test_no_markdown_keeps_a_page_waiting(sign: str) -> None:
    began = time.process_time()
    as_html((sign * LONGEST)[:LONGEST])
    assert time.process_time() - began < 2


def test_pictures_of_pixels_are_drawn_and_documents_are_not() -> None:
    drawn = only({"type": "image", "data": "iVBORw0KGgo=", "mimeType": "image/png"})
    assert (drawn.kind, drawn.source) == ("image", "data:image/png;base64,iVBORw0KGgo=")
    for data, mime_type in (
        ("PHN2Zz4=", "image/svg+xml"),
        ("AAAA", "text/html"),
        ("AAAA", None),
        ('"><script>', "image/png"),
        ("", "image/png"),
        (5, "image/png"),
        ("A" * 7_000_000, "image/png"),
    ):
        assert only({"type": "image", "data": data, "mimeType": mime_type}).kind == "other"
    assert only({"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}).source == "data:audio/wav;base64,AAAA"


def test_a_resource_is_a_link_with_its_host_or_a_file_to_save() -> None:
    link = only({"type": "resource_link", "uri": "https://x.example/a", "name": "a", "size": 7})
    assert (link.url, link.host, link.detail) == ("https://x.example/a", "x.example", "about 7 bytes")
    assert only({"type": "resource_link", "uri": "javascript:alert(1)", "name": "a"}).url == ""
    held = only({"type": "resource", "resource": {"uri": "notes://../../7", "mimeType": "text/html", "text": "<b>"}})
    assert (held.text, held.host) == ("<b>", "7.txt")
    assert held.source == "data:text/plain;charset=utf-8;base64,PGI+"


def test_lists_of_flat_objects_are_tables_and_the_rest_is_a_tree() -> None:
    view = shown(structured={"issues": [{"id": 1, "tags": ["a", "b"]}, {"id": 2, "open": True}], "total": 2})

    (table,) = view.tables
    assert (table.caption, table.columns) == ("issues", ("id", "tags", "open"))
    assert table.rows == (("1", "a, b", ""), ("2", "", "Yes"))
    assert view.tree is not None
    assert [child.label for child in view.tree.children] == ["issues", "total"]
    nested: Any
    for nested in ([{"a": {"b": 1}}], [1, 2], [], [{}], "x", {"a": [[1]]}):
        assert shown(structured=nested).tables == ()


def test_what_a_text_repeats_is_not_shown_twice() -> None:
    said = {"total": 42}
    repeated, other = shown(
        {"type": "text", "text": json.dumps(said)}, {"type": "text", "text": "[1]"}, structured=said
    ).blocks
    assert repeated.detail == "repeated"
    assert repeated.tree is None
    assert other.tree is not None


def test_everything_is_bounded() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = {"x": deep}
    view = shown(
        *({"type": "text", "text": "x" * 300_000} for _ in range(200)),
        structured={"rows": [{"n": n} for n in range(5000)], "deep": deep},
    )

    assert len(view.blocks) == 100
    assert all(block.cut and len(block.text) == 200_000 for block in view.blocks)
    assert len(view.tables[0].rows) == MOST_ROWS
    assert view.tables[0].left_out == 5000 - MOST_ROWS
    assert size(view.tree) <= MOST_BRANCHES + 1
