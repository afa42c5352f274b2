"""Administrators decide which tools may be run: what they deny is neither listed nor called, and nothing is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.db import connections
from django.urls import reverse

from mcp_oauth import acall_tool, call_tool, list_tools, list_workspace_tools
from mcp_oauth.exceptions import InvalidRequest, ToolNotAllowed
from mcp_oauth.models import Event, McpServer, McpServerOAuth, Membership
from mcp_oauth.services import catalog, tool_policy
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import update_server
from tests.people import browser_of, member
from tests.servers import Offering
from tests.servers.offering import tool
from tests.team import Team

pytestmark = pytest.mark.django_db(transaction=True)

MakeTeam = Callable[..., Team]


def rule(at: Team, **patterns: Any) -> None:
    """Save a policy as the pages do."""
    row = at.again()
    update_server(row, ServerSettings(name=row.name, url=row.url, auth_mode=row.auth_mode, **patterns), actor=at.ada)


def listed(at: Team) -> list[str]:
    return [found.name for found in list_tools(at.server, at.ada)]


@pytest.mark.parametrize(
    ("allowed", "denied", "runnable"),
    [
        ([], [], ["get_a", "get_b", "Get_c", "delete_a"]),
        (["get_*"], [], ["get_a", "get_b"]),
        (["get_?", "delete_*"], ["*_a"], ["get_b"]),
        ([], ["get_[ab]"], ["Get_c", "delete_a"]),
        ([], ["*"], []),
        (["get_a"], ["get_a"], []),
        (["get"], [], []),
        (["get_a", "delete_a"], [], ["get_a", "delete_a"]),
        ([], ["GET_*"], ["get_a", "get_b", "Get_c", "delete_a"]),
    ],
)
def test_only_what_is_allowed_and_not_denied_is_listed_and_run(
    team: MakeTeam, allowed: list[str], denied: list[str], runnable: list[str]
) -> None:
    names = ["get_a", "get_b", "Get_c", "delete_a"]
    at = team("ada", offering=Offering(tools=[tool(name) for name in names]))
    rule(at, allowed_tools=allowed, denied_tools=denied)

    catalogue = list_tools(at.server, at.ada)
    assert [found.name for found in catalogue] == runnable
    assert catalogue.left_out == len(names) - len(runnable)
    [together] = list_workspace_tools(at.workspace, at.ada)
    assert together.catalogue == catalogue
    last = catalog.last_known(at.again(), at.ada)
    assert last is not None
    assert [found.name for found in last] == runnable
    for name in names:
        if name in runnable:
            assert call_tool(str(at.server.pk), at.ada, name).text == f"{name} for ada"
            continue
        with pytest.raises(ToolNotAllowed, match=name):
            call_tool(str(at.server.pk), at.ada, name)
    assert [name for _user, name in at.offering.ran] == runnable


def test_a_denied_call_sends_nothing_at_all(team: MakeTeam) -> None:
    at = team("ada")
    rule(at, denied_tools=["write"])
    at.peer.requests.clear()

    with pytest.raises(ToolNotAllowed):
        call_tool(at.server, at.ada, "write")

    async def acall() -> None:
        try:
            await acall_tool(at.server, at.ada, "write")
        finally:
            await sync_to_async(connections.close_all)()

    with pytest.raises(ToolNotAllowed):
        asyncio.run(acall())
    assert at.peer.requests == []


def test_a_policy_holds_at_once_for_who_has_the_server_in_hand(team: MakeTeam) -> None:
    at = team("ada")
    held = at.again()
    assert call_tool(held, at.ada, "write").text == "write for ada"

    rule(at, denied_tools=["write"])

    with pytest.raises(ToolNotAllowed):
        call_tool(held, at.ada, "write")
    assert [found.name for found in list_tools(held, at.ada)] == ["look"]


def test_a_policy_ends_no_grant_and_asks_no_server(team: MakeTeam) -> None:
    at = team("ada")
    listed(at)
    before = McpServerOAuth.objects.get()

    rule(at, allowed_tools=["look"])
    assert listed(at) == ["look"]
    rule(at, allowed_tools=[])
    assert listed(at) == ["look", "write"]

    after = McpServerOAuth.objects.get()
    assert (after.version, after.state, at.again().generation) == (before.version, "active", 1)
    assert at.offering.listings() == 1


def test_a_change_of_the_policy_is_on_record(team: MakeTeam) -> None:
    at = team("ada")

    rule(at, allowed_tools=[" get_* ", "get_*", ""], denied_tools=["delete_*"])
    rule(at, allowed_tools=["get_*"], denied_tools=["delete_*"])

    [event] = Event.objects.filter(kind=Event.Kind.SERVER_CHANGED, outcome="changed")
    assert event.actor_id == at.ada.pk
    assert set(event.details["fields"]) == {"auth_mode", "allowed_tools", "denied_tools"} - {"auth_mode"}
    assert event.details["allowed_tools"] == ["get_*"]
    assert event.details["denied_tools"] == ["delete_*"]


def test_who_says_nothing_of_the_policy_keeps_it(team: MakeTeam) -> None:
    at = team("ada")
    rule(at, allowed_tools=["look"], denied_tools=["write"])

    rule(at)

    assert (at.again().allowed_tools, at.again().denied_tools) == (["look"], ["write"])


@pytest.mark.parametrize(
    "patterns",
    [["x"] * 2 + [f"a{number}" for number in range(100)], ["x" * 201], ["a\x00b"], ["a\nb"], ["\u202eevil"]],
    ids=["many", "long", "nul", "lines", "direction"],
)
def test_patterns_that_nobody_can_read_are_not_saved(team: MakeTeam, patterns: list[str]) -> None:
    at = team("ada")
    for name in ("allowed_tools", "denied_tools"):
        with pytest.raises(InvalidRequest):
            rule(at, **{name: patterns})
    assert (at.again().allowed_tools, at.again().denied_tools) == ([], [])


@pytest.mark.parametrize(
    ("allowed", "denied", "may"),
    [
        ("junk", [], False),
        ([], "junk", False),
        ([], ["write", 5], False),
        ([5, None], [], False),
        ([5, "look"], [], True),
        ({}, {}, True),
        (None, None, True),
    ],
)
def test_a_policy_that_cannot_be_read_permits_nothing_it_may_have_forbidden(
    allowed: Any, denied: Any, may: bool
) -> None:
    server = McpServer(name="any", allowed_tools=allowed, denied_tools=denied)
    assert tool_policy.allows(server, "look") is may


def test_a_pattern_made_to_take_long_does_not() -> None:
    server = McpServer(name="any", denied_tools=["*a" * 99 + "b"])
    assert tool_policy.allows(server, "a" * 200)


# Where it is said.


def test_the_pages_show_and_save_the_policy(team: MakeTeam) -> None:
    at = team("ada")
    Membership.objects.update(role=Membership.Role.ADMIN)
    browser = browser_of(at.ada)
    url = reverse("mcp_oauth:edit", kwargs={"slug": at.workspace.slug, "server_id": at.server.pk})
    given = {"name": "Tracker", "url": at.server.url, "enabled": "on"}

    refused = browser.post(url, {**given, "allowed_tools": "\n".join(f"a{number}" for number in range(101))})
    assert refused.status_code == 400
    assert "At most 100 patterns" in refused.content.decode()
    assert "a100" in refused.content.decode()
    assert (
        browser.post(url, {**given, "allowed_tools": "look\r\nget_*\r\n\r\n", "denied_tools": "write"}).status_code
        == 302
    )

    assert (at.again().allowed_tools, at.again().denied_tools) == (["look", "get_*"], ["write"])
    page = browser.get(url).content.decode()
    assert "look\nget_*</textarea>" in page
    assert "write</textarea>" in page
    list_tools(at.server, at.ada)
    tools = browser.get(reverse("mcp_oauth:server", kwargs={"slug": at.workspace.slug, "server_id": at.server.pk}))
    assert "1 tool of this server may not be run here" in tools.content.decode()
    overview = browser.get(f"/workspaces/{at.workspace.slug}/mcp/")
    [card] = [card for group in overview.context["groups"] for card in group.cards]
    assert card.tool_count == 1


def test_a_member_of_the_workspace_cannot_change_the_policy(team: MakeTeam) -> None:
    at = team("ada")
    url = reverse("mcp_oauth:edit", kwargs={"slug": at.workspace.slug, "server_id": at.server.pk})

    answer = browser_of(at.ada).post(url, {"name": "x", "url": at.server.url, "allowed_tools": "write"})

    assert answer.status_code == 403
    assert at.again().allowed_tools == []


def test_the_admin_shows_and_saves_the_policy(team: MakeTeam) -> None:
    at = team("ada")
    operator = member(name="operator")
    operator.is_staff = operator.is_superuser = True
    operator.save()
    browser = browser_of(operator)
    url = reverse("admin:mcp_oauth_mcpserver_change", args=[at.server.pk])
    form = browser.get(url).context["adminform"].form
    given = {name: value for name in form.fields if (value := form[name].value()) not in (None, False)}
    assert {"allow_tools", "deny_tools"} <= set(form.fields)

    answer = browser.post(url, {**given, "allow_tools": "get_*\nlook", "deny_tools": "get_secret"})

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert (at.again().allowed_tools, at.again().denied_tools) == (["get_*", "look"], ["get_secret"])
    assert "get_*\nlook</textarea>" in browser.get(url).content.decode()


def test_the_command_takes_the_policy(team: MakeTeam, capsys: pytest.CaptureFixture[str]) -> None:
    at = team()
    options = {"workspace": at.workspace.slug, "auth": "oauth", "json": True}

    call_command(
        "add_mcp_server", "Second", at.server.url, allow_tool=["get_*", "look"], deny_tool=["get_secret"], **options
    )

    said = json.loads(capsys.readouterr().out)["server"]
    stored = McpServer.objects.get(name="Second")
    assert (said["allowed_tools"], said["denied_tools"]) == (stored.allowed_tools, stored.denied_tools)
    assert (stored.allowed_tools, stored.denied_tools) == (["get_*", "look"], ["get_secret"])
    [event] = Event.objects.filter(server_id=stored.pk, outcome="added")
    assert event.details["denied_tools"] == ["get_secret"]
    with pytest.raises((SystemExit, CommandError)):
        call_command("add_mcp_server", "Third", at.server.url, deny_tool=["x" * 201], **options)
    assert not McpServer.objects.filter(name="Third").exists()
