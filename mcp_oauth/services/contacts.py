"""Notes how the last contact with a server went: reachable, accepted, and in which version."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import McpServer


def record_contact(server: McpServer, error: McpOAuthError | None) -> None:
    """Note that the server answered, or why it did not; an unchanged good state is written once a minute at most."""
    now = timezone.now()
    rows = McpServer.objects.filter(pk=server.pk)
    if error is None:
        stale = now - timedelta(seconds=60)
        if server.reachable and server.contacted_at is not None and server.contacted_at >= stale:
            return
        rows.filter(
            Q(reachable__isnull=True) | Q(reachable=False) | Q(contacted_at__isnull=True) | Q(contacted_at__lt=stale)
        ).update(reachable=True, contacted_at=now, contact_error_code="", contact_error="")
        server.reachable, server.contacted_at = True, now
    else:
        rows.update(
            reachable=False,
            contacted_at=now,
            contact_error_code=error.code,
            contact_error=error.user_message[:600],
        )
        server.reachable, server.contacted_at = False, now


def record_headers_verdict(server: McpServer, *, refused: bool) -> None:
    """Note whether the server accepts the configured headers; written only when that changes."""
    if refused == (server.headers_refused_at is not None):
        return
    server.headers_refused_at = timezone.now() if refused else None
    McpServer.objects.filter(pk=server.pk).update(headers_refused_at=server.headers_refused_at)


def record_negotiation(server: McpServer, protocol_version: str, discover_result: dict[str, Any] | None) -> None:
    """Remember what was negotiated, when it differs from what is known."""
    if protocol_version == server.protocol_version and (
        discover_result is None or discover_result == server.discover_result
    ):
        return
    # Another address may have been saved meanwhile; its version is not this one's.
    McpServer.objects.filter(pk=server.pk, url=server.url).update(
        protocol_version=protocol_version, discover_result=discover_result
    )
    server.protocol_version, server.discover_result = protocol_version, discover_result
