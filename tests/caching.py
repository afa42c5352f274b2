"""The cache of a test: in Redis a part of one that other tests use at the same time."""

from __future__ import annotations

from django.core.cache import caches
from django.core.cache.backends.redis import RedisCache


def empty_cache() -> None:
    """Forget what this test has in the cache, and nothing of another's."""
    cache = caches["default"]
    if not isinstance(cache, RedisCache):
        cache.clear()  # this process's own
        return
    client = cache._cache.get_client(None, write=True)
    if keys := list(client.scan_iter(match=f"{cache.key_prefix}:*", count=1000)):
        client.delete(*keys)
