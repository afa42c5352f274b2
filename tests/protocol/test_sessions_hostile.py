"""Sessions with servers that are broken, slow, greedy or hostile: what reaches whom, and which error comes out."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from mcp_oauth.exceptions import (
    DeadlineExceeded,
    McpOAuthError,
    RedirectRefused,
    ResponseTooLarge,
    ServerRefused,
    ServerUnreachable,
    ToolNotFound,
)
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.sessions import client, loop
from mcp_oauth.sessions.results import ToolDescription, ToolListing, ToolResult
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized
from mcp_oauth.sessions.target import Target
from tests.protocol.conftest import LEGACY, MODERN
from tests.servers.peer import Peer, Received, drip, http_answer, running_peer

DISCOVERED = {
    "supportedVersions": [MODERN],
    "capabilities": {"tools": {}},
    "resultType": "complete",
    "ttlMs": 0,
    "cacheScope": "private",
}
TOOL = {"name": "look", "inputSchema": {"type": "object"}}
DONE = {"content": [{"type": "text", "text": "done"}], "resultType": "complete"}

Script = dict[str, Callable[[dict[str, Any]], Any]]


def page(*tools: Any, cursor: str | None = None) -> dict[str, Any]:
    listing = {"tools": list(tools), "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    return listing if cursor is None else {**listing, "nextCursor": cursor}


def speaking(script: Script) -> Callable[[Received], Any]:
    """Return an answer that speaks MCP; a script gives, by method, a result, or whole bytes, or pieces of bytes."""

    def answer(received: Received) -> Any:
        if received.method != "POST":
            return http_answer(405, b"", content_type="")
        message = json.loads(received.body)
        method = message["method"]
        if "id" not in message:
            return http_answer(202, b"", content_type="")
        if method in script:
            result = script[method](message.get("params") or {})
        elif method == "server/discover":
            result = DISCOVERED
        elif method == "tools/list":
            result = page(TOOL)
        else:
            result = DONE
        if not isinstance(result, dict):
            return result
        body = {
            "jsonrpc": "2.0",
            "id": message["id"],
            **({} if "error" in result else {"result": result}),
            **(result if "error" in result else {}),
        }
        return http_answer(result.get("status", 200), json.dumps(body).encode())

    return answer


def methods(peer: Peer) -> list[str]:
    return [json.loads(seen.body)["method"] if seen.body else seen.method for seen in peer.requests]


def cold(peer: Peer, **options: Any) -> Target:
    policy = NetworkPolicy(allow_loopback=True, **options.pop("policy", {}))
    return Target(peer.url("/mcp?key=hidden-in-query"), policy=policy, **options)


def warm(peer: Peer, **options: Any) -> Target:
    return cold(peer, protocol_version=MODERN, discover_result=DISCOVERED, **options)


def listed(target: Target) -> ToolListing:
    return loop.run(lambda: client.list_tools(target), timeout=20)


def called(target: Target, *, timeout: float = 10, **arguments: Any) -> ToolResult:
    result = loop.run(lambda: client.call_tool(target, "look", arguments, timeout=timeout), timeout=20)
    assert isinstance(result, ToolResult)
    return result


# Listings


@pytest.mark.requirement("T35")
def test_an_endless_listing_ends_at_the_page_limit_and_says_so() -> None:
    def endless(params: dict[str, Any]) -> dict[str, Any]:
        number = int(params.get("cursor", "0")) + 1
        return page({**TOOL, "name": f"look{number}"}, cursor=str(number))

    with running_peer(speaking({"tools/list": endless})) as peer:
        listing = listed(warm(peer, max_pages=7))

    assert (len(listing.tools), listing.truncated) == (7, True)
    assert methods(peer) == ["tools/list"] * 7


@pytest.mark.requirement("T35")
def test_a_listing_ends_at_the_tool_limit_and_says_so() -> None:
    tools = [{**TOOL, "name": f"look{number}"} for number in range(20)]
    with running_peer(speaking({"tools/list": lambda params: page(*tools)})) as peer:
        listing = listed(warm(peer, max_tools=5))
        whole = listed(warm(peer, max_tools=20))

    assert ([tool.name for tool in listing.tools], listing.truncated) == ([f"look{n}" for n in range(5)], True)
    assert (len(whole.tools), whole.truncated) == (20, False)


@pytest.mark.requirement("T35")
def test_a_cursor_that_comes_back_ends_the_listing() -> None:
    turns = {None: "a", "a": "b", "b": "a"}

    def circling(params: dict[str, Any]) -> dict[str, Any]:
        cursor = params.get("cursor")
        return page({**TOOL, "name": f"after-{cursor}"}, cursor=turns[cursor])

    with running_peer(speaking({"tools/list": circling})) as peer:
        listing = listed(warm(peer))

    assert [tool.name for tool in listing.tools] == ["after-None", "after-a", "after-b"]
    assert listing.truncated


@pytest.mark.requirement("T35")
def test_pages_that_are_too_large_together_leave_what_was_read() -> None:
    def growing(params: dict[str, Any]) -> dict[str, Any]:
        number = int(params.get("cursor", "0")) + 1
        return page({**TOOL, "name": f"look{number}", "description": "x" * 40_000}, cursor=str(number))

    with running_peer(speaking({"tools/list": growing})) as peer:
        listing = listed(warm(peer, policy={"mcp_response_bytes": 100_000}))

    assert ([tool.name for tool in listing.tools], listing.truncated) == (["look1", "look2"], True)


def test_pages_are_joined_and_a_name_counts_once() -> None:
    def two(params: dict[str, Any]) -> dict[str, Any]:
        if params.get("cursor") == "2":
            return page({**TOOL, "description": "second"}, {**TOOL, "name": "other"})
        return page({**TOOL, "description": "first"}, cursor="2")

    with running_peer(speaking({"tools/list": two})) as peer:
        listing = listed(cold(peer))

    assert [(tool.name, tool.description) for tool in listing.tools] == [("look", "first"), ("other", "")]
    assert not listing.truncated


def test_an_error_on_a_later_page_is_an_error() -> None:
    def broken(params: dict[str, Any]) -> dict[str, Any]:
        return {"error": {"code": -32603, "message": "out of order"}} if "cursor" in params else page(TOOL, cursor="2")

    with running_peer(speaking({"tools/list": broken})) as peer, pytest.raises(ServerRefused, match="out of order"):
        listed(warm(peer))


BROKEN_TOOLS = [
    {"name": "broken"},
    {"name": "broken", "inputSchema": "text"},
    {"name": 7, "inputSchema": {"type": "object"}},
    "broken",
    None,
    {"inputSchema": {"type": "object"}},
    {"name": "broken", "inputSchema": {"type": "object"}, "description": ["list"]},
    {"name": "bro\u0000ken", "inputSchema": {"type": "object"}},
    {"name": "x" * 5000, "inputSchema": {"type": "object"}},
    {"name": "broken", "inputSchema": {"type": "object"}, "description": "x" * 70_000},
    {"name": "broken", "inputSchema": {"type": "object"}, "outputSchema": {"description": "x" * 70_000}},
]


@pytest.mark.parametrize("version", [MODERN, LEGACY])
@pytest.mark.parametrize("broken", BROKEN_TOOLS)
def test_one_broken_tool_is_set_aside_and_the_others_stay(broken: Any, version: str) -> None:
    legacy = {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
    script: Script = {"tools/list": lambda params: page(TOOL, broken, {**TOOL, "name": "other"})}
    script["initialize"] = lambda params: legacy
    with running_peer(speaking(script)) as peer:
        listing = listed(warm(peer) if version == MODERN else cold(peer, protocol_version=LEGACY))

    assert [tool.name for tool in listing.tools] == ["look", "other"]
    assert len(listing.set_aside) == 1
    assert listing.set_aside[0].isprintable()
    assert len(listing.set_aside[0]) <= 100


def test_texts_that_a_database_cannot_store_are_mended() -> None:
    tool = {"name": "look", "description": "a\u0000b", "inputSchema": {"type": "object", "title": "a\u0000b"}}
    with running_peer(speaking({"tools/list": lambda params: page(tool)})) as peer:
        found = listed(warm(peer)).tools[0]

    assert (found.description, found.input_schema["title"]) == ("a\ufffdb", "a\ufffdb")


def test_a_server_without_tools_has_an_empty_listing() -> None:
    script: Script = {
        "server/discover": lambda params: {**DISCOVERED, "capabilities": {}},
        "tools/list": lambda params: {"status": 404, "error": {"code": -32601, "message": "Method not found"}},
    }
    with running_peer(speaking(script)) as peer:
        listing = listed(cold(peer))

    assert (listing.tools, listing.truncated, listing.protocol_version) == ((), False, MODERN)


# Calls


@pytest.mark.requirement("T34")
def test_a_regular_expression_of_the_server_does_not_run_here() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}, "required": ["a"]}
    tool = {**TOOL, "outputSchema": schema}
    result = {**DONE, "structuredContent": {"a": "a" * 40 + "!"}}
    script: Script = {"tools/list": lambda params: page(tool), "tools/call": lambda params: result}
    with running_peer(speaking(script)) as peer:
        listing = listed(warm(peer))
        started = time.monotonic()
        for known in (listing.tools, None):
            assert called(warm(peer, tools=known)).structured_content == result["structuredContent"]
        taken = time.monotonic() - started

    assert listing.tools[0].output_schema == schema
    assert taken < 2


def test_a_result_that_contradicts_its_output_schema_is_a_result() -> None:
    stored = (ToolDescription("look", output_schema={"type": "object", "required": ["a"]}),)
    with running_peer(speaking({})) as peer:
        assert called(warm(peer, tools=stored)).text == "done"


def test_an_argument_the_server_wants_as_header_is_sent_as_one_in_the_only_request() -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    with running_peer(speaking({})) as peer:
        called(warm(peer, tools=(ToolDescription("look", input_schema=schema),)), region="eu")

    assert methods(peer) == ["tools/call"]
    assert peer.requests[0].headers["mcp-param-region"] == "eu"


def test_an_unknown_tool_is_named_as_such() -> None:
    error = {"status": 400, "error": {"code": -32602, "message": "Unknown tool: look"}}
    with running_peer(speaking({"tools/call": lambda params: error})) as peer, pytest.raises(ToolNotFound):
        called(warm(peer))

    assert methods(peer) == ["tools/call"]


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(500, b"", content_type=""),
        http_answer(500, b"<html>", content_type="text/html"),
        http_answer(429, b"slow down", content_type="text/plain"),
        http_answer(400, b"no", content_type="text/plain"),
        http_answer(202, b"", content_type=""),
        http_answer(200, b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no"}}'),
        http_answer(400, b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no"}}'),
    ],
)
def test_a_call_that_may_have_run_is_never_sent_twice(answer: bytes) -> None:
    with running_peer(speaking({"tools/call": lambda params: answer})) as peer, pytest.raises(ServerRefused):
        called(warm(peer))

    assert methods(peer) == ["tools/call"]


@pytest.mark.parametrize("method", ["sampling/createMessage", "roots/list"])
def test_a_server_that_asks_for_what_no_person_answers_gets_a_refusal_that_explains(method: str) -> None:
    ask = {"resultType": "input_required", "inputRequests": {"q": {"method": method, "params": {}}}}
    script: Script = {"tools/call": lambda params: ask}
    with running_peer(speaking(script)) as peer, pytest.raises(ServerRefused, match="asks for input"):
        called(warm(peer))


@pytest.mark.requirement("T36")
def test_cookies_of_one_session_do_not_reach_the_next() -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": DONE}).encode()
    answer = http_answer(200, body, headers={"set-cookie": "who=alice; Path=/"})
    with running_peer(speaking({"tools/call": lambda params: answer})) as peer:
        called(warm(peer))
        called(warm(peer))

    assert [seen.headers.get("cookie") for seen in peer.requests] == [None, None]


# What the wire does


@pytest.mark.requirement("mcp-bp-redirects", "T05")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_is_refused_and_the_other_sees_nothing(status: int) -> None:
    with running_peer(lambda received: http_answer()) as other:
        location = other.url("/mcp?leak=1")
        with running_peer(lambda received: http_answer(status, b"", headers={"location": location})) as peer:
            for target in (cold(peer, access_token="the-access-token"), warm(peer, access_token="the-access-token")):
                with pytest.raises(RedirectRefused):
                    listed(target)
                with pytest.raises(RedirectRefused):
                    called(target)

    assert (other.connections, other.requests) == (0, [])


def test_a_redirect_within_the_origin_that_keeps_the_method_is_followed() -> None:
    spoken = speaking({})

    def answer(received: Received) -> Any:
        if received.path.startswith("/mcp?"):
            return http_answer(307, b"", headers={"location": "/mcp/"})
        return spoken(received)

    with running_peer(answer) as peer:
        assert called(warm(peer, access_token="the-access-token")).text == "done"

    assert {seen.headers["authorization"] for seen in peer.requests} == {"Bearer the-access-token"}


def test_redirects_in_a_circle_end() -> None:
    answer = http_answer(307, b"", headers={"location": "/mcp"})
    with running_peer(lambda received: answer) as peer, pytest.raises(RedirectRefused):
        called(warm(peer))

    assert len(peer.requests) == 4


def chunked(*pieces: bytes, media: str = "application/json") -> Iterator[bytes]:
    yield f"HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)


@pytest.mark.requirement("T30")
@pytest.mark.parametrize("media", ["application/json", "text/event-stream"])
def test_an_answer_beyond_the_limit_is_refused(media: str) -> None:
    def answer(params: dict[str, Any]) -> Iterator[bytes]:
        return chunked(*[b": " + b"x" * 10_000 + b"\n"] * 50, media=media)

    with running_peer(speaking({"tools/call": answer})) as peer, pytest.raises(ResponseTooLarge):
        called(warm(peer, policy={"mcp_response_bytes": 100_000}))


@pytest.mark.requirement("T30")
def test_an_encoded_answer_is_refused() -> None:
    bomb = http_answer(200, gzip.compress(b"0" * 1_000_000), headers={"content-encoding": "gzip"})
    with running_peer(lambda received: bomb) as peer, pytest.raises(ServerUnreachable, match="encoded"):
        called(warm(peer))

    assert peer.requests[0].headers["accept-encoding"] == "identity"


DRIPS = {
    "headers": (b"HTTP/1.1 200 OK\r\n", b"x-drip: 1\r\n"),
    "json": (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "sse": (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        b"2\r\n:\n\r\n",
    ),
    "silence": (b"", b""),
}


@pytest.mark.requirement("T31")
@pytest.mark.parametrize("kind", DRIPS)
@pytest.mark.parametrize("known", [cold, warm])
def test_a_server_that_drips_is_left_at_the_deadline(kind: str, known: Callable[..., Target]) -> None:
    with running_peer(lambda received: drip(peer, *DRIPS[kind])) as peer:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            called(known(peer), timeout=0.3)
        with pytest.raises(DeadlineExceeded):
            listed(known(peer, policy={"mcp_seconds": 0.3}))
        taken = time.monotonic() - started

    assert taken < 3


@pytest.mark.requirement("T32")
@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"],
        [b'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: {"js'],
        [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 0\r\n\r\n"],
        [b"nonsense\r\n\r\n"],
        [b""],
    ],
    ids=["json", "sse", "sse-end", "nonsense", "nothing"],
)
def test_an_answer_that_breaks_off_is_a_typed_error_for_that_call_only(pieces: list[bytes]) -> None:
    def choose(params: dict[str, Any]) -> Any:
        return pieces if params["arguments"].get("break") else DONE

    async def together(target: Target) -> list[Any]:
        calls = [client.call_tool(target, "look", {"break": broken}, timeout=10) for broken in (False, True, False)]
        return await asyncio.gather(*calls, return_exceptions=True)

    with running_peer(speaking({"tools/call": choose})) as peer:
        first, second, third = loop.run(lambda: together(warm(peer)), timeout=20)

    assert (first.text, third.text) == ("done", "done")
    assert type(second) is ServerUnreachable
    assert peer.url("/mcp") in second.user_message


BAD_ANSWERS = [
    (200, "text/html", b"<html>sign in</html>", "HTTP 200 with text/html"),
    (200, "", b"", "HTTP 200 with no content type"),
    (200, "application/json", b"", "HTTP 200 with application/json"),
    (200, "application/json", b"[1, 2", "HTTP 200 with application/json"),
    (200, "application/json", b'{"ok": true}', "HTTP 200 with application/json"),
    (200, "application/json", b"[" * 100_000, "HTTP 200 with application/json"),
    (202, "", b"", "HTTP 202 with no content type"),
    (204, "", b"", "HTTP 204 with no content type"),
    (400, "text/plain", b"no", "HTTP 400 with text/plain"),
    (403, "text/html", b"<html>", "HTTP 403 with text/html"),
    (404, "text/html", b"<html>", "HTTP 404 with text/html"),
    (418, "application/json", b'{"error": "x"}', "HTTP 418 with application/json"),
    (500, "text/html", b"<html>", "HTTP 500 with text/html"),
    (503, "", b"", "HTTP 503 with no content type"),
]


@pytest.mark.parametrize(("status", "media", "body", "said"), BAD_ANSWERS)
@pytest.mark.parametrize("known", [cold, warm])
def test_what_is_not_mcp_is_named_by_url_status_and_kind(
    status: int, media: str, body: bytes, said: str, known: Callable[..., Target]
) -> None:
    with running_peer(lambda received: http_answer(status, body, content_type=media)) as peer:
        for ask in (listed, called):
            with pytest.raises(ServerRefused) as caught:
                ask(known(peer))

            assert caught.value.user_message == f"{peer.url('/mcp')} answered {said} instead of an MCP message."


FOREIGN = [
    {"id": 4711, "result": DONE},
    {"id": 4711, "error": {"code": -32000, "message": "x"}},
    {"id": True, "result": DONE},
    {"id": [1], "result": DONE},
    {"id": 10**400, "result": DONE},
    {"id": None, "result": DONE},
    {"result": DONE},
    {"id": 1},
    {"id": 1, "result": 7},
    {"id": 1, "result": DONE, "jsonrpc": "1.0"},
    {"id": 1, "error": {"code": "x"}},
    7,
    None,
]


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("message", FOREIGN, ids=lambda message: str(message)[:40])
@pytest.mark.parametrize("media", ["application/json", "text/event-stream"])
def test_an_answer_to_something_else_ends_the_call_at_once_though_the_stream_stays_open(
    message: Any, media: str
) -> None:
    whole = {"jsonrpc": "2.0", **message} if isinstance(message, dict) else message
    body = json.dumps(whole).encode()

    def answer(received: Received) -> Any:
        if media == "application/json":
            return http_answer(200, body)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        return drip(peer, head + b"data: " + body + b"\n\n", b": still here\n\n")

    with running_peer(answer) as peer, pytest.raises(ServerRefused, match="instead of an MCP message"):
        called(warm(peer), timeout=15)

    assert methods(peer) == ["tools/call"]


def test_a_stream_may_hold_a_batch_as_one_revision_had_it() -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {}}
    body = json.dumps([note, {"jsonrpc": "2.0", "id": 1, "result": DONE}]).encode()
    answer = http_answer(200, b"data: " + body + b"\n\n", content_type="text/event-stream")

    with running_peer(lambda received: answer) as peer:
        assert called(warm(peer)).text == "done"


@pytest.mark.requirement("T33")
@pytest.mark.parametrize("retry", [b"0", b"1" + b"0" * 400, b"1" + b"0" * 5000, b"-1"])
def test_a_stream_that_asks_to_be_polled_for_ever_is_not(retry: bytes) -> None:
    stream = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    event = b"id: 1\nretry: " + retry + b"\ndata:\n\n"

    with running_peer(lambda received: [stream, event]) as peer, pytest.raises(McpOAuthError) as caught:
        called(warm(peer), timeout=2)

    assert isinstance(caught.value, ServerUnreachable | ServerRefused)
    assert methods(peer).count("GET") <= 3


def test_a_legacy_server_that_never_ends_its_session_does_not_delay_the_result() -> None:
    hello = {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": hello}).encode()
    spoken = speaking({"initialize": lambda params: http_answer(200, body, headers={"mcp-session-id": "s1"})})

    def answer(received: Received) -> Any:
        return drip(peer, b"", b"") if received.method == "DELETE" else spoken(received)

    with running_peer(answer) as peer:
        started = time.monotonic()
        assert called(cold(peer, protocol_version=LEGACY)).text == "done"
        taken = time.monotonic() - started

    assert taken < 3
    assert methods(peer) == ["initialize", "notifications/initialized", "tools/call", "DELETE"]


# What the server says about us


@pytest.mark.requirement("mcp-discovery-challenge-parsed", "T22")
@pytest.mark.parametrize("known", [cold, warm])
def test_a_401_is_a_signal_with_every_challenge_after_one_request(known: Callable[..., Target]) -> None:
    answer = (
        b"HTTP/1.1 401 No\r\ncontent-length: 0\r\nwww-authenticate: Basic realm=a\r\n"
        b'www-authenticate: Bearer resource_metadata="https://mcp.example/prm"\r\n\r\n'
    )
    with running_peer(lambda received: answer) as peer:
        for ask in (listed, called):
            peer.requests.clear()
            with pytest.raises(Unauthorized) as caught:
                ask(known(peer, access_token="the-access-token"))

            assert caught.value.challenge_values == (
                "Basic realm=a",
                'Bearer resource_metadata="https://mcp.example/prm"',
            )
            assert len(peer.requests) == 1


def test_a_401_without_any_challenge_is_a_signal_too() -> None:
    with running_peer(lambda received: http_answer(401, b"no")) as peer, pytest.raises(Unauthorized) as caught:
        loop.run(lambda: client.connect(cold(peer)), timeout=20)

    assert caught.value.challenge_values == ()


def test_a_401_at_the_call_is_a_signal_although_negotiation_went_well() -> None:
    answer = http_answer(401, b"", headers={"www-authenticate": "Bearer"})
    with running_peer(speaking({"tools/call": lambda params: answer})) as peer, pytest.raises(Unauthorized):
        called(cold(peer))

    assert methods(peer) == ["server/discover", "tools/call"]


def test_a_403_for_lack_of_scope_is_a_signal_with_the_scope() -> None:
    answer = http_answer(403, b"", headers={"www-authenticate": 'Bearer error="insufficient_scope", scope="a b"'})
    with (
        running_peer(speaking({"tools/call": lambda params: answer})) as peer,
        pytest.raises(ScopeChallenged) as caught,
    ):
        called(warm(peer))

    assert caught.value.scope == "a b"


@pytest.mark.requirement("T22")
@pytest.mark.parametrize(
    "challenge", ['Custom foo_error="insufficient_scope"', 'Bearer foo_error="insufficient_scope"', "Bearer", ""]
)
def test_another_403_is_no_request_for_scope(challenge: str) -> None:
    answer = http_answer(403, b"", headers={"www-authenticate": challenge})
    script: Script = {"tools/call": lambda params: answer}
    with running_peer(speaking(script)) as peer, pytest.raises(ServerRefused, match="HTTP 403"):
        called(warm(peer))


def test_an_error_carries_the_servers_words_bounded_and_clean() -> None:
    words = "Quota\x00 \x1b[31mexceeded\u202e\r\n" + "very " * 500
    error = {"error": {"code": -32000, "message": words}}
    with running_peer(speaking({"tools/call": lambda params: error})) as peer, pytest.raises(ServerRefused) as caught:
        called(warm(peer))

    message = caught.value.user_message
    assert message.startswith(f"{peer.url('/mcp')} refused the request: Quota [31mexceeded very very")
    assert message.endswith("(error -32000)")
    assert message.isprintable()
    assert len(message) < 500


SECRET_TOKEN = "tok-en"
SECRET_HEADER = "correct horse battery"


ECHO = f"bad token {SECRET_TOKEN} or key {SECRET_HEADER}"
ECHOES: list[Any] = [
    {"status": 200, "error": {"code": -32000, "message": ECHO, "data": ECHO}},
    {"status": 400, "error": {"code": -32000, "message": ECHO, "data": ECHO}},
    {"status": 500, "error": {"code": -32000, "message": ECHO, "data": ECHO}},
    {"content": ECHO},
    {"content": [{"type": ECHO}]},
    http_answer(200, ECHO.encode()),
    http_answer(200, b"data: " + ECHO.encode() + b"\n\n", content_type="text/event-stream"),
    http_answer(200, b"", content_type=ECHO),
    http_answer(200, b"", content_type=f"text/{SECRET_TOKEN}"),
    http_answer(302, b"", headers={"location": "https://mcp.example/" + SECRET_TOKEN}),
]


@pytest.mark.requirement("T41")
@pytest.mark.parametrize("known", [cold, warm])
@pytest.mark.parametrize("answer", ECHOES)
def test_a_server_that_repeats_our_secrets_gets_them_into_no_error_and_no_log(
    known: Callable[..., Target], answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "httpx2", "mcp", "client"):
        caplog.set_level("DEBUG", logger=name)
    script: Script = {"tools/call": lambda params: answer}
    with running_peer(speaking(script)) as peer, pytest.raises((ServerRefused, RedirectRefused)) as caught:
        called(known(peer, access_token=SECRET_TOKEN, headers={"X-Key": SECRET_HEADER}))

    assert "hidden-in-query" not in caplog.text

    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "POST" in caplog.text
    assert SECRET_TOKEN not in shown
    assert "horse" not in shown


def test_a_header_that_http_forbids_is_an_error_that_does_not_quote_it() -> None:
    headers = {"X-Key": "hunter\n22222"}
    with running_peer(speaking({})) as peer, pytest.raises(ServerUnreachable) as caught:
        called(warm(peer, headers=headers))

    assert peer.connections == 0
    assert "22222" not in "".join(traceback.format_exception(caught.value))


def test_a_host_that_is_away_is_unreachable() -> None:
    with running_peer(speaking({})) as peer:
        gone = warm(peer)
    for target in (gone, replace(gone, protocol_version=None), replace(gone, protocol_version=LEGACY)):
        with pytest.raises(ServerUnreachable, match="cannot be reached"):
            called(target)
