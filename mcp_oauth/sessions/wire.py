"""The HTTP side of one session: it spends one budget of bytes and notes what the SDK does not pass on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2

from mcp_oauth.exceptions import McpOAuthError, ResponseTooLarge
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.net.transport import LIMIT_EXTENSION, NetworkFault, shown_url
from mcp_oauth.net.weight import JsonWeight
from mcp_oauth.oauth.bearer import will_be_repeated
from mcp_oauth.oauth.challenge import bearer_challenge

# A legacy server may ask to be polled for ever (`retry: 0`); an answer that needs more than this is lost.
_MAX_RESUMPTIONS = 3
# The farewell to a legacy session is a courtesy and must not delay the result.
_FAREWELL_SECONDS = 1.0
# What the SDK is given at once: it handles every event of a part before others get their turn on the loop.
_PART_BYTES = 4096


class SessionWire(httpx2.AsyncBaseTransport):
    """Lend a transport to one session; ``status``, ``content_type`` and ``location`` are those of its last POST.

    ``fault`` is the first failure of the network, which the SDK may have swallowed.
    """

    def __init__(self, lender: httpx2.AsyncBaseTransport, policy: NetworkPolicy) -> None:
        self._lender = lender
        self._policy = policy
        self.max_values = policy.max_json_values
        self._received = 0
        self._resumptions = 0
        self.status = 0
        self.content_type = ""
        self.location = ""
        self.fault: McpOAuthError | None = None
        self._refusal: httpx2.Response | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, or answer in the server's place where nothing can be gained by sending it."""
        if request.method == "POST":
            if self._refusal is not None:
                # Negotiation tries the older handshake after any error; the credentials would not be better there.
                return httpx2.Response(self._refusal.status_code, headers=self._refusal.headers)
            return await self._post(request)
        if request.method == "GET":
            # The standing stream only carries messages we have no use for; servers may refuse it
            # (MCP 2025-11-25, Streamable HTTP, "Listening for Messages from the Server").
            if "last-event-id" not in request.headers or self._resumptions >= _MAX_RESUMPTIONS:
                return httpx2.Response(405)
            self._resumptions += 1
            return await self._send(request)
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                return await self._lender.handle_async_request(request)
        except (TimeoutError, NetworkFault):
            return httpx2.Response(204)

    async def aclose(self) -> None:
        """Leave the lender open."""

    async def _post(self, request: httpx2.Request) -> httpx2.Response:
        self.status, self.content_type, self.location = 0, "", ""
        response = await self._send(request)
        self.status = response.status_code
        self.content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.location = response.headers.get("location", "")
        values = response.headers.get_list("WWW-Authenticate")
        challenge = bearer_challenge(values) if self.status == 403 else None
        if will_be_repeated(response, request):
            return response
        if self.status == 401 or (challenge is not None and challenge.error == "insufficient_scope"):
            kept = [("WWW-Authenticate", value) for value in values]
            self._refusal = httpx2.Response(self.status, headers=kept)
        return response

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        remaining = self._policy.mcp_response_bytes - self._received
        if remaining <= 0:
            shown = shown_url(request.url)
            raise self._noted(NetworkFault(ResponseTooLarge(f"{shown} sent too much in one session.", document=shown)))
        request.extensions = {**request.extensions, LIMIT_EXTENSION: remaining}
        try:
            response = await self._lender.handle_async_request(request)
        except NetworkFault as fault:
            raise self._noted(fault) from fault.__cause__
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)  # noqa: S101 - the guarded transport makes them
        return httpx2.Response(
            status_code=response.status_code,
            headers=response.headers,
            stream=_Counted(stream, self, shown_url(request.url)),
            extensions=response.extensions,
        )

    def count(self, received: int) -> None:
        """Add received bytes to what the session has used up."""
        self._received += received

    def _noted(self, fault: NetworkFault) -> NetworkFault:
        self.fault = self.fault or fault.error
        return fault

    def note(self, fault: NetworkFault) -> None:
        """Remember a fault that occurred while a body was read."""
        self._noted(fault)


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, wire: SessionWire, shown: str) -> None:
        self._inner = inner
        self._wire = wire
        self._shown = shown
        self._weight = JsonWeight()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._inner:
                self._wire.count(len(part))
                for start in range(0, len(part), _PART_BYTES):
                    piece = part[start : start + _PART_BYTES]
                    if self._weight.add(piece) > self._wire.max_values:
                        error = f"{self._shown} sent more than {self._wire.max_values} JSON values in one answer."
                        raise NetworkFault(ResponseTooLarge(error, document=self._shown))
                    yield piece
                    await asyncio.sleep(0)
        except NetworkFault as fault:
            self._wire.note(fault)
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()
