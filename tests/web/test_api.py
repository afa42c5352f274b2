"""The JSON API as its callers meet it: who gets where, what the schema promises, and how it refuses."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from jsonschema import Draft202012Validator, FormatChecker

from mcp_oauth import api, call_tool
from mcp_oauth.exceptions import InputRequired
from mcp_oauth.models import ApiToken, McpServer, Membership, ToolCall
from mcp_oauth.services import limits
from mcp_oauth.services.api_tokens import revoke_token
from project.security import CONTENT_SECURITY_POLICY
from tests.people import browser_of, member, new_server, new_workspace, program_of
from tests.servers import OpenServer
from tests.servers.conversing import Conversation

pytestmark = pytest.mark.django_db(transaction=True)

ADMIN = Membership.Role.ADMIN
JSON = "application/json"

Answer = Any
Serve = Callable[..., OpenServer]


def send(client: Client, method: str, path: str, body: Any = None, **more: Any) -> Answer:
    if method == "post":
        return client.post(path, json.dumps({} if body is None else body), content_type=JSON, **more)
    return getattr(client, method)(path, **more)


def address(name: str, server: McpServer, call_id: object = "") -> str:
    of_server, of_call = {"server_id": server.pk}, {"call_id": call_id or uuid.uuid4()}
    wanted: dict[str, dict[str, Any]] = {
        "api_workspace_tools": {"slug": server.workspace.slug},
        "api_call": {**of_server, "name": "echo"},
        "api_prompt": {**of_server, "name": "greeting"},
        **{name: of_call for name in ("api_get_call", "api_resume", "api_cancel")},
    }
    alone = {"api_schema", "api_workspaces", "api_servers", "api_calls"}
    path = reverse(f"mcp_oauth:{name}", kwargs=wanted.get(name) or ({} if name in alone else of_server))
    return f"{path}?uri=notes://today" if name == "api_read_resource" else path


# --- who gets where ---------------------------------------------------------------------------------------------------

CALL = {"arguments": {"text": "Hello"}}
COMPLETION = {"ref": {"type": "ref/prompt", "name": "review"}, "argument": {"name": "language", "value": "p"}}
# Address, method, body: the status for nobody; for a member, an administrator and a member of another workspace with a
# session; for the member's token, for a token of theirs for another workspace they belong to, and for a revoked one.
OF_THE_WORKSPACE = (401, 200, 200, 404, 200, 404, 401)
MATRIX: dict[tuple[str, str], tuple[Any, tuple[int, int, int, int, int, int, int]]] = {
    ("api_schema", "get"): (None, (401, 200, 200, 200, 200, 200, 401)),
    ("api_workspaces", "get"): (None, (401, 200, 200, 200, 200, 200, 401)),
    ("api_servers", "get"): (None, (401, 200, 200, 200, 200, 200, 401)),
    ("api_calls", "get"): (None, (401, 200, 200, 200, 200, 200, 401)),
    ("api_workspace_tools", "get"): (None, OF_THE_WORKSPACE),
    ("api_server", "get"): (None, OF_THE_WORKSPACE),
    ("api_tools", "get"): (None, OF_THE_WORKSPACE),
    ("api_call", "post"): (CALL, OF_THE_WORKSPACE),
    ("api_resources", "get"): (None, OF_THE_WORKSPACE),
    ("api_resource_templates", "get"): (None, OF_THE_WORKSPACE),
    ("api_read_resource", "get"): (None, OF_THE_WORKSPACE),
    ("api_prompts", "get"): (None, OF_THE_WORKSPACE),
    ("api_prompt", "post"): ({}, OF_THE_WORKSPACE),
    ("api_complete", "post"): (COMPLETION, OF_THE_WORKSPACE),
    # A call that waits, of the member; it goes on once.
    ("api_get_call", "get"): (None, (401, 200, 404, 404, 200, 404, 401)),
    ("api_resume", "post"): ({}, (401, 200, 404, 404, 409, 404, 401)),
    ("api_cancel", "post"): ({}, (401, 200, 404, 404, 200, 404, 401)),
}


def test_the_matrix_names_every_operation() -> None:
    assert {name for name, _method in MATRIX} == {pattern.name for pattern in api.urlpatterns} - {"api_docs"}


class House:
    """A workspace with a server whose tools converse, a member with a call that waits, and everybody who may ask."""

    def __init__(self, peer: OpenServer) -> None:
        self.peer = peer
        self.workspace = new_workspace()
        self.server = new_server(self.workspace, peer.url)
        self.member = member(self.workspace)

    def address(self, name: str) -> str:
        """Return where an operation is asked for, by the matrix's member or by others."""
        with pytest.raises(InputRequired) as asked:
            call_tool(self.server, self.member, "sign_contract")
        return address(name, self.server, asked.value.call)

    def callers(self) -> list[Client]:
        """Return everybody of the matrix, in its order."""
        other = new_workspace()
        Membership.objects.create(workspace=other, user=self.member, role=ADMIN)
        revoked = program_of(self.member, self.workspace)
        revoke_token(ApiToken.objects.get())
        return [
            Client(),
            browser_of(self.member),
            browser_of(member(self.workspace, role=ADMIN)),
            browser_of(member(new_workspace(), role=ADMIN)),
            program_of(self.member, self.workspace),
            program_of(self.member, other),
            revoked,
        ]


@pytest.fixture
def house(open_mcp_server: Serve, conversation: Conversation) -> House:
    return House(open_mcp_server(tools=conversation.register))


@pytest.mark.requirement("T39")
@pytest.mark.parametrize(("name", "method"), MATRIX)
def test_each_caller_gets_where_they_may(name: str, method: str, house: House) -> None:
    body, expected = MATRIX[name, method]
    path = house.address(name)

    answers = [send(client, method, path, body) for client in house.callers()]

    assert tuple(answer.status_code for answer in answers) == expected
    for answer in answers:
        assert answer.headers["Content-Type"] == JSON
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        if answer.status_code == 404:
            assert answer.json()["error"]["code"] == "not_found"
            assert house.server.name not in answer.content.decode()
        if answer.status_code == 401:
            assert answer.json()["error"]["code"] == "not_signed_in"
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.requirement("T40")
@pytest.mark.parametrize(("name", "method"), [key for key in MATRIX if key[1] == "post"])
def test_a_session_does_nothing_without_the_csrf_token(name: str, method: str, house: House) -> None:
    path = house.address(name)
    asked = len(house.peer.requests)
    client = Client(enforce_csrf_checks=True)
    client.force_login(house.member)

    answer = send(client, method, path, MATRIX[name, method][0])

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")
    assert "X-CSRFToken" in answer.json()["error"]["next_step"]
    assert len(house.peer.requests) == asked
    assert ToolCall.objects.get().state == "input_required"


@pytest.mark.parametrize(("name", "method"), MATRIX)
def test_another_method_is_refused_in_json(name: str, method: str, house: House) -> None:
    path = house.address(name)
    program = program_of(house.member, house.workspace)

    answer = send(program, "delete", path)
    head = program.head(path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "invalid_request")
    assert method.upper() in answer["Allow"]
    assert head.status_code == (405 if method == "post" else 200)


# --- the schema -------------------------------------------------------------------------------------------------------


class Schema:
    """The OpenAPI document as a program reads it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def operation(self, method: str, path: str) -> dict[str, Any]:
        """Return the one operation that an address belongs to."""
        found = []
        for template, methods in self.document["paths"].items():
            pattern = re.sub(r"\\{name\\}", ".+", re.escape(template))
            pattern = re.sub(r"\\{\w+\\}", "[^/]+", pattern)
            if method in methods and re.fullmatch(pattern, path):
                found.append(methods[method])
        (operation,) = found
        return dict(operation)

    def complaints(self, answer: Answer) -> list[str]:
        """Return what an answer has that the schema does not promise, and lacks that it does."""
        operation = self.operation(answer.request["REQUEST_METHOD"].lower(), answer.request["PATH_INFO"])
        responses = operation["responses"]
        promised = responses.get(str(answer.status_code), responses["default"])["content"][JSON]["schema"]
        whole = {**promised, "components": self.document["components"]}
        validator = Draft202012Validator(whole, format_checker=FormatChecker())
        body = answer.json()
        # What a schema does not name may be in an answer; here it may not, or the schema would be out of date.
        return [error.message for error in validator.iter_errors(body)] + self._unnamed(promised, body, "")

    def _unnamed(self, schema: dict[str, Any], value: Any, place: str) -> list[str]:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return self._unnamed(self.document["components"]["schemas"][name], value, place)
        if "anyOf" in schema:
            options = [option for option in schema["anyOf"] if option.get("type") != "null"]
            return [] if value is None else self._unnamed(options[0], value, place)
        if isinstance(value, list):
            return [line for item in value for line in self._unnamed(schema.get("items", {}), item, f"{place}[]")]
        if not isinstance(value, dict) or schema.get("additionalProperties") or "properties" not in schema:
            return []
        named = schema["properties"]
        return [f"{place}.{name} is not named" for name in value if name not in named] + [
            line
            for name in value
            if name in named
            for line in self._unnamed(named[name], value[name], f"{place}.{name}")
        ]


@pytest.fixture
def schema() -> Schema:
    """Return the schema as a signed-in person gets it."""
    return Schema(browser_of(member()).get("/api/v1/openapi.json").json())


def test_the_schema_is_a_schema(schema: Schema) -> None:
    assert schema.document["openapi"].startswith("3.1")
    for name, described in schema.document["components"]["schemas"].items():
        Draft202012Validator.check_schema(described)
        assert described.get("description"), name
    text = json.dumps(schema.document)
    for reference in set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', text)):
        assert reference in schema.document["components"]["schemas"]
    names = [
        operation["operationId"] for methods in schema.document["paths"].values() for operation in methods.values()
    ]
    assert len(names) == len(set(names))


def test_the_schema_names_every_operation_and_no_other(schema: Schema) -> None:
    described = {(path, method) for path, methods in schema.document["paths"].items() for method in methods}
    served = set()
    for pattern in api.urlpatterns:
        route = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
        served |= {(f"/{route}", method) for name, method in MATRIX if name == pattern.name}

    assert described == {entry for entry in served if entry[0] != "/api/v1/openapi.json"}
    for methods in schema.document["paths"].values():
        for operation in methods.values():
            assert operation["security"] == [{"PersonalToken": []}, {"SessionCookie": []}]


@pytest.mark.parametrize(("name", "method"), [key for key in MATRIX if key[0] != "api_schema"])
def test_real_answers_are_as_the_schema_says(name: str, method: str, house: House, schema: Schema) -> None:
    body, expected = MATRIX[name, method]
    path = house.address(name)

    answers = [send(client, method, path, body) for client in house.callers()]

    assert tuple(answer.status_code for answer in answers) == expected
    assert [schema.complaints(answer) for answer in answers] == [[]] * len(answers)


def test_a_schema_that_is_out_of_date_is_noticed(open_mcp_server: Serve, schema: Schema) -> None:
    workspace = new_workspace()
    new_server(workspace, open_mcp_server().url)
    answer = program_of(member(workspace), workspace).get("/api/v1/servers/")

    described = schema.document["components"]["schemas"]["Server"]
    del described["properties"]["name"]
    described["properties"]["enabled"] = {"type": "string"}
    described["required"].append("colour")

    assert schema.complaints(answer) == [
        "True is not of type 'string'",
        "'colour' is a required property",
        ".servers[].name is not named",
    ]


def test_the_page_describes_every_operation_and_every_error() -> None:
    page = browser_of(member()).get("/api/v1/docs/").content.decode()
    document = browser_of(member()).get("/api/v1/openapi.json").json()

    for path, methods in document["paths"].items():
        assert path.replace("{", "{") in page
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in page
    for code in ("reauth_required", "too_many_requests", "insufficient_scope"):
        assert f"<code>{code}</code>" in page
    assert "<script>" not in page
    assert "style=" not in page


# --- how it refuses ---------------------------------------------------------------------------------------------------


def test_a_query_that_cannot_be_is_named(open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server().url)

    answer = program_of(member(workspace), workspace).get(f"/api/v1/servers/{server.pk}/tools/?refresh=perhaps")

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    assert answer.json()["error"]["field"] == "refresh"


def test_an_unknown_member_of_the_body_is_named(open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server().url)
    program = program_of(member(workspace), workspace)

    answer = send(program, "post", address("api_call", server), {"argumens": {}})

    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "argumens")


def test_a_form_is_no_json(open_mcp_server: Serve) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server().url)

    answer = browser_of(member(workspace)).post(address("api_call", server), {"arguments": "{}"})

    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "The body is not valid JSON.")


@pytest.mark.requirement("T43")
def test_limits_hold_for_a_person_and_not_for_each_of_their_tokens(
    settings: Any, open_mcp_server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_now", lambda: 1_800_000_020.0)
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "CALLS_PER_MINUTE": 3}
    workspace = new_workspace()
    peer = open_mcp_server()
    server = new_server(workspace, peer.url)
    user = member(workspace)
    path = address("api_call", server)

    doors = [browser_of(user), program_of(user, workspace), program_of(user, workspace), program_of(user, workspace)]
    answers = [send(door, "post", path, CALL) for door in doors]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert (answers[3]["Retry-After"], answers[3].json()["error"]["retry_after"]) == ("40", 40)
    assert peer.rpc_methods.count("tools/call") == 3


def test_names_with_slashes_reach_their_tools(open_mcp_server: Serve) -> None:
    def issues() -> str:
        """Return a word."""
        return "three"

    peer = open_mcp_server(tools=lambda mcp: mcp.add_tool(issues, name="list/issues/call"))
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    program = program_of(member(workspace), workspace)

    for name in ("list/issues/call", "list%2Fissues%2Fcall"):
        answer = send(program, "post", f"/api/v1/servers/{server.pk}/tools/{name}/call/")
        assert answer.json()["result"]["content"][0]["text"] == "three"


def test_an_address_that_names_no_server_is_not_found() -> None:
    workspace = new_workspace()
    program = program_of(member(workspace), workspace)

    assert program.get(f"/api/v1/servers/{uuid.uuid4()}/").status_code == 404
    assert program.get("/api/v1/servers/tracker/").status_code == 404
