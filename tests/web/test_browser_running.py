"""Running a tool in a real browser, with and without script: forms, answers, progress, questions in place."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from mcp_oauth import list_tools
from mcp_oauth.models import McpServer, ToolCall
from tests.people import new_server
from tests.servers import OpenServer, ProtectedServer
from tests.servers.conversing import Conversation
from tests.servers.showing import add_showing_tools
from tests.web.browser import Reader, answer, assert_accessible, assert_fits, closed, focus_by_tab
from tests.web.conftest import OpenBrowser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Serve = Callable[..., OpenServer]


def travel_of(reader: Reader, serve: Serve) -> McpServer:
    server = new_server(reader.workspace, serve(tools=add_showing_tools).url, name="Travel")
    list_tools(server, reader.user)
    return server


def test_a_nested_form_is_filled_in_where_one_is(reader: Reader, open_mcp_server: Serve) -> None:
    server = travel_of(reader, open_mcp_server)
    page = reader.open(reader.server_path(server, "run/?tool=plan_journey"))

    page.get_by_label("Title").fill("To the sea")
    page.get_by_label("Kind of How to travel").select_option("Flight")
    page.get_by_label("Pieces of luggage").fill("2")
    page.get_by_role("button", name="Add Guests").click()
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("Grace")
    page.get_by_role("button", name="Add Guests").click()
    page.get_by_role("group", name="Guest 2").get_by_label("Name").fill("Ada")
    page.get_by_role("button", name="Remove Guest 1").click()
    expect(page.get_by_role("group", name="Guest 2")).to_have_count(0)
    expect(page.get_by_label("Name")).to_have_value("Ada")
    expect(page.get_by_label("Title")).to_have_value("To the sea")
    page.get_by_text("Copy as code").click()
    expect(page.locator("#snippet-python")).to_contain_text("'luggage': 2")
    assert_accessible(page, "a nested form with code")
    page.get_by_role("button", name="Run plan_journey").click()

    expect(page.locator("#text-1")).to_have_text("To the sea by flight with 1 guests")
    expect(page.locator("#answer")).to_be_focused()
    expect(page.get_by_label("Title")).to_have_value("To the sea")
    assert page.url.endswith("tool=plan_journey")


def test_a_problem_is_beside_its_field_and_one_link_away(reader: Reader, open_mcp_server: Serve) -> None:
    server = travel_of(reader, open_mcp_server)
    page = reader.open(reader.server_path(server, "run/?tool=plan_journey"))

    page.get_by_label("Title").fill("x" * 3)
    page.get_by_role("button", name="Edit as JSON").click()
    page.get_by_label("Arguments, as JSON").fill('{"title": "x", "travel": {"kind": "train"}}')
    page.get_by_role("button", name="Fill in a form").click()
    page.locator("#run").evaluate("form => { form.noValidate = true; }")
    page.get_by_role("button", name="Run plan_journey").click()

    expect(page.get_by_role("alert")).to_contain_text("Title must have at least 3 characters")
    assert_accessible(page, "a form with a problem")
    page.get_by_role("link", name="Title").click()
    expect(page.get_by_label("Title")).to_be_focused()


def test_an_answer_is_drawn_and_asks_nobody_for_anything(reader: Reader, open_mcp_server: Serve) -> None:
    server = travel_of(reader, open_mcp_server)
    page = reader.open(reader.server_path(server, "run/?tool=show_everything"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.get_by_role("button", name="Run show_everything").click()

    expect(page.get_by_role("heading", name="Trip to Lisbon")).to_be_visible()
    picture = page.get_by_role("img", name="A picture from the tool")
    expect(picture).to_have_count(1)
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 320
    page.wait_for_function("document.querySelector('audio').duration > 0")
    expect(page.get_by_role("link", name="the plan", exact=True)).to_have_attribute("rel", "noopener noreferrer")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save as a file").click()
    assert saved.value.suggested_filename == "7.txt"
    assert_accessible(page, "an answer of every kind")
    assert all(url.startswith((reader.base_url, "data:")) for url in asked), asked


@pytest.mark.parametrize("javascript", [True, False])
def test_a_phone_runs_a_tool_and_nothing_sticks_out(
    open_browser: OpenBrowser, open_mcp_server: Serve, javascript: bool
) -> None:
    reader = open_browser(viewport=(320, 700), has_touch=True, is_mobile=True, java_script_enabled=javascript)
    server = travel_of(reader, open_mcp_server)
    page = reader.open(f"/workspaces/{reader.workspace.slug}/mcp/tools/")
    page.get_by_label("Search tools").fill("trip")
    if not javascript:
        page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Run plan_journey").click()
    page.get_by_label("Title").fill("To the sea")
    page.get_by_role("button", name="Add Room").click()
    page.get_by_label("Beds").fill("2")
    if javascript:
        assert_fits(page, "the form")
    page.get_by_role("button", name="Run plan_journey").click()
    expect(page.locator("#text-1")).to_contain_text("To the sea by train")
    reader.open(reader.server_path(server, "run/?tool=show_everything"))
    page.get_by_role("button", name="Run show_everything").click()
    expect(page.get_by_role("heading", name="Trip to Lisbon")).to_be_visible()
    expect(page.get_by_role("img", name="A picture from the tool")).to_be_visible()
    if javascript:
        assert_fits(page, "the answer")


def test_the_page_of_all_tools_is_accessible_and_filters_at_once(reader: Reader, open_mcp_server: Serve) -> None:
    travel_of(reader, open_mcp_server)
    page = reader.open(f"/workspaces/{reader.workspace.slug}/mcp/tools/")

    assert_accessible(page, "all tools")
    page.get_by_label("Search tools").fill("legs")
    expect(page.locator(".offer:visible")).to_have_count(1)
    page.get_by_label("Search tools").fill("nothing like it")
    expect(page.locator("[data-nothing]")).to_be_visible()
    page.get_by_label("Search tools").fill("legs")
    focus_by_tab(page, "Run list_legs")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="List legs")).to_be_visible()
    focus_by_tab(page, "Run list_legs")
    page.keyboard.press("Enter")
    expect(page.get_by_role("cell", name="Coimbra")).to_be_visible()


def test_a_question_is_answered_where_the_tool_is_run(
    reader: Reader, open_mcp_server: Serve, conversation: Conversation
) -> None:
    server = new_server(reader.workspace, open_mcp_server("modern", tools=conversation.register).url)
    list_tools(server, reader.user)
    page = reader.open(reader.server_path(server, "run/?tool=book_table"))

    page.get_by_label("Day").fill("friday")
    page.get_by_role("button", name="Run book_table").click()
    expect(page.get_by_text("Who comes on friday?")).to_be_visible()
    assert_accessible(page, "a question")
    page.get_by_label("Guests").fill("3")
    page.get_by_label("E-mail").fill("ada@example.com")
    page.get_by_role("button", name="Answer and continue").click()

    expect(page.get_by_text("A table for 3 on friday.").first).to_be_visible()
    assert ToolCall.objects.count() == 1


def test_giving_a_call_up_says_so_where_the_question_was(
    reader: Reader, open_mcp_server: Serve, conversation: Conversation
) -> None:
    server = new_server(reader.workspace, open_mcp_server("modern", tools=conversation.register).url)
    list_tools(server, reader.user)
    page = reader.open(reader.server_path(server, "run/?tool=book_table"))
    page.get_by_label("Day").fill("friday")
    page.get_by_role("button", name="Run book_table").click()
    page.get_by_role("button", name="Give the call up").click()

    told = page.get_by_role("status").filter(has_text="The call was given up.")
    expect(told).to_be_focused()
    expect(page.get_by_label("Day")).to_have_value("friday")
    expect(page.get_by_role("button", name="Run book_table")).to_be_visible()
    assert_accessible(page, "a call that was given up")
    assert_fits(page, "a call that was given up")


def test_a_long_call_shows_its_progress_and_is_cancelled(
    reader: Reader, open_mcp_server: Serve, conversation: Conversation
) -> None:
    server = new_server(reader.workspace, open_mcp_server("modern", tools=conversation.register).url)
    list_tools(server, reader.user)
    page = reader.open(reader.server_path(server, "run/?tool=slow"))
    # Asked for sooner than the call is written down.
    page.on("request", lambda request: reader.complaints.may_refuse(request.url.removeprefix(reader.base_url)))

    page.get_by_role("button", name="Run slow").click()
    expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("value", "3")
    expect(page.get_by_text("Step 3")).to_be_visible()
    assert_accessible(page, "a call that runs")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("cancelled")
    assert ToolCall.objects.get().outcome == "cancelled"

    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_text("Step 3")).to_be_visible()
    conversation.gate("slow").open()
    expect(page.locator("#text-1")).to_have_text("Done after 3 steps.")


def test_from_signing_in_to_the_first_result_on_a_new_server_are_five_clicks(
    open_browser: OpenBrowser, protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    reader = open_browser(signed_in=False)
    server = new_server(reader.workspace, protected_mcp_server().url)
    clicks: list[str] = []
    reader.context.expose_function("clicked", lambda text: clicks.append(text))
    # As the browser counts them, in every window, the provider's own pages too.
    reader.context.add_init_script(
        "addEventListener('click', ({ target, detail }) => { if (detail) clicked(target.innerText || ''); }, true)"
    )
    page = reader.settings()
    page.get_by_label("Username").fill(reader.user.get_username())
    page.get_by_label("Password").fill("secret")
    page.keyboard.press("Enter")

    with page.expect_popup() as opened:
        reader.card(server).get_by_role("button", name="Connect with OAuth").click()
    answer(opened.value)
    closed(opened.value)
    # The row is drawn anew when the answer has come; a click before would be lost with the old one.
    expect(reader.card(server)).to_contain_text(re.compile(r"\d tools"))
    reader.card(server).get_by_role("link", name="Tools", exact=False).first.click()
    page.get_by_role("link", name="Run whoami").click()
    page.get_by_role("button", name="Run whoami").click()

    expect(page.locator("#text-1")).to_have_text("ada")
    # The provider's own button "Sign in" is for who is not signed in there.
    assert len([click for click in clicks if "Sign in" not in click]) == 5, clicks
