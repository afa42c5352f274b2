"""What an operator may widen or narrow: exempted hosts, a list of hosts, an egress proxy; and what each may use up."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from AntiSSRF import IPAddressRanges
from django.core.exceptions import ImproperlyConfigured

from mcp_oauth.conf import McpOAuthSettings
from mcp_oauth.exceptions import AddressBlocked, DeadlineExceeded, ServerUnreachable
from mcp_oauth.messages import HttpRequest
from mcp_oauth.net import dialling
from mcp_oauth.net.addresses import blocked_kind
from mcp_oauth.net.budget import request_budget
from mcp_oauth.net.faults import NetworkFault
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.net.transport import GuardedTransport
from tests.servers.peer import drip, http_answer, running_peer
from tests.unit.net.proxy import running_proxy
from tests.unit.net.reading import read_all
from tests.unit.net.test_transport import DEVELOPMENT, answering, certificate, dialled, refused, send

__all__ = ["dialled"]

EXEMPT = NetworkPolicy(private_hosts=frozenset({"mcp.internal:8443"}))


# Which addresses.


@pytest.mark.requirement("T02")
@pytest.mark.parametrize("network", IPAddressRanges.recommended_latest)
def test_every_range_that_others_curate_is_refused_here_as_well(network: str) -> None:
    first = network.partition("/")[0]

    assert blocked_kind(first, allow_loopback=False)


# Exempted hosts.


@pytest.mark.requirement("T07")
@pytest.mark.parametrize("address", ["10.0.0.1", "172.31.0.9", "192.168.1.1", "100.64.0.1", "fd12:3456::1"])
def test_an_exempted_host_may_be_in_a_private_network(address: str, dialled: list[str]) -> None:
    refused(ServerUnreachable, "https://MCP.internal.:8443/mcp", EXEMPT, resolve=answering(address))

    assert dialled == [address]


@pytest.mark.requirement("T07")
@pytest.mark.parametrize("url", ["https://mcp.internal/", "https://mcp.internal:8444/", "https://db.internal:8443/"])
def test_its_neighbours_are_not_exempted(url: str, dialled: list[str]) -> None:
    refused(AddressBlocked, url, EXEMPT, resolve=answering("10.0.0.1"))

    assert dialled == []


@pytest.mark.requirement("T07")
@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "100.100.100.200", "fd00:ec2::254", "0.0.0.0", "224.0.0.1"],  # noqa: S104
)
def test_an_exemption_reaches_neither_this_machine_nor_a_clouds_credentials(address: str, dialled: list[str]) -> None:
    refused(AddressBlocked, "https://mcp.internal:8443/", EXEMPT, resolve=answering(address))

    assert dialled == []


@pytest.mark.requirement("T08")
def test_an_exempted_host_is_not_exempted_from_https(dialled: list[str]) -> None:
    refused(AddressBlocked, "http://mcp.internal:8443/", EXEMPT, resolve=answering("10.0.0.1"))

    assert dialled == []


# A list of hosts.


@pytest.mark.requirement("T07")
@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mcp.example.com", True),
        ("MCP.EXAMPLE.COM.", True),
        ("a.example.net", True),
        ("a.b.example.net", True),
        ("example.net", False),
        ("notexample.net", False),
        ("mcp.example.com.evil.org", False),
        ("evil.org", False),
    ],
)
def test_only_listed_hosts_are_contacted(host: str, allowed: bool, dialled: list[str]) -> None:
    policy = NetworkPolicy(hosts=("mcp.example.com", "*.example.net"))
    kind = ServerUnreachable if allowed else AddressBlocked

    refused(kind, f"https://{host}/", policy, resolve=answering("8.8.8.8"))

    assert bool(dialled) is allowed


@pytest.mark.requirement("T07")
def test_being_listed_exempts_from_nothing(dialled: list[str]) -> None:
    policy = NetworkPolicy(hosts=("mcp.example.com",))

    refused(AddressBlocked, "https://mcp.example.com/", policy, resolve=answering("10.0.0.1"))
    refused(AddressBlocked, "http://mcp.example.com/", policy, resolve=answering("8.8.8.8"))

    assert dialled == []


# An egress proxy.


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Make a certificate for mcp.example that the transport trusts; return the peer's side of it."""
    path, tls = certificate(tmp_path, "mcp.example")
    monkeypatch.setattr(dialling, "_tls_context", lambda: ssl.create_default_context(cafile=path))
    return tls


@pytest.mark.requirement("mcp-bp-egress-proxy", "T06")
def test_an_egress_proxy_gets_the_name_and_nothing_of_the_request(trusted: ssl.SSLContext) -> None:
    with (
        running_peer(lambda received: http_answer(body=b"here"), tls=trusted) as peer,
        running_proxy(peer.port) as proxy,
    ):
        policy = NetworkPolicy(proxy=f"http://user:pass%40word@127.0.0.1:{proxy.port}")
        answers = send(
            "https://mcp.example:8443/path",
            policy,
            resolve=answering(),
            headers={"Authorization": "Bearer s3cret"},
        )

    assert answers == [(200, b"here")]
    [(first, headers)] = proxy.asked
    assert first == "CONNECT mcp.example:8443 HTTP/1.1"
    assert headers["proxy-authorization"] == "Basic dXNlcjpwYXNzQHdvcmQ="
    assert "authorization" not in headers
    [received] = peer.requests
    assert received.headers["authorization"] == "Bearer s3cret"
    assert "proxy-authorization" not in received.headers


@pytest.mark.requirement("T06")
def test_words_of_a_proxy_do_not_slip_in_before_tls(trusted: ssl.SSLContext) -> None:
    """Whatever is said in the clear would be read as though the server had said it."""
    with (
        running_peer(lambda received: http_answer(body=b"the server's"), tls=trusted) as peer,
        running_proxy(peer.port, plainly=http_answer(body=b"the proxy's")) as proxy,
    ):
        policy = NetworkPolicy(proxy=f"http://127.0.0.1:{proxy.port}")
        try:
            answers = send("https://mcp.example/", policy)
        except NetworkFault:
            answers = []

    assert answers in ([], [(200, b"the server's")])
    assert len(proxy.asked) == 1


@pytest.mark.requirement("T06")
def test_a_proxy_that_says_no_is_named_without_its_password(trusted: ssl.SSLContext) -> None:
    with running_proxy(1, status=403) as proxy:
        policy = NetworkPolicy(proxy=f"http://user:hunter2@127.0.0.1:{proxy.port}")
        error = refused(ServerUnreachable, "https://mcp.example/", policy)

    assert error.user_message == "https://mcp.example/ cannot be reached: the egress proxy does not let it through."
    assert "hunter2" not in repr(policy)
    assert "hunter2" not in repr(error.__cause__)


@pytest.mark.requirement("T01")
@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "127.0.0.1", "[::1]"])
def test_an_address_written_out_is_checked_before_the_proxy_is_asked(host: str, trusted: ssl.SSLContext) -> None:
    with running_proxy(1) as proxy:
        refused(AddressBlocked, f"https://{host}/", NetworkPolicy(proxy=f"http://127.0.0.1:{proxy.port}"))

    assert proxy.asked == []


def test_the_certificate_is_checked_behind_a_proxy_as_well(trusted: ssl.SSLContext) -> None:
    with running_peer(lambda received: http_answer(), tls=trusted) as peer, running_proxy(peer.port) as proxy:
        refused(ServerUnreachable, "https://other.example/", NetworkPolicy(proxy=f"http://127.0.0.1:{proxy.port}"))

    assert peer.requests == []


# What each may use up.


@pytest.mark.requirement("T32")
def test_a_slow_origin_leaves_the_others_their_connections() -> None:
    policy = NetworkPolicy(allow_loopback=True, max_connections_per_origin=2, connect_seconds=0.3)

    async def work(slow: str, quick: str) -> tuple[list[Any], int]:
        transport = GuardedTransport(policy)
        try:
            held = [await transport.send(HttpRequest("GET", slow)) for _ in range(2)]
            outcomes = await asyncio.gather(transport.send(HttpRequest("GET", slow)), return_exceptions=True)
            other = await transport.send(HttpRequest("GET", quick))
            await read_all(other)
            # A slot comes back with its answer's end.
            held[0].close()
            again = await transport.send(HttpRequest("GET", slow))
            for response in (held[1], again):
                response.close()
            return list(outcomes), other.status
        finally:
            await transport.aclose()

    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    with (
        running_peer(lambda received: drip(slow, head, b".")) as slow,
        running_peer(lambda received: http_answer()) as quick,
    ):
        [third], status = asyncio.run(work(slow.url(), quick.url()))

    assert isinstance(third, NetworkFault)
    assert isinstance(third.error, DeadlineExceeded)
    assert status == 200
    assert len(slow.requests) == 3


@pytest.mark.requirement("T32")
def test_all_origins_together_use_no_more_connections_than_they_may() -> None:
    policy = NetworkPolicy(allow_loopback=True, max_connections=2, connect_seconds=0.3)

    async def work(*urls: str) -> tuple[object, int]:
        transport = GuardedTransport(policy)
        try:
            held = [await transport.send(HttpRequest("GET", url)) for url in urls[:2]]
            [third] = await asyncio.gather(transport.send(HttpRequest("GET", urls[2])), return_exceptions=True)
            for response in held:
                response.close()
            again = await transport.send(HttpRequest("GET", urls[2]))
            await read_all(again)
            return third, again.status
        finally:
            await transport.aclose()

    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    with (
        running_peer(lambda received: drip(one, head, b".")) as one,
        running_peer(lambda received: drip(two, head, b".")) as two,
        running_peer(lambda received: http_answer()) as three,
    ):
        third, status = asyncio.run(work(one.url(), two.url(), three.url()))

    assert isinstance(third, NetworkFault)
    assert isinstance(third.error, DeadlineExceeded)
    assert "Too many requests are under way" in third.error.user_message
    assert status == 200
    assert len(three.requests) == 1


def test_an_operation_sends_no_more_requests_than_it_may() -> None:
    async def work(url: str) -> list[int | str]:
        transport = GuardedTransport(DEVELOPMENT)
        seen: list[int | str] = []
        try:
            with request_budget(3):
                for _ in range(5):
                    try:
                        response = await transport.send(HttpRequest("GET", url))
                        await read_all(response)
                        seen.append(response.status)
                    except NetworkFault as fault:
                        seen.append(fault.error.code)
            response = await transport.send(HttpRequest("GET", url))
            await read_all(response)
            seen.append(response.status)
        finally:
            await transport.aclose()
        return seen

    with running_peer(lambda received: http_answer()) as peer:
        seen = asyncio.run(work(peer.url()))

    assert seen == [200, 200, 200, "server_unreachable", "server_unreachable", 200]
    assert len(peer.requests) == 4


# What cannot be meant.


@pytest.mark.parametrize(
    "wrong",
    [
        {"OUTBOUND_HOSTS": ("https://example.com",)},
        {"OUTBOUND_HOSTS": ("*",)},
        {"OUTBOUND_HOSTS": ("Example.com",)},
        {"OUTBOUND_PRIVATE_HOSTS": ("mcp.internal",)},
        {"OUTBOUND_PRIVATE_HOSTS": ("*.internal:443",)},
        {"OUTBOUND_PROXY": "socks5://proxy:1080"},
        {"OUTBOUND_PROXY": "http://proxy:3128/path"},
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured):
        McpOAuthSettings(**wrong)
