"""Whose a listing is: of which server, for which person or everybody, and what it was given for."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mcp_oauth.fields import sealed_value
from mcp_oauth.models import McpServer, StoredListing
from mcp_oauth.services.grants import UsableGrant
from mcp_oauth.services.workspaces import Person

Kind = StoredListing.Kind

# The row of a listing: server, person or nobody in particular, kind.
Row = tuple[uuid.UUID, Any, str]


@dataclass(frozen=True)
class Owner:
    """Whose a listing is: one person's or, without a person, everybody's; and the grant it was given for."""

    server: McpServer
    kind: str
    user_id: Any
    grant: UsableGrant | None = field(repr=False)

    @property
    def row(self) -> Row:
        """What names the one row of this owner."""
        return self.server.pk, self.user_id, self.kind

    @property
    def grant_id(self) -> uuid.UUID | None:
        """The grant's row."""
        return None if self.grant is None else self.grant.grant_id

    @cached_property
    def identity(self) -> list[str]:
        """What a listing in the cache has to belong to."""
        server = self.server
        return identity_of(server.workspace_id, server.pk, server.generation, self.user_id, self.grant_id, self.kind)

    @cached_property
    def name(self) -> str:
        """The identity as the cache and whoever waits for the listing call it."""
        return name_of(self.identity)

    @cached_property
    def basis(self) -> str:
        """What opened the server and is replaced in its row: an authorization, the configured headers."""
        connected = "" if self.grant is None else self.grant.connected_at.isoformat()
        sealed = sealed_value(self.server, "headers") or ""
        return hashlib.sha256(f"{connected} {sealed}".encode()).hexdigest() if connected or sealed else ""

    @property
    def mark(self) -> tuple[Any, ...]:
        """Identity and basis as this process's memory knows them, made for every call."""
        server, grant = self.server, self.grant
        opened = (None, None) if grant is None else (grant.grant_id, grant.connected_at)
        headers = self.basis if sealed_value(server, "headers") else ""
        return (server.workspace_id, server.pk, server.generation, self.user_id, *opened, self.kind, headers)

    def fits(self, row: StoredListing) -> bool:
        """Whether a row was given for what this owner has now; who connects anew has no row."""
        return row.server_generation == self.server.generation and row.grant_id == self.grant_id


@dataclass(frozen=True)
class Asker:
    """Somebody who wants one of a server's listings; ``grant`` is what opens the server, where anything does.

    ``own`` is whose listing the server gives to this asker alone. Where each person opens a server with a grant of
    their own, ``common`` is whose listing it calls public (MCP 2026-07-28, ``cacheScope``).
    """

    own: Owner
    common: Owner | None = None

    @classmethod
    def of(cls, server: McpServer, user: Person, kind: str, grant: UsableGrant | None) -> Asker:
        """Return who asks when this person does, with the grant that `plan_grant` returned."""
        if is_personal(server):
            return cls(Owner(server, kind, user.pk, grant), Owner(server, kind, None, None))
        return cls(Owner(server, kind, None, grant))

    @property
    def server(self) -> McpServer:
        """The server."""
        return self.own.server

    @property
    def owners(self) -> tuple[Owner, ...]:
        """Whose listings serve this asker, the best one first."""
        return (self.own,) if self.common is None else (self.own, self.common)


def is_personal(server: McpServer) -> bool:
    """Whether each person opens the server with a grant of their own."""
    return server.uses_grants and not server.grant_is_shared


def identity_of(workspace: Any, server: Any, generation: Any, user: Any, grant: Any, kind: str) -> list[str]:
    """Return what a listing in the cache has to belong to, from the columns of its row."""
    return ["" if part is None else str(part) for part in (workspace, server, generation, user, grant, kind)]


def name_of(identity: list[str]) -> str:
    """Return an identity as the cache and whoever waits for the listing call it."""
    return hashlib.sha256("\0".join(identity).encode()).hexdigest()[:40]
