"""Tokens that another issuer's JWT is exchanged for: the deployment's own, and a company's people's."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.management import call_command
from django.test import override_settings

from mcp_oauth import AuthorizationRequired, call_tool
from mcp_oauth.exceptions import CredentialsRefused, InvalidRequest, TokenEndpointUnavailable
from mcp_oauth.models import McpServer, McpServerOAuth
from mcp_oauth.oauth.identity import IdentityToken
from mcp_oauth.services.grants import usable_grant
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import update_server
from project.peers.foreign import IdentityProvider, NotAccepted, TrustedIssuer, accepted_claims
from tests.people import browser_of, member, new_server, new_workspace, pause_is_over
from tests.servers import AuthorizationServerOptions, PreregisteredClient, ProtectedServer

pytestmark = pytest.mark.django_db(transaction=True)

Peer = Callable[..., ProtectedServer]
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
PLATFORM = "https://platform.example.com"


@dataclass(frozen=True)
class Key:
    """A key pair, both halves PEM."""

    private: str
    public: str


def new_key() -> Key:
    key = ec.generate_private_key(ec.SECP256R1())
    return Key(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )


def settings_with(**changes: Any) -> Any:
    from django.conf import settings

    return override_settings(MCP_OAUTH={**settings.MCP_OAUTH, **changes})


def token_requests(peer: ProtectedServer) -> list[dict[str, str]]:
    return [dict(request.form) for request in peer.authorization_server.requests_to("/token")]


# The deployment's workload identity.


@dataclass
class Platform:
    """What issues JWTs to this deployment, into a file."""

    key: Key
    file: Path

    def issue(self, audience: str, *, lifetime: int = 600, key: Key | None = None) -> str:
        now = int(time.time())
        claims = {"iss": PLATFORM, "sub": "the-deployment", "aud": audience, "iat": now, "exp": now + lifetime}
        token = jwt.encode(claims, (key or self.key).private, algorithm="ES256")
        self.file.write_text(token + "\n")
        return token

    @property
    def trust(self) -> AuthorizationServerOptions:
        return AuthorizationServerOptions(
            clients=(PreregisteredClient("the-workload"),),
            trusted_issuers=(TrustedIssuer(PLATFORM, self.key.public),),
        )


@pytest.fixture
def platform(tmp_path: Path) -> Any:
    platform = Platform(new_key(), tmp_path / "token")
    with settings_with(WORKLOAD_TOKENS={"tracker": str(platform.file)}):
        yield platform


def workload(**options: Any) -> dict[str, Any]:
    return {"auth_mode": "workload", "client_id": "the-workload", "options": {"workload_token": "tracker", **options}}


@pytest.mark.requirement("ext-wif-request", "rfc7523-2.1-grant")
def test_the_deployment_opens_a_server_with_its_platforms_token(protected_mcp_server: Peer, platform: Platform) -> None:
    peer = protected_mcp_server(as_options=platform.trust)
    token = platform.issue(peer.issuer)
    workspace = new_workspace()
    user, colleague = member(workspace), member(workspace)
    server = new_server(workspace, peer.url, **workload())

    assert call_tool(server, user, "whoami").text == call_tool(server, colleague, "whoami").text == "the-deployment"

    (request,) = token_requests(peer)
    assert request == {
        "grant_type": JWT_BEARER,
        "assertion": token,
        "client_id": "the-workload",
        "resource": peer.url,
        "scope": "read",
    }
    assert McpServerOAuth.objects.get().user_id is None
    assert token not in str(peer.requests)
    page = browser_of(user).get(f"/workspaces/{workspace.slug}/mcp/").content.decode()
    assert "Opened by this deployment&#x27;s identity" in page


@pytest.mark.requirement("ext-wif-audience")
def test_the_file_is_read_again_when_the_token_ends(protected_mcp_server: Peer, platform: Platform) -> None:
    peer = protected_mcp_server(as_options=platform.trust)
    first = platform.issue(peer.issuer)
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, **workload())
    call_tool(server, user, "whoami")
    # Half the services that issue such tokens name the token endpoint as the audience.
    second = platform.issue(f"{peer.issuer}/token")

    peer.authorization_server.expire_access_tokens()

    assert call_tool(server, user, "whoami").text == "the-deployment"
    assert [request["assertion"] for request in token_requests(peer)] == [first, second]


def test_a_refused_token_is_neither_sent_again_nor_replaced_by_another_grant(
    protected_mcp_server: Peer, platform: Platform
) -> None:
    peer = protected_mcp_server(as_options=platform.trust)
    platform.issue(peer.issuer, key=new_key())
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, client_secret="a-secret", **workload(token_endpoint_auth_method="none"))

    for _ in range(3):
        with pytest.raises(CredentialsRefused) as refused:
            call_tool(server, user, "whoami")

    assert [request["grant_type"] for request in token_requests(peer)] == [JWT_BEARER]
    assert "workload" in refused.value.user_message
    platform.issue(peer.issuer)
    with settings_with(UNATTENDED_RETRY_SECONDS=0.0, WORKLOAD_TOKENS={"tracker": str(platform.file)}):
        assert call_tool(server, user, "whoami").text == "the-deployment"


@pytest.mark.requirement("ext-wif-audience", "ext-wif-access-control")
@pytest.mark.parametrize("content", ["missing", "too large", "no token", "other audience", "no audience"])
def test_a_file_that_cannot_be_used_is_sent_nowhere(
    protected_mcp_server: Peer, platform: Platform, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    peer = protected_mcp_server(as_options=platform.trust)
    workspace = new_workspace()
    server = new_server(workspace, peer.url, **workload())
    if content == "too large":
        platform.file.write_text("a.b." + "c" * 20_000)
    elif content == "no token":
        platform.file.write_text("root:x:0:0:root:/root:/bin/sh\n")
    elif content == "other audience":
        platform.issue("https://elsewhere.example.com")
    elif content == "no audience":
        platform.issue("")

    with pytest.raises(CredentialsRefused) as refused:
        call_tool(server, member(workspace), "whoami")

    assert token_requests(peer) == []
    assert str(platform.file) not in str(refused.value.as_json())
    assert McpServerOAuth.objects.get().reason == "misconfigured"
    assert "workload token “tracker”" in caplog.text
    assert "root:x" not in caplog.text


@pytest.mark.requirement("ext-wif-audience")
def test_a_server_that_moves_to_another_authorization_server_is_not_shown_the_token(
    protected_mcp_server: Peer, platform: Platform
) -> None:
    mine, other = protected_mcp_server(as_options=platform.trust), protected_mcp_server(as_options=platform.trust)
    platform.issue(mine.issuer)
    workspace = new_workspace()
    # An administrator who may add servers, and would like to hold a token for somebody else's.
    server = new_server(workspace, other.url, **workload())

    with pytest.raises(CredentialsRefused):
        call_tool(server, member(workspace), "whoami")

    assert token_requests(mine) == token_requests(other) == []


@pytest.mark.requirement("ext-wif-access-control")
@pytest.mark.parametrize(
    "wrong",
    [
        {"options": {}},
        {"options": {"workload_token": "/etc/passwd"}},
        {"options": {"workload_token": "unknown"}},
        {"options": {"workload_token": "tracker", "tolerate_issuer_mismatch": True}},
        {"client_id": ""},
    ],
)
def test_what_cannot_work_is_not_saved(protected_mcp_server: Peer, platform: Platform, wrong: dict[str, Any]) -> None:
    peer = protected_mcp_server(as_options=platform.trust)

    with pytest.raises(InvalidRequest):
        new_server(new_workspace(), peer.url, **{**workload(), **wrong})

    assert not McpServer.objects.exists()


def test_another_token_for_the_server_ends_what_the_last_one_opened(
    protected_mcp_server: Peer, platform: Platform
) -> None:
    peer = protected_mcp_server(as_options=platform.trust)
    platform.issue(peer.issuer)
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url, **workload())
    call_tool(server, user, "whoami")
    with settings_with(WORKLOAD_TOKENS={"other": str(platform.file)}):
        update_server(server, ServerSettings(name="Tracker", url=peer.url, **workload(workload_token="other")))

        assert call_tool(server, user, "whoami").text == "the-deployment"

    assert len(token_requests(peer)) == 2


# Through the company's identity provider.

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
# What the site's sign-in holds, by user name.
SIGN_INS: dict[str, IdentityToken] = {}


def sign_in_of(user: Any, server: McpServer) -> IdentityToken | None:
    """Stand for the site's sign-in."""
    return SIGN_INS.get(user.get_username())


def broken_sign_in(user: Any, server: McpServer) -> IdentityToken | None:
    raise RuntimeError("the table of sign-ins is locked")


@dataclass
class Company:
    """An identity provider that serves, and a protected server whose authorization server trusts it."""

    provider: Any
    peer: ProtectedServer
    key: Key

    def sign_in(self, user: Any, name: str, **details: Any) -> IdentityToken:
        vouching = self.provider.options.identity_provider
        token = vouching.id_token(**{"issuer": self.provider.issuer, "user": name, "client_id": "site", **details})
        SIGN_INS[user.get_username()] = IdentityToken(token)
        return SIGN_INS[user.get_username()]

    def settings(self, **options: Any) -> dict[str, Any]:
        return {
            "auth_mode": "enterprise",
            "client_id": "site-at-tracker",
            "client_secret": "tracker-secret",
            "idp_client_secret": "company-secret",
            "options": {"idp_issuer": self.provider.issuer, "idp_client_id": "site", **options},
        }

    @property
    def exchanges(self) -> list[dict[str, str]]:
        return [dict(request.form) for request in self.provider.requests_to("/token")]


@pytest.fixture
def company(authorization_server: Callable[..., Any], protected_mcp_server: Peer) -> Iterator[Company]:
    key = new_key()
    provider = authorization_server(
        AuthorizationServerOptions(
            clients=(PreregisteredClient("site", "company-secret"),), code_challenge_methods=None
        )
    )
    peer = protected_mcp_server(
        as_options=AuthorizationServerOptions(
            clients=(PreregisteredClient("site-at-tracker", "tracker-secret"),),
            trusted_issuers=(TrustedIssuer(provider.issuer, key.public, vouches_for="people"),),
        )
    )
    permitted = {peer.issuer: "site-at-tracker"}
    provider.options = replace(provider.options, identity_provider=IdentityProvider(key.private, permitted))
    SIGN_INS.clear()
    with settings_with(IDENTITY_TOKEN_PROVIDER=f"{__name__}.sign_in_of"):
        yield Company(provider, peer, key)
    SIGN_INS.clear()


@pytest.mark.requirement("ext-ema-audience", "ext-ema-resource", "rfc8693-2.1-request", "rfc7523-2.1-grant")
def test_two_members_get_two_grants_and_see_no_consent_page(company: Company) -> None:
    workspace = new_workspace()
    ada, grace = member(workspace), member(workspace)
    server = new_server(workspace, company.peer.url, **company.settings())
    token = company.sign_in(ada, "ada@example.com")
    company.sign_in(grace, "grace@example.com")

    assert call_tool(server, ada, "whoami").text == "ada@example.com"
    assert call_tool(server, grace, "whoami").text == "grace@example.com"
    assert call_tool(server, ada, "whoami").text == "ada@example.com"

    assert {grant.user_id for grant in McpServerOAuth.objects.all()} == {ada.pk, grace.pk}
    assert len(company.exchanges) == len(token_requests(company.peer)) == 2
    asked, given = company.exchanges[0], token_requests(company.peer)[0]
    assert asked["grant_type"] == TOKEN_EXCHANGE
    assert asked["subject_token"] == token.token
    assert (asked["audience"], asked["resource"]) == (company.peer.issuer, company.peer.url)
    assert given["grant_type"] == JWT_BEARER
    assert jwt.get_unverified_header(given["assertion"])["typ"] == "oauth-id-jag+jwt"
    page = browser_of(ada).get(f"/workspaces/{workspace.slug}/mcp/").content.decode()
    assert "Opened with your company sign-in" in page
    assert "Disconnect" not in page


@pytest.mark.requirement("mcp-auth-own-tokens", "ext-ema-sensitive", "ext-ema-tokens-not-leaked")
@pytest.mark.requirement("ext-ema-secret-storage", "oauth21-7.1-tokens-to-audience")
def test_every_secret_and_token_reaches_its_own_issuer_only(company: Company) -> None:
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, company.peer.url, **company.settings())
    token = company.sign_in(ada, "ada@example.com").token
    call_tool(server, ada, "whoami")

    def seen(requests: Any) -> str:
        return " ".join(f"{request.path} {dict(request.headers)} {request.body!r}" for request in requests)

    basic = {
        name: base64.b64encode(pair.encode()).decode()
        for name, pair in {"site": "site:company-secret", "tracker": "site-at-tracker:tracker-secret"}.items()
    }
    at_company = seen(company.provider.requests)
    at_tracker = seen(company.peer.authorization_server.requests)
    at_server = seen(company.peer.requests)
    assertion = token_requests(company.peer)[0]["assertion"]
    assert token in at_company
    assert token not in at_tracker + at_server
    assert assertion in at_tracker
    assert assertion not in at_company + at_server
    assert "company-secret" not in at_tracker + at_server
    assert basic["site"] not in at_tracker + at_server
    assert "tracker-secret" not in at_company + at_server
    assert basic["tracker"] not in at_company + at_server
    access_token = company.peer.authorization_server.access_tokens[0].value
    assert access_token in at_server
    assert access_token not in at_company


def test_a_token_that_ends_is_renewed_by_asking_the_company_again(company: Company) -> None:
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, company.peer.url, **company.settings())
    company.sign_in(ada, "ada@example.com")
    call_tool(server, ada, "whoami")
    grant = McpServerOAuth.objects.get()
    assert grant.refresh_token is None

    company.peer.authorization_server.expire_access_tokens()

    assert call_tool(server, ada, "whoami").text == "ada@example.com"
    assert len(company.exchanges) == len(token_requests(company.peer)) == 2
    assert McpServerOAuth.objects.get().version > grant.version


def test_who_has_not_signed_in_at_the_company_is_asked_to_and_nobody_else_is(company: Company) -> None:
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, company.peer.url, **company.settings())

    for _ in range(2):
        with pytest.raises(AuthorizationRequired) as needed:
            call_tool(server, ada, "whoami")

    assert needed.value.reason == "sign_in_again"
    assert "sign in again" in needed.value.next_step
    assert company.provider.requests == company.peer.authorization_server.requests == []
    assert "Sign in again" in browser_of(ada).get(f"/workspaces/{workspace.slug}/mcp/").content.decode()
    company.sign_in(ada, "ada@example.com")
    assert call_tool(server, ada, "whoami").text == "ada@example.com"


@pytest.mark.parametrize("wrong", [{"lifetime": -60}, {"client_id": "another-site"}], ids=["expired", "other client"])
def test_a_sign_in_the_company_no_longer_accepts_has_to_be_repeated(company: Company, wrong: dict[str, Any]) -> None:
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, company.peer.url, **company.settings())
    company.sign_in(ada, "ada@example.com", **wrong)

    for _ in range(3):
        with pytest.raises(AuthorizationRequired) as needed:
            call_tool(server, ada, "whoami")

    assert needed.value.reason == "sign_in_again"
    # The same token is not tried over and over, the next one at once.
    assert len(company.exchanges) == 1
    assert token_requests(company.peer) == []
    company.sign_in(ada, "ada@example.com")
    assert call_tool(server, ada, "whoami").text == "ada@example.com"


def test_a_forged_sign_in_is_found_out_by_the_company(company: Company) -> None:
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, company.peer.url, **company.settings())
    forged = IdentityProvider(new_key().private, {}).id_token(
        issuer=company.provider.issuer, user="boss@example.com", client_id="site"
    )
    SIGN_INS[ada.get_username()] = IdentityToken(forged)

    with pytest.raises(AuthorizationRequired):
        call_tool(server, ada, "whoami")

    assert token_requests(company.peer) == []


@pytest.mark.parametrize("wrong", ["not permitted", "other audience", "other client", "other signer"])
def test_what_the_company_or_the_provider_does_not_permit_is_an_administrators_business(
    company: Company, wrong: str
) -> None:
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, company.peer.url, **company.settings())
    permitted = {} if wrong == "not permitted" else {company.peer.issuer: "site-at-tracker"}
    vouching = IdentityProvider(company.key.private, permitted)
    if wrong == "other client":
        vouching = IdentityProvider(company.key.private, {company.peer.issuer: "somebody-else"})
    company.provider.options = replace(company.provider.options, identity_provider=vouching)
    if wrong == "other audience":
        company.peer.configure_authorization_server(metadata_overrides={"issuer": "https://elsewhere.example.com"})
    if wrong == "other signer":
        stranger = TrustedIssuer(company.provider.issuer, new_key().public, vouches_for="people")
        company.peer.configure_authorization_server(trusted_issuers=(stranger,))
    company.sign_in(ada, "ada@example.com")

    with pytest.raises((CredentialsRefused, TokenEndpointUnavailable)):
        call_tool(server, ada, "whoami")

    assert not company.peer.authorization_server.access_tokens
    expected = {"not permitted": (1, 0), "other audience": (0, 0)}.get(wrong, (1, 1))
    assert (len(company.exchanges), len(token_requests(company.peer))) == expected


def test_an_identity_token_is_shown_to_its_own_issuer_whatever_an_administrator_enters(
    company: Company, authorization_server: Callable[..., Any]
) -> None:
    greedy = authorization_server(AuthorizationServerOptions(clients=(PreregisteredClient("site", "company-secret"),)))
    workspace = new_workspace()
    ada = member(workspace)
    company.sign_in(ada, "ada@example.com")

    for number, options in enumerate(
        (
            {"idp_issuer": greedy.issuer},
            {"idp_issuer": "", "idp_token_endpoint": f"{greedy.issuer}/token"},
            {"idp_token_endpoint": f"{greedy.issuer}/token"},
        )
    ):
        server = new_server(workspace, company.peer.url, f"Greedy {number}", **company.settings(**options))
        with pytest.raises(CredentialsRefused):
            call_tool(server, ada, "whoami")

    assert greedy.requests_to("/token") == company.exchanges == []


def test_the_token_endpoint_may_be_entered_instead_of_found(company: Company) -> None:
    workspace = new_workspace()
    ada = member(workspace)
    options = {"idp_issuer": "", "idp_token_endpoint": f"{company.provider.issuer}/token"}
    server = new_server(workspace, company.peer.url, **company.settings(**options))
    company.sign_in(ada, "ada@example.com")

    assert call_tool(server, ada, "whoami").text == "ada@example.com"
    assert [request.path for request in company.provider.requests] == ["/token"]


@pytest.mark.requirement("ext-ema-secret-storage")
def test_another_identity_provider_never_gets_the_stored_secret(company: Company) -> None:
    workspace = new_workspace()
    server = new_server(workspace, company.peer.url, **company.settings())
    assert server.idp_client_secret == "company-secret"
    stored = McpServer.objects.values_list("idp_client_secret", flat=True).get()
    assert str(stored).startswith("v1.")

    moved = {**company.settings(idp_issuer="https://login.example.com"), "idp_client_secret": None}
    update_server(server, ServerSettings(name="Tracker", url=company.peer.url, **moved))

    server.refresh_from_db()
    assert server.idp_client_secret is None


def test_a_change_of_the_server_ends_the_grant_and_the_next_call_makes_another(company: Company) -> None:
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, company.peer.url, **company.settings())
    company.sign_in(ada, "ada@example.com")
    call_tool(server, ada, "whoami")

    update_server(server, ServerSettings(name="Tracker", url=company.peer.url, **company.settings(audience="x")))

    assert McpServerOAuth.objects.get().access_token is None
    assert call_tool(server, ada, "whoami").text == "ada@example.com"
    assert len(company.exchanges) == 2


def test_nothing_is_made_for_a_person_who_is_gone(company: Company) -> None:
    server = new_server(new_workspace(), company.peer.url, **company.settings())

    with pytest.raises(AuthorizationRequired):
        usable_grant(server, SimpleNamespace(pk=987654321))

    assert not McpServerOAuth.objects.exists()


def test_a_sign_in_that_fails_costs_nothing_but_the_call(company: Company) -> None:
    workspace = new_workspace()
    ada = member(workspace)
    server = new_server(workspace, company.peer.url, **company.settings())
    with (
        settings_with(IDENTITY_TOKEN_PROVIDER=f"{__name__}.broken_sign_in"),
        pytest.raises(TokenEndpointUnavailable) as failed,
    ):
        call_tool(server, ada, "whoami")
    assert "locked" not in str(failed.value)

    pause_is_over()
    company.sign_in(ada, "ada@example.com")
    assert call_tool(server, ada, "whoami").text == "ada@example.com"


@pytest.mark.requirement("ext-ema-https")
@pytest.mark.parametrize(
    "wrong",
    [
        {"idp_client_id": ""},
        {"idp_issuer": ""},
        {"idp_issuer": "http://login.example.com"},
        {"tolerate_issuer_mismatch": True},
    ],
)
def test_a_company_that_cannot_be_asked_is_not_saved(company: Company, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        new_server(new_workspace(), company.peer.url, **company.settings(**wrong))

    assert not McpServer.objects.exists()


def test_without_a_source_of_identity_tokens_nothing_is_saved(company: Company) -> None:
    with settings_with(IDENTITY_TOKEN_PROVIDER=""), pytest.raises(InvalidRequest):
        new_server(new_workspace(), company.peer.url, **company.settings())


def test_the_command_adds_such_a_server_with_both_secrets(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    new_workspace("acme")
    monkeypatch.setattr("sys.stdin", StringIO("tracker-secret\n\ncompany-secret\n"))

    call_command(
        "add_mcp_server", "Tracker", company.peer.url, "--workspace", "acme", "--auth", "enterprise",
        "--client-id", "site-at-tracker", "--client-secret-stdin", "--idp-client-secret-stdin",
        "--option", f"idp_issuer={company.provider.issuer}", "--option", "idp_client_id=site", stdout=StringIO(),
    )  # fmt: skip

    server = McpServer.objects.get()
    assert (server.client_secret, server.idp_client_secret) == ("tracker-secret", "company-secret")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"aud": "https://elsewhere.example.com"}, "Audience"),
        ({"iss": "https://elsewhere.example.com"}, "Nobody trusts"),
        ({"client_id": "another"}, "another client"),
        ({"resource": "https://elsewhere.example.com/mcp"}, "another resource"),
        ({"exp": 1}, "expired"),
        ({"typ": "JWT"}, "another kind"),
    ],
)
def test_the_peers_believe_no_assertion_that_is_not_meant_for_them(wrong: dict[str, Any], why: str) -> None:
    key = new_key()
    good = {
        "iss": PLATFORM,
        "sub": "ada",
        "aud": "https://auth.example.com",
        "client_id": "site",
        "resource": "https://tracker.example.com/mcp",
        "iat": int(time.time()),
        "exp": int(time.time()) + 60,
        "typ": "oauth-id-jag+jwt",
    }

    def claims_of(content: dict[str, Any]) -> Any:
        claims = {name: value for name, value in content.items() if name != "typ"}
        return accepted_claims(
            jwt.encode(claims, key.private, algorithm="ES256", headers={"typ": content["typ"]}),
            trusted=[TrustedIssuer(PLATFORM, key.public, vouches_for="people")],
            audiences=["https://auth.example.com"],
            client_id="site",
            resource="https://tracker.example.com/mcp",
        )

    assert claims_of(good)["sub"] == "ada"
    with pytest.raises(NotAccepted, match=why):
        claims_of({**good, **wrong})
