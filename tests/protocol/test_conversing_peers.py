"""The conversing servers are what they claim to be: driven here by the SDK's own client, without our application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.session import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from mcp_types import (
    URL_ELICITATION_REQUIRED,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    InputRequiredResult,
    InputResponses,
    PromptReference,
    ResourceTemplateReference,
    ToolListChangedNotification,
)

from tests.servers import OpenServer, ProtectedServer
from tests.servers.conversing import BOOKING_SCHEMA, PIXEL, SIGN_URL, Conversation
from tests.servers.person import tls_context
from tests.servers.scripted import Asked, RpcError, ScriptedServer, message_of
from tests.servers.tasks import EXTENSION as TASKS
from tests.servers.tasks import TaskServer

pytestmark = pytest.mark.once

ERAS = pytest.mark.parametrize("era", ["modern", "legacy"])
BOOKING: dict[str, Any] = {
    "name": "Ada",
    "seating": "bar",
    "guests": 3,
    "outside": True,
    "email": "ada@example.org",
    "tip": 7.5,
}
ANSWERS: dict[str, ElicitResult] = {
    "Who comes on friday?": ElicitResult(action="accept", content=dict(BOOKING)),
    "Please sign it there.": ElicitResult(action="accept"),
    "Where to?": ElicitResult(action="accept", content={"city": "lhr", "extras": ["parking"]}),
    "Please read the terms.": ElicitResult(action="accept"),
    "What do you like?": ElicitResult(action="accept", content={"favourite": "tea"}),
    "Why tea?": ElicitResult(action="accept", content={"reason": "it is warm"}),
}
Work = Callable[[Client], Awaitable[Any]]


class Caller:
    """The SDK's client with a person who answers from ``ANSWERS``; ``questions`` is what the person was asked."""

    def __init__(
        self, server: OpenServer | ProtectedServer | ScriptedServer, *, token: str = "", era: str = "auto"
    ) -> None:
        self.url = server.url
        self.headers = {"authorization": f"Bearer {token}"} if token else {}
        self.mode = "legacy" if era == "legacy" else "auto"
        self.questions: list[ElicitRequestFormParams | ElicitRequestURLParams] = []
        self.notices: list[object] = []
        self.answers = dict(ANSWERS)

    async def answer(
        self, context: ClientRequestContext, params: ElicitRequestFormParams | ElicitRequestURLParams
    ) -> ElicitResult:
        self.questions.append(params)
        return self.answers[params.message]

    async def notice(self, message: object) -> None:
        self.notices.append(message)

    def run(self, work: Work) -> Any:
        async def session() -> Any:
            async with (
                httpx2.AsyncClient(headers=self.headers, trust_env=False, timeout=20, verify=tls_context()) as http,
                Client(
                    streamable_http_client(self.url, http_client=http),
                    mode=self.mode,
                    read_timeout_seconds=20,
                    elicitation_callback=self.answer,
                    message_handler=self.notice,
                ) as client,
            ):
                return await work(client)

        try:
            return asyncio.run(session())
        except ExceptionGroup as group:
            error: Exception = group
            while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]
            raise error from None

    def call(self, tool: str, **arguments: Any) -> CallToolResult:
        result = self.run(lambda client: client.call_tool(tool, arguments))
        assert isinstance(result, CallToolResult)
        return result


def text_of(result: CallToolResult) -> str:
    return "".join(block.text for block in result.content if block.type == "text")


@pytest.fixture
def start(
    conversation: Conversation, open_mcp_server: Callable[..., OpenServer]
) -> Callable[[str], tuple[OpenServer, Caller]]:
    """Start an open conversing server of an era, and somebody who calls it."""

    def start(era: str) -> tuple[OpenServer, Caller]:
        server = open_mcp_server(era, tools=conversation.register)
        return server, Caller(server, era=era)

    return start


Start = Callable[[str], tuple[OpenServer, Caller]]


@ERAS
def test_a_form_is_asked_and_its_answer_arrives(era: str, start: Start, conversation: Conversation) -> None:
    _, caller = start(era)
    result = caller.call("book_table", day="friday")
    assert result.structured_content == {"day": "friday", **BOOKING}
    assert [question.requested_schema for question in caller.questions] == [BOOKING_SCHEMA]  # type: ignore[union-attr]
    [heard] = conversation.heard
    assert (heard.question, heard.action, heard.content, heard.user) == ("booking", "accept", BOOKING, "anyone")
    assert heard.request_state == ("day=friday" if era == "modern" else None)
    assert conversation.started["book_table"] == (2 if era == "modern" else 1)
    assert conversation.ran["book_table"] == 1


@ERAS
@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_a_refused_form_means_that_nothing_was_done(
    era: str, action: str, start: Start, conversation: Conversation
) -> None:
    _, caller = start(era)
    caller.answers["Who comes on friday?"] = ElicitResult(action=action)  # type: ignore[arg-type]
    assert text_of(caller.call("book_table", day="friday")) == f"Nothing was done (booking: {action})."
    assert [heard.action for heard in conversation.heard] == [action]
    assert conversation.ran["book_table"] == 0


@ERAS
def test_an_address_is_asked_to_be_visited(era: str, start: Start, conversation: Conversation) -> None:
    _, caller = start(era)
    assert text_of(caller.call("sign_contract")) == "Signed."
    [question] = caller.questions
    assert isinstance(question, ElicitRequestURLParams)
    assert question.url == SIGN_URL
    assert conversation.ran["sign_contract"] == 1


@ERAS
def test_two_questions_come_at_once_and_two_rounds_one_after_the_other(
    era: str, start: Start, conversation: Conversation
) -> None:
    server, caller = start(era)
    assert text_of(caller.call("plan_trip")) == "A trip to lhr."
    assert {question.message for question in caller.questions} == {"Where to?", "Please read the terms."}
    calls = server.rpc_methods.count("tools/call")
    assert calls == (2 if era == "modern" else 1)
    assert text_of(caller.call("interview")) == "tea, because it is warm"
    assert [heard.question for heard in conversation.heard[2:]] == ["first", "second"]
    assert server.rpc_methods.count("tools/call") - calls == (3 if era == "modern" else 1)
    assert conversation.ran == {"plan_trip": 1, "interview": 1}


def test_the_rounds_of_a_modern_server_need_no_common_session(start: Start, conversation: Conversation) -> None:
    _, caller = start("modern")
    first = caller.run(
        lambda client: client.session.call_tool("book_table", {"day": "friday"}, allow_input_required=True)
    )
    assert isinstance(first, InputRequiredResult)
    assert first.input_requests is not None
    assert isinstance(first.input_requests["booking"], ElicitRequest)
    answers: InputResponses = {"booking": ANSWERS["Who comes on friday?"]}

    def again(day: str, state: str | None) -> CallToolResult:
        result = caller.run(
            lambda client: client.session.call_tool(
                "book_table", {"day": day}, input_responses=answers, request_state=state
            )
        )
        assert isinstance(result, CallToolResult)
        return result

    with pytest.raises(MCPError, match="requestState"):
        again("monday", first.request_state)
    assert not again("friday", first.request_state).is_error
    assert conversation.ran["book_table"] == 1


def test_a_modern_server_may_only_want_to_be_called_again(start: Start, conversation: Conversation) -> None:
    _, caller = start("modern")
    assert text_of(caller.call("come_back", times=2)) == "Called 3 times."
    assert conversation.started["come_back"] == 3


@ERAS
def test_the_vault_answers_with_an_error_until_the_person_has_been_there(
    era: str, start: Start, conversation: Conversation
) -> None:
    _, caller = start(era)
    with pytest.raises(MCPError) as refused:
        caller.call("open_vault", locks=2)
    assert refused.value.code == URL_ELICITATION_REQUIRED
    asked = UrlElicitationRequiredError.from_error(refused.value.error).elicitations
    assert [elicitation.elicitation_id for elicitation in asked] == ["anyone-lock-1", "anyone-lock-2"]
    conversation.visited.update(str(elicitation.elicitation_id) for elicitation in asked)
    assert text_of(caller.call("open_vault", locks=2)) == "The vault is open."
    assert (conversation.started["open_vault"], conversation.ran["open_vault"]) == (2, 1)


@ERAS
@pytest.mark.parametrize("tool", ["ask_model", "ask_roots"])
def test_what_servers_asked_for_once_is_declined_by_a_client_without_it(
    era: str, tool: str, start: Start, conversation: Conversation
) -> None:
    _, caller = start(era)
    with contextlib.suppress(MCPError):
        assert caller.call(tool).is_error
    assert (conversation.started[tool], conversation.ran[tool]) == (1, 0)


@ERAS
def test_progress_is_reported_and_the_tool_waits_at_its_gate(
    era: str, start: Start, conversation: Conversation
) -> None:
    _, caller = start(era)
    seen: list[tuple[float, float | None, str | None]] = []

    async def report(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))
        if progress == 3:
            conversation.gate("slow").open()

    result = caller.run(lambda client: client.call_tool("slow", {"steps": 3}, progress_callback=report))
    assert seen == [(1, 3, "Step 1"), (2, 3, "Step 2"), (3, 3, "Step 3")]
    assert text_of(result) == "Done after 3 steps."


@ERAS
def test_a_march_stops_at_every_step(era: str, start: Start, conversation: Conversation) -> None:
    _, caller = start(era)
    gate = conversation.gate("march")
    seen: list[float] = []

    async def report(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)
        assert gate.arrivals <= progress
        gate.let_pass()

    caller.run(lambda client: client.call_tool("march", {"steps": 4}, progress_callback=report))
    assert seen == [1, 2, 3, 4]
    assert gate.arrivals == 4


@ERAS
def test_a_tool_notices_that_its_caller_gave_up(era: str, start: Start, conversation: Conversation) -> None:
    _, caller = start(era)

    async def give_up(client: Client) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "slow", {})
            await anyio.to_thread.run_sync(conversation.gate("slow").wait_for_arrivals)
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(conversation.gate("slow").wait_for_cancellations)

    caller.run(give_up)
    assert conversation.gate("slow").turned_back == 1
    assert (conversation.started["slow"], conversation.ran["slow"]) == (1, 0)


def test_a_legacy_question_that_nobody_answers_is_abandoned_with_its_session(
    start: Start, conversation: Conversation
) -> None:
    server, caller = start("legacy")
    asked = anyio.Event()

    async def never(_context: object, _params: object) -> ElicitResult:
        asked.set()
        await anyio.sleep_forever()
        raise AssertionError

    caller.answer = never  # type: ignore[method-assign, assignment]

    async def give_up(client: Client) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "sign_contract", {})
            await asked.wait()
            tasks.cancel_scope.cancel()

    caller.run(give_up)
    conversation.wait_for_abandoned("sign_contract")
    assert conversation.ran["sign_contract"] == 0
    assert server.requests[-1].method == "DELETE"


@ERAS
def test_every_kind_of_content_comes_with_its_annotations(era: str, start: Start) -> None:
    _, caller = start(era)
    result = caller.call("everything")
    kinds = [block.type for block in result.content]
    assert kinds == ["text", "image", "audio", "resource_link", "resource", "resource"]
    text, image = result.content[0], result.content[1]
    assert text.annotations is not None
    assert text.annotations.audience == ["user"]
    assert image.type == "image"
    assert image.mime_type == "image/png"
    assert result.structured_content == {"kinds": 6, "nested": {"list": [1, 2.5, None, True]}}


@ERAS
def test_resources_templates_prompts_and_completion_are_served(era: str, start: Start) -> None:
    _, caller = start(era)

    async def look(client: Client) -> None:
        resources = (await client.list_resources()).resources
        assert [str(resource.uri) for resource in resources] == ["notes://today", "picture://pixel"]
        templates = (await client.list_resource_templates()).resource_templates
        assert [template.uri_template for template in templates] == ["notes://{day}"]
        read = (await client.read_resource("notes://sunday")).contents
        assert [content.text for content in read] == ["Notes of sunday for anyone."]  # type: ignore[union-attr]
        [picture] = (await client.read_resource("picture://pixel")).contents
        assert picture.mime_type == "image/png"
        assert len(picture.blob) >= len(PIXEL)  # type: ignore[union-attr]
        prompts = (await client.list_prompts()).prompts
        assert [prompt.name for prompt in prompts] == ["greeting", "review"]
        assert [(argument.name, argument.required) for argument in prompts[1].arguments or []] == [
            ("language", True),
            ("style", False),
        ]
        review = await client.get_prompt("review", {"language": "python"})
        assert [message.role for message in review.messages] == ["user", "assistant", "user"]
        language = await client.complete(
            PromptReference(type="ref/prompt", name="review"), {"name": "language", "value": "py"}
        )
        assert language.completion.values == ["python", "python-typed"]
        style = await client.complete(
            PromptReference(type="ref/prompt", name="review"),
            {"name": "style", "value": "strict"},
            {"language": "greek"},
        )
        assert style.completion.values == ["strict greek"]
        day = await client.complete(
            ResourceTemplateReference(type="ref/resource", uri="notes://{day}"), {"name": "day", "value": "s"}
        )
        assert day.completion.values == ["saturday", "sunday"]

    caller.run(look)


@ERAS
def test_users_have_tools_and_answers_of_their_own(
    era: str, conversation: Conversation, protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    server = protected_mcp_server(era, tools=conversation.register)
    for user, other in (("ada", "grace"), ("grace", "ada")):
        grant = server.authorization_server.grant(client_id="x", scope="read", user=user)
        caller = Caller(server, token=grant["access_token"], era=era)
        listing = caller.run(lambda client: client.list_tools())
        names = {tool.name for tool in listing.tools}
        assert f"{user}s_diary" in names
        assert f"{other}s_diary" not in names
        assert text_of(caller.call(f"{user}s_diary")) == f"{user} reads {user.title()}'s diary."
        with pytest.raises(MCPError, match="Unknown tool"):
            caller.call(f"{other}s_diary")
        [content] = caller.run(lambda client: client.read_resource("notes://today")).contents
        assert content.text == f"Notes of {user}."
    assert conversation.ran == {"adas_diary": 1, "graces_diary": 1}
    assert conversation.asked["resources/read", "ada"] == 1


def test_the_state_of_one_user_is_worth_nothing_to_another(
    conversation: Conversation, protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    server = protected_mcp_server("modern", tools=conversation.register)
    grant = server.authorization_server.grant
    ada, grace = (
        Caller(server, token=grant(client_id="x", scope="read", user=user)["access_token"]) for user in ("ada", "grace")
    )
    first = ada.run(lambda client: client.session.call_tool("sign_contract", {}, allow_input_required=True))
    with pytest.raises(MCPError, match="requestState"):
        grace.run(
            lambda client: client.session.call_tool(
                "sign_contract",
                {},
                input_responses={"sign": ElicitResult(action="accept")},
                request_state=first.request_state,
            )
        )
    assert conversation.ran["sign_contract"] == 0


@ERAS
def test_a_call_may_change_the_list_and_says_so_on_its_stream(
    era: str, start: Start, conversation: Conversation
) -> None:
    _, caller = start(era)

    async def learn(client: Client) -> None:
        await client.call_tool("learn", {"name": "juggle"})
        assert text_of(await client.call_tool("juggle", {})) == "I can juggle."

    caller.run(learn)
    assert any(isinstance(notice, ToolListChangedNotification) for notice in caller.notices)
    assert conversation.ran["juggle"] == 1


def test_a_schema_changes_between_two_listings(start: Start, conversation: Conversation) -> None:
    _, caller = start("modern")

    def arguments() -> list[str]:
        listing = caller.run(lambda client: client.list_tools())
        return next(list(tool.input_schema["properties"]) for tool in listing.tools if tool.name == "shifting")

    assert arguments() == ["text"]
    conversation.change_schema()
    assert arguments() == ["number", "unit"]
    conversation.change_schema()
    assert arguments() == ["text"]


def test_a_modern_listing_says_how_long_and_for_whom_it_holds(start: Start, conversation: Conversation) -> None:
    _, caller = start("modern")
    conversation.caching["tools/list"] = (90_000, "public")
    listing = caller.run(lambda client: client.list_tools())
    assert (listing.ttl_ms, listing.cache_scope) == (90_000, "public")


@ERAS
def test_a_method_waits_or_fails_when_it_is_told_to(era: str, start: Start, conversation: Conversation) -> None:
    _, caller = start(era)
    conversation.faults["prompts/list"] = MCPError(-32000, "Not today.")
    with pytest.raises(MCPError, match="Not today"):
        caller.run(lambda client: client.list_prompts())
    conversation.gate("resources/list").let_pass()
    caller.run(lambda client: client.list_resources())
    assert conversation.gate("resources/list").arrivals == 1


TOOL = {"name": "dig", "inputSchema": {"type": "object"}}


@ERAS
@pytest.mark.parametrize("stream", [False, True])
def test_a_scripted_server_answers_by_the_book(
    era: str, stream: bool, scripted_server: Callable[..., ScriptedServer]
) -> None:
    def call(asked: Asked) -> dict[str, Any]:
        if asked.params["arguments"].get("deep"):
            raise RpcError(-32000, "Rock.")
        return {"content": [{"type": "text", "text": "Sand."}]}

    listing = {"tools": [TOOL], "ttlMs": 5, "cacheScope": "public"}
    server = scripted_server({"tools/list": listing, "tools/call": call}, era, stream=stream)
    caller = Caller(server, era=era)
    assert text_of(caller.call("dig")) == "Sand."
    with pytest.raises(MCPError, match="Rock"):
        caller.call("dig", deep=True)
    with pytest.raises(MCPError, match="Method not found"):
        caller.run(lambda client: client.list_prompts())
    assert [request.tool for request in server.asked("tools/call")] == ["dig", "dig"]
    assert server.sessions == set()
    if era == "legacy":
        assert [request.method for request in server.requests].count("DELETE") == 3


def test_a_scripted_server_may_stream_what_it_likes_before_its_answer(
    scripted_server: Callable[..., ScriptedServer],
) -> None:
    async def call(asked: Asked) -> AsyncIterator[dict[str, Any]]:
        yield {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        yield message_of(asked, {"resultType": "complete", "content": [{"type": "text", "text": "Late."}]})

    listing = {"tools": [TOOL], "ttlMs": 5, "cacheScope": "public"}
    caller = Caller(scripted_server({"tools/list": listing, "tools/call": call}))
    assert text_of(caller.call("dig")) == "Late."
    assert any(isinstance(notice, ToolListChangedNotification) for notice in caller.notices)


class Wire:
    """One JSON-RPC request at a time, by plain HTTP."""

    def __init__(self, server: TaskServer) -> None:
        self.server = server
        self.headers: dict[str, str] = {}
        if server.era == "legacy":
            self.post("initialize", {"protocolVersion": "2025-11-25"})

    def post(self, method: str, params: dict[str, Any], *, name: str = "", tasks: bool = True) -> Any:
        headers = {**self.headers}
        if self.server.era == "modern":
            extensions: dict[str, Any] = {TASKS: {}} if tasks else {}
            params = {
                **params,
                "_meta": {"io.modelcontextprotocol/clientCapabilities": {"extensions": extensions}},
            }
            headers |= {"mcp-protocol-version": "2026-07-28", "mcp-method": method, "mcp-name": name}
        with httpx2.Client(trust_env=False, verify=tls_context()) as http:
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            response = http.post(self.server.url, json=message, headers=headers)
        if session := response.headers.get("mcp-session-id"):
            self.headers["mcp-session-id"] = session
        document = response.json()
        return document.get("result") or document["error"]

    def about(self, method: str, task_id: str, **params: Any) -> Any:
        return self.post(method, {"taskId": task_id, **params}, name=task_id)


def test_a_modern_call_becomes_a_task_that_moves_with_each_question(task_server: Callable[..., TaskServer]) -> None:
    wire = Wire(task_server())
    task = wire.post("tools/call", {"name": "dig", "arguments": {"after": 1}}, name="dig")
    assert (task["resultType"], task["status"], task["pollIntervalMs"]) == ("task", "working", 1)
    assert [wire.about("tasks/get", task["taskId"])["status"] for _ in range(3)] == [
        "working",
        "completed",
        "completed",
    ]
    outcome = wire.about("tasks/get", task["taskId"])
    assert outcome["result"]["content"][0]["text"] == "Dug for 2 questions."
    assert wire.about("tasks/cancel", task["taskId"])["code"] == -32602


def test_a_modern_server_gives_no_task_to_a_client_without_the_extension(
    task_server: Callable[..., TaskServer],
) -> None:
    server = task_server()
    wire = Wire(server)
    refused = wire.post("tools/call", {"name": "dig"}, name="dig", tasks=False)
    assert (refused["code"], server.jobs) == (-32021, [])
    at_once = wire.post("tools/call", {"name": "hurry"}, name="hurry", tasks=False)
    assert at_once["content"][0]["text"] == "At once."
    task = wire.post("tools/call", {"name": "dig"}, name="dig")
    assert wire.post("tasks/get", {"taskId": task["taskId"]}, name="elsewhere")["code"] == -32020


def test_a_modern_task_asks_its_person_twice(task_server: Callable[..., TaskServer]) -> None:
    wire = Wire(task_server())
    task_id = wire.post("tools/call", {"name": "survey"}, name="survey")["taskId"]
    first = wire.about("tasks/get", task_id)
    assert (first["status"], list(first["inputRequests"])) == ("input_required", ["depth"])
    wire.about("tasks/update", task_id, inputResponses={"depth": {"action": "accept", "content": {"metres": 3}}})
    assert list(wire.about("tasks/get", task_id)["inputRequests"]) == ["depth", "sure"]
    wire.about("tasks/update", task_id, inputResponses={"sure": {"action": "accept"}})
    assert wire.about("tasks/get", task_id)["result"]["content"][0]["text"] == "Dug 3 metres."


@pytest.mark.parametrize(
    ("tool", "status"), [("collapse", "failed"), ("strike", "cancelled"), ("stumble", "completed")]
)
@ERAS
def test_a_task_may_end_badly(era: str, tool: str, status: str, task_server: Callable[..., TaskServer]) -> None:
    wire = Wire(task_server(era))
    call = wire.post("tools/call", {"name": tool, "arguments": {"after": 0}, "task": {"ttl": 1000}}, name=tool)
    task_id = call["taskId"] if era == "modern" else call["task"]["taskId"]
    seen = wire.about("tasks/get", task_id)
    assert seen["status"] == status
    if era == "legacy" and status != "cancelled":
        outcome = wire.about("tasks/result", task_id)
        assert outcome.get("code") == -32603 or outcome["isError"]


def test_an_older_tool_that_runs_only_as_a_task_says_so(task_server: Callable[..., TaskServer]) -> None:
    server = task_server("legacy")
    wire = Wire(server)
    assert wire.post("tools/call", {"name": "tunnel"})["code"] == -32601
    task_id = wire.post("tools/call", {"name": "tunnel", "task": {"ttl": 1000}})["task"]["taskId"]
    assert wire.about("tasks/get", task_id)["status"] == "working"
    assert wire.about("tasks/cancel", task_id)["status"] == "cancelled"
    assert [job.status for job in server.jobs] == ["cancelled"]
