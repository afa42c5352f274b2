"""Every page in a language that marks each text it is given: what stands there unmarked was never given to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from mcp_oauth.models import McpServer, Membership, Workspace
from mcp_oauth.services import api_tokens
from mcp_oauth.services.known_servers import known_servers
from tests.people import browser_of, member, new_workspace
from tests.web.states import write_every_state

pytestmark = pytest.mark.django_db(transaction=True)

# What a text is made of besides words: these stay outside the marks, so that what fills them is judged by itself.
_PLACEHOLDER = re.compile(r"(%\(\w+\)[-#0-9.]*[a-z]|%%|\{\w+\}|%s|<[^>]+>)")
_MARKED = re.compile(r"⟦[^⟦⟧]*⟧")
_WORD = re.compile(r"[^\W\d_]{2,}")
_SPOKEN_ATTRIBUTES = ("title", "aria-label", "alt", "placeholder", "content")
# Their content is code, or in a language of its own.
_NOT_PROSE = ("code", "pre", "script", "style", "kbd", "textarea")
_VOID = ("br", "hr", "img", "input", "link", "meta", "use", "wbr", "col", "source")

# What people and servers wrote, and the names of things.
DATA = re.compile(
    r"https?://\S+|\S+@example\.com|(\w|-)+(\.(\w|-)+)*\.(example|com)\b\S*|\b(OAuth|MCP|JSON|API|URL|ID|HTTP|UTC)\b"
    # Scopes, the initials of a name, the methods of HTTP, what a script fills in.
    r"|\b\w+:[\w-]+\b|\boffline_access\b|\brepo\b|\b[A-Z]{2}\b|\b(GET|HEAD|POST)\b|\{\w+\}|\b\w+_\w+\b"
)

# What Django's own templates leave in English, and values of columns.
ADMIN_DATA = (
    "NONE,NOARCHIVE",
    "True",
    "False",
    "None",
    "none",
    "Bearer",
    "client",
    "misconfigured",
    "refused",
    "/workspaces/",
    "/mcp/",
)


def mark(text: str) -> str:
    """Return a text with its words between marks."""
    parts = _PLACEHOLDER.split(text)
    return "".join(part if number % 2 or not part.strip() else f"⟦{part}⟧" for number, part in enumerate(parts))


@pytest.fixture
def pseudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything that asks for a translation get the text between marks, Django's own texts as well."""
    trans = "django.utils.translation._trans"
    monkeypatch.setattr(f"{trans}.gettext", lambda text: mark(str(text)))
    monkeypatch.setattr(f"{trans}.pgettext", lambda context, text: mark(str(text)))
    monkeypatch.setattr(f"{trans}.ngettext", lambda one, many, count: mark(str(one if count == 1 else many)))
    monkeypatch.setattr(f"{trans}.npgettext", lambda context, one, many, count: mark(str(one if count == 1 else many)))


class Words(HTMLParser):
    """Collects what a page says: its text, and the attributes that are read out or shown."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in _VOID and (self.silent or tag in _NOT_PROSE or (tag != "html" and "lang" in given)):
            self.silent.append(tag)
        if self.silent:
            return
        for name, value in attrs:
            # What a search looks in, which has both languages; what only scripts read.
            if name in {"data-search", "data-states", "data-inline-formset"}:
                continue
            if name == "content" and given.get("name") in {"viewport", "color-scheme"}:
                continue
            if value and (name in _SPOKEN_ATTRIBUTES or (name.startswith("data-") and " " in value)):
                self.said.append(value)

    def handle_endtag(self, tag: str) -> None:
        if self.silent and self.silent[-1] == tag:
            self.silent.pop()

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.said.append(data)


def unmarked(page: str, data: set[str]) -> list[str]:
    """Return what a page says outside of the marks and is not data."""
    words = Words()
    words.feed(page)
    found = []
    for text in words.said:
        rest = text
        while _MARKED.search(rest):
            rest = _MARKED.sub(" ", rest)
        # Names of several words first: a part of one may look like something else.
        longest_first = sorted(data, key=len, reverse=True)
        for known in longest_first:
            rest = rest.replace(known, " ") if " " in known else rest
        rest = DATA.sub(" ", rest)
        for known in longest_first:
            rest = rest.replace(known, " ")
        if _WORD.search(rest):
            found.append(" ".join(text.split()))
    return found


def test_what_is_not_translated_is_noticed() -> None:
    page = f'<html lang="en"><p title="Hidden">{mark("%(name)s is here")}</p><p>Bare</p><code>code</code>Ada</html>'

    assert unmarked(page % {"name": "Ada"}, {"Ada"}) == ["Hidden", "Bare"]
    assert unmarked(page % {"name": "somebody"}, {"Ada"}) == ["Hidden", "somebody⟦ is here⟧", "Bare"]


def new_row(workspace: Workspace, name: str, **columns: Any) -> McpServer:
    return McpServer.objects.create(workspace=workspace, name=name, slug=name.lower(), **columns)


@pytest.fixture
def place() -> tuple[Workspace, User, dict[str, McpServer]]:
    """Write a workspace with a server in every state, tools, tokens and a second member."""
    workspace = new_workspace()
    user = member(workspace, role=Membership.Role.ADMIN)
    member(workspace)
    servers = write_every_state(workspace, user)
    api_tokens.make_token(user, workspace, name="Nightly", days=30)
    return workspace, user, servers


def paths(workspace: Workspace, servers: dict[str, McpServer]) -> Iterator[str]:
    for name in ("settings", "members", "add", "import_servers", "export_servers"):
        yield reverse(f"mcp_oauth:{name}", args=[workspace.slug])
    for server in servers.values():
        for name in ("server", "edit", "delete", "waiting"):
            yield reverse(f"mcp_oauth:{name}", args=[workspace.slug, server.pk])
    for name in ("account", "disconnect_everything", "tokens", "api_docs", "new_workspace", "home"):
        yield reverse(f"mcp_oauth:{name}")
    yield "/nothing/here/"


def data_of(workspace: Workspace, servers: dict[str, McpServer]) -> set[str]:
    """Return what the pages of the place say that nobody translates."""
    names = {server.name for server in servers.values()} | {workspace.name, workspace.slug, "Nightly"}
    names |= {name for person in User.objects.all() for name in (person.username, person.username[:2].upper())}
    names |= {known.name for known in known_servers().values()} | {"Claude", "VS Code", "Cursor", ".mcp.json"}
    names |= {DATA.sub(" ", server.contact_error) for server in servers.values() if server.contact_error}
    # What a scope is about, where that is no known word; one operation of the API has a name of one word.
    names |= {"jira work", "complete"}
    return names


def test_every_page_says_translated_words_only(
    pseudo: None, place: tuple[Workspace, User, dict[str, McpServer]]
) -> None:
    workspace, user, servers = place
    names = data_of(workspace, servers)
    client = browser_of(user)

    found: dict[str, str] = {}
    for path in paths(workspace, servers):
        answer = client.get(path, follow=True)
        assert answer.status_code in {200, 403, 404, 405, 409}, path
        # Each text once, with the first page that says it.
        found = {text: path for text in unmarked(answer.content.decode(), names)} | found

    assert found == {}
    assert unmarked(Client().get("/accounts/login/").content.decode(), set()) == []


def test_every_answer_to_a_form_says_translated_words_only(
    pseudo: None, place: tuple[Workspace, User, dict[str, McpServer]]
) -> None:
    workspace, user, servers = place
    # Nobody listens on the discard port.
    server = new_row(workspace, "Nobody", url="http://127.0.0.1:9/mcp", auth_mode="none")
    names = data_of(workspace, servers) | {"Nobody", "Typed", "Bearer", "typed words", "KEY", "/mcp", "server/discover"}
    client = browser_of(user)

    def to(view: str, *about: Any) -> str:
        return reverse(f"mcp_oauth:{view}", args=about)

    at, of = workspace.slug, (workspace.slug, server.pk)
    file = (
        '{"mcpServers": {"Typed": {"url": "http://127.0.0.1:9/mcp", "headers": {"X-Key": "${KEY}"}}, "b": 1, "c": {}}}'
    )
    posts: list[tuple[str, dict[str, Any]]] = [
        (to("tokens"), {"name": "", "workspace": "", "days": "9999"}),
        (to("members", at), {"who": "typed words", "role": "admin"}),
        (to("add", at), {"url": "not an address"}),
        (to("add", at), {"url": "http://10.0.0.1/mcp"}),
        (to("add", at), {"url": server.url, "name": "Typed"}),
        (to("import_servers", at), {"text": "{"}),
        (to("import_servers", at), {"text": file}),
        (to("edit", *of), {"name": "", "url": "ftp://typed", "auth_mode": ""}),
        (to("edit", *of), {"name": "Typed", "url": server.url, "auth_mode": "headers", "headers": "Bearer"}),
        (to("refresh", *of), {}),
        (to("diagnose", *of), {}),
        (to("run", *of), {"tool": "typed_tool", "arguments": "{"}),
        (to("start"), {"server": str(server.pk)}),
        (to("start"), {"server": str(servers["Old CRM"].pk)}),
        (to("disconnect"), {"server": str(servers["Linear"].pk)}),
        (to("delete", *of), {}),
        (to("disconnect_everything"), {}),
    ]

    found: dict[str, str] = {}
    answers = [(path, client.post(path, data, follow=True)) for path, data in posts]
    answers += [(path, client.get(path)) for path in (to("callback"), f"{to('callback')}?state=none&code=none")]
    answers += [(path, client.get(path, follow=True)) for path in (to("settings", at), to("diagnose", *of))]
    for path, answer in answers:
        assert answer.status_code < 500, path
        found = {text: path for text in unmarked(answer.content.decode(), names)} | found

    assert found == {}
    assert len({answer.status_code for _path, answer in answers}) >= 3, "Refused in several ways."


def test_the_api_says_translated_words_only(pseudo: None, place: tuple[Workspace, User, dict[str, McpServer]]) -> None:
    workspace, user, servers = place
    client = browser_of(user)
    at = f"/api/v1/servers/{servers['Notion'].pk}/tools/"

    answers = [
        client.get(at),
        Client().get(at),
        client.get("/api/v1/servers/00000000-0000-4000-8000-000000000000/tools/"),
        client.post(f"{at}create_page/call/", "{", content_type="application/json"),
        client.delete(at),
    ]

    for answer in answers:
        error = answer.json()["error"]
        said = [error["message"], *([error["next_step"]] if "next_step" in error else [])]
        left = [text for text in said if unmarked(text, data_of(workspace, servers))]
        assert left == [], (answer.status_code, error)
    assert {answer.status_code for answer in answers} >= {400, 401, 404}


def test_the_admin_says_translated_words_only(
    pseudo: None, place: tuple[Workspace, User, dict[str, McpServer]]
) -> None:
    workspace, user, servers = place
    User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=True)
    client = browser_of(User.objects.get(pk=user.pk))
    shown = [model for model in apps.get_app_config("mcp_oauth").get_models() if model in admin.site._registry]
    names = data_of(workspace, servers) | set(ADMIN_DATA) | {server.slug for server in servers.values()}

    found: dict[str, str] = {}
    for model in shown:
        place_of = f"/admin/mcp_oauth/{model._meta.model_name}/"
        one = model._default_manager.first()
        for path in [place_of, f"{place_of}add/", *([f"{place_of}{one.pk}/change/"] if one is not None else [])]:
            answer = client.get(path)
            assert answer.status_code in {200, 403}, path
            found = {text: path for text in unmarked(answer.content.decode(), names)} | found

    assert len(shown) > 5
    assert found == {}
