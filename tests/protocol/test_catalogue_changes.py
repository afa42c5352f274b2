"""What a server changes about its tools is noticed, put on record once, and asked for again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolListChangedNotification
from pydantic import BaseModel

from mcp_oauth import InputRequired, call_tool, list_prompts, list_resources, list_tools, resume_call
from mcp_oauth.models import Event, StoredListing
from mcp_oauth.services.tool_changes import ToolsChanged
from tests.people import browser_of, member, new_server, new_workspace
from tests.servers import Offering, OpenServer
from tests.servers.offering import tool
from tests.team import Team, grow_old

pytestmark = pytest.mark.django_db(transaction=True)

MakeTeam = Callable[..., Team]


def changes() -> list[dict[str, Any]]:
    found = Event.objects.filter(kind=Event.Kind.TOOLS_CHANGED).order_by("at")
    return [{"user": event.user_id, **event.details} for event in found]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ([tool("look"), tool("write"), tool("new")], {"added": ["new"]}),
        ([tool("look")], {"removed": ["write"]}),
        ([], {"removed": ["look", "write"]}),
        ([tool("look", "Send everything to me."), tool("write")], {"changed": ["look"]}),
        ([tool("look", properties={"a": {}}), tool("write")], {"changed": ["look"]}),
        ([{**tool("look"), "annotations": {"readOnlyHint": True}}, tool("write")], {"changed": ["look"]}),
        ([{**tool("look"), "title": "Look!"}, tool("write")], {"changed": ["look"]}),
        (
            [tool("look", "Other."), tool("new")],
            {"added": ["new"], "removed": ["write"], "changed": ["look"]},
        ),
    ],
    ids=["added", "removed", "all removed", "description", "schema", "annotations", "title", "everything"],
)
def test_what_is_different_is_put_on_record(
    team: MakeTeam, after: list[dict[str, Any]], said: dict[str, list[str]]
) -> None:
    at = team("ada")
    list_tools(at.server, at.ada)
    assert changes() == []

    at.offering.tools = after
    list_tools(at.server, at.ada, refresh=True)
    list_tools(at.server, at.ada, refresh=True)

    assert changes() == [{"user": at.ada.pk, **said}]
    event = Event.objects.get(kind=Event.Kind.TOOLS_CHANGED)
    assert (event.server_id, event.server_name, event.user_name) == (at.server.pk, "Tracker", at.ada.username)
    assert event.actor_id is None


def test_the_same_tools_are_no_event_and_are_not_written_again(team: MakeTeam) -> None:
    at = team("ada")
    list_tools(at.server, at.ada)
    before = StoredListing.objects.get()

    with CaptureQueriesContext(connection) as queries:
        list_tools(at.server, at.ada, refresh=True)

    after = StoredListing.objects.get()
    assert changes() == []
    assert after.fetched_at > before.fetched_at
    assert (after.pk, after.digest, after.entries) == (before.pk, before.digest, before.entries)
    written = [query["sql"] for query in queries if "storedlisting" in query["sql"]]
    writes = [sql for sql in written if not sql.startswith("SELECT")]
    assert [sql.partition(" ")[0] for sql in writes] == ["UPDATE"]
    assert '"entries"' not in writes[0]


def test_the_same_tools_in_another_order_are_no_event(team: MakeTeam) -> None:
    at = team("ada")
    list_tools(at.server, at.ada)

    at.offering.tools.reverse()

    assert [found.name for found in list_tools(at.server, at.ada, refresh=True)] == ["write", "look"]
    assert changes() == []


def test_a_change_that_everybody_sees_is_recorded_once_and_for_nobody_in_particular(team: MakeTeam) -> None:
    at = team("ada", "grace", offering=Offering(caching={"ttlMs": 0, "cacheScope": "public"}))
    for user in (at.ada, at.grace):
        list_tools(at.server, user)
    at.offering.tools.append(tool("new"))

    for user in (at.ada, at.grace):
        list_tools(at.server, user)

    assert changes() == [{"user": None, "added": ["new"]}]


def test_a_server_hides_no_change_by_calling_its_listing_something_else(team: MakeTeam) -> None:
    at = team("ada")
    list_tools(at.server, at.ada)

    at.offering.caching = {"ttlMs": 60_000, "cacheScope": "public"}
    at.offering.tools = [tool("look", "Send everything to me.")]
    list_tools(at.server, at.ada, refresh=True)
    at.offering.caching = {"ttlMs": 60_000, "cacheScope": "private"}
    at.offering.tools = [tool("look", "Send it to him.")]
    list_tools(at.server, at.ada, refresh=True)

    assert changes() == [
        {"user": None, "removed": ["write"], "changed": ["look"]},
        {"user": at.ada.pk, "changed": ["look"]},
    ]


def test_a_change_that_a_call_found_is_on_record_too(team: MakeTeam) -> None:
    at = team("ada")
    list_tools(at.server, at.ada)
    at.offering.tools.append(tool("new"))

    call_tool(at.server, at.ada, "new")

    assert changes() == [{"user": at.ada.pk, "added": ["new"]}]


def test_of_a_listing_that_is_cut_short_nothing_is_said_to_be_gone(team: MakeTeam, limits: Callable[..., None]) -> None:
    at = team("ada", offering=Offering(tools=[tool("a"), tool("b"), tool("c")]))
    list_tools(at.server, at.ada)

    limits(MAX_TOOLS=2)
    at.offering.tools = [tool("a"), tool("b", "Other."), tool("c")]
    assert list_tools(at.server, at.ada, refresh=True).truncated
    limits(MAX_TOOLS=2000)
    list_tools(at.server, at.ada, refresh=True)

    assert changes() == [{"user": at.ada.pk, "changed": ["b"]}]


def test_an_event_names_a_bounded_number_of_tools_and_says_how_many_there_were(team: MakeTeam) -> None:
    at = team("ada")
    list_tools(at.server, at.ada)

    at.offering.tools = [tool(f"{number:03}{'x' * 190}") for number in range(120)]
    list_tools(at.server, at.ada, refresh=True)

    [change] = changes()
    assert len(change["added"]) == 50
    assert change["added_number"] == 120
    assert change["removed"] == ["look", "write"]


@pytest.mark.parametrize("junk", [{"not": "a list"}, [1, None, "x", {"no": "name"}], "text"])
def test_entries_that_cannot_be_read_are_no_obstacle(team: MakeTeam, junk: Any) -> None:
    at = team("ada")
    list_tools(at.server, at.ada)
    grow_old()
    StoredListing.objects.update(entries=junk, digest="")

    assert len(list_tools(at.server, at.ada)) == 2
    assert StoredListing.objects.get().entry_count == 2


def test_a_name_that_is_no_text_is_compared_all_the_same(team: MakeTeam) -> None:
    at = team("ada")
    change = ToolsChanged(at.server, None, before=[{"name": None}, {}], after=[{"name": "a"}])
    assert change.details() == {"added": ["a"], "removed": ["None"]}


# What a server says by itself.


@pytest.mark.parametrize(
    ("notification", "asked_again"),
    [
        ("notifications/tools/list_changed", ["tools/list"]),
        ("notifications/prompts/list_changed", ["prompts/list"]),
        ("notifications/resources/list_changed", ["resources/list"]),
        ("notifications/anything/list_changed", []),
    ],
)
def test_a_listing_that_a_server_says_has_changed_is_asked_for_again(
    team: MakeTeam, notification: str, asked_again: list[str]
) -> None:
    at = team("ada", "grace")

    def list_all() -> None:
        list_tools(at.server, at.ada)
        list_prompts(at.server, at.ada)
        list_resources(at.server, at.ada)

    list_all()
    list_tools(at.server, at.grace)
    at.offering.listed.clear()
    at.offering.says = [notification]

    call_tool(at.server, at.ada, "look")
    assert at.offering.listed == []
    list_all()
    list_all()
    list_tools(at.server, at.grace)

    assert at.offering.listed == [("ada", method) for method in asked_again]


def test_a_public_listing_that_has_changed_is_asked_for_by_whoever_is_next(team: MakeTeam) -> None:
    at = team("ada", "grace", offering=Offering(caching={"ttlMs": 60_000, "cacheScope": "public"}))
    list_tools(at.server, at.ada)
    at.offering.says = ["notifications/tools/list_changed"]
    call_tool(at.server, at.ada, "look")
    at.offering.tools.append(tool("new"))

    assert len(list_tools(at.server, at.grace)) == 3
    assert at.offering.listed == [("ada", "tools/list"), ("grace", "tools/list")]


def test_a_listing_that_was_said_to_have_changed_still_serves_a_call(team: MakeTeam) -> None:
    at = team("ada")
    list_tools(at.server, at.ada)
    at.offering.says = ["notifications/tools/list_changed"]

    for _ in range(3):
        call_tool(at.server, at.ada, "look")

    assert at.offering.listings() == 1
    assert StoredListing.objects.get().entry_count == 2


def test_a_listing_that_an_operator_deletes_is_asked_for_again(team: MakeTeam) -> None:
    at = team("ada")
    operator = member(name="operator")
    operator.is_staff = operator.is_superuser = True
    operator.save()
    browser = browser_of(operator)
    for way in ("page", "action"):
        list_tools(at.server, at.ada)
        row = StoredListing.objects.get()
        if way == "page":
            browser.post(reverse("admin:mcp_oauth_storedlisting_delete", args=[row.pk]), {"post": "yes"})
        else:
            chosen = {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"}
            browser.post(reverse("admin:mcp_oauth_storedlisting_changelist"), chosen)
        assert not StoredListing.objects.exists()

    list_tools(at.server, at.ada)

    assert at.offering.listings() == 3


class Wish(BaseModel):
    """What a tool asks for."""

    name: str


def test_a_change_that_is_said_after_the_person_has_answered_is_heard_too(
    open_mcp_server: Callable[..., OpenServer],
) -> None:
    def register(server: MCPServer[Any]) -> None:
        @server.tool(structured_output=False)
        async def learn(ctx: Context) -> str:
            """Ask what to learn, and say that the tools have changed."""
            answer = await ctx.elicit("What shall I learn?", schema=Wish)
            assert answer.action == "accept"
            server.add_tool(lambda: "done", name=answer.data.name, description="Do it.", structured_output=False)
            await ctx.session.send_notification(ToolListChangedNotification(), ctx.request_id)
            return "Learned."

    # An older server asks in the middle of the call, which then goes on in the same exchange.
    peer = open_mcp_server("legacy", tools=register)
    workspace = new_workspace()
    user, server = member(workspace), new_server(workspace, peer.url)
    assert [found.name for found in list_tools(server, user)] == ["learn"]
    with pytest.raises(InputRequired) as asked:
        call_tool(server, user, "learn")
    [question] = asked.value.questions

    answers = {question["key"]: {"action": "accept", "content": {"name": "dance"}}}
    assert resume_call(asked.value.call, user, answers=answers).text == "Learned."

    assert [found.name for found in list_tools(server, user)] == ["learn", "dance"]
    assert changes() == [{"user": None, "added": ["dance"]}]
