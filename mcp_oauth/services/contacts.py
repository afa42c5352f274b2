"""Notes how the last contact with a server went: reachable, accepted, and in which version."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import McpServer
from mcp_oauth.sentences import kept

_CONTACT = ("reachable", "contacted_at", "contact_error_code", "contact_error")


def record_contact(server: McpServer, error: McpOAuthError | None) -> None:
    """Note that the server answered, or why it did not; an unchanged good state is written once a minute at most."""
    record_contacts([(server, error)])


def record_contacts(contacts: Iterable[tuple[McpServer, McpOAuthError | None]]) -> None:
    """Note the same of several servers, in at most one statement for those that answered and one for the others."""
    now = timezone.now()
    stale = now - timedelta(seconds=60)
    answered: list[McpServer] = []
    silent: list[McpServer] = []
    for server, error in contacts:
        if error is not None:
            server.reachable, server.contacted_at = False, now
            server.contact_error_code, server.contact_error = error.code, kept(error.sentence, 600)
            silent.append(server)
        elif not server.reachable or server.contacted_at is None or server.contacted_at < stale:
            answered.append(server)
    if answered:
        _mark_reachable(answered, now, stale)
    if len(silent) == 1:
        McpServer.objects.filter(pk=silent[0].pk).update(**{name: getattr(silent[0], name) for name in _CONTACT})
    elif silent:
        McpServer.objects.bulk_update(silent, _CONTACT)


def _mark_reachable(servers: list[McpServer], now: datetime, stale: datetime) -> None:
    # Another process may have noted it a moment ago.
    McpServer.objects.filter(pk__in=[server.pk for server in servers]).filter(
        Q(reachable__isnull=True) | Q(reachable=False) | Q(contacted_at__isnull=True) | Q(contacted_at__lt=stale)
    ).update(reachable=True, contacted_at=now, contact_error_code="", contact_error="")
    for server in servers:
        server.reachable, server.contacted_at = True, now


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
