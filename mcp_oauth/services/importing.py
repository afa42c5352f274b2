"""Adds the servers of an ``mcp.json`` to a workspace: all are asked at the same time, each is added by itself."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import McpOAuthError, SecretUnreadable
from mcp_oauth.models import McpServer, Workspace
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.urls import check_server_address
from mcp_oauth.services import limits
from mcp_oauth.services.evidence import Evidence
from mcp_oauth.services.import_entries import ImportEntry
from mcp_oauth.services.known_servers import known_server_at
from mcp_oauth.services.mcp_json_export import ExportedServer
from mcp_oauth.services.probes import ProbeReport, probe
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import add_server
from mcp_oauth.services.workspaces import Person

# Servers that are asked at once; each takes a thread and mostly waits.
_MOST_AT_ONCE: Final = 10


@dataclass(frozen=True)
class Imported:
    """What became of one entry: the server it is now, or why it is none."""

    server: McpServer | None = None
    error: McpOAuthError | None = None


def import_servers(workspace: Workspace, entries: Sequence[ImportEntry], *, actor: Person) -> list[Imported]:
    """Ask all servers and add those that answer; returns what became of each entry, in their order.

    The entries have no placeholders left. What fails says why and keeps no other from being added. Everything asked
    together ends with ``IMPORT_SECONDS``.
    """
    deadline = time.monotonic() + settings.IMPORT_SECONDS
    outcomes: list[Imported] = []
    with ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="mcp-oauth-importing") as pool:
        asked = [_asked(pool, entry, deadline, actor) for entry in entries]
        for entry, answer in zip(entries, asked, strict=True):
            if isinstance(answer, McpOAuthError):
                outcomes.append(Imported(error=answer))
            else:
                outcomes.append(_add(workspace, entry, answer.result(), actor))
    return outcomes


def exported(servers: Sequence[McpServer]) -> list[ExportedServer]:
    """Return what an ``mcp.json`` says of servers; headers that cannot be read any more are left out."""
    return [ExportedServer(server.slug, server.url, _header_names(server)) for server in servers]


def _header_names(server: McpServer) -> tuple[str, ...]:
    if server.auth_mode == McpServer.AuthMode.NONE:
        return ()
    try:
        return tuple(server.headers or {})
    except SecretUnreadable:
        return ()


def _asked(
    pool: ThreadPoolExecutor, entry: ImportEntry, deadline: float, actor: Person
) -> Future[ProbeReport] | McpOAuthError:
    """Have a server asked in a thread, which touches no database; or return why it is not asked."""
    try:
        check_server_address(entry.url, allow_loopback=settings.ALLOW_LOOPBACK)
        limits.count(actor, "ask")
    except McpOAuthError as error:
        return error
    # The reader's language travels in the context.
    return pool.submit(contextvars.copy_context().run, _ask, entry, deadline)


def _ask(entry: ImportEntry, deadline: float) -> ProbeReport:
    return probe(entry.url, _options(entry), Evidence(deadline=deadline))


def _options(entry: ImportEntry) -> OAuthOptions:
    known = known_server_at(entry.url)
    return OAuthOptions.from_json(known.options() if known is not None else {})


def _add(workspace: Workspace, entry: ImportEntry, report: ProbeReport, actor: Person) -> Imported:
    if report.auth_mode is None and report.error is not None:
        return Imported(error=report.error)
    wanted = ServerSettings(
        name=entry.name,
        url=entry.url,
        # A file that brings a key means it: the choice wins over what the server offers besides.
        auth_mode=McpServer.AuthMode.HEADERS if entry.key_in_headers else None,
        enabled=entry.enabled,
        headers=dict(entry.headers) or None,
        options=_options(entry).to_json(),
    )
    try:
        return Imported(server=add_server(workspace, wanted, actor=actor, report=report))
    except McpOAuthError as error:
        return Imported(error=error)
