"""A small but complete OAuth 2.1 authorization server, for the demonstration and as a peer of the tests."""

from __future__ import annotations

import base64
import binascii
import hashlib
import inspect
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus, urlencode, urlsplit

import httpx2
import jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from project.peers.dpop import ALGORITHM, ProofChecker, ProofRefused
from project.peers.foreign import ID_JAG_TYPE, IdentityProvider, NotAccepted, NotPermitted, accepted_claims
from project.peers.options import AuthorizationServerOptions, FaultHook
from project.peers.pages import PAGE_HEADERS, consent_page, problem_page, sign_in_page
from project.peers.recording import RecordedRequest, Recorder
from project.peers.registry import AuthorizationCode, Client, IssuedToken, Registry, digest

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
PENDING_SECONDS = 600
MAXIMUM_PENDING = 1000
CLIENT_DOCUMENT_BYTES = 65536
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - the name of a grant type
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What a resource server may know about a token; ``expires_at`` is epoch seconds."""

    user: str
    client_id: str
    scope: str
    audience: str
    issuer: str
    expires_at: float | None
    # The thumbprint of the key the token is bound to (RFC 9449 §6), empty for a bearer token.
    jkt: str = ""


@dataclass(slots=True)
class PendingAuthorization:
    """One authorization request between its arrival and the person's decision."""

    client: Client
    redirect_uri: str
    state: str = field(repr=False)
    scope: str
    resource: str
    code_challenge: str = field(repr=False)
    created: float
    # Ties the consent form to the browser that was shown it.
    nonce: str = field(default="", repr=False)


class Refusal(Exception):
    """An OAuth error that goes back to the client as JSON (RFC 6749 §5.2, RFC 7591 §3.2.2)."""

    def __init__(
        self, error: str, description: str, *, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status
        self.headers = dict(headers or {})


class AuthorizationRefusal(Exception):
    """An OAuth error that goes back to the client in the redirect (RFC 6749 §4.1.2.1)."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.error = error
        self.description = description


class UnknownClient(Exception):
    """A client or redirect URI nobody vouches for: the person is told, nothing is redirected."""


class AuthorizationServer:
    """An OAuth 2.1 authorization server; ``app`` is what uvicorn runs.

    ``base_url`` is its origin without a trailing slash; empty takes it from the first request. ``options`` may be
    replaced while it runs (all but ``issuer_path``). ``requests`` holds everything received, in order.
    """

    def __init__(
        self, options: AuthorizationServerOptions | None = None, *, base_url: str = "", state_file: Path | None = None
    ) -> None:
        self.options = options or AuthorizationServerOptions()
        self.base_url = base_url
        self.requests: list[RecordedRequest] = []
        self._seen_assertions: set[str] = set()
        self.proofs = ProofChecker()
        self.registry = Registry(state_file)
        self._pending: dict[str, PendingAuthorization] = {}
        self._signed_in: dict[str, str] = {}
        self._cimd_clients: dict[str, Client] = {}
        self._path = self.options.issuer_path.rstrip("/")
        self.app: ASGIApp = Recorder(self._starlette(), self.requests)

    # What tests and resource servers use.

    @property
    def issuer(self) -> str:
        """Return the issuer identifier."""
        return f"{self.base_url}{self.options.issuer_path}"

    @property
    def access_tokens(self) -> list[IssuedToken]:
        """Return every access token, oldest first."""
        return [token for token in self.registry.tokens.values() if token.kind == "access"]

    @property
    def refresh_tokens(self) -> list[IssuedToken]:
        """Return every refresh token, oldest first."""
        return [token for token in self.registry.tokens.values() if token.kind == "refresh"]

    @property
    def clients(self) -> list[Client]:
        """Return the clients that registered themselves dynamically."""
        return list(self.registry.clients.values())

    def requests_to(self, endpoint: str) -> list[RecordedRequest]:
        """Return the recorded requests to an endpoint named by the end of its path, such as ``"/token"``."""
        return [request for request in self.requests if request.path.endswith(endpoint)]

    def introspect(self, token: str) -> TokenFacts | None:
        """Return what an access token stands for, or ``None`` when it is not accepted (any more)."""
        issued = self.registry.find(token)
        if issued is None or issued.kind != "access" or not issued.active:
            return None
        return TokenFacts(
            user=issued.user,
            client_id=issued.client_id,
            scope=issued.scope,
            audience=issued.audience,
            issuer=self.issuer,
            expires_at=issued.expires_at,
            jkt=issued.jkt,
        )

    def expire_access_tokens(self) -> None:
        """Let every access token issued so far be past its end."""
        for token in self.access_tokens:
            token.expires_at = time.time() - 1
        self.registry.save()

    def revoke_refresh_tokens(self) -> None:
        """End every refresh token issued so far; the next refresh answers ``invalid_grant``."""
        for token in self.refresh_tokens:
            token.revoked = True
        self.registry.save()

    def forget_clients(self) -> None:
        """Forget every client that registered itself; it is ``invalid_client`` from now on."""
        self.registry.clients.clear()
        self._cimd_clients.clear()
        self.registry.save()

    def grant(
        self, *, client_id: str, user: str = "ada", scope: str | None = None, resource: str = ""
    ) -> dict[str, Any]:
        """Issue tokens as though the user had just allowed it; return the token response."""
        client = self._known_client(client_id) or Client(client_id=client_id, kind="preregistered")
        granted = self._default_scope() if scope is None else scope
        return self._token_response(
            client, user=user, scope=granted, audience=resource or self.options.default_resource
        )

    # Routes.

    def _starlette(self) -> Starlette:
        path = self._path
        routes = [
            Route(f"/.well-known/oauth-authorization-server{path}", self._metadata_route("oauth")),
            Route(f"/.well-known/openid-configuration{path}", self._metadata_route("openid-inserted")),
            Route(f"{path}/authorize", self._with_faults("authorization_faults", self._authorize), methods=["GET"]),
            Route(f"{path}/sign-in", self._sign_in, methods=["POST"]),
            Route(f"{path}/sign-out", self._sign_out, methods=["POST"]),
            Route(f"{path}/consent", self._consent, methods=["GET", "POST"]),
            Route(f"{path}/token", self._with_faults("token_faults", self._token), methods=["POST"]),
            Route(f"{path}/register", self._with_faults("registration_faults", self._register), methods=["POST"]),
            Route(f"{path}/revoke", self._with_faults("revocation_faults", self._revoke), methods=["POST"]),
            Route(f"{path}/introspect", self._introspect, methods=["POST"]),
            Route(f"{path}/pages.css", self._stylesheet_file),
        ]
        if path:
            routes.append(Route(f"{path}/.well-known/openid-configuration", self._metadata_route("openid-appended")))
        return Starlette(routes=routes)

    def _learn_base_url(self, request: Request) -> None:
        if not self.base_url:
            self.base_url = f"{request.url.scheme}://{request.url.netloc}"

    def _url(self, name: str) -> str:
        return f"{self.base_url}{self._path}/{name}"

    def _stylesheet(self) -> str:
        return f"{self._path}/pages.css"

    async def _stylesheet_file(self, request: Request) -> Response:
        return FileResponse(Path(__file__).with_name("pages.css"), media_type="text/css")

    def _with_faults(self, hook_name: str, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            self._learn_base_url(request)
            hook: FaultHook | None = getattr(self.options, hook_name)
            if hook is not None:
                injected = await _injected(hook, await _parameters(request))
                if injected is not None:
                    return injected
            try:
                return await handler(request)
            except Refusal as refusal:
                return _refused(request, refusal)

        return answer

    def _metadata_route(self, form: str) -> Handler:
        async def answer(request: Request) -> Response:
            self._learn_base_url(request)
            hook = self.options.metadata_faults
            if hook is not None:
                injected = await _injected(hook, {"path": request.url.path})
                if injected is not None:
                    return injected
            if form not in self.options.metadata_forms:
                return JSONResponse({"error": "not_found"}, status_code=404)
            return JSONResponse(self.metadata())

        return answer

    def metadata(self) -> dict[str, Any]:
        """Return the metadata document (RFC 8414 §2)."""
        options = self.options
        methods = options.token_endpoint_auth_methods
        document: dict[str, Any] = {
            "issuer": self.issuer,
            "authorization_endpoint": self._url("authorize"),
            "token_endpoint": self._url("token"),
            "registration_endpoint": self._url("register") if options.dynamic_registration else None,
            "revocation_endpoint": self._url("revoke") if options.revocation else None,
            "revocation_endpoint_auth_methods_supported": _listed(methods) if options.revocation else None,
            "scopes_supported": list(options.scopes),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "client_credentials"]
            + ["refresh_token"] * options.issue_refresh_token
            + [JWT_BEARER] * bool(options.trusted_issuers)
            + [TOKEN_EXCHANGE] * (options.identity_provider is not None),
            "token_endpoint_auth_methods_supported": _listed(methods),
            "code_challenge_methods_supported": _listed(options.code_challenge_methods),
            "dpop_signing_alg_values_supported": [ALGORITHM] if options.require_dpop else None,
            "client_id_metadata_document_supported": True if options.cimd else None,
            "authorization_response_iss_parameter_supported": True if options.advertise_iss else None,
        }
        document.update(options.metadata_overrides)
        return {name: value for name, value in document.items() if value is not None}

    # Clients.

    def _known_client(self, client_id: str) -> Client | None:
        for entry in self.options.clients:
            if entry.client_id == client_id:
                secret = entry.client_secret
                return Client(
                    client_id=client_id,
                    kind="preregistered",
                    client_name=entry.client_name or client_id,
                    redirect_uris=entry.redirect_uris,
                    token_endpoint_auth_method=entry.token_endpoint_auth_method
                    or ("" if secret else "private_key_jwt" if entry.public_key else "none"),
                    secret_digest=digest(secret) if secret else None,
                    public_key=entry.public_key,
                )
        return self.registry.clients.get(client_id) or self._cimd_clients.get(client_id)

    async def _client(self, client_id: str, *, fresh: bool = False) -> Client | None:
        """Return a client by id, reading its metadata document when the id is a URL."""
        known = self._known_client(client_id)
        is_url = client_id.startswith(("https://", "http://"))
        if known is not None and not (fresh and known.kind == "cimd"):
            return known
        if not (is_url and self.options.cimd):
            return None
        client = await fetch_client_document(client_id)
        self._cimd_clients[client_id] = client
        return client

    async def _register(self, request: Request) -> Response:
        options = self.options
        if not options.dynamic_registration:
            return JSONResponse({"error": "not_found"}, status_code=404)
        try:
            wanted = json.loads(await request.body())
        except ValueError as error:
            raise Refusal("invalid_client_metadata", "The request is not JSON.") from error
        if not isinstance(wanted, dict):
            raise Refusal("invalid_client_metadata", "The request is not a JSON object.")
        redirect_uris = _string_list(wanted, "redirect_uris", default=())
        if not redirect_uris:
            raise Refusal("invalid_redirect_uri", "redirect_uris is missing.")
        for redirect_uri in redirect_uris:
            if not _acceptable_redirect_uri(redirect_uri):
                raise Refusal("invalid_redirect_uri", "Only https, or http on a loopback host, without a fragment.")
        # RFC 7591 §2: what is left out means client_secret_basic and authorization_code.
        method = wanted.get("token_endpoint_auth_method", "client_secret_basic")
        supported = options.token_endpoint_auth_methods
        if method not in (supported if supported is not None else ("client_secret_basic", "client_secret_post")):
            raise Refusal("invalid_client_metadata", "This token_endpoint_auth_method is not supported.")
        grant_types = _string_list(wanted, "grant_types", default=("authorization_code",))
        if "authorization_code" not in grant_types:
            raise Refusal("invalid_client_metadata", "grant_types has to contain authorization_code.")
        if _string_list(wanted, "response_types", default=("code",)) != ("code",):
            raise Refusal("invalid_client_metadata", 'response_types has to be ["code"].')
        secret = None if method == "none" else secrets.token_urlsafe(24)
        now = time.time()
        lifetime = options.client_secret_seconds
        client = Client(
            client_id=f"client-{secrets.token_hex(8)}",
            kind="dynamic",
            client_name=str(wanted.get("client_name") or "Unnamed client")[:100],
            client_uri=str(wanted.get("client_uri") or ""),
            redirect_uris=redirect_uris,
            token_endpoint_auth_method=method,
            secret_digest=digest(secret) if secret else None,
            secret_expires_at=now + lifetime if secret and lifetime is not None else None,
            grant_types=grant_types,
        )
        self.registry.clients[client.client_id] = client
        self.registry.save()
        answer: dict[str, Any] = {
            **{name: value for name, value in wanted.items() if name not in {"client_id", "client_secret"}},
            "client_id": client.client_id,
            "client_id_issued_at": int(now),
            "redirect_uris": list(redirect_uris),
            "grant_types": list(grant_types),
            "response_types": ["code"],
            "token_endpoint_auth_method": method,
        }
        if secret is not None:
            answer["client_secret"] = secret
            answer["client_secret_expires_at"] = int(client.secret_expires_at or 0)
        return JSONResponse(answer, status_code=201, headers=NO_STORE)

    # The authorization endpoint and its pages.

    async def _authorize(self, request: Request) -> Response:
        query = request.query_params
        try:
            client, redirect_uri = await self._vouched_for(query.get("client_id", ""), query.get("redirect_uri", ""))
        except UnknownClient as error:
            return self._problem("This request cannot be continued", str(error))
        state = query.get("state", "")
        try:
            pending = self._checked(request, client, redirect_uri)
        except AuthorizationRefusal as refusal:
            return self._redirect(
                redirect_uri, state, {"error": refusal.error, "error_description": refusal.description}
            )
        if self.options.deny:
            return self._denied(pending)
        if self.options.auto_consent:
            return self._allowed(pending, self.options.auto_consent)
        key = self._remember_pending(pending)
        if self._user(request) is None:
            return self._sign_in_response(key, pending)
        return RedirectResponse(f"{self._path}/consent?{urlencode({'request': key})}", status_code=303)

    async def _vouched_for(self, client_id: str, redirect_uri: str) -> tuple[Client, str]:
        if not client_id:
            raise UnknownClient("The application did not say who it is.")
        client = await self._client(client_id, fresh=True)
        if client is None:
            raise UnknownClient("The application that sent you here is not known to this service.")
        if client.redirect_uris and redirect_uri not in client.redirect_uris:
            raise UnknownClient("The application asked to return to an address it has not registered.")
        if not urlsplit(redirect_uri).netloc:
            raise UnknownClient("The application did not say where to return to.")
        return client, redirect_uri

    def _checked(self, request: Request, client: Client, redirect_uri: str) -> PendingAuthorization:
        query, options = request.query_params, self.options
        for name in ("response_type", "state", "scope", "code_challenge", "code_challenge_method"):
            if len(query.getlist(name)) > 1:
                raise AuthorizationRefusal("invalid_request", f"{name} appears more than once.")
        if query.get("response_type") != "code":
            raise AuthorizationRefusal("unsupported_response_type", "Only the code response type is supported.")
        challenge = query.get("code_challenge", "")
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}", challenge) or query.get("code_challenge_method") != "S256":
            raise AuthorizationRefusal("invalid_request", "PKCE with S256 is required.")
        scope = self._default_scope() if not query.get("scope", "").split() else " ".join(query["scope"].split())
        unknown = [item for item in scope.split() if item not in options.scopes]
        if unknown:
            raise AuthorizationRefusal("invalid_scope", "A requested scope does not exist here.")
        return PendingAuthorization(
            client=client,
            redirect_uri=redirect_uri,
            state=query.get("state", ""),
            scope=scope,
            resource=self._checked_resource(query.getlist("resource")),
            code_challenge=challenge,
            created=time.time(),
        )

    def _checked_resource(self, values: list[str]) -> str:
        options = self.options
        if len(values) > 1:
            raise AuthorizationRefusal("invalid_target", "Only one resource can be asked for.")
        resource = values[0] if values else ""
        if not resource and options.resource_mode == "required":
            raise AuthorizationRefusal("invalid_target", "The resource parameter is required.")
        if resource and options.resource_mode == "refused":
            raise AuthorizationRefusal(
                "invalid_target", "The resource parameter is not supported together with scopes."
            )
        if resource and options.resources is not None and resource not in options.resources:
            raise AuthorizationRefusal("invalid_target", "This resource is not known here.")
        return resource

    def _default_scope(self) -> str:
        return self.options.default_scope or " ".join(self.options.scopes)

    def _remember_pending(self, pending: PendingAuthorization) -> str:
        oldest = time.time() - PENDING_SECONDS
        for key in [key for key, entry in self._pending.items() if entry.created < oldest]:
            del self._pending[key]
        while len(self._pending) >= MAXIMUM_PENDING:
            del self._pending[next(iter(self._pending))]
        key = secrets.token_urlsafe(24)
        self._pending[key] = pending
        return key

    def _open_pending(self, key: str) -> PendingAuthorization | None:
        pending = self._pending.get(key)
        return pending if pending is not None and pending.created > time.time() - PENDING_SECONDS else None

    @property
    def _cookie(self) -> str:
        # Cookies do not know ports: every peer on this machine needs a name of its own.
        return f"sign-in-{hashlib.sha256(self.issuer.encode()).hexdigest()[:8]}"

    def _user(self, request: Request) -> str | None:
        user = self._signed_in.get(request.cookies.get(self._cookie, ""))
        return user if user in self.options.users else None

    async def _sign_in(self, request: Request) -> Response:
        form = await _form(request)
        key = form.get("request", "")
        pending = self._open_pending(key)
        if pending is None:
            return self._expired()
        username = form.get("username", "").strip()
        expected = self.options.users.get(username)
        if expected is None or not secrets.compare_digest(expected.encode(), form.get("password", "").encode()):
            return self._sign_in_response(
                key, pending, username=username, error="The user name or the password is not right."
            )
        session = secrets.token_urlsafe(24)
        self._signed_in[session] = username
        response = RedirectResponse(f"{self._path}/consent?{urlencode({'request': key})}", status_code=303)
        response.set_cookie(self._cookie, session, httponly=True, samesite="lax", path="/")
        return response

    async def _sign_out(self, request: Request) -> Response:
        key = (await _form(request)).get("request", "")
        self._signed_in.pop(request.cookies.get(self._cookie, ""), None)
        pending = self._open_pending(key)
        response = self._expired() if pending is None else self._sign_in_response(key, pending)
        response.delete_cookie(self._cookie, path="/")
        return response

    async def _consent(self, request: Request) -> Response:
        form = await _form(request) if request.method == "POST" else {}
        key = form.get("request", "") or request.query_params.get("request", "")
        pending = self._open_pending(key)
        if pending is None:
            return self._expired()
        user = self._user(request)
        if user is None:
            return self._sign_in_response(key, pending)
        if request.method == "GET":
            pending.nonce = pending.nonce or secrets.token_urlsafe(16)
            return HTMLResponse(self._consent_html(key, pending, user), headers=dict(PAGE_HEADERS))
        if not pending.nonce or not secrets.compare_digest(pending.nonce.encode(), form.get("nonce", "").encode()):
            return self._expired()
        del self._pending[key]
        return self._allowed(pending, user) if form.get("decision") == "allow" else self._denied(pending)

    def _consent_html(self, key: str, pending: PendingAuthorization, user: str) -> str:
        client = pending.client
        identity = {
            "preregistered": "Registered with this service",
            "dynamic": "Registered itself; its name is not verified",
            "cimd": urlsplit(client.client_id).netloc,
        }[client.kind]
        return consent_page(
            service=self.options.service_name,
            stylesheet=self._stylesheet(),
            action=f"{self._path}/consent",
            sign_out_action=f"{self._path}/sign-out",
            pending=key,
            nonce=pending.nonce,
            user=user,
            client_name=client.client_name,
            client_identity=identity,
            redirect_uri=pending.redirect_uri,
            scopes={scope: self.options.scopes[scope] for scope in pending.scope.split()},
        )

    def _sign_in_response(
        self, key: str, pending: PendingAuthorization, *, username: str = "", error: str = ""
    ) -> Response:
        page = sign_in_page(
            service=self.options.service_name,
            stylesheet=self._stylesheet(),
            action=f"{self._path}/sign-in",
            pending=key,
            client_name=pending.client.client_name,
            username=username,
            error=error,
            accounts=tuple(self.options.users) if self.options.show_accounts else (),
        )
        return HTMLResponse(page, status_code=401 if error else 200, headers=dict(PAGE_HEADERS))

    def _problem(self, title: str, explanation: str) -> Response:
        page = problem_page(
            service=self.options.service_name, stylesheet=self._stylesheet(), title=title, explanation=explanation
        )
        return HTMLResponse(page, status_code=400, headers=dict(PAGE_HEADERS))

    def _expired(self) -> Response:
        return self._problem("This page is out of date", "The request it belongs to is finished or took too long.")

    def _redirect(self, redirect_uri: str, state: str, parameters: Mapping[str, str]) -> Response:
        answer = dict(parameters) | ({"state": state} if state else {})
        if self.options.send_iss:
            # RFC 9207 §2: in success and error responses alike.
            answer["iss"] = self.options.wrong_iss or self.issuer
        joiner = "&" if urlsplit(redirect_uri).query else "?"
        headers = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
        return RedirectResponse(f"{redirect_uri}{joiner}{urlencode(answer)}", status_code=303, headers=headers)

    def _denied(self, pending: PendingAuthorization) -> Response:
        words = {"error": "access_denied", "error_description": "The person did not allow it."}
        return self._redirect(pending.redirect_uri, pending.state, words)

    def _allowed(self, pending: PendingAuthorization, user: str) -> Response:
        code = secrets.token_urlsafe(24)
        self.registry.codes[digest(code)] = AuthorizationCode(
            client_id=pending.client.client_id,
            redirect_uri=pending.redirect_uri,
            code_challenge=pending.code_challenge,
            scope=pending.scope,
            resource=pending.resource,
            user=user,
            expires_at=time.time() + self.options.code_seconds,
        )
        return self._redirect(pending.redirect_uri, pending.state, {"code": code})

    # The token endpoint.

    async def _authenticated(self, request: Request, form: Mapping[str, str]) -> Client:
        """Authenticate the client with exactly the method it is registered for (RFC 6749 §2.3)."""
        client_id, secret, method = form.get("client_id", ""), form.get("client_secret", ""), "none"
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            method = "client_secret_basic"
            name, secret = _basic_credentials(credentials)
            if client_id and client_id != name:
                raise Refusal("invalid_request", "Two different clients are named.")
            client_id = name
        elif "client_secret" in form:
            method = "client_secret_post"
        elif "client_assertion" in form:
            method = "private_key_jwt"
            client_id = client_id or _unverified_subject(form["client_assertion"])
        client = await self._client(client_id) if client_id else None
        if client is None:
            raise Refusal("invalid_client", "The client is not known here.", status=401)
        allowed = (
            (client.token_endpoint_auth_method,)
            if client.token_endpoint_auth_method
            else (
                "client_secret_basic",
                "client_secret_post",
            )
        )
        if method not in allowed:
            raise Refusal("invalid_client", "The client is not registered for this authentication.", status=401)
        if method == "private_key_jwt":
            self._verify_assertion(client, form)
        elif client.secret_digest is not None:
            if not secrets.compare_digest(client.secret_digest, digest(secret)):
                raise Refusal("invalid_client", "The client secret is wrong.", status=401)
            if client.secret_expires_at is not None and client.secret_expires_at <= time.time():
                raise Refusal("invalid_client", "The client secret has expired.", status=401)
        return client

    def _verify_assertion(self, client: Client, form: Mapping[str, str]) -> None:
        """Accept an assertion signed with the client's key, addressed to this issuer, once (RFC 7523 §3)."""
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise Refusal("invalid_client", "The type of the client assertion is not supported.", status=401)
        try:
            claims = jwt.decode(
                form["client_assertion"],
                client.public_key or "",
                algorithms=["ES256", "RS256", "EdDSA"],
                audience=self.issuer,
                issuer=client.client_id,
                options={"require": ["exp", "iat", "jti", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise Refusal("invalid_client", f"The client assertion is not valid: {error}", status=401) from error
        if claims["sub"] != client.client_id or claims["jti"] in self._seen_assertions:
            raise Refusal("invalid_client", "The client assertion is of another client or was used.", status=401)
        self._seen_assertions.add(claims["jti"])

    async def _token(self, request: Request) -> Response:
        form = await _form(request)
        client = await self._authenticated(request, form)
        jkt = self._proven(request)
        grant_type = form.get("grant_type", "")
        if grant_type == "authorization_code":
            answer = self._exchanged(client, form, jkt)
        elif grant_type == "refresh_token":
            answer = self._refreshed(client, form, jkt)
        elif grant_type == "client_credentials":
            answer = self._granted_to_client(client, form, jkt)
        elif grant_type == JWT_BEARER and self.options.trusted_issuers:
            answer = self._granted_for_assertion(client, form)
        elif grant_type == TOKEN_EXCHANGE and (provider := self.options.identity_provider) is not None:
            answer = self._identity_assertion(provider, client, form)
        else:
            raise Refusal("unsupported_grant_type", "This grant type is not supported.")
        return JSONResponse(answer, headers=NO_STORE)

    def _proven(self, request: Request) -> str:
        """Return the thumbprint of the key that a token request proves; empty where none has to (RFC 9449 §5)."""
        if not self.options.require_dpop:
            return ""
        try:
            return self.proofs.check(
                request.headers.get("dpop"),
                method=request.method,
                url=self._url("token"),
                with_nonce=self.options.dpop_nonces,
            )
        except ProofRefused as refused:
            headers = {"dpop-nonce": self.proofs.nonce} if self.options.dpop_nonces else {}
            raise Refusal(refused.error, refused.description, headers=headers) from refused

    def _exchanged(self, client: Client, form: Mapping[str, str], jkt: str) -> dict[str, Any]:
        code = self.registry.codes.get(digest(form.get("code", "")))
        if code is None or code.client_id != client.client_id:
            raise Refusal("invalid_grant", "The code is not known here.")
        if code.grant_id:
            self.registry.revoke_grant(code.grant_id)
            self.registry.save()
            raise Refusal("invalid_grant", "The code was used before; its tokens are revoked.")
        if code.expires_at <= time.time():
            raise Refusal("invalid_grant", "The code has expired.")
        if form.get("redirect_uri", "") != code.redirect_uri:
            raise Refusal("invalid_grant", "The redirect URI is not the one of the authorization request.")
        verifier = form.get("code_verifier", "")
        if not re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier) or s256(verifier) != code.code_challenge:
            raise Refusal("invalid_grant", "The code verifier does not fit the code challenge.")
        self._same_resource(form, code.resource)
        code.grant_id = secrets.token_hex(8)
        return self._token_response(
            client,
            user=code.user,
            scope=code.scope,
            audience=code.resource or self.options.default_resource,
            grant_id=code.grant_id,
            jkt=jkt,
        )

    def _refreshed(self, client: Client, form: Mapping[str, str], jkt: str) -> dict[str, Any]:
        token = self.registry.find(form.get("refresh_token", ""))
        if token is None or token.kind != "refresh" or token.client_id != client.client_id:
            raise Refusal("invalid_grant", "The refresh token is not known here.")
        if token.used:
            # OAuth 2.1 §4.3.1: somebody else holds the successor, and nobody knows who is the thief.
            self.registry.revoke_grant(token.grant_id)
            self.registry.save()
            raise Refusal("invalid_grant", "The refresh token was used before; the grant is revoked.")
        if not token.active:
            raise Refusal("invalid_grant", "The refresh token is revoked or has expired.")
        if token.jkt != jkt:
            raise Refusal("invalid_grant", "The refresh token is bound to another key.")
        # A grant without a resource of its own was given the default audience.
        self._same_resource(form, token.audience)
        scope = " ".join(form.get("scope", "").split()) or token.scope
        if not set(scope.split()) <= set(token.scope.split()):
            raise Refusal("invalid_scope", "A refresh cannot ask for more than was granted.")
        rotate = self.options.rotate_refresh
        if rotate:
            token.used = True
        return self._token_response(
            client,
            user=token.user,
            scope=scope,
            audience=token.audience,
            grant_id=token.grant_id,
            refresh_scope=token.scope if rotate else None,
            jkt=jkt,
        )

    def _granted_to_client(self, client: Client, form: Mapping[str, str], jkt: str) -> dict[str, Any]:
        """Issue a token to the client itself; without a refresh token (RFC 6749 §4.4.3)."""
        public = client.secret_digest is None and client.public_key is None
        if client.kind != "preregistered" or public:
            raise Refusal("unauthorized_client", "The client may not act as itself.")
        scope = form.get("scope", "") or self.options.default_scope
        if not set(scope.split()) <= set(self.options.scopes):
            raise Refusal("invalid_scope", "A scope is not known here.")
        resource = form.get("resource", "")
        if self.options.resource_mode == "required" and not resource:
            raise Refusal("invalid_target", "The resource parameter is required.")
        return self._token_response(
            client,
            user=client.client_id,
            scope=scope,
            audience=resource or self.options.default_resource,
            refresh_scope=None,
            jkt=jkt,
        )

    def _granted_for_assertion(self, client: Client, form: Mapping[str, str]) -> dict[str, Any]:
        """Issue a token to whom a trusted issuer vouches for (RFC 7523 §2.1); without a refresh token."""
        scope = form.get("scope", "") or self.options.default_scope
        if not set(scope.split()) <= set(self.options.scopes):
            raise Refusal("invalid_scope", "A scope is not known here.")
        resource = form.get("resource", "") or self.options.default_resource
        try:
            claims = accepted_claims(
                form.get("assertion", ""),
                trusted=self.options.trusted_issuers,
                audiences=[self.issuer, self._url("token")],
                client_id=client.client_id,
                resource=resource,
            )
        except NotAccepted as error:
            raise Refusal("invalid_grant", f"The assertion is not accepted: {error}") from error
        return self._token_response(client, user=str(claims["sub"]), scope=scope, audience=resource, refresh_scope=None)

    def _identity_assertion(
        self, provider: IdentityProvider, client: Client, form: Mapping[str, str]
    ) -> dict[str, Any]:
        """Issue an identity assertion, which is no access token (RFC 8693 §2.2.1)."""
        try:
            assertion = provider.assertion(form, issuer=self.issuer, client_id=client.client_id)
        except NotAccepted as error:
            raise Refusal("invalid_request", f"The subject token is not accepted: {error}") from error
        except NotPermitted as error:
            raise Refusal("invalid_target", str(error)) from error
        return {"access_token": assertion, "issued_token_type": ID_JAG_TYPE, "token_type": "N_A", "expires_in": 300}

    def _same_resource(self, form: Mapping[str, str], granted: str) -> None:
        resource = form.get("resource", "")
        if self.options.resource_mode == "required" and not resource:
            raise Refusal("invalid_target", "The resource parameter is required.")
        if self.options.resource_mode == "refused" and resource:
            raise Refusal("invalid_target", "The resource parameter is not supported together with scopes.")
        if resource and resource != granted:
            raise Refusal("invalid_target", "The resource is not the one that was granted.")

    def _token_response(
        self,
        client: Client,
        *,
        user: str,
        scope: str,
        audience: str,
        grant_id: str = "",
        refresh_scope: str | None = "",
        jkt: str = "",
    ) -> dict[str, Any]:
        """Issue the tokens of one answer; ``refresh_scope`` empty means ``scope``, ``None`` issues no refresh token."""
        options = self.options
        grant_id = grant_id or secrets.token_hex(8)
        access = self.registry.issue(
            "access",
            grant_id=grant_id,
            client_id=client.client_id,
            user=user,
            scope=scope,
            audience=audience,
            lifetime=options.access_token_seconds,
            jkt=jkt,
        )
        token_type = "DPoP" if jkt else "Bearer"
        answer: dict[str, Any] = {"access_token": access.value, "token_type": token_type, "scope": scope}
        if options.access_token_seconds is not None:
            answer["expires_in"] = options.access_token_seconds
        if options.issue_refresh_token and refresh_scope is not None and "refresh_token" in client.grant_types:
            refresh = self.registry.issue(
                "refresh",
                grant_id=grant_id,
                client_id=client.client_id,
                user=user,
                scope=refresh_scope or scope,
                audience=audience,
                lifetime=None,
                jkt=jkt,
            )
            answer["refresh_token"] = refresh.value
        self.registry.save()
        return answer

    # Revocation and introspection.

    async def _revoke(self, request: Request) -> Response:
        if not self.options.revocation:
            return JSONResponse({"error": "not_found"}, status_code=404)
        form = await _form(request)
        client = await self._authenticated(request, form)
        if not form.get("token"):
            raise Refusal("invalid_request", "The token parameter is missing.")
        token = self.registry.find(form["token"])
        # RFC 7009 §2.2: a token that is unknown or somebody else's is answered with 200 all the same.
        if token is not None and token.client_id == client.client_id:
            if token.kind == "refresh":
                self.registry.revoke_grant(token.grant_id)
            token.revoked = True
            self.registry.save()
        return Response(status_code=200, headers=NO_STORE)

    async def _introspect(self, request: Request) -> Response:
        """Answer a resource server in another process (RFC 7662); it shows the shared secret as a bearer."""
        self._learn_base_url(request)
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        expected = self.options.introspection_secret.encode()
        if scheme.lower() != "bearer" or not secrets.compare_digest(secret.encode(), expected):
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        facts = self.introspect((await _form(request)).get("token", ""))
        if facts is None:
            return JSONResponse({"active": False}, headers=NO_STORE)
        document: dict[str, Any] = {
            "active": True,
            "sub": facts.user,
            "client_id": facts.client_id,
            "scope": facts.scope,
            "aud": facts.audience,
            "iss": facts.issuer,
        }
        if facts.expires_at is not None:
            document["exp"] = facts.expires_at
        if facts.jkt:
            document["cnf"] = {"jkt": facts.jkt}
        return JSONResponse(document, headers=NO_STORE)


def s256(verifier: str) -> str:
    """Return the S256 code challenge of a verifier (RFC 7636 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


async def fetch_client_document(client_id: str) -> Client:
    """Read a client ID metadata document and check that it speaks for its own URL.

    Plain http is accepted on loopback hosts only: this is a development server.

    Raises: ``UnknownClient`` with the reason.
    """
    parts = urlsplit(client_id)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK_HOSTS:
        raise UnknownClient("The application's metadata document is not served over https.")
    if parts.username is not None or parts.fragment or parts.path in {"", "/"}:
        raise UnknownClient("The application's client ID is not the URL of a metadata document.")
    try:
        async with httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=5) as http:
            answer = await http.get(client_id, headers={"accept": "application/json"})
    except httpx2.HTTPError as error:
        raise UnknownClient("The application's metadata document could not be read.") from error
    if answer.status_code != 200 or len(answer.content) > CLIENT_DOCUMENT_BYTES:
        raise UnknownClient("The application's metadata document could not be read.")
    try:
        document = answer.json()
    except ValueError as error:
        raise UnknownClient("The application's metadata document is not JSON.") from error
    if not isinstance(document, dict) or document.get("client_id") != client_id:
        raise UnknownClient("The application's metadata document names another client.")
    if document.get("token_endpoint_auth_method", "none") != "none" or "client_secret" in document:
        raise UnknownClient("The application's metadata document asks for a shared secret.")
    try:
        redirect_uris = _string_list(document, "redirect_uris", default=())
        grant_types = _string_list(document, "grant_types", default=("authorization_code",))
    except Refusal as error:
        raise UnknownClient("The application's metadata document is malformed.") from error
    if not redirect_uris:
        raise UnknownClient("The application's metadata document lists no redirect URI.")
    return Client(
        client_id=client_id,
        kind="cimd",
        client_name=str(document.get("client_name") or parts.netloc)[:100],
        client_uri=str(document.get("client_uri") or ""),
        redirect_uris=redirect_uris,
        token_endpoint_auth_method="none",  # noqa: S106 - the name of a method, not a secret
        grant_types=grant_types,
    )


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)


def _string_list(document: Mapping[str, Any], name: str, *, default: tuple[str, ...]) -> tuple[str, ...]:
    values = document.get(name)
    if values is None:
        return default
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise Refusal("invalid_client_metadata", f"{name} is not a list of strings.")
    return tuple(values)


def _acceptable_redirect_uri(uri: str) -> bool:
    parts = urlsplit(uri)
    if parts.fragment or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS)


def _unverified_subject(assertion: str) -> str:
    """Return whom an assertion claims to be of, in order to look the key up that verifies it."""
    try:
        return str(jwt.decode(assertion, options={"verify_signature": False}).get("sub", ""))
    except jwt.PyJWTError:
        return ""


def _basic_credentials(text: str) -> tuple[str, str]:
    """Return client id and secret, each form-decoded (RFC 6749 §2.3.1)."""
    try:
        name, _, secret = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refusal("invalid_client", "The Basic credentials are malformed.", status=401) from error
    return unquote_plus(name), unquote_plus(secret)


async def _form(request: Request) -> dict[str, str]:
    form = await request.form()
    return {name: value for name, value in form.items() if isinstance(value, str)}


async def _parameters(request: Request) -> dict[str, Any]:
    """Return what a fault hook sees: the query, the form or the JSON object of a request."""
    if request.method == "GET":
        return dict(request.query_params)
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            document = json.loads(await request.body())
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}
    # The body is read first: Starlette then keeps it for the handler too.
    await request.body()
    return dict(await _form(request))


async def _injected(hook: FaultHook, parameters: Mapping[str, Any]) -> Response | None:
    fault = hook(parameters)
    if inspect.isawaitable(fault):
        fault = await fault
    if fault is None:
        return None
    status, headers, body = fault
    return Response(body, status_code=status, headers=dict(headers))


def _refused(request: Request, refusal: Refusal) -> Response:
    headers = NO_STORE | refusal.headers
    if refusal.status == 401 and request.headers.get("authorization", "").lower().startswith("basic "):
        headers["www-authenticate"] = 'Basic realm="token"'
    document = {"error": refusal.error, "error_description": refusal.description}
    return JSONResponse(document, status_code=refusal.status, headers=headers)
