"""What every measurement of a run shares: the same servers, and databases of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.bench.database import Databases


@dataclass(frozen=True)
class Stage:
    """The addresses of the servers by kind, and where databases come from."""

    peers: dict[str, Any]
    databases: Databases
