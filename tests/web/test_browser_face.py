"""How the pages look and behave for everybody: light, dark, phones, keyboards, without script, in every state."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from mcp_oauth.models import McpServer, McpServerOAuth, Membership, StoredListing
from mcp_oauth.views import pages
from tests.people import member, new_server
from tests.servers import OpenServer, Person, ProtectedServer
from tests.web.browser import (
    DESKTOP,
    PHONE,
    Reader,
    assert_accessible,
    assert_fits,
    connected_through_the_views,
    focus_by_tab,
)
from tests.web.conftest import OpenBrowser
from tests.web.states import STATES, write_every_state

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Scheme = Literal["light", "dark"]
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
VIEWPORTS = pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
# What a finger has to hit, in CSS pixels.
TARGET = 40
MOVED = """() => new Promise((resolve) => {
  let moved = 0;
  new PerformanceObserver((list) => { for (const entry of list.getEntries()) moved += entry.value; })
    .observe({ type: "layout-shift", buffered: true });
  requestAnimationFrame(() => setTimeout(() => resolve(moved), 0));
})"""

TOO_SMALL = """(least) => [...document.querySelectorAll("button, a.button, summary, .nav a, select, .segments label")]
  .filter((element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length)
  .map((element) => [element.getBoundingClientRect(), element.outerHTML.slice(0, 120)])
  .filter(([box]) => box.height < least || box.width < 36)
  .map(([box, html]) => `${Math.round(box.width)} by ${Math.round(box.height)} ${html}`)"""
LIGHTNESS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const seen = (selector, name) => {
    canvas.fillStyle = getComputedStyle(document.querySelector(selector))[name];
    canvas.fillRect(0, 0, 1, 1);
    return Math.max(...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)) / 255;
  };
  return {
    ground: seen("html", "backgroundColor"), panel: seen(".panel", "backgroundColor"), text: seen("h1", "color"),
  };
}"""


@pytest.fixture
def everything(open_browser: OpenBrowser) -> Callable[..., Reader]:
    """Open a browser in a workspace that has a server in every state."""

    def enter(**options: Any) -> Reader:
        reader = open_browser(**options)
        write_every_state(reader.workspace, reader.user)
        return reader

    return enter


@SCHEMES
@VIEWPORTS
def test_axe_finds_nothing_in_any_state(
    everything: Callable[..., Reader], scheme: Scheme, viewport: tuple[int, int]
) -> None:
    reader = everything(color_scheme=scheme, viewport=viewport)
    page = reader.settings()

    assert_accessible(page, "every state")
    page.locator(".server summary").first.click()
    assert_accessible(page, "every state, a menu open")
    page.locator("#account > summary").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert_accessible(page, "every state, the account menu open")
    page.get_by_label("Search servers").fill("nothing is called so")
    assert_accessible(page, "nothing found")
    for name in ("Atlassian", "Legacy files"):
        server = McpServer.objects.get(name=name)
        assert_accessible(reader.open(reader.server_path(server, "delete/")), f"removing {name}")


@SCHEMES
@VIEWPORTS
def test_axe_finds_nothing_on_the_styleguide(
    open_browser: OpenBrowser, scheme: Scheme, viewport: tuple[int, int]
) -> None:
    page = open_browser(color_scheme=scheme, viewport=viewport).open("/styleguide/")

    assert_accessible(page, "styleguide")
    assert_fits(page, "styleguide")


@SCHEMES
def test_axe_finds_nothing_where_something_went_wrong(
    open_browser: OpenBrowser, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_browser(role=Membership.Role.MEMBER, color_scheme=scheme)

    assert_accessible(reader.open("/nowhere/"), "404")
    assert_accessible(reader.open(f"/workspaces/{reader.workspace.slug}/mcp/add/"), "403")
    page = reader.settings()
    reader.context.clear_cookies(name="csrftoken")
    page.locator("#account > summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="This page was too old")).to_be_visible()
    assert_accessible(page, "403, too old")

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(pages, "cards_for", broken)
    page = reader.settings()
    expect(page.get_by_role("heading", name="Something went wrong here")).to_be_visible()
    assert_accessible(page, "500")


@pytest.mark.parametrize("width", [320, 1024, 1280])
def test_why_something_is_wanted_of_a_person_is_never_cut_off(everything: Callable[..., Reader], width: int) -> None:
    page = everything(viewport=(width, 800)).settings()

    cut: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("[data-group=needs_you] .line, [data-group=leaving] .line")]
        .filter((line) => line.scrollHeight > line.clientHeight + 1).map((line) => line.textContent)"""
    )

    assert not cut


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1440])
def test_no_page_is_wider_than_its_window(everything: Callable[..., Reader], width: int) -> None:
    reader = everything(viewport=(width, 800))
    server = McpServer.objects.get(name="Notion")

    assert_fits(reader.settings(), "settings")
    for tail in ("", "edit/", "delete/", "diagnose/"):
        assert_fits(reader.open(reader.server_path(server, tail)), tail or "server")
    for path in ("/styleguide/", "/nowhere/", "/accounts/login/"):
        assert_fits(reader.open(path), path)


def test_a_finger_hits_everything_on_a_phone(everything: Callable[..., Reader]) -> None:
    reader = everything(viewport=PHONE, has_touch=True, is_mobile=True)
    page = reader.settings()

    too_small: list[str] = page.evaluate(TOO_SMALL, TARGET)

    assert not too_small, too_small


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_pages_follow_the_readers_light_or_dark(
    everything: Callable[..., Reader], scheme: Scheme, dark: bool
) -> None:
    page = everything(color_scheme=scheme).settings()

    lightness: dict[str, float] = page.evaluate(LIGHTNESS)

    assert (lightness["ground"] < 0.2) == dark
    assert (lightness["panel"] < 0.25) == dark
    assert (lightness["text"] > 0.8) == dark


def test_forced_colours_keep_the_shapes_of_the_states(everything: Callable[..., Reader]) -> None:
    page = everything(forced_colors="active").settings()

    for tone in ("ok", "warn", "bad"):
        dot = page.locator(f".state.{tone} > .dot").first
        assert dot.evaluate("(dot) => getComputedStyle(dot).forcedColorAdjust") == "none"
    border = page.locator(".button.strong").first.evaluate("(button) => getComputedStyle(button).borderTopWidth")
    assert border == "2px"
    assert_accessible(page, "forced colours")


def test_nothing_moves_for_who_asked_for_less_motion(everything: Callable[..., Reader]) -> None:
    page = everything(reduced_motion="reduce").settings()

    assert page.locator(".button").first.evaluate("(button) => getComputedStyle(button).transitionProperty") == "none"


@pytest.mark.parametrize("width", [320, 1280])
def test_a_page_reads_from_right_to_left(everything: Callable[..., Reader], settings: Any, width: int) -> None:
    settings.LANGUAGE_CODE, settings.LANGUAGES = "ar", [("ar", "العربية")]
    reader = everything(viewport=(width, 800))
    page = reader.settings()

    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    assert_fits(page, "right to left")
    assert page.evaluate("document.documentElement.scrollLeft") == 0
    row = page.locator(".server").first
    mark, name = (row.locator(part).bounding_box() for part in (".mark", "h3"))
    assert mark is not None
    assert name is not None
    assert mark["x"] > name["x"]
    assert_accessible(page, "right to left")


def test_a_server_found_and_used_with_the_keyboard_alone(
    reader: Reader, open_mcp_server: Callable[..., OpenServer]
) -> None:
    write_every_state(reader.workspace, reader.user)
    clock = new_server(reader.workspace, open_mcp_server().url, name="Clock")
    page = reader.settings()

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")  # Add server
    page.keyboard.press("Tab")
    expect(page.get_by_label("Search servers")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")  # from All to Needs you
    expect(page.locator("[data-server]:visible")).to_have_count(6)
    page.keyboard.press("ArrowRight")
    expect(page.locator("[data-group]:visible")).to_have_count(1)
    expect(reader.card(clock)).to_be_visible()
    assert "state=connected" in page.url
    outline = page.evaluate("getComputedStyle(document.activeElement.closest('label')).outlineStyle")
    assert outline == "solid"
    focus_by_tab(page, "More Clock")
    page.keyboard.press("Enter")
    focus_by_tab(page, "Refresh")
    page.keyboard.press("Enter")
    expect(page.locator(".messages")).to_contain_text("Clock offers 4 tools.")
    expect(reader.card(clock)).to_contain_text("4 tools")
    assert page.evaluate("document.activeElement.closest('[data-server]')?.dataset.server") == str(clock.pk)
    focus_by_tab(page, "Tools Clock")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Tools 4")).to_be_visible()


def test_everything_is_done_without_script(everything: Callable[..., Reader]) -> None:
    reader = everything(java_script_enabled=False)
    page = reader.settings()

    page.get_by_label("Search servers").fill("a")
    page.get_by_role("radio", name=re.compile("^Connected")).check()
    page.get_by_label("Sort by").select_option("tools")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".server h3").first).to_have_text("Atlassian")
    expect(page.get_by_label("Search servers")).to_have_value("a")
    expect(page.locator("[name=state]:checked")).to_have_value("connected")
    assert page.locator("[data-group]").count() == 1

    reader.settings()
    card = page.locator(".server", has_text="Linear")
    card.get_by_role("button", name="Not now").click()
    expect(page.locator(".server", has_text="Linear")).to_contain_text("Connected")
    server = McpServer.objects.get(name="Atlassian")
    reader.card(server).locator("summary").click()
    reader.card(server).get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove server").click()
    expect(page.get_by_role("heading", name="Being removed 2")).to_be_visible()
    reader.card(server).get_by_role("button", name="Keep it").click()
    expect(page.locator(".messages")).to_contain_text("Atlassian is kept and in use again.")
    reader.open(reader.server_path(server, "diagnose/"))
    expect(page.get_by_role("button", name="Diagnose", exact=True).last).to_be_visible()
    page.locator("#account > summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_title("Sign in")


def test_the_whole_list_returns_when_a_narrowed_page_is_widened(everything: Callable[..., Reader]) -> None:
    reader = everything()
    page = reader.open(f"/workspaces/{reader.workspace.slug}/mcp/?state=connected&sort=tools&q=a")
    shown = page.locator("[data-server]:visible").count()
    assert shown == page.locator("[data-server]").count() < len(STATES)

    page.get_by_label("Search servers").fill("")
    page.get_by_role("radio", name="All").check()

    expect(page.locator("[data-server]:visible")).to_have_count(len(STATES))
    expect(page.locator("[data-number='']")).to_have_text(str(len(STATES)))
    assert "state=" not in page.url
    page.get_by_label("Sort by").select_option("name")
    expect(page.locator("[data-group=connected] h3").nth(1)).to_have_text("Company wiki")
    assert "sort=" not in page.url


def test_what_is_done_in_a_row_is_done_where_one_is(everything: Callable[..., Reader]) -> None:
    reader = everything()
    page = reader.settings()
    page.evaluate("window.stayed = true")
    sentry, linear = (McpServer.objects.get(name=name) for name in ("Sentry", "Linear"))
    reader.complaints.may_refuse("/mcp/oauth/cancel/")

    reader.card(sentry).get_by_role("button", name="Cancel Sentry").click()
    expect(reader.card(sentry).get_by_role("button", name="Connect with OAuth")).to_be_visible()
    reader.card(linear).get_by_role("button", name="Not now").click()
    expect(page.locator("[data-group=connected]")).to_contain_text("Linear")
    reader.card(linear).locator("summary").click()
    reader.card(linear).get_by_role("button", name="Disconnect").click()
    message = page.locator(".messages .note")
    expect(message).to_contain_text("Disconnected from Linear")
    expect(page.locator("[data-group=available]")).to_contain_text("Linear")
    assert page.evaluate("window.stayed") is True
    assert not McpServerOAuth.objects.filter(server=linear).exists()
    message.get_by_role("button", name="Dismiss").click()
    expect(message).to_have_count(0)


def test_another_tab_follows(everything: Callable[..., Reader]) -> None:
    reader = everything()
    # What is open is looked at again and again; without it, only the other tab's word makes this one look.
    McpServer.objects.filter(name__in=["Sentry", "Legacy files"]).delete()
    first = reader.settings()
    first.evaluate("window.stayed = true")
    second = reader.context.new_page()
    second.goto(first.url)
    linear = McpServer.objects.get(name="Linear")

    second.locator(f"#decline-{linear.pk}").click()

    expect(first.locator("[data-group=connected]")).to_contain_text("Linear")
    assert first.evaluate("window.stayed") is True


def test_a_request_that_cannot_be_sent_is_said_in_the_row(everything: Callable[..., Reader]) -> None:
    reader = everything()
    page = reader.settings()
    linear = McpServer.objects.get(name="Linear")
    page.route(re.compile("/decline/"), lambda route: route.abort())

    reader.card(linear).get_by_role("button", name="Not now").click()

    expect(reader.card(linear).get_by_role("alert")).to_contain_text("Check your network")
    reader.complaints.lines[:] = [line for line in reader.complaints.lines if "ERR_FAILED" not in line]


def test_nothing_moves_while_a_page_loads_and_states_arrive(reader: Reader) -> None:
    now = timezone.now()
    servers = McpServer.objects.bulk_create(
        McpServer(
            workspace=reader.workspace,
            name=f"Server {number:03}",
            slug=f"s{number}",
            url=f"https://s{number}.example.com/mcp",
            auth_mode="oauth",
            reachable=True,
            contacted_at=now,
        )
        for number in range(200)
    )
    for server in servers[:50]:
        facts = {"access_token": "t", "issuer": "i", "token_endpoint": "e", "client_id": "c", "scope": "issues:read"}
        McpServerOAuth.objects.create(server=server, user=reader.user, connected_at=now, **facts)
    page = reader.settings()
    expect(page.locator("[data-server]")).to_have_count(200)
    assert page.evaluate(MOVED) == 0

    # Tools are listed, a server is lost, an access is widened: the rows say so and stay where they are.
    for server in servers[:20]:
        StoredListing.objects.create(
            server=server, user=reader.user, server_generation=1, entry_count=7, fetched_at=timezone.now()
        )
    McpServer.objects.filter(pk__in=[server.pk for server in servers[5:9]]).update(reachable=False)
    McpServerOAuth.objects.filter(server=servers[3]).update(scope="issues:read issues:write")
    _look_again(page)

    expect(reader.card(servers[0])).to_contain_text("7 tools")
    expect(reader.card(servers[6])).to_contain_text("Unreachable")
    assert page.evaluate(MOVED) == 0


def _look_again(page: Page) -> None:
    """Let a page re-read its list as it does when another tab has changed something."""
    page.evaluate("new BroadcastChannel('mcp-oauth:changes').postMessage('')")


def test_a_row_that_says_the_same_stays_the_same_element(everything: Callable[..., Reader]) -> None:
    reader = everything()
    page = reader.settings()
    atlassian, linear = (McpServer.objects.get(name=name) for name in ("Atlassian", "Linear"))
    reader.card(atlassian).locator("summary").click()
    reader.card(atlassian).evaluate("(row) => { row.stayed = true; }")
    page.locator(f"#disconnect-{atlassian.pk}").focus()
    McpServerOAuth.objects.filter(server=linear).update(wanted_scope="")

    _look_again(page)

    expect(page.locator("[data-group=connected]")).to_contain_text("Linear")
    assert reader.card(atlassian).evaluate("(row) => row.stayed") is True
    expect(page.locator(f"#disconnect-{atlassian.pk}")).to_be_focused()
    expect(page.locator(f"#menu-{atlassian.pk}")).to_have_attribute("open", "")


def test_a_diagnosis_is_drawn_linked_and_copied(
    open_browser: OpenBrowser, protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    reader = open_browser(permissions=["clipboard-read", "clipboard-write"])
    server = new_server(reader.workspace, protected_mcp_server().url)
    connected_through_the_views(reader.user, server, person("ada"))
    page = reader.open(reader.server_path(server, "diagnose/"))

    page.get_by_role("button", name="Diagnose", exact=True).last.click()
    drawing = page.get_by_role("group", name=re.compile("^Sequence drawing"))
    expect(drawing.get_by_text("You sign in and allow it")).to_be_visible()
    expect(drawing.get_by_role("link")).to_have_count(4)
    drawing.get_by_role("link", name=re.compile("oauth-authorization-server")).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#step-3:target")).to_be_visible()
    page.get_by_role("button", name="Copy the report").click()
    copied = page.evaluate("navigator.clipboard.readText()")

    assert f"1. POST {server.url} → 401" in copied
    assert copied == page.locator("#report").input_value()
    page.get_by_text("Report for somebody else's support").click()
    assert_accessible(page, "diagnosis with its report")


def test_a_member_of_two_workspaces_goes_from_one_to_the_other(open_browser: OpenBrowser) -> None:
    reader = open_browser()
    other = member(reader.workspace)  # somebody else, so that the workspace has two
    assert other.pk != reader.user.pk
    second = open_browser(user=reader.user).workspace
    Membership.objects.create(workspace=second, user=reader.user)
    page = reader.settings()

    page.locator("#workspaces > summary").click()
    page.get_by_role("link", name=second.name).click()

    expect(page.locator(".brand .name")).to_contain_text(second.name)
    expect(page.locator(".nav [aria-current=page]")).to_have_text("Connections")
