"""Sessions with servers that talk back: they ask, report, change, keep sessions, and are told when nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import EllipsisType
from typing import Any

import pytest

from mcp_oauth.exceptions import CallCancelled, CallInterrupted, DeadlineExceeded, ServerRefused, ServerUnreachable
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.sessions import channel, client, loop
from mcp_oauth.sessions.results import Answer, InputWanted, Progress, ToolResult
from mcp_oauth.sessions.target import Target
from tests.protocol.conftest import LEGACY
from tests.protocol.test_sessions_hostile import DONE, Script, speaking, warm
from tests.servers.conversing import SIGN_URL, VAULT_URL, Conversation
from tests.servers.mcp import OpenServer
from tests.servers.peer import Received, http_answer, running_peer

Start = Callable[..., OpenServer]
ERAS = ("modern", "legacy")
KEY = ("workspace", "server", "1", "ada", "grant")


def target_of(server: OpenServer, **options: Any) -> Target:
    return Target(server.url, policy=NetworkPolicy(allow_loopback=True), **options)


def known_as(server: OpenServer, **options: Any) -> Target:
    """Return the server as an earlier contact left it known."""
    facts = loop.run(lambda: client.connect(target_of(server)), timeout=20)
    server.requests.clear()
    return target_of(server, protocol_version=facts.protocol_version, discover_result=facts.discover_result, **options)


def call(target: Target, tool: str, /, *, call_id: str = "", **options: Any) -> Any:
    arguments = options.pop("arguments", {})
    return loop.run(
        lambda: client.call_tool(
            target, tool, arguments, timeout=options.pop("timeout", 10), call_id=call_id, **options
        ),
        timeout=20,
    )


def go_on(call_id: str, **answers: Answer) -> Any:
    return loop.run(lambda: client.continue_held(call_id, answers, timeout=10), timeout=20)


def accepted(**content: Any) -> Answer:
    return Answer("accept", content or None)


# Questions, where any process can go on


def test_a_form_question_comes_back_with_the_servers_state_and_the_answer_goes_on(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    server = open_mcp_server("modern", tools=conversation.register)
    target = known_as(server)

    wanted = call(target, "book_table", arguments={"day": "friday"})

    assert isinstance(wanted, InputWanted)
    assert not wanted.held
    [question] = wanted.questions
    assert (question.key, question.mode, question.message) == ("booking", "form", "Who comes on friday?")
    assert question.schema["required"] == ["name", "guests", "email"]
    assert conversation.ran["book_table"] == 0

    answers = {"booking": accepted(name="Ada", guests=3, email="ada@example.com")}
    result = call(
        target, "book_table", arguments={"day": "friday"}, answers=answers, request_state=wanted.request_state
    )

    assert isinstance(result, ToolResult)
    assert result.text == "A table for 3 on friday."
    assert [(heard.action, heard.request_state) for heard in conversation.heard] == [("accept", "day=friday")]
    assert server.rpc_methods == ["tools/call", "tools/call"]
    first, second = [request.json["id"] for request in server.requests]
    assert first != second


def test_a_question_may_be_a_page_to_visit_and_may_be_declined(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    target = known_as(open_mcp_server("modern", tools=conversation.register))

    wanted = call(target, "sign_contract")
    assert [(question.mode, question.url) for question in wanted.questions] == [("url", SIGN_URL)]

    call(target, "sign_contract", answers={"sign": Answer("decline")}, request_state=wanted.request_state)

    assert [heard.action for heard in conversation.heard] == ["decline"]
    assert conversation.ran["sign_contract"] == 0


def test_a_server_that_only_wants_us_back_is_called_again_with_its_state(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    target = known_as(open_mcp_server("modern", tools=conversation.register))

    assert call(target, "come_back", arguments={"times": 2}).text == "Called 3 times."
    with pytest.raises(ServerRefused):
        call(target, "come_back", arguments={"times": 50})

    assert conversation.ran["come_back"] == 1


@pytest.mark.parametrize("era", ERAS)
def test_a_page_that_has_to_be_visited_first_is_a_question_and_the_call_is_sent_again(
    era: str, open_mcp_server: Start, conversation: Conversation
) -> None:
    target = known_as(open_mcp_server(era, tools=conversation.register))

    wanted = call(target, "open_vault", call_id="c1")

    assert isinstance(wanted, InputWanted)
    assert not wanted.held
    [question] = wanted.questions
    assert question.url.startswith(VAULT_URL)

    if era == "legacy":
        with pytest.raises(CallCancelled):
            call(target, "open_vault", answers={question.key: Answer("decline")})
    conversation.visited.add(question.url.rpartition("/")[2])

    assert call(target, "open_vault", answers={question.key: accepted()}).text == "The vault is open."
    assert conversation.ran["open_vault"] == 1


ODD_QUESTIONS = [
    {"message": "Who?"},
    {"message": "Who?", "requestedSchema": {"type": "array"}},
    {"message": "Who?", "requestedSchema": {"type": "object", "properties": {"a": {"type": "object"}}}},
    {"message": 7, "requestedSchema": {"type": "object", "properties": {}}},
    {"mode": "url", "message": "Go", "url": "javascript:alert(1)"},
    {"mode": "url", "message": "Go", "url": "https://user:pw@bank.example/"},
    {"mode": "url", "message": "Go", "url": "http://bank.example/"},
    {"mode": "url", "message": "Go"},
    {"message": "x", "requestedSchema": {"type": "object", "properties": {"a": {"title": "y" * 70_000}}}},
]


@pytest.mark.requirement("T37")
@pytest.mark.parametrize("params", ODD_QUESTIONS)
def test_a_question_nobody_should_be_asked_is_an_error_of_the_server(params: dict[str, Any]) -> None:
    ask = {
        "resultType": "input_required",
        "inputRequests": {"q": {"method": "elicitation/create", "params": params}},
    }
    script: Script = {"tools/call": lambda given: ask}
    with running_peer(speaking(script)) as peer, pytest.raises(ServerRefused, match="does not follow"):
        call(warm(peer), "look")


# Questions, where the exchange has to stay open


def test_an_older_servers_question_keeps_the_exchange_open_until_the_answer_comes(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    server = open_mcp_server("legacy", tools=conversation.register)
    target = known_as(server)

    wanted = call(target, "book_table", arguments={"day": "friday"}, call_id="c1")

    assert wanted.held
    [question] = wanted.questions
    assert (question.mode, question.message) == ("form", "Who comes on friday?")

    result = go_on("c1", **{question.key: accepted(name="Ada", guests=2, email="ada@example.com")})

    assert result.text == "A table for 2 on friday."
    assert conversation.started["book_table"] == 1
    assert server.rpc_methods.count("tools/call") == 1
    with pytest.raises(CallInterrupted):
        go_on("c1")


def test_two_questions_of_an_older_server_are_asked_together_and_one_after_the_other(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    target = known_as(open_mcp_server("legacy", tools=conversation.register))

    first = call(target, "interview", call_id="c1")
    second = go_on("c1", **{first.questions[0].key: accepted(favourite="tea")})
    assert second.questions[0].message == "Why tea?"
    done = go_on("c1", **{second.questions[0].key: accepted(reason="warm")})

    assert done.text == "tea, because warm"

    trip = call(target, "plan_trip", call_id="c2")
    while isinstance(trip, InputWanted):
        answers = {
            question.key: accepted(city="cdg") if question.mode == "form" else accepted() for question in trip.questions
        }
        trip = go_on("c2", **answers)
    assert trip.text == "A trip to cdg."


def test_a_held_exchange_that_is_given_up_is_cancelled_at_the_server(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    server = open_mcp_server("legacy", tools=conversation.register)
    assert call(known_as(server), "book_table", arguments={"day": "friday"}, call_id="c1").held

    loop.run(lambda: client.drop_held("c1"), timeout=5)

    conversation.wait_for_abandoned("book_table")
    with pytest.raises(CallInterrupted):
        go_on("c1")


def test_a_held_exchange_ends_after_its_time(open_mcp_server: Start, conversation: Conversation) -> None:
    target = known_as(open_mcp_server("legacy", tools=conversation.register), held_call_seconds=0.2)
    assert call(target, "book_table", arguments={"day": "friday"}, call_id="c1").held

    conversation.wait_for_abandoned("book_table")
    with pytest.raises((CallInterrupted, DeadlineExceeded)):
        go_on("c1")


def test_no_more_exchanges_are_held_than_there_may_be(open_mcp_server: Start, conversation: Conversation) -> None:
    target = known_as(open_mcp_server("legacy", tools=conversation.register), held_call_seconds=60, max_held_calls=1)
    assert call(target, "book_table", arguments={"day": "friday"}, call_id="c1").held
    with pytest.raises(DeadlineExceeded):
        call(target, "book_table", arguments={"day": "friday"}, call_id="c2")

    conversation.wait_for_abandoned("book_table")
    loop.run(lambda: client.drop_held("c1"), timeout=5)
    conversation.wait_for_abandoned("book_table", 2)


def test_without_a_name_to_come_back_by_an_older_servers_question_is_cancelled(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    call(known_as(open_mcp_server("legacy", tools=conversation.register)), "book_table", arguments={"day": "friday"})

    assert [heard.action for heard in conversation.heard] == ["cancel"]


def test_an_older_server_that_asks_outside_of_the_request_is_heard_there(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    server = open_mcp_server("legacy", tools=conversation.register)
    target = known_as(server, session_key=KEY)

    # The SDK's server samples on the standing stream, so the tool learns there that nobody does.
    for tool in ("ask_model", "ask_roots"):
        with pytest.raises(ServerRefused, match="Method not found"):
            call(target, tool, call_id=tool)

    assert [request.method for request in server.requests].count("GET") == 1
    assert conversation.ran == {}
    client.end_sessions(lambda key: key == KEY)


def test_a_question_on_the_standing_stream_belongs_to_the_call_that_runs() -> None:
    replied = threading.Event()
    asked = threading.Event()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    hello = {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
    ask = {
        "jsonrpc": "2.0",
        "id": "q1",
        "method": "elicitation/create",
        "params": {"message": "Who?", "requestedSchema": {"type": "object", "properties": {"who": {"type": "string"}}}},
    }

    def standing() -> Iterator[bytes]:
        yield head
        assert asked.wait(10)
        yield b"data: " + json.dumps(ask).encode() + b"\n\n"
        assert replied.wait(10)

    def running(number: int) -> Iterator[bytes]:
        asked.set()
        yield head
        assert replied.wait(10)
        yield b"data: " + json.dumps({"jsonrpc": "2.0", "id": number, "result": DONE}).encode() + b"\n\n"

    def choose(received: Received) -> Any:
        if received.method == "GET":
            return standing()
        message = json.loads(received.body or b"{}")
        if message.get("method") == "initialize":
            body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": hello}).encode()
            return http_answer(200, body, headers={"mcp-session-id": "s1"})
        if message.get("method") == "tools/call":
            return running(message["id"])
        if "result" in message:
            replied.set()
        return http_answer(202, b"", content_type="")

    with running_peer(choose) as peer:
        target = replace(warm(peer), protocol_version=LEGACY, discover_result=None, session_key=("standing",))
        wanted = call(target, "look", call_id="c1")
        assert [question.message for question in wanted.questions] == ["Who?"]
        assert go_on("c1", q1=accepted(who="Ada")).text == "done"
        answers = [json.loads(seen.body) for seen in peer.requests if b"accept" in seen.body]
        client.end_sessions(lambda key: key == ("standing",))

    assert answers == [{"jsonrpc": "2.0", "id": "q1", "result": {"action": "accept", "content": {"who": "Ada"}}}]


@pytest.mark.parametrize("method", ["sampling/createMessage", "roots/list", "nobody/knows"])
def test_what_no_person_answers_is_declined_and_the_call_goes_on(method: str) -> None:
    replied = threading.Event()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    ask = {"jsonrpc": "2.0", "id": "q1", "method": method, "params": {"messages": [], "maxTokens": 1}}
    done = {"jsonrpc": "2.0", "id": 1, "result": DONE}

    def stream() -> Iterator[bytes]:
        yield head + b"data: " + json.dumps(ask).encode() + b"\n\n"
        assert replied.wait(10)
        yield b"data: " + json.dumps(done).encode() + b"\n\n"

    def choose(received: Received) -> Any:
        if "method" in json.loads(received.body):
            return stream()
        replied.set()
        return http_answer(202, b"", content_type="")

    with running_peer(choose) as peer:
        assert call(warm(peer), "look").text == "done"
        reply = json.loads(peer.requests[1].body)

    assert reply == {"jsonrpc": "2.0", "id": "q1", "error": {"code": -32601, "message": "Method not found"}}


@pytest.mark.parametrize("tool", ["ask_model", "ask_roots"])
def test_a_result_that_wants_what_no_person_answers_is_an_error(
    tool: str, open_mcp_server: Start, conversation: Conversation
) -> None:
    with pytest.raises(ServerRefused, match="asks for input"):
        call(known_as(open_mcp_server("modern", tools=conversation.register)), tool)

    assert conversation.ran[tool] == 0


# Progress, change, and giving up


@pytest.mark.parametrize("era", ERAS)
def test_progress_is_noted_while_the_tool_runs(era: str, open_mcp_server: Start, conversation: Conversation) -> None:
    target = known_as(open_mcp_server(era, tools=conversation.register))
    progress = Progress()
    seen: list[tuple[float | None, str]] = []

    def tick() -> None:
        seen.append((progress.progress, progress.message))
        if progress.count:
            conversation.gate("slow").open()

    work = loop.run(
        lambda: client.call_tool(target, "slow", {"steps": 4}, timeout=10, progress=progress, call_id="c1"),
        timeout=20,
        tick=tick,
        tick_seconds=0.02,
    )

    assert isinstance(work, ToolResult)
    assert work.text == "Done after 4 steps."
    assert (progress.progress, progress.total, progress.message) == (4.0, 4.0, "Step 4")
    assert any(value for value, _ in seen)


@pytest.mark.parametrize("era", ERAS)
def test_a_server_is_told_when_nobody_waits_any_more(
    era: str, open_mcp_server: Start, conversation: Conversation
) -> None:
    target = known_as(open_mcp_server(era, tools=conversation.register))

    def give_up() -> None:
        if conversation.gate("slow").arrivals:
            raise CallCancelled("enough")

    with pytest.raises(CallCancelled):
        loop.run(
            lambda: client.call_tool(target, "slow", {}, timeout=10, call_id="c1"),
            timeout=20,
            tick=give_up,
            tick_seconds=0.02,
        )

    conversation.gate("slow").wait_for_cancellations()
    assert conversation.ran["slow"] == 0


@pytest.mark.parametrize("era", ERAS)
def test_a_call_notes_which_listings_its_server_says_have_changed(
    era: str, open_mcp_server: Start, conversation: Conversation
) -> None:
    target = known_as(open_mcp_server(era, tools=conversation.register))
    tools, others = Progress(), Progress()

    call(target, "learn", arguments={"name": "juggle"}, progress=tools)
    call(target, "rearrange", progress=others)

    assert (tools.changed, others.changed) == ({"tools"}, {"prompts", "resources"})


def test_a_server_that_misses_a_header_is_listed_and_called_once_more() -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}

    def choose(params: dict[str, Any]) -> Any:
        header = peer.requests[-1].headers.get("mcp-param-region")
        return DONE if header == "eu" else {"status": 400, "error": {"code": -32020, "message": "Header mismatch"}}

    listing = {"tools": [{"name": "look", "inputSchema": schema}], "ttlMs": 0, "cacheScope": "private"}
    script: Script = {"tools/call": choose, "tools/list": lambda params: listing}
    with running_peer(speaking(script)) as peer:
        progress = Progress()
        assert call(warm(peer), "look", arguments={"region": "eu"}, progress=progress).text == "done"

        assert [json.loads(seen.body)["method"] for seen in peer.requests] == ["tools/call", "tools/list", "tools/call"]
    assert progress.changed == {"tools"}


def test_an_answer_to_another_request_is_an_error_at_once() -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 4711, "result": DONE}).encode()
    with running_peer(lambda received: http_answer(200, body)) as peer, pytest.raises(ServerRefused, match="instead"):
        call(warm(peer), "look", timeout=60)


def test_a_stream_that_breaks_is_taken_up_again_where_it_broke() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    answer = b'data: {"jsonrpc": "2.0", "id": 1, "result": ' + json.dumps(DONE).encode() + b"}\n\n"

    def choose(received: Received) -> Any:
        return [head, answer] if received.method == "GET" else [head, b"id: 7\nretry: 10\ndata:\n\n"]

    with running_peer(choose) as peer:
        assert call(warm(peer), "look").text == "done"

        assert [(seen.method, seen.headers.get("last-event-id")) for seen in peer.requests] == [
            ("POST", None),
            ("GET", "7"),
        ]


def test_a_stream_that_wants_to_be_polled_later_than_anybody_waits_is_given_up_at_once() -> None:
    stream = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nid: 1\nretry: 60000\ndata:\n\n"
    )
    with running_peer(lambda received: [stream]) as peer, pytest.raises(ServerUnreachable, match="early"):
        call(warm(peer), "look", timeout=60)


# The connections beneath


def in_events(message: dict[str, Any], *, whole: bool = True) -> bytes:
    """Return a chunked answer that holds one event; one that is not whole says that more will follow."""
    event = f"data: {json.dumps({'jsonrpc': '2.0', **message})}\n\n".encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + f"{len(event):x}\r\n".encode() + event + b"\r\n" + (b"0\r\n\r\n" if whole else b"")


@pytest.mark.parametrize("outcome", [{"result": DONE}, {"error": {"code": -32602, "message": "no"}}])
def test_calls_that_are_answered_in_events_share_a_connection(outcome: dict[str, Any]) -> None:
    with running_peer(lambda received: in_events({"id": json.loads(received.body)["id"], **outcome})) as peer:
        for _ in range(3):
            with contextlib.suppress(ServerRefused):
                call(warm(peer), "look")

        assert (len(peer.requests), peer.connections) == (3, 1)


def test_an_answer_that_ends_after_it_was_understood_keeps_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_ENDING_SECONDS", 10)
    understood = threading.Event()

    def late(received: Received) -> Iterator[bytes | EllipsisType]:
        yield in_events({"id": json.loads(received.body)["id"], "result": DONE}, whole=False)
        assert understood.wait(10)
        yield b"5\r\n:bye\n\r\n0\r\n\r\n"
        yield ...

    with running_peer(late) as peer:
        # With one at a time, the second call begins when the first one's answer has ended.
        target = warm(peer, policy={"max_connections_per_origin": 1})
        assert call(target, "look").text == "done"
        understood.set()
        assert call(target, "look").text == "done"

        assert (len(peer.requests), peer.connections) == (2, 1)


def test_a_server_that_leaves_its_answer_open_delays_nobody_and_loses_its_connection() -> None:
    left = threading.Event()

    def open_ended(received: Received) -> Iterator[bytes]:
        yield in_events({"id": json.loads(received.body)["id"], "result": DONE}, whole=False)
        try:
            while not peer.closing.wait(0.02):
                yield b"3\r\n:\n\n\r\n"
        finally:
            left.set()

    with running_peer(open_ended) as peer:
        assert call(warm(peer), "look").text == "done"
        assert not left.is_set()

        assert left.wait(10)
        assert call(warm(peer), "look").text == "done"
        assert peer.connections == 2


def test_of_what_follows_the_answer_little_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_ENDING_SECONDS", 1)
    sent: list[int] = []
    broken = threading.Event()

    def verbose(received: Received) -> Iterator[bytes]:
        yield in_events({"id": json.loads(received.body)["id"], "result": DONE}, whole=False)
        try:
            for _ in range(40_000):
                yield b"400\r\n:" + b" " * 1022 + b"\n\r\n"
                sent.append(1024)
        finally:
            broken.set()

    with running_peer(verbose) as peer:
        assert call(warm(peer), "look").text == "done"
        assert broken.wait(10)

    # What the buffers of the kernel hold was sent as well.
    assert sum(sent) < 12_000_000


# Resources, prompts, completion


@pytest.mark.parametrize("era", ERAS)
def test_the_rest_of_a_server_is_listed_read_and_completed(
    era: str, open_mcp_server: Start, conversation: Conversation
) -> None:
    target = known_as(open_mcp_server(era, tools=conversation.register))

    def ask(work: Callable[[], Any]) -> Any:
        return loop.run(work, timeout=20)

    resources = ask(lambda: client.list_entries(target, "resources"))
    templates = ask(lambda: client.list_entries(target, "resource_templates"))
    prompts = ask(lambda: client.list_entries(target, "prompts"))
    read = ask(lambda: client.read_resource(target, "notes://today", timeout=10))
    prompt = ask(lambda: client.get_prompt(target, "review", {"language": "python"}, timeout=10))
    completed = ask(
        lambda: client.complete(
            target, {"type": "ref/prompt", "name": "review"}, {"name": "language", "value": "py"}, timeout=10
        )
    )

    assert "notes://today" in [entry["uri"] for entry in resources.entries]
    assert [entry["uriTemplate"] for entry in templates.entries] == ["notes://{day}"]
    assert "review" in [entry["name"] for entry in prompts.entries]
    assert read["contents"][0]["uri"] == "notes://today"
    assert prompt["messages"]
    assert completed["completion"]["values"] == ["python", "python-typed"]


def test_a_listing_says_how_long_and_for_whom_it_is_good(open_mcp_server: Start, conversation: Conversation) -> None:
    conversation.caching["tools/list"] = (60_000, "public")
    server = open_mcp_server("modern", tools=conversation.register)
    new, old_one = known_as(server), known_as(open_mcp_server("legacy"))

    listing = loop.run(lambda: client.list_tools(new), timeout=20)
    old = loop.run(lambda: client.list_tools(old_one), timeout=20)

    assert (listing.ttl_ms, listing.cache_scope) == (60_000, "public")
    assert (old.ttl_ms, old.cache_scope) == (None, "private")


# Kept sessions


def test_calls_of_one_person_share_a_session_that_was_opened_once(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    server = open_mcp_server("legacy", tools=conversation.register)
    target = known_as(server, session_key=KEY)

    async def together() -> list[Any]:
        calls = [client.call_tool(target, "echo", {"text": str(number)}, timeout=10) for number in range(8)]
        return await asyncio.gather(*calls)

    results = loop.run(together, timeout=20)
    again = call(target, "echo", arguments={"text": "9"})

    assert [result.text for result in [*results, again]] == [*(str(number) for number in range(8)), "9"]
    assert server.rpc_methods.count("initialize") == 1
    sessions = {
        request.headers.get("mcp-session-id") for request in server.requests if request.rpc_method == "tools/call"
    }
    assert len(sessions) == 1
    assert not any(request.method == "DELETE" for request in server.requests)


def test_sessions_of_two_people_are_two(open_mcp_server: Start, conversation: Conversation) -> None:
    server = open_mcp_server("legacy", tools=conversation.register)
    ada = known_as(server, session_key=KEY)
    grace = replace(ada, session_key=(*KEY[:3], "grace", "other grant"))

    for target in (ada, grace, ada, grace):
        call(target, "echo", arguments={"text": "x"})

    named = [request.headers.get("mcp-session-id") for request in server.requests if request.rpc_method == "tools/call"]
    assert named[0] == named[2] != named[1] == named[3]
    assert server.rpc_methods.count("initialize") == 2


def deleted(server: OpenServer, count: int = 1) -> None:
    """Wait until the server was told of so many ends."""

    async def until() -> None:
        while sum(request.method == "DELETE" for request in server.requests) < count:
            await asyncio.sleep(0.01)

    loop.run(until, timeout=10)


def test_a_session_is_ended_at_its_server_when_its_grant_ends(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    server = open_mcp_server("legacy", tools=conversation.register)
    target = known_as(server, session_key=KEY)
    call(target, "echo", arguments={"text": "x"})

    client.end_sessions(lambda key: key[-1] == "grant")

    deleted(server)
    call(target, "echo", arguments={"text": "x"})
    assert server.rpc_methods.count("initialize") == 2
    client.end_sessions(lambda key: key == KEY)


def test_a_session_nobody_uses_is_ended_and_so_is_the_oldest_of_too_many(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    server = open_mcp_server("legacy", tools=conversation.register)
    idle = known_as(server, session_key=("idle",), session_idle_seconds=0.1)
    call(idle, "echo", arguments={"text": "x"})
    deleted(server)

    crowded = replace(idle, session_idle_seconds=60.0, max_sessions=1)
    for name in ("one", "two"):
        call(replace(crowded, session_key=(name,)), "echo", arguments={"text": "x"})
    deleted(server, 2)
    client.end_sessions(lambda key: key in {("one",), ("two",)})


def test_a_session_its_server_forgot_is_opened_anew_and_the_call_runs_once(
    open_mcp_server: Start, conversation: Conversation
) -> None:
    first = open_mcp_server("legacy", tools=conversation.register)
    second = open_mcp_server("legacy", tools=conversation.register)
    target = known_as(first, session_key=("moved",))
    call(target, "echo", arguments={"text": "x"})

    # Another machine behind the same name: it knows nothing of the session.
    moved = replace(target, url=second.url)
    assert call(moved, "learn", arguments={"name": "swim"}).text == "Learned swim."

    assert conversation.ran["learn"] == 1
    assert second.rpc_methods.count("initialize") == 1
    client.end_sessions(lambda key: key == ("moved",))


def test_of_many_who_wait_for_a_handshake_one_that_fails_keeps_nobody_else_from_it() -> None:
    opened: list[str] = []
    hello = {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}

    def handshake(params: dict[str, Any]) -> Any:
        opened.append("x")
        return http_answer(503, b"", content_type="") if len(opened) <= 2 else hello

    with running_peer(speaking({"initialize": handshake})) as peer:
        target = replace(warm(peer), protocol_version=LEGACY, discover_result=None, session_key=("flaky",))

        async def together() -> list[Any]:
            calls = [client.call_tool(target, "look", {}, timeout=10) for _ in range(4)]
            return await asyncio.gather(*calls, return_exceptions=True)

        results = loop.run(together, timeout=20)

    assert sum(isinstance(result, ToolResult) for result in results) >= 2
    client.end_sessions(lambda key: key == ("flaky",))
