"""Resources, prompts and whole workspaces over the JSON API, from real servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from tests.people import new_server
from tests.servers import OddServer, OpenServer
from tests.servers.conversing import Conversation
from tests.web.desk import Desk, refusal
from tests.web.test_api import Schema, schema
from tests.web.test_server_pages import stored_server

__all__ = ["schema"]

pytestmark = pytest.mark.django_db(transaction=True)

Serve = Callable[..., OpenServer]


@pytest.fixture
def desk(open_mcp_server: Serve, conversation: Conversation) -> Desk:
    return Desk(open_mcp_server(tools=conversation.register))


def test_resources_and_their_templates_are_listed_and_read(desk: Desk, schema: Schema) -> None:
    base = f"/api/v1/servers/{desk.server.pk}"

    listed = desk.program.get(f"{base}/resources/")
    templates = desk.program.get(f"{base}/resource-templates/")
    read = desk.program.get(f"{base}/resources/read/", {"uri": "notes://monday"})

    assert {entry["uri"] for entry in listed.json()["resources"]} == {"notes://today", "picture://pixel"}
    assert [entry["uriTemplate"] for entry in templates.json()["resource_templates"]] == ["notes://{day}"]
    (content,) = read.json()["result"]["contents"]
    assert (content["uri"], content["mimeType"]) == ("notes://monday", "text/plain")
    assert content["text"].startswith("Notes of monday")
    assert [schema.complaints(answer) for answer in (listed, templates, read)] == [[]] * 3


def test_a_recent_listing_serves_unless_the_server_is_to_be_asked(desk: Desk, conversation: Conversation) -> None:
    conversation.caching["prompts/list"] = (60_000, "private")
    path = f"/api/v1/servers/{desk.server.pk}/prompts/"

    for query in ("", "", "?refresh=1"):
        assert [entry["name"] for entry in desk.program.get(path + query).json()["prompts"]] == ["greeting", "review"]

    assert desk.peer.rpc_methods.count("prompts/list") == 2


def test_prompts_are_filled_in_and_completed(desk: Desk, schema: Schema) -> None:
    base = f"/api/v1/servers/{desk.server.pk}"

    listed = desk.program.get(f"{base}/prompts/")
    filled = desk.post(f"{base}/prompts/review/", {"arguments": {"language": "python", "style": "strict"}})
    completed = desk.post(
        f"{base}/complete/",
        {
            "ref": {"type": "ref/prompt", "name": "review"},
            "argument": {"name": "style", "value": "kind"},
            "context": {"language": "greek"},
        },
    )
    template = desk.post(
        f"{base}/complete/",
        {"ref": {"type": "ref/resource", "uri": "notes://{day}"}, "argument": {"name": "day", "value": "s"}},
    )

    assert filled.json()["result"]["messages"][0]["content"]["text"] == "Review this python, be strict."
    assert completed.json()["result"]["completion"]["values"] == ["kind greek"]
    assert template.json()["result"]["completion"]["values"] == ["saturday", "sunday"]
    assert [schema.complaints(answer) for answer in (listed, filled, completed, template)] == [[]] * 4


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("resources/read/", None, "uri"),
        ("prompts/review/", {"arguments": {"language": 1}}, "arguments.language"),
        ("prompts/review/", {"arguments": []}, "arguments"),
        ("prompts/review/", {"text": "x"}, "text"),
        ("complete/", {}, "ref"),
        ("complete/", {"ref": {"type": "ref/tool"}, "argument": {"name": "a", "value": ""}}, "ref.type"),
        ("complete/", {"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "a"}}, "argument.value"),
    ],
)
def test_a_bad_request_is_refused_before_the_server_is_asked(path: str, body: Any, field: str, desk: Desk) -> None:
    asked = len(desk.peer.requests)
    address = f"/api/v1/servers/{desk.server.pk}/{path}"

    answer = desk.program.get(address) if body is None else desk.post(address, body)

    assert refusal(answer) == (400, "invalid_request", field)
    assert len(desk.peer.requests) == asked


def test_a_workspace_is_listed_together_and_a_server_that_is_none_costs_only_its_own_tools(
    desk: Desk, odd_server: Callable[..., OddServer], schema: Schema, settings: Settings
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "LIST_TOGETHER_SECONDS": 1.0}
    stored_server(desk.workspace, "A page", url=odd_server("html").url)
    stored_server(desk.workspace, "Of nobody yet", auth_mode="oauth")
    stored_server(desk.workspace, "Switched off", enabled=False)

    answer = desk.program.get(f"/api/v1/workspaces/{desk.workspace.slug}/tools/")

    page, nobody, tracker = answer.json()["servers"]
    assert [page["name"], nobody["name"], tracker["name"]] == ["A page", "Of nobody yet", "Tracker"]
    assert (page["tools"], page["error"]["code"]) == (None, "server_refused")
    assert (nobody["tools"], nobody["error"]["code"], nobody["error"]["reason"]) == (
        None,
        "reauth_required",
        "not_connected",
    )
    assert {"echo", "slow"} <= {tool["name"] for tool in tracker["tools"]}
    assert (tracker["error"], tracker["truncated"]) == (None, False)
    assert schema.complaints(answer) == []
    assert json.loads(answer.content) == answer.json()


def test_the_servers_of_a_workspace_are_asked_each_once(
    desk: Desk, conversation: Conversation, open_mcp_server: Serve
) -> None:
    conversation.caching["tools/list"] = (60_000, "private")
    other = open_mcp_server(tools=conversation.register)
    new_server(desk.workspace, other.url, "Other")
    asked = [peer.rpc_methods.count("tools/list") for peer in (desk.peer, other)]
    path = f"/api/v1/workspaces/{desk.workspace.slug}/tools/"

    for _ in range(2):
        assert [len(row["tools"]) > 0 for row in desk.program.get(path).json()["servers"]] == [True, True]

    now = [peer.rpc_methods.count("tools/list") for peer in (desk.peer, other)]
    assert [after - before for before, after in zip(asked, now, strict=True)] == [1, 1]
