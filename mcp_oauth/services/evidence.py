"""What was asked of a server and what it answered, kept so that a person can see it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.services import wire

Verdict = Literal["ok", "challenge", "absent", "refused", "error"]


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a probe or discovery: what was asked, the HTTP status, and what it means."""

    method: str
    url: str
    what: str
    status: int | None
    verdict: Verdict
    note: str = ""


@dataclass
class Evidence:
    """The steps of one probe or discovery, in order. Holds no header, body or secret."""

    steps: list[Step] = field(default_factory=list)

    def fetch(
        self, request: HttpRequest, what: str, *, seconds: float | None = None, limit_bytes: int | None = None
    ) -> HttpResponse:
        """Send a request and leave a step behind when no answer comes.

        Raises:
            ServerUnreachable: as `wire.fetch`.
        """
        try:
            return wire.fetch(request, seconds=seconds, limit_bytes=limit_bytes)
        except McpOAuthError as error:
            self.note(request, what, None, "error", error.user_message)
            raise

    def note(self, request: HttpRequest, what: str, status: int | None, verdict: Verdict, note: str = "") -> None:
        """Record what an answer turned out to mean."""
        self.steps.append(Step(request.method, request.url[:2000], what, status, verdict, note[:600]))

    def as_json(self) -> list[dict[str, Any]]:
        """Return the steps as JSON objects."""
        return [asdict(step) for step in self.steps]
