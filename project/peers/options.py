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

MetadataForm = Literal["oauth", "openid-inserted", "openid-appended"]


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
    # Whose JWTs are taken as grants; with none the grant is not offered.
    trusted_issuers: tuple[TrustedIssuer, ...] = ()
    # Makes it a company's identity provider, which vouches for its people elsewhere.
    identity_provider: IdentityProvider | None = None

    access_token_seconds: int | None = 3600
    code_seconds: int = 60
    issue_refresh_token: bool = True
    # Off: a refresh answers without a refresh token and the old one stays good.
    rotate_refresh: bool = True

    resource_mode: Literal["optional", "required", "refused"] = "optional"
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
    metadata_forms: tuple[MetadataForm, ...] = ("oauth", "openid-inserted", "openid-appended")
    # Every token request has to prove a key, which the tokens are then bound to (RFC 9449); with a nonce or without.
    require_dpop: bool = False
    dpop_nonces: bool = False
    # Replaces fields of the metadata; a value of None removes the field.
    metadata_overrides: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    revocation: bool = True

    # The name of a user who is signed in and allows everything without a page.
    auto_consent: str = ""
    deny: bool = False

    metadata_faults: FaultHook | None = None
    registration_faults: FaultHook | None = None
    authorization_faults: FaultHook | None = None
    token_faults: FaultHook | None = None
    revocation_faults: FaultHook | None = None

    introspection_secret: str = field(default="demo-introspection-secret", repr=False)
