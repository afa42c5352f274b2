"""The peers as pytest fixtures: factories that live as long as one test and stop what they started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import ParamSpec, TypeVar

import pytest
from starlette.types import ASGIApp

from tests.servers import authorization, conversing, hostile, mcp, odd, providers, scripted, serving, tasks
from tests.servers.person import Person

P = ParamSpec("P")
T = TypeVar("T")


def _factory(stack: ExitStack, open_peer: Callable[P, AbstractContextManager[T]]) -> Callable[P, T]:
    def start(*args: P.args, **kwargs: P.kwargs) -> T:
        return stack.enter_context(open_peer(*args, **kwargs))

    return start


@pytest.fixture
def peer_stack() -> Iterator[ExitStack]:
    """Return the stack that ends every peer of a test, the last one first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(peer_stack: ExitStack) -> Callable[[ASGIApp], str]:
    """Serve an ASGI application; returns its base URL."""
    return _factory(peer_stack, serving.serve)


@pytest.fixture
def authorization_server(peer_stack: ExitStack) -> Callable[..., authorization.AuthorizationServerPeer]:
    """Serve an authorization server: ``authorization_server(options)``."""
    return _factory(peer_stack, authorization.authorization_server)


@pytest.fixture
def protected_mcp_server(peer_stack: ExitStack) -> Callable[..., mcp.ProtectedServer]:
    """Serve an MCP server behind OAuth: ``protected_mcp_server(era, as_options=…, same_origin=…, …)``."""
    return _factory(peer_stack, mcp.protected_mcp_server)


@pytest.fixture
def open_mcp_server(peer_stack: ExitStack) -> Callable[..., mcp.OpenServer]:
    """Serve an MCP server that lets anybody in: ``open_mcp_server(era)``."""
    return _factory(peer_stack, mcp.open_mcp_server)


@pytest.fixture
def header_mcp_server(peer_stack: ExitStack) -> Callable[..., mcp.HeaderServer]:
    """Serve an MCP server behind a header key: ``header_mcp_server(header, value)``."""
    return _factory(peer_stack, mcp.header_mcp_server)


@pytest.fixture
def odd_server(peer_stack: ExitStack) -> Callable[[odd.OddKind], odd.OddServer]:
    """Serve something that is no working MCP server: ``odd_server(kind)``."""
    return _factory(peer_stack, odd.odd_server)


@pytest.fixture
def animal(peer_stack: ExitStack) -> Callable[[str], hostile.Den]:
    """Serve one of the hostile servers: ``animal("gzip_bomb")``."""
    return _factory(peer_stack, hostile.animal)


@pytest.fixture
def document_server(peer_stack: ExitStack) -> Callable[..., odd.OddServer]:
    """Serve documents by path: ``document_server({"/client.json": {...}})``."""
    return _factory(peer_stack, odd.document_server)


@pytest.fixture
def provider_double(peer_stack: ExitStack) -> Callable[..., providers.ProviderDouble]:
    """Serve the double of a provider: ``provider_double("linear", redirect_uri=…)``."""
    return _factory(peer_stack, providers.provider_double)


@pytest.fixture
def person(peer_stack: ExitStack) -> Callable[..., Person]:
    """Return somebody with a browser: ``person("ada").authorize(url)``."""

    def enter(name: str = "ada", password: str | None = None) -> Person:
        return peer_stack.enter_context(Person(name, password))

    return enter


@pytest.fixture
def conversation(peer_stack: ExitStack) -> conversing.Conversation:
    """Return tools that ask, wait and differ, for any server: ``open_mcp_server(tools=conversation.register)``."""
    talk = conversing.Conversation()
    peer_stack.callback(talk.end)
    return talk


@pytest.fixture
def scripted_server(peer_stack: ExitStack) -> Callable[..., scripted.ScriptedServer]:
    """Serve an MCP server that answers by the book of the test: ``scripted_server({"tools/list": {...}}, era)``."""
    return _factory(peer_stack, scripted.scripted_server)


@pytest.fixture
def task_server(peer_stack: ExitStack) -> Callable[..., tasks.TaskServer]:
    """Serve an MCP server that answers calls with tasks: ``task_server(era, poll_interval=…, ttl=…)``."""
    return _factory(peer_stack, tasks.task_server)
