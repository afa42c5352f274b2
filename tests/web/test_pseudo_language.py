"""Every page in a language that marks each text it is given: what stands there unmarked was never given to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
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
    r"|\b\w+:[\w-]+\b|\boffline_access\b|\brepo\b|\b[A-Z]{2}\b|\b(GET|POST)\b|\{\w+\}|\b\w+_\w+\b"
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
            # What a search looks in, which has both languages, and the states that are narrowed down to.
            if name in {"data-search", "data-states"}:
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


def test_every_page_says_translated_words_only(
    pseudo: None, place: tuple[Workspace, User, dict[str, McpServer]]
) -> None:
    workspace, user, servers = place
    names = {server.name for server in servers.values()} | {workspace.name, workspace.slug, "Nightly"}
    names |= {name for person in User.objects.all() for name in (person.username, person.username[:2].upper())}
    names |= {known.name for known in known_servers().values()} | {"Claude", "VS Code", "Cursor", ".mcp.json"}
    names |= {DATA.sub(" ", server.contact_error) for server in servers.values() if server.contact_error}
    # What scopes are about is read out of them, and one operation of the API has a name of one word.
    names |= {"events", "issues", "pages", "jira work", "org", "complete"}
    client = browser_of(user)

    found: dict[str, str] = {}
    for path in paths(workspace, servers):
        answer = client.get(path, follow=True)
        assert answer.status_code in {200, 403, 404, 405, 409}, path
        # Each text once, with the first page that says it.
        found = {text: path for text in unmarked(answer.content.decode(), names)} | found

    assert found == {}
    assert unmarked(Client().get("/accounts/login/").content.decode(), set()) == []
