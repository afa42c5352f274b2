"""What the tests over several processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.scale.processes import Worker, running_worker


@pytest.fixture
def workers(request: pytest.FixtureRequest) -> Iterator[Callable[..., list[Worker]]]:
    """Start processes that are ready for the module's commands: ``workers(2, REFRESH_LEASE_SECONDS=1)``."""
    module = request.module.__name__
    with ExitStack() as stack:

        def start(count: int, **settings: Any) -> list[Worker]:
            started = [stack.enter_context(running_worker(module, settings)) for _ in range(count)]
            for worker in started:
                worker.order("ready")
            assert all(worker.answer() is True for worker in started)
            return started

        yield start
