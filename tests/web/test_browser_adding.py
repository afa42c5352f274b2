"""Adding, importing, members and one's own page in a real browser: with script, without, by keyboard, on any screen."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth, Membership
from mcp_oauth.services import known_servers as gallery
from tests.people import member, new_server, new_workspace
from tests.servers import (
    AuthorizationServerOptions,
    HeaderServer,
    OpenServer,
    Person,
    ProtectedServer,
    hostile,
)
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
    sign_in,
)
from tests.web.conftest import OpenBrowser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Scheme = Literal["light", "dark"]
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
SCRIPT = pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
NO_POPUPS = "window.open = () => null;"
BY_HAND = AuthorizationServerOptions(cimd=False, dynamic_registration=False)
CANARY = "canary-e871"

Protect = Callable[..., ProtectedServer]
Serve = Callable[..., OpenServer]


def open_adding(reader: Reader) -> Page:
    return reader.open(f"/workspaces/{reader.workspace.slug}/mcp/add/")


def ask(page: Page, url: str) -> None:
    """Type an address and press Enter."""
    page.get_by_label("Address").fill(url)
    page.keyboard.press("Enter")


# --- adding -----------------------------------------------------------------------------------------------------------


def test_from_the_connections_page_to_a_first_result_in_five_clicks(
    reader: Reader, protected_mcp_server: Protect
) -> None:
    peer = protected_mcp_server()
    page = reader.settings()

    page.get_by_role("link", name="Add server").click()  # 1
    ask(page, peer.url)
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Add and connect").click()  # 2
    answer(opened.value)  # 3: Allow
    closed(opened.value)
    expect(page.get_by_role("heading", name="Tools 4")).to_be_visible()
    page.get_by_role("link", name="Run whoami").click()  # 4
    page.get_by_role("button", name="Run whoami").click()  # 5

    expect(page.locator("#text-1")).to_have_text("ada")


def test_the_person_looks_on_while_the_server_is_asked(reader: Reader) -> None:
    release = threading.Event()
    with hostile.healthy(release) as peer:
        page = open_adding(reader)
        ask(page, peer.url())

        under_way = page.locator(".asked .pending")
        expect(under_way).to_contain_text("Asking the server what it is 127.0.0.1")
        expect(page.locator("#gallery")).to_be_hidden()
        release.set()

        expect(page.get_by_role("heading", name="Open to everybody")).to_be_visible()
        expect(page.locator(".asked li").first).to_contain_text("As it should be")
        expect(under_way).to_have_count(0)
        expect(page.locator("#result")).to_be_focused()


def test_asking_again_gives_the_first_attempt_up(reader: Reader, open_mcp_server: Serve) -> None:
    release = threading.Event()
    with hostile.healthy(release) as slow:
        page = open_adding(reader)
        ask(page, slow.url())
        expect(page.locator(".asked .pending")).to_be_visible()
        ask(page, open_mcp_server().url)

        expect(page.get_by_role("heading", name="Open to everybody")).to_be_visible()
        release.set()
        expect(page.locator(".asked .pending")).to_have_count(0)


def test_a_server_is_added_and_connected_without_script(
    open_browser: OpenBrowser, protected_mcp_server: Protect
) -> None:
    reader = open_browser(java_script_enabled=False)
    page = open_adding(reader)

    ask(page, protected_mcp_server().url)
    expect(page.get_by_role("heading", name="Uses OAuth at 127.0.0.1")).to_be_visible()
    page.get_by_text("What was asked, and what came back").click()
    expect(page.locator(".steps")).to_contain_text("server/discover")
    page.get_by_label("Name", exact=True).fill("Tracker")
    page.get_by_role("button", name="Add and connect").click()
    answer(page)  # the page went on by itself

    expect(page.get_by_role("heading", name="You are connected")).to_be_visible()
    assert McpServerOAuth.objects.get().server.name == "Tracker"


def test_a_blocked_popup_goes_on_in_the_tab(reader: Reader, protected_mcp_server: Protect) -> None:
    reader.context.add_init_script(NO_POPUPS)
    page = open_adding(reader)
    ask(page, protected_mcp_server().url)

    page.get_by_role("button", name="Add and connect").click()
    answer(page)

    expect(page.get_by_role("heading", name="You are connected")).to_be_visible()
    assert McpServer.objects.count() == 1


def test_a_phone_adds_and_connects_in_a_second_tab(open_browser: OpenBrowser, protected_mcp_server: Protect) -> None:
    reader = open_browser(viewport=PHONE, has_touch=True, is_mobile=True)
    page = open_adding(reader)
    ask(page, protected_mcp_server().url)

    with page.expect_popup() as opened:
        page.get_by_role("button", name="Add and connect").click()
    answer(opened.value)
    closed(opened.value)

    expect(page.get_by_role("heading", name="Tools 4")).to_be_visible()
    assert_fits(page, "the server's page")


def test_a_window_that_is_closed_leaves_the_server_ready_to_be_connected_again(
    reader: Reader, protected_mcp_server: Protect
) -> None:
    page = open_adding(reader)
    ask(page, protected_mcp_server().url)
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Add and connect").click()
    expect(page.get_by_text("Waiting for you in the other window")).to_be_visible()
    opened.value.close()

    with page.expect_popup() as again:
        page.get_by_role("button", name="Open again").click()
    answer(again.value)
    closed(again.value)

    expect(page.get_by_role("heading", name="Tools 4")).to_be_visible()


def test_a_mistake_is_told_where_the_secret_still_stands(reader: Reader, protected_mcp_server: Protect) -> None:
    page = open_adding(reader)
    ask(page, protected_mcp_server(as_options=BY_HAND).url)
    reader.complaints.may_refuse(f"/workspaces/{reader.workspace.slug}/mcp/add/")
    page.get_by_label("Client secret or private key").fill(CANARY)
    page.get_by_label("Name", exact=True).fill("")

    with page.expect_popup() as opened:
        page.get_by_role("button", name="Add and connect").click()
    closed(opened.value)

    expect(page.locator(".complaints")).to_contain_text("This field is required.")
    expect(page.get_by_label("Client secret or private key")).to_have_value(CANARY)
    expect(page.get_by_role("button", name="Add and connect")).to_be_enabled()
    assert not McpServer.objects.exists()


@SCRIPT
def test_a_known_server_is_found_by_a_word_and_asked_by_a_press(
    script: bool, open_browser: OpenBrowser, open_mcp_server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = open_mcp_server()
    known = {**gallery.known_servers(), "exa": replace(gallery.known_servers()["exa"], url=peer.url)}
    monkeypatch.setattr(gallery, "known_servers", lambda: known)
    monkeypatch.setattr("mcp_oauth.views.adding.known_servers", lambda: known)
    reader = open_browser(java_script_enabled=script)
    page = open_adding(reader)

    page.get_by_label("Search known servers").fill("searches the web")
    if not script:
        page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".known:visible")).to_have_count(1)
    page.get_by_role("button", name=re.compile("^Exa")).click()

    expect(page.get_by_role("heading", name="Open to everybody")).to_be_visible()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Exa")
    page.get_by_role("button", name="Add server").click()
    expect(page.get_by_role("heading", name="Exa", exact=True)).to_be_visible()


def test_a_server_is_added_with_the_keyboard_alone(reader: Reader, open_mcp_server: Serve) -> None:
    page = open_adding(reader)

    expect(page.get_by_label("Address")).to_be_focused()
    page.keyboard.type(open_mcp_server().url)
    page.keyboard.press("Enter")
    expect(page.locator("#result")).to_be_focused()
    focus_by_tab(page, "Add server")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name=re.compile("^Tools"))).to_be_visible()


def test_a_server_nobody_answers_for_is_asked_at_the_usual_place(reader: Reader, open_mcp_server: Serve) -> None:
    root = open_mcp_server().url.removesuffix("/mcp")
    page = open_adding(reader)
    ask(page, root)

    page.get_by_role("button", name=f"Ask {root}/mcp").click()

    expect(page.get_by_role("heading", name="Open to everybody")).to_be_visible()


def test_an_address_that_is_none_is_told_and_the_choice_stays(reader: Reader) -> None:
    page = open_adding(reader)
    reader.complaints.may_refuse(f"/workspaces/{reader.workspace.slug}/mcp/add/ask/")
    ask(page, "ftp://mcp.example.com")

    expect(page.get_by_role("alert")).to_contain_text("does not start with http")
    expect(page.locator("#gallery")).to_be_visible()
    expect(page.get_by_label("Address")).to_have_value("ftp://mcp.example.com")


def test_signing_out_elsewhere_leads_from_adding_to_the_login_page(reader: Reader, open_mcp_server: Serve) -> None:
    page = open_adding(reader)
    reader.context.clear_cookies(name="sessionid")
    ask(page, open_mcp_server().url)

    expect(page).to_have_url(re.compile("/accounts/login/"))


# --- changing ---------------------------------------------------------------------------------------------------------


@SCRIPT
def test_a_change_is_tested_agreed_to_and_saved(
    script: bool,
    open_browser: OpenBrowser,
    protected_mcp_server: Protect,
    open_mcp_server: Serve,
    person: Callable[[str], Person],
) -> None:
    reader = open_browser(java_script_enabled=script)
    server = new_server(reader.workspace, protected_mcp_server().url)
    connected_through_the_views(reader.user, server, person("ada"))
    other = open_mcp_server()
    page = reader.open(reader.server_path(server, "edit/"))

    page.get_by_label("Address").fill(other.url)
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#result")).to_contain_text("Open to everybody")
    expect(page.get_by_text("The access of 1 person ends")).to_be_visible()
    expect(page.get_by_label("Address")).to_have_value(other.url)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Change Tracker?")).to_be_visible()
    page.get_by_role("button", name="Back to the form").click()
    expect(page.get_by_label("Address")).to_have_value(other.url)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Save the change").click()

    expect(page.get_by_text("Tracker is saved.")).to_be_visible()
    server.refresh_from_db()
    assert server.url == other.url


def test_a_test_leaves_a_typed_key_where_it_is(reader: Reader, header_mcp_server: Callable[..., HeaderServer]) -> None:
    peer = header_mcp_server("X-Api-Key", CANARY)
    server = new_server(reader.workspace, peer.url, auth_mode="headers", headers={"X-Api-Key": "old and wrong"})
    page = reader.open(reader.server_path(server, "edit/"))

    page.get_by_label("Headers", exact=True).fill(f"X-Api-Key: {CANARY}")
    page.get_by_role("button", name="Test").click()

    expect(page.get_by_role("heading", name="Opens with the headers")).to_be_visible()
    expect(page.get_by_label("Headers", exact=True)).to_have_value(f"X-Api-Key: {CANARY}")


# --- importing --------------------------------------------------------------------------------------------------------


@SCRIPT
def test_a_file_is_pasted_chosen_from_and_imported(
    script: bool, open_browser: OpenBrowser, open_mcp_server: Serve, header_mcp_server: Callable[..., HeaderServer]
) -> None:
    reader = open_browser(java_script_enabled=script)
    board = header_mcp_server("X-Api-Key", CANARY)
    document = {
        "mcpServers": {
            "clock": {"url": open_mcp_server().url},
            "board": {"url": board.url, "headers": {"X-Api-Key": "${BOARD_KEY}"}},
            "files": {"command": "uvx", "args": ["files"]},
        }
    }
    page = open_adding(reader)
    page.get_by_role("link", name="Paste an mcp.json").click()
    reader.complaints.may_refuse(f"/workspaces/{reader.workspace.slug}/mcp/import/")

    text = page.get_by_label("Contents of mcp.json")
    text.fill("{")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("line 1, column 2")
    if script:
        expect(text).to_have_value("{")
    text.fill(json.dumps(document))
    page.get_by_role("button", name="Continue").click()

    expect(page.get_by_role("heading", name="Choose what to import")).to_be_visible()
    expect(page.get_by_role("checkbox")).to_have_count(2)
    page.get_by_label("BOARD_KEY").fill(CANARY)
    page.get_by_role("button", name="Import the chosen ones").click()
    expect(page.get_by_text("2 servers are added.")).to_be_visible()
    expect(page.locator("[data-server]")).to_have_count(2)


# --- members and one's own page ---------------------------------------------------------------------------------------


@SCRIPT
def test_somebody_is_added_made_an_administrator_and_removed(script: bool, open_browser: OpenBrowser) -> None:
    reader = open_browser(java_script_enabled=script)
    member(name="lin")
    page = reader.open(f"/workspaces/{reader.workspace.slug}/members/")

    page.get_by_label("User name or e-mail address").fill("lin")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("lin is a member now.")).to_be_visible()
    page.get_by_role("button", name="Make administrator lin").click()
    expect(page.get_by_text("lin is an administrator now.")).to_be_visible()
    page.get_by_role("link", name="Remove lin").click()
    expect(page.get_by_role("heading", name="Remove lin?")).to_be_visible()
    page.get_by_role("button", name="Remove").click()

    expect(page.get_by_text("lin is removed from")).to_be_visible()
    assert Membership.objects.filter(workspace=reader.workspace).count() == 1


@SCRIPT
def test_everything_is_disconnected_from_ones_own_page(
    script: bool, open_browser: OpenBrowser, protected_mcp_server: Protect, person: Callable[[str], Person]
) -> None:
    reader = open_browser(java_script_enabled=script)
    server = new_server(reader.workspace, protected_mcp_server().url)
    connected_through_the_views(reader.user, server, person("ada"))
    page = reader.open("/account/")

    expect(page.get_by_role("link", name="Tracker")).to_be_visible()
    page.get_by_role("link", name="Disconnect everything").click()
    expect(page.get_by_text("1 connection is revoked")).to_be_visible()
    page.get_by_role("button", name="Disconnect everything").click()

    expect(page.get_by_role("heading", name="Everything is disconnected")).to_be_visible()
    expect(page.get_by_text("the provider confirmed it")).to_be_visible()
    page.get_by_role("link", name="Back to your account").click()
    expect(page.get_by_text("You have not connected an account anywhere.")).to_be_visible()


# --- on any screen ----------------------------------------------------------------------------------------------------


@SCHEMES
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE, (320, 700)], ids=["desktop", "phone", "narrow"])
def test_every_page_is_read_on_any_screen_and_axe_finds_nothing(
    open_browser: OpenBrowser,
    scheme: Scheme,
    viewport: tuple[int, int],
    protected_mcp_server: Protect,
    open_mcp_server: Serve,
    header_mcp_server: Callable[..., HeaderServer],
    person: Callable[[str], Person],
) -> None:
    workspace = new_workspace()
    user = member(workspace, role=Membership.Role.ADMIN)
    user.is_superuser = True
    user.save()
    reader = open_browser(workspace, user, viewport=viewport, color_scheme=scheme)
    member(workspace, "a.very.long.name.without.a.break.in.it@department.of.physics.example.org")
    prefix = f"/workspaces/{workspace.slug}"
    for path in ("mcp/add/", "mcp/import/", "mcp/ask/"):
        reader.complaints.may_refuse(f"{prefix}/{path}")

    def look(page: Page, what: str) -> None:
        assert_accessible(page, what)
        assert_fits(page, what)

    page = open_adding(reader)
    look(page, "the choice")
    page.get_by_label("Search known servers").fill("zzz")
    look(page, "nothing found")
    found: dict[str, str] = {
        "Uses OAuth at 127.0.0.1": protected_mcp_server().url,
        "wants a client registered by hand": protected_mcp_server(as_options=BY_HAND).url,
        "Wants a key": header_mcp_server().url,
        "No MCP server answers there": "http://127.0.0.1:9/" + "long-" * 30,
    }
    for words, url in found.items():
        page = open_adding(reader)
        ask(page, url)
        expect(page.get_by_role("heading", name=words)).to_be_visible()
        for fold in page.locator("#finding details > summary").all():
            fold.click()
        look(page, words)

    server = new_server(workspace, found["Uses OAuth at 127.0.0.1"], name="Unbroken_" * 13)
    connected_through_the_views(user, server, person("ada"))
    page = reader.open(reader.server_path(server, "edit/"))
    page.get_by_label("Address").fill(open_mcp_server().url)
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#result")).to_be_visible()
    look(page, "a test")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Save the change")).to_be_visible()
    look(page, "what a change ends")

    page = reader.open(f"{prefix}/mcp/import/")
    look(page, "pasting")
    entries = {
        "board": {"url": "https://board.example.com/" + "long-" * 30, "headers": {"X-Key": "${input:key}"}},
        "files": {"command": "npx"},
        "Unbroken_" * 12: {"url": found["Uses OAuth at 127.0.0.1"]},
    }
    page.get_by_label("Contents of mcp.json").fill(json.dumps({"servers": entries}))
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="Choose what to import")).to_be_visible()
    look(page, "choosing")
    page.get_by_role("button", name="Import the chosen ones").click()
    expect(page.get_by_role("alert")).to_be_visible()
    look(page, "choosing, with an error")

    for path in ("mcp/export/?form=vscode", "members/"):
        look(reader.open(f"{prefix}/{path}"), path)
    page.get_by_label("User name or e-mail address").fill("nobody")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("alert")).to_be_visible()
    look(page, "members, with an error")
    page.get_by_role("link", name=re.compile("^Remove")).click()
    look(page, "removing somebody")
    for path in ("/account/", "/account/disconnect/", "/workspaces/new/"):
        look(reader.open(path), path)
    page = reader.open("/account/disconnect/")
    page.get_by_role("button", name="Disconnect everything").click()
    expect(page.get_by_role("heading", name="Everything is disconnected")).to_be_visible()
    look(page, "everything disconnected")


# --- endings of a connection ------------------------------------------------------------------------------------------


def test_a_session_that_ended_meanwhile_is_said_and_signing_in_leads_on(
    reader: Reader, protected_mcp_server: Protect
) -> None:
    server = new_server(reader.workspace, protected_mcp_server().url)
    reader.context.add_init_script(NO_POPUPS)
    page = reader.settings()
    reader.card(server).get_by_role("button", name="Connect with OAuth").click()
    expect(page.get_by_label("User name")).to_be_visible()
    reader.context.clear_cookies(name="sessionid")
    answer(page)

    expect(page.get_by_text("You were signed out while you were away")).to_be_visible()
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Username").fill(reader.user.get_username())
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Sign in").click()

    expect(reader.card(server)).to_contain_text("Waiting for you in the other window")
    reader.card(server).get_by_role("button", name="Open again").click()
    expect(page.get_by_role("button", name="Allow", exact=True)).to_be_visible()
    page.get_by_role("button", name="Allow", exact=True).click()
    expect(page.get_by_role("heading", name="You are connected")).to_be_visible()


def test_somebody_else_at_the_same_browser_is_turned_away_and_learns_nothing(
    reader: Reader, protected_mcp_server: Protect
) -> None:
    server = new_server(reader.workspace, protected_mcp_server().url, name="Confidential")
    reader.context.add_init_script(NO_POPUPS)
    page = reader.settings()
    reader.card(server).get_by_role("button", name="Connect with OAuth").click()
    expect(page.get_by_label("User name")).to_be_visible()
    sign_in(reader.context, reader.base_url, member())
    answer(page)

    expect(page.get_by_text("somebody else's attempt to connect")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text("Confidential")
    assert AuthorizationFlow.objects.filter(consumed_at__isnull=True).count() == 1
    assert not McpServerOAuth.objects.exists()
