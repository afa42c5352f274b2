"""A diagnosis as plain text for somebody else's support: addresses and verdicts, without what is nobody's business."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from django.utils.translation import gettext as _

from mcp_oauth import __version__
from mcp_oauth.views.diagnosis import StageView, StepView

# What looks drawn at random: a token, a key, or the part of an address that is one. Whose host it is has to be said.
_OPAQUE = re.compile(r"(https?://[^\s/]+)|(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{20,}(?![\w-])")
_QUERY = re.compile(r"(https?://[^\s?#]+)[?#][^\s,;]*")
_EMAIL = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+\.[^\s@<>\"']+")


def redacted(text: str, hidden: Iterable[str] = ()) -> str:
    """Return a text without the given words, queries of addresses, email addresses, and what looks like a secret."""
    for word in sorted(set(hidden), key=len, reverse=True):
        if len(word) > 2:  # a shorter one would take letters out of other words
            text = text.replace(word, "[…]")
    text = _QUERY.sub(r"\1?[…]", text)
    return _OPAQUE.sub(lambda found: found[1] or "[…]", _EMAIL.sub("[…]", text))


def report_text(
    *,
    url: str,
    verdict: str,
    asked_at: datetime | None,
    protocol_version: str,
    stages: Iterable[StageView],
    hidden: Iterable[str] = (),
) -> str:
    """Return the report; ``hidden`` are the client IDs that nobody else needs to know."""
    about = [
        (_("Server"), url),
        (_("Verdict"), verdict),
        (_("Asked"), asked_at.strftime("%Y-%m-%d %H:%M UTC") if asked_at is not None else "-"),
        (_("Protocol"), protocol_version or "-"),
        (_("Application"), f"django-mcp-connect {__version__}"),
    ]
    lines = [f"{name}: {value}" for name, value in about]
    for stage in stages:
        lines += ["", stage.title]
        for step in stage.steps:
            lines += _lines(step)
    return redacted("\n".join(lines), hidden)


def _lines(step: StepView) -> list[str]:
    if step.method:
        status = str(step.status) if step.status is not None else _("no answer")
        timing = f", {step.milliseconds} ms" if step.milliseconds is not None else ""
        lines = [
            f"{step.number}. {step.method} {step.url} → {status}{timing}",
            f"   {step.state}: {step.note}".rstrip(": "),
        ]
    else:
        lines = [f"   {step.label}: {step.note}" + ("" if step.is_calm else f" ({step.state})")]
    if not step.is_calm:
        told = ((_("Field"), step.field), (_("Rule"), step.rule), (_("Option"), step.option))
        lines += [f"   {name}: {value}" for name, value in told if value]
    return lines
