"""How a client proves itself at an endpoint of its authorization server (RFC 6749 §2.3, RFC 7523 §2.2)."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import quote_plus, urlencode

import jwt

from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.messages import HttpRequest
from mcp_oauth.oauth.registration import ClientCredentials
from mcp_oauth.oauth.signing_keys import load_signing_key
from mcp_oauth.sentences import sentence

BasicShape = Literal["header", "header_and_client_id"]

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFETIME: Final = 300

# What the label of every kind of private key in PEM form ends with (RFC 7468 §10, §11).
_PRIVATE_KEY: Final = "PRIVATE KEY-----"


def authenticated_form(
    url: str, parameters: Mapping[str, str], client: ClientCredentials, *, basic_shape: BasicShape = "header"
) -> HttpRequest:
    """Return a form request to ``url`` with the client's authentication as the issuer assigned it.

    Basic authentication sends no ``client_id`` in the body, because some servers refuse two ways of naming the client;
    ``basic_shape`` is for those that want it there too. With ``private_key_jwt`` a request serves once: a repeated one
    is built anew.
    Raises: ConfigurationError when the method needs a secret or key and there is none, or is not one of ours.
    """
    method = client.token_endpoint_auth_method
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    form = dict(parameters)
    if method == "none":
        form["client_id"] = client.client_id
    elif method == "private_key_jwt":
        # The assertion names the client already; some servers want the name beside it (RFC 7521 §4.2).
        form["client_id"] = client.client_id
        form["client_assertion_type"] = ASSERTION_TYPE
        form["client_assertion"] = client_assertion(client, now=time.time())
    elif method not in {"client_secret_post", "client_secret_basic"}:
        raise ConfigurationError(sentence("The client's way of authenticating is not one this application offers."))
    elif not client.client_secret:
        raise ConfigurationError(sentence("The client's secret is missing."))
    elif _PRIVATE_KEY in client.client_secret:
        raise ConfigurationError(sentence("The client's secret is a private key, which is never sent anywhere."))
    elif method == "client_secret_post":
        form["client_id"] = client.client_id
        form["client_secret"] = client.client_secret
    else:
        # RFC 6749 §2.3.1: both are form-encoded first, so that a colon in either is not the separator.
        pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")
        if basic_shape == "header_and_client_id":
            form["client_id"] = client.client_id
    return HttpRequest(method="POST", url=url, headers=headers, body=urlencode(form).encode("ascii"))


def client_assertion(client: ClientCredentials, *, now: float) -> str:
    """Return a signed assertion of who the client is, for its issuer, once and within five minutes (RFC 7523 §3).

    The audience is the issuer alone, so that no other server can use the assertion. ``now`` is in epoch seconds.
    Raises: ConfigurationError when the client has no private key or issuer, or a key of another kind than we take.
    """
    if not client.private_key:
        raise ConfigurationError(sentence("The client's private key is missing."))
    if not client.issuer:
        raise ConfigurationError(sentence("The client's issuer is not known, so nothing can be signed for it."))
    key = load_signing_key(client.private_key)
    issued_at = int(now)
    claims = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": client.issuer,
        "jti": secrets.token_urlsafe(24),
        "iat": issued_at,
        "exp": issued_at + ASSERTION_LIFETIME,
    }
    headers = {"kid": client.key_id} if client.key_id else None
    return jwt.encode(claims, key.private_key, algorithm=key.algorithm, headers=headers)
