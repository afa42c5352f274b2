"""Listings that have come from their servers: whether they are still wanted, what is new in them, and their rows."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db import IntegrityError, connections, router, transaction
from django.db.models import F

from mcp_oauth.conf import settings
from mcp_oauth.models import McpServer, McpServerOAuth, StoredListing
from mcp_oauth.services import hot_listings as hot
from mcp_oauth.services.hot_listings import Head
from mcp_oauth.services.listing_owners import Asker, Kind, Owner, Row
from mcp_oauth.services.listings import forget, readable, row_of, rows_of
from mcp_oauth.services.tool_changes import ToolsChanged, record_changes

logger = logging.getLogger(__name__)

# Servers name a few round times; where each names another one, their listings are written in one long statement.
_MOST_STATEMENTS = 3
# When a listing was had, and what was in it.
_TIMES = ("fetched_at", "fresh_until")
_COLUMNS = ("server_generation", "grant_id", "entries", "entry_count", "digest", "truncated", *_TIMES)


@dataclass(frozen=True)
class Fetched:
    """A listing that has just come; ``ttl_ms`` and ``public`` are what the server says of it (MCP 2026-07-28)."""

    asker: Asker
    entries: list[dict[str, Any]] = field(repr=False)
    truncated: bool
    asked_at: datetime
    came_at: datetime
    ttl_ms: int | None = None
    public: bool = False

    @property
    def owner(self) -> Owner:
        """Whose listing it is."""
        return self.asker.common if self.public and self.asker.common is not None else self.asker.own

    @cached_property
    def body(self) -> str:
        """The entries as they are cached."""
        return hot.text_of(self.entries)

    @cached_property
    def digest(self) -> str:
        """What tells these entries from others."""
        return hot.digest_of(self.body)

    @property
    def good_for(self) -> timedelta:
        """For how long it may be used without asking again."""
        if self.ttl_ms is None:
            return timedelta(seconds=settings.CATALOGUE_SECONDS)
        # Clamped before it is divided: a server may name any number of digits.
        longest = int(settings.MAX_CATALOGUE_SECONDS * 1000)
        return timedelta(milliseconds=min(max(self.ttl_ms, 0), longest))

    @property
    def fresh_until(self) -> datetime:
        """Until when it may be used without asking again."""
        return self.came_at + self.good_for


def keep(found: Sequence[Fetched]) -> None:
    """Store listings that came: one statement for all that are unchanged, and one for each kind of change.

    What came for a grant or a server that has ended or changed meanwhile is dropped. Entries that differ from what the
    person saw before are put on record, if they are tools.
    """
    if not found:
        return
    try:
        with transaction.atomic():
            _keep({fetched.owner.row: fetched for fetched in _still_wanted(found)})
    except IntegrityError:
        # A server or a person was deleted while the listing was on its way.
        logger.info("a listing came for somebody or something that is gone")


def _still_wanted(found: Sequence[Fetched]) -> list[Fetched]:
    """Take the grants' rows, and drop what came for an authorization or a server that is no longer what it was.

    The rows are taken before listings are written: the servers', then the grants', as by whoever changes a server, and
    each always in the same order.
    """
    servers = McpServer.objects.filter(pk__in={fetched.asker.server.pk for fetched in found}).order_by("pk")
    features = connections[router.db_for_write(McpServerOAuth)].features
    if features.has_select_for_update:
        # A listing's row refers to its server, which the database looks at last, when the grant's row is taken already.
        servers = servers.select_for_update(no_key=features.has_select_for_no_key_update)
        list(servers.values_list("pk"))
    grants = {fetched.asker.own.grant.grant_id for fetched in found if fetched.asker.own.grant is not None}
    connected: dict[Any, datetime] = {}
    if grants:
        rows = McpServerOAuth.objects.filter(pk__in=grants).order_by("pk")
        if not features.has_select_for_update:
            # Takes the whole database, which a transaction that begins with reading may not get later.
            rows.update(version=F("version"))
        connected = dict(rows.select_for_update().values_list("pk", "connected_at"))
    generations = dict(servers.values_list("pk", "generation"))
    wanted = [
        fetched
        for fetched in found
        if generations.get(fetched.asker.server.pk) == fetched.asker.server.generation
        and ((grant := fetched.asker.own.grant) is None or connected.get(grant.grant_id) == grant.connected_at)
    ]
    return sorted(wanted, key=lambda fetched: [str(part) for part in fetched.owner.row])


def _keep(found: Mapping[Row, Fetched]) -> None:
    rows = rows_of([fetched.asker for fetched in found.values()]).order_by("pk").defer("entries")
    known = {row_of(row): row for row in rows.select_for_update()}
    unchanged, changed, new, changes = [], [], [], []
    outdated: list[StoredListing] = []
    replaced: list[StoredListing] = []
    for name, fetched in found.items():
        owner, own = fetched.owner, known.get(fetched.asker.own.row)
        common = None if fetched.asker.common is None else known.get(fetched.asker.common.row)
        seen = ((own, fetched.asker.own), (common, fetched.asker.common))
        before = next((old for old, whose in seen if old is not None and whose is not None and whose.fits(old)), None)
        if before is not None and before.digest != fetched.digest and owner.kind == Kind.TOOLS:
            changes.append((before.pk, not before.truncated, fetched))
        row = known.get(name)
        if row is None:
            row = StoredListing(server_id=owner.server.pk, user_id=owner.user_id, kind=owner.kind)
            new.append(row)
        elif row.digest == fetched.digest and row.truncated == fetched.truncated and owner.fits(row):
            row.fetched_at, row.fresh_until = fetched.asked_at, fetched.fresh_until
            unchanged.append((row, fetched))
            row = None
        else:
            changed.append(row)
        if row is not None:
            row.server_generation, row.grant_id = owner.server.generation, owner.grant_id
            row.entries, row.entry_count, row.digest = fetched.entries, len(fetched.entries), fetched.digest
            row.truncated, row.fetched_at, row.fresh_until = fetched.truncated, fetched.asked_at, fetched.fresh_until
        if owner is not fetched.asker.own and own is not None:
            replaced.append(own)
        elif owner is fetched.asker.own and common is not None:
            outdated.append(common)
    _record(changes)
    _confirm(unchanged)
    if changed:
        StoredListing.objects.bulk_update(changed, _COLUMNS)
    if new:
        # Somebody else may have had the same first listing at the same moment.
        StoredListing.objects.bulk_create(new, ignore_conflicts=True)
    if replaced:
        forget(StoredListing.objects.filter(pk__in=[row.pk for row in replaced]))
    if outdated:
        # What was public yesterday and is private today is not handed to others as if it were fresh.
        StoredListing.objects.filter(pk__in=[row.pk for row in outdated]).update(fresh_until=F("fetched_at"))
    heads = [(_head_of(fetched), fetched) for fetched in found.values()]
    cold = [
        Head(fetched.asker.common, row.digest, row.fetched_at, row.fetched_at, row.truncated, row.entry_count)
        for fetched in found.values()
        for row in outdated
        if fetched.asker.common is not None and fetched.asker.common.row == row_of(row)
    ]
    bodies = [(head, fetched.body) for head, fetched in heads if head.is_fresh]
    transaction.on_commit(lambda: hot.put([*cold, *(head for head, _fetched in heads)], bodies))


def _confirm(unchanged: Collection[tuple[StoredListing, Fetched]]) -> None:
    """Write down that listings are as they were, and until when that may be believed."""
    together: dict[timedelta, list[tuple[StoredListing, Fetched]]] = {}
    for row, fetched in unchanged:
        together.setdefault(fetched.good_for, []).append((row, fetched))
    if len(together) > _MOST_STATEMENTS:
        StoredListing.objects.bulk_update([row for row, _fetched in unchanged], _TIMES)
        return
    # What came together is of one age, the oldest one's: naming each its own takes the database ten times as long.
    for good_for, several in together.items():
        StoredListing.objects.filter(pk__in=[row.pk for row, _fetched in several]).update(
            fetched_at=min(fetched.asked_at for _row, fetched in several),
            fresh_until=min(fetched.came_at for _row, fetched in several) + good_for,
        )


def _record(changes: Collection[tuple[uuid.UUID, bool, Fetched]]) -> None:
    """Compare what came with the rows of before, each given by its key and whether it was whole."""
    if not changes:
        return
    rows = StoredListing.objects.filter(pk__in=[pk for pk, _whole, _fetched in changes])
    before = dict(rows.values_list("pk", "entries"))
    record_changes(
        ToolsChanged(
            fetched.asker.server,
            fetched.owner.user_id,
            before=readable(before.get(pk)),
            after=fetched.entries,
            before_is_whole=whole,
            after_is_whole=not fetched.truncated,
        )
        for pk, whole, fetched in changes
    )


def _head_of(fetched: Fetched) -> Head:
    until, count = fetched.fresh_until, len(fetched.entries)
    return Head(fetched.owner, fetched.digest, fetched.asked_at, until, fetched.truncated, count)
