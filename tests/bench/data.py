"""Puts people, servers, grants and listings into the database of a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from mcp_oauth import list_tools
from mcp_oauth.models import McpServer, McpServerOAuth, Membership, Workspace
from tests.bench.facts import TOKEN, TOKEN_PATH

ISSUER, CLIENT_ID = "http://127.0.0.1:9", "bench"
_CHUNK = 500


def team(slug: str, people: int) -> tuple[Workspace, list[User]]:
    """Return a workspace and its members, made when they are first asked for."""
    workspace, made = Workspace.objects.get_or_create(slug=slug, defaults={"name": slug.title()})
    if made:
        User.objects.bulk_create(
            (User(username=f"{slug}-{number}", password="!") for number in range(people)), batch_size=_CHUNK
        )
        Membership.objects.bulk_create(
            (Membership(workspace=workspace, user=user) for user in _people(slug)), batch_size=_CHUNK
        )
    return workspace, _people(slug)


def _people(slug: str) -> list[User]:
    return list(User.objects.filter(username__startswith=f"{slug}-").order_by("pk"))


def servers_at(workspace: Workspace, urls: Sequence[str]) -> list[McpServer]:
    """Return a server row of the workspace for each address, made when they are first asked for."""
    if not workspace.servers.exists():
        McpServer.objects.bulk_create(
            (
                McpServer(workspace=workspace, name=f"Server {number}", slug=f"server-{number}", url=url)
                for number, url in enumerate(urls)
            ),
            batch_size=_CHUNK,
        )
        client = {"client_id": CLIENT_ID, "client_issuer": ISSUER}
        workspace.servers.update(auth_mode=McpServer.AuthMode.OAUTH, **client)
    return list(workspace.servers.select_related("workspace").order_by("url", "pk"))


def grants_for(pairs: Sequence[tuple[McpServer, User]]) -> None:
    """Let each person be connected to the server beside them, with a token that is good for an hour."""
    now = timezone.now()
    McpServerOAuth.objects.bulk_create(
        (
            McpServerOAuth(
                server=server,
                user=user,
                access_token=f"{TOKEN}{user.pk}",
                refresh_token=f"refresh-{user.pk}",
                issuer=ISSUER,
                token_endpoint=server.url.rpartition("/")[0] + TOKEN_PATH,
                client_id=CLIENT_ID,
                resource=server.url,
                connected_at=now,
                expires_at=now + timedelta(hours=1),
                lifetime_seconds=3600.0,
            )
            for server, user in pairs
        ),
        batch_size=_CHUNK,
    )


def one_pair(slug: str, url: str) -> tuple[McpServer, User]:
    """Return a server that one connected person has used before; both made when they are first asked for."""
    workspace, [user] = team(slug, 1)
    [server] = servers_at(workspace, [url])
    if not server.grants.exists():
        grants_for([(server, user)])
        list_tools(server, user)
        server.refresh_from_db()
    return server, user
