"""What every endpoint of one authorization server shares: its options, its addresses and its registry."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request

from project.peers.options import AuthorizationServerOptions
from project.peers.registry import Registry


class Core:
    """Holds what the endpoints share; ``options`` may be replaced while the server runs (all but ``issuer_path``)."""

    def __init__(
        self, options: AuthorizationServerOptions | None = None, *, base_url: str = "", state_file: Path | None = None
    ) -> None:
        self.options = options or AuthorizationServerOptions()
        self.base_url = base_url
        self.registry = Registry(state_file)
        self.path = self.options.issuer_path.rstrip("/")

    @property
    def issuer(self) -> str:
        """Return the issuer identifier."""
        return f"{self.base_url}{self.options.issuer_path}"

    def url(self, name: str) -> str:
        """Return the address of an endpoint."""
        return f"{self.base_url}{self.path}/{name}"

    def learn_base_url(self, request: Request) -> None:
        """Take the origin from the first request unless it is known."""
        if not self.base_url:
            self.base_url = f"{request.url.scheme}://{request.url.netloc}"

    def default_scope(self) -> str:
        """Return what is granted to somebody who asked for nothing in particular."""
        return self.options.default_scope or " ".join(self.options.scopes)
