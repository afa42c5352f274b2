"""A person at a real browser: what they press, and what the browser complained about meanwhile."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth.models import User
from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Locator, Page, Response, WebError, expect

from mcp_oauth.models import McpServer, McpServerOAuth, Workspace
from tests.people import browser_of, connect
from tests.servers import Person

# A page that asks a server answers within this, even on a busy machine.
PATIENCE_MS = 20_000
DESKTOP = (1180, 900)
PHONE = (390, 844)

# What the browser says of a violated policy, besides its own line in the console.
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""


@dataclass
class Complaints:
    """Errors and dialogs of the application's own pages; those of the peers are not ours to judge."""

    base_url: str
    lines: list[str] = field(default_factory=list)
    _may_refuse: set[str] = field(default_factory=set)

    def attach(self, context: BrowserContext) -> None:
        """Listen to every page the browser opens from now on."""
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("response", self._response)
        context.on("dialog", self._dialog)

    def may_refuse(self, path: str) -> None:
        """Expect an answer of 400 or more to the pages' own requests to this path."""
        self._may_refuse.add(f"{self.base_url}{path}")

    def assert_none(self) -> None:
        """Fail with everything that was said."""
        assert not self.lines, "\n".join(self.lines)

    def _response(self, response: Response) -> None:
        if response.request.is_navigation_request():
            self._may_refuse.add(response.url)

    def _console(self, message: ConsoleMessage) -> None:
        where = message.location.get("url", "") or (message.page.url if message.page else "")
        if message.type not in {"error", "warning"} or not where.startswith((self.base_url, "about:")):
            return
        # A page that says no with its status is an answer, not a fault of the page.
        if where in self._may_refuse and "Failed to load resource" in message.text:
            return
        self.lines.append(f"{message.type}: {message.text} ({where})")

    def _dialog(self, dialog: Dialog) -> None:
        self.lines.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _error(self, error: WebError) -> None:
        self.lines.append(f"exception: {error.error}")


@dataclass
class Reader:
    """Somebody signed in, with a browser of their own."""

    context: BrowserContext
    page: Page
    base_url: str
    user: User
    workspace: Workspace
    complaints: Complaints

    def open(self, path: str) -> Page:
        """Open one of the application's pages."""
        self.page.goto(f"{self.base_url}{path}")
        return self.page

    def settings(self) -> Page:
        """Open the connections page."""
        return self.open(f"/workspaces/{self.workspace.slug}/mcp/")

    def server_path(self, server: McpServer, tail: str = "") -> str:
        """Return the path of a server's page."""
        return f"/workspaces/{self.workspace.slug}/mcp/{server.pk}/{tail}"

    def card(self, server: McpServer) -> Locator:
        """Return a server's row."""
        return self.page.locator(f"#server-{server.pk}")


def sign_in(context: BrowserContext, base_url: str, user: User) -> None:
    """Put the cookie of a signed-in session into the browser."""
    name = settings.SESSION_COOKIE_NAME
    context.add_cookies([{"name": name, "value": browser_of(user).cookies[name].value, "url": base_url}])


def press_connect(reader: Reader, server: McpServer, label: str = "Connect with OAuth") -> Page:
    """Press Connect on a card; returns the window that opens."""
    with reader.page.expect_popup() as opened:
        reader.card(server).get_by_role("button", name=label).click()
    return opened.value


def answer(window: Page, *, name: str = "ada", decision: str = "Allow") -> None:
    """Sign in at the authorization server if it asks, and decide."""
    username = window.get_by_label("User name")
    button = window.get_by_role("button", name=decision, exact=True)
    expect(username.or_(button)).to_be_visible()
    if username.is_visible():
        username.fill(name)
        window.get_by_label("Password").fill(name)
        window.get_by_role("button", name="Sign in").click()
    expect(button).to_be_visible()
    # The window may close while the click still waits for the page behind it.
    button.click(no_wait_after=True)


def closed(window: Page) -> None:
    """Wait until a window has closed itself."""
    if not window.is_closed():
        window.wait_for_event("close")


def at_the_authorization_server(window: Page, server_url: str) -> None:
    """Wait until the window shows the server's own sign-in page."""
    host = re.escape(urlsplit(server_url).netloc)
    expect(window).to_have_url(re.compile(f"^http://{host}/"))


def assert_accessible(page: Page, what: str) -> None:
    """Fail with what axe finds, and where."""
    results = Axe().run(page)
    found = [
        f"{what}: {violation['id']} ({violation['impact']}): {violation['help']}\n    "
        + "\n    ".join(
            f"{node['html'][:300]} {node['any'][0]['message'] if node['any'] else ''}"
            for node in violation["nodes"][:5]
        )
        for violation in results.response["violations"]
    ]
    assert not found, "\n".join(found)


def connected_through_the_views(user: User, server: McpServer, person: Person) -> McpServerOAuth:
    """Connect an account without a browser, where connecting is not what a test is about."""
    return connect(browser_of(user), server, person)


def focus_by_tab(page: Page, name: str) -> None:
    """Press Tab until the element of that accessible name has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText?.replace(/\\s+/g, ' ').trim()") == name:
            return
    raise AssertionError(f"Tab never reaches {name}.")


def assert_fits(page: Page, what: str) -> None:
    """Fail when a page is wider than its window, naming what sticks out."""
    wide: list[str] = page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll("body *")]
        .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
        .map((element) => element.outerHTML.slice(0, 160))"""
    )
    assert not wide, f"{what}: {wide[:5]}"
