"""What is stored of a server, of any shape: it is read, shown as text and bounded, and it breaks no page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.forms import ServerForm
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.services.catalog import _tools
from mcp_oauth.services.server_options import options_of
from mcp_oauth.sessions.negotiation import known
from mcp_oauth.sessions.results import ToolDescription, ToolResult, storable
from mcp_oauth.sessions.target import Target
from mcp_oauth.views.tools import tool_view
from tests.fuzz.mutations import JSON_VALUES, Reached, assert_bounded, mutated, thorough
from tests.fuzz.pages import assert_only_text_is_added, shown_result, shown_steps, shown_tool
from tests.fuzz.test_sessions import DISCOVERED, RESULT, TOOL, assert_storable
from tests.protocol.conftest import MODERN

pytestmark = pytest.mark.once

STEP = {
    "method": "POST",
    "url": "https://mcp.example.com/mcp",
    "what": "issuer",
    "status": 200,
    "verdict": "refused",
    "note": "It says so.",
    "milliseconds": 12,
    "stage": "authorization_server",
    "code": "discovery_failed",
    "field": "issuer",
    "rule": "RFC 8414 §3.3",
    "option": "tolerate_issuer_mismatch",
    "next_step": "Ask.",
}
TEMPLATES = Path(django_settings.BASE_DIR) / "templates"


@pytest.mark.requirement("T37", "T44")
def test_any_stored_listing_is_shown_as_text_and_bounded() -> None:
    reached = Reached()
    stored = {**TOOL, "inputSchema": {**TOOL["inputSchema"], "type": "object"}}  # type: ignore[dict-item]

    @thorough
    @given(mutated([stored, {"name": "a"}, {**stored, "name": "b"}]) | JSON_VALUES)
    def check(column: Any) -> None:
        tools = _tools(storable(column))
        for tool in tools:
            assert ToolDescription.from_json(tool.to_json()) == tool
            assert_only_text_is_added(shown_tool(tool))
        reached[f"{min(len(tools), 2)} tools"] += 1

    check()
    reached.insist_on("0 tools", "2 tools")


@pytest.mark.requirement("T37")
def test_any_result_is_shown_as_text() -> None:
    reached = Reached()

    @thorough
    @given(mutated(RESULT))
    def check(result: Any) -> None:
        content = result.get("content") if isinstance(result, dict) else None
        blocks = (
            tuple(block for block in storable(content) if isinstance(block, dict)) if isinstance(content, list) else ()
        )
        structured = storable(result.get("structuredContent")) if isinstance(result, dict) else None
        said = ToolResult(blocks, structured, is_error=False, protocol_version=MODERN)
        assert_storable(said.to_json())
        assert isinstance(said.text, str)
        assert_only_text_is_added(shown_result(said))
        reached["with blocks" if blocks else "without"] += 1

    check()
    reached.insist_on("with blocks", "without")


@pytest.mark.requirement("T44")
def test_any_stored_columns_of_a_server_are_read_or_one_typed_error() -> None:
    reached = Reached()
    options = {"scopes": "read", "extra_parameters": {"a": "b"}, "tolerate_missing_s256": True}

    @thorough
    @given(mutated([STEP, {**STEP, "stage": "contact"}]) | JSON_VALUES, mutated(options), mutated(DISCOVERED))
    def check(steps: Any, stored: Any, discovered: Any) -> None:
        server = McpServer(name="Tracker", url="https://mcp.example.com/mcp")
        server.probe_steps, server.oauth_options, server.discover_result = steps, stored, discovered

        assert_only_text_is_added(shown_steps(storable(server.probe_evidence())))
        ServerForm(server=server)
        try:
            options = options_of(server)
        except McpOAuthError as error:
            assert_bounded(error)
            reached["options refused"] += 1
        else:
            assert isinstance(options, OAuthOptions)
            reached["options read"] += 1
        target = Target(server.url, protocol_version=MODERN, discover_result=server.discover_result)
        reached["pinned" if known(target) is not None else "negotiated anew"] += 1

    check()
    reached.insist_on("options refused", "options read", "pinned", "negotiated anew")


MARKUP = "\"'></p></pre></textarea><script>alert(1)</script><img src=https://evil.example/x onerror=alert(1)>"


@pytest.mark.requirement("T37")
def test_markup_in_every_text_of_a_server_is_text() -> None:
    property_of_it = {"type": MARKUP, "description": MARKUP, "default": MARKUP, "enum": [MARKUP], "title": MARKUP}
    schema = {"properties": {MARKUP: property_of_it}, "required": [MARKUP], "title": MARKUP}
    tool = ToolDescription(MARKUP, MARKUP, MARKUP, schema, {"title": MARKUP, "destructiveHint": True})
    blocks = [{"type": kind, "text": MARKUP, "uri": MARKUP, "mimeType": MARKUP} for kind in ("text", "image", MARKUP)]
    step = dict.fromkeys(STEP, MARKUP)

    for html in (
        shown_tool(tool),
        shown_result(ToolResult(tuple(blocks), {MARKUP: MARKUP}, is_error=True, protocol_version=MODERN)),
        shown_steps([step, {**step, "method": "", "verdict": "refused"}, {**step, "stage": "grants"}]),
    ):
        assert "evil.example" in html
        assert_only_text_is_added(html)


@pytest.mark.parametrize(
    "kind",
    [
        {"type": ["x" * 10_000] * 9},
        {"type": "x" * 10_000},
        {"anyOf": [{"anyOf": [{"type": "x" * 50}] * 9}] * 9},
        {"type": "array", "items": {"type": ["x" * 10_000] * 9}},
    ],
)
def test_a_type_of_any_length_is_shown_shortened(kind: dict[str, Any]) -> None:
    view = tool_view(ToolDescription("look", input_schema={"properties": {"x": kind}}), "/run/")

    assert 0 < len(view.parameters[0].type) <= 200


# Hints and icons.

TONES = {"idle": 0, "warn": 1, "bad": 2}
HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")


@pytest.mark.requirement("T37")
@given(st.dictionaries(st.sampled_from(HINTS), st.booleans() | JSON_VALUES), st.booleans())
def test_a_hint_opens_nothing_that_is_closed_without_it(hints: dict[str, Any], can_run: bool) -> None:
    from django.template.loader import render_to_string

    def forms(annotations: dict[str, Any]) -> list[str]:
        view = tool_view(ToolDescription("look", annotations=annotations), "/run/")
        html = render_to_string("mcp_oauth/_tool.html", {"tool": view, "card": {"can_run": can_run}})
        return re.findall(r"<form[^>]*>|<button[^>]*>|It acts with your access", html)

    assert forms(hints) == forms({})


@pytest.mark.requirement("T37")
def test_a_hint_that_it_only_reads_hides_no_warning_that_it_destroys() -> None:
    warned = tool_view(ToolDescription("look", annotations={"destructiveHint": True}), "/run/")
    soothed = tool_view(ToolDescription("look", annotations={"destructiveHint": True, "readOnlyHint": True}), "/run/")

    assert max(TONES[badge.tone] for badge in soothed.badges) >= max(TONES[badge.tone] for badge in warned.badges)


# Members of the pages' own values that are addresses, each made here and none a server's word.
OUR_ADDRESSES = {
    "action",
    "aside.url",
    "add_url",
    "language.url",
    "admin_url",
    "all_periods_url",
    "chart.url",
    "everything_url",
    "export_url",
    "new_workspace_url",
    "own_workspaces_url",
    "newest_url",
    "older_url",
    "row.url",
    "arrow.number",
    "block.source",  # data: of the formats in views/content.py
    "block.url",  # http or https, with its host beside it
    "problem.id",
    "tool.run_url",
    "tool.url",
    "group.card.tools_url",
    "authorization_url",
    "back_url",
    "card.delete_url",
    "card.diagnose_url",
    "card.disconnect_url",
    "card.edit_url",
    "card.refresh_url",
    "card.start_url",
    "card.tools_url",
    "field.id_for_label",
    "finding.provider.documentation",  # of providers.toml
    "firstof",
    "icon",
    "logout_url",
    "schema_url",
    "static",
    "step.url",
    "to.url",
    "form_key",  # names of the forms of an mcp.json
    "call.url",
    "card.waiting_url",
    "import_url",
    "item.leave_url",
    "item.page_url",
    "item.remove_url",
    "key",
    "members_url",
    "sign_in_url",
    "tool.anchor",
    "url",
    "waiting_url",
    "question.url",  # where a server wants its person to go: checked as an authorization server's address is
}


@pytest.mark.requirement("T37")
def test_no_template_loads_or_links_to_what_a_server_names() -> None:
    pages = sorted(TEMPLATES.rglob("*.html"))
    assert len(pages) > 20
    found = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        # What a tool returned may be a picture or a sound: in the page itself, and never fetched.
        holds = page.name == "_content.html"
        assert holds or "<img" not in text
        assert "|safe" not in text
        assert "autoescape off" not in text
        assert not re.search(r"style=|srcset=|<iframe|<object|<embed|<link[^>]*{{", text), page
        for attribute, value in re.findall(r'\b(src|href|formaction|poster|data)="((?:{[{%].*?[%}]}|[^"])*)"', text):
            names = re.findall(r"{[{%]\s*([\w.]+)", value)
            sources = {"static", "block.source"} if holds else {"static"}
            assert attribute in {"href", "formaction"} or set(names) <= sources, (page, value)
            found |= set(names) - {"if", "endif"}
    # The person goes to an authorization server's address; it is checked, and opened by a link and nothing else.
    assert found <= OUR_ADDRESSES


@pytest.mark.requirement("T34")
def test_output_schemas_are_evaluated_nowhere() -> None:
    """The one place that holds them hands them on as plain values; what is checked are arguments, by input schemas."""
    sources = Path(django_settings.BASE_DIR, "mcp_oauth").rglob("*.py")
    judges = [source.name for source in sources if re.search(r"import jsonschema|from jsonschema", source.read_text())]
    assert judges == ["schema_check.py"]
    tool = ToolDescription("look", output_schema={"pattern": "^(a+)+$"})
    assert json.loads(json.dumps(tool.to_json()))["outputSchema"] == {"pattern": "^(a+)+$"}
