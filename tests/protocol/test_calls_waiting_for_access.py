"""A call that needs access waits for its person, with what it was to send sealed, and goes on once, or not at all."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from mcp_oauth import call_tool, cancel_call, find_call, resume_call
from mcp_oauth.exceptions import (
    AuthorizationRequired,
    CallNotResumable,
    ConfigurationError,
    InsufficientScope,
    InvalidRequest,
    NotFound,
    ToolNotAllowed,
)
from mcp_oauth.models import McpServer, McpServerOAuth, ToolCall
from mcp_oauth.services.call_records import sweep
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, Person, ProtectedServer

pytestmark = pytest.mark.django_db(transaction=True)

SECRET_WORDS = "nobody else's business"
SEALED = ("arguments", "pending", "answers", "result")


class Account:
    """A member's account at a server whose access ends for good: there is no refresh token."""

    def __init__(self, peer: ProtectedServer, ada: Person) -> None:
        self.peer = peer
        self.ada = ada
        self.workspace = new_workspace()
        self.user: User = member(self.workspace)
        self.server: McpServer = new_server(self.workspace, peer.url)
        self.browser: Client = browser_of(self.user)

    def connect(self) -> None:
        connect(self.browser, self.server, self.ada)

    def end_access(self) -> None:
        """Let the access token be over, here and there."""
        self.peer.authorization_server.expire_access_tokens()
        McpServerOAuth.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    def wait(self, tool: str = "echo", arguments: dict[str, Any] | None = None) -> AuthorizationRequired:
        """Start a call that has to wait for access."""
        with pytest.raises(AuthorizationRequired) as needed:
            call_tool(self.server, self.user, tool, arguments or {"text": SECRET_WORDS})
        return needed.value

    def calls_run(self) -> list[str]:
        """Return the arguments of every call the server has seen, those it refused included."""
        return [
            request.json["params"]["arguments"].get("text", "")
            for request in self.peer.mcp_requests
            if request.rpc_method == "tools/call"
        ]


@pytest.fixture
def account(protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]) -> Account:
    options = AuthorizationServerOptions(cimd=False, issue_refresh_token=False)
    opened = Account(
        protected_mcp_server(as_options=options, scopes=("read",), tool_scopes={"fail": "admin"}), person("ada")
    )
    opened.connect()
    assert call_tool(opened.server, opened.user, "whoami").text == "ada"
    return opened


def the_call() -> ToolCall:
    return ToolCall.objects.latest("started_at")


def everything_stored() -> str:
    """Return every column of every call, as the database holds it."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {ToolCall._meta.db_table}")  # noqa: S608
        return repr(cursor.fetchall())


def sealed_columns() -> set[str]:
    row = ToolCall.objects.filter(pk=the_call().pk).values(*SEALED).get()
    return {name for name, value in row.items() if value is not None}


def test_a_call_whose_access_has_ended_waits_with_sealed_arguments_and_goes_on_after_connecting(
    account: Account,
) -> None:
    account.end_access()
    needed = account.wait()

    call = find_call(needed.call, account.user)
    assert needed.as_json()["call"] == str(call.pk)
    assert (call.state, call.outcome) == (ToolCall.State.AUTHORIZATION_REQUIRED, needed.reason)
    assert call.resumable_until is not None
    assert timezone.now() < call.resumable_until <= timezone.now() + timedelta(hours=1)
    assert {"arguments"} <= sealed_columns()
    assert SECRET_WORDS not in everything_stored()
    assert SECRET_WORDS not in account.calls_run()

    account.connect()
    result = resume_call(needed.call, account.user)

    assert result.text == SECRET_WORDS
    assert account.calls_run().count(SECRET_WORDS) == 1
    call = the_call()
    assert (call.state, call.outcome, call.attempt) == (ToolCall.State.COMPLETED, "", 2)
    # Whoever started the call in another request may read the result for a while.
    assert sealed_columns() == {"result"}
    assert SECRET_WORDS not in everything_stored()
    ToolCall.objects.filter(pk=needed.call).update(erase_at=timezone.now())
    assert sweep().erased == 1
    assert sealed_columns() == set()


def test_a_call_of_somebody_who_never_connected_waits_as_well(account: Account) -> None:
    newcomer = member(account.workspace)
    with pytest.raises(AuthorizationRequired) as needed:
        call_tool(account.server, newcomer, "whoami")
    assert needed.value.reason == "not_connected"

    connect(browser_of(newcomer), account.server, account.ada)

    assert resume_call(needed.value.call, newcomer).text == "ada"


def test_a_call_that_lacks_a_scope_waits_until_it_is_granted(account: Account) -> None:
    with pytest.raises(InsufficientScope) as lacks:
        call_tool(account.server, account.user, "fail", {"reason": SECRET_WORDS})
    assert lacks.value.as_json()["call"] == lacks.value.call
    assert the_call().outcome == "insufficient_scope"
    assert SECRET_WORDS not in everything_stored()

    account.connect()

    result = resume_call(lacks.value.call, account.user)
    assert (result.is_error, SECRET_WORDS in result.text) == (True, True)
    assert (the_call().state, the_call().outcome) == (ToolCall.State.FAILED, "tool_error")


def test_a_call_resumed_too_early_waits_again_under_its_own_id_and_not_longer(account: Account) -> None:
    account.end_access()
    needed = account.wait()
    until = the_call().resumable_until

    for attempt in (2, 3):
        with pytest.raises(AuthorizationRequired) as still:
            resume_call(needed.call, account.user)
        assert (still.value.call, still.value.reason) == (needed.call, needed.reason)
        assert (the_call().attempt, the_call().resumable_until) == (attempt, until)
    account.connect()

    assert resume_call(needed.call, account.user).text == SECRET_WORDS
    assert ToolCall.objects.filter(tool="echo").count() == 1


def test_the_same_call_id_says_again_what_the_call_waits_for(account: Account) -> None:
    account.end_access()
    call_id = uuid.uuid4()
    for _ in range(2):
        with pytest.raises(AuthorizationRequired) as needed:
            call_tool(account.server, account.user, "echo", {"text": SECRET_WORDS}, call_id=call_id)
        assert (needed.value.call, needed.value.reason) == (str(call_id), "expired")
    scoped = uuid.uuid4()
    account.connect()
    for _ in range(2):
        with pytest.raises(InsufficientScope) as lacks:
            call_tool(account.server, account.user, "fail", call_id=scoped)
        assert (lacks.value.call, "admin" in lacks.value.scope.split()) == (str(scoped), True)

    assert resume_call(call_id, account.user).text == SECRET_WORDS
    # It has run; the first id brings what it brought.
    assert call_tool(account.server, account.user, "echo", {"text": "another"}, call_id=call_id).text == SECRET_WORDS
    assert account.calls_run().count(SECRET_WORDS) == 1


def test_of_many_who_resume_one_call_at_once_one_sends_it(account: Account) -> None:
    account.end_access()
    needed = account.wait()
    account.connect()
    together = Barrier(6)

    def resume() -> str:
        try:
            together.wait(20)
            return resume_call(needed.call, account.user).text
        except CallNotResumable as refused:
            return refused.reason
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        outcomes = sorted(future.result(30) for future in [pool.submit(resume) for _ in range(6)])

    assert outcomes.count(SECRET_WORDS) == 1
    assert set(outcomes) <= {SECRET_WORDS, "already_resumed", "running", "ended"}
    assert account.calls_run().count(SECRET_WORDS) == 1
    assert the_call().attempt == 2


def test_a_call_waits_only_so_long(account: Account) -> None:
    account.end_access()
    needed = account.wait()
    account.connect()
    past = timezone.now() - timedelta(seconds=1)
    ToolCall.objects.filter(pk=needed.call).update(resumable_until=past, erase_at=past)

    with pytest.raises(CallNotResumable) as late:
        resume_call(needed.call, account.user)

    assert late.value.reason == "expired"
    assert (the_call().state, the_call().outcome) == (ToolCall.State.FAILED, "expired")
    assert sealed_columns() == set()
    assert SECRET_WORDS not in account.calls_run()


def test_a_sweep_erases_what_waited_too_long(account: Account) -> None:
    account.end_access()
    account.wait()
    past = timezone.now() - timedelta(seconds=1)
    ToolCall.objects.filter(pk=the_call().pk).update(resumable_until=past, erase_at=past)

    assert sweep().expired == 1

    assert (the_call().outcome, sealed_columns()) == ("expired", set())


def test_the_oldest_waiting_calls_give_way_to_more_than_a_person_may_have(account: Account, settings: Settings) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "MAX_WAITING_CALLS": 2}
    account.end_access()

    calls = [account.wait().call for _ in range(3)]

    assert [find_call(call, account.user).outcome for call in calls] == ["replaced", "expired", "expired"]
    account.connect()
    with pytest.raises(CallNotResumable) as gone:
        resume_call(calls[0], account.user)
    assert gone.value.reason == "expired"
    assert resume_call(calls[1], account.user).text == SECRET_WORDS


def test_what_was_to_be_sent_is_not_sent_to_a_server_that_was_changed_since(account: Account) -> None:
    account.end_access()
    needed = account.wait()
    McpServer.objects.update(generation=account.server.generation + 1)

    for _ in range(2):
        with pytest.raises(CallNotResumable) as changed:
            resume_call(needed.call, account.user)
        assert changed.value.reason == "server_changed"

    assert (the_call().state, sealed_columns()) == (ToolCall.State.FAILED, set())
    assert SECRET_WORDS not in account.calls_run()


def test_a_call_to_a_disabled_server_goes_on_waiting(account: Account) -> None:
    account.end_access()
    needed = account.wait()
    account.connect()
    McpServer.objects.update(enabled=False)

    with pytest.raises(ConfigurationError):
        resume_call(needed.call, account.user)
    assert the_call().is_waiting
    McpServer.objects.update(enabled=True)

    assert resume_call(needed.call, account.user).text == SECRET_WORDS


def test_a_call_of_a_tool_that_may_not_be_run_any_more_is_not_sent_and_goes_on_waiting(account: Account) -> None:
    account.end_access()
    needed = account.wait()
    account.connect()
    McpServer.objects.update(denied_tools=["ech*"])

    with pytest.raises(ToolNotAllowed):
        resume_call(needed.call, account.user)
    assert (the_call().is_waiting, SECRET_WORDS in account.calls_run()) == (True, False)
    McpServer.objects.update(denied_tools=[])

    assert resume_call(needed.call, account.user).text == SECRET_WORDS


def test_who_is_no_member_any_more_goes_on_with_nothing(account: Account) -> None:
    account.end_access()
    needed = account.wait()
    account.connect()
    account.workspace.memberships.all().delete()

    with pytest.raises(NotFound):
        resume_call(needed.call, account.user)

    assert SECRET_WORDS not in account.calls_run()


def test_a_waiting_call_is_given_up_at_once_and_forgets_what_it_was_to_send(account: Account) -> None:
    account.end_access()
    needed = account.wait()
    account.connect()

    assert cancel_call(needed.call, account.user)

    assert (the_call().outcome, sealed_columns()) == ("cancelled", set())
    with pytest.raises(CallNotResumable) as over:
        resume_call(needed.call, account.user)
    assert over.value.reason == "ended"


def test_a_call_that_waits_for_access_takes_no_answers(account: Account) -> None:
    account.end_access()
    needed = account.wait()
    account.connect()

    with pytest.raises(InvalidRequest):
        resume_call(needed.call, account.user, answers={"booking": {"action": "accept"}})

    assert resume_call(needed.call, account.user).text == SECRET_WORDS


def test_a_call_whose_arguments_no_key_opens_goes_on_waiting(account: Account, settings: Settings) -> None:
    from mcp_oauth.exceptions import SecretUnreadable

    account.end_access()
    needed = account.wait()
    known = settings.MCP_OAUTH
    settings.MCP_OAUTH = {**known, "ENCRYPTION_KEYS": ["A" * 43 + "="]}

    with pytest.raises(SecretUnreadable):
        resume_call(needed.call, account.user)

    settings.MCP_OAUTH = known
    account.connect()
    assert resume_call(needed.call, account.user).text == SECRET_WORDS


def test_the_command_names_the_call_that_waits_and_goes_on_with_it(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    from django.core.management import call_command

    account.end_access()
    who = ["--user", account.user.get_username()]
    with pytest.raises(SystemExit):
        call_command(
            "call_mcp_tool", str(account.server.pk), "echo", *who, "--args", f'{{"text": "{SECRET_WORDS}"}}', "--json"
        )
    said = capsys.readouterr()
    call = json.loads(said.out)["error"]["call"]
    assert f"--resume {call}" in said.err
    account.connect()

    call_command("call_mcp_tool", "--resume", call, *who, "--json")

    assert json.loads(capsys.readouterr().out)["result"]["content"][0]["text"] == SECRET_WORDS
