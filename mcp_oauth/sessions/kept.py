"""Sessions with servers of before 2026-07-28, kept for the next call of the same person with the same grant.

A session is what was negotiated and the name the server gave it, so any number of calls may use it at the same time.
It belongs to the loop it was opened on. While it is used, what the server says outside of requests is listened to: some
ask their questions there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

from mcp_oauth.sessions import loop
from mcp_oauth.sessions.channel import Channel
from mcp_oauth.sessions.loop import in_background
from mcp_oauth.sessions.negotiation import Facts, end_session, handshake, session_headers
from mcp_oauth.sessions.rpc import Listener, overhear
from mcp_oauth.sessions.target import Target

Key = tuple[str, ...]
# A session is only ever named to the address it was opened at, whatever a key says.
_Place = tuple[str, Key]

# How late a session may be ended; looking costs nothing beside the sessions' own price.
_LOOKS_EVERY_SECONDS: Final = 0.5
# Each stream is a connection that calls cannot use: a fifth of those one process has, and few of them at one origin.
_MAX_STREAMS: Final = 20
# How long a call waits for the stream it may be asked on; what takes longer is done without.
_STREAM_SECONDS: Final = 2.0


@dataclass(slots=True)
class _Kept:
    facts: Facts
    # The newest credentials it was used with: what the farewell is said with.
    target: Target
    used_at: float
    calls: _CallsOfSession = field(default_factory=lambda: _CallsOfSession())
    stream: asyncio.Task[None] | None = None

    def is_idle(self, now: float) -> bool:
        """Whether nobody used it for its time."""
        return not self.calls.running and now >= self.used_at + self.target.session_idle_seconds

    def close_stream(self) -> None:
        """Stop listening."""
        if self.stream is not None:
            self.stream.cancel()
            self.stream = None


class _CallsOfSession:
    """Who is meant by what a server says outside of requests: the call that has been running longest."""

    def __init__(self) -> None:
        self.running: list[Listener] = []

    def notified(self, method: str, params: dict[str, Any]) -> None:
        """Tell every call: what has changed has changed for all."""
        for call in self.running:
            call.notified(method, params)

    async def asked(self, key: str, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """Ask the person of the call; without one, nobody is there to answer."""
        return await self.running[0].asked(key, method, params) if self.running else None


class KeptSessions:
    """The sessions of one event loop; the least recently used one gives way when there are too many."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Place, _Kept] = OrderedDict()
        self._opening: dict[_Place, asyncio.Future[Facts]] = {}
        self._watching = False

    async def facts_for(self, target: Target, channel: Channel) -> Facts:
        """Return the session that a target's key names, opened by the first of those who need it at the same time.

        Raises what `handshake` raises.
        """
        place = _place_of(target)
        kept = self._kept.get(place)
        if kept is not None:
            kept.target, kept.used_at = target, asyncio.get_running_loop().time()
            self._kept.move_to_end(place)
            return kept.facts
        while (opening := self._opening.get(place)) is not None:
            try:
                return await asyncio.shield(opening)
            except asyncio.CancelledError:
                if not opening.cancelled():
                    raise
                # Whoever opened it was given up; the next in line opens it.
        future: asyncio.Future[Facts] = asyncio.get_running_loop().create_future()
        self._opening[place] = future
        try:
            facts = await handshake(channel)
        except BaseException:
            # The others try for themselves: it may have been this caller's deadline.
            future.cancel()
            raise
        finally:
            del self._opening[place]
        future.set_result(facts)
        self._keep(place, facts, target)
        return facts

    def adopt(self, target: Target, facts: Facts) -> None:
        """Keep a session that somebody opened in another way; one that is kept already stays."""
        if _place_of(target) not in self._kept:
            self._keep(_place_of(target), facts, target)

    @asynccontextmanager
    async def listening(self, target: Target, facts: Facts, call: Listener) -> AsyncIterator[None]:
        """Let a call hear what its server says outside of requests, where the server does so at all."""
        kept = self._kept.get(_place_of(target))
        if kept is None or kept.facts is not facts or not facts.session_id:
            yield
            return
        kept.calls.running.append(call)
        try:
            if facts.has_stream is not False and (kept.stream is None or kept.stream.done()):
                await self._open_stream(kept)
            yield
        finally:
            kept.calls.running.remove(call)
            kept.used_at = asyncio.get_running_loop().time()

    def forget(self, target: Target, facts: Facts) -> None:
        """Let a session go that its server does not know any more."""
        place = _place_of(target)
        if (kept := self._kept.get(place)) is not None and kept.facts is facts:
            kept.close_stream()
            del self._kept[place]

    def end(self, matches: Callable[[Key], bool]) -> None:
        """End the sessions whose key matches, without waiting for their servers."""
        for place in [place for place in self._kept if matches(place[1])]:
            self._end(place)

    async def end_all(self) -> None:
        """End every session and wait for the farewells, which bound themselves."""
        kept = [*self._kept.values()]
        self._kept.clear()
        for item in kept:
            item.close_stream()
        await asyncio.gather(*(end_session(Channel(item.target), item.facts) for item in kept))

    def _keep(self, place: _Place, facts: Facts, target: Target) -> None:
        self._kept[place] = _Kept(facts, target, asyncio.get_running_loop().time())
        while len(self._kept) > target.max_sessions:
            self._end(next(iter(self._kept)))
        if not self._watching:
            self._watching = True
            in_background(self._watch())

    def _end(self, place: _Place) -> None:
        kept = self._kept.pop(place)
        kept.close_stream()
        in_background(end_session(Channel(kept.target), kept.facts))

    async def _open_stream(self, kept: _Kept) -> None:
        streams = [other for other in self._kept.values() if other.stream is not None and not other.stream.done()]
        if len(streams) >= _MAX_STREAMS:
            # The least recently used first; a session in use keeps its own.
            spare = next((other for other in streams if not other.calls.running), None)
            if spare is None:
                return
            spare.close_stream()
        opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        headers = session_headers(kept.facts)
        listening = overhear(Channel(kept.target), headers, kept.calls, opened)
        kept.stream = asyncio.get_running_loop().create_task(listening)
        done, _ = await asyncio.wait({opened}, timeout=_STREAM_SECONDS)
        if done:
            kept.facts.has_stream = opened.result()

    async def _watch(self) -> None:
        """End what nobody used for its time; run while there is anything to watch."""
        try:
            while self._kept:
                now = asyncio.get_running_loop().time()
                for place in [place for place, kept in self._kept.items() if kept.is_idle(now)]:
                    self._end(place)
                await asyncio.sleep(_LOOKS_EVERY_SECONDS)
        finally:
            self._watching = False


def _place_of(target: Target) -> _Place:
    return target.url, target.session_key or ()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, KeptSessions] = WeakKeyDictionary()


def kept_sessions() -> KeptSessions:
    """Return the sessions of the running loop."""
    running = asyncio.get_running_loop()
    sessions = _of_loops.get(running)
    if sessions is None:
        sessions = _of_loops[running] = KeptSessions()
    return sessions


async def end_sessions_of_loop() -> None:
    """End the running loop's sessions before it stops."""
    if (sessions := _of_loops.pop(asyncio.get_running_loop(), None)) is not None:
        await sessions.end_all()


loop.before_stopping(end_sessions_of_loop)
