"""What we ask of an MCP server: its facts, its listings, one call, a resource, a prompt. Each is one operation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from mcp_types import CompleteResult, GetPromptResult, ReadResourceResult
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import BaseModel

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.net.budget import request_budget
from mcp_oauth.sessions import following, held, loop, tasks
from mcp_oauth.sessions.calling import Calling
from mcp_oauth.sessions.channel import Channel
from mcp_oauth.sessions.faults import FAULTS, explained, in_words, quotes_secret, wants_input
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
    call = Calling(target, name, arguments, answers, progress.underway or request_state, seconds=timeout)
    if known(target) is not None:
        conversation = Conversation(target, progress, holds=False)
        return await _timed(
            target, lambda: _operation(target, lambda session: call.run(session, conversation)), seconds=timeout
        )

    async def held_open(conversation: Conversation) -> ToolResult | InputWanted:
        return await _operation(target, lambda session: call.run(session, conversation))

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
