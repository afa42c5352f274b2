"""Servers come in from an ``mcp.json`` and go out as one: nothing is lost on the way, and no secret is shown."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from mcp_oauth.models import McpServer, Membership, Workspace
from mcp_oauth.services import known_servers as gallery
from tests.people import browser_of, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, HeaderServer, OddServer, OpenServer, ProtectedServer

pytestmark = pytest.mark.django_db(transaction=True)

ADMIN = Membership.Role.ADMIN
CANARY = "canary-90be"
JSON = {"accept": "application/json"}

Protect = Callable[..., ProtectedServer]
Serve = Callable[..., OpenServer]


@pytest.fixture
def workspace() -> Workspace:
    return new_workspace()


@pytest.fixture
def browser(workspace: Workspace) -> Client:
    return browser_of(member(workspace, role=ADMIN))


@pytest.fixture
def page_url(workspace: Workspace) -> str:
    return reverse("mcp_oauth:import_servers", kwargs={"slug": workspace.slug})


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", html.unescape(response.content.decode()))


def draft_of(response: Any) -> str:
    found = re.search(r'name="draft" value="([^"]*)"', response.content.decode())
    assert found is not None
    return found[1]


def pasted(document: Any) -> dict[str, str]:
    return {"text": document if isinstance(document, str) else json.dumps(document)}


def test_the_chosen_servers_are_added_and_the_others_are_not(
    workspace: Workspace, browser: Client, page_url: str, open_mcp_server: Serve, protected_mcp_server: Protect
) -> None:
    clock, notes, tracker = open_mcp_server(), open_mcp_server(), protected_mcp_server()
    entries = {"clock": {"url": clock.url}, "notes": {"url": notes.url}, "tracker": {"url": tracker.url}}

    choice = browser.post(page_url, pasted({"mcpServers": entries}))
    done = browser.post(page_url, {"draft": draft_of(choice), "chosen": ["0", "2"]}, follow=True)

    assert not clock.rpc_methods[5:]
    assert "2 servers are added." in text_of(done)
    assert {(server.name, server.auth_mode) for server in McpServer.objects.all()} == {
        ("clock", "none"),
        ("tracker", "oauth"),
    }
    assert notes.requests == []


def test_nothing_is_asked_before_the_person_chose(browser: Client, page_url: str, open_mcp_server: Serve) -> None:
    peer = open_mcp_server()

    browser.post(page_url, pasted({"servers": {"clock": {"url": peer.url}}}))

    assert peer.requests == []
    assert not McpServer.objects.exists()


def test_every_entry_is_listed_and_what_cannot_be_imported_says_why(browser: Client, page_url: str) -> None:
    entries = {
        "files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem"]},
        "linear": {"type": "sse", "url": "https://mcp.linear.app/sse"},
        "board": {"url": "https://board.example.com/mcp"},
    }

    page = browser.post(page_url, pasted({"mcpServers": entries}))

    text = text_of(page)
    assert "It starts a program on one's own computer" in text
    assert "Linear is at https://mcp.linear.app/mcp now." in text
    assert re.findall(r'name="chosen" value="(\d)"', page.content.decode()) == ["2"]


def test_a_server_that_is_here_already_is_told_and_not_chosen_beforehand(
    workspace: Workspace, browser: Client, page_url: str, open_mcp_server: Serve
) -> None:
    peer = open_mcp_server()
    new_server(workspace, peer.url, name="Old clock")

    page = browser.post(
        page_url, pasted({"servers": {"clock": {"url": f"{peer.url}"}, "b": {"url": "https://b.example/"}}})
    )

    assert "Already here as Old clock" in text_of(page)
    assert re.findall(r'value="(\d)" checked', page.content.decode()) == ["1"]


@pytest.mark.requirement("T41")
def test_keys_are_stored_sealed_and_shown_on_no_page(
    browser: Client, page_url: str, header_mcp_server: Callable[..., HeaderServer]
) -> None:
    peer = header_mcp_server("X-Api-Key", CANARY)
    document = {"servers": {"board": {"url": peer.url, "headers": {"X-Api-Key": CANARY, "Accept": "text/html"}}}}

    choice = browser.post(page_url, pasted(document))
    done = browser.post(page_url, {"draft": draft_of(choice), "chosen": "0"}, follow=True)

    server = McpServer.objects.get()
    assert (server.headers, server.auth_mode, server.auth_mode_source) == ({"X-Api-Key": CANARY}, "headers", "person")
    assert "The header “Accept” is set by the application itself and left out." in text_of(choice)
    assert "X-Api-Key" in text_of(choice)
    assert CANARY not in text_of(choice) + text_of(done)


VS_CODE = {
    "inputs": [
        {"id": "key", "type": "promptString", "description": "Key of the board", "password": True},
        {"id": "path", "type": "pickString", "description": "Path", "options": ["mcp", "other"], "default": "mcp"},
    ]
}


def test_what_the_file_leaves_open_is_asked_for_once_and_kept(
    browser: Client, page_url: str, header_mcp_server: Callable[..., HeaderServer], open_mcp_server: Serve
) -> None:
    peer, clock = header_mcp_server("X-Api-Key", CANARY), open_mcp_server()
    address = peer.url.removesuffix("mcp") + "${input:path}"
    entries = {"board": {"url": address, "headers": {"X-Api-Key": "${input:key}"}}, "clock": {"url": clock.url}}

    choice = browser.post(page_url, pasted({**VS_CODE, "servers": entries}))
    # A key is missing: the other server is added all the same, and only the first is left.
    first = browser.post(page_url, {"draft": draft_of(choice), "chosen": ["0", "1"], "answer-0": "mcp"})
    second = browser.post(page_url, {"draft": draft_of(first), "chosen": ["0", "1"], "answer-1": CANARY}, follow=True)

    assert "Key of the board" in text_of(choice)
    assert first.status_code == 400
    assert "“Key of the board” is still missing." in text_of(first)
    assert "entered; left empty, it stays" in text_of(first)
    assert re.findall(r'name="chosen" value="(\d)"', first.content.decode()) == ["0"]
    assert "1 server is added." in text_of(second)
    assert {(server.name, server.url) for server in McpServer.objects.all()} == {
        ("board", peer.url),
        ("clock", clock.url),
    }
    assert clock.rpc_methods.count("server/discover") == 1
    assert CANARY not in text_of(first) + text_of(second)


def test_one_that_fails_says_why_and_the_others_are_added(
    browser: Client, page_url: str, open_mcp_server: Serve, odd_server: Callable[..., OddServer]
) -> None:
    entries = {
        "page": {"url": odd_server("html").url},
        "nobody": {"url": "http://127.0.0.1:9/mcp"},
        "inside": {"url": "https://10.0.0.7/mcp"},
        "clock": {"url": open_mcp_server().url},
    }

    choice = browser.post(page_url, pasted({"mcpServers": entries}))
    failed = browser.post(page_url, {"draft": draft_of(choice), "chosen": ["0", "1", "2", "3"]})

    text = text_of(failed)
    assert failed.status_code == 400
    assert "Not everything was added" in text
    assert "answers, but not as an MCP server: a web page (HTML)" in text
    assert "10.0.0.7" in text
    assert [server.name for server in McpServer.objects.all()] == ["clock"]
    assert (
        reverse("mcp_oauth:server", args=[McpServer.objects.get().workspace.slug, McpServer.objects.get().pk]) in text
    )
    # What was chosen and failed is still chosen; what is added is not offered again.
    assert re.findall(r'value="(\d)" checked', failed.content.decode()) == ["0", "1", "2"]


def test_a_known_server_comes_with_its_name_and_options(
    browser: Client, page_url: str, open_mcp_server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = open_mcp_server()
    known = replace(gallery.known_servers()["atlassian"], url=peer.url)
    monkeypatch.setattr(gallery, "known_servers", lambda: {"atlassian": known})

    choice = browser.post(page_url, pasted({"mcpServers": {"jira": {"url": peer.url, "disabled": True}}}))
    browser.post(page_url, {"draft": draft_of(choice), "chosen": "0"})

    server = McpServer.objects.get()
    assert (server.name, server.oauth_options, server.enabled) == (
        "Atlassian",
        {"tolerate_issuer_mismatch": True},
        False,
    )


def test_a_key_in_the_file_wins_over_what_the_server_offers_besides(
    browser: Client, page_url: str, protected_mcp_server: Protect
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    headers = {"Authorization": f"Bearer {CANARY}"}

    choice = browser.post(page_url, pasted({"mcpServers": {"a": {"url": peer.url, "headers": headers}}}))
    browser.post(page_url, {"draft": draft_of(choice), "chosen": "0"})

    assert McpServer.objects.get().auth_mode == "headers"


def test_nothing_chosen_is_said(browser: Client, page_url: str) -> None:
    choice = browser.post(page_url, pasted({"servers": {"a": {"url": "https://a.example/"}}}))

    for chosen in ([], ["7"], ["x"]):
        answer = browser.post(page_url, {"draft": draft_of(choice), "chosen": chosen})
        assert answer.status_code == 400
        assert "Choose at least one server" in text_of(answer)


def test_asking_for_many_is_limited_and_the_rest_waits(
    browser: Client, page_url: str, open_mcp_server: Serve, settings: Any
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "ASKS_PER_MINUTE": 1}
    peers = [open_mcp_server(), open_mcp_server()]

    choice = browser.post(page_url, pasted({"servers": {f"s{n}": {"url": peer.url} for n, peer in enumerate(peers)}}))
    answer = browser.post(page_url, {"draft": draft_of(choice), "chosen": ["0", "1"]})

    assert "Wait" in text_of(answer)
    assert McpServer.objects.get().name == "s0"
    assert peers[1].requests == []


def test_asking_for_all_ends_with_the_time_for_it(
    browser: Client, page_url: str, settings: Any, open_mcp_server: Serve
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "IMPORT_SECONDS": 0.0}

    choice = browser.post(page_url, pasted({"servers": {"clock": {"url": open_mcp_server().url}}}))
    answer = browser.post(page_url, {"draft": draft_of(choice), "chosen": "0"})

    assert "the time was over" in text_of(answer)
    assert not McpServer.objects.exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Paste the contents of an mcp.json."),
        ('{"servers": {\n  oops', "breaks at line 2, column 3"),
        ('{"servers": {"a": {"headers": {"X": "' + CANARY + '"', "breaks at line 1"),
        ("{}", "There are no servers in it."),
        ("[" * 50_000, "nested too deeply"),
        ("x" * 300_000, "more than 256 KiB"),
    ],
)
def test_text_that_cannot_be_read_is_refused_where_it_was_pasted(
    text: str, problem: str, browser: Client, page_url: str
) -> None:
    page = browser.post(page_url, pasted(text))
    told = browser.post(page_url, pasted(text), headers=JSON)

    assert page.status_code == told.status_code == 400
    assert problem in text_of(page)
    assert problem in told.json()["error"]["message"]
    assert CANARY not in text_of(page)


def test_the_pages_script_looks_whether_a_file_can_be_read(browser: Client, page_url: str) -> None:
    told = browser.post(page_url, pasted({"servers": {"a": {"url": "https://a.example/"}}}), headers=JSON)

    assert told.json() == {"status": "readable"}


def test_a_draft_is_of_one_person_one_workspace_and_one_hour(
    workspace: Workspace, browser: Client, page_url: str, settings: Any
) -> None:
    draft = draft_of(browser.post(page_url, pasted({"servers": {"a": {"url": "https://a.example/"}}})))
    colleague = browser_of(member(workspace, role=ADMIN))
    again = {"draft": draft, "chosen": "0"}

    assert colleague.post(page_url, again).status_code == 400
    assert browser.post(page_url, {"draft": draft[:-3] + "AAA", "chosen": "0"}).status_code == 400
    assert browser.post(page_url, {"draft": "nonsense", "chosen": "0"}).status_code == 400
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "DRAFT_SECONDS": -1.0}
    late = browser.post(page_url, again)

    assert late.status_code == 400
    assert "kept for a while only" in text_of(late)
    assert not McpServer.objects.exists()


@pytest.mark.requirement("T37")
def test_markup_in_a_file_is_text(browser: Client, page_url: str) -> None:
    nasty = '"><script>alert(1)</script>\u202e'
    document = {
        "inputs": [{"id": nasty, "description": nasty}],
        "servers": {nasty: {"url": "https://a.example/${input:" + nasty + "}", "headers": {"X": "${" + nasty + "}"}}},
        nasty: nasty,
    }

    page = browser.post(page_url, pasted(document))

    assert page.status_code == 200
    assert b"<script>alert" not in page.content


# --- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["claude", "vscode", "cursor"])
def test_what_is_exported_comes_in_again_elsewhere_without_its_secrets(
    form: str,
    workspace: Workspace,
    browser: Client,
    header_mcp_server: Callable[..., HeaderServer],
    open_mcp_server: Serve,
) -> None:
    board, clock = header_mcp_server("X-Api-Key", CANARY), open_mcp_server()
    new_server(workspace, board.url, "Board", auth_mode="headers", headers={"X-Api-Key": CANARY})
    new_server(workspace, clock.url, "Clock")
    McpServer.objects.create(workspace=workspace, name="Off", slug="off", url="https://off.example/", enabled=False)
    export = reverse("mcp_oauth:export_servers", kwargs={"slug": workspace.slug})

    page = browser.get(export, {"form": form})
    file = browser.get(export, {"form": form, "download": "1"})
    other = new_workspace()
    elsewhere = browser_of(member(other, role=ADMIN))
    other_url = reverse("mcp_oauth:import_servers", kwargs={"slug": other.slug})
    choice = elsewhere.post(other_url, pasted(file.content.decode()))
    answers = {"draft": draft_of(choice), "chosen": ["0", "1"], "answer-0": CANARY}
    elsewhere.post(other_url, answers)

    assert file.headers["Content-Type"] == "application/json"
    assert file.headers["Content-Disposition"] == 'attachment; filename="mcp.json"'
    assert CANARY not in text_of(page) + text_of(file)
    assert "off.example" not in text_of(file)
    assert {server.url: server.headers for server in other.servers.all()} == {
        board.url: {"X-Api-Key": CANARY},
        clock.url: None,
    }


def test_a_member_exports_too_and_an_unknown_form_is_the_first_one(
    workspace: Workspace, open_mcp_server: Serve
) -> None:
    new_server(workspace, open_mcp_server().url, "Clock")
    export = reverse("mcp_oauth:export_servers", kwargs={"slug": workspace.slug})

    page = browser_of(member(workspace)).get(export, {"form": "emacs"})

    assert page.status_code == 200
    assert '"mcpServers"' in text_of(page)
    assert "Import instead" not in text_of(page)


@pytest.mark.requirement("T44")
def test_headers_that_cannot_be_read_any_more_keep_nothing_from_being_exported(
    workspace: Workspace, browser: Client
) -> None:
    McpServer.objects.create(
        workspace=workspace, name="A", slug="a", url="https://a.example/", auth_mode="headers", headers={"X": CANARY}
    )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE mcp_oauth_mcpserver SET headers = 'v1.00000000.AAAA'")

    page = browser.get(reverse("mcp_oauth:export_servers", kwargs={"slug": workspace.slug}))

    assert page.status_code == 200
    assert "https://a.example/" in text_of(page)
