"""Fifty people and twenty threads at one server: nothing of one person ever reaches another.

Grants are revoked and the server is edited meanwhile; whoever is hit by that gets one typed answer, and nobody gets
somebody else's. What the server saw is held against it as well: which user each session, token and cookie belonged to.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone

from mcp_oauth import call_tool, disconnect, list_tools
from mcp_oauth.exceptions import AuthorizationRequired, McpOAuthError
from mcp_oauth.models import McpServer, McpServerOAuth
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import update_server
from tests.people import member, new_server, new_workspace
from tests.servers import ProtectedServer
from tests.servers.conversing import Conversation

pytestmark = pytest.mark.django_db(transaction=True)

PEOPLE, THREADS, ROUNDS = 50, 20, 15
# Revocations and edits during a run; each edit ends the grants of all fifty.
REVOCATIONS, EDITS = 40, 3
# The editions of the address are one resource to the peer.
TOLERANT = {"tolerate_resource_mismatch": True}
# Far beyond what any of it takes.
PATIENCE = 100.0


class Team:
    """Fifty members with a grant each, and whoever meddles with them while they work."""

    def __init__(self, peer: ProtectedServer, conversation: Conversation) -> None:
        self.peer = peer
        self.workspace = new_workspace()
        self.server = new_server(self.workspace, peer.url, options=TOLERANT)
        self.people = [member(self.workspace, name=f"person{number:02}") for number in range(PEOPLE)]
        for person in self.people:
            conversation.private[f"diary_of_{person.username}"] = {person.username}
            peer.mcp.add_tool(self._diary(conversation, person.username), name=f"diary_of_{person.username}")
        self.crossings: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.lock = threading.Lock()

    @staticmethod
    def _diary(conversation: Conversation, owner: str) -> Callable[[], str]:
        def diary() -> str:
            """Return what only its owner may read."""
            conversation.ran[f"diary_of_{owner}"] += 1
            return f"the diary of {owner}"

        return diary

    def connect(self, person: User) -> None:
        """Give a person a grant, as their coming back from the authorization server does."""
        server = McpServer.objects.get(pk=self.server.pk)
        tokens = self.peer.authorization_server.grant(
            client_id="isolation", user=person.username, scope="read", resource=self.peer.url
        )
        McpServerOAuth.objects.filter(server=server, user=person).delete()
        McpServerOAuth(
            server=server,
            user=person,
            server_generation=server.generation,
            access_token=tokens["access_token"],
            issuer=self.peer.issuer,
            connected_at=timezone.now(),
        ).save()

    def work(self, thread: int) -> None:
        """Use the server as one person after the other, from one thread of many."""
        try:
            for number in range(ROUNDS):
                person = self.people[(thread * 7 + number * 11) % PEOPLE]
                try:
                    self.use(person, listing=number % 3 == 0)
                except McpOAuthError as error:
                    self.note(error.code)
        finally:
            connections.close_all()

    def use(self, person: User, *, listing: bool) -> None:
        """List or call as a person, and insist that what comes is theirs."""
        own = f"diary_of_{person.username}"
        if listing:
            names = {tool.name for tool in list_tools(self.server.pk, person, refresh=True)}
            diaries = {name for name in names if name.startswith("diary_of_")}
            if diaries != {own}:
                self.crossings.append(f"{person.username} was shown {sorted(diaries)}")
            self.note("listed")
            return
        who = call_tool(self.server.pk, person, "whoami").text
        text = call_tool(self.server.pk, person, own).text
        if (who, text) != (person.username, f"the diary of {person.username}"):
            self.crossings.append(f"{person.username} got {who!r} and {text!r}")
        self.note("called")

    def note(self, outcome: str) -> None:
        """Count what came out."""
        with self.lock:
            self.outcomes[outcome] += 1

    def meddle(self) -> None:
        """Revoke grants and edit the server while the others work, and let people connect again."""
        try:
            for number in range(REVOCATIONS):
                person = self.people[(number * 17) % PEOPLE]
                disconnect(self.server.pk, person)
                self.connect(person)
                if number % (REVOCATIONS // EDITS) == 5:
                    server = McpServer.objects.get(pk=self.server.pk)
                    update_server(
                        server,
                        ServerSettings(name=server.name, url=f"{self.peer.url}?edition={number}", options=TOLERANT),
                    )
                    for other in self.people:
                        self.connect(other)
        finally:
            connections.close_all()


def seen_by(peer: ProtectedServer) -> dict[str, dict[str, set[str]]]:
    """Return the users that each session and cookie of the server's log came with."""
    users: dict[str, dict[str, set[str]]] = {"session": defaultdict(set), "cookie": defaultdict(set)}
    for request in peer.mcp_requests:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        facts = owner_of(peer, token)
        for kind, header in (("session", "mcp-session-id"), ("cookie", "cookie")):
            if header in request.headers:
                users[kind][request.headers[header]].add(facts)
    return users


def owner_of(peer: ProtectedServer, token: str) -> str:
    """Return whose token it was, whatever has become of it."""
    registry: Any = peer.authorization_server.registry
    record = registry.tokens.get(token)
    return record.user if record is not None else "?"


@pytest.mark.requirement("T36")
@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_nothing_of_one_person_reaches_another(
    era: str, protected_mcp_server: Callable[..., ProtectedServer], conversation: Conversation
) -> None:
    peer = protected_mcp_server(era, tools=conversation.register)
    team = Team(peer, conversation)
    for person in team.people:
        team.connect(person)

    with ThreadPoolExecutor(THREADS + 1) as pool:
        meddling = pool.submit(team.meddle)
        working = [pool.submit(team.work, thread) for thread in range(THREADS)]
        for future in [*working, meddling]:
            future.result(PATIENCE)

    assert team.crossings == []
    seen = seen_by(peer)
    assert {value: users for value, users in seen["session"].items() if len(users - {"?"}) > 1} == {}
    assert seen["cookie"] == {}
    assert team.outcomes["called"] > 0
    assert team.outcomes["listed"] > 0
    # What being revoked under one's hands may look like, and nothing else; a session is ended with its grant, and what
    # ran in it breaks off.
    expected = {"called", "listed", AuthorizationRequired.code, "tool_not_found"}
    assert set(team.outcomes) <= expected | ({"server_unreachable"} if era == "legacy" else set()), team.outcomes
