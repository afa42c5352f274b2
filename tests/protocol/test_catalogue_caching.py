"""Listings are kept as long as their server says and for whom it says, and never for anybody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from mcp_oauth import AuthorizationRequired, call_tool, disconnect, list_tools
from mcp_oauth.conf import settings
from mcp_oauth.exceptions import ToolNotFound
from mcp_oauth.models import McpServerOAuth, Membership, StoredListing
from mcp_oauth.services import catalog, listing_owners
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import update_server
from tests.caching import empty_cache
from tests.people import browser_of, member
from tests.servers import Person
from tests.servers.offering import Offering, tool
from tests.team import Team, Threads, grow_old

pytestmark = pytest.mark.django_db(transaction=True)

MakeTeam = Callable[..., Team]


def names(team: Team, user: User, **options: Any) -> list[str]:
    return [found.name for found in list_tools(team.server, user, **options)]


# For how long.


@pytest.mark.parametrize(
    ("caching", "seconds"),
    [
        ({"ttlMs": 90_000, "cacheScope": "private"}, 90),
        ({"ttlMs": 10**40, "cacheScope": "private"}, 86_400),
        ({"ttlMs": 1e300, "cacheScope": "private"}, 86_400),
        ({}, 300),
        ({"ttlMs": None}, 300),
        ({"ttlMs": "soon"}, 300),
        ({"ttlMs": True}, 300),
    ],
    ids=["said", "huge", "huge and no integer", "absent", "null", "text", "truth"],
)
def test_a_listing_is_used_again_for_as_long_as_its_server_says(
    team: MakeTeam, caching: dict[str, Any], seconds: int
) -> None:
    at = team("ada", offering=Offering(caching=caching))
    began = timezone.now()

    assert names(at, at.ada) == names(at, at.ada) == ["look", "write"]

    assert at.offering.listings() == 1
    fresh_until = StoredListing.objects.get().fresh_until
    assert fresh_until is not None
    assert timedelta(0) <= fresh_until - began - timedelta(seconds=seconds) < timedelta(seconds=30)


def test_what_has_just_come_reads_as_what_was_stored(team: MakeTeam) -> None:
    at = team("ada")
    at.offering.tools = [
        tool("plain"),
        {**tool("empty"), "title": "", "description": None, "annotations": None, "outputSchema": {}},
        {**tool("whole"), "title": "Whole", "annotations": {"title": "T"}, "outputSchema": {"type": "object"}},
        {**tool("titled"), "annotations": {"title": "From its annotations", "readOnlyHint": True}, "other": 1},
    ]

    came = list_tools(at.server, at.ada, refresh=True)
    stored = list_tools(at.server, at.ada)

    assert [found.name for found in came] == ["plain", "empty", "whole", "titled"]
    assert list(came) == list(stored)
    assert at.offering.listings() == 1


def test_a_schema_keeps_the_order_of_its_members_wherever_it_is_kept(team: MakeTeam) -> None:
    properties = {"title": {"type": "string"}, "a": {}, "zebra": {}}
    at = team("ada", offering=Offering(tools=[tool("look", properties=properties)]))

    def order() -> list[str]:
        [found] = list_tools(at.server, at.ada)
        return [*found.input_schema["properties"]]

    asked, cached = order(), order()
    empty_cache()
    stored = order()

    assert asked == cached == stored == [*properties]
    assert at.offering.listings() == 1


@pytest.mark.parametrize("ttl_ms", [0, -1, -(10**40), 0.2], ids=["zero", "negative", "very negative", "less than one"])
def test_a_listing_that_is_stale_at_once_is_asked_for_each_time(team: MakeTeam, ttl_ms: float) -> None:
    at = team("ada", offering=Offering(caching={"ttlMs": ttl_ms, "cacheScope": "private"}))

    names(at, at.ada)
    at.offering.tools.append(tool("new"))

    assert names(at, at.ada) == ["look", "write", "new"]
    assert at.offering.listings() == 2


def test_the_shortest_time_of_all_pages_counts(team: MakeTeam) -> None:
    at = team("ada", offering=Offering(pages=[[tool("one")], [tool("two")]], caching={"ttlMs": 0}))

    assert names(at, at.ada) == ["one", "two"]
    names(at, at.ada)

    assert at.offering.listings() == 2


def test_a_call_finds_its_tool_in_a_listing_of_any_age(team: MakeTeam) -> None:
    at = team("ada", offering=Offering(caching={"ttlMs": 0}))
    names(at, at.ada)
    grow_old()
    at.offering.listed.clear()

    for _ in range(2):
        assert call_tool(at.server, at.ada, "look").text == "look for ada"

    assert at.offering.listings() == 0


def test_a_call_of_a_tool_nobody_has_seen_asks_once_before_it_says_no(team: MakeTeam) -> None:
    at = team("ada")
    names(at, at.ada)
    at.offering.tools.append(tool("new"))

    assert call_tool(at.server, at.ada, "new").text == "new for ada"
    with pytest.raises(ToolNotFound):
        call_tool(at.server, at.ada, "newer")

    assert at.offering.listings() == 3
    assert [name for _user, name in at.offering.ran] == ["new"]


def test_a_person_who_asks_for_it_has_the_server_asked(team: MakeTeam) -> None:
    at = team("ada")
    names(at, at.ada)
    at.offering.tools.append(tool("new"))

    assert names(at, at.ada) == ["look", "write"]
    assert names(at, at.ada, refresh=True) == ["look", "write", "new"]
    assert names(at, at.ada) == ["look", "write", "new"]
    assert at.offering.listings() == 2


# For whom.


@pytest.mark.requirement("T36")
def test_what_each_member_is_offered_stays_theirs(team: MakeTeam) -> None:
    at = team("ada", "grace", offering=Offering(by_user={"ada": [tool("adas")], "grace": [tool("graces")]}))

    for _ in range(2):
        assert names(at, at.ada) == ["adas"]
        assert names(at, at.grace) == ["graces"]
    assert call_tool(at.server, at.ada, "adas").text == "adas for ada"
    with pytest.raises(ToolNotFound):
        call_tool(at.server, at.grace, "adas")

    assert at.offering.ran == [("ada", "adas")]
    assert sorted(StoredListing.objects.values_list("user_id", flat=True)) == sorted([at.ada.pk, at.grace.pk])
    for user, own in ((at.ada, "adas"), (at.grace, "graces")):
        last = catalog.last_known(at.server, user)
        assert last is not None
        assert [found.name for found in last] == [own]


def test_a_public_listing_serves_every_member_who_can_open_the_server(team: MakeTeam) -> None:
    at = team("ada", "grace", offering=Offering(caching={"ttlMs": 60_000, "cacheScope": "public"}))
    stranger = member(at.workspace)

    assert names(at, at.ada) == names(at, at.grace) == ["look", "write"]
    assert call_tool(at.server, at.grace, "look").text == "look for grace"

    assert at.offering.listed == [("ada", "tools/list")]
    assert StoredListing.objects.get().user_id is None
    with pytest.raises(AuthorizationRequired):
        names(at, stranger)
    with pytest.raises(AuthorizationRequired):
        call_tool(at.server, stranger, "look")
    assert catalog.last_known(at.server, stranger) is None
    assert catalog.last_known(at.server, at.grace) is not None


def test_a_listing_that_is_public_on_one_page_only_is_not_public(team: MakeTeam) -> None:
    at = team("ada", offering=Offering(caching={"ttlMs": 60_000, "cacheScope": "anything"}))

    names(at, at.ada)

    assert StoredListing.objects.get().user_id == at.ada.pk


def test_what_is_private_today_is_not_handed_on_because_it_was_public_yesterday(team: MakeTeam) -> None:
    at = team("ada", "grace", offering=Offering(caching={"ttlMs": 60_000, "cacheScope": "public"}))
    names(at, at.ada)
    at.offering.caching = {"ttlMs": 60_000, "cacheScope": "private"}
    at.offering.by_user = {"ada": [tool("adas")], "grace": [tool("graces")]}

    assert names(at, at.ada, refresh=True) == ["adas"]
    assert names(at, at.grace) == ["graces"]
    assert names(at, at.ada) == ["adas"]

    assert at.offering.listed == [("ada", "tools/list")] * 2 + [("grace", "tools/list")]


def test_what_has_become_public_takes_the_place_of_what_a_member_had_alone(team: MakeTeam) -> None:
    at = team("ada", "grace", offering=Offering(by_user={"ada": [tool("adas")]}))
    names(at, at.ada)
    names(at, at.grace)
    at.offering.by_user = {}
    at.offering.caching = {"ttlMs": 60_000, "cacheScope": "public"}

    assert names(at, at.ada, refresh=True) == ["look", "write"]

    assert {row.user_id for row in StoredListing.objects.all()} == {None, at.grace.pk}
    assert names(at, at.ada) == ["look", "write"]
    assert at.offering.listings() == 3


def test_one_members_words_about_the_cache_do_not_reach_what_another_has(team: MakeTeam) -> None:
    at = team(
        "ada",
        "grace",
        offering=Offering(
            by_user={"ada": [tool("adas")], "grace": [tool("graces")]},
            caching_by_user={"grace": {"ttlMs": 60_000, "cacheScope": "public"}},
        ),
    )
    assert names(at, at.ada) == ["adas"]
    assert names(at, at.grace) == ["graces"]

    # Hers is private and younger than nothing: what grace's server calls public does not take its place.
    assert names(at, at.ada) == ["adas"]
    assert call_tool(at.server, at.ada, "adas").text == "adas for ada"


# Until when.


@pytest.mark.requirement("T36")
def test_a_member_who_connects_as_somebody_else_sees_nothing_of_before(
    team: MakeTeam, person: Callable[..., Person]
) -> None:
    at = team("ada", offering=Offering(by_user={"ada": [tool("adas")], "grace": [tool("graces")]}))
    assert names(at, at.ada) == ["adas"]
    assert call_tool(at.server, at.ada, "adas").text == "adas for ada"
    before = McpServerOAuth.objects.get()

    browser = browser_of(at.ada)
    started = browser.post(
        "/mcp/oauth/start/", {"server": str(at.server.pk), "again": "1"}, headers={"accept": "application/json"}
    ).json()
    callback = person("grace").authorize(started["authorization_url"])
    assert browser.get(callback.removeprefix("http://127.0.0.1:8000")).status_code == 200

    assert McpServerOAuth.objects.get().pk == before.pk
    assert catalog.last_known(at.server, at.ada) is None
    with pytest.raises(ToolNotFound):
        call_tool(at.server, at.ada, "adas")
    assert names(at, at.ada) == ["graces"]
    assert at.offering.ran == [("ada", "adas")]


def test_a_listing_that_comes_after_its_member_has_disconnected_is_not_kept(team: MakeTeam, threads: Threads) -> None:
    at = team("ada")
    at.offering.open.clear()

    listing = threads.submit(lambda: names(at, at.ada))
    assert at.offering.asked.wait(20)
    disconnect(at.server, at.ada)
    at.offering.open.set()

    assert listing.result(20) == ["look", "write"]
    assert not StoredListing.objects.exists()
    assert catalog.last_known(at.server, at.ada) is None


def test_a_listing_that_comes_after_its_server_has_moved_is_not_kept(team: MakeTeam, threads: Threads) -> None:
    at = team("ada")
    at.offering.open.clear()

    listing = threads.submit(lambda: names(at, at.ada))
    assert at.offering.asked.wait(20)
    wanted = ServerSettings(name="Moved", url=at.server.url, auth_mode="oauth", client_id="another")
    update_server(at.again(), wanted)
    at.offering.open.set()

    assert listing.result(20) == ["look", "write"]
    assert not StoredListing.objects.exists()


def test_who_left_the_workspace_and_came_back_starts_without_a_listing(team: MakeTeam) -> None:
    at = team("ada")
    names(at, at.ada)

    Membership.objects.get(user=at.ada).delete()
    Membership.objects.create(workspace=at.workspace, user=at.ada)

    assert catalog.last_known(at.server, at.ada) is None
    with pytest.raises(AuthorizationRequired):
        names(at, at.ada)


def test_other_headers_mean_another_listing(open_team: MakeTeam) -> None:
    at = open_team("ada", auth_mode="headers", headers={"X-Key": "one"})
    assert names(at, at.ada) == ["look", "write"]
    at.offering.tools = [tool("other")]

    wanted = ServerSettings(name="Tracker", url=at.server.url, auth_mode="headers", headers={"X-Key": "two"})
    update_server(at.server, wanted)

    assert names(at, at.ada) == ["other"]


def test_members_of_an_open_server_share_its_listing(open_team: MakeTeam) -> None:
    at = open_team("ada", "grace")

    assert names(at, at.ada) == names(at, at.grace) == ["look", "write"]

    assert at.offering.listings() == 1


# The hot copy.


def head_key() -> str:
    """Return the key under which the one listing there is stands in the cache."""
    row = StoredListing.objects.select_related("server").get()
    owner = listing_owners.Owner(row.server, row.kind, row.user_id, None)
    identity = [
        "" if part is None else str(part)
        for part in (row.server.workspace_id, row.server_id, row.server_generation, row.user_id, row.grant_id, row.kind)
    ]
    assert owner.kind == row.kind
    return f"mcp_oauth.listing.{listing_owners.name_of(identity)}"


def test_what_a_call_needs_to_know_is_in_the_cache(team: MakeTeam) -> None:
    at = team("ada")
    names(at, at.ada)
    call_tool(at.server, at.ada, "look")
    with CaptureQueriesContext(connection) as queries:
        call_tool(at.server, at.ada, "look")
    assert not [query for query in queries if "storedlisting" in query["sql"].lower()]

    with CaptureQueriesContext(connection) as queries:
        names(at, at.ada)
    assert not [query for query in queries if "storedlisting" in query["sql"].lower()]


@pytest.mark.parametrize(
    "junk",
    [
        None,
        b"\x80\x04junk",
        "",
        "{",
        "[]",
        "[" * 100_000,
        "\ud800",
        7,
        object,
        json.dumps([1, [], "", "0" * 64, 0, 1e400, False, 3]),
    ],
    ids=["null", "bytes", "empty", "broken", "short", "deep", "surrogate", "number", "type", "endless"],
)
def test_junk_in_the_cache_is_an_empty_cache(team: MakeTeam, junk: Any) -> None:
    at = team("ada")
    names(at, at.ada)
    key = head_key()
    assert cache.get(key) is not None

    cache.set(key, junk)

    assert names(at, at.ada) == ["look", "write"]
    assert call_tool(at.server, at.ada, "look").text == "look for ada"
    assert at.offering.listings() == 1


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, 0),
        (1, ["somebody", "else"]),
        (2, "opened in another way"),
        (3, None),
        (4, "yesterday"),
        (4, 1e400),
        (5, 1e18),
        (5, 4e9),
        (6, "no"),
        (7, "many"),
    ],
)
def test_a_head_that_is_not_exactly_this_askers_is_not_read(team: MakeTeam, position: int, value: Any) -> None:
    at = team("ada")
    names(at, at.ada)
    key = head_key()
    head = json.loads(cache.get(key))
    at.offering.tools = [tool("other")]
    StoredListing.objects.all().delete()

    head[position] = value
    cache.set(key, json.dumps(head))

    # Neither is it believed, nor does it stand in the way of what comes.
    assert names(at, at.ada) == ["other"]
    assert names(at, at.ada) == ["other"]
    assert at.offering.listings() == 2


def test_entries_in_the_cache_that_are_not_those_of_the_head_are_not_shown(team: MakeTeam) -> None:
    at = team("ada")
    names(at, at.ada)
    key = f"{head_key()}.{StoredListing.objects.get().digest[:20]}"
    assert cache.get(key) is not None

    cache.set(key, json.dumps([tool("planted")]))

    assert names(at, at.ada) == ["look", "write"]
    assert at.offering.listings() == 1


class Broken:
    """A cache that fails whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        def fail(*arguments: Any, **options: Any) -> Any:
            raise ConnectionError("The cache is away.")

        return fail


def test_a_cache_that_is_away_keeps_nobody_from_their_tools(
    team: MakeTeam, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at = team("ada", "grace", offering=Offering(by_user={"ada": [tool("adas")], "grace": [tool("graces")]}))
    monkeypatch.setattr("mcp_oauth.services.hot_listings.cache", Broken())
    monkeypatch.setattr("mcp_oauth.services.flights.cache", Broken())

    for _ in range(2):
        assert names(at, at.ada) == ["adas"]
        assert names(at, at.grace) == ["graces"]
    assert call_tool(at.server, at.ada, "adas").text == "adas for ada"

    assert at.offering.listings() == 2
    assert "the cache does not keep listings" in caplog.text


def test_a_listing_that_is_too_large_for_the_cache_is_read_from_the_database(
    team: MakeTeam, limits: Callable[..., None]
) -> None:
    limits(CATALOGUE_CACHE_BYTES=50)
    at = team("ada")
    names(at, at.ada)
    assert cache.get(f"{head_key()}.{StoredListing.objects.get().digest[:20]}") is None

    assert names(at, at.ada) == ["look", "write"]
    assert at.offering.listings() == 1


def test_a_caller_who_changes_a_description_changes_it_for_nobody_else(team: MakeTeam) -> None:
    at = team("ada", offering=Offering(tools=[tool("look", properties={"a": {"type": "string"}})]))

    list_tools(at.server, at.ada).tools[0].input_schema["properties"]["planted"] = {}

    assert list_tools(at.server, at.ada).tools[0].input_schema["properties"] == {"a": {"type": "string"}}


def test_the_times_of_a_listing_say_when_it_was_asked_for(team: MakeTeam) -> None:
    at = team("ada")
    began = timezone.now()

    first = list_tools(at.server, at.ada)
    again = list_tools(at.server, at.ada)

    assert first.fetched_at == pytest.approx(again.fetched_at, abs=timedelta(milliseconds=1))
    assert timedelta(0) <= first.fetched_at - began < timedelta(seconds=settings.LIST_SECONDS)
