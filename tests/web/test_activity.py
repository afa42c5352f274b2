"""The activity page: what a member and an administrator find on it, page by page, narrowed, and as a file."""

from __future__ import annotations

import csv
import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from mcp_oauth.models import Event, McpServer, Membership, ToolCall, Workspace
from mcp_oauth.services.events import record
from tests.people import browser_of, member, new_workspace
from tests.web.happened import CANARY, called, waiting

pytestmark = pytest.mark.django_db(transaction=True)

ADMIN = Membership.Role.ADMIN


def path_of(workspace: Workspace) -> str:
    return reverse("mcp_oauth:activity", kwargs={"slug": workspace.slug})


def server_in(workspace: Workspace, name: str = "Tracker") -> McpServer:
    slug = f"{name.lower()}-{uuid.uuid4().hex[:6]}"
    return McpServer.objects.create(workspace=workspace, name=name, slug=slug, url=f"https://{slug}.example.com/mcp")


def rows_of(client: Client, workspace: Workspace, **query: str) -> list[dict[str, Any]]:
    """Return the rows of the exported file."""
    response: Any = client.get(path_of(workspace), {"format": "json", **query})
    assert response.status_code == 200
    rows: list[dict[str, Any]] = json.loads(response.getvalue())["rows"]
    return rows


def sentences(response: Any) -> list[str]:
    return [str(row.sentence) for day in response.context["days"] for row in day.rows]


class Team:
    """A workspace with an administrator and two members who did something, and another one beside it."""

    def __init__(self) -> None:
        self.workspace, self.elsewhere = new_workspace(), new_workspace()
        self.root = member(self.workspace, f"root-{uuid.uuid4().hex[:8]}", role=ADMIN)
        self.ada = member(self.workspace, f"ada-{uuid.uuid4().hex[:8]}")
        self.grace = member(self.workspace, f"grace-{uuid.uuid4().hex[:8]}")
        self.stranger = member(self.elsewhere, f"mallory-{uuid.uuid4().hex[:8]}", role=ADMIN)
        self.tracker, self.notes = server_in(self.workspace), server_in(self.workspace, "Notes")
        self.foreign = server_in(self.elsewhere, "Foreign")
        self.calls = {
            "ada": called(self.tracker, self.ada, "ada_tool", minutes=9),
            "grace": called(self.notes, self.grace, "grace_tool", minutes=8),
            "root": called(self.tracker, self.root, "root_tool", minutes=7),
            "stranger": called(self.foreign, self.stranger, "foreign_tool", minutes=6),
        }
        self.events = [
            record(Event.Kind.CONNECTED, self.tracker, user_id=self.ada.pk, actor=self.ada, scope="read"),
            record(Event.Kind.DISCONNECTED, self.notes, user_id=self.grace.pk, actor=self.root, outcome="by_request"),
            record(Event.Kind.SERVER_CHANGED, self.tracker, actor=self.root, outcome="added"),
            record(Event.Kind.CONNECTED, self.foreign, user_id=self.stranger.pk, actor=self.stranger),
        ]


@pytest.fixture
def team() -> Team:
    return Team()


# --- who sees what ----------------------------------------------------------------------------------------------------


def test_a_member_finds_their_own_calls_and_events_and_nobody_elses_name(team: Team) -> None:
    response = browser_of(team.ada).get(path_of(team.workspace), {"period": "all"})

    assert sentences(response) == [
        "Your account at <strong>Tracker</strong> was connected",
        "You called <code>ada_tool</code> at <strong>Tracker</strong>",
    ]
    html = response.content.decode()
    for word in ("grace", "root", "Foreign", "mallory", 'name="person"', CANARY):
        assert word not in html, word


def test_who_acted_upon_a_member_is_an_administrator_without_a_name(team: Team) -> None:
    client = browser_of(team.grace)

    html = client.get(path_of(team.workspace)).content.decode()

    assert "by an administrator" in html
    assert team.root.username not in html
    files = [client.get(path_of(team.workspace), {"format": form}) for form in ("csv", "json")]
    for file in files:
        text = file.getvalue().decode()
        assert team.grace.username in text
        assert team.root.username not in text


def test_an_administrator_finds_everybodys_with_their_names_and_never_the_content(team: Team) -> None:
    client = browser_of(team.root)

    response = client.get(path_of(team.workspace))

    assert sentences(response) == [
        "<strong>Tracker</strong> was added",
        f"<strong>{team.grace.username}</strong>&#x27;s account at <strong>Notes</strong> was disconnected".replace(
            "&#x27;", "'"
        ),
        f"<strong>{team.ada.username}</strong>'s account at <strong>Tracker</strong> was connected",
        "You called <code>root_tool</code> at <strong>Tracker</strong>",
        f"<strong>{team.grace.username}</strong> called <code>grace_tool</code> at <strong>Notes</strong>",
        f"<strong>{team.ada.username}</strong> called <code>ada_tool</code> at <strong>Tracker</strong>",
    ]
    files = [client.get(path_of(team.workspace), {"format": form}).getvalue() for form in ("csv", "json")]
    for text in (response.content, *files):
        assert CANARY not in text.decode()
        assert b"Foreign" not in text
        assert b"foreign_tool" not in text


@pytest.mark.parametrize("form", ["", "csv", "json"])
def test_no_filter_shows_a_member_what_is_not_theirs(team: Team, form: str) -> None:
    client = browser_of(team.ada)
    own = {team.calls["ada"].pk, team.events[0].pk}
    others = (team.grace, team.root, team.stranger)
    queries = [{"person": str(person.pk)} for person in others]
    queries += [{"server": str(server.pk)} for server in (team.notes, team.foreign, team.tracker)]
    queries += [{"kind": kind} for kind in ("calls", "access", "changes", "nonsense")]
    queries += [{"outcome": outcome} for outcome in ("completed", "failed", "waiting", "running", "nonsense")]
    queries += [{"person": str(team.grace.pk), "server": str(team.notes.pk), "period": "all"}]
    for query in queries:
        if form != "json":
            response = client.get(path_of(team.workspace), {**query, "format": form})
            content = response.content if not form else response.getvalue()
            for word in ("grace_tool", "root_tool", "foreign_tool", *(person.username for person in others)):
                assert word.encode() not in content, (query, word)
        else:
            found = {uuid.UUID(row["id"]) for row in rows_of(client, team.workspace, **query)}
            assert found <= own, query


def test_no_cursor_shows_a_member_what_is_not_theirs(team: Team) -> None:
    client = browser_of(team.ada)
    now = timezone.now().timestamp()
    for key in (team.calls["grace"].pk, team.calls["stranger"].pk, uuid.UUID(int=0)):
        for rank in (0, 1):
            cursor = f"{int(now * 1_000_000) + 10_000_000}-{rank}-{key.hex}"
            response = client.get(path_of(team.workspace), {"cursor": cursor})
            assert len(sentences(response)) == 2
            assert "grace_tool" not in response.content.decode()


@pytest.mark.parametrize(
    "cursor", ["x", "1-2-3", "9" * 40 + "-0-" + "0" * 32, "1-0-zz", "-1-0-" + "0" * 32, "1-7-" + "0" * 32]
)
def test_a_cursor_that_no_page_gave_is_refused(team: Team, cursor: str) -> None:
    response = browser_of(team.ada).get(path_of(team.workspace), {"cursor": cursor})

    assert response.status_code == 400
    assert "This cursor is none that a page gave." in response.content.decode()


@pytest.mark.parametrize("form", ["", "csv", "json"])
def test_an_administrator_of_another_workspace_does_not_find_the_page(team: Team, form: str) -> None:
    assert browser_of(team.stranger).get(path_of(team.workspace), {"format": form}).status_code == 404


def test_an_administrator_of_another_workspace_cannot_reach_in_through_their_own_page(team: Team) -> None:
    client = browser_of(team.stranger)
    for query in (
        {"server": str(team.tracker.pk)},
        {"person": str(team.ada.pk)},
        {"person": str(team.ada.pk), "server": str(team.tracker.pk), "period": "all"},
    ):
        rows = rows_of(client, team.elsewhere, **query)
        assert not {row["id"] for row in rows} - {str(team.calls["stranger"].pk), str(team.events[3].pk)}, query
        assert not [row for row in rows if row["server"] != "Foreign"]


def test_somebody_who_is_in_two_workspaces_sees_in_each_what_belongs_to_it(team: Team) -> None:
    Membership.objects.create(workspace=team.elsewhere, user=team.root)
    called(team.foreign, team.root, "roots_own_elsewhere")
    client = browser_of(team.root)

    assert [row["tool"] for row in rows_of(client, team.elsewhere)] == ["roots_own_elsewhere"]
    assert "roots_own_elsewhere" not in {row["tool"] for row in rows_of(client, team.workspace)}


def test_an_administrator_who_becomes_a_member_sees_no_more_than_their_own(team: Team) -> None:
    Membership.objects.filter(user=team.root).update(role=Membership.Role.MEMBER)

    assert [row["tool"] for row in rows_of(browser_of(team.root), team.workspace)] == ["root_tool"]


def test_whoever_left_the_workspace_does_not_find_the_page(team: Team) -> None:
    client = browser_of(team.ada)
    Membership.objects.filter(user=team.ada).delete()

    assert client.get(path_of(team.workspace)).status_code == 404


def test_nobody_signed_in_is_sent_to_sign_in(team: Team) -> None:
    response = Client().get(path_of(team.workspace))

    assert response.status_code == 302
    assert "/accounts/login/" in response.headers["Location"]


def test_events_outlive_the_server_and_the_person_they_speak_of(team: Team) -> None:
    team.notes.delete()
    team.ada.delete()

    response = browser_of(team.root).get(path_of(team.workspace))

    shown = sentences(response)
    assert f"<strong>{team.grace.username}</strong>'s account at <strong>Notes</strong> was disconnected" in shown
    assert f"<strong>{team.ada.username}</strong>'s account at <strong>Tracker</strong> was connected" in shown
    assert "grace_tool" not in response.content.decode()
    of_the_server = rows_of(browser_of(team.root), team.workspace, server=str(team.events[1].server_id))
    assert {row["server"] for row in of_the_server} == {"Notes"}


# --- narrowing and paging ---------------------------------------------------------------------------------------------


def test_an_administrator_narrows_by_each_field(team: Team) -> None:
    client = browser_of(team.root)
    waiting(team.tracker, team.root, ToolCall.State.INPUT_REQUIRED)
    called(team.tracker, team.root, "failing", state="failed", outcome="timeout", duration_ms=1204)
    running = called(team.tracker, team.ada, "running", state="running", ended_at=None, duration_ms=None)
    ToolCall.objects.filter(pk=running.pk).update(deadline_at=timezone.now() + timedelta(minutes=1))
    record(Event.Kind.REFRESH_FAILED, team.tracker, user_id=team.ada.pk, outcome="token_endpoint_unavailable")
    record(Event.Kind.REVOKED, team.tracker, user_id=team.ada.pk, outcome="refused")
    record(Event.Kind.REVOKED, team.tracker, user_id=team.ada.pk, outcome="confirmed")

    def kinds(**query: str) -> list[str]:
        return sorted(
            row["tool"] or f"{row['kind']} {row['code']}".strip() for row in rows_of(client, team.workspace, **query)
        )

    assert kinds(kind="calls") == ["ada_tool", "create_page", "failing", "grace_tool", "root_tool", "running"]
    assert kinds(kind="changes") == ["server_changed added"]
    assert kinds(kind="access", server=str(team.notes.pk)) == ["disconnected by_request"]
    assert kinds(outcome="failed") == ["failing", "refresh_failed token_endpoint_unavailable", "revoked refused"]
    assert kinds(outcome="waiting") == ["create_page"]
    assert kinds(outcome="running") == ["running"]
    assert kinds(outcome="completed", kind="access") == ["connected", "disconnected by_request", "revoked confirmed"]
    assert kinds(person=str(team.ada.pk), kind="calls") == ["ada_tool", "running"]
    # Whose it is or who did it.
    assert kinds(person=str(team.root.pk), kind="access") == ["disconnected by_request"]
    assert kinds(server=str(team.foreign.pk)) == []


def test_a_period_leaves_out_what_is_older(team: Team) -> None:
    called(team.tracker, team.ada, "long_ago", minutes=60 * 24 * 20)
    called(team.tracker, team.ada, "very_long_ago", minutes=60 * 24 * 50)
    client = browser_of(team.ada)

    def tools(period: str) -> list[str]:
        return [row["tool"] for row in rows_of(client, team.workspace, kind="calls", period=period)]

    assert tools("day") == tools("week") == tools("nonsense") == ["ada_tool"]
    assert tools("month") == ["ada_tool", "long_ago"]
    assert tools("all") == ["ada_tool", "long_ago", "very_long_ago"]


def test_a_call_whose_time_is_over_is_told_as_failed_before_a_sweep_says_so(team: Team) -> None:
    past = timezone.now() - timedelta(minutes=1)
    called(team.tracker, team.ada, "lost", minutes=5, state="running", ended_at=None, duration_ms=None)
    waiting(
        team.tracker, team.ada, ToolCall.State.AUTHORIZATION_REQUIRED, "revoked", resumable_until=past, erase_at=past
    )
    waiting(team.tracker, team.ada, ToolCall.State.INPUT_REQUIRED, held_by="a process that is gone", minutes=3)
    client = browser_of(team.ada)

    rows = rows_of(client, team.workspace, outcome="failed")

    assert sorted((row["tool"], row["code"]) for row in rows) == [
        ("create_page", "expired"),
        ("create_page", "interrupted"),
        ("lost", "interrupted"),
    ]
    assert not rows_of(client, team.workspace, outcome="running")
    assert not rows_of(client, team.workspace, outcome="waiting")
    assert {row["state"] for row in rows} == {"failed"}


def test_pages_follow_each_other_without_gap_or_repetition(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_oauth.views.activity._ROWS", 3)
    moment = timezone.now() - timedelta(hours=1)
    # Many of one moment, of both sorts: an order by time alone would lose or repeat some.
    for _number in range(8):
        key = called(team.tracker, team.root, "same").pk
        ToolCall.objects.filter(pk=key).update(started_at=moment)
        Event.objects.bulk_create(
            [Event(kind=Event.Kind.REFRESHED, at=moment, workspace=team.workspace, user_name="x")]
        )
    client = browser_of(team.root)
    everything = [row["id"] for row in rows_of(client, team.workspace)]
    url, seen, pages = path_of(team.workspace), [], 0
    while url:
        response = client.get(url)
        for day in response.context["days"]:
            seen += [(row.at, str(row.sentence)) for row in day.rows]
        # What happens meanwhile moves nothing.
        called(team.tracker, team.root, "meanwhile", minutes=0)
        url, pages = response.context["older_url"], pages + 1

    assert len(everything) == len(set(everything)) == 22
    assert len(seen) == 22
    assert pages == 8
    assert not any("meanwhile" in sentence for _at, sentence in seen)
    assert [at for at, _sentence in seen] == sorted((at for at, _sentence in seen), reverse=True)


def test_a_page_keeps_what_it_is_narrowed_to(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_oauth.views.activity._ROWS", 1)
    query = {"kind": "calls", "server": str(team.tracker.pk), "period": "month"}
    client = browser_of(team.root)

    response = client.get(path_of(team.workspace), query)
    older = client.get(response.context["older_url"])

    assert [str(row) for row in sentences(older)] == [
        f"<strong>{team.ada.username}</strong> called <code>ada_tool</code> at <strong>Tracker</strong>"
    ]
    assert older.context["newest_url"] == response.wsgi_request.get_full_path().replace(
        response.wsgi_request.META["QUERY_STRING"], "period=month&kind=calls&server=" + query["server"]
    )
    assert not older.context["drawings"]


@pytest.mark.parametrize("as_admin", [True, False])
def test_the_number_of_queries_does_not_depend_on_how_much_happened(
    team: Team, as_admin: bool, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    user = team.root if as_admin else team.ada
    client = browser_of(user)
    url = path_of(team.workspace)
    client.get(url)
    with django_assert_max_num_queries(12 if as_admin else 11) as before:
        client.get(url)
    for number in range(12):
        server = server_in(team.workspace, f"Server {number}")
        for person in (team.ada, team.grace, team.root):
            called(server, person, minutes=number)
            record(Event.Kind.REFRESHED, server, user_id=person.pk)

    with django_assert_max_num_queries(len(before.captured_queries)):
        response = client.get(url)

    assert len(sentences(response)) > 20


# --- in words ---------------------------------------------------------------------------------------------------------


def test_a_waiting_call_leads_its_person_on_and_nobody_else(team: Team) -> None:
    call = waiting(team.tracker, team.ada, ToolCall.State.INPUT_REQUIRED)
    url = reverse("mcp_oauth:waiting_call", args=[team.workspace.slug, team.tracker.pk, call.pk])

    own = browser_of(team.ada).get(path_of(team.workspace)).content.decode()
    others = browser_of(team.root).get(path_of(team.workspace)).content.decode()

    assert f'href="{url}"' in own
    assert "Waits for your answer" in own
    assert "Waits for an answer" in others
    assert url not in others


def test_words_of_a_server_and_names_are_escaped(team: Team) -> None:
    script = "<script>alert(1)</script>{person}"
    team.tracker.name = script
    team.tracker.save()
    called(team.tracker, team.ada, script, state="failed", outcome=script[:60])
    record(Event.Kind.TOOLS_CHANGED, team.tracker, user_id=team.ada.pk, added=[script])
    record(Event.Kind.API_TOKEN_MADE, team.workspace, user_id=team.ada.pk, actor=team.ada, name=script)

    html = browser_of(team.ada).get(path_of(team.workspace)).content.decode()

    assert "<script>alert" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;{person}") >= 4


def test_figures_are_drawn_without_a_style_and_told_in_words(team: Team) -> None:
    for duration in (10, 20, 2300):
        called(team.tracker, team.ada, duration_ms=duration)
    called(team.tracker, team.ada, state="failed", outcome="timeout", duration_ms=60_000)

    response = browser_of(team.root).get(path_of(team.workspace), {"server": str(team.tracker.pk)})

    html = response.content.decode()
    assert 'aria-label="Calls of Tracker: 6 calls, 1 failed"' in html
    assert "half done within 38 ms" in html
    assert "style=" not in html
    (drawing,) = response.context["drawings"]
    assert len(drawing.bars.bars) >= 1


def test_figures_of_a_member_count_their_own_calls_only(team: Team) -> None:
    called(team.notes, team.ada)

    response = browser_of(team.ada).get(path_of(team.workspace))

    assert {drawing.name: drawing.counts for drawing in response.context["drawings"]} == {
        "Notes": "1 call",
        "Tracker": "1 call",
    }


# --- as a file --------------------------------------------------------------------------------------------------------


def test_a_file_has_what_the_filter_shows_and_is_kept_by_nobody(team: Team) -> None:
    response: Any = browser_of(team.root).get(path_of(team.workspace), {"format": "csv", "kind": "calls"})

    assert response.streaming
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"].startswith(f'attachment; filename="activity-{team.workspace.slug}-')
    rows = list(csv.DictReader(response.getvalue().decode().splitlines()))
    assert [(row["tool"], row["person"], row["state"], row["duration_ms"]) for row in rows] == [
        ("root_tool", team.root.username, "completed", "38"),
        ("grace_tool", team.grace.username, "completed", "38"),
        ("ada_tool", team.ada.username, "completed", "38"),
    ]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_of_a_file_is_a_formula(team: Team, first: str) -> None:
    formula = f"{first}cmd|' /C calc'!A0"
    team.tracker.name = formula
    team.tracker.save()
    called(team.tracker, team.ada, formula, state="failed", outcome=formula)

    response: Any = browser_of(team.ada).get(path_of(team.workspace), {"format": "csv", "kind": "calls"})

    text = response.getvalue().decode()
    rows = list(csv.reader(text.splitlines(keepends=True)))
    assert not [cell for row in rows for cell in row if cell.startswith(first)]
    assert sum(cell == f"'{formula}" for row in rows for cell in row) == 4


def test_a_file_ends_where_the_operator_says(team: Team, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "ACTIVITY_EXPORT_ROWS": 4}
    monkeypatch.setattr("mcp_oauth.services.activity._ROWS_AT_ONCE", 3)
    everything = browser_of(team.root).get(path_of(team.workspace), {"format": "json"})

    body = json.loads(everything.getvalue())

    assert body["most_rows"] == 4
    assert [row["kind"] for row in body["rows"]] == ["server_changed", "disconnected", "connected", "call"]


def test_a_file_is_sent_by_an_asynchronous_server_as_well(team: Team) -> None:
    client = AsyncClient()
    client.force_login(team.root)

    async def taken() -> tuple[str, bool]:
        response: Any = await client.get(path_of(team.workspace), {"format": "json"})
        parts = [part async for part in response.streaming_content]
        return b"".join(parts).decode(), response.is_async

    text, is_async = async_to_sync(taken)()

    assert is_async
    assert [row["id"] for row in json.loads(text)["rows"]] == [
        row["id"] for row in rows_of(browser_of(team.root), team.workspace)
    ]
