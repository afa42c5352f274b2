"""A small but complete OAuth 2.1 authorization server, for the demonstration and as a peer of the tests.

One file per endpoint: ``metadata``, ``registration``, ``authorization`` (with its pages), ``grants`` (the token
endpoint), ``revocation``. Beside them ``clients`` and ``client_authentication`` say who asks, ``messages`` reads
requests, ``records`` has what passes between them, ``core`` what they share, and ``server`` puts them on their paths.
"""

from __future__ import annotations

from project.peers.authorization_server.clients import fetch_client_document
from project.peers.authorization_server.grants import s256
from project.peers.authorization_server.records import (
    AuthorizationRefusal,
    PendingAuthorization,
    Refusal,
    TokenFacts,
    UnknownClient,
)
from project.peers.authorization_server.server import AuthorizationServer

__all__ = [
    "AuthorizationRefusal",
    "AuthorizationServer",
    "PendingAuthorization",
    "Refusal",
    "TokenFacts",
    "UnknownClient",
    "fetch_client_document",
    "s256",
]
