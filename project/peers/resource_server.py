"""Stands in front of an MCP server: bearer tokens, static header keys, and one protocol era only."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware, get_access_token
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver import MCPServer
from mcp_types import INVALID_REQUEST, UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from starlette.authentication import AuthCredentials
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from project.peers.authorization_server import TokenFacts
from project.peers.dpop import ALGORITHM, ProofChecker, ProofRefused
from project.peers.recording import RecordedRequest, header_values, read_request, remember

Era = Literal["modern", "legacy", "dual"]
"""``modern``: 2026-07-28 only, stateless. ``legacy``: up to 2025-11-25, with sessions. ``dual``: both, stateless."""

Verify = Callable[[str], Awaitable[TokenFacts | None]]
MCP_PATH = "/mcp"


def mcp_app(server: MCPServer[Any], era: Era) -> ASGIApp:
    """Return an MCP server as an ASGI application at ``/mcp`` that speaks only the named era.

    The SDK picks the era per request, by the ``MCP-Protocol-Version`` header, and every server of its speaks both;
    whatever belongs to the other era is therefore answered here, as a server of that age would.
    """
    app: ASGIApp = server.streamable_http_app(streamable_http_path=MCP_PATH, stateless_http=era != "legacy")
    return app if era == "dual" else OneEra(app, era)


class OneEra:
    """ASGI wrapper that refuses the requests of the other protocol era."""

    def __init__(self, app: ASGIApp, era: Literal["modern", "legacy"]) -> None:
        self.app = app
        self.era = era

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request of this era; answer one of the other era as its server would."""
        if scope["type"] != "http" or scope["path"] != MCP_PATH:
            await self.app(scope, receive, send)
            return
        version = header_values(scope).get("mcp-protocol-version")
        if self.era == "legacy":
            foreign = version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS
            answer: Callable[[str | None, Any], Response] = legacy_refusal
        else:
            # An unknown version goes through: the SDK itself answers it with the versions it has.
            foreign = version is None or version in HANDSHAKE_PROTOCOL_VERSIONS
            answer = modern_refusal
        if not foreign:
            await self.app(scope, receive, send)
            return
        recorded, receive = await read_request(scope, receive)
        message = recorded.json
        request_id = message.get("id") if isinstance(message, dict) else None
        if self.era == "modern" and scope["method"] != "POST":
            await Response(status_code=405, headers={"allow": "POST"})(scope, receive, send)
            return
        await answer(version, request_id)(scope, receive, send)


def legacy_refusal(version: str | None, request_id: Any) -> Response:
    """Return what a server of 2025-11-25 says to a version it has never heard of."""
    del request_id  # The transport refused before it read the message, so the answer names none.
    known = ", ".join(HANDSHAKE_PROTOCOL_VERSIONS)
    words = f"Bad Request: Unsupported protocol version: {version}. Supported versions: {known}"
    document = {"jsonrpc": "2.0", "id": "server-error", "error": {"code": INVALID_REQUEST, "message": words}}
    return JSONResponse(document, status_code=400)


def modern_refusal(version: str | None, request_id: Any) -> Response:
    """Return what a server of 2026-07-28 alone says to an older client: the versions it has."""
    error = {
        "code": UNSUPPORTED_PROTOCOL_VERSION,
        "message": "Unsupported protocol version",
        "data": {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": version or "initialize"},
    }
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error}, status_code=400)


@dataclass(frozen=True, slots=True)
class ResourceOptions:
    """What a protected MCP server publishes and asks for.

    ``scopes`` go into the challenge and are required of every request; ``scopes_supported`` into the metadata (empty:
    ``scopes``). ``tool_scopes`` maps a tool to what it needs beyond that, asked for with 403 (step-up).
    """

    resource: str
    authorization_servers: tuple[str, ...]
    name: str = ""
    scopes: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] = ()
    tool_scopes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    # Where the metadata document is served (RFC 9728 §3.1); the challenge names the first of them.
    metadata_at: tuple[Literal["path", "root"], ...] = ("path",)
    # Replaces fields of the metadata; a value of None removes the field.
    metadata_overrides: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    # "metadata": all of it; "bare": the scheme alone; "nothing": 401 without a challenge.
    challenge: Literal["metadata", "bare", "nothing"] = "metadata"
    # Named by the challenge in place of the document served here.
    metadata_url: str = ""
    # Sent as the challenge, whatever it is, in place of a well-formed one.
    challenge_header: str = ""
    # Takes the scheme as "Bearer" only, though case counts for nothing in it (RFC 9110 §11.1).
    strict_scheme: bool = False
    # Methods that need no token, as some servers let anybody initialize.
    open_methods: tuple[str, ...] = ()
    # Takes tokens that are bound to a key, with a proof for every request (RFC 9449 §7); with a nonce or without.
    require_dpop: bool = False
    announce_dpop: bool = False
    dpop_nonces: bool = False


class ProtectedResource:
    """ASGI application: an MCP server behind bearer tokens, beside whatever else lives on its origin.

    ``requests`` holds every request to ``/mcp`` and to the resource metadata. ``rejecting`` refuses every token.
    """

    def __init__(
        self, mcp: ASGIApp, *, verify: Verify, options: ResourceOptions, beside: ASGIApp | None = None
    ) -> None:
        self.mcp: ASGIApp = AuthContextMiddleware(mcp)
        self.verify = verify
        self.options = options
        self.beside = beside
        self.requests: list[RecordedRequest] = []
        self.rejecting = False
        self.proofs = ProofChecker()

    @property
    def metadata_paths(self) -> tuple[str, ...]:
        """Return the paths of the protected resource metadata, the advertised one first."""
        root = "/.well-known/oauth-protected-resource"
        path = root + urlsplit(self.options.resource).path.rstrip("/")
        return tuple({"path": path, "root": root}[place] for place in self.options.metadata_at)

    def metadata(self) -> dict[str, Any]:
        """Return the protected resource metadata (RFC 9728 §2)."""
        options = self.options
        document: dict[str, Any] = {
            "resource": options.resource,
            "authorization_servers": list(options.authorization_servers),
            "scopes_supported": list(options.scopes_supported or options.scopes) or None,
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": [ALGORITHM] if options.require_dpop or options.announce_dpop else None,
            "dpop_bound_access_tokens_required": True if options.require_dpop else None,
            "resource_name": options.name or None,
        }
        document.update(options.metadata_overrides)
        return {name: value for name, value in document.items() if value is not None}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the metadata, guard ``/mcp``, and leave the rest to the neighbour."""
        if scope["type"] != "http":
            await self.mcp(scope, receive, send)
        elif scope["path"] == MCP_PATH:
            recorded, receive = await read_request(scope, receive)
            remember(self.requests, recorded)
            refusal = await self._refusal(recorded, scope)
            await (refusal or self.mcp)(scope, receive, send)
        elif scope["path"] in self.metadata_paths:
            recorded, receive = await read_request(scope, receive)
            remember(self.requests, recorded)
            await JSONResponse(self.metadata())(scope, receive, send)
        else:
            await (self.beside or JSONResponse({"error": "not_found"}, status_code=404))(scope, receive, send)

    async def _refusal(self, request: RecordedRequest, scope: Scope) -> Response | None:
        """Return the answer that ends a request, or ``None`` after putting its user into the scope."""
        options = self.options
        scheme, _, token = (request.authorization or "").partition(" ")
        # Whoever does show a token is known by it, also where nobody has to.
        if request.rpc_method in options.open_methods and not token:
            return None
        misspelled = options.strict_scheme and scheme not in {"Bearer", "DPoP"}
        if scheme.lower() != ("dpop" if options.require_dpop else "bearer") or not token or misspelled:
            return self._challenge(401, scope=" ".join(options.scopes))
        jkt = ""
        if options.require_dpop:
            try:
                jkt = self.proofs.check(
                    request.headers.get("dpop"),
                    method=request.method,
                    url=options.resource,
                    access_token=token,
                    with_nonce=options.dpop_nonces,
                )
            except ProofRefused as refused:
                return self._challenge(401, scope=" ".join(options.scopes), error=refused.error)
        facts = None if self.rejecting else await self.verify(token)
        # A bound token is no bearer token (RFC 9449 §7.2).
        if facts is None or facts.audience != options.resource or facts.jkt != jkt:
            return self._challenge(401, scope=" ".join(options.scopes), error="invalid_token")
        held = facts.scope.split()
        needed = [*options.scopes, *options.tool_scopes.get(request.tool or "", "").split()]
        if not set(needed) <= set(held):
            return self._challenge(403, scope=" ".join(needed), error="insufficient_scope")
        # Who the session belongs to and whom get_access_token() names inside a tool.
        access = AccessToken(
            token=token,
            client_id=facts.client_id,
            scopes=held,
            expires_at=None if facts.expires_at is None else int(facts.expires_at),
            resource=facts.audience,
            subject=facts.user,
            claims={"iss": facts.issuer},
        )
        scope["user"] = AuthenticatedUser(access)
        scope["auth"] = AuthCredentials(held)
        return None

    def _challenge(self, status: int, *, scope: str, error: str = "") -> Response:
        """Return a refusal with its Bearer or DPoP challenge (RFC 6750 §3, RFC 9728 §5.1, RFC 9449 §7.1)."""
        headers: dict[str, str] = {}
        scheme = "DPoP" if self.options.require_dpop else "Bearer"
        if error == "use_dpop_nonce":
            headers["dpop-nonce"] = self.proofs.nonce
        if self.options.challenge_header:
            headers["www-authenticate"] = self.options.challenge_header
        elif self.options.challenge == "bare":
            headers["www-authenticate"] = scheme
        elif self.options.challenge == "metadata":
            parts = urlsplit(self.options.resource)
            parameters = {"error": error, "scope": scope, "algs": ALGORITHM if self.options.require_dpop else ""}
            if self.options.metadata_url:
                parameters["resource_metadata"] = self.options.metadata_url
            elif self.metadata_paths:
                parameters["resource_metadata"] = f"{parts.scheme}://{parts.netloc}{self.metadata_paths[0]}"
            words = ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value)
            headers["www-authenticate"] = f"{scheme} {words}".strip()
        return JSONResponse({"error": error or "unauthorized"}, status_code=status, headers=headers)


class HeaderProtected:
    """ASGI application: an MCP server that wants a fixed value in one header; 401 without a challenge otherwise."""

    def __init__(self, mcp: ASGIApp, *, header: str, value: str) -> None:
        self.mcp = mcp
        self.header = header.lower()
        self.value = value
        self.requests: list[RecordedRequest] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Compare the header in constant time and pass the request on."""
        if scope["type"] != "http":
            await self.mcp(scope, receive, send)
            return
        recorded, receive = await read_request(scope, receive)
        remember(self.requests, recorded)
        if scope["path"] != MCP_PATH:
            await JSONResponse({"error": "not_found"}, status_code=404)(scope, receive, send)
        elif secrets.compare_digest(recorded.headers.get(self.header, "").encode(), self.value.encode()):
            await self.mcp(scope, receive, send)
        else:
            await JSONResponse({"error": "The API key is missing or wrong."}, status_code=401)(scope, receive, send)


class RemoteIntrospection:
    """A ``Verify`` that asks an authorization server in another process (RFC 7662); open it with ``async with``.

    An authorization server that does not answer means that no token is accepted.
    """

    def __init__(self, endpoint: str, secret: str) -> None:
        self.endpoint = endpoint
        self._secret = secret
        self._http: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> RemoteIntrospection:
        """Open the connection pool."""
        self._http = httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=5)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the connection pool."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def __call__(self, token: str) -> TokenFacts | None:
        """Return what the token stands for, or ``None``."""
        if self._http is None:
            raise RuntimeError("RemoteIntrospection is used outside its context.")
        try:
            answer = await self._http.post(
                self.endpoint, data={"token": token}, headers={"authorization": f"Bearer {self._secret}"}
            )
            document = json.loads(answer.content)
        except (httpx2.HTTPError, ValueError):
            return None
        if answer.status_code != 200 or not isinstance(document, dict) or document.get("active") is not True:
            return None
        confirmation = document.get("cnf")
        return TokenFacts(
            user=str(document.get("sub", "")),
            client_id=str(document.get("client_id", "")),
            scope=str(document.get("scope", "")),
            audience=str(document.get("aud", "")),
            issuer=str(document.get("iss", "")),
            expires_at=document.get("exp"),
            jkt=str(confirmation.get("jkt", "")) if isinstance(confirmation, dict) else "",
        )


def current_user() -> str:
    """Return the user whose token the running tool was called with, ``"anyone"`` on an open server."""
    access = get_access_token()
    return (access.subject or "anyone") if access is not None else "anyone"
