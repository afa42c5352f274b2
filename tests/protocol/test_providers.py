"""Connecting to providers as they are known to behave: with the options on record, and not without them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from mcp_oauth import call_tool, list_tools
from mcp_oauth.exceptions import AuthorizationRequired, ConfigurationError, McpOAuthError
from mcp_oauth.models import Event, McpServer, McpServerOAuth
from mcp_oauth.services.callbacks import finish_authorization
from mcp_oauth.services.connections import Disconnected, disconnect, start_authorization
from mcp_oauth.services.providers import Provider, parse_providers, providers
from tests.people import browser_of, connect, member, new_server, new_workspace, start
from tests.servers import Person, RecordedRequest
from tests.servers.person import tls_context
from tests.servers.providers import BEHAVIOURS, CLIENT_SECRET, ProviderDouble

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
CALLBACK = "http://127.0.0.1:8000/mcp/oauth/callback/"
PROVIDERS = list(providers().values())
BY_HAND = [provider for provider in PROVIDERS if provider.registration == "manual"]


def named(value: Any) -> str | None:
    return value.key if isinstance(value, Provider) else None


@dataclass(frozen=True)
class Desk:
    """A member of a workspace in front of one provider's server, with an account there."""

    provider: Provider
    double: ProviderDouble
    user: User
    browser: Client
    server: McpServer
    person: Person = field(repr=False)

    def connect(self) -> McpServerOAuth:
        return connect(self.browser, self.server, self.person)

    def call(self) -> str:
        return call_tool(self.server, self.user, "whoami").text

    def disconnect(self) -> Disconnected:
        return disconnect(self.server, self.user)

    def expire(self) -> None:
        """Let the access tokens end, where they end by themselves on our side too."""
        self.double.peer.authorization_server.expire_access_tokens()
        McpServerOAuth.objects.filter(expires_at__isnull=False).update(expires_at=timezone.now() - timedelta(seconds=1))

    def seen(self, endpoint: str) -> list[RecordedRequest]:
        return self.double.peer.authorization_server.requests_to(endpoint)

    @property
    def renewals(self) -> list[RecordedRequest]:
        return [request for request in self.seen("/token") if request.form.get("grant_type") == "refresh_token"]

    def replay(self, refresh_token: str) -> httpx.Response:
        """Use a refresh token as a thief, or a second process of ours, would."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "client_id": McpServerOAuth.objects.get().client_id,
            "resource": self.renewals[-1].form.get("resource", ""),
        }
        if secret := self.renewals[-1].form.get("client_secret"):
            form["client_secret"] = secret
        endpoint = self.double.peer.authorization_server.url("token")
        with httpx.Client(trust_env=False, verify=tls_context()) as http:
            return http.post(endpoint, data=form)


@pytest.fixture
def desk(
    provider_double: Callable[..., ProviderDouble],
    person: Callable[..., Person],
    settings: Any,
    request: pytest.FixtureRequest,
) -> Callable[..., Desk]:
    """Sit a member down: ``desk("linear", options={...}, by_hand=True)``; the options default to those on record."""

    def sit(key: str, *, options: Mapping[str, Any] | None = None, by_hand: bool | None = None) -> Desk:
        provider = providers()[key]
        callback = CALLBACK
        if provider.registration == "cimd":
            # The provider reads this application's document, so it has to be somewhere.
            address = request.getfixturevalue("live_server").url
            settings.ALLOWED_HOSTS = [*settings.ALLOWED_HOSTS, urlsplit(address).hostname]
            settings.MCP_OAUTH = {**settings.MCP_OAUTH, "PUBLIC_URL": address}
            callback = f"{address}/mcp/oauth/callback/"
        double = provider_double(key, redirect_uri=callback)
        wanted: dict[str, Any] = {
            "options": provider.options_for(double.peer.url) if options is None else dict(options)
        }
        if provider.registration == "manual" if by_hand is None else by_hand:
            wanted |= {"client_id": double.client.client_id, "client_secret": CLIENT_SECRET}
        workspace = new_workspace()
        user = member(workspace)
        server = new_server(workspace, double.peer.url, name=provider.name, **wanted)
        return Desk(provider, double, user, browser_of(user), server, person("ada"))

    return sit


# Every provider, from the first contact to the last.


@pytest.mark.parametrize("provider", PROVIDERS, ids=named)
def test_people_connect_use_renew_and_disconnect(desk: Callable[..., Desk], provider: Provider) -> None:
    at = desk(provider.key)
    server = at.double.peer.authorization_server
    # Found out by asking, not entered.
    assert at.server.auth_mode == provider.auth_mode == "oauth"

    grant = at.connect()

    assert {"echo", "add", "whoami"} <= {tool.name for tool in list_tools(at.server, at.user)}
    assert at.call() == "ada"
    if at.double.renews:
        for _ in range(2):
            at.expire()
            assert at.call() == "ada"
        used = [request.form["refresh_token"] for request in at.renewals]
        assert len(used) == 2
        assert len(set(used)) == (2 if at.double.rotates else 1)
    else:
        at.expire()
        with pytest.raises(AuthorizationRequired):
            at.call()
        assert at.renewals == []
        at.connect()
        assert at.call() == "ada"

    [authorization, *_] = at.seen("/authorize")
    assert authorization.query["code_challenge_method"] == "S256"
    assert authorization.query["client_id"] == grant.client_id
    for request in at.seen("/token"):
        assert request.form.get("resource") == authorization.query.get("resource")
    for request in at.double.peer.mcp_requests:
        assert (request.authorization or "Bearer ").startswith("Bearer ")

    ended = at.disconnect()

    held = [token for token in server.registry.tokens.values() if token.active]
    if server.options.revocation:
        # An access token that cannot be revoked ends by itself; its refresh token is gone.
        assert ended.revoked is True
        assert [token for token in held if token.kind in server.options.revocable] == []
    else:
        assert ended.revoked is None
    with pytest.raises(AuthorizationRequired) as required:
        at.call()
    assert required.value.reason == "not_connected"


@pytest.mark.parametrize("provider", PROVIDERS, ids=named)
def test_the_client_is_of_the_kind_on_record(desk: Callable[..., Desk], provider: Provider) -> None:
    at = desk(provider.key)
    grant = at.connect()
    registered = [request for request in at.seen("/register") if request.json.get("client_name")]
    if provider.registration == "manual":
        assert (grant.client_id, registered) == (at.double.client.client_id, [])
    elif provider.registration == "dynamic":
        assert [client.client_id for client in at.double.peer.authorization_server.clients] == [grant.client_id]
        assert len(registered) == 1
    else:
        assert grant.client_id.endswith("/mcp/oauth/client.json")
        assert registered == []


@pytest.mark.parametrize("provider", BY_HAND, ids=named)
def test_whoever_has_to_create_a_client_is_told_what_and_where_and_then_connects(
    desk: Callable[..., Desk], provider: Provider
) -> None:
    at = desk(provider.key, by_hand=False)

    error = start(at.browser, at.server)["error"]

    assert error["code"] in {"registration_required", "registration_failed"}
    assert CALLBACK in error["next_step"]
    assert "client ID" in error["next_step"]
    assert "the server's settings" in error["next_step"]
    assert at.seen("/authorize") == at.seen("/token") == []
    McpServer.objects.update(client_id=at.double.client.client_id)
    at.server.refresh_from_db()
    at.server.client_secret = CLIENT_SECRET
    at.server.save()
    at.connect()
    assert at.call() == "ada"


def outcome(at: Desk) -> str:
    """Go the whole way; returns the code of the error that ends it, or what is left behind."""
    try:
        started = start_authorization(at.server, at.user, browser="b")
        answer = parse_qs(urlsplit(at.person.authorize(started.authorization_url)).query)
        finish_authorization(at.user, browser="b", parameters=answer)
        at.call()
    except McpOAuthError as error:
        return error.code
    at.disconnect()
    left = [token for token in at.double.peer.authorization_server.refresh_tokens if token.active]
    return "grant left behind" if left else "works"


NEEDED = {
    ("atlassian", "tolerate_issuer_mismatch"): "discovery_failed",
    ("github", "token_endpoint_auth_method"): "invalid_client",
    ("entra", "resource"): "access_denied",
    ("entra", "tolerate_missing_s256"): "discovery_failed",
    ("auth0", "audience"): "reauth_required",
    ("cognito", "tolerate_missing_s256"): "discovery_failed",
    ("asana", "tolerate_resource_mismatch"): "discovery_failed",
}


def test_what_every_option_on_record_is_needed_for_is_known() -> None:
    assert {(provider.key, name) for provider in PROVIDERS for name in provider.options} == NEEDED.keys()


@pytest.mark.parametrize(("key", "option"), NEEDED)
def test_without_an_option_on_record_it_does_not_work_and_with_it_it_does(
    desk: Callable[..., Desk], key: str, option: str
) -> None:
    at = desk(key)
    complete = dict(at.server.oauth_options)
    at.server.oauth_options = {name: value for name, value in complete.items() if name != option}
    at.server.save()
    assert outcome(at) == NEEDED[key, option]

    McpServerOAuth.objects.all().delete()
    at.server.oauth_options = complete
    at.server.save()
    at.connect()
    assert at.call() == "ada"


# What sets single providers apart.


def test_linear_gets_its_token_type_back_in_the_spelling_it_reads(desk: Callable[..., Desk]) -> None:
    at = desk("linear")
    at.connect()
    assert at.call() == "ada"
    token = at.double.peer.authorization_server.access_tokens[-1].value
    assert f"Bearer {token}" in {request.authorization for request in at.double.peer.mcp_requests}
    with httpx.Client(trust_env=False, verify=tls_context()) as http:
        answer = http.post(at.double.peer.url, json={}, headers={"authorization": f"bearer {token}"})
    assert answer.status_code == 401


def test_linear_registers_whom_it_cannot_read_a_document_of(desk: Callable[..., Desk]) -> None:
    at = desk("linear", options={"registration": "dynamic"})
    grant = at.connect()
    [registration] = at.seen("/register")
    assert registration.json["token_endpoint_auth_method"] == "none"
    assert grant.client_id.startswith("client-")
    assert at.call() == "ada"


@pytest.mark.parametrize(("key", "seconds"), [("linear", 1800), ("okta", 30), ("supabase", 10)])
def test_a_used_refresh_token_gives_the_same_successor_for_a_while_and_then_ends_the_grant(
    desk: Callable[..., Desk], key: str, seconds: float
) -> None:
    at = desk(key)
    at.connect()
    at.expire()
    at.call()
    used = at.renewals[0].form["refresh_token"]
    successor = McpServerOAuth.objects.get().refresh_token
    refresh_tokens = at.double.peer.authorization_server.refresh_tokens
    for token in refresh_tokens:
        # A slow machine must not be what ends the while.
        token.used_at = time.time()

    # As when our own answer was lost, or another process was as quick.
    assert at.replay(used).json()["refresh_token"] == successor
    at.expire()
    assert at.call() == "ada"

    for token in refresh_tokens:
        token.used_at -= seconds + 1
    assert at.replay(used).json()["error"] == "invalid_grant"
    at.expire()
    with pytest.raises(AuthorizationRequired) as required:
        at.call()
    assert required.value.reason == "revoked"


@pytest.mark.parametrize("key", ["notion", "sentry"])
def test_a_replaced_refresh_token_works_until_its_successor_does(desk: Callable[..., Desk], key: str) -> None:
    at = desk(key)
    at.connect()
    at.expire()
    at.call()
    first = at.renewals[0].form["refresh_token"]
    assert at.replay(first).status_code == 200
    at.expire()
    # The token that was given out last is not ours; ours still counts.
    assert at.call() == "ada"


@pytest.mark.parametrize("key", ["stripe", "atlassian", "auth0"])
def test_a_refresh_token_that_is_good_once_is_never_sent_twice_and_its_reuse_ends_the_grant(
    desk: Callable[..., Desk], key: str
) -> None:
    at = desk(key)
    at.connect()
    for _ in range(3):
        at.expire()
        assert at.call() == "ada"
    sent = [request.form["refresh_token"] for request in at.renewals]
    assert len(set(sent)) == len(sent) == 3

    assert at.replay(sent[0]).status_code == 400
    at.expire()
    with pytest.raises(AuthorizationRequired):
        at.call()
    # Asked for once: a dead grant is not tried again and again.
    assert len(at.renewals) == 5
    with pytest.raises(AuthorizationRequired):
        at.call()
    assert len(at.renewals) == 5


def test_notion_names_its_metadata_in_the_refusal_and_has_none_below_the_endpoint(desk: Callable[..., Desk]) -> None:
    at = desk("notion")
    at.connect()
    paths = [request.path for request in [*at.double.peer.requests, *at.double.peer.authorization_server.requests]]
    asked = [path for path in paths if "/.well-known/" in path]
    assert set(asked) == {"/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"}
    assert at.server.auth_mode == "oauth"


def test_atlassian_is_not_taken_for_open_because_it_greets_strangers(desk: Callable[..., Desk]) -> None:
    at = desk("atlassian")
    with httpx.Client(trust_env=False, verify=tls_context()) as http:
        greeting = http.post(
            at.double.peer.url,
            json={
                "jsonrpc": "2.0",
                "id": 1,
                "method": "initialize",
                "params": {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {},
                    "clientInfo": {"name": "stranger", "version": "1"},
                },
            },
            headers={"accept": "application/json, text/event-stream"},
        )
    assert greeting.status_code == 200
    assert at.server.auth_mode == "oauth"
    with pytest.raises(AuthorizationRequired):
        list_tools(at.server, at.user)


def test_atlassian_says_unauthorized_client_of_a_dead_grant_and_the_person_is_asked_to_connect(
    desk: Callable[..., Desk],
) -> None:
    at = desk("atlassian")
    at.connect()
    at.double.peer.authorization_server.revoke_refresh_tokens()
    at.expire()
    with pytest.raises(AuthorizationRequired) as required:
        at.call()
    assert required.value.connect_url
    registrations = len(at.seen("/register"))
    at.connect()
    assert at.call() == "ada"
    # The client was not to blame, whatever the word says.
    assert len(at.seen("/register")) == registrations == 1


@pytest.mark.parametrize("key", ["slack", "cognito"])
def test_endpoints_under_another_host_than_the_issuers_are_used_where_the_metadata_names_them(
    desk: Callable[..., Desk], key: str
) -> None:
    at = desk(key)
    at.connect()
    assert at.call() == "ada"
    [authorization] = at.seen("/authorize")
    assert urlsplit(at.double.peer.issuer).hostname == "127.0.0.1"
    assert {request.headers["host"].partition(":")[0] for request in [authorization, *at.seen("/token")]} == {
        "localhost"
    }


def test_slack_leaves_the_scope_empty_and_what_was_asked_for_counts_as_granted(desk: Callable[..., Desk]) -> None:
    at = desk("slack")
    assert at.connect().scope == "read"


def test_slack_says_no_with_status_200_and_nothing_is_stored(desk: Callable[..., Desk]) -> None:
    at = desk("slack")
    started = start_authorization(at.server, at.user, browser="b")
    answer = parse_qs(urlsplit(at.person.authorize(started.authorization_url)).query)
    at.double.peer.authorization_server.registry.codes.clear()

    with pytest.raises(McpOAuthError) as refused:
        finish_authorization(at.user, browser="b", parameters=answer)

    assert refused.value.code == "invalid_grant"
    assert McpServerOAuth.objects.count() == 0


def test_slack_describes_its_origin_and_the_token_still_goes_to_the_endpoint_alone(desk: Callable[..., Desk]) -> None:
    at = desk("slack")
    grant = at.connect()
    at.call()
    assert grant.resource == at.double.peer.url.removesuffix("/mcp")
    with_token = [request for request in at.double.peer.requests if request.authorization]
    assert {request.path for request in with_token} == {"/mcp"}


@pytest.mark.parametrize("encoding", ["form", "json"])
def test_github_answers_as_a_form_with_commas_and_both_are_read(desk: Callable[..., Desk], encoding: str) -> None:
    at = desk("github")
    if encoding == "form":
        dialect = replace(at.double.peer.authorization_server.options.token_dialect, encoding="form")
        at.double.peer.configure_authorization_server(token_dialect=dialect)
    grant = at.connect()
    assert grant.scope == "repo read:org"
    assert (grant.expires_at, grant.refresh_token) == (None, None)
    [exchange] = at.seen("/token")
    assert exchange.headers["accept"] == "application/json"
    assert exchange.form["client_secret"] == CLIENT_SECRET
    assert at.call() == "ada"


def test_github_refuses_a_wrong_secret_with_status_200_and_that_is_no_token(desk: Callable[..., Desk]) -> None:
    at = desk("github")
    at.server.client_secret = "wrong"
    at.server.save()
    assert outcome(at) == "invalid_client"
    assert McpServerOAuth.objects.count() == 0


def test_github_keeps_its_metadata_between_host_and_path(desk: Callable[..., Desk]) -> None:
    at = desk("github")
    at.connect()
    [metadata] = [request for request in at.double.peer.authorization_server.requests if "well-known" in request.path]
    assert metadata.path == "/.well-known/oauth-authorization-server/login/oauth"


def test_entra_sees_no_resource_and_is_asked_for_offline_access(desk: Callable[..., Desk]) -> None:
    at = desk("entra")
    grant = at.connect()
    at.expire()
    at.call()
    [authorization] = at.seen("/authorize")
    assert authorization.query["scope"].split() == ["api://0example/mcp.tools", "offline_access"]
    for request in [authorization, *at.seen("/token")]:
        assert "resource" not in request.query
        assert "resource" not in request.form
    # It grants offline_access and does not say so.
    assert grant.scope == "api://0example/mcp.tools"


def test_entra_explains_in_its_own_words_what_it_refuses(desk: Callable[..., Desk]) -> None:
    at = desk("entra", options={"tolerate_missing_s256": True})
    started = start_authorization(at.server, at.user, browser="b")
    answer = parse_qs(urlsplit(at.person.authorize(started.authorization_url)).query)
    with pytest.raises(McpOAuthError) as refused:
        finish_authorization(at.user, browser="b", parameters=answer)
    assert "AADSTS9010010" in refused.value.user_message
    assert "resource option" in refused.value.next_step


def test_auth0_is_told_the_audience_and_issues_a_refresh_token_for_offline_access(desk: Callable[..., Desk]) -> None:
    at = desk("auth0")
    grant = at.connect()
    [authorization] = at.seen("/authorize")
    assert authorization.query["audience"] == at.double.peer.url
    assert "offline_access" in authorization.query["scope"].split()
    assert grant.refresh_token is not None
    assert grant.issuer.endswith("/")


def test_auth0_without_the_audience_is_given_up_after_one_renewal(desk: Callable[..., Desk]) -> None:
    at = desk("auth0", options={})
    at.connect()
    with pytest.raises(AuthorizationRequired) as required:
        at.call()
    assert required.value.reason == "rejected"
    assert len(at.renewals) == 1


def test_cognito_revokes_for_who_shows_the_secret_in_the_header_and_refresh_tokens_only(
    desk: Callable[..., Desk],
) -> None:
    at = desk("cognito")
    grant = at.connect()
    # The answer has no scope: what was asked for was granted.
    assert grant.scope == "mcp/read"
    at.disconnect()
    shown = [
        (request.form["token_type_hint"], "header" if request.authorization else "form")
        for request in at.seen("/revoke")
    ]
    assert shown == [
        ("refresh_token", "form"),
        ("refresh_token", "header"),
        ("access_token", "form"),
        ("access_token", "header"),
    ]
    assert [token.active for token in at.double.peer.authorization_server.refresh_tokens] == [False]
    assert Event.objects.get(kind="revoked").outcome == "confirmed"


def test_cognito_keeps_its_refresh_token_over_renewals_that_bring_none(desk: Callable[..., Desk]) -> None:
    at = desk("cognito")
    before = at.connect().refresh_token
    at.expire()
    at.call()
    assert McpServerOAuth.objects.get().refresh_token == before


def test_okta_is_found_below_the_path_of_its_issuer_and_by_no_other_name(desk: Callable[..., Desk]) -> None:
    at = desk("okta")
    at.connect()
    [*_, last] = [request.path for request in at.double.peer.authorization_server.requests if "known" in request.path]
    assert last == "/oauth2/default/.well-known/openid-configuration"

    at.double.peer.configure_authorization_server(
        metadata_overrides={"issuer": at.double.peer.authorization_server.base_url}
    )
    McpServerOAuth.objects.all().delete()
    assert outcome(at) == "discovery_failed"


def test_okta_answers_a_wrong_secret_with_401_and_the_connection_is_not_made(desk: Callable[..., Desk]) -> None:
    at = desk("okta")
    at.server.client_secret = "wrong"
    at.server.save()
    assert outcome(at) == "invalid_client"


def test_okta_and_keycloak_refuse_to_register_and_are_asked_once(desk: Callable[..., Desk]) -> None:
    for key, status in (("okta", 401), ("keycloak", 403)):
        at = desk(key, by_hand=False)
        error = start(at.browser, at.server)["error"]
        assert str(status) in error["message"]
        [registration] = at.seen("/register")
        assert registration.json["application_type"] == "native"
        assert registration.json["redirect_uris"] == [CALLBACK]


def test_keycloak_gets_its_scopes_without_a_blank_too_many(desk: Callable[..., Desk]) -> None:
    at = desk("keycloak", options={"scopes": "  read   write "})
    at.connect()
    assert at.seen("/authorize")[0].query["scope"] == "read write"
    refusing = at.seen("/authorize")[0].raw_query.replace("scope=read", "scope=%20read")
    with httpx.Client(trust_env=False, verify=tls_context()) as http:
        answer = http.get(f"{at.double.peer.authorization_server.url('authorize')}?{refusing}")
    assert "error=invalid_scope" in answer.headers["location"]


def test_keycloak_names_itself_in_its_answers_and_another_issuer_is_refused(desk: Callable[..., Desk]) -> None:
    at = desk("keycloak")
    at.connect()
    at.double.peer.configure_authorization_server(wrong_iss="https://evil.example")
    started = start_authorization(at.server, at.user, browser="b", again=True)
    answer = parse_qs(urlsplit(at.person.authorize(started.authorization_url)).query)
    with pytest.raises(McpOAuthError) as refused:
        finish_authorization(at.user, browser="b", parameters=answer)
    assert refused.value.code == "callback_refused"


def test_hubspot_sends_an_address_for_a_challenge_and_gets_the_secret_in_the_body(desk: Callable[..., Desk]) -> None:
    at = desk("hubspot")
    assert at.server.auth_mode == "oauth"
    at.connect()
    at.expire()
    at.call()
    for request in at.seen("/token"):
        assert request.authorization is None
        assert request.form["client_secret"] == CLIENT_SECRET


def test_stripe_is_told_the_name_and_the_resource_every_time(desk: Callable[..., Desk]) -> None:
    at = desk("stripe")
    at.connect()
    at.expire()
    at.call()
    [registration] = at.seen("/register")
    assert registration.json["client_name"]
    assert registration.json["token_endpoint_auth_method"] == "none"
    resources = [request.form.get("resource") for request in at.seen("/token")]
    assert resources == [at.double.peer.url] * 2


def test_supabase_hands_out_a_secret_without_a_method_and_it_is_sent_in_the_body(desk: Callable[..., Desk]) -> None:
    at = desk("supabase")
    at.connect()
    at.expire()
    assert at.call() == "ada"
    [registration] = at.seen("/register")
    assert registration.json["token_endpoint_auth_method"] == "none"
    for request in at.seen("/token"):
        assert request.form["client_secret"]
        assert request.authorization is None


def test_sentry_refuses_renewed_access_too_when_the_session_behind_it_ended(desk: Callable[..., Desk]) -> None:
    at = desk("sentry")
    at.connect()
    at.double.peer.reject_tokens()
    with pytest.raises(AuthorizationRequired) as required:
        at.call()
    assert (required.value.reason, len(at.renewals)) == ("rejected", 1)

    at.double.peer.accept_tokens()
    at.connect()
    assert at.call() == "ada"


def test_asana_sends_to_another_host_which_learns_nothing(desk: Callable[..., Desk]) -> None:
    at = desk("asana")
    grant = at.connect()
    at.call()
    other = urlsplit(at.double.peer.resource.options.metadata_url).netloc
    # The resource is the other host's word byte for byte, and the token still goes to the server people entered.
    assert urlsplit(grant.resource).netloc == other != urlsplit(at.double.peer.url).netloc
    assert any(request.authorization for request in at.double.peer.mcp_requests)


def test_figma_says_forbidden_without_json_and_the_person_is_told_what_an_administrator_can_do(
    desk: Callable[..., Desk],
) -> None:
    at = desk("figma", by_hand=False)
    error = start(at.browser, at.server)["error"]
    assert (error["code"], "403" in error["message"]) == ("registration_failed", True)
    assert error["document"] == at.double.peer.authorization_server.url("register")
    assert len(at.seen("/register")) == 1


# The data itself.

ENTRY = """
[example]
name = "Example"
server_url = "https://mcp.example.com/mcp"
documentation = "https://example.com/docs"
registration = "manual"
auth_mode = "oauth"
setup = "Create a client with the redirect URI {redirect_uri}."
notes = "Works."
"""


def test_every_provider_has_a_double_and_every_double_is_of_a_provider() -> None:
    assert providers().keys() == BEHAVIOURS.keys()


def test_identity_providers_have_no_server_of_their_own() -> None:
    assert {provider.key for provider in PROVIDERS if not provider.server_url} == {
        "entra", "auth0", "cognito", "okta", "keycloak",
    }  # fmt: skip


@pytest.mark.parametrize("provider", BY_HAND, ids=named)
def test_the_setup_of_a_client_made_by_hand_says_what_to_enter_there_and_here(provider: Provider) -> None:
    setup = provider.setup_for(CALLBACK)
    assert CALLBACK in setup
    assert "{" not in setup
    assert "client) ID" in setup or "client ID" in setup
    assert "into the server's settings" in setup


def test_an_entry_is_read_and_its_placeholders_are_filled() -> None:
    text = f'{ENTRY}[example.options]\naudience = "{{server_url}}"\nlegacy_endpoints = true\n'
    [provider] = parse_providers(text).values()
    assert provider.setup_for(CALLBACK) == f"Create a client with the redirect URI {CALLBACK}."
    options = provider.options_for("https://mcp.example.com/mcp")
    assert options == {"audience": "https://mcp.example.com/mcp", "legacy_endpoints": True}


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("notes =", "remarks =", "unknown key 'remarks'"),
        ('notes = "Works."', "", "lacks the key 'notes'"),
        ('"Works."', "7", "notes that is not text"),
        ('"Works."', '""', "notes that is not text"),
        ('"manual"', '"by post"', "registration that is not one of"),
        ('"oauth"', '"magic"', "auth_mode that is not one of"),
        ("https://mcp.example.com", "http://mcp.example.com", "unusable server_url"),
        ("{redirect_uri}", "of this site", "does not say in its setup"),
        ('notes = "Works."', 'notes = "Works."\noptions = {colour = "blue"}', "options that cannot be used"),
        ('notes = "Works."', 'notes = "Works."\noptions = {resource = "maybe"}', "options that cannot be used"),
        ('notes = "Works."', 'notes = "Works."\noptions = "none"', "options that cannot be used"),
        (ENTRY, "example = 7", "is not a table"),
        (ENTRY, "[example", "is not TOML"),
    ],
)
def test_an_entry_with_a_mistake_is_an_error_that_names_it(before: str, after: str, problem: str) -> None:
    assert before in ENTRY
    with pytest.raises(ConfigurationError, match=problem):
        parse_providers(ENTRY.replace(before, after, 1))


def documented_row(provider: Provider) -> str:
    """Return the table's row for a provider."""
    how = {"cimd": "metadata document", "dynamic": "dynamic", "manual": "by hand"}[provider.registration]
    options = ", ".join(
        f"`{name}={str(value).lower() if isinstance(value, bool) else value}`"
        for name, value in provider.options.items()
    )
    address = f"`{provider.server_url}`" if provider.server_url else "that of the MCP server it protects"
    name = f"[{provider.name}]({provider.documentation})"
    return f"| {name} | {address} | {how} | {options or 'none'} | {provider.setup} | {provider.notes} |"


def test_the_documented_table_is_what_is_on_record() -> None:
    lines = (ROOT / "docs/providers.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| [")]
    expected = [documented_row(provider) for provider in PROVIDERS]
    assert rows == expected, "docs/providers.md needs these rows:\n" + "\n".join(expected)
