"""The commands over real servers: results as JSON, typed errors with their code, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from mcp_oauth.models import ApiToken, McpServer, McpServerOAuth, Workspace
from mcp_oauth.services.api_tokens import make_token
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, HeaderServer, OddServer, OpenServer, ProtectedServer

pytestmark = pytest.mark.django_db(transaction=True)

NO_CIMD = AuthorizationServerOptions(cimd=False)


def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run a command with ``--json``; returns exit code, document and what went to standard error."""
    out, err = StringIO(), StringIO()
    try:
        call_command(*arguments, "--json", stdout=out, stderr=err)
    except SystemExit as stop:
        return int(str(stop.code)), json.loads(out.getvalue()), err.getvalue()
    return 0, json.loads(out.getvalue()), err.getvalue()


def test_a_workspace_is_added_with_its_people() -> None:
    User.objects.create_user("ada")
    User.objects.create_user("grace")

    code, result, _ = run("add_workspace", "Acme", "--slug", "acme", "--admin", "ada", "--member", "grace")

    assert code == 0
    workspace = Workspace.objects.get(slug="acme")
    assert result["workspace"]["id"] == str(workspace.pk)
    roles = {item.user.get_username(): item.role for item in workspace.memberships.all()}
    assert roles == {"ada": "admin", "grace": "member"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["Acme", "--slug", "taken"], "invalid_request"),
        (["Acme", "--slug", "Not A Slug"], "invalid_request"),
        (["", "--slug", "fine"], "invalid_request"),
        (["Acme", "--slug", "fine", "--admin", "nobody"], "not_found"),
    ],
)
def test_a_workspace_that_cannot_be_added_is_refused_with_a_code(arguments: list[str], error: str) -> None:
    new_workspace("taken")

    code, result, words = run("add_workspace", *arguments)

    assert (code, result["error"]["code"]) == (1, error)
    assert words.startswith(f"{error}: ")
    assert Workspace.objects.count() == 1


def test_a_protected_server_is_added_connected_listed_and_called(
    protected_mcp_server: Callable[..., ProtectedServer], person: Any
) -> None:
    peer = protected_mcp_server(as_options=NO_CIMD)
    workspace = new_workspace("acme")
    member(workspace, "ada")

    code, added, _ = run("add_mcp_server", "Tracker", peer.url, "--workspace", "acme")
    assert (code, added["server"]["reference"], added["server"]["auth_mode"]) == (0, "acme/tracker", "oauth")
    assert [step["verdict"] for step in added["server"]["steps"]] == ["challenge", "ok"]

    code, refused, _ = run("list_mcp_tools", "--server", "acme/tracker", "--user", "ada")
    assert (code, refused["error"]["code"], refused["error"]["reason"]) == (1, "reauth_required", "not_connected")
    assert refused["error"]["connect_url"].startswith("http://127.0.0.1:8000/workspaces/acme/mcp/")

    connect(browser_of(User.objects.get(username="ada")), McpServer.objects.get(), person("ada"))

    code, listed, _ = run("list_mcp_tools", "--server", "acme/tracker", "--user", "ada")
    assert (code, {tool["name"] for tool in listed["tools"]}) == (0, {"echo", "add", "whoami", "fail"})

    code, called, _ = run("call_mcp_tool", "acme/tracker", "add", "--user", "ada", "--args", '{"a": 2, "b": 3}')
    assert code == 0
    assert called["result"]["structuredContent"] == {"total": 5}


def test_open_and_header_servers_are_listed_without_a_person(
    open_mcp_server: Callable[..., OpenServer], header_mcp_server: Callable[..., HeaderServer]
) -> None:
    new_workspace("acme")
    clock, board = open_mcp_server("modern"), header_mcp_server("X-Api-Key", "a-key")
    assert run("add_mcp_server", "Clock", clock.url, "--workspace", "acme")[1]["server"]["auth_mode"] == "none"
    added = run("add_mcp_server", "Board", board.url, "--workspace", "acme", "--header", "X-Api-Key: a-key")[1]
    assert (added["server"]["auth_mode"], added["server"]["auth_mode_source"]) == ("headers", "person")

    code, listed, _ = run("list_mcp_tools")

    assert code == 0
    assert {item["server"]: len(item["tools"]) for item in listed["servers"]} == {"acme/board": 4, "acme/clock": 4}


def test_one_server_that_fails_does_not_hide_the_others(
    open_mcp_server: Callable[..., OpenServer], protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    workspace = new_workspace("acme")
    ada = member(workspace, "ada")
    new_server(workspace, protected_mcp_server().url, "Tracker")
    new_server(workspace, open_mcp_server("legacy").url, "Clock")

    code, listed, _ = run("list_mcp_tools", "--user", ada.get_username())

    assert code == 0
    by_name = {item["server"]: item for item in listed["servers"]}
    assert by_name["acme/tracker"]["error"]["code"] == "reauth_required"
    assert len(by_name["acme/clock"]["tools"]) == 4


def test_a_server_that_is_none_is_not_added(odd_server: Callable[[str], OddServer]) -> None:
    new_workspace("acme")
    peer = odd_server("html")

    code, result, words = run("add_mcp_server", "Wiki", peer.url, "--workspace", "acme")

    assert (code, result["error"]["code"], result["error"]["document"]) == (1, "server_refused", peer.url)
    assert peer.url in words
    assert not McpServer.objects.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["call_mcp_tool", "acme/clock", "echo", "--user", "ada", "--args", "{"],
        ["call_mcp_tool", "acme/clock", "echo", "--user", "ada", "--args", "[]"],
        ["add_mcp_server", "X", "https://x.example", "--workspace", "acme", "--client-secret-stdin"],
        ["refresh_mcp_tokens", "--within", "-1"],
    ],
)
def test_a_usage_error_exits_with_two(arguments: list[str]) -> None:
    with pytest.raises(CommandError) as refused:
        call_command(*arguments, stdout=StringIO(), stderr=StringIO())
    assert refused.value.returncode == 2


def test_an_unknown_tool_and_an_unknown_server_are_told_apart(open_mcp_server: Callable[..., OpenServer]) -> None:
    workspace = new_workspace("acme")
    member(workspace, "ada")
    new_server(workspace, open_mcp_server("modern").url, "Clock")

    assert run("call_mcp_tool", "acme/clock", "nothing", "--user", "ada")[1]["error"]["code"] == "tool_not_found"
    assert run("call_mcp_tool", "acme/other", "echo", "--user", "ada")[1]["error"]["code"] == "not_found"
    assert run("call_mcp_tool", "acme/clock", "echo", "--user", "nobody")[1]["error"]["code"] == "not_found"


def test_idle_grants_are_renewed_once_ahead_of_time(
    protected_mcp_server: Callable[..., ProtectedServer], person: Any
) -> None:
    peer = protected_mcp_server(as_options=NO_CIMD)
    workspace = new_workspace("acme")
    ada = member(workspace, "ada")
    server = new_server(workspace, peer.url)
    before = connect(browser_of(ada), server, person("ada"))
    peer.authorization_server.requests.clear()

    names = ("events_forgotten", "calls_interrupted", "calls_expired", "calls_erased", "calls_forgotten")
    nothing_old = {"failed": [], "servers_removed": [], **dict.fromkeys(names, 0)}
    assert run("refresh_mcp_tokens", "--within", "60")[1] == {"refreshed": 0, **nothing_old}
    assert run("refresh_mcp_tokens", "--within", "7200")[1] == {"refreshed": 1, **nothing_old}

    after = McpServerOAuth.objects.get()
    assert after.access_token != before.access_token
    assert [request.form["grant_type"] for request in peer.authorization_server.requests] == ["refresh_token"]

    peer.authorization_server.revoke_refresh_tokens()
    failed = run("refresh_mcp_tokens", "--within", "7200")[1]["failed"]
    assert [(item["server"], item["user"], item["code"]) for item in failed] == [
        ("acme/tracker", "ada", "reauth_required")
    ]


def test_check_shows_each_step_and_stores_nothing(protected_mcp_server: Callable[..., ProtectedServer]) -> None:
    peer = protected_mcp_server()

    code, result, _ = run("check_mcp_server", peer.url)

    assert (code, result["auth_mode"]) == (0, "oauth")
    assert [(step["what"], step["status"], step["verdict"]) for step in result["steps"] if step["method"]] == [
        ("server/discover", 401, "challenge"),
        ("protected resource metadata", 200, "ok"),
        ("authorization server metadata", 200, "ok"),
        ("a code that nobody issued", 401, "ok"),
    ]
    assert not McpServer.objects.exists()


def test_an_api_token_is_made_used_and_revoked() -> None:
    member(new_workspace("acme"), "ada")

    code, made, _ = run("add_api_token", "acme", "--user", "ada", "--name", "Nightly report", "--days", "7")
    assert (code, made["workspace"], made["user"]) == (0, "acme", "ada")
    assert made["token"].startswith(made["hint"])
    program = Client(headers={"authorization": f"Bearer {made['token']}"})
    assert program.get("/api/v1/servers/").json() == {"servers": []}

    code, revoked, _ = run("revoke_api_token", made["hint"])
    assert (code, revoked) == (
        0,
        {"id": made["id"], "hint": made["hint"], "name": "Nightly report", "revoked": True},
    )
    assert program.get("/api/v1/servers/").status_code == 401
    assert run("revoke_api_token", made["id"])[1]["revoked"] is False


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["acme", "--user", "nobody", "--name", "x"], "not_found"),
        (["nowhere", "--user", "ada", "--name", "x"], "not_found"),
        (["acme", "--user", "ada", "--name", ""], "invalid_request"),
        (["acme", "--user", "ada", "--name", "x", "--days", "366"], "invalid_request"),
    ],
)
def test_an_api_token_that_cannot_be_is_refused_with_a_code(arguments: list[str], error: str) -> None:
    member(new_workspace("acme"), "ada")

    assert run("add_api_token", *arguments)[1]["error"]["code"] == error
    assert not ApiToken.objects.exists()


def test_a_token_that_is_not_there_or_not_the_only_one_is_not_revoked() -> None:
    workspace = new_workspace()
    user = member(workspace)
    tokens = [make_token(user, workspace, name).token for name in ("One", "Two")]
    ApiToken.objects.update(hint="mcpo_abcdef")

    assert run("revoke_api_token", "mcpo_fedcba")[1]["error"]["code"] == "not_found"
    assert run("revoke_api_token", "mcpo_abcdef")[1]["error"]["code"] == "invalid_request"
    assert run("revoke_api_token", str(tokens[0].pk))[1]["revoked"] is True
    # Of two that begin so, one is left.
    assert run("revoke_api_token", "mcpo_abcdef")[1]["id"] == str(tokens[1].pk)
