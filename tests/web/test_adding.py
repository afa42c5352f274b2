"""Adding a server: what asking it shows while it happens and what is still needed; changing one with a test first."""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth, Membership, Workspace
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.services import known_servers as gallery
from mcp_oauth.services.evidence import Evidence
from mcp_oauth.services.findings import Asked, Finding, address_from, find_out, told_as_it_happens
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, start
from tests.servers import (
    AuthorizationServerOptions,
    HeaderServer,
    OddServer,
    OpenServer,
    Person,
    ProtectedServer,
    hostile,
)
from tests.servers.peer import Peer

pytestmark = pytest.mark.django_db(transaction=True)

ADMIN = Membership.Role.ADMIN
CANARY = "canary-3a44"
LINES = "application/x-ndjson"
# Where nobody could read this site's own document.
REGISTERING = AuthorizationServerOptions(cimd=False)
BY_HAND = AuthorizationServerOptions(cimd=False, dynamic_registration=False)

Protect = Callable[..., ProtectedServer]
Serve = Callable[..., OpenServer]


@pytest.fixture
def workspace() -> Workspace:
    return new_workspace()


@pytest.fixture
def admin(workspace: Workspace) -> User:
    return member(workspace, role=ADMIN)


@pytest.fixture
def browser(admin: User) -> Client:
    return browser_of(admin)


def path_to(name: str, workspace: Workspace, server: McpServer | None = None) -> str:
    names: dict[str, Any] = {"slug": workspace.slug}
    if server is not None:
        names["server_id"] = server.pk
    return reverse(f"mcp_oauth:{name}", kwargs=names)


def text_of(response: Any) -> str:
    content = b"".join(response.streaming_content) if response.streaming else response.content
    return re.sub(r"\s+", " ", html.unescape(content.decode()))


def lines_of(response: Any) -> list[tuple[str, str]]:
    """Return the kinds and texts of an answer that comes line by line."""
    content = b"".join(response.streaming_content).decode()
    pairs = [next(iter(json.loads(line).items())) for line in content.splitlines()]
    return [(kind, re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text))).strip()) for kind, text in pairs]


def hidden_fields(page: Any) -> dict[str, Any]:
    """Return what a page's form carries along in hidden fields, several of one name as a list."""
    found: dict[str, Any] = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.content.decode()):
        if name != "csrfmiddlewaretoken":
            found.setdefault(name, []).append(html.unescape(value))
    return {name: values if name == "agreed" else values[0] for name, values in found.items()}


@pytest.fixture
def held_mcp_server() -> Iterator[tuple[Peer, threading.Event]]:
    """Run a server without any fault, which holds its answers back until the event is set."""
    release = threading.Event()
    with hostile.healthy(release) as peer:
        yield peer, release
        release.set()


# --- what is found ----------------------------------------------------------------------------------------------------


def test_asking_says_that_a_server_registers_clients_itself_and_stores_nothing(
    workspace: Workspace, browser: Client, protected_mcp_server: Protect
) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)

    page = browser.post(path_to("ask", workspace), {"url": peer.url})

    text = text_of(page)
    assert page.status_code == 200
    assert "Uses OAuth at 127.0.0.1" in text
    assert "Nothing to set up: this application registers itself there." in text
    assert "Add and connect" in text
    assert "Client ID" not in text
    assert not McpServer.objects.exists()
    assert peer.authorization_server.requests_to("/register") == []


def test_asking_says_who_reads_the_applications_own_document(
    workspace: Workspace, browser: Client, protected_mcp_server: Protect
) -> None:
    page = browser.post(path_to("ask", workspace), {"url": protected_mcp_server().url})

    assert "it reads who this application is from the application's own document" in text_of(page)


def test_asking_says_that_a_client_is_made_by_hand_with_the_redirect_uri_to_copy(
    workspace: Workspace, browser: Client, protected_mcp_server: Protect
) -> None:
    peer = protected_mcp_server(as_options=BY_HAND)

    page = browser.post(path_to("ask", workspace), {"url": peer.url})

    text = text_of(page)
    assert "Uses OAuth at 127.0.0.1, which wants a client registered by hand" in text
    assert 'value="http://127.0.0.1:8000/mcp/oauth/callback/"' in text
    assert "Client ID" in text
    assert page.context["form"]["client_issuer"].value() == peer.issuer


def test_asking_says_that_a_server_wants_a_key(
    workspace: Workspace, browser: Client, header_mcp_server: Callable[..., HeaderServer]
) -> None:
    text = text_of(browser.post(path_to("ask", workspace), {"url": header_mcp_server().url}))

    assert "Wants a key" in text
    assert "Headers" in text
    assert "Add and connect" not in text


def test_asking_says_that_a_server_is_open_and_what_it_calls_itself(
    workspace: Workspace, browser: Client, open_mcp_server: Serve
) -> None:
    page = browser.post(path_to("ask", workspace), {"url": open_mcp_server().url})

    assert "Open to everybody" in text_of(page)
    assert page.context["form"]["name"].value()


@pytest.mark.parametrize("kind", ["html", "http500", "ok_to_everything"])
def test_asking_says_that_nothing_of_the_kind_answers_and_leaves_a_way(
    kind: str, workspace: Workspace, browser: Client, odd_server: Callable[..., OddServer]
) -> None:
    page = browser.post(path_to("ask", workspace), {"url": odd_server(kind).url})

    text = text_of(page)
    assert "No MCP server answers there" in text
    assert "Try again" in text
    assert "Add it all the same" in text


def test_a_broken_document_is_named_and_not_called_the_persons_fault(
    workspace: Workspace, browser: Client, protected_mcp_server: Protect
) -> None:
    options = AuthorizationServerOptions(metadata_overrides={"issuer": "https://elsewhere.example"})
    peer = protected_mcp_server(as_options=options)

    text = text_of(browser.post(path_to("ask", workspace), {"url": peer.url}))

    assert "It is not clear how to open this server" in text
    assert "issuer" in text


def test_an_address_without_a_path_is_offered_the_usual_one(workspace: Workspace, browser: Client) -> None:
    page = browser.post(path_to("ask", workspace), {"url": "http://127.0.0.1:9/"})

    assert "Ask http://127.0.0.1:9/mcp" in text_of(page)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("mcp.example.com", "https://mcp.example.com"),
        (" mcp.example.com/mcp?x=y ", "https://mcp.example.com/mcp?x=y"),
        ("mcp.example.com:8443/mcp", "https://mcp.example.com:8443/mcp"),
        ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp"),
    ],
)
def test_the_scheme_may_be_left_out(typed: str, meant: str) -> None:
    assert address_from(typed) == meant


@pytest.mark.parametrize(
    "typed", ["", " ", "mcp", "javascript:alert(1)", "ftp://mcp.example.com", "http://mcp.example.com/", "x" * 3000]
)
@pytest.mark.parametrize("accept", ["text/html", LINES])
def test_what_is_no_address_is_refused_where_it_was_typed(
    typed: str, accept: str, workspace: Workspace, browser: Client
) -> None:
    answer = browser.post(path_to("ask", workspace), {"url": typed}, headers={"accept": accept})

    assert answer.status_code == 400
    text = text_of(answer)
    assert "address" in text.lower()
    if accept == "text/html" and typed.strip() and len(typed) < 2000:
        assert f'value="{typed.strip()}"' in text or f'value="{typed}"' in text


def test_a_server_that_is_here_already_is_named(workspace: Workspace, browser: Client, open_mcp_server: Serve) -> None:
    peer = open_mcp_server()
    new_server(workspace, peer.url, name="First one")

    assert "First one has this address already" in text_of(browser.post(path_to("ask", workspace), {"url": peer.url}))


@pytest.mark.requirement("T43")
def test_asking_is_limited(workspace: Workspace, browser: Client, open_mcp_server: Serve, settings: Any) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "ASKS_PER_MINUTE": 1}
    peer = open_mcp_server()
    ask = path_to("ask", workspace)
    assert browser.post(ask, {"url": peer.url}).status_code == 200
    seen = len(peer.requests)

    assert browser.post(ask, {"url": peer.url}).status_code == 429
    assert browser.post(ask, {"url": peer.url}, headers={"accept": LINES}).status_code == 429
    assert len(peer.requests) == seen


# --- as it happens ----------------------------------------------------------------------------------------------------


def test_the_page_is_told_of_each_request_before_and_after_it(
    workspace: Workspace, browser: Client, protected_mcp_server: Protect
) -> None:
    answer = browser.post(path_to("ask", workspace), {"url": protected_mcp_server().url}, headers={"accept": LINES})

    told = lines_of(answer)
    assert answer.headers["Content-Type"] == LINES
    assert answer.headers["Cache-Control"] == "no-store"
    assert [kind for kind, _text in told] == ["asked", "step"] * 3 + ["found"]
    assert told[0][1].startswith("Asking the server what it is 127.0.0.1")
    assert "Asks people to sign in" in told[1][1]
    assert "Uses OAuth at 127.0.0.1" in told[-1][1]
    assert "Add and connect" in told[-1][1]


def test_a_request_is_told_while_its_answer_is_still_awaited(held_mcp_server: tuple[Peer, threading.Event]) -> None:
    """The server answers nothing until the first line was read: told afterwards, it would never come."""
    peer, release = held_mcp_server
    told = told_as_it_happens(lambda evidence: find_out(peer.url(), OAuthOptions(), evidence))

    first = next(told)
    release.set()

    assert isinstance(first, Asked)
    *_steps, finding = told
    assert isinstance(finding, Finding)
    assert finding.report.auth_mode == "none"


def test_asking_ends_with_the_time_for_it(settings: Any, held_mcp_server: tuple[Peer, threading.Event]) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "PROBE_SECONDS": 0.3}
    peer, _release = held_mcp_server

    finding = find_out(peer.url(), OAuthOptions(), Evidence())

    assert finding.needs == "decision"
    assert finding.error is not None
    assert finding.error.code == "timeout"


def test_an_error_of_our_own_is_raised_where_it_is_waited_for() -> None:
    def broken(evidence: Evidence) -> Finding:
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        list(told_as_it_happens(broken))


def test_under_asgi_the_lines_come_as_well(workspace: Workspace, admin: User, open_mcp_server: Serve) -> None:
    peer = open_mcp_server()
    client = AsyncClient()
    client.force_login(admin)

    async def ask() -> list[str]:
        answer = await client.post(path_to("ask", workspace), {"url": peer.url}, headers={"accept": LINES})
        parts = cast(Any, answer).streaming_content
        return [line async for part in parts for line in part.decode().splitlines()]

    assert [next(iter(json.loads(line))) for line in async_to_sync(ask)()][-1] == "found"


# --- the gallery ------------------------------------------------------------------------------------------------------


@pytest.fixture
def known_peer(protected_mcp_server: Protect, monkeypatch: pytest.MonkeyPatch) -> ProtectedServer:
    """Put a peer on loopback into the gallery, one whose provider needs an option and a client made by hand."""
    peer = protected_mcp_server(as_options=BY_HAND)
    slack = gallery.known_servers()["slack"]
    asana = gallery.known_servers()["asana"]
    assert slack.provider is not None
    assert asana.provider is not None
    known = gallery.KnownServer(
        "slack", "Slack", peer.url, slack.documentation, "oauth", "documents", slack.summary, "Odd.", asana.provider
    )
    monkeypatch.setattr(gallery, "known_servers", lambda: {"slack": known})
    monkeypatch.setattr("mcp_oauth.views.adding.known_servers", lambda: {"slack": known})
    return peer


def test_the_gallery_is_searched_without_script(workspace: Workspace, browser: Client) -> None:
    add = path_to("add", workspace)

    assert "Linear" in text_of(browser.get(add))
    found = text_of(browser.get(add, {"q": "jira confluence"}))
    assert "Atlassian" in found
    assert "Linear" not in found
    assert "None is known by that name" in text_of(browser.get(add, {"q": "no such thing <script>"}))


def test_a_known_server_is_asked_at_once_and_comes_with_what_is_known_of_it(
    workspace: Workspace, browser: Client, known_peer: ProtectedServer
) -> None:
    page = browser.post(path_to("ask", workspace), {"known": "slack"})

    text = text_of(page)
    assert page.context["form"]["name"].value() == "Slack"
    assert page.context["form"]["url"].value() == known_peer.url
    assert "Create an MCP app in Asana's developer console with the redirect URL http://127.0.0.1:8000/" in text
    assert "Odd." in text
    assert "tolerate_resource_mismatch=true" in text


def test_the_options_of_a_known_server_are_stored_unless_they_are_declined(
    workspace: Workspace, browser: Client, known_peer: ProtectedServer
) -> None:
    given = {"name": "Slack", "url": known_peer.url, "enabled": "on", "client_id": "app", "client_secret": CANARY}
    for known_options in ({"known_options": "on"}, {}):
        browser.post(path_to("add", workspace), {**given, **known_options})

    taken, declined = McpServer.objects.order_by("created_at")
    assert taken.oauth_options == {"tolerate_resource_mismatch": True}
    assert declined.oauth_options == {}


def test_an_unknown_known_server_is_no_address(workspace: Workspace, browser: Client) -> None:
    assert browser.post(path_to("ask", workspace), {"known": "nobody"}).status_code == 400


# --- adding and connecting --------------------------------------------------------------------------------------------


def test_adding_leads_to_the_servers_own_page(workspace: Workspace, browser: Client, open_mcp_server: Serve) -> None:
    given = {"name": "Clock", "url": open_mcp_server().url, "enabled": "on"}

    answer = browser.post(path_to("add", workspace), given)

    server = McpServer.objects.get()
    assert answer.headers["Location"] == path_to("server", workspace, server)
    as_json = browser.post(path_to("add", workspace), given, headers={"accept": "application/json"}).json()
    assert as_json == {"page": path_to("server", workspace, McpServer.objects.latest("created_at"))}


def test_adding_and_connecting_goes_on_to_the_authorization_server(
    workspace: Workspace, admin: User, browser: Client, protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    given = {"name": "Tracker", "url": peer.url, "enabled": "on", "then": "connect"}

    leaving = browser.post(path_to("add", workspace), given)
    destination = leaving.headers["Refresh"].partition("url=")[2]
    arrived = come_back(browser, person("ada").authorize(destination))

    assert destination.startswith(peer.issuer)
    assert arrived.status_code == 200
    assert McpServerOAuth.objects.get().user_id == admin.pk


def test_the_pages_script_is_told_where_to_send_the_window(
    workspace: Workspace, browser: Client, protected_mcp_server: Protect
) -> None:
    given = {"name": "Tracker", "url": protected_mcp_server().url, "enabled": "on", "then": "connect"}

    answer = browser.post(path_to("add", workspace), given, headers={"accept": "application/json"})

    server = McpServer.objects.get()
    body = answer.json()
    assert body["page"] == path_to("server", workspace, server)
    assert (body["status"], body["flow"]) == ("redirect", str(AuthorizationFlow.objects.get().pk))
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_server_stays_added_when_connecting_does_not_begin(
    workspace: Workspace, browser: Client, protected_mcp_server: Protect
) -> None:
    peer = protected_mcp_server(as_options=BY_HAND)
    given = {"name": "Tracker", "url": peer.url, "enabled": "on", "then": "connect"}

    page = browser.post(path_to("add", workspace), given, follow=True)

    assert McpServer.objects.get().name == "Tracker"
    assert "Create an OAuth client at the provider with the redirect URI" in text_of(page)


def test_a_mistake_is_told_to_the_script_without_what_was_typed(workspace: Workspace, browser: Client) -> None:
    given = {"name": "", "url": "https://mcp.example.com/mcp", "client_id": "a", "client_secret": CANARY}

    answer = browser.post(path_to("add", workspace), given, headers={"accept": "application/json"})

    assert answer.status_code == 400
    assert "This field is required" in answer.json()["html"]
    assert CANARY not in answer.content.decode()


# --- a change is tried and agreed to ----------------------------------------------------------------------------------


@pytest.fixture
def connected(
    workspace: Workspace, admin: User, browser: Client, protected_mcp_server: Protect, person: Callable[..., Person]
) -> tuple[McpServer, ProtectedServer]:
    """Return a server to which the administrator and a colleague are connected."""
    peer = protected_mcp_server(as_options=REGISTERING)
    server = new_server(workspace, peer.url)
    connect(browser, server, person("ada"))
    connect(browser_of(member(workspace)), server, person("grace"))
    return server, peer


def edited(server: McpServer, **changes: str) -> dict[str, str]:
    return {"name": server.name, "url": server.url, "auth_mode": "", "enabled": "on", **changes}


def test_a_test_asks_the_changed_address_and_saves_nothing(
    connected: tuple[McpServer, ProtectedServer], workspace: Workspace, browser: Client, open_mcp_server: Serve
) -> None:
    server, _peer = connected
    columns = McpServer.objects.values().get()
    other = open_mcp_server()

    page = browser.post(path_to("edit", workspace, server), edited(server, url=other.url, test="1"))

    text = text_of(page)
    assert "Open to everybody" in text
    assert "The access of 2 people ends and is revoked at the provider where it can be" in text
    assert f'value="{other.url}"' in text
    assert other.rpc_methods
    assert McpServer.objects.values().get() == columns
    assert McpServerOAuth.objects.filter(state="active").count() == 2


def test_a_test_is_told_as_it_happens(
    connected: tuple[McpServer, ProtectedServer], workspace: Workspace, browser: Client
) -> None:
    server, _peer = connected

    told = lines_of(
        browser.post(path_to("edit", workspace, server), edited(server, test="1"), headers={"accept": LINES})
    )

    assert told[-1][0] == "found"
    assert "Nothing is saved. Saving it would end nobody's access." in told[-1][1]


def test_a_test_tries_the_headers_that_were_entered_and_keeps_them_sealed(
    workspace: Workspace, browser: Client, header_mcp_server: Callable[..., HeaderServer]
) -> None:
    peer = header_mcp_server("X-Api-Key", CANARY)
    server = new_server(workspace, peer.url, auth_mode="headers", headers={"X-Api-Key": "old and wrong"})
    edit = path_to("edit", workspace, server)
    given = edited(server, auth_mode="headers", headers=f"X-Api-Key: {CANARY}", test="1")

    wrong = browser.post(edit, {**given, "headers": ""})
    right = browser.post(edit, given)
    kept = hidden_fields(right)["kept"]
    saved = browser.post(edit, {**edited(server, auth_mode="headers"), "kept": kept})

    assert "The server does not accept these headers." in text_of(wrong)
    assert "Opens with the headers" in text_of(right)
    assert CANARY not in text_of(right)
    assert saved.status_code == 302
    server.refresh_from_db()
    assert server.headers == {"X-Api-Key": CANARY}


def test_a_test_of_what_is_malformed_asks_nobody(
    connected: tuple[McpServer, ProtectedServer], workspace: Workspace, browser: Client
) -> None:
    server, peer = connected
    seen = len(peer.requests)
    edit = path_to("edit", workspace, server)

    page = browser.post(edit, edited(server, url="ftp://mcp.example.com", test="1"))
    told = browser.post(edit, edited(server, name="", test="1"), headers={"accept": LINES})

    assert page.status_code == told.status_code == 400
    assert [kind for kind, _text in lines_of(told)] == ["failed"]
    assert len(peer.requests) == seen


def test_a_change_that_ends_access_is_said_first_and_done_once_it_is_agreed_to(
    connected: tuple[McpServer, ProtectedServer], workspace: Workspace, browser: Client, open_mcp_server: Serve
) -> None:
    server, peer = connected
    other = open_mcp_server()
    edit = path_to("edit", workspace, server)

    question = browser.post(edit, edited(server, name="Moved", url=other.url))

    assert "The access of 2 people ends and is revoked" in text_of(question)
    assert "Open sessions with the server end" in text_of(question)
    assert McpServer.objects.get().url == peer.url
    assert peer.authorization_server.requests_to("/revoke") == []

    done = browser.post(edit, hidden_fields(question), follow=True)

    server.refresh_from_db()
    assert (server.name, server.url, server.generation) == ("Moved", other.url, 2)
    assert "2 connections were revoked at the provider." in text_of(done)
    assert len(peer.authorization_server.requests_to("/revoke")) == 4


def test_a_change_that_ends_nothing_is_not_asked_about(
    connected: tuple[McpServer, ProtectedServer], workspace: Workspace, browser: Client
) -> None:
    server, _peer = connected

    assert browser.post(path_to("edit", workspace, server), edited(server, name="Renamed")).status_code == 302
    assert McpServer.objects.get().name == "Renamed"


def test_one_agrees_to_what_was_said_and_not_to_more(
    connected: tuple[McpServer, ProtectedServer], workspace: Workspace, browser: Client, open_mcp_server: Serve
) -> None:
    server, _peer = connected
    other = open_mcp_server()
    edit = path_to("edit", workspace, server)
    agreed = hidden_fields(browser.post(edit, edited(server, url=other.url)))
    start(browser_of(member(workspace)), server)

    again = browser.post(edit, agreed)

    assert again.status_code == 200
    assert "1 person who is connecting right now has to start again." in text_of(again)
    assert McpServer.objects.get().generation == 1


def test_secrets_travel_sealed_through_the_question_and_back_to_the_form(
    connected: tuple[McpServer, ProtectedServer], workspace: Workspace, browser: Client
) -> None:
    server, _peer = connected
    edit = path_to("edit", workspace, server)
    given = edited(server, client_id="app", client_secret=CANARY)

    question = browser.post(edit, given)
    carried = hidden_fields(question)
    back = browser.post(edit, {**carried, "back": "1"})
    stranger = member(workspace, role=ADMIN)
    stolen = browser_of(stranger).post(edit, carried)
    done = browser.post(edit, carried)

    assert CANARY not in text_of(question) + text_of(back)
    assert back.context["form"]["client_id"].value() == "app"
    assert hidden_fields(back)["kept"]
    assert stolen.status_code == 400
    assert done.status_code == 302
    server.refresh_from_db()
    assert server.client_secret == CANARY


def test_what_was_kept_is_forgotten_after_its_time(
    connected: tuple[McpServer, ProtectedServer], workspace: Workspace, browser: Client, settings: Any
) -> None:
    server, _peer = connected
    edit = path_to("edit", workspace, server)
    carried = hidden_fields(browser.post(edit, edited(server, client_id="app", client_secret=CANARY)))
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "DRAFT_SECONDS": -1.0}

    answer = browser.post(edit, carried)

    assert answer.status_code == 400
    assert "kept for a while only" in text_of(answer)
    server.refresh_from_db()
    assert server.client_id == ""


def test_a_secret_that_would_be_forgotten_is_named_first(
    workspace: Workspace, browser: Client, header_mcp_server: Callable[..., HeaderServer], open_mcp_server: Serve
) -> None:
    server = new_server(workspace, header_mcp_server().url, auth_mode="headers", headers={"X-Api-Key": "test-key"})
    edit = path_to("edit", workspace, server)
    moved = edited(server, url=open_mcp_server().url, auth_mode="headers")

    question = browser.post(edit, moved)

    assert "What the stored headers hold belongs to the old settings and is erased" in text_of(question)
    assert browser.post(edit, {**moved, "headers": "X-Api-Key: new"}).status_code == 302


def test_a_grant_that_ended_already_is_not_counted_again(
    connected: tuple[McpServer, ProtectedServer], workspace: Workspace, browser: Client, open_mcp_server: Serve
) -> None:
    server, _peer = connected
    McpServerOAuth.objects.update(state="needs_reauthorization", reason="revoked", reason_at=timezone.now())

    answer = browser.post(path_to("edit", workspace, server), edited(server, url=open_mcp_server().url))

    assert answer.status_code == 302
