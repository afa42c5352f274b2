"""Servers in every state the connections page tells apart, written into the rows and asked nothing."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.utils import timezone

from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth, StoredListing, ToolCall, Workspace
from mcp_oauth.sentences import kept, sentence

# Name, and what the page offers an administrator as the one next step.
STATES: dict[str, str] = {
    "Notion": "reconnect",
    "Linear": "grant_access",
    "Team board": "enter_headers",
    "Data lake": "diagnose",
    "Payroll": "sign_in",
    "Calendar": "continue",
    "Atlassian": "none",
    "GitHub": "none",
    "Company wiki": "retry",
    "Reports": "diagnose",
    "Search": "none",
    "Slack": "connect",
    "Sentry": "open_again",
    "Figma": "connect",
    "Old CRM": "none",
    "Legacy files": "keep",
}


def write_every_state(workspace: Workspace, user: Any) -> dict[str, McpServer]:
    """Write one server for each of `STATES`, as one person has them; return them by name."""
    now = timezone.now()
    servers: dict[str, McpServer] = {}

    def server(name: str, **columns: Any) -> McpServer:
        slug = name.lower().replace(" ", "-")
        facts: dict[str, Any] = {
            "auth_mode": "oauth",
            "reachable": True,
            "contacted_at": now - timedelta(minutes=2),
            **columns,
        }
        servers[name] = McpServer.objects.create(
            workspace=workspace, name=name, slug=slug, url=f"https://{slug}.example.com/mcp", **facts
        )
        return servers[name]

    def grant(at: McpServer, person: Any = user, **columns: Any) -> None:
        facts: dict[str, Any] = {
            "access_token": "never used",
            "refresh_token": "never used",
            "issuer": at.url,
            "scope": "issues:read",
        }
        facts |= {"connected_at": now - timedelta(days=2), "token_endpoint": at.url, "client_id": "client", **columns}
        McpServerOAuth.objects.create(server=at, user=person, **facts)

    def tools(at: McpServer, count: int, person: Any = user) -> None:
        StoredListing.objects.create(
            server=at, user=person, server_generation=1, entry_count=count, fetched_at=now - timedelta(minutes=50)
        )

    needs: dict[str, Any] = {"state": "needs_reauthorization", "reason_at": now - timedelta(minutes=12)}
    unreachable = {"reachable": False, "contacted_at": now - timedelta(minutes=4)}
    notion = server("Notion", contacted_at=now - timedelta(minutes=12))
    grant(notion, **needs, reason="refused")
    tools(notion, 12)
    write_waiting_call(notion, user)
    linear = server("Linear")
    grant(linear, wanted_scope="issues:read issues:write")
    tools(linear, 23)
    server("Team board", auth_mode="headers", headers_refused_at=now - timedelta(hours=1))
    grant(server("Data lake", auth_mode="client_credentials"), None, **needs, reason="misconfigured")
    grant(server("Payroll", auth_mode="enterprise"), **needs, reason="sign_in_again")
    calendar = server("Calendar")
    grant(calendar, scope="events:read events:write")
    tools(calendar, 6)
    write_waiting_call(calendar, user, state=ToolCall.State.INPUT_REQUIRED)
    atlassian = server("Atlassian")
    grant(atlassian, scope="read:jira-work write:jira-work offline_access", account="ada@example.com")
    tools(atlassian, 31)
    grant(server("GitHub"), refresh_token=None, scope="repo read:org", expires_at=now + timedelta(hours=3, minutes=1))
    wiki = server(
        "Company wiki",
        sharing="workspace",
        contact_error=kept(
            sentence("%(url)s cannot be reached: the connection failed.", url="https://company-wiki.example.com/mcp"),
            600,
        ),
        contact_error_code="server_unreachable",
        **unreachable,
    )
    grant(wiki, None, scope="pages:read", account="team@example.com")
    tools(wiki, 8, None)
    wrong = "It answers, but not as an MCP server: a web page (HTML)."
    server("Reports", auth_mode="none", contact_error=wrong, contact_error_code="server_refused", **unreachable)
    tools(server("Search", auth_mode="none"), 3, None)
    server("Slack", client_id="123.456")
    AuthorizationFlow.objects.create(
        server=server("Sentry"),
        user=user,
        server_generation=1,
        state_hash=uuid.uuid4().hex,
        browser_hash="of nobody",
        issuer="https://login.example.com",
        metadata={},
        redirect_uri="https://app.example.com/mcp/oauth/callback/",
        client_id="client",
        created_at=now,
        expires_at=now + timedelta(minutes=10),
    )
    server("Figma", reachable=None, contacted_at=None)
    server("Old CRM", enabled=False)
    legacy = server("Legacy files", removal_at=now + timedelta(minutes=14, seconds=30))
    grant(legacy)
    tools(legacy, 9)
    return servers


def write_waiting_call(server: McpServer, user: Any, **columns: Any) -> ToolCall:
    """Write one call of a person that waits for access."""
    now = timezone.now()
    facts: dict[str, Any] = {
        "state": ToolCall.State.AUTHORIZATION_REQUIRED,
        "resumable_until": now + timedelta(hours=1),
        **columns,
    }
    return ToolCall.objects.create(
        server=server, user=user, server_generation=1, tool="create_page", started_at=now, deadline_at=now, **facts
    )
