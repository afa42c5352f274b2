"""The hot copy of listings in Django's cache: which listing an owner has, and its entries where they are small.

A cache that does not answer, or answers with something else, is the same as an empty one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.utils import timezone

from mcp_oauth.conf import settings
from mcp_oauth.services.listing_owners import Asker, Owner

logger = logging.getLogger(__name__)

# What a head in the cache looks like; one of another make is not read.
_MAKE = 1
# By how much the clocks of two hosts may differ.
_SKEW_SECONDS = 60.0


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


def find(asker: Asker) -> Head | None:
    """Return what the cache knows of an asker's listing."""
    return find_all([asker])[0]


def find_all(askers: Sequence[Asker]) -> list[Head | None]:
    """Return the same for several askers, in their order, with one look."""
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


def entries_of_all(heads: Sequence[Head]) -> list[list[dict[str, Any]] | None]:
    """Return the entries that the cache has of several listings, in their order, with one look."""
    keys = {_body_key(head): head for head in heads if head.digest}
    cached = _quietly(cache.get_many, list(keys), otherwise={}) if keys else {}
    found = {key: _body(value, keys[key].digest) for key, value in cached.items() if key in keys}
    return [found.get(_body_key(head)) for head in heads]


def add(head: Head) -> None:
    """Have the cache know what the database knows of a listing.

    Added and not set: whoever stores a listing meanwhile knows better.
    """
    _quietly(cache.add, _head_key(head), _written(head), _head_seconds())


def put(heads: Iterable[Head], bodies: Iterable[tuple[Head, str]] = ()) -> None:
    """Have the cache know listings as they were just stored, and their entries (given as text) where they are small."""
    _quietly(cache.set_many, {_head_key(head): _written(head) for head in heads}, _head_seconds())
    small = {_body_key(head): body for head, body in bodies if len(body) <= settings.CATALOGUE_CACHE_BYTES}
    if small:
        _quietly(cache.set_many, small, settings.CATALOGUE_SECONDS)


def drop(names: Iterable[str]) -> None:
    """Forget the listings of those owners, given by their names."""
    _quietly(cache.delete_many, [_key(name) for name in names])


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
    if not isinstance(value, str) or digest_of(value) != digest:
        return None
    entries: list[dict[str, Any]] = json.loads(value)
    return entries


def text_of(entries: list[dict[str, Any]]) -> str:
    """Return the entries of a listing as they are cached."""
    # In the order in which the server wrote them, which the fields of a form follow.
    return json.dumps(entries, ensure_ascii=False, separators=(",", ":"))


def digest_of(body: str) -> str:
    """Return what tells the entries of a listing, given as text, from others."""
    # What is stored has no half surrogate pairs; what a cache answers may have anything.
    return hashlib.sha256(body.encode(errors="replace")).hexdigest()


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
