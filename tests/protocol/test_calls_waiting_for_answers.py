"""A call in whose middle the server asks the person: it waits, takes answers that fit, and goes on where it was."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection, connections
from django.utils import timezone
from pytest_django import Settings

from mcp_oauth import Answer, acall_tool, aresume_call, call_tool, cancel_call, find_call, resume_call
from mcp_oauth.exceptions import (
    AuthorizationRequired,
    CallCancelled,
    CallInterrupted,
    CallNotResumable,
    InputRequired,
    InvalidRequest,
    NotFound,
    ServerRefused,
)
from mcp_oauth.models import McpServer, McpServerOAuth, ToolCall
from mcp_oauth.services import held_calls
from mcp_oauth.services.call_records import sweep
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import AuthorizationServerOptions, OpenServer, Person, ProtectedServer
from tests.servers.conversing import SIGN_URL, Conversation
from tests.servers.scripted import Asked
from tests.servers.tasks import TaskServer

pytestmark = pytest.mark.django_db(transaction=True)

ERAS = pytest.mark.parametrize("era", ["modern", "legacy"])
Serve = Callable[..., OpenServer]
BOOKING = {"name": "Grace H.", "guests": 3, "email": "grace@example.org"}
SEALED = ("arguments", "pending", "answers", "result")


class Desk:
    """A person at a server whose tools ask."""

    def __init__(self, peer: OpenServer | ProtectedServer | TaskServer, talk: Conversation) -> None:
        self.talk = talk
        self.workspace = new_workspace()
        self.user: User = member(self.workspace)
        self.server: McpServer = new_server(self.workspace, peer.url)

    def ask(self, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> InputRequired:
        """Start a call in whose middle the server asks."""
        with pytest.raises(InputRequired) as asked:
            call_tool(self.server, self.user, tool, arguments, **options)
        return asked.value

    def resume(self, asked: InputRequired, *answers: Any, **options: Any) -> Any:
        """Go on with the answers in the order of the questions."""
        given = {question["key"]: answer for question, answer in zip(asked.questions, answers, strict=False)}
        return resume_call(asked.call, self.user, answers=given or None, **options)


@pytest.fixture(autouse=True)
def _nothing_stays_held() -> Iterator[None]:
    """Let the thread that looks after held calls end, and its database connection with it."""
    yield
    ToolCall.objects.all().delete()
    held_calls.look_again()
    thread = held_calls.watching_thread()
    if thread is not None:
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def desk_of(open_mcp_server: Serve, conversation: Conversation) -> Callable[[str], Desk]:
    return lambda era: Desk(open_mcp_server(era, tools=conversation.register), conversation)


def accept(**content: Any) -> dict[str, Any]:
    return {"action": "accept", "content": content}


def sealed_columns(call: str) -> set[str]:
    row = ToolCall.objects.filter(pk=call).values(*SEALED).get()
    return {name for name, value in row.items() if value is not None}


def everything_stored() -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {ToolCall._meta.db_table}")  # noqa: S608
        return repr(cursor.fetchall())


@ERAS
def test_a_form_is_answered_and_the_call_goes_on(desk_of: Callable[[str], Desk], era: str) -> None:
    desk = desk_of(era)
    asked = desk.ask("book_table", {"day": "on a very secret friday"})

    [question] = asked.questions
    assert (question["mode"], question["message"]) == ("form", "Who comes on on a very secret friday?")
    assert question["schema"]["properties"]["guests"]["maximum"] == 12
    call = find_call(asked.call, desk.user)
    assert (call.state, call.is_waiting) == (ToolCall.State.INPUT_REQUIRED, True)
    assert "secret" not in everything_stored()

    result = desk.resume(asked, accept(**BOOKING))

    # What has a default and was left out took it.
    assert result.structured_content == {
        "day": "on a very secret friday",
        **BOOKING,
        "seating": "window",
        "outside": False,
    }
    assert desk.talk.ran["book_table"] == 1
    [heard] = desk.talk.heard
    assert (heard.action, (heard.content or {})["email"]) == ("accept", "grace@example.org")
    call = find_call(asked.call, desk.user)
    assert (call.state, call.attempt) == (ToolCall.State.COMPLETED, 2)
    assert sealed_columns(asked.call) == {"result"}
    assert "grace@" not in everything_stored()


@ERAS
def test_an_address_is_visited_and_the_call_goes_on(desk_of: Callable[[str], Desk], era: str) -> None:
    desk = desk_of(era)
    asked = desk.ask("sign_contract")
    assert [(question["mode"], question["url"]) for question in asked.questions] == [("url", SIGN_URL)]

    assert resume_call(asked.call, desk.user).text == "Signed."

    assert [heard.action for heard in desk.talk.heard] == ["accept"]


@ERAS
def test_an_answer_that_does_not_fit_is_not_sent_and_the_call_still_waits(
    desk_of: Callable[[str], Desk], era: str
) -> None:
    desk = desk_of(era)
    asked = desk.ask("book_table", {"day": "friday"})
    [key] = [question["key"] for question in asked.questions]

    for content, field in (
        ({**BOOKING, "guests": 13}, "guests"),
        ({**BOOKING, "email": "nowhere"}, "email"),
        ({"name": "Grace", "guests": 1}, "email"),
        ({**BOOKING, "seating": "roof"}, "seating"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            desk.resume(asked, accept(**content))
        assert refused.value.field == f"{key}.{field}"
    with pytest.raises(InvalidRequest) as silent:
        resume_call(asked.call, desk.user)
    assert silent.value.field == key

    assert (find_call(asked.call, desk.user).state, desk.talk.heard) == (ToolCall.State.INPUT_REQUIRED, [])
    assert desk.resume(asked, accept(**BOOKING)).structured_content["guests"] == 3
    assert len(desk.talk.heard) == 1


@ERAS
@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_a_no_is_told_to_the_server(desk_of: Callable[[str], Desk], era: str, action: Any) -> None:
    desk = desk_of(era)
    asked = desk.ask("book_table", {"day": "friday"})

    result = desk.resume(asked, Answer(action))

    assert result.text == f"Nothing was done (booking: {action})."
    assert [(heard.action, heard.content) for heard in desk.talk.heard] == [(action, None)]
    assert desk.talk.ran["book_table"] == 0


@ERAS
def test_an_answer_may_lead_to_another_question(desk_of: Callable[[str], Desk], era: str) -> None:
    desk = desk_of(era)
    first = desk.ask("interview")

    with pytest.raises(InputRequired) as second:
        desk.resume(first, accept(favourite="tea"))
    assert (second.value.call, second.value.questions[0]["message"]) == (first.call, "Why tea?")

    assert desk.resume(second.value, accept(reason="it is warm")).text == "tea, because it is warm"
    assert [heard.question for heard in desk.talk.heard] == ["first", "second"]
    assert find_call(first.call, desk.user).attempt == 3


def test_two_questions_at_once_are_answered_together(desk_of: Callable[[str], Desk]) -> None:
    desk = desk_of("modern")
    asked = desk.ask("plan_trip")
    assert [question["mode"] for question in asked.questions] == ["form", "url"]

    assert desk.resume(asked, accept(city="lhr", extras=["parking"])).text == "A trip to lhr."

    assert [heard.action for heard in desk.talk.heard] == ["accept", "accept"]


@ERAS
def test_a_server_that_goes_on_asking_is_not_followed_for_ever(
    desk_of: Callable[[str], Desk], era: str, settings: Settings
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "MAX_INPUT_ROUNDS": 3}
    desk = desk_of(era)
    asked = desk.ask("never_satisfied")
    for _ in range(2):
        with pytest.raises(InputRequired) as again:
            desk.resume(asked, accept(more="yes"))
        asked = again.value

    with pytest.raises(ServerRefused):
        desk.resume(asked, accept(more="yes"))

    call = find_call(asked.call, desk.user)
    assert (call.state, call.outcome) == (ToolCall.State.FAILED, "server_refused")
    assert sealed_columns(asked.call) == set()
    if era == "legacy":
        desk.talk.wait_for_abandoned("never_satisfied")


@ERAS
def test_places_the_person_has_to_have_been_at_first(desk_of: Callable[[str], Desk], era: str) -> None:
    desk = desk_of(era)
    asked = desk.ask("open_vault", {"locks": 2})
    assert [question["mode"] for question in asked.questions] == ["url", "url"]
    with pytest.raises(InputRequired) as still:
        resume_call(asked.call, desk.user)
    assert still.value.call == asked.call

    desk.talk.visited.update(question["url"].rpartition("/")[2] for question in still.value.questions)

    assert resume_call(asked.call, desk.user).text == "The vault is open."


def test_asynchronous_callers_wait_and_answer_as_others_do(desk_of: Callable[[str], Desk]) -> None:
    desk = desk_of("legacy")

    async def book() -> Any:
        try:
            with pytest.raises(InputRequired) as asked:
                await acall_tool(desk.server, desk.user, "book_table", {"day": "friday"})
            answers = {asked.value.questions[0]["key"]: accept(**BOOKING)}
            return await aresume_call(asked.value.call, desk.user, answers=answers)
        finally:
            await sync_to_async(connections.close_all)()

    assert asyncio.run(book()).structured_content["guests"] == 3


@ERAS
def test_the_same_call_id_brings_the_question_again_and_then_the_result(
    desk_of: Callable[[str], Desk], era: str
) -> None:
    desk = desk_of(era)
    call_id = uuid.uuid4()
    first = desk.ask("book_table", {"day": "friday"}, call_id=call_id)
    second = desk.ask("book_table", {"day": "friday"}, call_id=call_id)
    assert (first.call, first.questions) == (str(call_id), second.questions)
    started = desk.talk.started["book_table"]
    result = desk.resume(second, accept(**BOOKING))

    again = call_tool(desk.server, desk.user, "book_table", {"day": "friday"}, call_id=call_id)

    assert again.to_json() == result.to_json()
    assert (started, desk.talk.ran["book_table"]) == (1, 1)


def test_answers_outlast_a_grant_that_ended_meanwhile(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person], conversation: Conversation
) -> None:
    options = AuthorizationServerOptions(cimd=False, auto_consent="ada", issue_refresh_token=False)
    desk = Desk(protected_mcp_server(as_options=options, tools=conversation.register), conversation)
    browser, ada = browser_of(desk.user), person("ada")
    connect(browser, desk.server, ada)
    asked = desk.ask("book_table", {"day": "friday"})
    McpServerOAuth.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    with pytest.raises(AuthorizationRequired) as needed:
        desk.resume(asked, accept(**BOOKING))
    assert needed.value.call == asked.call
    assert "grace@" not in everything_stored()
    connect(browser, desk.server, ada)

    assert resume_call(asked.call, desk.user).structured_content["guests"] == 3
    assert [heard.user for heard in desk.talk.heard] == ["ada"]


# Exchanges that stay open in one process.


def test_a_held_call_is_given_up_at_its_server_when_the_person_gives_it_up(desk_of: Callable[[str], Desk]) -> None:
    desk = desk_of("legacy")
    asked = desk.ask("book_table", {"day": "friday"})
    assert find_call(asked.call, desk.user).held_by == held_calls.process_name()

    assert cancel_call(asked.call, desk.user)

    desk.talk.wait_for_abandoned("book_table")
    assert find_call(asked.call, desk.user).outcome == "cancelled"
    with pytest.raises(CallNotResumable):
        desk.resume(asked, accept(**BOOKING))


def test_a_held_call_that_nobody_answers_in_time_is_given_up_at_its_server(
    desk_of: Callable[[str], Desk], settings: Settings
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "HELD_POLL_SECONDS": 0.05}
    desk = desk_of("legacy")
    asked = desk.ask("book_table", {"day": "friday"})
    past = timezone.now() - timedelta(seconds=1)
    ToolCall.objects.update(resumable_until=past, erase_at=past)

    desk.talk.wait_for_abandoned("book_table")

    assert find_call(asked.call, desk.user).outcome == "expired"


def test_a_process_gives_signs_of_life_for_what_it_holds(desk_of: Callable[[str], Desk], settings: Settings) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "HELD_POLL_SECONDS": 0.02, "HELD_LEASE_SECONDS": 3.0}
    desk = desk_of("legacy")
    asked = desk.ask("book_table", {"day": "friday"})
    first = ToolCall.objects.get().deadline_at
    given_up = timezone.now() + timedelta(seconds=20)

    while ToolCall.objects.get().deadline_at <= first:
        assert timezone.now() < given_up

    assert desk.resume(asked, accept(**BOOKING)).structured_content["guests"] == 3


def test_a_held_call_whose_process_gave_no_sign_of_life_is_interrupted(desk_of: Callable[[str], Desk]) -> None:
    desk = desk_of("legacy")
    asked = desk.ask("book_table", {"day": "friday"})
    ToolCall.objects.update(held_by="another process", deadline_at=timezone.now() - timedelta(seconds=1))

    with pytest.raises(CallInterrupted):
        desk.resume(asked, accept(**BOOKING))

    assert (find_call(asked.call, desk.user).outcome, sealed_columns(asked.call)) == ("interrupted", set())
    # This process let its end go, because the row is no longer its own.
    desk.talk.wait_for_abandoned("book_table")
    assert desk.talk.ran["book_table"] == 0


def test_a_sweep_ends_held_calls_whose_process_is_gone(desk_of: Callable[[str], Desk]) -> None:
    desk = desk_of("legacy")
    asked = desk.ask("book_table", {"day": "friday"})
    ToolCall.objects.update(held_by="another process", deadline_at=timezone.now() - timedelta(seconds=1))

    assert sweep().interrupted == 1

    assert (find_call(asked.call, desk.user).outcome, sealed_columns(asked.call)) == ("interrupted", set())


def test_answers_are_not_awaited_longer_than_a_process_may_be_silent(
    desk_of: Callable[[str], Desk], settings: Settings
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "HELD_LEASE_SECONDS": 0.2, "CALL_TICK_SECONDS": 0.05}
    desk = desk_of("legacy")
    asked = desk.ask("book_table", {"day": "friday"})
    ToolCall.objects.update(held_by="another process", deadline_at=timezone.now() + timedelta(seconds=60))

    with pytest.raises(CallInterrupted):
        desk.resume(asked, accept(**BOOKING))

    assert sealed_columns(asked.call) == set()


def test_more_calls_than_a_process_holds_are_refused(desk_of: Callable[[str], Desk], settings: Settings) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "MAX_HELD_CALLS": 1}
    desk = desk_of("legacy")
    asked = desk.ask("book_table", {"day": "friday"})

    with pytest.raises(Exception, match="Too many calls"):
        call_tool(desk.server, desk.user, "book_table", {"day": "monday"})

    desk.talk.wait_for_abandoned("book_table")
    assert desk.resume(asked, accept(**BOOKING)).structured_content["day"] == "friday"


@ERAS
def test_a_call_that_was_given_up_as_it_ran_does_not_begin_to_wait(
    desk_of: Callable[[str], Desk], era: str, settings: Settings
) -> None:
    # It never looks whether it was given up: it ends first, with a question.
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALL_TICK_SECONDS": 60.0}
    desk = desk_of(era)
    desk.talk.gate("tools/call")
    call_id = uuid.uuid4()

    def call() -> None:
        try:
            with pytest.raises(CallCancelled):
                call_tool(desk.server, desk.user, "book_table", {"day": "friday"}, call_id=call_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(call)
        desk.talk.gate("tools/call").wait_for_arrivals()
        assert cancel_call(call_id, desk.user)
        desk.talk.gate("tools/call").open()
        running.result(20)

    assert find_call(call_id, desk.user).outcome == "cancelled"
    assert sealed_columns(str(call_id)) <= {"result"}
    if era == "legacy":
        desk.talk.wait_for_abandoned("book_table")


def test_nobody_answers_for_another_person(desk_of: Callable[[str], Desk]) -> None:
    desk = desk_of("modern")
    asked = desk.ask("book_table", {"day": "friday"})
    key = asked.questions[0]["key"]

    for other in (member(desk.workspace), member(new_workspace())):
        with pytest.raises(NotFound):
            resume_call(asked.call, other, answers={key: accept(**BOOKING)})

    assert desk.talk.heard == []


# Calls that live on at their server as tasks.


def test_a_task_is_asked_about_and_answered_and_its_tool_runs_once(task_server: Callable[..., TaskServer]) -> None:
    server = task_server()
    desk = Desk(server, Conversation())
    asked = desk.ask("survey")

    with pytest.raises(InputRequired) as second:
        desk.resume(asked, accept(metres=3))
    assert [question["mode"] for question in second.value.questions] == ["url"]

    assert resume_call(asked.call, desk.user).text == "Dug 3 metres."
    assert len(server.jobs) == 1


def test_a_task_that_nobody_goes_on_with_is_cancelled_at_its_server(
    task_server: Callable[..., TaskServer], settings: Settings
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "MAX_INPUT_ROUNDS": 1}
    server = task_server()
    desk = Desk(server, Conversation())
    given_up, too_long = desk.ask("survey"), desk.ask("survey")

    assert cancel_call(given_up.call, desk.user)
    with pytest.raises(ServerRefused):
        desk.resume(too_long, accept(metres=3))

    assert [job.status for job in server.jobs] == ["cancelled", "cancelled"]
    assert find_call(too_long.call, desk.user).outcome == "server_refused"


def test_a_task_outlasts_a_grant_that_ended_meanwhile_and_its_tool_runs_once(
    protected_mcp_server: Callable[..., ProtectedServer], person: Callable[..., Person]
) -> None:
    server = TaskServer("modern")
    script = server.script()
    options = AuthorizationServerOptions(cimd=False, auto_consent="ada", issue_refresh_token=False)
    peer = protected_mcp_server(app=server.app(script), as_options=options)
    desk = Desk(peer, Conversation())
    browser, ada = browser_of(desk.user), person("ada")
    connect(browser, desk.server, ada)
    get = script["tasks/get"]

    def ends(asked: Asked) -> dict[str, Any]:
        answer: dict[str, Any] = get(asked)
        if server.jobs[0].polls == 1:
            peer.authorization_server.expire_access_tokens()
        return answer

    script["tasks/get"] = ends
    with pytest.raises(AuthorizationRequired) as needed:
        call_tool(desk.server, desk.user, "dig", {"after": 3})
    connect(browser, desk.server, ada)

    assert resume_call(needed.value.call, desk.user).text == "Dug for 4 questions."
    assert len(server.jobs) == 1


# Progress.


@ERAS
def test_progress_is_told_to_the_caller_and_stands_in_the_record_while_the_call_runs(
    desk_of: Callable[[str], Desk], era: str, settings: Settings
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALL_TICK_SECONDS": 0.02}
    desk = desk_of(era)
    call_id = uuid.uuid4()
    told: list[tuple[Any, ...]] = []
    stood: list[tuple[Any, ...]] = []

    def on_progress(progress: Any) -> None:
        told.append((progress.progress, progress.total, progress.message))
        call = find_call(call_id, desk.user)
        stood.append((call.state, call.progress, call.progress_total, call.progress_message))
        desk.talk.gate("march").let_pass()

    result = call_tool(desk.server, desk.user, "march", {"steps": 2}, call_id=call_id, on_progress=on_progress)

    assert result.text == "Done after 2 steps."
    assert told == [(1.0, 2.0, "Step 1"), (2.0, 2.0, "Step 2")]
    assert stood == [("running", 1.0, 2.0, "Step 1"), ("running", 2.0, 2.0, "Step 2")]


def test_an_asynchronous_caller_hears_of_progress_and_of_a_cancellation(
    desk_of: Callable[[str], Desk], settings: Settings
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALL_TICK_SECONDS": 0.02}
    desk = desk_of("modern")
    call_id = uuid.uuid4()
    told: list[float] = []

    def on_progress(progress: Any) -> None:
        told.append(progress.progress)
        if len(told) == 2:
            assert cancel_call(call_id, desk.user)
        desk.talk.gate("march").let_pass()

    async def march() -> None:
        try:
            with pytest.raises(CallCancelled):
                await acall_tool(
                    desk.server, desk.user, "march", {"steps": 9}, call_id=call_id, on_progress=on_progress
                )
        finally:
            await sync_to_async(connections.close_all)()

    asyncio.run(march())

    assert told[:2] == [1.0, 2.0]
    assert find_call(call_id, desk.user).outcome == "cancelled"
    assert desk.talk.ran["march"] == 0


def test_the_command_lists_the_questions_takes_answers_and_prints_progress(
    desk_of: Callable[[str], Desk], capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALL_TICK_SECONDS": 0.02}
    desk = desk_of("modern")
    who = ["--user", desk.user.get_username(), "--json"]
    with pytest.raises(SystemExit):
        call_command("call_mcp_tool", str(desk.server.pk), "book_table", *who, "--args", '{"day": "friday"}')
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["code"] == "input_required"
    assert error["questions"][0]["key"] == "booking"
    assert "booking: Who comes on friday?" in said.err
    assert f"--resume {error['call']}" in said.err

    answers = json.dumps({"booking": accept(**BOOKING)})
    call_command("call_mcp_tool", "--resume", error["call"], "--answers", answers, *who)
    assert json.loads(capsys.readouterr().out)["result"]["structuredContent"]["guests"] == 3


def test_the_command_prints_progress_beside_its_result(
    desk_of: Callable[[str], Desk], capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALL_TICK_SECONDS": 0.02}
    desk = desk_of("modern")

    def open_after_the_first_step() -> None:
        try:
            desk.talk.gate("march").wait_for_arrivals()
            given_up = timezone.now() + timedelta(seconds=20)
            while not ToolCall.objects.filter(progress=1).exists():
                assert timezone.now() < given_up
        finally:
            desk.talk.gate("march").open()
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(open_after_the_first_step)
        call_command(
            "call_mcp_tool", str(desk.server.pk), "march", "--user", desk.user.get_username(), "--progress", "--json"
        )
        opened.result(20)

    said = capsys.readouterr()
    assert "1 of 3 Step 1" in said.err
    assert "Done after 3 steps." in json.loads(said.out)["result"]["content"][0]["text"]
