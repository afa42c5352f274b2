"""Adding a server by asking it: what it turns out to be, what it is not told, and what a change of address ends."""

from __future__ import annotations

import asyncio
import html
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.test import override_settings
from django.urls import reverse
from django.utils import translation

from mcp_oauth import call_tool, list_tools
from mcp_oauth.exceptions import (
    AuthorizationRequired,
    CredentialsRefused,
    DiscoveryFailed,
    McpOAuthError,
    ServerRefused,
    ServerUnreachable,
)
from mcp_oauth.messages import HttpRequest
from mcp_oauth.models import (
    AuthorizationFlow,
    McpServer,
    McpServerOAuth,
    Membership,
    OAuthRegistration,
    StoredListing,
)
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.services.connections import start_authorization
from mcp_oauth.services.evidence import Evidence
from mcp_oauth.services.probes import probe
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import probe_again, update_server
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import (
    AuthorizationServerOptions,
    HeaderServer,
    OddServer,
    OpenServer,
    Person,
    ProtectedServer,
    RecordedRequest,
    json_fault,
)
from tests.servers.scripted import Asked, ScriptedServer, message_of

pytestmark = pytest.mark.django_db(transaction=True)

PLAIN = AuthorizationServerOptions(cimd=False, auto_consent="ada")
SECRETS = {"X-Api-Key": "the-api-key", "Authorization": "Bearer the-shared-token", "X-Team": "the-team"}
CLIENT = {"client_id": "by-hand", "client_secret": "the-client-secret"}


def words_of(requests: list[RecordedRequest]) -> str:
    """Return everything that was said in these requests."""
    return repr([(request.headers, request.path, request.raw_query, request.body) for request in requests])


# What it turns out to be.


@pytest.mark.parametrize(
    ("era", "version"), [("modern", "2026-07-28"), ("legacy", "2025-11-25"), ("dual", "2026-07-28")]
)
def test_an_open_server_is_recognised_with_its_protocol(
    era: str, version: str, open_mcp_server: Callable[..., OpenServer]
) -> None:
    peer = open_mcp_server(era)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    assert (server.auth_mode, server.auth_mode_source) == ("none", "probe")
    assert server.protocol_version == version
    assert server.reachable
    assert call_tool(server, member(workspace), "echo", {"text": "hello"}).text == "hello"


def test_a_session_opened_while_asking_is_closed_again(open_mcp_server: Callable[..., OpenServer]) -> None:
    peer = open_mcp_server("legacy")
    new_server(new_workspace(), peer.url)
    sessions = {request.headers.get("mcp-session-id") for request in peer.requests} - {None}
    assert len(sessions) == 1
    spoken = [request.method for request in peer.requests if request.path == "/mcp"]
    assert spoken.count("DELETE") == 1
    assert spoken[-1] == "DELETE"


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_server_behind_a_key_is_recognised_and_opened_by_it(
    era: str, header_mcp_server: Callable[..., HeaderServer]
) -> None:
    peer = header_mcp_server("X-Api-Key", "the-api-key", era=era)
    workspace = new_workspace()
    server = new_server(workspace, peer.url, headers={"X-Api-Key": "the-api-key"})
    assert (server.auth_mode, server.auth_mode_source) == ("headers", "probe")
    assert call_tool(server, member(workspace), "echo", {"text": "hello"}).text == "hello"


@pytest.mark.requirement("mcp-discovery-both-ways", "mcp-discovery-challenge-parsed", "mcp-discovery-fallback")
@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize(
    ("challenge", "metadata_at"),
    [
        ("metadata", ("path",)),
        ("metadata", ("root",)),
        ("bare", ("path",)),
        ("nothing", ("path",)),
        ("bare", ("root",)),
    ],
    ids=str,
)
def test_a_server_behind_oauth_is_recognised_wherever_its_metadata_is(
    era: str, challenge: str, metadata_at: tuple[str, ...], protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    peer = protected_mcp_server(era, as_options=PLAIN, challenge=challenge, metadata_at=metadata_at)
    if metadata_at == ("root",):
        peer.configure(metadata_overrides={"resource": f"http://{urlsplit(peer.url).netloc}"})
    server = new_server(new_workspace(), peer.url)
    assert (server.auth_mode, server.auth_mode_source) == ("oauth", "probe")
    assert peer.issuer in server.probe_verdict


WORDS = ("note", "rule", "next_step")


def words_for(server: McpServer, language: str) -> tuple[str, list[str]]:
    """Return what a row says of its last probe to somebody who reads in a language."""
    with translation.override(language):
        return server.last_verdict, [str(step[name]) for step in server.probe_evidence() for name in WORDS]


@pytest.mark.parametrize("broken", [False, True])
def test_who_reads_of_a_probe_is_told_in_their_language_whoever_asked(
    broken: bool, protected_mcp_server: Callable[..., ProtectedServer]
) -> None:
    peer = protected_mcp_server(as_options=PLAIN)
    workspace = new_workspace()
    with translation.override("de"):
        server = new_server(workspace, peer.url)
        if broken:
            peer.configure(metadata_overrides={"resource": "https://elsewhere.example/mcp"})
            probe_again(server)
    server.refresh_from_db()

    told = {language: words_for(server, language) for language in ("de", "en", "es")}

    for language, words in told.items():
        with translation.override(language):
            fresh = probe(server.url, OAuthOptions())
            assert words == (fresh.verdict, [step[name] for step in fresh.evidence.as_json() for name in WORDS])
    assert len({verdict for verdict, _steps in told.values()}) == 3
    assert told["de"][1] != told["en"][1] != told["es"][1]
    assert told["en"][0].startswith("Asks for OAuth, but" if broken else "Uses OAuth; people sign in")
    page = reverse("mcp_oauth:diagnose", args=[workspace.slug, server.pk])
    shown = browser_of(member(workspace, role=Membership.Role.ADMIN)).get(page, headers={"Accept-Language": "es"})
    text = html.unescape(shown.content.decode())
    assert told["es"][0] in text
    assert all(note in text for note in told["es"][1] if note)
    assert told["de"][0] not in text


def test_what_a_server_sends_as_a_stored_sentence_stays_its_text() -> None:
    sent = '{"say":"%(x)99999d","as":"","of":{"x":1}}'
    evidence = Evidence()
    evidence.note(HttpRequest("POST", "https://mcp.example.com/mcp"), "initialize", 401, "challenge", sent)

    [step] = McpServer(probe_steps=evidence.as_stored()).probe_evidence()

    assert step["note"] == sent


@pytest.mark.parametrize("open_methods", [("server/discover",), ("server/discover", "tools/list"), ("initialize",)])
def test_a_server_that_lets_strangers_look_around_still_uses_oauth(
    open_methods: tuple[str, ...], protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("modern", as_options=PLAIN, resource_options={"open_methods": open_methods})
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    assert server.auth_mode == "oauth"
    # Reachable is not authorized.
    with pytest.raises(AuthorizationRequired):
        list_tools(server, user)
    connect(browser_of(user), server, person("ada"))
    assert call_tool(server, user, "whoami").text == "ada"


@pytest.mark.requirement("T11")
def test_a_bare_invalid_token_without_metadata_is_a_server_behind_a_key(odd_server: Callable[..., OddServer]) -> None:
    peer = odd_server("challenge_without_metadata")
    server = new_server(new_workspace(), peer.url)
    assert server.auth_mode == "headers"
    for path in ("/authorize", "/token", "/register"):
        assert [request for request in peer.requests if request.path == path] == []


# What it is not told.


@pytest.mark.requirement("T27")
@pytest.mark.parametrize("kind", ["oauth", "open", "key"])
@pytest.mark.parametrize("mode", [None, "headers", "oauth"])
def test_no_secret_is_told_while_asking(
    kind: str,
    mode: str | None,
    protected_mcp_server: Callable[..., ProtectedServer],
    open_mcp_server: Callable[..., OpenServer],
    header_mcp_server: Callable[..., HeaderServer],
) -> None:
    peers: Mapping[str, Callable[[], ProtectedServer | OpenServer]] = {
        "oauth": lambda: protected_mcp_server("modern", as_options=PLAIN),
        "open": lambda: open_mcp_server("modern"),
        "key": lambda: header_mcp_server("X-Api-Key", "the-api-key"),
    }
    peer = peers[kind]()
    server = new_server(new_workspace(), peer.url, auth_mode=mode, headers=SECRETS, **CLIENT)
    probe_again(server)
    update_server(server, ServerSettings(name="Renamed", url=peer.url, client_id=CLIENT["client_id"]))

    assert peer.requests
    said = words_of(peer.requests).lower()
    for secret in (*SECRETS.values(), *CLIENT.values()):
        assert secret.lower() not in said
    for request in peer.requests:
        assert request.authorization is None
        assert not {"x-api-key", "x-team", "cookie"} & set(request.headers)


def test_pressing_connect_asks_the_server_without_the_grant_that_is_there(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("modern", as_options=PLAIN)
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, headers={"X-Team": "the-team"})
    connect(browser_of(user), server, person("ada"))
    peer.requests.clear()
    start_authorization(server, user, browser="b", again=True)
    assert peer.requests
    assert all(request.authorization is None for request in peer.requests)
    assert "the-team" not in words_of(peer.requests)


# Servers that are none.


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("html", ServerRefused),
        ("http500", ServerRefused),
        ("ok_to_everything", ServerRefused),
        ("text_to_everything", ServerRefused),
        ("silent", ServerUnreachable),
    ],
)
def test_what_is_no_mcp_server_is_said_with_its_address_and_not_added(
    kind: str, expected: type[McpOAuthError], odd_server: Callable[..., OddServer]
) -> None:
    peer = odd_server(kind)
    with pytest.raises(expected) as refused:
        new_server(new_workspace(), peer.url, headers=SECRETS, **CLIENT)
    assert urlsplit(peer.url).netloc in refused.value.user_message
    assert refused.value.next_step
    assert McpServer.objects.count() == 0
    assert "the-" not in words_of(peer.requests)


@pytest.mark.parametrize("kind", ["html", "http500", "silent"])
def test_an_explicit_choice_adds_a_server_that_does_not_answer_as_one_and_says_so(
    kind: str, odd_server: Callable[..., OddServer]
) -> None:
    peer = odd_server(kind)
    server = new_server(new_workspace(), peer.url, auth_mode="headers", headers=SECRETS)
    assert (server.auth_mode, server.auth_mode_source) == ("headers", "person")
    assert server.reachable is False
    assert urlsplit(peer.url).netloc in server.last_error
    assert server.contact_error_code


BROKEN_DOCUMENTS = {
    "not_json_metadata": "/.well-known/oauth-protected-resource/mcp",
    "wrong_resource": "/.well-known/oauth-protected-resource/mcp",
    "html_metadata": "/.well-known/oauth-authorization-server",
}


@pytest.mark.parametrize("kind", BROKEN_DOCUMENTS)
def test_a_broken_document_is_named_by_its_url_and_nothing_comes_of_the_attempt(
    kind: str, odd_server: Callable[..., OddServer]
) -> None:
    peer = odd_server(kind)
    workspace = new_workspace()
    user = member(workspace)
    document = f"{peer.base_url}{BROKEN_DOCUMENTS[kind]}"
    if kind != "html_metadata":  # of which the server itself knows nothing
        with pytest.raises(DiscoveryFailed) as refused:
            new_server(workspace, peer.url, **CLIENT)
        assert refused.value.document == document
        assert McpServer.objects.count() == 0
    # An administrator who knows better adds it all the same, and sees which document is at fault.
    server = new_server(workspace, peer.url, **CLIENT, auth_mode="oauth")

    with pytest.raises(DiscoveryFailed) as failed:
        start_authorization(server, user, browser="b")

    assert failed.value.document == document
    if kind != "html_metadata":  # of which the server itself knows nothing
        steps = {step["url"]: step["verdict"] for step in server.probe_evidence()}
        assert steps[document] == "refused"
    assert AuthorizationFlow.objects.count() == 0
    assert OAuthRegistration.objects.count() == 0
    assert McpServerOAuth.objects.count() == 0
    assert {request.path for request in peer.requests if request.method != "GET"} == {"/mcp"}
    assert "the-client-secret" not in words_of(peer.requests)


@pytest.mark.requirement("mcp-bp-ssrf")
def test_an_authorization_server_in_a_private_network_is_not_asked(
    protected_mcp_server: Callable[..., ProtectedServer],
) -> None:
    # Where the guard refuses to dial, no other server is tried in its place.
    peer = protected_mcp_server("modern", as_options=PLAIN)
    peer.configure(authorization_servers=("https://10.0.0.1",))
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    with pytest.raises(DiscoveryFailed):
        start_authorization(server, member(workspace), browser="b")
    assert AuthorizationFlow.objects.count() == 0


# A person's choice.


@pytest.mark.parametrize("choice", ["none", "headers", "oauth"])
@pytest.mark.parametrize("kind", ["oauth", "open", "key"])
def test_an_explicit_choice_wins_over_what_the_server_says(
    choice: str,
    kind: str,
    protected_mcp_server: Callable[..., ProtectedServer],
    open_mcp_server: Callable[..., OpenServer],
    header_mcp_server: Callable[..., HeaderServer],
) -> None:
    peers: Mapping[str, Callable[[], ProtectedServer | OpenServer]] = {
        "oauth": lambda: protected_mcp_server("modern", as_options=PLAIN),
        "open": lambda: open_mcp_server("modern"),
        "key": lambda: header_mcp_server("X-Api-Key", "the-api-key"),
    }
    server = new_server(new_workspace(), peers[kind]().url, auth_mode=choice)
    assert (server.auth_mode, server.auth_mode_source) == (choice, "person")
    probe_again(server)
    server.refresh_from_db()
    assert (server.auth_mode, server.auth_mode_source) == (choice, "person")


def test_a_server_with_a_key_and_oauth_metadata_can_be_opened_by_its_key(
    protected_mcp_server: Callable[..., ProtectedServer],
) -> None:
    peer = protected_mcp_server("modern", as_options=PLAIN)
    token = peer.authorization_server.grant(client_id="a-robot", resource=peer.url, scope="read")["access_token"]
    workspace = new_workspace()
    headers = {"Authorization": f"Bearer {token}"}
    server = new_server(workspace, peer.url, auth_mode="headers", headers=headers)
    user = member(workspace)
    assert call_tool(server, user, "whoami").text == "ada"

    peer.authorization_server.expire_access_tokens()
    with pytest.raises(CredentialsRefused):
        call_tool(server, user, "whoami")
    assert peer.authorization_server.requests_to("/token") == []


@pytest.mark.requirement("T17")
def test_a_kind_that_was_found_out_follows_the_server_and_ends_what_was_there(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("modern", as_options=PLAIN)
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(user), server, person("ada"))
    peer.configure(metadata_at=(), challenge="nothing")

    probe_again(server)

    server.refresh_from_db()
    assert server.auth_mode == "headers"
    grant = McpServerOAuth.objects.get()
    assert (grant.state, grant.reason, grant.access_token) == ("needs_reauthorization", "server_changed", None)


# Another address.


@pytest.mark.requirement("mcp-auth-own-tokens", "oauth21-7.1-tokens-to-audience", "rfc6750-5.3-safeguarded", "T17")
@pytest.mark.requirement("T26")
def test_a_server_pointed_elsewhere_ends_its_grants_and_the_old_token_stays_home(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("modern", as_options=PLAIN)
    elsewhere = protected_mcp_server("modern", as_options=PLAIN)
    workspace = new_workspace()
    users = [member(workspace), member(workspace)]
    server = new_server(workspace, peer.url)
    for user in users:
        connect(browser_of(user), server, person("ada"))
        list_tools(server, user)
    old = [token.value for token in peer.authorization_server.registry.tokens.values()]
    assert len(old) == 4

    update_server(server, ServerSettings(name="Tracker", url=elsewhere.url))

    for user in users:
        # The very object of before, and one read afresh.
        for reference in (server, server.pk):
            with pytest.raises(AuthorizationRequired) as required:
                call_tool(reference, user, "whoami")
            assert required.value.reason == "server_changed"
    for grant in McpServerOAuth.objects.all():
        assert (grant.state, grant.access_token, grant.refresh_token) == ("needs_reauthorization", None, None)
    assert StoredListing.objects.count() == 0
    # The provider was told, and nobody else learnt anything.
    assert all(not token.active for token in peer.authorization_server.registry.tokens.values())
    said = words_of([*elsewhere.requests, *elsewhere.authorization_server.requests])
    assert all(token not in said for token in old)

    connect(browser_of(users[0]), server, person("ada"))
    assert call_tool(server, users[0], "whoami").text == "ada"
    said = words_of([*elsewhere.requests, *elsewhere.authorization_server.requests])
    assert all(token not in said for token in old)


@pytest.mark.requirement("T17")
def test_a_stale_copy_of_a_repointed_server_sends_no_token_to_either_address(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("modern", as_options=PLAIN)
    elsewhere = protected_mcp_server("modern", as_options=PLAIN)
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(user), server, person("ada"))
    stale = McpServer.objects.select_related("workspace").get(pk=server.pk)
    update_server(server, ServerSettings(name="Tracker", url=elsewhere.url, auth_mode="oauth"))
    peer.requests.clear()

    with pytest.raises(AuthorizationRequired):
        call_tool(stale, user, "whoami")
    # And again when there is a new token, which is not for the old address.
    connect(browser_of(user), server, person("ada"))
    with pytest.raises(AuthorizationRequired) as required:
        call_tool(stale, user, "whoami")

    assert required.value.reason == "server_changed"
    assert all(request.authorization is None for request in [*peer.requests, *elsewhere.requests])


@pytest.mark.requirement("T26")
def test_a_revocation_that_fails_does_not_keep_the_grant(
    protected_mcp_server: Callable[..., ProtectedServer],
    open_mcp_server: Callable[..., OpenServer],
    person: Callable[..., Person],
) -> None:
    peer = protected_mcp_server("modern", as_options=PLAIN)
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(user), server, person("ada"))
    peer.configure_authorization_server(revocation_faults=lambda form: json_fault(503, "server_error"))
    update_server(server, ServerSettings(name="Tracker", url=open_mcp_server().url, auth_mode="oauth"))
    assert McpServerOAuth.objects.get().access_token is None


def test_an_address_that_does_not_answer_changes_nothing(
    protected_mcp_server: Callable[..., ProtectedServer],
    odd_server: Callable[..., OddServer],
    person: Callable[..., Person],
) -> None:
    peer = protected_mcp_server("modern", as_options=PLAIN)
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(user), server, person("ada"))

    with pytest.raises(ServerRefused):
        update_server(server, ServerSettings(name="Tracker", url=odd_server("html").url))

    fresh = McpServer.objects.get(pk=server.pk)
    assert (fresh.url, fresh.generation) == (peer.url, server.generation)
    assert call_tool(fresh, user, "whoami").text == "ada"


@pytest.mark.parametrize(
    "change", [{"name": "Renamed"}, {"headers": {"X-Team": "b"}}, {"options": {"prompt": "login"}}], ids=str
)
def test_a_change_that_concerns_nobody_keeps_the_grants(
    change: dict[str, Any], protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("modern", as_options=PLAIN)
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(user), server, person("ada"))
    update_server(server, ServerSettings(**{"name": "Tracker", "url": peer.url, **change}))
    assert call_tool(server, user, "whoami").text == "ada"
    assert peer.authorization_server.requests_to("/revoke") == []


def test_a_server_with_a_listing_larger_than_a_document_is_added(open_mcp_server: Callable[..., OpenServer]) -> None:
    def long_winded(text: str) -> str:
        return text

    long_winded.__doc__ = "Say it at length. " * 8000
    peer = open_mcp_server("modern", tools=[long_winded])
    server = new_server(new_workspace(), peer.url)
    assert (server.auth_mode, server.reachable) == ("none", True)


def http_only(app: Callable[..., Any]) -> Callable[..., Any]:
    """Return an ASGI application with a lifespan around one that knows requests only."""

    async def with_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    return with_lifespan


def test_a_server_that_first_refuses_the_version_it_speaks_is_asked_once_more(
    serve: Callable[..., str],
) -> None:
    asked: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive()).get("body", b"")
        asked.append(body)
        error = {"code": -32022, "message": "Unsupported", "data": {"supported": ["2026-07-28"]}}
        known = {"supportedVersions": ["2026-07-28"], "tools": []}
        answer = {"jsonrpc": "2.0", "id": 1, **({"error": error} if len(asked) == 1 else {"result": known})}
        status = 404 if scope["method"] == "GET" else 400 if len(asked) == 1 else 200
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    server = new_server(new_workspace(), f"{serve(http_only(app))}/mcp")
    assert server.protocol_version == "2026-07-28"
    assert [json.loads(body)["method"] for body in asked if body] == [
        "server/discover",
        "server/discover",
        "tools/list",
    ]


@pytest.mark.requirement("T31")
def test_a_metadata_address_that_answers_with_a_stream_without_end_costs_no_waiting(
    serve: Callable[..., str],
) -> None:
    left: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            continue
        left.append(scope["path"])

    with override_settings(MCP_OAUTH={**django_settings.MCP_OAUTH, "OAUTH_REQUEST_SECONDS": 60.0}):
        report = probe(f"{serve(http_only(app))}/mcp", OAuthOptions())
    # Both metadata addresses were given up by us, long before their minute was over.
    assert report.auth_mode == "headers"
    assert [step.verdict for step in report.evidence.steps[1:]] == ["refused", "refused"]


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_server_that_leaves_its_streams_open_is_added_without_waiting_for_their_end(
    era: str, scripted_server: Callable[..., ScriptedServer]
) -> None:
    left = threading.Event()

    async def answer(asked: Asked) -> AsyncIterator[dict[str, Any]]:
        yield {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": {"result": {}}}}
        yield message_of(asked, {"resultType": "complete", "tools": [], "ttlMs": 0, "cacheScope": "private"})
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    server = scripted_server({"tools/list": answer}, era)
    with override_settings(MCP_OAUTH={**django_settings.MCP_OAUTH, "OAUTH_REQUEST_SECONDS": 60.0}):
        report = probe(server.url, OAuthOptions())
    assert (report.auth_mode, report.error) == ("none", None)
    assert left.wait(20)
