"""Prepared statements find, change and insert what the queryset they were made from would."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import FieldError
from django.db import IntegrityError, connection, transaction
from django.db.models import F, FilteredRelation, Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from mcp_oauth.models import McpServer, McpServerOAuth, Membership, ToolCall
from mcp_oauth.models.prepared import Given, PreparedInsert, PreparedPair, PreparedQuery, PreparedUpdate
from tests.people import member, new_workspace

pytestmark = pytest.mark.django_db


def new_query() -> PreparedQuery[McpServer]:
    return PreparedQuery(
        McpServer,
        lambda: McpServer.objects.filter(
            pk=Given(McpServer, "id"), workspace__memberships__user_id=Given(Membership, "user")
        ).order_by(),
    )


@pytest.fixture
def user() -> User:
    return member(new_workspace())


@pytest.fixture
def server(user: User) -> McpServer:
    [workspace] = user.mcp_workspaces.all()
    return McpServer.objects.create(
        workspace=workspace,
        name="Tracker",
        slug="tracker",
        url="https://tracker.example/mcp",
        headers={"X-Api-Key": "a key"},
        client_secret="a secret",
        oauth_options={"prompt": "consent"},
        discover_result={"supportedVersions": ["2026-07-28"]},
        reachable=True,
        contacted_at=timezone.now(),
    )


def columns_of(row: Any) -> dict[str, Any]:
    """Return every column's value, sealed ones opened."""
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def test_signs_that_mean_something_to_the_database_driver_stay_what_they_are(server: McpServer) -> None:
    server.name = "100 %s of %(p0)s"
    server.save()
    query = PreparedQuery(
        McpServer,
        lambda: (
            McpServer.objects.filter(name__istartswith=F("slug"))
            | McpServer.objects.filter(name=Given(McpServer, "name"), slug__contains=F("slug"))
        ),
    )

    found = query.first(name="100 %s of %(p0)s")

    assert found == server
    assert query.first(name="100 % of p0") is None


def test_a_prepared_query_returns_the_row_with_every_column_as_the_queryset_does(user: User, server: McpServer) -> None:
    found = new_query().first(id=server.pk, user=user.pk)

    assert found is not None
    assert columns_of(found) == columns_of(McpServer.objects.get(pk=server.pk))
    assert not found._state.adding
    found.name = "Renamed"
    found.save()
    assert McpServer.objects.get().name == "Renamed"


def test_a_prepared_query_is_run_with_other_values_each_time(user: User, server: McpServer) -> None:
    query, stranger = new_query(), member(new_workspace())

    assert query.first(id=server.pk, user=stranger.pk) is None
    assert query.first(id=uuid.uuid4(), user=user.pk) is None
    assert query.first(id=server.pk, user=user.pk) == server
    # A person who is nobody is found nowhere, as NULL equals nothing.
    assert query.first(id=server.pk, user=None) is None


def test_a_prepared_query_leaves_deferred_columns_in_the_database(user: User, server: McpServer) -> None:
    query = PreparedQuery(McpServer, lambda: McpServer.objects.filter(pk=Given(McpServer, "id")).only("name", "url"))

    found = query.first(id=server.pk)

    assert found is not None
    assert found.get_deferred_fields() == {field.attname for field in McpServer._meta.concrete_fields} - {
        "id",
        "name",
        "url",
    }
    with CaptureQueriesContext(connection) as queries:
        assert found.slug == "tracker"
    assert len(queries) == 1


def test_a_prepared_query_is_compiled_once(user: User, server: McpServer) -> None:
    built = []

    def build() -> Any:
        built.append(True)
        return McpServer.objects.filter(pk=Given(McpServer, "id"))

    query = PreparedQuery(McpServer, build)
    for _ in range(3):
        assert query.first(id=server.pk) == server

    assert built == [True]


def new_pair() -> PreparedPair[McpServer, McpServerOAuth]:
    own = FilteredRelation("grants", condition=Q(grants__user_id=Given(McpServerOAuth, "user")))
    beside = PreparedPair.beside(McpServerOAuth, "own", {"access_token", "server_id", "user_id", "version"})
    return PreparedPair(
        McpServer,
        McpServerOAuth,
        lambda: McpServer.objects.filter(pk=Given(McpServer, "id")).defer("slug").annotate(own=own).annotate(**beside),
    )


def test_a_prepared_pair_returns_a_row_with_the_one_beside_it(user: User, server: McpServer) -> None:
    grants = [
        McpServerOAuth.objects.create(
            server=server, user=person, access_token=f"of {person}", version=number, connected_at=timezone.now()
        )
        for number, person in enumerate([user, member(server.workspace)])
    ]
    pair = new_pair()

    for grant in grants:
        found = pair.first(id=server.pk, user=grant.user_id)
        assert found is not None
        assert found[1] is not None
        assert found[0].get_deferred_fields() == {"slug"}
        assert (found[0], found[0].headers, found[0].slug) == (server, {"X-Api-Key": "a key"}, "tracker")
        assert (found[1], found[1].access_token, found[1].version) == (grant, f"of {grant.user}", grant.version)
        assert "state" in found[1].get_deferred_fields()
    assert pair.first(id=server.pk, user=member(server.workspace).pk) == (server, None)
    assert pair.first(id=uuid.uuid4(), user=user.pk) is None


@pytest.mark.django_db(transaction=True)
def test_a_prepared_query_serves_every_thread_over_its_own_connection(user: User, server: McpServer) -> None:
    query = new_query()
    expected = columns_of(query.first(id=server.pk, user=user.pk))
    seen: list[tuple[Any, Any]] = []

    def look() -> None:
        try:
            columns = columns_of(query.first(id=server.pk, user=user.pk))
            seen.append((connection.connection, columns))
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [columns for _, columns in seen] == [expected] * 3
    assert len({id(used) for used, _ in seen} | {id(connection.connection)}) == 4


def call_of(server: McpServer, user: User) -> dict[str, Any]:
    now = timezone.now()
    return {
        "id": uuid.uuid4(),
        "server": server.pk,
        "user": user.pk,
        "server_generation": 3,
        "tool": "create_issue",
        "started_at": now,
        "deadline_at": now + timedelta(seconds=60),
    }


def insert_call(**values: Any) -> None:
    PreparedInsert(ToolCall, "id", "server", "user", "server_generation", "tool", "started_at", "deadline_at").run(
        **values
    )


def test_a_prepared_insert_leaves_a_row_like_the_one_that_save_makes(user: User, server: McpServer) -> None:
    given = call_of(server, user)

    insert_call(**given)

    saved = ToolCall(**{**given, "server": server, "user": user})
    assert columns_of(ToolCall.objects.get()) == columns_of(saved)


@pytest.mark.parametrize("what", ["the same key", "a server that is gone"])
@pytest.mark.django_db(transaction=True)
def test_a_prepared_insert_that_cannot_be_is_an_integrity_error(user: User, server: McpServer, what: str) -> None:
    given = call_of(server, user)
    if what == "the same key":
        insert_call(**given)
    else:
        given["server"] = uuid.uuid4()
    before = ToolCall.objects.count()

    with pytest.raises(IntegrityError):
        insert_call(**given)

    assert ToolCall.objects.count() == before


@pytest.mark.django_db(transaction=True)
def test_a_failed_prepared_insert_undoes_the_transaction_around_it(user: User, server: McpServer) -> None:
    given = call_of(server, user)
    insert_call(**given)

    def rename_and_insert() -> None:
        with transaction.atomic():
            McpServer.objects.update(name="Renamed")
            # As somebody might who does not know that the transaction is over.
            with suppress(IntegrityError):
                insert_call(**given)

    rename_and_insert()

    assert McpServer.objects.get().name == "Tracker"


UPDATED: list[tuple[str, Callable[[ToolCall], Any]]] = [
    ("state", lambda _: "failed"),
    ("outcome", lambda _: "cancelled"),
    ("ended_at", lambda call: call.started_at),
    ("duration_ms", lambda _: 12),
    ("arguments", lambda _: None),
]


def test_a_prepared_update_changes_these_columns_of_these_rows_and_counts_them(user: User, server: McpServer) -> None:
    first, second = call_of(server, user), call_of(server, user)
    insert_call(**first)
    insert_call(**second)
    update = PreparedUpdate(ToolCall, where=["id", "state"], columns=[name for name, _ in UPDATED])
    running = {"id": first["id"], "state": ToolCall.State.RUNNING}
    values = {name: value(ToolCall.objects.get(pk=first["id"])) for name, value in UPDATED}

    assert update.run(running, **values) == 1
    assert update.run(running, **values) == 0

    changed, other = ToolCall.objects.get(pk=first["id"]), ToolCall.objects.get(pk=second["id"])
    assert {name: getattr(changed, name) for name, _ in UPDATED} == values
    assert other.state == ToolCall.State.RUNNING


@pytest.mark.django_db(transaction=True)
def test_a_prepared_update_that_may_be_lost_hurries_no_transaction_but_its_own(user: User, server: McpServer) -> None:
    given = call_of(server, user)
    insert_call(**given)
    update = PreparedUpdate(ToolCall, where=["id"], columns=["outcome"])

    def hurry() -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit" if connection.vendor == "postgresql" else "SELECT 1")
            return cursor.fetchone()

    if connection.vendor == "postgresql":
        connection.cursor().execute("SET synchronous_commit = on")
    before = hurry()
    with CaptureQueriesContext(connection) as alone:
        assert update.run({"id": given["id"]}, may_be_lost=True, outcome="alone") == 1
    assert ToolCall.objects.get(pk=given["id"]).outcome == "alone"
    with CaptureQueriesContext(connection) as within, transaction.atomic():
        assert update.run({"id": given["id"]}, may_be_lost=True, outcome="within") == 1
    assert ToolCall.objects.get(pk=given["id"]).outcome == "within"

    transaction.set_autocommit(False)
    try:
        with CaptureQueriesContext(connection) as by_hand:
            assert update.run({"id": given["id"]}, may_be_lost=True, outcome="by hand") == 1
        transaction.commit()
    finally:
        transaction.set_autocommit(True)

    assert len(alone) == 1
    assert ("synchronous_commit" in alone[0]["sql"]) == (connection.vendor == "postgresql")
    assert not any("synchronous_commit" in query["sql"] for query in [*within, *by_hand])
    assert hurry() == before


def test_a_prepared_update_refuses_a_secret_that_was_not_sealed_for_its_row(user: User, server: McpServer) -> None:
    given = call_of(server, user)
    insert_call(**given)
    update = PreparedUpdate(ToolCall, where=["id"], columns=["arguments"])

    with pytest.raises(FieldError, match="sealed for its row"):
        update.run({"id": given["id"]}, arguments={"title": "a secret"})


def test_a_prepared_query_opens_sealed_columns_for_their_row_alone(user: User, server: McpServer) -> None:
    grant = McpServerOAuth(server=server, user=user, access_token="a token", connected_at=timezone.now())
    grant.save()
    query = PreparedQuery(
        McpServerOAuth, lambda: McpServerOAuth.objects.filter(server_id=Given(McpServerOAuth, "server"))
    )

    found = query.first(server=server.pk)

    assert found is not None
    assert found.access_token == "a token"
    assert "a token" not in repr(vars(found))
