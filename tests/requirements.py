"""What the specifications ask of a client and what docs/security.md promises, as data that tests declare.

A test names what it shows with ``@pytest.mark.requirement("mcp-auth-prm", "T13")``; ``tests/compliance.py`` reads these
declarations and writes the tables. A sentence that a specification repeats, or that only refers to another page listed
here, stands once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["MUST", "MUST NOT", "SHOULD", "SHOULD NOT"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing a specification asks of a client, in our own words.

    ``not_applicable`` says in a sentence why it cannot concern this application, and then stands in place of tests;
    ``departure`` says in a sentence what is done otherwise, or under which condition, and why.
    """

    id: str
    level: Level
    sentence: str
    link: str
    source: str
    not_applicable: str = ""
    departure: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise of docs/security.md; ``missing`` says in a sentence why it is not made yet."""

    id: str
    group: str
    sentence: str
    missing: str = ""


@dataclass(frozen=True, slots=True)
class _Source:
    """A document that requirements are taken from."""

    name: str
    url: str

    def asks(
        self, id: str, level: Level, sentence: str, section: str, *, not_applicable: str = "", departure: str = ""
    ) -> Requirement:
        """Return a requirement of the given section, which is the anchor in the document."""
        return Requirement(
            id, level, sentence, f"{self.url}#{section}", self.name, not_applicable=not_applicable, departure=departure
        )


def _rfc(number: int) -> _Source:
    return _Source(f"RFC {number}", f"https://www.rfc-editor.org/rfc/rfc{number}")


_SPECIFICATION: Final = "https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization"
_EXTENSIONS: Final = "https://github.com/modelcontextprotocol/ext-auth/blob/main/specification"

AUTH: Final = _Source("MCP 2026-07-28: authorization", _SPECIFICATION)
DISCOVERY: Final = _Source(
    "MCP 2026-07-28: authorization server discovery", f"{_SPECIFICATION}/authorization-server-discovery"
)
REGISTRATION: Final = _Source("MCP 2026-07-28: client registration", f"{_SPECIFICATION}/client-registration")
SECURITY: Final = _Source(
    "MCP 2026-07-28: authorization security considerations", f"{_SPECIFICATION}/security-considerations"
)
PRACTICES: Final = _Source(
    "MCP 2026-07-28: security best practices",
    "https://modelcontextprotocol.io/docs/2026-07-28/tutorials/security/security_best_practices",
)
CLIENT_CREDENTIALS: Final = _Source(
    "MCP extension: OAuth client credentials", f"{_EXTENSIONS}/draft/oauth-client-credentials.mdx"
)
ENTERPRISE: Final = _Source(
    "MCP extension: enterprise-managed authorization", f"{_EXTENSIONS}/stable/enterprise-managed-authorization.mdx"
)
WORKLOAD: Final = _Source(
    "MCP extension: workload identity federation (draft)", f"{_EXTENSIONS}/draft/workload-identity-federation.mdx"
)
DPOP: Final = _Source("MCP extension: DPoP profile (draft)", f"{_EXTENSIONS}/draft/dpop-extension.mdx")
CIMD: Final = _Source(
    "Client ID metadata documents (draft 02)",
    "https://datatracker.ietf.org/doc/html/draft-ietf-oauth-client-id-metadata-document-02",
)
OAUTH21: Final = _Source("OAuth 2.1 (draft 13)", "https://datatracker.ietf.org/doc/html/draft-ietf-oauth-v2-1-13")
RFC6749: Final = _rfc(6749)
RFC6750: Final = _rfc(6750)
RFC7009: Final = _rfc(7009)
RFC7523: Final = _rfc(7523)
RFC7591: Final = _rfc(7591)
RFC7636: Final = _rfc(7636)
RFC8414: Final = _rfc(8414)
RFC8693: Final = _rfc(8693)
RFC8707: Final = _rfc(8707)
RFC9207: Final = _rfc(9207)
RFC9449: Final = _rfc(9449)
RFC9700: Final = _rfc(9700)
RFC9728: Final = _rfc(9728)

_ROOT_SLASH: Final = "An issuer without a path is the same with and without its slash, as RFC 9110 §4.2.3 has it."
_ROOT_DOCUMENT: Final = (
    "The document at the origin's root may name the origin, because MCP adds that location to the RFC; "
    "an origin is the same with and without its slash."
)
_ENTRA: Final = (
    "Microsoft Entra, which refuses the parameter beside scopes, is not sent it, "
    "nor is a server whose option resource is omit."
)
_SCOPES_OPTION: Final = "Scopes that an administrator entered for the server take the place of those it proposes."
_NO_LOCAL_SERVERS: Final = "The application reaches servers over HTTP only and starts no process for one."
_OTHER_SIGN_IN: Final = "Signing in at the company is the site's own business; this application gets the token from it."
_NOT_AN_ISSUER: Final = "Who issues the token decides this, and this application issues none."

REQUIREMENTS: Final[tuple[Requirement, ...]] = (
    # Authorization.
    AUTH.asks(
        "mcp-auth-http",
        "SHOULD",
        "Authorization over HTTP follows the specification from the first request to the call.",
        "protocol-requirements",
    ),
    AUTH.asks(
        "mcp-auth-stdio",
        "SHOULD NOT",
        "Servers on standard input and output take their credentials from the environment instead.",
        "protocol-requirements",
        not_applicable=_NO_LOCAL_SERVERS,
    ),
    AUTH.asks(
        "mcp-auth-other-transports",
        "MUST",
        "Any other transport is secured as is best practice for its protocol.",
        "protocol-requirements",
        not_applicable="Streamable HTTP is the only transport there is here.",
    ),
    AUTH.asks(
        "mcp-auth-cimd", "SHOULD", "Client ID metadata documents can be used to introduce the client.", "overview"
    ),
    AUTH.asks(
        "mcp-auth-prm",
        "MUST",
        "Which authorization server is responsible is read from the protected resource metadata.",
        "overview",
    ),
    AUTH.asks(
        "mcp-auth-both-discoveries",
        "MUST",
        "Metadata is found where RFC 8414 puts it as well as where OpenID Connect Discovery puts it.",
        "overview",
    ),
    AUTH.asks(
        "mcp-auth-client-id",
        "MUST",
        "A client ID is there before anybody is sent to authorize: by document, by hand or by registration.",
        "client-registration",
    ),
    AUTH.asks(
        "mcp-auth-scope-no-relation",
        "MUST NOT",
        "Nothing is concluded about a challenge's scopes from those that the metadata lists.",
        "scope-selection-strategy",
    ),
    AUTH.asks(
        "mcp-auth-scope-challenged",
        "MUST",
        "The scopes of a challenge are what the operation needs, whatever else was said.",
        "scope-selection-strategy",
        departure=_SCOPES_OPTION,
    ),
    AUTH.asks(
        "mcp-auth-scope-kept",
        "SHOULD",
        "Asking again includes what was granted before, so that nothing is lost.",
        "scope-selection-strategy",
    ),
    AUTH.asks(
        "mcp-auth-scope-least",
        "SHOULD",
        "No more scopes are asked for than the operation needs.",
        "scope-selection-strategy",
    ),
    AUTH.asks(
        "mcp-auth-scope-order",
        "SHOULD",
        "The first request takes the challenge's scopes, else the resource's scopes_supported, else none.",
        "scope-selection-strategy",
        departure=_SCOPES_OPTION,
    ),
    AUTH.asks(
        "mcp-auth-issuer-recorded",
        "MUST",
        "The issuer of validated metadata is kept beside the state and the PKCE verifier before anybody leaves.",
        "authorization-response-validation",
    ),
    AUTH.asks(
        "mcp-auth-iss-before-code",
        "MUST",
        "The answer's issuer is validated before its code goes to any token endpoint.",
        "authorization-response-validation",
    ),
    AUTH.asks(
        "mcp-auth-iss-compared",
        "MUST",
        "An issuer in the answer is compared with the recorded one, promised in the metadata or not.",
        "authorization-response-validation",
    ),
    AUTH.asks(
        "mcp-auth-iss-missing",
        "MUST",
        "An answer without the issuer that the metadata promises is rejected.",
        "authorization-response-validation",
    ),
    AUTH.asks(
        "mcp-auth-iss-not-promised",
        "MUST",
        "An answer may lack an issuer that nobody promised.",
        "authorization-response-validation",
    ),
    AUTH.asks(
        "mcp-auth-iss-not-normalized",
        "MUST NOT",
        "The two issuers are compared as they are written, without folding case, ports, slashes or escapes.",
        "authorization-response-validation",
    ),
    AUTH.asks(
        "mcp-auth-iss-error-hidden",
        "MUST NOT",
        "The error and its words are neither obeyed nor shown when the issuer is the wrong one.",
        "authorization-response-validation",
    ),
    AUTH.asks(
        "mcp-auth-resource-in-both",
        "MUST",
        "The authorization request and the token requests carry the resource parameter.",
        "resource-parameter-implementation",
        departure=_ENTRA,
    ),
    AUTH.asks(
        "mcp-auth-resource-of-server",
        "MUST",
        "The resource is the MCP server that the token is for.",
        "resource-parameter-implementation",
    ),
    AUTH.asks(
        "mcp-auth-resource-canonical",
        "MUST",
        "The resource is written as the server's canonical URI.",
        "resource-parameter-implementation",
    ),
    AUTH.asks(
        "mcp-auth-resource-specific",
        "SHOULD",
        "The resource is the most specific URI of the server that is known.",
        "canonical-server-uri",
    ),
    AUTH.asks("mcp-auth-resource-case", "SHOULD", "A scheme or host in capitals is accepted.", "canonical-server-uri"),
    AUTH.asks(
        "mcp-auth-resource-slash",
        "SHOULD",
        "The resource ends without a slash unless the slash means something.",
        "canonical-server-uri",
        departure="What the server's metadata says is repeated byte for byte, with its slash if it has one.",
    ),
    AUTH.asks(
        "mcp-auth-resource-always",
        "MUST",
        "The resource is sent whether or not the authorization server knows what to do with it.",
        "canonical-server-uri",
        departure=_ENTRA,
    ),
    AUTH.asks(
        "mcp-auth-bearer-header", "MUST", "The access token travels in the Authorization header.", "token-requirements"
    ),
    AUTH.asks(
        "mcp-auth-bearer-each-request",
        "MUST",
        "Every request to the server carries the token, those of one session as well.",
        "token-requirements",
    ),
    AUTH.asks(
        "mcp-auth-no-token-in-query", "MUST NOT", "No access token is in the query of an address.", "token-requirements"
    ),
    AUTH.asks(
        "mcp-auth-own-tokens",
        "MUST NOT",
        "A server gets no token but those of its own authorization server.",
        "token-handling",
    ),
    AUTH.asks(
        "mcp-auth-refresh-confidential",
        "MUST",
        "Refresh tokens stay confidential on their way and where they are stored.",
        "refresh-tokens",
    ),
    AUTH.asks(
        "mcp-auth-refresh-grant-type",
        "SHOULD",
        "The client's metadata lists refresh_token among its grant types.",
        "refresh-tokens",
    ),
    AUTH.asks(
        "mcp-auth-refresh-not-assumed", "MUST NOT", "Nothing relies on getting a refresh token.", "refresh-tokens"
    ),
    AUTH.asks(
        "mcp-auth-step-up",
        "SHOULD",
        "Insufficient scope leads to asking for more scopes, or is otherwise handled fittingly.",
        "step-up-authorization-flow",
    ),
    AUTH.asks(
        "mcp-auth-step-up-person",
        "SHOULD",
        "A client that acts for a person tries step-up authorization.",
        "step-up-authorization-flow",
    ),
    AUTH.asks(
        "mcp-auth-step-up-limit",
        "SHOULD",
        "Step-up authorization is repeated a limited number of times.",
        "step-up-authorization-flow",
    ),
    AUTH.asks(
        "mcp-auth-step-up-tracked",
        "SHOULD",
        "Attempts are counted, so that the same failure is not run into over and over.",
        "step-up-authorization-flow",
    ),
    # Authorization server discovery.
    DISCOVERY.asks(
        "mcp-discovery-state-per-issuer",
        "MUST",
        "Client credentials and tokens are kept apart by authorization server.",
        "authorization-server-location",
    ),
    DISCOVERY.asks(
        "mcp-discovery-no-sharing",
        "MUST NOT",
        "Credentials of one authorization server are not expected to work at another.",
        "authorization-server-location",
    ),
    DISCOVERY.asks(
        "mcp-discovery-both-ways",
        "MUST",
        "The metadata is found through the challenge and through well-known addresses.",
        "protected-resource-metadata-discovery-requirements",
    ),
    DISCOVERY.asks(
        "mcp-discovery-challenge-parsed",
        "MUST",
        "The WWW-Authenticate header of a 401 is parsed.",
        "protected-resource-metadata-discovery-requirements",
    ),
    DISCOVERY.asks(
        "mcp-discovery-challenge-first",
        "MUST",
        "The address in the challenge is used when there is one.",
        "protected-resource-metadata-discovery-requirements",
    ),
    DISCOVERY.asks(
        "mcp-discovery-fallback",
        "MUST",
        "Without it the well-known address of the path is asked, then the one of the root.",
        "protected-resource-metadata-discovery-requirements",
    ),
    DISCOVERY.asks(
        "mcp-discovery-several-locations",
        "MUST",
        "More than one well-known address is tried for the authorization server's metadata.",
        "authorization-server-metadata-discovery",
    ),
    DISCOVERY.asks(
        "mcp-discovery-order-with-path",
        "MUST",
        "For an issuer with a path: RFC 8414 inserted, OpenID inserted, OpenID appended.",
        "authorization-server-metadata-discovery",
    ),
    DISCOVERY.asks(
        "mcp-discovery-order-without-path",
        "MUST",
        "For an issuer without a path: RFC 8414, then OpenID.",
        "authorization-server-metadata-discovery",
    ),
    DISCOVERY.asks(
        "mcp-discovery-issuer-validated",
        "MUST",
        "The issuer in the metadata is identical to the one that its address was built from.",
        "authorization-server-metadata-discovery",
        departure=_ROOT_SLASH,
    ),
    DISCOVERY.asks(
        "mcp-discovery-issuer-mismatch",
        "MUST NOT",
        "Metadata of another issuer is not used.",
        "authorization-server-metadata-discovery",
    ),
    # Client registration.
    REGISTRATION.asks(
        "mcp-registration-order",
        "SHOULD",
        "A client registered by hand comes first, then the document, then dynamic registration, then asking somebody.",
        "client-registration",
    ),
    REGISTRATION.asks(
        "mcp-registration-cimd-hosted",
        "MUST",
        "The client's metadata document is served at an https address.",
        "implementation-requirements",
    ),
    REGISTRATION.asks(
        "mcp-registration-cimd-url",
        "MUST",
        "A client ID that is an address is https and has a path.",
        "implementation-requirements",
    ),
    REGISTRATION.asks(
        "mcp-registration-cimd-members",
        "MUST",
        "The document has at least client_id, client_name and redirect_uris.",
        "implementation-requirements",
    ),
    REGISTRATION.asks(
        "mcp-registration-cimd-matches",
        "MUST",
        "The document's client_id is exactly the address it is served at.",
        "implementation-requirements",
    ),
    REGISTRATION.asks(
        "mcp-registration-cimd-checked",
        "SHOULD",
        "The document is used where the metadata says that such documents are read.",
        "advertising-cimd-support",
    ),
    REGISTRATION.asks(
        "mcp-registration-by-hand",
        "SHOULD",
        "Credentials of a client that was registered by hand can be entered.",
        "pre-registration",
    ),
    REGISTRATION.asks(
        "mcp-registration-application-type",
        "MUST",
        "A dynamic registration names its application_type.",
        "application-type-and-redirect-uri-constraints",
    ),
    REGISTRATION.asks(
        "mcp-registration-native",
        "SHOULD",
        "An application reached at localhost registers as native.",
        "application-type-and-redirect-uri-constraints",
    ),
    REGISTRATION.asks(
        "mcp-registration-web",
        "SHOULD",
        "An application on a public host registers as web.",
        "application-type-and-redirect-uri-constraints",
    ),
    REGISTRATION.asks(
        "mcp-registration-refused",
        "MUST",
        "A registration that is refused for its redirect URI is coped with.",
        "application-type-and-redirect-uri-constraints",
    ),
    REGISTRATION.asks(
        "mcp-registration-refusal-told",
        "SHOULD",
        "A refused registration is told in words that help.",
        "application-type-and-redirect-uri-constraints",
    ),
    REGISTRATION.asks(
        "mcp-registration-bound",
        "MUST",
        "Credentials are stored under the issuer that they belong to.",
        "authorization-server-binding",
    ),
    REGISTRATION.asks(
        "mcp-registration-not-reused",
        "MUST NOT",
        "Another authorization server never gets these credentials.",
        "authorization-server-binding",
    ),
    REGISTRATION.asks(
        "mcp-registration-anew",
        "MUST",
        "When a server moves to another authorization server, the client registers there anew.",
        "authorization-server-binding",
    ),
    REGISTRATION.asks(
        "mcp-registration-mismatch-told",
        "SHOULD",
        "A client registered by hand that no longer fits the issuer is an error that somebody sees.",
        "authorization-server-binding",
    ),
    # Security considerations.
    SECURITY.asks("mcp-security-token-storage", "MUST", "Tokens are stored securely.", "token-theft"),
    SECURITY.asks(
        "mcp-security-https",
        "MUST",
        "Endpoints of an authorization server are https; others are not used.",
        "communication-security",
    ),
    SECURITY.asks(
        "mcp-security-redirect-uri", "MUST", "A redirect URI is https or at localhost.", "communication-security"
    ),
    SECURITY.asks(
        "mcp-security-pkce", "MUST", "Authorization codes are protected by PKCE.", "authorization-code-protection"
    ),
    SECURITY.asks(
        "mcp-security-pkce-verified",
        "MUST",
        "That the authorization server supports PKCE is verified before anybody is sent there.",
        "authorization-code-protection",
    ),
    SECURITY.asks("mcp-security-pkce-s256", "MUST", "The challenge method is S256.", "authorization-code-protection"),
    SECURITY.asks(
        "mcp-security-pkce-absent",
        "MUST",
        "RFC 8414 metadata without code_challenge_methods_supported ends the attempt.",
        "authorization-code-protection",
    ),
    SECURITY.asks(
        "mcp-security-pkce-absent-openid",
        "MUST",
        "OpenID provider metadata without code_challenge_methods_supported ends the attempt too.",
        "authorization-code-protection",
    ),
    SECURITY.asks(
        "mcp-security-redirect-uri-registered",
        "MUST",
        "The redirect URI is registered with the authorization server.",
        "open-redirection",
    ),
    SECURITY.asks(
        "mcp-security-state",
        "SHOULD",
        "A state goes out and is verified; an answer without it or with another one is discarded.",
        "open-redirection",
    ),
    SECURITY.asks(
        "mcp-security-proxy-consent",
        "MUST",
        "A proxy with one client ID asks for consent for each client that registers with it.",
        "confused-deputy-problem",
        not_applicable="The application is no MCP server and forwards nobody's authorization.",
    ),
    # Security best practices.
    PRACTICES.asks(
        "mcp-bp-ssrf",
        "MUST",
        "A client on a server guards against requests that a server's documents would have it make.",
        "server-side-request-forgery-ssrf",
    ),
    PRACTICES.asks(
        "mcp-bp-https",
        "SHOULD",
        "Addresses that concern OAuth are https, and http only on loopback in development.",
        "server-side-request-forgery-ssrf",
    ),
    PRACTICES.asks(
        "mcp-bp-private-addresses",
        "SHOULD",
        "Private, link-local, loopback and reserved addresses are not contacted.",
        "server-side-request-forgery-ssrf",
    ),
    PRACTICES.asks(
        "mcp-bp-redirects",
        "SHOULD",
        "The target of a redirect is judged like any other address.",
        "server-side-request-forgery-ssrf",
    ),
    PRACTICES.asks(
        "mcp-bp-egress-proxy",
        "SHOULD",
        "An operator can put an egress proxy between the application and everybody else.",
        "server-side-request-forgery-ssrf",
    ),
    PRACTICES.asks(
        "mcp-bp-url-schemes",
        "MUST",
        "People are sent to https addresses only, or to http on loopback in development.",
        "oauth-authorization-url-validation",
    ),
    PRACTICES.asks(
        "mcp-bp-url-dangerous",
        "MUST",
        "Addresses with javascript:, data:, file:, vbscript: and the like are rejected.",
        "oauth-authorization-url-validation",
    ),
    PRACTICES.asks(
        "mcp-bp-url-allow-list",
        "SHOULD",
        "Schemes are judged by what is allowed and not by what is forbidden.",
        "oauth-authorization-url-validation",
    ),
    PRACTICES.asks(
        "mcp-bp-no-shell", "MUST NOT", "No shell is used to open an address.", "oauth-authorization-url-validation"
    ),
    PRACTICES.asks(
        "mcp-bp-opening",
        "SHOULD",
        "Addresses are opened by a mechanism of the platform that involves no shell.",
        "oauth-authorization-url-validation",
        not_applicable="The person's own browser follows a link; the application opens no address.",
    ),
    PRACTICES.asks(
        "mcp-bp-csp",
        "SHOULD",
        "Pages carry a content security policy that keeps inline script from running.",
        "oauth-authorization-url-validation",
    ),
    PRACTICES.asks(
        "mcp-bp-urls-validated",
        "MUST",
        "Every address that a server gives is parsed strictly and validated.",
        "oauth-authorization-url-validation",
    ),
    PRACTICES.asks(
        "mcp-bp-local-consent",
        "MUST",
        "Installing a local server shows its whole command and asks first.",
        "local-mcp-server-compromise",
        not_applicable=_NO_LOCAL_SERVERS,
    ),
    PRACTICES.asks(
        "mcp-bp-local-guardrails",
        "SHOULD",
        "Local servers run with warnings, restrictions and a sandbox.",
        "local-mcp-server-compromise",
        not_applicable=_NO_LOCAL_SERVERS,
    ),
    PRACTICES.asks(
        "mcp-bp-stdio-proxy",
        "SHOULD",
        "A proxy that starts local servers contains what it starts.",
        "stdio-transport-security-in-proxy-scenarios",
        not_applicable=_NO_LOCAL_SERVERS,
    ),
    PRACTICES.asks(
        "mcp-bp-scope-union",
        "SHOULD",
        "Asking for more unites what was asked for before with what is challenged now.",
        "scope-minimization",
    ),
    # Extensions.
    CLIENT_CREDENTIALS.asks(
        "ext-cc-authenticated",
        "MUST",
        "A client that acts as itself authenticates with a signed assertion or a secret.",
        "client-authentication-methods",
    ),
    CLIENT_CREDENTIALS.asks(
        "ext-cc-assertion",
        "SHOULD",
        "Signed assertions are offered, being the recommended way.",
        "client-authentication-methods",
    ),
    CLIENT_CREDENTIALS.asks(
        "ext-cc-credentials-protected",
        "MUST",
        "The client's credentials are protected as OAuth 2.1 has it.",
        "security-considerations",
    ),
    ENTERPRISE.asks(
        "ext-ema-audience",
        "MUST",
        "The exchange at the identity provider names the issuer of the server's authorization server as its audience.",
        "4-token-exchange",
    ),
    ENTERPRISE.asks(
        "ext-ema-resource",
        "MUST",
        "A resource in that exchange is the server's resource identifier.",
        "4-token-exchange",
    ),
    ENTERPRISE.asks(
        "ext-ema-client-authentication",
        "MUST",
        "The exchange authenticates the client.",
        "77-token-exchange-security",
        departure="Without a secret or key entered for it, the client names itself only and the provider decides.",
    ),
    ENTERPRISE.asks(
        "ext-ema-https",
        "MUST",
        "Endpoints and metadata of the provider and the authorization server are https.",
        "73-transport-security-and-endpoint-authentication",
    ),
    ENTERPRISE.asks(
        "ext-ema-certificates",
        "MUST",
        "The certificate of whoever is spoken to is validated.",
        "73-transport-security-and-endpoint-authentication",
    ),
    ENTERPRISE.asks(
        "ext-ema-no-insecure-channel",
        "MUST NOT",
        "No secret, assertion or token travels over an insecure channel.",
        "73-transport-security-and-endpoint-authentication",
    ),
    ENTERPRISE.asks(
        "ext-ema-not-in-urls",
        "MUST NOT",
        "No assertion and no access token is part of an address.",
        "73-transport-security-and-endpoint-authentication",
    ),
    ENTERPRISE.asks("ext-ema-not-logged", "MUST NOT", "Assertions are not logged.", "742-stolen-assertions-and-replay"),
    ENTERPRISE.asks(
        "ext-ema-sensitive", "MUST", "Assertions are treated as credentials.", "742-stolen-assertions-and-replay"
    ),
    ENTERPRISE.asks(
        "ext-ema-personal-information",
        "MUST",
        "What an assertion says about a person is protected on its way and at rest, and is not logged.",
        "743-unauthorized-disclosure-of-personal-information-and-privacy",
    ),
    ENTERPRISE.asks(
        "ext-ema-fewest-claims",
        "SHOULD",
        "An assertion says no more than the decision needs.",
        "743-unauthorized-disclosure-of-personal-information-and-privacy",
        not_applicable=_NOT_AN_ISSUER,
    ),
    ENTERPRISE.asks(
        "ext-ema-secret-storage",
        "MUST",
        "Client secrets are stored securely and shipped to nobody.",
        "751-client-authentication-and-credential-protection",
    ),
    ENTERPRISE.asks(
        "ext-ema-rotation",
        "SHOULD",
        "Credentials can be replaced and removed.",
        "751-client-authentication-and-credential-protection",
    ),
    ENTERPRISE.asks(
        "ext-ema-strong-authentication",
        "SHOULD",
        "A strong way for the client to authenticate, such as private_key_jwt, is available.",
        "751-client-authentication-and-credential-protection",
    ),
    ENTERPRISE.asks(
        "ext-ema-sign-in-state",
        "MUST",
        "The state that comes back from the company's sign-in is the one that was sent.",
        "752-authorization-request-csrf-protections",
        not_applicable=_OTHER_SIGN_IN,
    ),
    ENTERPRISE.asks(
        "ext-ema-sign-in-nonce",
        "SHOULD",
        "A nonce binds the company's answer to the session that asked.",
        "752-authorization-request-csrf-protections",
        not_applicable=_OTHER_SIGN_IN,
    ),
    ENTERPRISE.asks(
        "ext-ema-sign-in-pkce",
        "SHOULD",
        "The company's sign-in uses PKCE where it can.",
        "753-authorization-code-and-redirect-uri-handling",
        not_applicable=_OTHER_SIGN_IN,
    ),
    ENTERPRISE.asks(
        "ext-ema-tokens-not-leaked",
        "MUST NOT",
        "Access tokens and assertions leak neither through logs, addresses and referrers nor to another origin.",
        "754-token-handling",
    ),
    ENTERPRISE.asks(
        "ext-ema-token-storage", "SHOULD", "What is stored of them is stored encrypted.", "754-token-handling"
    ),
    ENTERPRISE.asks(
        "ext-ema-refresh-tokens",
        "MUST",
        "A refresh token, if one is issued, is stored, rotated and revoked with care.",
        "754-token-handling",
    ),
    ENTERPRISE.asks("ext-ema-revocation", "SHOULD", "Tokens are revoked as RFC 7009 has it.", "754-token-handling"),
    ENTERPRISE.asks(
        "ext-ema-scope", "SHOULD", "The scope parameter narrows what is delegated.", "77-token-exchange-security"
    ),
    ENTERPRISE.asks(
        "ext-ema-changed-tools",
        "SHOULD",
        "A deployment asks anew when the meaning of a scope grows to include new tools.",
        "721-scopes-validation",
        not_applicable="Issuing for a changed scope is decided at the identity provider, which alone knows the policy.",
    ),
    WORKLOAD.asks(
        "ext-wif-request",
        "MUST",
        "The token request has the jwt-bearer grant, the workload's JWT as its assertion, and the resource.",
        "token-endpoint",
    ),
    WORKLOAD.asks(
        "ext-wif-audience",
        "MUST",
        "The JWT is signed and addressed to the authorization server that gets it.",
        "jwt-format",
        departure="Its audience may be the issuer as well as the token endpoint, since platforms differ in this.",
    ),
    WORKLOAD.asks(
        "ext-wif-secure-channel", "MUST", "The JWT travels over a secure channel.", "jwt-validity-and-lifetime"
    ),
    WORKLOAD.asks(
        "ext-wif-lifetime",
        "SHOULD",
        "The JWT is valid as briefly as operation allows.",
        "jwt-validity-and-lifetime",
        not_applicable=_NOT_AN_ISSUER,
    ),
    WORKLOAD.asks(
        "ext-wif-access-control",
        "SHOULD",
        "Nobody gets at the JWT whom the platform does not let.",
        "jwt-validity-and-lifetime",
    ),
    DPOP.asks(
        "ext-dpop-proof",
        "MUST",
        "Each request to the server has a DPoP proof of its own with every claim that RFC 9449 requires.",
        "dpop-proof-requirements",
    ),
    DPOP.asks(
        "ext-dpop-content-digest",
        "MUST",
        "The proof for the server contains the SHA-256 digest of the request's body, in the form of RFC 9530.",
        "content-digest-calculation",
    ),
    DPOP.asks(
        "ext-dpop-no-content-digest",
        "SHOULD NOT",
        "The proof for the token endpoint contains no such digest.",
        "dpop-proof-requirements",
    ),
    DPOP.asks(
        "ext-dpop-scheme", "MUST", "The bound token is presented with the scheme DPoP.", "access-token-presentation"
    ),
    DPOP.asks(
        "ext-dpop-algorithm",
        "SHOULD",
        "A modern algorithm such as ES256 is supported.",
        "authorization-server-metadata",
    ),
    DPOP.asks(
        "ext-dpop-asymmetric", "MUST NOT", "Neither a symmetric algorithm nor none signs a proof.", "algorithm-security"
    ),
    DPOP.asks("ext-dpop-key-protected", "MUST", "The private key is protected.", "key-storage"),
    DPOP.asks(
        "ext-dpop-key-hardware",
        "SHOULD",
        "The private key is kept in hardware where possible.",
        "key-storage",
        not_applicable="Each grant has a key of its own that several processes use, so it is sealed in the database.",
    ),
    DPOP.asks(
        "ext-dpop-key-browser",
        "SHOULD",
        "In a browser the key is one that script cannot extract.",
        "key-storage",
        not_applicable="No key and no token ever reaches the browser.",
    ),
    # Client ID metadata documents.
    CIMD.asks(
        "cimd-3-plain-url",
        "MUST NOT",
        "The address has no fragment, no user name or password, and no dot segments.",
        "section-3",
    ),
    CIMD.asks(
        "cimd-4-no-secret",
        "MUST NOT",
        "The document holds no client secret and names no way of authenticating that rests on one.",
        "section-4",
    ),
    CIMD.asks(
        "cimd-4-redirect-uris", "MUST", "The redirect URI of a request is among those in the document.", "section-4"
    ),
    # OAuth 2.1.
    OAUTH21.asks(
        "oauth21-1.5-https",
        "MUST",
        "Every address of the protocol is https.",
        "section-1.5",
        departure="Loopback may be http under the development setting ALLOW_LOOPBACK.",
    ),
    OAUTH21.asks(
        "oauth21-2.4-one-method", "MUST NOT", "A request authenticates its client in one way only.", "section-2.4"
    ),
    OAUTH21.asks(
        "oauth21-2.4.1-not-in-uri", "MUST NOT", "Client credentials are never in an address.", "section-2.4.1"
    ),
    OAUTH21.asks(
        "oauth21-4.1.1-each-challenge",
        "MUST",
        "Each authorization request has a code challenge made for it.",
        "section-4.1.1",
    ),
    OAUTH21.asks(
        "oauth21-4.1.3-verifier", "MUST", "The code is redeemed with the verifier of its challenge.", "section-4.1.3"
    ),
    OAUTH21.asks(
        "oauth21-4.2-confidential", "MUST", "Only a confidential client asks for a token of its own.", "section-4.2"
    ),
    OAUTH21.asks("oauth21-4.3-narrow", "MUST NOT", "A refresh asks for no scope that was not granted.", "section-4.3"),
    OAUTH21.asks("oauth21-4.3-replaced", "MUST", "A new refresh token replaces the old one.", "section-4.3"),
    OAUTH21.asks(
        "oauth21-5.1-one-way", "MUST NOT", "A request presents its access token in one way only.", "section-5.1"
    ),
    OAUTH21.asks(
        "oauth21-7.1-tokens-to-audience",
        "MUST",
        "Access tokens go to the resource servers they are for, and to nobody else.",
        "section-7.1",
    ),
    # RFC 6749.
    RFC6749.asks(
        "rfc6749-3.1-query-kept",
        "MUST",
        "The authorization endpoint's own query stays when parameters are added.",
        "section-3.1",
    ),
    RFC6749.asks(
        "rfc6749-3.1-once", "MUST NOT", "No parameter of the authorization request comes twice.", "section-3.1"
    ),
    RFC6749.asks(
        "rfc6749-3.1.2-absolute", "MUST", "The redirect URI is absolute and has no fragment.", "section-3.1.2"
    ),
    RFC6749.asks(
        "rfc6749-3.1.2.5-no-foreign-script",
        "SHOULD NOT",
        "The page that takes the answer loads no script of somebody else.",
        "section-3.1.2.5",
    ),
    RFC6749.asks("rfc6749-3.2-post", "MUST", "Token requests are POST.", "section-3.2"),
    RFC6749.asks("rfc6749-4.1.2-once", "MUST NOT", "A code is used once.", "section-4.1.2"),
    RFC6749.asks(
        "rfc6749-4.1.2-unknown-ignored",
        "MUST",
        "Unknown parameters of the authorization response are ignored.",
        "section-4.1.2",
    ),
    RFC6749.asks(
        "rfc6749-4.1.3-same-redirect-uri",
        "MUST",
        "The token request repeats the redirect URI of the authorization request.",
        "section-4.1.3",
    ),
    RFC6749.asks(
        "rfc6749-4.1.3-client-id",
        "MUST",
        "A client that does not authenticate names itself in the token request.",
        "section-4.1.3",
    ),
    RFC6749.asks(
        "rfc6749-5.1-unknown-ignored", "MUST", "Unknown members of a token answer are ignored.", "section-5.1"
    ),
    RFC6749.asks(
        "rfc6749-7.1-type", "MUST NOT", "A token of a type that is not understood is not used.", "section-7.1"
    ),
    RFC6749.asks(
        "rfc6749-10.9-certificates", "MUST", "The certificate of an authorization server is validated.", "section-10.9"
    ),
    RFC6749.asks("rfc6749-10.10-guessing", "MUST", "What protects an attempt cannot be guessed.", "section-10.10"),
    RFC6749.asks(
        "rfc6749-10.12-csrf", "MUST", "An answer is taken only from the browser session that asked.", "section-10.12"
    ),
    RFC6749.asks(
        "rfc6749-10.14-sanitized",
        "MUST",
        "Values that arrive are validated, and sanitized before they are shown.",
        "section-10.14",
    ),
    # RFC 6750.
    RFC6750.asks(
        "rfc6750-2.3-query",
        "SHOULD NOT",
        "A token is not passed in the query even where a server would take it.",
        "section-2.3",
    ),
    RFC6750.asks("rfc6750-5.3-safeguarded", "MUST", "Tokens do not reach anybody they are not for.", "section-5.3"),
    RFC6750.asks(
        "rfc6750-5.3-certificates",
        "MUST",
        "The certificate chain is validated when a protected resource is asked.",
        "section-5.3",
    ),
    RFC6750.asks(
        "rfc6750-5.3-cookies",
        "MUST NOT",
        "No token is stored in a cookie that could be sent in the clear.",
        "section-5.3",
    ),
    # RFC 7009.
    RFC7009.asks("rfc7009-2-https", "MUST", "A revocation endpoint is https; another one is not used.", "section-2"),
    RFC7009.asks(
        "rfc7009-2.1-request",
        "MUST",
        "A revocation names its token, is a form that is posted, and authenticates the client.",
        "section-2.1",
    ),
    RFC7009.asks(
        "rfc7009-2.2.1-unavailable", "MUST", "After a 503 the token is taken to exist still.", "section-2.2.1"
    ),
    # RFC 7523.
    RFC7523.asks(
        "rfc7523-2.1-grant",
        "MUST",
        "An assertion is exchanged with the jwt-bearer grant, one assertion to a request.",
        "section-2.1",
    ),
    RFC7523.asks(
        "rfc7523-2.2-assertion",
        "MUST",
        "A client that signs sends one assertion of the jwt-bearer type.",
        "section-2.2",
    ),
    RFC7523.asks(
        "rfc7523-3-claims",
        "MUST",
        "Issuer and subject of the client's assertion are its client ID, and it says when it ends.",
        "section-3",
    ),
    RFC7523.asks(
        "rfc7523-3-audience", "MUST", "The audience of the client's assertion is the authorization server.", "section-3"
    ),
    RFC7523.asks("rfc7523-3-signed", "MUST", "The client's assertion is signed.", "section-3"),
    # RFC 7591.
    RFC7591.asks(
        "rfc7591-2-redirect-uris", "MUST", "A client that is redirected to registers its redirect URIs.", "section-2"
    ),
    RFC7591.asks("rfc7591-3.1-json", "MUST", "A registration is a JSON object that is posted.", "section-3.1"),
    RFC7591.asks(
        "rfc7591-3.2.1-checked",
        "SHOULD",
        "What was registered is checked against what was asked for, and followed where it differs.",
        "section-3.2.1",
    ),
    RFC7591.asks(
        "rfc7591-5-https", "MUST", "Registration goes over TLS to a server whose certificate is validated.", "section-5"
    ),
    # RFC 7636.
    RFC7636.asks(
        "rfc7636-4.1-verifier",
        "SHOULD",
        "The verifier has at least 256 bits of randomness in 43 to 128 unreserved characters.",
        "section-4.1",
    ),
    RFC7636.asks("rfc7636-4.2-s256", "MUST", "A client that can do S256 uses it.", "section-4.2"),
    RFC7636.asks("rfc7636-7.2-no-downgrade", "MUST NOT", "S256 is never given up for plain.", "section-7.2"),
    # RFC 8414.
    RFC8414.asks("rfc8414-2-unknown-ignored", "MUST", "Unknown members of the metadata are ignored.", "section-2"),
    RFC8414.asks(
        "rfc8414-3.1-inserted",
        "MUST",
        "The well-known name goes between host and path, without a slash at the path's end, and is asked for with GET.",
        "section-3.1",
    ),
    RFC8414.asks(
        "rfc8414-3.3-issuer",
        "MUST NOT",
        "Metadata whose issuer is not the one asked for is not used.",
        "section-3.3",
        departure=_ROOT_SLASH,
    ),
    RFC8414.asks(
        "rfc8414-6.1-certificates", "MUST", "The certificate is validated when metadata is asked for.", "section-6.1"
    ),
    # RFC 8693.
    RFC8693.asks(
        "rfc8693-2.1-request",
        "MUST",
        "An exchange has its grant type, the subject token and that token's type.",
        "section-2.1",
    ),
    RFC8693.asks(
        "rfc8693-2.2.1-type",
        "MUST",
        "What was issued is used as the type that the answer gives it, and an assertion is no access token.",
        "section-2.2.1",
    ),
    RFC8693.asks("rfc8693-5-tls", "MUST", "Tokens are exchanged over TLS only.", "section-5"),
    # RFC 8707.
    RFC8707.asks("rfc8707-2-absolute", "MUST", "The resource is an absolute URI.", "section-2"),
    RFC8707.asks("rfc8707-2-no-fragment", "MUST NOT", "The resource has no fragment.", "section-2"),
    RFC8707.asks(
        "rfc8707-2-no-query",
        "SHOULD NOT",
        "The resource has no query, unless the query belongs to the server's address.",
        "section-2",
    ),
    RFC8707.asks(
        "rfc8707-2.2-refresh",
        "SHOULD",
        "A refresh names the resource that its token is for.",
        "section-2.2",
        departure=_ENTRA,
    ),
    # RFC 9207.
    RFC9207.asks(
        "rfc9207-2.4-compared",
        "MUST",
        "The decoded issuer of an answer is compared with the one the person was sent to.",
        "section-2.4",
    ),
    RFC9207.asks(
        "rfc9207-2.4-rejected", "MUST", "An answer of another issuer is rejected and goes no further.", "section-2.4"
    ),
    RFC9207.asks(
        "rfc9207-2.4-error",
        "MUST NOT",
        "An error of another issuer is not taken for one of the issuer the person was sent to.",
        "section-2.4",
    ),
    RFC9207.asks(
        "rfc9207-2.4-missing", "MUST", "An issuer that has to be there and is not leads to rejection.", "section-2.4"
    ),
    # RFC 9449.
    RFC9449.asks(
        "rfc9449-4.2-header",
        "MUST",
        "A proof is a dpop+jwt signed asymmetrically, with the public key in its header.",
        "section-4.2",
    ),
    RFC9449.asks("rfc9449-4.2-no-private-key", "MUST NOT", "The private key is not in the header.", "section-4.2"),
    RFC9449.asks(
        "rfc9449-4.2-claims",
        "MUST",
        "A proof names itself, the method, the address without query and fragment, and the time.",
        "section-4.2",
    ),
    RFC9449.asks(
        "rfc9449-4.2-ath", "MUST", "A proof sent along with an access token contains its hash.", "section-4.2"
    ),
    RFC9449.asks("rfc9449-4.2-nonce", "MUST", "A nonce that the server provided is repeated.", "section-4.2"),
    RFC9449.asks("rfc9449-5-token-request", "MUST", "A request for a bound token has a proof.", "section-5"),
    RFC9449.asks(
        "rfc9449-5-refresh-key", "MUST", "A refresh proves the key that its refresh token is bound to.", "section-5"
    ),
    RFC9449.asks(
        "rfc9449-5-type",
        "MUST",
        "A token that came back unbound is discarded where binding was insisted on.",
        "section-5",
        departure="Binding is not insisted on by default: a server that answers Bearer is taken at its word.",
    ),
    RFC9449.asks(
        "rfc9449-7.1-scheme", "MUST", "A bound token goes out with the scheme DPoP and a proof.", "section-7.1"
    ),
    RFC9449.asks(
        "rfc9449-8.2-newest", "MUST", "The newest nonce a server gave is used for the next proof.", "section-8.2"
    ),
    RFC9449.asks("rfc9449-11.6-asymmetric", "MUST", "Signatures of proofs are asymmetric.", "section-11.6"),
    # RFC 9700.
    RFC9700.asks(
        "rfc9700-2.1-no-open-redirector",
        "MUST NOT",
        "The callback sends nobody to an address that the answer names.",
        "section-2.1",
    ),
    RFC9700.asks("rfc9700-2.1-csrf", "MUST", "Forged answers are kept out.", "section-2.1"),
    RFC9700.asks(
        "rfc9700-2.1-mix-up",
        "MUST",
        "A client of several authorization servers defends itself against mix-up.",
        "section-2.1",
    ),
    RFC9700.asks(
        "rfc9700-2.1.1-transaction",
        "MUST",
        "The code challenge is made for one attempt and bound to client and browser.",
        "section-2.1.1",
    ),
    RFC9700.asks(
        "rfc9700-2.1.2-no-implicit",
        "SHOULD NOT",
        "Response types that hand out tokens at the authorization endpoint are not used.",
        "section-2.1.2",
    ),
    RFC9700.asks(
        "rfc9700-2.2.1-bound", "SHOULD", "Tokens are bound to their sender where the servers can.", "section-2.2.1"
    ),
    RFC9700.asks(
        "rfc9700-2.3-least", "SHOULD", "Tokens are limited to one audience and to the scopes needed.", "section-2.3"
    ),
    RFC9700.asks(
        "rfc9700-2.4-no-passwords", "MUST NOT", "People's passwords are not exchanged for tokens.", "section-2.4"
    ),
    RFC9700.asks(
        "rfc9700-2.5-asymmetric", "SHOULD", "A client can authenticate with a key instead of a secret.", "section-2.5"
    ),
    RFC9700.asks(
        "rfc9700-4.2.4-referrer",
        "SHOULD",
        "The page that takes the answer tells no other site its address.",
        "section-4.2.4",
    ),
    RFC9700.asks(
        "rfc9700-4.4.2-issuer-stored",
        "MUST",
        "For each attempt it is stored which authorization server it is with.",
        "section-4.4.2",
    ),
    # RFC 9728.
    RFC9728.asks("rfc9728-2-unknown-ignored", "MUST", "Unknown members of the metadata are ignored.", "section-2"),
    RFC9728.asks(
        "rfc9728-3.1-inserted",
        "MUST",
        "The well-known name goes between host and path, and is asked for with GET.",
        "section-3.1",
    ),
    RFC9728.asks(
        "rfc9728-3.3-resource",
        "MUST NOT",
        "A document at a well-known address that describes another resource is not used.",
        "section-3.3",
        departure=_ROOT_DOCUMENT,
    ),
    RFC9728.asks(
        "rfc9728-3.3-challenge",
        "MUST NOT",
        "A document named by a challenge that describes another resource is not used.",
        "section-3.3",
    ),
    RFC9728.asks(
        "rfc9728-5.2-changed",
        "SHOULD",
        "A challenge in the course of use leads to reading the metadata anew.",
        "section-5.2",
        departure="It is read when a person connects again, not in the background.",
    ),
    RFC9728.asks(
        "rfc9728-7.1-certificates",
        "MUST",
        "The certificate is validated when the metadata is asked for.",
        "section-7.1",
    ),
    RFC9728.asks(
        "rfc9728-7.7-ssrf",
        "SHOULD",
        "Addresses in the metadata cannot make the client contact internal hosts.",
        "section-7.7",
    ),
)

_NETWORK: Final = "Where requests go"
_OAUTH: Final = "OAuth"
_ANSWERS: Final = "What comes back"
_DOOR: Final = "Our own door"

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "T01",
        _NETWORK,
        "Whatever names an address (a person, a challenge, a document, a redirect), one transport resolves it, "
        "checks every address it resolves to, and dials the one it checked. Behind an egress proxy, names are for the "
        "proxy to resolve and to refuse.",
    ),
    Rule(
        "T02",
        _NETWORK,
        "Addresses off the public internet are recognised in every disguise: mapped, translated, tunnelled, multicast, "
        "reserved, and spelt in decimal, octal or hexadecimal.",
    ),
    Rule("T03", _NETWORK, "A name that changes its address between the check and the connection gains nothing by it."),
    Rule(
        "T04", _NETWORK, "IPv4 is tried first, and an address that does not answer gives way to the next one quickly."
    ),
    Rule(
        "T05",
        _NETWORK,
        "A redirect is followed within its origin and with its method only; another origin is sent nothing.",
    ),
    Rule(
        "T06",
        _NETWORK,
        "Proxies of the environment are ignored; an egress proxy is used where a setting names it, "
        "and learns the host's name and nothing of the request.",
    ),
    Rule(
        "T07",
        _NETWORK,
        "A private network is reached through an exception for one host and port only; "
        "neither that nor a list of permitted hosts switches another check off.",
    ),
    Rule("T08", _NETWORK, "Everything is https. Plain http is for loopback, under a setting for development."),
    Rule(
        "T09",
        _OAUTH,
        "People are sent to https addresses without user name or fragment, judged on the server; "
        "an endpoint's own query stays, and loses where it names a parameter of ours.",
    ),
    Rule(
        "T10",
        _OAUTH,
        "Every code is protected by PKCE with S256, and metadata that does not promise S256 is refused, "
        "unless an administrator says otherwise for that server; S256 is used even then.",
    ),
    Rule(
        "T11",
        _OAUTH,
        "Endpoints are never guessed at the server's own origin when metadata is missing or broken, "
        "unless an administrator marked the server as one of 2025-03-26.",
    ),
    Rule(
        "T12",
        _OAUTH,
        "A client's credentials belong to one issuer. When a server moves to another one, a client registered by hand "
        "is an error and a dynamic one is registered anew; the old secret is shown to nobody.",
    ),
    Rule(
        "T13",
        _OAUTH,
        "The issuer of an answer is compared, character by character, before its code and before its error; "
        "of a wrong one not a word is shown.",
    ),
    Rule(
        "T14",
        _OAUTH,
        "Metadata names the issuer it was asked for. Only an issuer's root slash makes no difference; "
        "an administrator can switch this check off for one server.",
    ),
    Rule(
        "T15",
        _OAUTH,
        "Resource metadata names exactly this server, or its origin in the document at the root; "
        "an administrator can switch this check off for one server.",
    ),
    Rule(
        "T16",
        _OAUTH,
        "The resource is one and the same in authorization, token and refresh requests, "
        "kept with the grant, and left out only where the option says so or the provider is known to refuse it.",
    ),
    Rule(
        "T17",
        _OAUTH,
        "A token goes to its server's origin only; changing a server's address, issuer, client or kind "
        "ends its grants and what is under way with them.",
    ),
    Rule(
        "T18",
        _OAUTH,
        "A state has 256 random bits, is stored as a hash, lasts ten minutes, is used up before the exchange, once, "
        "and belongs to one person, browser session, server, issuer and redirect URI.",
    ),
    Rule(
        "T19", _OAUTH, "The callback asks anew whether the person may still do this and the server is still the same."
    ),
    Rule("T20", _OAUTH, "One person may have several flows open, and nothing in the background touches them."),
    Rule(
        "T21",
        _OAUTH,
        "People see which scopes are asked for before they leave. More access is asked for on top of what was granted, "
        "a limited number of times, and an administrator can fix the scopes of a server.",
    ),
    Rule(
        "T22",
        _OAUTH,
        "Challenges are parsed: only the Bearer and DPoP schemes and exact parameter names count, among any number.",
    ),
    Rule(
        "T23",
        _OAUTH,
        "A token is visible ASCII of any length and a type we understand; its lifetime is bounded and stored as a "
        "moment; anything else in a token answer reaches neither a header nor a message.",
    ),
    Rule(
        "T24",
        _OAUTH,
        "A refresh goes to the recorded token endpoint. Only a final refusal ends the grant, and only if the row still "
        "holds the token that was refused; a passing fault keeps it, and so does an answer without a refresh token.",
    ),
    Rule("T25", _OAUTH, "A failed attempt to connect again leaves the working grant as it was."),
    Rule(
        "T26",
        _OAUTH,
        "Whatever ends a grant revokes its refresh token and then its access token upstream, within bounded time; "
        "the row goes whatever the answer is, and the person is told which it was.",
    ),
    Rule(
        "T27",
        _OAUTH,
        "A server's own headers never reach an authorization server, and never stand in for the granted token.",
    ),
    Rule(
        "T28",
        _OAUTH,
        "The client's metadata document is public and cacheable, sets no cookie, "
        "names itself by its address, and says what is really sent.",
    ),
    Rule(
        "T29",
        _OAUTH,
        "A dynamic client whose secret ended or whom the issuer forgot is registered once more; "
        "one registered by hand never is.",
    ),
    Rule(
        "T30", _ANSWERS, "Documents and answers are bounded in bytes as they are read, and encoded bodies are refused."
    ),
    Rule(
        "T31",
        _ANSWERS,
        "A deadline covers each request from name resolution to the last byte, and another one the whole operation.",
    ),
    Rule("T32", _ANSWERS, "A bad answer fails its own call and no other one."),
    Rule("T33", _ANSWERS, "A stream that asks to be polled at once or never again keeps nobody busy."),
    Rule("T34", _ANSWERS, "A server's regular expressions are not run."),
    Rule(
        "T35",
        _ANSWERS,
        "Listings end at a number of pages, tools and bytes or where a cursor comes back, and say that there was more.",
    ),
    Rule("T36", _ANSWERS, "No cookie and no listing of one person is there for another one."),
    Rule(
        "T37",
        _ANSWERS,
        "Everything a server says is text or allowed Markdown; nothing it names is loaded, its hints permit nothing.",
    ),
    Rule("T38", _ANSWERS, "Baggage of a trace stays here."),
    Rule("T39", _DOOR, "Another workspace's servers do not exist for anybody outside it."),
    Rule(
        "T40",
        _DOOR,
        "What changes something is a POST with a CSRF token, or with an API token, which no browser sends; "
        "pages run no inline script; "
        "the callback is neither stored nor named to other sites.",
    ),
    Rule(
        "T41",
        _DOOR,
        "Secrets can be entered, replaced and removed, and are shown in no form, page, admin, answer, log or error.",
    ),
    Rule(
        "T42",
        _DOOR,
        "Secrets are stored under authenticated encryption, bound to their place; keys are replaced while people work, "
        "and a lost key asks them to connect again.",
    ),
    Rule(
        "T43",
        _DOOR,
        "How often in a minute one person starts to connect, comes back and runs tools is limited.",
    ),
    Rule("T44", _DOOR, "A damaged row, server or document blanks no list and no page."),
)
