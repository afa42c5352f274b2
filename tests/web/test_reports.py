"""Django's report of a crash, which goes to administrators by mail: no secret that a view handled is in it."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.signals import got_request_exception
from django.utils import timezone
from django.views.debug import ExceptionReporter

from mcp_oauth.models import McpServer, McpServerOAuth, Membership
from mcp_oauth.services import api_tokens, callbacks, connections, limits, wire
from mcp_oauth.sessions import client as sessions
from tests.people import browser_of, come_back, connect, member, new_server, new_workspace, program_of, start
from tests.servers import AuthorizationServerOptions, OpenServer, PreregisteredClient, ProtectedServer
from tests.servers.person import Person
from tests.web.test_admin import administrator, filled, page

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("T41")]

SECRET = "the-secret-an-administrator-entered"
KEY = "the-key-an-administrator-entered"
CLIENT = AuthorizationServerOptions(clients=(PreregisteredClient("app", SECRET),), dynamic_registration=False)


class Crash(Exception):
    """What no view expects."""


def crash(*_: Any, **__: Any) -> Any:
    raise Crash


@pytest.fixture
def report_of() -> Iterator[Callable[[Callable[[], Any]], str]]:
    """Return both forms of the report that Django makes of a request that crashes."""
    reports: list[str] = []

    def mail(request: Any, **_: Any) -> None:
        # As the handler that mails them does: from the view's own stack, before the test client raises it again.
        reporter = ExceptionReporter(request, *sys.exc_info())
        reports.append(reporter.get_traceback_text() + reporter.get_traceback_html())

    def report(ask: Callable[[], Any]) -> str:
        with pytest.raises(Crash):
            ask()
        assert "raise Crash" in reports[-1]
        return reports[-1]

    got_request_exception.connect(mail)
    yield report
    got_request_exception.disconnect(mail)


def places_of(secret: str, report: str) -> list[str]:
    """Return the lines of a report that hold a secret, shortened."""
    return [line.strip()[:200] for line in report.splitlines() if secret in line]


Reports = Callable[[Callable[[], Any]], str]


def connected_server(peer: ProtectedServer) -> tuple[Any, McpServer, Any]:
    """Return a browser of an administrator, their server behind a confidential client, and its settings."""
    workspace = new_workspace()
    settings: dict[str, Any] = {"auth_mode": "oauth", "client_id": "app", "client_secret": SECRET}
    server = new_server(workspace, peer.url, client_issuer=peer.issuer, **settings)
    return browser_of(member(workspace, role=Membership.Role.ADMIN)), server, workspace


@pytest.mark.parametrize(
    ("owner", "name"), [(wire, "guarded_fetch"), (callbacks, "validate_callback"), (callbacks, "_store")]
)
def test_a_callback_that_crashes_reports_neither_code_nor_state_nor_verifier(
    owner: Any,
    name: str,
    protected_mcp_server: Callable[..., ProtectedServer],
    person: Callable[..., Person],
    report_of: Reports,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = protected_mcp_server(as_options=CLIENT)
    browser, server, _ = connected_server(peer)
    callback = person("ada").authorize(start(browser, server)["authorization_url"])
    said = {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}
    monkeypatch.setattr(owner, name, crash)

    report = report_of(lambda: come_back(browser, callback))

    secrets = [said["code"], said["state"], SECRET, browser.session["mcp_oauth_browser"]]
    for request in peer.authorization_server.requests_to("/token"):
        secrets += parse_qs(request.body.decode())["code_verifier"]
    assert [places_of(secret, report) for secret in secrets if secret in report] == []


def test_a_start_that_crashes_reports_neither_state_nor_secret(
    protected_mcp_server: Callable[..., ProtectedServer], report_of: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, server, _ = connected_server(protected_mcp_server(as_options=CLIENT))
    drawn: list[str] = []

    def crash_with_everything(*args: Any, **kwargs: Any) -> Any:
        drawn.extend((kwargs["state"], kwargs["code_verifier"]))
        raise Crash

    monkeypatch.setattr(connections, "authorization_url", crash_with_everything)

    report = report_of(lambda: start(browser, server))

    assert len(drawn) == 2
    assert [places_of(secret, report) for secret in (*drawn, SECRET) if secret in report] == []


@pytest.mark.parametrize("secret", ["client", "initial access token"])
@pytest.mark.parametrize("form_page", ["add", "edit"])
def test_a_form_that_crashes_reports_none_of_the_secrets_in_it(
    form_page: str,
    secret: str,
    open_mcp_server: Callable[..., OpenServer],
    report_of: Reports,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workspace = new_workspace()
    server = new_server(workspace, open_mcp_server().url)
    browser = browser_of(member(workspace, role=Membership.Role.ADMIN))
    address = f"/workspaces/{workspace.slug}/mcp/" + ("add/" if form_page == "add" else f"{server.pk}/edit/")
    form = {
        "name": "Tracker",
        "url": f"{server.url}?other",
        "auth_mode": "headers",
        "enabled": "on",
        "headers": f"X-Api-Key: {KEY}",
        "client_issuer": "https://as.example.com",
        **({"client_id": "app", "client_secret": SECRET} if secret == "client" else {"initial_access_token": SECRET}),
    }
    monkeypatch.setattr(McpServer, "save", crash)

    report = report_of(lambda: browser.post(address, form))

    assert [places_of(secret, report) for secret in (KEY, SECRET) if secret in report] == []


def test_a_call_that_crashes_reports_no_token(
    protected_mcp_server: Callable[..., ProtectedServer],
    person: Callable[..., Person],
    report_of: Reports,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    browser, server, workspace = connected_server(protected_mcp_server(as_options=CLIENT))
    connect(browser, server, person("ada"))
    grant = McpServerOAuth.objects.get()
    monkeypatch.setattr(sessions, "_operation", crash)

    report = report_of(lambda: browser.post(f"/workspaces/{workspace.slug}/mcp/{server.pk}/run/?tool=whoami"))

    held = [grant.access_token or "-", grant.refresh_token or "-", SECRET]
    assert [places_of(secret, report) for secret in held if len(secret) > 1 and secret in report] == []


@pytest.mark.parametrize(("owner", "name"), [(api_tokens, "_hash"), (limits, "count")])
def test_a_program_whose_request_crashes_finds_neither_its_token_nor_its_arguments_reported(
    owner: Any, name: str, report_of: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = new_workspace()
    program = program_of(member(workspace), workspace)
    secret = program.defaults["HTTP_AUTHORIZATION"].partition(" ")[2]
    address = f"/api/v1/servers/{uuid.uuid4()}/tools/echo/call/"
    monkeypatch.setattr(owner, name, crash)

    report = report_of(lambda: program.post(address, {"arguments": {"text": SECRET}}, "application/json"))

    assert [places_of(value, report) for value in (secret, SECRET) if value in report] == []


def test_a_disconnection_that_crashes_reports_no_token(
    protected_mcp_server: Callable[..., ProtectedServer],
    person: Callable[..., Person],
    report_of: Reports,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    browser, server, _ = connected_server(protected_mcp_server(as_options=CLIENT))
    connect(browser, server, person("ada"))
    grant = McpServerOAuth.objects.get()
    monkeypatch.setattr(wire, "guarded_fetch", crash)

    report = report_of(lambda: browser.post("/mcp/oauth/disconnect/", {"server": str(server.pk)}))

    held = [grant.access_token or "-", grant.refresh_token or "-", SECRET]
    assert [places_of(secret, report) for secret in held if len(secret) > 1 and secret in report] == []


def test_a_renewal_that_crashes_reports_no_token(
    protected_mcp_server: Callable[..., ProtectedServer],
    person: Callable[..., Person],
    report_of: Reports,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    browser, server, workspace = connected_server(protected_mcp_server(as_options=CLIENT))
    connect(browser, server, person("ada"))
    McpServerOAuth.objects.update(expires_at=timezone.now() - timedelta(hours=1))
    grant = McpServerOAuth.objects.get()
    monkeypatch.setattr(wire, "guarded_fetch", crash)

    report = report_of(lambda: browser.post(f"/workspaces/{workspace.slug}/mcp/{server.pk}/run/?tool=whoami"))

    held = [grant.access_token or "-", grant.refresh_token or "-", SECRET]
    assert [places_of(secret, report) for secret in held if len(secret) > 1 and secret in report] == []


@pytest.mark.parametrize("secret", ["new_client_secret", "new_initial_access_token"])
def test_the_admin_reports_none_of_the_secrets_of_a_form_that_crashes(
    secret: str, open_mcp_server: Callable[..., OpenServer], report_of: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, address = browser_of(administrator()), page(McpServer, "add")
    form = filled(
        browser,
        address,
        workspace=str(new_workspace().pk),
        name="Key",
        url=open_mcp_server().url,
        kind="headers",
        new_headers=f"X-Api-Key: {KEY}",
        client_issuer="https://as.example.com",
        client_id="app" if secret == "new_client_secret" else "",
        **{secret: SECRET},
    )
    monkeypatch.setattr(McpServer, "save", crash)

    report = report_of(lambda: browser.post(address, form))

    assert [places_of(value, report) for value in (KEY, SECRET) if value in report] == []
