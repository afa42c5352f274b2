"""Calls that several processes know of: each runs once, whoever goes on with it, cancels it, or dies over it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ElicitRequest, ElicitRequestFormParams

from mcp_oauth import call_tool, cancel_call, find_call, resume_call
from mcp_oauth.exceptions import AuthorizationRequired, McpOAuthError
from mcp_oauth.models import McpServer, McpServerOAuth, ToolCall
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.scale.processes import PATIENCE, Worker
from tests.servers import AuthorizationServerOptions, OpenServer, Person, ProtectedServer
from tests.servers.conversing import SIGN_URL, Conversation

pytestmark = pytest.mark.django_db(transaction=True)

Workers = Callable[..., list[Worker]]
BOOKING = {"name": "Ada", "guests": 3, "email": "ada@example.org"}
# How often processes look at each other's rows.
QUICK = {"HELD_POLL_SECONDS": 0.05, "CALL_TICK_SECONDS": 0.05}


# What runs in the other processes.


def _call(server: str, user: int, tool: str, arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
    return _told(lambda: call_tool(server, User.objects.get(pk=user), tool, arguments, **options).to_json())


def _resume(call: str, user: int, **options: Any) -> dict[str, Any]:
    """Go on with a call; what it told meanwhile is ``progress``."""
    told: list[Any] = []
    answer = _told(
        lambda: resume_call(
            call, User.objects.get(pk=user), on_progress=lambda progress: told.append(progress.message), **options
        ).to_json()
    )
    return {**answer, "progress": told}


def _cancel(call: str, user: int) -> bool:
    return cancel_call(call, User.objects.get(pk=user))


def _find(call: str, user: int) -> dict[str, Any]:
    found = find_call(call, User.objects.get(pk=user))
    return {"state": found.state, "outcome": found.outcome, "progress": found.progress}


def _told(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a result with its text as ``text``, or an error's JSON as it is."""
    try:
        result = work()
    except McpOAuthError as error:
        return error.as_json()
    return {**result, "text": "".join(block.get("text", "") for block in result["content"])}


COMMANDS: dict[str, Callable[..., Any]] = {"call": _call, "resume": _resume, "cancel": _cancel, "find": _find}


# What they share.


@dataclass
class Desk:
    """A person at a server whose tools converse, shared by every process."""

    peer: OpenServer | ProtectedServer
    user: User
    server: McpServer

    @property
    def who(self) -> dict[str, Any]:
        return {"server": str(self.server.pk), "user": self.user.pk}

    def calls_seen(self) -> int:
        return self.peer.rpc_methods.count("tools/call")


def desk_at(peer: OpenServer | ProtectedServer) -> Desk:
    workspace = new_workspace()
    user = member(workspace)
    return Desk(peer, user, new_server(workspace, peer.url))


@pytest.fixture
def account(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person], conversation: Conversation
) -> tuple[Desk, Callable[[], None]]:
    """Return a connected account without refresh tokens, and how its person connects again."""
    options = AuthorizationServerOptions(cimd=False, auto_consent="ada", issue_refresh_token=False)
    peer = protected_mcp_server(
        as_options=options, scopes=("read",), tool_scopes={"fail": "admin"}, tools=conversation.register
    )
    desk = desk_at(peer)
    browser, ada = browser_of(desk.user), person("ada")

    def connect_again() -> None:
        connect(browser, desk.server, ada)

    connect_again()
    return desk, connect_again


def end_access(desk: Desk) -> None:
    assert isinstance(desk.peer, ProtectedServer)
    desk.peer.authorization_server.expire_access_tokens()
    McpServerOAuth.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


def outcomes_of(workers: list[Worker]) -> list[str]:
    """Return the text of each one's result, or its error's code and reason."""
    answers = [worker.answer() for worker in workers]
    return sorted(answer["text"] if "text" in answer else f"{answer['code']} {answer['reason']}" for answer in answers)


def to(asked: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer to the one form that was asked."""
    [question] = asked["questions"]
    return {question["key"]: {"action": "accept", "content": dict(content)}}


def test_a_call_whose_grant_had_ended_goes_on_in_another_process(
    account: tuple[Desk, Callable[[], None]], workers: Workers
) -> None:
    desk, connect_again = account
    first, second = workers(2)
    end_access(desk)
    needed = first.ask("call", tool="echo", arguments={"text": "hello"}, **desk.who)
    assert (needed["code"], needed["reason"]) == ("reauth_required", "expired")
    connect_again()

    assert second.ask("resume", call=needed["call"], user=desk.user.pk)["text"] == "hello"

    assert desk.calls_seen() == 1


def test_a_call_that_lacked_a_scope_goes_on_in_another_process(
    account: tuple[Desk, Callable[[], None]], workers: Workers
) -> None:
    desk, connect_again = account
    first, second = workers(2)
    lacks = first.ask("call", tool="fail", arguments={"reason": "It ran."}, **desk.who)
    assert lacks["code"] == "insufficient_scope"
    connect_again()

    resumed = second.ask("resume", call=lacks["call"], user=desk.user.pk)

    assert (resumed["isError"], "It ran." in resumed["text"]) == (True, True)


def test_processes_that_resume_one_call_at_once_send_it_once(
    account: tuple[Desk, Callable[[], None]], workers: Workers
) -> None:
    desk, connect_again = account
    end_access(desk)
    with pytest.raises(AuthorizationRequired) as needed:
        call_tool(desk.server, desk.user, "echo", {"text": "once"})
    connect_again()
    four = workers(4)

    for worker in four:
        worker.order("resume", call=needed.value.call, user=desk.user.pk)
    outcomes = outcomes_of(four)

    assert outcomes.count("once") == 1
    assert {outcome for outcome in outcomes if outcome != "once"} <= {
        f"call_not_resumable {reason}" for reason in ("already_resumed", "running", "ended")
    }
    assert desk.calls_seen() == 1
    assert ToolCall.objects.get().attempt == 2


def test_processes_that_use_one_call_id_at_once_run_it_once(
    open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> None:
    desk = desk_at(open_mcp_server(tools=conversation.register))
    four, call_id = workers(4), str(uuid.uuid4())

    for worker in four:
        worker.order("call", tool="echo", arguments={"text": "once"}, call_id=call_id, **desk.who)
    outcomes = outcomes_of(four)

    assert set(outcomes) <= {"once", "call_not_resumable running"}
    assert desk.calls_seen() == 1


def test_a_cancellation_in_one_process_reaches_the_server_through_another(
    open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> None:
    desk = desk_at(open_mcp_server(tools=conversation.register))
    [other] = workers(1)
    call_id = str(uuid.uuid4())
    other.order("call", tool="slow", arguments={}, call_id=call_id, **desk.who)
    conversation.gate("slow").wait_for_arrivals()

    assert cancel_call(call_id, desk.user)

    assert other.answer()["code"] == "cancelled"
    conversation.gate("slow").wait_for_cancellations()
    assert find_call(call_id, desk.user).outcome == "cancelled"
    assert conversation.ran["slow"] == 0


def test_a_call_whose_process_is_killed_is_interrupted_and_never_sent_again(
    open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> None:
    desk = desk_at(open_mcp_server(tools=conversation.register))
    doomed, other = workers(2)
    call_id = str(uuid.uuid4())
    doomed.order("call", tool="slow", arguments={}, call_id=call_id, timeout=1.0, **desk.who)
    conversation.gate("slow").wait_for_arrivals()
    doomed.kill()
    # It has until its deadline, for nobody knows yet that it is dead.
    assert other.ask("find", call=call_id, user=desk.user.pk)["state"] == "running"
    ToolCall.objects.update(deadline_at=timezone.now())

    assert other.ask("find", call=call_id, user=desk.user.pk) == {
        "state": "failed",
        "outcome": "interrupted",
        "progress": None,
    }
    assert other.ask("resume", call=call_id, user=desk.user.pk)["code"] == "interrupted"
    assert other.ask("call", tool="slow", arguments={}, call_id=call_id, **desk.who)["code"] == "interrupted"
    assert conversation.started["slow"] == 1


def test_a_resumed_call_whose_process_is_killed_is_interrupted_and_forgets_what_it_sent(
    account: tuple[Desk, Callable[[], None]], workers: Workers, conversation: Conversation
) -> None:
    desk, connect_again = account
    end_access(desk)
    with pytest.raises(AuthorizationRequired) as needed:
        call_tool(desk.server, desk.user, "slow")
    connect_again()
    doomed, other = workers(2)
    doomed.order("resume", call=needed.value.call, user=desk.user.pk)
    conversation.gate("slow").wait_for_arrivals()
    doomed.kill()
    ToolCall.objects.update(deadline_at=timezone.now())

    assert other.ask("resume", call=needed.value.call, user=desk.user.pk)["code"] == "interrupted"
    assert ToolCall.objects.filter(arguments__isnull=True, pending__isnull=True, outcome="interrupted").count() == 1
    assert conversation.started["slow"] == 1


# Questions in the middle of a call.


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_form_asked_in_one_process_is_answered_in_another(
    era: str, open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> None:
    desk = desk_at(open_mcp_server(era, tools=conversation.register))
    first, second = workers(2, **QUICK)
    asked = first.ask("call", tool="book_table", arguments={"day": "friday"}, **desk.who)
    assert asked["code"] == "input_required"
    stored = repr(ToolCall.objects.values())
    assert "friday" not in stored

    refused = second.ask("resume", call=asked["call"], user=desk.user.pk, answers=to(asked, {**BOOKING, "guests": 99}))
    assert refused["code"] == "invalid_request"
    assert conversation.heard == []
    booked = second.ask("resume", call=asked["call"], user=desk.user.pk, answers=to(asked, BOOKING))

    assert (booked["structuredContent"]["day"], booked["structuredContent"]["guests"]) == ("friday", 3)
    assert conversation.ran["book_table"] == 1
    assert [heard.action for heard in conversation.heard] == ["accept"]
    assert ToolCall.objects.get().state == ToolCall.State.COMPLETED


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_an_address_named_in_one_process_is_visited_and_the_call_goes_on_in_another(
    era: str, open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> None:
    desk = desk_at(open_mcp_server(era, tools=conversation.register))
    first, second = workers(2, **QUICK)
    asked = first.ask("call", tool="sign_contract", arguments={}, **desk.who)
    assert asked["questions"][0]["url"] == SIGN_URL

    assert second.ask("resume", call=asked["call"], user=desk.user.pk)["text"] == "Signed."

    assert conversation.ran["sign_contract"] == 1


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_of_processes_that_answer_one_question_at_once_one_is_heard(
    era: str, open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> None:
    desk = desk_at(open_mcp_server(era, tools=conversation.register))
    # One of the four is the one that asked, and may go on by itself.
    four = workers(4, **QUICK)
    asked = four[0].ask("call", tool="book_table", arguments={"day": "friday"}, **desk.who)

    for worker in four:
        worker.order("resume", call=asked["call"], user=desk.user.pk, answers=to(asked, BOOKING))
    outcomes = outcomes_of(four)

    assert outcomes.count("A table for 3 on friday.") == 1
    assert {outcome for outcome in outcomes if not outcome.startswith("A table")} <= {
        f"call_not_resumable {reason}" for reason in ("already_resumed", "running", "ended")
    }
    assert len(conversation.heard) == 1
    assert conversation.ran["book_table"] == 1


def test_a_held_call_asks_again_and_reports_progress_across_processes(
    open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> None:
    desk = desk_at(open_mcp_server("legacy", tools=conversation.register))
    owner, second, third = workers(3, **QUICK)
    first_question = owner.ask("call", tool="interview", arguments={}, **desk.who)

    second_question = second.ask(
        "resume", call=first_question["call"], user=desk.user.pk, answers=to(first_question, {"favourite": "tea"})
    )
    assert second_question["questions"][0]["message"] == "Why tea?"
    answer = to(second_question, {"reason": "it is warm"})

    assert third.ask("resume", call=first_question["call"], user=desk.user.pk, answers=answer)["text"] == (
        "tea, because it is warm"
    )
    assert conversation.started["interview"] == 1


def test_a_held_call_whose_process_is_killed_is_interrupted_and_not_sent_again(
    open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> None:
    desk = desk_at(open_mcp_server("legacy", tools=conversation.register))
    doomed, other = workers(2, **{**QUICK, "HELD_LEASE_SECONDS": 1.0})
    asked = doomed.ask("call", tool="book_table", arguments={"day": "friday"}, **desk.who)
    doomed.kill()

    # It may still seem alive; then the answers wait for it in vain.
    answered = other.ask("resume", call=asked["call"], user=desk.user.pk, answers=to(asked, BOOKING))

    assert answered["code"] == "interrupted"
    assert other.ask("find", call=asked["call"], user=desk.user.pk)["outcome"] == "interrupted"
    assert (conversation.started["book_table"], conversation.heard) == (1, [])
    assert "ada@" not in repr(ToolCall.objects.values())


def test_a_held_call_is_cancelled_from_another_process(
    open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> None:
    desk = desk_at(open_mcp_server("legacy", tools=conversation.register))
    owner, other = workers(2, **QUICK)
    asked = owner.ask("call", tool="book_table", arguments={"day": "friday"}, **desk.who)

    assert other.ask("cancel", call=asked["call"], user=desk.user.pk) is True

    conversation.wait_for_abandoned("book_table")
    assert ToolCall.objects.get().outcome == "cancelled"


def test_how_a_held_call_fails_is_told_where_it_was_answered(
    open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> None:
    desk = desk_at(open_mcp_server("legacy", tools=conversation.register))
    owner, other = workers(2, **QUICK, MAX_INPUT_ROUNDS=1)
    asked = owner.ask("call", tool="never_satisfied", arguments={}, **desk.who)

    refused = other.ask("resume", call=asked["call"], user=desk.user.pk, answers=to(asked, {"more": "no"}))

    assert (refused["code"], "ask again" in refused["message"]) == ("server_refused", True)
    assert ToolCall.objects.get().outcome == "server_refused"
    conversation.wait_for_abandoned("never_satisfied")


def test_a_result_too_large_to_be_handed_over_is_said_to_be(
    open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> None:
    desk = desk_at(open_mcp_server("legacy", tools=conversation.register))
    owner, other = workers(2, **QUICK, CALL_RESULT_BYTES=20)
    asked = owner.ask("call", tool="book_table", arguments={"day": "friday"}, **desk.who)

    refused = other.ask("resume", call=asked["call"], user=desk.user.pk, answers=to(asked, BOOKING))

    assert refused["code"] == "response_too_large"
    # It has run all the same, and once.
    assert conversation.ran["book_table"] == 1
    assert ToolCall.objects.get().state == ToolCall.State.COMPLETED


def patient(conversation: Conversation) -> Callable[[MCPServer[Any]], None]:
    """Return what registers ``patient`` besides: it asks, reports progress, and waits at a gate of its name."""

    def register(server: MCPServer[Any]) -> None:
        conversation.register(server)

        @server.tool(structured_output=False)
        async def patient(ctx: Context) -> str:
            """Ask, then take time."""
            form = ElicitRequestFormParams(message="Sure?", requested_schema={"type": "object", "properties": {}})
            await conversation.ask(ctx, "patient", {"sure": ElicitRequest(params=form)})
            await ctx.report_progress(1, 2, "Half of it")
            await conversation.gate("patient").passing()
            conversation.ran["patient"] += 1
            return "All of it."

    return register


@pytest.fixture
def patience(
    open_mcp_server: Callable[..., OpenServer], conversation: Conversation, workers: Workers
) -> tuple[Desk, list[Worker], str]:
    """Return three processes: the first holds a call, the second has answered and waits, while the tool takes time."""
    desk = desk_at(open_mcp_server("legacy", tools=patient(conversation)))
    owner, second, third = workers(3, **QUICK)
    asked = owner.ask("call", tool="patient", arguments={}, **desk.who)
    second.order("resume", call=asked["call"], user=desk.user.pk, answers=to(asked, {}))
    conversation.gate("patient").wait_for_arrivals()
    return desk, [owner, second, third], asked["call"]


def test_what_a_held_call_reports_is_told_where_it_was_answered(
    patience: tuple[Desk, list[Worker], str], conversation: Conversation
) -> None:
    desk, (_, second, third), call = patience
    who = {"call": call, "user": desk.user.pk}
    given_up = time.monotonic() + PATIENCE
    while third.ask("find", **who) != {"state": "running", "outcome": "", "progress": 1.0}:
        assert time.monotonic() < given_up
    conversation.gate("patient").open()

    answer = second.answer()

    assert (answer["text"], answer["progress"]) == ("All of it.", ["Half of it"])
    assert third.ask("find", **who) == {"state": "completed", "outcome": "", "progress": 1.0}


def test_a_held_call_that_goes_on_is_cancelled_from_a_third_process(
    patience: tuple[Desk, list[Worker], str], conversation: Conversation
) -> None:
    desk, (_, second, third), call = patience

    assert third.ask("cancel", call=call, user=desk.user.pk) is True

    assert second.answer()["code"] == "cancelled"
    conversation.gate("patient").wait_for_cancellations()
    assert ToolCall.objects.get().outcome == "cancelled"
    assert conversation.ran["patient"] == 0


def test_a_held_call_whose_process_is_killed_as_it_goes_on_is_interrupted(
    patience: tuple[Desk, list[Worker], str], conversation: Conversation
) -> None:
    desk, (owner, second, third), call = patience
    owner.kill()
    ToolCall.objects.update(deadline_at=timezone.now())

    assert second.answer()["code"] == "interrupted"
    assert third.ask("resume", call=call, user=desk.user.pk)["code"] == "interrupted"
    assert len(conversation.heard) == 1
