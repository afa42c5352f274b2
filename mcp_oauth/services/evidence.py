"""What was asked of a server and what it answered, kept so that a person can see it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import DeadlineExceeded, McpOAuthError
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.models.server import WORDS_OF_A_STEP
from mcp_oauth.sentences import kept, said, sentence, shortened
from mcp_oauth.services import wire

Verdict = Literal["ok", "challenge", "absent", "warning", "tolerated", "refused", "error"]
Stage = Literal["contact", "protected_resource", "authorization_server", "registration", "token_endpoint", "grants"]

# A sentence with its facts is longer than what is shown of it.
_LONGEST_STORED: Final = 4000


@dataclass(frozen=True, slots=True)
class Step:
    """One request and what its answer means, or one fact that an answer held, which has no ``method``.

    ``status`` is the HTTP status and ``milliseconds`` the time until the whole answer was there, both ``None`` where
    there was no answer. ``code`` is that of a typed error. Where a rule is broken, ``field`` names the member at
    fault, ``rule`` the rule with its source, and ``option`` the OAuth option that tolerates it, empty for none.
    ``note``, ``rule`` and ``next_step`` are for people, and may be sentences that are said where somebody reads them.
    """

    method: str
    url: str
    what: str
    status: int | None
    verdict: Verdict
    note: str = ""
    milliseconds: int | None = None
    stage: Stage = "contact"
    code: str = ""
    field: str = ""
    rule: str = ""
    option: str = ""
    next_step: str = ""


@dataclass
class Evidence:
    """The steps of one probe, discovery or diagnosis, in order. Holds no header, body or secret.

    ``deadline``, on the clock of ``time.monotonic``, bounds all its requests together. ``on_ask`` is told of each
    request before it is made, by its address and what it is for, and ``on_step`` of each step when it is there.
    """

    steps: list[Step] = field(default_factory=list)
    deadline: float | None = None
    on_ask: Callable[[str, str], None] | None = field(default=None, repr=False)
    on_step: Callable[[Step], None] | None = field(default=None, repr=False)
    _timed: tuple[HttpRequest, int] | None = field(default=None, init=False, repr=False)

    def fetch(
        self,
        request: HttpRequest,
        what: str,
        *,
        seconds: float | None = None,
        limit_bytes: int | None = None,
        stage: Stage = "contact",
    ) -> HttpResponse:
        """Send a request and leave a step behind when no answer comes.

        Raises:
            ServerUnreachable: as `wire.fetch`, or the evidence's own deadline has passed.
        """
        started = time.monotonic()
        if self.on_ask is not None:
            self.on_ask(request.url, what)
        try:
            response = wire.fetch(request, seconds=self._seconds(request, seconds, started), limit_bytes=limit_bytes)
        except McpOAuthError as error:
            self._timed = (request, _milliseconds_since(started))
            self.note(request, what, None, "error", error.sentence, stage=stage, error=error)
            raise
        self._timed = (request, _milliseconds_since(started))
        return response

    def note(
        self,
        request: HttpRequest,
        what: str,
        status: int | None,
        verdict: Verdict,
        note: str = "",
        *,
        stage: Stage = "contact",
        error: McpOAuthError | None = None,
    ) -> None:
        """Record what an answer turned out to mean, and which rule it breaks if it does."""
        timed = self._timed if self._timed is not None and self._timed[0] is request else None
        step = Step(request.method, request.url[:2000], what, status, verdict, shortened(note, 600), stage=stage)
        self._add(_with_error(replace(step, milliseconds=timed[1] if timed is not None else None), error))

    def fact(
        self,
        stage: Stage,
        what: str,
        verdict: Verdict,
        note: str,
        *,
        url: str = "",
        field: str = "",
        rule: str = "",
        option: str = "",
        next_step: str = "",
        error: McpOAuthError | None = None,
    ) -> None:
        """Record one fact that an answer held or the rows hold; what ``error`` says takes the place of the rest."""
        step = Step(
            "",
            url[:2000],
            what,
            None,
            verdict,
            shortened(note, 600),
            stage=stage,
            field=field,
            rule=rule,
            option=option,
            next_step=next_step,
        )
        self._add(_with_error(step, error))

    def as_json(self) -> list[dict[str, Any]]:
        """Return the steps as JSON objects, in the language of whoever reads now."""
        return [_with_words(step, said) for step in self.steps]

    def as_stored(self) -> list[dict[str, Any]]:
        """Return the steps as JSON objects for a row, from which every reader is told in their language."""
        return [_with_words(step, _kept) for step in self.steps]

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        if self.on_step is not None:
            self.on_step(step)

    def _seconds(self, request: HttpRequest, seconds: float | None, now: float) -> float | None:
        """Return how long a request may take.

        Raises:
            DeadlineExceeded: no time is left.
        """
        if self.deadline is None:
            return seconds
        remaining = self.deadline - now
        if remaining <= 0:
            raise DeadlineExceeded(
                sentence("It was not asked any more, because the time was over."), document=request.url
            )
        return min(remaining, settings.OAUTH_REQUEST_SECONDS if seconds is None else seconds)


def _with_error(step: Step, error: McpOAuthError | None) -> Step:
    if error is None:
        return step
    return replace(
        step,
        code=error.code,
        field=error.field,
        rule=error.rule_sentence,
        option=error.option,
        next_step=shortened(error.next_step_sentence, 600),
    )


def _with_words(step: Step, words: Callable[[str], str]) -> dict[str, Any]:
    return {**asdict(step), **{name: words(getattr(step, name)) for name in WORDS_OF_A_STEP}}


def _kept(text: str) -> str:
    return kept(text, _LONGEST_STORED)


def _milliseconds_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
