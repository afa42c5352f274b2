"""Any text pasted as an ``mcp.json``: it is read, or refused with one typed error, and what is read can be used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.exceptions import InvalidRequest
from mcp_oauth.oauth.urls import check_server_address
from mcp_oauth.services.headers import check_headers
from mcp_oauth.services.import_entries import McpJson
from mcp_oauth.services.mcp_json import parse_mcp_json
from mcp_oauth.services.mcp_json_export import FORMS, ExportedServer, Form, write_mcp_json
from tests.fuzz.mutations import JSON_VALUES, Reached, assert_bounded, mutated, thorough

pytestmark = pytest.mark.once

URL = "https://mcp.example.com/mcp"
VALID = [
    {"mcpServers": {"a": {"url": URL, "headers": {"Authorization": "Bearer ${KEY}"}}, "b": {"command": "uvx"}}},
    {
        "inputs": [{"id": "key", "type": "promptString", "password": True}, {"id": "r", "options": ["eu"]}],
        "servers": {"a": {"type": "http", "url": "https://${input:r}.example.com/", "headers": {"X": "${input:key}"}}},
    },
    {"mcp": {"servers": {"a": {"type": "sse", "url": URL}}}},
    {"a": {"command": "npx", "args": ["mcp-remote", URL, "--header", "X: ${env:K}"], "env": {"K": "v"}}},
]


def read(text: str) -> McpJson:
    return parse_mcp_json(text, max_bytes=64 * 1024, max_servers=20)


def assert_usable(found: McpJson) -> None:
    """Insist that everything said is text for a page and a database, and that what is importable can be added."""
    assert McpJson.from_json(json.loads(json.dumps(found.to_json()))) == found
    for placeholder in found.asked_for():
        assert placeholder.key.isprintable()
        assert placeholder.label.isprintable()
    for entry in found.entries:
        for text in (entry.name, entry.url, entry.problem, *entry.notes):
            text.encode()
            assert "\x00" not in text
            assert len(text) < 40_000
        assert entry.name
        assert len(entry.name) <= 121
        if entry.problem:
            continue
        answers = {key: "x" for key in found.placeholders}
        filled = entry.filled(answers, found.placeholders)
        check_headers(filled.headers)
        if not entry.placeholders:
            check_server_address(filled.url, allow_loopback=True)


@pytest.mark.requirement("T44")
def test_any_document_is_read_or_one_typed_error() -> None:
    reached = Reached()

    @thorough
    @given(mutated(*VALID))
    def check(document: Any) -> None:
        try:
            found = read(json.dumps(document))
        except InvalidRequest as error:
            assert_bounded(error)
            reached["refused"] += 1
            return
        assert_usable(found)
        importable = [entry for entry in found.entries if not entry.problem]
        reached["importable" if importable else "listed only"] += 1

    check()
    reached.insist_on("refused", "importable", "listed only")


@pytest.mark.requirement("T44")
@thorough
@given(
    st.text(st.characters(codec=None), max_size=200)
    | st.lists(st.sampled_from([*'{}[]",:\\/*$\n ', "servers", "url", "//", "${", '"a"'])).map("".join)
)
def test_any_text_is_read_or_one_typed_error(text: str) -> None:
    try:
        assert_usable(read(text))
    except InvalidRequest as error:
        assert_bounded(error)


@st.composite
def commented(draw: st.DrawFn) -> tuple[Any, str]:
    """Return a document, and it as JSON with comments and last commas strewn in where they may stand."""
    document = {"servers": {"a": {"url": URL, "x": draw(JSON_VALUES)}}}
    noise = st.sampled_from(["", " ", "\n", '// it\'s "so"\n', '/* "a": [1, */', "/**/"])
    lines = []
    for line in json.dumps(document, indent=1).split("\n"):
        comma = "," if line[-1:] not in {",", "{", "["} and draw(st.booleans()) else ""
        lines.append(draw(noise) + line + comma + " " + draw(noise))
    # Behind the last bracket no comma may stand.
    return document, "\n".join([*lines[:-1], lines[-1].replace(",", " ")])


@thorough
@given(commented())
def test_comments_and_last_commas_change_nothing(pair: tuple[Any, str]) -> None:
    document, text = pair

    assert read(text) == read(json.dumps(document))


@thorough
@given(
    st.lists(
        st.builds(
            ExportedServer,
            st.from_regex(r"[a-z0-9]+(-[a-z0-9]+)*", fullmatch=True).filter(lambda slug: len(slug) <= 80),
            st.from_regex(r"https://[a-z]{1,10}\.example/[a-z0-9/?=&-]{0,20}", fullmatch=True),
            st.lists(st.from_regex(r"X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True), max_size=3, unique=True).map(
                tuple
            ),
        ),
        min_size=1,
        max_size=10,
        unique_by=(lambda server: server.slug, lambda server: server.url),
    ),
    st.sampled_from(FORMS),
)
def test_what_is_exported_can_be_imported(servers: list[ExportedServer], form: Form) -> None:
    found = read(write_mcp_json(servers, form))

    assert [(entry.url, entry.problem) for entry in found.entries if not entry.url.rstrip("/").endswith("/sse")] == [
        (server.url, "") for server in servers if not server.url.rstrip("/").endswith("/sse")
    ]
    assert [set(entry.headers) for entry in found.entries] == [set(server.header_names) for server in servers]
