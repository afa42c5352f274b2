"""The page of all tools: last known ones by server, searched, in few queries, and nobody is asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from mcp_oauth.models import McpServer, McpServerOAuth, StoredListing, Workspace
from tests.people import browser_of, member, new_workspace
from tests.servers.offering import tool

pytestmark = pytest.mark.django_db(transaction=True)


def path(workspace: Workspace) -> str:
    return f"/workspaces/{workspace.slug}/mcp/tools/"


def write_servers(workspace: Workspace, user: Any, servers: int, tools: int) -> list[McpServer]:
    """Write servers that a person is connected to, with their tools; nothing listens at their addresses."""
    rows = McpServer.objects.bulk_create(
        McpServer(
            workspace=workspace, name=f"Server {n:03}", slug=f"s{n}", url=f"https://s{n}.example/mcp", auth_mode="oauth"
        )
        for n in range(servers)
    )
    for row in rows:
        facts = {"issuer": row.url, "token_endpoint": row.url, "client_id": "c", "connected_at": timezone.now()}
        McpServerOAuth.objects.create(server=row, user=user, access_token="x", refresh_token="x", **facts)
    entries = [
        {**tool(f"tool_{n}", f"Does thing {n}."), "annotations": {"destructiveHint": n == 1}} for n in range(tools)
    ]
    StoredListing.objects.bulk_create(
        StoredListing(
            server=row,
            user=user,
            server_generation=row.generation,
            entries=entries,
            entry_count=tools,
            fetched_at=timezone.now() - timedelta(days=2),
        )
        for row in rows
    )
    return rows


def names(response: Any) -> dict[str, list[str]]:
    return {group.card.name: [tool.name for tool in group.tools] for group in response.context["groups"]}


def test_tools_of_all_servers_are_listed_and_searched_without_asking_anybody() -> None:
    workspace = new_workspace()
    user = member(workspace)
    first, _second = write_servers(workspace, user, 2, 3)
    StoredListing.objects.filter(server=first).update(entries=[tool("find_invoice", "Look for a bill.")])
    browser = browser_of(user)

    assert names(browser.get(path(workspace))) == {
        "Server 000": ["find_invoice"],
        "Server 001": ["tool_0", "tool_1", "tool_2"],
    }
    assert names(browser.get(path(workspace), {"q": "BILL"})) == {"Server 000": ["find_invoice"]}
    page = browser.get(path(workspace)).content.decode()
    assert f'href="/workspaces/{workspace.slug}/mcp/{first.pk}/run/?tool=find_invoice"' in page
    assert "destroys" in page
    assert "No tool matches" in browser.get(path(workspace), {"q": "<nothing>"}).content.decode()


def test_nobody_sees_the_tools_of_anothers_account() -> None:
    workspace = new_workspace()
    write_servers(workspace, member(workspace), 1, 3)

    assert names(browser_of(member(workspace)).get(path(workspace))) == {}


def test_what_may_not_be_run_and_what_is_out_of_use_is_not_listed() -> None:
    workspace = new_workspace()
    user = member(workspace)
    rows = write_servers(workspace, user, 3, 3)
    McpServer.objects.filter(pk=rows[0].pk).update(enabled=False)
    McpServer.objects.filter(pk=rows[1].pk).update(denied_tools=["tool_1"])

    assert names(browser_of(user).get(path(workspace))) == {
        "Server 001": ["tool_0", "tool_2"],
        "Server 002": ["tool_0", "tool_1", "tool_2"],
    }


def test_two_hundred_servers_of_fifty_tools_take_few_queries() -> None:
    workspace = new_workspace()
    user = member(workspace)
    write_servers(workspace, user, 200, 50)
    browser = browser_of(user)
    browser.get(path(workspace))

    with CaptureQueriesContext(connection) as queries:
        page = browser.get(path(workspace))

    assert len(queries) == 11
    assert sum(len(found) for found in names(page).values()) == 400
    assert "There are 10000 tools" in page.content.decode()
    assert names(browser.get(path(workspace), {"q": "tool_49"}))["Server 199"] == ["tool_49"]
