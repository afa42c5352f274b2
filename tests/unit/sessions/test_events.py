"""A stream of events is taken apart in the same way wherever it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_oauth.sessions.events import Event, EventParser, EventTooLarge


def events_in(*parts: bytes, most_bytes: int = 1000) -> list[Event]:
    parser = EventParser(most_bytes)
    return [event for part in parts for event in parser.feed(part)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [Event(data="a")]),
        (b"data:a\ndata: b\ndata\n\n", [Event(data="a\nb\n")]),
        (b"data:  a\n\n", [Event(data=" a")]),
        (b"event: ping\ndata: {}\n\ndata: {}\n\n", [Event("ping", "{}"), Event(data="{}")]),
        # What a stream is resumed by stands for itself as well, and an identifier holds until there is another.
        (b"id: 7\n\ndata: a\n\nid\ndata: b\n\n", [Event(id="7"), Event(data="a", id="7"), Event(data="b")]),
        (b"retry: 50\n\ndata: a\n\n", [Event(retry=50), Event(data="a")]),
        (b"retry: " + b"9" * 5000 + b"\n\n", [Event(retry=10**15 - 1)]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event(data="a")]),
        (b"data: \xff\xc3\xa9\n\n", [Event(data="\ufffd\xe9")]),
        # Comments, names that mean nothing, values that are none, and what is cut off.
        (b": hello\n\nfoo: bar\n\nDATA: a\n\n data: a\n\n", []),
        (b"id: a\0b\n\nretry: -1\n\nretry: 1.5\n\nretry:\n\n", []),
        (b"\n\n\r\n\r", []),
        (b"data: a", []),
        (b"data: a\n", []),
    ],
)
def test_an_event_is_what_stands_before_an_empty_line(stream: bytes, events: list[Event]) -> None:
    assert events_in(stream, most_bytes=6000) == events


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_each_kind_of_line_end_serves(end: bytes) -> None:
    stream = end.join([b"event: message", b"data: a", b"data: b", b"", b"data: c", b"", b""])

    assert events_in(stream) == [Event(data="a\nb"), Event(data="c")]


def test_an_event_does_not_wait_for_what_may_belong_to_its_last_line_end() -> None:
    assert events_in(b"data: a\r\n\r") == [Event(data="a")]
    assert events_in(b"data: a\r\n\r", b"\n", b"\ndata: b\n\n") == [Event(data="a"), Event(data="b")]
    # A half that comes alone is the only one that is taken for a half.
    assert events_in(b"data: a\r", b"\n", b"\n") == [Event(data="a")]


_PIECES = st.sampled_from(
    [
        *(
            b"data",
            b":",
            b" ",
            b"x",
            b"\n",
            b"\r",
            b"\r\n",
            b"event",
            b"id",
            b"retry",
            b"12",
            b"\0",
            b"\xc3\xa9",
            b"\xff",
        ),
        *(b"data: y\n", b"id: 7\r", b"retry: 5\r\n", b": c\n", b"\n\n", b"\xef\xbb\xbf"),
    ]
)


@given(st.lists(_PIECES, max_size=25).map(b"".join), st.data())
def test_where_a_stream_is_cut_makes_no_difference(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    parts = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert events_in(*parts) == events_in(stream)


@pytest.mark.parametrize(
    "parts",
    [
        [b"data: " + b"x" * 100 + b"\n\n"],
        [b"data: " + b"x" * 100],
        [b"x"] * 101,
        [b"data: x\n"] * 20,
        [b"data: " + b"x" * 50 + b"\n", b"data: " + b"x" * 50],
        [b":" + b"x" * 100],
    ],
)
def test_no_more_is_held_of_an_event_than_may_be(parts: list[bytes]) -> None:
    with pytest.raises(EventTooLarge):
        events_in(*parts, most_bytes=100)


def test_events_that_are_past_count_no_more() -> None:
    assert len(events_in(*[b"data: " + b"x" * 80 + b"\n\n"] * 20, most_bytes=100)) == 20
    assert events_in(*[b": " + b"x" * 80 + b"\n"] * 20, b"data: a\n\n", most_bytes=100) == [Event(data="a")]
