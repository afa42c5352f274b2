"""Resources, prompts and completion: what else a host asks a server for, on behalf of one person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from mcp_oauth import (
    AuthorizationRequired,
    NotAllowed,
    acomplete,
    aget_prompt,
    alist_prompts,
    alist_resource_templates,
    alist_resources,
    aread_resource,
    complete,
    get_prompt,
    list_prompts,
    list_resource_templates,
    list_resources,
    read_resource,
)
from mcp_oauth.exceptions import DeadlineExceeded, InvalidRequest, ServerRefused
from mcp_oauth.models import StoredListing
from tests.people import member, new_server, new_workspace
from tests.servers import Offering, OpenServer
from tests.servers.conversing import Conversation
from tests.team import Team

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")
MakeTeam = Callable[..., Team]
ENTRIES: dict[str, list[dict[str, Any]]] = {
    "prompts/list": [{"name": "review", "description": "Review it."}],
    "resources/list": [{"uri": "notes://today", "name": "Today"}],
    "resources/templates/list": [{"uriTemplate": "notes://{day}", "name": "A day"}],
}
REVIEW = {"type": "ref/prompt", "name": "review"}
LANGUAGE = {"name": "language", "value": "py"}


def asynchronously(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def closing() -> T:
        try:
            return await work()
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(closing())


LISTINGS: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "prompts": (list_prompts, alist_prompts, "prompts/list"),
    "resources": (list_resources, alist_resources, "resources/list"),
    "resource_templates": (list_resource_templates, alist_resource_templates, "resources/templates/list"),
}


@pytest.mark.parametrize("kind", LISTINGS)
def test_each_kind_is_listed_and_kept_apart_from_the_others(team: MakeTeam, kind: str) -> None:
    list_them, alist_them, method = LISTINGS[kind]
    at = team("ada", offering=Offering(entries=ENTRIES))

    found = list_them(at.server, at.ada)
    again = asynchronously(lambda: alist_them(at.server, at.ada))

    assert list(found) == list(again) == ENTRIES[method]
    assert (len(found), found.truncated) == (1, False)
    assert at.offering.listed == [("ada", method)]
    row = StoredListing.objects.get()
    assert (row.kind, row.user_id, row.entries) == (kind, at.ada.pk, ENTRIES[method])
    at.offering.entries = {}
    assert len(list_them(at.server, at.ada, refresh=True)) == 0


def test_resources_of_one_member_are_not_shown_to_another(team: MakeTeam) -> None:
    at = team("ada", "grace", offering=Offering(entries=ENTRIES))
    list_resources(at.server, at.ada)

    list_resources(at.server, at.grace)

    assert at.offering.listed == [("ada", "resources/list"), ("grace", "resources/list")]


def test_a_resource_is_read_as_the_person(team: MakeTeam) -> None:
    at = team("ada")

    read = read_resource(at.server, at.ada, "notes://today")

    assert read["contents"] == [{"uri": "notes://today", "mimeType": "text/plain", "text": "for ada"}]
    assert asynchronously(lambda: aread_resource(at.server, at.ada, "notes://today")) == read
    assert at.offering.params == [{"uri": "notes://today"}] * 2


def test_a_prompt_is_filled_in(team: MakeTeam) -> None:
    at = team("ada")

    filled_in = get_prompt(at.server, at.ada, "review", {"language": "python"})

    assert filled_in["messages"][0]["content"]["text"] == 'review {"language": "python"}'
    assert asynchronously(lambda: aget_prompt(at.server, at.ada, "review", {"language": "python"})) == filled_in
    assert get_prompt(at.server, at.ada, "review")["messages"][0]["content"]["text"] == "review {}"


def test_an_argument_is_completed(team: MakeTeam) -> None:
    at = team("ada")

    assert complete(at.server, at.ada, REVIEW, LANGUAGE)["completion"]["values"] == ["py…"]
    template = {"type": "ref/resource", "uri": "notes://{day}"}
    found = asynchronously(lambda: acomplete(at.server, at.ada, template, LANGUAGE, context={"day": "today"}))

    assert found["completion"]["values"] == ["py…"]
    assert at.offering.params == [
        {"ref": REVIEW, "argument": LANGUAGE},
        {"ref": template, "argument": LANGUAGE, "context": {"arguments": {"day": "today"}}},
    ]


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_servers_of_either_era_are_asked(
    era: str, open_mcp_server: Callable[..., OpenServer], conversation: Conversation
) -> None:
    peer = open_mcp_server(era, tools=conversation.register)
    workspace = new_workspace()
    user, server = member(workspace), new_server(workspace, peer.url)

    assert "notes://today" in [entry["uri"] for entry in list_resources(server, user)]
    assert [entry["uriTemplate"] for entry in list_resource_templates(server, user)] == ["notes://{day}"]
    assert "review" in [entry["name"] for entry in list_prompts(server, user)]
    assert read_resource(server, user, "notes://today")["contents"][0]["uri"] == "notes://today"
    assert get_prompt(server, user, "review", {"language": "python"})["messages"]
    assert complete(server, user, REVIEW, LANGUAGE)["completion"]["values"] == ["python", "python-typed"]


WORK: dict[str, Callable[[Any, Any], Any]] = {
    "list_prompts": list_prompts,
    "list_resources": list_resources,
    "list_resource_templates": list_resource_templates,
    "read_resource": lambda server, user: read_resource(server, user, "notes://today"),
    "get_prompt": lambda server, user: get_prompt(server, user, "review"),
    "complete": lambda server, user: complete(server, user, REVIEW, LANGUAGE),
}


@pytest.mark.parametrize("what", WORK)
def test_who_may_not_use_the_server_gets_nothing_of_it(team: MakeTeam, what: str) -> None:
    at = team("ada")
    stranger, colleague = member(new_workspace()), member(at.workspace)
    at.peer.requests.clear()

    with pytest.raises(NotAllowed):
        WORK[what](at.server, stranger)
    with pytest.raises(AuthorizationRequired):
        WORK[what](at.server, colleague)

    assert at.peer.requests == []


@pytest.mark.parametrize(
    "uri",
    ["", "x" * 2001, "notes://a\nb", "notes://\x00", " notes://today", "notes://\ud800", None, 5],
    ids=["empty", "long", "lines", "nul", "blank", "surrogate", "nothing", "number"],
)
def test_a_uri_that_is_none_is_not_asked_for(team: MakeTeam, uri: Any) -> None:
    at = team("ada")
    at.peer.requests.clear()

    with pytest.raises(InvalidRequest):
        read_resource(at.server, at.ada, uri)

    assert at.peer.requests == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("", {}),
        ("x" * 201, {}),
        ("a\nb", {}),
        (None, {}),
        ("review", {"language": 5}),
        ("review", {5: "x"}),
        ("review", ["language"]),
        ("review", {"language": "x" * 1_100_000}),
        ("review", {"language": "\ud800"}),
    ],
)
def test_a_prompt_that_cannot_be_asked_for_is_not(team: MakeTeam, name: Any, arguments: Any) -> None:
    at = team("ada")
    at.peer.requests.clear()

    with pytest.raises(InvalidRequest):
        get_prompt(at.server, at.ada, name, arguments)

    assert at.peer.requests == []


@pytest.mark.parametrize(
    ("ref", "argument", "context"),
    [
        ({}, LANGUAGE, None),
        ("review", LANGUAGE, None),
        ({"type": "ref/tool", "name": "x"}, LANGUAGE, None),
        ({"type": "ref/prompt"}, LANGUAGE, None),
        ({**REVIEW, "more": "x"}, LANGUAGE, None),
        ({"type": "ref/resource", "uri": ""}, LANGUAGE, None),
        (REVIEW, {"name": "language"}, None),
        (REVIEW, {"name": "", "value": "x"}, None),
        (REVIEW, {"name": "language", "value": 5}, None),
        (REVIEW, LANGUAGE, {"arguments": {}}),
    ],
)
def test_a_completion_that_cannot_be_asked_for_is_not(team: MakeTeam, ref: Any, argument: Any, context: Any) -> None:
    at = team("ada")
    at.peer.requests.clear()

    with pytest.raises(InvalidRequest):
        complete(at.server, at.ada, ref, argument, context=context)

    assert at.peer.requests == []


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf"), 1e300])
def test_a_time_limit_has_to_be_one(team: MakeTeam, timeout: float) -> None:
    at = team("ada")
    with pytest.raises(InvalidRequest):
        read_resource(at.server, at.ada, "notes://today", timeout=timeout)


def test_a_server_that_has_nothing_of_a_kind_has_an_empty_list(open_mcp_server: Callable[..., OpenServer]) -> None:
    peer = open_mcp_server()
    workspace = new_workspace()
    user, server = member(workspace), new_server(workspace, peer.url)

    assert [len(list_them(server, user)) for list_them, _alist, _method in LISTINGS.values()] == [0, 0, 0]
    with pytest.raises(ServerRefused):
        read_resource(server, user, "notes://today")


def test_a_server_that_takes_too_long_ends_in_time(team: MakeTeam, limits: Callable[..., None]) -> None:
    at = team("ada", offering=Offering(entries=ENTRIES))
    limits(CALL_SECONDS=0.2, LIST_SECONDS=0.2)
    at.offering.open.clear()

    with pytest.raises(DeadlineExceeded):
        list_resources(at.server, at.ada)
    at.offering.open.set()
