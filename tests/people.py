"""Workspaces, members and servers as tests need them, and the whole way of connecting through the pages."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from mcp_oauth.models import McpServer, McpServerOAuth, Membership, Workspace
from mcp_oauth.services.api_tokens import make_token
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import add_server
from tests.servers.person import Person


def member(workspace: Workspace | None = None, name: str = "", role: Membership.Role = Membership.Role.MEMBER) -> User:
    """Return a new person, a member of the workspace if one is given."""
    user = User.objects.create_user(name or f"user-{uuid.uuid4().hex[:8]}", password="secret")
    if workspace is not None:
        Membership.objects.create(workspace=workspace, user=user, role=role)
    return user


def new_workspace(slug: str = "") -> Workspace:
    """Return a new workspace."""
    slug = slug or f"team-{uuid.uuid4().hex[:8]}"
    return Workspace.objects.create(name=slug.title(), slug=slug)


def new_server(workspace: Workspace, url: str, name: str = "Tracker", **settings: Any) -> McpServer:
    """Add a server the way the pages do: by asking it."""
    return add_server(workspace, ServerSettings(name=name, url=url, **settings))


def browser_of(user: User) -> Client:
    """Return a browser in which the person is signed in."""
    client = Client()
    client.force_login(user)
    return client


def program_of(user: User, workspace: Workspace) -> Client:
    """Return a program that holds an API token of the person for the workspace, and no cookie."""
    secret = make_token(user, workspace, "A program").secret
    return Client(enforce_csrf_checks=True, headers={"authorization": f"Bearer {secret}"})


def start(client: Client, server: McpServer, **data: str) -> dict[str, Any]:
    """Press Connect as the page's script does; returns the JSON answer."""
    response = client.post(
        "/mcp/oauth/start/", {"server": str(server.pk), **data}, headers={"accept": "application/json"}
    )
    body: dict[str, Any] = response.json()
    return body


def come_back(client: Client, callback_url: str) -> Any:
    """Follow the authorization server's redirect back to the application."""
    parts = urlsplit(callback_url)
    return client.get(f"{parts.path}?{parts.query}")


def connect(client: Client, server: McpServer, person: Person) -> McpServerOAuth:
    """Connect an account through the start view, the authorization server's pages and the callback view."""
    started = start(client, server)
    response = come_back(client, person.authorize(started["authorization_url"]))
    assert response.status_code == 200, response.content.decode()
    return McpServerOAuth.objects.get(server=server, user_id=client.session["_auth_user_id"])


def pause_is_over() -> None:
    """Let the pause that follows a failed renewal be over, for every grant."""
    McpServerOAuth.objects.filter(refresh_not_before__isnull=False).update(refresh_not_before=timezone.now())
