"""Writes servers as an ``mcp.json``, in the forms of Claude, VS Code and Cursor, without a header's value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Literal, get_args

Form = Literal["claude", "vscode", "cursor"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)


@dataclass(frozen=True, slots=True)
class ExportedServer:
    """What is exported of a server: never a header's value."""

    slug: str
    url: str
    header_names: tuple[str, ...] = ()


def write_mcp_json(servers: Iterable[ExportedServer], form: Form) -> str:
    """Return the servers as an ``mcp.json``; where a header's value would stand, there is a placeholder."""
    written: dict[str, Any] = {}
    inputs: list[dict[str, Any]] = []
    names: set[str] = set()

    def own(name: str, joint: str) -> str:
        """Return the name, numbered if another header has it: two secrets never share a placeholder."""
        numbered = (name if number == 1 else f"{name}{joint}{number}" for number in count(1))
        names.add(free := next(text for text in numbered if text not in names))
        return free

    for server in servers:
        headers: dict[str, str] = {}
        for name in server.header_names:
            if form == "vscode":
                key = own(f"{server.slug}-{name}".lower(), "-")
                inputs.append(
                    {"id": key, "type": "promptString", "description": f"{name} · {server.slug}", "password": True}
                )
                headers[name] = f"${{input:{key}}}"
            else:
                variable = own(re.sub(r"[^A-Z0-9]+", "_", f"{server.slug}_{name}".upper()), "_")
                headers[name] = f"${{env:{variable}}}" if form == "cursor" else f"${{{variable}}}"
        written[server.slug] = {
            **({} if form == "cursor" else {"type": "http"}),
            "url": server.url,
            **({"headers": headers} if headers else {}),
        }
    document: dict[str, Any] = {"servers" if form == "vscode" else "mcpServers": written}
    if inputs:
        document = {"inputs": inputs, **document}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
