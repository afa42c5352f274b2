"""How often one person may do what costs others something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from mcp_oauth import call_tool
from mcp_oauth.models import AuthorizationFlow, McpServerOAuth, Membership
from mcp_oauth.services import limits
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, start
from tests.servers import AuthorizationServerOptions, OpenServer, ProtectedServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("T43")]

NOON = 1_800_000_000.0
REGISTERING = AuthorizationServerOptions(cimd=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Hold the time that is counted by; its one item is now."""
    now = [NOON]
    monkeypatch.setattr(limits, "_now", lambda: now[0])
    return now


@pytest.fixture
def limited(settings: Any, clock: list[float]) -> Callable[..., None]:
    def limit(**values: int) -> None:
        settings.MCP_OAUTH = {**settings.MCP_OAUTH, **values}

    return limit


def test_a_burst_of_starts_ends_and_the_next_minute_is_free(
    limited: Callable[..., None], clock: list[float], protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    limited(STARTS_PER_MINUTE=2)
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    browser, colleague = browser_of(member(workspace)), browser_of(member(workspace))
    clock[0] = NOON + 20
    asked = [start(browser, server).get("status") for _ in range(2)]
    seen = len(peer.requests)
    third = browser.post("/mcp/oauth/start/", {"server": server.pk}, headers={"accept": "application/json"})

    assert asked == ["redirect", "redirect"]
    assert (third.status_code, third["Retry-After"]) == (429, "40")
    assert third.json()["error"]["code"] == "too_many_requests"
    assert third.json()["error"]["retry_after"] == 40
    # It is refused before anybody else is asked or anything is stored.
    assert len(peer.requests) == seen
    assert AuthorizationFlow.objects.count() == 2
    assert start(colleague, server)["status"] == "redirect"

    clock[0] = NOON + 60
    assert start(browser, server)["status"] == "redirect"


def test_the_page_says_it_in_words(
    limited: Callable[..., None], protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    limited(STARTS_PER_MINUTE=0)
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    page = browser_of(member(workspace)).post("/mcp/oauth/start/", {"server": server.pk})

    assert page.status_code == 429
    assert "Wait 60 seconds and try again." in page.content.decode()


def test_a_callback_that_is_one_too_many_uses_nothing_up(
    limited: Callable[..., None],
    clock: list[float],
    protected_mcp_server: Callable[..., ProtectedServer],
    person: Callable[..., Any],
) -> None:
    limited(CALLBACKS_PER_MINUTE=1)
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    browser = browser_of(member(workspace))
    callback = person("ada").authorize(start(browser, server)["authorization_url"])
    browser.get("/mcp/oauth/callback/?state=guessed&code=guessed")

    refused = come_back(browser, callback)
    assert refused.status_code == 429
    assert peer.authorization_server.requests_to("/token") == []

    clock[0] += 60
    assert come_back(browser, callback).status_code == 200
    assert McpServerOAuth.objects.get().is_active


@pytest.mark.parametrize("door", ["api", "page"])
def test_a_burst_of_tool_calls_ends_at_the_door_and_the_teams_own_code_is_free(
    door: str, limited: Callable[..., None], open_mcp_server: Callable[..., OpenServer]
) -> None:
    limited(CALLS_PER_MINUTE=2)
    peer = open_mcp_server()
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    browser = browser_of(user)

    def call() -> int:
        if door == "api":
            address = f"/api/v1/servers/{server.pk}/tools/echo/call/"
            body = '{"arguments": {"text": "hi"}}'
            return browser.post(address, body, content_type="application/json").status_code
        address = f"/workspaces/{workspace.slug}/mcp/{server.pk}/run/?tool=echo"
        return browser.post(address, {"arguments": '{"text": "hi"}'}).status_code

    assert [call() for _ in range(4)] == [200, 200, 429, 429]
    assert peer.rpc_methods.count("tools/call") == 2
    assert call_tool(server, user, "echo", {"text": "hi"}).text == "hi"


@pytest.mark.parametrize("way", ["refresh", "diagnose", "add", "api"])
def test_nobody_has_others_asked_without_end(
    way: str, limited: Callable[..., None], open_mcp_server: Callable[..., OpenServer]
) -> None:
    limited(ASKS_PER_MINUTE=1)
    peer = open_mcp_server()
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    browser = browser_of(member(workspace, role=Membership.Role.ADMIN))
    place = f"/workspaces/{workspace.slug}/mcp"

    def ask() -> int:
        if way == "api":
            return browser.get(f"/api/v1/servers/{server.pk}/tools/?refresh=1").status_code
        if way == "add":
            return browser.post(f"{place}/add/", {"name": "Other", "url": peer.url, "enabled": "on"}).status_code
        return browser.post(f"{place}/{server.pk}/{way}/").status_code

    assert ask() < 400
    seen = len(peer.requests)
    # A form comes back with what was typed in it.
    assert ask() == (400 if way == "add" else 429)
    assert len(peer.requests) == seen


def test_a_cache_that_is_down_keeps_nobody_from_working(
    limited: Callable[..., None],
    protected_mcp_server: Callable[..., ProtectedServer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    person: Callable[..., Any],
) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)

    def down(*_args: Any, **_kwargs: Any) -> None:
        raise ConnectionError("no cache")

    monkeypatch.setattr(type(cache._connections[cache._alias]), "add", down)  # type: ignore[attr-defined]
    connect(browser_of(member(workspace)), server, person("ada"))

    assert McpServerOAuth.objects.get().is_active
    assert "the cache does not count" in caplog.text


def test_somebody_who_is_not_signed_in_is_not_counted(limited: Callable[..., None]) -> None:
    limited(STARTS_PER_MINUTE=0, CALLBACKS_PER_MINUTE=0)

    assert Client().post("/mcp/oauth/start/", headers={"accept": "application/json"}).status_code == 401
