"""Exchanges held open while a person answers, for servers of before 2026-07-28 that ask in the middle of a call.

The exchange runs in a task of its own, so that whoever started it can go away with the questions; whoever comes back
with the answers, in this process, finds it by the name of its call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, TypeVar
from weakref import WeakKeyDictionary

from mcp_oauth.exceptions import CallInterrupted, DeadlineExceeded
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.sentences import sentence
from mcp_oauth.sessions import questions
from mcp_oauth.sessions.faults import in_words
from mcp_oauth.sessions.questions import as_responses
from mcp_oauth.sessions.results import Answer, InputWanted, Progress, Question
from mcp_oauth.sessions.target import Target
from mcp_oauth.sessions.validation import InvalidResult

T = TypeVar("T")

_LONGEST_MESSAGE: Final = 300
# A server may go on without the answer; whoever then brings it finds how that ended.
_RESULT_STAYS_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Open:
    """A question the server waits for, and where its answer goes."""

    question: Question
    answered: asyncio.Future[dict[str, Any]]


class Conversation:
    """What one call hears from its server before it ends: progress, changed listings, and questions."""

    def __init__(self, target: Target, progress: Progress | None, *, holds: bool) -> None:
        self.target = target
        self.progress = progress or Progress()
        # Without a name to come back by, nobody could answer.
        self._holds = holds
        self._open: dict[str, _Open] = {}
        self._news = asyncio.Event()

    def notified(self, method: str, params: dict[str, Any]) -> None:
        """Note progress and changed listings; nothing else is of use here."""
        if method == "notifications/progress":
            self._note_progress(params)
        elif method.startswith("notifications/") and method.endswith("/list_changed"):
            kind = method.split("/")[1]
            if kind in ("tools", "prompts", "resources"):
                self.progress.changed.add(kind)

    async def asked(self, key: str, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """Wait for the person's answer to an elicitation; other requests are declined."""
        if method != "elicitation/create":
            return None
        try:
            question = questions.question(key[:200], params, self.target)
        except InvalidResult:
            return None
        if not self._holds:
            return {"action": "cancel"}
        waiting = _Open(question, asyncio.get_running_loop().create_future())
        self._open[question.key] = waiting
        self._news.set()
        try:
            return await waiting.answered
        finally:
            self._open.pop(question.key, None)

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions nobody has answered yet."""
        return tuple(waiting.question for waiting in self._open.values() if not waiting.answered.done())

    def answer(self, answers: Mapping[str, Answer]) -> None:
        """Hand answers to whoever asked; one to a question that is not open is of no consequence."""
        self._news.clear()
        for key, response in as_responses(answers).items():
            waiting = self._open.get(key)
            if waiting is not None and not waiting.answered.done():
                waiting.answered.set_result(response)

    async def until_asked(self) -> None:
        """Return when there is something to answer."""
        while not self.questions:
            self._news.clear()
            await self._news.wait()

    def _note_progress(self, params: dict[str, Any]) -> None:
        value, total, message = params.get("progress"), params.get("total"), params.get("message")
        if not _is_number(value):
            return
        self.progress.progress = float(value)
        self.progress.total = float(total) if _is_number(total) else None
        self.progress.message = printable(message, _LONGEST_MESSAGE)
        self.progress.count += 1


class _Held:
    """One exchange and its conversation."""

    def __init__(self, task: asyncio.Task[Any], conversation: Conversation, clock: asyncio.Timeout) -> None:
        self.task = task
        self.conversation = conversation
        self.clock = clock


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Held]] = WeakKeyDictionary()


def _held_here() -> dict[str, _Held]:
    return _of_loops.setdefault(asyncio.get_running_loop(), {})


async def run_or_hold(
    work: Callable[[Conversation], Awaitable[T]], conversation: Conversation, *, name: str, seconds: float
) -> T | InputWanted:
    """Do the work of a call, up to its end or the first question.

    ``seconds`` bound the work itself; while a person is asked, ``held_call_seconds`` of the target do.

    Raises whatever the work raises, and:
        DeadlineExceeded: It took longer.
    """
    started: asyncio.Future[asyncio.Timeout] = asyncio.get_running_loop().create_future()

    async def bounded() -> T:
        async with asyncio.timeout(seconds) as clock:
            started.set_result(clock)
            return await work(conversation)

    task = asyncio.get_running_loop().create_task(bounded())
    try:
        clock = await asyncio.shield(started)
    except asyncio.CancelledError:
        task.cancel()
        raise
    outcome: T | InputWanted = await _follow(_Held(task, conversation, clock), name, seconds)
    return outcome


async def continue_held(
    name: str, answers: Mapping[str, Answer], *, seconds: float, progress: Progress | None = None
) -> Any:
    """Give answers to an exchange that is held under a name, and follow it to its end or the next question.

    Raises whatever the exchange raises, and:
        CallInterrupted: No exchange of that name is held in this process, or not any more.
        DeadlineExceeded: It took longer.
    """
    held = _held_here().pop(name, None)
    if held is None:
        raise CallInterrupted(
            sentence("The process that kept the call open for your answer is gone, or has given it up.")
        )
    if progress is not None:
        held.conversation.progress = progress
    if not held.task.done():
        held.clock.reschedule(asyncio.get_running_loop().time() + seconds)
        held.conversation.answer(answers)
    return await _follow(held, name, seconds)


def drop_held(name: str) -> None:
    """Give up an exchange; its server is told. Nothing happens where there is none of that name."""
    held = _held_here().pop(name, None)
    if held is not None:
        held.task.cancel()


async def _follow(held: _Held, name: str, seconds: float) -> Any:
    """Wait for the end of an exchange or for a question, whichever comes first."""
    asked = asyncio.get_running_loop().create_task(held.conversation.until_asked())
    try:
        await asyncio.wait({held.task, asked}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        held.task.cancel()
        raise
    finally:
        asked.cancel()
    if held.task.done():
        with in_words(held.conversation.target, seconds):
            return await held.task
    target = held.conversation.target
    here = _held_here()
    if len(here) >= target.max_held_calls and name not in here:
        held.task.cancel()
        raise DeadlineExceeded(sentence("Too many calls wait for an answer in this process; none was over in time."))
    held.clock.reschedule(asyncio.get_running_loop().time() + target.held_call_seconds)
    here[name] = held
    held.task.add_done_callback(lambda task: _over(name, held))
    return InputWanted(held.conversation.questions, held=True, protocol_version=target.protocol_version or "")


def _over(name: str, held: _Held) -> None:
    """Let go of an exchange that ended while nobody followed it; its result stays for a while."""
    failed = held.task.cancelled() or held.task.exception() is not None
    asyncio.get_running_loop().call_later(0.0 if failed else _RESULT_STAYS_SECONDS, _let_go, name, held)


def _let_go(name: str, held: _Held) -> None:
    here = _held_here()
    if here.get(name) is held and held.task.done():
        del here[name]


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e300
