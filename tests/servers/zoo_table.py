"""Writes docs/hostile-servers.md: which error comes out where a hostile server is met.

``python -m tests.servers.zoo_table`` writes the page from ``tests/servers/zoo.json``, which the tests compare with
what really comes out. ``--record`` meets all animals first and writes that file; read its changes before keeping them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.servers.hostile import ANIMALS, ENTRIES, Animal, Entry

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "hostile-servers.md"
OUTCOMES: Final = Path(__file__).with_name("zoo.json")
_RECORD: Final = "MCP_OAUTH_TEST_RECORD_ZOO"

_TITLES: Final[Mapping[Entry, str]] = {
    "call_tool": "call",
    "list_tools": "list",
    "add_server": "add",
    "resource_metadata": "start: resource metadata",
    "server_metadata": "start: server metadata",
    "register": "start: registration",
    "callback": "callback",
    "refresh": "refresh",
    "disconnect": "disconnect",
    "check_mcp_server": "check",
}
_BEFORE: Final = """\
# Hostile servers

Everything a server says is input from strangers. Each line below is a server that misbehaves in one way, on a real
socket, and each column a way to meet it; the cell is the code of the error that comes out ([errors.md](errors.md)).
`tests/protocol/test_zoo.py` meets all of them. It also holds that, whatever the cell says, nobody but the server itself
is contacted, no secret is in an error, a page or a log, a call to another server goes through meanwhile, memory stays
within twice the limit for answers, the log within a few hundred lines, and the event loop does not stop for more than
50 milliseconds.

| column | where the server misbehaves |
|---|---|
| call | at the MCP endpoint, when a tool is run whose listing is known |
| list | at the MCP endpoint, when tools are listed |
| add | at the MCP endpoint, when the server is added |
| start: … | in one of the three documents and answers that pressing Connect needs |
| callback | at the token endpoint, when the code is exchanged |
| refresh | at the token endpoint, when a call needs a new token |
| disconnect | at the revocation endpoint; the grant is forgotten here whatever it answers, and the cell is what the \
record says: `confirmed`, `refused` (it answered, and not with 200) or the code of an error |
| check | everywhere at once, under `check_mcp_server` |

`works` means that the misbehaviour changes nothing, and after `add` stands the kind of authorization that was found.
`—` stands where a server cannot misbehave like this, with the reason below the table. A name that changes its address
between the check and the connection is met in `tests/unit/net/test_transport.py`, beneath all of this.

<!-- table: written by python -m tests.servers.zoo_table -->
"""


def load_outcomes() -> dict[str, dict[str, str]]:
    """Return what is expected to come out, by animal and entry."""
    text = OUTCOMES.read_text(encoding="utf-8") if OUTCOMES.exists() else "{}"
    outcomes: dict[str, dict[str, str]] = json.loads(text)
    return outcomes


def recorder(name: str, outcomes: Mapping[str, str]) -> bool:
    """Keep what came out if this run is for that; return whether it is."""
    folder = os.environ.get(_RECORD, "")
    if folder:
        Path(folder, f"{name}.json").write_text(json.dumps(outcomes), encoding="utf-8")
    return bool(folder)


def rendered() -> str:
    """Return the whole page."""
    outcomes = load_outcomes()
    header = "| server | " + " | ".join(_TITLES.values()) + " |"
    lines = [header, "|---" * (len(_TITLES) + 1) + "|"]
    lines += [_line(animal, outcomes.get(name, {})) for name, animal in sorted(ANIMALS.items())]
    sentences = [f"- **{name}**: {animal.sentence}{_reason(animal)}" for name, animal in sorted(ANIMALS.items())]
    return "\n".join([_BEFORE, *lines, "", "## What each of them does", "", *sentences, ""])


def _line(animal: Animal, outcomes: Mapping[str, str]) -> str:
    cells = [f"`{outcomes[entry]}`" if entry in outcomes else "—" for entry in ENTRIES]
    return f"| {animal.name} | " + " | ".join(cells) + " |"


def _reason(animal: Animal) -> str:
    return f" (— elsewhere: {animal.elsewhere}.)" if animal.elsewhere else ""


def record() -> int:
    """Meet every animal and write down what came out; return the tests' exit code."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "-k", "animal", "tests/protocol/test_zoo.py"]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, _RECORD: folder}, check=False)
        found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).iterdir()}
    kept = load_outcomes()
    outcomes = {name: {**kept, **found}[name] for name in sorted(ANIMALS) if name in kept or name in found}
    OUTCOMES.write_text(json.dumps(outcomes, indent=1) + "\n", encoding="utf-8")
    return done.returncode


def main() -> int:
    """Write the page."""
    code = record() if "--record" in sys.argv[1:] else 0
    DOCUMENT.write_text(rendered(), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
