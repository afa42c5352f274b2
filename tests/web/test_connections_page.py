"""What the connections page says of servers in every state, how it is narrowed, and what it costs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jwt
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone, translation

from mcp_oauth import call_tool
from mcp_oauth.models import Event, McpServer, McpServerOAuth, Membership, StoredListing, ToolCall, Workspace
from mcp_oauth.views import frame
from mcp_oauth.views.card_list import SORTS, STATES
from mcp_oauth.views.cards import ServerCard
from mcp_oauth.views.marks import initials_of
from mcp_oauth.views.report import redacted
from mcp_oauth.views.scopes import scope_in_words, scopes_in_words, scopes_with_names, shortened
from mcp_oauth.views.sequence import drawing, what_follows
from project.peers.options import TokenDialect
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, Person, ProtectedServer
from tests.web.states import STATES as EVERY_STATE
from tests.web.states import write_every_state, write_waiting_call

pytestmark = pytest.mark.django_db(transaction=True)

ADMIN = Membership.Role.ADMIN
TEMPLATES = Path(django_settings.BASE_DIR) / "templates"
# Of all stylesheets and scripts together, uncompressed: what a phone on a train has to parse.
MOST_BYTES = 60 * 1024


def settings_path(workspace: Workspace) -> str:
    return reverse("mcp_oauth:settings", kwargs={"slug": workspace.slug})


def cards_in(response: Any) -> dict[str, ServerCard]:
    """Return the cards a page shows, by name and in their order."""
    return {card.name: card for group in response.context["groups"] for card in group.cards}


@pytest.fixture
def place() -> tuple[Workspace, User, Client]:
    """Return a workspace with a server in every state, its administrator, and their browser."""
    workspace = new_workspace()
    user = member(workspace, role=ADMIN)
    write_every_state(workspace, user)
    return workspace, user, browser_of(user)


# --- one row ----------------------------------------------------------------------------------------------------------


def test_every_state_offers_the_one_step_that_helps(place: tuple[Workspace, User, Client]) -> None:
    workspace, _user, client = place

    cards = cards_in(client.get(settings_path(workspace)))

    assert {name: card.action for name, card in cards.items()} == EVERY_STATE
    assert all(card.step is not None for card in cards.values())
    asides = {name: card.aside.label for name, card in cards.items() if card.aside is not None}
    assert asides == {"Linear": "Not now", "Sentry": "Cancel"}
    strong = {name for name, card in cards.items() if card.step is not None and card.step.look == "strong"}
    assert strong == {name for name, card in cards.items() if card.group == "needs_you"}


def test_a_member_is_offered_nothing_that_only_an_administrator_may_do(place: tuple[Workspace, User, Client]) -> None:
    workspace, _user, _client = place

    response = browser_of(member(workspace)).get(settings_path(workspace))

    cards = cards_in(response)
    assert {card.action for card in cards.values()} <= {"connect", "retry", "none"}
    assert not any(card.group == "needs_you" for card in cards.values())
    page = response.content.decode()
    assert not any(f"/{tail}/" in page for tail in ("edit", "delete", "diagnose", "keep"))


def test_a_row_says_whose_account_until_when_and_for_what(place: tuple[Workspace, User, Client]) -> None:
    workspace, _user, client = place

    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", client.get(settings_path(workspace)).content.decode()))

    for words in (
        "Your own account renews itself can read “jira work”, change “jira work”, stay connected while you are away",
        "Your own account access ends in 3 hours can use “repo”, read organizations",
        "Everybody acts as team@example.com renews itself can read pages",
        "Access: Connected as ada@example.com 2 days ago",
        "Access ended 12 minutes ago Notion refused to renew your access. 1 call is waiting for you",
        "A tool asks to: change issues (issues:write).",
        "8 tools, last listed 50 minutes ago",
        "Not asked yet",
        "Being removed in 14 minutes",
    ):
        assert words in page.replace("\N{NO-BREAK SPACE}", " ").replace("&nbsp;", " ").replace("&#x27;", "'"), words


def test_only_ones_own_calls_that_can_still_go_on_are_waiting() -> None:
    workspace = new_workspace()
    user, other = member(workspace), member(workspace)
    server = McpServer.objects.create(
        workspace=workspace, name="Search", slug="search", url="https://s.example.com/mcp"
    )
    write_waiting_call(server, user)
    write_waiting_call(server, user, state=ToolCall.State.INPUT_REQUIRED)
    write_waiting_call(server, user, state=ToolCall.State.COMPLETED)
    write_waiting_call(server, user, resumable_until=timezone.now() - timedelta(seconds=1))
    write_waiting_call(server, other)

    def waiting(person: User) -> str:
        return cards_in(browser_of(person).get(settings_path(workspace)))["Search"].waiting_words

    assert waiting(user) == "2 calls are waiting for you"
    card = cards_in(browser_of(user).get(settings_path(workspace)))["Search"]
    assert (card.group, card.action) == ("needs_you", "continue")
    assert card.step is not None
    assert card.step.url == card.waiting_url
    assert waiting(other) == "1 call is waiting for you"
    assert waiting(member(workspace)) == ""


@pytest.mark.parametrize(
    ("claims", "shown"),
    [
        ({"email": "ada@example.com", "name": "Ada"}, "Access: Connected as ada@example.com"),
        ({"name": "Ada <b>Lovelace</b>\x00"}, "Access: Connected as Ada &lt;b&gt;Lovelace&lt;/b&gt;"),
        ({"email": 7, "sub": "1"}, "Access: Connected "),
        (None, "Access: Connected "),
    ],
)
def test_a_row_says_as_whom_where_the_provider_said_so(
    claims: dict[str, Any] | None,
    shown: str,
    protected_mcp_server: Callable[..., ProtectedServer],
    person: Callable[..., Person],
) -> None:
    id_token = jwt.encode(claims, "k" * 32, algorithm="HS256") if claims is not None else "no.such.token"
    options = AuthorizationServerOptions(cimd=False, token_dialect=TokenDialect(members={"id_token": id_token}))
    workspace = new_workspace()
    user = member(workspace)
    client = browser_of(user)
    server = new_server(workspace, protected_mcp_server(as_options=options).url)

    grant = connect(client, server, person("ada"))

    page = client.get(settings_path(workspace)).content.decode().replace("</span>", "").replace('<span class="vh">', "")
    assert shown in page
    McpServerOAuth.objects.update(account="known@example.com", expires_at=timezone.now())
    assert call_tool(server, user, "whoami").content
    # A renewal that names no account leaves the one that is known.
    known = grant.account or "known@example.com"
    renewed = McpServerOAuth.objects.get()
    assert (renewed.account, renewed.refreshed_at is not None) == (known, True)


# --- narrowing and order ----------------------------------------------------------------------------------------------


def test_the_list_is_narrowed_by_state_and_says_how_many_there_are(place: tuple[Workspace, User, Client]) -> None:
    workspace, _user, client = place
    whole = client.get(settings_path(workspace))

    counts = {choice.key: choice.count for choice in whole.context["states"]}
    assert counts[""] == len(EVERY_STATE) == sum(counts[key] for key in STATES if key != "unreachable")
    for state in STATES:
        response = client.get(settings_path(workspace), {"state": state})
        assert len(cards_in(response)) == counts[state] > 0
        assert all(state in card.states for card in cards_in(response).values())
        assert [choice.key for choice in response.context["states"] if choice.chosen] == [state]
    assert set(cards_in(client.get(settings_path(workspace), {"state": "unreachable"}))) == {"Company wiki", "Reports"}


def test_a_state_that_does_not_exist_narrows_nothing(place: tuple[Workspace, User, Client]) -> None:
    workspace, _user, client = place

    assert len(cards_in(client.get(settings_path(workspace), {"state": "<b>", "sort": "<i>"}))) == len(EVERY_STATE)
    empty = client.get(settings_path(workspace), {"state": "leaving", "q": "Notion"})
    assert "No server is in that state" in empty.content.decode() or "Nothing here is called" in empty.content.decode()


def test_the_list_is_sorted_within_its_groups(place: tuple[Workspace, User, Client]) -> None:
    workspace, _user, client = place
    McpServerOAuth.objects.filter(server__name="GitHub").update(connected_at=timezone.now())
    McpServer.objects.filter(name="Search").update(contacted_at=timezone.now())

    def connected(sort: str) -> list[str]:
        response = client.get(settings_path(workspace), {"sort": sort, "state": "connected"})
        return list(cards_in(response))

    by_name = ["Atlassian", "Company wiki", "GitHub", "Reports", "Search"]
    assert [connected(sort)[0] for sort in SORTS] == ["Atlassian", "GitHub", "Search", "Atlassian"]
    assert connected("name") == by_name
    assert all(sorted(connected(sort)) == by_name for sort in SORTS)
    assert connected("tools")[:3] == ["Atlassian", "Company wiki", "Search"]


# --- removing with time to think --------------------------------------------------------------------------------------


def test_a_removed_server_stays_visible_and_can_be_kept(place: tuple[Workspace, User, Client]) -> None:
    workspace, user, client = place
    server = McpServer.objects.get(name="Atlassian")
    names = {"slug": workspace.slug, "server_id": server.pk}

    question = client.get(reverse("mcp_oauth:delete", kwargs=names)).content.decode()
    assert "access ends and is revoked at the provider" in question
    assert "31 tools are no longer available" in question
    assert "For 15 minutes you can still keep it" in question
    response = client.post(reverse("mcp_oauth:delete", kwargs=names), follow=True)

    assert "Atlassian is out of use now and will be removed" in response.content.decode()
    card = cards_in(response)["Atlassian"]
    assert (card.group, card.action, card.can_run, card.can_disconnect) == ("leaving", "keep", False, False)
    api = {row["name"]: row["enabled"] for row in client.get(reverse("mcp_oauth:api_servers")).json()["servers"]}
    assert (api["Atlassian"], api["Search"]) == (False, True)
    response = client.post(reverse("mcp_oauth:keep", kwargs=names), follow=True)

    assert "Atlassian is kept and in use again" in response.content.decode()
    assert cards_in(response)["Atlassian"].group == "connected"
    trail = Event.objects.filter(server_id=server.pk).order_by("at").values_list("outcome", "actor_name")
    assert list(trail) == [("removal_scheduled", user.get_username()), ("removal_undone", user.get_username())]


def test_a_server_whose_time_is_over_cannot_be_kept(place: tuple[Workspace, User, Client]) -> None:
    workspace, _user, client = place
    server = McpServer.objects.get(name="Legacy files")
    McpServer.objects.filter(pk=server.pk).update(removal_at=timezone.now() - timedelta(seconds=1))
    names = {"slug": workspace.slug, "server_id": server.pk}

    assert cards_in(client.get(settings_path(workspace)))["Legacy files"].action == "none"
    response = client.post(reverse("mcp_oauth:keep", kwargs=names), follow=True)

    assert "its time is over" in response.content.decode()
    assert McpServer.objects.get(pk=server.pk).removal_at is not None
    assert "Remove it now, for good" in client.get(reverse("mcp_oauth:delete", kwargs=names)).content.decode()


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_no_page_loads_more_than_a_phone_on_a_train_can_parse() -> None:
    folder = Path(str(finders.find("mcp_oauth/app.css"))).parent
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.suffix in {".css", ".js"}}
    every_page = sizes["app.css"] + sizes["app.js"]
    # What single pages load besides, by the name that a page's stylesheet and script share.
    besides = {
        stem: sum(sizes.get(f"{stem}.{kind}", 0) for kind in ("css", "js")) for stem in ("activity", "add", "run")
    }

    assert {name.partition(".")[0] for name in sizes} == {"app", *besides}
    assert every_page + max(besides.values()) <= MOST_BYTES, sizes


def many(workspace: Workspace, user: User, count: int) -> None:
    """Write servers with a grant and fifty tools each."""
    now = timezone.now()
    tool = {"name": "tool", "description": "d" * 200, "inputSchema": {"type": "object", "properties": {}}}
    servers = [
        McpServer(
            workspace=workspace,
            name=f"Server {number:03}",
            slug=f"server-{number}",
            url=f"https://s{number}.example.com/mcp",
            auth_mode="oauth",
            reachable=True,
            contacted_at=now,
        )
        for number in range(count)
    ]
    McpServer.objects.bulk_create(servers)
    for server in servers:
        facts = {"access_token": "t", "issuer": "i", "token_endpoint": "e", "client_id": "c", "scope": "issues:read"}
        McpServerOAuth.objects.create(server=server, user=user, connected_at=now, **facts)
    StoredListing.objects.bulk_create(
        StoredListing(
            server=server, user=user, server_generation=1, entries=[tool] * 50, entry_count=50, fetched_at=now
        )
        for server in servers
    )


@pytest.mark.once
def test_two_hundred_servers_of_fifty_tools_take_the_queries_of_twenty_and_time_in_proportion() -> None:
    best, queries = {}, {}
    for count in (20, 200):
        workspace = new_workspace()
        user = member(workspace, role=ADMIN)
        many(workspace, user, count)
        client, path = browser_of(user), settings_path(workspace)
        client.get(path)
        with CaptureQueriesContext(connection) as captured:
            response = client.get(path)
        queries[count] = len(captured)
        assert len(cards_in(response)) == count
        took = []
        for _attempt in range(5):
            started = time.process_time()
            client.get(path)
            took.append(time.process_time() - started)
        best[count] = min(took)

    assert queries[20] == queries[200] == 9
    # In proportion would be ten times; what a page costs whatever it shows brings it below.
    assert best[200] / best[20] < 9, best


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ("issues:read", "read issues"),
        ("read:jira-work", "read “jira work”"),
        ("write:discussion", "change discussions"),
        ("https://www.googleapis.com/auth/calendar.readonly", "read calendars"),
        ("Mail.ReadWrite", "read and change mail"),
        ("files.metadata.read", "read “files metadata”"),
        ("userProfile:view", "read “user profile”"),
        ("offline_access", "stay connected while you are away"),
        ("repo", ""),
        ("channels:history", ""),
        ("read:write", ""),
        ("x" * 200 + ":read", ""),
    ],
)
def test_a_scope_is_said_in_words_where_its_name_tells(scope: str, words: str) -> None:
    assert scope_in_words(scope) == words


@pytest.mark.parametrize(
    ("scope", "german", "spanish"),
    [
        ("issues:read", "Issues lesen", "leer incidencias"),
        ("read:org", "Organisationen lesen", "leer organizaciones"),
        ("repository.write", "Repositorys ändern", "cambiar repositorios"),
        ("read:jira-work", "„jira work“ lesen", "leer «jira work»"),
    ],
)
def test_what_a_scope_is_about_is_said_in_the_readers_language(scope: str, german: str, spanish: str) -> None:
    for language, words in (("de", german), ("es", spanish)):
        with translation.override(language):
            assert scope_in_words(scope) == words


def test_scopes_are_listed_once_and_in_bounds() -> None:
    assert scopes_in_words(["issues:read", "read:issues", "repo"]) == ("read issues", "use “repo”")
    assert scopes_with_names(["issues:read", "repo", "repo"]) == ("read issues (issues:read)", "repo")
    assert shortened(("a", "b")) == "a, b"
    assert shortened(tuple("abcdef")) == "a, b, c, d and 2 more"


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("Issue tracker", "IT"),
        ("Notes", "N"),
        ("customer_records berlin", "CB"),
        ("Über Ärger", "ÜÄ"),
        ("خدمة الترجمة", "خ"),
        ("日本 語", "日"),
        ("2nd team", "2"),
        ("ßeta", "S"),
        ("  ", "?"),
        ("(+)", "("),
    ],
)
def test_a_name_is_stood_for_by_its_letters(name: str, letters: str) -> None:
    assert initials_of(name) == letters


# --- the frame --------------------------------------------------------------------------------------------------------


def test_every_destination_of_the_frame_exists_and_shows_where_one_is(place: tuple[Workspace, User, Client]) -> None:
    workspace, _user, client = place

    for to in frame.DESTINATIONS:
        page = client.get(reverse(f"mcp_oauth:{to.view}", kwargs={"slug": workspace.slug})).content.decode()
        assert page.count('aria-current="page"') >= 1
        assert f'#{to.icon}"' in page
    names = {"slug": workspace.slug, "server_id": McpServer.objects.get(name="Search").pk}
    for view in ("edit", "delete", "diagnose"):
        within = client.get(reverse(f"mcp_oauth:{view}", kwargs=names)).content.decode()
        assert 'aria-current="true"' in within, view


def test_every_icon_that_a_template_names_is_in_the_file() -> None:
    drawn = set(re.findall(r'<symbol id="([a-z]+)"', Path(str(finders.find("mcp_oauth/icons.svg"))).read_text()))
    named = {
        icon
        for page in TEMPLATES.rglob("*.html")
        for icon in re.findall(r'_icon\.html" with icon="([^"]+)"', page.read_text())
    }

    assert named | {to.icon for to in (*frame.DESTINATIONS, *frame.PERSONAL)} <= drawn


class _Classes(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= set((dict(attrs).get("class") or "").split())


def test_the_styleguide_shows_every_component() -> None:
    css = Path(str(finders.find("mcp_oauth/app.css"))).read_text()
    parts = css.partition("@layer parts {")[2].partition("@layer pages {")[0]
    components = set(re.findall(r"(?<=[\s&,(])\.([a-z][a-z-]*)(?=[\s{:.,>)])", parts))
    assert {"button", "server", "note", "menu-list", "segments"} <= components

    page = browser_of(member(new_workspace(), role=ADMIN)).get("/styleguide/").content.decode()

    # A message is what a page says after something was done, and `without-script` is not shown beside script.
    unseen = components - _Classes(page).found - {"messages", "switch", "account"}
    assert not unseen, sorted(unseen)


def test_the_styleguide_is_for_development_only(settings: Any) -> None:
    settings.SHOW_STYLEGUIDE = False

    assert Client().get("/styleguide/").status_code == 404


# --- diagnosis --------------------------------------------------------------------------------------------------------


def test_a_diagnosis_is_drawn_in_the_order_of_a_connection(
    protected_mcp_server: Callable[..., ProtectedServer],
) -> None:
    peer = protected_mcp_server()
    workspace = new_workspace()
    client = browser_of(member(workspace, role=ADMIN))
    server = new_server(workspace, peer.url)
    path = reverse("mcp_oauth:diagnose", kwargs={"slug": workspace.slug, "server_id": server.pk})

    with translation.override("de"):
        response = client.post(path)

    sequence = response.context["sequence"]
    assert [lane.short for lane in sequence.participants] == ["You", "This app", "Server", "Sign-in"]
    said = [arrow.text for arrow in sequence.arrows]
    assert said[0] == "POST /mcp"
    assert said[1:3] == ["GET oauth-protected-resource/mcp", "GET oauth-authorization-server"]
    assert said[-1] == "Lists and runs tools"
    assert (
        said.index("You sign in and allow it") < said.index("Back to this app, with a code") < said.index("POST /token")
    )
    assert [arrow.number for arrow in sequence.arrows if not arrow.later] == list(range(1, 5))
    assert all(re.fullmatch(r"\d+\.\d\d%", arrow.from_x) for arrow in sequence.arrows)
    page = response.content.decode()
    assert all(f'href="#step-{number}"' in page and f'id="step-{number}"' in page for number in range(1, 5))
    assert [arrow.y for arrow in sequence.arrows] == sorted(arrow.y for arrow in sequence.arrows)


def test_a_drawing_ends_where_connecting_stops(protected_mcp_server: Callable[..., ProtectedServer]) -> None:
    peer = protected_mcp_server()
    workspace = new_workspace()
    client = browser_of(member(workspace, role=ADMIN))
    server = new_server(workspace, peer.url)
    peer.configure(authorization_servers=())
    path = reverse("mcp_oauth:diagnose", kwargs={"slug": workspace.slug, "server_id": server.pk})

    response = client.post(path)

    assert not response.context["sequence"].has_later
    assert "Connecting stops here" in response.content.decode()


def test_nothing_asked_is_nothing_drawn() -> None:
    assert (
        drawing([], server_host="h", issuer="", follows=what_follows("cimd", with_person=True), stopped=False) is None
    )


def test_the_report_names_no_client_and_no_secret(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace, role=ADMIN)
    client = browser_of(user)
    server = new_server(workspace, peer.url)
    grant = connect(client, server, person("ada"))
    path = reverse("mcp_oauth:diagnose", kwargs={"slug": workspace.slug, "server_id": server.pk})

    response = client.post(path)

    report = response.context["report"]
    assert grant.client_id in response.content.decode().replace(report, "")
    for hidden in (grant.client_id, workspace.name, server.name, user.get_username()):
        assert hidden not in report
    assert f"1. POST {peer.url} → 401" in report
    assert "Nothing" not in report.splitlines()[0]
    assert report in response.content.decode().replace("&#x27;", "'").replace("&quot;", '"').replace("&amp;", "&")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("https://mcp.example.com/mcp?key=abc&x=1 said", "https://mcp.example.com/mcp?[…] said"),
        ("https://mcp.example.com/s/Zk3lQ9xT7bYw2RfH8uVn/mcp", "https://mcp.example.com/s/[…]/mcp"),
        ("https://a1b2c3d4e5f6a7b8c9d0e1.example.com/mcp", "https://a1b2c3d4e5f6a7b8c9d0e1.example.com/mcp"),
        ("ask ada@example.com or not", "ask […] or not"),
        ("client app-77 is used", "client […] is used"),
        ("code_challenge_methods_supported", "code_challenge_methods_supported"),
        ("/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server"),
    ],
)
def test_a_report_leaves_out_what_is_nobodys_business(text: str, told: str) -> None:
    assert redacted(text, hidden=["app-77", "a"]) == told
