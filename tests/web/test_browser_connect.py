"""Connecting in a real browser: popup, tab, without script, refused, cancelled, by keyboard, and two at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from mcp_oauth.models import AuthorizationFlow, McpServerOAuth
from tests.people import new_server, new_workspace
from tests.servers import AuthorizationServerOptions, Person, ProtectedServer
from tests.web.browser import (
    PHONE,
    Reader,
    answer,
    at_the_authorization_server,
    closed,
    connected_through_the_views,
    focus_by_tab,
    press_connect,
)
from tests.web.conftest import OpenBrowser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Serve = Callable[..., ProtectedServer]
NO_POPUPS = "window.open = () => null;"


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("same_origin", [True, False], ids=["same-origin", "other-origin"])
def test_a_popup_connects_and_the_card_follows_without_a_reload(
    era: str, same_origin: bool, reader: Reader, protected_mcp_server: Serve
) -> None:
    server = new_server(reader.workspace, protected_mcp_server(era, same_origin=same_origin).url)
    page = reader.settings()
    page.evaluate("window.stayed = true")

    popup = press_connect(reader, server)
    expect(reader.card(server)).to_contain_text("Waiting for you in the other window")
    answer(popup)
    closed(popup)

    card = reader.card(server)
    expect(card.locator(".state.ok").first).to_contain_text("Access: Connected")
    expect(card).to_contain_text("4 tools")
    expect(page.locator("#announcer")).to_have_text("Connected.")
    assert page.evaluate("window.stayed") is True


def test_the_popup_is_a_window_of_its_own_size_over_the_page(reader: Reader, protected_mcp_server: Serve) -> None:
    peer = protected_mcp_server()
    server = new_server(reader.workspace, peer.url)
    reader.settings()

    popup = press_connect(reader, server)
    at_the_authorization_server(popup, peer.issuer)

    assert popup.evaluate("innerWidth") == 560
    assert reader.page.evaluate("innerWidth") == 1180


def test_a_tab_connects_where_popups_are_blocked(reader: Reader, protected_mcp_server: Serve) -> None:
    server = new_server(reader.workspace, protected_mcp_server().url)
    reader.context.add_init_script(NO_POPUPS)
    page = reader.settings()

    reader.card(server).get_by_role("button", name="Connect with OAuth").click()
    answer(page)

    expect(page.get_by_role("heading", name="You are connected")).to_be_visible()
    expect(page.get_by_role("button", name="Close this window")).to_be_hidden()
    page.get_by_role("link", name="Back to connections").click()
    expect(reader.card(server)).to_contain_text("Connected")
    expect(reader.card(server)).to_contain_text("4 tools")


def test_a_phone_connects_in_a_second_tab_that_closes(open_browser: OpenBrowser, protected_mcp_server: Serve) -> None:
    reader = open_browser(viewport=PHONE, has_touch=True, is_mobile=True)
    server = new_server(reader.workspace, protected_mcp_server().url)
    page = reader.settings()

    tab = press_connect(reader, server)
    answer(tab)
    closed(tab)

    expect(reader.card(server)).to_contain_text("4 tools")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_connecting_works_without_script(open_browser: OpenBrowser, protected_mcp_server: Serve) -> None:
    reader = open_browser(java_script_enabled=False)
    peer = protected_mcp_server()
    server = new_server(reader.workspace, peer.url)
    page = reader.settings()

    reader.card(server).get_by_role("button", name="Connect with OAuth").click()
    expect(page.get_by_role("heading", name="Connect Tracker")).to_be_visible()
    expect(page.locator(".where")).to_contain_text(urlsplit(peer.issuer).netloc)
    answer(page)  # the page went on by itself

    expect(page.get_by_role("heading", name="You are connected")).to_be_visible()
    page.get_by_role("link", name="Back to connections").click()
    expect(reader.card(server).locator(".state.ok").first).to_contain_text("Access: Connected")
    reader.card(server).get_by_role("link", name="Tools Tracker").click()
    expect(page.get_by_role("heading", name="Tools 4")).to_be_visible()


def test_the_page_on_the_way_can_be_left_before_it_goes_on(
    open_browser: OpenBrowser, protected_mcp_server: Serve
) -> None:
    reader = open_browser(java_script_enabled=False)
    server = new_server(reader.workspace, protected_mcp_server().url)
    page = reader.settings()

    reader.card(server).get_by_role("button", name="Connect with OAuth").click()
    page.get_by_role("link", name="Back").click()

    expect(page.get_by_role("heading", name="Connections")).to_be_visible()
    expect(reader.card(server)).to_contain_text("Waiting for you in the other window")
    reader.card(server).get_by_role("button", name="Cancel Tracker").click()
    expect(reader.card(server).get_by_role("button", name="Connect with OAuth")).to_be_visible()
    assert not AuthorizationFlow.objects.exists()


def test_refusing_consent_is_told_in_both_windows(reader: Reader, protected_mcp_server: Serve) -> None:
    server = new_server(reader.workspace, protected_mcp_server().url)
    page = reader.settings()

    popup = press_connect(reader, server)
    answer(popup, decision="Deny")

    expect(popup.get_by_role("heading", name="Not connected")).to_be_visible()
    expect(reader.card(server).get_by_role("button", name="Connect with OAuth")).to_be_visible()
    expect(page.locator("#announcer")).to_have_text("Not connected. The other window says why.")
    popup.get_by_role("button", name="Close this window").click(no_wait_after=True)
    closed(popup)
    assert not McpServerOAuth.objects.exists()


def test_refusing_consent_without_script_leads_back(open_browser: OpenBrowser, protected_mcp_server: Serve) -> None:
    reader = open_browser(java_script_enabled=False)
    server = new_server(reader.workspace, protected_mcp_server().url)
    page = reader.settings()

    reader.card(server).get_by_role("button", name="Connect with OAuth").click()
    answer(page, decision="Deny")

    expect(page.get_by_role("heading", name="Not connected")).to_be_visible()
    page.get_by_role("link", name="Back to connections").click()
    expect(reader.card(server).get_by_role("button", name="Connect with OAuth")).to_be_visible()


def test_cancelling_while_waiting_makes_room_for_a_new_attempt(reader: Reader, protected_mcp_server: Serve) -> None:
    peer = protected_mcp_server()
    server = new_server(reader.workspace, peer.url)
    reader.settings()

    first = press_connect(reader, server)
    at_the_authorization_server(first, peer.issuer)
    reader.card(server).get_by_role("button", name="Cancel Tracker").click()
    expect(reader.card(server).get_by_role("button", name="Connect with OAuth")).to_be_visible()
    assert not AuthorizationFlow.objects.exists()

    # The abandoned window finishes after all: it is turned away, in words, and nothing is stored.
    answer(first)
    expect(first.get_by_role("heading", name="Not connected")).to_be_visible()
    assert not McpServerOAuth.objects.exists()
    first.close()

    second = press_connect(reader, server)
    answer(second)
    closed(second)
    expect(reader.card(server)).to_contain_text("4 tools")


def test_open_again_continues_in_the_same_window(reader: Reader, protected_mcp_server: Serve) -> None:
    peer = protected_mcp_server()
    server = new_server(reader.workspace, peer.url)
    reader.settings()

    popup = press_connect(reader, server)
    at_the_authorization_server(popup, peer.issuer)
    popup.close()
    again = press_connect(reader, server, "Open again")
    answer(again)
    closed(again)

    expect(reader.card(server)).to_contain_text("4 tools")


def test_two_servers_connecting_at_once_do_not_disturb_each_other(reader: Reader, protected_mcp_server: Serve) -> None:
    first, second = protected_mcp_server(), protected_mcp_server("legacy", same_origin=True)
    tracker = new_server(reader.workspace, first.url)
    notes = new_server(reader.workspace, second.url, name="Notes")
    reader.settings()

    to_tracker = press_connect(reader, tracker)
    at_the_authorization_server(to_tracker, first.issuer)
    to_notes = press_connect(reader, notes)
    at_the_authorization_server(to_notes, second.issuer)
    answer(to_notes, name="grace")
    closed(to_notes)
    expect(reader.card(notes)).to_contain_text("4 tools")
    expect(reader.card(tracker)).to_contain_text("Waiting for you in the other window")
    answer(to_tracker)
    closed(to_tracker)

    expect(reader.card(tracker)).to_contain_text("4 tools")
    assert McpServerOAuth.objects.count() == 2


def test_a_server_that_cannot_be_asked_is_told_on_the_card(reader: Reader, protected_mcp_server: Serve) -> None:
    peer = protected_mcp_server()
    server = new_server(reader.workspace, peer.url)
    peer.configure(authorization_servers=())
    page = reader.settings()
    reader.complaints.may_refuse("/mcp/oauth/start/")

    popup = press_connect(reader, server)
    closed(popup)

    alert = reader.card(server).get_by_role("alert")
    expect(alert).to_contain_text("authorization_servers")
    expect(reader.card(server).get_by_role("button", name="Connect with OAuth")).to_be_enabled()
    assert page.url.endswith("/mcp/")


def test_a_person_connects_with_the_keyboard_alone(reader: Reader, protected_mcp_server: Serve) -> None:
    server = new_server(reader.workspace, protected_mcp_server().url)
    page = reader.settings()

    focus_by_tab(page, "Connect with OAuth Tracker")
    with page.expect_popup() as opened:
        page.keyboard.press("Enter")
    popup = opened.value
    expect(popup.get_by_label("User name")).to_be_focused()
    popup.keyboard.type("ada")
    popup.keyboard.press("Tab")
    popup.keyboard.type("ada")
    popup.keyboard.press("Enter")
    expect(popup.get_by_role("button", name="Allow", exact=True)).to_be_visible()
    focus_by_tab(popup, "Allow")
    popup.keyboard.press("Enter")
    closed(popup)

    expect(reader.card(server)).to_contain_text("4 tools")
    # The focus is still in that card and not at the top of the page.
    assert page.evaluate("document.activeElement.closest('[data-server]')?.dataset.server") == str(server.pk)


def test_a_card_offers_to_reconnect_and_says_why(
    open_browser: OpenBrowser, protected_mcp_server: Serve, person: Callable[[str], Person]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(issue_refresh_token=False))
    workspace = new_workspace()
    reader = open_browser(workspace)
    server = new_server(workspace, peer.url)
    connected_through_the_views(reader.user, server, person("ada"))
    McpServerOAuth.objects.update(state="needs_reauthorization", reason="refused")
    page = reader.settings()

    expect(page.get_by_role("heading", name="Needs you 1")).to_be_visible()
    expect(reader.card(server)).to_contain_text("Access ended")
    popup = press_connect(reader, server, "Reconnect")
    answer(popup)
    closed(popup)

    expect(page.get_by_role("heading", name="Connected 1")).to_be_visible()
    expect(reader.card(server)).to_contain_text("4 tools")


def test_a_run_that_lacks_access_is_authorized_where_one_is_and_goes_on_by_itself(
    reader: Reader, protected_mcp_server: Serve, person: Callable[[str], Person]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(issue_refresh_token=False))
    server = new_server(reader.workspace, peer.url)
    connected_through_the_views(reader.user, server, person("ada"))
    page = reader.open(reader.server_path(server))
    page.get_by_role("link", name="Run echo").click()
    page.get_by_label("Text", exact=True).fill("still here")
    peer.reject_tokens()

    page.get_by_role("button", name="Run echo").click()
    notice = page.get_by_role("alert")
    expect(notice).to_be_visible()
    with page.expect_popup() as opened:
        notice.get_by_role("button", name="Authorize and continue").click()
    peer.accept_tokens()
    answer(opened.value)
    closed(opened.value)

    expect(page.locator("#text-1")).to_have_text("still here")
    expect(page.get_by_label("Text", exact=True)).to_have_value("still here")


def test_signing_out_elsewhere_leads_to_the_login_page(reader: Reader, protected_mcp_server: Serve) -> None:
    server = new_server(reader.workspace, protected_mcp_server().url)
    page = reader.settings()
    reader.complaints.may_refuse("/mcp/oauth/start/")
    reader.context.clear_cookies(name="sessionid")

    popup = press_connect(reader, server)
    closed(popup)

    expect(page).to_have_url(re.compile("/accounts/login/"))
