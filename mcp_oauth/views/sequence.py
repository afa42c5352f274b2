"""The way of a connection as a sequence drawing: who asks whom, what came back, and what follows with a person."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from mcp_oauth.views.diagnosis import StageView, StepView, Tone

Lane = Literal["person", "application", "server", "authorization_server"]

# A drawing of more requests than this would be longer than the list below it, which has all of them.
MOST_ARROWS: Final = 40
# What fits between two lanes on the narrowest screen, in letters.
_LONGEST: Final = 34
_LONGEST_ANSWER: Final = 38
_HEAD: Final = 84
_ROW: Final = 68
_LATER: Final = 36
_FOOT: Final = 16


@dataclass(frozen=True)
class Participant:
    """One lane: its place across the drawing in percent, and its name, long and short."""

    x: str
    name: str
    short: str
    host: str


@dataclass(frozen=True)
class Arrow:
    """One line from one lane to another; places across are percentages, heights are pixels.

    ``number`` is that of the step which says more, 0 where nothing was asked yet. ``tip`` is the path of its head.
    """

    number: int
    tone: Tone
    later: bool
    text: str
    answer: str
    from_x: str
    to_x: str
    middle: str
    y: int
    answer_y: int
    tip: str
    answer_tip: str


@dataclass(frozen=True)
class Sequence:
    """A whole drawing. ``stops_at`` is the height at which connecting ends, 0 where nothing stands in the way."""

    participants: tuple[Participant, ...]
    arrows: tuple[Arrow, ...]
    height: int
    lines_to: int
    stops_at: int
    left_out: int

    @property
    def has_later(self) -> bool:
        """Whether some of it was not tried."""
        return any(arrow.later for arrow in self.arrows)


@dataclass(frozen=True)
class Later:
    """What follows once somebody presses Connect; nothing of it was tried."""

    start: Lane
    end: Lane
    text: str
    # Whether it comes before the token endpoint is asked, or after it.
    before_tokens: bool = True


def what_follows(registration: str, *, with_person: bool) -> tuple[Later, ...]:
    """Return the steps of a connection that a diagnosis leaves out, because they need a person or change something."""
    steps: list[Later] = []
    if registration == "cimd":
        steps.append(Later("authorization_server", "application", _("Reads who this app is")))
    if registration == "dynamic":
        steps.append(Later("application", "authorization_server", _("Registers this app, once")))
    if with_person:
        steps += [
            Later("person", "authorization_server", _("You sign in and allow it")),
            Later("authorization_server", "application", _("Back to this app, with a code")),
        ]
    return (*steps, Later("application", "server", _("Lists and runs tools"), before_tokens=False))


def drawing(
    stages: Iterable[StageView], *, server_host: str, issuer: str, follows: Iterable[Later], stopped: bool
) -> Sequence | None:
    """Draw the requests of a diagnosis in their order; ``None`` where nothing was asked.

    ``stopped``: something stands in the way, so nothing follows.
    """
    asked = [(stage.key, step) for stage in stages for step in stage.steps if step.method]
    if not asked:
        return None
    later = () if stopped else tuple(follows)
    lanes: list[Lane] = ["application", "server"]
    involved = {lane for step in later for lane in (step.start, step.end)}
    if "person" in involved:
        lanes.insert(0, "person")
    if "authorization_server" in involved or any(_lane_of(key) == "authorization_server" for key, _step in asked):
        lanes.append("authorization_server")
    places = {lane: (index + 0.5) / len(lanes) * 100 for index, lane in enumerate(lanes)}

    shown = asked[:MOST_ARROWS]
    rows: list[Later | tuple[str, StepView]] = [
        *(row for row in shown if row[0] != "token_endpoint"),
        *(step for step in later if step.before_tokens),
        *(row for row in shown if row[0] == "token_endpoint"),
        *(step for step in later if not step.before_tokens),
    ]
    arrows: list[Arrow] = []
    y = _HEAD
    for row in rows:
        if isinstance(row, Later):
            arrows.append(_later(row, places[row.start], places[row.end], y))
            y += _LATER
        else:
            arrows.append(_request(row[1], places["application"], places[_lane_of(row[0])], y))
            y += _ROW
    hosts = {"server": server_host, "authorization_server": _host(issuer)}
    return Sequence(
        participants=tuple(_participant(lane, places[lane], hosts.get(lane, "")) for lane in lanes),
        arrows=tuple(arrows),
        height=y + (_FOOT * 2 if stopped else _FOOT),
        lines_to=y,
        stops_at=y + 4 if stopped else 0,
        left_out=max(0, len(asked) - MOST_ARROWS),
    )


def _lane_of(stage: str) -> Lane:
    return "authorization_server" if stage in {"authorization_server", "registration", "token_endpoint"} else "server"


def _request(step: StepView, start: float, end: float, y: int) -> Arrow:
    status = str(step.status) if step.status is not None else _("no answer")
    rightward = end > start
    return Arrow(
        number=step.number,
        tone=step.tone,
        later=False,
        text=_short(f"{step.method} {_path(step.url)}"),
        answer=_short(f"{status} · {step.state}", _LONGEST_ANSWER),
        from_x=_percent(start),
        to_x=_percent(end),
        middle=_percent((start + end) / 2),
        y=y,
        answer_y=y + 28,
        tip=_tip(rightward),
        answer_tip=_tip(not rightward),
    )


def _later(step: Later, start: float, end: float, y: int) -> Arrow:
    return Arrow(
        number=0,
        tone="idle",
        later=True,
        text=_short(step.text),
        answer="",
        from_x=_percent(start),
        to_x=_percent(end),
        middle=_percent((start + end) / 2),
        y=y,
        answer_y=0,
        tip=_tip(end > start),
        answer_tip="",
    )


def _participant(lane: Lane, place: float, host: str) -> Participant:
    names: dict[Lane, tuple[str, str]] = {
        "person": (_("You, in the browser"), _("You")),
        "application": (_("This application"), _("This app")),
        "server": (_("MCP server"), _("Server")),
        "authorization_server": (_("Authorization server"), _("Sign-in")),
    }
    name, short = names[lane]
    return Participant(_percent(place), name, short, _short(host))


def _path(url: str) -> str:
    """Return what tells requests of one host apart."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return "?"
    return path.partition("/.well-known/")[2] or path or "/"


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _short(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _percent(value: float) -> str:
    # Text and no number: a number would be written with the comma of the reader's language.
    return f"{value:.2f}%"


def _tip(rightward: bool) -> str:
    return "M-7 -4L0 0L-7 4" if rightward else "M7 -4L0 0L7 4"
