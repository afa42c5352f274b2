"""Sends what the activity page shows as a file: CSV for a spreadsheet, JSON for a program; row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

from mcp_oauth.conf import settings
from mcp_oauth.services.activity import Happening, Wanted, walk
from mcp_oauth.services.workspaces import Person, Place

# What can be asked for, and what a person calls it.
FORMATS: Final = {"csv": "CSV", "json": "JSON"}
_TYPES: Final = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
COLUMNS: Final = (
    *("at", "kind", "id", "server", "server_id", "person", "done_by", "tool", "state", "code", "duration_ms"),
    *("ended_at", "details"),
)
# A spreadsheet takes a cell that begins so for a formula, and runs it (CWE-1236).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def export(
    request: HttpRequest, place: Place, user: Person, wanted: Wanted, form: str, *, now: datetime
) -> StreamingHttpResponse:
    """Return the newest ``ACTIVITY_EXPORT_ROWS`` rows of what somebody looks for, in one of `FORMATS`."""
    rows = walk(place, user, wanted, most=settings.ACTIVITY_EXPORT_ROWS, now=now)
    lines = _csv(rows) if form == "csv" else _json(rows, place, now)
    response = StreamingHttpResponse(
        _taken_in_turns(lines) if isinstance(request, ASGIRequest) else lines, content_type=_TYPES[form]
    )
    name = f"activity-{place.workspace.slug}-{timezone.localtime(now):%Y-%m-%d}.{form}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


def facts_of(happening: Happening) -> dict[str, Any]:
    """Return what a file says of one row; nothing that is sealed is in it."""
    return {
        "at": happening.at.isoformat(),
        "kind": happening.kind,
        "id": str(happening.id),
        "server": happening.server,
        "server_id": "" if happening.server_id is None else str(happening.server_id),
        "person": happening.person,
        "done_by": happening.actor,
        "tool": happening.tool,
        "state": happening.state,
        "code": happening.code,
        "duration_ms": happening.duration_ms,
        "ended_at": "" if happening.ended_at is None else happening.ended_at.isoformat(),
        "details": dict(happening.details),
    }


class _Line:
    """A file of which only the line that was just written is kept."""

    def write(self, text: str) -> str:
        return text


def _csv(rows: Iterator[Happening]) -> Iterator[str]:
    writer: Any = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    for happening in rows:
        facts = facts_of(happening)
        details = facts["details"]
        facts["details"] = json.dumps(details, ensure_ascii=False, default=str) if details else ""
        yield writer.writerow([_cell(facts[column]) for column in COLUMNS])


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _json(rows: Iterator[Happening], place: Place, now: datetime) -> Iterator[str]:
    head = {"workspace": place.workspace.slug, "at": now.isoformat(), "most_rows": settings.ACTIVITY_EXPORT_ROWS}
    yield f'{json.dumps(head)[:-1]}, "rows": [\n'
    before = ""
    for happening in rows:
        yield before + json.dumps(facts_of(happening), ensure_ascii=False, default=str)
        before = ",\n"
    yield "\n]}\n"


async def _taken_in_turns(lines: Iterator[str]) -> AsyncIterator[str]:
    """Yield lines that are had from the database, in the thread that Django does so in."""
    while line := await sync_to_async(lambda: next(lines, ""))():
        yield line
