"""The tables of a run's databases; on PostgreSQL in databases beside the one that is named, gone after the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
from django.core.management import call_command
from psycopg import sql

from tests.bench.processes import worker


def postgres_url() -> str:
    """Return the URL of the PostgreSQL server that ``DATABASE_URL`` names, or nothing."""
    url = os.environ.get("DATABASE_URL", "")
    return url if url.startswith(("postgres://", "postgresql://")) else ""


@contextmanager
def on_postgres(count: int) -> Iterator[list[str]]:
    """Make so many databases on that server; yields their URLs."""
    named = urlsplit(postgres_url())
    names = [f"mcp_oauth_bench_{os.getpid()}_{number}" for number in range(count)]
    urls = [named._replace(path=f"/{name}").geturl() for name in names]
    with psycopg.connect(postgres_url(), autocommit=True) as connection:
        try:
            for name, url in zip(names, urls, strict=True):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
                with worker(url) as migrating:
                    migrating.ask("database:migrate")
            yield urls
        finally:
            for name in names:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


# What runs in the process that measures.


def migrate() -> None:
    """Make the tables of an empty database."""
    call_command("migrate", verbosity=0)
