"""A person's program at a server, as the tests of the JSON API need it."""

from __future__ import annotations

import json
from typing import Any

from tests.people import member, new_server, new_workspace, program_of
from tests.servers import OpenServer

CALLS = "/api/v1/calls/"

Answer = Any


class Desk:
    """A person's program at a server whose tools converse."""

    def __init__(self, peer: OpenServer) -> None:
        self.peer = peer
        self.workspace = new_workspace()
        self.user = member(self.workspace)
        self.server = new_server(self.workspace, peer.url)
        self.program = program_of(self.user, self.workspace)

    def post(self, path: str, body: Any = None) -> Answer:
        return self.program.post(path, json.dumps({} if body is None else body), content_type="application/json")

    def call(self, tool: str, arguments: Any = None, **more: Any) -> Answer:
        path = f"/api/v1/servers/{self.server.pk}/tools/{tool}/call/"
        return self.post(path, {"arguments": arguments or {}, **more})

    def look(self, call_id: object) -> dict[str, Any]:
        found: dict[str, Any] = self.program.get(f"{CALLS}{call_id}/").json()["call"]
        return found

    def resume(self, call_id: object, **body: Any) -> Answer:
        return self.post(f"{CALLS}{call_id}/resume/", body)

    def cancel(self, call_id: object) -> Answer:
        return self.post(f"{CALLS}{call_id}/cancel/")


def refusal(answer: Answer) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error.get("reason") or error.get("field", "")
