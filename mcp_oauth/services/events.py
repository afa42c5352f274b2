"""Writes the audit trail."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone

from mcp_oauth.conf import settings
from mcp_oauth.models import Event, McpServer, McpServerOAuth, Workspace
from mcp_oauth.services.workspaces import Person

logger = logging.getLogger("mcp_oauth.events")

# What a server says may be as long as its document; a line of the trail is not.
MAX_DETAIL_CHARACTERS = 500
MAX_DETAIL_ITEMS = 50


def record(
    kind: Event.Kind,
    subject: McpServer | Workspace,
    *,
    user_id: Any = None,
    grant: McpServerOAuth | None = None,
    actor: Person | None = None,
    outcome: str = "",
    **details: Any,
) -> Event:
    """Add one event and log it; ``details`` are texts, numbers or lists of texts, none of them a secret.

    ``subject`` is the server it happened to, or the workspace where it concerns no server of it.
    Inside a transaction it is written with it or not at all. ``grant`` gives whose it is and which; ``user_id`` does so
    where there is no grant.
    """
    if grant is not None:
        user_id = grant.user_id
    server = subject if isinstance(subject, McpServer) else None
    event = Event(
        kind=kind,
        outcome=outcome[:60],
        details={name: _bounded(value) for name, value in details.items() if value not in ("", None, [], ())},
        workspace_id=subject.pk if server is None else server.workspace_id,
        server_id=None if server is None else server.pk,
        server_name="" if server is None else server.name[:200],
        grant_id=None if grant is None else grant.pk,
        user_id=user_id,
        user_name=_name_of(user_id),
        actor_id=None if actor is None else actor.pk,
        actor_name="" if actor is None else _name_of(actor.pk),
    )
    event.save()
    if server is None:
        logger.info("%s workspace=%s outcome=%s", kind.value, subject.pk, event.outcome)
    else:
        logger.info("%s server=%s grant=%s outcome=%s", kind.value, server.pk, event.grant_id, event.outcome)
    return event


def record_all(
    kind: Event.Kind, happened: Iterable[tuple[McpServer, Any, Mapping[str, Any]]], *, outcome: str = ""
) -> None:
    """Add one event of a kind for each server, key of the person concerned (or ``None``) and details, as `record` does.

    The number of statements does not depend on how many there are.
    """
    found = list(happened)
    if not found:
        return
    names = _names_of({user_id for _server, user_id, _details in found} - {None})
    events = [
        Event(
            kind=kind,
            outcome=outcome[:60],
            details={name: _bounded(value) for name, value in details.items()},
            workspace_id=server.workspace_id,
            server_id=server.pk,
            server_name=server.name[:200],
            user_id=user_id,
            user_name=names.get(user_id, ""),
        )
        for server, user_id, details in found
    ]
    Event.objects.bulk_create(events)
    for event in events:
        logger.info("%s server=%s grant=%s outcome=%s", kind.value, event.server_id, None, event.outcome)


def forget_old_events() -> int:
    """Remove events older than ``EVENT_DAYS``, a bounded number at once; return how many went."""
    moment = timezone.now() - timedelta(days=settings.EVENT_DAYS)
    return Event.objects.all().forget_before(moment, at_most=settings.EVENTS_FORGOTTEN_AT_ONCE)


def _name_of(user_id: Any) -> str:
    return "" if user_id is None else _names_of({user_id}).get(user_id, "")


def _names_of(user_ids: Collection[Any]) -> dict[Any, str]:
    if not user_ids:
        return {}
    model = get_user_model()
    rows = model._default_manager.filter(pk__in=user_ids).values_list("pk", model.USERNAME_FIELD)
    return {pk: str(name or "")[:150] for pk, name in rows}


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return value[:MAX_DETAIL_CHARACTERS]
    if isinstance(value, Collection):
        return [str(item)[:MAX_DETAIL_CHARACTERS] for item in list(value)[:MAX_DETAIL_ITEMS]]
    return value
