"""The commands as a person and a shell meet them: real processes, at a terminal or in a pipe, against real servers."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class

from mcp_oauth.management.base import TypedCommand
from mcp_oauth.management.terminal import cells
from tests.people import member, new_server, new_workspace
from tests.scale.processes import ROOT, database_url
from tests.servers import Offering, OpenServer
from tests.servers.offering import tool
from tests.team import Team

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

COMMANDS = sorted(path.stem for path in (ROOT / "mcp_oauth/management/commands").glob("[a-z]*.py"))
PATIENCE = 60.0
STYLE = re.compile(r"\x1b\[[\d;]*m")
# What takes the line of the status away.
ERASED = "\r\x1b[K"

MakeTeam = Callable[..., Team]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url(),
        "TERM": "xterm-256color",
        "PYTHONIOENCODING": "utf-8",
        **more,
    }


def started(*arguments: str, env: dict[str, str] | None = None, **streams: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "manage.py", *arguments]
    # A shell has what it runs in the background ignore Ctrl-C, and so everything that this starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, cwd=ROOT, env=env or environment(), stdin=subprocess.DEVNULL, **streams)
    finally:
        signal.signal(signal.SIGINT, before)


def in_a_pipe(*arguments: str, **more: str) -> Ended:
    """Run a command whose output goes to a program."""
    process = started(*arguments, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, out.decode(), err.decode())


def _read_all(descriptor: int, into: bytearray) -> None:
    # Linux says EIO when nobody holds the other side any more.
    with suppress(OSError):
        while part := os.read(descriptor, 65536):
            into += part


def at_a_terminal(*arguments: str, width: int = 80, out_is_piped: bool = False, **more: str) -> Ended:
    """Run a command with its output, and its errors, at a terminal each."""
    sides = {"out": pty.openpty(), "err": pty.openpty()}
    written = {name: bytearray() for name in sides}
    readers = []
    for name, (ours, theirs) in sides.items():
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        readers.append(threading.Thread(target=_read_all, args=(ours, written[name])))
    stdout = subprocess.PIPE if out_is_piped else sides["out"][1]
    process = started(*arguments, env=environment(**more), stdout=stdout, stderr=sides["err"][1])
    for reader in readers:
        reader.start()
    for _ours, theirs in sides.values():
        os.close(theirs)
    piped, _ = process.communicate(timeout=PATIENCE)
    for reader in readers:
        reader.join(PATIENCE)
    for ours, _theirs in sides.values():
        os.close(ours)
    text = {name: bytes(part).decode().replace("\r\n", "\n") for name, part in written.items()}
    return Ended(process.returncode, piped.decode() if out_is_piped else text["out"], text["err"])


@pytest.fixture
def clock(open_team: MakeTeam) -> Team:
    """Add a server with tools of every kind, whose words would like to do something to a terminal."""
    long = "Deletes\x1b[2J everything. " + "And says so at length. " * 20
    tools = [
        {**tool("delete_all", long), "annotations": {"destructiveHint": True}},
        {**tool("look", "見るだけのツールです。" * 8), "annotations": {"readOnlyHint": True}},
        {**tool("write", "Writes \u202eerom."), "annotations": {"readOnlyHint": False, "destructiveHint": False}},
        tool("plain", "\n\n  The first line.\nThe second."),
    ]
    return open_team("ada", offering=Offering(tools=tools))


def named(team: Team) -> str:
    return team.server.natural_name()


@pytest.mark.parametrize("width", [40, 60, 120])
def test_a_table_fits_the_terminal_and_is_coloured(clock: Team, width: int) -> None:
    ended = at_a_terminal("list_mcp_tools", "--server", named(clock), width=width)

    plain = STYLE.sub("", ended.out)
    lines = plain.splitlines()
    assert ended.code == 0
    assert STYLE.search(ended.out)
    assert "\x1b" not in plain
    assert max(cells(line) for line in lines) <= width
    assert [line.split()[0] for line in lines[2:6]] == ["delete_all", "look", "write", "plain"]
    assert {line.split()[0]: line.split()[1] for line in lines[2:6]} == {
        "delete_all": "destroys",
        "look": "reads",
        "plain": "The",
        "write": "writes",
    }
    # The columns stand below each other, whatever they hold.
    starts = {cells(line.partition(word)[0]) for line, word in zip(lines[1:3], ("DOES", "Deletes"), strict=True)}
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("arguments", "more"), [((), {"NO_COLOR": "1"}), (("--no-color",), {}), ((), {"TERM": "dumb"})]
)
def test_colours_stay_away_where_somebody_minds(clock: Team, arguments: tuple[str, ...], more: dict[str, str]) -> None:
    given: Any = more
    ended = at_a_terminal("list_mcp_tools", "--server", named(clock), *arguments, **given)

    assert not STYLE.search(ended.out + ended.err)
    assert "delete_all" in ended.out


def test_a_pipe_gets_plain_lines_that_are_not_cut_to_a_terminal(clock: Team) -> None:
    ended = in_a_pipe("list_mcp_tools", "--server", named(clock))

    assert (ended.code, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    assert "\u202e" not in ended.out
    (line,) = [line for line in ended.out.splitlines() if "delete_all" in line]
    assert len(line) > 150


def test_colours_can_be_had_in_a_pipe(clock: Team) -> None:
    assert STYLE.search(in_a_pipe("list_mcp_tools", "--server", named(clock), "--force-color").out)


def test_what_is_going_on_is_said_on_standard_error_and_goes_away(clock: Team) -> None:
    ended = at_a_terminal("list_mcp_tools", "--server", named(clock), "--refresh", "--json", out_is_piped=True)

    assert [found["name"] for found in json.loads(ended.out)["tools"]] == ["delete_all", "look", "write", "plain"]
    assert ended.err == f"{ERASED}Asking {named(clock)}…{ERASED}"


def test_a_diagnosis_says_whom_it_asks_and_fits_a_narrow_terminal(clock: Team) -> None:
    ended = at_a_terminal("check_mcp_server", clock.server.url, width=50)

    assert ended.code == 0
    assert f"Asking {clock.server.url} (server"[:48] in ended.err
    assert ended.err.endswith(ERASED)
    plain = STYLE.sub("", ended.out)
    assert "ok " in plain
    assert STYLE.search(ended.out)
    too_long = [line for line in plain.splitlines() if cells(line) > 50 and "://" not in line]
    assert not too_long


def test_a_pipe_hears_nothing_of_what_is_going_on(clock: Team) -> None:
    assert in_a_pipe("check_mcp_server", clock.server.url).err == ""


def test_what_a_tool_answers_does_nothing_to_the_terminal(
    open_mcp_server: Callable[..., OpenServer], team_of: Any
) -> None:
    at = team_of(open_mcp_server("modern"))
    text = "one\x1b]0;owned\x07\r\n\ttwo \x9b31m three\u202e"

    ended = at_a_terminal("call_mcp_tool", at, "echo", "--user", "ada", "--args", json.dumps({"text": text}))
    as_json = in_a_pipe("call_mcp_tool", at, "echo", "--user", "ada", "--args", json.dumps({"text": text}), "--json")

    assert ended.code == 0
    assert ended.out.splitlines()[0].startswith("one ]0;owned")
    assert ended.out.splitlines()[1].startswith("    two  31m three")
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(ended.out)
    # Programs get what was said, untouched.
    assert json.loads(as_json.out)["result"]["content"][0]["text"] == text


@pytest.fixture
def team_of() -> Callable[[OpenServer], str]:
    """Put a server into ada's workspace; returns what commands call it."""

    def make(peer: OpenServer) -> str:
        workspace = new_workspace()
        member(workspace, "ada")
        return new_server(workspace, peer.url).natural_name()

    return make


def test_a_refusal_is_one_and_a_wrong_command_line_two(clock: Team) -> None:
    refused = in_a_pipe("call_mcp_tool", named(clock), "nothing", "--user", clock.members["ada"].username)
    wrong = in_a_pipe("call_mcp_tool", named(clock))

    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("tool_not_found: ")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--user" in wrong.err


def test_ctrl_c_ends_with_what_shells_expect(clock: Team) -> None:
    clock.offering.open.clear()
    clock.offering.asked.clear()
    process = started(
        "list_mcp_tools", "--server", named(clock), "--refresh", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert clock.offering.asked.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        clock.offering.open.set()

    assert (process.returncode, out, err.decode()) == (130, b"", "Stopped.\n")


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_reader_that_goes_away_is_no_error(clock: Team, as_json: tuple[str, ...]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    process = started("list_mcp_tools", "--server", named(clock), *as_json, stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    _, err = process.communicate(timeout=PATIENCE)

    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples_that_the_command_understands(name: str) -> None:
    command = load_command_class("mcp_oauth", name)
    assert isinstance(command, TypedCommand)
    parser = command.create_parser("manage.py", name)
    shown = parser.format_help()

    assert command.examples
    for line, does in command.examples:
        assert f"  # {does}\n  manage.py {line}\n" in shown
        words = shlex.split(re.split(r" [|<]| 2?>", line.replace("\\\n", " "))[0])
        assert words[0] == name
        parser.parse_args(words[1:])
    assert "exit codes:" in shown
    assert "130" in shown


def test_commands_speak_english_in_every_language_of_the_site() -> None:
    ended = in_a_pipe("list_mcp_tools", "--server", "nowhere/none", LANGUAGE_CODE="de")

    assert ended.code == 1
    assert "Check the name; it may belong to another workspace." in ended.err


def test_where_commands_are_written_down_their_exit_codes_are() -> None:
    text = Path(ROOT / "docs/commands.md").read_text(encoding="utf-8")

    assert all(f"| {code} |" in text for code in (0, 1, 2, 130, 141))
