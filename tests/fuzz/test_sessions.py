"""MCP answers and redirects, sent by a real peer: every one is a result fit to be stored and shown, or one signal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.models import McpServer
from mcp_oauth.net.fetch import fetch
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.services.calls import call_tool
from mcp_oauth.services.catalog import last_known, list_tools
from mcp_oauth.services.probes import probe
from mcp_oauth.sessions import client, loop
from mcp_oauth.sessions.loop import shared_transport
from mcp_oauth.sessions.results import ToolDescription
from mcp_oauth.sessions.signals import ScopeChallenged, Unauthorized
from mcp_oauth.sessions.target import Target
from tests.fuzz.mutations import ODD_TEXTS, Reached, assert_bounded, json_bytes, mutated, thorough
from tests.fuzz.pages import assert_only_text_is_added, shown_result, shown_steps, shown_tool
from tests.people import member, new_server, new_workspace
from tests.protocol.conftest import LEGACY, MODERN
from tests.servers.peer import Peer, Received, http_answer, running_peer

pytestmark = pytest.mark.once

# Each answer is here at once; whoever asks to be waited for is not waited for longer than this.
CALL_SECONDS = 1.5
LONGEST = 8.0
TOKEN = "the-access-token-of-a-person"

DISCOVERED = {
    "supportedVersions": [MODERN],
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "peer", "version": "1"},
    "resultType": "complete",
    "ttlMs": 0,
    "cacheScope": "private",
}
INITIALIZED = {
    "protocolVersion": LEGACY,
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "peer", "version": "1"},
}
TOOL = {
    "name": "look",
    "title": "Look up",
    "description": "Looks things up.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to look for", "default": "x"},
            "limit": {"type": ["integer", "null"], "enum": [1, 2, 3600]},
            "tags": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}},
        },
        "required": ["query", "tags"],
    },
    "outputSchema": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}},
    "annotations": {"readOnlyHint": False, "destructiveHint": True, "openWorldHint": True, "title": "Look"},
    "icons": [{"src": "https://evil.example/pixel.png"}],
    "_meta": {"n": 3600},
}
LISTED = {
    "tools": [TOOL, {**TOOL, "name": "other"}],
    "nextCursor": "2",
    "resultType": "complete",
    "ttlMs": 3600,
    "cacheScope": "private",
}
RESULT = {
    "content": [
        {"type": "text", "text": "done"},
        {"type": "image", "data": "aGk=", "mimeType": "image/png"},
        {"type": "resource_link", "uri": "https://evil.example/x", "name": "x"},
        {"type": "resource", "resource": {"uri": "file:///x", "text": "hello"}},
    ],
    "structuredContent": {"a": "a" * 40 + "!", "n": 3600},
    "isError": False,
    "resultType": "complete",
}
FAILED = {"code": -32000, "message": f"Quota exceeded for {TOKEN}", "data": {"n": 3600}}

RESULTS: dict[str, dict[str, Any]] = {
    "server/discover": DISCOVERED,
    "initialize": INITIALIZED,
    "tools/list": LISTED,
    "tools/call": RESULT,
}
NOISE: tuple[dict[str, Any], ...] = (
    {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}},
    {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}},
    {"jsonrpc": "2.0", "id": 7, "method": "ping"},
    {"jsonrpc": "2.0", "id": 8, "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}},
    {"jsonrpc": "2.0", "id": 9, "method": "roots/list"},
    {"jsonrpc": "2.0", "id": "9", "result": {}},
)
HEADS = (
    "www-authenticate: Bearer error=insufficient_scope, scope=admin",
    "mcp-session-id: s-1",
    "location: http://127.0.0.1:1/elsewhere",
    "content-encoding: gzip",
    "transfer-encoding: nonsense",
    "set-cookie: a=b",
)
statuses = st.sampled_from([200] * 20 + [202, 204, 302, 307, 400, 401, 403, 404, 405, 418, 429, 500, 503])
media = st.sampled_from(["application/json"] * 12 + ["", "text/html", "text/event-stream", "application/json; x=\x7f"])


@st.composite
def messages(draw: st.DrawFn, method: str) -> Any:
    """Return what a server may answer to one method: a result or an error, inside and outside damaged."""
    if draw(st.integers(0, 5)) == 0:
        inner = {"error": draw(mutated(FAILED))}
    else:
        inner = {"result": draw(mutated(RESULTS[method]))}
    whole = {"jsonrpc": "2.0", "id": "the-id", **inner}
    return draw(mutated(whole, most=1)) if draw(st.integers(0, 5)) == 0 else whole


@st.composite
def replies(draw: st.DrawFn, method: str) -> bytes:
    """Return a whole HTTP answer, JSON or a stream of events, with ``"the-id"`` where the request's id belongs."""
    body = draw(json_bytes(messages(method)))
    kind = draw(media)
    if draw(st.integers(0, 2)) == 0:
        kind, body = "text/event-stream", draw(streams(body))
    heads = draw(st.lists(st.sampled_from(HEADS), max_size=2)) if draw(st.integers(0, 5)) == 0 else []
    answer = http_answer(draw(statuses), body, content_type=kind)
    start, blank, rest = answer.partition(b"\r\n\r\n")
    answer = b"\r\n".join([start, *(head.encode() for head in heads)]) + blank + rest
    # Now and then the line goes dead in the middle.
    return answer if draw(st.integers(0, 9)) else answer[: draw(st.integers(0, len(answer)))]


@st.composite
def streams(draw: st.DrawFn, message: bytes) -> bytes:
    """Return an event stream with the message somewhere in it."""
    end = draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"]))
    noise = st.sampled_from(NOISE).map(lambda item: b"data: " + json.dumps(item).encode() + end * 2)
    odd = st.sampled_from(
        [
            b": comment",
            b"id: 1",
            b"id: \x00",
            b"retry: 0",
            b"retry: 1" + b"0" * 400,
            b"event: ping",
            b"data",
            b"\xff\xfe",
        ]
    ).map(lambda line: line + end * 2)
    before = b"".join(draw(st.lists(noise | odd, max_size=3)))
    kind = draw(st.sampled_from([b"event: message", b"event: message", b"", b"event: other"]))
    lines = message.splitlines() if draw(st.booleans()) else [message]
    return (
        before + kind + end + end.join(b"data: " + line for line in lines) + end * draw(st.sampled_from([2, 2, 2, 1]))
    )


def answering(script: dict[str, bytes]) -> Callable[[Received], Any]:
    """Return a peer that answers by method with the bytes of a script, its request's id put in."""

    def answer(received: Received) -> Any:
        if received.method != "POST":
            return http_answer(405, b"", content_type="")
        message = json.loads(received.body)
        # A note, or the answer to a question of ours.
        if "id" not in message or "method" not in message:
            return http_answer(202, b"", content_type="")
        sound = {"jsonrpc": "2.0", "id": message["id"], "result": RESULTS.get(message["method"], {})}
        prepared = script.get(message["method"])
        if prepared is None:
            return http_answer(200, json.dumps(sound).encode())
        head, blank, body = prepared.partition(b"\r\n\r\n")
        # One connection per damaged answer: whatever is left of it belongs to nobody.
        body = body.replace(b'"the-id"', json.dumps(message["id"]).encode())
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
        return [b"\r\n".join([*lines, b"connection: close"]) + (blank and blank + body)]

    return answer


def known_as(peer: Peer, how: str) -> Target:
    """Return a server of which nothing, its discovery, or that it is of the older era is known."""
    known: dict[str, dict[str, Any]] = {
        "cold": {},
        "warm": {"protocol_version": MODERN, "discover_result": DISCOVERED},
        "legacy": {"protocol_version": LEGACY},
    }
    facts = known[how]
    policy = NetworkPolicy(allow_loopback=True, mcp_seconds=CALL_SECONDS, mcp_response_bytes=2_000_000)
    return Target(peer.url("/mcp"), access_token=TOKEN, policy=policy, max_pages=4, max_tools=20, **facts)


def asked(target: Target, operation: str) -> Any:
    """Return what the operation returns, or the error or signal that it ends with."""
    work: dict[str, Callable[[], Any]] = {
        "connect": lambda: client.connect(target),
        "list": lambda: client.list_tools(target),
        "call": lambda: client.call_tool(target, "look", {"query": "x"}, timeout=CALL_SECONDS),
    }
    started = time.monotonic()
    try:
        outcome: Any = loop.run(work[operation], timeout=LONGEST)
    except (McpOAuthError, Unauthorized, ScopeChallenged) as error:
        outcome = error
    assert time.monotonic() - started < LONGEST
    return outcome


def assert_storable(value: Any) -> None:
    """Insist that a value goes into a JSON column of either database and comes back."""
    written = json.dumps(value, allow_nan=False, ensure_ascii=False)
    assert json.loads(written) == value
    assert b"\x00" not in written.encode()
    assert "\\u0000" not in written


METHODS_OF = {
    "connect": ["server/discover", "initialize"],
    "list": ["server/discover", "initialize", "tools/list", "tools/list"],
    "call": ["server/discover", "initialize", "tools/list", "tools/call", "tools/call", "tools/call"],
}


@st.composite
def conversations(draw: st.DrawFn) -> tuple[str, str, dict[str, bytes]]:
    """Return an operation, what is known before it, and which methods of it are answered how."""
    operation = draw(st.sampled_from(["connect", "list", "list", "call", "call"]))
    damaged = draw(st.sampled_from(METHODS_OF[operation]))
    return operation, draw(st.sampled_from(["cold", "warm", "legacy"])), {damaged: draw(replies(damaged))}


def listing_with_a_broken_tool() -> bytes:
    """Return the answer that leads to what mutations hit too seldom."""
    result = {**LISTED, "tools": [TOOL, {**TOOL, "name": "broken", "inputSchema": "text"}], "nextCursor": None}
    return http_answer(200, json.dumps({"jsonrpc": "2.0", "id": "the-id", "result": result}).encode())


@pytest.mark.requirement("T30", "T31", "T32", "T33", "T37")
def test_any_answer_of_an_mcp_server_is_a_result_fit_for_us_or_one_signal() -> None:
    reached = Reached()
    script: dict[str, bytes] = {}

    with running_peer(answering(script)) as peer:

        @thorough
        @example(("list", "warm", {"tools/list": listing_with_a_broken_tool()}))
        @given(conversations())
        def check(conversation: tuple[str, str, dict[str, bytes]]) -> None:
            operation, known, answers = conversation
            script.clear()
            script.update(answers)
            peer.requests.clear()

            outcome = asked(known_as(peer, known), operation)

            assert len(peer.requests) <= 12
            if isinstance(outcome, Exception):
                if isinstance(outcome, McpOAuthError):
                    assert_bounded(outcome)
                    assert TOKEN not in str(outcome)
                found = type(outcome).__name__
            elif operation == "list":
                assert_storable([tool.to_json() for tool in outcome.tools])
                for tool in outcome.tools:
                    assert ToolDescription.from_json(tool.to_json()) == tool
                    assert_only_text_is_added(shown_tool(tool))
                found = "tools" if outcome.tools else "no tools"
                if outcome.set_aside:
                    reached["set aside"] += 1
            elif operation == "call":
                assert_storable(outcome.to_json())
                assert_only_text_is_added(shown_result(outcome))
                found = "result"
            else:
                found = "facts"
            if not isinstance(outcome, Exception):
                assert_storable(outcome.discover_result)
            reached[f"{operation}: {found}"] += 1
            if b"event-stream" in b"".join(answers.values())[:200] and found in {"tools", "result"}:
                reached["a stream read"] += 1
            event(f"{operation}, {known}: {found}")

        check()
    reached.insist_on("connect: facts", "list: tools", "call: result", "a stream read", "set aside")
    reached.insist_on("list: ServerRefused", "call: ServerRefused", "call: ServerUnreachable")


UNSTORABLE = {"big": 3600, "text": "a\x00b", "a\x00b": 1}


@pytest.mark.requirement("T32", "T44")
@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "3600"])
@pytest.mark.django_db(transaction=True)
def test_what_no_database_stores_costs_neither_the_listing_nor_the_server(number: str) -> None:
    results: dict[str, dict[str, Any]] = {
        "server/discover": {**DISCOVERED, "instructions": "a\x00b", "_meta": UNSTORABLE},
        "tools/list": {
            **DISCOVERED,
            "tools": [
                {"name": "look", "inputSchema": {"type": "object", "properties": {"x": {"default": UNSTORABLE}}}}
            ],
        },
        "tools/call": {"content": [{"type": "text", "text": "a\x00b"}], "structuredContent": UNSTORABLE},
    }
    script = {
        method: http_answer(
            200,
            json.dumps({"jsonrpc": "2.0", "id": "the-id", "result": {"resultType": "complete", **result}})
            .replace("3600", number)
            .encode(),
        )
        for method, result in results.items()
    }
    workspace = new_workspace()
    person = member(workspace)
    with running_peer(answering(script)) as peer:
        server = new_server(workspace, peer.url("/mcp"))
        first = list_tools(server, person)
        again = list_tools(server, person, refresh=True)
        result = call_tool(server, person, "look", {})

    assert [tool.name for tool in (*first, *again)] == ["look", "look"]
    assert [tool.name for tool in last_known(server, person) or ()] == ["look"]
    assert (McpServer.objects.get().discover_result or {})["instructions"] == "a\ufffdb"
    assert_storable(result.to_json())


HEADERS_OF_SESSIONS = ("s-1", "\u00e9", "a b", "x" * 5000, "\x7f", "1, 2", "")


@pytest.mark.requirement("T30", "T31")
def test_any_answer_to_a_stranger_leaves_a_report_that_can_be_stored() -> None:
    reached = Reached()
    script: dict[str, bytes] = {}

    with running_peer(answering(script)) as peer:

        @settings(thorough, max_examples=400)
        @given(
            st.sampled_from(["server/discover", "initialize", "tools/list"]),
            st.data(),
            st.booleans(),
            st.sampled_from(HEADERS_OF_SESSIONS),
        )
        def check(method: str, data: st.DataObject, legacy: bool, session: str) -> None:
            script.clear()
            if legacy:
                script["server/discover"] = http_answer(404, b"{}")
                head, _, body = http_answer(
                    200, json.dumps({"id": "the-id", "result": INITIALIZED}).encode()
                ).partition(b"\r\n\r\n")
                script["initialize"] = head + b"\r\nmcp-session-id: " + session.encode() + b"\r\n\r\n" + body
            script[method] = data.draw(replies(method))

            report = probe(peer.url("/mcp"), OAuthOptions())

            assert_storable(report.evidence.as_json())
            assert_storable(report.discover_result)
            assert_storable(report.protocol_version)
            assert_only_text_is_added(shown_steps(report.evidence.as_json()))
            assert report.verdict.isprintable()
            assert len(report.verdict) <= 600
            reached[f"{'legacy' if legacy else 'modern'}: {report.auth_mode or 'no MCP server'}"] += 1

        check()
    reached.insist_on("legacy: none", "modern: none", "modern: no MCP server", "legacy: no MCP server")


async def sent(request: HttpRequest, policy: NetworkPolicy) -> HttpResponse:
    return await fetch(shared_transport(policy), request, policy=policy)


locations = st.one_of(
    st.sampled_from(["/here", "here?x=1#y", "{own}/there", "//127.0.0.1:{bait}/", "http://127.0.0.1:{bait}/"]),
    st.sampled_from(
        ["http://localhost:{bait}/", "http://127.0.0.1:{own_port}@127.0.0.1:{bait}/", "\\\\127.0.0.1:{bait}"]
    ),
    st.sampled_from(
        [*(text for text in ODD_TEXTS if "\n" not in text), "https://xn--\u00fc/", "http://[::1", "http://a:b/"]
    ),
    mutated("{own}/there", "http://127.0.0.1:{bait}/x").filter(lambda text: isinstance(text, str)),
    st.text(max_size=30),
)


@pytest.mark.requirement("T05")
def test_any_redirect_stays_on_its_origin_or_is_one_typed_error() -> None:
    reached = Reached()
    location = b""

    def redirect(received: Received) -> bytes:
        if received.path != "/":
            return http_answer()
        head = b"HTTP/1.1 307 Elsewhere\r\ncontent-length: 0\r\nconnection: close\r\nlocation: "
        return head + location + b"\r\n\r\n"

    with running_peer(redirect) as peer, running_peer(lambda received: http_answer()) as bait:
        policy = NetworkPolicy(allow_loopback=True, request_seconds=CALL_SECONDS)
        request = HttpRequest("POST", peer.url("/"), {"authorization": f"Bearer {TOKEN}"}, b"secret")

        @thorough
        @given(locations)
        @example("h" + "x" * 3000 + "://127.0.0.1/")
        @example("http://" + "x" * 3000 + "/")
        def check(text: str) -> None:
            nonlocal location
            own = peer.url("")
            filled = text.replace("{own}", own).replace("{bait}", str(bait.port)).replace("{own_port}", str(peer.port))
            location = filled.encode("utf-8", "surrogatepass").replace(b"\r", b"").replace(b"\n", b"")
            peer.requests.clear()

            try:
                answer = loop.run(lambda: sent(request, policy), timeout=LONGEST)
            except McpOAuthError as error:
                assert_bounded(error)
                reached[type(error).__name__] += 1
            else:
                assert answer.url.startswith(own)
                reached["followed"] += 1
            assert bait.connections == 0
            assert len(peer.requests) <= policy.max_redirects + 1

        check()
    reached.insist_on("followed", "RedirectRefused")
