"""Every way in which connecting can end: each is a page that says so and offers a way on that leads somewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth, Membership, Workspace
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import delete_server, update_server
from tests.people import browser_of, come_back, member, new_server, new_workspace, start
from tests.servers import AuthorizationServerOptions, Person, ProtectedServer, json_fault

pytestmark = pytest.mark.django_db(transaction=True)

REGISTERING = AuthorizationServerOptions(cimd=False)


@dataclass
class Attempt:
    """Somebody who pressed Connect and is at the authorization server."""

    peer: ProtectedServer
    workspace: Workspace
    user: User
    browser: Client
    server: McpServer
    person: Person
    url: str

    def allow(self, **changes: str | None) -> str:
        """Agree; returns the address of the answer, with parameters replaced, or left out where ``None``."""
        answer = urlsplit(self.person.authorize(self.url))
        query = {**dict(parse_qsl(answer.query)), **changes}
        return f"{answer.path}?{urlencode({name: value for name, value in query.items() if value is not None})}"


@pytest.fixture
def attempt(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> Callable[[], Attempt]:
    def begin() -> Attempt:
        peer = protected_mcp_server(as_options=REGISTERING)
        # Whoever belongs to two workspaces comes back to the right one.
        workspace, user = new_workspace("zeta"), member()
        for place in (new_workspace("alpha"), workspace):
            Membership.objects.create(workspace=place, user=user)
        browser, server = browser_of(user), new_server(workspace, peer.url)
        url = str(start(browser, server)["authorization_url"])
        return Attempt(peer, workspace, user, browser, server, person("ada"), url)

    return begin


def _refused(at: Attempt) -> Any:
    return come_back(at.browser, at.person.deny(at.url))


def _provider_error(at: Attempt) -> Any:
    return at.browser.get(at.allow(code=None, error="server_error", error_description="The moon is full."))


def _mix_up(at: Attempt) -> Any:
    return at.browser.get(at.allow(iss="https://evil.example"))


def _no_issuer(at: Attempt) -> Any:
    return at.browser.get(at.allow(iss=None))


def _expired(at: Attempt) -> Any:
    AuthorizationFlow.objects.update(expires_at=timezone.now())
    return at.browser.get(at.allow())


def _replayed(at: Attempt) -> Any:
    answer = at.allow()
    assert at.browser.get(answer).status_code == 200
    return at.browser.get(answer)


def _cancelled(at: Attempt) -> Any:
    at.browser.post("/mcp/oauth/cancel/", {"flow": str(AuthorizationFlow.objects.get().pk)})
    return at.browser.get(at.allow())


def _other_user(at: Attempt) -> Any:
    return browser_of(member(at.workspace)).get(at.allow())


def _other_browser(at: Attempt) -> Any:
    return browser_of(at.user).get(at.allow())


def _signed_out(at: Attempt) -> Any:
    at.browser.logout()
    return at.browser.get(at.allow())


def _removed(at: Attempt) -> Any:
    Membership.objects.filter(workspace=at.workspace).delete()
    return at.browser.get(at.allow())


def _disabled(at: Attempt) -> Any:
    McpServer.objects.update(enabled=False)
    return at.browser.get(at.allow())


def _deleted(at: Attempt) -> Any:
    delete_server(at.server)
    return at.browser.get(at.allow())


def _changed(at: Attempt) -> Any:
    update_server(
        at.server, ServerSettings(name="Tracker", url=at.server.url, client_id="other", client_secret="s" * 9)
    )
    return at.browser.get(at.allow())


def _not_oauth_any_more(at: Attempt) -> Any:
    update_server(at.server, ServerSettings(name="Tracker", url=at.server.url, auth_mode="headers"))
    return at.browser.get(at.allow())


def _token_endpoint_down(at: Attempt) -> Any:
    at.peer.configure_authorization_server(token_faults=lambda form: json_fault(503, "temporarily_unavailable"))
    return at.browser.get(at.allow())


def _code_refused(at: Attempt) -> Any:
    at.peer.configure_authorization_server(token_faults=lambda form: json_fault(400, "invalid_grant"))
    return at.browser.get(at.allow())


def _forged(at: Attempt) -> Any:
    return at.browser.get("/mcp/oauth/callback/?code=guessed&state=guessed")


HERE, HOME, SIGN_IN = "where the server is", "the first page", "signing in"
# How it ends: what the page says, and where its way on leads.
ENDINGS: dict[Callable[[Attempt], Any], tuple[str, str]] = {
    _refused: ("Access was not granted", HERE),
    _provider_error: ("It says: “The moon is full.”", HERE),
    _mix_up: ("came from another authorization server than the one you were sent to", HERE),
    _no_issuer: ("does not say which authorization server it came from", HERE),
    _expired: ("You took longer than 10 minutes", HERE),
    _replayed: ("This was used already", HERE),
    _cancelled: ("it may have been cancelled, or its server removed", HOME),
    _other_user: ("somebody else's attempt to connect", HOME),
    _other_browser: ("was started in another browser", HERE),
    _signed_out: ("You were signed out while you were away", SIGN_IN),
    _removed: ("You no longer belong to the workspace of Tracker", HOME),
    _disabled: ("Tracker is disabled.", HERE),
    _deleted: ("it may have been cancelled, or its server removed", HOME),
    _changed: ("Tracker was changed while you were away", HERE),
    _not_oauth_any_more: ("Tracker does not use OAuth", HERE),
    _token_endpoint_down: ("Try again in a minute", HERE),
    _code_refused: ("Try to connect again", HERE),
    _forged: ("No attempt to connect is open for this answer", HOME),
}


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__.strip("_"))
def test_every_ending_says_so_and_offers_a_way_on(
    ending: Callable[[Attempt], Any], attempt: Callable[[], Attempt]
) -> None:
    at = attempt()
    words, way = ENDINGS[ending]
    kept = 1 if ending is _replayed else 0

    page = ending(at)

    text = re.sub(r"\s+", " ", html.unescape(page.content.decode()))
    assert 400 <= page.status_code < 500
    assert words in text
    assert "Back to connections" in text
    assert page.context["next_step"] in text
    assert page.context["next_step"]
    assert McpServerOAuth.objects.count() == kept
    links = re.findall(r'class="button strong" href="([^"]+)"', page.content.decode())
    expected = {
        HERE: f"/workspaces/{at.workspace.slug}/mcp/#server-{at.server.pk}",
        HOME: "/workspaces/",
        SIGN_IN: "/accounts/login/?next=%2Fworkspaces%2F",
    }
    assert links == [expected[way]]
    assert at.browser.get(links[0], follow=True).status_code == 200


@pytest.mark.parametrize("ending", [_refused, _provider_error, _mix_up, _expired, _cancelled, _changed, _code_refused])
def test_after_an_ending_one_connects_as_if_nothing_had_been(
    ending: Callable[[Attempt], Any], attempt: Callable[[], Attempt]
) -> None:
    at = attempt()
    ending(at)
    at.peer.configure_authorization_server(token_faults=None)
    McpServer.objects.update(client_id="", client_issuer="")

    at.url = str(start(at.browser, at.server)["authorization_url"])
    arrived = at.browser.get(at.allow())

    assert arrived.status_code == 200
    assert McpServerOAuth.objects.get().is_active


def test_cancelling_leads_back_to_where_the_server_is(attempt: Callable[[], Attempt]) -> None:
    at = attempt()
    flow = str(AuthorizationFlow.objects.get().pk)

    first = at.browser.post("/mcp/oauth/cancel/", {"flow": flow})
    again = at.browser.post("/mcp/oauth/cancel/", {"flow": flow})

    assert first.headers["Location"] == f"/workspaces/zeta/mcp/#server-{at.server.pk}"
    assert again.headers["Location"] == "/workspaces/"


def test_another_person_cancels_nothing(attempt: Callable[[], Attempt]) -> None:
    at = attempt()

    browser_of(member(at.workspace)).post("/mcp/oauth/cancel/", {"flow": str(AuthorizationFlow.objects.get().pk)})

    assert at.browser.get(at.allow()).status_code == 200
