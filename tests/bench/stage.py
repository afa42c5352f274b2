"""What every measurement of a run shares: the same servers; and where each gets a process and a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import copyfile
from typing import Any

from tests.bench.processes import Worker, worker


class Stage:
    """The addresses of the servers by kind, and processes that measure, each on a new SQLite database in a folder.

    With ``shared`` they are one process and one database, which is quicker and measures nothing well.
    """

    def __init__(self, peers: dict[str, Any], folder: Path, stack: ExitStack, *, shared: bool) -> None:
        self.peers = peers
        self._template = folder / "template.sqlite3"
        self._stack = stack
        self._shared = self._stack.enter_context(_migrated(self._template)) if shared else None

    @contextmanager
    def worker(self, name: str) -> Iterator[Worker]:
        """Run a process that measures; ``name`` names its database."""
        if self._shared is not None:
            yield self._shared
            return
        if not self._template.exists():
            with _migrated(self._template):
                pass
        # Copying a database is quicker than migrating each.
        path = self._template.with_name(f"{name}.sqlite3")
        copyfile(self._template, path)
        with worker(f"sqlite:///{path}") as measuring:
            yield measuring


@contextmanager
def _migrated(path: Path) -> Iterator[Worker]:
    with worker(f"sqlite:///{path}") as migrating:
        migrating.ask("database:migrate")
        yield migrating
