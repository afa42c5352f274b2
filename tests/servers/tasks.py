"""An MCP server that answers calls with tasks: the extension of 2026-07-28, or the experiment of 2025-11-25.

Time does not pass here: a task moves on with each question about it, so that a test decides how long it takes.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from mcp_types import HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_REQUIRED_CLIENT_CAPABILITY
from starlette.types import ASGIApp

from tests.servers.conversing import PATIENCE_SECONDS
from tests.servers.scripted import Asked, RpcError, ScriptedServer, scripted_app, scripted_server

EXTENSION = "io.modelcontextprotocol/tasks"
RELATED = "io.modelcontextprotocol/related-task"

TOOLS = {
    "dig": "Works for as many questions as `after` says, then completes.",
    "stumble": "Completes with a tool error.",
    "collapse": "Fails with a JSON-RPC error.",
    "survey": "Asks the person twice, the second time about the first answer.",
    "strike": "Is cancelled by the server itself.",
    "tunnel": "Works until somebody cancels it.",
    "vanish": "Is forgotten at the first question about it.",
    "hurry": "Is no task at all: the result comes at once.",
}
FIRST_QUESTION = {
    "method": "elicitation/create",
    "params": {
        "mode": "form",
        "message": "How deep?",
        "requestedSchema": {
            "type": "object",
            "properties": {"metres": {"type": "integer", "minimum": 1}},
            "required": ["metres"],
        },
    },
}


@dataclass(slots=True)
class Job:
    """One task on the server: ``polls`` counts the questions about it, ``answers`` is what its person said."""

    task_id: str
    tool: str
    arguments: dict[str, Any]
    status: str = "working"
    polls: int = 0
    answers: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    questions: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class TaskServer:
    """A running server of tasks; ``jobs`` are all it ever made, in order, ``poll_interval`` is in milliseconds."""

    era: Literal["modern", "legacy"]
    poll_interval: int | None = 1
    ttl: int | None = 600_000
    jobs: list[Job] = field(default_factory=list)
    running: ScriptedServer | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    @property
    def server(self) -> ScriptedServer:
        """Return the server as it runs, with its script and what it received."""
        assert self.running is not None
        return self.running

    @property
    def url(self) -> str:
        """Return its address."""
        return self.server.url

    @property
    def rpc_methods(self) -> list[str]:
        """Return the JSON-RPC methods it received, in order."""
        return self.server.rpc_methods

    def app(self, script: dict[str, Any]) -> ASGIApp:
        """Return it as an application with this script, to be put behind something else."""
        return scripted_app(script, self.era, capabilities=self.capabilities())

    def wait_for(self, condition: Callable[[Job], bool]) -> Job:
        """Block until there is a job like this and return it.

        Raises:
            TimeoutError: There is none.
        """
        found: list[Job] = []

        def look() -> bool:
            found[:] = [job for job in self.jobs if condition(job)]
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(look, PATIENCE_SECONDS):
                raise TimeoutError(f"Waited in vain, saw {[(job.tool, job.status, job.polls) for job in self.jobs]}.")
        return found[0]

    def script(self) -> dict[str, Any]:
        """Return what it answers each method with."""
        return {
            "tools/list": self._list,
            "tools/call": self._telling(self._call),
            "tasks/get": self._telling(self._get),
            "tasks/update": self._telling(self._update)
            if self.era == "modern"
            else RpcError(METHOD_NOT_FOUND, "Method not found"),
            "tasks/result": self._result if self.era == "legacy" else RpcError(METHOD_NOT_FOUND, "Method not found"),
            "tasks/cancel": self._telling(self._cancel),
        }

    def _telling(self, answer: Callable[[Asked], dict[str, Any]]) -> Callable[[Asked], dict[str, Any]]:
        """Wake whoever waits for a job after each request about one."""

        def answered(asked: Asked) -> dict[str, Any]:
            try:
                return answer(asked)
            finally:
                with self._changed:
                    self._changed.notify_all()

        return answered

    def capabilities(self) -> dict[str, Any]:
        """Return what it says that it can do."""
        if self.era == "modern":
            return {"tools": {}, "extensions": {EXTENSION: {}}}
        return {"tools": {}, "tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}}

    def _list(self, _asked: Asked) -> dict[str, Any]:
        tools: list[dict[str, Any]] = [
            {"name": name, "description": words, "inputSchema": {"type": "object"}} for name, words in TOOLS.items()
        ]
        if self.era == "legacy":
            for tool in tools:
                tool["execution"] = {"taskSupport": "optional" if tool["name"] == "hurry" else "required"}
            return {"tools": tools}
        return {"tools": tools, "ttlMs": 60_000, "cacheScope": "private"}

    def _call(self, asked: Asked) -> dict[str, Any]:
        name = asked.params.get("name")
        if name not in TOOLS:
            raise RpcError(INVALID_PARAMS, f"Unknown tool: {name}")
        as_task = (
            EXTENSION in asked.capabilities.get("extensions", {}) if self.era == "modern" else ("task" in asked.params)
        )
        if name == "hurry":
            return _text("At once.")
        if not as_task and self.era == "legacy":
            raise RpcError(METHOD_NOT_FOUND, "This tool runs as a task only")
        if not as_task:
            missing: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
            raise RpcError(
                MISSING_REQUIRED_CLIENT_CAPABILITY, "Missing required client capability", missing, status=400
            )
        job = Job(secrets.token_urlsafe(16), str(name), asked.params.get("arguments") or {})
        self.jobs.append(job)
        if self.era == "legacy":
            return {"task": self._facts(job)}
        return {"resultType": "task", **self._facts(job)}

    def _get(self, asked: Asked) -> dict[str, Any]:
        job = self._job(asked)
        job.polls += 1
        self._move(job)
        if self.era == "legacy":
            return self._facts(job)
        outcome: dict[str, Any] = {}
        if job.status == "input_required":
            outcome["inputRequests"] = job.questions
        elif job.status == "completed":
            outcome["result"] = job.result
        elif job.status == "failed":
            outcome["error"] = job.error
        return self._facts(job) | outcome

    def _update(self, asked: Asked) -> dict[str, Any]:
        job = self._job(asked)
        for key, answer in asked.params["inputResponses"].items():
            if key in job.questions:
                job.answers[key] = answer
        return {}

    def _result(self, asked: Asked) -> dict[str, Any]:
        job = self._job(asked)
        if job.error is not None:
            raise RpcError(job.error["code"], job.error["message"])
        if job.result is None:
            raise RpcError(INVALID_PARAMS, "This task has no result.")
        return job.result | {"_meta": {RELATED: {"taskId": job.task_id}}}

    def _cancel(self, asked: Asked) -> dict[str, Any]:
        job = self._job(asked)
        if job.status in ("completed", "failed", "cancelled"):
            raise RpcError(INVALID_PARAMS, "This task has ended.")
        job.status = "cancelled"
        return self._facts(job) if self.era == "legacy" else {}

    def _job(self, asked: Asked) -> Job:
        task_id = asked.params.get("taskId")
        if self.era == "modern":
            if asked.headers.get("mcp-name") != task_id or asked.headers.get("mcp-method") != asked.method:
                raise RpcError(HEADER_MISMATCH, "The headers do not name this task.", status=400)
            if EXTENSION not in asked.capabilities.get("extensions", {}):
                raise RpcError(MISSING_REQUIRED_CLIENT_CAPABILITY, "Missing required client capability", status=400)
        job = next((job for job in self.jobs if job.task_id == task_id), None)
        if job is None or job.tool == "vanish":
            raise RpcError(INVALID_PARAMS, "Task not found")
        return job

    def _move(self, job: Job) -> None:
        """Let a task that works come to what its tool is for."""
        if job.status not in ("working", "input_required") or job.tool == "tunnel":
            return
        if job.tool == "survey":
            self._survey(job)
        elif job.polls <= int(job.arguments.get("after", 2)):
            return
        elif job.tool == "collapse":
            job.status, job.error = "failed", {"code": -32603, "message": "The roof came down."}
        elif job.tool == "strike":
            job.status = "cancelled"
        else:
            job.status, job.result = "completed", _text(f"Dug for {job.polls} questions.")
            if job.tool == "stumble":
                job.result = {"content": [{"type": "text", "text": "A stone."}], "isError": True}

    def _survey(self, job: Job) -> None:
        if not job.questions:
            job.status, job.questions = "input_required", {"depth": FIRST_QUESTION}
            return
        first, second = job.answers.get("depth"), job.answers.get("sure")
        if any(answer is not None and answer["action"] != "accept" for answer in (first, second)):
            job.status, job.result = "completed", _text("Nothing was dug.")
        elif second is not None and first is not None:
            job.status, job.result = "completed", _text(f"Dug {first['content']['metres']} metres.")
        elif first is not None and "sure" not in job.questions:
            job.questions = {
                # It goes on naming what was answered, as a server may that is not quite up to date.
                **job.questions,
                "sure": {
                    "method": "elicitation/create",
                    "params": {
                        "mode": "url",
                        "message": f"{first['content']['metres']} metres need a permit.",
                        "url": "https://permits.example/apply",
                    },
                },
            }

    def _facts(self, job: Job) -> dict[str, Any]:
        names = ("ttlMs", "pollIntervalMs") if self.era == "modern" else ("ttl", "pollInterval")
        facts: dict[str, Any] = {
            "taskId": job.task_id,
            "status": job.status,
            "createdAt": "2026-07-28T10:00:00Z",
            "lastUpdatedAt": "2026-07-28T10:00:00Z",
            names[0]: self.ttl,
        }
        if self.poll_interval is not None:
            facts[names[1]] = self.poll_interval
        if job.status in ("working", "cancelled"):
            facts["statusMessage"] = f"{job.status.title()} after {job.polls} questions"
        return facts


def _text(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


@contextmanager
def task_server(
    era: Literal["modern", "legacy"] = "modern", *, poll_interval: int | None = 1, ttl: int | None = 600_000
) -> Iterator[TaskServer]:
    """Serve tools that become tasks; ``poll_interval`` and ``ttl`` are what it says of each, in milliseconds."""
    tasks = TaskServer(era, poll_interval, ttl)
    with scripted_server(tasks.script(), era, capabilities=tasks.capabilities()) as server:
        tasks.running = server
        yield tasks
