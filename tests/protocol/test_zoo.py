"""Every hostile server at every entry of the application: what comes out, and what it costs everybody else."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import logging
import os
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from io import StringIO
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohappyeyeballs
import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from mcp_oauth import call_tool, list_tools
from mcp_oauth.conf import McpOAuthSettings
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import (
    AuthorizationFlow,
    Event,
    McpServer,
    McpServerOAuth,
    OAuthRegistration,
    StoredListing,
    Workspace,
)
from mcp_oauth.net.dialling import AddressRule
from mcp_oauth.services import wire
from mcp_oauth.services.server_settings import ServerSettings
from mcp_oauth.services.servers import add_server
from mcp_oauth.sessions import client, loop
from mcp_oauth.sessions.results import ToolResult
from mcp_oauth.sessions.target import Target
from tests.people import browser_of, member, new_workspace
from tests.servers import hostile
from tests.servers.hostile import ANIMALS, SCRIPT, Animal, Den, Entry
from tests.servers.peer import Peer, Received
from tests.servers.watch import Costs, Watch
from tests.servers.zoo_table import DOCUMENT, load_outcomes, recorder, rendered

pytestmark = [pytest.mark.django_db, pytest.mark.once]

MCP_BYTES = 1024 * 1024
DOCUMENT_BYTES = 64 * 1024
# Whoever is cut off at a deadline is cut off at this one; the others have time, whatever else this machine does.
SHORT, LONG = 0.3, 10.0
CELL_SECONDS = 15.0
LOOP_GAP_SECONDS = 0.05
# An answer may hold as many values however small the limit for bytes is set; where many come, the limits are therefore
# those of an installation, whose relation is what holds memory.
MOST_MEMORY = 2 * MCP_BYTES
MOST_MEMORY_OF_VALUES = 2 * McpOAuthSettings.MCP_RESPONSE_BYTES
# What a cell costs is measured on a machine that does other things as well. A cost that is the server's doing comes
# back each time; only one that does is a failure. What comes out and who was reached has to be right at once.
MEASUREMENTS = 4
# `make zoo` holds the exact limits. Beside other tests they are wider, where a stop is still told from a busy machine:
# what the application once did wrong stopped the loop for seconds.
MEASURING = os.environ.get("MCP_OAUTH_TEST_MEASURE", "") == "1"
# A hostile server must not fill a disk with our own lines about it.
MOST_LINES = 300
REDIRECT_URI = "http://127.0.0.1:8000/mcp/oauth/callback/"
SECRETS = (hostile.CLIENT_SECRET, hostile.ACCESS_TOKEN, hostile.REFRESH_TOKEN, hostile.CODE)
# Where each secret belongs; everywhere else it is abroad.
AT_HOME = {
    hostile.CLIENT_SECRET: {"token", "revoke"},
    hostile.ACCESS_TOKEN: {"mcp", "revoke"},
    hostile.REFRESH_TOKEN: {"token", "revoke"},
    hostile.CODE: {"token"},
}


@dataclass
class Said:
    """What came out of one cell: a typed error's code or a word of success, and every text somebody may read."""

    outcome: str
    texts: list[str] = field(default_factory=list)


class Log(logging.Handler):
    """What is logged while it is installed: each line once, because a flood of them is not to be kept."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self.forget()

    def forget(self) -> None:
        self.lines = 0
        self._known: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        if len(self._known) < MOST_LINES:
            self._known[self.format(record)] = None

    @property
    def text(self) -> str:
        return "\n".join(self._known)


@pytest.fixture
def log() -> Iterator[Log]:
    """Read everything that is logged, at every level, instead of pytest."""
    root, handler = logging.getLogger(), Log()
    with contextlib.ExitStack() as stack:
        others, level = root.handlers[:], root.level
        stack.callback(root.setLevel, level)
        stack.callback(setattr, root, "handlers", others)
        root.handlers, root.level = [handler], logging.DEBUG
        root.setLevel(logging.DEBUG)
        yield handler


@dataclass
class Visitor:
    """A member of a workspace who meets one animal at one entry after the other."""

    den: Den
    workspace: Workspace
    user: User
    browser: Client
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def meet(self, entry: Entry) -> Said:
        """Prepare what the entry needs, with nothing said to the animal yet but by a start that precedes."""
        OAuthRegistration.objects.all().delete()
        # What is remembered of a server for a while (pauses, dialects) belongs to the cell before.
        caches["default"].key_prefix = f"zoo-{uuid.uuid4().hex}"
        self.den.wild = self.den.animal.entries[entry]
        self.den.peer.requests.clear()
        said: Said = getattr(self, f"_{entry}")()
        return said

    def _server(self, **facts: Any) -> McpServer:
        name = f"s{next(self._numbers)}"
        return McpServer.objects.create(
            workspace=self.workspace,
            name=name,
            slug=name,
            url=self.den.url,
            auth_mode=McpServer.AuthMode.OAUTH,
            **facts,
        )

    def _grant(self, *, ends_in: float = 3600, **facts: Any) -> McpServer:
        server, metadata, now = self._server(**facts), self._metadata(), timezone.now()
        registration = OAuthRegistration.objects.create(
            workspace=self.workspace,
            kind=OAuthRegistration.Kind.DYNAMIC,
            issuer=metadata["issuer"],
            redirect_uri=REDIRECT_URI,
            client_id="zoo-client",
            client_secret=hostile.CLIENT_SECRET,
            token_endpoint_auth_method="client_secret_post",
        )
        McpServerOAuth.objects.create(
            server=server,
            user=self.user,
            access_token=hostile.ACCESS_TOKEN,
            refresh_token=hostile.REFRESH_TOKEN,
            expires_at=now + timedelta(seconds=ends_in),
            lifetime_seconds=3600,
            scope="read",
            issuer=metadata["issuer"],
            resource=server.url,
            token_endpoint=metadata["token_endpoint"],
            revocation_endpoint=metadata["revocation_endpoint"],
            client_id="zoo-client",
            token_endpoint_auth_method="client_secret_post",
            registration=registration,
            connected_at=now,
        )
        return server

    def _metadata(self) -> dict[str, Any]:
        """Return the metadata that a flow would have stored, as the animal writes it where it is wild there."""
        if "server_metadata" not in self.den.wild:
            return self.den.document("server_metadata")
        received = Received("GET", "/.well-known/oauth-authorization-server", {}, b"")
        reply = self.den.animal.behaviour(self.den, "server_metadata", received)
        assert isinstance(reply, bytes)
        document: dict[str, Any] = json.loads(reply.partition(b"\r\n\r\n")[2])
        return document

    def _call_tool(self) -> Said:
        # Everything is known already, so that the call itself is the first thing the server sees.
        server = self._grant(protocol_version=hostile.MODERN, discover_result=hostile.discovered())
        grant = McpServerOAuth.objects.get(server=server)
        StoredListing.objects.create(
            server=server,
            user=self.user,
            server_generation=server.generation,
            grant_id=grant.pk,
            entries=[hostile.TOOL],
            entry_count=1,
            fetched_at=timezone.now(),
        )
        return self._called(server)

    def _called(self, server: McpServer) -> Said:
        def calling() -> str:
            # As the JSON API answers it.
            json.dumps(call_tool(server, self.user, "look", {}).to_json()).encode()
            return "works"

        return _attempt(calling)

    def _list_tools(self) -> Said:
        server = self._grant()

        def listing() -> str:
            found = list_tools(server, self.user, refresh=True)
            # What was read is read again from the row, as the pages do.
            assert [tool.name for tool in list_tools(server, self.user)] == [tool.name for tool in found]
            return "works, truncated" if found.truncated else "works"

        return _attempt(listing)

    def _add_server(self) -> Said:
        name = f"s{next(self._numbers)}"
        wanted = ServerSettings(name=name, slug=name, url=self.den.url)
        return _attempt(lambda: f"works, {add_server(self.workspace, wanted).auth_mode}")

    def _start(self) -> Said:
        return self._pressed(self._server())[0]

    _resource_metadata = _server_metadata = _register = _start

    def _pressed(self, server: McpServer) -> tuple[Said, str]:
        response = self.browser.post(
            "/mcp/oauth/start/", {"server": str(server.pk)}, headers={"accept": "application/json"}
        )
        body = response.json()
        text = response.content.decode()
        if "error" in body:
            return Said(body["error"]["code"], [text]), ""
        url = body["authorization_url"]
        return Said("works", [text]), str(url)

    def _callback(self) -> Said:
        server = self._server()
        said, url = self._pressed(server)
        if not url and "server_metadata" in self.den.wild:
            return said  # the animal was met before anybody could come back
        assert said.outcome == "works", said
        state = parse_qs(urlsplit(url).query)["state"][0]
        query = urlencode(
            {"code": hostile.CODE, "state": state, "iss": AuthorizationFlow.objects.latest("created_at").issuer}
        )
        response = self.browser.get(f"/mcp/oauth/callback/?{query}")
        return Said(response.context["code"] or "works", [response.content.decode()])

    def _refresh(self) -> Said:
        server = self._grant(ends_in=-1)
        return self._called(server)

    def _disconnect(self) -> Said:
        server = self._grant()
        response = self.browser.post(
            "/mcp/oauth/disconnect/", {"server": str(server.pk)}, headers={"accept": "application/json"}
        )
        assert response.status_code == 200
        assert not McpServerOAuth.objects.filter(server=server).exists()
        event = Event.objects.get(kind=Event.Kind.REVOKED, server_id=server.pk)
        return Said(event.outcome, [response.content.decode(), json.dumps(event.details)])

    def _check_mcp_server(self) -> Said:
        out, err = StringIO(), StringIO()
        with contextlib.suppress(SystemExit):
            call_command("check_mcp_server", self.den.url, "--json", stdout=out, stderr=err)
        result = json.loads(out.getvalue())
        # What a terminal or a log file is given has to be text that it can hold.
        out.getvalue().encode()
        return Said(result["error"]["code"] if "error" in result else "works", [out.getvalue(), err.getvalue()])


def _attempt(work: Callable[[], str]) -> Said:
    """Return what a call came to; anything but a typed error is let through, and fails the test."""
    try:
        return Said(work())
    except McpOAuthError as error:
        shown = "".join(traceback.format_exception(error))
        return Said(error.code, [shown, json.dumps(error.as_json(), ensure_ascii=False)])


@pytest.fixture(scope="module", autouse=True)
def _no_pauses_of_our_own() -> Iterator[None]:
    """Keep the collector from walking through everything that was imported: that is no server's doing."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Record every address that is dialled."""
    seen: list[tuple[str, int]] = []
    dial = aiohappyeyeballs.start_connection

    async def start_connection(addr_infos: Any, **options: Any) -> Any:
        seen.extend(address[:2] for *_, address in addr_infos)
        return await dial(addr_infos, **options)

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", start_connection)
    return seen


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Let a few ports of this machine stand for hosts on the internet; the rest of it is the network inside."""
    ports: set[int] = set()
    check = AddressRule.check

    def guarded(self: Any, host: str, port: int, address: str) -> None:
        inside = AddressRule(replace(self._policy, allow_loopback=False))
        check(self if port in ports else inside, host, port, address)

    monkeypatch.setattr(AddressRule, "check", guarded)
    return ports


@pytest.fixture
def hurry(settings: Settings) -> Callable[[float, int], None]:
    """Set the limits of a cell: how long anything may take, and how large it may be."""

    def limit(seconds: float, size: int) -> None:
        settings.MCP_OAUTH = {
            **django_settings.MCP_OAUTH,
            "MCP_RESPONSE_BYTES": size,
            "OAUTH_DOCUMENT_BYTES": DOCUMENT_BYTES,
            "CONNECT_SECONDS": seconds,
            "OAUTH_REQUEST_SECONDS": seconds,
            "CALL_SECONDS": seconds,
            "LIST_SECONDS": seconds,
            "PROBE_SECONDS": seconds * 1.2,
            "DIAGNOSIS_SECONDS": seconds * 2,
            "STARTS_PER_MINUTE": 1000,
            "CALLBACKS_PER_MINUTE": 1000,
        }

    return limit


@contextlib.contextmanager
def sibling(peer: Peer, release: threading.Event) -> Iterator[list[str]]:
    """Have a call to another server under way for as long as this lasts; its answer, or what went wrong, follows."""
    policy = replace(wire.network_policy(), connect_seconds=LONG, request_seconds=LONG, mcp_seconds=CELL_SECONDS)
    target = Target(
        peer.url("/mcp"),
        policy=policy,
        protocol_version=hostile.MODERN,
        discover_result=hostile.discovered(),
    )
    heard: list[str] = []

    def call() -> None:
        try:
            result = loop.run(lambda: client.call_tool(target, "look", {}, timeout=CELL_SECONDS), timeout=CELL_SECONDS)
            heard.append(result.text if isinstance(result, ToolResult) else "asked")
        except Exception as error:  # whatever it is, the test says it
            heard.append(repr(error))

    release.clear()
    thread = threading.Thread(target=call, name="sibling")
    thread.start()
    try:
        yield heard
    finally:
        release.set()
        thread.join(CELL_SECONDS + 5)


@pytest.mark.requirement("T01", "T02", "T05", "T30", "T31", "T32", "T33", "T34", "T35", "T37", "T41")
@pytest.mark.parametrize("name", sorted(ANIMALS))
def test_an_animal_is_met_at_every_entry_and_harms_nobody(
    name: str,
    hurry: Callable[[float, int], None],
    dialled: list[tuple[str, int]],
    public: set[int],
    log: Log,
) -> None:
    workspace = new_workspace()
    user = member(workspace)
    expected = load_outcomes().get(name, {})
    outcomes: dict[str, str] = {}
    complaints: list[str] = []
    release = threading.Event()
    with hostile.animal(name) as den, hostile.healthy(release) as peer, Watch() as watch:
        visitor = Visitor(den, workspace, user, browser_of(user))
        public |= {den.peer.port, peer.port, urlsplit(den.lair).port or den.peer.port}
        if not name.startswith("inward"):
            public.add(den.bait.port)  # another host on the internet, which is no less forbidden
        size = McpOAuthSettings.MCP_RESPONSE_BYTES if den.animal.dense else MCP_BYTES
        hurry(SHORT if den.animal.slow else LONG, size)
        for entry in den.animal.entries:
            costs: list[Costs] = []
            settled = False
            while len(costs) < MEASUREMENTS and not settled:
                log.forget()
                with sibling(peer, release) as heard, watch.measured() as cost:
                    said = visitor.meet(entry)
                costs.append(cost)
                outcomes[entry] = said.outcome
                # Where time is short on purpose, a busy machine may use it up before the animal is met.
                in_time = not den.animal.slow or said.outcome == expected.get(entry, said.outcome)
                settled = in_time and any(_cheap(cost, den.animal) for cost in costs)
                if in_time and not _met(den, entry):
                    complaints.append(f"{entry}: the animal was not met")
                complaints += [f"{entry}: {problem}" for problem in _problems(den, said, log.text)]
                if log.lines > MOST_LINES:
                    complaints.append(f"{entry}: {log.lines} lines were logged")
                if heard != ["done"]:
                    complaints.append(f"{entry}: a call to another server came to {heard}")
            if not any(_cheap(cost, den.animal) for cost in costs):
                complaints.append(f"{entry}: each time {[str(cost) for cost in costs]}")
        page = visitor.browser.get(f"/workspaces/{workspace.slug}/mcp/")
        assert page.status_code == 200
        complaints += [f"the page of all servers: {problem}" for problem in _words(page.content.decode())]
        assert {port for _, port in dialled} <= public
        assert (den.bait.connections, den.bait.requests) == (0, [])

    assert complaints == []
    if recorder(name, outcomes):
        return
    assert outcomes == expected


def _met(den: Den, entry: Entry) -> bool:
    """Whether the animal had a say: a request arrived where it is wild."""
    if den.lair or (entry in {"refresh", "disconnect"} and "server_metadata" in den.wild):
        return True  # nothing of it can be reached, or what it said was read before and stands in the row
    return any(place in den.wild for place, _ in den.requests)


def _cheap(cost: Costs, kept: Animal) -> bool:
    memory, gap = MOST_MEMORY_OF_VALUES if kept.dense else MOST_MEMORY, LOOP_GAP_SECONDS
    if not MEASURING:
        memory, gap = memory * 4, gap * 10
    return cost.seconds < CELL_SECONDS and cost.bytes < memory and cost.gap_seconds < gap


def _problems(den: Den, said: Said, logged: str) -> Iterator[str]:
    """Yield what is wrong after one meeting."""
    yield from (problem for text in [*said.texts, logged] for problem in _words(text))
    verifier = ""
    for place, received in den.requests:
        sent = f"{received.path} {received.headers} {received.body.decode('latin-1')}"
        verifier = verifier or parse_qs(received.body.decode("latin-1")).get("code_verifier", [""])[0]
        yield from (
            f"{secret} went to {place}" for secret in SECRETS if secret in sent and place not in AT_HOME[secret]
        )
        # Within one session a server may be told again what it said in it.
        if "cookie" in received.headers and (place != "mcp" or received is den.peer.requests[0]):
            yield f"a cookie went to {place}"
    if verifier and any(verifier in text for text in [*said.texts, logged]):
        yield "the code verifier is said"


def _words(text: str) -> Iterator[str]:
    """Yield what no text of ours may hold."""
    yield from (f"{secret} is said in {_around(text, secret)}" for secret in SECRETS if secret in text)
    if SCRIPT in text and "<html" in text:
        yield f"markup of the server is on a page: {_around(text, SCRIPT)}"
    try:
        text.encode()
    except UnicodeEncodeError:
        yield f"half a character is said in {text[:200]!a}"


def _around(text: str, words: str) -> str:
    position = text.index(words)
    return repr(text[max(0, position - 120) : position + len(words) + 40])


def test_the_page_about_the_zoo_says_what_comes_out() -> None:
    assert set(load_outcomes()) == set(ANIMALS)
    assert DOCUMENT.read_text(encoding="utf-8") == rendered(), "python -m tests.servers.zoo_table writes it again"
