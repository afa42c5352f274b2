"""What the steps of a task are, whatever a server says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.exceptions import ServerRefused
from mcp_oauth.sessions import tasks
from mcp_oauth.sessions.results import Answer

SHOWN = "https://mcp.example/mcp"
ERROR = {"code": -32603, "message": "No paper."}
QUESTION = {"method": "elicitation/create", "params": {"mode": "form", "message": "Who?", "requestedSchema": {}}}
STATUSES = ("working", "input_required", "completed", "failed", "cancelled")


def handle(**members: Any) -> dict[str, Any]:
    """Return a handle as the specification's example has it."""
    return {
        "resultType": "task",
        "taskId": "786512e2-9e0d-44bd-8f29-789f320fe840",
        "status": "working",
        "createdAt": "2026-07-28T10:30:00Z",
        "lastUpdatedAt": "2026-07-28T10:40:00Z",
        "ttlMs": 60_000,
        "pollIntervalMs": 5_000,
    } | members


def state(**members: Any) -> dict[str, Any]:
    """Return what ``tasks/get`` is answered with."""
    return handle(**{"resultType": "complete", **members})


def created(**members: Any) -> tasks.Task:
    task = tasks.created_task(handle(**members), modern=True, shown=SHOWN)
    assert task is not None
    return task


def experiment(**members: Any) -> tasks.Task:
    nested = {"taskId": "t1", "status": "working", "ttl": 30_000, "pollInterval": 2_000} | members
    task = tasks.created_task({"task": nested}, modern=False, shown=SHOWN)
    assert task is not None
    return task


def test_a_handle_is_read_and_its_identifier_stays_out_of_sight() -> None:
    task = created(statusMessage="Now\u202e in\nprogress.")
    assert (task.shape, task.status, task.message) == ("extension", "working", "Now in progress.")
    assert (task.poll_seconds, task.ttl_seconds) == (5.0, 60.0)
    for value in (task, tasks.get_request(task)):
        assert task.task_id not in repr(value)


@pytest.mark.parametrize(
    ("result", "modern"),
    [
        ({"resultType": "complete", "content": []}, True),
        ({"content": []}, True),
        ({"resultType": "input_required", "requestState": "x"}, True),
        # The experiment's shape means nothing to a modern server, and the extension's nothing to an older one.
        ({"task": {"taskId": "t", "status": "working"}}, True),
        (handle(), False),
        ({"content": [], "task": {"taskId": "t", "status": "working"}}, False),
        ({"content": [], "task": "lunch"}, False),
    ],
)
def test_what_is_no_task_is_none(result: dict[str, Any], modern: bool) -> None:
    assert tasks.created_task(result, modern=modern, shown=SHOWN) is None


@pytest.mark.parametrize(
    "broken",
    [
        {"taskId": None},
        {"taskId": ""},
        {"taskId": "a\r\nmcp-session-id: b"},
        {"taskId": "ä"},
        {"taskId": "x" * 301},
        {"taskId": 7},
        {"status": "done"},
        {"status": None},
        {"status": ["working"]},
    ],
)
def test_a_broken_handle_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ServerRefused) as refused:
        created(**broken)
    assert refused.value.document == SHOWN
    assert refused.value.field in ("taskId", "status")


def test_each_status_has_its_next_step() -> None:
    task = created()
    outcome = {"content": [], "isError": True}
    steps = {
        "working": (state(), tasks.Wait(5.0)),
        "input_required": (state(status="input_required", inputRequests={"a": QUESTION}), tasks.Ask({"a": QUESTION})),
        "completed": (state(status="completed", result=outcome), tasks.Completed(outcome)),
        "failed": (state(status="failed", error=ERROR), tasks.Failed(ERROR)),
        "cancelled": (state(status="cancelled", statusMessage="Too late."), tasks.Cancelled("Too late.")),
    }
    assert set(steps) == set(STATUSES)
    for answer, step in steps.values():
        assert tasks.next_step(tasks.read_task(answer, task, shown=SHOWN), elapsed=0) == step


@pytest.mark.parametrize(
    "answer",
    [
        state(status="completed"),
        state(status="completed", resultType="task"),
        state(status="completed", result=[]),
        state(status="failed"),
        state(status="failed", error={"message": "no code"}),
        state(status="failed", error={"code": True, "message": "x"}),
        state(status="failed", error={"code": 1}),
        state(status="input_required"),
        state(status="input_required", inputRequests=["a"]),
        {"resultType": "complete"},
        {},
    ],
)
def test_an_answer_without_what_its_status_brings_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(ServerRefused, match="does not follow"):
        tasks.read_task(answer, created(), shown=SHOWN)


def test_an_answer_about_another_task_is_refused() -> None:
    with pytest.raises(ServerRefused, match="another task"):
        tasks.read_task(state(taskId="somebody-else's"), created(), shown=SHOWN)


@pytest.mark.parametrize("status", ["completed", "failed", "input_required"])
def test_a_handle_may_have_ended_and_leave_the_rest_to_the_next_question(status: str) -> None:
    step = tasks.next_step(created(status=status), elapsed=0)
    assert isinstance(step, tasks.Wait)


def test_an_answered_question_is_not_asked_again() -> None:
    two = {"a": QUESTION, "b": QUESTION}
    task = tasks.read_task(state(status="input_required", inputRequests=two), created(), shown=SHOWN)
    assert tasks.next_step(task, elapsed=0, answered={"a"}) == tasks.Ask({"b": QUESTION})
    assert tasks.next_step(task, elapsed=0, answered={"a", "b"}) == tasks.Wait(5.0)


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [
        (5_000, 5.0),
        (0, 0.1),
        (-5, 0.1),
        (1, 0.1),
        (3_600_000, 10.0),
        (10**400, 10.0),
        (-(10**400), 0.1),
        (float("inf"), 10.0),
        (float("nan"), 1.0),
        (None, 1.0),
        ("5", 1.0),
        (True, 1.0),
    ],
)
def test_the_poll_interval_is_held_within_bounds(interval: object, seconds: float) -> None:
    assert created(pollIntervalMs=interval).poll_seconds == pytest.approx(seconds)


def test_a_task_that_takes_long_is_asked_about_less_often_and_a_call_never_asks_without_end() -> None:
    impatient = created(pollIntervalMs=0)
    assert tasks.poll_seconds(impatient, 0) == pytest.approx(0.1)
    assert tasks.poll_seconds(impatient, 60) == pytest.approx(3.0)
    assert tasks.poll_seconds(impatient, 3600) == pytest.approx(10.0)
    elapsed, polls = 0.0, 0
    while elapsed < 600:
        elapsed += tasks.poll_seconds(impatient, elapsed)
        polls += 1
    assert polls < 160


@pytest.mark.parametrize(
    ("ttl", "elapsed", "overdue"),
    [(60_000, 64.9, False), (60_000, 65.1, True), (None, 1e9, False), (-1, 1e9, False), ("x", 1e9, False)],
)
def test_a_task_is_overdue_after_its_time_and_one_more_question(ttl: object, elapsed: float, overdue: bool) -> None:
    assert tasks.is_overdue(created(ttlMs=ttl), elapsed) is overdue


def test_the_requests_name_the_task_where_a_router_looks_for_it() -> None:
    task = created()
    answers = {"a": Answer("accept", {"name": "Ada"}), "b": Answer("decline")}
    requests = [
        tasks.get_request(task),
        tasks.cancel_request(task),
        tasks.result_request(task),
        tasks.update_request(task, answers),
    ]
    assert [request.method for request in requests] == ["tasks/get", "tasks/cancel", "tasks/result", "tasks/update"]
    assert {request.name for request in requests} == {task.task_id}
    assert requests[0].params == {"taskId": task.task_id}
    assert requests[3].params["inputResponses"] == {
        "a": {"action": "accept", "content": {"name": "Ada"}},
        "b": {"action": "decline"},
    }


def test_the_experiment_waits_then_fetches() -> None:
    task = experiment()
    assert (task.shape, task.poll_seconds, task.ttl_seconds) == ("experiment", 2.0, 30.0)
    steps = {status: tasks.next_step(experiment(status=status, statusMessage="No."), elapsed=0) for status in STATUSES}
    assert steps == {
        "working": tasks.Wait(2.0),
        "input_required": tasks.Fetch(),
        "completed": tasks.Fetch(),
        "failed": tasks.Fetch(),
        "cancelled": tasks.Cancelled("No."),
    }


def test_the_experiment_is_asked_for_only_where_it_is_offered() -> None:
    assert tasks.offers_experiment({"tasks": {"requests": {"tools": {"call": {}}}}})
    others: list[dict[str, Any]] = [{}, {"tasks": {}}, {"tasks": {"requests": {"tools": {}}}}, {"tasks": []}]
    for capabilities in others:
        assert not tasks.offers_experiment(capabilities)
    assert tasks.as_task({"name": "dig"}, seconds=1.5) == {"name": "dig", "task": {"ttl": 1500}}


def test_a_task_that_waits_for_its_person_survives_as_text() -> None:
    task = created(status="input_required", inputRequests={"b": QUESTION})
    text = tasks.packed(task, {"a"})
    read = tasks.unpacked(text)
    assert read is not None
    assert (read[0].task_id, read[0].poll_seconds, set(read[1])) == (task.task_id, task.poll_seconds, {"a"})


@pytest.mark.parametrize(
    "state",
    [
        None,
        "",
        "v1.abc",
        "io.modelcontextprotocol/tasks:",
        "io.modelcontextprotocol/tasks:[]",
        "io.modelcontextprotocol/tasks:{}",
        'io.modelcontextprotocol/tasks:{"taskId": "a\\n", "answered": []}',
        'io.modelcontextprotocol/tasks:{"taskId": "a", "answered": 5}',
    ],
)
def test_any_other_state_is_the_servers_own(state: str | None) -> None:
    assert tasks.unpacked(state) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "resultType": st.sampled_from(["task", "complete"]) | JSON,
        "taskId": st.just("t1") | JSON,
        "status": st.sampled_from(STATUSES) | JSON,
        "statusMessage": JSON,
        "ttlMs": JSON,
        "pollIntervalMs": JSON,
        "inputRequests": JSON,
        "result": JSON,
        "error": JSON,
        "task": JSON,
    },
)


@given(MEMBERS, st.booleans(), st.floats(min_value=0, max_value=1e6))
def test_whatever_a_server_says_there_is_a_next_step_or_a_refusal(
    result: dict[str, Any], modern: bool, elapsed: float
) -> None:
    for value in (result, {"task": result}):
        try:
            task = tasks.created_task(value, modern=modern, shown=SHOWN)
        except ServerRefused:
            continue
        if task is None:
            continue
        step = tasks.next_step(task, elapsed=elapsed)
        if isinstance(step, tasks.Wait):
            assert 0.1 <= step.seconds <= 10.0
        tasks.is_overdue(task, elapsed)
        if task.status == "input_required":
            assert json.loads(tasks.packed(task, ()).partition(":")[2])["taskId"] == task.task_id
