"""Every way this application can say no.

::

    McpOAuthError                      the base; never raised itself
    ├── ConfigurationError             configuration_error     settings or server options cannot work
    │   ├── InvalidServerAddress       invalid_address         not an address we may contact
    │   └── SecretUnreadable           secret_unreadable       a sealed value no key opens
    ├── NotAllowed                     not_allowed             the person may not do this
    │   ├── NotSignedIn                not_signed_in           nobody is signed in
    │   ├── NotFound                   not_found               nothing by that name for this person
    │   ├── ToolNotAllowed             tool_not_allowed        an administrator does not let this tool be run
    │   └── TooManyRequests            too_many_requests       the person did this too often in a minute
    ├── InvalidRequest                 invalid_request         the caller's input is malformed
    │   ├── ToolNotFound               tool_not_found          the server offers no such tool
    │   └── CallNotResumable           call_not_resumable      the call does not wait, or not any more
    ├── InputRequired                  input_required          the server asks the person something before it goes on
    ├── CallCancelled                  cancelled               the person gave the call up
    ├── AuthorizationRequired          reauth_required         a person has to press Connect
    ├── AuthorizationFailed            authorization_failed    connecting did not end in a grant
    │   ├── DiscoveryFailed            discovery_failed        a metadata document is missing or refused
    │   ├── RegistrationRequired       registration_required   an administrator must register a client
    │   ├── RegistrationFailed         registration_failed     the authorization server refused our client
    │   ├── CallbackRefused            callback_refused        the answer does not belong to an open flow
    │   ├── AccessDenied               access_denied           the person or the server declined
    │   └── TokenRequestFailed         token_request_failed    the token endpoint refused
    │       ├── InvalidGrant           invalid_grant           code or refresh token is dead
    │       ├── InvalidClient          invalid_client          the client is unknown or its secret wrong
    │       └── TokenEndpointUnavailable  token_endpoint_unavailable  try again later; the grant is kept
    ├── ServerUnreachable              server_unreachable      no usable answer from the host
    │   ├── AddressBlocked             address_blocked         the guard refuses to dial it
    │   ├── DeadlineExceeded           timeout                 it took too long
    │   ├── CallInterrupted            interrupted             the process that ran the call went away
    │   ├── ResponseTooLarge           response_too_large      it sent too much
    │   └── RedirectRefused            redirect_refused        it sent us to another origin
    └── ServerRefused                  server_refused          the MCP server answered with an error
        ├── InsufficientScope          insufficient_scope      the grant lacks a scope
        └── CredentialsRefused         credentials_refused     the configured headers are not accepted

Each carries a stable ``code`` for programs, ``user_message`` that is safe to show to a person,
``next_step`` that says what to do about it, and the evidence as ``__cause__`` for the log. Where a document or answer
breaks a rule, ``field``, ``rule`` and ``option`` say which member, which rule, and which OAuth option of the server
tolerates it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mcp_oauth.sentences import said, sentence


class McpOAuthError(Exception):
    """Base of every error this application raises on purpose.

    ``code`` never changes for a class; ``http_status`` is what the JSON API and the pages answer with.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    default_next_step: ClassVar[str] = ""
    default_rule: ClassVar[str] = ""

    def __init__(
        self,
        user_message: str,
        *,
        next_step: str = "",
        document: str = "",
        field: str = "",
        rule: str = "",
        option: str = "",
    ) -> None:
        super().__init__(user_message)
        # In English where it comes from the protocol or the wire; the properties say it to whoever reads.
        self.sentence = user_message
        self.next_step_sentence = next_step or self.default_next_step
        # The URL of the document or endpoint at fault, when there is one.
        self.document = document
        # The member or header at fault, the rule it breaks with its source, and the option that tolerates it.
        self.field = field
        self.rule_sentence = rule or self.default_rule
        self.option = option

    @property
    def user_message(self) -> str:
        """What went wrong, safe to show, in the reader's language."""
        return said(self.sentence)

    @property
    def next_step(self) -> str:
        """What to do about it, in the reader's language."""
        return said(self.next_step_sentence)

    @property
    def rule(self) -> str:
        """The rule that was broken and where it stands, in the reader's language."""
        return said(self.rule_sentence)

    def as_json(self) -> dict[str, Any]:
        """Return the object that goes under ``error`` in a JSON answer."""
        body: dict[str, Any] = {"code": self.code, "message": self.user_message}
        if self.next_step:
            body["next_step"] = self.next_step
        for name in ("document", "field", "rule", "option"):
            if value := getattr(self, name):
                body[name] = value
        return body


class ConfigurationError(McpOAuthError):
    """Settings or a server's options cannot work as they are."""

    code = "configuration_error"
    http_status = 409
    default_next_step = sentence("Ask an administrator to correct the server's settings.")


class InvalidServerAddress(ConfigurationError):
    """The address is not one this application may contact."""

    code = "invalid_address"
    http_status = 400
    default_next_step = sentence("Enter the server's full address, for example https://mcp.example.com/mcp.")


class SecretUnreadable(ConfigurationError):
    """No key of the ring opens a stored value, or the value belongs to another row."""

    code = "secret_unreadable"
    default_next_step = sentence("Connect again, or enter the secret again; the stored one cannot be read.")


class NotAllowed(McpOAuthError):
    """The person is known but may not do this."""

    code = "not_allowed"
    http_status = 403
    default_next_step = sentence("Ask an administrator of the workspace.")


class NotSignedIn(NotAllowed):
    """Nobody is signed in, the session has ended, or an API token is wrong or over."""

    code = "not_signed_in"
    http_status = 401
    default_next_step = sentence("Sign in and try again.")


class NotFound(NotAllowed):
    """Nothing by that name exists for this person."""

    code = "not_found"
    http_status = 404
    default_next_step = sentence("Check the name; it may belong to another workspace.")


class TooManyRequests(NotAllowed):
    """The person did this too often; ``retry_after`` is the number of seconds to wait (RFC 6585 §4)."""

    code = "too_many_requests"
    http_status = 429
    default_next_step = sentence("Wait a minute and try again.")

    def __init__(self, user_message: str, *, retry_after: int, **facts: str) -> None:
        super().__init__(user_message, **facts)
        self.retry_after = retry_after

    def as_json(self) -> dict[str, Any]:
        """Add when to try again."""
        return {**super().as_json(), "retry_after": self.retry_after}


class ToolNotAllowed(NotAllowed):
    """The server offers the tool, and an administrator of the workspace does not let it be run."""

    code = "tool_not_allowed"
    default_next_step = sentence("Ask an administrator of the workspace to allow the tool.")


class InvalidRequest(McpOAuthError):
    """The caller's own input is malformed."""

    code = "invalid_request"
    http_status = 400
    default_next_step = sentence("Correct the input and try again.")


class ToolNotFound(InvalidRequest):
    """The server offers no tool of that name."""

    code = "tool_not_found"
    http_status = 404
    default_next_step = sentence("List the server's tools and choose one of them.")


class CallNotResumable(InvalidRequest):
    """The call cannot go on.

    ``reason`` is one of ``running``, ``ended``, ``expired``, ``already_resumed``, ``server_changed``.
    """

    code = "call_not_resumable"
    http_status = 409
    default_next_step = sentence("Run the tool again.")

    def __init__(self, user_message: str, *, reason: str, next_step: str = "") -> None:
        super().__init__(user_message, next_step=next_step)
        self.reason = reason

    def as_json(self) -> dict[str, Any]:
        """Add why."""
        return {**super().as_json(), "reason": self.reason}


class InputRequired(McpOAuthError):
    """The server asks the person something before the call goes on (MCP elicitation).

    ``call`` is the UUID, as text, of the call that waits. ``questions`` are JSON objects with ``key``, ``mode``
    (``form`` or ``url``), ``message`` and either ``schema`` or ``url``, all of it the server's words and untrusted.
    ``resume_call`` takes the answers by their keys.
    """

    code = "input_required"
    http_status = 409
    default_next_step = sentence("Answer what the server asks; the call then goes on.")

    def __init__(self, user_message: str, *, call: str, questions: list[dict[str, Any]]) -> None:
        super().__init__(user_message)
        self.call = call
        self.questions = questions

    def as_json(self) -> dict[str, Any]:
        """Add what is asked, and which call waits for the answers."""
        return {**super().as_json(), "call": self.call, "questions": self.questions}


class CallCancelled(McpOAuthError):
    """The call was given up while it ran; what it had done by then stays done."""

    code = "cancelled"
    http_status = 409
    default_next_step = sentence("Look at the server for what was done before, and run the tool again if you want it.")


class AuthorizationRequired(McpOAuthError):
    """A person has to grant access, for the first time or again.

    ``reason`` is one of ``not_connected``, ``expired``, ``revoked``, ``rejected``, ``refused``,
    ``client_forgotten``, ``unreadable``, ``server_changed``, ``sign_in_again``; ``server`` is the server's
    UUID as text and ``connect_url`` the page where the person finds the button. ``call`` is the UUID, as text, of the
    call that waits for it and can be resumed afterwards; empty where none does.
    """

    code = "reauth_required"
    http_status = 401
    default_next_step = sentence("Open the connections page and press Connect with OAuth.")

    def __init__(self, user_message: str, *, reason: str, server: str, connect_url: str, next_step: str = "") -> None:
        super().__init__(user_message, next_step=next_step)
        self.reason = reason
        self.server = server
        self.connect_url = connect_url
        self.call = ""

    def as_json(self) -> dict[str, Any]:
        """Add what a program needs in order to send its user to the right page, and to go on afterwards."""
        return {
            **super().as_json(),
            "reason": self.reason,
            "server": self.server,
            "connect_url": self.connect_url,
            **({"call": self.call} if self.call else {}),
        }


class AuthorizationFailed(McpOAuthError):
    """Connecting did not end in a grant."""

    code = "authorization_failed"
    http_status = 502
    default_next_step = sentence("Try to connect again.")


class DiscoveryFailed(AuthorizationFailed):
    """A metadata document is missing, malformed or refused; ``document`` names it."""

    code = "discovery_failed"
    default_next_step = sentence("Ask the server's operator to correct the document, or check the server's address.")


class RegistrationRequired(AuthorizationFailed):
    """The authorization server registers no clients by itself, so an administrator must."""

    code = "registration_required"
    http_status = 409
    default_next_step = sentence(
        "Register a client with the provider and enter its client ID in the server's settings."
    )


class RegistrationFailed(AuthorizationFailed):
    """The authorization server refused to register this application.

    ``retry_after`` is the number of seconds after which it may be asked again, where it limits registrations.
    """

    code = "registration_failed"

    def __init__(self, user_message: str, *, retry_after: int | None = None, **facts: str) -> None:
        super().__init__(user_message, **facts)
        self.retry_after = retry_after


class CallbackRefused(AuthorizationFailed):
    """The authorization response does not belong to an open flow of this person and browser.

    ``reason`` is one of ``unknown_state``, ``expired``, ``used``, ``other_user``, ``other_browser``,
    ``issuer_mismatch``, ``issuer_missing``, ``server_changed``, ``malformed``.
    """

    code = "callback_refused"
    http_status = 400

    def __init__(self, user_message: str, *, reason: str, next_step: str = "") -> None:
        super().__init__(user_message, next_step=next_step)
        self.reason = reason


class AccessDenied(AuthorizationFailed):
    """The authorization server answered the authorization request with an error.

    ``oauth_error`` is its error code (RFC 6749 §4.1.2.1).
    """

    code = "access_denied"
    http_status = 400

    def __init__(self, user_message: str, *, oauth_error: str, next_step: str = "") -> None:
        super().__init__(user_message, next_step=next_step)
        self.oauth_error = oauth_error


class TokenRequestFailed(AuthorizationFailed):
    """The token endpoint refused a request for a reason that retrying does not mend."""

    code = "token_request_failed"


class InvalidGrant(TokenRequestFailed):
    """The authorization code or refresh token is expired, used or revoked (RFC 6749 §5.2)."""

    code = "invalid_grant"
    http_status = 400


class InvalidClient(TokenRequestFailed):
    """The authorization server does not know the client or rejects its secret (RFC 6749 §5.2)."""

    code = "invalid_client"


class TokenEndpointUnavailable(TokenRequestFailed):
    """The token endpoint is overloaded or broken for now; the grant stays as it is.

    ``retry_after`` is the number of seconds the server asked us to wait, or ``None``.
    """

    code = "token_endpoint_unavailable"
    http_status = 503
    default_next_step = sentence("Try again in a minute; the connection is kept.")

    def __init__(
        self,
        user_message: str,
        *,
        document: str = "",
        retry_after: int | None = None,
        field: str = "",
        rule: str = "",
    ) -> None:
        super().__init__(user_message, document=document, field=field, rule=rule)
        self.retry_after = retry_after

    def as_json(self) -> dict[str, Any]:
        """Add when to try again, if that is known."""
        return super().as_json() | ({} if self.retry_after is None else {"retry_after": self.retry_after})


class ServerUnreachable(McpOAuthError):
    """No usable answer came from the host."""

    code = "server_unreachable"
    default_rule = sentence("RFC 9110 §3.4: a server answers each request with a response")
    http_status = 502
    default_next_step = sentence("Try again; if it stays so, check the address with an administrator.")


class AddressBlocked(ServerUnreachable):
    """The network guard refuses to contact the address."""

    code = "address_blocked"
    default_rule = sentence("Only public addresses are contacted, whoever names them")
    default_next_step = sentence("Use a public https address.")


class DeadlineExceeded(ServerUnreachable):
    """The whole exchange took longer than its limit."""

    code = "timeout"
    default_rule = sentence("An exchange ends within the seconds the settings allow")
    http_status = 504


class CallInterrupted(ServerUnreachable):
    """The process that ran the call went away, so nobody knows whether the tool ran; it is not run again by itself."""

    code = "interrupted"
    default_rule = sentence("A call that may have run is not sent again")
    default_next_step = sentence("Look at the server for whether it was done, and run the tool again if not.")


class ResponseTooLarge(ServerUnreachable):
    """The answer is larger than its limit."""

    code = "response_too_large"
    default_rule = sentence("An answer stays within the bytes the settings allow")


class RedirectRefused(ServerUnreachable):
    """The host redirected to another origin, where nothing of ours is sent."""

    code = "redirect_refused"
    default_rule = sentence("A redirect stays within the origin that was asked and keeps the method")
    default_next_step = sentence("Use the address the server redirects to, if you trust it.")


class ServerRefused(McpOAuthError):
    """The MCP server answered a request with an error."""

    code = "server_refused"
    http_status = 502


class InsufficientScope(ServerRefused):
    """The grant lacks a scope the request needs (RFC 6750 §3.1).

    ``scope`` is what the server asked for, ``server`` the server's UUID as text, and ``connect_url`` the page where
    the person finds the button that asks for it. ``call`` is the UUID, as text, of the call that waits for it; empty
    where none does.
    """

    code = "insufficient_scope"
    http_status = 403
    default_next_step = sentence("Open the connections page and press Grant access.")

    def __init__(self, user_message: str, *, scope: str, server: str, connect_url: str, next_step: str = "") -> None:
        super().__init__(user_message, next_step=next_step)
        self.scope = scope
        self.server = server
        self.connect_url = connect_url
        self.call = ""

    def as_json(self) -> dict[str, Any]:
        """Add the scope the server asked for, where to grant it, and which call goes on afterwards."""
        return {
            **super().as_json(),
            "scope": self.scope,
            "server": self.server,
            "connect_url": self.connect_url,
            **({"call": self.call} if self.call else {}),
        }


class CredentialsRefused(ServerRefused):
    """The server does not accept the headers an administrator configured, or wants some."""

    code = "credentials_refused"
    default_next_step = sentence("Ask an administrator to check the server's headers or its kind of sign-in.")
