"""What every test shares: the servers, and a loud word about whatever cannot run here."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Iterator

import hypothesis
import pytest
from django.conf import settings
from django.core.cache import caches
from django.utils import translation

from tests.availability import MISSING

pytest_plugins = ["tests.servers.fixtures", "tests.canary", "tests.team"]

# No example fails for taking long on a busy machine; where a failure stops a change, the examples are always the same.
hypothesis.settings.register_profile(
    "here",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=os.environ.get("MCP_OAUTH_TEST_REQUIRE_ALL", "") == "1",
)
hypothesis.settings.load_profile("here")

# Which database a run uses is chosen, not found missing: the PostgreSQL tests belong to the run that names one.
CHOSEN = {"postgres"}


def require_all() -> bool:
    """Return whether a missing service is a failure, as it is in CI."""
    return os.environ.get("MCP_OAUTH_TEST_REQUIRE_ALL", "") == "1"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or under ``MCP_OAUTH_TEST_REQUIRE_ALL=1`` fail, a test whose service is missing."""
    for name, missing in MISSING.items():
        if item.get_closest_marker(name) is None:
            continue
        reason = missing()
        if reason and require_all() and name not in CHOSEN:
            pytest.fail(f"[{name}] {reason}", pytrace=False)
        if reason:
            pytest.skip(f"[{name}] {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end, where it is read, how many tests did not run and why."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple)
    )
    if not reasons:
        return
    terminalreporter.section("NOT RUN", yellow=True, bold=True)
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count} test{'s' if count > 1 else ''} not run: {reason}", yellow=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, the loop the application uses."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_language_left_over() -> Iterator[None]:
    """Let no test speak the language in which the one before asked for a page."""
    yield
    translation.deactivate()


@pytest.fixture(autouse=True)
def _own_cache_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test its own keys in the cache, which outlives it: in Redis, and in this process's memory too."""
    prefix = f"test-{uuid.uuid4().hex}"
    # Threads and processes that the test starts read these two; this thread's cache exists already.
    monkeypatch.setitem(settings.CACHES["default"], "KEY_PREFIX", prefix)
    monkeypatch.setenv("MCP_OAUTH_TEST_CACHE_PREFIX", prefix)
    monkeypatch.setattr(caches["default"], "key_prefix", prefix)
