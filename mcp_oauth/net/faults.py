"""What goes wrong on the way to another host, in our own errors; what the HTTP library says of it is not repeated."""

from __future__ import annotations

import ssl
from functools import lru_cache

import aiohttp
import httpx2

from mcp_oauth.exceptions import DeadlineExceeded, McpOAuthError, ServerUnreachable
from mcp_oauth.sentences import marked, sentence


class NetworkFault(Exception):
    """Carry one of our errors through the HTTP library, which lets it pass; ``error`` is ours."""

    def __init__(self, error: McpOAuthError) -> None:
        super().__init__(error.user_message)
        self.error = error


def shown_url(url: str | httpx2.URL) -> str:
    """Return a URL without userinfo, query and fragment, bounded: what may stand in a message."""
    return _shown(url) if isinstance(url, str) else _without_secrets(url)


def _without_secrets(url: str | httpx2.URL) -> str:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        return sentence("the address")
    return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))[:300]


# Parsing costs more than most of a request, and an address is shown for every one, should it fail.
_shown = lru_cache(maxsize=256)(_without_secrets)


def translate_fault(exc: BaseException, url: str | httpx2.URL) -> McpOAuthError:
    """Return our error for whatever the HTTP stack raised; its own words are not repeated.

    They may quote a header, and they name no URL.
    """
    shown = shown_url(url)
    if isinstance(exc, NetworkFault):
        return exc.error
    if isinstance(exc, McpOAuthError):
        return exc
    for kind, (error, entry) in _FAULT_SENTENCES.items():
        if isinstance(exc, kind):
            return error(sentence(entry, url=shown), document=shown)
    return ServerUnreachable(sentence("The exchange with %(shown)s failed.", shown=shown), document=shown)


# The most specific class first.
_FAULT_SENTENCES: dict[type[BaseException], tuple[type[ServerUnreachable], str]] = {
    aiohttp.ConnectionTimeoutError: (DeadlineExceeded, marked("%(url)s did not accept a connection in time.")),
    TimeoutError: (DeadlineExceeded, marked("%(url)s did not answer in time.")),
    ssl.SSLError: (
        ServerUnreachable,
        marked("%(url)s does not prove its identity: its TLS certificate or handshake is not acceptable."),
    ),
    aiohttp.ClientProxyConnectionError: (
        ServerUnreachable,
        marked("%(url)s cannot be reached: the egress proxy does not let it through."),
    ),
    aiohttp.ClientHttpProxyError: (
        ServerUnreachable,
        marked("%(url)s cannot be reached: the egress proxy does not let it through."),
    ),
    aiohttp.ClientConnectorError: (ServerUnreachable, marked("%(url)s cannot be reached: the connection failed.")),
    aiohttp.ServerDisconnectedError: (
        ServerUnreachable,
        marked("%(url)s closed the connection early or does not speak HTTP."),
    ),
    aiohttp.ClientPayloadError: (
        ServerUnreachable,
        marked("%(url)s closed the connection early or does not speak HTTP."),
    ),
    aiohttp.ClientResponseError: (
        ServerUnreachable,
        marked("%(url)s closed the connection early or does not speak HTTP."),
    ),
    aiohttp.ClientConnectionError: (ServerUnreachable, marked("%(url)s broke the connection off.")),
    OSError: (ServerUnreachable, marked("%(url)s cannot be reached: the connection failed.")),
}
