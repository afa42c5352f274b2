"""One person's own connections, in all their workspaces together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet

from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth
from mcp_oauth.services.revocation import end_grants
from mcp_oauth.services.workspaces import Person

Outcome = Literal["confirmed", "not_offered", "unconfirmed"]

_OUTCOMES: dict[bool | None, Outcome] = {True: "confirmed", None: "not_offered", False: "unconfirmed"}


@dataclass(frozen=True)
class EndedConnection:
    """A connection that is gone, and whether its provider confirmed that the access is revoked."""

    server: McpServer
    outcome: Outcome


def connections_of(user: Person) -> QuerySet[McpServerOAuth]:
    """Return a person's own grants with their servers and workspaces, without their tokens.

    Those that open again by themselves because a company vouches for its people are no connections of theirs.
    ``renews`` stands in the tokens' place, as `serving_grants.still_good` reads it.
    """
    renews = ExpressionWrapper(Q(refresh_token__isnull=False), output_field=BooleanField())
    return (
        _own(user)
        .select_related("server__workspace")
        .defer(
            "access_token", "refresh_token", "dpop_key", "server__discover_result", "server__probe_steps",
            *(f"server__{name}" for name in McpServer.SECRETS),
        )
        .annotate(renews=renews)
        .order_by("server__workspace__name", "server__name", "pk")
    )  # fmt: skip


def disconnect_everything(user: Person) -> list[EndedConnection]:
    """End all of a person's own grants and open attempts to connect; the providers are told at the same time.

    The rows go whatever the providers answer.
    """
    AuthorizationFlow.objects.filter(user_id=user.pk).delete()
    grants = list(_own(user).select_related("server__workspace", "registration").order_by("server__name", "pk"))
    answers = end_grants(grants, actor=user)
    return [EndedConnection(grant.server, _OUTCOMES[answer]) for grant, answer in zip(grants, answers, strict=True)]


def _own(user: Person) -> QuerySet[McpServerOAuth]:
    return McpServerOAuth.objects.filter(user_id=user.pk).exclude(server__auth_mode=McpServer.AuthMode.ENTERPRISE)
