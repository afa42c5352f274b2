"""One call of one tool: sent, followed where it lives on as a task, or left with what its server asks first."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Mapping
from typing import Any, Final

from mcp_types import HEADER_MISMATCH, METHOD_NOT_FOUND, URL_ELICITATION_REQUIRED, CallToolResult

from mcp_oauth.exceptions import CallCancelled, ServerRefused
from mcp_oauth.sentences import sentence
from mcp_oauth.sessions import tasks
from mcp_oauth.sessions.faults import wants_input
from mcp_oauth.sessions.following import Following
from mcp_oauth.sessions.held import Conversation
from mcp_oauth.sessions.kept import kept_sessions
from mcp_oauth.sessions.listings import Walk
from mcp_oauth.sessions.negotiation import Facts, Session
from mcp_oauth.sessions.questions import MAX_STATE_BYTES, NotAnswerable, as_responses, questions_behind, questions_in
from mcp_oauth.sessions.results import Answer, InputWanted, ToolResult
from mcp_oauth.sessions.rpc import RpcError
from mcp_oauth.sessions.target import Target
from mcp_oauth.sessions.validation import InvalidResult, checked

# A server may ask us to come back without having asked the person anything; each time later than before.
_MAX_RETURNS: Final = 10
_FIRST_RETURN_SECONDS: Final = 0.05
_LAST_RETURN_SECONDS: Final = 0.25


class Calling:
    """One call of one tool, to be done in a session; what it has become stays here when that has to be opened anew."""

    def __init__(
        self,
        target: Target,
        name: str,
        arguments: dict[str, Any],
        answers: Mapping[str, Answer] | None,
        request_state: str | None,
        *,
        seconds: float,
    ) -> None:
        """Prepare a call that has so many seconds; ``answers`` and ``request_state`` are those of an earlier round."""
        self._target = target
        self._name = name
        self._arguments = arguments
        self._answers = answers
        self._state = request_state
        self._seconds = seconds
        self._schema: Any = next((tool.input_schema for tool in target.tools or () if tool.name == name), None)
        underway = tasks.unpacked(request_state)
        self._task = Following(*underway) if underway is not None else None

    async def run(self, session: Session, conversation: Conversation) -> ToolResult | InputWanted:
        """Have the tool run and return what comes of it.

        Raises:
            InvalidResult: It is nothing that the specification knows.
            CallCancelled: The person declined what an earlier server wants done first.
            ServerRefused: It asks for what nobody here gives it.
            RpcError, NotMcp, BrokenOff, NetworkFault, Unauthorized, ScopeChallenged: See `Session.request`.
        """
        if session.facts.is_modern:
            return await self._done(session, conversation)
        async with kept_sessions().listening(self._target, session.facts, conversation):
            return await self._done(session, conversation)

    async def _done(self, session: Session, conversation: Conversation) -> ToolResult | InputWanted:
        if self._task is None:
            outcome = await self._sent(session, conversation)
            if not isinstance(outcome, Following):
                return outcome
            # From here on the tool runs, whatever becomes of this session.
            self._task = outcome
        found = await self._task.outcome(session, conversation, self._answers)
        if not isinstance(found, tasks.Ask):
            return await _tool_result(found, session)
        state = conversation.progress.underway
        try:
            wanted = self._wanted({"inputRequests": found.requests, "requestState": state}, session)
        except (InvalidResult, ServerRefused):
            self._task.give_up(session, conversation.progress)
            raise
        # It waits for its person now, and is gone on with by what the person brings.
        conversation.progress.underway = ""
        return wanted

    async def _sent(self, session: Session, conversation: Conversation) -> ToolResult | InputWanted | Following:
        """Have the tool run; return the task that it became, if it became one."""
        params = self._params(session.facts)
        pause = _FIRST_RETURN_SECONDS
        relisted = as_task = False
        for _ in range(_MAX_RETURNS):
            modern = session.facts.is_modern
            headers = _param_headers(self._schema, self._arguments) if modern else None
            try:
                result = await session.request(
                    "tools/call", params, headers=headers, listener=conversation, progress=True
                )
            except RpcError as error:
                if error.code == URL_ELICITATION_REQUIRED:
                    return InputWanted(questions_behind(error.data, self._target), **session.facts.as_keywords())
                if error.code == METHOD_NOT_FOUND and not as_task and _wants_task(session.facts):
                    # A tool that runs as a task only says so like this, and ran nothing (MCP 2025-11-25, tasks).
                    params, as_task = tasks.as_task(params, seconds=self._seconds), True
                    continue
                if error.code != HEADER_MISMATCH or relisted:
                    raise
                # It wants headers derived from a schema we do not know, or not any more, and ran nothing.
                self._schema, relisted = await self._listed_schema(session), True
                conversation.progress.changed.add("tools")
                continue
            task = tasks.created_task(result, modern=modern, shown=session.channel.shown)
            if task is not None:
                return Following(task)
            kind = result.get("resultType", "complete")
            if kind == "complete":
                return await _tool_result(result, session)
            if kind != "input_required" or not modern:
                raise InvalidResult
            wanted = self._wanted(result, session)
            if wanted.questions:
                return wanted
            # It only wants us to come back with its state.
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_RETURN_SECONDS)
            params = {"name": self._name, "arguments": self._arguments, "requestState": wanted.request_state}
        raise wants_input(session.channel)

    def _params(self, facts: Facts) -> dict[str, Any]:
        params: dict[str, Any] = {"name": self._name, "arguments": self._arguments}
        if facts.is_modern:
            if self._answers is not None or self._state is not None:
                # The round before had a number as well, in whichever process, and no two rounds may share one
                # (MCP 2026-07-28, multi-round-trip requests).
                facts.numbers = itertools.count(secrets.randbelow(2**31) + 2)
            if self._answers is not None:
                params["inputResponses"] = as_responses(self._answers)
            if self._state is not None:
                params["requestState"] = self._state
        elif any(answer.action != "accept" for answer in (self._answers or {}).values()):
            # Nothing carries a no to a server that only wants a page visited before it is asked again.
            raise CallCancelled(
                sentence("The call was given up, because what the server wants done first was declined.")
            )
        return params

    def _wanted(self, result: dict[str, Any], session: Session) -> InputWanted:
        state = result.get("requestState")
        if not (state is None or (isinstance(state, str) and len(state) <= MAX_STATE_BYTES)):
            raise InvalidResult
        try:
            questions = questions_in(result.get("inputRequests") or {}, self._target)
        except NotAnswerable:
            raise wants_input(session.channel) from None
        if not questions and state is None:
            raise InvalidResult
        return InputWanted(questions, state, **session.facts.as_keywords())

    async def _listed_schema(self, session: Session) -> Any:
        walk = Walk("tools", session)
        await walk.run()
        return next((tool.input_schema for tool in walk.tools().tools if tool.name == self._name), None)


def _wants_task(facts: Facts) -> bool:
    return not facts.is_modern and tasks.offers_experiment(facts.capabilities)


async def _tool_result(result: dict[str, Any], session: Session) -> ToolResult:
    kept, said = await checked(session.channel, CallToolResult, result)
    assert isinstance(said, CallToolResult)  # noqa: S101 - for the type checker
    return ToolResult(
        content=tuple(kept["content"]),
        structured_content=kept.get("structuredContent"),
        is_error=said.is_error,
        **session.facts.as_keywords(),
    )


def _param_headers(schema: Any, arguments: dict[str, Any]) -> dict[str, str] | None:
    """Return the arguments that a tool's schema wants in headers as well (MCP 2026-07-28, custom headers)."""
    if not schema or "x-mcp-header" not in repr(schema):
        return None
    from mcp.shared.inbound import mcp_param_headers, x_mcp_header_map

    headers: dict[str, str] = mcp_param_headers(x_mcp_header_map(schema), arguments)
    return headers
