"""One complete HTTP exchange with bounded time, size and redirects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import httpx2

from mcp_oauth.exceptions import DeadlineExceeded, InvalidServerAddress, RedirectRefused
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.net.faults import NetworkFault, shown_url, translate_fault
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.net.transport import GuardedTransport, StreamedResponse
from mcp_oauth.sentences import sentence

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_METHOD_KEEPING = frozenset({307, 308})


async def fetch(
    transport: GuardedTransport,
    request: HttpRequest,
    *,
    policy: NetworkPolicy,
    deadline_seconds: float | None = None,
    limit_bytes: int | None = None,
    follow: bool = True,
) -> HttpResponse:
    """Send a request and return the complete answer, whatever its status.

    ``limit_bytes`` bounds the body (default: the policy's ``oauth_document_bytes``). An event stream that answers a
    GET is no document and may never end: its body is not read and comes back empty. One that answers anything else is
    read as far as the request wants it.

    The deadline (default: the policy's ``request_seconds``) covers name lookup, connection, headers, body and
    every redirect. A redirect is followed within the origin only, and only when the method stays the same
    (RFC 9110 §15.4); with ``follow=False`` it is returned as it is. No cookie is kept or sent.

    Raises:
        ServerUnreachable: Or one of its subclasses: no acceptable answer came.
        InvalidServerAddress: The URL cannot be parsed.
    """
    seconds = policy.request_seconds if deadline_seconds is None else deadline_seconds
    try:
        async with asyncio.timeout(seconds) as deadline:
            return await _follow(transport, request, policy, limit_bytes, follow=follow)
    except TimeoutError as exc:
        if not deadline.expired():
            raise translate_fault(exc, request.url) from exc
        shown = shown_url(request.url)
        raise DeadlineExceeded(
            sentence("%(shown)s did not answer within %(seconds)g seconds.", shown=shown, seconds=seconds),
            document=shown,
        ) from exc
    except NetworkFault as fault:
        raise fault.error from fault.__cause__


async def _follow(
    transport: GuardedTransport,
    request: HttpRequest,
    policy: NetworkPolicy,
    limit_bytes: int | None,
    *,
    follow: bool,
) -> HttpResponse:
    try:
        url = httpx2.URL(request.url)
    except httpx2.InvalidURL as exc:
        raise InvalidServerAddress(sentence("The address of a request is not a URL.")) from exc
    for _ in range(policy.max_redirects + 1):
        answer = await _exchange(transport, request, url, limit_bytes or policy.oauth_document_bytes)
        if not follow or answer.status not in _REDIRECTS:
            return answer
        url = _next_url(request, url, answer)
    shown = shown_url(request.url)
    raise RedirectRefused(
        sentence(
            "%(shown)s redirected more than %(max_redirects)s times.", shown=shown, max_redirects=policy.max_redirects
        ),
        document=shown,
    )


async def _exchange(
    transport: GuardedTransport, request: HttpRequest, url: httpx2.URL, limit_bytes: int
) -> HttpResponse:
    response = await transport.send(replace(request, url=str(url)), limit_bytes=limit_bytes)
    try:
        is_stream = (response.header("content-type") or "").startswith("text/event-stream")
        if is_stream and request.method == "GET":
            body = b""
        elif is_stream and request.is_enough is not None:
            body = await _read_events(response, request.is_enough)
        else:
            body = await _read(response)
    finally:
        response.close()
    return HttpResponse(url=str(url), status=response.status, headers=response.headers, body=body)


async def _read(response: StreamedResponse) -> bytes:
    parts = []
    while part := await response.read_some():
        parts.append(part)
    return b"".join(parts)


async def _read_events(response: StreamedResponse, is_enough: Callable[[bytes], bool]) -> bytes:
    """Read a stream up to its end, or to the event that is enough."""
    body = bytearray()
    judged = 0
    while part := await response.read_some():
        body += part
        # An event ends with an empty line (HTML, "Server-sent events"), of which some may have been there before.
        start = max(judged, len(body) - len(part) - 3)
        end = max(body.rfind(b"\n\n", start), body.rfind(b"\r\n\r\n", start))
        if end > judged:
            if is_enough(bytes(body[judged:end])):
                break
            judged = end
            # What is there already comes without a pause, and judging it takes its time.
            await asyncio.sleep(0)
    return bytes(body)


def _next_url(request: HttpRequest, url: httpx2.URL, answer: HttpResponse) -> httpx2.URL:
    shown = shown_url(url)
    location = answer.header("location")
    try:
        target = url.join(location or "").copy_with(fragment=None)
    except (httpx2.InvalidURL, ValueError) as exc:
        raise RedirectRefused(
            sentence("%(shown)s redirects to something that is not a URL.", shown=shown),
            document=shown,
            field="Location",
        ) from exc
    if not location:
        raise RedirectRefused(
            sentence("%(shown)s redirects without saying where to.", shown=shown), document=shown, field="Location"
        )
    if request.method not in ("GET", "HEAD") and answer.status not in _METHOD_KEEPING:
        raise RedirectRefused(
            sentence(
                "%(shown)s answered %(status)s, which would turn the %(method)s into another request.",
                shown=shown,
                status=answer.status,
                method=request.method,
            ),
            document=shown,
            field="status",
        )
    if _origin(target) != _origin(url):
        elsewhere = f"{target.scheme}://{target.netloc.decode('ascii', 'replace')}"
        raise RedirectRefused(
            sentence("%(shown)s redirects to another origin, %(elsewhere)s.", shown=shown, elsewhere=elsewhere[:200]),
            document=shown,
            field="Location",
        )
    return target


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    # httpx2 lower-cases hosts and drops default ports.
    return url.scheme, url.host, url.port
