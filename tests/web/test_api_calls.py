"""Calls over the JSON API: under an id of the caller's own, looked at, resumed, given up, listed page by page."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from mcp_oauth.models import McpServer, Membership, ToolCall
from tests.people import browser_of, connect, member, new_workspace, program_of
from tests.servers import AuthorizationServerOptions, OpenServer, Person, ProtectedServer
from tests.servers.conversing import Conversation
from tests.web.desk import CALLS, Desk, refusal
from tests.web.test_api import Schema, schema
from tests.web.test_server_pages import stored_server

__all__ = ["schema"]

pytestmark = pytest.mark.django_db(transaction=True)

BOOKING = {"name": "Ada", "guests": 2, "email": "ada@example.com"}

Serve = Callable[..., OpenServer]


@pytest.fixture
def desk(open_mcp_server: Serve, conversation: Conversation) -> Desk:
    return Desk(open_mcp_server(tools=conversation.register))


def aside(work: Callable[[], Any]) -> Future[Any]:
    """Do something in another thread, with a database connection of its own."""

    def closing() -> Any:
        try:
            return work()
        finally:
            connection.close()

    pool = ThreadPoolExecutor(1)
    future = pool.submit(closing)
    pool.shutdown(wait=False)
    return future


# --- an id of one's own -----------------------------------------------------------------------------------------------


def test_a_call_under_an_id_runs_once_and_its_result_can_be_had_again(desk: Desk, schema: Schema) -> None:
    call_id = str(uuid.uuid4())

    answers = [desk.call("add", {"a": 2, "b": 3}, call=call_id) for _ in range(2)]
    look = desk.program.get(f"{CALLS}{call_id}/")

    assert [answer.json()["result"]["structuredContent"] for answer in answers] == [{"total": 5}] * 2
    assert [answer.json()["call"] for answer in answers] == [call_id] * 2
    assert desk.peer.rpc_methods.count("tools/call") == 1
    call = look.json()["call"]
    assert (call["state"], call["outcome"], call["tool"], call["server"]) == (
        "completed",
        "",
        "add",
        str(desk.server.pk),
    )
    assert call["result"] == answers[0].json()["result"]
    assert [schema.complaints(answer) for answer in (*answers, look)] == [[]] * 3


def test_a_call_without_an_id_keeps_no_result(desk: Desk) -> None:
    answer = desk.call("echo", {"text": "Hi"})

    assert answer.json() == {"result": {"content": [{"type": "text", "text": "Hi"}], "isError": False}}
    row = ToolCall.objects.get()
    assert (row.result, row.erase_at) == (None, None)
    assert desk.look(row.pk)["result"] is None


def test_an_id_of_another_call_is_refused(desk: Desk) -> None:
    call_id = str(uuid.uuid4())
    desk.call("echo", {"text": "Hi"}, call=call_id)

    assert refusal(desk.call("add", {"a": 1, "b": 1}, call=call_id))[:2] == (400, "invalid_request")
    assert refusal(desk.call("echo", {}, call="mine")) == (400, "invalid_request", "call")


def test_a_tool_that_fails_and_a_tool_that_is_missing_are_told_apart(desk: Desk) -> None:
    failed = desk.call("fail", {"reason": "No paper."})
    missing = desk.call("no_such_tool")

    assert (failed.status_code, failed.json()["result"]["isError"]) == (200, True)
    assert refusal(missing)[:2] == (404, "tool_not_found")


# --- time limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, -1, 600.5, "soon", 1e400])
def test_a_time_limit_that_cannot_be_is_refused(timeout: Any, desk: Desk) -> None:
    assert refusal(desk.call("echo", {"text": "Hi"}, timeout=timeout)) == (400, "invalid_request", "timeout")
    assert not ToolCall.objects.exists()


def test_a_call_that_takes_longer_than_its_limit_ends(desk: Desk) -> None:
    assert refusal(desk.call("slow", timeout=0.3))[:2] == (504, "timeout")
    assert ToolCall.objects.get().outcome == "timeout"


# --- a call that waits for its person ---------------------------------------------------------------------------------


def test_a_call_that_asks_goes_on_with_the_answers_and_runs_once(
    desk: Desk, conversation: Conversation, schema: Schema
) -> None:
    asked = desk.call("book_table", {"day": "monday"})
    error = asked.json()["error"]
    look = desk.program.get(f"{CALLS}{error['call']}/")
    unfit = desk.resume(error["call"], answers={"booking": {"action": "accept", "content": {"guests": 99}}})
    done = desk.resume(error["call"], answers={"booking": {"action": "accept", "content": BOOKING}})
    again = desk.resume(error["call"], answers={"booking": {"action": "accept", "content": BOOKING}})

    assert (asked.status_code, error["code"]) == (409, "input_required")
    (question,) = look.json()["call"]["questions"]
    assert question == error["questions"][0]
    assert (question["key"], question["mode"]) == ("booking", "form")
    assert (look.json()["call"]["state"], look.json()["call"]["connect_url"]) == ("input_required", None)
    assert look.json()["call"]["resumable_until"] is not None
    assert unfit.status_code == 400
    assert done.json()["result"]["structuredContent"] == {"day": "monday", **BOOKING, "seating": "window"} | {
        key: value
        for key, value in done.json()["result"]["structuredContent"].items()
        if key not in BOOKING and key not in {"day", "seating"}
    }
    assert done.json()["call"] == error["call"]
    assert refusal(again) == (409, "call_not_resumable", "ended")
    assert conversation.ran["book_table"] == 1
    assert [schema.complaints(answer) for answer in (asked, look, unfit, done, again)] == [[]] * 5


def test_a_person_who_has_been_where_they_were_sent_says_nothing_more(desk: Desk, conversation: Conversation) -> None:
    asked = desk.call("sign_contract").json()["error"]

    done = desk.resume(asked["call"])

    assert asked["questions"][0]["url"].startswith("https://sign.example/")
    assert done.json()["result"]["content"][0]["text"] == "Signed."


def test_a_call_that_waits_for_access_goes_on_after_the_person_connected(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    desk = Desk(peer)  # type: ignore[arg-type]  # what it uses of an open server, this one has
    asked = desk.call("whoami").json()["error"]
    look = desk.look(asked["call"])

    assert (asked["code"], asked["reason"], look["state"]) == (
        "reauth_required",
        "not_connected",
        "authorization_required",
    )
    assert (look["outcome"], look["connect_url"]) == ("not_connected", asked["connect_url"])
    assert "tools/call" not in peer.rpc_methods

    connect(browser_of(desk.user), desk.server, person("ada"))
    done = desk.resume(asked["call"])

    assert done.json()["result"]["content"][0]["text"] == "ada"
    assert peer.rpc_methods.count("tools/call") == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [({"answers": []}, "answers"), ({"answer": {}}, "answer"), ({"timeout": 0}, "timeout"), ([], "")],
)
def test_a_resumption_with_a_bad_body_is_refused_and_the_call_still_waits(body: Any, field: str, desk: Desk) -> None:
    asked = desk.call("sign_contract").json()["error"]

    answer = desk.post(f"{CALLS}{asked['call']}/resume/", body)

    assert refusal(answer) == (400, "invalid_request", field)
    assert desk.look(asked["call"])["state"] == "input_required"


# --- watching and giving up -------------------------------------------------------------------------------------------


def test_a_running_call_is_watched_and_given_up_by_somebody_else(
    desk: Desk, conversation: Conversation, settings: Settings
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALL_TICK_SECONDS": 0.05}
    call_id = uuid.uuid4()
    running = aside(lambda: refusal(desk.call("slow", {"steps": 4}, call=str(call_id))))
    conversation.gate("slow").wait_for_arrivals()
    while (call := desk.look(call_id))["progress"] != {"progress": 4.0, "total": 4.0, "message": "Step 4"}:
        assert not running.done()

    assert (call["state"], call["result"], call["ended_at"]) == ("running", None, None)

    given_up = desk.cancel(call_id)

    assert given_up.json() == {"cancelled": True}
    assert running.result(20)[:2] == (409, "cancelled")
    conversation.gate("slow").wait_for_cancellations()
    assert (desk.look(call_id)["state"], desk.look(call_id)["outcome"]) == ("failed", "cancelled")
    assert desk.cancel(call_id).json() == {"cancelled": False}


# --- whose calls ------------------------------------------------------------------------------------------------------


def test_a_call_is_there_for_its_person_alone_and_for_a_token_of_its_workspace(desk: Desk) -> None:
    call_id = desk.call("sign_contract").json()["error"]["call"]
    other = new_workspace()
    Membership.objects.create(workspace=other, user=desk.user)
    colleague = member(desk.workspace, role=Membership.Role.ADMIN)
    strangers = [program_of(colleague, desk.workspace), browser_of(colleague), program_of(desk.user, other)]

    for stranger in strangers:
        desk.program = stranger
        answers = [stranger.get(f"{CALLS}{call_id}/"), desk.resume(call_id), desk.cancel(call_id)]
        assert [refusal(answer)[:2] for answer in answers] == [(404, "not_found")] * 3
        assert stranger.get(CALLS).json() == {"calls": [], "next": None}
    desk.program = browser_of(desk.user)
    assert desk.look(call_id)["state"] == "input_required"
    assert [call["id"] for call in desk.program.get(CALLS).json()["calls"]] == [call_id]


def test_who_leaves_a_workspace_leaves_its_calls(desk: Desk) -> None:
    call_id = desk.call("sign_contract").json()["error"]["call"]
    Membership.objects.filter(user=desk.user).delete()
    browser = browser_of(desk.user)

    assert browser.get(f"{CALLS}{call_id}/").status_code == 404
    assert browser.get(CALLS).json()["calls"] == []


# --- the list ---------------------------------------------------------------------------------------------------------


def stored_calls(server: McpServer, user: Any, count: int, **columns: Any) -> list[str]:
    """Write calls that began one second apart, in pairs at the same moment; return their ids, the newest first."""
    now = timezone.now()
    rows = [
        ToolCall(
            server=server,
            user=user,
            server_generation=1,
            tool=f"tool-{number}",
            started_at=now - timedelta(seconds=number // 2),
            deadline_at=now + timedelta(minutes=1),
            **{"state": "completed", **columns},
        )
        for number in range(count)
    ]
    ToolCall.objects.bulk_create(rows)
    return [str(row.pk) for row in sorted(rows, key=lambda row: (-row.started_at.timestamp(), row.pk.hex))]


def pages(client: Client, query: str) -> list[list[str]]:
    """Follow the cursors to the end."""
    found: list[list[str]] = []
    cursor = ""
    while True:
        body = client.get(f"{CALLS}?{query}&cursor={cursor}").json()
        found.append([call["id"] for call in body["calls"]])
        cursor = body["next"]
        if cursor is None:
            return found


def test_calls_are_listed_page_by_page_and_new_ones_move_nothing() -> None:
    workspace = new_workspace()
    user = member(workspace)
    server = stored_server(workspace)
    ids = stored_calls(server, user, 7)
    stored_calls(server, member(workspace), 3)
    program = program_of(user, workspace)

    first = program.get(f"{CALLS}?limit=3").json()
    newer = stored_calls(server, user, 2)
    second = program.get(f"{CALLS}?limit=3&cursor={first['next']}").json()

    assert [call["id"] for call in first["calls"] + second["calls"]] == ids[:6]
    everything = pages(program, "limit=3")
    assert [len(page) for page in everything] == [3, 3, 3]
    assert sorted(chain.from_iterable(everything)) == sorted(ids + newer)
    assert pages(program, "limit=9") == [list(chain.from_iterable(everything))]


def test_calls_are_filtered_by_state_and_server(schema: Schema) -> None:
    workspace = new_workspace()
    user = member(workspace)
    first, second = stored_server(workspace), stored_server(workspace)
    done, waiting = stored_calls(first, user, 1), stored_calls(second, user, 1, state="input_required")
    program = program_of(user, workspace)

    def listed(query: str) -> list[str]:
        answer = program.get(f"{CALLS}?{query}")
        assert schema.complaints(answer) == []
        return [call["id"] for call in answer.json()["calls"]]

    assert listed("state=completed") == done
    assert listed(f"server={second.pk}") == waiting
    assert listed(f"server={second.pk}&state=completed") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("state=lost", "state"),
        ("server=tracker", "server"),
        ("cursor=1", "cursor"),
        ("cursor=x-00000000000000000000000000000000", "cursor"),
        ("cursor=%C2%B2-00000000000000000000000000000000", "cursor"),
        ("cursor=" + "9" * 30 + "-00000000000000000000000000000000", "cursor"),
    ],
)
def test_a_list_that_cannot_be_is_refused(query: str, field: str) -> None:
    workspace = new_workspace()

    answer = program_of(member(workspace), workspace).get(f"{CALLS}?{query}")

    assert refusal(answer) == (400, "invalid_request", field)


def test_calls_at_a_server_of_others_are_not_listed() -> None:
    workspace = new_workspace()
    hidden = stored_server(new_workspace())

    assert program_of(member(workspace), workspace).get(f"{CALLS}?server={hidden.pk}").status_code == 404


def test_a_list_of_calls_takes_the_same_queries_whatever_its_length(django_assert_num_queries: Any) -> None:
    workspace = new_workspace()
    user = member(workspace)
    server = stored_server(workspace)
    program = program_of(user, workspace)
    stored_calls(server, user, 60)
    program.get(CALLS)

    with django_assert_num_queries(3):
        assert len(program.get(f"{CALLS}?limit=50").json()["calls"]) == 50


def test_a_call_whose_process_is_gone_is_listed_as_interrupted() -> None:
    workspace = new_workspace()
    user = member(workspace)
    stored_calls(stored_server(workspace), user, 1, state="running")
    ToolCall.objects.update(deadline_at=timezone.now() - timedelta(seconds=1))

    (call,) = program_of(user, workspace).get(CALLS).json()["calls"]

    assert (call["state"], call["outcome"]) == ("failed", "interrupted")
