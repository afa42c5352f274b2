"""The token endpoint: asking with a code, a refresh token, an assertion or nothing but the client, and the answers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

from mcp_oauth.exceptions import (
    ConfigurationError,
    InvalidClient,
    InvalidGrant,
    TokenEndpointUnavailable,
    TokenRequestFailed,
)
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.oauth.authorization import ValidatedCallback
from mcp_oauth.oauth.client_authentication import BasicShape, authenticated_form
from mcp_oauth.oauth.foreign_tokens import unverified_claims
from mcp_oauth.oauth.json_documents import NotAJsonObject, json_object, media_type
from mcp_oauth.oauth.registration import ClientCredentials
from mcp_oauth.oauth.retry_after import retry_after_seconds
from mcp_oauth.oauth.server_words import as_answered, error_code, printable, scope_tokens
from mcp_oauth.oauth.urls import issuers_match
from mcp_oauth.sentences import sentence

LONGEST_LIFETIME: Final = 10 * 365 * 24 * 3600
# An email address has 254 characters at most; what is longer is cut for display.
LONGEST_ACCOUNT: Final = 254
# Identity providers that list a person's groups issue some kilobytes.
_LONGEST_ID_TOKEN: Final = 16 * 1024

TokenType = Literal["Bearer", "DPoP"]
ID_TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  (a type's name)
ID_JAG_TYPE: Final = "urn:ietf:params:oauth:token-type:id-jag"

# The standard's names first, then what GitHub and Slack say instead.
_DEAD_GRANT: Final = frozenset(
    {"invalid_grant", "bad_verification_code", "bad_refresh_token", "invalid_code", "invalid_refresh_token"}
)
_UNKNOWN_CLIENT: Final = frozenset(
    {"invalid_client", "incorrect_client_credentials", "bad_client_secret", "invalid_client_id"}
)
_ABOUT_THE_REQUEST: Final = frozenset(
    {"invalid_request", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_target"}
)
# A nonce that was replaced while the proof with it was on its way says nothing about the grant (RFC 9449 §8).
# A refused proof says that two clocks disagree, and nothing about the grant.
_TRY_LATER: Final = frozenset(
    {"temporarily_unavailable", "server_error", "slow_down", "ratelimited", "use_dpop_nonce", "invalid_dpop_proof"}
)
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?")


@dataclass(frozen=True, slots=True)
class TokenSet:
    """What a token endpoint granted; ``expires_at`` is absolute, in epoch seconds, ``None`` when nobody knows.

    ``refresh_token`` is ``None`` when the answer has none, which on a refresh means that the old one stays.
    ``token_type`` is the scheme that the access token is sent with. ``account`` is whose account the server says it is,
    for people to recognize; nothing is decided by it.
    """

    access_token: str = field(repr=False)
    expires_at: float | None
    refresh_token: str | None = field(repr=False)
    scope: str | None
    token_type: TokenType = "Bearer"  # noqa: S105  (a type's name)
    account: str = ""


def code_request(
    callback: ValidatedCallback,
    *,
    token_endpoint: str,
    client: ClientCredentials,
    resource: str | None,
    basic_shape: BasicShape = "header",
) -> HttpRequest:
    """Return the request that exchanges an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5, RFC 8707 §2.2).

    Raises: ConfigurationError when the client belongs to another issuer than the code, or cannot authenticate.
    """
    if not issuers_match(client.issuer, callback.issuer):
        raise ConfigurationError(
            sentence("The client belongs to another authorization server than the authorization code.")
        )
    form = {
        "grant_type": "authorization_code",
        "code": callback.code,
        "redirect_uri": callback.redirect_uri,
        "code_verifier": callback.code_verifier,
    }
    if resource is not None:
        form["resource"] = resource
    return authenticated_form(token_endpoint, form, client, basic_shape=basic_shape)


def client_credentials_request(
    *,
    token_endpoint: str,
    client: ClientCredentials,
    resource: str | None,
    scope: str | None,
    basic_shape: BasicShape = "header",
) -> HttpRequest:
    """Return the request for a token that belongs to the client itself and to no person (RFC 6749 §4.4).

    Raises: ConfigurationError when the client cannot authenticate, which this grant rests on alone.
    """
    if client.token_endpoint_auth_method == "none":  # noqa: S105  (a method's name)
        raise ConfigurationError(sentence("A client without a secret or key cannot ask for a token of its own."))
    form = {"grant_type": "client_credentials", **_target(resource, scope)}
    return authenticated_form(token_endpoint, form, client, basic_shape=basic_shape)


def id_jag_request(
    *,
    token_endpoint: str,
    client: ClientCredentials,
    subject_token: str,
    subject_token_type: str,
    audience: str,
    resource: str | None,
    scope: str | None,
    basic_shape: BasicShape = "header",
) -> HttpRequest:
    """Return the request by which an identity provider vouches for a person elsewhere (RFC 8693 §2.1).

    ``token_endpoint`` and ``client`` are the identity provider's; ``subject_token`` is what it issued at sign-in,
    mostly an :data:`ID_TOKEN_TYPE`. ``audience`` is the issuer the grant is for, ``resource`` the server behind it.
    Raises: ConfigurationError when the client cannot authenticate.
    """
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "requested_token_type": ID_JAG_TYPE,
        "subject_token": subject_token,
        "subject_token_type": subject_token_type,
        "audience": audience,
        **_target(resource, scope),
    }
    return authenticated_form(token_endpoint, form, client, basic_shape=basic_shape)


def jwt_bearer_request(
    assertion: str,
    *,
    token_endpoint: str,
    client: ClientCredentials,
    resource: str | None,
    scope: str | None,
    basic_shape: BasicShape = "header",
) -> HttpRequest:
    """Return the request that exchanges another issuer's JWT for a token (RFC 7523 §2.1).

    ``assertion`` is an identity assertion grant for a person, or the JWT that a platform issues to a workload.
    Raises: ConfigurationError when the client cannot authenticate.
    """
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": assertion,
        **_target(resource, scope),
    }
    return authenticated_form(token_endpoint, form, client, basic_shape=basic_shape)


def refresh_request(
    refresh_token: str,
    *,
    token_endpoint: str,
    client: ClientCredentials,
    resource: str | None,
    scope: str | None = None,
    basic_shape: BasicShape = "header",
) -> HttpRequest:
    """Return the request that renews a grant (RFC 6749 §6); without ``scope`` the granted one stays.

    Raises: ConfigurationError when the client cannot authenticate.
    """
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    if resource is not None:
        form["resource"] = resource
    if scope:
        form["scope"] = scope
    return authenticated_form(token_endpoint, form, client, basic_shape=basic_shape)


def parse_token_response(
    response: HttpResponse,
    *,
    now: float,
    requested_scope: str,
    expected_type: Literal["Bearer", "DPoP", "any"] = "Bearer",
) -> TokenSet:
    """Return the tokens in an answer, JSON or form-encoded; ``now`` is in epoch seconds (RFC 6749 §5.1, §5.2).

    A lifetime is clamped to 0 to 10 years and ``None`` when malformed; a missing scope is the requested one. After a
    request with a DPoP proof, ``expected_type`` is ``DPoP`` to insist on a bound token or ``any`` to take what the
    server made of it; a token without a type counts as Bearer (RFC 9449 §5).
    Raises: InvalidGrant, InvalidClient, TokenEndpointUnavailable (the grant is kept), or else TokenRequestFailed.
    """
    data = _granted(response, now=now)
    token_type = _token_type(data.get("token_type"))
    if token_type is None or expected_type not in {"any", token_type}:
        raise TokenRequestFailed(
            sentence("The token endpoint issued a token that is no Bearer or DPoP token.")
            if expected_type == "any"
            else sentence("The token endpoint issued a token that is no %(wanted)s token.", wanted=expected_type),
            document=response.url,
        )
    refresh_token = data.get("refresh_token")
    lifetime = _lifetime(data.get("expires_in"))
    return TokenSet(
        access_token=_access_token(response, data),
        expires_at=None if lifetime is None else now + lifetime,
        refresh_token=refresh_token if isinstance(refresh_token, str) and _VISIBLE.fullmatch(refresh_token) else None,
        scope=_scope(data.get("scope"), requested_scope),
        token_type=token_type,
        account=_account(data.get("id_token")),
    )


def parse_id_jag_response(response: HttpResponse, *, now: float) -> str:
    """Return the assertion in the answer to :func:`id_jag_request`, for :func:`jwt_bearer_request` (RFC 8693 §2.2.1).

    It is no access token: the answer has to say so, lest a token of the identity provider goes to another server.
    Raises: as :func:`parse_token_response`; InvalidGrant as well for ``invalid_request``, which is what the standard
    calls a subject token that is not or no longer good (RFC 8693 §2.2.2).
    """
    try:
        data = _granted(response, now=now)
    except TokenRequestFailed as error:
        if type(error) is TokenRequestFailed and _refusal_code(response) == "invalid_request":
            raise InvalidGrant(error.user_message, document=error.document) from error
        raise
    token_type = data.get("token_type")
    if data.get("issued_token_type") != ID_JAG_TYPE:
        raise TokenRequestFailed(
            sentence("The identity provider issued something else than an identity assertion grant."),
            document=response.url,
        )
    if not isinstance(token_type, str) or token_type.lower() != "n_a":
        raise TokenRequestFailed(
            sentence("The identity provider issued an access token instead of an identity assertion grant."),
            document=response.url,
        )
    return _access_token(response, data)


def _target(resource: str | None, scope: str | None) -> dict[str, str]:
    """Return what a token is to be good for, as parameters; an absent or empty one is left out (RFC 8707 §2.2)."""
    return {name: value for name, value in (("resource", resource), ("scope", scope)) if value}


def _granted(response: HttpResponse, *, now: float) -> Mapping[str, Any]:
    """Return the members of an answer that grants something, or raise what it means."""
    try:
        data = _members(response)
    except NotAJsonObject as error:
        if not 200 <= response.status < 300:
            raise _refusal(response, {}, now=now) from error
        # A maintenance page or a proxy's sign-in page says nothing about the grant.
        raise TokenEndpointUnavailable(
            sentence("The token endpoint's answer %(problem)s.", problem=error.problem),
            document=response.url,
            retry_after=retry_after_seconds(response, now=now),
        ) from error
    if not 200 <= response.status < 300 or data.get("error"):
        raise _refusal(response, data, now=now)
    return data


def _account(id_token: object) -> str:
    """Return whose account an ID token names that came along (OpenID Connect Core §5.1), empty where none says so.

    It is not asked for and its signature not checked: it came from the token endpoint itself (§3.1.3.7).
    """
    if not isinstance(id_token, str) or len(id_token) > _LONGEST_ID_TOKEN:
        return ""
    try:
        claims = unverified_claims(id_token)
    except ConfigurationError:  # it is none; the grant is good without it
        return ""
    names = (printable(claims.get(name), LONGEST_ACCOUNT) for name in ("email", "preferred_username", "name"))
    return next((name for name in names if name), "")


def _token_type(value: object) -> TokenType | None:
    """Return the type by its usual spelling, ``None`` for one we cannot use; the case counts for nothing."""
    if value is None or value == "":
        return "Bearer"
    if not isinstance(value, str):
        return None
    known: dict[str, TokenType] = {"bearer": "Bearer", "dpop": "DPoP"}
    return known.get(value.lower())


def _access_token(response: HttpResponse, data: Mapping[str, Any]) -> str:
    access_token = data.get("access_token")
    if not isinstance(access_token, str) or not _VISIBLE.fullmatch(access_token):
        # Says nothing of the value, which could carry line breaks into a header or a log.
        raise TokenRequestFailed(sentence("The token endpoint issued no usable access token."), document=response.url)
    return access_token


def _members(response: HttpResponse) -> Mapping[str, Any]:
    content_type = media_type(response)
    if content_type == "application/x-www-form-urlencoded":
        return _form(response.body)
    try:
        return json_object(response)
    except NotAJsonObject:
        # Some servers label their form "text/plain".
        form = {} if "html" in content_type else _form(response.body)
        if "access_token" in form or "error" in form:
            return form
        raise


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        return {}


def _lifetime(value: object) -> float | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(min(max(value, 0), LONGEST_LIFETIME))


def _scope(value: object, requested_scope: str) -> str:
    if isinstance(value, list):
        value = " ".join(item for item in value if isinstance(item, str))
    if not isinstance(value, str):
        return requested_scope
    tokens: list[str] = []
    for token in scope_tokens(value):
        # Some servers list what they grant with commas, which a scope may contain: what was asked for tells them apart.
        parts = token.split(",")
        tokens += parts if set(parts) <= set(requested_scope.split()) else [token]
    # A scope has a token at least (RFC 6749 §3.3): an empty one says nothing of what was granted.
    return " ".join(dict.fromkeys(tokens)) or requested_scope


def client_was_refused(response: HttpResponse) -> bool:
    """Return whether a token endpoint refused how the client showed itself, rather than what it asked for.

    RFC 6749 §5.2 has ``invalid_client`` for it; servers that dislike the form of it say ``invalid_request``.
    """
    if response.status not in {400, 401}:
        return False
    code = refusal_code(response)
    return code in {"invalid_client", "invalid_request"} or (not code and response.status == 401)


def refusal_code(response: HttpResponse) -> str:
    """Return the error code of an answer (RFC 6749 §5.2); empty when it has none."""
    try:
        return _error(json_object(response))[0]
    except NotAJsonObject:
        return ""


def _refusal(response: HttpResponse, data: Mapping[str, Any], *, now: float) -> TokenRequestFailed:
    """Return the error for a refusal: by the error code first, then by the status."""
    status, document = response.status, response.url
    code, description = _error(data)
    overloaded = status in {408, 429} or status >= 500
    detail = as_answered(status, code, description)
    # An overloaded server's word on the grant is not final: ending a grant is, for the person.
    if overloaded or code in _TRY_LATER or not (200 <= status < 300 or 400 <= status < 500):
        return TokenEndpointUnavailable(
            sentence("The token endpoint cannot answer for now %(detail)s", detail=detail),
            document=document,
            retry_after=retry_after_seconds(response, now=now),
        )
    if code in _DEAD_GRANT:
        return InvalidGrant(
            sentence("The authorization server says that the grant is expired or revoked %(detail)s", detail=detail),
            document=document,
        )
    # Some servers answer 404 or 422 for a client that they have forgotten.
    forgotten = status in {404, 422} and code not in _ABOUT_THE_REQUEST
    if code in _UNKNOWN_CLIENT or status == 401 or forgotten:
        return InvalidClient(
            sentence("The authorization server does not accept this client %(detail)s", detail=detail),
            document=document,
        )
    return TokenRequestFailed(
        sentence("The token endpoint refused the request %(detail)s", detail=detail), document=document
    )


def _refusal_code(response: HttpResponse) -> str:
    try:
        return _error(_members(response))[0]
    except NotAJsonObject:
        return ""


def _error(data: Mapping[str, Any]) -> tuple[str, object]:
    """Return code and description; some servers wrap them in an object."""
    error, description = data.get("error"), data.get("error_description")
    if isinstance(error, dict):
        inner = next((error[key] for key in ("code", "status", "type") if isinstance(error.get(key), str)), None)
        return error_code(inner), description or error.get("message")
    return (error_code(error) if error else ""), description
