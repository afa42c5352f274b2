"""What an authorization server of ours can be told to do, right or wrong."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from project.peers.foreign import IdentityProvider, TrustedIssuer

Fault = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body that replace an answer."""

FaultHook = Callable[[Mapping[str, Any]], "Fault | Awaitable[Fault | None] | None"]
"""Sees the parameters of a request and may answer in the server's place; ``None`` lets the server answer."""

MetadataForm = Literal["oauth", "oauth-appended", "openid-inserted", "openid-appended"]

ResourceMode = Literal["optional", "required", "refused", "ignored", "audience"]
"""What becomes of ``resource`` (RFC 8707). ``ignored``: every token is for the default resource. ``audience``: a
parameter of that name decides instead, and without it the token is for nothing but the server's own user info."""

RefreshReuse = Literal["ends_grant", "in_grace", "until_successor_used", "always"]
"""What becomes of a refresh token that was exchanged before. ``in_grace``: for a while it gives the same successor once
more. ``until_successor_used``: two are good at a time. Whatever is not allowed ends the grant (OAuth 2.1 §4.3.1)."""


def json_fault(status: int, error: str, description: str = "", *, headers: Mapping[str, str] | None = None) -> Fault:
    """Return a fault that carries an OAuth error object (RFC 6749 §5.2)."""
    document = {"error": error} | ({"error_description": description} if description else {})
    return status, {"content-type": "application/json", **(headers or {})}, json.dumps(document).encode()


def html_fault(status: int = 200) -> Fault:
    """Return a fault that answers with a web page where JSON was asked for."""
    return status, {"content-type": "text/html; charset=utf-8"}, b"<!doctype html><title>Welcome</title><p>Hello.</p>"


@dataclass(frozen=True, slots=True)
class PreregisteredClient:
    """A client that an administrator created by hand.

    ``redirect_uris`` empty accepts any. ``token_endpoint_auth_method`` empty accepts ``client_secret_basic`` and
    ``client_secret_post`` alike; ``public_key`` (PEM) verifies the assertions of ``private_key_jwt``.
    """

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    redirect_uris: tuple[str, ...] = ()
    token_endpoint_auth_method: str = ""
    client_name: str = ""
    public_key: str | None = None


@dataclass(frozen=True, slots=True)
class TokenDialect:
    """How a token endpoint spells its answers; the defaults are RFC 6749 §5 to the letter.

    ``encoding`` ``by_accept`` is a form unless JSON was asked for. ``scope`` is what becomes of the member, and
    ``unsaid_scopes`` are granted and not named. ``error_names`` and ``error_words`` replace codes and descriptions by
    the standard's code; ``error_status`` replaces the status of every refusal.
    """

    encoding: Literal["json", "form", "by_accept"] = "json"
    status: int = 200
    token_type: str = "Bearer"  # noqa: S105 - the name of a type
    scope: Literal["spaces", "commas", "empty", "absent"] = "spaces"
    unsaid_scopes: tuple[str, ...] = ()
    members: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    error_status: int | None = None
    error_names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    error_words: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    error_members: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class AuthorizationServerOptions:
    """Everything about one authorization server that is fixed by whoever runs it.

    Seconds everywhere. ``None`` in ``code_challenge_methods`` and ``token_endpoint_auth_methods`` leaves the field out
    of the metadata. ``access_token_seconds=None`` leaves ``expires_in`` out of the token response.
    """

    service_name: str = "Sign-in"
    users: Mapping[str, str] = field(default_factory=lambda: {"ada": "ada", "grace": "grace"}, repr=False)
    show_accounts: bool = False
    scopes: Mapping[str, str] = field(default_factory=lambda: {"read": "Read your data", "write": "Change your data"})
    default_scope: str = ""
    issuer_path: str = ""

    dynamic_registration: bool = True
    cimd: bool = True
    clients: tuple[PreregisteredClient, ...] = ()
    client_secret_seconds: int | None = None
    # Members without which a registration is refused.
    registration_requires: tuple[str, ...] = ()
    # The initial access token without which nobody is registered (RFC 7591 §3).
    registration_token: str = field(default="", repr=False)
    # How Basic authentication has to look: some want the client named in the body as well, some refuse exactly that.
    basic_client_id_in_body: Literal["allowed", "required", "refused"] = "allowed"
    # Every registered client gets a secret and has to send it, and the answer does not say how.
    registration_secret_unsaid: bool = False
    # Whose JWTs are taken as grants; with none the grant is not offered.
    trusted_issuers: tuple[TrustedIssuer, ...] = ()
    # Makes it a company's identity provider, which vouches for its people elsewhere.
    identity_provider: IdentityProvider | None = None

    access_token_seconds: int | None = 3600
    code_seconds: int = 60
    issue_refresh_token: bool = True
    # Off: a refresh answers without a refresh token and the old one stays good.
    rotate_refresh: bool = True
    refresh_reuse: RefreshReuse = "ends_grant"
    refresh_grace_seconds: float = 0.0
    # The scope without which there is no refresh token, as OpenID Connect has it (Core §11).
    refresh_scope: str = ""
    token_dialect: TokenDialect = field(default_factory=TokenDialect)

    resource_mode: ResourceMode = "optional"
    resource_refusal: str = "The resource parameter is not supported together with scopes."
    # Resource indicators that are accepted (RFC 8707); None accepts any.
    resources: tuple[str, ...] | None = None
    # The audience of a token that was asked for without a resource.
    default_resource: str = ""

    advertise_iss: bool = True
    send_iss: bool = True
    # Sent in place of the issuer in authorization responses.
    wrong_iss: str = ""
    code_challenge_methods: tuple[str, ...] | None = ("S256",)
    token_endpoint_auth_methods: tuple[str, ...] | None = ("none", "client_secret_post", "client_secret_basic")
    # A scope parameter with a blank too many is refused.
    strict_scope: bool = False
    metadata_forms: tuple[MetadataForm, ...] = ("oauth", "openid-inserted", "openid-appended")
    # Every token request has to prove a key, which the tokens are then bound to (RFC 9449); with a nonce or without.
    require_dpop: bool = False
    dpop_nonces: bool = False
    # Replaces fields of the metadata; a value of None removes the field.
    metadata_overrides: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    revocation: bool = True
    # How clients may authenticate there; None for the ways of the token endpoint.
    revocation_auth_methods: tuple[str, ...] | None = None
    # Which kinds of token can be revoked; the others are answered with unsupported_token_type (RFC 7009 §2.2.1).
    revocable: tuple[Literal["access", "refresh"], ...] = ("access", "refresh")

    # The name of a user who is signed in and allows everything without a page.
    auto_consent: str = ""
    deny: bool = False

    metadata_faults: FaultHook | None = None
    registration_faults: FaultHook | None = None
    authorization_faults: FaultHook | None = None
    token_faults: FaultHook | None = None
    revocation_faults: FaultHook | None = None

    introspection_secret: str = field(default="demo-introspection-secret", repr=False)
