"""The pages of calls that wait for their person: what is asked, the way on, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from mcp_oauth import call_tool
from mcp_oauth.exceptions import AuthorizationRequired, InputRequired
from mcp_oauth.models import McpServer, McpServerOAuth, ToolCall, Workspace
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, OpenServer, Person, ProtectedServer
from tests.servers.conversing import SIGN_URL, Conversation

pytestmark = pytest.mark.django_db(transaction=True)

Serve = Callable[..., OpenServer]


class Desk:
    """A member with a browser, at a server whose tools converse."""

    def __init__(self, peer: OpenServer) -> None:
        self.workspace = new_workspace()
        self.user = member(self.workspace)
        self.server = new_server(self.workspace, peer.url)
        self.browser = browser_of(self.user)

    def ask(self, tool: str, **arguments: Any) -> str:
        """Have a call wait for an answer; return the address of its page."""
        with pytest.raises(InputRequired) as caught:
            call_tool(self.server, self.user, tool, arguments)
        return page_of(self.workspace, self.server, caught.value.call)


def page_of(workspace: Workspace, server: McpServer, call: str) -> str:
    return f"/workspaces/{workspace.slug}/mcp/{server.pk}/waiting/{call}/"


def text(response: Any) -> str:
    found: str = response.content.decode()
    return found


@pytest.fixture
def desk(open_mcp_server: Serve, conversation: Conversation) -> Desk:
    return Desk(open_mcp_server("modern", tools=conversation.register))


def test_a_question_is_a_form_with_its_servers_defaults_and_the_answer_goes_on(
    desk: Desk, conversation: Conversation
) -> None:
    address = desk.ask("book_table", day="friday")

    settings = text(desk.browser.get(f"/workspaces/{desk.workspace.slug}/mcp/"))
    assert "1 call is waiting for you" in settings
    listed = text(desk.browser.get(address.rsplit("/", 2)[0] + "/"))
    assert f'href="{address}"' in listed
    page = text(desk.browser.get(address))
    assert "Who comes on friday?" in page
    assert re.search(r'name="q0\.0" value="Ada" required', page)
    assert re.search(r'<option value="window" selected>', page)
    assert re.search(r'type="number" id="id_q0_2" name="q0\.2" value="" required step="1" min="1" max="12"', page)

    answered = desk.browser.post(
        address, {"q0.0": "Grace", "q0.1": "garden", "q0.2": "3", "q0.3": "true", "q0.4": "grace@example.com"}
    )

    assert "A table for 3 on friday." in text(answered)
    assert conversation.heard[0].content == {
        "name": "Grace",
        "seating": "garden",
        "guests": 3,
        "outside": True,
        "email": "grace@example.com",
    }
    assert "is waiting for you" not in text(desk.browser.get(f"/workspaces/{desk.workspace.slug}/mcp/"))


def test_an_answer_that_does_not_fit_is_named_and_what_was_typed_stays(desk: Desk, conversation: Conversation) -> None:
    address = desk.ask("book_table", day="friday")

    refused = desk.browser.post(address, {"q0.0": "Grace <b>", "q0.1": "bar", "q0.2": "99", "q0.4": "g@example.com"})

    assert refused.status_code == 400
    assert 'value="Grace &lt;b&gt;"' in text(refused)
    assert 'value="99"' in text(refused)
    assert conversation.heard == []
    assert ToolCall.objects.get().state == ToolCall.State.INPUT_REQUIRED


def test_a_page_to_visit_is_a_link_that_tells_nobody_where_it_was_found(desk: Desk, conversation: Conversation) -> None:
    address = desk.ask("sign_contract")

    page = text(desk.browser.get(address))
    assert f'href="{SIGN_URL}" target="_blank" rel="noopener noreferrer"' in page
    assert "Signed." in text(desk.browser.post(address, {}))
    assert [heard.action for heard in conversation.heard] == ["accept"]


def test_the_next_question_of_a_call_stands_where_the_last_one_did(desk: Desk) -> None:
    address = desk.ask("interview")

    second = desk.browser.post(address, {"q0.0": "tea"})
    assert second.status_code == 200
    assert "Why tea?" in text(second)
    assert "tea, because warm" in text(desk.browser.post(address, {"q0.0": "warm"}))


def test_a_question_may_be_declined_and_a_call_given_up(desk: Desk, conversation: Conversation) -> None:
    desk.browser.post(desk.ask("book_table", day="friday"), {"decline": "1"})
    assert [heard.action for heard in conversation.heard] == ["decline"]

    given_up = desk.browser.post(desk.ask("book_table", day="monday"), {"give_up": "1"})
    assert given_up.status_code == 302
    assert ToolCall.objects.filter(outcome="cancelled").count() == 1


def test_a_waiting_call_is_nobody_elses(desk: Desk, conversation: Conversation) -> None:
    address = desk.ask("book_table", day="friday")
    other, stranger = member(desk.workspace), member(new_workspace())

    for client in (browser_of(other), browser_of(stranger)):
        assert client.get(address).status_code == 404
        assert client.post(address, {"q0.2": "3"}).status_code == 404
    assert "Nothing waits" in text(browser_of(other).get(address.rsplit("/", 2)[0] + "/"))
    assert Client().get(address).status_code == 302
    assert conversation.heard == []


def test_a_call_that_waits_for_access_goes_on_after_the_person_connected(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server(as_options=AuthorizationServerOptions(cimd=False))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(workspace, peer.url)
    browser = browser_of(user)
    connect(browser, server, person())
    call_tool(server, user, "whoami")
    McpServerOAuth.objects.update(state="needs_reauthorization", reason="revoked")
    with pytest.raises(AuthorizationRequired) as caught:
        call_tool(server, user, "whoami")
    address = page_of(workspace, server, caught.value.call)
    before = peer.rpc_methods.count("tools/call")

    page = text(browser.get(address))
    assert "Give access first" in page
    still = browser.post(address)
    assert "Reconnect" in text(still)
    assert peer.rpc_methods.count("tools/call") == before
    connect(browser, server, person())

    assert "ada" in text(browser.post(address))
    assert peer.rpc_methods.count("tools/call") == before + 1
    assert browser.post(address).status_code == 409


SCRIPT = "<script>alert('q')</script>"


@pytest.mark.requirement("T37")
def test_everything_a_server_asks_is_text(desk: Desk) -> None:
    address = desk.ask("book_table", day=SCRIPT)

    page = text(desk.browser.get(address))

    assert SCRIPT not in page
    assert "&lt;script&gt;" in page
