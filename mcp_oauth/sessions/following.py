"""Following a task to its end: asking about it when it is time, passing its questions on, giving it up."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from mcp_oauth.exceptions import DeadlineExceeded, McpOAuthError, ServerRefused, ServerUnreachable
from mcp_oauth.net.budget import request_budget
from mcp_oauth.net.faults import NetworkFault
from mcp_oauth.oauth.server_words import quotable
from mcp_oauth.sentences import sentence
from mcp_oauth.sessions import tasks
from mcp_oauth.sessions.channel import Channel
from mcp_oauth.sessions.faults import FAULTS
from mcp_oauth.sessions.held import Conversation
from mcp_oauth.sessions.loop import in_background
from mcp_oauth.sessions.negotiation import Facts, Session, certainly_not_run
from mcp_oauth.sessions.results import Answer, Progress
from mcp_oauth.sessions.rpc import BrokenOff, NotMcp, RpcError
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized
from mcp_oauth.sessions.tasks import Ask, Task, TaskRequest

# A task outlives a connection that breaks and a server that is restarted; one that is gone for longer is gone.
_MAX_LOST_QUESTIONS: Final = 3
# Telling a server that we have given up is a courtesy and must not delay anybody.
_FAREWELL_SECONDS: Final = 1.0


class Following:
    """One task, as a call follows it; it survives a session that is opened anew, and a renewed token.

    ``answered`` are the keys of the questions that the person has answered.
    """

    def __init__(self, task: Task, answered: frozenset[str] = frozenset()) -> None:
        self.task = task
        self.answered = answered
        self._since = asyncio.get_running_loop().time()
        self._lost = 0

    async def outcome(
        self, session: Session, conversation: Conversation, answers: Mapping[str, Answer] | None
    ) -> dict[str, Any] | Ask:
        """Return the call's own result, not yet validated, or what the person is asked first.

        A server is told when we give up. A refused token and a lost session are no reason to: the task goes on, and so
        does the call when it has better ones.

        Raises:
            RpcError: The call ended with this error, or its server does not know the task.
            ServerRefused: The server cancelled the task, or says something else than the specification.
            DeadlineExceeded: The task outlived the time its server gave it.
            NotMcp, BrokenOff, NetworkFault, Unauthorized, ScopeChallenged: See `Session.request`.
        """
        progress = conversation.progress
        try:
            found = await self._followed(session, conversation, answers or {})
        except (Unauthorized, ScopeChallenged):
            raise
        except (RpcError, NotMcp) as refusal:
            if not isinstance(refusal, RpcError) and not certainly_not_run(refusal, session.facts):
                self.give_up(session, progress)
            raise
        except BaseException:
            self.give_up(session, progress)
            raise
        if not isinstance(found, Ask):
            progress.underway = ""
        return found

    def give_up(self, session: Session, progress: Progress) -> None:
        """Have the server told, for a little while and without waiting, that nobody wants the task any more."""
        progress.underway = ""
        if not self._is_over:
            in_background(cancel(session.channel, session.facts, self.task))

    @property
    def _is_over(self) -> bool:
        return self.task.status in ("completed", "failed", "cancelled")

    async def _followed(
        self, session: Session, conversation: Conversation, answers: Mapping[str, Answer]
    ) -> dict[str, Any] | Ask:
        fresh = {key: answer for key, answer in answers.items() if key not in self.answered}
        if fresh:
            await _sent(session, tasks.update_request(self.task, fresh))
            self.answered |= fresh.keys()
        # A handle may say all there is to know; a task that we come back to has to be asked.
        known = not answers and self.task.status != "input_required"
        while True:
            self._note(conversation.progress)
            if known:
                step = tasks.next_step(self.task, elapsed=self._elapsed, answered=self.answered)
                match step:
                    case tasks.Completed():
                        return step.result
                    case tasks.Failed():
                        raise RpcError(step.error["code"], step.error["message"], step.error.get("data"), status=200)
                    case tasks.Cancelled():
                        raise _cancelled(step.message, session.channel)
                    case Ask():
                        return step
                    case tasks.Fetch():
                        return await _sent(session, tasks.result_request(self.task), conversation)
                    case tasks.Wait():
                        await self._pause(step.seconds, session.channel)
            elif self._lost:
                await self._pause(tasks.poll_seconds(self.task, self._elapsed), session.channel)
            known = await self._ask_after(session) or known

    async def _ask_after(self, session: Session) -> bool:
        """Ask how the task is; return whether there was an answer, as a few may be lost.

        Raises what `outcome` raises.
        """
        try:
            answer = await _sent(session, tasks.get_request(self.task))
        except (NotMcp, BrokenOff, NetworkFault) as fault:
            self._lost += 1
            if self._lost > _MAX_LOST_QUESTIONS or not _may_pass(fault):
                raise
            return False
        self._lost = 0
        self.task = tasks.read_task(answer, self.task, shown=session.channel.shown)
        return True

    async def _pause(self, seconds: float, channel: Channel) -> None:
        if tasks.is_overdue(self.task, self._elapsed):
            late = sentence("%(shown)s did not end the call's task in the time it gave itself.", shown=channel.shown)
            raise DeadlineExceeded(late, document=channel.shown)
        await asyncio.sleep(seconds)

    @property
    def _elapsed(self) -> float:
        return asyncio.get_running_loop().time() - self._since

    def _note(self, progress: Progress) -> None:
        """Write down where the task stands: for who watches, and for who goes on with it."""
        progress.underway = "" if self._is_over else tasks.packed(self.task, self.answered)
        if self.task.message and self.task.message != progress.message:
            progress.message = self.task.message
            progress.count += 1


async def cancel(channel: Channel, facts: Facts, task: Task) -> None:
    """Tell a server that nobody wants a task any more; whatever becomes of it, within a second."""
    try:
        async with asyncio.timeout(_FAREWELL_SECONDS):
            # Another channel: the budgets of this one may be spent, which is why we leave.
            await _sent(Session(Channel(channel.target), facts), tasks.cancel_request(task))
    except (*FAULTS, McpOAuthError, Unauthorized, ScopeChallenged):
        pass  # it was a courtesy


async def _sent(session: Session, request: TaskRequest, listener: Conversation | None = None) -> dict[str, Any]:
    # How often a task is asked about is bounded by time; a budget per call would end long ones.
    with request_budget(session.channel.target.policy.max_requests):
        return await session.request(request.method, request.params, listener=listener)


def _may_pass(fault: BaseException) -> bool:
    match fault:
        case NotMcp():
            return fault.status >= 500 or fault.status == 429
        case NetworkFault():
            return type(fault.error) is ServerUnreachable
        case _:
            return True


def _cancelled(reason: str, channel: Channel) -> ServerRefused:
    if reason:
        cancelled = sentence("%(shown)s cancelled the call: %(words)s", shown=channel.shown, words=quotable(reason))
    else:
        cancelled = sentence("%(shown)s cancelled the call.", shown=channel.shown)
    return ServerRefused(cancelled, document=channel.shown)
