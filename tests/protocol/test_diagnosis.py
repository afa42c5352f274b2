"""Diagnosing servers that work and servers that do not: each broken rule with its field, source and option."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

from mcp_oauth.exceptions import InvalidServerAddress
from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth, Membership, OAuthRegistration
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.services.diagnosis import Diagnosis, diagnose_address, diagnose_server
from mcp_oauth.services.evidence import Step
from tests.people import browser_of, connect, member, new_server, new_workspace
from tests.servers import (
    AuthorizationServerOptions,
    HeaderServer,
    OddServer,
    OpenServer,
    Person,
    PreregisteredClient,
    ProtectedServer,
    html_fault,
)

pytestmark = pytest.mark.django_db(transaction=True)

Protect = Callable[..., ProtectedServer]
Odd = Callable[[str], OddServer]
Documents = Callable[[Mapping[str, Any]], OddServer]

NO_CIMD = AuthorizationServerOptions(cimd=False)
BY_HAND = AuthorizationServerOptions(cimd=False, dynamic_registration=False)
REDIRECT_URI = "http://127.0.0.1:8000/mcp/oauth/callback/"
PAGE = "<!doctype html><title>Welcome</title>"
WRONG = {"warning", "tolerated", "refused", "error"}


def wrong(diagnosis: Diagnosis, stage: str = "") -> list[tuple[str, str, str]]:
    """Return verdict, field and option of every step that is not as it should be."""
    return [
        (step.verdict, step.field, step.option)
        for step in diagnosis.steps
        if step.verdict in WRONG and stage in {"", step.stage}
    ]


def codes(diagnosis: Diagnosis) -> list[str]:
    """Return the codes of what stands in the way."""
    return [error.code for error in diagnosis.failures]


def fact(diagnosis: Diagnosis, what: str) -> Step:
    """Return the one step of that name."""
    found = [step for step in diagnosis.steps if step.what == what]
    assert len(found) == 1, [step.what for step in diagnosis.steps]
    return found[0]


def requests_of(diagnosis: Diagnosis) -> list[tuple[str, str, int | None, str]]:
    """Return method, path, status and verdict of every request."""
    return [
        (step.method, "/" + step.url.split("/", 3)[3], step.status, step.verdict)
        for step in diagnosis.steps
        if step.method
    ]


def rows() -> list[list[dict[str, Any]]]:
    """Return everything that is stored."""
    models: tuple[Any, ...] = (McpServer, McpServerOAuth, OAuthRegistration, AuthorizationFlow)
    return [list(model.objects.order_by("pk").values()) for model in models]


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the command; returns exit code, standard output and standard error."""
    out, err = StringIO(), StringIO()
    try:
        call_command("check_mcp_server", *arguments, stdout=out, stderr=err)
    except SystemExit as stop:
        return int(str(stop.code)), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


# A server that works.


def test_a_healthy_server_shows_every_step_of_a_connection_with_its_status_and_time(
    protected_mcp_server: Protect,
) -> None:
    peer = protected_mcp_server("modern", as_options=NO_CIMD)

    diagnosis = diagnose_address(peer.url)

    assert requests_of(diagnosis) == [
        ("POST", "/mcp", 401, "challenge"),
        ("GET", "/.well-known/oauth-protected-resource/mcp", 200, "ok"),
        ("GET", "/.well-known/oauth-authorization-server", 200, "ok"),
        ("POST", "/token", 401, "ok"),
    ]
    assert all(isinstance(step.milliseconds, int) for step in diagnosis.steps if step.method)
    assert wrong(diagnosis) == []
    assert diagnosis.failures == ()
    assert (diagnosis.auth_mode, diagnosis.issuer) == ("oauth", peer.issuer)
    assert (diagnosis.registration, diagnosis.token_endpoint_auth_method) == ("dynamic", "none")
    assert diagnosis.redirect_uri == REDIRECT_URI
    assert fact(diagnosis, "challenge").note == (
        f"Bearer, resource_metadata={peer.url.replace('/mcp', '/.well-known/oauth-protected-resource/mcp')}, scope=read"
    )
    said = {step.field: step.note for step in diagnosis.steps if step.stage == "authorization_server" and step.field}
    assert said["issuer"] == peer.issuer
    assert said["token_endpoint"] == f"{peer.issuer}/token"
    assert said["code_challenge_methods_supported"] == "S256"
    assert said["scopes_supported"] == "read, write (without offline_access)"
    assert said["revocation_endpoint"] == f"{peer.issuer}/revoke"
    assert set(said) >= {
        "authorization_endpoint",
        "response_types_supported",
        "grant_types_supported",
        "authorization_response_iss_parameter_supported",
        "token_endpoint_auth_methods_supported",
        "registration_endpoint",
        "client_id_metadata_document_supported",
        "dpop_signing_alg_values_supported",
    }


def test_a_diagnosis_registers_nothing_and_shows_nobody_anything_of_ours(
    protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    client = PreregisteredClient("the-client", "the-client-secret")
    peer = protected_mcp_server("modern", as_options=AuthorizationServerOptions(clients=(client,)))
    workspace = new_workspace()
    user = member(workspace)
    server = new_server(
        workspace,
        peer.url,
        headers={"X-Team": "the-team-key"},
        client_id="the-client",
        client_secret="the-client-secret",
    )
    grant = connect(browser_of(user), server, person("ada"))
    peer.requests.clear()
    peer.authorization_server.requests.clear()

    diagnosis = diagnose_server(McpServer.objects.get())

    assert diagnosis.failures == ()
    seen = [*peer.requests, *peer.authorization_server.requests]
    words = " ".join(f"{request.path} {request.raw_query} {dict(request.headers)} {request.body!r}" for request in seen)
    for secret in ("the-client", "the-team-key", "x-team", grant.access_token, grant.refresh_token):
        assert secret is not None
        assert secret not in words.lower()
    assert all(request.authorization is None and "cookie" not in request.headers for request in seen)
    assert peer.authorization_server.requests_to("/register") == []
    [asked] = peer.authorization_server.requests_to("/token")
    assert set(asked.form) == {"grant_type", "code"}
    assert asked.form["grant_type"] == "authorization_code"
    # Whoever holds a token still does.
    assert all(token.active for token in peer.authorization_server.registry.tokens.values())


def test_a_diagnosis_changes_no_row_but_the_facts_of_the_last_contact(
    protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("modern", as_options=NO_CIMD)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    connect(browser_of(member(workspace)), server, person("ada"))
    McpServer.objects.update(reachable=False, contact_error="It cannot be reached.", contact_error_code="timeout")
    before = rows()

    diagnose_server(McpServer.objects.get())

    after = rows()
    changed = {name for name, value in after[0][0].items() if value != before[0][0][name]}
    assert changed == {"reachable", "contacted_at", "contact_error", "contact_error_code"}
    assert after[1:] == before[1:]
    assert McpServer.objects.get().reachable is True


def test_a_server_that_does_not_answer_is_recorded_as_unreachable(odd_server: Odd) -> None:
    server = new_server(new_workspace(), odd_server("silent").url, auth_mode="oauth")
    McpServer.objects.update(reachable=True, contact_error="", contact_error_code="")

    diagnosis = diagnose_server(McpServer.objects.get(pk=server.pk))

    server.refresh_from_db()
    assert codes(diagnosis) == [server.contact_error_code] == ["server_unreachable"]
    assert server.reachable is False


def test_no_transaction_is_open_while_a_server_is_asked(protected_mcp_server: Protect) -> None:
    server = new_server(new_workspace(), protected_mcp_server("modern").url)
    with CaptureQueriesContext(connection) as queries:
        diagnose_server(server)
    assert not any(query["sql"].startswith(("BEGIN", "SAVEPOINT")) for query in queries.captured_queries)


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_an_open_server_needs_no_more_than_its_contact(open_mcp_server: Callable[..., OpenServer], era: str) -> None:
    diagnosis = diagnose_address(open_mcp_server(era).url)
    assert (diagnosis.auth_mode, diagnosis.failures, wrong(diagnosis)) == ("none", (), [])
    assert {step.stage for step in diagnosis.steps} == {"contact", "protected_resource"}


def test_a_server_with_a_key_is_asked_without_it(header_mcp_server: Callable[..., HeaderServer]) -> None:
    peer = header_mcp_server("X-Api-Key", "the-api-key")
    server = new_server(new_workspace(), peer.url, auth_mode="headers", headers={"X-Api-Key": "the-api-key"})
    peer.requests.clear()

    diagnosis = diagnose_server(server)

    assert (diagnosis.auth_mode, diagnosis.failures) == ("headers", ())
    assert peer.requests
    assert all("x-api-key" not in request.headers for request in peer.requests)
    step = fact(diagnosis, "resource_metadata")
    assert (step.verdict, step.option) == ("absent", "legacy_endpoints")
    assert fact(diagnosis, "challenge").field == "WWW-Authenticate"


# Servers that break one rule each.

AS_METADATA = "/.well-known/oauth-authorization-server"
PRM = "/.well-known/oauth-protected-resource/mcp"


@pytest.mark.parametrize(
    ("overrides", "verdict", "field", "rule", "option"),
    [
        ({"issuer": "https://other.example"}, "refused", "issuer", "RFC 8414 §3.3", "tolerate_issuer_mismatch"),
        ({"issuer": None}, "refused", "issuer", "RFC 8414 §2", ""),
        (
            {"code_challenge_methods_supported": None},
            "refused",
            "code_challenge_methods_supported",
            "RFC 7636 §4.2",
            "tolerate_missing_s256",
        ),
        (
            {"code_challenge_methods_supported": ["plain"]},
            "refused",
            "code_challenge_methods_supported",
            "RFC 7636 §4.2",
            "tolerate_missing_s256",
        ),
        ({"token_endpoint": None}, "refused", "token_endpoint", "RFC 8414 §2", ""),
        ({"token_endpoint": "http://other.example/token"}, "refused", "token_endpoint", "RFC 8414 §2", ""),
        ({"authorization_endpoint": "javascript:alert(1)"}, "refused", "authorization_endpoint", "RFC 8414 §2", ""),
        ({"registration_endpoint": "http://x.example/r"}, "warning", "registration_endpoint", "RFC 8414 §2", ""),
        ({"revocation_endpoint": "https://x.example/r"}, "warning", "revocation_endpoint", "RFC 8414 §2", ""),
        ({"response_types_supported": ["token"]}, "warning", "response_types_supported", "RFC 6749 §4.1.1", ""),
        ({"response_types_supported": None}, "warning", "response_types_supported", "RFC 8414 §2", ""),
        ({"grant_types_supported": ["implicit"]}, "warning", "grant_types_supported", "RFC 8414 §2", ""),
        ({"grant_types_supported": ["authorization_code"]}, "warning", "grant_types_supported", "RFC 6749 §6", ""),
        (
            {"token_endpoint_auth_methods_supported": ["tls_client_auth"]},
            "warning",
            "token_endpoint_auth_methods_supported",
            "RFC 8414 §2",
            "token_endpoint_auth_method",
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_an_authorization_server_says_wrong_is_named_with_its_rule_and_option(
    protected_mcp_server: Protect, overrides: dict[str, Any], verdict: str, field: str, rule: str, option: str
) -> None:
    peer = protected_mcp_server(
        "modern", as_options=AuthorizationServerOptions(metadata_overrides=overrides, metadata_forms=("oauth",))
    )

    diagnosis = diagnose_address(peer.url)

    assert wrong(diagnosis) == [(verdict, field, option)]
    [step] = [step for step in diagnosis.steps if step.verdict in WRONG]
    assert rule in step.rule
    # What the members beside it say is shown all the same.
    assert fact(diagnosis, "dpop_signing_alg_values_supported").verdict == "absent"
    if verdict == "refused":
        assert codes(diagnosis) == ["discovery_failed"]
        assert diagnosis.failures[0].field == field
        assert (step.code, step.url) == ("discovery_failed", f"{peer.issuer}{AS_METADATA}")
        assert peer.authorization_server.requests_to("/token") == []
    else:
        assert diagnosis.failures == ()
    if option.startswith("tolerate"):
        tolerant = diagnose_address(peer.url, OAuthOptions.from_json({option: True}))
        assert wrong(tolerant) == [("tolerated", field, option)]
        assert tolerant.failures == ()


def test_an_endpoint_on_another_host_is_pointed_out_and_no_obstacle(
    protected_mcp_server: Protect, authorization_server: Callable[..., Any]
) -> None:
    elsewhere = authorization_server().base_url.replace("127.0.0.1", "localhost")
    peer = protected_mcp_server(
        "modern", as_options=AuthorizationServerOptions(metadata_overrides={"token_endpoint": f"{elsewhere}/token"})
    )

    diagnosis = diagnose_address(peer.url)

    assert wrong(diagnosis) == [("warning", "token_endpoint", "")]
    assert "the issuer alone vouches for it" in fact(diagnosis, "token_endpoint").rule
    assert diagnosis.failures == ()
    assert [step.url for step in diagnosis.steps if step.method][-1] == f"{elsewhere}/token"


@pytest.mark.parametrize(
    ("overrides", "field", "rule", "option"),
    [
        ({"resource": "https://other.example/mcp"}, "resource", "RFC 9728 §3.3", "tolerate_resource_mismatch"),
        ({"resource": None}, "resource", "RFC 9728 §2", ""),
        ({"authorization_servers": None}, "authorization_servers", "RFC 9728 §2", ""),
        ({"authorization_servers": ["http://as.example"]}, "authorization_servers", "RFC 9728 §2", ""),
        ({"authorization_servers": ["https://as.example?x=1"]}, "authorization_servers", "RFC 8414 §2", ""),
    ],
    ids=str,
)
def test_what_a_server_says_wrong_about_itself_is_named_with_its_rule_and_option(
    protected_mcp_server: Protect, overrides: dict[str, Any], field: str, rule: str, option: str
) -> None:
    peer = protected_mcp_server("modern", resource_options={"metadata_overrides": overrides})

    diagnosis = diagnose_address(peer.url)

    assert wrong(diagnosis) == [("refused", field, option)]
    [step] = [step for step in diagnosis.steps if step.verdict in WRONG]
    assert (step.stage, step.code, step.status) == ("protected_resource", "discovery_failed", 200)
    assert rule in step.rule
    assert codes(diagnosis) == ["discovery_failed"]
    if option:
        # The way goes on with what the document names.
        assert fact(diagnosis, "issuer").note == peer.issuer
        tolerant = diagnose_address(peer.url, OAuthOptions.from_json({option: True}))
        assert wrong(tolerant) == [("tolerated", field, option)]
        assert tolerant.failures == ()


def test_several_broken_rules_of_one_document_are_all_told(protected_mcp_server: Protect) -> None:
    overrides = {"issuer": "https://other.example", "token_endpoint": None, "code_challenge_methods_supported": None}
    peer = protected_mcp_server(
        "modern", as_options=AuthorizationServerOptions(metadata_overrides=overrides, metadata_forms=("oauth",))
    )

    diagnosis = diagnose_address(peer.url)

    assert wrong(diagnosis) == [
        ("refused", "issuer", "tolerate_issuer_mismatch"),
        ("refused", "token_endpoint", ""),
        ("refused", "code_challenge_methods_supported", "tolerate_missing_s256"),
    ]
    assert len(diagnosis.failures) == 1


@pytest.mark.parametrize("body", [HTMLResponse(PAGE), b"", b"[]", b"{"], ids=["html", "empty", "list", "broken"])
@pytest.mark.parametrize("where", ["resource", "authorization_server"])
def test_a_document_that_is_no_json_object_is_named(document_server: Documents, where: str, body: Any) -> None:
    documents: dict[str, Any] = {}
    peer = document_server(documents)
    challenge = {"www-authenticate": f'Bearer resource_metadata="{peer.base_url}{PRM}"'}
    documents["/mcp"] = JSONResponse({}, status_code=401, headers=challenge)
    documents[PRM] = {"resource": peer.url, "authorization_servers": [peer.base_url]}
    broken = PRM if where == "resource" else AS_METADATA
    documents[broken] = body

    diagnosis = diagnose_address(peer.url)

    [step] = [step for step in diagnosis.steps if step.verdict in WRONG]
    assert (step.url, step.field, step.option) == (f"{peer.base_url}{broken}", "body", "")
    assert step.rule.startswith("RFC 9728 §3.2" if where == "resource" else "RFC 8414 §3.2")
    assert step.next_step
    assert codes(diagnosis) == ["discovery_failed"]
    assert {request.method for request in peer.requests if request.path != "/mcp"} == {"GET"}


def test_an_error_at_one_form_of_address_is_shown_and_no_obstacle_where_another_form_serves(
    protected_mcp_server: Protect,
) -> None:
    def fail(parameters: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes] | None:
        return (500, {"content-type": "text/plain"}, b"oops") if parameters["path"] == AS_METADATA else None

    peer = protected_mcp_server("modern", as_options=AuthorizationServerOptions(metadata_faults=fail))

    diagnosis = diagnose_address(peer.url)

    asked = [step for step in requests_of(diagnosis) if "openid" in step[1] or "authorization-server" in step[1]]
    assert [(status, verdict) for _method, _path, status, verdict in asked] == [(500, "refused"), (200, "ok")]
    assert wrong(diagnosis) == [("refused", "status", "")]
    assert diagnosis.failures == ()


def test_an_authorization_server_that_is_broken_is_named_by_every_address_it_was_asked_at(
    protected_mcp_server: Protect,
) -> None:
    peer = protected_mcp_server(
        "modern", as_options=AuthorizationServerOptions(metadata_faults=lambda parameters: html_fault(500))
    )

    diagnosis = diagnose_address(peer.url)

    assert wrong(diagnosis) == [("refused", "status", ""), ("refused", "status", "")]
    assert codes(diagnosis) == ["discovery_failed"]
    assert all(step.rule.startswith("RFC 8414 §3.2") for step in diagnosis.steps if step.verdict == "refused")
    assert peer.authorization_server.requests_to("/token") == []


def test_an_issuer_that_publishes_nothing_is_said_so(protected_mcp_server: Protect) -> None:
    peer = protected_mcp_server("modern", as_options=AuthorizationServerOptions(metadata_forms=()))

    diagnosis = diagnose_address(peer.url)

    assert codes(diagnosis) == ["discovery_failed"]
    assert fact(diagnosis, "metadata").rule.startswith("RFC 8414 §3:")
    assert peer.authorization_server.requests_to("/token") == []


@pytest.mark.parametrize(
    ("kind", "code", "field", "rule"),
    [
        ("html", "server_refused", "body", "MCP transports"),
        ("http500", "server_refused", "body", "MCP transports"),
        ("ok_to_everything", "server_refused", "body", "MCP transports"),
        ("silent", "server_unreachable", "", "RFC 9110 §3.4"),
    ],
)
def test_what_is_no_mcp_server_is_told_by_its_first_contact(
    odd_server: Odd, kind: str, code: str, field: str, rule: str
) -> None:
    peer = odd_server(kind)

    diagnosis = diagnose_address(peer.url)

    assert codes(diagnosis) == [code]
    [step] = [step for step in diagnosis.steps if step.stage == "contact" and step.rule]
    assert (step.code, step.field, step.option) == (code, field, "")
    assert step.rule.startswith(rule)
    assert step.next_step


def test_a_redirect_to_another_origin_is_not_followed_and_told(
    document_server: Documents, open_mcp_server: Callable[..., OpenServer]
) -> None:
    bait = open_mcp_server()
    peer = document_server({"/mcp": RedirectResponse(bait.url, status_code=307)})

    diagnosis = diagnose_address(peer.url)

    assert codes(diagnosis) == ["redirect_refused"]
    step = diagnosis.steps[0]
    assert (step.verdict, step.field, step.option) == ("error", "Location", "")
    assert step.rule.startswith("A redirect stays within the origin")
    assert bait.requests == []


def test_an_authorization_server_in_a_private_network_is_not_dialled_and_that_is_told(
    protected_mcp_server: Protect,
) -> None:
    peer = protected_mcp_server("modern")
    peer.configure(authorization_servers=("https://10.0.0.1",))

    diagnosis = diagnose_address(peer.url)

    late = [step for step in diagnosis.steps if step.stage == "authorization_server"]
    assert {(step.verdict, step.code, step.option) for step in late} == {("error", "address_blocked", "")}
    assert all(step.rule.startswith("Only public addresses") for step in late)
    assert codes(diagnosis) == ["discovery_failed"]


@contextmanager
def deaf_server() -> Iterator[str]:
    """Let the system take connections that nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_diagnosis_ends_when_its_time_is_over_and_says_what_was_not_asked(
    settings: Settings, document_server: Documents
) -> None:
    settings.MCP_OAUTH = {**settings.MCP_OAUTH, "DIAGNOSIS_SECONDS": 1.0}
    with deaf_server() as issuer:
        documents: dict[str, Any] = {}
        peer = document_server(documents)
        documents["/mcp"] = JSONResponse(
            {}, status_code=401, headers={"www-authenticate": f'Bearer resource_metadata="{peer.base_url}{PRM}"'}
        )
        documents[PRM] = {"resource": peer.url, "authorization_servers": [issuer]}

        diagnosis = diagnose_address(peer.url)

    late = [step for step in diagnosis.steps if step.verdict == "error"]
    assert [step.code for step in late] == ["timeout", "timeout"]
    # The first one took what was left; the second was not asked any more.
    assert sum(step.milliseconds or 0 for step in diagnosis.steps) < 3000
    assert late[1].milliseconds == 0
    assert codes(diagnosis) == ["discovery_failed"]


# Which client, and how it proves itself.


def test_a_server_that_registers_nobody_leads_to_the_redirect_uri_and_the_place_for_the_client_id(
    protected_mcp_server: Protect,
) -> None:
    peer = protected_mcp_server("modern", as_options=BY_HAND)
    server = new_server(new_workspace("acme"), peer.url)

    diagnosis = diagnose_server(server)

    assert codes(diagnosis) == ["registration_required"]
    step = fact(diagnosis, "client")
    assert (step.verdict, step.field, step.option) == ("refused", "registration_endpoint", "")
    assert step.rule.startswith("RFC 8414 §2")
    assert REDIRECT_URI in step.next_step
    assert f"/workspaces/acme/mcp/{server.pk}/edit/" in step.next_step
    assert (diagnosis.registration, diagnosis.redirect_uri) == ("", REDIRECT_URI)
    # Whether the token endpoint answers is worth knowing all the same.
    assert len(peer.authorization_server.requests_to("/token")) == 1


def test_a_client_entered_by_hand_is_used_and_its_issuer_stays_open(protected_mcp_server: Protect) -> None:
    clients = (PreregisteredClient("the-client", "the-client-secret"),)
    options = AuthorizationServerOptions(cimd=False, dynamic_registration=False, clients=clients)
    peer = protected_mcp_server("modern", as_options=options)
    server = new_server(new_workspace(), peer.url, client_id="the-client", client_secret="the-client-secret")

    diagnosis = diagnose_server(server)

    assert diagnosis.failures == ()
    assert (diagnosis.registration, diagnosis.token_endpoint_auth_method) == ("preregistered", "client_secret_post")
    assert "the-client" in fact(diagnosis, "client").note
    # Only a connection binds the client to an issuer.
    assert McpServer.objects.get().client_issuer == ""
    assert "the-client-secret" not in json.dumps(diagnosis.as_json())


def test_a_client_of_another_issuer_is_told(protected_mcp_server: Protect) -> None:
    peer = protected_mcp_server("modern", as_options=BY_HAND)
    server = new_server(
        new_workspace(),
        peer.url,
        client_id="the-client",
        client_secret="the-client-secret",
        client_issuer="https://old.example",
    )

    diagnosis = diagnose_server(server)

    assert codes(diagnosis) == ["configuration_error"]
    assert (fact(diagnosis, "client").field, fact(diagnosis, "client").verdict) == ("issuer", "refused")


def test_a_metadata_document_is_preferred_where_it_is_read(protected_mcp_server: Protect) -> None:
    diagnosis = diagnose_address(protected_mcp_server("modern").url)
    assert (diagnosis.registration, diagnosis.token_endpoint_auth_method) == ("cimd", "none")
    assert "http://127.0.0.1:8000/mcp/oauth/client.json" in fact(diagnosis, "client").note


def test_registrations_are_shown_and_a_forgotten_one_leads_to_another(
    protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server(
        "modern",
        as_options=AuthorizationServerOptions(
            cimd=False, client_secret_seconds=3600, token_endpoint_auth_methods=("client_secret_basic",)
        ),
    )
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    grant = connect(browser_of(member(workspace)), server, person("ada"))
    peer.authorization_server.requests.clear()

    registered = diagnose_server(server)
    OAuthRegistration.objects.update(forgotten_at=timezone.now())
    forgotten = diagnose_server(server)

    step = fact(registered, "registered client")
    assert grant.client_id in step.note
    assert "Its secret expires on" in step.note
    assert registered.token_endpoint_auth_method == "client_secret_basic"
    assert "no longer knows it" in fact(forgotten, "earlier client").note
    assert fact(forgotten, "client").verdict == "ok"
    assert forgotten.failures == ()
    assert len(peer.authorization_server.clients) == 1


def test_a_registration_of_another_workspace_is_not_shown(
    protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("modern", as_options=NO_CIMD)
    first, second = new_workspace(), new_workspace()
    grant = connect(browser_of(member(first)), new_server(first, peer.url), person("ada"))

    diagnosis = diagnose_server(new_server(second, peer.url))

    assert grant.client_id not in json.dumps(diagnosis.as_json())


def test_a_server_that_is_opened_without_asking_anybody_needs_its_grant_type(protected_mcp_server: Protect) -> None:
    client = PreregisteredClient("robot", "the-robot-secret")
    overrides = {"grant_types_supported": ["authorization_code", "refresh_token"]}
    peer = protected_mcp_server(
        "modern", as_options=AuthorizationServerOptions(clients=(client,), metadata_overrides=overrides)
    )
    server = new_server(
        new_workspace(),
        peer.url,
        auth_mode="client_credentials",
        client_id="robot",
        client_secret="the-robot-secret",
    )

    diagnosis = diagnose_server(server)

    assert wrong(diagnosis) == [("warning", "grant_types_supported", "")]
    assert "client_credentials may not be granted" in fact(diagnosis, "grant_types_supported").note
    assert (diagnosis.registration, diagnosis.token_endpoint_auth_method) == ("preregistered", "client_secret_post")


# The token endpoint.


@pytest.mark.parametrize(
    ("status", "media_type", "body", "code", "field"),
    [
        (400, "application/json", b'{"error": "invalid_grant"}', "", ""),
        (403, "application/json", b'{"error": "invalid_grant"}', "", ""),
        (200, "application/json", b'{"error": "bad_verification_code"}', "", ""),
        (400, "application/json", b'{"error": {"code": "invalid_request"}}', "", ""),
        (200, "text/html", PAGE.encode(), "token_request_failed", "body"),
        (404, "application/json", b'{"error": "not_found"}', "token_request_failed", "status"),
        (405, "text/plain", b"", "token_request_failed", "status"),
        (401, "text/plain", b"", "token_request_failed", "body"),
        (200, "application/json", b'{"access_token": "a-token"}', "token_request_failed", "error"),
        (500, "text/html", PAGE.encode(), "token_endpoint_unavailable", "status"),
        (429, "application/json", b'{"error": "slow_down"}', "token_endpoint_unavailable", "status"),
    ],
)
def test_a_token_endpoint_is_known_by_how_it_refuses(
    protected_mcp_server: Protect, status: int, media_type: str, body: bytes, code: str, field: str
) -> None:
    def answer(form: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
        return status, {"content-type": media_type}, body

    peer = protected_mcp_server("modern", as_options=AuthorizationServerOptions(token_faults=answer))

    diagnosis = diagnose_address(peer.url)

    assert codes(diagnosis) == ([code] if code else [])
    assert wrong(diagnosis) == ([("refused", field, "")] if code else [])
    step = diagnosis.steps[-1]
    assert (step.method, step.status, step.url) == ("POST", status, f"{peer.issuer}/token")
    assert step.rule.startswith("RFC 6749 §5.2") == bool(code)
    assert len(peer.authorization_server.requests_to("/token")) == 1
    assert "a-token" not in json.dumps(diagnosis.as_json())


# A server of the 2025-03-26 revision.


def test_a_server_that_publishes_nothing_can_be_tried_as_one_of_the_first_revision(
    protected_mcp_server: Protect,
) -> None:
    peer = protected_mcp_server(
        "modern",
        as_options=AuthorizationServerOptions(metadata_forms=()),
        same_origin=True,
        metadata_at=(),
        challenge="bare",
    )
    server = new_server(new_workspace(), peer.url, auth_mode="oauth")

    strict = diagnose_server(server)
    legacy = diagnose_server(server, OAuthOptions(legacy_endpoints=True))

    assert codes(strict) == ["discovery_failed"]
    step = fact(strict, "resource_metadata")
    assert (step.verdict, step.option) == ("refused", "legacy_endpoints")
    assert "RFC 9728 §3" in step.rule
    assert legacy.failures == ()
    assert (fact(legacy, "metadata").verdict, fact(legacy, "metadata").option) == ("tolerated", "legacy_endpoints")
    assert legacy.steps[-2].url == f"{peer.issuer}/token"
    assert len(peer.authorization_server.requests_to("/token")) == 1


# Whose grants exist.


def test_grants_are_counted_by_what_is_the_matter_with_them(
    protected_mcp_server: Protect, person: Callable[..., Person]
) -> None:
    peer = protected_mcp_server("modern", as_options=NO_CIMD)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    grants = [connect(browser_of(member(workspace)), server, person("ada")) for _ in range(4)]
    revoked, over, renewable, _good = grants
    past = timezone.now() - timedelta(hours=1)
    McpServerOAuth.objects.filter(pk=revoked.pk).update(state="needs_reauthorization", reason="revoked")
    McpServerOAuth.objects.filter(pk=over.pk).update(expires_at=past, refresh_token=None)
    McpServerOAuth.objects.filter(pk=renewable.pk).update(expires_at=past)

    diagnosis = diagnose_server(server)

    assert diagnosis.grants is not None
    assert diagnosis.grants.as_json() == {"active": 2, "needs_reconnecting": {"revoked": 1, "expired": 1}}
    assert fact(diagnosis, "grants").verdict == "warning"
    assert diagnosis.failures == ()
    text = json.dumps(diagnosis.as_json())
    assert not any(token in text for grant in grants for token in (grant.access_token or "", grant.refresh_token or ""))


def test_a_kind_that_was_found_out_and_no_longer_fits_is_pointed_out(protected_mcp_server: Protect) -> None:
    peer = protected_mcp_server("modern", as_options=NO_CIMD)
    server = new_server(new_workspace(), peer.url)
    peer.configure(metadata_at=(), challenge="nothing")

    diagnosis = diagnose_server(server)

    assert diagnosis.kind_differs
    assert fact(diagnosis, "kind of authorization").verdict == "warning"
    assert McpServer.objects.get().auth_mode == "oauth"


# The command.


def test_the_command_prints_one_line_a_step_within_a_hundred_columns(protected_mcp_server: Protect) -> None:
    peer = protected_mcp_server("modern", as_options=NO_CIMD)

    code, out, err = run(peer.url)

    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert all(len(line) <= 100 for line in lines if "resource_metadata=" not in line)
    [token_line] = [line for line in lines if f"POST {peer.issuer}/token" in line]
    assert token_line.split()[:3:2] == ["ok", token_line.split()[2]]
    assert token_line.split()[1] == "401"
    assert token_line.split()[3] == "ms"
    assert not any(line.split()[:1] in (["field"], ["rule"], ["option"], ["next"]) for line in lines)
    assert lines[-1] == f"Uses OAuth; people sign in at {peer.issuer}."


def test_the_command_tells_what_is_wrong_with_which_rule_and_option_and_exits_with_one(
    protected_mcp_server: Protect,
) -> None:
    overrides = {"issuer": "https://other.example"}
    peer = protected_mcp_server("modern", as_options=AuthorizationServerOptions(metadata_overrides=overrides))

    code, out, err = run(peer.url)

    assert code == 1
    lines = [line.strip() for line in out.splitlines()]
    # Two documents break the rule; its details are told once.
    assert lines.count("field   issuer") == 1
    assert lines.count("option  tolerate_issuer_mismatch") == 1
    assert sum(line.startswith("refused") for line in lines) == 2
    assert "rule    RFC 8414 §3.3: issuer must equal the identifier that was asked" in lines
    assert err.startswith("discovery_failed: ")
    assert run(peer.url, "--option", "tolerate_issuer_mismatch=true")[0] == 0


def test_the_command_as_json_holds_everything_and_the_first_failure(protected_mcp_server: Protect) -> None:
    peer = protected_mcp_server("modern", as_options=BY_HAND)
    server = new_server(new_workspace("acme"), peer.url)

    by_name = run("acme/tracker", "--json")
    by_id = run(str(server.pk), "--json")

    assert (by_name[0], by_id[0]) == (1, 1)
    document = json.loads(by_name[1])
    assert document["error"]["code"] == "registration_required"
    assert document["error"]["field"] == "registration_endpoint"
    assert (document["server"], document["url"], document["ok"]) == ("acme/tracker", peer.url, False)
    assert document["grants"] == {"active": 0, "needs_reconnecting": {}}
    keys = {"method", "url", "what", "status", "verdict", "note", "milliseconds", "stage", "code"}
    keys |= {"field", "rule", "option", "next_step"}
    assert all(set(step) == keys for step in document["steps"])
    assert [step["stage"] for step in document["steps"] if step["method"]] == [
        "contact",
        "protected_resource",
        "authorization_server",
        "token_endpoint",
    ]
    assert "error" not in json.loads(run(protected_mcp_server("modern").url, "--json")[1])


def test_an_option_to_try_is_not_stored(protected_mcp_server: Protect) -> None:
    overrides = {"code_challenge_methods_supported": None}
    peer = protected_mcp_server("modern", as_options=AuthorizationServerOptions(metadata_overrides=overrides))
    new_server(new_workspace("acme"), peer.url, options={"prompt": "login"})

    assert run("acme/tracker")[0] == 1
    assert run("acme/tracker", "--option", "tolerate_missing_s256=yes")[0] == 0

    assert McpServer.objects.get().oauth_options == {"prompt": "login"}


def test_what_cannot_be_asked_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidServerAddress):
        diagnose_address("http://example.com/mcp")
    code, out, err = run("nobody/nothing", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "not_found")
    assert err.startswith("not_found: ")
    with pytest.raises(CommandError) as refused:
        run("https://example.com/mcp", "--option", "nonsense=1")
    assert refused.value.returncode == 2


# The page.


def diagnose_page(server: McpServer) -> str:
    return f"/workspaces/{server.workspace.slug}/mcp/{server.pk}/diagnose/"


def test_an_administrator_diagnoses_from_the_servers_page(protected_mcp_server: Protect) -> None:
    overrides = {"issuer": "https://other.example"}
    peer = protected_mcp_server("modern", as_options=AuthorizationServerOptions(metadata_overrides=overrides))
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    client = browser_of(member(workspace, role=Membership.Role.ADMIN))
    page = diagnose_page(server)
    server_page = client.get(page.removesuffix("diagnose/")).content.decode()
    peer.authorization_server.requests.clear()

    assert f'formaction="{page}"' in server_page
    client.get(page)
    assert peer.authorization_server.requests == []
    response = client.post(page)

    text = response.content.decode()
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert "1 thing stands in the way" in text
    assert "RFC 8414 §3.3: issuer must equal the identifier that was asked for" in text
    assert "<code>tolerate_issuer_mismatch</code>" in text
    assert f"<code>{peer.issuer}{AS_METADATA}</code>" in text
    assert "For the same reason." in text  # of the second document
    assert OAuthRegistration.objects.count() == 0


def test_a_page_of_a_server_that_works_says_so_and_registers_nothing(protected_mcp_server: Protect) -> None:
    peer = protected_mcp_server("modern", as_options=NO_CIMD)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)

    text = browser_of(member(workspace, role=Membership.Role.ADMIN)).post(diagnose_page(server)).content.decode()

    assert "Nothing stands in the way" in text
    assert 'role="alert"' not in text
    assert REDIRECT_URI in text
    assert peer.authorization_server.requests_to("/register") == []
    assert OAuthRegistration.objects.count() == 0


def test_members_neither_see_the_diagnosis_nor_start_one(protected_mcp_server: Protect) -> None:
    peer = protected_mcp_server("modern")
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    client = browser_of(member(workspace))
    page = diagnose_page(server)
    peer.authorization_server.requests.clear()

    assert "Diagnose" not in client.get(page.removesuffix("diagnose/")).content.decode()
    assert "Diagnose" not in client.get(f"/workspaces/{workspace.slug}/mcp/").content.decode()
    assert [client.get(page).status_code, client.post(page).status_code] == [403, 403]
    assert browser_of(member(new_workspace(), role=Membership.Role.ADMIN)).post(page).status_code == 404
    assert peer.authorization_server.requests == []


def test_a_kind_that_no_longer_fits_is_found_out_again_from_the_page(protected_mcp_server: Protect) -> None:
    peer = protected_mcp_server("modern", as_options=NO_CIMD)
    workspace = new_workspace()
    server = new_server(workspace, peer.url)
    peer.configure(metadata_at=(), challenge="nothing")
    client = browser_of(member(workspace, role=Membership.Role.ADMIN))

    assert "Find out again" in client.post(diagnose_page(server)).content.decode()
    response = client.post(diagnose_page(server).replace("diagnose/", "refresh/"), {"probe": "1"}, follow=True)

    assert response.redirect_chain[0][0] == diagnose_page(server)
    assert McpServer.objects.get().auth_mode == "headers"


def test_words_of_a_server_are_text_on_the_page(document_server: Documents) -> None:
    documents: dict[str, Any] = {}
    peer = document_server(documents)
    challenge = f'Bearer resource_metadata="{peer.base_url}{PRM}", error_description="<script>alert(1)</script>"'
    documents["/mcp"] = JSONResponse({}, status_code=401, headers={"www-authenticate": challenge})
    documents[PRM] = {"resource": peer.url, "authorization_servers": [peer.base_url], "scopes_supported": ["<b>x</b>"]}
    documents[AS_METADATA] = {"issuer": "https://<script>alert(2)</script>", "scopes_supported": ["<i>y</i>"]}
    workspace = new_workspace()
    server = new_server(workspace, peer.url, auth_mode="oauth")

    text = browser_of(member(workspace, role=Membership.Role.ADMIN)).post(diagnose_page(server)).content.decode()

    assert "&lt;script&gt;alert(1)" in text
    assert not any(markup in text for markup in ("<script>alert", "<b>x", "<i>y"))
