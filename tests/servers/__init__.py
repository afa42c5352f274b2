"""Real peers for the tests: MCP servers, authorization servers and servers that misbehave, in threads on loopback."""

from __future__ import annotations

from project.peers.authorization_server import AuthorizationServer, TokenFacts
from project.peers.options import (
    AuthorizationServerOptions,
    Fault,
    PreregisteredClient,
    html_fault,
    json_fault,
)
from project.peers.recording import RecordedRequest
from tests.servers.authorization import AuthorizationServerPeer, authorization_server
from tests.servers.mcp import (
    HeaderServer,
    OpenServer,
    ProtectedServer,
    header_mcp_server,
    open_mcp_server,
    protected_mcp_server,
)
from tests.servers.odd import OddKind, OddServer, document_server, odd_server
from tests.servers.offering import Offering
from tests.servers.person import PageRefused, Person
from tests.servers.serving import serve

__all__ = [
    "AuthorizationServer",
    "AuthorizationServerOptions",
    "AuthorizationServerPeer",
    "Fault",
    "HeaderServer",
    "OddKind",
    "OddServer",
    "Offering",
    "OpenServer",
    "PageRefused",
    "Person",
    "PreregisteredClient",
    "ProtectedServer",
    "RecordedRequest",
    "TokenFacts",
    "authorization_server",
    "document_server",
    "header_mcp_server",
    "html_fault",
    "json_fault",
    "odd_server",
    "open_mcp_server",
    "protected_mcp_server",
    "serve",
]
