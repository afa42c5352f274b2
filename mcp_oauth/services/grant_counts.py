"""How many grants of one server open it, and how many need a person; nobody is named and no token is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count
from django.utils import timezone

from mcp_oauth.models import McpServer, McpServerOAuth


@dataclass(frozen=True)
class GrantCount:
    """How many grants of one server open it, and how many need a person, by reason."""

    active: int = 0
    ended: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        return {"active": self.active, "needs_reconnecting": dict(self.ended)}


def count_grants(server: McpServer) -> GrantCount:
    """Count a server's grants: those that open it, and those that need a person, by reason."""
    rows = McpServerOAuth.objects.filter(server=server)
    ended = {
        str(row["reason"] or "expired"): int(row["number"])
        for row in rows.exclude(state=McpServerOAuth.State.ACTIVE)
        .order_by("reason")
        .values("reason")
        .annotate(number=Count("pk"))
    }
    active = rows.filter(state=McpServerOAuth.State.ACTIVE)
    over = 0
    if not server.is_unattended:  # which asks for another token by itself
        over = active.filter(expires_at__lte=timezone.now(), refresh_token__isnull=True).count()
    if over:
        ended["expired"] = ended.get("expired", 0) + over
    return GrantCount(active.count() - over, ended)
