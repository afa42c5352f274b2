"""Looks back at a person's calls, the newest first and page by page."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Q
from django.utils.translation import gettext as _

from mcp_oauth.exceptions import InvalidRequest
from mcp_oauth.models import ToolCall
from mcp_oauth.services import call_records as records
from mcp_oauth.services.workspaces import Person

# A page shows what a call was and how it ended; what is sealed of it is for whoever asks for the one.
_SEALED = ("arguments", "pending", "answers", "result")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class CallPage:
    """Some calls, and the cursor of those that follow; empty where none do."""

    calls: tuple[ToolCall, ...]
    cursor: str


def calls_of(
    user: Person,
    *,
    limit: int,
    cursor: str = "",
    state: str = "",
    server_id: uuid.UUID | None = None,
    workspace_id: uuid.UUID | None = None,
) -> CallPage:
    """Return a person's own calls at servers of workspaces they belong to, without what is sealed of them.

    ``cursor`` is what the page before gave; calls that begin meanwhile move nothing.

    Raises:
        InvalidRequest: the cursor is none of ours.
    """
    rows = ToolCall.objects.filter(user_id=user.pk, server__workspace__memberships__user_id=user.pk)
    if state:
        rows = rows.filter(state=state)
    if server_id is not None:
        rows = rows.filter(server_id=server_id)
    if workspace_id is not None:
        rows = rows.filter(server__workspace_id=workspace_id)
    if cursor:
        began, key = _read(cursor)
        rows = rows.filter(Q(started_at__lt=began) | Q(started_at=began, pk__gt=key))
    found = list(rows.select_related("server__workspace").defer(*_SEALED).order_by("-started_at", "pk")[: limit + 1])
    page = found[:limit]
    more = page[-1] if len(found) > limit else None
    return CallPage(tuple(records.settled(call) for call in page), "" if more is None else _write(more))


def _write(call: ToolCall) -> str:
    return f"{(call.started_at - _EPOCH) // timedelta(microseconds=1)}-{call.pk.hex}"


def _read(cursor: str) -> tuple[datetime, uuid.UUID]:
    moment, _dash, key = cursor.partition("-")
    try:
        if not moment.isascii() or not moment.isdigit():
            raise ValueError(moment)
        return _EPOCH + timedelta(microseconds=int(moment)), uuid.UUID(hex=key)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(_("This cursor is none that a page gave."), field="cursor") from error
