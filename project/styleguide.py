"""Shows every component of the pages in every state, for those who work on them."""

from __future__ import annotations

import re
import uuid
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.text import slugify
from django.views.decorators.http import require_safe

from mcp_oauth.exceptions import DiscoveryFailed
from mcp_oauth.sessions.results import ToolResult
from mcp_oauth.views.access import page_context
from mcp_oauth.views.activity import Drawing
from mcp_oauth.views.bars import bars_of
from mcp_oauth.views.card_list import StateChoice, grouped
from mcp_oauth.views.cards import ServerCard
from mcp_oauth.views.content import ResultView, result_view
from mcp_oauth.views.diagnosis import stage_views
from mcp_oauth.views.marks import hue_of, initials_of
from mcp_oauth.views.next_step import Step
from mcp_oauth.views.schema_form import form_of
from mcp_oauth.views.schema_nodes import Node, root_fields, with_problems
from mcp_oauth.views.sequence import drawing, what_follows
from mcp_oauth.views.standing import StateLine
from mcp_oauth.views.tools import Badge, ErrorView, Parameter, ToolView

COLOURS = (
    *("ground", "surface", "sunken", "hover", "line", "line-strong", "line-field", "text", "muted"),
    *("accent", "accent-soft", "ok", "warn", "bad"),
)


class SampleForm(forms.Form):
    """One field of every kind."""

    address = forms.URLField(
        label="Address",
        help_text="The server's MCP endpoint.",
        initial="https://mcp.example.com/mcp",
        assume_scheme="https",
    )
    broken = forms.CharField(label="Name", max_length=3, initial="Too long")
    kind = forms.ChoiceField(label="Kind", choices=[("", "Find out"), ("oauth", "OAuth, people connect")])
    notes = forms.CharField(label="Arguments", widget=forms.Textarea, initial='{"limit": 20}')
    enabled = forms.BooleanField(label="Enabled", help_text="A disabled server cannot be used.", initial=True)
    fixed = forms.CharField(label="Redirect URI", disabled=True, initial="https://app.example.com/mcp/oauth/callback/")


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the components, in development only.

    Raises:
        Http404: this is no development site.
    """
    if not settings.SHOW_STYLEGUIDE:
        raise Http404
    now = timezone.now()
    form = SampleForm(data={name: str(field.initial) for name, field in SampleForm.base_fields.items()})
    stages = stage_views(_steps())
    cards = _cards(now)
    context = {
        **page_context(request, None),
        "is_admin": True,
        "workspace": {"name": "Acme Research", "slug": "acme", "initials": "AR", "hue": hue_of("Acme Research")},
        "workspaces": [{"name": "Northwind", "slug": "northwind", "initials": "N", "hue": hue_of("Northwind")}],
        "colours": COLOURS,
        "hues": range(12),
        "icons": _icons(),
        "form": form,
        "groups": grouped(cards),
        "card": cards[0],
        "states": _choices(),
        "stages": stages,
        "sequence": drawing(
            stages,
            server_host="mcp.example.com",
            issuer="https://login.example.com",
            follows=what_follows("dynamic", with_person=True),
            stopped=False,
        ),
        "stopped": drawing(stages[:2], server_host="mcp.example.com", issuer="", follows=(), stopped=True),
        "tool": _tool(),
        "drawings": [
            _drawing("Linear", (3, 9, 4, 0, 12, 7, 5), (0, 1, 0, 0, 6, 0, 0)),
            _drawing("Notion", (1,) * 7, (0,) * 7),
        ],
        "happened": (
            ("ok", "Completed in 38 ms"),
            ("bad", "Failed after 1.2 s"),
            ("warn", "Waits for your answer"),
            ("idle", "Running"),
        ),
        "result": _result(),
        "schema_fields": _fields(),
        "error": ErrorView.of(
            DiscoveryFailed("The metadata is for another issuer.", document="https://login.example.com/.well-known/x")
        ),
    }
    return render(request, "styleguide.html", context)


def _icons() -> list[str]:
    path = finders.find("mcp_oauth/icons.svg")
    if not isinstance(path, str):
        return []
    with open(path, encoding="utf-8") as file:
        return re.findall(r'<symbol id="([a-z]+)"', file.read())


def _drawing(name: str, completed: tuple[int, ...], failed: tuple[int, ...]) -> Drawing:
    titles = [f"Day {number + 1}" for number in range(len(completed))]
    calls, broken = sum(completed) + sum(failed), sum(failed)
    return Drawing(
        name=name,
        hue=hue_of(name),
        initials=initials_of(name),
        url="#activity-title",
        bars=bars_of(completed, failed, titles),
        counts=f"{calls} calls",
        failures=f"{broken} failed" if broken else "",
        median="half done within 38 ms",
        label=f"Calls of {name}: {calls} calls, {broken} failed",
    )


def _choices() -> list[StateChoice]:
    return [StateChoice("", "All", 13, True), StateChoice("needs_you", "Needs you", 3, False)]


def _card(name: str, now: datetime, **changes: Any) -> ServerCard:
    facts: dict[str, Any] = {
        "id": uuid.uuid5(uuid.NAMESPACE_URL, name),
        "name": name,
        "url": f"https://mcp.{name.lower().replace(' ', '-')}.example/mcp",
        "host": f"mcp.{name.lower().replace(' ', '-')}.example",
        "initials": initials_of(name),
        "hue": hue_of(name),
        "enabled": True,
        "kind": "oauth",
        "kind_label": "Uses OAuth with your own account",
        "owner": "Your own account",
        "authorized": StateLine("ok", "Connected", at=now - timedelta(days=2)),
        "reachable": StateLine("ok", "Reachable", at=now - timedelta(minutes=3)),
        "group": "connected",
        "states": ("connected",),
        "action": "none",
        "step": Step("tools", "Tools", "#", is_link=True),
        "aside": None,
        "can_disconnect": True,
        "can_run": True,
        "flow_id": "",
        "waiting_calls": 0,
        "waiting_words": "",
        "tool_count": 31,
        "tool_words": "31 tools",
        "tools_as_of": now - timedelta(minutes=50),
        "tools_stale": False,
        "connected_at": now - timedelta(days=2),
        "renews": True,
        "expires_at": now + timedelta(hours=3),
        "scopes": ("issues:read",),
        "permits": ("read issues",),
        "permissions": "can read issues",
        "contacted_at": now - timedelta(minutes=3),
        "removal_at": None,
        **dict.fromkeys((item.name for item in fields(ServerCard) if item.name.endswith("_url")), "#"),
    }
    return ServerCard(**{**facts, **changes})


def _cards(now: datetime) -> list[ServerCard]:
    """Return a card of every kind that asks something of a person, and of every kind that does not."""

    def line(tone: Any, text: str, detail: str = "", minutes: int = 12) -> StateLine:
        return StateLine(tone, text, detail, now - timedelta(minutes=minutes))

    def press(label: str, look: str = "") -> Step:
        return Step(slugify(label), label, "#", look, stays=True)

    needs: dict[str, Any] = {"group": "needs_you", "states": ("needs_you",), "renews": False, "permissions": ""}
    free: dict[str, Any] = {
        "group": "available",
        "states": ("available",),
        "can_run": False,
        "tool_count": None,
        "tool_words": "",
    }
    ended = line("bad", "Access ended", "Notion refused to renew your access.")
    more = StateLine("warn", "Wants more access", "A tool asks to: change issues (issues:write).")
    refused = line("bad", "Own identity refused", "An administrator has to check the client ID.")
    key = line("bad", "Key not accepted", "An administrator has to enter the server's headers again.")
    lost = line("warn", "Unreachable", "The connection failed.", 4)
    waiting = StateLine("idle", "Waiting for you in the other window")
    leaving = StateLine("warn", "Being removed", "It is out of use. What people granted is revoked when it goes.")
    return [
        _card(
            "Notion",
            now,
            **needs,
            authorized=ended,
            step=press("Reconnect", "strong"),
            tools_stale=True,
            waiting_words="1 call is waiting for you",
        ),
        _card(
            "Linear",
            now,
            **needs,
            authorized=more,
            step=press("Grant access", "strong"),
            aside=press("Not now", "quiet"),
        ),
        _card("Team board", now, **needs, authorized=key, step=press("Enter the key", "strong"), can_disconnect=False),
        _card("Data lake", now, **needs, authorized=refused, step=press("Diagnose", "strong"), can_disconnect=False),
        _card(
            "Payroll",
            now,
            **needs,
            authorized=line("bad", "Sign in again"),
            step=press("Sign in again", "strong"),
            can_disconnect=False,
        ),
        _card(
            "Calendar",
            now,
            **{**needs, "renews": True},
            step=press("Continue", "strong"),
            waiting_words="1 call is waiting for you",
        ),
        _card("Atlassian", now),
        _card("GitHub", now, renews=False),
        _card(
            "Company wiki",
            now,
            reachable=lost,
            step=press("Retry"),
            tools_stale=True,
            states=("connected", "unreachable"),
        ),
        _card("Figma", now, **free, authorized=None, reachable=None, step=press("Connect with OAuth", "soft")),
        _card(
            "Sentry",
            now,
            **free,
            authorized=waiting,
            step=press("Open again"),
            aside=press("Cancel", "quiet"),
            flow_id=str(uuid.uuid4()),
        ),
        _card("Old CRM", now, **free, authorized=StateLine("idle", "Disabled by an administrator"), enabled=False),
        _card(
            "Legacy files",
            now,
            **{**free, "group": "leaving", "states": ("leaving",)},
            authorized=leaving,
            step=press("Keep it", "soft"),
            enabled=False,
            removal_at=now + timedelta(minutes=14),
        ),
    ]


def _tool() -> ToolView:
    return ToolView(
        name="create_issue",
        title="Create an issue",
        description="Create an issue in a project you can write to.",
        badges=(
            Badge("reads", "idle", "The server says that this tool changes nothing."),
            Badge("writes", "warn", "The server says that this tool changes something."),
            Badge("destroys", "bad", "The server says that this tool can delete or overwrite."),
        ),
        parameters=(Parameter("status", "string", True, "Which issues to list.", "open", ("open", "closed")),),
        raw_schema='{"type": "object"}',
        run_url="#",
        has_form=True,
        anchor="tool-create-issue",
    )


def _result() -> ResultView:
    """Return a result with something of every kind that needs no file."""
    blocks = (
        {
            "type": "text",
            "text": "# Report\n\nTwo issues are **open**, see [the list](https://tracker.example/issues).",
        },
        {"type": "text", "text": "Plain text stays as it is."},
        {"type": "image", "data": "", "mimeType": "image/svg+xml"},
        {"type": "resource_link", "uri": "https://tracker.example/plan.pdf", "name": "plan.pdf"},
        {"type": "resource", "resource": {"uri": "notes://7", "mimeType": "text/plain", "text": "A note."}},
    )
    issues = [{"number": 1, "title": "Export fails", "open": True}, {"number": 2, "title": "Dark charts", "open": True}]
    return result_view(ToolResult(blocks, {"issues": issues, "total": 2}, False, ""), 38)


def _fields() -> tuple[Node, ...]:
    """Return a form with a field of every kind, one of them with a problem."""
    person = {"type": "object", "title": "Person", "properties": {"name": {"type": "string", "title": "Name"}}}
    properties = {
        "title": {"type": "string", "title": "Title", "description": "One line."},
        "text": {"type": "string", "title": "Text", "maxLength": 2000},
        "state": {"title": "State", "enum": ["open", "closed"]},
        "labels": {"type": "array", "title": "Labels", "items": {"enum": ["bug", "docs"]}},
        "urgent": {"type": "boolean", "title": "Urgent", "default": True},
        "due": {"type": "string", "title": "Due", "format": "date"},
        "people": {"type": "array", "title": "People", "items": person},
        "author": {**person, "title": "Author"},
        "where": {"title": "Where", "anyOf": [{"type": "string"}, {"type": "integer"}]},
        "extra": {"title": "Anything"},
    }
    schema = {"type": "object", "properties": properties, "required": ["title", "where"]}
    form = form_of(schema, "sample", value={"people": [{"name": "Ada"}], "where": "here"})
    return root_fields(with_problems(form, {"sample.1": "must have at most 2000 characters"}))


def _steps() -> list[dict[str, Any]]:
    """Return steps of every verdict, as a diagnosis stores them."""
    server, login = "https://mcp.example.com", "https://login.example.com"

    def asked(
        stage: str, method: str, url: str, status: int | None, verdict: str, note: str, **more: Any
    ) -> dict[str, Any]:
        given = {"stage": stage, "method": method, "url": url, "status": status, "verdict": verdict, "note": note}
        return {**given, "what": "server/discover", "milliseconds": 19, **more}

    fault = {
        "field": "issuer",
        "rule": "RFC 8414 §3.3: issuer must equal the identifier that was asked for",
        "option": "tolerate_issuer_mismatch",
        "next_step": "Ask the provider to correct the document.",
    }
    return [
        asked("contact", "POST", f"{server}/mcp", 401, "challenge", ""),
        {"stage": "contact", "method": "", "what": "challenge", "verdict": "ok", "note": "Bearer"},
        asked("protected_resource", "GET", f"{server}/.well-known/oauth-protected-resource/mcp", 404, "absent", ""),
        asked("protected_resource", "GET", f"{server}/.well-known/oauth-protected-resource", 200, "ok", ""),
        {
            "stage": "protected_resource",
            "method": "",
            "what": "scopes_supported",
            "verdict": "absent",
            "note": "Not said.",
        },
        asked(
            "authorization_server",
            "GET",
            f"{login}/.well-known/oauth-authorization-server",
            200,
            "tolerated",
            "",
            **fault,
        ),
        {"stage": "authorization_server", "method": "", "what": "issuer", "verdict": "refused", "note": login, **fault},
        asked("token_endpoint", "POST", f"{login}/token", 401, "ok", "answers as a token endpoint"),
        asked("token_endpoint", "POST", f"{login}/token", None, "error", "It did not answer."),
        {"stage": "grants", "method": "", "what": "grants", "verdict": "warning", "note": "1 works"},
    ]
