"""Sessions with servers of before 2026-07-28, kept for the next call of the same person with the same grant.

A session here is what was negotiated and the name the server gave it; no connection and no task hangs on it, so any
number of calls may use it at the same time. It belongs to the loop it was opened on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from mcp_oauth.sessions import loop
from mcp_oauth.sessions.channel import Channel
from mcp_oauth.sessions.negotiation import Facts, end_session, handshake
from mcp_oauth.sessions.rpc import in_background
from mcp_oauth.sessions.target import Target

Key = tuple[str, ...]
# A session is only ever named to the address it was opened at, whatever a key says.
_Place = tuple[str, Key]

# How late a session may be ended; looking costs nothing beside the sessions' own price.
_LOOKS_EVERY_SECONDS: Final = 0.5


@dataclass(slots=True)
class _Kept:
    facts: Facts
    # The newest credentials it was used with: what the farewell is said with.
    target: Target
    used_at: float

    def is_idle(self, now: float) -> bool:
        """Whether nobody used it for its time."""
        return now >= self.used_at + self.target.session_idle_seconds


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
        key = _place_of(target)
        kept = self._kept.get(key)
        if kept is not None:
            kept.target, kept.used_at = target, asyncio.get_running_loop().time()
            self._kept.move_to_end(key)
            return kept.facts
        while (opening := self._opening.get(key)) is not None:
            try:
                return await asyncio.shield(opening)
            except asyncio.CancelledError:
                if not opening.cancelled():
                    raise
                # Whoever opened it was given up; the next in line opens it.
        future: asyncio.Future[Facts] = asyncio.get_running_loop().create_future()
        self._opening[key] = future
        try:
            facts = await handshake(channel)
        except BaseException:
            # The others try for themselves: it may have been this caller's deadline.
            future.cancel()
            raise
        finally:
            del self._opening[key]
        future.set_result(facts)
        self._keep(key, facts, target)
        return facts

    def adopt(self, target: Target, facts: Facts) -> None:
        """Keep a session that somebody opened in another way; one that is kept already stays."""
        if _place_of(target) not in self._kept:
            self._keep(_place_of(target), facts, target)

    def forget(self, target: Target, facts: Facts) -> None:
        """Let a session go that its server does not know any more."""
        key = _place_of(target)
        if (kept := self._kept.get(key)) is not None and kept.facts is facts:
            del self._kept[key]

    def end(self, matches: Callable[[Key], bool]) -> None:
        """End the sessions whose key matches, without waiting for their servers."""
        for place in [place for place in self._kept if matches(place[1])]:
            self._end(place)

    async def end_all(self) -> None:
        """End every session and wait for the farewells, which bound themselves."""
        kept = [*self._kept.values()]
        self._kept.clear()
        await asyncio.gather(*(end_session(Channel(item.target), item.facts) for item in kept))

    def _keep(self, key: _Place, facts: Facts, target: Target) -> None:
        self._kept[key] = _Kept(facts, target, asyncio.get_running_loop().time())
        while len(self._kept) > target.max_sessions:
            self._end(next(iter(self._kept)))
        if not self._watching:
            self._watching = True
            in_background(self._watch())

    def _end(self, key: _Place) -> None:
        kept = self._kept.pop(key)
        in_background(end_session(Channel(kept.target), kept.facts))

    async def _watch(self) -> None:
        """End what nobody used for its time; run while there is anything to watch."""
        try:
            while self._kept:
                now = asyncio.get_running_loop().time()
                for key in [key for key, kept in self._kept.items() if kept.is_idle(now)]:
                    self._end(key)
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
