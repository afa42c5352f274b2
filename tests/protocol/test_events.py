"""The audit trail: what happened is on record, with who did it and how it ended, and stays as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from mcp_oauth import call_tool
from mcp_oauth.exceptions import InsufficientScope, McpOAuthError
from mcp_oauth.models import Event, McpServer, McpServerOAuth, Membership, Workspace
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import delete_server, update_server
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, start
from tests.servers import AuthorizationServerOptions, ProtectedServer, json_fault

pytestmark = pytest.mark.django_db(transaction=True)

Peers = Callable[..., ProtectedServer]
Persons = Callable[..., Any]
REGISTERING = AuthorizationServerOptions(cimd=False)


def trail(*kinds: str) -> list[tuple[str, str]]:
    """Return the kinds and outcomes on record, oldest first; of these kinds only, if any are given."""
    events = Event.objects.filter(kind__in=kinds) if kinds else Event.objects.all()
    return list(events.order_by("at").values_list("kind", "outcome"))


def last(kind: str) -> Event:
    return Event.objects.filter(kind=kind).latest("at")


def test_the_life_of_a_grant_is_on_record(protected_mcp_server: Peers, person: Persons) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    ada = member(workspace, "ada")
    server = new_server(workspace, peer.url)
    browser = browser_of(ada)
    grant = connect(browser, server, person("ada"))
    McpServerOAuth.objects.update(expires_at=timezone.now())
    call_tool(server, ada, "whoami")
    browser.post("/mcp/oauth/disconnect/", {"server": str(server.pk)})

    assert trail() == [
        ("server_changed", "added"),
        ("connected", ""),
        ("refreshed", ""),
        ("revoked", "confirmed"),
        ("disconnected", "by_request"),
    ]
    connected, renewed, gone = last("connected"), last("refreshed"), last("disconnected")
    assert (connected.user, connected.actor, connected.grant_id) == (ada, ada, grant.pk)
    assert connected.details["issuer"] == peer.issuer
    assert connected.details["scope"] == "read"
    # The application renewed it by itself.
    assert (renewed.user, renewed.actor, renewed.details["rotated"]) == (ada, None, True)
    assert (gone.actor_name, gone.server_name, gone.workspace_id) == ("ada", "Tracker", workspace.pk)


def test_a_renewal_that_fails_for_now_and_one_that_fails_for_good_are_told_apart(
    protected_mcp_server: Peers, person: Persons
) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(ada), server, person("ada"))
    faults = [json_fault(503, "temporarily_unavailable"), json_fault(400, "invalid_grant")]
    peer.configure_authorization_server(token_faults=lambda form: faults.pop(0))
    for _ in range(2):
        McpServerOAuth.objects.update(expires_at=timezone.now(), refresh_not_before=None)
        with pytest.raises(McpOAuthError):
            call_tool(server, ada, "whoami")

    assert trail("refresh_failed", "reauthorization_needed") == [
        ("refresh_failed", "token_endpoint_unavailable"),
        ("reauthorization_needed", "revoked"),
    ]
    assert last("refresh_failed").details["document"] == f"{peer.issuer}/token"


def test_a_tool_that_wants_more_is_on_record_once(protected_mcp_server: Peers, person: Persons) -> None:
    peer = protected_mcp_server(as_options=REGISTERING, tool_scopes={"add": "write"})
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(ada), server, person("ada"))
    for _ in range(2):
        with pytest.raises(InsufficientScope):
            call_tool(server, ada, "add", {"a": 1, "b": 2})

    assert trail("step_up") == [("step_up", "wanted")]
    assert last("step_up").details["scope"] == "read write"

    connect(browser_of(ada), server, person("ada"))
    assert last("connected").details["stepped_up"] == "read write"


@pytest.mark.parametrize("answer", ["the person says no", "another browser", "the code is refused"])
def test_connecting_that_fails_is_on_record(answer: str, protected_mcp_server: Peers, person: Persons) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    ada = member(workspace, "ada")
    server = new_server(workspace, peer.url)
    browser = browser_of(ada)
    url = start(browser, server)["authorization_url"]
    if answer == "the person says no":
        come_back(browser, person("ada").deny(url))
    elif answer == "another browser":
        come_back(browser_of(ada), person("ada").authorize(url))
    else:
        peer.configure_authorization_server(token_faults=lambda form: json_fault(400, "invalid_grant"))
        come_back(browser, person("ada").authorize(url))

    expected = {
        "the person says no": ("access_denied", None),
        "another browser": ("callback_refused", "other_browser"),
        "the code is refused": ("invalid_grant", None),
    }
    event = last("connection_failed")
    assert (event.outcome, event.details.get("reason")) == expected[answer]
    assert (event.user, event.details["issuer"]) == (ada, peer.issuer)


def test_a_callback_opened_again_is_no_event(protected_mcp_server: Peers, person: Persons) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, peer.url)
    browser = browser_of(ada)
    callback = person("ada").authorize(start(browser, server)["authorization_url"])
    for _ in range(3):
        come_back(browser, callback)

    assert trail("connected", "connection_failed") == [("connected", "")]


def test_a_change_names_what_changed_who_did_it_and_which_checks_it_switched_off(
    protected_mcp_server: Peers, person: Persons, caplog: pytest.LogCaptureFixture
) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    boss = member(workspace, "boss", Membership.Role.ADMIN)
    server = new_server(workspace, peer.url)
    connect(browser_of(boss), server, person("ada"))
    changed: dict[str, Any] = {
        "auth_mode": "oauth",
        "options": {"tolerate_missing_s256": True, "audience": "https://api.example.com"},
    }

    ended = update_server(server, ServerSettings(name="Renamed", url=peer.url, **changed), actor=boss)

    event = last("server_changed")
    assert (event.outcome, event.actor, event.server_name) == ("changed", boss, "Renamed")
    assert event.details["fields"] == ["name", "oauth_options"]
    assert event.details["opt_outs"] == ["tolerate_missing_s256"]
    assert event.details["grants_ended"] is True
    assert (ended.confirmed, ended.unconfirmed, ended.not_offered) == (1, 0, 0)
    assert ("revoked", "confirmed") in trail("revoked")
    assert "without these checks: tolerate_missing_s256" in caplog.text

    caplog.clear()
    connect(browser_of(boss), server, person("ada"))
    assert last("connected").details["opt_outs"] == ["tolerate_missing_s256"]
    assert "without these checks: tolerate_missing_s256" in caplog.text


@pytest.mark.parametrize(
    ("options", "outcome", "words"),
    [
        ({}, "confirmed", "1 connection was revoked at the provider."),
        (
            {"revocation_faults": lambda form: json_fault(503, "temporarily_unavailable")},
            "refused",
            "1 connection was forgotten here; its provider did not confirm that it is revoked.",
        ),
        (
            {"revocation": False},
            "not_offered",
            "1 connection was forgotten here; its provider did not confirm that it is revoked.",
        ),
    ],
)
def test_what_the_provider_said_to_a_revocation_is_kept_and_shown(
    options: dict[str, Any], outcome: str, words: str, protected_mcp_server: Peers, person: Persons
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False, **options))
    workspace = new_workspace()
    boss = member(workspace, role=Membership.Role.ADMIN)
    server = new_server(workspace, peer.url)
    browser = browser_of(boss)
    connect(browser, server, person("ada"))

    page = browser.post(f"/workspaces/{workspace.slug}/mcp/{server.pk}/delete/", {"now": "1"}, follow=True)

    assert words in page.content.decode()
    assert trail("revoked") == [("revoked", outcome)]
    assert last("revoked").actor == boss


def test_a_provider_that_cannot_be_reached_is_on_record_as_such(protected_mcp_server: Peers, person: Persons) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    connect(browser_of(member(workspace)), server, person("ada"))
    McpServerOAuth.objects.update(revocation_endpoint="http://127.0.0.1:9/revoke")

    ended = delete_server(server)

    assert trail("revoked") == [("revoked", "server_unreachable")]
    assert (ended.confirmed, ended.unconfirmed) == (0, 1)


def test_the_trail_outlives_people_servers_and_workspaces(protected_mcp_server: Peers, person: Persons) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace("acme")
    ada = member(workspace, "ada")
    server = new_server(workspace, peer.url)
    connect(browser_of(ada), server, person("ada"))
    ids = (workspace.pk, server.pk, ada.pk)
    ada.delete()
    Workspace.objects.all().delete()

    assert not McpServer.objects.exists()
    event = last("connected")
    assert (event.workspace_id, event.server_id, event.user_id) == ids
    assert (event.server_name, event.user_name) == ("Tracker", "ada")
    assert trail("disconnected", "revoked") == [("disconnected", "removed"), ("revoked", "confirmed")]
    connection.check_constraints()


def test_no_secret_is_in_the_trail(protected_mcp_server: Peers, person: Persons) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, peer.url)
    grant = connect(browser_of(ada), server, person("ada"))
    secrets = [grant.access_token, grant.refresh_token]
    McpServerOAuth.objects.update(expires_at=timezone.now())
    call_tool(server, ada, "whoami")
    grant.refresh_from_db()
    secrets += [grant.access_token, grant.refresh_token]
    secrets += [
        request.form[name] for request in peer.authorization_server.requests for name in _SECRET & {*request.form}
    ]
    update_server(
        server, ServerSettings(name="Tracker", url=peer.url, auth_mode="headers", headers={"X-Key": "canary"})
    )

    text = json.dumps(list(Event.objects.values()), default=str)
    assert len(secrets) > 5
    assert [secret for secret in [*secrets, "canary"] if secret and secret in text] == []
    assert last("server_changed").details["fields"] == ["auth_mode", "headers"]


_SECRET = {"code", "code_verifier", "refresh_token", "token", "client_secret"}


def test_events_are_added_and_never_changed() -> None:
    workspace = new_workspace()
    server = McpServer.objects.create(
        workspace=workspace, name="Tracker", slug="tracker", url="https://example.com/mcp"
    )
    event = Event(kind=Event.Kind.CONNECTED, workspace=workspace, server=server, server_name="Tracker")
    event.save()
    event.outcome = "another"
    for change in (
        event.save,
        event.delete,
        lambda: Event.objects.update(outcome="another"),
        lambda: Event.objects.all().delete(),
        lambda: Event.objects.bulk_update([event], ["outcome"]),
    ):
        with pytest.raises(TypeError):
            change()

    assert trail() == [("connected", "")]


def test_what_is_not_committed_is_not_on_record(protected_mcp_server: Peers, person: Persons) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    before = len(trail())
    # The address of another server of the workspace makes saving fail at its last step.
    with pytest.raises(McpOAuthError):
        new_server(workspace, peer.url, slug=server.slug)

    assert len(trail()) == before


def test_old_events_go_in_bounded_rounds(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "EVENT_DAYS": 30, "EVENTS_FORGOTTEN_AT_ONCE": 2}
    workspace = new_workspace()
    server = McpServer.objects.create(
        workspace=workspace, name="Tracker", slug="tracker", url="https://example.com/mcp"
    )
    for days in (1, 29, 31, 32, 33):
        moment = timezone.now() - timedelta(days=days)
        Event(kind="connected", workspace=workspace, server=server, server_name=str(days), at=moment).save()

    went = []
    for _ in range(3):
        call_command("refresh_mcp_tokens", "--json")
        went.append(json.loads(capsys.readouterr().out)["events_forgotten"])

    assert went == [2, 1, 0]
    assert sorted(Event.objects.values_list("server_name", flat=True)) == ["1", "29"]


def test_an_operator_reads_the_trail_and_cannot_change_it(admin_client: Client) -> None:
    workspace = new_workspace("acme")
    server = McpServer.objects.create(
        workspace=workspace, name="Tracker", slug="tracker", url="https://example.com/mcp"
    )
    event = Event(
        kind="connected",
        workspace=workspace,
        server=server,
        server_name="<b>Tracker</b>",
        details={"issuer": "https://as.example.com/<script>"},
    )
    event.save()
    listed = admin_client.get("/admin/mcp_oauth/event/").content.decode()
    shown = admin_client.get(f"/admin/mcp_oauth/event/{event.pk}/change/").content.decode()

    assert "&lt;b&gt;Tracker&lt;/b&gt;" in listed
    assert "https://as.example.com/&lt;script&gt;" in shown
    assert "Acme" in shown
    for path in ("add/", f"{event.pk}/delete/"):
        assert admin_client.get(f"/admin/mcp_oauth/event/{path}").status_code == 403
    assert admin_client.post(f"/admin/mcp_oauth/event/{event.pk}/change/", {"outcome": "x"}).status_code == 403


@pytest.mark.requirement("T44")
def test_a_server_whose_options_cannot_be_read_can_still_be_removed(protected_mcp_server: Peers) -> None:
    peer = protected_mcp_server(as_options=REGISTERING)
    server = new_server(new_workspace(), peer.url)
    McpServer.objects.update(oauth_options={"no_such_option": True, "tolerate_missing_s256": True})
    server.refresh_from_db()

    delete_server(server)

    assert not McpServer.objects.exists()
    assert last("server_changed").outcome == "removed"
    # What can be read of them is on record all the same.
    assert last("server_changed").details["opt_outs"] == ["tolerate_missing_s256"]
