"""Becoming a client of an authorization server: pre-registered, by metadata document, or dynamically (RFC 7591)."""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mcp_oauth.exceptions import ConfigurationError, RegistrationFailed, RegistrationRequired
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.oauth.authorization_server import AuthorizationServerMetadata
from mcp_oauth.oauth.json_documents import NotAJsonObject, json_object
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.retry_after import retry_after_seconds
from mcp_oauth.oauth.server_words import as_answered, error_code, printable
from mcp_oauth.oauth.urls import host_of, is_loopback_host, origin
from mcp_oauth.sentences import sentence

RegistrationKind = Literal["preregistered", "cimd", "dynamic"]
ApplicationType = Literal["web", "native"]

# In the order we prefer them: a public client has no secret to lose, and basic authentication has two dialects.
AUTH_METHODS: Final = ("none", "client_secret_post", "client_secret_basic")
_GRANT_TYPES: Final = ["authorization_code", "refresh_token"]
# Where registrations are limited and nothing is said, an hour is the usual window (RFC 6585 §4 leaves it open).
DEFAULT_RETRY_AFTER: Final = 3600
_VISIBLE = re.compile(r"[\x20-\x7e]{1,4096}")


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """What a client shows at the endpoints of one ``issuer`` and nowhere else.

    ``private_key`` is PKCS#8 PEM text and ``key_id`` its name at the issuer, both for ``private_key_jwt`` only.
    """

    client_id: str
    client_secret: str | None = field(repr=False)
    token_endpoint_auth_method: str
    issuer: str
    private_key: str | None = field(repr=False, default=None)
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """A dynamic registration's outcome; ``client_secret_expires_at`` is in epoch seconds, ``None`` for never."""

    client_id: str
    client_secret: str | None = field(repr=False)
    client_secret_expires_at: int | None
    token_endpoint_auth_method: str


def choose_registration(
    metadata: AuthorizationServerMetadata,
    *,
    has_preregistered: bool,
    client_metadata_url: str,
    options: OAuthOptions,
) -> RegistrationKind:
    """Return how to become a client of this issuer; an administrator's explicit choice wins over what is advertised.

    ``has_preregistered`` says whether a client of this very issuer is configured; ``client_metadata_url`` is where our
    own metadata document is published, empty when nowhere.
    Raises: RegistrationRequired naming the issuer and what an administrator has to create there.
    """
    wanted = options.registration
    cimd_possible = client_metadata_url_usable(client_metadata_url, issuer=metadata.issuer)
    if wanted == "preregistered" or (wanted == "auto" and has_preregistered):
        if has_preregistered:
            return "preregistered"
        raise _registration_required(
            metadata,
            sentence("this server is set to use a client registered by hand"),
            field="client_id",
            rule=sentence("The option registration asks for a client that an administrator enters"),
            option="registration",
        )
    if options.token_endpoint_auth_method == "private_key_jwt":  # noqa: S105  (a method's name)
        # Neither our metadata document nor a dynamic registration publishes a key.
        raise _registration_required(
            metadata,
            sentence("the issuer has to be given the client's public key"),
            field="client_id",
            rule=sentence("RFC 7523 §3: the issuer knows the key that a client signs with"),
            option="token_endpoint_auth_method",
        )
    if wanted == "cimd":
        if cimd_possible:
            return "cimd"
        raise _registration_required(
            metadata,
            sentence("this application publishes no client metadata document that the issuer could read"),
            field="client_id",
            rule=sentence("Client ID metadata documents §3: the client ID is an https URL that the issuer can read"),
            option="registration",
        )
    if wanted == "auto" and cimd_possible and metadata.client_id_metadata_document_supported:
        return "cimd"
    if metadata.registration_endpoint is not None:
        return "dynamic"
    raise _no_registration(metadata)


def client_metadata_url_usable(url: str, *, issuer: str) -> bool:
    """Tell whether an issuer could read our metadata document at ``url`` (client ID metadata documents §3).

    That takes https and a path, without userinfo, fragment or dot segments. An address on this machine serves only an
    issuer on this machine, where it may be plain http.
    """
    try:
        base = origin(url)
    except ValueError:
        return False
    path = url.partition("://")[2].partition("?")[0].partition("/")[2]
    if not path or "@" in url.partition("://")[2].partition("/")[0] or "#" in url:
        return False
    if {".", ".."} & set(path.split("/")):
        return False
    if is_loopback_host(host_of(url)):
        return is_loopback_host(host_of(issuer))
    return base.startswith("https://")


def application_type_for(redirect_uri: str) -> ApplicationType | None:
    """Return ``web`` for an https redirect URI, ``native`` for http on loopback, else ``None``.

    Strict servers refuse the other combinations (OpenID Connect Registration §2).
    """
    try:
        base = origin(redirect_uri)
    except ValueError:
        return None
    if base.startswith("https://"):
        return "web"
    return "native" if is_loopback_host(host_of(redirect_uri)) else None


def check_redirect_uri(redirect_uri: str) -> str:
    """Return the redirect URI, which is https or on this machine (MCP authorization, communication security).

    Raises: ConfigurationError for any other, where a code could be read on its way.
    """
    if application_type_for(redirect_uri) is None:
        raise ConfigurationError(
            sentence(
                "This site's redirect URI is neither https nor on this machine, so nobody can be sent back "
                "to it safely."
            ),
            next_step=sentence("Ask the operator to set MCP_OAUTH['PUBLIC_URL'] to the site's https address."),
        )
    return redirect_uri


def client_metadata_document(
    *, client_id_url: str, client_name: str, redirect_uri: str, client_uri: str
) -> dict[str, Any]:
    """Return our client ID metadata document as a JSON object; its ``client_id`` is the URL that serves it."""
    return {
        "client_id": client_id_url,
        **_client_facts(client_name=client_name, redirect_uri=redirect_uri, client_uri=client_uri),
        "token_endpoint_auth_method": "none",
        **_application_type(application_type_for(redirect_uri)),
    }


def preferred_auth_method(metadata: AuthorizationServerMetadata, options: OAuthOptions | None = None) -> str:
    """Return how a client of this issuer should authenticate at the token endpoint.

    RFC 8414 §2 reads silence as ``client_secret_basic``; servers that say nothing take public clients in practice.
    """
    if options is not None and options.token_endpoint_auth_method:
        return options.token_endpoint_auth_method
    supported = metadata.token_endpoint_auth_methods_supported or AUTH_METHODS
    return next((method for method in AUTH_METHODS if method in supported), "none")


def registration_request(
    metadata: AuthorizationServerMetadata,
    *,
    client_name: str,
    redirect_uri: str,
    client_uri: str,
    application_type: ApplicationType | None,
    scope: str | None = None,
    token_endpoint_auth_method: str = "",
    initial_access_token: str | None = None,
) -> HttpRequest:
    """Return the request that registers this application at an issuer (RFC 7591 §3.1).

    ``initial_access_token`` permits it where not everybody may register (RFC 7591 §3). ``token_endpoint_auth_method``
    defaults to :func:`preferred_auth_method`; ``application_type`` ``None`` leaves that member out. A narrow
    ``scope`` makes later step-up impossible at some servers: give every scope or none.
    Raises: RegistrationRequired when the issuer has no registration endpoint; ConfigurationError for a redirect URI
    that is not safe.
    """
    if metadata.registration_endpoint is None:
        raise _no_registration(metadata)
    body = {
        **_client_facts(client_name=client_name, redirect_uri=check_redirect_uri(redirect_uri), client_uri=client_uri),
        "token_endpoint_auth_method": token_endpoint_auth_method or preferred_auth_method(metadata),
        **_application_type(application_type),
    }
    if scope:
        body["scope"] = scope
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if initial_access_token is not None:
        headers["Authorization"] = f"Bearer {initial_access_token}"
    return HttpRequest(
        method="POST",
        url=metadata.registration_endpoint,
        headers=headers,
        body=json.dumps(body).encode(),
    )


def parse_registration_response(
    response: HttpResponse, *, metadata: AuthorizationServerMetadata, requested_method: str, redirect_uri: str = ""
) -> RegisteredClient:
    """Return the client that an issuer registered (RFC 7591 §3.2).

    ``redirect_uri`` is the one to tell an administrator who has to register a client by hand after a refusal.
    Obeys the method the issuer assigned; a secret without a method means ``client_secret_post``, unless basic
    authentication was asked for or is all that the issuer supports.
    Raises: RegistrationFailed with the issuer's own words, bounded.
    """
    document = response.url
    if response.status not in {200, 201}:
        raise _refusal(response, redirect_uri)
    try:
        data = json_object(response)
    except NotAJsonObject as error:
        raise RegistrationFailed(
            sentence("The answer to the client registration %(problem)s.", problem=error.problem), document=document
        ) from error
    if data.get("error"):
        raise _refusal(response, redirect_uri)
    client_id = data.get("client_id")
    if not isinstance(client_id, str) or not _VISIBLE.fullmatch(client_id):
        raise RegistrationFailed(
            sentence("The answer to the client registration lacks a usable client_id."), document=document
        )
    secret = data.get("client_secret")
    if secret is not None and secret != "" and not (isinstance(secret, str) and _VISIBLE.fullmatch(secret)):
        raise RegistrationFailed(
            sentence("The answer to the client registration has an unusable client_secret."), document=document
        )
    secret = secret or None
    method = _assigned_method(data, metadata=metadata, has_secret=secret is not None, requested_method=requested_method)
    if method not in AUTH_METHODS:
        raise RegistrationFailed(
            sentence(
                "The authorization server assigned the client authentication %(method)r, which this "
                "application does not offer.",
                method=printable(method, 60),
            ),
            document=document,
        )
    if method != "none" and secret is None:
        raise RegistrationFailed(
            sentence("The authorization server asks for a client secret but issued none."), document=document
        )
    # A secret beside the method "none" is refused when it is sent, so it is not even kept.
    kept_secret = None if method == "none" else secret
    return RegisteredClient(
        client_id=client_id,
        client_secret=kept_secret,
        client_secret_expires_at=_epoch_seconds(data.get("client_secret_expires_at")) if kept_secret else None,
        token_endpoint_auth_method=method,
    )


def _client_facts(*, client_name: str, redirect_uri: str, client_uri: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "client_name": client_name,
        "redirect_uris": [redirect_uri],
        "grant_types": list(_GRANT_TYPES),
        "response_types": ["code"],
    }
    if client_uri:
        facts["client_uri"] = client_uri
    return facts


def _application_type(application_type: ApplicationType | None) -> dict[str, Any]:
    return {"application_type": application_type} if application_type else {}


def _assigned_method(
    data: dict[str, Any], *, metadata: AuthorizationServerMetadata, has_secret: bool, requested_method: str
) -> str:
    method = data.get("token_endpoint_auth_method")
    if isinstance(method, str) and method:
        return method
    if not has_secret:
        return "none"
    supported = metadata.token_endpoint_auth_methods_supported or AUTH_METHODS
    only_basic = "client_secret_basic" in supported and "client_secret_post" not in supported
    return "client_secret_basic" if only_basic or requested_method == "client_secret_basic" else "client_secret_post"


def _epoch_seconds(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 15:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**15:
        # 0 means that the secret does not expire (RFC 7591 §3.2.1).
        return None
    return int(value)


def _refusal(response: HttpResponse, redirect_uri: str) -> RegistrationFailed:
    try:
        data = json_object(response)
    except NotAJsonObject:
        data = {}
    code = error_code(data["error"]) if isinstance(data.get("error"), str) else ""
    refusal = sentence(
        "The authorization server refused to register this application %(detail)s",
        detail=as_answered(response.status, code, data.get("error_description")),
    )
    next_step, retry_after = "", None
    if response.status == 429:
        # Registrations are limited by the hour where they are limited.
        retry_after = retry_after_seconds(response, now=time.time()) or DEFAULT_RETRY_AFTER
        next_step = registration_pause(retry_after)
    elif response.status in {401, 403}:
        next_step = (
            sentence(
                "Register a client with the provider with the redirect URI %(redirect_uri)s and enter its client ID "
                "in the server's settings, or the token to register with if the provider gave you one.",
                redirect_uri=redirect_uri,
            )
            if redirect_uri
            else sentence(
                "Register a client with the provider and enter its client ID in the server's settings, or the token "
                "to register with if the provider gave you one."
            )
        )
    return RegistrationFailed(refusal, document=response.url, next_step=next_step, retry_after=retry_after)


def registration_pause(seconds: int) -> str:
    """Return in words when a registration may be tried again."""
    if seconds <= 120:
        return sentence("Try again in %(seconds)s seconds.", seconds=seconds)
    if 3540 < seconds <= 3600:
        return sentence("Try again in an hour.")
    return sentence("Try again in %(minutes)s minutes.", minutes=math.ceil(seconds / 60))


def _no_registration(metadata: AuthorizationServerMetadata) -> RegistrationRequired:
    return _registration_required(
        metadata,
        sentence("the issuer does not register clients by itself"),
        field="registration_endpoint",
        rule=sentence("RFC 8414 §2: an issuer that registers clients names its registration_endpoint (RFC 7591 §3)"),
    )


def _registration_required(
    metadata: AuthorizationServerMetadata, reason: str, *, field: str, rule: str, option: str = ""
) -> RegistrationRequired:
    issuer = printable(metadata.issuer, 200)
    return RegistrationRequired(
        sentence(
            "A client must be registered by hand at %(issuer)s, because %(reason)s. Create a web "
            "application there that uses the authorization code grant with PKCE and refresh tokens, with "
            "this application's redirect URI.",
            issuer=issuer,
            reason=reason,
        ),
        document=metadata.document,
        next_step=sentence(
            "Enter the client ID, and the secret if any, in the server's settings; the issuer is %(issuer)s.",
            issuer=issuer,
        ),
        field=field,
        rule=rule,
        option=option,
    )
