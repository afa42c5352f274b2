"""Sessions with well-behaved servers of both eras: what is learnt, what is sent, how often."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as trace_context

from mcp_oauth.exceptions import AddressBlocked
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.sessions import client, loop
from mcp_oauth.sessions.results import ConnectionFacts, ToolDescription, ToolListing, ToolResult
from mcp_oauth.sessions.target import Target
from tests.protocol.conftest import LEGACY, MODERN, Era, PlainServer

Start = Callable[[Era], PlainServer]

ERAS: list[Era] = ["modern", "legacy"]


def target_for(server: PlainServer, **known: Any) -> Target:
    return Target(server.url, policy=NetworkPolicy(allow_loopback=True), client_name="tests", **known)


def listed(target: Target) -> ToolListing:
    return loop.run(lambda: client.list_tools(target), timeout=20)


def connected(target: Target) -> ConnectionFacts:
    return loop.run(lambda: client.connect(target), timeout=20)


def called(target: Target, name: str = "add", **arguments: Any) -> ToolResult:
    result = loop.run(lambda: client.call_tool(target, name, arguments, timeout=10), timeout=20)
    assert isinstance(result, ToolResult)
    return result


def taught(target: Target, facts: ToolListing) -> Target:
    """Return a target that knows what a listing taught."""
    return replace(
        target, protocol_version=facts.protocol_version, discover_result=facts.discover_result, tools=facts.tools
    )


@pytest.mark.parametrize(("era", "version"), [("modern", MODERN), ("legacy", LEGACY)])
def test_connecting_tells_era_and_name(plain_mcp_server: Start, era: Era, version: str) -> None:
    server = plain_mcp_server(era)

    facts = connected(target_for(server))

    assert (facts.protocol_version, facts.server_name, facts.server_version) == (version, "plain", "1.2.3")
    assert (facts.discover_result is not None) == (era == "modern")


@pytest.mark.parametrize("era", ERAS)
def test_a_listing_describes_the_tools(plain_mcp_server: Start, era: Era) -> None:
    listing = listed(target_for(plain_mcp_server(era)))

    add = listing.tools[0]
    assert [tool.name for tool in listing.tools] == ["add", "fail"]
    assert (add.title, add.description) == ("Add two numbers", "Add.")
    assert add.input_schema["required"] == ["first", "second"]
    assert add.output_schema is not None
    assert (listing.truncated, listing.set_aside) == (False, ())
    assert ToolDescription.from_json(add.to_json()) == add


@pytest.mark.parametrize("era", ERAS)
def test_a_call_returns_content_and_structure(plain_mcp_server: Start, era: Era) -> None:
    server = plain_mcp_server(era)

    result = called(target_for(server), first=19, second=23)

    assert (result.text, result.structured_content, result.is_error) == ("42", {"result": 42}, False)
    assert result.to_json()["content"] == [{"type": "text", "text": "42"}]
    assert server.runs == ["add"]


@pytest.mark.parametrize("era", ERAS)
def test_a_tool_that_fails_is_a_result_that_says_so(plain_mcp_server: Start, era: Era) -> None:
    result = called(target_for(plain_mcp_server(era)), "fail")

    assert result.is_error
    assert "fail" in result.text


def test_a_warm_modern_call_is_one_request(plain_mcp_server: Start) -> None:
    server = plain_mcp_server("modern")
    target = taught(target_for(server), listed(target_for(server)))
    server.forget()

    for number in range(3):
        assert called(target, first=number, second=1).text == str(number + 1)

    assert server.requests == ["POST tools/call"] * 3


def test_a_warm_modern_call_of_a_tool_not_in_the_listing_is_one_request_too(plain_mcp_server: Start) -> None:
    server = plain_mcp_server("modern")
    target = replace(taught(target_for(server), listed(target_for(server))), tools=None)
    server.forget()

    assert called(target, first=1, second=1).text == "2"

    assert server.requests == ["POST tools/call"]


def test_a_remembered_legacy_server_is_not_asked_for_its_era_again(plain_mcp_server: Start) -> None:
    server = plain_mcp_server("legacy")
    target = taught(target_for(server), listed(target_for(server)))
    server.forget()

    assert called(target, first=1, second=1).text == "2"

    assert server.requests == [
        "POST initialize",
        "POST notifications/initialized",
        "POST tools/call",
        "DELETE",
    ]


def test_what_a_call_returns_can_be_remembered_as_it_is(plain_mcp_server: Start) -> None:
    server = plain_mcp_server("modern")
    first = called(target_for(server), first=1, second=1)
    server.forget()

    target = target_for(server, protocol_version=first.protocol_version, discover_result=first.discover_result)
    second = called(target, first=1, second=1)

    assert server.requests == ["POST tools/call"]
    assert second.discover_result == first.discover_result


@pytest.mark.parametrize("era", ERAS)
def test_a_server_that_changed_its_era_is_called_once_and_remembered_anew(plain_mcp_server: Start, era: Era) -> None:
    server = plain_mcp_server("legacy" if era == "modern" else "modern")
    before = plain_mcp_server(era)
    target = replace(taught(target_for(before), listed(target_for(before))), url=server.url)

    result = called(target, first=1, second=1)

    assert result.text == "2"
    assert result.protocol_version == (LEGACY if era == "modern" else MODERN)
    assert server.runs == ["add"]
    assert [tool.name for tool in listed(target).tools] == ["add", "fail"]


@pytest.mark.parametrize(
    "stored",
    [{}, {"supportedVersions": ["1999-01-01"]}, {"supportedVersions": 7}, None],
    ids=["empty", "old", "odd", "none"],
)
def test_a_stored_discovery_that_is_unusable_is_made_anew(
    plain_mcp_server: Start, stored: dict[str, Any] | None
) -> None:
    server = plain_mcp_server("modern")

    result = called(target_for(server, protocol_version=MODERN, discover_result=stored), first=1, second=1)

    assert result.text == "2"
    assert server.requests == ["POST server/discover", "POST tools/call"]


def test_a_version_nobody_knows_is_negotiated(plain_mcp_server: Start) -> None:
    server = plain_mcp_server("modern")

    assert connected(target_for(server, protocol_version="2199-01-01")).protocol_version == MODERN


def test_connecting_always_reaches_the_server(plain_mcp_server: Start) -> None:
    server = plain_mcp_server("modern")
    target = taught(target_for(server), listed(target_for(server)))
    server.forget()

    connected(target)

    assert server.requests == ["POST server/discover"]


@pytest.mark.requirement("mcp-auth-bearer-header", "mcp-auth-bearer-each-request", "oauth21-5.1-one-way", "T27")
@pytest.mark.parametrize("era", ERAS)
def test_we_say_who_we_are_and_bring_token_and_headers(plain_mcp_server: Start, era: Era) -> None:
    server = plain_mcp_server(era)
    headers = {"X-Key": "k", "Authorization": "Basic no", "Host": "evil.example", "Mcp-Method": "evil", "Accept": "a/b"}
    target = target_for(server, headers=headers, access_token="the-access-token", client_version="9.9")

    listed(target)

    assert {seen["authorization"] for seen in server.headers} == {"Bearer the-access-token"}
    assert {seen["x-key"] for seen in server.headers} == {"k"}
    assert {seen["user-agent"] for seen in server.headers} == {"tests/9.9"}
    assert all("evil" not in value for seen in server.headers for value in seen.values())
    opening = server.bodies[0]["params"]["_meta"]
    assert opening["io.modelcontextprotocol/clientInfo"] == {"name": "tests", "version": "9.9"}


def test_without_a_token_a_configured_authorization_is_sent(plain_mcp_server: Start) -> None:
    server = plain_mcp_server("modern")

    listed(target_for(server, headers={"Authorization": "Basic abc"}))

    assert {seen["authorization"] for seen in server.headers} == {"Basic abc"}


@pytest.mark.requirement("T38")
def test_baggage_stays_at_home(plain_mcp_server: Start) -> None:
    server = plain_mcp_server("modern")
    token = trace_context.attach(baggage.set_baggage("customer", "secret-customer"))
    try:
        called(target_for(server), first=1, second=1)
    finally:
        trace_context.detach(token)

    assert "secret-customer" not in repr((server.headers, server.bodies))


@pytest.mark.requirement("T01", "mcp-bp-private-addresses")
def test_loopback_is_refused_in_production_and_sees_nothing(plain_mcp_server: Start) -> None:
    server = plain_mcp_server("modern")
    for url in (server.url, server.url.replace("http:", "https:"), server.url.replace("127.0.0.1", "localhost")):
        with pytest.raises(AddressBlocked):
            listed(Target(url))

    assert server.requests == []


def test_a_target_and_a_result_keep_their_secrets_out_of_repr() -> None:
    target = Target("https://mcp.example/mcp", headers={"X-Key": "secret"}, access_token="secret")
    result = ToolResult(({"type": "text", "text": "secret"},), {"a": "secret"}, False, MODERN, {"a": "secret"})

    assert "secret" not in repr(target) + repr(result)


def test_only_the_client_imports_the_sdk() -> None:
    code = (
        "import sys, mcp_oauth.sessions.loop, mcp_oauth.sessions.target, mcp_oauth.sessions.results,"
        " mcp_oauth.sessions.signals, mcp_oauth.net.fetch\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('mcp', 'mcp_types', 'django')])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
