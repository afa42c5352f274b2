"""Every call leaves a durable record: how it ended, for whom, once under one id; and nothing that is sealed stays."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from mcp_oauth import acall_tool, call_tool, cancel_call, find_call, resume_call
from mcp_oauth.exceptions import (
    CallCancelled,
    CallInterrupted,
    CallNotResumable,
    DeadlineExceeded,
    InvalidRequest,
    McpOAuthError,
    NotFound,
    ServerRefused,
    ServerUnreachable,
    ToolNotAllowed,
    ToolNotFound,
)
from mcp_oauth.models import McpServer, ToolCall
from mcp_oauth.models.prepared import PreparedUpdate
from mcp_oauth.services import call_records as records
from mcp_oauth.services.call_records import sweep
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, OpenServer, Person, ProtectedServer
from tests.servers.conversing import Conversation

pytestmark = pytest.mark.django_db(transaction=True)

Serve = Callable[..., OpenServer]
SEALED = ("arguments", "pending", "answers", "result")


class Desk:
    """A person at a server whose tools converse."""

    def __init__(self, peer: OpenServer) -> None:
        self.peer = peer
        self.workspace = new_workspace()
        self.user = member(self.workspace)
        self.server = new_server(self.workspace, peer.url)

    def call(self, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
        return call_tool(self.server, self.user, tool, arguments, **options)

    def calls_seen(self) -> int:
        return self.peer.rpc_methods.count("tools/call")


@pytest.fixture
def desk(open_mcp_server: Serve, conversation: Conversation) -> Desk:
    return Desk(open_mcp_server(tools=conversation.register))


def the_call() -> ToolCall:
    return ToolCall.objects.get()


def sealed_columns(call: ToolCall) -> set[str]:
    """Return which sealed columns of the row hold anything, as the database has it."""
    row = ToolCall.objects.filter(pk=call.pk).values(*SEALED).get()
    return {name for name, value in row.items() if value is not None}


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


def overdue(call: ToolCall) -> None:
    """Let the time of a call be over."""
    ToolCall.objects.filter(pk=call.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))


def test_a_call_that_ends_is_on_record_without_what_it_carried(desk: Desk) -> None:
    before = timezone.now()

    assert desk.call("echo", {"text": "hello there"}).text == "hello there"

    call = the_call()
    assert (call.server_id, call.user_id, call.tool) == (desk.server.pk, desk.user.pk, "echo")
    assert (call.state, call.outcome, call.attempt) == (ToolCall.State.COMPLETED, "", 1)
    assert call.server_generation == desk.server.generation
    assert before <= call.started_at <= (call.ended_at or before) <= timezone.now()
    assert call.duration_ms is not None
    assert (call.erase_at, sealed_columns(call)) == (None, set())


def test_a_warm_call_costs_one_insert_and_one_update_of_its_row(desk: Desk) -> None:
    desk.call("echo", {"text": "warm"})

    with CaptureQueriesContext(
        connection,
    ) as queries:
        desk.call("echo", {"text": "measured"})

    mine = [query["sql"].split()[0] for query in queries if ToolCall._meta.db_table in query["sql"]]
    assert mine == ["INSERT", "UPDATE"]
    assert not [query for query in queries if query["sql"].split()[0] in {"BEGIN", "SAVEPOINT"}]


@pytest.mark.parametrize("name", ["key", "natural name"])
def test_a_warm_call_of_a_connected_person_is_three_statements(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person], name: str
) -> None:
    workspace = new_workspace()
    user, server = (
        member(workspace),
        new_server(workspace, protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False)).url),
    )
    connect(browser_of(user), server, person("ada"))
    reference = server.pk if name == "key" else server.natural_name()
    # The first one lists the tools, and the next one may read the listing.
    for _ in range(2):
        call_tool(reference, user, "whoami")

    with CaptureQueriesContext(connection) as queries:
        assert call_tool(reference, user, "whoami").text == "ada"

    assert [query["sql"].split()[0] for query in queries] == ["SELECT", "INSERT", "UPDATE"]


@pytest.mark.parametrize("name", ["key", "natural name"])
def test_a_call_leaves_in_the_database_what_the_probe_saw(desk: Desk, name: str) -> None:
    reference = desk.server.pk if name == "key" else desk.server.natural_name()
    call_tool(reference, desk.user, "echo", {"text": "warm"})

    with CaptureQueriesContext(connection) as queries:
        call_tool(reference, desk.user, "echo", {"text": "measured"})

    # It may be larger than all the rest of the row.
    assert not [query for query in queries if "probe_steps" in query["sql"]]
    assert len([query for query in queries if McpServer._meta.db_table in query["sql"].split(" WHERE ")[0]]) == 1


@pytest.mark.parametrize("call_id", [None, uuid.uuid4()])
def test_only_how_a_call_ended_that_nobody_comes_back_for_may_be_lost(
    desk: Desk, call_id: uuid.UUID | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, may_be_lost = PreparedUpdate.run, []

    def noting(*given: Any, **options: Any) -> int:
        may_be_lost.append(options["may_be_lost"])
        return run(*given, **options)

    monkeypatch.setattr(PreparedUpdate, "run", noting)
    desk.call("echo", {"text": "hello"}, call_id=call_id)

    assert may_be_lost == ([True] if call_id is None else [])


def test_the_record_says_that_a_call_runs_before_the_server_hears_of_it(open_mcp_server: Serve) -> None:
    states: list[str] = []

    def look() -> None:
        states.extend(ToolCall.objects.values_list("state", flat=True))
        connection.close()

    async def spy() -> str:
        """Look at the caller's own records."""
        await asyncio.to_thread(look)
        return "seen"

    desk = Desk(open_mcp_server(tools=[spy]))

    assert desk.call("spy").text == "seen"
    assert states == ["running"]


@pytest.mark.parametrize(
    ("tool", "arguments", "options", "error", "outcome"),
    [
        ("slow", {}, {"timeout": 0.3}, DeadlineExceeded, "timeout"),
        ("no_such_tool", {}, {}, ToolNotFound, "tool_not_found"),
    ],
)
def test_a_call_that_fails_is_on_record_with_the_code_of_its_error(
    desk: Desk,
    tool: str,
    arguments: dict[str, Any],
    options: dict[str, Any],
    error: type[McpOAuthError],
    outcome: str,
) -> None:
    with pytest.raises(error):
        desk.call(tool, arguments, **options)

    call = the_call()
    assert (call.state, call.outcome, call.tool) == (ToolCall.State.FAILED, outcome, tool)
    assert call.ended_at is not None
    assert sealed_columns(call) == set()


def test_a_tool_that_may_not_be_run_is_on_record_and_never_sent(desk: Desk) -> None:
    McpServer.objects.update(denied_tools=["echo"])
    desk.server.refresh_from_db()

    with pytest.raises(ToolNotAllowed):
        desk.call("echo", {"text": "x"})

    assert (the_call().state, the_call().outcome) == (ToolCall.State.FAILED, "tool_not_allowed")
    assert desk.calls_seen() == 0


def test_a_tool_that_reports_a_failure_is_on_record_as_failed(desk: Desk) -> None:
    assert desk.call("fail", {"reason": "No paper."}).is_error

    call = the_call()
    assert (call.state, call.outcome) == (ToolCall.State.FAILED, records.TOOL_ERROR)


def test_a_server_that_refuses_or_is_gone_is_on_record(desk: Desk, conversation: Conversation) -> None:
    from mcp.shared.exceptions import MCPError

    desk.call("echo", {"text": "warm"})
    conversation.faults["tools/call"] = MCPError(-32603, "The kitchen burns.")
    with pytest.raises(ServerRefused):
        desk.call("echo", {"text": "x"})
    McpServer.objects.update(url="http://127.0.0.1:1/mcp")
    desk.server.refresh_from_db()
    with pytest.raises(ServerUnreachable):
        desk.call("echo", {"text": "x"})

    outcomes = ToolCall.objects.order_by("started_at").values_list("outcome", flat=True)
    assert list(outcomes) == ["", "server_refused", "server_unreachable"]


@pytest.mark.parametrize("name", ["", "x" * 201, "line\nbreak", "nul\0"])
def test_a_name_no_tool_can_have_is_refused_and_not_written_down(desk: Desk, name: str) -> None:
    with pytest.raises(ToolNotFound):
        desk.call(name)

    assert not ToolCall.objects.exists()


def test_a_call_that_never_left_because_its_server_is_being_removed_is_not_found(desk: Desk) -> None:
    desk.call("echo", {"text": "warm"})
    gone = McpServer.objects.get()
    open_call = records.open_call

    def late(*arguments: Any, **options: Any) -> Any:
        aside(lambda: McpServer.objects.all().delete()).result(20)
        return open_call(*arguments, **options)

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(records, "open_call", late)
        with pytest.raises(NotFound):
            call_tool(gone, desk.user, "echo", {"text": "x"})

    assert desk.calls_seen() == 1


# One id, one run.


def test_a_call_id_used_twice_runs_once_and_brings_the_same_result(desk: Desk) -> None:
    call_id = uuid.uuid4()

    first = desk.call("add", {"a": 2, "b": 3}, call_id=call_id)
    second = desk.call("add", {"a": 2, "b": 3}, call_id=str(call_id))

    assert first.structured_content == {"total": 5}
    assert (second.to_json(), second.is_error) == (first.to_json(), False)
    assert desk.calls_seen() == 1
    assert the_call().pk == call_id


def test_the_result_of_a_tool_that_failed_is_kept_under_its_id_as_well(desk: Desk) -> None:
    call_id = uuid.uuid4()
    desk.call("fail", {"reason": "No paper."}, call_id=call_id)

    again = desk.call("fail", {"reason": "No paper."}, call_id=call_id)

    assert again.is_error
    assert "No paper." in again.text
    assert desk.calls_seen() == 1


def test_a_call_id_inside_a_callers_transaction_is_refused_without_breaking_it(desk: Desk) -> None:
    call_id = uuid.uuid4()
    desk.call("echo", {"text": "once"}, call_id=call_id)

    with transaction.atomic():
        assert desk.call("echo", {"text": "once"}, call_id=call_id).text == "once"
        assert User.objects.filter(pk=desk.user.pk).exists()

    assert desk.calls_seen() == 1


def test_a_result_is_sealed_bounded_and_erased_after_its_time(desk: Desk, settings: Settings) -> None:
    call_id = uuid.uuid4()
    desk.call("echo", {"text": "between you and me"}, call_id=call_id)
    kept = ToolCall.objects.values_list("result", flat=True).get()
    assert kept is not None
    assert "between" not in str(kept)
    assert the_call().result["content"][0]["text"] == "between you and me"
    assert the_call().erase_at <= timezone.now() + timedelta(seconds=900)  # type: ignore[operator]

    ToolCall.objects.update(erase_at=timezone.now())
    assert sweep().erased == 1

    assert (sealed_columns(the_call()), the_call().erase_at) == (set(), None)
    with pytest.raises(CallNotResumable) as ended:
        desk.call("echo", {"text": "between you and me"}, call_id=call_id)
    assert ended.value.reason == "ended"

    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALL_RESULT_BYTES": 100}
    large = desk.call("echo", {"text": "x" * 200}, call_id=(other := uuid.uuid4()))
    assert large.text == "x" * 200
    assert sealed_columns(ToolCall.objects.get(pk=other)) == set()
    assert desk.calls_seen() == 2


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf"), 1e300])
def test_a_call_whose_time_limit_is_none_is_refused_before_it_begins(desk: Desk, timeout: float) -> None:
    with pytest.raises(InvalidRequest):
        desk.call("echo", {"text": "x"}, timeout=timeout)

    assert desk.calls_seen() == 0
    assert not ToolCall.objects.exists()


def test_an_id_names_one_call_and_no_other(desk: Desk, open_mcp_server: Serve) -> None:
    call_id = uuid.uuid4()
    desk.call("echo", {"text": "mine"}, call_id=call_id)
    second = new_server(desk.workspace, open_mcp_server().url, "Another")

    with pytest.raises(InvalidRequest):
        desk.call("add", {"a": 1, "b": 1}, call_id=call_id)
    with pytest.raises(InvalidRequest):
        call_tool(second, desk.user, "echo", {"text": "mine"}, call_id=call_id)
    with pytest.raises(InvalidRequest):
        desk.call("echo", {"text": "x"}, call_id="not-a-uuid")

    assert desk.calls_seen() == 1


def test_a_call_that_runs_is_not_run_beside_itself(desk: Desk, conversation: Conversation) -> None:
    call_id = uuid.uuid4()
    running = aside(lambda: desk.call("slow", call_id=call_id).text)
    conversation.gate("slow").wait_for_arrivals()

    with pytest.raises(CallNotResumable) as refused:
        desk.call("slow", call_id=call_id)
    with pytest.raises(CallNotResumable) as not_waiting:
        resume_call(call_id, desk.user)
    conversation.gate("slow").open()

    assert (refused.value.reason, not_waiting.value.reason) == ("running", "running")
    assert running.result(20) == "Done after 3 steps."
    assert conversation.started["slow"] == 1


# Whose call it is.


def test_nobody_sees_resumes_or_cancels_another_persons_call(desk: Desk) -> None:
    call_id = uuid.uuid4()
    desk.call("echo", {"text": "mine"}, call_id=call_id)
    colleague, stranger = member(desk.workspace), member(new_workspace())

    for other in (colleague, stranger):
        refusals = []
        for reference in (call_id, uuid.uuid4(), "no uuid"):
            for act in (find_call, resume_call, cancel_call):
                with pytest.raises(NotFound) as refusal:
                    act(reference, other)
                refusals.append(refusal.value.as_json())
        # An id that exists and one that does not look the same.
        assert all(refusal == refusals[0] for refusal in refusals)
    with pytest.raises(NotFound):
        call_tool(desk.server, colleague, "echo", {"text": "mine"}, call_id=call_id)

    assert find_call(call_id, desk.user).state == ToolCall.State.COMPLETED
    assert desk.calls_seen() == 1


def test_who_is_no_member_any_more_does_not_see_the_calls_made_there(desk: Desk) -> None:
    call_id = uuid.uuid4()
    desk.call("echo", {"text": "mine"}, call_id=call_id)
    desk.workspace.memberships.all().delete()

    for act in (find_call, resume_call, cancel_call):
        with pytest.raises(NotFound):
            act(call_id, desk.user)
    with pytest.raises(NotFound):
        desk.call("echo", {"text": "mine"}, call_id=call_id)


# Given up.


def test_a_running_call_is_cancelled_and_its_server_hears_of_it(desk: Desk, conversation: Conversation) -> None:
    call_id = uuid.uuid4()
    running = aside(lambda: desk.call("slow", call_id=call_id))
    conversation.gate("slow").wait_for_arrivals()

    assert cancel_call(call_id, desk.user)

    with pytest.raises(CallCancelled):
        running.result(20)
    conversation.gate("slow").wait_for_cancellations()
    call = find_call(call_id, desk.user)
    assert (call.state, call.outcome) == (ToolCall.State.FAILED, "cancelled")
    assert conversation.ran["slow"] == 0
    assert not cancel_call(call_id, desk.user)


def test_a_call_whose_asynchronous_caller_is_gone_is_cancelled(desk: Desk, conversation: Conversation) -> None:
    async def abandoned() -> None:
        task = asyncio.ensure_future(acall_tool(desk.server, desk.user, "slow"))
        await asyncio.to_thread(conversation.gate("slow").wait_for_arrivals)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await sync_to_async(connections.close_all)()

    asyncio.run(abandoned())

    conversation.gate("slow").wait_for_cancellations()
    assert (the_call().state, the_call().outcome) == (ToolCall.State.FAILED, "cancelled")


def test_a_call_is_cancelled_from_its_own_progress_and_keeps_the_reason_of_whoever_raised(
    desk: Desk, conversation: Conversation
) -> None:
    def enough(progress: Any) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError):
        desk.call("slow", on_progress=enough)

    conversation.gate("slow").wait_for_cancellations()
    assert (the_call().state, the_call().outcome) == (ToolCall.State.FAILED, "error")


# Dead and old.


def test_a_call_that_lost_its_process_is_interrupted_for_every_reader(desk: Desk) -> None:
    call = records.open_call(desk.server, desk.user, "echo", call_id=uuid.uuid4(), seconds=60)
    assert call is not None
    overdue(call.call)

    with pytest.raises(CallInterrupted):
        resume_call(call.call, desk.user)
    with pytest.raises(CallInterrupted):
        desk.call("echo", {"text": "again"}, call_id=call.call.pk)

    found = find_call(call.call, desk.user)
    assert (found.state, found.outcome) == (ToolCall.State.FAILED, "interrupted")
    assert not cancel_call(call.call, desk.user)
    assert desk.calls_seen() == 0


def test_a_late_end_is_better_than_the_guess_that_the_process_was_gone(desk: Desk, conversation: Conversation) -> None:
    call_id = uuid.uuid4()
    running = aside(lambda: desk.call("slow", call_id=call_id).text)
    conversation.gate("slow").wait_for_arrivals()
    overdue(the_call())
    assert sweep().interrupted == 1
    conversation.gate("slow").open()

    assert running.result(20) == "Done after 3 steps."
    assert find_call(call_id, desk.user).state == ToolCall.State.COMPLETED


def test_a_sweep_ends_erases_and_forgets_in_bounded_rounds(desk: Desk, settings: Settings) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALL_DAYS": 30, "CALLS_SWEPT_AT_ONCE": 2}
    now = timezone.now()
    for days in (1, 29, 31, 32, 33):
        started = now - timedelta(days=days)
        ToolCall.objects.create(
            server=desk.server,
            user=desk.user,
            server_generation=1,
            tool=str(days),
            state=ToolCall.State.COMPLETED,
            started_at=started,
            deadline_at=started,
        )
    for _ in range(3):
        records.open_call(desk.server, desk.user, "dead", call_id=None, seconds=-1)

    rounds = [sweep() for _ in range(3)]

    assert [(swept.interrupted, swept.forgotten) for swept in rounds] == [(2, 2), (1, 1), (0, 0)]
    assert sorted(ToolCall.objects.exclude(tool="dead").values_list("tool", flat=True)) == ["1", "29"]
    assert set(ToolCall.objects.filter(tool="dead").values_list("outcome", flat=True)) == {"interrupted"}


def test_two_rows_of_one_id_cannot_exist(desk: Desk) -> None:
    attempt = records.open_call(desk.server, desk.user, "echo", call_id=uuid.uuid4(), seconds=60)
    assert attempt is not None
    with pytest.raises(IntegrityError), transaction.atomic():
        attempt.call.save(force_insert=True)
