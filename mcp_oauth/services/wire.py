"""Where services meet the network: one policy, one transport, one place a test swaps."""

from __future__ import annotations

import time
from collections.abc import Callable

from mcp_oauth import __version__
from mcp_oauth.conf import settings
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.models import McpServer
from mcp_oauth.net.fetch import fetch as guarded_fetch
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.oauth.dpop import dpop_nonce_error, with_dpop_proof
from mcp_oauth.sessions import loop
from mcp_oauth.sessions.results import ToolDescription
from mcp_oauth.sessions.target import Target


def network_policy() -> NetworkPolicy:
    """Return the limits of the settings as the transport understands them."""
    return NetworkPolicy(
        allow_loopback=settings.ALLOW_LOOPBACK,
        oauth_document_bytes=settings.OAUTH_DOCUMENT_BYTES,
        mcp_response_bytes=settings.MCP_RESPONSE_BYTES,
        connect_seconds=settings.CONNECT_SECONDS,
        request_seconds=settings.OAUTH_REQUEST_SECONDS,
        mcp_seconds=settings.CALL_SECONDS,
        max_redirects=settings.MAX_REDIRECTS,
        max_connections=settings.MAX_CONNECTIONS,
    )


def fetch(request: HttpRequest, *, seconds: float | None = None, limit_bytes: int | None = None) -> HttpResponse:
    """Send one request through the guarded transport and return the whole answer.

    ``seconds`` bounds the exchange from name resolution to the last byte and ``limit_bytes`` the answer's body; the
    defaults are the settings for OAuth requests and documents.

    Raises:
        ServerUnreachable: no usable answer came within the limits.
    """
    policy = network_policy()
    deadline = settings.OAUTH_REQUEST_SECONDS if seconds is None else seconds
    return loop.run(
        lambda: guarded_fetch(
            loop.shared_transport(policy), request, policy=policy, deadline_seconds=deadline, limit_bytes=limit_bytes
        ),
        # The exchange bounds itself; the margin only covers a loop that does not run.
        timeout=deadline + 5.0,
    )


def fetch_tokens(build: Callable[[], HttpRequest], *, dpop_key: str | None) -> HttpResponse:
    """Send a request to a token endpoint, with a proof if there is a key, and return the answer.

    Where the endpoint wants a nonce of its own in the proof, the request is built anew, because a client assertion
    serves once as well, and sent once more (RFC 9449 §8). Both together take no longer than one may, for a lease of a
    grant covers one request.

    Raises:
        ServerUnreachable: no usable answer came within the limits.
    """
    request = build()
    if dpop_key is None:
        return fetch(request)
    deadline = time.monotonic() + settings.OAUTH_REQUEST_SECONDS
    response = fetch(with_dpop_proof(request, dpop_key, now=time.time()))
    nonce = dpop_nonce_error(response)
    if nonce is None:
        return response
    again = with_dpop_proof(build(), dpop_key, nonce=nonce, now=time.time())
    return fetch(again, seconds=max(deadline - time.monotonic(), 0.0))


def target_for(
    server: McpServer,
    *,
    access_token: str | None,
    dpop_key: str | None = None,
    tools: tuple[ToolDescription, ...] | None = None,
) -> Target:
    """Describe one server and the credentials of one caller for the MCP client.

    Raises:
        SecretUnreadable: the configured headers cannot be opened.
    """
    headers = dict(server.headers or {}) if server.auth_mode != McpServer.AuthMode.NONE else {}
    if access_token is not None:
        # A configured Authorization header never stands in for the person's own grant.
        headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    return Target(
        url=server.url,
        headers=headers,
        access_token=access_token,
        dpop_key=dpop_key,
        policy=network_policy(),
        protocol_version=server.protocol_version or None,
        discover_result=server.discover_result,
        client_name=settings.CLIENT_NAME,
        client_version=__version__,
        tools=tools,
        max_pages=settings.MAX_TOOL_PAGES,
        max_tools=settings.MAX_TOOLS,
    )
