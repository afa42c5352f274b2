"""Answers as server-sent events: progress, signs of life, one last event; and a reader who leaves ends the call."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from django.test import AsyncClient, Client
from django.utils.translation import get_language, override
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from mcp_oauth.api import streams
from mcp_oauth.exceptions import InvalidRequest
from mcp_oauth.models import ToolCall
from mcp_oauth.services import calls
from project.security import CONTENT_SECURITY_POLICY
from tests.people import browser_of
from tests.servers import OpenServer
from tests.servers.conversing import Conversation
from tests.web.desk import Desk
from tests.web.test_api_calls import BOOKING

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = "text/event-stream"
Serve = Callable[..., OpenServer]


@dataclass(frozen=True)
class Event:
    """One event, or a comment where it has no name."""

    name: str
    data: Any


def events_in(chunks: Iterator[bytes]) -> Iterator[Event]:
    """Read events as a browser does; a chunk holds whole ones."""
    for chunk in chunks:
        for text in chunk.decode().split("\n\n"):
            if not text:
                continue
            fields = dict(line.split(": ", 1) for line in text.split("\n"))
            yield Event(fields.get("event", ""), json.loads(fields["data"]) if "data" in fields else fields[""])


@pytest.fixture(autouse=True)
def _quick(settings: Settings) -> Iterator[None]:
    """Let ticks and signs of life be short, and every stream end with its test."""
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALL_TICK_SECONDS": 0.05, "STREAM_PING_SECONDS": 0.1}
    yield
    for thread in threading.enumerate():
        if thread.name == "mcp-oauth-stream":
            thread.join(20)
    assert streams._streams._number == 0


@pytest.fixture
def desk(open_mcp_server: Serve, conversation: Conversation) -> Desk:
    return Desk(open_mcp_server(tools=conversation.register))


def open_stream(desk: Desk, tool: str, arguments: Any = None, **body: Any) -> Any:
    path = f"/api/v1/servers/{desk.server.pk}/tools/{tool}/call/"
    data = json.dumps({"arguments": arguments or {}, **body})
    return desk.program.post(path, data, content_type="application/json", headers={"accept": EVENTS})


def test_progress_arrives_while_the_tool_runs_and_then_its_result(desk: Desk, conversation: Conversation) -> None:
    call_id = str(uuid.uuid4())
    answer = open_stream(desk, "march", {"steps": 2}, call=call_id)
    events = events_in(answer.streaming_content)

    seen = [next(events)]
    gate = conversation.gate("march")
    for step in (1, 2):
        seen.append(next(event for event in events if event.name))
        assert seen[-1] == Event("progress", {"progress": step, "total": 2, "message": f"Step {step}"})
        gate.let_pass()
    rest = [event for event in events if event.name]

    assert answer.status_code == 200
    assert answer["Content-Type"] == EVENTS
    assert (answer["Cache-Control"], answer["X-Accel-Buffering"]) == ("no-store", "no")
    assert answer["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert seen[0] == Event("", "ping")
    (last,) = rest
    assert last.name == "result"
    assert last.data == {
        "result": {"content": [{"type": "text", "text": "Done after 2 steps."}], "isError": False},
        "call": call_id,
    }
    answer.close()
    assert ToolCall.objects.get().state == "completed"


def test_a_sign_of_life_comes_where_there_is_nothing_to_tell(desk: Desk, conversation: Conversation) -> None:
    answer = open_stream(desk, "slow", {"steps": 0})
    events = events_in(answer.streaming_content)
    conversation.gate("slow").wait_for_arrivals()

    assert [next(events) for _ in range(4)] == [Event("", "ping")] * 4
    conversation.gate("slow").open()
    assert [event.name for event in events if event.name] == ["result"]


@pytest.mark.parametrize(
    ("tool", "body", "code"),
    [
        ("no_such_tool", {}, "tool_not_found"),
        ("slow", {"timeout": 0.2}, "timeout"),
        ("sign_contract", {}, "input_required"),
    ],
)
def test_what_goes_wrong_after_the_stream_began_is_its_last_event(
    tool: str, body: dict[str, Any], code: str, desk: Desk
) -> None:
    answer = open_stream(desk, tool, **body)

    named = [event for event in events_in(answer.streaming_content) if event.name not in {"", "progress"}]

    assert answer.status_code == 200
    assert [(event.name, event.data["error"]["code"]) for event in named] == [("error", code)]
    answer.close()
    # A call that waits is not given up by who has read that it waits.
    assert ToolCall.objects.get().state == ("input_required" if code == "input_required" else "failed")


def test_what_is_wrong_before_the_stream_begins_is_told_by_the_status(desk: Desk, settings: Settings) -> None:
    nowhere = f"/api/v1/servers/{uuid.uuid4()}/tools/echo/call/"
    headers = {"accept": EVENTS}

    unknown = desk.program.post(nowhere, "{}", content_type="application/json", headers=headers)
    malformed = open_stream(desk, "echo", [1])
    nobody = Client().post(nowhere, "{}", content_type="application/json", headers=headers)
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALLS_PER_MINUTE": 0}
    too_many = open_stream(desk, "echo", {"text": "Hi"})

    answers = (unknown, malformed, nobody, too_many)
    assert [answer.status_code for answer in answers] == [404, 400, 401, 429]
    assert {answer["Content-Type"] for answer in answers} == {"application/json"}


def test_a_session_streams_with_the_csrf_token_only(desk: Desk) -> None:
    desk.program = Client(enforce_csrf_checks=True)
    desk.program.force_login(desk.user)

    assert open_stream(desk, "echo", {"text": "Hi"}).status_code == 403
    desk.program = browser_of(desk.user)
    answer = open_stream(desk, "echo", {"text": "Hi"})
    assert [event.name for event in events_in(answer.streaming_content) if event.name] == ["result"]


def test_a_call_that_waits_goes_on_as_a_stream(desk: Desk, conversation: Conversation) -> None:
    call_id = desk.call("book_table", {"day": "monday"}).json()["error"]["call"]
    body = {"answers": {"booking": {"action": "accept", "content": BOOKING}}}

    answer: Any = desk.program.post(
        f"/api/v1/calls/{call_id}/resume/",
        json.dumps(body),
        content_type="application/json",
        headers={"accept": EVENTS},
    )
    (last,) = [event for event in events_in(answer.streaming_content) if event.name]

    assert (last.name, last.data["call"]) == ("result", call_id)
    assert conversation.ran["book_table"] == 1


def test_a_reader_who_leaves_ends_the_call_and_the_server_is_told(desk: Desk, conversation: Conversation) -> None:
    answer = open_stream(desk, "slow", {"steps": 1})
    events = events_in(answer.streaming_content)
    assert next(event for event in events if event.name).name == "progress"

    answer.close()

    conversation.gate("slow").wait_for_cancellations()
    assert conversation.ran["slow"] == 0
    assert _ended().outcome == "cancelled"


def test_a_reader_who_leaves_before_the_first_word_ends_the_call_as_well(
    desk: Desk, conversation: Conversation
) -> None:
    open_stream(desk, "slow").close()

    assert _ended().outcome == "cancelled"
    assert conversation.ran["slow"] == 0


def _ended() -> ToolCall:
    """Return the call once its thread has ended."""
    for thread in threading.enumerate():
        if thread.name == "mcp-oauth-stream":
            thread.join(20)
    return ToolCall.objects.get()


def test_more_streams_than_a_process_sends_are_refused_and_room_is_made_again(
    desk: Desk, conversation: Conversation, settings: Settings
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "MAX_STREAMS": 2}
    open_ones = [open_stream(desk, "slow") for _ in range(2)]
    conversation.gate("slow").wait_for_arrivals(2)

    refused = open_stream(desk, "slow")

    assert (refused.status_code, refused.json()["error"]["code"], refused["Retry-After"]) == (
        429,
        "too_many_requests",
        "5",
    )
    for answer in open_ones:
        answer.close()
    for thread in threading.enumerate():
        if thread.name == "mcp-oauth-stream":
            thread.join(20)
    again = open_stream(desk, "echo", {"text": "Hi"})
    assert [event.name for event in events_in(again.streaming_content) if event.name] == ["result"]


def test_progress_that_nobody_takes_is_replaced_and_not_collected(desk: Desk, conversation: Conversation) -> None:
    answer = open_stream(desk, "slow", {"steps": 50})
    conversation.gate("slow").wait_for_arrivals()
    conversation.gate("slow").open()
    assert _ended().state == "completed"

    names = [event.name for event in events_in(answer.streaming_content)]

    assert names in (["", "progress", "result"], ["", "result"])


def test_a_fault_of_ours_is_the_last_event_too_and_says_nothing_of_itself(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("the inner workings")

    monkeypatch.setattr(calls, "call_tool", broken)

    answer = open_stream(desk, "echo", {"text": "Hi"})
    (last,) = [event for event in events_in(answer.streaming_content) if event.name]

    assert last == Event("error", {"error": {"code": "error", "message": "Something went wrong here."}})
    assert "ZeroDivisionError" in caplog.text


def test_what_is_streamed_is_said_in_the_persons_language(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise InvalidRequest(f"In the language {get_language()}.")

    monkeypatch.setattr(calls, "call_tool", refuse)

    path = f"/api/v1/servers/{desk.server.pk}/tools/echo/call/"
    asked = {"accept": EVENTS, "accept-language": "es"}
    answer: Any = desk.program.post(path, json.dumps({"arguments": {}}), content_type="application/json", headers=asked)
    # Whoever is served in between speaks another language.
    with override("de"):
        (last,) = [event for event in events_in(answer.streaming_content) if event.name]

    assert last.data["error"]["message"] == "In the language es."


def test_asynchronous_servers_stream_as_they_go(desk: Desk, conversation: Conversation) -> None:
    secret = desk.program.defaults["HTTP_AUTHORIZATION"]
    path = f"/api/v1/servers/{desk.server.pk}/tools/march/call/"
    seen: list[str] = []

    async def read() -> Any:
        headers = {"authorization": secret, "accept": EVENTS}
        data = json.dumps({"arguments": {"steps": 2}})
        answer: Any = await AsyncClient().post(path, data, content_type="application/json", headers=headers)
        chunks: AsyncIterator[bytes] = answer.streaming_content
        async for chunk in chunks:
            for event in events_in(iter([chunk])):
                if event.name:
                    seen.append(event.name)
                if event.name == "progress":
                    conversation.gate("march").let_pass()
        return answer

    answer = asyncio.run(read())

    assert answer.is_async
    assert seen == ["progress", "progress", "result"]


def test_over_a_real_connection_the_first_word_comes_at_once_and_hanging_up_ends_the_call(
    live_server: LiveServer, open_mcp_server: Serve, conversation: Conversation, settings: Settings
) -> None:
    desk = Desk(open_mcp_server(tools=conversation.register))
    headers = {"authorization": desk.program.defaults["HTTP_AUTHORIZATION"], "accept": EVENTS}
    url = f"{live_server.url}/api/v1/servers/{desk.server.pk}/tools/slow/call/"

    with httpx.Client(timeout=20) as client, client.stream("POST", url, headers=headers, json={}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": ping"
        assert next(line for line in lines if line.startswith("event")) == "event: progress"

    conversation.gate("slow").wait_for_cancellations()
    assert _ended().outcome == "cancelled"
