"""A workspace's pages and JSON as the people of two workspaces meet them: who gets where, and what bad input does."""

from __future__ import annotations

import html
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from mcp_oauth import api
from mcp_oauth.forms import ServerForm
from mcp_oauth.models import (
    AuthorizationFlow,
    McpServer,
    McpServerOAuth,
    Membership,
    StoredListing,
    ToolCall,
    Workspace,
)
from mcp_oauth.urls import urlpatterns
from mcp_oauth.views.access import MediaResponse
from project.security import CONTENT_SECURITY_POLICY, MEDIA_POLICY
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, start
from tests.servers import AuthorizationServerOptions, HeaderServer, OddServer, OpenServer, Person, ProtectedServer
from tests.servers.conversing import Conversation

pytestmark = pytest.mark.django_db(transaction=True)

ADMIN = Membership.Role.ADMIN
CANARY = "canary-51c8"
# Nobody listens on the discard port.
NOBODY = "http://127.0.0.1:9/mcp"
JSON = "application/json"
OF_A_SERVER = ("server", "run", "edit", "delete", "keep", "refresh", "diagnose", "waiting")
OF_A_WORKSPACE = ("settings", "add", "ask", "import_servers", "export_servers", "members", "tools", "activity")
# An administrator agreed to everything that a change ends.
AGREED = {"agreed": ["grants", "flows", "secrets"]}

Answer = Any
Serve = Callable[..., OpenServer]
Protect = Callable[..., ProtectedServer]


def path_to(name: str, server: McpServer, slug: str = "") -> str:
    """Return the address of a view for a server, in its own workspace unless another one is named."""
    slug = slug or server.workspace.slug
    # Of whoever is in that workspace longest.
    memberships = Membership.objects.filter(workspace_id=server.workspace_id).order_by("created_at")
    membership_id = memberships.values_list("pk", flat=True).first() or uuid.uuid4()
    wanted: dict[str, dict[str, Any]] = {
        **{key: {"slug": slug, "server_id": server.pk} for key in OF_A_SERVER},
        **{key: {"slug": slug} for key in OF_A_WORKSPACE},
        **{key: {"slug": slug, "membership_id": membership_id} for key in ("member_role", "member_remove")},
        "revoke_token": {"token_id": server.pk},
        "waiting_call": {"slug": slug, "server_id": server.pk, "call_id": server.pk},
        "api_tools": {"server_id": server.pk},
        "api_call": {"server_id": server.pk, "name": "echo"},
    }
    return reverse(f"mcp_oauth:{name}", kwargs=wanted.get(name))


def stored_server(workspace: Workspace, name: str = "Tracker", **columns: Any) -> McpServer:
    """Write a server without asking it."""
    values = {"url": NOBODY, "slug": f"s-{uuid.uuid4().hex[:8]}", **columns}
    return McpServer.objects.create(workspace=workspace, name=name, **values)


def text_of(response: Answer) -> str:
    return html.unescape(response.content.decode())


def typed(**changes: str) -> dict[str, str]:
    """Return what a browser sends from the server form."""
    return {"name": "Typed name", "url": NOBODY, "auth_mode": "", "enabled": "on", **changes}


def post_json(client: Client, path: str, body: Any = None, **more: Any) -> Answer:
    data = body if isinstance(body, str | bytes) else json.dumps({} if body is None else body)
    return client.post(path, data, content_type=JSON, **more)


# --- who gets where ---------------------------------------------------------------------------------------------------

LOGIN = 302
# View, method: the status for nobody, a member, an administrator and a member of another workspace.
MATRIX: dict[tuple[str, str], tuple[int, int, int, int]] = {
    ("home", "get"): (LOGIN, 302, 302, 302),
    ("settings", "get"): (LOGIN, 200, 200, 404),
    ("tools", "get"): (LOGIN, 200, 200, 404),
    ("activity", "get"): (LOGIN, 200, 200, 404),
    ("add", "get"): (LOGIN, 403, 200, 404),
    ("add", "post"): (LOGIN, 403, 400, 404),
    ("ask", "post"): (LOGIN, 403, 400, 404),
    ("import_servers", "get"): (LOGIN, 403, 200, 404),
    ("import_servers", "post"): (LOGIN, 403, 400, 404),
    ("export_servers", "get"): (LOGIN, 200, 200, 404),
    ("members", "get"): (LOGIN, 200, 200, 404),
    ("members", "post"): (LOGIN, 403, 400, 404),
    ("member_role", "post"): (LOGIN, 403, 400, 404),
    ("member_remove", "get"): (LOGIN, 403, 200, 404),
    ("member_remove", "post"): (LOGIN, 403, 302, 404),
    ("new_workspace", "get"): (LOGIN, 403, 403, 403),
    ("new_workspace", "post"): (LOGIN, 403, 403, 403),
    ("account", "get"): (LOGIN, 200, 200, 200),
    ("disconnect_everything", "get"): (LOGIN, 200, 200, 200),
    ("disconnect_everything", "post"): (LOGIN, 200, 200, 200),
    ("server", "get"): (LOGIN, 200, 200, 404),
    ("run", "get"): (LOGIN, 200, 200, 404),
    ("run", "post"): (LOGIN, 404, 404, 404),
    ("edit", "get"): (LOGIN, 403, 200, 404),
    ("edit", "post"): (LOGIN, 403, 400, 404),
    ("refresh", "post"): (LOGIN, 302, 302, 404),
    ("diagnose", "get"): (LOGIN, 403, 200, 404),
    ("diagnose", "post"): (LOGIN, 403, 200, 404),
    ("start", "post"): (LOGIN, 409, 409, 404),
    ("callback", "get"): (401, 400, 400, 400),
    ("cancel", "post"): (LOGIN, 302, 302, 302),
    ("decline", "post"): (LOGIN, 302, 302, 404),
    ("disconnect", "post"): (LOGIN, 302, 302, 404),
    ("client_metadata", "get"): (200, 200, 200, 200),
    ("waiting", "get"): (LOGIN, 200, 200, 404),
    # Nobody's call has this id; whose calls are shown to whom is in test_waiting_pages.py.
    ("waiting_call", "get"): (LOGIN, 404, 404, 404),
    ("waiting_call", "post"): (LOGIN, 404, 404, 404),
    ("tokens", "get"): (LOGIN, 200, 200, 200),
    ("tokens", "post"): (LOGIN, 400, 400, 400),
    ("revoke_token", "post"): (LOGIN, 404, 404, 404),
    ("api_docs", "get"): (LOGIN, 200, 200, 200),
    # Last, for it ends the server.
    ("delete", "get"): (LOGIN, 403, 200, 404),
    ("delete", "post"): (LOGIN, 403, 302, 404),
    ("keep", "post"): (LOGIN, 403, 302, 404),
}


def test_the_matrix_names_every_view() -> None:
    # What programs ask for has a matrix of its own, in test_api.py.
    programs = {pattern.name for pattern in api.urlpatterns} - {"api_docs"}
    # Everybody chooses a language, see test_languages.py.
    assert {name for name, _method in MATRIX} == {pattern.name for pattern in urlpatterns} - programs - {"language"}


@pytest.mark.requirement("T39")
@pytest.mark.parametrize(("view", "method"), MATRIX)
def test_each_role_gets_where_it_may(view: str, method: str, open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server().url)
    member(workspace, "colleague")
    path = path_to(view, server)
    people = [
        Client(),
        browser_of(member(workspace)),
        browser_of(member(new_workspace(), role=ADMIN)),
        browser_of(member(workspace, role=ADMIN)),
    ]
    nobody, plain, admin, stranger = MATRIX[view, method]

    def answer(client: Client) -> Answer:
        return getattr(client, method)(path, {"server": str(server.pk)} if method == "post" else {})

    answers = [answer(client) for client in people]

    assert [answer.status_code for answer in answers] == [nobody, plain, stranger, admin]
    if nobody == LOGIN:
        assert answers[0].headers["Location"].startswith("/accounts/login/?next=")
    if stranger == 404:
        assert server.name not in text_of(answers[2])
        assert server.url not in text_of(answers[2])
    assert (McpServer.objects.get().removal_at is not None) == ((view, method) == ("delete", "post"))


@pytest.mark.requirement("T39")
@pytest.mark.parametrize(("view", "method"), [key for key in MATRIX if key[0] in OF_A_SERVER])
def test_another_workspaces_server_is_not_found_under_ones_own(view: str, method: str) -> None:
    own, other = new_workspace(), new_workspace()
    server = stored_server(other)
    alone, both = member(own, role=ADMIN), member(own, role=ADMIN)
    Membership.objects.create(workspace=other, user=both, role=ADMIN)

    for user in (alone, both):
        assert getattr(browser_of(user), method)(path_to(view, server, own.slug)).status_code == 404
    assert McpServer.objects.get().probed_at is None


def test_a_role_is_one_of_each_workspace_and_not_of_the_person() -> None:
    first, second = new_workspace(), new_workspace()
    user = member(first, role=ADMIN)
    Membership.objects.create(workspace=second, user=user)
    server = stored_server(second)
    client = browser_of(user)

    assert client.get(path_to("add", server)).status_code == 403
    assert client.post(path_to("delete", server)).status_code == 403
    assert client.get(path_to("add", server, first.slug)).status_code == 200
    assert McpServer.objects.exists()


@pytest.mark.parametrize("view", ["settings", "server", "start", "cancel", "disconnect", "refresh"])
def test_a_view_answers_its_own_method_only(view: str) -> None:
    workspace = new_workspace()
    server = stored_server(workspace)
    client = browser_of(member(workspace, role=ADMIN))
    other = "get" if (view, "post") in MATRIX else "post"

    assert getattr(client, other)(path_to(view, server)).status_code == 405


def test_somebody_without_a_workspace_is_told_so() -> None:
    response = browser_of(member()).get(reverse("mcp_oauth:home"))

    assert response.status_code == 200
    assert "you are not a member of a workspace" in text_of(response)


# --- an administrator adds, edits and deletes -------------------------------------------------------------------------


def test_an_administrator_adds_edits_and_deletes_a_server(open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    client = browser_of(member(workspace, role=ADMIN))
    first, second = open_mcp_server(), open_mcp_server()
    add = reverse("mcp_oauth:add", kwargs={"slug": workspace.slug})

    response = client.post(add, typed(name="Board", url=f"  {first.url} "), follow=True)

    server = McpServer.objects.get()
    assert (server.name, server.url, server.auth_mode, server.auth_mode_source) == ("Board", first.url, "none", "probe")
    assert "Board: Open; nobody needs to sign in." in text_of(response)

    form = client.get(path_to("edit", server)).context["form"]
    same = {name: form[name].value() for name in form.fields}
    asked = len(first.requests)
    data = {name: value for name, value in same.items() if value not in (None, False)}
    response = client.post(path_to("edit", server), {**data, "name": "Big board"}, follow=True)

    server.refresh_from_db()
    assert (server.name, server.generation) == ("Big board", 1)
    assert "Big board is saved." in text_of(response)
    assert len(first.requests) == asked

    response = client.post(path_to("edit", server), {**data, "url": second.url}, follow=True)

    server.refresh_from_db()
    assert (server.url, server.generation) == (second.url, 2)
    assert "People have to connect to it again." in text_of(response)

    response = client.post(path_to("delete", server), {"now": "1"}, follow=True)

    assert not McpServer.objects.exists()
    assert "Board is removed." in text_of(response)


@pytest.mark.requirement("ext-ema-rotation", "T41")
def test_secrets_are_kept_replaced_and_removed_through_the_form(header_mcp_server: Callable[..., HeaderServer]) -> None:
    peer = header_mcp_server("X-Api-Key", f"{CANARY}-1")
    workspace = new_workspace()
    client = browser_of(member(workspace, role=ADMIN))
    secrets = {"headers": f"X-Api-Key: {CANARY}-1", "client_id": "app", "client_secret": f"{CANARY}-2"}
    data = typed(url=peer.url, auth_mode="headers", client_id="app", scopes=" read  write ")
    add = reverse("mcp_oauth:add", kwargs={"slug": workspace.slug})

    pages = [client.post(add, {**data, **secrets}, follow=True)]
    server = McpServer.objects.get()
    stored = ({"X-Api-Key": f"{CANARY}-1"}, f"{CANARY}-2", {"scopes": "read write"})
    assert (server.headers, server.client_secret, server.oauth_options) == stored

    pages.append(client.get(path_to("edit", server)))
    pages.append(client.post(path_to("edit", server), {**data, "name": "Again"}, follow=True))
    server = McpServer.objects.get()
    assert (server.headers, server.client_secret, server.oauth_options) == stored
    assert (server.name, server.generation) == ("Again", 1)

    cleared = {**data, "clear_headers": "on", "clear_client_secret": "on", "scopes": ""}
    pages.append(client.post(path_to("edit", server), cleared, follow=True))
    server = McpServer.objects.get()
    assert (server.headers, server.client_secret, server.oauth_options) == (None, None, {})
    assert all(CANARY not in text_of(page) for page in pages)


# --- bad input --------------------------------------------------------------------------------------------------------

BAD_ADDRESSES = {
    "": "This field is required",
    "mcp.example.com": "http",
    "ftp://mcp.example.com/mcp": "http",
    "javascript:alert(1)": "http",
    "https://": "host",
    "https://user:word@mcp.example.com/mcp": "must not contain a user name or password",
    "https://mcp.example.com/mcp#part": "must not contain a fragment",
    "http://mcp.example.com/mcp": "https",
    "https://mcp.example.com/a b": "space",
    "http://[": "address",
    "https://10.0.0.7/mcp": "10.0.0.7",
    "https://169.254.169.254/latest/": "169.254.169.254",
}
BAD_HEADERS = {
    "no colon": "Line 1 is not of the form",
    "X-Key: good\nX-Other:": "Line 2 is not of the form",
    f"Host: {CANARY}": "is set by the application itself",
    f"Mcp-Session-Id: {CANARY}": "is set by the application itself",
    f"X Key: {CANARY}": "is not the name of a header",
    f"X-Key: {CANARY}-ü": "must be printable ASCII",
    f"X-Key: {CANARY}\x1b": "must be printable ASCII",
    "\n".join(f"X-{number}: 1" for number in range(21)): "At most 20 headers",
}
MISTAKES: list[tuple[dict[str, str], str]] = [
    *[({"url": address}, problem) for address, problem in BAD_ADDRESSES.items()],
    *[({"headers": headers, "auth_mode": "headers"}, problem) for headers, problem in BAD_HEADERS.items()],
    ({"name": " "}, "This field is required"),
    ({"name": "n" * 121}, "at most 120 characters"),
    ({"auth_mode": "magic"}, "is not one of the available choices"),
    ({"client_secret": CANARY}, "needs the client ID it belongs to"),
    ({"client_issuer": "https://as.example.com"}, "needs the client ID, or the token to register with"),
    ({"client_id": "app", "initial_access_token": CANARY}, "of no use beside a client that is registered already"),
    ({"initial_access_token": f"{CANARY} ü"}, "A token to register with is one line of printable ASCII"),
    ({"client_id": "app", "client_issuer": "http://as.example.com"}, "must be the https address"),
    ({"scopes": 'read "quoted"'}, "scopes contains a character"),
    ({"name": "nul\x00"}, "Null characters are not allowed"),
]


@pytest.mark.parametrize("kind", ["workload", "enterprise"])
def test_kinds_with_options_of_their_own_are_kept_here_and_entered_elsewhere(kind: str) -> None:
    fresh = dict(ServerForm().fields["auth_mode"].choices)  # type: ignore[attr-defined]
    set_up = ServerForm(server=McpServer(name="Tracker", auth_mode=kind, auth_mode_source="person"))

    assert kind not in fresh
    assert kind in dict(set_up.fields["auth_mode"].choices)  # type: ignore[attr-defined]
    assert "oauth" in fresh


def refused(response: Answer, problem: str, given: dict[str, str]) -> None:
    """Expect the form back: it names the problem, has what was typed, and none of the secrets."""
    page = text_of(response)
    assert response.status_code == 400
    assert problem in page
    form = response.context["form"]
    for name in {"name", "url", "auth_mode", "client_id", "client_issuer", "scopes"} & set(given):
        assert form[name].value() == given[name]
    assert CANARY not in page
    assert "Nothing was saved yet" in page


@pytest.mark.parametrize(("changes", "problem"), MISTAKES)
@pytest.mark.parametrize("view", ["add", "edit"])
def test_a_mistake_is_named_and_nothing_is_stored(view: str, changes: dict[str, str], problem: str) -> None:
    workspace = new_workspace()
    before = stored_server(workspace, headers={"X-Api-Key": "kept"})
    columns = McpServer.objects.values().get()
    given = typed(**changes)

    response = browser_of(member(workspace, role=ADMIN)).post(path_to(view, before), given)

    refused(response, problem, given)
    assert McpServer.objects.values().get() == columns


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("html", "answers, but not as an MCP server: a web page (HTML)"),
        ("http500", "answers, but not as an MCP server: status 500"),
        ("silent", "check the address"),
        ("ok_to_everything", "answers, but not as an MCP server: an answer that is not JSON-RPC"),
        ("nobody", "check the address"),
    ],
)
@pytest.mark.parametrize("view", ["add", "edit"])
def test_what_is_no_mcp_server_is_named_and_nothing_is_stored(
    view: str, kind: str, problem: str, odd_server: Callable[..., OddServer]
) -> None:
    workspace = new_workspace()
    before = stored_server(workspace, url="http://127.0.0.1:9/other")
    columns = McpServer.objects.values().get()
    given = typed(url=NOBODY if kind == "nobody" else odd_server(kind).url)

    response = browser_of(member(workspace, role=ADMIN)).post(path_to(view, before), given)

    refused(response, problem, given)
    assert given["url"] in text_of(response)
    assert McpServer.objects.values().get() == columns


@pytest.mark.requirement("T41")
def test_a_typed_header_is_not_rendered_back_after_an_error_while_name_and_address_are() -> None:
    workspace = new_workspace()
    client = browser_of(member(workspace, role=ADMIN))
    add = reverse("mcp_oauth:add", kwargs={"slug": workspace.slug})
    secrets = {"headers": f"X-Api-Key: {CANARY}", "client_id": "app", "client_secret": CANARY}

    # One mistake is the form's own, the other is only known once the server was asked.
    for url in ("ftp://mcp.example.com", NOBODY):
        response = client.post(add, typed(name="Remember me", url=url, **secrets))

        page = text_of(response)
        assert CANARY not in page
        assert 'value="Remember me"' in page
        assert f'value="{url}"' in page
        errors = response.context["form"].errors
        assert all("Enter it once more" in str(errors[name]) for name in ("headers", "client_secret"))
    assert not McpServer.objects.exists()


def test_a_site_that_does_not_know_its_address_says_so_where_it_would_be_copied(settings: Any) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "PUBLIC_URL": ""}
    server = stored_server(new_workspace())
    page = browser_of(member(server.workspace, role=ADMIN)).get(path_to("edit", server))

    assert page.status_code == 200
    assert "does not know its own public address" in page.content.decode()


def test_a_form_without_typed_secrets_asks_for_none() -> None:
    workspace = new_workspace()
    add = reverse("mcp_oauth:add", kwargs={"slug": workspace.slug})

    response = browser_of(member(workspace, role=ADMIN)).post(add, typed())

    assert "Enter it once more" not in text_of(response)


def test_a_browser_fills_no_saved_password_into_the_client_secret() -> None:
    server = stored_server(new_workspace())

    form = browser_of(member(server.workspace, role=ADMIN)).get(path_to("edit", server)).context["form"]

    assert 'autocomplete="new-password"' in str(form["client_secret"])


def test_a_wrong_password_is_named_and_the_name_stays() -> None:
    member(name="ada")
    client = Client()

    response = client.post(reverse("login"), {"username": "ada", "password": CANARY})

    assert response.status_code == 200
    assert "Please enter a correct username and password" in text_of(response)
    assert 'value="ada"' in text_of(response)
    assert CANARY not in text_of(response)
    assert client.get(reverse("mcp_oauth:api_servers")).status_code == 401


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("{", "not valid JSON: line 1, column 2"),
        ("[1]", "must be a JSON object"),
        ("NaN", "must be a JSON object"),
        ('{"text": NaN}', "cannot be written as JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"text": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"text": "' + "x" * 1_100_000 + '"}', "are sent"),
    ],
)
def test_bad_arguments_are_named_and_kept(arguments: str, problem: str, open_mcp_server: Serve) -> None:
    peer = open_mcp_server()
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    client = browser_of(member(workspace))
    client.get(path_to("server", server))

    response = client.post(path_to("run", server) + "?tool=echo", {"arguments": arguments})

    assert response.status_code == 400
    assert problem in text_of(response)
    assert arguments in text_of(response)
    assert "tools/call" not in peer.rpc_methods


def test_tools_are_searched_without_script(open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server().url)
    client = browser_of(member(workspace))

    def found(text: str) -> list[str]:
        return [tool.name for tool in client.get(path_to("server", server), {"q": text}).context["tools"]]

    assert found("ECHO") == ["echo"]
    assert found("whole numbers") == ["add"]
    assert found("no such thing") == []


def test_a_tool_runs_from_its_page(open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server().url)
    client = browser_of(member(workspace))
    run = path_to("run", server)

    assert "Wer da?" in text_of(client.post(f"{run}?tool=echo", {"arguments": '{"text": "Wer da?"}'}))
    assert "The tool reports an error" in text_of(client.post(f"{run}?tool=fail"))
    assert client.post(f"{run}?tool=missing").status_code == 404


def test_a_tool_that_asks_something_first_shows_what_it_asks(
    open_mcp_server: Serve, conversation: Conversation
) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server(tools=conversation.register).url)
    client = browser_of(member(workspace))

    response = client.post(f"{path_to('run', server)}?tool=book_table", {"arguments": '{"day": "<b>friday</b>"}'})

    assert response.status_code == 409
    assert "Who comes on <b>friday</b>?" in text_of(response)
    assert "<b>friday" not in response.content.decode()


@pytest.mark.requirement("T37")
@pytest.mark.parametrize("text", ["\ud800", "\x00", "\u202e", "<script>alert(1)</script>"])
def test_odd_text_neither_breaks_a_page_nor_runs_in_it(text: str, open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server().url)
    client = browser_of(member(workspace))
    run = path_to("run", server)

    answers = [
        client.post(f"{run}?tool=echo", {"arguments": json.dumps({"text": text})}),
        post_json(client, path_to("api_call", server), {"arguments": {"text": text}}),
    ]
    if text.isascii() or text == "\u202e":
        answers += [
            client.get(path_to("settings", server), {"q": text}),
            client.get(path_to("server", server), {"q": text}),
            client.get(run, {"tool": text}),
            client.post(f"{run}?tool=echo", {"arguments": text}),
            client.post(reverse("mcp_oauth:start"), {"server": f"{text}/{text}"}),
            client.post(reverse("mcp_oauth:disconnect"), {"server": text}),
            client.post(reverse("mcp_oauth:cancel"), {"flow": text}),
            client.get(reverse("mcp_oauth:callback"), {"state": text, "error": text, "iss": text}),
        ]

    assert all(answer.status_code < 500 for answer in answers)
    if text == "\ud800":
        assert all("cannot be written as JSON" in text_of(answer) for answer in answers)
    pages = [answer for answer in answers if answer.headers["Content-Type"].startswith("text/html")]
    assert not any(b"<script>alert" in page.content for page in pages)


# --- headers and secrets ----------------------------------------------------------------------------------------------


def pages_of(client: Client, server: McpServer) -> dict[str, Answer]:
    """Open every page of a server and its workspace, the refused ones too."""
    names = [
        name for name, method in MATRIX if method == "get" and not name.startswith(("api_", "callback", "client_"))
    ]
    paths = [path_to(name, server) for name in names]
    paths += [path_to("settings", server) + "?part=servers", path_to("run", server) + "?tool=echo"]
    paths += [path_to(name, server) for name in ("api_servers", "api_tools", "callback", "client_metadata")]
    paths += ["/accounts/login/", "/nowhere/", f"/workspaces/nowhere/mcp/{server.pk}/"]
    opened: dict[str, Answer] = {f"GET {path}": client.get(path) for path in paths}
    posts = {
        path_to("add", server): typed(),
        path_to("ask", server): {"url": server.url},
        path_to("import_servers", server): {"text": json.dumps({"servers": {"a": {"url": server.url}}})},
        path_to("import_servers", server) + "?": {"text": "{"},
        path_to("members", server): {"person": "nobody at all"},
        path_to("member_role", server): {"role": "king"},
        reverse("mcp_oauth:new_workspace"): {"name": "Mine"},
        path_to("edit", server): typed(url=server.url, test="1"),
        path_to("run", server) + "?tool=echo": {"arguments": '{"text": "Hello"}'},
        path_to("refresh", server): {},
        path_to("refresh", server) + "?": {"probe": "1"},
        path_to("diagnose", server): {},
        reverse("mcp_oauth:start"): {"server": str(server.pk)},
        reverse("mcp_oauth:start") + "?": {"server": str(server.pk), "again": "1"},
        reverse("mcp_oauth:cancel"): {"flow": "x"},
        path_to("settings", server): {},
    }
    opened |= {f"POST {path}": client.post(path, data) for path, data in posts.items()}
    opened["POST call"] = post_json(client, path_to("api_call", server), {"arguments": {"text": "Hello"}})
    return opened


@pytest.mark.requirement("mcp-bp-csp", "rfc6749-3.1.2.5-no-foreign-script", "T40")
def test_every_answer_carries_the_security_headers(protected_mcp_server: Protect) -> None:
    workspace = new_workspace()
    server = new_server(workspace, protected_mcp_server().url)
    people = [Client(), browser_of(member(workspace)), browser_of(member(workspace, role=ADMIN)), browser_of(member())]

    for client in people:
        for name, answer in pages_of(client, server).items():
            assert answer.status_code < 500, name
            ours = MEDIA_POLICY if isinstance(answer, MediaResponse) else CONTENT_SECURITY_POLICY
            assert answer.headers["Content-Security-Policy"] == ours, name
            assert answer.headers["Referrer-Policy"] in {"same-origin", "no-referrer"}, name
            assert answer.headers["X-Frame-Options"] == "DENY", name
            assert answer.headers["X-Content-Type-Options"] == "nosniff", name


def test_pages_for_one_person_stay_out_of_caches(open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server().url)
    client = browser_of(member(workspace, role=ADMIN))

    # A redirect, documents for everybody, and a page that this person is refused.
    public = {"home", "client_metadata", "api_schema", "new_workspace"}

    for name in (name for name, method in MATRIX if method == "get" and name not in public):
        assert "no-store" in client.get(path_to(name, server)).headers["Cache-Control"], name


@pytest.mark.requirement("rfc9700-4.2.4-referrer", "T40")
def test_leaving_and_coming_back_are_neither_stored_nor_told_to_anybody(
    protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    workspace = new_workspace()
    server = new_server(workspace, protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False)).url)
    client = browser_of(member(workspace))
    named = {"server": str(server.pk)}

    leaving = client.post(reverse("mcp_oauth:start"), named)
    destination = leaving.headers["Refresh"].partition("url=")[2]
    as_json = client.post(reverse("mcp_oauth:start"), named, headers={"accept": JSON})
    arrival = person().authorize(destination)
    arrived = come_back(client, arrival)
    refusals = [
        come_back(client, arrival),
        come_back(Client(), arrival),
        come_back(browser_of(member(workspace)), arrival),
        client.get(reverse("mcp_oauth:callback"), {"error": "access_denied"}),
        client.head(reverse("mcp_oauth:callback")),
    ]

    assert arrived.status_code == 200
    assert [answer.status_code for answer in refusals] == [400, 401, 400, 400, 400]
    for answer in (leaving, as_json, arrived, *refusals):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    secrets = [
        part.partition("=")[2] for part in arrival.partition("?")[2].split("&") if part[:5] in {"code=", "state"}
    ]
    assert len(secrets) == 2
    assert not any(secret in text_of(answer) for secret in secrets for answer in (arrived, *refusals))


@pytest.mark.requirement("T41")
def test_no_page_shows_a_secret(protected_mcp_server: Protect, person: Callable[..., Person]) -> None:
    workspace = new_workspace()
    user = member(workspace, role=ADMIN)
    client = browser_of(user)
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    server = new_server(workspace, peer.url)
    grant = connect(client, server, person())
    server.headers, server.client_secret = {"X-Api-Key": f"{CANARY}-header"}, f"{CANARY}-client-secret"
    server.save()
    flow_url = start(client, server, again="1")["authorization_url"]
    flow = AuthorizationFlow.objects.latest("created_at")
    sealed = [
        str(value)
        for model, name in (
            (McpServer, "headers"),
            (McpServer, "client_secret"),
            (McpServerOAuth, "access_token"),
            (AuthorizationFlow, "code_verifier"),
        )
        for value in model._default_manager.exclude(**{f"{name}__isnull": True}).values_list(name, flat=True)
    ]
    hidden = [CANARY, grant.access_token, grant.refresh_token, flow.code_verifier, flow.state_hash, flow.browser_hash]
    hidden += [*sealed, client.session["mcp_oauth_browser"]]
    assert "state=" in flow_url

    opened = pages_of(client, server)

    assert opened["POST call"].status_code == 200
    for name, answer in opened.items():
        shown = text_of(answer) + str(answer.headers)
        assert not any(secret in shown for secret in hidden if secret), name


# --- a large and a damaged workspace ----------------------------------------------------------------------------------


def fill(workspace: Workspace, user: User, count: int) -> None:
    """Write servers of every kind, every second with a grant, a flow and a listing of the person."""
    now = timezone.now()
    for number in range(count):
        mode = McpServer.AuthMode.values[number % 3]
        server = stored_server(workspace, f"Server {number}", auth_mode=mode, reachable=bool(number % 2))
        StoredListing.objects.create(server=server, user=user, server_generation=1, entries=[], fetched_at=now)
        if number % 2:
            McpServerOAuth.objects.create(
                server=server,
                user=user,
                access_token="token",
                issuer="https://as.example.com",
                token_endpoint="https://as.example.com/token",
                client_id="client",
                connected_at=now,
                state=McpServerOAuth.State.values[number // 2 % 2],
            )


@pytest.mark.parametrize("view", ["settings", "api_servers"])
def test_a_list_takes_the_same_few_queries_for_five_servers_and_sixty(view: str) -> None:
    workspace = new_workspace()
    user = member(workspace, role=ADMIN)
    Membership.objects.create(workspace=new_workspace(), user=user)
    client = browser_of(user)
    counts = []
    for more in (5, 55):
        fill(workspace, user, more)
        path = path_to(view, McpServer.objects.select_related("workspace")[0])
        with CaptureQueriesContext(connection) as queries:
            response = client.get(path)
        counts.append(len(queries))

    assert all(f"Server {number}" in text_of(response) for number in range(55))
    assert counts == [{"settings": 9, "api_servers": 4}[view]] * 2


# Each column, and what something other than this application wrote into it.
DAMAGE: list[tuple[type[models.Model], str, Any]] = [
    (McpServer, "headers", "v1.00000000.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    (McpServer, "headers", "not sealed at all"),
    (McpServer, "client_secret", "v1.%%%.%%%"),
    (McpServer, "probe_steps", '{"not": "a list"}'),
    (McpServer, "probe_steps", '["text", 1, {"verdict": ["list"], "status": {}}]'),
    (McpServer, "oauth_options", '{"no_such_option": 1, "scopes": "read"}'),
    (McpServer, "oauth_options", '{"scopes": 5, "resource": "sometimes"}'),
    (McpServer, "oauth_options", "[1]"),
    (McpServer, "oauth_options", '"text"'),
    (McpServer, "discover_result", '["text"]'),
    (McpServer, "protocol_version", "1999-01-01"),
    (McpServer, "auth_mode", "magic"),
    (McpServer, "url", "http://["),
    (McpServer, "url", "not an address"),
    (StoredListing, "entries", '{"not": "a list"}'),
    (
        StoredListing,
        "entries",
        '[1, null, {"name": 5}, {"name": "echo", "inputSchema": {"properties": [], "required": 1}}]',
    ),
    (StoredListing, "entries", '[{"name": "echo", "inputSchema": {"properties": {"a": {"enum": 1, "type": {}}}}}]'),
    (McpServerOAuth, "access_token", "not sealed at all"),
    (McpServerOAuth, "refresh_token", "v1.00000000.AAAA"),
]


@pytest.mark.requirement("T44")
@pytest.mark.parametrize("mode", ["oauth", "headers"])
@pytest.mark.parametrize(("model", "column", "value"), DAMAGE)
def test_a_damaged_row_blanks_no_list_and_breaks_no_page(
    model: type[models.Model],
    column: str,
    value: Any,
    mode: str,
    protected_mcp_server: Protect,
    person: Callable[..., Person],
) -> None:
    workspace = new_workspace()
    user = member(workspace, role=ADMIN)
    client = browser_of(user)
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    server, healthy = new_server(workspace, peer.url), stored_server(workspace, "Healthy one")
    connect(client, server, person())
    client.get(path_to("server", server))
    McpServer.objects.filter(pk=server.pk).update(auth_mode=mode)
    StoredListing.objects.update(user=user if mode == "oauth" else None)
    table = connection.ops.quote_name(model._meta.db_table)
    key = "id" if model is McpServer else "server_id"
    key_value = McpServer._meta.pk.get_db_prep_value(server.pk, connection)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {column} = %s WHERE {key} = %s", [value, key_value])  # noqa: S608
        assert cursor.rowcount == 1

    for path in (path_to("settings", server), reverse("mcp_oauth:api_servers")):
        response = client.get(path)
        assert response.status_code == 200
        assert all(name in text_of(response) for name in (server.name, healthy.name))
    opened = pages_of(client, server)
    edit = client.get(path_to("edit", server))
    opened["POST edit"] = client.post(
        path_to("edit", server), {**typed(url=peer.url, auth_mode=mode, name="Mended"), **AGREED}
    )
    opened["POST disconnect"] = client.post(reverse("mcp_oauth:disconnect"), {"server": str(server.pk)})
    opened["POST delete"] = client.post(path_to("delete", server), {"now": "1"})

    assert {name: answer.status_code for name, answer in opened.items() if answer.status_code == 500} == {}
    # Whatever is damaged, an administrator can still look at it, save over it, and remove it.
    assert edit.status_code == 200
    assert opened["POST edit"].status_code == 302
    assert opened["POST delete"].status_code == 302
    assert list(McpServer.objects.all()) == [healthy]


def test_a_server_that_is_deleted_while_it_is_asked_is_simply_gone(open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    user = member(workspace)
    client = browser_of(user)
    doomed: list[McpServer] = []

    def vanish() -> str:
        """Delete the server that is being asked."""
        McpServer.objects.filter(pk=doomed[0].pk).delete()
        connection.close()
        return "gone"

    server = new_server(workspace, open_mcp_server(tools=[vanish]).url)
    doomed.append(server)
    client.get(path_to("server", server))

    response = client.post(path_to("run", server) + "?tool=vanish")

    assert response.status_code == 404
    assert not McpServer.objects.exists()


# --- JSON -------------------------------------------------------------------------------------------------------------


def error_in(response: Answer) -> dict[str, Any]:
    body: dict[str, Any] = response.json()["error"]
    return body


def test_a_program_that_is_not_signed_in_is_told_in_json(client: Client) -> None:
    server = stored_server(new_workspace())

    for name in ("api_servers", "api_tools"):
        answer = client.get(path_to(name, server))
        assert (answer.status_code, error_in(answer)["code"]) == (401, "not_signed_in")
    for path in (path_to("api_call", server), reverse("mcp_oauth:start"), reverse("mcp_oauth:disconnect")):
        answer = client.post(path, headers={"accept": JSON})
        assert (answer.status_code, error_in(answer)["code"]) == (401, "not_signed_in")


def test_what_is_not_there_for_a_person_is_not_found_in_json() -> None:
    workspace = new_workspace()
    other = stored_server(new_workspace(), "Hidden")
    client = browser_of(member(workspace))
    nowhere = McpServer(workspace=workspace, name="Never saved")

    for server in (other, nowhere):
        answers = [client.get(path_to("api_tools", server)), post_json(client, path_to("api_call", server))]
        answers.append(client.post(reverse("mcp_oauth:start"), {"server": str(server.pk)}, headers={"accept": JSON}))
        assert [(answer.status_code, error_in(answer)["code"]) for answer in answers] == [(404, "not_found")] * 3
        assert not any("Hidden" in text_of(answer) for answer in answers)
    assert client.get(reverse("mcp_oauth:api_servers")).json() == {"servers": []}


def test_a_program_is_told_where_its_person_connects(protected_mcp_server: Protect) -> None:
    workspace = new_workspace()
    server = new_server(workspace, protected_mcp_server().url)
    client = browser_of(member(workspace))

    listed, called = client.get(path_to("api_tools", server)), post_json(client, path_to("api_call", server))
    # The call waits until then.
    waiting = {"call": str(ToolCall.objects.get().pk)}
    for answer, besides in ((listed, {}), (called, waiting)):
        assert answer.status_code == 401
        assert error_in(answer) == {
            "code": "reauth_required",
            "message": "You have not connected your account at Tracker yet.",
            "next_step": "Open the connections page and press Connect with OAuth.",
            "reason": "not_connected",
            "server": str(server.pk),
            "connect_url": f"http://127.0.0.1:8000/workspaces/{workspace.slug}/mcp/#server-{server.pk}",
            **besides,
        }


def test_a_program_lists_and_runs_tools(protected_mcp_server: Protect, person: Callable[..., Person]) -> None:
    workspace = new_workspace()
    server = new_server(workspace, protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False)).url)
    client = browser_of(member(workspace))
    connect(client, server, person("ada"))

    listing = client.get(path_to("api_tools", server)).json()
    answer = post_json(client, path_to("api_call", server), {"arguments": {"text": "Hello"}})

    assert {tool["name"] for tool in listing["tools"]} == {"echo", "add", "whoami", "fail"}
    assert answer.json()["result"]["content"][0]["text"] == "Hello"
    (row,) = client.get(reverse("mcp_oauth:api_servers")).json()["servers"]
    assert (row["authorized"], row["reachable"], row["reference"]) == (True, True, f"{workspace.slug}/tracker")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("{", "The body is not valid JSON."),
        (b"\xff", "The body is not valid JSON."),
        ("[" * 100_000, "The body is not valid JSON."),
        ("9" * 5000, "The body is not valid JSON."),
        ("[]", "The body must be a JSON object with the member “arguments”."),
        ('{"argument": {}}', "The body must be a JSON object with the member “arguments”."),
        ('{"arguments": [1]}', "The arguments must be a JSON object."),
        ('{"arguments": {"text": Infinity}}', "The arguments cannot be written as JSON."),
        ('{"arguments": {"text": "' + "x" * 1_060_000 + '"}}', "The request is too large."),
        ("x" * 3_000_000, "The request is too large."),
    ],
)
def test_a_call_with_a_bad_body_is_refused_in_json(body: str | bytes, problem: str, open_mcp_server: Serve) -> None:
    peer = open_mcp_server()
    workspace = new_workspace()
    server = new_server(workspace, peer.url)

    answer = post_json(browser_of(member(workspace)), path_to("api_call", server), body)

    assert (answer.status_code, error_in(answer)["code"]) == (400, "invalid_request")
    assert error_in(answer)["message"] == problem
    assert "tools/call" not in peer.rpc_methods


def test_an_unknown_tool_is_named_in_json(open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server().url)
    path = reverse("mcp_oauth:api_call", kwargs={"server_id": server.pk, "name": "a/b"})

    answer = post_json(browser_of(member(workspace)), path)

    assert (answer.status_code, error_in(answer)["code"]) == (404, "tool_not_found")
    assert "“a/b”" in error_in(answer)["message"]


def test_a_grant_that_ended_and_cannot_be_renewed_is_not_called_authorized() -> None:
    workspace = new_workspace()
    user = member(workspace)
    server = stored_server(workspace, auth_mode="oauth")
    McpServerOAuth.objects.create(
        server=server,
        user=user,
        access_token="token",
        expires_at=timezone.now(),
        issuer="https://as.example.com",
        token_endpoint="https://as.example.com/token",
        client_id="client",
        connected_at=timezone.now(),
    )

    (row,) = browser_of(user).get(reverse("mcp_oauth:api_servers")).json()["servers"]

    assert (row["authorized"], row["reason"]) == (False, "expired")


@pytest.mark.requirement("T40")
@pytest.mark.parametrize(("view", "method"), [key for key in MATRIX if key[1] == "post"])
def test_nothing_is_done_without_the_csrf_token(view: str, method: str) -> None:
    workspace = new_workspace()
    user = member(workspace, role=ADMIN)
    server = stored_server(workspace)
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)

    answer = client.post(path_to(view, server), {"server": str(server.pk), "flow": str(uuid.uuid4())})

    assert answer.status_code == 403
    assert McpServer.objects.get().contacted_at is None


def test_a_program_calls_with_the_csrf_token(open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server().url)
    client = Client(enforce_csrf_checks=True)
    client.force_login(member(workspace))
    client.get(path_to("settings", server))
    body = {"arguments": {"text": "Hello"}}

    refusal = post_json(client, path_to("api_call", server), body)
    token = client.cookies["csrftoken"].value
    answer = post_json(client, path_to("api_call", server), body, headers={"X-CSRFToken": token})

    assert refusal.status_code == 403
    assert answer.status_code == 200
