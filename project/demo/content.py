"""What the demonstration holds: one person, one workspace, four servers."""

from __future__ import annotations

from django.contrib.auth import get_user_model

from mcp_oauth.models import McpServer, Membership, Workspace
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import add_server, update_server
from project.demo.environment import PEER_PORTS
from project.peers.resource_server import MCP_PATH
from project.peers.servers import BOARD_HEADER, BOARD_KEY, NOTES_CLIENT_ID, NOTES_CLIENT_SECRET

USER = "demo"
PASSWORD = "demo"  # noqa: S105  (of a demonstration on this machine, printed when it starts)
WORKSPACE = "demo"


def fill(port: int) -> list[McpServer]:
    """Create what is missing and correct the addresses of what is there; run as often as you like."""
    user, created = get_user_model().objects.get_or_create(
        username=USER, defaults={"is_staff": True, "is_superuser": True}
    )
    if created:
        user.set_password(PASSWORD)
        user.save()
    workspace, _ = Workspace.objects.get_or_create(slug=WORKSPACE, defaults={"name": "Demo"})
    Membership.objects.get_or_create(workspace=workspace, user=user, defaults={"role": Membership.Role.ADMIN})
    return [_server(workspace, wanted) for wanted in servers_of_the_demonstration(port)]


def servers_of_the_demonstration(port: int) -> list[ServerSettings]:
    """Return how the four servers of a demonstration at this port are set up."""

    def address(peer: str) -> str:
        return f"http://127.0.0.1:{port + PEER_PORTS[peer]}"

    return [
        ServerSettings(name="Issue tracker", slug="tracker", url=address("tracker") + MCP_PATH),
        ServerSettings(
            name="Notes",
            slug="notes",
            url=address("notes") + MCP_PATH,
            client_id=NOTES_CLIENT_ID,
            client_secret=NOTES_CLIENT_SECRET,
            client_issuer=address("notes-login"),
        ),
        ServerSettings(
            name="Team board",
            slug="board",
            url=address("board") + MCP_PATH,
            auth_mode=McpServer.AuthMode.HEADERS,
            headers={BOARD_HEADER: BOARD_KEY},
        ),
        ServerSettings(name="Clock", slug="clock", url=address("clock") + MCP_PATH),
    ]


def _server(workspace: Workspace, wanted: ServerSettings) -> McpServer:
    server = McpServer.objects.filter(workspace=workspace, slug=wanted.slug).first()
    if server is None:
        return add_server(workspace, wanted)
    if server.url != wanted.url:
        update_server(server, wanted)
    return server
