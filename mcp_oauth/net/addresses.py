"""Which IP addresses may be dialled."""

from __future__ import annotations

import ipaddress

# `ipaddress.is_global` differs between Python versions and passes several of these, so the table is ours:
# the IANA special-purpose registries (RFC 6890) and what clouds put at fixed public addresses.
_BLOCKED_V4 = tuple(
    (ipaddress.IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud metadata"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignment"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112 sink"),
        ("192.52.193.0/24", "multicast tunnel"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112 sink"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)

# IPv6 is the other way round: only global unicast (RFC 4291 §2.4) is in use on the internet. What lies outside it
# (loopback, mapped, compatible, NAT64, unique local, link-local, site-local, multicast) is refused as a whole, so
# an address that embeds an IPv4 one never has to be taken apart.
_GLOBAL_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_BLOCKED_V6 = tuple(
    (ipaddress.IPv6Network(network), kind)
    for network, kind in (
        ("2001::/32", "Teredo"),
        ("2001::/23", "protocol assignment"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "AS112 sink"),
        ("3fff::/20", "documentation"),
    )
)

# What an organisation numbers its own network with (RFC 1918, RFC 4193, RFC 6598). Only this can be exempted for a
# host that an operator names: never loopback, link-local, where clouds keep their credentials, nor what is reserved.
_PRIVATE_V4 = tuple(
    ipaddress.IPv4Network(network) for network in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")
)
_PRIVATE_V6 = ipaddress.IPv6Network("fc00::/7")
# Addresses of cloud metadata services that lie in private networks.
_METADATA = frozenset({ipaddress.ip_address("100.100.100.200"), ipaddress.ip_address("fd00:ec2::254")})


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if address in _METADATA:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return any(address in network for network in _PRIVATE_V4)
    return address in _PRIVATE_V6


def blocked_kind(ip: str, *, allow_loopback: bool, allow_private: bool = False) -> str:
    """Return why an address may not be dialled, in a word for the log; empty when it may.

    ``ip`` is one resolved address as text; other spellings of an IPv4 address (``127.1``, ``0x7f000001``) are
    not addresses here, because a resolver turns them into one first. ``allow_private`` is for a host that an operator
    exempted.
    """
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return "not an IP address"
    if address.is_loopback and allow_loopback:
        # Python 3.13 calls ::ffff:127.0.0.1 loopback too; only the plain forms are exempt.
        if isinstance(address, ipaddress.IPv4Address) or address == ipaddress.IPv6Address("::1"):
            return ""
        return "an IPv4 address in disguise"
    if allow_private and _is_private(address):
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return next((kind for network, kind in _BLOCKED_V4 if address in network), "")
    if address.scope_id is not None or address not in _GLOBAL_UNICAST_V6:
        return "loopback" if address == ipaddress.IPv6Address("::1") else "outside global unicast"
    return next((kind for network, kind in _BLOCKED_V6 if address in network), "")
