"""Who belongs to a workspace, who may change that, what ends when somebody goes, and one's own page."""

from __future__ import annotations

import asyncio
import html
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from mcp_oauth.exceptions import InvalidRequest
from mcp_oauth.models import AuthorizationFlow, Event, McpServer, McpServerOAuth, Membership, Workspace
from mcp_oauth.services import members as service
from mcp_oauth.services.workspaces import place_in
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, start
from tests.servers import AuthorizationServerOptions, Person, ProtectedServer, json_fault

pytestmark = pytest.mark.django_db(transaction=True)

ADMIN, PLAIN = Membership.Role.ADMIN, Membership.Role.MEMBER
REGISTERING = AuthorizationServerOptions(cimd=False)

Protect = Callable[..., ProtectedServer]


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", html.unescape(response.content.decode()))


def url_of(name: str, workspace: Workspace, membership: Membership | None = None) -> str:
    names: dict[str, Any] = {"slug": workspace.slug}
    if membership is not None:
        names["membership_id"] = membership.pk
    return reverse(f"mcp_oauth:{name}", kwargs=names)


def membership_of(user: User, workspace: Workspace) -> Membership:
    return Membership.objects.get(user=user, workspace=workspace)


@pytest.fixture
def workspace() -> Workspace:
    return new_workspace()


@pytest.fixture
def admin(workspace: Workspace) -> User:
    return member(workspace, role=ADMIN)


@pytest.fixture
def browser(admin: User) -> Client:
    return browser_of(admin)


# --- adding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["lin", " lin ", "lin@example.com", "LIN@Example.com"])
@pytest.mark.parametrize("role", [PLAIN, ADMIN])
def test_an_administrator_adds_somebody_by_name_or_address(
    named: str, role: Membership.Role, workspace: Workspace, browser: Client
) -> None:
    User.objects.create_user("lin", "lin@example.com")

    page = browser.post(url_of("members", workspace), {"person": named, "role": role}, follow=True)

    assert "lin is a member now." in text_of(page)
    assert membership_of(User.objects.get(username="lin"), workspace).role == role


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"person": ""}, "Enter a user name or an e-mail address."),
        ({"person": "\x00"}, "Enter a user name or an e-mail address."),
        ({"person": "nobody"}, "Nobody here goes by “nobody”."),
        ({"person": "gone"}, "Nobody here goes by “gone”."),
        ({"person": "two@example.com"}, "Several people have this address; enter the user name."),
        ({"person": "lin"}, "lin is a member already."),
        ({"person": "new", "role": "king"}, "“king” is not a role."),
        ({"person": "<script>alert(1)</script>"}, "Nobody here goes by “<script>"),
    ],
)
def test_who_cannot_be_added_is_told_with_the_reason(
    given: dict[str, str], problem: str, workspace: Workspace, browser: Client
) -> None:
    for name, address in (("one", "two@example.com"), ("two", "two@example.com"), ("new", "")):
        User.objects.create_user(name, address)
    User.objects.create_user("gone", is_active=False)
    member(workspace, "lin")
    before = Membership.objects.count()

    page = browser.post(url_of("members", workspace), {"role": "member", **given})

    assert page.status_code == 400
    assert problem in text_of(page)
    assert b"<script>alert" not in page.content
    assert Membership.objects.count() == before


@pytest.mark.requirement("T43")
def test_nobody_finds_out_by_trying_who_has_an_account(workspace: Workspace, browser: Client, settings: Any) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "LOOKUPS_PER_MINUTE": 1}
    User.objects.create_user("lin")
    assert browser.post(url_of("members", workspace), {"person": "nobody"}).status_code == 400

    assert browser.post(url_of("members", workspace), {"person": "lin"}).status_code == 429
    assert Membership.objects.count() == 1


def test_a_member_sees_who_is_there_and_changes_nothing(workspace: Workspace, admin: User) -> None:
    lin = member(workspace, "lin")
    browser = browser_of(lin)

    page = browser.get(url_of("members", workspace))
    answers = [
        browser.post(url_of("members", workspace), {"person": "lin"}),
        browser.post(url_of("member_role", workspace, membership_of(lin, workspace)), {"role": ADMIN}),
        browser.post(url_of("member_remove", workspace, membership_of(admin, workspace))),
    ]

    assert admin.username in text_of(page)
    assert "Make administrator" not in text_of(page)
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert [membership.role for membership in service.members_of(workspace)] == [ADMIN, PLAIN]


def test_the_list_counts_connections_and_takes_the_same_few_queries(
    workspace: Workspace, admin: User, browser: Client, django_assert_num_queries: Any
) -> None:
    server = McpServer.objects.create(workspace=workspace, name="A", slug="a", url="https://a.example/")
    for number in range(30):
        McpServerOAuth.objects.create(
            server=server, user=member(workspace, f"user-{number:02}"), connected_at=timezone.now()
        )

    with django_assert_num_queries(5):
        page = browser.get(url_of("members", workspace))

    assert text_of(page).count("1 connection") == 30


# --- roles ------------------------------------------------------------------------------------------------------------


def test_a_member_becomes_an_administrator_and_a_member_again(workspace: Workspace, browser: Client) -> None:
    membership = membership_of(member(workspace, "lin"), workspace)
    url = url_of("member_role", workspace, membership)

    assert "lin is an administrator now." in text_of(browser.post(url, {"role": "admin"}, follow=True))
    membership.refresh_from_db()
    assert membership.is_admin
    assert "lin is a member now." in text_of(browser.post(url, {"role": "member"}, follow=True))
    membership.refresh_from_db()
    assert not membership.is_admin


def test_the_last_administrator_can_neither_step_back_nor_leave(
    workspace: Workspace, admin: User, browser: Client
) -> None:
    membership = membership_of(admin, workspace)
    member(workspace)

    answers = [
        browser.post(url_of("member_role", workspace, membership), {"role": "member"}),
        browser.post(url_of("member_remove", workspace, membership)),
    ]

    for answer in answers:
        assert answer.status_code == 400
        assert "A workspace needs an administrator, and there is no other one." in text_of(answer)
    assert membership_of(admin, workspace).is_admin
    assert "the only administrator" in text_of(browser.get(url_of("members", workspace)))


def test_of_two_administrators_who_step_back_at_once_one_stays(
    workspace: Workspace, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = member(workspace, role=ADMIN)
    both_are_there = threading.Barrier(2)
    monkeypatch.setattr(service, "_check_role", lambda role: both_are_there.wait(10) and None)

    def step_back(user: User) -> str:
        try:
            place = place_in(user, workspace.slug)
            service.change_role(place, membership_of(user, workspace).pk, PLAIN)
        except InvalidRequest:
            return "refused"
        finally:
            connection.close()
        return "done"

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(step_back, [admin, other]))

    assert outcomes == ["done", "refused"]
    assert Membership.objects.filter(workspace=workspace, role=ADMIN).count() == 1


def test_a_membership_of_another_workspace_is_not_found(workspace: Workspace, browser: Client) -> None:
    elsewhere = new_workspace()
    membership = membership_of(member(elsewhere), elsewhere)

    assert browser.post(url_of("member_role", workspace, membership), {"role": "admin"}).status_code == 404
    assert browser.get(url_of("member_remove", workspace, membership)).status_code == 404
    assert browser.post(url_of("member_remove", workspace, membership)).status_code == 404
    assert Membership.objects.filter(pk=membership.pk, role=PLAIN).exists()


# --- going ------------------------------------------------------------------------------------------------------------


def test_who_is_removed_loses_the_connections_there_and_nothing_elsewhere(
    workspace: Workspace, admin: User, browser: Client, protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    elsewhere = new_workspace()
    here, there = new_server(workspace, peer.url), new_server(elsewhere, peer.url, name="Other")
    lin = member(workspace, "lin")
    Membership.objects.create(workspace=elsewhere, user=lin)
    connect(browser_of(lin), here, person("ada"))
    connect(browser_of(lin), there, person("grace"))
    url = url_of("member_remove", workspace, membership_of(lin, workspace))

    question = browser.get(url)
    done = browser.post(url, follow=True)

    assert "Their 1 connection here ends and is revoked at the provider where it can be." in text_of(question)
    assert "is removed from" in text_of(done)
    assert "1 connection was revoked at the provider." in text_of(done)
    assert [grant.server_id for grant in McpServerOAuth.objects.filter(user=lin)] == [there.pk]
    assert len(peer.authorization_server.requests_to("/revoke")) == 2
    ended = Event.objects.get(kind=Event.Kind.DISCONNECTED)
    assert (ended.user_id, ended.actor_id, ended.server_id) == (lin.pk, admin.pk, here.pk)
    assert browser_of(lin).get(reverse("mcp_oauth:settings", args=[workspace.slug])).status_code == 404


def test_somebody_leaves_by_themselves(workspace: Workspace, admin: User) -> None:
    lin = member(workspace, "lin")
    browser = browser_of(lin)
    url = url_of("member_remove", workspace, membership_of(lin, workspace))

    assert f"Leave {workspace.name}?" in text_of(browser.get(url))
    done = browser.post(url, follow=True)

    assert f"You left {workspace.name}." in text_of(done)
    assert not Membership.objects.filter(user=lin).exists()


def test_a_provider_that_does_not_answer_holds_nobody_back(
    workspace: Workspace, browser: Client, protected_mcp_server: Protect, person: Callable[..., Person], settings: Any
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "REVOKE_TOGETHER_SECONDS": 0.0}
    peer = protected_mcp_server(as_options=REGISTERING)
    lin = member(workspace, "lin")
    connect(browser_of(lin), new_server(workspace, peer.url), person("ada"))

    done = browser.post(url_of("member_remove", workspace, membership_of(lin, workspace)), follow=True)

    assert "did not confirm that it is revoked" in text_of(done)
    assert not McpServerOAuth.objects.exists()
    assert Event.objects.get(kind=Event.Kind.REVOKED).outcome == "timeout"


# --- creating a workspace ---------------------------------------------------------------------------------------------


def permitted() -> User:
    user = member()
    user.user_permissions.add(Permission.objects.get(codename="add_workspace"))
    return user


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("permission", [403, 200, 200]), ("anyone", [200, 200, 200]), ("nobody", [403, 403, 403])],
)
def test_who_may_create_workspaces_is_a_setting(setting: str, expected: list[int], settings: Any) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "WORKSPACE_CREATION": setting}
    people = [member(), permitted(), User.objects.create_superuser("root")]
    new = reverse("mcp_oauth:new_workspace")

    assert [browser_of(user).get(new).status_code for user in people] == expected
    posts = [browser_of(user).post(new, {"name": f"Team {number}"}).status_code for number, user in enumerate(people)]
    assert [status == 302 for status in posts] == [status == 200 for status in expected]
    offered = ["Create a workspace" in text_of(browser_of(user).get("/account/")) for user in people]
    assert offered == [status == 200 for status in expected]


@pytest.mark.parametrize("setting", ["permission", "anyone", "nobody"])
def test_no_page_looks_up_permissions_and_each_leads_to_creating_a_workspace(
    workspace: Workspace, setting: str, settings: Any, django_assert_num_queries: Any
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "WORKSPACE_CREATION": setting}
    people = [permitted(), User.objects.create_superuser("root")]
    for user in people:
        Membership.objects.create(workspace=workspace, user=user)
        Membership.objects.create(workspace=new_workspace(), user=user)
    path = reverse("mcp_oauth:settings", args=[workspace.slug])

    pages = []
    for user in people:
        browser = browser_of(user)
        browser.get(path)
        with django_assert_num_queries(5) as queries:
            pages.append(text_of(browser.get(path)))
        assert not [query for query in queries.captured_queries if "auth_permission" in query["sql"]]

    creates, own = 'href="/workspaces/new/"', 'href="/account/#workspaces-title"'
    at_once = [setting == "anyone", setting in {"anyone", "permission"}]
    assert [creates in page for page in pages] == at_once
    assert [own in page for page in pages] == [not there for there in at_once]
    assert 'id="workspaces-title"' in text_of(browser_of(people[0]).get("/account/"))


def test_whoever_creates_a_workspace_administers_it() -> None:
    user = permitted()

    page = browser_of(user).post(reverse("mcp_oauth:new_workspace"), {"name": "Über uns"}, follow=True)

    workspace = Workspace.objects.get()
    assert (workspace.name, workspace.slug) == ("Über uns", "uber-uns")
    assert membership_of(user, workspace).is_admin
    assert "Über uns is ready. Add its first server." in text_of(page)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"name": ""}, "Give the workspace a name"),
        ({"name": "n" * 121}, "at most 120 characters"),
        ({"name": "Team", "slug": "Not A Slug"}, "cannot be a short name"),
        ({"name": "Team", "slug": "taken"}, "already exists"),
        ({"name": "東京"}, "cannot be a short name"),
    ],
)
def test_a_workspace_that_cannot_be_is_told_and_nothing_is_lost(given: dict[str, str], problem: str) -> None:
    new_workspace("taken")

    page = browser_of(permitted()).post(reverse("mcp_oauth:new_workspace"), given)

    assert page.status_code == 400
    assert problem in text_of(page)
    assert f'value="{given["name"][:120]}"' in text_of(page)
    assert Workspace.objects.count() == 1


def test_somebody_without_a_workspace_is_offered_to_create_one_where_they_may() -> None:
    assert "Create a workspace" in text_of(browser_of(permitted()).get("/workspaces/"))
    assert "Create a workspace" not in text_of(browser_of(member()).get("/workspaces/"))


# --- one's own page ---------------------------------------------------------------------------------------------------


def test_the_page_shows_ones_own_connections_of_all_workspaces_and_nobody_elses(
    workspace: Workspace, admin: User, protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    elsewhere = new_workspace()
    Membership.objects.create(workspace=elsewhere, user=admin)
    browser, colleague = browser_of(admin), member(workspace)
    mine = [new_server(workspace, peer.url, name="Here"), new_server(elsewhere, peer.url, name="There")]
    others = new_server(workspace, peer.url, name="Not mine")
    for server in mine:
        connect(browser, server, person("ada"))
    connect(browser_of(colleague), others, person("grace"))
    McpServerOAuth.objects.filter(server=mine[1]).update(
        state="needs_reauthorization", reason="refused", reason_at=timezone.now() - timedelta(minutes=5)
    )

    text = text_of(browser.get("/account/"))

    assert "Here" in text
    assert "There" in text
    assert "Not mine" not in text
    assert "Access ended" in text
    assert "renews itself" in text
    assert elsewhere.name in text


def test_one_connection_is_ended_from_ones_own_page(
    workspace: Workspace, admin: User, browser: Client, protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    server = new_server(workspace, protected_mcp_server(as_options=REGISTERING).url)
    connect(browser, server, person("ada"))

    done = browser.post(reverse("mcp_oauth:disconnect"), {"server": str(server.pk), "from": "account"}, follow=True)

    assert done.redirect_chain == [("/account/", 302)]
    assert "the provider confirmed that the access is revoked" in text_of(done)


def test_disconnecting_everything_says_what_it_does_and_what_each_provider_said(
    workspace: Workspace, admin: User, browser: Client, protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    agrees = protected_mcp_server(as_options=REGISTERING)
    offers_none = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False, revocation=False))
    fails = protected_mcp_server(as_options=REGISTERING)
    peers = {"Agrees": agrees, "Offers none": offers_none, "Fails": fails}
    servers = {name: new_server(workspace, peer.url, name=name) for name, peer in peers.items()}
    colleague = browser_of(member(workspace))
    for server in servers.values():
        connect(browser, server, person("ada"))
    connect(colleague, servers["Agrees"], person("grace"))
    start(browser, new_server(workspace, protected_mcp_server(as_options=REGISTERING).url, name="Under way"))
    fails.configure_authorization_server(revocation_faults=lambda form: json_fault(503, "server_error"))
    everything = reverse("mcp_oauth:disconnect_everything")

    question = text_of(browser.get(everything))
    assert "3 connections are revoked" in question
    assert McpServerOAuth.objects.count() == 4
    done = text_of(browser.post(everything))

    for name, words in (
        ("Agrees", "Revoked · the provider confirmed it"),
        ("Offers none", "Forgotten here · the provider offers no revocation"),
        ("Fails", "Forgotten here, not confirmed · remove this application's access at the provider as well"),
    ):
        row = re.sub(r"<[^>]+>", " ", done.partition(f"<strong>{name}</strong>")[2])
        assert words in re.sub(r"\s+", " ", row)[:300], name
    assert [grant.user_id for grant in McpServerOAuth.objects.all()] != [admin.pk]
    assert McpServerOAuth.objects.count() == 1
    assert not AuthorizationFlow.objects.filter(user=admin).exists()
    assert len(agrees.authorization_server.requests_to("/revoke")) == 2
    assert "There was nothing to disconnect" in text_of(browser.post(everything))


def test_providers_are_told_at_the_same_time(
    workspace: Workspace, admin: User, browser: Client, protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    """Each provider answers only when the other one was asked too: one after the other, neither ever would."""
    peers = [protected_mcp_server(as_options=REGISTERING) for _ in range(2)]
    for number, peer in enumerate(peers):
        connect(browser, new_server(workspace, peer.url, name=f"Server {number}"), person("ada"))
    both = threading.Barrier(2)

    async def wait_for_the_other(form: Mapping[str, Any]) -> None:
        await asyncio.to_thread(both.wait, 8)

    for peer in peers:
        peer.configure_authorization_server(revocation_faults=wait_for_the_other)

    done = text_of(browser.post(reverse("mcp_oauth:disconnect_everything")))

    assert done.count("the provider confirmed it") == 2


def test_a_flow_that_comes_back_after_everything_was_ended_connects_nothing(
    workspace: Workspace, admin: User, browser: Client, protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    server = new_server(workspace, protected_mcp_server(as_options=REGISTERING).url)
    answer = person("ada").authorize(start(browser, server)["authorization_url"])

    browser.post(reverse("mcp_oauth:disconnect_everything"))

    assert come_back(browser, answer).status_code == 400
    assert not McpServerOAuth.objects.exists()
