"""Every page in a real browser: running tools, hostile words, the keyboard, and what axe and the console say."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import pytest
from django.utils import timezone
from mcp.server.mcpserver import MCPServer
from playwright.sync_api import expect

from mcp_oauth import list_tools
from mcp_oauth.models import McpServer, McpServerOAuth, Membership, StoredListing, Workspace
from tests.caching import empty_cache
from tests.people import member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, HeaderServer, OddServer, OpenServer, Person, ProtectedServer
from tests.web.browser import (
    DESKTOP,
    PHONE,
    Reader,
    answer,
    assert_accessible,
    assert_fits,
    closed,
    connected_through_the_views,
    focus_by_tab,
    press_connect,
)
from tests.web.conftest import OpenBrowser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Scheme = Literal["light", "dark"]
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
NOBODY = "http://127.0.0.1:9/mcp"  # nothing listens on the discard port
SCRIPT = "<script>alert('tool')</script><img src=x onerror=alert(1)>"


@pytest.fixture
def connected(
    reader: Reader, protected_mcp_server: Callable[..., ProtectedServer], person: Callable[[str], Person]
) -> tuple[Reader, McpServer]:
    """Return a reader and a server they are connected to."""
    server = new_server(reader.workspace, protected_mcp_server().url)
    connected_through_the_views(reader.user, server, person("ada"))
    list_tools(server, reader.user)
    return reader, server


def test_these_tests_would_notice_a_fault(reader: Reader) -> None:
    page = reader.settings()
    page.evaluate(
        """() => {
          const bad = document.createElement("div");
          bad.innerHTML = "<style>p {}</style><input><img src='https://example.com/x.png'>";
          document.body.append(bad);
          setTimeout(() => { throw new Error("on purpose"); });
        }"""
    )

    with pytest.raises(AssertionError, match="label"):
        assert_accessible(page, "a field without a label")
    with pytest.raises(AssertionError) as complaint:
        reader.complaints.assert_none()
    for fault in ("CSP: style-src", "CSP: img-src", "on purpose"):
        assert fault in str(complaint.value), complaint.value
    reader.complaints.lines.clear()


def test_signing_in_leads_to_where_one_wanted_to_go(open_browser: OpenBrowser) -> None:
    reader = open_browser(signed_in=False)
    page = reader.settings()

    expect(page).to_have_title("Sign in")
    page.get_by_label("Username").fill(reader.user.get_username())
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert_accessible(page, "login with an error")
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("heading", name="Connections")).to_be_visible()
    page.locator("#account > summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_title("Sign in")


def test_a_tool_runs_with_json_arguments_and_shows_its_result(connected: tuple[Reader, McpServer]) -> None:
    reader, server = connected
    page = reader.open(reader.server_path(server))

    page.get_by_role("link", name="Run add").click()
    page.get_by_label("A", exact=True).fill("20")
    page.get_by_role("button", name="Edit as JSON").click()
    arguments = page.get_by_label("Arguments, as JSON")
    expect(arguments).to_have_value('{\n  "a": 20\n}')
    arguments.fill('{"a": 20, "b": 22}')
    page.get_by_role("button", name="Run add").click()

    expect(page.get_by_role("heading", name=re.compile("^Answer"))).to_be_visible()
    expect(page.locator("#text-1")).to_contain_text('"total": 42')
    page.get_by_text("Structured answer").click()
    expect(page.get_by_role("region", name="Structured answer", exact=True)).to_contain_text('"total": 42')
    expect(page.get_by_label("Arguments, as JSON")).to_have_value('{"a": 20, "b": 22}')
    page.get_by_role("link", name="Back to the tools").click()
    expect(page.locator("#tool-add")).to_have_attribute("open", "")


def test_an_error_of_the_tool_is_shown_as_such(connected: tuple[Reader, McpServer]) -> None:
    reader, server = connected
    page = reader.open(reader.server_path(server, "run/?tool=fail"))

    page.get_by_label("Reason").fill("The moon is full.")
    page.get_by_role("button", name="Run").click()

    expect(page.get_by_role("heading", name="The tool reports an error")).to_be_visible()
    expect(page.locator("#text-1")).to_contain_text("The moon is full.")


@pytest.mark.parametrize("typed", ['{"text": open}', "[1, 2]", '{"text": "</textarea><script>alert(1)</script>"'])
def test_arguments_that_are_no_json_object_stay_as_typed(connected: tuple[Reader, McpServer], typed: str) -> None:
    reader, server = connected
    page = reader.open(reader.server_path(server, "run/?tool=echo&as=json"))

    page.get_by_label("Arguments, as JSON").fill(typed)
    page.get_by_role("button", name="Run").click()

    expect(page.get_by_role("alert")).to_contain_text("JSON")
    expect(page.get_by_label("Arguments, as JSON")).to_have_value(typed)


def test_a_tool_is_run_with_the_keyboard_alone(connected: tuple[Reader, McpServer]) -> None:
    reader, _server = connected
    page = reader.settings()

    focus_by_tab(page, "Tools Tracker")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Tools 4")).to_be_visible()
    focus_by_tab(page, "Run echo")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Text", exact=True)).to_be_visible()
    focus_by_tab(page, "Back to the tools")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Text", exact=True)).to_be_focused()
    page.keyboard.type("typed")
    page.keyboard.press("Enter")

    expect(page.locator("#text-1")).to_have_text("typed")


def test_the_menu_opens_and_closes_with_the_keyboard(connected: tuple[Reader, McpServer]) -> None:
    reader, server = connected
    page = reader.settings()
    summary = reader.card(server).locator("summary")

    focus_by_tab(page, "More Tracker")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Diagnose")).to_be_visible()
    page.keyboard.press("Escape")

    expect(page.get_by_role("button", name="Diagnose")).to_be_hidden()
    expect(summary).to_be_focused()


def hostile_tools(server: MCPServer[Any]) -> None:
    def say(text: str = SCRIPT) -> str:
        return text + SCRIPT

    server.add_tool(say, name="say", title=SCRIPT, description=f"{SCRIPT} \u202e\u0007 {'long ' * 200}")
    server.add_tool(say, name="x" * 128, description="<svg/onload=alert(2)>")


@pytest.mark.requirement("T37")
def test_script_in_the_words_of_a_server_is_shown_as_text(
    reader: Reader, open_mcp_server: Callable[..., OpenServer]
) -> None:
    server = new_server(reader.workspace, open_mcp_server(tools=hostile_tools).url, name=f"Nasty {SCRIPT}")
    page = reader.open(reader.server_path(server))

    expect(page.locator("#tool-say .gist")).to_have_text(SCRIPT)
    page.get_by_role("link", name="Run say").click()
    page.get_by_role("button", name="Run say").click()
    expect(page.locator("#text-1")).to_have_text(SCRIPT * 2)
    page = reader.settings()
    expect(reader.card(server)).to_contain_text(SCRIPT)
    page.get_by_label("Search servers").fill("<script>alert('q')</script>")
    expect(page.locator("[data-nothing]")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Nothing here is called “<script>alert('q')</script>”.")).to_be_visible()

    assert page.locator("main script, main img, main svg:not(.icon)").count() == 0


@pytest.mark.requirement("T37")
def test_a_tool_named_like_markup_stays_a_name(connected: tuple[Reader, McpServer]) -> None:
    reader, server = connected
    tool = {"name": SCRIPT, "title": "", "description": "", "inputSchema": {"properties": {SCRIPT: {"type": SCRIPT}}}}
    # As another listing, for what was read of one is kept.
    an_hour = timezone.now() + timedelta(hours=1)
    StoredListing.objects.update(entries=[tool], entry_count=1, digest="another", fresh_until=an_hour)
    empty_cache()
    page = reader.open(reader.server_path(server))

    page.locator("details.tool > summary").click()
    expect(page.locator("details.tool > summary code")).to_have_text(SCRIPT)
    expect(page.locator(".params tbody code").first).to_have_text(SCRIPT)
    page.get_by_role("link", name="Run").click()
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#text-1")).to_contain_text(SCRIPT)


def test_searching_filters_at_once_and_survives_a_reload(reader: Reader) -> None:
    many_servers(reader.workspace, reader, 200)
    page = reader.settings()

    page.get_by_label("Search servers").fill("server 007")
    expect(page.locator("[data-server]:visible")).to_have_count(1)
    expect(page.locator("[data-group]:visible .count")).to_have_text("1")
    page.reload()
    expect(page.locator("[data-server]")).to_have_count(1)
    page.get_by_label("Search servers").fill("")
    expect(page.locator("[data-server]:visible")).to_have_count(200)


def test_a_phone_shows_every_page_without_scrolling_sideways(
    open_browser: OpenBrowser, protected_mcp_server: Callable[..., ProtectedServer], person: Callable[[str], Person]
) -> None:
    reader = open_browser(viewport=(320, 700), has_touch=True, is_mobile=True)
    server = new_server(reader.workspace, protected_mcp_server().url, name="Unbroken_" * 13)
    connected_through_the_views(reader.user, server, person("ada"))
    McpServer.objects.create(
        workspace=reader.workspace, name="Long", slug="long", url="https://" + "long." * 40 + "example.org/mcp"
    )
    page = reader.settings()
    assert_fits(page, "settings")
    for tail in ("", "run/?tool=add", "edit/", "delete/", "diagnose/"):
        page = reader.open(reader.server_path(server, tail))
        assert_fits(page, tail or "server")


@SCHEMES
def test_axe_finds_nothing_on_an_empty_workspace(open_browser: OpenBrowser, scheme: Scheme) -> None:
    reader = open_browser(color_scheme=scheme)
    assert_accessible(reader.settings(), "empty, administrator")
    ordinary = open_browser(
        reader.workspace, member(reader.workspace, role=Membership.Role.MEMBER), color_scheme=scheme
    )
    assert_accessible(ordinary.settings(), "empty, member")
    stranger = open_browser(new_workspace(), member(), color_scheme=scheme)
    assert_accessible(stranger.open("/workspaces/"), "no workspace")
    assert_accessible(stranger.open(f"/workspaces/{reader.workspace.slug}/mcp/"), "not allowed")


@SCHEMES
def test_axe_finds_nothing_where_servers_are_listed_and_used(
    open_browser: OpenBrowser,
    scheme: Scheme,
    protected_mcp_server: Callable[..., ProtectedServer],
    open_mcp_server: Callable[..., OpenServer],
    header_mcp_server: Callable[..., HeaderServer],
    person: Callable[[str], Person],
) -> None:
    reader = open_browser(color_scheme=scheme)
    tracker = new_server(reader.workspace, protected_mcp_server().url)
    connected_through_the_views(reader.user, tracker, person("ada"))
    new_server(reader.workspace, protected_mcp_server("legacy").url, name="Notes")
    new_server(reader.workspace, open_mcp_server().url, name="Clock")
    board = header_mcp_server()
    new_server(reader.workspace, board.url, name="Board", auth_mode="headers", headers={"X-Api-Key": "test-key"})

    page = reader.settings()
    assert_accessible(page, "four servers")
    reader.card(tracker).locator("summary").click()
    assert_accessible(page, "an open menu")
    page = reader.open(reader.server_path(tracker))
    assert_accessible(page, "server page")
    page.locator("#tool-add summary").first.click()
    assert_accessible(page, "an open tool")
    page.get_by_role("link", name="Run add").click()
    page.get_by_role("button", name="Edit as JSON").click()
    page.get_by_label("Arguments, as JSON").fill('{"a": 1, "b": 2}')
    page.get_by_role("button", name="Run add").click()
    expect(page.locator("#answer")).to_be_visible()
    assert_accessible(page, "result")
    page.get_by_label("Arguments, as JSON").fill("{")
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert_accessible(page, "bad JSON")
    for tail in ("diagnose/", "delete/", "edit/"):
        assert_accessible(reader.open(reader.server_path(tracker, tail)), tail)

    McpServerOAuth.objects.update(
        state="needs_reauthorization", reason="refused", reason_at=timezone.now() - timedelta(minutes=12)
    )
    McpServer.objects.filter(name="Clock").update(
        reachable=False, contact_error="It cannot be reached.", contacted_at=timezone.now() - timedelta(minutes=4)
    )
    page = reader.settings()
    assert_accessible(page, "needs reconnecting")
    assert_accessible(reader.open(reader.server_path(tracker)), "server page, needs reconnecting")


@SCHEMES
def test_axe_finds_nothing_among_two_hundred_servers(open_browser: OpenBrowser, scheme: Scheme) -> None:
    reader = open_browser(color_scheme=scheme)
    many_servers(reader.workspace, reader, 200)

    assert_accessible(reader.settings(), "200 servers")


@SCHEMES
def test_axe_finds_nothing_on_the_forms(open_browser: OpenBrowser, scheme: Scheme) -> None:
    reader = open_browser(color_scheme=scheme)
    page = reader.open(f"/workspaces/{reader.workspace.slug}/mcp/add/")
    assert_accessible(page, "add")
    reader.complaints.may_refuse(f"/workspaces/{reader.workspace.slug}/mcp/add/ask/")
    page.get_by_label("Address").fill("http://user:password@example.com/")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("password")
    assert_accessible(page, "add, with an address refused")

    server = McpServer.objects.create(
        workspace=reader.workspace, name="Tracker", slug="tracker", url="https://mcp.example.com/mcp", auth_mode="oauth"
    )
    page = reader.open(f"{reader.server_path(server)}edit/")
    for fold in page.locator("details.fold > summary").all():
        fold.click()
    assert_accessible(page, "edit, everything open")
    page.get_by_label("Name", exact=True).fill("")
    page.get_by_label("Address").fill("http://user:password@example.com/")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("Name")
    assert_accessible(page, "edit, with errors")


@SCHEMES
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE, (320, 700)], ids=["desktop", "phone", "narrow"])
def test_a_diagnosis_is_read_on_any_screen_and_axe_finds_nothing(
    open_browser: OpenBrowser,
    scheme: Scheme,
    viewport: tuple[int, int],
    protected_mcp_server: Callable[..., ProtectedServer],
) -> None:
    reader = open_browser(viewport=viewport, color_scheme=scheme)
    overrides = {"issuer": "https://" + "long." * 30 + "example", "revocation_endpoint": "http://example.com/revoke"}
    options = AuthorizationServerOptions(metadata_overrides=overrides)
    broken = new_server(reader.workspace, protected_mcp_server(as_options=options).url, name="Broken")
    options = AuthorizationServerOptions(cimd=False, dynamic_registration=False)
    by_hand = new_server(reader.workspace, protected_mcp_server(as_options=options).url, name="By hand")

    for server, words in ((broken, "tolerate_issuer_mismatch"), (by_hand, "Create an OAuth client at the provider")):
        page = reader.open(reader.server_path(server))
        page.locator(".server-head summary").click()
        page.get_by_role("button", name="Diagnose").first.click()
        expect(page.get_by_role("button", name="Diagnose again")).to_be_visible()
        expect(page.get_by_role("alert")).to_contain_text("stands in the way")
        expect(page.locator(".steps dl").get_by_text(words).first).to_be_visible()
        assert_accessible(page, server.name)
        assert_fits(page, server.name)


def test_a_diagnosis_needs_no_script(
    open_browser: OpenBrowser, protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    reader = open_browser(java_script_enabled=False)
    server = new_server(reader.workspace, protected_mcp_server().url)
    page = reader.open(reader.server_path(server, "diagnose/"))

    page.get_by_role("button", name="Diagnose", exact=True).last.click()

    expect(page.get_by_role("button", name="Diagnose again")).to_be_visible()
    expect(page.get_by_text("Nothing stands in the way")).to_be_visible()


@SCHEMES
def test_axe_finds_nothing_on_the_way_to_the_provider_and_back(
    open_browser: OpenBrowser, scheme: Scheme, protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    reader = open_browser(color_scheme=scheme)
    server = new_server(reader.workspace, protected_mcp_server().url)
    reader.context.add_init_script("window.open = () => null;")
    page = reader.settings()

    # The leaving page goes on by itself after a second; it is held there.
    page.route(re.compile("/authorize"), lambda route: route.fulfill(status=204))
    with page.expect_request(re.compile("/authorize")):
        reader.card(server).get_by_role("button", name="Connect with OAuth").click()
    onward = page.get_by_role("link", name="Continue")
    expect(onward).to_be_visible()
    destination = onward.get_attribute("href") or ""
    assert_accessible(page, "leaving")
    page.unroute_all()
    page.goto(destination)
    answer(page)
    expect(page.get_by_role("heading", name="You are connected")).to_be_visible()
    assert_accessible(page, "callback, connected")
    page.goto(page.url)  # the same answer a second time
    expect(page.get_by_role("heading", name="This was used already")).to_be_visible()
    assert_accessible(page, "callback, refused")


@SCHEMES
def test_axe_finds_nothing_on_the_login_page(open_browser: OpenBrowser, scheme: Scheme) -> None:
    reader = open_browser(signed_in=False, color_scheme=scheme)

    assert_accessible(reader.open("/accounts/login/"), "login")


@SCHEMES
def test_axe_finds_nothing_on_a_phone(
    open_browser: OpenBrowser, scheme: Scheme, odd_server: Callable[..., OddServer]
) -> None:
    reader = open_browser(viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    new_server(reader.workspace, odd_server("html").url, name="Page", auth_mode="none")
    McpServer.objects.create(workspace=reader.workspace, name="Nobody", slug="nobody", url=NOBODY, auth_mode="oauth")

    page = reader.settings()
    assert_accessible(page, "settings on a phone")
    page.get_by_role("link", name="Page", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert_accessible(page, "a server that is none")


def test_a_server_nobody_answers_for_is_told_in_the_page_and_not_only_in_the_console(reader: Reader) -> None:
    server = McpServer.objects.create(
        workspace=reader.workspace, name="Nobody", slug="nobody", url=NOBODY, auth_mode="oauth"
    )
    reader.complaints.may_refuse("/mcp/oauth/start/")
    reader.settings()

    popup = press_connect(reader, server)
    closed(popup)

    expect(reader.card(server).get_by_role("alert")).to_contain_text("cannot be reached")


def many_servers(workspace: Workspace, reader: Reader, count: int) -> None:
    """Write servers into the rows, a quarter of them connected."""
    now = timezone.now()
    servers = [
        McpServer(
            workspace=workspace,
            name=f"Server {number:03}",
            slug=f"server-{number}",
            url=f"https://s{number}.example.com/mcp",
            auth_mode="oauth",
            reachable=number % 3 > 0,
            contacted_at=now - timedelta(minutes=number),
        )
        for number in range(count)
    ]
    McpServer.objects.bulk_create(servers)
    for number, server in enumerate(servers[::4]):
        McpServerOAuth.objects.create(
            server=server,
            user=reader.user,
            access_token="never used",
            refresh_token="never used",
            issuer=server.url,
            connected_at=now - timedelta(hours=number),
            state="needs_reauthorization" if number % 5 == 0 else "active",
            reason="refused" if number % 5 == 0 else "",
        )
