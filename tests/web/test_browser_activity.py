"""The activity page in a real browser: narrowed by hand, with and without script, on every screen, light and dark."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from mcp_oauth.models import McpServer, Membership
from tests.people import member
from tests.web.browser import DESKTOP, PHONE, Reader, assert_accessible, assert_fits
from tests.web.conftest import OpenBrowser
from tests.web.happened import write_activity
from tests.web.states import write_every_state
from tests.web.test_browser_face import MOVED, TARGET, TOO_SMALL

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Scheme = Literal["light", "dark"]
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
VIEWPORTS = pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
SCRIPT = pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])


def path_of(reader: Reader, query: str = "") -> str:
    return f"/workspaces/{reader.workspace.slug}/mcp/activity/{query}"


def rows(page: Page) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(".happening .words > p:first-child").all_inner_texts()]


@pytest.fixture
def week(open_browser: OpenBrowser) -> Callable[..., Reader]:
    """Open a browser in a workspace in which two people did things for a week."""

    def enter(**options: object) -> Reader:
        reader = open_browser(**options)
        other = member(reader.workspace, role=Membership.Role.ADMIN)
        write_activity(write_every_state(reader.workspace, reader.user), reader.user, other)
        return reader

    return enter


@SCHEMES
@VIEWPORTS
def test_axe_finds_nothing_on_the_activity_page(
    week: Callable[..., Reader], open_browser: OpenBrowser, scheme: Scheme, viewport: tuple[int, int]
) -> None:
    empty = open_browser(color_scheme=scheme, viewport=viewport)
    assert_accessible(empty.open(path_of(empty)), "nothing yet")
    reader = week(color_scheme=scheme, viewport=viewport)

    page = reader.open(path_of(reader))
    expect(page.locator(".bars").first).to_be_visible()
    assert_accessible(page, "as an administrator")
    page.locator("#export > summary").click()
    assert_accessible(page, "the export's menu open")
    assert_accessible(reader.open(path_of(reader, "?kind=calls&outcome=running")), "narrowed to nothing")
    Membership.objects.filter(user=reader.user).update(role=Membership.Role.MEMBER)
    assert_accessible(reader.open(path_of(reader)), "as a member")


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1440])
def test_the_activity_page_is_never_wider_than_its_window(week: Callable[..., Reader], width: int) -> None:
    reader = week(viewport=(width, 800))
    long = "internal_reporting_gateway_for_quarterly_figures_and_forecasts_v2_production_eu_central_1_blue"
    McpServer.objects.filter(name="Linear").update(name=long)

    page = reader.open(path_of(reader))

    assert_fits(page, "activity")
    assert page.evaluate(MOVED) == 0


def test_nothing_moves_while_the_page_arrives_on_a_slow_machine(week: Callable[..., Reader]) -> None:
    reader = week(viewport=(1440, 800))
    page = reader.open(path_of(reader))
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 12})

    for _ in range(5):
        page.reload()
        assert page.evaluate(MOVED) == 0


def test_a_finger_hits_everything_of_the_activity_page(week: Callable[..., Reader]) -> None:
    reader = week(viewport=PHONE, has_touch=True, is_mobile=True)
    page = reader.open(path_of(reader))

    too_small: list[str] = page.evaluate(TOO_SMALL, TARGET)

    assert not too_small, too_small


@SCRIPT
def test_the_page_is_narrowed_by_keyboard_and_widened_again(week: Callable[..., Reader], script: bool) -> None:
    reader = week(java_script_enabled=script)
    page = reader.open(path_of(reader))
    everything = rows(page)

    page.get_by_label("What").select_option("Access")
    page.get_by_label("Outcome").select_option("Failed")
    page.get_by_role("button", name="Show").press("Enter")
    expect(page).to_have_url(re.compile("outcome=failed"))

    assert 0 < len(rows(page)) < len(everything)
    assert all("ended" in row or "could not be renewed" in row for row in rows(page)), rows(page)
    expect(page.get_by_label("Outcome")).to_have_value("failed")
    page.get_by_label("Outcome").select_option("Waiting")
    page.get_by_role("button", name="Show").press("Enter")
    expect(page.get_by_text("Nothing of that kind happened in this time.")).to_be_visible()
    page.get_by_role("link", name="Show everything").press("Enter")
    expect(page.locator(".happening").first).to_be_visible()
    assert rows(page) == everything


@SCRIPT
def test_older_pages_follow_and_lead_back(week: Callable[..., Reader], script: bool) -> None:
    reader = week(java_script_enabled=script)
    page = reader.open(path_of(reader))
    newest = rows(page)
    assert len(newest) == 50

    page.get_by_role("link", name="Older").click()
    expect(page.get_by_role("link", name="Newest")).to_be_visible()
    older = rows(page)
    expect(page.locator(".bars")).to_have_count(0)
    page.get_by_role("link", name="Newest").click()
    expect(page.locator(".bars").first).to_be_visible()

    assert older != newest == rows(page)


@SCRIPT
def test_what_is_shown_is_taken_along_as_a_file(week: Callable[..., Reader], script: bool, tmp_path: Path) -> None:
    reader = week(java_script_enabled=script, accept_downloads=True)
    page = reader.open(path_of(reader, "?kind=calls&outcome=failed"))

    page.locator("#export > summary").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="As CSV").click()
    download.value.save_as(tmp_path / "activity.csv")

    with open(tmp_path / "activity.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert download.value.suggested_filename.startswith(f"activity-{reader.workspace.slug}-")
    assert {row["state"] for row in found} == {"failed"}
    assert len(found) == len(rows(page))


def test_a_waiting_call_is_reached_from_its_row(week: Callable[..., Reader]) -> None:
    reader = week()
    page = reader.open(path_of(reader, "?outcome=waiting"))

    row = page.locator(".happening", has_text="Calendar").first
    row.get_by_role("link", name="Answer create_page").click()

    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert "/waiting/" in page.url
    expect(page.locator(".nav [aria-current]")).to_have_text("Connections")


def test_a_server_is_chosen_by_its_drawing_which_says_its_numbers(week: Callable[..., Reader]) -> None:
    reader = week()
    page = reader.open(path_of(reader))
    drawing = page.get_by_role("img", name="Calls of Linear")
    expect(drawing).to_be_visible()
    assert drawing.locator("rect").count() >= 7

    page.locator(".charts").get_by_role("link", name="Linear", exact=True).click()

    expect(page.get_by_label("Server", exact=True)).to_have_value(str(McpServer.objects.get(name="Linear").pk))
    expect(page.locator(".bars")).to_have_count(1)
    assert all("Linear" in row for row in rows(page))


@SCHEMES
def test_bars_are_told_apart_from_what_they_stand_on(week: Callable[..., Reader], scheme: Scheme) -> None:
    reader = week(color_scheme=scheme)
    page = reader.open(path_of(reader))

    fills = page.evaluate(
        """() => [".good", ".failed"].map((name) => getComputedStyle(document.querySelector(`.bars ${name}`)).fill)
        .concat(getComputedStyle(document.querySelector(".panel")).backgroundColor)"""
    )

    assert len(set(fills)) == 3, fills
