"""Which addresses are the public internet's, and which only look like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.net.addresses import blocked_kind

BLOCKED = [
    "0.0.0.0",  # noqa: S104 - refused, not bound
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1111%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.requirement("mcp-bp-private-addresses", "rfc9728-7.7-ssrf", "T02")
@pytest.mark.parametrize("address", BLOCKED)
def test_an_address_off_the_public_internet_is_refused(address: str) -> None:
    assert blocked_kind(address, allow_loopback=False)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "168.63.129.17", "172.32.0.1", "2606:4700::1111", "2a00::1"])
def test_a_public_address_passes(address: str) -> None:
    assert blocked_kind(address, allow_loopback=False) == ""


@pytest.mark.parametrize("text", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "", "8.8.8.8\n"])
def test_what_is_not_a_resolved_address_is_refused_even_in_development(text: str) -> None:
    assert blocked_kind(text, allow_loopback=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_development_admits_loopback(address: str) -> None:
    assert blocked_kind(address, allow_loopback=True) == ""


@pytest.mark.parametrize("address", [a for a in BLOCKED if not a.startswith("127.") and a != "::1"])
def test_development_admits_nothing_but_loopback(address: str) -> None:
    assert blocked_kind(address, allow_loopback=True)


@pytest.mark.requirement("T02")
@given(
    st.ip_addresses(network="192.168.0.0/16")
    | st.ip_addresses(network="fc00::/7")
    | st.ip_addresses(v=6, network="2002::/16")
)
def test_no_address_of_a_blocked_network_slips_through(address: object) -> None:
    assert blocked_kind(str(address), allow_loopback=True)
