"""Asking a server while somebody looks on: each request as it happens, then the result in words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.forms import ServerForm
from mcp_oauth.oauth.urls import host_of
from mcp_oauth.services.evidence import Step
from mcp_oauth.services.findings import Asked, Finding
from mcp_oauth.services.registrations import shown_redirect_uri
from mcp_oauth.views.diagnosis import step_views
from mcp_oauth.views.tools import ErrorView

# One JSON object a line: {"asked": HTML}, {"step": HTML} or {"found": HTML}, the last one at the end.
LINES = "application/x-ndjson"


@dataclass(frozen=True)
class AskedView:
    """One request that is under way or answered, in words a person would say."""

    words: str
    host: str
    tone: str = "idle"
    state: str = ""
    status: int | None = None
    milliseconds: int | None = None

    @property
    def pending(self) -> bool:
        """Whether no answer is there yet."""
        return not self.state


def wants_lines(request: HttpRequest) -> bool:
    """Whether the page's script reads the answer as it comes."""
    return LINES in request.headers.get("Accept", "")


def streamed(
    request: HttpRequest, told: Iterable[Asked | Step | Finding], context: Mapping[str, Any]
) -> StreamingHttpResponse:
    """Answer with what is told, line by line; the finding is rendered with the context."""
    # The token is made now: its cookie cannot follow once the answer has begun.
    token = get_token(request)

    def lines() -> Iterator[bytes]:
        try:
            for item in told:
                yield _line(request, item, {**context, "csrf_token": token})
        except McpOAuthError as error:
            yield _packed("failed", render_to_string("mcp_oauth/_error.html", {"error": ErrorView.of(error)}))

    content: Iterator[bytes] | AsyncIterator[bytes] = lines()
    if isinstance(request, ASGIRequest):
        content = _awaited(lines())
    response = StreamingHttpResponse(content, content_type=LINES)
    response["Cache-Control"] = "no-store"
    # Proxies that collect answers would show nothing until the end.
    response["X-Accel-Buffering"] = "no"
    return response


def refusal_lines(request: HttpRequest, form: ServerForm) -> StreamingHttpResponse:
    """Answer with what is wrong with the form."""
    html = render_to_string("mcp_oauth/_form_errors.html", {"form": form}, request)
    return StreamingHttpResponse([_packed("failed", html)], content_type=LINES, status=400)


def error_lines(error: McpOAuthError) -> StreamingHttpResponse:
    """Answer with why nothing is asked."""
    html = render_to_string("mcp_oauth/_error.html", {"error": ErrorView.of(error)})
    return StreamingHttpResponse([_packed("failed", html)], content_type=LINES, status=error.http_status)


def finding_context(finding: Finding) -> dict[str, Any]:
    """Return what the templates say of a finding."""
    provider = finding.provider
    redirect = shown_redirect_uri()
    options = finding.known.options() if finding.known is not None else {}
    return {
        "finding": finding,
        "finding_steps": step_views(finding.report.evidence.as_json()),
        "redirect_uri": redirect,
        "setup": provider.setup_for(redirect) if provider is not None and finding.needs == "client" else "",
        "needed_options": [f"{name}={_shown(value)}" for name, value in options.items()],
    }


def _line(request: HttpRequest, item: Asked | Step | Finding, context: Mapping[str, Any]) -> bytes:
    if isinstance(item, Asked):
        return _packed("asked", _asked_html(AskedView(_asked_words(item.what), host_of(item.url))))
    if isinstance(item, Step):
        return _packed("step", _asked_html(_answered(item)))
    html = render_to_string("mcp_oauth/_finding.html", {**finding_context(item), **context}, request)
    return _packed("found", html)


def _asked_html(view: AskedView) -> str:
    return render_to_string("mcp_oauth/_asked.html", {"asked": view})


def _answered(step: Step) -> AskedView:
    [view] = step_views([{"method": step.method, "url": step.url, "what": step.what, "verdict": step.verdict}])
    return AskedView(
        words=_asked_words(step.what),
        host=host_of(step.url),
        tone=view.tone,
        state=view.state,
        status=step.status,
        milliseconds=step.milliseconds,
    )


def _asked_words(what: str) -> str:
    return {
        "server/discover": _("Asking the server what it is"),
        "initialize": _("Greeting the server as older ones want it"),
        "notifications/initialized": _("Finishing the greeting"),
        "tools/list": _("Looking whether it shows its tools to strangers"),
        "end of session": _("Saying goodbye"),
        "protected resource metadata": _("Reading who protects it"),
        "authorization server metadata": _("Reading how people sign in"),
        "headers": _("Listing its tools with the headers"),
    }.get(what, what)


def _packed(kind: str, html: str) -> bytes:
    return json.dumps({kind: html}).encode() + b"\n"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def _awaited(lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Take the lines in a thread, so that the event loop is free while a server thinks."""
    take = sync_to_async(lambda: next(lines, None), thread_sensitive=False)
    while (line := await take()) is not None:
        yield line
