"""The pages of the JSON API in a real browser: a token is made, copied and revoked; the documentation is read."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from mcp_oauth.models import ApiToken
from mcp_oauth.services.api_tokens import make_token
from tests.web.browser import DESKTOP, PHONE, assert_accessible, assert_fits
from tests.web.conftest import OpenBrowser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

Scheme = Literal["light", "dark"]
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])
SIZES = pytest.mark.parametrize("size", [DESKTOP, PHONE])


def to_the_tokens(page: Page) -> None:
    """Go there by the menu behind one's name."""
    page.locator("footer.account summary").click()
    page.locator("footer.account").get_by_role("link", name="API tokens").click()


@SCHEMES
@SIZES
def test_a_token_is_made_and_revoked(open_browser: OpenBrowser, scheme: Scheme, size: tuple[int, int]) -> None:
    reader = open_browser(viewport=size, color_scheme=scheme)
    page = reader.settings()
    to_the_tokens(page)
    expect(page.get_by_role("heading", name="API tokens", exact=True)).to_be_visible()
    assert_accessible(page, "no tokens yet")

    page.get_by_role("button", name="Make token").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved yet")
    assert_accessible(page, "a mistake")
    page.get_by_label("Name", exact=True).fill("Nightly report")
    page.get_by_role("button", name="Make token").click()

    secret = page.get_by_label("API token", exact=True)
    expect(secret).to_have_value(re.compile(r"^mcpo_\w{49}$"))
    assert_accessible(page, "a token that was just made")
    assert_fits(page, "a token that was just made")
    to_the_tokens(page)
    expect(secret).to_have_count(0)
    page.get_by_role("button", name="Revoke Nightly report").click()

    expect(page.get_by_text("Nightly report is revoked.")).to_be_visible()
    assert_accessible(page, "a revoked token")
    assert_fits(page, "a revoked token")
    assert ApiToken.objects.get().revoked_at is not None


def test_a_token_is_made_without_script(open_browser: OpenBrowser) -> None:
    reader = open_browser(java_script_enabled=False)
    page = reader.open("/account/tokens/")

    page.get_by_label("Name", exact=True).fill("Nightly report")
    page.get_by_role("button", name="Make token").click()

    expect(page.get_by_label("API token", exact=True)).to_have_value(re.compile(r"^mcpo_\w{49}$"))
    expect(page.get_by_role("button", name="Copy")).to_be_hidden()


@SCHEMES
@SIZES
def test_the_documentation_is_read(open_browser: OpenBrowser, scheme: Scheme, size: tuple[int, int]) -> None:
    reader = open_browser(viewport=size, color_scheme=scheme)
    make_token(reader.user, reader.workspace, "Nightly report")
    page = reader.open("/api/v1/docs/")

    page.locator("#call_tool > summary").click()

    expect(page.locator("#call_tool")).to_contain_text("server_id")
    assert_accessible(page, "documentation")
    assert_fits(page, "documentation")
    expect(page.get_by_role("link", name="OpenAPI schema")).to_have_attribute("href", "/api/v1/openapi.json")
