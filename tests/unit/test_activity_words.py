"""How the activity page counts, draws and words what happened; without a database."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone, translation

from mcp_oauth.models import Event, Membership, Workspace
from mcp_oauth.services import call_records
from mcp_oauth.services.activity import ACCESS, Happening
from mcp_oauth.services.activity_periods import parts_of, since
from mcp_oauth.services.grants import authorization_required
from mcp_oauth.services.workspaces import Place
from mcp_oauth.views.bars import HEIGHT, bars_of
from mcp_oauth.views.event_sentences import sentence_of
from mcp_oauth.views.happenings import row_of, took
from mcp_oauth.views.outcomes import CALLS, REASONS
from tests.unit.test_documentation import error_classes

NOW = datetime(2026, 11, 27, 14, 32, 5, tzinfo=UTC)


@pytest.fixture
def berlin() -> Iterator[None]:
    """Let the reader's clock be Berlin's, which had summer time until 25 October 2026."""
    with timezone.override(ZoneInfo("Europe/Berlin")):
        yield


def happening(**facts: Any) -> Happening:
    whole: dict[str, Any] = {
        "id": uuid.uuid4(),
        "at": NOW,
        "kind": "call",
        "state": "completed",
        "code": "",
        "server_id": uuid.uuid4(),
        "server": "Linear",
        "person": "ada",
        "yours": True,
        "by": "you",
        **facts,
    }
    return Happening(**whole)


def place() -> Place:
    workspace = Workspace(name="Acme", slug="acme")
    return Place(workspace, Membership(workspace=workspace))


# --- periods ----------------------------------------------------------------------------------------------------------


def test_a_day_is_drawn_in_the_last_24_hours_of_the_clock(berlin: None) -> None:
    parts = parts_of("day", NOW)

    assert parts.step == "hour"
    assert len(parts.starts) == 24
    assert timezone.localtime(parts.starts[-1]).strftime("%H:%M") == "15:00"
    assert {later - earlier for earlier, later in zip(parts.starts, parts.starts[1:], strict=False)} == {
        timedelta(hours=1)
    }


def test_an_hour_that_the_clock_repeats_is_there_twice(berlin: None) -> None:
    parts = parts_of("day", datetime(2026, 10, 25, 12, 0, tzinfo=UTC))

    hours = [timezone.localtime(start).strftime("%H") for start in parts.starts]
    assert hours.count("02") == 2


def test_days_begin_at_midnight_also_when_the_clock_changes(berlin: None) -> None:
    parts = parts_of("week", datetime(2026, 10, 28, 12, 0, tzinfo=UTC))

    assert parts.step == "day"
    assert [timezone.localtime(start).strftime("%d %H:%M") for start in parts.starts] == [
        f"{day} 00:00" for day in range(22, 29)
    ]
    moments = [start.astimezone(UTC) for start in parts.starts]
    lengths = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert timedelta(hours=25) in lengths


def test_all_calls_kept_are_drawn_in_thirty_parts_at_most(settings: Any) -> None:
    for days, parts, length in ((90, 30, 3), (1, 1, 1), (31, 16, 2), (400, 29, 14)):
        settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALL_DAYS": days}
        starts = parts_of("all", NOW).starts
        assert len(starts) == parts
        assert starts[-1] == datetime(2026, 11, 27, tzinfo=UTC) - timedelta(days=length - 1)
        assert since("all", NOW) is None


# --- bars -------------------------------------------------------------------------------------------------------------


def test_bars_are_as_high_as_what_they_count() -> None:
    drawn = bars_of((8, 0, 4, 0), (0, 0, 4, 2), ("a", "b", "c", "d"))

    assert [(bar.title, bar.completed_height, bar.failed_height) for bar in drawn.bars] == [
        ("a", HEIGHT, 0),
        ("c", HEIGHT // 2, HEIGHT // 2),
        ("d", 0, HEIGHT // 4),
    ]
    for bar in drawn.bars:
        assert bar.completed_y + bar.completed_height == HEIGHT
        assert bar.failed_y + bar.failed_height == bar.completed_y
    assert [bar.x for bar in drawn.bars] == [0, 24, 36]


@pytest.mark.parametrize(("good", "bad"), [(1, 100_000), (100_000, 1), (1, 1), (100_000, 0)])
def test_what_is_there_is_seen_and_nothing_leaves_the_drawing(good: int, bad: int) -> None:
    (bar,) = bars_of((good,), (bad,), ("a",)).bars

    assert (bar.completed_height > 0) is (good > 0)
    assert (bar.failed_height > 0) is (bad > 0)
    assert min(bar.failed_y, bar.completed_y) >= 0


def test_nothing_counted_is_no_bar_and_no_fault() -> None:
    assert bars_of((0, 0), (0, 0), ("a", "b")).bars == ()
    assert bars_of((), (), ()).bars == ()


def test_a_drawing_is_written_alike_in_every_language(settings: Any) -> None:
    settings.USE_THOUSAND_SEPARATOR = True
    drawn = bars_of((10_000,) * 30, (5000,) * 30, ("a",) * 30)

    assert drawn.width < 1000
    assert all(isinstance(number, int) and number < 1000 for bar in drawn.bars for number in (bar.x, bar.failed_y))


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (None, ""),
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (59_949, "59.9 s"),
        (59_950, "1 min 0 s"),
        (61_499, "1 min 1 s"),
        (3_600_000, "60 min 0 s"),
    ],
)
def test_how_long_it_took_is_told_in_the_units_of_people(milliseconds: int | None, words: str) -> None:
    assert took(milliseconds) == words


def test_numbers_are_written_as_the_reader_writes_them() -> None:
    with translation.override("de"):
        assert took(1234) == "1,2 s"


def test_every_code_a_call_can_end_with_means_something_to_a_person() -> None:
    codes = {cls.code for cls in error_classes()}
    codes |= {call_records.TOOL_ERROR, call_records.EXPIRED, call_records.REPLACED, call_records.SERVER_CHANGED}

    assert codes <= CALLS.keys()
    assert all(str(what) for what, _step in CALLS.values())


def test_every_reason_an_access_ends_for_means_something_to_a_person() -> None:
    # The sentence that is used where none was written for a reason.
    from mcp_oauth.models import McpServer

    server = McpServer(name="Linear", workspace=Workspace(slug="acme"))
    unknown = authorization_required(server, "no such reason").user_message
    known = [
        *("not_connected", "expired", "revoked", "rejected", "refused", "client_forgotten", "unreadable"),
        *("server_changed", "sign_in_again"),
    ]
    assert all(authorization_required(server, reason).user_message != unknown for reason in known)
    assert {*known, "misconfigured", "insufficient_scope"} == REASONS.keys()


@pytest.mark.parametrize("kind", Event.Kind.values)
def test_every_kind_of_event_has_a_sentence_for_everybody(kind: str) -> None:
    for whose in ("yours", "theirs", "shared"):
        sentence = sentence_of(kind, "", whose)
        assert sentence != str(dict(Event.Kind.choices)[kind])
        assert sentence.format(person="ada", server="Linear", name="program")
        assert ("{person}" in sentence) is (whose == "theirs" and kind not in {"server_changed"})


def test_an_event_of_a_kind_that_nobody_wrote_a_sentence_for_is_named() -> None:
    row = row_of(place(), happening(kind="from {the} future"))

    assert str(row.sentence) == "from {the} future"


def test_a_failed_call_says_why_what_to_do_and_the_code() -> None:
    row = row_of(place(), happening(state="failed", code="timeout", duration_ms=60_000, tool="search"))

    assert (row.state, row.tone, row.code) == ("Failed after 1 min 0 s", "bad", "timeout")
    assert row.why == "The server took too long."
    assert row.next_step.startswith("Look at the server")


def test_a_code_without_words_is_shown_as_it_is() -> None:
    row = row_of(place(), happening(state="failed", code="from_a_newer_version"))

    assert (row.why, row.next_step, row.code) == ("", "", "from_a_newer_version")


@pytest.mark.parametrize(
    ("outcome", "words", "tone"),
    [
        ("confirmed", "The provider confirmed it.", "idle"),
        ("not_offered", "The provider offers no revocation; the access is only forgotten here.", "idle"),
        ("refused", "The provider did not confirm it; the access is forgotten here.", "bad"),
        ("server_unreachable", "The provider did not confirm it; the access is forgotten here.", "bad"),
    ],
)
def test_a_revocation_says_what_the_provider_made_of_it(outcome: str, words: str, tone: str) -> None:
    well = outcome in {"confirmed", "not_offered"}
    row = row_of(place(), happening(kind="revoked", code=outcome, state="completed" if well else "failed"))

    assert (row.why, row.tone) == (words, tone)


def test_access_and_other_changes_are_all_kinds_there_are() -> None:
    assert set(ACCESS) < set(Event.Kind)
