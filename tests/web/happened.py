"""Calls and events as a workspace has them after a week, written into the rows and asked of nobody."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from mcp_oauth.models import Event, McpServer, ToolCall
from mcp_oauth.services.events import record

CANARY = "canary-51c9"
_TOOLS = ("find_issues", "create_issue", "list_pages", "get_user", "search")
_FAILURES = ("timeout", "tool_error", "server_unreachable", "reauth_required")


def called(
    server: McpServer, user: User, tool: str = "find_tickets", *, minutes: float = 1, **columns: Any
) -> ToolCall:
    """Write a call of some minutes ago; everything that is sealed of it is a canary."""
    began = timezone.now() - timedelta(minutes=minutes)
    facts: dict[str, Any] = {
        "state": ToolCall.State.COMPLETED,
        "ended_at": began,
        "duration_ms": 38,
        "arguments": {"text": CANARY},
        "pending": {"text": CANARY},
        "answers": {"text": CANARY},
        "result": {"text": CANARY},
        **columns,
    }
    return ToolCall.objects.create(
        server=server,
        user=user,
        server_generation=1,
        tool=tool,
        started_at=began,
        deadline_at=began + timedelta(minutes=1),
        **facts,
    )


def waiting(server: McpServer, user: User, state: ToolCall.State, outcome: str = "", **columns: Any) -> ToolCall:
    until = timezone.now() + timedelta(minutes=30)
    facts = {"resumable_until": until, "erase_at": until, "duration_ms": None, "ended_at": None, **columns}
    return called(server, user, "create_page", state=state, outcome=outcome, **facts)


def write_activity(servers: dict[str, McpServer], user: User, other: User) -> None:
    """Write a week of two people at the servers of `write_every_state`, always the same one."""
    dice = random.Random(7)
    names = ("Linear", "Notion", "Atlassian", "GitHub", "Search", "Slack", "Calendar", "Company wiki", "Reports")
    for _number in range(160):
        server = servers[names[dice.randrange(dice.randint(1, len(names)))]]
        who = user if dice.random() < 0.6 else other
        when, tool = dice.random() * 60 * 24 * 6.5, dice.choice(_TOOLS)
        if dice.random() < 0.12:
            code = dice.choice(_FAILURES)
            called(
                server, who, tool, minutes=when, state="failed", outcome=code, duration_ms=dice.choice((240, 61_000))
            )
        else:
            called(server, who, tool, minutes=when, duration_ms=20 + int(dice.random() ** 4 * 3000))
    waiting(servers["Calendar"], user, ToolCall.State.INPUT_REQUIRED)
    waiting(servers["Notion"], other, ToolCall.State.AUTHORIZATION_REQUIRED, "revoked")
    mine: dict[str, Any] = {"user_id": user.pk}
    theirs: dict[str, Any] = {"user_id": other.pk}
    record(Event.Kind.SERVER_CHANGED, servers["GitHub"], actor=user, outcome="added")
    record(Event.Kind.MEMBER_ADDED, servers["GitHub"].workspace, **theirs, actor=user, outcome="member")
    record(Event.Kind.CONNECTED, servers["Linear"], **theirs, actor=other, scope="issues:read issues:write")
    record(Event.Kind.TOOLS_CHANGED, servers["Atlassian"], **mine, added=["link_issues"], changed=["search"])
    record(Event.Kind.REFRESH_FAILED, servers["Linear"], **theirs, outcome="token_endpoint_unavailable")
    record(Event.Kind.REAUTHORIZATION_NEEDED, servers["Notion"], **mine, outcome="refused")
    record(Event.Kind.REVOKED, servers["GitHub"], **theirs, actor=user, outcome="confirmed")
    record(Event.Kind.DISCONNECTED, servers["GitHub"], **theirs, actor=user, outcome="by_request")
