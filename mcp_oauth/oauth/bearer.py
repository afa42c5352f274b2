"""Putting the access token on requests to its server and nowhere else, and noting what the server thinks of it."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

import httpx2

from mcp_oauth.messages import HttpResponse
from mcp_oauth.oauth.dpop import dpop_nonce, dpop_nonce_error, dpop_proof
from mcp_oauth.oauth.urls import same_origin

# Marks a request that is sent once more, with a nonce in its proof, if the server asks for one.
_MAY_REPEAT: Final = "mcp_oauth_may_repeat"

_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class WireChallenge:
    """One 401 or 403 from the server with its ``WWW-Authenticate`` values, in the order they arrived."""

    status: int
    values: tuple[str, ...] = field(default=(), repr=False)


class WireAuth(httpx2.Auth):
    """Attaches ``Authorization: Bearer`` to requests for the server's origin and records every 401 and 403.

    With the key that the token is bound to, it is ``Authorization: DPoP`` and a new proof for each request; a request
    that is refused for want of a nonce is repeated once, and later requests carry the nonce (RFC 9449 §7.1, §9).
    Raises nothing: an error inside this flow would end every call on the same connection.
    ``challenges`` holds what was recorded, oldest first. Without a token, a configured header stays as it is.
    """

    # A proof names the body it goes with.
    requires_request_body = True

    def __init__(self, server_url: str, access_token: str | None, *, dpop_key: str | None = None) -> None:
        """Guard one server's token; ``server_url`` gives the origin it belongs to."""
        self._server_url = server_url
        # A token with a line break would be a header of its own; it is as good as none.
        self._access_token = access_token if access_token and _TOKEN.fullmatch(access_token) else None
        self._dpop_key = dpop_key if self._access_token is not None else None
        self._nonce: str | None = None
        self.challenges: list[WireChallenge] = []

    def __repr__(self) -> str:
        """Return a text without the token."""
        return f"<WireAuth for {self._server_url}: {len(self.challenges)} challenges>"

    @property
    def last_challenge(self) -> WireChallenge | None:
        """Return the most recent 401 or 403 from the server, if any."""
        return self.challenges[-1] if self.challenges else None

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Attach the token, send once, and note a refusal (RFC 6750 §2.1, §3)."""
        if not same_origin(str(request.url), self._server_url):
            # Whatever credential the client carries by default belongs to the server as well.
            request.headers.pop("Authorization", None)
            yield request
            return
        bound = self._attach(request)
        request.extensions = {**request.extensions, _MAY_REPEAT: bound}
        response = yield request
        if bound:
            self._nonce = dpop_nonce(_plain(response)) or self._nonce
            if will_be_repeated(response, request):
                self._attach(request)
                request.extensions = {**request.extensions, _MAY_REPEAT: False}
                response = yield request
                self._nonce = dpop_nonce(_plain(response)) or self._nonce
        if response.status_code in {401, 403}:
            values = tuple(response.headers.get_list("WWW-Authenticate"))
            self.challenges.append(WireChallenge(response.status_code, values))

    def _attach(self, request: httpx2.Request) -> bool:
        """Put the token on a request, and a proof if the token is bound to a key; return whether it is."""
        token, key = self._access_token, self._dpop_key
        if token is None:
            return False
        # Two servers refuse the scheme in lower case.
        request.headers["Authorization"] = f"Bearer {token}" if key is None else f"DPoP {token}"
        if key is None:
            return False
        request.headers["DPoP"] = dpop_proof(
            key,
            method=request.method,
            url=str(request.url),
            nonce=self._nonce,
            access_token=token,
            body=request.content,
            now=time.time(),
        )
        return True


def will_be_repeated(response: httpx2.Response, request: httpx2.Request) -> bool:
    """Tell whether an answer is not the last word on a request, because it asks for a nonce for the first time."""
    return bool(request.extensions.get(_MAY_REPEAT)) and dpop_nonce_error(_plain(response)) is not None


def _plain(response: httpx2.Response) -> HttpResponse:
    """Return an answer as far as it is read here: without its body, which nobody has received yet."""
    return HttpResponse("", response.status_code, tuple(response.headers.multi_items()))
