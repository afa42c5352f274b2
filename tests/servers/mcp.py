"""MCP servers of every kind the application meets: protected, open, behind a header key; of either protocol era."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel
from starlette.types import ASGIApp

from project.peers.authorization_server import AuthorizationServer, TokenFacts
from project.peers.options import AuthorizationServerOptions
from project.peers.recording import RecordedRequest, Recorder
from project.peers.resource_server import (
    MCP_PATH,
    Era,
    HeaderProtected,
    ProtectedResource,
    ResourceOptions,
    current_user,
    mcp_app,
)
from project.peers.serving import base_url_of, listening_socket
from tests.servers.serving import serve, serve_on

Tools = Sequence[Callable[..., Any]] | Callable[[MCPServer[Any]], None]
"""Functions that become tools as they are, or one function that registers tools on the server it is given."""


class Sum(BaseModel):
    """The structured result of ``add``."""

    total: int


def add_default_tools(server: MCPServer[Any]) -> None:
    """Register ``echo``, ``add`` (structured), ``whoami`` (the token's user) and ``fail`` (a tool error)."""

    @server.tool(title="Echo", annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
    def echo(text: str) -> str:
        """Return the text."""
        return text

    @server.tool(title="Add", annotations=ToolAnnotations(read_only_hint=True))
    def add(a: int, b: int) -> Sum:
        """Return the sum of two whole numbers."""
        return Sum(total=a + b)

    @server.tool(title="Who am I?", annotations=ToolAnnotations(read_only_hint=True), structured_output=False)
    def whoami() -> str:
        """Return the user whose token was used."""
        return current_user()

    @server.tool(title="Fail", annotations=ToolAnnotations(destructive_hint=True), structured_output=False)
    def fail(reason: str = "It does not work.") -> str:
        """Answer with an error result."""
        raise ToolError(reason)


def build_mcp(tools: Tools | None, *, name: str = "test-server") -> MCPServer[Any]:
    """Return an SDK server with these tools, the default ones when ``None``."""
    server: MCPServer[Any] = MCPServer(name, title="Test server", version="1.0", log_level="CRITICAL")
    if tools is None:
        add_default_tools(server)
    elif isinstance(tools, Sequence):
        for tool in tools:
            server.add_tool(tool)
    else:
        tools(server)
    return server


def rpc_methods(requests: Sequence[RecordedRequest]) -> list[str]:
    """Return the JSON-RPC methods among recorded requests, in order."""
    return [request.rpc_method for request in requests if request.rpc_method is not None]


@dataclass(slots=True)
class OpenServer:
    """An MCP server that lets anybody in; ``requests`` is everything it received."""

    url: str
    mcp: MCPServer[Any]
    requests: list[RecordedRequest] = field(default_factory=list, repr=False)

    @property
    def rpc_methods(self) -> list[str]:
        """Return the JSON-RPC methods it received, in order."""
        return rpc_methods(self.requests)


@dataclass(slots=True)
class HeaderServer(OpenServer):
    """An MCP server that wants a fixed value in a header."""

    guard: HeaderProtected | None = field(default=None, repr=False)

    def change_value(self, value: str) -> None:
        """Want another value from now on, as after a rotated key."""
        if self.guard is not None:
            self.guard.value = value


@dataclass(slots=True)
class ProtectedServer:
    """An MCP server behind bearer tokens, with the authorization server that issues them."""

    url: str
    mcp: MCPServer[Any]
    authorization_server: AuthorizationServer
    resource: ProtectedResource = field(repr=False)

    @property
    def issuer(self) -> str:
        """Return the issuer identifier of its authorization server."""
        return self.authorization_server.issuer

    @property
    def requests(self) -> list[RecordedRequest]:
        """Return the requests to ``/mcp`` and to the resource metadata, in order."""
        return self.resource.requests

    @property
    def mcp_requests(self) -> list[RecordedRequest]:
        """Return the requests to ``/mcp`` alone."""
        return [request for request in self.requests if request.path == MCP_PATH]

    @property
    def rpc_methods(self) -> list[str]:
        """Return the JSON-RPC methods it received, refused ones included, in order."""
        return rpc_methods(self.requests)

    def reject_tokens(self) -> None:
        """Answer 401 to every token from now on, fresh ones included."""
        self.resource.rejecting = True

    def accept_tokens(self) -> None:
        """Accept good tokens again."""
        self.resource.rejecting = False

    def configure(self, **changes: Any) -> None:
        """Replace fields of its ``ResourceOptions`` while it runs."""
        self.resource.options = replace(self.resource.options, **changes)

    def configure_authorization_server(self, **changes: Any) -> None:
        """Replace fields of its ``AuthorizationServerOptions`` while it runs (not ``issuer_path``)."""
        self.authorization_server.options = replace(self.authorization_server.options, **changes)


@contextmanager
def protected_mcp_server(
    era: Era = "modern",
    *,
    as_options: AuthorizationServerOptions | None = None,
    same_origin: bool = False,
    scopes: Sequence[str] = ("read",),
    tools: Tools | None = None,
    tool_scopes: Mapping[str, str] | None = None,
    metadata_at: Sequence[Literal["path", "root"]] = ("path",),
    challenge: Literal["metadata", "bare", "nothing"] = "metadata",
    resource_options: Mapping[str, Any] | None = None,
    app: ASGIApp | None = None,
) -> Iterator[ProtectedServer]:
    """Serve an MCP server and its authorization server, on one origin or on two.

    ``scopes`` are challenged for and required, ``tool_scopes`` maps a tool to what it needs beyond them.
    ``resource_options`` are further fields of ``ResourceOptions``. Scopes that the authorization server does not know
    are added to it. ``app`` is what is protected, in place of the SDK's server.
    """
    options = as_options or AuthorizationServerOptions()
    with ExitStack() as stack:
        listener = listening_socket()
        stack.callback(listener.close)
        url = f"{base_url_of(listener)}{MCP_PATH}"
        wanted = [*scopes, *" ".join((tool_scopes or {}).values()).split()]
        missing = {scope: f"Use {scope}" for scope in wanted if scope not in options.scopes}
        options = replace(
            options,
            scopes={**options.scopes, **missing},
            default_scope=options.default_scope or " ".join(scopes),
            default_resource=options.default_resource or url,
        )
        server = build_mcp(tools)
        authorization = AuthorizationServer(options, base_url=base_url_of(listener) if same_origin else "")
        if not same_origin:
            authorization.base_url = stack.enter_context(serve(authorization.app))

        async def verify(token: str) -> TokenFacts | None:
            return authorization.introspect(token)

        resource = ProtectedResource(
            app or mcp_app(server, era),
            verify=verify,
            options=replace(
                ResourceOptions(
                    resource=url,
                    authorization_servers=(authorization.issuer,),
                    scopes=tuple(scopes),
                    tool_scopes=dict(tool_scopes or {}),
                    metadata_at=tuple(metadata_at),
                    challenge=challenge,
                ),
                **dict(resource_options or {}),
            ),
            beside=authorization.app if same_origin else None,
        )
        stack.enter_context(serve_on(listener, resource))
        yield ProtectedServer(url=url, mcp=server, authorization_server=authorization, resource=resource)


@contextmanager
def open_mcp_server(
    era: Era = "modern", *, tools: Tools | None = None, app: ASGIApp | None = None
) -> Iterator[OpenServer]:
    """Serve an MCP server that lets anybody in; ``app`` is served in place of the SDK's server."""
    server = build_mcp(tools)
    requests: list[RecordedRequest] = []
    recorded: ASGIApp = Recorder(app or mcp_app(server, era), requests)
    with serve(recorded) as base_url:
        yield OpenServer(url=f"{base_url}{MCP_PATH}", mcp=server, requests=requests)


@contextmanager
def header_mcp_server(
    header: str = "X-Api-Key", value: str = "test-key", *, era: Era = "modern", tools: Tools | None = None
) -> Iterator[HeaderServer]:
    """Serve an MCP server that answers 401, without a challenge, unless a header has this value."""
    server = build_mcp(tools)
    guard = HeaderProtected(mcp_app(server, era), header=header, value=value)
    with serve(guard) as base_url:
        yield HeaderServer(url=f"{base_url}{MCP_PATH}", mcp=server, requests=guard.requests, guard=guard)
