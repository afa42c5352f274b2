"""Putting the access token on requests to its server, and nowhere else."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Final

from mcp_oauth.messages import HttpResponse
from mcp_oauth.oauth.dpop import dpop_nonce, dpop_nonce_error, dpop_proof
from mcp_oauth.oauth.urls import same_origin

_CREDENTIALS: Final = frozenset({"authorization", "dpop"})
_TOKEN = re.compile(r"[\x21-\x7e]+")


class WireAuth:
    """Attaches ``Authorization: Bearer`` to requests for the server's origin (RFC 6750 §2.1).

    With the key that the token is bound to, it is ``Authorization: DPoP`` and a new proof for each request; once the
    server has said one, proofs carry its nonce (RFC 9449 §7.1, §9). Without a token, a configured header stays as it
    is.
    """

    def __init__(self, server_url: str, access_token: str | None, *, dpop_key: str | None = None) -> None:
        """Guard one server's token; ``server_url`` gives the origin it belongs to."""
        self._server_url = server_url
        # A token with a line break would be a header of its own; it is as good as none.
        self._access_token = access_token if access_token and _TOKEN.fullmatch(access_token) else None
        self._dpop_key = dpop_key if self._access_token is not None else None
        self._nonce: str | None = None

    def __repr__(self) -> str:
        """Return a text without the token."""
        return f"<WireAuth for {self._server_url}>"

    def headers_for(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers of a request with what opens the server; at another origin, without anything that does."""
        token, key = self._access_token, self._dpop_key
        at_home = same_origin(url, self._server_url)
        if at_home and token is None:
            return dict(headers)
        # Whatever credential is configured belongs to the server as well, and never stands beside the token.
        sent = {name: value for name, value in headers.items() if name.lower() not in _CREDENTIALS}
        if at_home and token is not None:
            # Two servers refuse the scheme in lower case.
            sent["Authorization"] = f"Bearer {token}" if key is None else f"DPoP {token}"
            if key is not None:
                sent["DPoP"] = dpop_proof(
                    key, method=method, url=url, nonce=self._nonce, access_token=token, body=body, now=time.time()
                )
        return sent

    def needs_answers(self, url: str) -> bool:
        """Tell whether `wants_nonce` has to see the answers from this address."""
        return self._dpop_key is not None and same_origin(url, self._server_url)

    def wants_nonce(self, response: HttpResponse) -> bool:
        """Take note of a nonce; tell whether the request was refused for want of it and is to be sent once more."""
        self._nonce = dpop_nonce(response) or self._nonce
        return dpop_nonce_error(response) is not None
