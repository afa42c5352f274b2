"""Taking servers over from an ``mcp.json``, and giving them away as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import McpServer
from mcp_oauth.services.drafts import open_draft, seal_draft
from mcp_oauth.services.import_entries import ImportEntry, McpJson, Placeholder
from mcp_oauth.services.importing import Imported, exported, import_servers
from mcp_oauth.services.mcp_json import parse_mcp_json
from mcp_oauth.services.mcp_json_export import FORMS, Form, write_mcp_json
from mcp_oauth.services.workspaces import Place, place_in, require_admin
from mcp_oauth.views.access import SignedInRequest, error_json, page_context, person_required, wants_json
from mcp_oauth.views.marks import hue_of, initials_of
from mcp_oauth.views.tools import ErrorView

_PURPOSE: Final = "mcp.json"
# What the programs call their file, and where they keep it.
_FILES: Final[Mapping[Form, tuple[str, str]]] = {
    "claude": ("Claude", ".mcp.json"),
    "vscode": ("VS Code", ".vscode/mcp.json"),
    "cursor": ("Cursor", ".cursor/mcp.json"),
}


@dataclass(frozen=True)
class EntryView:
    """One server of the file as the page shows it."""

    number: int
    entry: ImportEntry
    hue: int
    here: str
    chosen: bool
    error: str = ""
    next_step: str = ""
    # Of the server it has become.
    page_url: str = ""

    @property
    def selectable(self) -> bool:
        """Whether it can be chosen."""
        return not self.entry.problem and not self.page_url

    @property
    def initials(self) -> str:
        """What stands on its colour."""
        return initials_of(self.entry.name)


@dataclass(frozen=True)
class Question:
    """Something the file leaves open, and whether it was answered already."""

    number: int
    placeholder: Placeholder
    answered: bool
    missing: bool = False


@dataclass
class Import:
    """A file on its way in: what was answered so far, and which of its servers are there already, by their number."""

    file: McpJson
    answers: dict[str, str] = field(default_factory=dict, repr=False)
    done: dict[int, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object, for a sealed place only."""
        return {"file": self.file.to_json(), "answers": self.answers, "done": self.done}


# Every variable of it is sensitive: a file holds keys.
@sensitive_variables()
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
@person_required
def import_servers_page(request: SignedInRequest, slug: str) -> HttpResponse:
    """Take a pasted ``mcp.json``, let the person choose from it, and add what was chosen."""
    place = place_in(request.user, slug)
    require_admin(place)
    if request.method != "POST":
        return _paste_page(request, place)
    if not request.POST.get("draft"):
        try:
            found = parse_mcp_json(
                request.POST.get("text", ""),
                max_bytes=settings.MAX_IMPORT_BYTES,
                max_servers=settings.MAX_IMPORT_SERVERS,
            )
        except McpOAuthError as error:
            return error_json(error) if wants_json(request) else _paste_page(request, place, error)
        if wants_json(request):
            # The page's script looks first, so that a mistake is told where the text still stands.
            return JsonResponse({"status": "readable"})
        return _choose_page(request, place, Import(found))
    going_on = _taken_up(request, place)
    chosen = {int(text) for text in request.POST.getlist("chosen") if text.isdecimal() and len(text) < 4}
    outcomes = _import(request, place, going_on, chosen)
    if outcomes and all(outcome.server is not None for outcome in outcomes.values()):
        text = ngettext("%(count)d server is added.", "%(count)d servers are added.", len(outcomes))
        messages.success(request, text % {"count": len(outcomes)})
        return redirect("mcp_oauth:settings", slug=slug)
    return _choose_page(request, place, going_on, outcomes, chosen)


@require_safe
@person_required
def export_page(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show the workspace's servers as an ``mcp.json``, or send it as a file; no secret is in it."""
    place = place_in(request.user, slug)
    asked_for = request.GET.get("form", "")
    form = next((form for form in FORMS if form == asked_for), FORMS[0])
    servers = list(_in_use(place).defer(*_NOT_EXPORTED))
    text = write_mcp_json(exported(servers), form)
    program, file = _FILES[form]
    if request.GET.get("download"):
        response = HttpResponse(text, content_type="application/json")
        response["Content-Disposition"] = 'attachment; filename="mcp.json"'
    else:
        context = {
            **page_context(request, place),
            "forms": [(key, _FILES[key][0], key == form) for key in FORMS],
            "form_key": form,
            "program": program,
            "file": file,
            "text": text,
            "count": len(servers),
            "with_headers": "${" in text,
            "back_url": reverse("mcp_oauth:settings", kwargs={"slug": slug}),
        }
        response = render(request, "mcp_oauth/export.html", context)
    response["Cache-Control"] = "no-store"
    return response


def _in_use(place: Place) -> QuerySet[McpServer]:
    return McpServer.objects.filter(workspace=place.workspace, enabled=True, removal_at__isnull=True)


_NOT_EXPORTED: Final = tuple(
    name for name in (*McpServer.SECRETS, "discover_result", "probe_steps", "oauth_options") if name != "headers"
)


def _taken_up(request: SignedInRequest, place: Place) -> Import:
    """Return the import that the page's draft carries, with what was entered since.

    Raises:
        InvalidRequest: it was kept for too long.
    """
    draft = open_draft(_PURPOSE, request.user, place.workspace, request.POST["draft"])
    going_on = Import(
        McpJson.from_json(draft["file"]), draft["answers"], {int(n): pk for n, pk in draft["done"].items()}
    )
    for number, placeholder in enumerate(going_on.file.asked_for()):
        # One left empty keeps what was entered before.
        if text := request.POST.get(f"answer-{number}", "").strip()[:8000]:
            going_on.answers[placeholder.key] = text
    return going_on


def _import(request: SignedInRequest, place: Place, going_on: Import, chosen: set[int]) -> dict[int, Imported]:
    """Import what was chosen and is not there yet; returns the outcomes by number."""
    ready: dict[int, ImportEntry] = {}
    outcomes: dict[int, Imported] = {}
    for number, entry in enumerate(going_on.file.entries):
        if number not in chosen or number in going_on.done or entry.problem:
            continue
        try:
            ready[number] = entry.filled(going_on.answers, going_on.file.placeholders)
        except McpOAuthError as error:
            outcomes[number] = Imported(error=error)
    added = import_servers(place.workspace, list(ready.values()), actor=request.user)
    for number, outcome in zip(ready, added, strict=True):
        outcomes[number] = outcome
        if outcome.server is not None:
            going_on.done[number] = str(outcome.server.pk)
    return outcomes


def _paste_page(request: SignedInRequest, place: Place, error: McpOAuthError | None = None) -> HttpResponse:
    context = {
        **page_context(request, place),
        "error": ErrorView.of(error) if error is not None else None,
        "back_url": reverse("mcp_oauth:settings", kwargs={"slug": place.workspace.slug}),
        "add_url": reverse("mcp_oauth:add", kwargs={"slug": place.workspace.slug}),
    }
    status = error.http_status if error is not None else 200
    return _private(render(request, "mcp_oauth/import.html", context, status=status))


def _choose_page(
    request: SignedInRequest,
    place: Place,
    going_on: Import,
    outcomes: Mapping[int, Imported] | None = None,
    chosen: set[int] | None = None,
) -> HttpResponse:
    """Show the file's servers to choose from; ``chosen`` is ``None`` before anything was."""
    outcomes = outcomes or {}
    slug = place.workspace.slug
    rows = McpServer.objects.filter(workspace=place.workspace).values_list("url", "name")
    names = {url.rstrip("/"): name for url, name in rows}
    entries = [
        _entry_view(number, entry, going_on, names, outcomes.get(number, Imported()), chosen, slug)
        for number, entry in enumerate(going_on.file.entries)
    ]
    wanted = {key for view in entries if chosen is not None and view.chosen for key in view.entry.placeholders}
    context = {
        **page_context(request, place),
        "entries": entries,
        "questions": [
            Question(
                number,
                placeholder,
                answered := bool(going_on.answers.get(placeholder.key)),
                missing=placeholder.key in wanted and not answered and not placeholder.default,
            )
            for number, placeholder in enumerate(going_on.file.asked_for())
        ],
        "draft": seal_draft(_PURPOSE, request.user, place.workspace, going_on.to_json()),
        "selectable": any(view.selectable for view in entries),
        "failed": any(outcome.error is not None for outcome in outcomes.values()),
        "nothing_chosen": chosen is not None and not outcomes,
        "back_url": reverse("mcp_oauth:settings", kwargs={"slug": slug}),
        "import_url": reverse("mcp_oauth:import_servers", kwargs={"slug": slug}),
    }
    return _private(render(request, "mcp_oauth/import_choose.html", context, status=200 if chosen is None else 400))


def _entry_view(
    number: int,
    entry: ImportEntry,
    going_on: Import,
    names: Mapping[str, str],
    outcome: Imported,
    chosen: set[int] | None,
    slug: str,
) -> EntryView:
    key = going_on.done.get(number)
    here = names.get(entry.url.rstrip("/"), "") if entry.url and key is None else ""
    selectable = not entry.problem and key is None
    return EntryView(
        number=number,
        entry=entry,
        hue=hue_of(entry.name),
        here=here,
        chosen=selectable and (not here if chosen is None else number in chosen),
        error=outcome.error.user_message if outcome.error is not None else "",
        next_step=outcome.error.next_step if outcome.error is not None else "",
        page_url=reverse("mcp_oauth:server", kwargs={"slug": slug, "server_id": key}) if key is not None else "",
    )


def _private(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response
