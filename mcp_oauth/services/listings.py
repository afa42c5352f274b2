"""Stored listings: the hot copy in Django's cache, the last known one in the database, and whose each of them is."""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from django.core.cache import cache
from django.db import IntegrityError, connections, router, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from mcp_oauth.conf import settings
from mcp_oauth.fields import sealed_value
from mcp_oauth.models import McpServer, McpServerOAuth, StoredListing
from mcp_oauth.services.grants import UsableGrant
from mcp_oauth.services.tool_changes import ToolsChanged, record_changes
from mcp_oauth.services.workspaces import Person

logger = logging.getLogger(__name__)

Kind = StoredListing.Kind

# The row of a listing: server, person or nobody in particular, kind.
Row = tuple[uuid.UUID, Any, str]

# What a head in the cache looks like; one of another make is not read.
_MAKE = 1
# Servers name a few round times; where each names another one, their listings are written in one long statement.
_MOST_STATEMENTS = 3
# By how much the clocks of two hosts may differ.
_SKEW_SECONDS = 60.0
# When a listing was had, and what was in it.
_TIMES = ("fetched_at", "fresh_until")
_COLUMNS = ("server_generation", "grant_id", "entries", "entry_count", "digest", "truncated", *_TIMES)


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
        return _identity(server.workspace_id, server.pk, server.generation, self.user_id, self.grant_id, self.kind)

    @cached_property
    def name(self) -> str:
        """The identity as the cache and whoever waits for the listing call it."""
        return _name(self.identity)

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


@dataclass(frozen=True)
class Head:
    """What is known of a stored listing without its entries."""

    owner: Owner
    digest: str
    fetched_at: datetime
    fresh_until: datetime
    truncated: bool
    count: int

    @property
    def is_fresh(self) -> bool:
        """Whether it may be used without asking the server again."""
        return self.fresh_until > timezone.now()


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
        return _as_text(self.entries)

    @cached_property
    def digest(self) -> str:
        """What tells these entries from others."""
        return _digest(self.body)

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


def is_personal(server: McpServer) -> bool:
    """Whether each person opens the server with a grant of their own."""
    return server.uses_grants and not server.grant_is_shared


def find(asker: Asker) -> Head | None:
    """Return what is known of an asker's listing, of any age: from the cache, or else from the database."""
    return find_all([asker])[0]


def find_hot(asker: Asker) -> Head | None:
    """Return what the cache alone knows of an asker's listing."""
    return _cached_heads([asker])[0]


def find_all(askers: Sequence[Asker]) -> list[Head | None]:
    """Return the same for several askers, in their order, with one look into each of the two at most."""
    heads = _cached_heads(askers)
    missing = [number for number, head in enumerate(heads) if head is None]
    if missing:
        rows = {_row_of(row): row for row in _rows([askers[number] for number in missing]).defer("entries")}
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
                # Added and not set: whoever stores a listing meanwhile knows better.
                _quietly(cache.add, _head_key(head), _written(head), _head_seconds())
    return heads


def entries_of(head: Head) -> list[dict[str, Any]] | None:
    """Return the entries of a listing; ``None`` where another one has taken its place meanwhile."""
    return entries_of_all([head])[0]


def entries_of_all(heads: Sequence[Head]) -> list[list[dict[str, Any]] | None]:
    """Return the entries of several listings, in their order, with one look into cache and database each at most."""
    keys = {_body_key(head): head for head in heads if head.digest}
    cached = _quietly(cache.get_many, list(keys), otherwise={}) if keys else {}
    found = {key: _body(value, keys[key].digest) for key, value in cached.items() if key in keys}
    bodies = [found.get(_body_key(head)) for head in heads]
    missing = [number for number, body in enumerate(bodies) if body is None]
    if missing:
        owners = [Asker(heads[number].owner) for number in missing]
        rows = {_row_of(row): row for row in _rows(owners).only("server_id", "user_id", "kind", "digest", "entries")}
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


def mark_stale(askers: Sequence[Asker]) -> None:
    """Let the askers' listings be asked for again when they are wanted next; until then they stay the last known."""
    if not askers:
        return
    rows = _rows(askers)
    rows.update(fresh_until=F("fetched_at"))

    def cool() -> None:
        known = {_row_of(row): row for row in rows.all().defer("entries")}
        owners = [owner for asker in askers for owner in asker.owners]
        _heat([_head(row, owner) for owner in owners if (row := known.get(owner.row)) is not None and owner.fits(row)])

    transaction.on_commit(cool)


def let_expire(rows: QuerySet[StoredListing]) -> int:
    """Let listings be asked for again when they are wanted next, whoever's they are; return how many that are.

    Until then they stay the last known.
    """
    keys = _cache_keys(rows)
    number = rows.update(fresh_until=F("fetched_at"))
    if keys:
        transaction.on_commit(lambda: _quietly(cache.delete_many, keys))
    return number


def forget(rows: QuerySet[StoredListing]) -> None:
    """Delete listings, and what the cache has of them."""
    keys = _cache_keys(rows)
    rows.delete()
    if keys:
        transaction.on_commit(lambda: _quietly(cache.delete_many, keys))


def _cache_keys(rows: QuerySet[StoredListing]) -> list[str]:
    columns = ("server__workspace_id", "server_id", "server_generation", "user_id", "grant_id", "kind")
    return [_key(_name(_identity(*row))) for row in rows.values_list(*columns)]


def readable(stored: Any) -> list[dict[str, Any]]:
    """Return stored entries; what is none is left out rather than hiding the others."""
    return [entry for entry in stored if isinstance(entry, dict)] if isinstance(stored, list) else []


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
    rows = _rows([fetched.asker for fetched in found.values()]).order_by("pk").defer("entries")
    known = {_row_of(row): row for row in rows.select_for_update()}
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
        if fetched.asker.common is not None and fetched.asker.common.row == _row_of(row)
    ]
    warm = {_body_key(head): fetched.body for head, fetched in heads if head.is_fresh}
    transaction.on_commit(lambda: _heat([*cold, *(head for head, _fetched in heads)], warm))


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


def _rows(askers: Iterable[Asker]) -> QuerySet[StoredListing]:
    """Return the rows that may serve some askers; those of others among them are told apart by who reads."""
    owners = [owner for asker in askers for owner in asker.owners]
    users = {owner.user_id for owner in owners} - {None}
    whose = Q(user_id__in=users) if users else Q(pk__in=[])
    if any(owner.user_id is None for owner in owners):
        whose |= Q(user__isnull=True)
    return StoredListing.objects.filter(
        whose, server_id__in={owner.server.pk for owner in owners}, kind__in={str(owner.kind) for owner in owners}
    ).order_by()


def _row_of(row: StoredListing) -> Row:
    return row.server_id, row.user_id, row.kind


def _head_of(fetched: Fetched) -> Head:
    until, count = fetched.fresh_until, len(fetched.entries)
    return Head(fetched.owner, fetched.digest, fetched.asked_at, until, fetched.truncated, count)


def _head(row: StoredListing, owner: Owner) -> Head:
    patience = timedelta(seconds=settings.CATALOGUE_SECONDS)
    fresh_until = row.fetched_at + patience if row.fresh_until is None else row.fresh_until
    return Head(owner, row.digest, row.fetched_at, fresh_until, row.truncated, row.entry_count)


# The hot copy. A cache that does not answer, or answers with something else, is the same as an empty one.


def _cached_heads(askers: Sequence[Asker]) -> list[Head | None]:
    keys = [[_key(owner.name) for owner in asker.owners] for asker in askers]
    wanted = [key for several in keys for key in several]
    cached: Mapping[str, Any]
    if len(wanted) == 1:
        cached = {wanted[0]: _quietly(cache.get, wanted[0])}
    else:
        cached = _quietly(cache.get_many, wanted, otherwise={}) if wanted else {}
    return [
        next(
            (
                head
                for key, owner in zip(several, asker.owners, strict=True)
                if (head := _read(cached.get(key), owner)) is not None
            ),
            None,
        )
        for asker, several in zip(askers, keys, strict=True)
    ]


def _heat(heads: Iterable[Head], bodies: Mapping[str, str] | None = None) -> None:
    _quietly(cache.set_many, {_head_key(head): _written(head) for head in heads}, _head_seconds())
    small = {key: body for key, body in (bodies or {}).items() if len(body) <= settings.CATALOGUE_CACHE_BYTES}
    if small:
        _quietly(cache.set_many, small, settings.CATALOGUE_SECONDS)


def _written(head: Head) -> str:
    """Return a head as text: what a cache makes of other values is its own affair."""
    return json.dumps(
        [
            _MAKE,
            head.owner.identity,
            head.owner.basis,
            head.digest,
            head.fetched_at.timestamp(),
            head.fresh_until.timestamp(),
            head.truncated,
            head.count,
        ]
    )


def _read(value: Any, owner: Owner) -> Head | None:
    """Read what `_written` wrote for this very owner, and nothing else."""
    if not isinstance(value, str):
        return None
    try:
        make, identity, basis, digest, fetched, fresh, truncated, count = json.loads(value)
        if make != _MAKE or identity != owner.identity or basis != owner.basis:
            return None
        if not isinstance(digest, str) or not isinstance(count, int) or not isinstance(truncated, bool):
            return None
        fetched_at, fresh_until = datetime.fromtimestamp(fetched, UTC), datetime.fromtimestamp(fresh, UTC)
    except (ValueError, TypeError, OverflowError, OSError, RecursionError):
        return None
    if fresh_until > timezone.now() + timedelta(seconds=settings.MAX_CATALOGUE_SECONDS + _SKEW_SECONDS):
        return None
    return Head(owner, digest, fetched_at, fresh_until, truncated, count)


def _body(value: Any, digest: str) -> list[dict[str, Any]] | None:
    if not isinstance(value, str) or _digest(value) != digest:
        return None
    entries: list[dict[str, Any]] = json.loads(value)
    return entries


def _as_text(entries: list[dict[str, Any]]) -> str:
    # In the order in which the server wrote them, which the fields of a form follow.
    return json.dumps(entries, ensure_ascii=False, separators=(",", ":"))


def _digest(body: str) -> str:
    # What is stored has no half surrogate pairs; what a cache answers may have anything.
    return hashlib.sha256(body.encode(errors="replace")).hexdigest()


def _identity(workspace: Any, server: Any, generation: Any, user: Any, grant: Any, kind: str) -> list[str]:
    return ["" if part is None else str(part) for part in (workspace, server, generation, user, grant, kind)]


def _name(identity: list[str]) -> str:
    return hashlib.sha256("\0".join(identity).encode()).hexdigest()[:40]


def _key(name: str) -> str:
    return f"mcp_oauth.listing.{name}"


def _head_key(head: Head) -> str:
    return _key(head.owner.name)


def _body_key(head: Head) -> str:
    return f"{_head_key(head)}.{head.digest[:20]}"


def _head_seconds() -> float:
    return settings.MAX_CATALOGUE_SECONDS


def _quietly(use: Callable[..., Any], *arguments: Any, otherwise: Any = None) -> Any:
    """Use the cache; where it fails, people are not kept from their work by it."""
    try:
        return use(*arguments)
    except Exception:  # whichever cache a site has, its errors are its own
        logger.exception("the cache does not keep listings; the database is asked")
        return otherwise
