"""Ending a grant at its authorization server (RFC 7009)."""

from __future__ import annotations

from mcp_oauth.messages import HttpRequest
from mcp_oauth.oauth.client_authentication import BasicShape, authenticated_form
from mcp_oauth.oauth.registration import ClientCredentials


def revocation_request(
    token: str,
    hint: str,
    *,
    revocation_endpoint: str,
    client: ClientCredentials,
    basic_shape: BasicShape = "header",
) -> HttpRequest:
    """Return the request that revokes a token; ``hint`` is ``refresh_token`` or ``access_token`` (RFC 7009 §2.1).

    Raises: ConfigurationError when the client cannot authenticate.
    """
    form = {"token": token, "token_type_hint": hint}
    return authenticated_form(revocation_endpoint, form, client, basic_shape=basic_shape)
