"""What the pages say of a server's evidence: each step in words a person would say, by the stage it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from django.utils.translation import gettext as _

from mcp_oauth.services.evidence import Stage

Tone = Literal["ok", "warn", "bad", "idle"]

_STAGES: tuple[Stage, ...] = get_args(Stage)
_TONES: Mapping[str, Tone] = {
    "ok": "ok",
    "challenge": "ok",
    "absent": "idle",
    "warning": "warn",
    "tolerated": "warn",
    "refused": "bad",
    "error": "bad",
}


@dataclass(frozen=True)
class StepView:
    """One step: a request with its status and time, or a fact, which has no ``method``.

    ``is_calm`` tells that nothing is to be said beyond the fact itself.
    """

    method: str
    url: str
    label: str
    note: str
    status: int | None
    milliseconds: int | None
    verdict: str
    tone: Tone
    state: str
    field: str
    rule: str
    option: str
    next_step: str
    # The step before it says the same of another document.
    repeats: bool = False
    # Counts the requests of a whole diagnosis from 1; 0 for a fact.
    number: int = 0

    @property
    def is_calm(self) -> bool:
        """Whether the step is as it should be, or leaves nothing to be desired."""
        return self.tone in {"ok", "idle"}

    @property
    def is_refusal(self) -> bool:
        """Whether connecting stops at it unless another document serves, so that an option is of interest."""
        return self.tone == "bad" and bool(self.rule)


@dataclass(frozen=True)
class StageView:
    """The steps of one stage, under its title."""

    key: str
    title: str
    steps: tuple[StepView, ...]


def step_views(steps: Iterable[Mapping[str, Any]], *, asked_before: int = 0) -> list[StepView]:
    """Return stored or fresh steps for a page; what a damaged row holds in a member's place reads as nothing.

    ``asked_before`` is how many requests the stages before these have.
    """
    states, labels = _states(), _labels()
    views: list[StepView] = []
    for step in steps:
        view = _step(step, states, labels)
        if view.method:
            asked_before += 1
            view = replace(view, number=asked_before)
        reason = (view.label, view.note, view.field, view.rule)
        before = views[-1] if views and view.method and not view.is_calm and view.rule else None
        repeats = before is not None and reason == (before.label, before.note, before.field, before.rule)
        views.append(replace(view, repeats=repeats))
    return views


def stage_views(steps: Iterable[Mapping[str, Any]]) -> list[StageView]:
    """Return steps by stage, in the order of a connection and without empty stages."""
    titles: dict[str, str] = {
        "contact": _("Contact, without credentials"),
        "protected_resource": _("What the server says about itself"),
        "authorization_server": _("Where people sign in"),
        "registration": _("Who this application is there"),
        "token_endpoint": _("Where tokens come from"),
        "grants": _("Connections"),
    }
    by_stage: dict[str, list[Mapping[str, Any]]] = {key: [] for key in _STAGES}
    for step in steps:
        key = step.get("stage")
        by_stage[key if isinstance(key, str) and key in by_stage else "contact"].append(step)
    stages, asked = [], 0
    for key, found in by_stage.items():
        if found:
            views = step_views(found, asked_before=asked)
            asked += sum(bool(view.method) for view in views)
            stages.append(StageView(key, titles[key], tuple(views)))
    return stages


def _step(step: Mapping[str, Any], states: Mapping[str, str], labels: Mapping[str, str]) -> StepView:
    def text(name: str) -> str:
        value = step.get(name)
        return value if isinstance(value, str) else ""

    def number(name: str) -> int | None:
        value = step.get(name)
        return value if isinstance(value, int) else None

    verdict = text("verdict")
    return StepView(
        method=text("method"),
        url=text("url"),
        label=labels.get(text("what"), text("what")),
        note=text("note"),
        status=number("status"),
        milliseconds=number("milliseconds"),
        verdict=verdict,
        tone=_TONES.get(verdict, "idle"),
        state=states.get(verdict, states["error"]),
        field=text("field"),
        rule=text("rule"),
        option=text("option"),
        next_step=text("next_step"),
    )


def _states() -> dict[str, str]:
    return {
        "ok": _("As it should be"),
        "challenge": _("Asks people to sign in"),
        "absent": _("Not there"),
        "warning": _("May not work"),
        "tolerated": _("Wrong, and tolerated by an option"),
        "refused": _("Cannot be used"),
        "error": _("Failed"),
    }


def _labels() -> dict[str, str]:
    return {
        "challenge": _("Asks for"),
        "answer": _("Answer"),
        "kind of authorization": _("Kind of authorization"),
        "resource_metadata": _("Its document"),
        "resource": _("Describes"),
        "authorization_servers": _("People sign in at"),
        "scopes_supported": _("Scopes"),
        "metadata": _("Its document"),
        "issuer": _("Issuer"),
        "authorization_endpoint": _("Sign-in page"),
        "token_endpoint": _("Tokens"),
        "code_challenge_methods_supported": _("Sign-in protected by PKCE"),
        "response_types_supported": _("Kinds of answers"),
        "grant_types_supported": _("Kinds of grants"),
        "authorization_response_iss_parameter_supported": _("Issuer in answers"),
        "token_endpoint_auth_methods_supported": _("Clients prove themselves by"),
        "registration_endpoint": _("Clients register at"),
        "client_id_metadata_document_supported": _("Client metadata documents"),
        "revocation_endpoint": _("Access is revoked at"),
        "dpop_signing_alg_values_supported": _("Tokens bound to a key"),
        "client": _("Client"),
        "registered client": _("Registered"),
        "earlier client": _("Earlier client"),
        "client authentication": _("Proves itself by"),
        "grants": _("Accounts"),
    }
