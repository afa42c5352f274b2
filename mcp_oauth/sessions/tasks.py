"""Tasks: calls that go on after their request has ended, as pure steps; whoever takes them does the I/O.

Two shapes exist. The extension of MCP 2026-07-28 (SEP-2663): a server may answer any ``tools/call`` of a client that
names the extension with a handle, ``tasks/get`` brings the outcome, ``tasks/update`` takes answers. The experiment of
2025-11-25: the client asks for a task, the handle lies one level deeper, ``tasks/result`` waits for the outcome.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mcp_oauth.exceptions import ServerRefused
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.sentences import sentence
from mcp_oauth.sessions.results import Answer

EXTENSION = "io.modelcontextprotocol/tasks"
"""The extension's identifier, in the capabilities of both sides; its settings are an empty object."""

RESULT_TYPE = "task"

Shape = Literal["extension", "experiment"]
Status = Literal["working", "input_required", "completed", "failed", "cancelled"]

# Less than the first is a server that wants to be asked in a loop, and a person does not see the difference; more than
# the second is one that forgot the unit, and the person waits for a result that is there.
SHORTEST_POLL_SECONDS = 0.1
LONGEST_POLL_SECONDS = 10.0
# Where the server suggests nothing.
USUAL_POLL_SECONDS = 1.0
# A task that has taken long is asked about less often: what this adds to a call is a twentieth of its own time, and a
# call of ten minutes is asked about some 150 times, whatever the server suggests.
POLL_SHARE = 0.05

# It travels in a header and in our database; the identifiers in the field are UUIDs.
_TASK_ID = re.compile(r"[\x21-\x7e]{1,300}")
_LONGEST_MESSAGE = 500
# A server that invents keys for ever is not remembered for ever.
_MAX_ANSWERED = 200
_STATE_PREFIX = f"{EXTENSION}:"


@dataclass(frozen=True, slots=True)
class Task:
    """What a server last said of a task; its identifier may be worth a token and stays out of ``repr``.

    ``ttl_seconds`` counts from the task's creation, ``None`` is for ever. ``input_requests`` are MCP `InputRequests`
    as the wire spells them, unchecked; ``result`` and ``error`` are what the call itself would have been answered with.
    """

    task_id: str = field(repr=False)
    shape: Shape
    status: Status
    message: str = ""
    poll_seconds: float = USUAL_POLL_SECONDS
    ttl_seconds: float | None = None
    input_requests: dict[str, Any] = field(default_factory=dict, repr=False)
    result: dict[str, Any] | None = field(default=None, repr=False)
    error: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """One JSON-RPC request about a task; ``name`` is what its ``Mcp-Name`` header says (Streamable HTTP routing)."""

    method: str
    params: dict[str, Any] = field(repr=False)
    name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Have the person answer these requests (MCP `InputRequests`), then send :func:`update_request`."""

    requests: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Send :func:`result_request`, which waits for the outcome and may ask the person meanwhile."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The call's own result (MCP `CallToolResult`), unchecked."""

    result: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The JSON-RPC error that the call ended with: ``code``, ``message`` and perhaps ``data``."""

    error: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody else ended the task; ``message`` is the server's reason, if it gives one."""

    message: str


Step = Wait | Ask | Fetch | Completed | Failed | Cancelled


def created_task(result: Mapping[str, Any], *, modern: bool, shown: str) -> Task | None:
    """Return the task that a ``tools/call`` was answered with, or ``None`` when the answer is none.

    Raises:
        ServerRefused: It says that it is a task and is not; ``shown`` is the server's address in that message.
    """
    if modern:
        return _task(result, "extension", shown) if result.get("resultType") == RESULT_TYPE else None
    nested = result.get("task")
    # A result of this age always has content, and may have any other member beside it.
    if not isinstance(nested, Mapping) or "content" in result:
        return None
    return _task(nested, "experiment", shown)


def read_task(result: Mapping[str, Any], task: Task, *, shown: str) -> Task:
    """Return what the answer to :func:`get_request` says of a task.

    Raises:
        ServerRefused: It is not about this task, or does not follow the specification.
    """
    # Some servers call this answer a task as well; it has to say how it ended all the same.
    seen = _task({**result, "resultType": "complete"}, task.shape, shown)
    if seen.task_id != task.task_id:
        raise ServerRefused(
            sentence("%(shown)s answered about another task than the one that was asked for.", shown=shown),
            document=shown,
        )
    return seen


def next_step(task: Task, *, elapsed: float, answered: Collection[str] = ()) -> Step:
    """Return what to do about a task that has been watched for ``elapsed`` seconds.

    ``answered`` are the keys of the requests that the person has answered: a server may go on naming them for a while.
    """
    if task.status == "cancelled":
        return Cancelled(task.message)
    if task.status == "working":
        return Wait(poll_seconds(task, elapsed))
    if task.shape == "experiment":
        # Its questions come while the outcome is waited for, and so does the error that it failed with.
        return Fetch()
    if task.result is not None:
        return Completed(task.result)
    if task.error is not None:
        return Failed(task.error)
    if unanswered := {key: value for key, value in task.input_requests.items() if key not in answered}:
        return Ask(unanswered)
    # It has ended, and this answer did not say how; or it has not yet read what the person said.
    ended = task.status in ("completed", "failed")
    return Wait(SHORTEST_POLL_SECONDS if ended else poll_seconds(task, elapsed))


def poll_seconds(task: Task, elapsed: float) -> float:
    """Return how long to wait before asking again, after ``elapsed`` seconds."""
    return min(max(task.poll_seconds, elapsed * POLL_SHARE), LONGEST_POLL_SECONDS)


def is_overdue(task: Task, elapsed: float) -> bool:
    """Tell whether a task that has been watched for ``elapsed`` seconds may be given up as forgotten by its server.

    The server's clock is not compared with ours: the time counts from when we heard of the task, and one more
    question is allowed for.
    """
    return task.ttl_seconds is not None and elapsed > task.ttl_seconds + task.poll_seconds


def get_request(task: Task) -> TaskRequest:
    """Return the request that asks how a task is."""
    return _request("tasks/get", task)


def result_request(task: Task) -> TaskRequest:
    """Return the request that waits for the outcome of a task of 2025-11-25."""
    return _request("tasks/result", task)


def cancel_request(task: Task) -> TaskRequest:
    """Return the request that asks for a task to be stopped; the server may or may not do it."""
    return _request("tasks/cancel", task)


def update_request(task: Task, answers: Mapping[str, Answer]) -> TaskRequest:
    """Return the request that brings a task the answers to its questions (MCP `InputResponses`)."""
    return _request("tasks/update", task, inputResponses={key: answer.to_json() for key, answer in answers.items()})


def as_task(params: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
    """Return the parameters of a ``tools/call`` that asks a server of 2025-11-25 for a task, kept for ``seconds``."""
    return {**params, "task": {"ttl": math.ceil(seconds * 1000)}}


def offers_experiment(capabilities: Mapping[str, Any]) -> bool:
    """Tell whether a server of 2025-11-25 takes ``tools/call`` as a task, by what it said of itself."""
    value: object = capabilities
    for name in ("tasks", "requests", "tools", "call"):
        value = value.get(name) if isinstance(value, Mapping) else None
    return isinstance(value, Mapping)


def packed(task: Task, answered: Collection[str]) -> str:
    """Return a task that has not ended as a text that stands where a ``requestState`` does: any process can go on.

    A server could make up such a text; it would only have itself asked about a task of its own.
    """
    kept = sorted(answered)[:_MAX_ANSWERED]
    facts = {"taskId": task.task_id, "shape": task.shape, "poll": task.poll_seconds, "answered": kept}
    return _STATE_PREFIX + json.dumps(facts, separators=(",", ":"))


def unpacked(state: str | None) -> tuple[Task, frozenset[str]] | None:
    """Return the task and the answered keys that :func:`packed` wrote, or ``None`` for anything else."""
    if state is None or not state.startswith(_STATE_PREFIX):
        return None
    try:
        facts = json.loads(state.removeprefix(_STATE_PREFIX))
        task_id, shape, answered = facts["taskId"], facts["shape"], facts["answered"]
    except (ValueError, TypeError, KeyError):
        return None
    if not isinstance(task_id, str) or not _TASK_ID.fullmatch(task_id) or not isinstance(answered, list):
        return None
    if shape not in get_args(Shape):
        return None
    task = Task(
        task_id=task_id,
        shape=shape,
        status="input_required",
        poll_seconds=_clamped(facts.get("poll"), 1.0),
    )
    return task, frozenset(key for key in answered if isinstance(key, str))


def _request(method: str, task: Task, **more: Any) -> TaskRequest:
    return TaskRequest(method, {"taskId": task.task_id, **more}, task.task_id)


def _task(value: Mapping[str, Any], shape: Shape, shown: str) -> Task:
    task_id: object = value.get("taskId")
    status: Any = value.get("status")
    if not isinstance(task_id, str) or not _TASK_ID.fullmatch(task_id):
        raise _malformed(shown, "taskId")
    if status not in get_args(Status):
        raise _malformed(shown, "status")
    message = value.get("statusMessage")
    milliseconds = ("ttlMs", "pollIntervalMs") if shape == "extension" else ("ttl", "pollInterval")
    return Task(
        task_id=task_id,
        shape=shape,
        status=status,
        message=printable(message, _LONGEST_MESSAGE) if isinstance(message, str) else "",
        poll_seconds=_clamped(value.get(milliseconds[1]), 0.001),
        ttl_seconds=_seconds(value.get(milliseconds[0])),
        **(_outcome(value, status, shown) if shape == "extension" else {}),
    )


def _outcome(value: Mapping[str, Any], status: Status, shown: str) -> dict[str, Any]:
    """Return what a status of the extension brings along; a handle may leave it to ``tasks/get``."""
    name = {"input_required": "inputRequests", "completed": "result", "failed": "error"}.get(status, "")
    if not name:
        return {}
    brought = value.get(name)
    if brought is None and value.get("resultType") == RESULT_TYPE:
        return {}
    if not isinstance(brought, dict) or (status == "failed" and not _is_error(brought)):
        raise _malformed(shown, name)
    return {{"inputRequests": "input_requests"}.get(name, name): brought}


def _is_error(value: Mapping[str, Any]) -> bool:
    code = value.get("code")
    return isinstance(code, int) and not isinstance(code, bool) and isinstance(value.get("message"), str)


def _clamped(value: object, unit: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and math.isnan(value))
    ):
        return USUAL_POLL_SECONDS
    # Bounded before it is multiplied: a whole number of a thousand digits is no float.
    return min(max(min(max(value, 0), 10**9) * unit, SHORTEST_POLL_SECONDS), LONGEST_POLL_SECONDS)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    return value / 1000


def _malformed(shown: str, member: str) -> ServerRefused:
    return ServerRefused(
        sentence("%(shown)s answered with a task that does not follow the MCP specification.", shown=shown),
        document=shown,
        field=member,
        rule=sentence(
            "MCP extension %(extension)s: a task has an identifier, a status, and what the status brings along",
            extension=EXTENSION,
        ),
    )
