"""What an operator does in the Django admin: narrows lists, follows links, acts upon chosen rows, with real servers."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from mcp_oauth import list_tools
from mcp_oauth.fields import sealed_value
from mcp_oauth.models import ApiToken, Event, McpServer, McpServerOAuth, Membership, ToolCall, Workspace
from mcp_oauth.services.api_tokens import make_token
from mcp_oauth.services.events import record
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, Person, ProtectedServer
from tests.team import Team, team
from tests.web.test_admin import MODELS, act, administrator, everything, page, said

__all__ = ["team"]  # a fixture

pytestmark = pytest.mark.django_db(transaction=True)

Protect = Callable[..., ProtectedServer]
REGISTERING = AuthorizationServerOptions(cimd=False)


def names_in(response: Any) -> set[str]:
    return {str(row) for row in response.context["cl"].result_list}


def server(workspace: Workspace, name: str, **columns: Any) -> McpServer:
    facts = {"slug": f"{name}-{uuid.uuid4().hex[:6]}", "url": f"https://{name}.example.com/mcp", **columns}
    return McpServer.objects.create(workspace=workspace, name=name, **facts)


def grant(at: McpServer, user: Any = None, **columns: Any) -> McpServerOAuth:
    facts = {"issuer": "https://as.example.com", "connected_at": timezone.now(), "access_token": "a", **columns}
    return McpServerOAuth.objects.create(server=at, user=user, **facts)


def everything_at_once(workspace: Workspace) -> None:
    rows = everything(workspace)
    server = next(row for row in rows if isinstance(row, McpServer))
    user = member(workspace)
    record(Event.Kind.CONNECTED, server, user_id=user.pk, actor=user)
    make_token(user, workspace, "A program")


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*MODELS, Event, ApiToken], ids=lambda model: str(model.__name__))
def test_a_list_takes_the_same_queries_for_ten_rows_and_a_hundred(
    model: type[models.Model], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = browser_of(administrator())
    for _number in range(10):
        everything_at_once(new_workspace())
    client.get(page(model, "changelist"))
    with CaptureQueriesContext(connection) as queries:
        before = client.get(page(model, "changelist"))

    for _number in range(90):
        everything_at_once(new_workspace())

    with django_assert_max_num_queries(len(queries)):
        response = client.get(page(model, "changelist"))
    assert len(before.context["cl"].result_list) < len(response.context["cl"].result_list) == 100


def test_servers_are_narrowed_to_those_that_need_attention_and_to_every_other_state() -> None:
    workspace = new_workspace()
    ada = member(workspace)
    server(workspace, "fine", reachable=True)
    server(workspace, "never-asked")
    server(workspace, "lost", reachable=False)
    server(workspace, "refused", headers_refused_at=timezone.now(), auth_mode="headers")
    grant(server(workspace, "ended", auth_mode="oauth"), ada, state="needs_reauthorization")
    grant(server(workspace, "connected", auth_mode="oauth"), ada)
    server(workspace, "unused", auth_mode="oauth")
    server(workspace, "off", enabled=False, reachable=False)
    server(workspace, "leaving", removal_at=timezone.now(), reachable=False)
    client = browser_of(administrator())

    def listed(**query: str) -> set[str]:
        return names_in(client.get(page(McpServer, "changelist"), query))

    assert listed(state="attention") == {"lost", "refused", "ended"}
    assert listed(state="disabled") == {"off"}
    assert listed(state="leaving") == {"leaving"}
    assert listed(state="in_use") == {
        *("fine", "never-asked", "lost", "refused", "ended", "connected", "unused"),
    }
    assert listed(connected="somebody") == {"connected"}
    assert listed(connected="nobody") == {"ended", "unused"}
    assert listed(connected="ended") == {"ended"}
    assert len(listed(state="nonsense")) == 9
    html = client.get(page(McpServer, "changelist")).content.decode()
    for words in ("Unreachable", "Headers not accepted", "Somebody has to reconnect", "Being removed"):
        assert words in html, words
    workspaces = client.get(page(Workspace, "changelist")).content.decode()
    assert f'workspace__id__exact={workspace.pk}&amp;state=attention">3</a>' in workspaces


def test_grants_are_narrowed_by_when_their_access_ends() -> None:
    workspace = new_workspace()
    now = timezone.now()
    rows: dict[str, dict[str, Any]] = {
        "renews": {"refresh_token": "r", "expires_at": now - timedelta(hours=1)},
        "soon": {"expires_at": now + timedelta(hours=1)},
        "later": {"expires_at": now + timedelta(days=9)},
        "over": {"expires_at": now - timedelta(hours=1)},
        "refused": {"state": "needs_reauthorization"},
    }
    keys = {name: grant(server(workspace, name), **columns).pk for name, columns in rows.items()}
    client = browser_of(administrator())

    def listed(access: str) -> set[str]:
        found = client.get(page(McpServerOAuth, "changelist"), {"access": access}).context["cl"].result_list
        return {name for name, key in keys.items() if key in {row.pk for row in found}}

    assert listed("renews") == {"renews"}
    assert listed("ends") == {"soon"}
    assert listed("over") == {"over", "refused"}


def test_calls_are_narrowed_by_how_long_they_took_and_told_in_words() -> None:
    workspace = new_workspace()
    at, user, now = server(workspace, "tracker"), member(workspace), timezone.now()
    for tool, took in (("quick", 38), ("slow", 1200), ("very-slow", 65_000), ("running", None)):
        ToolCall.objects.create(
            server=at, user=user, server_generation=1, tool=tool, started_at=now, deadline_at=now, duration_ms=took
        )
    client = browser_of(administrator())

    def listed(took: str) -> set[str]:
        found = client.get(page(ToolCall, "changelist"), {"took": took}).context["cl"].result_list
        return {call.tool for call in found}

    assert listed("quick") == {"quick"}
    assert listed("slow") == {"slow", "very-slow"}
    assert listed("very_slow") == {"very-slow"}
    html = client.get(page(ToolCall, "changelist")).content.decode()
    assert "38 ms" in html
    assert "1 min 5 s" in html


def test_api_tokens_are_narrowed_by_whether_they_open_something() -> None:
    workspace = new_workspace()
    user = member(workspace)
    for name in ("alive", "expired", "revoked"):
        make_token(user, workspace, name)
    past = timezone.now() - timedelta(days=1)
    ApiToken.objects.filter(name="expired").update(expires_at=past)
    ApiToken.objects.filter(name="revoked").update(revoked_at=past)
    client = browser_of(administrator())

    for state in ("alive", "expired", "revoked"):
        found = client.get(page(ApiToken, "changelist"), {"state": state}).context["cl"].result_list
        assert [token.name for token in found] == [state]


def test_a_server_leads_to_what_belongs_to_it_and_to_nothing_else() -> None:
    everything_at_once(new_workspace())
    everything_at_once(new_workspace())
    client = browser_of(administrator())
    chosen = McpServer.objects.order_by("pk")[0]

    html = client.get(page(McpServer, "change", chosen.pk)).content.decode()

    lists = re.findall(rf'href="(/admin/[^"?]*\?server={chosen.pk}[^"]*)"', html)
    assert len(lists) >= 5
    for link in lists:
        found = client.get(link.replace("&amp;", "&")).context["cl"].result_list
        assert {row.server_id for row in found} <= {chosen.pk}, link
        assert found or "needs_reauthorization" in link, link
    own = f"/workspaces/{chosen.workspace.slug}/mcp/"
    for path in (f"{own}{chosen.pk}/", f"{own}activity/?server={chosen.pk}", own):
        assert f'href="{path}"' in html, path


@pytest.mark.parametrize("model", [McpServerOAuth, ToolCall, Event])
def test_a_list_of_a_server_that_is_none_is_empty(model: type[models.Model]) -> None:
    everything_at_once(new_workspace())
    client = browser_of(administrator())

    for value in ("nonsense", str(uuid.uuid4())):
        response = client.get(page(model, "changelist"), {"server": value})
        assert response.status_code == 200
        assert not response.context["cl"].result_list


# --- actions ----------------------------------------------------------------------------------------------------------


def test_a_diagnosis_says_what_stands_in_the_way_of_each_server(protected_mcp_server: Protect) -> None:
    workspace = new_workspace()
    good = new_server(workspace, protected_mcp_server(as_options=REGISTERING).url, "Good")
    lost = server(workspace, "Lost", url="http://127.0.0.1:9/mcp")

    told = said(act(browser_of(administrator()), McpServer, "diagnose", good, lost))

    assert any(text.startswith("Good: nothing stands in the way.") for text in told), told
    assert any(text.startswith("Lost: ") and "(server_unreachable)" in text for text in told), told


def test_more_servers_than_one_waits_for_are_not_diagnosed() -> None:
    workspace = new_workspace()
    servers = [server(workspace, f"s{number}", url="http://127.0.0.1:9/mcp") for number in range(4)]

    told = said(act(browser_of(administrator()), McpServer, "diagnose", *servers))

    assert told == ["Select at most 3 servers; they are asked one after the other."]


def test_tools_are_listed_anew_for_everybody_and_by_themselves(team: Callable[..., Team]) -> None:
    at = team("ada", "grace")
    for user in (at.ada, at.grace):
        list_tools(at.again(), user)
        list_tools(at.again(), user)
    assert len(at.offering.listed) == 2  # the second ones came from what is kept

    response = act(browser_of(administrator()), McpServer, "list_anew", at.server)

    assert said(response) == ["2 listings are asked for again when somebody wants them next."]
    assert len(at.offering.listed) == 2  # nobody acts as them
    for user in (at.ada, at.grace):
        list_tools(at.again(), user)
    assert len(at.offering.listed) == 4


def test_disconnecting_everybody_is_confirmed_and_told_to_the_provider(
    protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    peer, other = (protected_mcp_server(as_options=REGISTERING) for _number in range(2))
    workspace = new_workspace()
    ada, grace = member(workspace), member(workspace)
    at, kept_at = new_server(workspace, peer.url), new_server(workspace, other.url, "Other")
    tokens = [
        connect(browser_of(user), at, person(name)).access_token for user, name in ((ada, "ada"), (grace, "grace"))
    ]
    kept = connect(browser_of(ada), kept_at, person("ada"))
    client = browser_of(administrator())

    asked = act(client, McpServer, "disconnect_everybody", at)

    html = asked.content.decode()
    assert "2 grants end: their providers are told to revoke them" in html
    assert "style=" not in html
    assert McpServerOAuth.objects.count() == 3
    assert not peer.authorization_server.requests_to("/revoke")

    done = act(client, McpServer, "disconnect_everybody", at, post="yes")

    assert said(done) == ["2 connections were revoked at the provider."]
    assert list(McpServerOAuth.objects.all()) == [kept]
    assert all(peer.authorization_server.introspect(token or "") is None for token in tokens)
    assert not other.authorization_server.requests_to("/revoke")
    assert Event.objects.filter(kind="disconnected", server=at).exclude(actor=None).count() == 2
    assert LogEntry.objects.filter(object_id=str(at.pk)).count() == 1


def test_the_confirmation_says_what_can_only_be_forgotten_here() -> None:
    workspace = new_workspace()
    at = server(workspace, "tracker", auth_mode="oauth")
    grant(at, member(workspace))
    grant(at, member(workspace), revocation_endpoint="https://as.example.com/revoke")

    html = act(browser_of(administrator()), McpServer, "disconnect_everybody", at).content.decode()

    assert "2 grants end" in html
    assert "1 of them can only be forgotten here" in html


def test_there_is_nothing_to_confirm_where_nobody_is_connected() -> None:
    at = server(new_workspace(), "tracker")

    assert said(act(browser_of(administrator()), McpServer, "disconnect_everybody", at)) == [
        "Nobody is connected there."
    ]


def test_who_may_change_servers_and_not_end_grants_cannot_disconnect_everybody() -> None:
    at = server(new_workspace(), "tracker")
    grant(at)
    editor = member()
    editor.is_staff = True
    editor.save()
    editor.user_permissions.set(Permission.objects.filter(codename__in=["view_mcpserver", "change_mcpserver"]))
    client = browser_of(editor)

    act(client, McpServer, "disconnect_everybody", at, post="yes")

    assert McpServerOAuth.objects.count() == 1
    assert "disconnect_everybody" not in client.get(page(McpServer, "changelist")).content.decode()


@pytest.mark.parametrize("model", [McpServer, McpServerOAuth])
def test_the_secrets_of_chosen_rows_are_sealed_with_the_newest_key(model: type[Any], settings: Any) -> None:
    workspace = new_workspace()
    servers = [server(workspace, f"s{number}", headers={"X-Key": "secret"}) for number in range(2)]
    grants = [grant(at, access_token="secret") for at in servers]
    rows, name = (servers, "headers") if model is McpServer else (grants, "access_token")
    before = [sealed_value(model.objects.get(pk=row.pk), name) for row in rows]
    newest = base64.b64encode(bytes(reversed(range(32)))).decode()
    settings.MCP_OAUTH = {
        **settings.MCP_OAUTH,
        "ENCRYPTION_KEYS": [newest, *settings.MCP_OAUTH["ENCRYPTION_KEYS"]],
    }
    client = browser_of(administrator())

    told = said(act(client, model, "rotate_keys", rows[0]))

    assert told == ["1 secret is sealed with the newest key now. 0 were already."]
    after = [sealed_value(model.objects.get(pk=row.pk), name) for row in rows]
    assert after[0] != before[0]
    assert after[1] == before[1]
    assert getattr(model.objects.get(pk=rows[0].pk), name) in ("secret", {"X-Key": "secret"})
    assert said(act(client, model, "rotate_keys", *rows)) == [
        "1 secret is sealed with the newest key now. 1 was already."
    ]

    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "ENCRYPTION_KEYS": [base64.b64encode(bytes(32)).decode()]}
    assert "2 secrets are opened by no key and stay as they are." in said(act(client, model, "rotate_keys", *rows))


def test_who_may_only_look_cannot_seal_anything_again() -> None:
    at = grant(server(new_workspace(), "tracker"))
    visitor = member()
    visitor.is_staff = True
    visitor.save()
    visitor.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))

    html = browser_of(visitor).get(page(McpServerOAuth, "changelist")).content.decode()

    assert str(at.server) in html
    assert "rotate_keys" not in html


def test_removing_people_in_the_list_puts_it_on_record() -> None:
    workspace = new_workspace()
    grace = member(workspace, "grace")
    root = administrator()

    act(browser_of(root), Membership, "delete_selected", Membership.objects.get(user=grace), post="yes")

    event = Event.objects.get(kind="member_removed")
    assert (event.user_name, event.actor_name) == ("grace", root.username)


# --- forms ------------------------------------------------------------------------------------------------------------


def without_help(response: Any) -> set[str]:
    """Return the names of a form's fields that do not say what they are."""
    found = set()
    for fieldset in response.context["adminform"]:
        for line in fieldset:
            for field in line:
                shown = field.field
                text = shown["help_text"] if isinstance(shown, dict) else shown.help_text
                name = shown["name"] if isinstance(shown, dict) else shown.name
                if not str(text).strip():
                    found.add(str(name))
    return found


@pytest.mark.parametrize("model", [*MODELS, Event, ApiToken], ids=lambda model: str(model.__name__))
def test_every_field_says_what_it_is(model: type[models.Model]) -> None:
    everything_at_once(new_workspace())
    client = browser_of(administrator())
    row = model._default_manager.all()[0]

    assert not without_help(client.get(page(model, "change", row.pk)))
    if model in (Workspace, Membership, McpServer):
        assert not without_help(client.get(page(model, "add")))
