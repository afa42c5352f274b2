"""Listings as they are known: the last known ones in the database, behind what the cache has of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet

from mcp_oauth.conf import settings
from mcp_oauth.models import McpServer, McpServerOAuth, StoredListing
from mcp_oauth.services import hot_listings as hot
from mcp_oauth.services.hot_listings import Head
from mcp_oauth.services.listing_owners import Asker, Owner, Row, identity_of, is_personal, name_of
from mcp_oauth.services.workspaces import Person


def find(asker: Asker) -> Head | None:
    """Return what is known of an asker's listing, of any age: from the cache, or else from the database."""
    return find_all([asker])[0]


def find_all(askers: Sequence[Asker]) -> list[Head | None]:
    """Return the same for several askers, in their order, with one look into each of the two at most."""
    heads = hot.find_all(askers)
    missing = [number for number, head in enumerate(heads) if head is None]
    if missing:
        rows = {row_of(row): row for row in rows_of([askers[number] for number in missing]).defer("entries")}
        for number in missing:
            heads[number] = next(
                (
                    _head(row, owner)
                    for owner in askers[number].owners
                    if (row := rows.get(owner.row)) is not None and owner.fits(row)
                ),
                None,
            )
            if (head := heads[number]) is not None:
                hot.add(head)
    return heads


def entries_of(head: Head) -> list[dict[str, Any]] | None:
    """Return the entries of a listing; ``None`` where another one has taken its place meanwhile."""
    return entries_of_all([head])[0]


def entries_of_all(heads: Sequence[Head]) -> list[list[dict[str, Any]] | None]:
    """Return the entries of several listings, in their order, with one look into cache and database each at most."""
    bodies = hot.entries_of_all(heads)
    missing = [number for number, body in enumerate(bodies) if body is None]
    if missing:
        owners = [Asker(heads[number].owner) for number in missing]
        rows = {row_of(row): row for row in rows_of(owners).only("server_id", "user_id", "kind", "digest", "entries")}
        for number in missing:
            row = rows.get(heads[number].owner.row)
            if row is not None and row.digest == heads[number].digest:
                bodies[number] = readable(row.entries)
    return bodies


def last_known(server: McpServer, user: Person, kind: str) -> StoredListing | None:
    """Return the row of the listing that this person saw last, of any age, whatever has become of their grant."""
    rows = StoredListing.objects.filter(server_id=server.pk, kind=kind, server_generation=server.generation)
    if not is_personal(server):
        return rows.filter(user__isnull=True).order_by().first()
    mine = Q(user_id=user.pk) | Q(user__isnull=True)
    row = rows.filter(mine).order_by(F("user_id").asc(nulls_last=True)).first()
    if row is None or row.user_id is not None:
        return row
    # Public among those who can open the server, which takes a grant.
    return row if McpServerOAuth.objects.filter(server_id=server.pk, user_id=user.pk).exists() else None


def last_known_of_all(servers: Sequence[McpServer], user: Person, kind: str) -> dict[uuid.UUID, StoredListing]:
    """Return, by server, the rows that `last_known` returns one by one; two queries."""
    asked = {server.pk: server for server in servers}
    mine = Q(user_id=user.pk) | Q(user__isnull=True)
    granted = set(
        McpServerOAuth.objects.filter(server_id__in=asked, user_id=user.pk).values_list("server_id", flat=True)
    )
    found: dict[uuid.UUID, StoredListing] = {}
    for row in StoredListing.objects.filter(mine, server_id__in=asked, kind=kind).order_by():
        server = asked[row.server_id]
        if row.server_generation != server.generation:
            continue
        if row.user_id is not None:
            if is_personal(server):
                found[server.pk] = row
        elif not is_personal(server) or server.pk in granted:
            found.setdefault(server.pk, row)
    return found


def mark_stale(askers: Sequence[Asker]) -> None:
    """Let the askers' listings be asked for again when they are wanted next; until then they stay the last known."""
    if not askers:
        return
    rows = rows_of(askers)
    rows.update(fresh_until=F("fetched_at"))

    def cool() -> None:
        known = {row_of(row): row for row in rows.all().defer("entries")}
        owners = [owner for asker in askers for owner in asker.owners]
        hot.put(
            [_head(row, owner) for owner in owners if (row := known.get(owner.row)) is not None and owner.fits(row)]
        )

    transaction.on_commit(cool)


def let_expire(rows: QuerySet[StoredListing]) -> int:
    """Let listings be asked for again when they are wanted next, whoever's they are; return how many that are.

    Until then they stay the last known.
    """
    names = _names(rows)
    number = rows.update(fresh_until=F("fetched_at"))
    if names:
        transaction.on_commit(lambda: hot.drop(names))
    return number


def forget(rows: QuerySet[StoredListing]) -> None:
    """Delete listings, and what the cache has of them."""
    names = _names(rows)
    rows.delete()
    if names:
        transaction.on_commit(lambda: hot.drop(names))


def _names(rows: QuerySet[StoredListing]) -> list[str]:
    columns = ("server__workspace_id", "server_id", "server_generation", "user_id", "grant_id", "kind")
    return [name_of(identity_of(*row)) for row in rows.values_list(*columns)]


def readable(stored: Any) -> list[dict[str, Any]]:
    """Return stored entries; what is none is left out rather than hiding the others."""
    return [entry for entry in stored if isinstance(entry, dict)] if isinstance(stored, list) else []


def rows_of(askers: Iterable[Asker]) -> QuerySet[StoredListing]:
    """Return the rows that may serve some askers; those of others among them are told apart by who reads."""
    owners = [owner for asker in askers for owner in asker.owners]
    users = {owner.user_id for owner in owners} - {None}
    whose = Q(user_id__in=users) if users else Q(pk__in=[])
    if any(owner.user_id is None for owner in owners):
        whose |= Q(user__isnull=True)
    return StoredListing.objects.filter(
        whose, server_id__in={owner.server.pk for owner in owners}, kind__in={str(owner.kind) for owner in owners}
    ).order_by()


def row_of(stored: StoredListing) -> Row:
    """Return what names a row, as `Owner.row` does."""
    return stored.server_id, stored.user_id, stored.kind


def _head(row: StoredListing, owner: Owner) -> Head:
    patience = timedelta(seconds=settings.CATALOGUE_SECONDS)
    fresh_until = row.fetched_at + patience if row.fresh_until is None else row.fresh_until
    return Head(owner, row.digest, row.fetched_at, fresh_until, row.truncated, row.entry_count)
