"""Where services meet the network: one policy, one transport, one place a test swaps."""

from __future__ import annotations

import hashlib
import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.db import transaction

from mcp_oauth import __version__
from mcp_oauth.conf import settings
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.models import McpServer
from mcp_oauth.net.fetch import fetch as guarded_fetch
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.oauth.client_authentication import BasicShape
from mcp_oauth.oauth.dpop import dpop_nonce_error, with_dpop_proof
from mcp_oauth.oauth.token import client_was_refused
from mcp_oauth.services.workspaces import Person
from mcp_oauth.sessions import loop
from mcp_oauth.sessions.results import ToolDescription
from mcp_oauth.sessions.target import Target

# A day: long enough that a refused attempt is rare, short enough that a provider may change its mind.
_SHAPE_REMEMBERED_SECONDS = 24 * 3600


def network_policy() -> NetworkPolicy:
    """Return the limits of the settings as the transport understands them."""
    return NetworkPolicy(
        allow_loopback=settings.ALLOW_LOOPBACK,
        oauth_document_bytes=settings.OAUTH_DOCUMENT_BYTES,
        mcp_response_bytes=settings.MCP_RESPONSE_BYTES,
        max_json_values=settings.MAX_JSON_VALUES,
        connect_seconds=settings.CONNECT_SECONDS,
        request_seconds=settings.OAUTH_REQUEST_SECONDS,
        mcp_seconds=settings.CALL_SECONDS,
        max_redirects=settings.MAX_REDIRECTS,
        max_connections=settings.MAX_CONNECTIONS,
        max_connections_per_origin=settings.MAX_CONNECTIONS_PER_ORIGIN,
        max_requests=settings.MAX_REQUESTS_PER_OPERATION,
        hosts=settings.OUTBOUND_HOSTS,
        private_hosts=frozenset(settings.OUTBOUND_PRIVATE_HOSTS),
        proxy=settings.OUTBOUND_PROXY,
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


def fetch_tokens(build: Callable[[BasicShape], HttpRequest], *, dpop_key: str | None) -> HttpResponse:
    """Send a request to a token endpoint, with a proof if there is a key, and return the answer.

    ``build`` makes the request for one of the two dialects of Basic authentication. Some endpoints refuse the usual
    one, because they want ``client_id`` in the body as well; they are asked once more in the other, and what they took
    is remembered, so that a refused attempt is no habit. Everything together takes no longer than one request may, for
    a lease of a grant covers one.

    Raises:
        ServerUnreachable: no usable answer came within the limits.
    """
    deadline = time.monotonic() + settings.OAUTH_REQUEST_SECONDS
    request = build("header")
    if "Authorization" not in request.headers:
        return _fetch_proven(request, lambda: build("header"), dpop_key, deadline)
    key = f"mcp_oauth.basic_shape.{hashlib.sha256(request.url.encode()).hexdigest()}"
    first: BasicShape = "header_and_client_id" if cache.get(key) == "header_and_client_id" else "header"
    response = _fetch_proven(build(first), lambda: build(first), dpop_key, deadline)
    if not client_was_refused(response):
        return response
    other: BasicShape = "header" if first == "header_and_client_id" else "header_and_client_id"
    again = _fetch_proven(build(other), lambda: build(other), dpop_key, deadline)
    if client_was_refused(again):
        return response
    cache.set(key, other, timeout=_SHAPE_REMEMBERED_SECONDS)
    return again


def _fetch_proven(
    request: HttpRequest, build: Callable[[], HttpRequest], dpop_key: str | None, deadline: float
) -> HttpResponse:
    """Send a request, with a proof if there is a key.

    Where the endpoint wants a nonce of its own in the proof, the request is built anew, because a client assertion
    serves once as well, and sent once more (RFC 9449 §8).
    """
    if dpop_key is None:
        return fetch(request, seconds=_left(deadline))
    response = fetch(with_dpop_proof(request, dpop_key, now=time.time()), seconds=_left(deadline))
    nonce = dpop_nonce_error(response)
    if nonce is None:
        return response
    again = with_dpop_proof(build(), dpop_key, nonce=nonce, now=time.time())
    return fetch(again, seconds=_left(deadline))


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.0)


def target_for(
    server: McpServer,
    *,
    access_token: str | None,
    dpop_key: str | None = None,
    tools: tuple[ToolDescription, ...] | None = None,
    session_key: tuple[str, ...] | None = None,
) -> Target:
    """Describe one server and the credentials of one caller for the MCP client.

    ``session_key`` is what `session_key_for` returned; without it, no session outlives the exchange.

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
        session_key=session_key,
        max_pages=settings.MAX_TOOL_PAGES,
        max_tools=settings.MAX_TOOLS,
        max_tool_bytes=settings.MAX_TOOL_BYTES,
        session_idle_seconds=settings.SESSION_IDLE_SECONDS,
        max_sessions=settings.MAX_SESSIONS,
        held_call_seconds=settings.HELD_CALL_SECONDS,
        max_held_calls=settings.MAX_HELD_CALLS,
    )


def session_key_for(
    server: McpServer, user: Person, grant_id: uuid.UUID | None, connected_at: datetime | None = None
) -> tuple[str, ...]:
    """Return whose a kept session is: workspace, server, its generation, person, and grant with its authorization.

    A server may keep in a session what it knows of a person, so that none serves two people, whatever opens the server.
    """
    grant = "" if grant_id is None else f"{grant_id} {'' if connected_at is None else connected_at.isoformat()}"
    user_id = "" if user.pk is None else str(user.pk)
    return (str(server.workspace_id), str(server.pk), str(server.generation), user_id, grant)


def end_sessions(
    *, workspace_id: Any = None, server_id: Any = None, user_id: Any = None, grant_id: uuid.UUID | None = None
) -> None:
    """End the sessions this process keeps with servers that belong to all that is named, once that is certain.

    Other processes never use theirs again, because no key leads to them, and let go of them when they are idle.
    """
    wanted = ["" if part is None else str(part) for part in (workspace_id, server_id, None, user_id, grant_id)]

    def matches(key: tuple[str, ...]) -> bool:
        return all(not part or part == known.partition(" ")[0] for part, known in zip(wanted, key, strict=False))

    def end() -> None:
        # Where nothing has spoken MCP yet, there is no session, and the SDK need not be imported to know it.
        # While another thread imports it, it is there without what it holds, and there is no session either.
        end_sessions = getattr(sys.modules.get("mcp_oauth.sessions.client"), "end_sessions", None)
        if end_sessions is not None:
            end_sessions(matches)

    if any(wanted):
        transaction.on_commit(end)
