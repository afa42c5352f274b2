"""Chromium for the tests that need one: started once per module, a fresh profile for every reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from mcp_oauth.models import Membership, Workspace
from tests.availability import CHROMIUM_ARGUMENTS, chromium_path
from tests.people import member, new_workspace
from tests.web.browser import DESKTOP, PATIENCE_MS, Complaints, Reader, sign_in

OpenBrowser = Callable[..., Reader]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start Chromium for the tests of one module."""
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright keeps an event loop in this thread while it runs; the rows are still used by one thread alone.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        expect.set_options(timeout=PATIENCE_MS)
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def site(live_server: LiveServer, settings: Settings) -> str:
    """Serve the application and make it know its own address; returns that address."""
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "PUBLIC_URL": live_server.url}
    return str(live_server.url)


@pytest.fixture
def open_browser(chromium: Browser, site: str) -> Iterator[OpenBrowser]:
    """Sign a person in: ``open_browser(workspace, user, viewport=…, **context options)``.

    At the end of the test the pages must have raised no error, reported no violation and opened no dialog.
    """
    opened: list[Complaints] = []
    with ExitStack() as stack:

        def enter(
            workspace: Workspace | None = None,
            user: Any = None,
            *,
            viewport: tuple[int, int] = DESKTOP,
            role: Membership.Role = Membership.Role.ADMIN,
            signed_in: bool = True,
            **options: Any,
        ) -> Reader:
            workspace = workspace or new_workspace()
            user = user or member(workspace, role=role)
            context = chromium.new_context(viewport={"width": viewport[0], "height": viewport[1]}, **options)
            stack.callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            complaints = Complaints(site)
            complaints.attach(context)
            opened.append(complaints)
            if signed_in:
                sign_in(context, site, user)
            return Reader(context, context.new_page(), site, user, workspace, complaints)

        yield enter
        for complaints in opened:
            complaints.assert_none()


@pytest.fixture
def reader(open_browser: OpenBrowser) -> Reader:
    """Return an administrator of a new workspace, at a desktop browser."""
    return open_browser()
