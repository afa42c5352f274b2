"""The Django admin over real servers: it configures through the services, shows no secret and survives lost keys."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from mcp_oauth import call_tool
from mcp_oauth.models import (
    AuthorizationFlow,
    McpServer,
    McpServerOAuth,
    Membership,
    OAuthRegistration,
    StoredListing,
    ToolCall,
    Workspace,
)
from mcp_oauth.sessions import loop
from tests.people import browser_of, connect, member, new_server, new_workspace, start
from tests.servers import (
    AuthorizationServerOptions,
    HeaderServer,
    OddServer,
    OpenServer,
    ProtectedServer,
    json_fault,
)

pytestmark = pytest.mark.django_db(transaction=True)

MODELS: list[type[models.Model]] = [
    Workspace,
    Membership,
    McpServer,
    McpServerOAuth,
    OAuthRegistration,
    AuthorizationFlow,
    StoredListing,
    ToolCall,
]
CANARY = "canary-7f3a"


def administrator() -> User:
    return User.objects.create_superuser(f"root-{uuid.uuid4().hex[:8]}", password="secret")


def page(model: type[models.Model], name: str, *arguments: Any) -> str:
    return reverse(f"admin:mcp_oauth_{model._meta.model_name}_{name}", args=arguments)


def act(client: Client, model: type[models.Model], action: str, *rows: models.Model, **data: str) -> Any:
    """Run an action of the list; returns the page after it."""
    chosen = {"action": action, "_selected_action": [str(row.pk) for row in rows], **data}
    return client.post(page(model, "changelist"), chosen, follow=True)


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def filled(client: Client, form_url: str, /, **changes: Any) -> dict[str, Any]:
    """Return what a browser sends back from a form, with these changes."""
    form = client.get(form_url).context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    values |= changes
    return {name: "" if value is None else value for name, value in values.items() if value is not False}


def save(client: Client, server: McpServer, **changes: Any) -> Any:
    url = page(McpServer, "change", server.pk)
    return client.post(url, filled(client, url, **changes), follow=True)


def everything(workspace: Workspace, user: User | None = None) -> list[models.Model]:
    """Write one row of every model, each secret a canary."""
    user = user or member(workspace)
    now = timezone.now()
    server = McpServer.objects.create(
        workspace=workspace,
        name="Tracker",
        slug=f"tracker-{uuid.uuid4().hex[:8]}",
        url="https://mcp.example.com/mcp",
        auth_mode=McpServer.AuthMode.OAUTH,
        auth_mode_source=McpServer.AuthModeSource.PERSON,
        headers={"X-Api-Key": f"{CANARY}-header"},
        client_id="by-hand",
        client_issuer="https://as.example.com",
        client_secret=f"{CANARY}-client-secret",
        probe_steps=[{"method": "POST", "url": "https://mcp.example.com/mcp", "status": 401, "verdict": "challenge"}],
    )
    registration = OAuthRegistration.objects.create(
        workspace=workspace,
        kind=OAuthRegistration.Kind.DYNAMIC,
        issuer=f"https://{uuid.uuid4().hex}.example.com",
        redirect_uri="https://app.example.com/mcp/oauth/callback/",
        client_id="client",
        client_secret=f"{CANARY}-registration",
        token_endpoint_auth_method="client_secret_post",
    )
    grant = McpServerOAuth.objects.create(
        server=server,
        user=user,
        access_token=f"{CANARY}-access",
        refresh_token=f"{CANARY}-refresh",
        issuer=registration.issuer,
        token_endpoint="https://as.example.com/token",
        client_id="client",
        registration=registration,
        connected_at=now,
    )
    flow = AuthorizationFlow.objects.create(
        server=server,
        user=user,
        server_generation=1,
        state_hash=f"{CANARY}-state-{uuid.uuid4().hex}",
        browser_hash=f"{CANARY}-browser",
        code_verifier=f"{CANARY}-verifier",
        issuer=registration.issuer,
        metadata={"issuer": registration.issuer},
        redirect_uri=registration.redirect_uri,
        client_id="client",
        registration=registration,
        created_at=now,
        expires_at=now,
    )
    catalogue = StoredListing.objects.create(
        server=server,
        user=user,
        server_generation=1,
        grant_id=grant.pk,
        entries=[{"name": "find_tickets"}, "broken"],
        entry_count=1,
        fetched_at=now,
    )
    call = ToolCall.objects.create(
        server=server,
        user=user,
        server_generation=1,
        tool="find_tickets",
        state=ToolCall.State.INPUT_REQUIRED,
        started_at=now,
        deadline_at=now,
        erase_at=now,
        arguments={"title": f"{CANARY}-arguments"},
        pending={"request_state": f"{CANARY}-state"},
        answers={"sure": f"{CANARY}-answer"},
        result={"content": [{"type": "text", "text": f"{CANARY}-result"}]},
    )
    membership = Membership.objects.get(workspace=workspace, user=user)
    return [workspace, membership, server, grant, registration, flow, catalogue, call]


def pages_about(client: Client, rows: list[models.Model]) -> dict[str, Any]:
    """Open every page the admin has about these rows."""
    opened = {url: client.get(url) for url in (reverse("admin:index"), "/admin/mcp_oauth/")}
    for row in rows:
        names = [("changelist",), *[(name, row.pk) for name in ("change", "delete", "history")]]
        for name, *arguments in names:
            url = page(type(row), str(name), *arguments)
            opened[url] = client.get(url)
        opened[f"{row._meta.label} selected"] = act(client, type(row), "delete_selected", row)
    for model in (Workspace, Membership, McpServer):
        opened[page(model, "add")] = client.get(page(model, "add"))
    return opened


@pytest.fixture
def dropped_key(settings: Settings) -> Callable[[], None]:
    """Lose the key everything so far was sealed with."""

    def drop() -> None:
        other = base64.b64encode(bytes(reversed(range(32)))).decode()
        settings.MCP_OAUTH = {**settings.MCP_OAUTH, "ENCRYPTION_KEYS": [other]}

    return drop


class _Inline(HTMLParser):
    """Finds what the content security policy forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _value in attrs}
        runs = tag == "script" and "src" not in names and dict(attrs).get("type") != "application/json"
        if runs or tag == "style" or "style" in names or any(name.startswith("on") for name in names):
            self.found.append(self.get_starttag_text() or tag)


@pytest.mark.requirement("T40", "T41")
def test_no_page_shows_a_secret_or_needs_an_inline_script() -> None:
    client = browser_of(administrator())
    rows = everything(new_workspace())
    sealed = [
        str(value)
        for name, model in (
            ("headers", McpServer),
            ("access_token", McpServerOAuth),
            ("code_verifier", AuthorizationFlow),
            ("arguments", ToolCall),
            ("result", ToolCall),
        )
        for value in model._default_manager.values_list(name, flat=True)
    ]

    for url, response in pages_about(client, rows).items():
        html = response.content.decode()
        assert response.status_code == 200, url
        assert CANARY not in html, url
        assert not any(text in html for text in sealed), url
        assert "script-src 'self'" in response.headers["Content-Security-Policy"], url
        inline = _Inline()
        inline.feed(html)
        assert not inline.found, (url, inline.found)


def test_somebody_who_may_only_look_sees_facts_and_no_secrets() -> None:
    rows = everything(new_workspace())
    visitor = member()
    visitor.is_staff = True
    visitor.save()
    visitor.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = browser_of(visitor)

    for row in rows:
        response = client.get(page(type(row), "change", row.pk))
        assert response.status_code == 200
        assert CANARY not in response.content.decode()
    server = next(row for row in rows if isinstance(row, McpServer))
    assert client.post(page(McpServer, "change", server.pk), {"name": "Mine"}).status_code == 403
    response = act(client, McpServer, "ask_what_they_are", server)
    server.refresh_from_db()
    assert server.probed_at is None


@pytest.mark.requirement("T42", "T44")
def test_a_lost_key_breaks_no_page(dropped_key: Callable[[], None]) -> None:
    client = browser_of(administrator())
    rows = everything(new_workspace())
    dropped_key()

    opened = pages_about(client, rows)

    assert {url: response.status_code for url, response in opened.items() if response.status_code != 200} == {}
    server = next(row for row in rows if isinstance(row, McpServer))
    assert "it cannot be opened" in opened[page(McpServer, "change", server.pk)].content.decode()


def test_rows_that_cannot_be_opened_can_be_changed_revoked_and_deleted(dropped_key: Callable[[], None]) -> None:
    client = browser_of(administrator())
    workspace = new_workspace()
    rows = everything(workspace)
    server = next(row for row in rows if isinstance(row, McpServer))
    dropped_key()

    response = save(client, server, name="Renamed")
    assert response.status_code == 200
    server.refresh_from_db()
    assert server.name == "Renamed"
    act(client, McpServerOAuth, "revoke", *McpServerOAuth.objects.all())
    assert not McpServerOAuth.objects.exists()
    for model in (AuthorizationFlow, OAuthRegistration, McpServer, Workspace):
        response = act(client, model, "delete_selected", *model._default_manager.all(), post="yes")
        assert response.status_code == 200
        assert not model._default_manager.exists()


@pytest.mark.parametrize("model", MODELS)
def test_a_list_takes_the_same_queries_for_five_rows_and_thirty(
    model: type[models.Model], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = browser_of(administrator())
    for _number in range(5):
        everything(new_workspace())
    client.get(page(model, "changelist"))
    with CaptureQueriesContext(connection) as queries:
        client.get(page(model, "changelist"))

    for _number in range(25):
        everything(new_workspace())

    with django_assert_max_num_queries(len(queries)):
        response = client.get(page(model, "changelist"))
    assert len(response.context["cl"].result_list) == 30


def test_a_secret_cannot_be_guessed_through_the_address_of_a_list() -> None:
    client = browser_of(administrator())
    everything(new_workspace())

    response = client.get(page(McpServer, "changelist"), {"client_secret__startswith": "v1"})

    assert response.status_code == 302
    assert response.headers["Location"].endswith("?e=1")


def test_adding_a_server_asks_it_what_it_is(open_mcp_server: Callable[..., OpenServer]) -> None:
    peer = open_mcp_server()
    client = browser_of(administrator())
    workspace = new_workspace()
    url = page(McpServer, "add")

    response = client.post(
        url, filled(client, url, workspace=str(workspace.pk), name="Open one", url=peer.url), follow=True
    )

    server = McpServer.objects.get()
    assert (server.auth_mode, server.auth_mode_source, server.slug) == ("none", "probe", "open-one")
    assert "Open one: Open; nobody needs to sign in." in said(response)
    assert LogEntry.objects.get().object_id == str(server.pk)


@pytest.mark.requirement("T41")
def test_secrets_are_stored_kept_replaced_and_removed_and_never_come_back(
    header_mcp_server: Callable[..., HeaderServer],
) -> None:
    peer = header_mcp_server("X-Api-Key", f"{CANARY}-1")
    client = browser_of(administrator())
    url = page(McpServer, "add")
    data = filled(
        client,
        url,
        workspace=str(new_workspace().pk),
        name="Key",
        url=peer.url,
        kind="headers",
        new_headers=f"X-Api-Key: {CANARY}-1",
        client_id="app",
        new_client_secret=f"{CANARY}-2",
        option_scopes="read write",
        option_tolerate_missing_s256="on",
    )
    responses = [client.post(url, data, follow=True)]
    server = McpServer.objects.get()
    assert (server.headers, server.client_secret) == ({"X-Api-Key": f"{CANARY}-1"}, f"{CANARY}-2")
    assert server.oauth_options == {"scopes": "read write", "tolerate_missing_s256": True}

    responses.append(save(client, server, name="Key again"))
    server = McpServer.objects.get()
    assert (server.name, server.headers, server.client_secret) == (
        "Key again",
        {"X-Api-Key": f"{CANARY}-1"},
        f"{CANARY}-2",
    )
    assert server.oauth_options == {"scopes": "read write", "tolerate_missing_s256": True}
    assert server.generation == 1

    responses.append(save(client, server, new_headers=f"X-Api-Key: {CANARY}-3", new_client_secret=f"{CANARY}-4"))
    server = McpServer.objects.get()
    assert (server.headers, server.client_secret) == ({"X-Api-Key": f"{CANARY}-3"}, f"{CANARY}-4")

    responses.append(save(client, server, clear_headers="on", clear_client_secret="on"))
    server = McpServer.objects.get()
    assert (server.headers, server.client_secret) == (None, None)

    responses.append(client.get(page(McpServer, "history", server.pk)))
    assert all(CANARY not in response.content.decode() for response in responses)
    entries = LogEntry.objects.all()
    assert entries.count() == 4
    assert not any(CANARY in entry.change_message + entry.object_repr for entry in entries)


def test_a_malformed_form_comes_back_without_the_typed_secrets_and_says_so() -> None:
    client = browser_of(administrator())
    url = page(McpServer, "add")
    data = filled(
        client,
        url,
        workspace=str(new_workspace().pk),
        name="Wrong",
        url="https://user:password@mcp.example.com/mcp",
        new_headers=f"Host: {CANARY}-1",
        new_client_secret=f"{CANARY}-2",
        option_extra_parameters='{"a": 1}',
    )

    response = client.post(url, data)

    assert response.status_code == 200
    assert not McpServer.objects.exists()
    assert CANARY not in response.content.decode()
    errors = response.context["adminform"].form.errors
    assert set(errors) == {"url", "new_headers", "new_client_secret", "client_id", "option_extra_parameters"}


def test_a_server_that_does_not_answer_leaves_the_form_as_it_was(odd_server: Callable[..., OddServer]) -> None:
    peer = odd_server("html")
    client = browser_of(administrator())
    url = page(McpServer, "add")
    workspace = str(new_workspace().pk)
    data = filled(client, url, workspace=workspace, name="Odd", url=peer.url, option_prompt="consent")

    response = client.post(url, data)

    assert not McpServer.objects.exists()
    assert not LogEntry.objects.exists()
    form = response.context["adminform"].form
    assert "not as an MCP server" in str(form.errors)
    assert (form["name"].value(), form["option_prompt"].value()) == ("Odd", "consent")

    chosen = client.post(url, {**data, "kind": "headers"}, follow=True)

    assert McpServer.objects.get().auth_mode == "headers"
    assert any("not as an MCP server" in text for text in said(chosen))


def test_a_short_name_that_is_taken_is_an_error_of_the_form(open_mcp_server: Callable[..., OpenServer]) -> None:
    peer = open_mcp_server()
    workspace = new_workspace()
    taken = new_server(workspace, peer.url)
    client = browser_of(administrator())
    url = page(McpServer, "add")

    response = client.post(
        url, filled(client, url, workspace=str(workspace.pk), name="Second", slug=taken.slug, url=peer.url)
    )

    assert "already has this short name" in response.content.decode()
    assert McpServer.objects.count() == 1


def test_a_server_that_went_away_can_still_be_renamed_and_disabled(open_mcp_server: Callable[..., OpenServer]) -> None:
    workspace = new_workspace()
    asked = new_server(workspace, open_mcp_server().url)
    McpServer.objects.filter(pk=asked.pk).update(url="http://127.0.0.1:9/mcp", auth_mode="oauth")

    response = save(browser_of(administrator()), asked, name="Gone", enabled=False)

    server = McpServer.objects.get()
    assert (server.name, server.enabled) == ("Gone", False)
    assert (server.auth_mode, server.auth_mode_source, server.generation) == ("oauth", "probe", 1)
    assert server.probed_at == asked.probed_at
    # Nobody was asked, so nothing is said about an answer.
    assert not any("Open; nobody needs to sign in." in text for text in said(response))


def test_a_server_that_went_away_cannot_be_found_out_anew() -> None:
    server = McpServer.objects.create(
        workspace=new_workspace(),
        name="Gone",
        slug="gone",
        url="http://127.0.0.1:9/mcp",
        auth_mode="oauth",
        auth_mode_source=McpServer.AuthModeSource.PERSON,
    )

    response = save(browser_of(administrator()), server, name="Renamed", kind="")

    server.refresh_from_db()
    assert (server.name, server.auth_mode, server.auth_mode_source) == ("Gone", "oauth", "person")
    assert "check the address" in str(response.context["adminform"].form.errors["url"])


@pytest.mark.requirement("T17", "T26")
def test_another_address_ends_the_grants_and_revokes_them(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    old, new = (protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False)) for _number in range(2))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, old.url)
    connect(browser_of(user), server, person("ada"))

    response = save(browser_of(administrator()), server, url=new.url)

    server.refresh_from_db()
    grant = McpServerOAuth.objects.get()
    assert (server.url, server.generation) == (new.url, 2)
    assert (grant.state, grant.reason, grant.access_token) == ("needs_reauthorization", "server_changed", None)
    assert old.authorization_server.requests_to("/revoke")
    assert said(response)[:2] == [
        "People have to connect to this server again.",
        "1 connection was revoked at the provider.",
    ]


def test_asking_says_what_each_server_is_or_why_not(
    open_mcp_server: Callable[..., OpenServer], protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    workspace = new_workspace()
    open_one, guarded = open_mcp_server(), protected_mcp_server()
    servers = [
        McpServer.objects.create(workspace=workspace, name=name, slug=name, url=url, oauth_options=options)
        for name, url, options in (
            ("one", open_one.url, {}),
            ("two", guarded.url, {}),
            ("three", "http://127.0.0.1:9/mcp", {}),
            ("four", open_one.url, {"no such option": 1}),
        )
    ]

    told = said(act(browser_of(administrator()), McpServer, "ask_what_they_are", *servers))

    for server in servers:
        server.refresh_from_db()
    assert [server.reachable for server in servers] == [True, True, False, None]
    assert [server.auth_mode for server in servers] == ["none", "oauth", "none", "none"]
    assert "one: Open; nobody needs to sign in." in told
    assert f"two: Uses OAuth; people sign in at {guarded.issuer}." in told
    assert any(text.startswith("three: ") and "check the address with an administrator" in text for text in told)
    assert any(text.startswith("four: There is no OAuth option named") for text in told)


def test_more_servers_than_a_person_waits_for_are_not_asked() -> None:
    workspace = new_workspace()
    servers = [
        McpServer.objects.create(workspace=workspace, name=str(number), slug=str(number), url="http://127.0.0.1:9/mcp")
        for number in range(11)
    ]

    told = said(act(browser_of(administrator()), McpServer, "test_listing", *servers))

    assert told == ["Select at most 10 servers; they are asked one after the other."]
    assert not McpServer.objects.filter(contacted_at__isnull=False).exists()


def test_listing_tests_shared_servers_without_membership_and_oauth_ones_with_the_own_grant(
    open_mcp_server: Callable[..., OpenServer],
    header_mcp_server: Callable[..., HeaderServer],
    protected_mcp_server: Callable[..., ProtectedServer],
    person: Callable[..., Any],
) -> None:
    keyed = header_mcp_server("X-Api-Key", f"{CANARY}-good")
    guarded = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    grace = member(workspace, "grace")
    servers = [
        new_server(workspace, open_mcp_server().url, "Open"),
        new_server(workspace, keyed.url, "Key", auth_mode="headers", headers={"X-Api-Key": f"{CANARY}-good"}),
        new_server(workspace, guarded.url, "Mine"),
        new_server(workspace, keyed.url, "Bad key", auth_mode="headers", headers={"X-Api-Key": f"{CANARY}-bad"}),
    ]
    connect(browser_of(grace), servers[2], person("grace"))
    admin = administrator()
    Membership.objects.create(workspace=workspace, user=admin)
    client = browser_of(admin)

    response = act(client, McpServer, "test_listing", *servers)

    told = said(response)
    assert "Open offers 4 tools." in told
    assert "Key offers 4 tools." in told
    assert any(
        "You have not connected your account at Mine yet." in text and "Connected: grace." in text for text in told
    )
    assert any(text.startswith("Bad key: ") and "does not accept the headers" in text for text in told)
    assert CANARY not in response.content.decode()

    connect(client, servers[2], person("ada"))
    told = said(act(client, McpServer, "test_listing", servers[2]))

    assert any(text.startswith("Mine offers 4 tools. Connected: ") for text in told)


def test_revoking_grants_tells_the_authorization_server(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user, other = member(workspace), member(workspace)
    server = new_server(workspace, peer.url)
    grant = connect(browser_of(user), server, person("ada"))
    kept = connect(browser_of(other), server, person("grace"))
    call_tool(server, user, "whoami")
    assert start(browser_of(user), server, again="1")["authorization_url"]
    token = grant.access_token or ""
    assert peer.authorization_server.introspect(token) is not None

    response = act(browser_of(administrator()), McpServerOAuth, "revoke", grant)

    assert said(response) == [f"{grant} is revoked."]
    assert len(peer.authorization_server.requests_to("/revoke")) == 2
    assert peer.authorization_server.introspect(token) is None
    assert list(McpServerOAuth.objects.all()) == [kept]
    assert not StoredListing.objects.filter(user=user).exists()
    assert not AuthorizationFlow.objects.filter(user=user).exists()
    assert LogEntry.objects.filter(object_id=str(grant.pk)).count() == 1


@pytest.mark.requirement("rfc7009-2.2.1-unavailable", "T26")
def test_a_grant_goes_even_if_its_authorization_server_does_not_confirm(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Any]
) -> None:
    faults = AuthorizationServerOptions(cimd=False, revocation_faults=lambda _parameters: json_fault(503, "busy"))
    peer = protected_mcp_server(as_options=faults)
    workspace = new_workspace()
    grant = connect(browser_of(member(workspace)), new_server(workspace, peer.url), person("ada"))

    response = act(browser_of(administrator()), McpServerOAuth, "revoke", grant)

    assert said(response)[0].endswith("did not confirm the revocation.")
    assert not McpServerOAuth.objects.exists()


@pytest.mark.requirement("T26")
@pytest.mark.parametrize("model", [McpServerOAuth, McpServer, Workspace])
@pytest.mark.parametrize("way", ["page", "action"])
def test_whatever_is_deleted_takes_its_grants_along_upstream(
    model: type[models.Model],
    way: str,
    protected_mcp_server: Callable[..., ProtectedServer],
    person: Callable[..., Any],
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    grant = connect(browser_of(user), server, person("ada"))
    call_tool(server, user, "whoami")
    token = grant.access_token or ""
    row = model._default_manager.get()
    client = browser_of(administrator())

    if way == "page":
        response = client.post(page(model, "delete", row.pk), {"post": "yes"}, follow=True)
    else:
        response = act(client, model, "delete_selected", row, post="yes")

    assert response.status_code == 200
    assert not model._default_manager.exists()
    assert not McpServerOAuth.objects.exists()
    assert peer.authorization_server.introspect(token) is None


@pytest.mark.parametrize("model", [McpServerOAuth, OAuthRegistration, AuthorizationFlow, StoredListing])
def test_what_the_application_writes_is_not_added_or_changed_by_hand(model: type[models.Model]) -> None:
    client = browser_of(administrator())
    everything(new_workspace())
    row = model._default_manager.get()

    assert client.get(page(model, "add")).status_code == 403
    assert client.post(page(model, "change", row.pk), {}).status_code == 403
    assert 'name="_save"' not in client.get(page(model, "change", row.pk)).content.decode()


def test_workspaces_are_made_with_their_people_and_lead_to_their_connections() -> None:
    client = browser_of(administrator())
    user = member()
    data = {
        "name": "Team",
        "slug": "team",
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "0",
        "memberships-0-user": str(user.pk),
        "memberships-0-role": "admin",
    }

    response = client.post(page(Workspace, "add"), data, follow=True)

    assert Membership.objects.get().is_admin
    assert 'href="/workspaces/team/mcp/"' in response.content.decode()


@pytest.mark.parametrize("way", ["add", "change", "delete", "ask"])
def test_no_transaction_is_open_while_a_server_is_asked(
    way: str,
    protected_mcp_server: Callable[..., ProtectedServer],
    person: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    connect(browser_of(member(workspace)), server, person("ada"))
    client = browser_of(administrator())
    url = page(McpServer, "add")
    added = filled(client, url, workspace=str(workspace.pk), name="Second", url=peer.url)
    locked: list[bool] = []
    run = loop.run

    def watched(*args: Any, **kwargs: Any) -> Any:
        locked.append(connection.in_atomic_block)
        return run(*args, **kwargs)

    monkeypatch.setattr(loop, "run", watched)
    if way == "add":
        client.post(url, added)
    elif way == "change":
        save(client, server, option_audience="other")
    elif way == "delete":
        client.post(page(McpServer, "delete", server.pk), {"post": "yes"})
    else:
        act(client, McpServer, "ask_what_they_are", server)

    assert locked
    assert not any(locked)
