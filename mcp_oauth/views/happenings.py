"""Says in words what happened: one sentence for a call or event, how it ended and why, and the way on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from mcp_oauth.models import Event
from mcp_oauth.services.activity import Happening
from mcp_oauth.services.workspaces import Place
from mcp_oauth.views.event_sentences import Whose, sentence_of
from mcp_oauth.views.outcomes import CALLS, NOT_CONFIRMED, REASONS, REVOCATIONS, why

Tone = Literal["ok", "warn", "bad", "idle"]

# Names of tools in one line; the event has all of them.
_MOST_NAMES: Final = 6
_LONGEST_DETAIL: Final = 300


@dataclass(frozen=True)
class Row:
    """One call or event as the page shows it.

    ``sentence`` is escaped. ``state`` is how it stands, ``why`` and ``next_step`` what that means and what to do, each
    empty where there is nothing to say. ``by`` says who did it where the sentence does not. ``url`` leads on.
    """

    at: datetime
    tone: Tone
    sentence: SafeString
    state: str
    by: str
    why: str
    next_step: str
    code: str
    detail: str
    url: str
    url_label: str
    tool: str


@dataclass(frozen=True)
class Day:
    """What happened on one day."""

    title: str
    rows: tuple[Row, ...]


def by_day(place: Place, happenings: tuple[Happening, ...], now: datetime) -> list[Day]:
    """Return the happenings in words under the day they belong to, in their order."""
    days: dict[date, list[Row]] = {}
    for happening in happenings:
        days.setdefault(timezone.localtime(happening.at).date(), []).append(row_of(place, happening))
    today = timezone.localtime(now).date()
    return [Day(_title(day, today), tuple(rows)) for day, rows in days.items()]


def row_of(place: Place, happening: Happening) -> Row:
    """Return one happening in words."""
    return _row_of_call(place, happening) if happening.is_call else _row_of_event(happening)


def took(milliseconds: int | None) -> str:
    """Return how long something took, in the units a person would use; empty where that is not known."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return _("%(number)s ms") % {"number": number_format(milliseconds)}
    # What would be rounded to a minute is one.
    if milliseconds < 59_950:
        return _("%(number)s s") % {"number": number_format(milliseconds / 1000, 1)}
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return _("%(minutes)s min %(seconds)s s") % {"minutes": number_format(minutes), "seconds": seconds}


def _title(day: date, today: date) -> str:
    if day == today:
        return _("Today")
    if (today - day).days == 1:
        return _("Yesterday")
    return date_format(day, "DATE_FORMAT")


def _row_of_call(place: Place, happening: Happening) -> Row:
    sentence = _("You called {tool} at {server}") if happening.yours else _("{person} called {tool} at {server}")
    state, tone = _state_of_call(happening)
    reasons = REASONS if happening.state == "waiting" else CALLS
    meaning, step = why(happening.code, reasons) if happening.code else ("", "")
    url = label = ""
    if happening.resumable:
        names = {"slug": place.workspace.slug, "server_id": happening.server_id, "call_id": happening.id}
        url = reverse("mcp_oauth:waiting_call", kwargs=names)
        label = pgettext("button", "Answer") if happening.asks else _("Continue")
    return Row(
        at=happening.at,
        tone=tone,
        sentence=_filled(sentence, happening, tool=format_html("<code>{}</code>", happening.tool)),
        state=state,
        by="",
        why=meaning,
        next_step=step if happening.yours or happening.state == "failed" else "",
        code=happening.code if happening.state == "failed" else "",
        detail="",
        url=url,
        url_label=label,
        tool=happening.tool,
    )


def _state_of_call(happening: Happening) -> tuple[str, Tone]:
    time = took(happening.duration_ms)
    if happening.state == "completed":
        return (_("Completed in %(time)s") % {"time": time} if time else _("Completed")), "ok"
    if happening.state == "failed":
        return (_("Failed after %(time)s") % {"time": time} if time else _("Failed")), "bad"
    if happening.state == "running":
        return _("Running"), "idle"
    if happening.asks:
        return (_("Waits for your answer") if happening.yours else _("Waits for an answer")), "warn"
    return (_("Waits for your access") if happening.yours else _("Waits for access")), "warn"


def _row_of_event(happening: Happening) -> Row:
    whose: Whose = "yours" if happening.yours else "theirs" if happening.person else "shared"
    text = sentence_of(happening.kind, happening.code, whose)
    failed = happening.state == "failed"
    meaning, step = _why_of_event(happening)
    return Row(
        at=happening.at,
        tone="bad" if failed else "warn" if happening.kind in _WARNINGS else "idle",
        sentence=_filled(text, happening, name=str(happening.details.get("name", ""))),
        state="",
        by=_by(happening),
        why=meaning,
        next_step=step if failed else "",
        code=happening.code if failed else "",
        detail=_detail(happening)[:_LONGEST_DETAIL],
        url="",
        url_label="",
        tool="",
    )


_WARNINGS: Final = (Event.Kind.STEP_UP, Event.Kind.TOOLS_CHANGED)


def _filled(sentence: str, happening: Happening, **more: str) -> SafeString:
    """Return a sentence with the names in it; the sentence is ours, and every name is escaped."""
    strong = "<strong>{}</strong>"
    return format_html(
        sentence,
        person=format_html(strong, happening.person or _("somebody")),
        server=format_html(strong, happening.server or _("a server")),
        **more,
    )


def _why_of_event(happening: Happening) -> tuple[str, str]:
    if happening.kind == Event.Kind.REVOKED:
        return why(happening.code, REVOCATIONS) if happening.code in REVOCATIONS else _told(NOT_CONFIRMED)
    if happening.kind == Event.Kind.REAUTHORIZATION_NEEDED:
        return why(happening.code, REASONS)
    return why(happening.code, CALLS) if happening.state == "failed" else ("", "")


def _told(words: tuple[Any, Any]) -> tuple[str, str]:
    return str(words[0]), str(words[1])


def _by(happening: Happening) -> str:
    """Return who did it; nothing where nobody did."""
    if happening.kind not in _DONE_BY_SOMEBODY or happening.by == "application":
        return ""
    if happening.by == "you":
        return _("by you")
    return _("by %(name)s") % {"name": happening.actor} if happening.actor else _("by an administrator")


_DONE_BY_SOMEBODY: Final = (
    Event.Kind.CONNECTED,
    Event.Kind.DISCONNECTED,
    Event.Kind.REVOKED,
    Event.Kind.SERVER_CHANGED,
    Event.Kind.API_TOKEN_MADE,
    Event.Kind.API_TOKEN_REVOKED,
    Event.Kind.MEMBER_ADDED,
    Event.Kind.MEMBER_CHANGED,
    Event.Kind.MEMBER_REMOVED,
)


def _detail(happening: Happening) -> str:
    """Return what else the event says, in one line."""
    details = happening.details
    if happening.kind == Event.Kind.TOOLS_CHANGED:
        return " ".join(
            sentence % {"names": _some(details[what])}
            for what, sentence in (
                ("added", _("New: %(names)s.")),
                ("removed", _("Gone: %(names)s.")),
                ("changed", _("Described differently: %(names)s.")),
            )
            if isinstance(details.get(what), list) and details[what]
        )
    if happening.kind == Event.Kind.STEP_UP and details.get("scope"):
        return _("It wants: %(scope)s.") % {"scope": details["scope"]}
    if happening.kind == Event.Kind.CONNECTED and details.get("scope"):
        return _("Granted: %(scope)s.") % {"scope": details["scope"]}
    if happening.kind == Event.Kind.SERVER_CHANGED and isinstance(details.get("fields"), list) and details["fields"]:
        return _("Changed: %(names)s.") % {"names": _some(details["fields"])}
    return ""


def _some(names: list[Any]) -> str:
    text = ", ".join(str(name) for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    if more <= 0:
        return text
    return ngettext("%(names)s and %(count)d more", "%(names)s and %(count)d more", more) % {
        "names": text,
        "count": more,
    }
