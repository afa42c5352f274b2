"""Doubles of providers: local pairs of an MCP server and an authorization server that behave as those are known to.

What a provider documents is cited by the document's name, what somebody reported of it by the report's address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from project.peers.options import AuthorizationServerOptions, Fault, PreregisteredClient, TokenDialect, json_fault
from project.peers.resource_server import Era
from tests.servers.mcp import ProtectedServer, protected_mcp_server
from tests.servers.odd import document_server

CLIENT_SECRET = "s3cret of the client made by hand"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What sets a provider apart from the peers' defaults; ``adjust`` sets what depends on its addresses."""

    authorization_server: Mapping[str, Any]
    resource: Mapping[str, Any] = field(default_factory=dict)
    same_origin: bool = False
    scopes: tuple[str, ...] = ("read",)
    metadata_at: tuple[Literal["path", "root"], ...] = ("path",)
    challenge: Literal["metadata", "bare"] = "metadata"
    # The one way of authenticating that a client made by hand has; empty: post and Basic alike.
    client_authentication: str = ""
    # Most hosted servers have not left the handshake behind.
    era: Era = "legacy"
    adjust: Callable[[ProtectedServer, ExitStack], None] | None = None


@dataclass(frozen=True, slots=True)
class ProviderDouble:
    """A provider that is being served, and the client somebody created there by hand."""

    key: str
    peer: ProtectedServer
    client: PreregisteredClient

    @property
    def renews(self) -> bool:
        """Return whether it issues refresh tokens."""
        return self.peer.authorization_server.options.issue_refresh_token

    @property
    def rotates(self) -> bool:
        """Return whether each renewal replaces the refresh token."""
        return self.peer.authorization_server.options.rotate_refresh


@contextmanager
def provider_double(key: str, *, redirect_uri: str) -> Iterator[ProviderDouble]:
    """Serve the double of a provider, at which a client with this redirect URI was created by hand."""
    behaviour = BEHAVIOURS[key]
    client = PreregisteredClient(
        client_id=f"made by hand at {key}",
        client_secret=CLIENT_SECRET,
        redirect_uris=(redirect_uri,),
        token_endpoint_auth_method=behaviour.client_authentication,
    )
    # RFC 9207 and metadata documents are the exception in the field, not the rule.
    usual = {"advertise_iss": False, "send_iss": False, "cimd": False}
    options = AuthorizationServerOptions(**{**usual, **behaviour.authorization_server}, clients=(client,))
    with ExitStack() as stack:
        peer = stack.enter_context(
            protected_mcp_server(
                behaviour.era,
                as_options=options,
                same_origin=behaviour.same_origin,
                scopes=behaviour.scopes,
                metadata_at=behaviour.metadata_at,
                challenge=behaviour.challenge,
                resource_options=behaviour.resource,
            )
        )
        if behaviour.adjust is not None:
            behaviour.adjust(peer, stack)
        yield ProviderDouble(key, peer, client)


def _origin(peer: ProtectedServer) -> str:
    return peer.url.removesuffix("/mcp")


def _endpoints_elsewhere(peer: ProtectedServer, *names: str) -> dict[str, str]:
    """Return endpoints by their names in the metadata, under another host name than the issuer's."""
    paths = {"authorization": "authorize", "token": "token", "revocation": "revoke"}
    url = peer.authorization_server.url
    return {f"{name}_endpoint": url(paths[name]).replace("127.0.0.1", "localhost") for name in names}


# The documents of OpenID providers name scopes that are not the API's.
OFFLINE = {"offline_access": "Keep access while you are away"}

LINEAR = Behaviour(
    same_origin=True,
    authorization_server={
        # Reads metadata documents and registers as well:
        # https://github.com/Cloudgeni-ai/opengeni/issues/297, https://github.com/Cloudgeni-ai/opengeni/issues/307
        "cimd": True,
        "token_endpoint_auth_methods": ("client_secret_basic", "client_secret_post", "none"),
        # Linear's OAuth documentation: a day of access, 30 minutes in which a used refresh token works.
        "access_token_seconds": 86400,
        "refresh_reuse": "in_grace",
        "refresh_grace_seconds": 1800.0,
        "token_dialect": TokenDialect(
            # Says "bearer" and then refuses the header in that spelling:
            # https://github.com/Cloudgeni-ai/opengeni/issues/307
            token_type="bearer",
            # Its words for a dead grant: https://github.com/anthropics/claude-code/issues/85236
            error_words={"invalid_grant": "Grant not found"},
        ),
    },
    resource={"strict_scheme": True},
)

NOTION = Behaviour(
    # The same host for both, with metadata at its root and not below /mcp: https://github.com/apify/mcpc/issues/3
    same_origin=True,
    authorization_server={
        "metadata_forms": ("oauth",),
        # Notion's guide for clients: an hour, rotation, two refresh tokens at most, and a stale one ends the grant.
        "access_token_seconds": 3600,
        "refresh_reuse": "until_successor_used",
    },
)


def _atlassian(peer: ProtectedServer, stack: ExitStack) -> None:
    # The issuer loses its path in its own document:
    # https://github.com/atlassian/atlassian-mcp-server/issues/148
    # https://github.com/atlassian/atlassian-mcp-server/issues/205
    peer.configure_authorization_server(metadata_overrides={"issuer": peer.authorization_server.base_url})


ATLASSIAN = Behaviour(
    # Metadata at the origin alone, and a challenge without a hint:
    # https://github.com/atlassian/atlassian-mcp-server/issues/148
    metadata_at=("root",),
    challenge="bare",
    # Anybody may initialize; only what comes after asks for a token.
    resource={"open_methods": ("initialize", "notifications/initialized")},
    authorization_server={
        "issuer_path": "/VCe0example",
        "metadata_forms": ("oauth", "oauth-appended"),
        "access_token_seconds": 3600,
        # A dead refresh token is none of the client's business, it says: https://github.com/openai/codex/issues/27165
        "token_dialect": TokenDialect(
            error_names={"invalid_grant": "unauthorized_client"},
            error_words={"invalid_grant": "refresh_token is invalid"},
        ),
    },
    adjust=_atlassian,
)


def _slack(peer: ProtectedServer, stack: ExitStack) -> None:
    # The document describes the origin, not the endpoint: https://github.com/kirodotdev/Kiro/issues/10169
    peer.configure(metadata_overrides={"resource": _origin(peer)})
    # People and codes go to slack.com, whatever the issuer: https://github.com/CommandCodeAI/command-code/issues/610
    peer.configure_authorization_server(metadata_overrides=_endpoints_elsewhere(peer, "authorization", "token"))


SLACK = Behaviour(
    same_origin=True,
    metadata_at=("root",),
    authorization_server={
        # No registration: https://github.com/anthropics/claude-code/issues/52354
        "dynamic_registration": False,
        "token_endpoint_auth_methods": ("client_secret_post",),
        # An hour and no refresh token: https://github.com/slackapi/slack-skills-plugin/issues/2
        "access_token_seconds": 3599,
        "issue_refresh_token": False,
        "revocation": False,
        "resource_mode": "ignored",
        "token_dialect": TokenDialect(
            # The scope at the top is empty, the person's is elsewhere:
            # https://github.com/UsefulSoftwareCo/executor/issues/1643
            scope="empty",
            members={"ok": True},
            # Slack's Web API: every answer is HTTP 200, with names of its own:
            # https://github.com/coder/coder/issues/26150
            error_status=200,
            error_names={"invalid_grant": "invalid_code", "invalid_client": "bad_client_secret"},
            error_members={"ok": False},
        ),
    },
    adjust=_slack,
)

GITHUB = Behaviour(
    scopes=("repo", "read:org"),
    # GitHub's documentation of OAuth apps: client ID and secret are parameters of the body.
    client_authentication="client_secret_post",
    authorization_server={
        "issuer_path": "/login/oauth",
        # Between host and path only, the appended form is 404: https://github.com/github/github-mcp-server/issues/2901
        "metadata_forms": ("oauth",),
        # And will not register clients: https://github.com/github/github-mcp-server/issues/2532
        "dynamic_registration": False,
        "token_endpoint_auth_methods": None,
        # GitHub's documentation of OAuth apps: access without end, no refresh token.
        "access_token_seconds": None,
        "issue_refresh_token": False,
        "revocation": False,
        "resource_mode": "ignored",
        "token_dialect": TokenDialect(
            # A form unless JSON is asked for, commas between scopes, errors with HTTP 200: GitHub's documentation of
            # authorizing OAuth apps and of token request errors.
            encoding="by_accept",
            token_type="bearer",
            scope="commas",
            error_status=200,
            error_names={
                "invalid_grant": "bad_verification_code",
                "invalid_client": "incorrect_client_credentials",
            },
        ),
    },
)


def _entra(peer: ProtectedServer, stack: ExitStack) -> None:
    # The document lists OpenID's scopes, never an API's.
    peer.configure_authorization_server(
        metadata_overrides={"scopes_supported": ["openid", "profile", "email", "offline_access"]}
    )


ENTRA = Behaviour(
    scopes=("api://0example/mcp.tools",),
    authorization_server={
        "issuer_path": "/0example/v2.0",
        # OpenID's location alone, and no word on PKCE:
        # https://github.com/modelcontextprotocol/typescript-sdk/issues/832
        "metadata_forms": ("openid-appended",),
        "code_challenge_methods": None,
        "dynamic_registration": False,
        "token_endpoint_auth_methods": ("client_secret_post", "private_key_jwt", "client_secret_basic"),
        # The resource is refused beside scopes: https://github.com/punkpeye/mcp-remote/issues/217
        "resource_mode": "refused",
        "resource_refusal": "AADSTS9010010: The resource parameter provided in the request doesn't match with the "
        "requested scopes.",
        # Microsoft's documentation of the code flow: offline_access is asked for, granted, and not named in the answer;
        # used refresh tokens are not revoked.
        "scopes": {**OFFLINE},
        "refresh_scope": "offline_access",
        "refresh_reuse": "always",
        "token_dialect": TokenDialect(unsaid_scopes=("offline_access",)),
        "access_token_seconds": 3900,
        "revocation": False,
    },
    adjust=_entra,
)

AUTH0 = Behaviour(
    authorization_server={
        # Every issuer ends in a slash.
        "issuer_path": "/",
        # `audience` decides and `resource` does not count:
        # https://github.com/microsoft/vscode/issues/274226, https://github.com/danny-avila/LibreChat/issues/13401
        "resource_mode": "audience",
        "scopes": {**OFFLINE},
        "refresh_scope": "offline_access",
        "access_token_seconds": 86400,
    },
)


def _cognito(peer: ProtectedServer, stack: ExitStack) -> None:
    # The issuer is cognito-idp's, the endpoints are the pool's own domain's:
    # https://github.com/anthropics/claude-code/issues/13275
    elsewhere = _endpoints_elsewhere(peer, "authorization", "token", "revocation")
    peer.configure_authorization_server(metadata_overrides=elsewhere)


COGNITO = Behaviour(
    scopes=("mcp/read",),
    authorization_server={
        "issuer_path": "/us-east-1_Example",
        # OpenID's location alone, no word on PKCE, nobody is registered:
        # https://github.com/anthropics/claude-code/issues/13275, https://github.com/anthropics/claude-code/issues/67258
        "metadata_forms": ("openid-appended",),
        "code_challenge_methods": None,
        "dynamic_registration": False,
        "token_endpoint_auth_methods": ("client_secret_basic", "client_secret_post"),
        "resource_mode": "ignored",
        # AWS's documentation of the token endpoint: no scope in the answers, no refresh token in that to a refresh.
        "rotate_refresh": False,
        "token_dialect": TokenDialect(scope="absent"),
        # AWS's documentation of the revocation endpoint: it takes refresh tokens, and a secret in the header only.
        "revocable": ("refresh",),
        "revocation_auth_methods": ("client_secret_basic",),
    },
    adjust=_cognito,
)


def _okta_registration(wanted: Mapping[str, Any]) -> Fault:
    return (
        401,
        {"content-type": "application/json"},
        b'{"errorCode": "E0000011", "errorSummary": "Invalid token provided"}',
    )


OKTA = Behaviour(
    authorization_server={
        # An authorization server of its own at a path, its documents below that path:
        # https://github.com/MCPJam/inspector/issues/1002
        "issuer_path": "/oauth2/default",
        "metadata_forms": ("oauth-appended", "openid-appended"),
        # Registration is advertised and takes an administrator's token:
        # https://github.com/envoyproxy/ai-gateway/issues/2074
        "registration_faults": _okta_registration,
        "registration_requires": ("application_type",),
        "resource_mode": "ignored",
        # Okta's documentation of refresh tokens: offline_access, rotation, 30 seconds of grace.
        "scopes": {**OFFLINE},
        "refresh_scope": "offline_access",
        "refresh_reuse": "in_grace",
        "refresh_grace_seconds": 30.0,
        "access_token_seconds": 3600,
    },
)


def _keycloak_registration(wanted: Mapping[str, Any]) -> Fault:
    words = "Policy 'Trusted Hosts' rejected request to client-registration service. Details: Host not trusted."
    return json_fault(403, "insufficient_scope", words)


KEYCLOAK = Behaviour(
    authorization_server={
        "issuer_path": "/realms/main",
        "metadata_forms": ("oauth", "openid-appended"),
        # Who may register is a matter of trusted hosts:
        # https://github.com/opensearch-project/opensearch-mcp-server-py/issues/227
        "registration_faults": _keycloak_registration,
        # A scope with a blank before it is none it knows.
        "strict_scope": True,
        # Keycloak's guide for MCP: the resource is not recognized, an audience mapper decides.
        "resource_mode": "ignored",
        "advertise_iss": True,
        "send_iss": True,
        # Refresh tokens are replaced and, unless a realm says otherwise, good for ever.
        "refresh_reuse": "always",
        "access_token_seconds": 300,
        "token_dialect": TokenDialect(
            members={"refresh_expires_in": 1800, "not-before-policy": 0, "session_state": "0example"},
            error_words={"invalid_grant": "Token is not active"},
        ),
    },
)


def _hubspot(peer: ProtectedServer, stack: ExitStack) -> None:
    # A URL where a challenge should be: https://github.com/jaw9c/awesome-remote-mcp-servers/issues/56
    peer.configure(challenge_header=f"{_origin(peer)}/.well-known/oauth-authorization-server")


HUBSPOT = Behaviour(
    same_origin=True,
    client_authentication="client_secret_post",
    authorization_server={
        # No registration, the secret in the body: https://github.com/NousResearch/hermes-agent/issues/112023
        "metadata_forms": ("oauth",),
        "dynamic_registration": False,
        "token_endpoint_auth_methods": ("client_secret_post",),
        # HubSpot's OAuth documentation: half an hour, refresh tokens stay.
        "access_token_seconds": 1800,
        "rotate_refresh": False,
    },
    adjust=_hubspot,
)

STRIPE = Behaviour(
    authorization_server={
        "issuer_path": "/mcp",
        # Public clients only, which have to have a name: https://github.com/Ngineer101/turbodiff/issues/111
        "token_endpoint_auth_methods": ("none",),
        "registration_requires": ("client_name",),
        # An hour, single use, and the resource on every renewal: https://github.com/Auxx-Ai/auxx-ai/issues/829
        "access_token_seconds": 3600,
        "resource_mode": "required",
    },
)

SUPABASE = Behaviour(
    authorization_server={
        # A secret without a word how to send it, and success as 201:
        # https://github.com/pydantic/pydantic-ai/issues/8123
        "registration_secret_unsaid": True,
        "token_dialect": TokenDialect(status=201),
        # Supabase's documentation of sessions: ten seconds in which a used refresh token gives its successor.
        "refresh_reuse": "in_grace",
        "refresh_grace_seconds": 10.0,
    },
)

SENTRY = Behaviour(
    same_origin=True,
    authorization_server={
        # Access for a quarter of an hour: https://github.com/nicobailon/pi-mcp-adapter/issues/26
        "access_token_seconds": 900,
        # Built on Cloudflare's OAuth provider for Workers, which keeps the last refresh token until the next one is
        # used: https://github.com/getsentry/sentry-mcp/issues/773
        "refresh_reuse": "until_successor_used",
    },
)


def _asana(peer: ProtectedServer, stack: ExitStack) -> None:
    # The challenge leads to another host, whose document describes that host:
    # https://github.com/anthropics/claude-code/issues/58735
    documents: dict[str, Any] = {}
    other = stack.enter_context(document_server(documents))
    path = "/.well-known/oauth-protected-resource/v2"
    documents[path] = {
        "resource": f"{other.base_url}/v2/mcp",
        "authorization_servers": [peer.issuer],
        "scopes_supported": ["read"],
        "bearer_methods_supported": ["header"],
    }
    peer.configure(metadata_url=f"{other.base_url}{path}", metadata_at=())


ASANA = Behaviour(
    authorization_server={
        # Confidential clients only, none of them registered there and then: https://github.com/apify/mcpc/issues/384
        "dynamic_registration": False,
        "token_endpoint_auth_methods": ("client_secret_basic", "client_secret_post"),
        "resource_mode": "ignored",
        # Asana's OAuth documentation: an hour, refresh tokens stay.
        "access_token_seconds": 3600,
        "rotate_refresh": False,
    },
    adjust=_asana,
)


def _figma_registration(wanted: Mapping[str, Any]) -> Fault:
    return 403, {"content-type": "text/plain"}, b"Forbidden"


FIGMA = Behaviour(
    scopes=("mcp:connect",),
    authorization_server={
        # A registration endpoint for the listed alone, which says "Forbidden" and no JSON:
        # https://github.com/punkpeye/mcp-remote/issues/186
        "registration_faults": _figma_registration,
        "token_endpoint_auth_methods": ("client_secret_basic", "client_secret_post", "none"),
        # Figma's OAuth documentation: 90 days, refresh tokens stay.
        "access_token_seconds": 90 * 86400,
        "rotate_refresh": False,
    },
)

BEHAVIOURS: Mapping[str, Behaviour] = {
    "linear": LINEAR,
    "notion": NOTION,
    "atlassian": ATLASSIAN,
    "slack": SLACK,
    "github": GITHUB,
    "entra": ENTRA,
    "auth0": AUTH0,
    "cognito": COGNITO,
    "okta": OKTA,
    "keycloak": KEYCLOAK,
    "hubspot": HUBSPOT,
    "stripe": STRIPE,
    "supabase": SUPABASE,
    "sentry": SENTRY,
    "asana": ASANA,
    "figma": FIGMA,
}
