"""The authorization endpoint and its pages (RFC 6749 §4.1, RFC 7636, RFC 8707, RFC 9207)."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from project.peers import pages
from project.peers.authorization_server.clients import ClientDirectory
from project.peers.authorization_server.core import Core
from project.peers.authorization_server.messages import form_of
from project.peers.authorization_server.records import AuthorizationRefusal, PendingAuthorization, UnknownClient
from project.peers.pages import PAGE_HEADERS, consent_page, problem_page, sign_in_page
from project.peers.registry import AuthorizationCode, Client, digest

PENDING_SECONDS = 600
MAXIMUM_PENDING = 1000


class AuthorizationEndpoint:
    """Asks the person, on pages, and sends them back with a code or an error."""

    def __init__(self, core: Core, clients: ClientDirectory) -> None:
        self.core = core
        self.clients = clients
        self._pending: dict[str, PendingAuthorization] = {}
        self._signed_in: dict[str, str] = {}

    async def stylesheet(self, request: Request) -> Response:
        """Answer the stylesheet of the pages."""
        return FileResponse(Path(pages.__file__).with_name("pages.css"), media_type="text/css")

    async def authorize(self, request: Request) -> Response:
        """Check an authorization request and begin asking the person (RFC 6749 §4.1.1)."""
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
        if self.core.options.deny:
            return self._denied(pending)
        if self.core.options.auto_consent:
            return self._allowed(pending, self.core.options.auto_consent)
        key = self._remember_pending(pending)
        if self._user(request) is None:
            return self._sign_in_response(key, pending)
        return RedirectResponse(f"{self.core.path}/consent?{urlencode({'request': key})}", status_code=303)

    async def _vouched_for(self, client_id: str, redirect_uri: str) -> tuple[Client, str]:
        if not client_id:
            raise UnknownClient("The application did not say who it is.")
        client = await self.clients.find(client_id, fresh=True)
        if client is None:
            raise UnknownClient("The application that sent you here is not known to this service.")
        if client.redirect_uris and redirect_uri not in client.redirect_uris:
            raise UnknownClient("The application asked to return to an address it has not registered.")
        if not urlsplit(redirect_uri).netloc:
            raise UnknownClient("The application did not say where to return to.")
        return client, redirect_uri

    def _checked(self, request: Request, client: Client, redirect_uri: str) -> PendingAuthorization:
        query, options = request.query_params, self.core.options
        for name in ("response_type", "state", "scope", "code_challenge", "code_challenge_method"):
            if len(query.getlist(name)) > 1:
                raise AuthorizationRefusal("invalid_request", f"{name} appears more than once.")
        if query.get("response_type") != "code":
            raise AuthorizationRefusal("unsupported_response_type", "Only the code response type is supported.")
        challenge = query.get("code_challenge", "")
        if not re.fullmatch(r"[A-Za-z0-9_-]{43}", challenge) or query.get("code_challenge_method") != "S256":
            raise AuthorizationRefusal("invalid_request", "PKCE with S256 is required.")
        if options.strict_scope and query.get("scope", "") != " ".join(query.get("scope", "").split()):
            raise AuthorizationRefusal("invalid_scope", "Invalid scopes.")
        scope = self.core.default_scope() if not query.get("scope", "").split() else " ".join(query["scope"].split())
        unknown = [item for item in scope.split() if item not in options.scopes]
        if unknown:
            raise AuthorizationRefusal("invalid_scope", "A requested scope does not exist here.")
        return PendingAuthorization(
            client=client,
            redirect_uri=redirect_uri,
            state=query.get("state", ""),
            scope=scope,
            resource=self._checked_resource(query.getlist("resource"), query.get("audience", "")),
            code_challenge=challenge,
            created=time.time(),
        )

    def _checked_resource(self, values: list[str], audience: str) -> str:
        options = self.core.options
        if options.resource_mode == "ignored":
            return ""
        if options.resource_mode == "audience":
            return audience or self.core.url("userinfo")
        if len(values) > 1:
            raise AuthorizationRefusal("invalid_target", "Only one resource can be asked for.")
        resource = values[0] if values else ""
        if not resource and options.resource_mode == "required":
            raise AuthorizationRefusal("invalid_target", "The resource parameter is required.")
        if resource and options.resource_mode == "refused":
            raise AuthorizationRefusal("invalid_target", options.resource_refusal)
        if resource and options.resources is not None and resource not in options.resources:
            raise AuthorizationRefusal("invalid_target", "This resource is not known here.")
        return resource

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
        return f"sign-in-{hashlib.sha256(self.core.issuer.encode()).hexdigest()[:8]}"

    def _user(self, request: Request) -> str | None:
        user = self._signed_in.get(request.cookies.get(self._cookie, ""))
        return user if user in self.core.options.users else None

    async def sign_in(self, request: Request) -> Response:
        """Take the user name and the password."""
        form = await form_of(request)
        key = form.get("request", "")
        pending = self._open_pending(key)
        if pending is None:
            return self._expired()
        username = form.get("username", "").strip()
        expected = self.core.options.users.get(username)
        if expected is None or not secrets.compare_digest(expected.encode(), form.get("password", "").encode()):
            return self._sign_in_response(
                key, pending, username=username, error="The user name or the password is not right."
            )
        session = secrets.token_urlsafe(24)
        self._signed_in[session] = username
        response = RedirectResponse(f"{self.core.path}/consent?{urlencode({'request': key})}", status_code=303)
        response.set_cookie(self._cookie, session, httponly=True, samesite="lax", path="/")
        return response

    async def sign_out(self, request: Request) -> Response:
        """Forget who is signed in."""
        key = (await form_of(request)).get("request", "")
        self._signed_in.pop(request.cookies.get(self._cookie, ""), None)
        pending = self._open_pending(key)
        response = self._expired() if pending is None else self._sign_in_response(key, pending)
        response.delete_cookie(self._cookie, path="/")
        return response

    async def consent(self, request: Request) -> Response:
        """Show the consent page, and take the decision."""
        form = await form_of(request) if request.method == "POST" else {}
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
            service=self.core.options.service_name,
            stylesheet=f"{self.core.path}/pages.css",
            action=f"{self.core.path}/consent",
            sign_out_action=f"{self.core.path}/sign-out",
            pending=key,
            nonce=pending.nonce,
            user=user,
            client_name=client.client_name,
            client_identity=identity,
            redirect_uri=pending.redirect_uri,
            scopes={scope: self.core.options.scopes[scope] for scope in pending.scope.split()},
        )

    def _sign_in_response(
        self, key: str, pending: PendingAuthorization, *, username: str = "", error: str = ""
    ) -> Response:
        page = sign_in_page(
            service=self.core.options.service_name,
            stylesheet=f"{self.core.path}/pages.css",
            action=f"{self.core.path}/sign-in",
            pending=key,
            client_name=pending.client.client_name,
            username=username,
            error=error,
            accounts=tuple(self.core.options.users) if self.core.options.show_accounts else (),
        )
        return HTMLResponse(page, status_code=401 if error else 200, headers=dict(PAGE_HEADERS))

    def _problem(self, title: str, explanation: str) -> Response:
        page = problem_page(
            service=self.core.options.service_name,
            stylesheet=f"{self.core.path}/pages.css",
            title=title,
            explanation=explanation,
        )
        return HTMLResponse(page, status_code=400, headers=dict(PAGE_HEADERS))

    def _expired(self) -> Response:
        return self._problem("This page is out of date", "The request it belongs to is finished or took too long.")

    def _redirect(self, redirect_uri: str, state: str, parameters: Mapping[str, str]) -> Response:
        answer = dict(parameters) | ({"state": state} if state else {})
        if self.core.options.send_iss:
            # RFC 9207 §2: in success and error responses alike.
            answer["iss"] = self.core.options.wrong_iss or self.core.issuer
        joiner = "&" if urlsplit(redirect_uri).query else "?"
        headers = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
        return RedirectResponse(f"{redirect_uri}{joiner}{urlencode(answer)}", status_code=303, headers=headers)

    def _denied(self, pending: PendingAuthorization) -> Response:
        words = {"error": "access_denied", "error_description": "The person did not allow it."}
        return self._redirect(pending.redirect_uri, pending.state, words)

    def _allowed(self, pending: PendingAuthorization, user: str) -> Response:
        code = secrets.token_urlsafe(24)
        self.core.registry.codes[digest(code)] = AuthorizationCode(
            client_id=pending.client.client_id,
            redirect_uri=pending.redirect_uri,
            code_challenge=pending.code_challenge,
            scope=pending.scope,
            resource=pending.resource,
            user=user,
            expires_at=time.time() + self.core.options.code_seconds,
        )
        return self._redirect(pending.redirect_uri, pending.state, {"code": code})
