"""An authorization server on a port of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from project.peers.authorization_server import AuthorizationServer
from project.peers.options import AuthorizationServerOptions
from tests.servers.serving import serve


class AuthorizationServerPeer(AuthorizationServer):
    """An authorization server that is being served."""


@contextmanager
def authorization_server(options: AuthorizationServerOptions | None = None) -> Iterator[AuthorizationServerPeer]:
    """Serve an authorization server; yield it with its ``issuer`` known."""
    peer = AuthorizationServerPeer(options)
    with serve(peer.app) as base_url:
        peer.base_url = base_url
        yield peer
