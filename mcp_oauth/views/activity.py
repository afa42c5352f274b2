"""The activity page of a workspace: what happened, narrowed by whoever looks, and how many calls every server had."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from mcp_oauth.conf import settings
from mcp_oauth.models import McpServer
from mcp_oauth.services.activity import KINDS, OUTCOMES, Wanted, happenings, one_of
from mcp_oauth.services.activity_figures import Figures, ServerFigures, figures
from mcp_oauth.services.activity_periods import PERIODS, Parts
from mcp_oauth.services.members import members_of, name_of
from mcp_oauth.services.workspaces import Place, place_in
from mcp_oauth.views.access import SignedInRequest, page_context, person_required
from mcp_oauth.views.activity_export import FORMATS, export
from mcp_oauth.views.bars import Bars, bars_of
from mcp_oauth.views.happenings import by_day, took
from mcp_oauth.views.marks import hue_of, initials_of

# What fits a few screens.
_ROWS: Final = 50
# People to choose from; more than this is searched for and not chosen from a list.
_MOST_PEOPLE: Final = 500


@dataclass(frozen=True)
class Option:
    """One value of a field that narrows the page."""

    value: str
    title: str
    chosen: bool


@dataclass(frozen=True)
class Narrowing:
    """What the page is narrowed to, the values to choose from, and the query that says so."""

    wanted: Wanted
    periods: list[Option]
    kinds: list[Option]
    outcomes: list[Option]
    servers: list[Option]
    people: list[Option]
    query: dict[str, str]

    @property
    def is_narrow(self) -> bool:
        """Whether anything but the period leaves something out."""
        return bool(self.query.keys() - {"period"})


@dataclass(frozen=True)
class Drawing:
    """One server's calls as bars, and the same in words."""

    name: str
    hue: int
    initials: str
    url: str
    bars: Bars
    counts: str
    failures: str
    median: str
    label: str


@require_safe
@person_required
def activity(request: SignedInRequest, slug: str) -> HttpResponseBase:
    """Show what happened in a workspace, or send it as a file; members see their own, administrators everything."""
    place = place_in(request.user, slug)
    now = timezone.now()
    narrowing = _narrowing(request, place)
    asked_for = request.GET.get("format", "")
    if asked_for in FORMATS:
        return export(request, place, request.user, narrowing.wanted, asked_for, now=now)
    cursor = request.GET.get("cursor", "")
    page = happenings(place, request.user, narrowing.wanted, limit=_ROWS, now=now, cursor=cursor)
    path = reverse("mcp_oauth:activity", kwargs={"slug": slug})
    counted = None if cursor else figures(place, request.user, narrowing.wanted, now=now)
    context = {
        **page_context(request, place),
        "narrowing": narrowing,
        "days": by_day(place, page.happenings, now),
        "older_url": _url(path, narrowing.query, cursor=page.cursor) if page.cursor else "",
        "newest_url": _url(path, narrowing.query) if cursor else "",
        "everything_url": _url(path, {key: value for key, value in narrowing.query.items() if key == "period"}),
        "all_periods_url": _url(path, {**narrowing.query, "period": "all"}),
        "exports": [(name, _url(path, narrowing.query, format=key)) for key, name in FORMATS.items()],
        "export_rows": settings.ACTIVITY_EXPORT_ROWS,
        "drawings": [] if counted is None else _drawings(counted, path, narrowing),
        "left_out": 0 if counted is None else counted.left_out,
        "step": "" if counted is None else _steps()[counted.parts.step],
    }
    response = render(request, "mcp_oauth/activity.html", context)
    response["Cache-Control"] = "no-store"
    return response


def _narrowing(request: SignedInRequest, place: Place) -> Narrowing:
    """Read what is looked for; a value that is none of those to choose from leaves its field as if it were empty."""
    asked = {key: request.GET.get(key, "").replace("\x00", "")[:200] for key in _FIELDS}
    servers = list(McpServer.objects.filter(workspace=place.workspace).order_by("name", "pk").values_list("pk", "name"))
    names = {str(pk): name for pk, name in servers}
    server_id = _uuid(asked["server"])
    if server_id is not None and str(server_id) not in names:
        # Events outlive their server, and a row of one leads here.
        names[str(server_id)] = _("A removed server")
    people: dict[str, Any] = {}
    if place.is_admin:
        field = get_user_model().USERNAME_FIELD
        rows = members_of(place.workspace).order_by(f"user__{field}")[:_MOST_PEOPLE]
        people = {str(membership.user_id): membership for membership in rows}
    person = people.get(asked["person"])
    wanted = Wanted(
        period=one_of(asked["period"], PERIODS) or Wanted.period,
        kind=one_of(asked["kind"], KINDS),
        outcome=one_of(asked["outcome"], OUTCOMES),
        server_id=server_id,
        person_id=None if person is None else person.user_id,
    )
    chosen = {
        "period": wanted.period,
        "kind": wanted.kind,
        "outcome": wanted.outcome,
        "server": "" if server_id is None else str(server_id),
        "person": "" if person is None else asked["person"],
    }
    return Narrowing(
        wanted,
        _options(_periods(), chosen["period"]),
        _options({"": _("Everything"), **_kinds()}, chosen["kind"]),
        _options({"": _("Any"), **_outcomes()}, chosen["outcome"]),
        _options({"": _("All servers"), **names}, chosen["server"]),
        _options({"": _("Everybody"), **{key: name_of(row.user) for key, row in people.items()}}, chosen["person"])
        if place.is_admin
        else [],
        {key: value for key, value in chosen.items() if value and (key, value) != ("period", Wanted.period)},
    )


_FIELDS: Final = ("period", "kind", "outcome", "server", "person")


def _options(titles: dict[str, str], chosen: str) -> list[Option]:
    return [Option(value, title, value == chosen) for value, title in titles.items()]


def _periods() -> dict[str, str]:
    return {
        "day": _("Last 24 hours"),
        "week": _("Last 7 days"),
        "month": _("Last 30 days"),
        "all": _("As long as it is kept"),
    }


def _kinds() -> dict[str, str]:
    return {"calls": _("Calls"), "access": _("Access"), "changes": _("Changes")}


def _outcomes() -> dict[str, str]:
    return {"completed": _("Completed"), "failed": _("Failed"), "waiting": _("Waiting"), "running": _("Running")}


def _steps() -> dict[str, str]:
    return {"hour": _("One bar is an hour."), "day": _("One bar is a day."), "days": _("One bar is a few days.")}


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _url(path: str, query: dict[str, str], **more: str) -> str:
    wanted = query | more
    return f"{path}?{urlencode(wanted)}" if wanted else path


def _drawings(counted: Figures, path: str, narrowing: Narrowing) -> list[Drawing]:
    moments = _moments(counted.parts)
    return [_drawing(server, moments, path, narrowing) for server in counted.servers]


def _moments(parts: Parts) -> list[str]:
    if parts.step == "hour":
        return [date_format(timezone.localtime(begins), "DATETIME_FORMAT") for begins in parts.starts]
    days = [date_format(timezone.localtime(begins), "DATE_FORMAT") for begins in parts.starts]
    if parts.step == "day":
        return days
    return [_("from %(day)s") % {"day": day} for day in days]


def _drawing(server: ServerFigures, moments: list[str], path: str, narrowing: Narrowing) -> Drawing:
    failed = sum(server.failed)
    counts = _calls(server.total)
    failures = _failures(failed) if failed else _("none failed")
    median = _("half done within %(time)s") % {"time": took(server.median_ms)} if server.median_ms is not None else ""
    titles = [
        _("%(when)s: %(calls)s, %(failures)s")
        % {"when": when, "calls": _calls(good + bad), "failures": _failures(bad) if bad else _("none failed")}
        for when, good, bad in zip(moments, server.completed, server.failed, strict=True)
    ]
    return Drawing(
        name=server.name,
        hue=hue_of(server.name),
        initials=initials_of(server.name),
        url=_url(path, {**narrowing.query, "server": str(server.server_id)}),
        bars=bars_of(server.completed, server.failed, titles),
        counts=counts,
        failures=failures if failed else "",
        median=median,
        label=_("Calls of %(server)s: %(calls)s, %(failures)s")
        % {"server": server.name, "calls": counts, "failures": failures},
    )


def _calls(number: int) -> str:
    return ngettext("%(number)s call", "%(number)s calls", number) % {"number": number_format(number)}


def _failures(number: int) -> str:
    return ngettext("%(number)s failed", "%(number)s failed", number) % {"number": number_format(number)}
