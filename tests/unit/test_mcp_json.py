"""``mcp.json`` in the forms people have it: what is read, what is refused with which reason, and what is written."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest

from mcp_oauth.exceptions import InvalidRequest
from mcp_oauth.services.import_entries import ImportEntry, McpJson
from mcp_oauth.services.mcp_json import parse_mcp_json
from mcp_oauth.services.mcp_json_export import FORMS, ExportedServer, Form, write_mcp_json

SECRET = "canary-7d10"


def read(document: Any) -> McpJson:
    text = document if isinstance(document, str) else json.dumps(document)
    return parse_mcp_json(text, max_bytes=64 * 1024, max_servers=20)


def only(value: Any) -> ImportEntry:
    [entry] = read({"mcpServers": {"tracker": value}}).entries
    return entry


CLAUDE = """
{
  "mcpServers": {
    "linear": {"type": "http", "url": "https://mcp.linear.app/mcp"},
    "board": {"url": "https://board.example.com/mcp", "headers": {"X-Api-Key": "${BOARD_KEY:-none}"}},
    "files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/tmp"]},
    "old": {"type": "sse", "url": "https://old.example.com/sse"}
  }
}
"""
VS_CODE = """
// servers of the team
{
  "inputs": [
    {"id": "board-key", "type": "promptString", "description": "Key of the board", "password": true},
    {"id": "region", "type": "pickString", "description": "Region", "options": ["eu", "us"], "default": "eu"},
  ],
  "servers": {
    "board": {
      "type": "http", /* streamable */
      "url": "https://${input:region}.example.com/mcp", // its address
      "headers": {"Authorization": "Bearer ${input:board-key}"},
    },
  },
}
"""
CURSOR = """{"mcpServers": {"board": {"url": "https://board.example.com/mcp", "headers": {"X-Key": "${env:KEY}"}}}}"""


def test_claudes_form_is_read_with_a_reason_for_each_that_stays_behind() -> None:
    found = read(CLAUDE)

    assert [(entry.name, bool(entry.problem)) for entry in found.entries] == [
        ("Linear", False),
        ("board", False),
        ("files", True),
        ("old", True),
    ]
    assert found.entries[1].headers == {"X-Api-Key": "${BOARD_KEY:-none}"}
    assert found.placeholders["BOARD_KEY"].default == "none"
    assert "starts a program on one's own computer" in found.entries[2].problem
    assert "older SSE transport" in found.entries[3].problem


def test_vs_codes_form_is_read_with_its_comments_last_commas_and_inputs() -> None:
    found = read(VS_CODE)

    [board] = found.entries
    assert (board.problem, board.placeholders) == ("", ("input:region", "input:board-key"))
    key, region = found.placeholders["input:board-key"], found.placeholders["input:region"]
    assert (key.label, key.secret, key.choices) == ("Key of the board", True, ())
    assert (region.secret, region.choices, region.default) == (False, ("eu", "us"), "eu")
    filled = board.filled({"input:board-key": SECRET}, found.placeholders)
    assert filled.url == "https://eu.example.com/mcp"
    assert filled.headers == {"Authorization": f"Bearer {SECRET}"}


def test_cursors_form_is_read() -> None:
    found = read(CURSOR)

    assert found.entries[0].placeholders == ("env:KEY",)
    assert found.placeholders["env:KEY"].label == "KEY"
    with pytest.raises(InvalidRequest, match="“KEY” is still missing"):
        found.entries[0].filled({}, found.placeholders)


@pytest.mark.parametrize(
    "document",
    [
        {"mcp": {"servers": {"tracker": {"url": "https://tracker.example.com/mcp"}}}},
        {"tracker": {"url": "https://tracker.example.com/mcp"}},
        {"url": "https://tracker.example.com/mcp"},
        {"mcpServers": {"tracker": {"serverUrl": "https://tracker.example.com/mcp"}}},
        {"mcpServers": {"tracker": {"httpUrl": "https://tracker.example.com/mcp"}}},
        {"mcpServers": {"tracker": {"type": "streamable-http", "url": " https://tracker.example.com/mcp "}}},
        {"mcpServers": {"tracker": {"transport": "streamableHttp", "url": "https://tracker.example.com/mcp"}}},
    ],
)
def test_parts_and_dialects_are_understood(document: Any) -> None:
    [entry] = read(document).entries

    assert (entry.url, entry.problem) == ("https://tracker.example.com/mcp", "")


def test_comments_in_strings_are_text() -> None:
    entry = only({"url": "https://tracker.example.com/mcp//a/*b*/", "headers": {"X-A": 'say "//", ]'}})

    assert entry.url == "https://tracker.example.com/mcp//a/*b*/"
    assert entry.headers == {"X-A": 'say "//", ]'}


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert read("\ufeff" + CURSOR).entries


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (7, "not an object"),
        ({}, "no address"),
        ({"url": ""}, "no address"),
        ({"url": 7}, "no address"),
        ({"url": "mcp.example.com"}, "does not start with http"),
        ({"url": "ftp://mcp.example.com/mcp"}, "http"),
        ({"url": "https://a:b@mcp.example.com/mcp"}, "user name or password"),
        ({"url": "https://mcp.example.com/\x00"}, "address"),
        ({"url": "https://mcp.example.com/${a}\ud800"}, "characters that no address has"),
        ({"type": 7, "url": "https://mcp.example.com/mcp"}, "type is not text"),
        ({"type": "ws", "url": "https://mcp.example.com/mcp"}, "type is “ws”; only http"),
        ({"type": "sse", "url": "https://mcp.example.com/mcp"}, "older SSE transport"),
        ({"url": "https://mcp.example.com/sse/?a=b"}, "older SSE transport"),
        ({"type": "stdio", "command": "uvx", "args": ["x"]}, "starts a program"),
        ({"command": "npx", "args": ["mcp-remote"]}, "starts a program"),
        ({"command": "npx", "args": "mcp-remote https://mcp.example.com/mcp"}, "starts a program"),
        ({"url": "https://mcp.example.com/mcp", "headers": ["X: y"]}, "not an object of texts"),
        ({"url": "https://mcp.example.com/mcp", "headers": {"X": 7}}, "not an object of texts"),
        ({"url": "https://mcp.example.com/mcp", "headers": {"X Y": SECRET}}, "not the name of a header"),
        ({"url": "https://mcp.example.com/mcp", "headers": {"X": SECRET + "ü"}}, "printable ASCII"),
        ({"url": "https://mcp.example.com/mcp", "headers": {f"X-{n}": "1" for n in range(21)}}, "At most 20 headers"),
        ({"url": "https://mcp.example.com/mcp", "headers": {"X": "${}"}}, None),
        ({"url": "https://mcp.example.com/mcp", "headers": {"X": "${ }"}}, "placeholder in it has no name"),
        ({"url": "https://mcp.example.com/" + "".join(f"${{a{n}}}" for n in range(21))}, "more than 20 things open"),
    ],
)
def test_what_cannot_be_imported_is_listed_with_the_reason(value: Any, problem: str | None) -> None:
    entry = only(value)

    if problem is None:
        assert entry.problem == ""
    else:
        assert problem in entry.problem
        assert SECRET not in entry.problem


def test_an_old_address_of_a_known_server_is_told_the_new_one() -> None:
    assert "Linear is at https://mcp.linear.app/mcp now." in only({"url": "https://mcp.linear.app/sse"}).problem


def test_what_the_remote_proxy_is_told_is_read() -> None:
    entry = only(
        {
            "command": "npx",
            "args": [
                "-y",
                "mcp-remote@latest",
                "https://b.example.com/mcp",
                "--header",
                "Authorization: Bearer ${KEY}",
            ],
            "env": {"KEY": SECRET},
        }
    )

    assert (entry.url, entry.problem) == ("https://b.example.com/mcp", "")
    assert entry.headers == {"Authorization": f"Bearer {SECRET}"}
    assert entry.key_in_headers
    assert "mcp-remote" in entry.notes[0]


def test_headers_that_the_application_sets_itself_are_left_out_and_named() -> None:
    entry = only(
        {"url": "https://b.example.com/mcp", "headers": {"Content-Type": "application/json", "X-Team": "a", "X-E": " "}}
    )

    assert entry.headers == {"X-Team": "a"}
    assert ["Content-Type" in entry.notes[0], "X-E" in entry.notes[1]] == [True, True]
    assert not entry.key_in_headers


def test_a_disabled_server_is_imported_disabled() -> None:
    assert only({"url": "https://b.example.com/mcp", "disabled": True}).enabled is False
    assert only({"url": "https://b.example.com/mcp", "enabled": False}).enabled is False
    assert only({"url": "https://b.example.com/mcp"}).enabled is True


def test_an_address_that_stands_there_twice_is_imported_once() -> None:
    found = read({"servers": {"a": {"url": "https://b.example.com/mcp"}, "b": {"url": "https://b.example.com/mcp"}}})

    assert [entry.problem for entry in found.entries] == ["", "It has the same address as “a”."]


def test_a_name_that_stands_there_twice_is_told() -> None:
    [entry] = read(
        '{"servers": {"a": {"url": "https://b.example.com/1"}, "a": {"url": "https://b.example.com/2"}}}'
    ).entries

    assert entry.url == "https://b.example.com/2"
    assert "more than once" in entry.notes[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Paste the contents"),
        ("  \n", "Paste the contents"),
        ("{", "breaks at line 1, column 2"),
        ('{\n  "servers": {\n    // here\n    oops\n  }\n}', "breaks at line 4, column 5"),
        ('{"servers": {"a": "unfinished', "breaks at line 1"),
        ("[" * 20_000, "nested too deeply"),
        ('{"servers": ' + "9" * 5000 + "}", "a number in it is too long"),
        ("[]", "There are no servers in it"),
        ("7", "There are no servers in it"),
        ('{"servers": {}}', "There are no servers in it"),
        ('{"servers": []}', "There are no servers in it"),
        ('{"other": 1}', "There are no servers in it"),
        ('{"mcp": {"servers": 7}}', "There are no servers in it"),
        ('{"servers": {"a": {}}}' + " " * 70_000, "more than 64 KiB"),
        (json.dumps({"servers": {f"s{n}": {} for n in range(21)}}), "21 servers; import at most 20"),
    ],
)
def test_text_that_is_no_such_file_is_refused_with_the_place(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        '"' + '\\"' * 30_000,
        "/*" * 30_000,
        "//" * 30_000,
        ", " * 30_000,
        "{" + '"a":1,' * 10_000 + '"a":1}',
        '{"servers": {"a": {"url": "https://b.example.com/mcp", "headers": {"X": "' + "${" * 25_000 + '"}}}}',
    ],
)
def test_no_text_takes_long(text: str) -> None:
    started = time.perf_counter()
    with contextlib.suppress(InvalidRequest):
        read(text)

    assert time.perf_counter() - started < 2.0


def test_what_was_read_survives_being_put_aside() -> None:
    found = read(VS_CODE)

    assert McpJson.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_no_header_is_in_a_representation() -> None:
    entry = only({"url": "https://b.example.com/mcp", "headers": {"Authorization": SECRET}})

    assert SECRET not in repr(entry)
    assert SECRET not in repr(McpJson((entry,)))


EXPORTED = [
    ExportedServer("linear", "https://mcp.linear.app/mcp"),
    ExportedServer("team-board", "https://board.example.com/mcp", ("Authorization", "X-Api-Key")),
]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_can_be_read_again(form: Form) -> None:
    found = read(write_mcp_json(EXPORTED, form))

    assert [(entry.url, entry.problem) for entry in found.entries] == [(server.url, "") for server in EXPORTED]
    assert set(found.entries[1].headers) == {"Authorization", "X-Api-Key"}
    assert len(found.asked_for()) == 2
    assert all(placeholder.secret for placeholder in found.asked_for())


def test_each_form_is_written_as_its_program_reads_it() -> None:
    claude, vscode, cursor = (json.loads(write_mcp_json(EXPORTED, form)) for form in FORMS)

    assert claude == {
        "mcpServers": {
            "linear": {"type": "http", "url": "https://mcp.linear.app/mcp"},
            "team-board": {
                "type": "http",
                "url": "https://board.example.com/mcp",
                "headers": {"Authorization": "${TEAM_BOARD_AUTHORIZATION}", "X-Api-Key": "${TEAM_BOARD_X_API_KEY}"},
            },
        }
    }
    assert vscode["servers"]["team-board"]["headers"]["X-Api-Key"] == "${input:team-board-x-api-key}"
    assert {(item["id"], item["password"]) for item in vscode["inputs"]} == {
        ("team-board-authorization", True),
        ("team-board-x-api-key", True),
    }
    assert cursor["mcpServers"]["linear"] == {"url": "https://mcp.linear.app/mcp"}
    assert cursor["mcpServers"]["team-board"]["headers"]["X-Api-Key"] == "${env:TEAM_BOARD_X_API_KEY}"


@pytest.mark.parametrize("form", FORMS)
def test_two_secrets_never_share_a_placeholder(form: Form) -> None:
    servers = [ExportedServer("a-b", "https://a.example/", ("c",)), ExportedServer("a", "https://b.example/", ("b-c",))]

    assert len(read(write_mcp_json(servers, form)).asked_for()) == 2
