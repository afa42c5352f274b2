"""One exchange: its deadline, its redirects, its answer."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_oauth.exceptions import (
    AddressBlocked,
    DeadlineExceeded,
    InvalidServerAddress,
    RedirectRefused,
    ResponseTooLarge,
    ServerUnreachable,
)
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.net.fetch import fetch
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.net.transport import GuardedTransport
from tests.servers.peer import Peer, Received, drip, http_answer, running_peer

DEVELOPMENT = NetworkPolicy(allow_loopback=True)


def fetched(url: str, method: str = "GET", *, policy: NetworkPolicy = DEVELOPMENT, **options: Any) -> HttpResponse:
    async def work() -> HttpResponse:
        transport = GuardedTransport(policy)
        request = HttpRequest(method, url, options.pop("headers", {}), options.pop("body", b""))
        try:
            return await fetch(transport, request, policy=policy, **options)
        finally:
            await transport.aclose()

    return asyncio.run(work())


def redirecting(status: int, location: str) -> Any:
    def answer(received: Received) -> bytes:
        if received.path == "/start":
            return http_answer(status, b"", headers={"location": location})
        return http_answer(body=b"arrived")

    return answer


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_stream_is_read_up_to_the_event_that_is_enough(line_end: bytes, size: int) -> None:
    shown: list[bytes] = []

    def is_enough(events: bytes) -> bool:
        shown.append(events)
        return b"data: b" in events

    events = b"".join(b"data: " + word + line_end * 2 for word in (b"a", b"b"))

    def answer(received: Received) -> Any:
        yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        yield from (events[start : start + size] for start in range(0, len(events), size))
        yield from drip(peer, b"", b": more" + line_end)

    with running_peer(answer) as peer:
        request = HttpRequest("POST", peer.url("/"), is_enough=is_enough)
        response = asyncio.run(_fetched_once(request))

    assert response.body.startswith(events.rstrip(line_end))
    assert b"".join(shown).count(b"data: a") == b"".join(shown).count(b"data: b") == 1


def test_a_stream_that_is_never_enough_is_read_to_its_end() -> None:
    answer = http_answer(body=b"data: a\n\ndata: b", content_type="text/event-stream")
    with running_peer(lambda received: answer) as peer:
        request = HttpRequest("POST", peer.url("/"), is_enough=lambda events: False)
        assert asyncio.run(_fetched_once(request)).body == b"data: a\n\ndata: b"


async def _fetched_once(request: HttpRequest) -> HttpResponse:
    transport = GuardedTransport(DEVELOPMENT)
    try:
        return await fetch(transport, request, policy=DEVELOPMENT, deadline_seconds=5)
    finally:
        await transport.aclose()


def test_an_answer_comes_back_whole_whatever_its_status() -> None:
    answer = http_answer(418, b"short and stout", content_type="text/plain", headers={"x-twice": "1", "X-Twice": "2"})
    with running_peer(lambda received: answer) as peer:
        response = fetched(peer.url("/tea?milk=no"), "POST", body=b"a=b", headers={"content-type": "text/x-form"})

    assert (response.status, response.body) == (418, b"short and stout")
    assert response.url == peer.url("/tea?milk=no")
    assert response.header("content-type") == "text/plain"
    assert peer.requests[0].body == b"a=b"
    assert peer.requests[0].headers["content-type"] == "text/x-form"
    assert peer.requests[0].headers["host"] == f"127.0.0.1:{peer.port}"


@pytest.mark.parametrize(("method", "status"), [("GET", 301), ("GET", 302), ("GET", 303), ("GET", 307), ("POST", 308)])
def test_a_redirect_within_the_origin_is_followed(method: str, status: int) -> None:
    with running_peer(redirecting(status, "/end#part")) as peer:
        response = fetched(peer.url("/start"), method, body=b"x" if method == "POST" else b"")

    assert (response.url, response.body) == (peer.url("/end"), b"arrived")
    assert [seen.method for seen in peer.requests] == [method, method]
    assert peer.requests[0].body == peer.requests[1].body


@pytest.mark.requirement("T05")
@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_changes_the_method_is_refused(status: int) -> None:
    with running_peer(redirecting(status, "/end")) as peer, pytest.raises(RedirectRefused):
        fetched(peer.url("/start"), "POST", body=b"code=secret")

    assert len(peer.requests) == 1


@pytest.mark.requirement("mcp-bp-redirects", "rfc9728-7.7-ssrf", "T05")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_to_another_origin_is_refused_and_the_other_sees_nothing(status: int, method: str) -> None:
    with running_peer(lambda received: http_answer()) as other:
        for host in ("127.0.0.1", "localhost"):
            target = f"http://{host}:{other.port}/start"
            with running_peer(redirecting(status, target)) as peer, pytest.raises(RedirectRefused):
                fetched(peer.url("/start"), method, headers={"authorization": "Basic secret"}, body=b"")

    assert other.connections == 0


@pytest.mark.parametrize("location", ["https://127.0.0.1:{port}/", "//u:p@127.0.0.1:{port}/", "http://[", ""])
def test_a_strange_location_is_refused(location: str) -> None:
    def answer(received: Received) -> bytes:
        return http_answer(302, b"", headers={"location": location.format(port=peer.port)})

    with running_peer(answer) as peer, pytest.raises((RedirectRefused, AddressBlocked)):
        fetched(peer.url("/start"))

    assert len(peer.requests) == 1


def test_redirects_in_a_circle_end() -> None:
    with running_peer(redirecting(302, "/start")) as peer, pytest.raises(RedirectRefused, match="more than 3 times"):
        fetched(peer.url("/start"))

    assert len(peer.requests) == 4


def test_a_redirect_is_returned_as_it_is_on_request() -> None:
    with running_peer(redirecting(302, "https://elsewhere.example/")) as peer:
        response = fetched(peer.url("/start"), follow=False)

    assert (response.status, response.header("location")) == (302, "https://elsewhere.example/")


DRIPS = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x-drip: 1\r\n"),
    "length": (b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n", b"x"),
    "chunks": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "silence": (b"", b""),
}


@pytest.mark.requirement("T31")
@pytest.mark.parametrize("kind", DRIPS)
def test_a_server_that_drips_is_left_at_the_deadline(kind: str) -> None:
    def answer(received: Received) -> Iterator[bytes]:
        return drip(peer, *DRIPS[kind])

    with running_peer(answer) as peer:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            fetched(peer.url("/slow?key=secret"), deadline_seconds=0.3)
        taken = time.monotonic() - started

    assert taken < 2
    assert caught.value.user_message == f"{peer.url('/slow')} did not answer within 0.3 seconds."


def test_the_deadline_covers_all_redirects_together() -> None:
    def answer(received: Received) -> bytes:
        peer.closing.wait(0.12)
        return http_answer(302, b"", headers={"location": "/again"})

    with running_peer(answer) as peer, pytest.raises(DeadlineExceeded):
        fetched(peer.url(), deadline_seconds=0.3)

    assert len(peer.requests) <= 3


@pytest.mark.requirement("T30")
def test_a_document_beyond_the_policys_limit_is_refused() -> None:
    policy = NetworkPolicy(allow_loopback=True, oauth_document_bytes=10)
    with running_peer(lambda received: http_answer(body=b"x" * 11)) as peer, pytest.raises(ResponseTooLarge) as caught:
        fetched(peer.url("/doc"), policy=policy)

    assert caught.value.document == peer.url("/doc")


@pytest.mark.requirement("T36")
def test_no_cookie_is_kept() -> None:
    async def twice(peer: Peer) -> None:
        transport = GuardedTransport(DEVELOPMENT)
        try:
            for _ in range(2):
                await fetch(transport, HttpRequest("GET", peer.url()), policy=DEVELOPMENT)
        finally:
            await transport.aclose()

    with running_peer(lambda received: http_answer(headers={"set-cookie": "a=b"})) as peer:
        asyncio.run(twice(peer))

    assert [seen.headers.get("cookie") for seen in peer.requests] == [None, None]


@pytest.mark.parametrize("url", ["https://exa\x00mple/", "https://0177.0.0.1/", "https://mcp.example:port/"])
def test_what_is_not_a_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidServerAddress):
        fetched(url)


def test_a_header_that_is_no_ascii_is_not_sent_and_not_quoted() -> None:
    secret = "-".join(["sëcret", "session"])
    with running_peer(lambda received: http_answer()) as peer, pytest.raises(ServerUnreachable) as caught:
        fetched(peer.url("/"), headers={"mcp-session-id": secret})

    assert peer.connections == 0
    assert secret not in "".join(traceback.format_exception(caught.value))
