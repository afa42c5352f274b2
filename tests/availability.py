"""What the tests need beyond Python, and a sentence for each that is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache

import redis
from django.conf import settings

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium talks to nobody but the page; as root, as in a container, it has no sandbox.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]


def redis_url() -> str:
    """Return the Redis database the tests may write to."""
    return os.environ.get("MCP_OAUTH_TEST_REDIS_URL", "") or "redis://127.0.0.1:6379/9"


@cache
def chromium_path() -> str | None:
    """Return the path of a Chromium, from ``CHROMIUM`` or the search path, or ``None``."""
    named = os.environ.get("CHROMIUM", "")
    candidates = (named,) if named else CHROMIUM_NAMES
    return next((path for path in map(shutil.which, candidates) if path), None)


def missing_browser() -> str:
    """Return why no page can be opened in a real browser, or nothing."""
    return "" if chromium_path() else "no Chromium found: install it, or set CHROMIUM to its path"


def missing_postgres() -> str:
    """Return why this is no run on PostgreSQL, or nothing."""
    if settings.DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
        return ""
    return "this run uses SQLite: set DATABASE_URL=postgres://user@host:5432/name"


@cache
def missing_redis() -> str:
    """Return why Redis cannot be used, or nothing."""
    try:
        with redis.Redis.from_url(redis_url(), socket_connect_timeout=2) as connection:
            connection.ping()
    except redis.RedisError as error:
        return f"no Redis: {type(error).__name__}; start one, or set MCP_OAUTH_TEST_REDIS_URL"
    return ""


def missing_node() -> str:
    """Return why no script can run outside a browser, or nothing."""
    return "" if shutil.which("node") else "no node found: install it"


MISSING: dict[str, Callable[[], str]] = {
    "browser": missing_browser,
    "postgres": missing_postgres,
    "redis": missing_redis,
    "node": missing_node,
}
