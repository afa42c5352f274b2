"""The page of a tool: its form, without script, and what came of pressing each of its buttons."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from mcp_oauth import list_tools
from mcp_oauth.models import McpServer, McpServerOAuth, ToolCall
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, start
from tests.servers import AuthorizationServerOptions, OpenServer, Person, ProtectedServer
from tests.servers.conversing import Conversation
from tests.servers.showing import add_showing_tools

pytestmark = pytest.mark.django_db(transaction=True)

Serve = Callable[..., OpenServer]
TRIP: dict[str, str] = {"form": "1", "a.0": "To the sea", "a.1.v": "0", "a.1.0.1": "aisle", "a.5": "500"}


def page_of(server: McpServer, tool: str, more: str = "") -> str:
    return f"/workspaces/{server.workspace.slug}/mcp/{server.pk}/run/?tool={tool}{more}"


def text(response: Any) -> str:
    found: str = response.content.decode()
    return found


@pytest.fixture
def travel(open_mcp_server: Serve) -> tuple[Client, McpServer, OpenServer]:
    """Return a browser, and a server whose tools take and answer everything."""
    peer = open_mcp_server(tools=add_showing_tools)
    workspace = new_workspace()
    user = member(workspace, name="ada")
    server = new_server(workspace, peer.url)
    list_tools(server, user)
    return browser_of(user), server, peer


def test_a_form_is_filled_in_without_script_and_the_tool_gets_the_right_types(
    travel: tuple[Client, McpServer, OpenServer],
) -> None:
    browser, server, peer = travel
    page = page_of(server, "plan_journey")

    more = text(browser.post(page, {**TRIP, "add": "a.2"}))
    assert 'name="a.2.0.0"' in more
    assert 'value="To the sea"' in more
    answered = browser.post(page, {**TRIP, "a.2": "0", "a.2.0.0": "Grace", "a.2.0.1": "37", "a.6": ["sea", "city"]})

    assert answered.status_code == 200
    assert "To the sea by train with 1 guests" in text(answered)
    sent = next(request for request in reversed(peer.requests) if request.rpc_method == "tools/call")
    assert sent.json["params"]["arguments"] == {
        "title": "To the sea",
        "travel": {"kind": "train", "seat": "aisle"},
        "guests": [{"name": "Grace", "age": 37, "vegetarian": False}],
        "budget": 500,
        "tags": ["sea", "city"],
    }


def test_what_does_not_fit_is_named_beside_its_field_and_nothing_is_sent(
    travel: tuple[Client, McpServer, OpenServer],
) -> None:
    browser, server, peer = travel

    refused = browser.post(page_of(server, "plan_journey"), {**TRIP, "a.0": "x", "a.5": "much", "a.3": "tomorrow"})

    page = text(refused)
    assert refused.status_code == 400
    assert "Nothing was sent yet" in page
    assert '<a href="#id_a_0">Title</a> must have at least 3 characters' in page
    assert re.search(r'id="id_a_0" name="a\.0" value="x"[^>]* aria-invalid="true"', page)
    assert "Must be a number" in page
    assert "Must be a date like 2026-12-31" in page
    assert "tools/call" not in peer.rpc_methods


def test_fields_turn_into_json_and_back_with_everything_typed(travel: tuple[Client, McpServer, OpenServer]) -> None:
    browser, server, _peer = travel
    page = page_of(server, "plan_journey")

    as_json = browser.post(page, {**TRIP, "a.0": "x", "switch": "json"})
    typed = as_json.context["typed"].text
    assert json.loads(typed) == {"title": "x", "travel": {"kind": "train", "seat": "aisle"}, "budget": 500}
    back = text(browser.post(page, {"arguments": typed, "switch": "form"}))
    assert re.search(r'name="a\.0" value="x"', back)
    broken = text(browser.post(page, {"arguments": '{"title": <', "switch": "form"}))
    assert "is not valid JSON" in broken
    assert "{&quot;title&quot;: &lt;" in broken


def test_json_is_checked_as_well(travel: tuple[Client, McpServer, OpenServer]) -> None:
    browser, server, peer = travel

    refused = browser.post(page_of(server, "plan_journey"), {"arguments": '{"travel": {"kind": "flight"}}'})

    assert refused.status_code == 400
    assert '<a href="#arguments">title</a> is needed' in text(refused)
    assert '<a href="#arguments">travel.luggage</a> is needed' in text(refused)
    assert "tools/call" not in peer.rpc_methods


def test_a_question_is_answered_on_the_same_page_and_the_result_is_of_that_call(
    open_mcp_server: Serve, conversation: Conversation
) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server("modern", tools=conversation.register).url)
    user = member(workspace)
    list_tools(server, user)
    browser = browser_of(user)
    page = page_of(server, "book_table")

    asked = browser.post(page, {"form": "1", "a.0": "friday"})
    call = ToolCall.objects.get()
    assert "Who comes on friday?" in text(asked)
    assert f'name="continue" value="{call.pk}"' in text(asked)
    typed = {"form": "1", "a.0": "friday", "q0.0": "Grace", "q0.1": "bar", "q0.4": "g@example.com"}
    refused = text(browser.post(page, {**typed, "q0.2": "99", "continue": str(call.pk)}))
    assert "must be at most 12" in refused
    assert 'value="99"' in refused
    assert conversation.heard == []
    answered = browser.post(page, {**typed, "q0.2": "3", "continue": str(call.pk)})

    assert "A table for 3 on friday." in text(answered)
    assert 'value="friday"' in text(answered)
    assert ToolCall.objects.count() == 1


def test_a_waiting_call_is_declined_or_given_up_on_the_same_page(
    open_mcp_server: Serve, conversation: Conversation
) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server("modern", tools=conversation.register).url)
    user = member(workspace)
    list_tools(server, user)
    browser, page = browser_of(user), page_of(server, "book_table")

    browser.post(page, {"form": "1", "a.0": "friday"})
    browser.post(page, {"form": "1", "a.0": "friday", "decline": str(ToolCall.objects.get().pk)})
    assert [heard.action for heard in conversation.heard] == ["decline"]
    browser.post(page, {"form": "1", "a.0": "monday"})
    waiting = ToolCall.objects.get(state=ToolCall.State.INPUT_REQUIRED)
    given_up = browser.post(page, {"form": "1", "a.0": "monday", "give_up": str(waiting.pk)})
    assert "Answer and continue" not in text(given_up)
    told = '<div class="note ok" role="status" tabindex="-1" data-told><p>%s</p></div>'
    assert told % "The call was given up." in text(given_up)
    twice = browser.post(page, {"form": "1", "a.0": "monday", "give_up": str(waiting.pk)})
    assert told % "The call had already ended." in text(twice)
    assert ToolCall.objects.filter(outcome="cancelled").count() == 1
    # Another tool's page, and another person, know nothing of it.
    browser.post(page, {"form": "1", "a.0": "sunday"})
    other = str(ToolCall.objects.get(state=ToolCall.State.INPUT_REQUIRED).pk)
    assert browser.post(page_of(server, "echo"), {"arguments": "{}", "continue": other}).status_code == 404
    assert browser_of(member(workspace)).post(page, {"arguments": "{}", "continue": other}).status_code == 404


def test_without_script_the_way_back_from_authorizing_leads_to_the_same_call(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    browser = browser_of(user)
    connect(browser, server, person())
    list_tools(server, user)
    McpServerOAuth.objects.update(state="needs_reauthorization", reason="revoked")

    lacking = browser.post(page_of(server, "echo"), {"form": "1", "a.0": "still here"})
    call = ToolCall.objects.get()
    assert "Authorize and continue" in text(lacking)
    assert 'value="still here"' in text(lacking)
    arrived = text(come_back(browser, person().authorize(start(browser, server)["authorization_url"])))
    onward = f"/workspaces/{workspace.slug}/mcp/{server.pk}/waiting/{call.pk}/"
    assert f'href="{onward}"' in arrived
    assert "still here" in text(browser.post(onward))
    assert peer.rpc_methods.count("tools/call") == 1


def test_the_call_can_be_copied_and_what_was_copied_works(
    travel: tuple[Client, McpServer, OpenServer], capsys: pytest.CaptureFixture[str]
) -> None:
    browser, server, peer = travel
    awkward = """It's "quoted" $HOME `id` \\n {x}"""
    page = browser.post(page_of(server, "plan_journey"), {**TRIP, "a.0": awkward, "copy": "1"})
    code = {snippet.key: snippet.text for snippet in page.context["snippets"]}

    words = shlex.split(code["curl"].replace("\\\n", " "))
    assert words[:4] == ["curl", "--fail-with-body", "-X", "POST"]
    assert words[4] == f"http://testserver/api/v1/servers/{server.pk}/tools/plan_journey/call/"
    assert "Authorization: Bearer $TOKEN" in words
    assert json.loads(words[-1])["arguments"]["title"] == awkward

    python, manage, command, *options = shlex.split(code["command"])
    assert (python, manage) == ("python", "manage.py")
    call_command(command, "--json", *options)
    assert f"{awkward} by train" in json.loads(capsys.readouterr().out)["result"]["content"][0]["text"]

    found: dict[str, Any] = {}
    exec(  # noqa: S102  (the very text that a person copies)
        code["python"].replace("from mcp_oauth import call_tool", ""),
        {"call_tool": lambda *given: found.update(given=given) or "x", "user": "ada"},
    )
    assert found["given"][1:3] == ("ada", "plan_journey")
    assert found["given"][3]["title"] == awkward
    assert peer.rpc_methods.count("tools/call") == 1


def test_only_the_part_that_changes_is_sent_to_script(travel: tuple[Client, McpServer, OpenServer]) -> None:
    browser, server, _peer = travel

    part = browser.post(page_of(server, "plan_journey", "&part=run"), {**TRIP, "a.0": "x"})

    assert part.status_code == 200
    assert "Nothing was sent yet" in text(part)
    assert "<html" not in text(part)
