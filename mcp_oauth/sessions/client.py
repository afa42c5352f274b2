"""What we ask of an MCP server: its facts, its listings, one call, a resource, a prompt. Each is one operation."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from mcp_types import (
    HEADER_MISMATCH,
    METHOD_NOT_FOUND,
    URL_ELICITATION_REQUIRED,
    CallToolResult,
    CompleteResult,
    GetPromptResult,
    ReadResourceResult,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import BaseModel

from mcp_oauth.exceptions import CallCancelled, McpOAuthError, ServerRefused
from mcp_oauth.net.budget import request_budget
from mcp_oauth.sentences import sentence
from mcp_oauth.sessions import following, held, loop, tasks
from mcp_oauth.sessions.channel import Channel
from mcp_oauth.sessions.faults import FAULTS, explained, in_words, quotes_secret, wants_input
from mcp_oauth.sessions.following import Following
from mcp_oauth.sessions.held import Conversation
from mcp_oauth.sessions.kept import Key, kept_sessions
from mcp_oauth.sessions.listings import EntryKind, Walk
from mcp_oauth.sessions.loop import in_background
from mcp_oauth.sessions.negotiation import (
    Facts,
    Session,
    certainly_not_run,
    end_session,
    handshake,
    known,
    negotiate,
    require_complete,
)
from mcp_oauth.sessions.questions import MAX_STATE_BYTES, NotAnswerable, as_responses, questions_behind, questions_in
from mcp_oauth.sessions.results import (
    Answer,
    ConnectionFacts,
    EntryListing,
    InputWanted,
    Progress,
    ToolListing,
    ToolResult,
)
from mcp_oauth.sessions.rpc import BrokenOff, NotMcp, RpcError
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized
from mcp_oauth.sessions.target import Target
from mcp_oauth.sessions.validation import InvalidResult, checked

T = TypeVar("T")

# A server may ask us to come back without having asked the person anything; each time later than before.
_MAX_RETURNS: Final = 10
_FIRST_RETURN_SECONDS: Final = 0.05
_LAST_RETURN_SECONDS: Final = 0.25


async def connect(target: Target) -> ConnectionFacts:
    """Negotiate with a server and return what it says of itself; always reaches the server.

    Raises:
        Unauthorized: The server answered 401.
        ScopeChallenged: The server answered 403 ``insufficient_scope``.
        ServerUnreachable: No usable answer.
        ServerRefused: An error, or something that is not MCP.
    """

    async def work(session: Session) -> ConnectionFacts:
        return ConnectionFacts(**session.facts.as_keywords(), **session.facts.names())

    return await _timed(target, lambda: _operation(target, work, afresh=True), seconds=target.policy.mcp_seconds)


async def list_tools(target: Target) -> ToolListing:
    """List a server's tools, page by page within the target's limits; the rest is reported as ``truncated``.

    Raises what `connect` raises.
    """

    async def work(session: Session) -> ToolListing:
        walk = Walk("tools", session)
        await walk.run()
        return walk.tools()

    return await _timed(target, lambda: _operation(target, work), seconds=target.policy.mcp_seconds)


async def list_entries(target: Target, kind: EntryKind) -> EntryListing:
    """List a server's prompts, resources or resource templates as `list_tools` does its tools.

    Raises what `connect` raises.
    """

    async def work(session: Session) -> EntryListing:
        walk = Walk(kind, session)
        await walk.run()
        return walk.entries()

    return await _timed(target, lambda: _operation(target, work), seconds=target.policy.mcp_seconds)


async def call_tool(
    target: Target,
    name: str,
    arguments: dict[str, Any],
    *,
    timeout: float,
    progress: Progress | None = None,
    call_id: str = "",
    answers: Mapping[str, Answer] | None = None,
    request_state: str | None = None,
) -> ToolResult | InputWanted:
    """Call one tool and return its result, or what the server wants to know first.

    ``timeout`` is in seconds and covers everything but a person's thinking. With a known version and discovery of
    2026-07-28 this is one HTTP request. The call is sent a second time only when the server rejected the protocol, its
    headers or its session, and so certainly did not run it. A result that says ``is_error`` is a result. Output schemas
    are never evaluated. ``answers`` and ``request_state`` go on with a call that wanted input before; ``call_id`` is
    the name under which an exchange is held open that only this process can go on with. ``progress`` is written to.
    Where the server makes a task of the call, it is followed to its end, and cancelled when nobody waits any more.

    Raises:
        Unauthorized: The server answered 401.
        ScopeChallenged: The server answered 403 ``insufficient_scope``.
        ToolNotFound: The server says that it has no such tool.
        CallCancelled: The person declined what an earlier server wants done first.
        ServerUnreachable: No usable answer; ``DeadlineExceeded`` when it came too late.
        ServerRefused: An error, or something that is not MCP.
    """
    progress = progress or Progress()
    call = _Call(target, name, arguments, answers, progress.underway or request_state, seconds=timeout)
    if known(target) is not None:
        conversation = Conversation(target, progress, holds=False)
        return await _timed(
            target, lambda: _operation(target, lambda session: call(session, conversation)), seconds=timeout
        )

    async def held_open(conversation: Conversation) -> ToolResult | InputWanted:
        return await _operation(target, lambda session: call(session, conversation))

    conversation = Conversation(target, progress, holds=bool(call_id))
    return await held.run_or_hold(held_open, conversation, name=call_id, seconds=timeout)


async def continue_held(
    call_id: str, answers: Mapping[str, Answer], *, timeout: float, progress: Progress | None = None
) -> ToolResult | InputWanted:
    """Go on with a call whose exchange is held open in this process, as `call_tool` would.

    Raises what `call_tool` raises, and:
        CallInterrupted: this process does not hold it.
    """
    outcome: ToolResult | InputWanted = await held.continue_held(call_id, answers, seconds=timeout, progress=progress)
    return outcome


async def drop_held(call_id: str) -> None:
    """Give up an exchange that is held open; its server is told."""
    held.drop_held(call_id)


async def drop_task(target: Target, request_state: str | None) -> None:
    """Have a server told that nobody goes on with a call that lives on there as a task; any other state is no task.

    Whatever becomes of it; it takes a second at most, and what negotiating takes where a server is not known.
    """
    found = tasks.unpacked(request_state)
    if found is None:
        return

    async def work(session: Session) -> None:
        await following.cancel(session.channel, session.facts, found[0])

    with contextlib.suppress(McpOAuthError, Unauthorized, ScopeChallenged):
        await _timed(target, lambda: _operation(target, work), seconds=target.policy.request_seconds)


async def read_resource(target: Target, uri: str, *, timeout: float) -> dict[str, Any]:
    """Read a resource and return MCP's `ReadResourceResult`; ``timeout`` is in seconds.

    Raises what `connect` raises.
    """
    return await _ask(target, "resources/read", {"uri": uri}, ReadResourceResult, timeout)


async def get_prompt(target: Target, name: str, arguments: dict[str, str], *, timeout: float) -> dict[str, Any]:
    """Fill in a prompt and return MCP's `GetPromptResult`; ``timeout`` is in seconds.

    Raises what `connect` raises.
    """
    return await _ask(target, "prompts/get", {"name": name, "arguments": arguments}, GetPromptResult, timeout)


async def complete(
    target: Target,
    ref: dict[str, str],
    argument: dict[str, str],
    context: dict[str, str] | None = None,
    *,
    timeout: float,
) -> dict[str, Any]:
    """Ask what an argument could be completed to and return MCP's `CompleteResult`; ``timeout`` is in seconds.

    ``ref`` is the wire's reference to a prompt or resource template, ``argument`` its ``name`` and ``value`` so far,
    ``context`` the arguments already chosen.

    Raises what `connect` raises.
    """
    params: dict[str, Any] = {"ref": ref, "argument": argument}
    if context:
        params["context"] = {"arguments": context}
    return await _ask(target, "completion/complete", params, CompleteResult, timeout)


def end_sessions(matches: Callable[[Key], bool]) -> None:
    """End the kept sessions of this process whose key matches, without waiting; from any thread."""

    async def end() -> None:
        kept_sessions().end(matches)

    loop.soon(end)


async def _ask(
    target: Target, method: str, params: dict[str, Any], model: type[BaseModel], seconds: float
) -> dict[str, Any]:
    async def work(session: Session) -> dict[str, Any]:
        result = await session.request(method, params)
        if result.get("resultType") == "input_required":
            raise wants_input(session.channel)
        require_complete(result)
        found, _ = await checked(session.channel, model, result)
        return {key: value for key, value in found.items() if key != "resultType"}

    return await _timed(target, lambda: _operation(target, work), seconds=seconds)


class _Call:
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
        self._target = target
        self._name = name
        self._arguments = arguments
        self._answers = answers
        self._state = request_state
        self._seconds = seconds
        self._schema: Any = next((tool.input_schema for tool in target.tools or () if tool.name == name), None)
        underway = tasks.unpacked(request_state)
        self._task = Following(*underway) if underway is not None else None

    async def __call__(self, session: Session, conversation: Conversation) -> ToolResult | InputWanted:
        if session.facts.is_modern:
            return await self._done(session, conversation)
        async with kept_sessions().listening(self._target, session.facts, conversation):
            return await self._done(session, conversation)

    async def _done(self, session: Session, conversation: Conversation) -> ToolResult | InputWanted:
        if self._task is None:
            outcome = await self._run(session, conversation)
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

    async def _run(self, session: Session, conversation: Conversation) -> ToolResult | InputWanted | Following:
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


async def _timed(target: Target, work: Callable[[], Awaitable[T]], *, seconds: float) -> T:
    # Nothing below lets a `TimeoutError` of its own out.
    with in_words(target, seconds):
        async with asyncio.timeout(seconds):
            return await work()


async def _operation(target: Target, work: Callable[[Session], Awaitable[T]], *, afresh: bool = False) -> T:
    """Do work in a session with a server, and once more in a new one where the server did not know the first.

    ``afresh`` asks the server what it speaks, whatever is known.
    """
    channel = Channel(target)
    opened: list[Facts] = []
    with request_budget(target.policy.max_requests):
        try:
            facts = await _open(channel, opened, afresh=afresh)
            try:
                return await work(Session(channel, facts))
            except (RpcError, NotMcp) as refusal:
                if not certainly_not_run(refusal, facts):
                    raise
                kept_sessions().forget(target, facts)
                lost = bool(facts.session_id) and refusal.status == 404
            channel = Channel(target)
            facts = await _open(channel, opened, afresh=not lost)
            return await work(Session(channel, facts))
        except FAULTS as fault:
            error: McpOAuthError = explained(fault, channel)
            raise error from (None if quotes_secret(fault, target) else fault)
        except asyncio.CancelledError:
            # Whoever waited has gone; nobody is to wait for the farewells either.
            for facts in opened:
                in_background(end_session(channel, facts))
            opened.clear()
            raise
        finally:
            for facts in opened:
                await end_session(channel, facts)


async def _open(channel: Channel, opened: list[Facts], *, afresh: bool) -> Facts:
    """Return a session that is known, kept or new; what belongs to this operation alone is added to ``opened``."""
    target = channel.target
    if not afresh and (facts := known(target)) is not None:
        return facts
    if target.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS:
        try:
            if target.session_key is not None and not afresh:
                return await kept_sessions().facts_for(target, channel)
            facts = await handshake(channel)
        except (RpcError, NotMcp, BrokenOff, InvalidResult):
            # It spoke a handshake revision once.
            facts = await negotiate(channel)
    else:
        facts = await negotiate(channel)
    if not facts.is_modern:
        if target.session_key is not None and not afresh:
            kept_sessions().adopt(target, facts)
        else:
            opened.append(facts)
    return facts
