"""Every judgement about an address: what may be contacted, what is the same origin, issuer or resource."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, urlsplit

from mcp_oauth.exceptions import DiscoveryFailed, InvalidServerAddress
from mcp_oauth.sentences import predicate, sentence

LONGEST_URL: Final = 2048
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK_V4: Final = ipaddress.IPv4Network("127.0.0.0/8")
_LOOPBACK_V6: Final = ipaddress.IPv6Address("::1")

# A host is letters, digits, dots, hyphens and underscores, or an IPv6 address in brackets. Anything cleverer is read
# differently by different parsers, and the one that checks is not the one that dials.
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._\-]+))(?::(?P<port>[0-9]{0,5}))?")
# Without the quotation mark, the angle brackets and the backslash, which no address contains unencoded (RFC 3986 §2).
_URL_CHARACTERS = re.compile(r"[\x21\x23-\x3b\x3d\x3f-\x5b\x5d-\x7e]+")
_BLANKS_AND_CONTROLS = re.compile(r"[\x00-\x20\x7f-\xa0\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]")


# Where the rules for a member stand that are not RFC 8414's.
_SOURCES: Final = {
    "resource_metadata": "RFC 9728 §5.1",
    "authorization_servers": "RFC 9728 §2",
    "idp_issuer": "RFC 8414 §2",
    "idp_token_endpoint": "RFC 6749 §3.2",
}


class UnusableUrl(ValueError):
    """The text is no http address; ``problem`` completes the sentence "The address …"."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


# The same few addresses are compared with each request.
@lru_cache(maxsize=256)
def origin(url: str) -> str:
    """Return ``scheme://host[:port]`` in lower case and without the scheme's default port (RFC 6454 §4).

    Raises: ValueError when the text is no http or https address.
    """
    parts = _split(url)
    port = parts.port
    suffix = "" if port is None or port == _DEFAULT_PORTS[parts.scheme] else f":{port}"
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{ipaddress.IPv6Address(host).compressed}]"
    return f"{parts.scheme}://{host}{suffix}"


def same_origin(first: str, second: str) -> bool:
    """Tell whether two addresses share scheme, host and port; text that is no address shares nothing."""
    try:
        return origin(first) == origin(second)
    except ValueError:
        return False


def host_of(url: str) -> str:
    """Return the host in lower case, IPv6 without brackets, or the empty string when the text is no address."""
    try:
        return _split(url).hostname or ""
    except ValueError:
        return ""


def is_loopback_host(host: str) -> bool:
    """Tell whether a host name or address literal is this machine: ``localhost``, 127.0.0.0/8 or ``::1``."""
    name = host.lower().removeprefix("[").removesuffix("]")
    if name.rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address in _LOOPBACK_V4
    return address == _LOOPBACK_V6


def check_server_address(text: str, *, allow_loopback: bool) -> str:
    """Return an MCP server's address as entered, stripped of surrounding blanks.

    ``allow_loopback`` is the development setting: this machine may be contacted, and over plain http.
    Raises: InvalidServerAddress with one sentence that says what is wrong.
    """
    address = text.strip(" \t\r\n")
    if not address:
        raise InvalidServerAddress(sentence("Enter the server's address."))
    try:
        parts = _split(address)
    except UnusableUrl as error:
        raise InvalidServerAddress(sentence("The address %(problem)s.", problem=error.problem)) from None
    if "@" in parts.netloc:
        raise InvalidServerAddress(sentence("The address must not contain a user name or password."))
    if "#" in address:
        raise InvalidServerAddress(sentence("The address must not contain a fragment (#)."))
    if problem := _scheme_problem(parts, allow_loopback=allow_loopback):
        raise InvalidServerAddress(sentence("The address %(problem)s.", problem=problem))
    return address


def check_endpoint(url: object, *, name: str, document: str, allow_loopback: bool) -> str:
    """Return an address found in a metadata document when it may be used: https, or http on loopback in development.

    ``name`` is the member it was found in and ``document`` the URL of the document (RFC 8414 §2, RFC 9728 §2).
    Raises: DiscoveryFailed naming both.
    """
    source = _SOURCES.get(name, "RFC 8414 §2")

    def refuse(problem: str, rule: str) -> DiscoveryFailed:
        return DiscoveryFailed(
            sentence("The metadata's %(name)s %(problem)s.", name=name, problem=problem),
            document=document,
            field=name,
            rule=rule,
        )

    if url is None or url == "":
        raise refuse(predicate("is missing"), sentence("%(source)s: %(name)s is required", source=source, name=name))
    if not isinstance(url, str):
        raise refuse(predicate("is not text"), sentence("%(source)s: %(name)s is a URL", source=source, name=name))
    try:
        parts = _split(url)
    except UnusableUrl as error:
        raise refuse(
            error.problem, sentence("%(source)s: %(name)s is an https URL", source=source, name=name)
        ) from None
    if "@" in parts.netloc:
        raise refuse(
            predicate("contains a user name or password"),
            sentence("RFC 9110 §4.2.4: a URL carries no user name or password"),
        )
    if "#" in url:
        raise refuse(
            predicate("contains a fragment (#)"),
            sentence("%(source)s: %(name)s has no fragment", source=source, name=name),
        )
    if problem := _scheme_problem(parts, allow_loopback=allow_loopback):
        https = sentence("%(source)s: %(name)s is an https URL", source=source, name=name)
        raise refuse(
            problem, https if parts.scheme == "http" else sentence("A document of others never points at this machine")
        )
    return url


def issuers_match(a: str, b: str) -> bool:
    """Tell whether two issuers are identical, an empty path and ``/`` counting as the same (RFC 8414 §3.3)."""
    return a == b or _without_root_slash(a) == _without_root_slash(b)


def canonical_resource(url: str) -> str:
    """Return a server's address as a resource indicator: scheme and host in lower case, nothing else touched.

    The fragment and a default port go; path and query stay byte for byte (RFC 8707 §2).
    Raises: ValueError when the text is no http or https address.
    """
    base = origin(url)
    _, _, rest = url.partition("://")
    rest = rest.partition("#")[0]
    start = min((index for index in (rest.find("/"), rest.find("?")) if index >= 0), default=len(rest))
    return base + rest[start:]


def insert_well_known(url: str, suffix: str) -> str:
    """Return a URL with ``/.well-known/<suffix>`` between its host and its path (RFC 8615, RFC 9728 §3.1).

    Raises: ValueError when the text is no http or https address.
    """
    rest = canonical_resource(url).removeprefix(origin(url))
    if rest == "/" or rest.startswith("/?"):
        rest = rest[1:]
    return f"{origin(url)}/.well-known/{suffix}{rest}"


def _split(url: str) -> SplitResult:
    """Split an address whose characters and host have one reading only; userinfo and fragment are left in place."""
    if len(url) > LONGEST_URL:
        raise UnusableUrl(predicate("is longer than %(most)s characters", most=LONGEST_URL))
    # urlsplit drops tabs and newlines silently, so that what is checked would not be what is used.
    if _BLANKS_AND_CONTROLS.search(url):
        raise UnusableUrl(predicate("contains a space or control character"))
    if url and not _URL_CHARACTERS.fullmatch(url):
        raise UnusableUrl(predicate("contains a character that no web address may contain unencoded"))
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UnusableUrl(predicate("is not a web address")) from None
    if parts.scheme not in _DEFAULT_PORTS or not url[len(parts.scheme) :].startswith("://"):
        raise UnusableUrl(predicate("does not start with https://"))
    authority = parts.netloc.rpartition("@")[2]
    if not authority or authority.startswith(":"):
        raise UnusableUrl(predicate("has no host"))
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not _host_is_unambiguous(match):
        raise UnusableUrl(predicate("has a host that is no valid name or IP address"))
    port = match["port"]
    if port and not 0 < int(port) < 65536:
        raise UnusableUrl(predicate("has an impossible port number"))
    return parts


def _host_is_unambiguous(match: re.Match[str]) -> bool:
    try:
        if match["v6"] is not None:
            ipaddress.IPv6Address(match["v6"])
            return True
        name = match["name"]
        labels = name.rstrip(".").split(".")
        # 127.1, 2130706433 and 0x7f.1 are IPv4 addresses to the resolver (inet_aton) and names to everyone else.
        if labels[-1].isdigit() or labels[-1].lower().startswith("0x"):
            ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return bool(labels[0]) and "" not in labels


def _scheme_problem(parts: SplitResult, *, allow_loopback: bool) -> str:
    loopback = is_loopback_host(parts.hostname or "")
    if loopback and not allow_loopback:
        return predicate("points at this machine, which is allowed in development only")
    if parts.scheme == "http" and not loopback:
        return predicate("does not start with https://")
    return ""


def _without_root_slash(issuer: str) -> str:
    head, separator, rest = issuer.partition("://")
    if separator and rest.endswith("/") and rest.count("/") == 1 and "?" not in rest and "#" not in rest:
        return f"{head}://{rest[:-1]}"
    return issuer
