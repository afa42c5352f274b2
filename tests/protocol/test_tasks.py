"""Calls that a server turns into tasks: followed to their end, asked about in time, answered, and given up."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.responses import Response

import mcp_oauth
from mcp_oauth.exceptions import DeadlineExceeded, ServerRefused, ServerUnreachable
from mcp_oauth.models import McpServer
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.sessions import client, loop, tasks
from mcp_oauth.sessions.results import Answer, InputWanted, Progress, ToolResult
from mcp_oauth.sessions.signals import Unauthorized
from mcp_oauth.sessions.target import Target
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, Person, ProtectedServer
from tests.servers.scripted import Asked, RpcError
from tests.servers.tasks import TaskServer

Start = Callable[..., TaskServer]
ERAS = pytest.mark.parametrize("era", ["modern", "legacy"])


def target_of(server: TaskServer) -> Target:
    """Return the server as an earlier contact left it known."""
    target = Target(server.url, policy=NetworkPolicy(allow_loopback=True), session_key=("ada",))
    facts = loop.run(lambda: client.connect(target), timeout=20)
    server.server.requests.clear()
    return Target(
        server.url,
        policy=target.policy,
        session_key=target.session_key,
        protocol_version=facts.protocol_version,
        discover_result=facts.discover_result,
    )


@pytest.fixture(autouse=True)
def _no_sessions_stay() -> Iterator[None]:
    yield
    client.end_sessions(lambda key: True)


def call(target: Target, tool: str, /, **options: Any) -> Any:
    arguments, timeout = options.pop("arguments", {}), options.pop("timeout", 10)
    return loop.run(lambda: client.call_tool(target, tool, arguments, timeout=timeout, **options), timeout=20)


def between(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


@ERAS
def test_a_task_is_followed_to_its_end(era: str, task_server: Start) -> None:
    server = task_server(era)
    target = target_of(server)

    result = call(target, "dig", arguments={"after": 2})

    assert isinstance(result, ToolResult)
    assert result.text == "Dug for 3 questions."
    asked = ["tasks/get", "tasks/get", "tasks/get"]
    if era == "modern":
        assert server.rpc_methods == ["tools/call", *asked]
    else:
        # The older server says of a tool that it runs as a task only, and brings the outcome separately.
        handshake = ["initialize", "notifications/initialized"]
        assert server.rpc_methods == [*handshake, "tools/call", "tools/call", *asked, "tasks/result"]
    assert len(server.jobs) == 1


def test_a_server_that_makes_no_task_of_a_call_costs_one_request(task_server: Start) -> None:
    server = task_server()
    assert call(target_of(server), "hurry").text == "At once."
    assert server.rpc_methods == ["tools/call"]


@pytest.mark.parametrize(("interval", "seconds"), [(0, 0.1), (250, 0.25), (None, 1.0)])
def test_a_server_is_asked_no_sooner_than_it_says_and_never_in_a_loop(
    interval: int | None, seconds: float, task_server: Start
) -> None:
    server = task_server(poll_interval=interval)
    call(target_of(server), "dig", arguments={"after": 1})
    times = [request.at for request in server.server.requests]
    assert len(times) == 3
    assert all(seconds <= gap < seconds + 5 for gap in between(times))


@ERAS
def test_a_tool_error_is_a_result_and_a_failed_task_an_error(era: str, task_server: Start) -> None:
    server = task_server(era)
    target = target_of(server)

    stumbled = call(target, "stumble", arguments={"after": 0})
    assert (stumbled.is_error, stumbled.text) == (True, "A stone.")
    with pytest.raises(ServerRefused, match=r"The roof came down. \(error -32603\)"):
        call(target, "collapse", arguments={"after": 0})
    with pytest.raises(ServerRefused, match="cancelled the call: Cancelled after 1 questions"):
        call(target, "strike", arguments={"after": 0})

    assert "tasks/cancel" not in server.rpc_methods


@ERAS
def test_a_task_that_takes_too_long_is_cancelled_at_its_server(era: str, task_server: Start) -> None:
    server = task_server(era)
    with pytest.raises(DeadlineExceeded, match=r"within 0\.5 seconds"):
        call(target_of(server), "tunnel", timeout=0.5)
    assert server.wait_for(lambda job: job.status == "cancelled").tool == "tunnel"


@ERAS
def test_a_task_whose_caller_gives_up_is_cancelled_at_its_server(era: str, task_server: Start) -> None:
    server = task_server(era)
    target = target_of(server)

    async def give_up() -> None:
        calling = asyncio.create_task(client.call_tool(target, "tunnel", {}, timeout=30))
        await asyncio.to_thread(server.wait_for, lambda job: job.polls == 2)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling

    loop.run(give_up, timeout=20)
    assert server.wait_for(lambda job: job.status == "cancelled").polls == 2


def test_a_task_that_outlives_the_time_its_server_gave_it_is_given_up(task_server: Start) -> None:
    server = task_server(ttl=0)
    with pytest.raises(DeadlineExceeded, match="in the time it gave itself"):
        call(target_of(server), "tunnel", timeout=30)
    assert server.wait_for(lambda job: job.status == "cancelled").polls > 0


@ERAS
def test_a_task_that_its_server_forgot_is_an_error(era: str, task_server: Start) -> None:
    server = task_server(era)
    with pytest.raises(ServerRefused, match="Task not found"):
        call(target_of(server), "vanish")
    assert server.rpc_methods[-1] == "tasks/get"


def test_what_a_task_says_of_itself_is_progress(task_server: Start) -> None:
    server = task_server()
    progress = Progress()
    call(target_of(server), "dig", arguments={"after": 1}, progress=progress)
    assert (progress.message, progress.count) == ("Working after 1 questions", 2)
    assert progress.underway == ""


def test_a_task_asks_its_person_and_any_process_brings_the_answers(task_server: Start) -> None:
    server = task_server()
    target = target_of(server)

    first = call(target, "survey")
    assert isinstance(first, InputWanted)
    assert [(question.key, question.message) for question in first.questions] == [("depth", "How deep?")]
    # Nothing but the state goes to the other process.
    second = call(
        target, "survey", answers={"depth": Answer("accept", {"metres": 3})}, request_state=first.request_state
    )
    assert [(question.key, question.url) for question in second.questions] == [
        ("sure", "https://permits.example/apply")
    ]
    result = call(target, "survey", answers={"sure": Answer("accept")}, request_state=second.request_state)

    assert result.text == "Dug 3 metres."
    assert server.rpc_methods.count("tools/call") == len(server.jobs) == 1
    assert server.rpc_methods.count("tasks/update") == 2
    assert server.jobs[0].answers == {
        "depth": {"action": "accept", "content": {"metres": 3}},
        "sure": {"action": "accept"},
    }


def test_a_task_hears_that_its_person_declined(task_server: Start) -> None:
    server = task_server()
    target = target_of(server)
    wanted = call(target, "survey")
    result = call(target, "survey", answers={"depth": Answer("decline")}, request_state=wanted.request_state)
    assert result.text == "Nothing was dug."


def test_a_task_that_waits_for_its_person_can_be_given_up(task_server: Start) -> None:
    server = task_server()
    target = target_of(server)
    wanted = call(target, "survey")

    loop.run(lambda: client.drop_task(target, wanted.request_state), timeout=20)
    assert [job.status for job in server.jobs] == ["cancelled"]
    seen = len(server.server.requests)
    loop.run(lambda: client.drop_task(target, "the server's own state"), timeout=20)
    assert len(server.server.requests) == seen


def test_a_question_that_nobody_here_answers_ends_the_task(task_server: Start) -> None:
    server = task_server()
    target = target_of(server)
    get = server.server.script["tasks/get"]

    def sampling(asked: Asked) -> dict[str, Any]:
        answer = get(asked)
        return {**answer, "inputRequests": {"a": {"method": "sampling/createMessage", "params": {}}}}

    server.server.script["tasks/get"] = sampling
    with pytest.raises(ServerRefused):
        call(target, "survey")
    server.wait_for(lambda job: job.status == "cancelled")


@ERAS
def test_a_few_lost_questions_do_not_lose_the_task(era: str, task_server: Start) -> None:
    server = task_server(era)
    target = target_of(server)
    get, script, lost = server.server.script["tasks/get"], server.server.script, [503, 429, 502]

    def sometimes(asked: Asked) -> Any:
        return Response(status_code=lost.pop()) if lost else get(asked)

    script["tasks/get"] = sometimes
    assert call(target, "dig", arguments={"after": 0}).text == "Dug for 1 questions."
    lost.extend([503] * 50)
    with pytest.raises((ServerRefused, ServerUnreachable)):
        call(target, "tunnel")
    assert len(lost) == 46
    server.wait_for(lambda job: job.status == "cancelled")


def test_a_lost_session_does_not_run_the_tool_again(task_server: Start) -> None:
    server = task_server("legacy")
    target = target_of(server)
    get, script = server.server.script["tasks/get"], server.server.script

    def forgetful(asked: Asked) -> Any:
        if len(server.jobs) == 1 and not server.jobs[0].polls:
            server.server.sessions.clear()
        return get(asked)

    script["tasks/get"] = forgetful
    assert call(target, "dig", arguments={"after": 2}).text == "Dug for 3 questions."
    assert (server.rpc_methods.count("initialize"), len(server.jobs)) == (2, 1)


def test_a_refused_token_leaves_the_task_for_whoever_comes_back(task_server: Start) -> None:
    server = task_server()
    target = target_of(server)
    get, script = server.server.script["tasks/get"], server.server.script
    progress = Progress()

    script["tasks/get"] = lambda asked: Response(status_code=401)
    with pytest.raises(Unauthorized):
        call(target, "dig", arguments={"after": 0}, progress=progress)
    assert tasks.unpacked(progress.underway) is not None
    script["tasks/get"] = get

    assert call(target, "dig", arguments={"after": 0}, progress=progress).text == "Dug for 1 questions."
    assert [job.status for job in server.jobs] == ["completed"]
    assert progress.underway == ""


def test_answers_that_have_arrived_are_not_brought_again_after_a_refused_token(task_server: Start) -> None:
    server = task_server()
    target = target_of(server)
    get, script = server.server.script["tasks/get"], server.server.script
    answers = {"depth": Answer("accept", {"metres": 3})}
    progress = Progress()
    wanted = call(target, "survey", progress=progress)

    script["tasks/get"] = lambda asked: Response(status_code=401)
    with pytest.raises(Unauthorized):
        call(target, "survey", answers=answers, request_state=wanted.request_state, progress=progress)
    script["tasks/get"] = get
    second = call(target, "survey", answers=answers, request_state=wanted.request_state, progress=progress)

    assert [question.key for question in second.questions] == ["sure"]
    assert server.rpc_methods.count("tasks/update") == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"resultType": "task"},
        {"resultType": "task", "taskId": "a b", "status": "working"},
        {"resultType": "task", "taskId": "a", "status": "sleeping"},
        {"taskId": "a", "status": "working"},
    ],
)
def test_a_broken_handle_is_the_servers_fault(answer: dict[str, Any], task_server: Start) -> None:
    server = task_server()
    target = target_of(server)
    server.server.script["tools/call"] = answer
    with pytest.raises(ServerRefused, match="does not follow the MCP specification"):
        call(target, "dig")
    assert server.rpc_methods == ["tools/call"]


@pytest.mark.parametrize(
    "answer",
    [
        {"taskId": "another", "status": "completed", "result": {"content": []}},
        {"status": "completed", "result": {"content": "x"}},
        {"status": "completed", "result": {}},
        {"status": "input_required", "inputRequests": {"a": 7}},
        {"status": "failed", "error": "x"},
        {"status": "asleep"},
    ],
)
def test_a_broken_answer_about_a_task_ends_the_call(answer: dict[str, Any], task_server: Start) -> None:
    server = task_server()
    target = target_of(server)
    server.server.script["tasks/get"] = lambda asked: {"taskId": asked.params["taskId"], **answer}
    with pytest.raises(ServerRefused):
        call(target, "dig")
    assert len(server.jobs) == 1


def test_a_server_that_refuses_to_tell_about_its_task_is_an_error(task_server: Start) -> None:
    server = task_server()
    server.server.script["tasks/get"] = RpcError(-32601, "Method not found", status=404)
    with pytest.raises(ServerRefused, match="Method not found"):
        call(target_of(server), "dig")
    assert len(server.jobs) == 1


# Through the public interface


@pytest.mark.django_db
@ERAS
def test_a_call_through_the_public_interface_follows_its_task(era: str, task_server: Start) -> None:
    server = task_server(era)
    workspace = new_workspace()
    user = member(workspace)
    row = new_server(workspace, server.url)
    assert row.auth_mode == McpServer.AuthMode.NONE

    assert mcp_oauth.call_tool(row, user, "dig", {"after": 1}).text == "Dug for 2 questions."
    with pytest.raises(DeadlineExceeded):
        mcp_oauth.call_tool(row, user, "tunnel", timeout=0.5)
    server.wait_for(lambda job: job.status == "cancelled")


@pytest.mark.django_db(transaction=True)
def test_a_token_that_ends_while_a_task_runs_is_renewed_and_the_tool_runs_once(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    server = TaskServer("modern")
    script = server.script()
    options = AuthorizationServerOptions(cimd=False, auto_consent="ada")
    peer = protected_mcp_server(app=server.app(script), as_options=options)
    workspace = new_workspace()
    user = member(workspace)
    row = new_server(workspace, peer.url)
    connect(browser_of(user), row, person("ada"))
    mcp_oauth.list_tools(row, user)
    get = script["tasks/get"]

    def ends(asked: Asked) -> dict[str, Any]:
        answer: dict[str, Any] = get(asked)
        if server.jobs[0].polls == 1:
            peer.authorization_server.expire_access_tokens()
        return answer

    script["tasks/get"] = ends
    assert mcp_oauth.call_tool(row, user, "dig", {"after": 3}).text == "Dug for 4 questions."

    refreshes = [request.form["grant_type"] for request in peer.authorization_server.requests_to("/token")]
    assert refreshes == ["authorization_code", "refresh_token"]
    assert len(server.jobs) == 1
