"""What the specifications ask and no other file shows: where metadata is found and where no secret ever is."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohappyeyeballs
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from mcp_oauth import call_tool, list_tools
from mcp_oauth.exceptions import AuthorizationRequired, ConfigurationError, McpOAuthError
from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth, OAuthRegistration, StoredListing, Workspace
from mcp_oauth.oauth.authorization import authorization_url
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.registration import registration_request
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, start
from tests.protocol.test_enterprise_and_workload import Company, company  # noqa: F401  (a fixture)
from tests.servers import (
    AuthorizationServerOptions,
    Fault,
    OddServer,
    Person,
    PreregisteredClient,
    ProtectedServer,
    RecordedRequest,
    html_fault,
    json_fault,
)
from tests.unit.oauth.samples import METADATA

pytestmark = pytest.mark.django_db(transaction=True)

APPLICATION = Path(__file__).resolve().parent.parent.parent / "mcp_oauth"
SECRET = "the-client-secret-of-an-administrator"
BY_HAND = PreregisteredClient("by hand", SECRET, token_endpoint_auth_method="client_secret_post")


@dataclass(frozen=True)
class Account:
    """A member of a workspace, a protected server in it, and the person's account there."""

    peer: ProtectedServer
    workspace: Workspace
    user: User
    browser: Client
    server: McpServer
    person: Person = field(repr=False)

    @property
    def requests(self) -> list[RecordedRequest]:
        return [*self.peer.requests, *self.peer.authorization_server.requests]

    def connect(self) -> McpServerOAuth:
        return connect(self.browser, self.server, self.person)

    def use_everything(self) -> list[str]:
        """Connect, list, call, renew, call again and disconnect; returns every secret there was on the way."""
        grants = [self.connect()]
        list_tools(self.server, self.user)
        call_tool(self.server, self.user, "whoami")
        McpServerOAuth.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        call_tool(self.server, self.user, "whoami")
        grants.append(McpServerOAuth.objects.get())
        stored = everything_stored()
        self.browser.post("/mcp/oauth/disconnect/", {"server": str(self.server.pk)})
        (exchange,) = (r for r in self.peer.authorization_server.requests_to("/token") if "code" in r.form)
        secrets = {exchange.form["code"], exchange.form["code_verifier"], SECRET}
        secrets |= {str(token) for grant in grants for token in (grant.access_token, grant.refresh_token)}
        assert len(secrets) == 7
        assert not [secret for secret in secrets if secret in stored]
        return sorted(secrets)


@pytest.fixture
def account(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> Callable[..., Account]:
    """Sit a member down before a server: ``account(as_options={...}, server_settings={...}, **peer_options)``."""

    def sit(
        *,
        as_options: Mapping[str, Any] | None = None,
        server_settings: Mapping[str, Any] | None = None,
        **peer_options: Any,
    ) -> Account:
        options = AuthorizationServerOptions(**{"cimd": False, "auto_consent": "ada", **(as_options or {})})
        peer = protected_mcp_server(as_options=options, **peer_options)
        workspace = new_workspace()
        user = member(workspace)
        server = new_server(workspace, peer.url, **(server_settings or {}))
        return Account(peer, workspace, user, browser_of(user), server, person("ada"))

    return sit


@pytest.fixture
def confidential(account: Callable[..., Account]) -> Account:
    """Sit a member down before a server where a client with a secret was registered by hand."""
    return account(
        as_options={"clients": (BY_HAND,)}, server_settings={"client_id": BY_HAND.client_id, "client_secret": SECRET}
    )


def everything_stored() -> str:
    """Return all that the application has in the database, as it lies there."""
    rows = []
    with connection.cursor() as cursor:
        for model in apps.get_app_config("mcp_oauth").get_models():
            cursor.execute(f"SELECT * FROM {model._meta.db_table}")  # noqa: S608  (a table of ours)
            rows += cursor.fetchall()
    return repr(rows)


# Where metadata is.

OAUTH, OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"


@pytest.mark.requirement("mcp-auth-both-discoveries", "mcp-discovery-several-locations")
@pytest.mark.requirement("mcp-discovery-order-with-path", "mcp-discovery-order-without-path", "rfc8414-3.1-inserted")
@pytest.mark.parametrize(
    ("issuer_path", "form", "asked"),
    [
        ("", "oauth", [OAUTH]),
        ("", "openid-inserted", [OAUTH, OPENID]),
        ("/tenant", "oauth", [f"{OAUTH}/tenant"]),
        ("/tenant", "openid-inserted", [f"{OAUTH}/tenant", f"{OPENID}/tenant"]),
        ("/tenant", "openid-appended", [f"{OAUTH}/tenant", f"{OPENID}/tenant", f"/tenant{OPENID}"]),
    ],
)
def test_an_account_connects_wherever_the_metadata_is(
    account: Callable[..., Account], issuer_path: str, form: str, asked: list[str]
) -> None:
    at = account(as_options={"issuer_path": issuer_path, "metadata_forms": (form,)})
    at.peer.authorization_server.requests.clear()

    at.connect()

    assert call_tool(at.server, at.user, "whoami").text == "ada"
    seen = [request for request in at.peer.authorization_server.requests if "/.well-known/" in request.path]
    assert [(request.method, request.path) for request in seen] == [("GET", path) for path in asked]


@pytest.mark.requirement("mcp-security-pkce-absent-openid", "T10")
@pytest.mark.parametrize("methods", [None, ("plain",)], ids=["absent", "plain"])
def test_openid_metadata_that_does_not_promise_s256_ends_the_attempt(
    account: Callable[..., Account], methods: tuple[str, ...] | None
) -> None:
    at = account(as_options={"metadata_forms": ("openid-inserted",), "code_challenge_methods": methods})

    error = start(at.browser, at.server)["error"]

    assert (error["code"], error["document"]) == ("discovery_failed", f"{at.peer.issuer}{OPENID}")
    assert {request.method for request in at.peer.authorization_server.requests} == {"GET"}
    assert AuthorizationFlow.objects.count() == 0


@pytest.mark.requirement("rfc6749-5.1-unknown-ignored", "rfc8414-2-unknown-ignored", "rfc9728-2-unknown-ignored")
def test_unknown_members_of_documents_and_answers_are_passed_over(account: Callable[..., Account]) -> None:
    unknown = {"example_of_tomorrow": {"a": [1, None, "x"]}}
    at = account()
    at.peer.configure(metadata_overrides=unknown)

    def with_more(form: Mapping[str, Any]) -> Fault:
        answer = at.peer.authorization_server.grant(client_id=form["client_id"], scope="read", resource=at.peer.url)
        return 200, {"content-type": "application/json"}, json.dumps({**answer, **unknown}).encode()

    at.peer.configure_authorization_server(metadata_overrides=unknown, token_faults=with_more)

    at.connect()

    assert call_tool(at.server, at.user, "whoami").text == "ada"


# Where people are sent, and sent back to.


@pytest.mark.requirement("T21")
def test_people_see_what_is_asked_for_and_whom_before_they_leave(account: Callable[..., Account]) -> None:
    at = account(scopes=("read", "files:write"))

    page = at.browser.post("/mcp/oauth/start/", {"server": str(at.server.pk)}).content.decode()

    assert "<code>read</code>" in page
    assert "<code>files:write</code>" in page
    assert at.peer.issuer.removeprefix("http://") in page
    assert at.peer.authorization_server.requests_to("/authorize") == []


@pytest.mark.requirement("mcp-bp-url-allow-list", "mcp-bp-url-dangerous", "T09")
@pytest.mark.parametrize("scheme", ["vbscript", "ftp", "ws", "blob", "intent", "scheme-of-tomorrow", "httpss", ""])
def test_people_are_sent_to_no_scheme_but_the_permitted_ones(account: Callable[..., Account], scheme: str) -> None:
    at = account()
    endpoint = f"{scheme}://as.example.com/authorize"
    at.peer.configure_authorization_server(metadata_overrides={"authorization_endpoint": endpoint})

    assert start(at.browser, at.server)["error"]["code"] == "discovery_failed"
    page = at.browser.post("/mcp/oauth/start/", {"server": str(at.server.pk)})
    assert "Refresh" not in page.headers
    assert endpoint not in page.content.decode()


@pytest.mark.requirement("rfc9700-2.1-no-open-redirector")
def test_the_callback_sends_nobody_to_an_address_in_the_answer(account: Callable[..., Account]) -> None:
    at = account()
    elsewhere = "https://evil.example/"
    names = ("next", "redirect_uri", "url", "return_to", "RelayState", "target_link_uri", "iss_uri")
    more = "".join(f"&{name}={elsewhere}" for name in names)
    answers = [
        come_back(at.browser, at.person.authorize(start(at.browser, at.server)["authorization_url"]) + more),
        come_back(at.browser, f"http://127.0.0.1:8000/mcp/oauth/callback/?state=x&error=access_denied{more}"),
        come_back(Client(), f"http://127.0.0.1:8000/mcp/oauth/callback/?state=x&code=y{more}"),
    ]

    assert [answer.status_code for answer in answers] == [200, 400, 401]
    for answer in answers:
        assert not {"Location", "Refresh"} & set(answer.headers)
        assert "evil.example" not in answer.content.decode()


@pytest.mark.requirement("mcp-security-redirect-uri", "rfc6749-3.1.2-absolute", "T08")
@pytest.mark.parametrize("how", ["document", "dynamic", "by hand"])
@pytest.mark.parametrize(
    "public_url", ["http://app.example.com", "http://10.0.0.1:8000", "http://localhost.example.com"]
)
def test_nobody_is_to_come_back_over_plain_http(
    account: Callable[..., Account], settings: Any, public_url: str, how: str
) -> None:
    client = {"client_id": BY_HAND.client_id, "client_secret": SECRET} if how == "by hand" else {}
    at = account(as_options={"cimd": how == "document", "clients": (BY_HAND,)}, server_settings=client)
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "PUBLIC_URL": public_url}

    assert start(at.browser, at.server)["error"]["code"] == "configuration_error"

    assert {request.method for request in at.peer.authorization_server.requests} == {"GET"}
    assert at.peer.authorization_server.requests_to("/authorize") == []
    assert AuthorizationFlow.objects.count() == OAuthRegistration.objects.filter(kind="dynamic").count() == 0


@pytest.mark.requirement("mcp-security-redirect-uri", "rfc6749-3.1.2-absolute")
@pytest.mark.parametrize("uri", ["http://app.example.com/back", "/mcp/oauth/callback/", "myapp://back", ""])
def test_no_request_is_built_around_an_unsafe_redirect_uri(uri: str) -> None:
    with pytest.raises(ConfigurationError):
        registration_request(METADATA, client_name="App", redirect_uri=uri, client_uri="", application_type="web")
    with pytest.raises(ConfigurationError):
        authorization_url(
            METADATA,
            client_id="client",
            redirect_uri=uri,
            state="state",
            code_verifier="verifier",
            scope="",
            resource=None,
            options=OAuthOptions(),
        )


# What is sent and stored.


@pytest.mark.requirement("mcp-auth-no-token-in-query", "oauth21-2.4.1-not-in-uri", "rfc6750-2.3-query")
@pytest.mark.requirement("rfc6750-5.3-cookies", "rfc6749-3.2-post", "mcp-security-token-storage")
@pytest.mark.requirement("mcp-auth-refresh-confidential", "ext-ema-token-storage", "T42")
def test_no_secret_is_in_an_address_or_a_cookie_or_readable_in_the_database(confidential: Account) -> None:
    secrets = confidential.use_everything()

    asked = confidential.requests
    assert len(asked) > 10
    for secret in secrets:
        # The code is given to the person's browser by the authorization server, not by us.
        assert not [request for request in asked if secret in f"{request.path}?{request.raw_query}"]
        assert secret not in confidential.browser.cookies.output()
    assert all("cookie" not in request.headers for request in confidential.peer.requests)
    for request in confidential.peer.authorization_server.requests_to("/token"):
        assert (request.method, request.raw_query) == ("POST", "")
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"


def logged_here(caplog: pytest.LogCaptureFixture) -> str:
    """Return what was logged in this process, but for the person's browser, which speaks through another stack."""
    said = "\n".join(
        f"{record.getMessage()} {record.exc_text or ''} {record.__dict__}"
        for record in caplog.records
        if record.name.partition(".")[0] not in {"httpx", "httpcore"}
    )
    # What is said of every request was listened to as well.
    assert ": HTTP 200" in said
    return said


@pytest.mark.requirement("T41")
def test_no_secret_of_a_whole_life_of_a_grant_is_logged(
    confidential: Account, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "mcp_oauth", "mcp", "client", "httpx2", "aiohttp", "asyncio", "django"):
        caplog.set_level(logging.DEBUG, logger=name)

    secrets = confidential.use_everything()

    said = logged_here(caplog)
    assert not [secret for secret in secrets if secret in said]


@pytest.mark.requirement("ext-ema-not-in-urls", "ext-ema-not-logged", "ext-ema-sensitive", "ext-ema-tokens-not-leaked")
@pytest.mark.requirement("ext-ema-personal-information")
def test_an_assertion_is_in_no_address_and_no_log_and_is_not_kept(
    company: Company,  # noqa: F811  (the fixture)
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("", "mcp_oauth", "mcp", "client", "httpx2", "aiohttp", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, company.peer.url, **company.settings())
    identity = company.sign_in(ada, "ada-the-person@example.com").token

    assert call_tool(server, ada, "whoami").text == "ada-the-person@example.com"

    (given,) = company.peer.authorization_server.requests_to("/token")
    (access,) = company.peer.authorization_server.access_tokens
    secrets = [identity, given.form["assertion"], access.value]
    asked = [*company.provider.requests, *company.peer.authorization_server.requests, *company.peer.requests]
    assert not [r for r in asked for secret in secrets if secret in f"{r.path}?{r.raw_query}"]
    said = logged_here(caplog)
    stored = everything_stored()
    for secret in [*secrets, "ada-the-person@example.com"]:
        assert secret not in said
        assert secret not in stored


@pytest.mark.requirement("ext-ema-strong-authentication", "ext-ema-client-authentication")
def test_the_client_can_sign_for_itself_at_the_identity_provider(company: Company) -> None:  # noqa: F811
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    signing = PreregisteredClient("site", public_key=public, token_endpoint_auth_method="private_key_jwt")
    company.provider.options = replace(company.provider.options, clients=(signing,))
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, company.peer.url, **{**company.settings(), "idp_client_secret": pem})
    company.sign_in(ada, "ada@example.com")

    assert call_tool(server, ada, "whoami").text == "ada@example.com"

    (exchange,) = company.exchanges
    assertion = jwt.decode(exchange["client_assertion"], key.public_key(), ["ES256"], audience=company.provider.issuer)
    assert (assertion["iss"], assertion["sub"]) == ("site", "site")
    assert "client_secret" not in exchange


@pytest.mark.requirement("ext-dpop-proof", "ext-dpop-content-digest", "ext-dpop-no-content-digest")
@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_a_proof_for_the_server_names_the_body_it_goes_with(
    era: str, protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server(
        era,
        as_options=AuthorizationServerOptions(cimd=False, require_dpop=True),
        resource_options={"require_dpop": True},
    )
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    connect(browser_of(user), server, person("ada"))
    assert call_tool(server, user, "whoami").text == "ada"

    bound = [request for request in peer.mcp_requests if request.authorization]
    assert {request.rpc_method for request in bound} >= {"tools/call", "tools/list"}
    for request in bound:
        digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
        assert claims_of(request)["content_digest"] == f"sha-256=:{digest}:"
    for request in peer.authorization_server.requests_to("/token"):
        assert "content_digest" not in claims_of(request)


def claims_of(request: RecordedRequest) -> dict[str, Any]:
    return jwt.decode(request.headers["dpop"], options={"verify_signature": False})


# Whom nothing is asked of.

INTERNAL = "https://169.254.169.254/latest"


def _address_is_internal(at: Account) -> None:
    McpServer.objects.filter(pk=at.server.pk).update(url=f"{INTERNAL}/mcp")


SOURCES: dict[str, Callable[[Account], None]] = {
    "the challenge": lambda at: at.peer.configure(metadata_url=f"{INTERNAL}/resource", metadata_at=()),
    "the resource metadata": lambda at: at.peer.configure(authorization_servers=(INTERNAL,)),
    "the registration endpoint": lambda at: at.peer.configure_authorization_server(
        metadata_overrides={"registration_endpoint": f"{INTERNAL}/register"}
    ),
    "the token endpoint": lambda at: at.peer.configure_authorization_server(
        metadata_overrides={"token_endpoint": f"{INTERNAL}/token"}
    ),
    "the revocation endpoint": lambda at: at.peer.configure_authorization_server(
        metadata_overrides={"revocation_endpoint": f"{INTERNAL}/revoke"}
    ),
    "a redirect of the token endpoint": lambda at: at.peer.configure_authorization_server(
        token_faults=lambda form: (307, {"location": f"{INTERNAL}/token"}, b"")
    ),
    "the server's address": _address_is_internal,
}


@pytest.mark.requirement("mcp-bp-ssrf", "mcp-bp-private-addresses", "rfc9728-7.7-ssrf", "T01")
@pytest.mark.parametrize("source", SOURCES)
def test_no_address_from_a_server_leads_into_the_network_it_is_asked_from(
    account: Callable[..., Account], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = account()
    SOURCES[source](at)
    dialled: set[str] = set()
    start_connection = aiohappyeyeballs.start_connection

    async def watched(addr_infos: Any, **options: Any) -> Any:
        dialled.update(address[0] for *_, address in addr_infos)
        return await start_connection(addr_infos, **options)

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", watched)

    started = start(at.browser, at.server)
    if "error" not in started:
        arrived = come_back(at.browser, at.person.authorize(started["authorization_url"]))
        if arrived.status_code == 200:
            page = at.browser.post("/mcp/oauth/disconnect/", {"server": str(at.server.pk)}, follow=True)
            assert "did not confirm it" in page.content.decode()

    assert dialled <= {"127.0.0.1"}
    assert McpServerOAuth.objects.count() == 0


@pytest.mark.requirement("mcp-bp-no-shell")
def test_the_application_starts_no_program_and_opens_no_address() -> None:
    # What is copied for a person's own terminal is quoted for it.
    starters = {"subprocess", "webbrowser", "pty", "os.system", "os.popen", "os.startfile"}
    found = []
    for path in APPLICATION.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" for name in names] + [str(node.module)]
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names = [f"{node.value.id}.{node.attr}"]
            found += [
                (path.name, name) for name in names if name in starters or name.startswith(("os.exec", "os.spawn"))
            ]

    assert found == []


@pytest.mark.requirement("rfc9700-2.4-no-passwords", "rfc9700-2.1.2-no-implicit")
def test_these_are_all_the_grants_and_response_types_there_are() -> None:
    found: dict[str, set[str]] = {"grant_type": set(), "response_type": set()}
    for path in APPLICATION.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for key, value in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
                if isinstance(key, ast.Constant) and key.value in found and isinstance(value, ast.Constant):
                    found[str(key.value)].add(str(value.value))

    assert found["response_type"] == {"code"}
    assert found["grant_type"] == {
        "authorization_code",
        "refresh_token",
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
    }


# The end of a grant and of a client.


@pytest.mark.requirement("rfc7009-2.2.1-unavailable", "rfc7009-2.1-request", "T26")
@pytest.mark.parametrize("answer", [json_fault(503, "server_error"), html_fault(500), html_fault(404)], ids=str)
def test_who_disconnects_while_revocation_is_down_is_told_and_gone_all_the_same(
    confidential: Account, answer: Fault
) -> None:
    confidential.connect()
    confidential.peer.configure_authorization_server(revocation_faults=lambda form: answer)

    page = confidential.browser.post("/mcp/oauth/disconnect/", {"server": str(confidential.server.pk)}, follow=True)

    assert "did not confirm it" in page.content.decode()
    assert McpServerOAuth.objects.count() == 0
    asked = confidential.peer.authorization_server.requests_to("/revoke")
    assert [request.form["token_type_hint"] for request in asked] == ["refresh_token", "access_token"]
    for request in asked:
        assert (request.method, request.form["client_secret"]) == ("POST", SECRET)
    with pytest.raises(AuthorizationRequired):
        call_tool(confidential.server, confidential.user, "whoami")


@pytest.mark.requirement("T26")
def test_a_revocation_endpoint_that_says_nothing_keeps_nobody_waiting(
    confidential: Account, odd_server: Callable[..., OddServer]
) -> None:
    confidential.connect()
    silent = odd_server("silent")
    McpServerOAuth.objects.update(revocation_endpoint=f"{silent.base_url}/revoke")

    page = confidential.browser.post("/mcp/oauth/disconnect/", {"server": str(confidential.server.pk)}, follow=True)

    assert "did not confirm it" in page.content.decode()
    assert silent.connections
    assert McpServerOAuth.objects.count() == 0


@pytest.mark.requirement("T26")
def test_who_disconnects_where_revocation_works_is_told_that_too(confidential: Account) -> None:
    grant = confidential.connect()

    page = confidential.browser.post("/mcp/oauth/disconnect/", {"server": str(confidential.server.pk)}, follow=True)

    assert "confirmed that the access is revoked" in page.content.decode()
    assert confidential.peer.authorization_server.introspect(str(grant.access_token)) is None


@pytest.mark.requirement("T29")
def test_a_client_whose_secret_ended_is_registered_once_more(account: Callable[..., Account]) -> None:
    at = account(as_options={"token_endpoint_auth_methods": ("client_secret_post",), "client_secret_seconds": 3600})
    first = at.connect().client_id
    # As many connections as there may be: the registration lasts as long as its secret.
    start(at.browser, at.server, again="1")
    assert len(at.peer.authorization_server.requests_to("/register")) == 1
    OAuthRegistration.objects.update(client_secret_expires_at=timezone.now() - timedelta(seconds=1))

    again = start(at.browser, at.server, again="1")
    assert come_back(at.browser, at.person.authorize(again["authorization_url"])).status_code == 200

    assert len(at.peer.authorization_server.requests_to("/register")) == 2
    assert McpServerOAuth.objects.get().client_id != first
    assert call_tool(at.server, at.user, "whoami").text == "ada"


@pytest.mark.requirement("T36")
def test_what_was_listed_for_one_person_is_not_there_for_another(account: Callable[..., Account]) -> None:
    at = account()
    at.connect()
    assert list_tools(at.server, at.user).tools
    colleague = member(at.workspace)
    api = f"/api/v1/servers/{at.server.pk}/tools/"

    with pytest.raises(McpOAuthError):
        list_tools(at.server, colleague)

    assert StoredListing.objects.get().user_id == at.user.pk
    page = f"/workspaces/{at.workspace.slug}/mcp/{at.server.pk}/"
    assert "whoami" in at.browser.get(page).content.decode()
    assert "whoami" not in browser_of(colleague).get(page).content.decode()
    assert "whoami" not in browser_of(colleague).get(api).content.decode()
