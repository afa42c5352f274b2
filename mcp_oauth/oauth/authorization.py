"""The authorization request and its answer (RFC 6749 §4.1, RFC 7636, RFC 8707, RFC 9207)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Final
from urllib.parse import quote, unquote_plus, urlencode

from mcp_oauth.exceptions import AccessDenied, CallbackRefused
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.protected_resource import ProtectedResourceMetadata
from mcp_oauth.oauth.registration import check_redirect_uri
from mcp_oauth.oauth.server_words import error_code, quotable, scope_tokens
from mcp_oauth.oauth.urls import canonical_resource, check_endpoint, host_of
from mcp_oauth.sentences import sentence

# Microsoft Entra refuses `resource` beside scopes (AADSTS9010010), in every one of its clouds.
_ENTRA_HOSTS: Final = frozenset(
    {"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn", "sts.windows.net"}
)
# Entra External ID gives every tenant a host of its own.
_ENTRA_TENANTS: Final = ".ciamlogin.com"
# Ours whether or not we send them: leaving one out is a decision too.
_OUR_PARAMETERS: Final = frozenset(
    {
        "response_type",
        "client_id",
        "redirect_uri",
        "state",
        "code_challenge",
        "code_challenge_method",
        "scope",
        "resource",
    }
)
_LONGEST_CODE: Final = 8192
_PROOF: Final = object()

_ERROR_SENTENCES: Final[Mapping[str, str]] = {
    "access_denied": sentence(
        "Access was not granted: it was declined, or the authorization server does not allow it."
    ),
    "login_required": sentence("The authorization server wants you to sign in first."),
    "interaction_required": sentence("The authorization server wants to ask you something first."),
    "consent_required": sentence("The authorization server needs a consent that was not given."),
    "account_selection_required": sentence("The authorization server wants you to choose an account first."),
    "invalid_scope": sentence("The authorization server does not grant the access that was asked for."),
    "invalid_target": sentence("The authorization server does not know the MCP server as one of its resources."),
    "invalid_request": sentence("The authorization server finds the request malformed."),
    "unauthorized_client": sentence(
        "The authorization server does not let this application ask for access in this way."
    ),
    "unsupported_response_type": sentence("The authorization server does not support the authorization code flow."),
    "server_error": sentence("The authorization server had an internal error."),
    "temporarily_unavailable": sentence("The authorization server is overloaded or under maintenance."),
}
_ERROR_STEPS: Final[Mapping[str, str]] = {
    "access_denied": sentence("Connect again and allow the access, or ask the provider's administrator."),
    "invalid_scope": sentence("Ask an administrator to check the scopes in the server's settings."),
    "invalid_target": sentence("Ask an administrator to check the resource option in the server's settings."),
    "unauthorized_client": sentence("Ask an administrator to check the client's registration with the provider."),
    "server_error": sentence("Try again in a minute."),
    "temporarily_unavailable": sentence("Try again in a minute."),
}


@dataclass(frozen=True, slots=True)
class ExpectedCallback:
    """What was stored with a flow when it was opened; ``iss_supported`` is what the issuer advertised then."""

    state_hash: str
    issuer: str
    iss_supported: bool
    redirect_uri: str
    code_verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ValidatedCallback:
    """An authorization response that passed every check; only :func:`validate_callback` makes one.

    It is all that a code exchange accepts, so no code reaches a token endpoint unchecked.
    """

    code: str = field(repr=False)
    redirect_uri: str
    code_verifier: str = field(repr=False)
    issuer: str
    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        """Refuse construction by anybody else."""
        if proof is not _PROOF:
            raise TypeError("A ValidatedCallback is made by validate_callback only.")


def new_state() -> str:
    """Return a fresh ``state`` of 256 random bits, URL-safe (RFC 6749 §10.12)."""
    return secrets.token_urlsafe(32)


def state_hash(state: str) -> str:
    """Return the SHA-256 of a ``state`` in hexadecimal, the only form in which it is stored."""
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()


def new_code_verifier() -> str:
    """Return a fresh PKCE verifier of 86 unreserved characters (RFC 7636 §4.1)."""
    return secrets.token_urlsafe(64)


def code_challenge_s256(v: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(v.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def select_scope(
    options: OAuthOptions,
    challenge_scope: str | None,
    resource_metadata: ProtectedResourceMetadata | None,
    metadata: AuthorizationServerMetadata,
    previously_granted: str = "",
) -> str:
    """Return the scopes to ask for, space separated, or the empty string for the server's default.

    The administrator's choice comes first, then the challenge, then the resource's metadata; never all that the
    issuer supports. ``offline_access`` joins only where the issuer lists it. For step-up give ``previously_granted``:
    what the person has already granted is asked for again, so that nothing is lost (RFC 6749 §3.3, RFC 6750 §3).
    """
    if options.scopes:
        chosen = scope_tokens(options.scopes)
        automatic: tuple[str, ...] = ()
    else:
        chosen = scope_tokens(challenge_scope)
        if not chosen and resource_metadata is not None:
            chosen = scope_tokens(" ".join(resource_metadata.scopes_supported or ()))
        automatic = ("offline_access",) if "offline_access" in (metadata.scopes_supported or ()) else ()
    wanted = (*scope_tokens(previously_granted), *chosen)
    return " ".join(dict.fromkeys((*wanted, *automatic))) if wanted else ""


def select_resource(
    options: OAuthOptions,
    resource_metadata: ProtectedResourceMetadata | None,
    server_url: str,
    metadata: AuthorizationServerMetadata,
) -> str | None:
    """Return the ``resource`` of every request of a grant, or ``None`` to leave it out (RFC 8707 §2).

    It is the metadata's own text byte for byte, else the server's canonical address. ``auto`` leaves it out for
    Microsoft Entra alone.
    """
    if options.resource == "omit":
        return None
    if options.resource == "auto" and _is_entra(host_of(metadata.issuer)):
        return None
    return resource_metadata.resource if resource_metadata is not None else canonical_resource(server_url)


def _is_entra(host: str) -> bool:
    return host in _ENTRA_HOSTS or host.endswith(_ENTRA_TENANTS)


def authorization_url(
    metadata: AuthorizationServerMetadata,
    *,
    client_id: str,
    redirect_uri: str,
    state: str,
    code_verifier: str,
    scope: str,
    resource: str | None,
    options: OAuthOptions,
) -> str:
    """Return the address to send the person to (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2.1).

    The endpoint's own query stays, except for parameters that are ours; ``options.extra_parameters`` come between.
    Raises: DiscoveryFailed when the endpoint is none that a browser may be sent to; ConfigurationError for a redirect
    URI that is not safe.
    """
    # Checked when the metadata was read; a stored copy is checked again, because a browser follows it.
    endpoint = check_endpoint(
        metadata.authorization_endpoint,
        name="authorization_endpoint",
        document=metadata.document,
        allow_loopback=True,
    )
    ours = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": check_redirect_uri(redirect_uri),
        "state": state,
        "code_challenge": code_challenge_s256(code_verifier),
        "code_challenge_method": "S256",
    }
    if scope:
        ours["scope"] = scope
    if resource is not None:
        ours["resource"] = resource
    if options.audience:
        ours["audience"] = options.audience
    if options.prompt:
        ours["prompt"] = options.prompt
    reserved = _OUR_PARAMETERS | ours.keys()
    extra = {name: value for name, value in options.extra_parameters.items() if name not in reserved}
    base, _, query = endpoint.partition("?")
    kept = [
        # Some servers read ";" as "&", which would bring back a parameter of ours.
        segment.replace(";", "%3B")
        for segment in query.split("&")
        if segment and unquote_plus(segment.partition("=")[0]) not in reserved | extra.keys()
    ]
    # quote: a blank in a scope as %20, because "+" stays a plus sign at some servers.
    return f"{base}?{'&'.join([*kept, urlencode({**extra, **ours}, quote_via=quote, safe='')])}"


def validate_callback(parameters: Mapping[str, Sequence[str]], expected: ExpectedCallback) -> ValidatedCallback:
    """Return the checked authorization response, in the order iss, state, error, code (RFC 9207 §2.4).

    ``parameters`` maps every name of the callback's query to all its values.
    Raises: CallbackRefused when the response is not the one expected; AccessDenied when it is, and says no.
    """
    single = {name: _values(values) for name, values in parameters.items()}
    if any(len(values) > 1 for values in single.values()):
        # RFC 6749 §3.1: with two values, checking one and using the other would be possible.
        raise CallbackRefused(sentence("The answer contains a parameter twice."), reason="malformed")

    issuers = single.get("iss", ())
    if issuers and issuers[0] != expected.issuer:
        # Says nothing of the response's own words: they are somebody else's.
        raise CallbackRefused(
            sentence("The answer came from another authorization server than the one you were sent to."),
            reason="issuer_mismatch",
            next_step=sentence(
                "Connect again. If it happens again, tell an administrator: somebody may stand in between."
            ),
        )
    if not issuers and expected.iss_supported:
        raise CallbackRefused(
            sentence(
                "The answer does not say which authorization server it came from, although that server promised to."
            ),
            reason="issuer_missing",
        )

    state = _value(single, "state")
    if not state or not hmac.compare_digest(state_hash(state), expected.state_hash):
        raise CallbackRefused(
            sentence("The answer does not belong to this attempt to connect."), reason="unknown_state"
        )

    if error := _value(single, "error"):
        raise _denied(error, _value(single, "error_description"))

    code = _value(single, "code")
    if not code or len(code) > _LONGEST_CODE or not (code.isascii() and code.isprintable()):
        raise CallbackRefused(sentence("The answer contains no usable authorization code."), reason="malformed")
    return ValidatedCallback(
        code=code,
        redirect_uri=expected.redirect_uri,
        code_verifier=expected.code_verifier,
        issuer=expected.issuer,
        proof=_PROOF,
    )


def _values(values: Sequence[str]) -> tuple[str, ...]:
    # A bare string is a sequence of its characters to the type checker, and one value to everybody else.
    return (values,) if isinstance(values, str) else tuple(values)


def _value(parameters: Mapping[str, tuple[str, ...]], name: str) -> str:
    """Return a parameter's value; one without a value counts as left out (RFC 6749 §3.1)."""
    return next(iter(parameters.get(name, ())), "")


def _denied(error: str, description: str) -> AccessDenied:
    code = error_code(error)
    refusal = _ERROR_SENTENCES.get(
        code, sentence("The authorization server refused with the error %(code)s.", code=code)
    )
    words = quotable(description)
    if words:
        refusal = sentence("%(refusal)s It says: “%(words)s”", refusal=refusal, words=words)
    return AccessDenied(refusal, oauth_error=code, next_step=_ERROR_STEPS.get(code, ""))
