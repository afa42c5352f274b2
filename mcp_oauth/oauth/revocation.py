"""Ending a grant at its authorization server (RFC 7009)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.oauth.client_authentication import BasicShape, authenticated_form
from mcp_oauth.oauth.registration import ClientCredentials
from mcp_oauth.oauth.token import refusal_code

# What a client with a secret tries where its own method is refused: RFC 8414 §2 gives this endpoint a default of its
# own, and servers that take one method at the token endpoint may want another one here.
_OTHER_METHOD: Final = {
    "client_secret_post": "client_secret_basic",
    "client_secret_basic": "client_secret_post",
}


def revocation_request(
    token: str,
    hint: str,
    *,
    revocation_endpoint: str,
    client: ClientCredentials,
    basic_shape: BasicShape = "header",
    otherwise: bool = False,
) -> HttpRequest:
    """Return the request that revokes a token; ``hint`` is ``refresh_token`` or ``access_token`` (RFC 7009 §2.1).

    ``otherwise`` shows the client in another way than at the token endpoint: a secret by the other method, and no
    secret as an empty one, which some servers want of public clients.
    Raises: ConfigurationError when the client cannot authenticate.
    """
    form = {"token": token, "token_type_hint": hint}
    if otherwise:
        method = client.token_endpoint_auth_method
        client = replace(client, token_endpoint_auth_method=_OTHER_METHOD.get(method, method))
        if method == "none":
            form["client_secret"] = ""
    return authenticated_form(revocation_endpoint, form, client, basic_shape=basic_shape)


def is_revoked(refresh: HttpResponse | None, access: HttpResponse | None) -> bool:
    """Tell whether a grant is over by what was answered about its tokens; ``None`` where there was no such token.

    An access token that cannot be revoked (``unsupported_token_type``, RFC 7009 §2.2.1) ends by itself: with its
    refresh token gone, so is the grant.
    """
    if refresh is not None and refresh.status != 200:
        return False
    if access is None or access.status == 200:
        return True
    return refresh is not None and refusal_code(access) == "unsupported_token_type"
