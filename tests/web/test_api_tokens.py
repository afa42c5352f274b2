"""API tokens: who a program speaks for with one, what it never opens, and everything that ends it."""

from __future__ import annotations

import hashlib
import html
import re
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from mcp_oauth.api.callers import PersonalToken
from mcp_oauth.exceptions import InvalidRequest, NotFound, NotSignedIn
from mcp_oauth.models import ApiToken, Event, Membership, Workspace
from mcp_oauth.services import api_tokens
from mcp_oauth.services.api_tokens import NewToken, make_token, resolve, revoke_token
from tests.canary import Canary
from tests.people import browser_of, member, new_server, new_workspace, program_of
from tests.servers import OpenServer
from tests.web.test_server_pages import stored_server

pytestmark = pytest.mark.django_db(transaction=True)

SERVERS = "/api/v1/servers/"
PAGE = "/account/tokens/"

Serve = Callable[..., OpenServer]


@pytest.fixture
def made() -> NewToken:
    """Return a token of a member of a workspace."""
    workspace = new_workspace()
    return make_token(member(workspace, "ada"), workspace, "Nightly report")


def status(secret: str) -> int:
    return Client(headers={"authorization": f"Bearer {secret}"}).get(SERVERS).status_code


def kinds() -> list[tuple[str, str]]:
    return [(event.kind, event.outcome) for event in Event.objects.order_by("at")]


# --- what a token is --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("T41")
def test_a_token_is_256_random_bits_with_a_prefix_and_a_checksum_and_only_its_hash_is_kept(made: NewToken) -> None:
    row = ApiToken.objects.values().get()

    assert re.fullmatch(r"mcpo_[0-9A-Za-z]{49}", made.secret)
    assert row["token_hash"] == hashlib.sha256(made.secret.encode()).hexdigest()
    assert made.secret.startswith(row["hint"])
    assert not [value for value in row.values() if made.secret in str(value)]
    assert made.secret not in repr(made)
    assert len({api_tokens.new_secret() for _ in range(100)}) == 100


def test_a_mistyped_token_is_refused_without_a_look_into_the_database(made: NewToken) -> None:
    wrong = made.secret[:20] + ("x" if made.secret[20] != "x" else "y") + made.secret[21:]

    with CaptureQueriesContext(connection) as queries:
        for secret in (wrong, made.secret[:-1], made.secret + "0", "", "mcpo_", "ü" * 54, "mcpo_" + "0" * 50):
            with pytest.raises(NotSignedIn):
                resolve(secret)

    assert len(queries) == 0


def test_resolving_a_token_takes_two_queries_and_one_write_a_minute(made: NewToken) -> None:
    with CaptureQueriesContext(connection) as first:
        token = resolve(made.secret)
    noted = ApiToken.objects.get().last_used_at
    with CaptureQueriesContext(connection) as second:
        resolve(made.secret)

    assert (token.user.get_username(), token.workspace_id) == ("ada", made.token.workspace_id)
    assert (len(first), len(second)) == (3, 2)
    assert noted is not None
    assert ApiToken.objects.get().last_used_at == noted

    ApiToken.objects.update(last_used_at=noted - timedelta(seconds=61))
    resolve(made.secret)
    used = ApiToken.objects.get().last_used_at
    assert used is not None
    assert used >= noted


# --- what it opens ----------------------------------------------------------------------------------------------------


def test_a_program_acts_as_its_person_in_its_workspace_without_a_csrf_token(open_mcp_server: Serve) -> None:
    peer = open_mcp_server()
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    program = program_of(member(workspace), workspace)

    (row,) = program.get(SERVERS).json()["servers"]
    answer = program.post(f"{SERVERS}{server.pk}/tools/echo/call/", {"arguments": {"text": "Hi"}}, "application/json")

    assert row["id"] == str(server.pk)
    assert answer.json()["result"]["content"][0]["text"] == "Hi"
    assert peer.rpc_methods.count("tools/call") == 1


@pytest.mark.requirement("T39")
def test_servers_of_the_persons_other_workspaces_are_not_there_for_a_token(open_mcp_server: Serve) -> None:
    peer = open_mcp_server()
    own, other = new_workspace(), new_workspace()
    user = member(own)
    Membership.objects.create(workspace=other, user=user, role=Membership.Role.ADMIN)
    server = new_server(other, peer.url)
    asked = len(peer.requests)
    program = program_of(user, own)

    answers = [
        program.get(f"{SERVERS}{server.pk}/"),
        program.get(f"{SERVERS}{server.pk}/tools/"),
        program.post(f"{SERVERS}{server.pk}/tools/echo/call/", {"arguments": {"text": "Hi"}}, "application/json"),
    ]

    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(404, "not_found")] * 3
    assert program.get(SERVERS).json() == {"servers": []}
    assert [row["slug"] for row in program.get("/api/v1/workspaces/").json()["workspaces"]] == [own.slug]
    assert len(peer.requests) == asked
    assert browser_of(user).get(f"{SERVERS}{server.pk}/tools/").status_code == 200


@pytest.mark.requirement("T40")
def test_a_token_opens_no_page_and_not_the_admin() -> None:
    workspace = new_workspace()
    user = User.objects.create_superuser("root", password="secret")
    Membership.objects.create(workspace=workspace, user=user, role=Membership.Role.ADMIN)
    program = program_of(user, workspace)

    for path in ("/", f"/workspaces/{workspace.slug}/mcp/", PAGE, "/api/v1/docs/", "/admin/"):
        answer = program.get(path)
        assert answer.status_code == 302
        assert "/login/" in answer["Location"]
    assert program.get(SERVERS).status_code == 200


def test_cookies_beside_a_token_are_not_looked_at(made: NewToken) -> None:
    grace = member(new_workspace(), "grace")
    stored_server(Workspace.objects.get(pk=made.token.workspace_id), "Of ada")
    browser = browser_of(grace)

    with_good = browser.get(SERVERS, headers={"authorization": f"Bearer {made.secret}"})
    with_bad = browser.get(SERVERS, headers={"authorization": f"Bearer {api_tokens.new_secret()}"})

    assert [row["name"] for row in with_good.json()["servers"]] == ["Of ada"]
    assert with_bad.status_code == 401
    assert browser.get(SERVERS).status_code == 200


def test_a_password_that_a_proxy_asks_for_is_not_taken_for_a_token() -> None:
    workspace = new_workspace()
    browser = browser_of(member(workspace))

    assert browser.get(SERVERS, headers={"authorization": "Basic c3RhZ2luZzpzZWNyZXQ="}).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "bearer nonsense", "Bearer mcpo_" + "0" * 49, "Bearer a b", "Bearer \xfc" * 3, "BEARER \x00"],
)
def test_a_wrong_token_is_refused_in_json(header: str) -> None:
    answer = Client(headers={"authorization": header}).get(SERVERS)

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not_signed_in"
    assert answer["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert answer["Cache-Control"] == "no-store"


def test_somebody_without_any_credentials_is_told_which_kind_is_wanted() -> None:
    assert Client().get(SERVERS)["WWW-Authenticate"] == "Bearer"


# --- what ends it -----------------------------------------------------------------------------------------------------


def revoked_by_its_person(made: NewToken) -> None:
    browser_of(User.objects.get()).post(f"{PAGE}{made.token.pk}/revoke/")


def expired(made: NewToken) -> None:
    ApiToken.objects.update(expires_at=timezone.now())


def without_membership(made: NewToken) -> None:
    Membership.objects.get().delete()


def without_a_word_to_anybody(made: NewToken) -> None:
    Membership.objects.all()._raw_delete(Membership.objects.db)


def deactivated(made: NewToken) -> None:
    User.objects.update(is_active=False)


def with_its_person(made: NewToken) -> None:
    User.objects.get().delete()


def with_its_workspace(made: NewToken) -> None:
    Workspace.objects.get().delete()


@pytest.mark.requirement("T39")
@pytest.mark.parametrize(
    "end",
    [
        revoked_by_its_person,
        expired,
        without_membership,
        without_a_word_to_anybody,
        deactivated,
        with_its_person,
        with_its_workspace,
    ],
)
def test_a_token_ends_with_what_it_stands_on(end: Callable[[NewToken], None], made: NewToken) -> None:
    assert status(made.secret) == 200

    end(made)

    assert status(made.secret) == 401


def test_somebody_who_comes_back_to_a_workspace_finds_the_old_token_dead(made: NewToken) -> None:
    Membership.objects.get().delete()
    Membership.objects.create(workspace_id=made.token.workspace_id, user_id=made.token.user_id)

    assert status(made.secret) == 401
    assert ("api_token_revoked", "removed") in kinds()


def test_a_token_is_revoked_once(made: NewToken) -> None:
    assert revoke_token(made.token, actor=made.token.user)
    assert not revoke_token(made.token)

    assert kinds() == [("api_token_made", ""), ("api_token_revoked", "by_request")]


def test_the_trail_says_who_made_and_revoked_which_token_and_not_its_secret(
    made: NewToken, caplog: pytest.LogCaptureFixture
) -> None:
    root = User.objects.create_superuser("root", password="secret")
    revoke_token(made.token, actor=root)

    first, second = Event.objects.order_by("at")
    assert (first.workspace_id, first.server_id, first.user_name) == (made.token.workspace_id, None, "ada")
    assert first.details == {"token": made.token.hint, "name": "Nightly report", "days": 365}
    assert (second.user_name, second.actor_name) == ("ada", "root")
    assert not [event for event in Event.objects.values() if made.secret in str(event)]
    assert str(first).endswith("API token made")
    assert f"api_token_revoked workspace={made.token.workspace_id} outcome=by_request" in caplog.text


# --- how many, how long -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "days", "field"),
    [("", 1, "name"), ("  ", 1, "name"), ("n" * 81, 1, "name"), ("two\nlines", 1, "name"), ("x\x00", 1, "name")]
    + [("fine", days, "days") for days in (0, -1, 366)],
)
def test_a_token_has_a_name_and_an_end(name: str, days: int, field: str) -> None:
    workspace = new_workspace()

    with pytest.raises(InvalidRequest) as refused:
        make_token(member(workspace), workspace, name, days=days)

    assert refused.value.field == field
    assert not ApiToken.objects.exists()


def test_somebody_elses_workspace_gives_no_token() -> None:
    with pytest.raises(NotFound):
        make_token(member(new_workspace()), new_workspace(), "Report")


def test_living_tokens_are_counted_and_dead_ones_are_let_go(settings: Settings) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "MAX_API_TOKENS": 2}
    workspace = new_workspace()
    user = member(workspace)

    for number in range(8):
        revoke_token(make_token(user, workspace, f"Number {number}").token)
    make_token(user, workspace, "First")
    make_token(user, workspace, "Second")

    with pytest.raises(InvalidRequest, match="You have 2 tokens"):
        make_token(user, workspace, "Third")
    assert sorted(ApiToken.objects.values_list("name", flat=True)) == ["First", "Number 6", "Number 7", "Second"]


# --- the page ---------------------------------------------------------------------------------------------------------


def filled(where: Workspace, **changes: str) -> dict[str, str]:
    return {"name": "Nightly report", "workspace": where.slug, "days": "30", **changes}


def test_a_person_makes_sees_and_revokes_a_token_and_its_secret_is_shown_once(suite_canary: Canary) -> None:
    workspace = new_workspace()
    browser = browser_of(member(workspace))

    shown = browser.post(PAGE, filled(workspace))
    (secret,) = set(re.findall(r"mcpo_\w{49}", shown.content.decode()))
    again = browser.get(PAGE)

    assert (shown.status_code, shown["Cache-Control"]) == (200, "no-store")
    assert status(secret) == 200
    assert secret not in again.content.decode()
    assert secret[:11] in again.content.decode()
    assert "Nightly report" in again.content.decode()
    token = ApiToken.objects.get()
    assert token.expires_at is not None
    assert timedelta(days=29) < token.expires_at - timezone.now() <= timedelta(days=30)

    left = browser.post(f"{PAGE}{token.pk}/revoke/", follow=True)

    assert "Nightly report is revoked." in html.unescape(left.content.decode())
    assert status(secret) == 401
    assert suite_canary.leaks() == []


@pytest.mark.parametrize(
    "changes",
    [{"name": ""}, {"days": "0"}, {"days": "366"}, {"days": "soon"}, {"workspace": "elsewhere"}, {"workspace": ""}],
)
def test_a_mistake_in_the_form_is_named_and_no_token_is_made(changes: dict[str, str]) -> None:
    workspace, _elsewhere = new_workspace(), new_workspace("elsewhere")

    page = browser_of(member(workspace)).post(PAGE, filled(workspace, **changes))

    assert page.status_code == 400
    assert "Nothing was saved yet" in page.content.decode()
    assert not ApiToken.objects.exists()


def test_one_token_too_many_is_told_on_the_page(settings: Settings) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "MAX_API_TOKENS": 0}
    workspace = new_workspace()

    page = browser_of(member(workspace)).post(PAGE, filled(workspace))

    assert page.status_code == 400
    assert "You have 0 tokens for this workspace already." in page.content.decode()


def test_nobody_sees_or_revokes_another_persons_token(made: NewToken) -> None:
    colleague = member(Workspace.objects.get(), role=Membership.Role.ADMIN)
    browser = browser_of(colleague)

    answer = browser.post(f"{PAGE}{made.token.pk}/revoke/", headers={"accept": "application/json"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert made.token.hint not in browser.get(PAGE).content.decode()
    assert status(made.secret) == 200


@pytest.mark.requirement("T40")
def test_making_and_revoking_needs_the_csrf_token(made: NewToken) -> None:
    workspace = Workspace.objects.get()
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get())

    assert client.post(PAGE, filled(workspace)).status_code == 403
    assert client.post(f"{PAGE}{made.token.pk}/revoke/").status_code == 403
    assert status(made.secret) == 200
    assert ApiToken.objects.count() == 1


def test_somebody_without_a_workspace_can_make_none() -> None:
    browser = browser_of(member())

    assert "Make token" not in browser.get(PAGE).content.decode()
    assert browser.post(PAGE, {"name": "x", "workspace": "x", "days": "1"}).status_code == 400


def test_a_name_is_shown_as_text() -> None:
    workspace = new_workspace()
    page = browser_of(member(workspace)).post(PAGE, filled(workspace, name="<script>alert(1)</script>"))

    assert "<script>alert" not in page.content.decode()


# --- the admin --------------------------------------------------------------------------------------------------------


def test_an_operator_sees_whose_tokens_there_are_revokes_and_removes_them(made: NewToken) -> None:
    root = User.objects.create_superuser("root", password="secret")
    browser = browser_of(root)
    listing = reverse("admin:mcp_oauth_apitoken_changelist")
    chosen = {"action": "revoke", "_selected_action": [str(made.token.pk)]}

    before = [browser.get(listing), browser.get(f"{listing}{made.token.pk}/change/")]
    done = browser.post(listing, chosen, follow=True)

    for page in before:
        assert made.token.hint in page.content.decode()
        assert made.token.token_hash not in page.content.decode()
    assert "1 API token is revoked." in done.content.decode()
    assert status(made.secret) == 401
    assert Event.objects.order_by("at").last().actor_name == "root"  # type: ignore[union-attr]
    assert browser.get(f"{listing}add/").status_code == 403

    other = make_token(made.token.user, made.token.workspace, "Another")
    browser.post(f"{listing}{other.token.pk}/delete/", {"post": "yes"})
    assert kinds()[-1] == ("api_token_revoked", "by_request")
    assert not ApiToken.objects.filter(pk=other.token.pk).exists()


def test_the_kind_of_authorization_logs_nothing_of_what_it_refuses(
    settings: Settings, caplog: pytest.LogCaptureFixture, made: NewToken
) -> None:
    settings.DEBUG = True

    Client(headers={"authorization": f"Token {made.secret}"}).get(SERVERS)
    Client(headers={"authorization": f"Bearer {made.secret}x"}).get(SERVERS)

    assert made.secret not in caplog.text
    assert PersonalToken.openapi_scheme == "bearer"


def test_an_unknown_id_is_not_found() -> None:
    answer = browser_of(member()).post(f"{PAGE}{uuid.uuid4()}/revoke/", headers={"accept": "application/json"})

    assert answer.status_code == 404
