"""Which grants serve a person at many servers, and whether they still do, without their tokens being read."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.utils import timezone

from mcp_oauth.models import UNATTENDED_MODES, McpServer, McpServerOAuth
from mcp_oauth.services.workspaces import Person


def grants_of(user: Person, servers: Iterable[McpServer]) -> dict[uuid.UUID, McpServerOAuth]:
    """Return, by server, the grants that serve a person, without their tokens; one query.

    `still_good` reads what stands in the tokens' place.
    """
    listed = {server.pk: server for server in servers}
    renews = ExpressionWrapper(
        Q(refresh_token__isnull=False) | Q(server__auth_mode__in=UNATTENDED_MODES),
        output_field=BooleanField(),
    )
    rows = (
        McpServerOAuth.objects.filter(Q(user_id=user.pk) | Q(user__isnull=True), server_id__in=listed)
        .defer("access_token", "refresh_token", "dpop_key")
        .annotate(renews=renews)
    )
    return {row.server_id: row for row in rows if row.user_id == listed[row.server_id].grant_owner(user.pk)}


def still_good(grant: McpServerOAuth) -> bool:
    """Whether one of `grants_of` opens its server: it was not ended, and has not run out or can be renewed."""
    if not grant.is_active:
        return False
    return grant.expires_at is None or grant.expires_at > timezone.now() or bool(getattr(grant, "renews", False))
