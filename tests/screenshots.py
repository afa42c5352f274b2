"""Takes the pictures of the documentation from a running demonstration: ``python -m tests.screenshots BASE_URL``.

Works in workspaces of its own and removes them again. The servers, the connection and the answers are real; only
states that take long to arrive, such as an access that ended or two hundred servers, are written into the rows.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import django
from mcp.server.mcpserver import MCPServer
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect, sync_playwright

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
# Playwright keeps an event loop in this thread while it runs; the rows are still used by one thread alone.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
django.setup()

from django.contrib.auth.models import User  # noqa: E402  (models exist once Django is set up)
from django.utils import timezone  # noqa: E402

from mcp_oauth.models import McpServer, McpServerOAuth, Membership, StoredListing, Workspace  # noqa: E402
from mcp_oauth.services.server_settings import ServerSettings  # noqa: E402
from mcp_oauth.services.servers import add_server, probe_again  # noqa: E402
from project.demo.content import servers_of_the_demonstration  # noqa: E402
from tests.availability import CHROMIUM_ARGUMENTS, chromium_path  # noqa: E402
from tests.pictures import with_few_colours  # noqa: E402
from tests.servers.conversing import Conversation  # noqa: E402
from tests.servers.mcp import open_mcp_server  # noqa: E402
from tests.servers.showing import add_showing_tools  # noqa: E402
from tests.web.happened import write_activity  # noqa: E402
from tests.web.states import write_every_state  # noqa: E402

Scheme = Literal["light", "dark"]

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
PATIENCE_MS = 30_000
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}
PERSON = "maya"

PRODUCTS = (
    *("Calendar", "Contracts", "Customer records", "Data warehouse", "Deployments", "Documents", "Error reports"),
    *("Expenses", "Feature flags", "Forecasts", "Incidents", "Inventory", "Invoices", "Mail", "Meeting rooms"),
    *("Metrics", "On-call", "Payments", "Recruiting", "Releases", "Reports", "Search", "Support", "Surveys", "Wiki"),
)
PLACES = ("Berlin", "Lagos", "Lima", "London", "Oslo", "Pune", "Seoul", "Toronto")
MINE = {
    "linear": {"type": "http", "url": "https://mcp.linear.app/mcp"},
    "wiki": {"url": "https://wiki.example.com/mcp", "headers": {"Authorization": "Bearer ${WIKI_TOKEN}"}},
    "files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem"]},
}
LONG_NAMES = (
    (
        "Electronic laboratory notebooks and reagent inventory of the department of physical chemistry, second floor",
        "https://electronic-laboratory-notebooks-and-reagent-inventory.physical-chemistry.department.example.org/mcp",
    ),
    (
        "internal_reporting_gateway_for_quarterly_figures_and_forecasts_v2_production_eu_central_1_blue",
        "https://reporting.example.com/services/quarterly/figures/and/forecasts/production/eu-central-1/v2/mcp",
    ),
    ("Übersetzungsdienst für Verträge und Allgemeine Geschäftsbedingungen", "https://übersetzung.example.de/mcp"),
    ("خدمة الترجمة", "https://translate.example.ae/mcp"),
    ("A", "https://a.example/mcp"),
)


class Studio:
    """One signed-in person, photographed in browsers of every kind."""

    def __init__(self, browser: Browser, base_url: str) -> None:
        self.browser = browser
        self.base_url = base_url
        self._session: Any = None

    @contextmanager
    def page(
        self, *, phone: bool = False, scheme: Scheme = "light", popups: bool = True, language: str = "en"
    ) -> Iterator[Page]:
        """Open a page in a browser profile of its own."""
        context = self.browser.new_context(
            viewport=PHONE if phone else DESKTOP,
            color_scheme=scheme,
            device_scale_factor=1,
            storage_state=self._session,
            reduced_motion="reduce",
            locale=language,
        )
        context.set_default_timeout(PATIENCE_MS)
        if not popups:
            context.add_init_script("window.open = () => null;")
        page = context.new_page()
        # The font of the pages is used where a browser has it already: here it gets it.
        page.goto(f"{self.base_url}/styleguide/")
        try:
            yield page
        finally:
            context.close()

    def sign_in(self) -> None:
        """Sign in through the login page and keep the session for every later picture."""
        with self.page() as page:
            page.goto(f"{self.base_url}/accounts/login/")
            page.get_by_label("Username").fill(PERSON)
            page.get_by_label("Password").fill(PERSON)
            self.keep(page, "login")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("heading", name="Connections")).to_be_visible()
            self._session = page.context.storage_state()

    def take(self, name: str, path: str, *, phone: bool = False, scheme: Scheme = "light", whole: bool = True) -> None:
        """Open a path and keep its picture."""
        with self.page(phone=phone, scheme=scheme) as page:
            page.goto(f"{self.base_url}{path}")
            self.keep(page, name, whole=whole)

    def take_everywhere(self, name: str, path: str, *, whole: bool = True) -> None:
        """Take a page on the desktop and on a phone, in light and in dark."""
        schemes: tuple[Scheme, ...] = ("light", "dark")
        for scheme in schemes:
            self.take(f"{name}-desktop-{scheme}", path, scheme=scheme, whole=whole)
            self.take(f"{name}-phone-{scheme}", path, scheme=scheme, phone=True, whole=whole)

    def keep(self, page: Page, name: str, *, whole: bool = True) -> None:
        """Write the picture of an open page."""
        path = FOLDER / f"{name}.png"
        size = page.viewport_size or DESKTOP
        if whole:  # a taller window and not a longer picture: what sticks to the window's edges stays at its place
            height = page.evaluate("document.documentElement.scrollHeight")
            page.set_viewport_size({"width": size["width"], "height": max(size["height"], height)})
            page.evaluate("scrollTo(0, 0)")
        path.write_bytes(with_few_colours(page.screenshot(caret="hide")))
        page.set_viewport_size(size)
        print(f"  ✓ {path.name} ({path.stat().st_size // 1024} KB)", flush=True)


def acme(studio: Studio, maya: User, port: int) -> None:
    """Show a workspace from its first day: empty, four servers, connecting, using, and what goes wrong."""
    workspace = _workspace("acme-research", "Acme Research", maya)
    home = f"/workspaces/{workspace.slug}/mcp/"
    studio.sign_in()
    studio.take_everywhere("settings-empty", home)
    wanted = servers_of_the_demonstration(port)
    with studio.page() as page:
        page.goto(f"{studio.base_url}{home}add/")
        studio.keep(page, "add")
        page.get_by_label("Address").fill("http://tracker.example.com/mcp")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("alert")).to_be_visible()
        studio.keep(page, "add-error")
        page.get_by_label("Address").fill(wanted[0].url)
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("button", name="Add and connect")).to_be_visible()
        studio.keep(page, "add-found")
    studio.take("add-phone-dark", f"{home}add/", phone=True, scheme="dark", whole=False)

    tracker, notes, board, clock = (add_server(workspace, settings) for settings in wanted)
    _connect(studio, home, tracker, notes)
    for server in (board, clock):
        with studio.page() as page:  # lists the tools
            page.goto(f"{studio.base_url}{home}{server.pk}/")
    studio.take_everywhere("settings-four-servers", home)
    studio.take("server-page", f"{home}{tracker.pk}/#tool-list_issues")
    studio.take("server-page-phone", f"{home}{tracker.pk}/#tool-list_issues", phone=True)
    _run(studio, f"{home}{tracker.pk}/")
    _want_more(studio, home, tracker)
    probe_again(tracker)
    with studio.page() as page:
        page.goto(f"{studio.base_url}{home}{tracker.pk}/diagnose/")
        page.get_by_role("button", name="Diagnose", exact=True).last.click()
        page.wait_for_load_state("networkidle")
        studio.keep(page, "diagnose")
    others: tuple[tuple[str, bool, Scheme], ...] = (("diagnose-phone", True, "light"), ("diagnose-dark", False, "dark"))
    for name, phone, scheme in others:
        with studio.page(phone=phone, scheme=scheme) as page:
            page.goto(f"{studio.base_url}{home}{tracker.pk}/diagnose/")
            page.get_by_role("button", name="Diagnose", exact=True).last.click()
            page.wait_for_load_state("networkidle")
            studio.keep(page, name, whole=phone)
    studio.take("edit-form", f"{home}{notes.pk}/edit/")
    studio.take("delete", f"{home}{tracker.pk}/delete/")

    now = timezone.now()
    McpServerOAuth.objects.filter(server=tracker).update(
        state=McpServerOAuth.State.NEEDS_REAUTHORIZATION, reason="refused", reason_at=now - timedelta(minutes=12)
    )
    McpServer.objects.filter(pk=board.pk).update(
        reachable=False,
        contact_error=f"{board.url} cannot be reached: the connection failed.",
        contacted_at=now - timedelta(minutes=4),
    )
    McpServer.objects.filter(pk=tracker.pk).update(contacted_at=now - timedelta(minutes=12))
    StoredListing.objects.filter(server__in=[tracker, board]).update(fetched_at=now - timedelta(minutes=50))
    with studio.page() as page:  # leaves one flow open
        page.goto(f"{studio.base_url}{home}")
        with page.expect_popup():
            page.locator(f"#connect-{notes.pk}").click()
        expect(page.locator(f"#cancel-{notes.pk}")).to_be_visible()
    studio.take_everywhere("settings-needs-reconnecting", home)
    studio.take("server-needs-reconnecting", f"{home}{tracker.pk}/")

    McpServer.objects.filter(pk=board.pk).update(url=f"http://127.0.0.1:{port + 90}/mcp")
    StoredListing.objects.filter(server=board).update(fetched_at=now - timedelta(minutes=50))
    studio.take("server-unreachable", f"{home}{board.pk}/")


def _connect(studio: Studio, home: str, tracker: McpServer, notes: McpServer) -> None:
    """Connect the tracker in a tab, seeing every page on the way, and refuse the notes."""
    with studio.page(popups=False) as page:
        page.goto(f"{studio.base_url}{home}")
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(tracker.url))
        onward: list[str] = []

        def hold(route: Route) -> None:
            onward.append(route.request.url)
            route.abort()

        page.route(f"{origin}/**", hold)
        page.locator(f"#connect-{tracker.pk}").click()
        expect(page.get_by_role("link", name="Continue")).to_be_visible()
        destination = page.get_by_role("link", name="Continue").get_attribute("href")
        studio.keep(page, "leaving")
        page.unroute(f"{origin}/**")
        page.goto(destination or "")
        page.get_by_label("User name").fill("ada")
        page.get_by_label("Password").fill("ada")
        studio.keep(page, "peer-sign-in")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("button", name="Allow", exact=True)).to_be_visible()
        studio.keep(page, "consent")
        page.get_by_role("button", name="Allow", exact=True).click()
        expect(page.get_by_role("heading", name="You are connected")).to_be_visible()
        studio.keep(page, "callback-connected")
        page.get_by_role("link", name="Back to connections").click()
        expect(page.locator(f"#server-{tracker.pk}")).to_contain_text(re.compile(r"\d+ tools"))

        page.locator(f"#connect-{notes.pk}").click()
        page.get_by_label("User name").fill("ada")
        page.get_by_label("Password").fill("ada")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Deny", exact=True).click()
        expect(page.get_by_role("heading", name="Not connected")).to_be_visible()
        studio.keep(page, "callback-refused")


def _run(studio: Studio, server_path: str) -> None:
    for name, arguments, phone in (
        ("run-result", '{"status": "open", "limit": 2}', False),
        ("run-result-phone", '{"status": "open", "limit": 2}', True),
        ("run-bad-json", '{"status": open}', False),
    ):
        with studio.page(phone=phone) as page:
            page.goto(f"{studio.base_url}{server_path}run/?tool=list_issues&as=json")
            page.get_by_label("Arguments, as JSON").fill(arguments)
            page.locator("[data-run]").click()
            expect(page.locator("#answer").or_(page.get_by_role("alert")).first).to_be_visible()
            studio.keep(page, name)


def _want_more(studio: Studio, home: str, tracker: McpServer) -> None:
    """Show a tool that asks for more than was granted, and decline it."""
    with studio.page() as page:
        page.goto(f"{studio.base_url}{home}{tracker.pk}/run/?tool=close_issue")
        page.get_by_label("Number").fill("1")
        page.locator("[data-run]").click()
        expect(page.get_by_role("button", name="Authorize and continue")).to_be_visible()
        studio.keep(page, "run-wants-more-access")
    studio.take_everywhere("settings-wants-more-access", home)
    with studio.page() as page:
        page.goto(f"{studio.base_url}{home}")
        page.get_by_role("button", name="Not now").click()
        expect(page.get_by_role("button", name="Not now")).to_have_count(0)


def travel(studio: Studio, maya: User) -> None:
    """Show forms and answers of every kind, at a server that is all of them."""
    workspace = _workspace("wanderlust", "Wanderlust", maya)
    home = f"/workspaces/{workspace.slug}/mcp/"
    talk = Conversation()

    def add_tools(server: MCPServer[Any]) -> None:
        add_showing_tools(server)
        talk.register(server)

    with open_mcp_server(tools=add_tools) as peer:
        server = add_server(workspace, ServerSettings(name="Travel", url=peer.url))
        path = f"{studio.base_url}{home}{server.pk}/"
        with studio.page() as page:  # lists the tools
            page.goto(path)
        studio.take_everywhere("tools", f"{home}tools/")
        studio.take_everywhere("run-form", f"{home}{server.pk}/run/?tool=plan_journey")
        kinds: tuple[tuple[str, bool, Scheme], ...] = (("desktop-light", False, "light"), ("phone-dark", True, "dark"))
        for kind, phone, scheme in kinds:
            with studio.page(phone=phone, scheme=scheme) as page:
                page.goto(f"{path}run/?tool=plan_journey")
                page.get_by_role("button", name="Add Guests").click()
                page.get_by_role("group", name="Guest 1").get_by_label("Age").fill("37")
                page.locator("#run").evaluate("form => { form.noValidate = true; }")
                page.locator("[data-run]").click()
                expect(page.get_by_role("alert")).to_be_visible()
                studio.keep(page, f"run-errors-{kind}")
                for tool in ("show_everything", "list_legs"):
                    page.goto(f"{path}run/?tool={tool}")
                    page.locator("[data-run]").click()
                    expect(page.locator("#answer")).to_be_visible()
                    studio.keep(page, f"run-{tool.replace('_', '-')}-{kind}")
                page.goto(f"{path}run/?tool=book_table")
                page.get_by_label("Day").fill("friday")
                page.locator("[data-run]").click()
                expect(page.get_by_text("Who comes on friday?")).to_be_visible()
                studio.keep(page, f"run-question-{kind}")


def northwind(studio: Studio, maya: User) -> None:
    """Show two hundred servers."""
    workspace = _workspace("northwind", "Northwind", maya)
    now = timezone.now()
    servers = [
        McpServer(
            workspace=workspace,
            name=f"{product} {place}",
            slug=f"{product} {place}".lower().replace(" ", "-"),
            url=f"https://{product.lower().replace(' ', '-')}.{place.lower()}.northwind.example/mcp",
            auth_mode=McpServer.AuthMode.OAUTH,
            reachable=True,
            contacted_at=now - timedelta(minutes=number % 50),
        )
        for number, (product, place) in enumerate((product, place) for product in PRODUCTS for place in PLACES)
    ]
    McpServer.objects.bulk_create(servers)
    for number, server in enumerate(servers[::4]):
        grant = McpServerOAuth(
            server=server,
            user=maya,
            access_token="unused",
            refresh_token="unused",
            issuer=server.url,
            connected_at=now - timedelta(days=number % 9, hours=1),
        )
        if number % 17 == 3:
            grant.state = McpServerOAuth.State.NEEDS_REAUTHORIZATION
            grant.reason, grant.reason_at = "refused", now - timedelta(hours=number)
        grant.save()
        StoredListing.objects.create(
            server=server,
            user=maya,
            server_generation=1,
            grant_id=grant.pk,
            entry_count=3 + number % 20,
            fetched_at=now - timedelta(hours=2),
        )
    studio.take("settings-200-servers", f"/workspaces/{workspace.slug}/mcp/", whole=False)
    with studio.page() as page:
        page.goto(f"{studio.base_url}/workspaces/{workspace.slug}/mcp/")
        page.get_by_label("Search servers").fill("oslo")
        studio.keep(page, "settings-200-servers-search", whole=False)


def every_state(studio: Studio, maya: User) -> None:
    """Show every state a server can be in, every component, and the pages where something is not there."""
    workspace = _workspace("initech", "Initech", maya)
    write_every_state(workspace, maya)
    home = f"/workspaces/{workspace.slug}/mcp/"
    studio.take_everywhere("settings-every-state", home)
    with studio.page() as page:
        page.goto(f"{studio.base_url}{home}")
        page.locator(".server", has_text="Atlassian").locator("summary").click()
        studio.keep(page, "settings-menu", whole=False)
    studio.take("styleguide", "/styleguide/")
    studio.take("not-found", "/nowhere/")
    studio.take("not-found-phone-dark", "/nowhere/", phone=True, scheme="dark")


def activity(studio: Studio, maya: User) -> None:
    """Show what happened in a workspace: nothing yet, a week of two people as each of them sees it, and too narrow."""
    workspace = _workspace("stark-labs", "Stark Labs", maya)
    path = f"/workspaces/{workspace.slug}/mcp/activity/"
    studio.take_everywhere("activity-empty", path)
    other = User.objects.create_user("lin", password=PERSON)
    colleague = Membership.objects.create(workspace=workspace, user=other, role=Membership.Role.ADMIN)
    try:
        write_activity(write_every_state(workspace, maya), maya, other)
        studio.take_everywhere("activity-admin", path, whole=False)
        studio.take_everywhere("activity-nothing", f"{path}?kind=calls&outcome=running")
        Membership.objects.filter(workspace=workspace, user=maya).update(role=Membership.Role.MEMBER)
        studio.take_everywhere("activity-member", path, whole=False)
    finally:
        colleague.delete()
        other.delete()


def people(studio: Studio, maya: User) -> None:
    """Show what belongs to people: members, their account, their tokens, what they bring along, and their languages."""
    workspace = _workspace("umbrella", "Umbrella", maya)
    servers = write_every_state(workspace, maya)
    other = User.objects.create_user("lin", password=PERSON, first_name="Lin", last_name="Adeyemi")
    colleague = Membership.objects.create(workspace=workspace, user=other, role=Membership.Role.MEMBER)
    home = f"/workspaces/{workspace.slug}/mcp/"
    try:
        studio.take_everywhere("members", f"/workspaces/{workspace.slug}/members/")
        studio.take("member-remove", f"/workspaces/{workspace.slug}/members/{colleague.pk}/remove/")
        studio.take_everywhere("account", "/account/")
        studio.take("account-disconnect", "/account/disconnect/")
        studio.take("export", f"{home}export/")
        studio.take("waiting", f"{home}{servers['Notion'].pk}/waiting/")
        studio.take("api-reference", "/api/v1/docs/", whole=False)
        with studio.page() as page:
            page.goto(f"{studio.base_url}/account/tokens/")
            studio.keep(page, "tokens")
            page.goto(f"{studio.base_url}{home}import/")
            page.get_by_role("textbox").last.fill(json.dumps({"mcpServers": MINE}, indent=2))
            studio.keep(page, "import")
            page.get_by_role("button", name="Continue").click()
            expect(page.get_by_role("checkbox").first).to_be_visible()
            studio.keep(page, "import-choose")
        for language in ("de", "es"):
            with studio.page(language=language) as page:
                page.goto(f"{studio.base_url}{home}")
                studio.keep(page, f"settings-{language}")
    finally:
        colleague.delete()
        other.delete()


def long_names(studio: Studio, maya: User) -> None:
    """Show names and addresses that are longer, shorter and of other scripts than one would draw them."""
    workspace = _workspace("physical-chemistry", "Department of Physical Chemistry and Materials", maya)
    now = timezone.now()
    for number, (name, url) in enumerate(LONG_NAMES):
        server = McpServer.objects.create(
            workspace=workspace,
            name=name,
            slug=f"server-{number}",
            url=url,
            auth_mode=McpServer.AuthMode.OAUTH,
            reachable=number % 2 == 0,
            contact_error="" if number % 2 == 0 else "The name of the host could not be resolved.",
            contacted_at=now - timedelta(minutes=3 * number),
        )
        if number < 3:
            McpServerOAuth.objects.create(
                server=server,
                user=maya,
                access_token="unused",
                refresh_token="unused",
                issuer=url,
                connected_at=now - timedelta(days=2),
                state="active" if number else "needs_reauthorization",
                reason="" if number else "refused",
                reason_at=None if number else now - timedelta(minutes=12),
            )
    studio.take("long-names", f"/workspaces/{workspace.slug}/mcp/")
    studio.take("long-names-phone", f"/workspaces/{workspace.slug}/mcp/", phone=True)


def _workspace(slug: str, name: str, maya: User) -> Workspace:
    workspace = Workspace.objects.create(slug=slug, name=name)
    Membership.objects.create(workspace=workspace, user=maya, role=Membership.Role.ADMIN)
    return workspace


def _clear() -> None:
    Workspace.objects.filter(members__username=PERSON).delete()
    User.objects.filter(username=PERSON).delete()


def main() -> int:
    """Take every picture and return the exit code."""
    base_url = sys.argv[1].rstrip("/")
    port = urlsplit(base_url).port or 80
    executable = chromium_path()
    if executable is None:
        print("No Chromium found: install it, or set CHROMIUM to its path.", file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    _clear()
    maya = User.objects.create_user(PERSON, password=PERSON)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
            studio = Studio(browser, base_url)
            acme(studio, maya, port)
            travel(studio, maya)
            # Before the sixty connections of a large company, which an account would list as well.
            people(studio, maya)
            northwind(studio, maya)
            every_state(studio, maya)
            activity(studio, maya)
            long_names(studio, maya)
            browser.close()
    finally:
        _clear()
    return 0


if __name__ == "__main__":
    sys.exit(main())
