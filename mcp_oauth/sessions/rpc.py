"""One JSON-RPC request to an MCP server and its response, over Streamable HTTP (MCP 2025-03-26 and later).

The answer is a JSON document or a stream of events; on a stream, whatever comes before the response is handed to a
listener. Nothing of ours is sent twice here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from mcp_types import METHOD_NOT_FOUND

from mcp_oauth.exceptions import ServerUnreachable
from mcp_oauth.net.faults import NetworkFault
from mcp_oauth.net.transport import StreamedResponse
from mcp_oauth.sessions.channel import Channel, parse_json
from mcp_oauth.sessions.events import EventTooLarge
from mcp_oauth.sessions.loop import in_background
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized

# A legacy server may ask to be polled for ever (`retry: 0`); an answer that needs more than this is lost.
_MAX_RESUMPTIONS: Final = 3
# How long a server may ask us to wait before we come back (one that asks for longer is not waited for), and what we do
# where it says nothing (HTML, "Server-sent events": a few seconds).
_LONGEST_RETRY_MS: Final = 10_000
_USUAL_RETRY_MS: Final = 1000
# Messages of the server's own to one exchange that get an answer; a question is one of them.
_MAX_SERVER_REQUESTS: Final = 20
# Telling a server that we have given up is a courtesy and must not delay anybody.
_FAREWELL_SECONDS: Final = 1.0


# Made once: `json.dumps` makes an encoder for each value.
_written = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class RpcError(Exception):
    """The server answered with a JSON-RPC error; ``message`` and ``data`` are its words and untrusted."""

    def __init__(self, code: int, message: str, data: Any, *, status: int) -> None:
        super().__init__(f"JSON-RPC error {code}")
        self.code = code
        self.message = message
        self.data = data
        self.status = status


class NotMcp(Exception):
    """What came is no MCP message: an HTTP error without one, another kind of document, an answer to something else."""

    def __init__(self, status: int, media_type: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.media_type = media_type


class BrokenOff(Exception):
    """The stream ended before the response came, and could not be resumed."""


class Listener(Protocol):
    """Who hears what a server says before it responds. Everything is untrusted."""

    def notified(self, method: str, params: dict[str, Any]) -> None:
        """Take note of a notification."""

    async def asked(self, key: str, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """Return the result of a request of the server's, or ``None`` where this application does no such thing."""


class Deaf:
    """A listener that takes note of nothing and answers nothing."""

    def notified(self, method: str, params: dict[str, Any]) -> None:
        """Ignore it."""

    async def asked(self, key: str, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        """Decline."""
        return None


async def request(
    channel: Channel,
    message: dict[str, Any],
    headers: Mapping[str, str],
    *,
    reply_headers: Mapping[str, str],
    listener: Listener | None = None,
    tell_when_cancelled: bool = False,
) -> tuple[dict[str, Any], StreamedResponse]:
    """Send a request and return its result with the head of the HTTP response it came in.

    ``reply_headers`` go with what we send besides: answers to the server's own requests, and resumptions. With
    ``tell_when_cancelled`` a server is told that nobody waits any more (before 2026-07-28, where closing the connection
    does not say it).

    Raises:
        RpcError, NotMcp, BrokenOff: The server's fault.
        NetworkFault, Unauthorized, ScopeChallenged: See `Channel.send`.
    """
    exchange = _Exchange(channel, message["id"], reply_headers, listener or Deaf())
    try:
        async with exchange.answering(), channel.send("POST", headers, encoded(message)) as response:
            return await exchange.outcome(response), response
    except asyncio.CancelledError:
        if tell_when_cancelled:
            cancelled = {"requestId": message["id"], "reason": "nobody waits for it any more"}
            farewell(channel, "notifications/cancelled", cancelled, reply_headers)
        raise


async def notify(channel: Channel, method: str, params: dict[str, Any], headers: Mapping[str, str]) -> None:
    """Send a notification; what the server makes of it is not waited for.

    Raises:
        NetworkFault, Unauthorized, ScopeChallenged: See `Channel.send`.
    """
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    async with channel.send("POST", headers, encoded(message)) as response:
        channel.let_end(response)


async def overhear(
    channel: Channel, headers: Mapping[str, str], listener: Listener, opened: asyncio.Future[bool]
) -> None:
    """Listen to what a server says outside of any request, until it or the stream ends (MCP 2025-11-25, transports).

    ``opened`` is told whether the server has such a stream at all. Nothing is raised: it is an extra.
    """
    exchange = _Exchange(channel, None, headers, listener)
    try:
        async with exchange.answering(), channel.send("GET", {**headers, "accept": "text/event-stream"}) as response:
            has_stream = channel.status == 200 and channel.media_type == "text/event-stream"
            opened.set_result(has_stream)
            if has_stream:
                await exchange.overheard(response)
    except (NetworkFault, NotMcp, BrokenOff, RpcError, Unauthorized, ScopeChallenged):
        pass  # the call itself meets the same and says it
    finally:
        if not opened.done():
            opened.set_result(False)


def farewell(channel: Channel, method: str, params: dict[str, Any], headers: Mapping[str, str]) -> None:
    """Send a notification in a task of its own, for a little while, whatever becomes of it."""

    async def say() -> None:
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                # Another channel: this one's budgets may be spent, which is why we leave.
                await notify(Channel(channel.target), method, params, headers)
        except (TimeoutError, NetworkFault, Unauthorized, ScopeChallenged):
            pass  # it was a courtesy

    in_background(say())


def encoded(message: dict[str, Any]) -> bytes:
    """Return a message as it travels.

    Raises:
        UnicodeEncodeError: half a surrogate pair cannot travel.
    """
    return _written(message).encode()


class _Exchange:
    """What belongs to one request: its number, who listens, and the answers under way to the server's questions."""

    def __init__(self, channel: Channel, number: int | None, headers: Mapping[str, str], listener: Listener) -> None:
        self._channel = channel
        self._number = number
        self._headers = headers
        self._listener = listener
        self._replies: set[asyncio.Task[None]] = set()
        self._asked = 0
        self._last_event = ""
        self._retry_ms = _USUAL_RETRY_MS

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Let no answer to a question outlive the exchange."""
        try:
            yield
        finally:
            for reply in self._replies:
                reply.cancel()

    async def outcome(self, response: StreamedResponse) -> dict[str, Any]:
        """Return the result an answer holds."""
        channel = self._channel
        status, media_type = channel.status, channel.media_type
        if 200 <= status < 300 and media_type == "text/event-stream":
            return await self._streamed(response)
        if media_type != "application/json" or 300 <= status < 400:
            raise NotMcp(status, media_type)
        try:
            document = parse_json(await channel.read(response))
        except ValueError:
            raise NotMcp(status, media_type) from None
        if (result := self._taken(document, status)) is not None and status < 400:
            return result
        raise NotMcp(status, media_type)

    async def overheard(self, response: StreamedResponse) -> None:
        """Hand on everything a stream holds; a response to nothing we asked is none."""
        await self._listen(response)

    async def _streamed(self, response: StreamedResponse) -> dict[str, Any]:
        """Return the result from a stream, resuming it where the server made that possible."""
        found = await self._listen(response)
        for _ in range(_MAX_RESUMPTIONS):
            if found is not None or not self._last_event or self._retry_ms > _LONGEST_RETRY_MS:
                break
            await asyncio.sleep(self._retry_ms / 1000)
            headers = {**self._headers, "accept": "text/event-stream", "last-event-id": self._last_event}
            async with self._channel.send("GET", headers) as resumed:
                if self._channel.status != 200 or self._channel.media_type != "text/event-stream":
                    raise BrokenOff
                found = await self._listen(resumed)
        if found is None:
            raise BrokenOff
        return found

    async def _listen(self, response: StreamedResponse) -> dict[str, Any] | None:
        """Read a stream up to the response; ``None`` where it ends before."""
        resumable = understood = False
        events = self._channel.events(response)
        try:
            while (event := await events.next()) is not None:
                if event.id:
                    self._last_event, resumable = event.id, True
                if event.retry is not None:
                    self._retry_ms = event.retry
                if event.event != "message" or not event.data:
                    continue
                try:
                    message = parse_json(event.data)
                except ValueError:
                    raise NotMcp(self._channel.status, self._channel.media_type) from None
                result = self._taken(message, 200)
                if understood := result is not None:
                    return result
        except RpcError:
            understood = True
            raise
        except EventTooLarge:
            raise BrokenOff from None
        except NetworkFault as fault:
            # A connection that breaks is what resuming is for; an answer that is too large stays so.
            if not resumable or type(fault.error) is not ServerUnreachable:
                raise
        finally:
            if understood:
                self._channel.let_end(response)
        return None

    def _taken(self, document: Any, status: int) -> dict[str, Any] | None:
        """Return the result where our response is in a document; hand on what else is.

        Raises:
            RpcError: our response is an error.
            NotMcp: there is something else than messages, or the response to another request: ours will not come.
        """
        # A batch was allowed for one revision (MCP 2025-03-26).
        for message in document if isinstance(document, list) else (document,):
            method = message.get("method") if isinstance(message, dict) else None
            if isinstance(method, str):
                if message.get("jsonrpc") == "2.0":
                    self._hear(method, message)
            elif self._number is not None:
                return self._result(message, status)
        return None

    def _result(self, message: Any, status: int) -> dict[str, Any]:
        """Return the result of our response.

        Raises:
            RpcError: it is an error.
            NotMcp: it is none, or not ours.
        """
        if isinstance(message, dict) and message.get("jsonrpc") == "2.0":
            number, error, result = message.get("id"), message.get("error"), message.get("result")
            # A request that was refused before it was read is answered without its number (JSON-RPC 2.0 §5).
            unnumbered = isinstance(error, dict) and (number is None or status >= 400)
            if isinstance(error, dict) and _is_code(error.get("code")) and (unnumbered or self._is_ours(number)):
                words = error.get("message")
                raise RpcError(error["code"], words if isinstance(words, str) else "", error.get("data"), status=status)
            if error is None and isinstance(result, dict) and self._is_ours(number):
                return result
        raise NotMcp(self._channel.status, self._channel.media_type)

    def _is_ours(self, number: Any) -> bool:
        # Some servers give a number back as text.
        return not isinstance(number, bool) and (number == self._number or number == str(self._number))

    def _hear(self, method: str, message: dict[str, Any]) -> None:
        params = message.get("params")
        params = params if isinstance(params, dict) else {}
        key = message.get("id")
        if isinstance(key, bool) or not isinstance(key, int | str):
            self._listener.notified(method, params)
            return
        self._asked += 1
        if self._asked <= _MAX_SERVER_REQUESTS:
            reply = asyncio.get_running_loop().create_task(self._reply(key, method, params))
            self._replies.add(reply)
            reply.add_done_callback(self._replies.discard)

    async def _reply(self, key: int | str, method: str, params: dict[str, Any]) -> None:
        result = {} if method == "ping" else await self._listener.asked(str(key), method, params)
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": key}
        if result is None:
            message["error"] = {"code": METHOD_NOT_FOUND, "message": "Method not found"}
        else:
            message["result"] = result
        try:
            async with asyncio.timeout(self._channel.target.policy.mcp_seconds):
                # A channel of its own: this one's notes are of the request that is being answered.
                async with Channel(self._channel.target).send("POST", self._headers, encoded(message)):
                    pass
        except (TimeoutError, NetworkFault, Unauthorized, ScopeChallenged):
            pass  # the server then never responds, and the exchange ends as that


def _is_code(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
