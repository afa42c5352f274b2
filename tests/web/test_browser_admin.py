"""The Django admin in a real browser, under the pages' content security policy: nothing is reported or refused."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from mcp_oauth.models import (
    ApiToken,
    AuthorizationFlow,
    Event,
    McpServer,
    McpServerOAuth,
    Membership,
    OAuthRegistration,
    StoredListing,
    ToolCall,
    Workspace,
)
from tests.people import member
from tests.web.conftest import OpenBrowser
from tests.web.test_admin import everything, page
from tests.web.test_admin_desk import everything_at_once

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

MODELS = (
    *(Workspace, Membership, McpServer, McpServerOAuth, OAuthRegistration, AuthorizationFlow, StoredListing, ToolCall),
    *(Event, ApiToken),
)


def operator(workspace: Workspace) -> User:
    user = member(workspace)
    User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=True)
    return user


def test_every_page_of_the_admin_works_under_the_policy(open_browser: OpenBrowser) -> None:
    reader = open_browser()
    everything_at_once(reader.workspace)
    reader = open_browser(reader.workspace, operator(reader.workspace))

    assert reader.open("/admin/").get_by_role("heading", name="Site administration").is_visible()
    for model in MODELS:
        row = model._default_manager.all()[0]
        listed = reader.open(page(model, "changelist"))
        expect(listed.locator("#result_list")).to_be_visible()
        changed = reader.open(page(model, "change", row.pk))
        expect(changed.locator("#content-main")).to_be_visible()


def test_servers_are_chosen_and_disconnected_by_hand(open_browser: OpenBrowser) -> None:
    reader = open_browser()
    everything(reader.workspace)
    reader = open_browser(reader.workspace, operator(reader.workspace))
    server = McpServer.objects.get()
    seen = reader.open(page(McpServer, "changelist"))

    seen.get_by_role("link", name="Somebody is connected").click()
    seen.get_by_role("checkbox", name="Select this object for an action").check()
    seen.get_by_label("Action:").select_option(label="Disconnect everybody…")
    seen.get_by_role("button", name="Go").or_(seen.get_by_role("button", name="Run")).click()
    expect(seen.get_by_role("heading", name="Disconnect 1 grant")).to_be_visible()
    seen.get_by_role("link", name="No, take me back").click()
    assert McpServerOAuth.objects.filter(server=server).exists()

    seen.get_by_role("checkbox", name="Select this object for an action").check()
    seen.get_by_label("Action:").select_option(label="Disconnect everybody…")
    seen.get_by_role("button", name="Go").or_(seen.get_by_role("button", name="Run")).click()
    seen.get_by_role("button", name="Disconnect everybody").click()
    expect(seen.locator(".messagelist")).to_contain_text("1 connection")
    assert not McpServerOAuth.objects.filter(server=server).exists()
