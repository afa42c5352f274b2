"""The databases of a run: made for it by migrations, and gone after it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from django.core.management import call_command
from psycopg import sql

from tests.bench.processes import worker


class Databases:
    """Hands out databases with the application's tables in them; copying one is quicker than migrating each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._template = folder / "template.sqlite3"
        with worker(f"sqlite:///{self._template}") as migrating:
            migrating.ask("database:migrate")

    def new(self, name: str) -> str:
        """Return the URL of a new SQLite database."""
        path = self._folder / f"{name}.sqlite3"
        shutil.copyfile(self._template, path)
        return f"sqlite:///{path}"


@contextmanager
def databases() -> Iterator[Databases]:
    """Keep the databases of a run in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="mcp-oauth-bench-") as folder:
        yield Databases(Path(folder))


def postgres_url() -> str:
    """Return the URL of the PostgreSQL server that ``DATABASE_URL`` names, or nothing."""
    url = os.environ.get("DATABASE_URL", "")
    return url if url.startswith(("postgres://", "postgresql://")) else ""


@contextmanager
def on_postgres(count: int) -> Iterator[list[str]]:
    """Make so many databases on the server that ``DATABASE_URL`` names, beside the one it names; yields their URLs."""
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


def migrate() -> None:
    """Make the tables of an empty database."""
    call_command("migrate", verbosity=0)
