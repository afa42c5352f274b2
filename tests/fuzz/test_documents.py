"""OAuth's documents and answers: whatever a server sends is either accepted by the rules or one typed error.

Each property also counts which outcomes it reached: one that only ever sees the first check fail shows nothing.
"""

from __future__ import annotations

import json
import math
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from mcp_oauth.exceptions import (
    AccessDenied,
    AuthorizationFailed,
    CallbackRefused,
    ConfigurationError,
    DiscoveryFailed,
    InvalidGrant,
    InvalidRequest,
    McpOAuthError,
    RegistrationFailed,
    TokenEndpointUnavailable,
    TokenRequestFailed,
)
from mcp_oauth.messages import HttpResponse
from mcp_oauth.oauth.authorization import state_hash, validate_callback
from mcp_oauth.oauth.authorization_server import (
    AuthorizationServerMetadata,
    examine_authorization_server_metadata,
    metadata_urls,
    parse_authorization_server_metadata,
)
from mcp_oauth.oauth.challenge import MOST_CHALLENGES, bearer_challenge, parse_challenges
from mcp_oauth.oauth.dpop import dpop_nonce, dpop_nonce_error
from mcp_oauth.oauth.foreign_tokens import addressed_to, unverified_claims
from mcp_oauth.oauth.json_documents import NotAJsonObject, json_object
from mcp_oauth.oauth.options import OAuthOptions, parse_option
from mcp_oauth.oauth.protected_resource import (
    ResourceMetadataLocation,
    examine_protected_resource_metadata,
    parse_protected_resource_metadata,
    resource_metadata_locations,
)
from mcp_oauth.oauth.registration import AUTH_METHODS, parse_registration_response
from mcp_oauth.oauth.retry_after import LONGEST_RETRY_AFTER, retry_after_seconds
from mcp_oauth.oauth.server_words import WORDS_LIMIT, scope_tokens
from mcp_oauth.oauth.token import (
    ID_JAG_TYPE,
    LONGEST_LIFETIME,
    client_was_refused,
    parse_id_jag_response,
    parse_token_response,
)
from mcp_oauth.oauth.token_endpoint import read_refusal
from mcp_oauth.services.headers import parse_headers
from tests.fuzz.mutations import JSON_VALUES, ODD_TEXTS, Reached, assert_bounded, json_bytes, mutated, thorough
from tests.unit.oauth.samples import CODE, EXPECTED, ISSUER, METADATA, REDIRECT_URI, SERVER, STATE, TOKEN_ENDPOINT

pytestmark = pytest.mark.once

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

NOW = 1_800_000_000.0
# One document takes well under a millisecond; a second of processor time is a loop or a bad regular expression.
MOST_SECONDS = 1.0

RESOURCE_DOCUMENT = {
    "resource": SERVER,
    "authorization_servers": [ISSUER, "https://login.example.net/tenant"],
    "scopes_supported": ["read", "write"],
    "dpop_bound_access_tokens_required": True,
    "expires_in": 3600,
}
SERVER_DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize?tenant=1",
    "token_endpoint": TOKEN_ENDPOINT,
    "registration_endpoint": f"{ISSUER}/register",
    "revocation_endpoint": f"{ISSUER}/revoke",
    "scopes_supported": ["read", "offline_access"],
    "code_challenge_methods_supported": ["plain", "S256"],
    "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
    "grant_types_supported": ["authorization_code"],
    "response_types_supported": ["code"],
    "client_id_metadata_document_supported": True,
    "authorization_response_iss_parameter_supported": True,
    "dpop_signing_alg_values_supported": ["ES256"],
    "seconds": 3600,
}
CLIENT_DOCUMENT = {
    "client_id": "client-1",
    "client_secret": "a-secret",
    "client_secret_expires_at": 3600,
    "token_endpoint_auth_method": "client_secret_post",
    "redirect_uris": [REDIRECT_URI],
}
PUBLIC_CLIENT = {"client_id": "client-2", "token_endpoint_auth_method": "none", "client_secret": "of no use"}
TOKEN_DOCUMENT = {
    "access_token": "at-1",
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token": "rt-1",
    "scope": "read write",
}
ASSERTION_DOCUMENT = {
    "access_token": "assertion",
    "issued_token_type": ID_JAG_TYPE,
    "token_type": "N_A",
    "expires_in": 3600,
}
REFUSAL_DOCUMENT = {"error": "invalid_grant", "error_description": "The grant is gone.", "error_uri": ISSUER}
WRAPPED_REFUSAL = {"error": {"code": "invalid_client", "message": "Who?", "status": "UNAUTHENTICATED"}}

statuses = st.sampled_from([200] * 30 + [201, 204, 299, 302, 400, 401, 403, 404, 408, 422, 429, 500, 503, 599, 100])
media_types = st.sampled_from(
    ["application/json"] * 4
    + [
        "",
        "application/json; charset=utf-8",
        "text/html",
        "application/x-www-form-urlencoded",
        "text/plain",
        "\u00e9/;;",
    ]
)
dates = st.sampled_from(
    ["", "0", "120", "-1", "1e9", "9" * 400, "\u0662", "Wed, 21 Oct 2099 07:28:00 GMT", "Mon, 1 Jan 0000 00:00:00 GMT"]
)


@st.composite
def answers(draw: st.DrawFn, *valid: Any, url: str = TOKEN_ENDPOINT) -> HttpResponse:
    """Return an answer whose body is one of the documents, mutated."""
    headers = (("Content-Type", draw(media_types)), ("Retry-After", draw(dates)))
    return HttpResponse(url, draw(statuses), headers, draw(json_bytes(mutated(*valid))))


def attempted(work: Callable[[], T], kind: type[E]) -> T | E:
    """Return what the work returns or the one kind of error it may raise, which has to be fit to be shown."""
    started = time.process_time()
    try:
        outcome: T | E = work()
    except kind as error:
        if isinstance(error, McpOAuthError):
            assert_bounded(error)
        outcome = error
    assert time.process_time() - started < MOST_SECONDS
    return outcome


def happened(reached: Reached, outcome: str) -> None:
    reached[outcome] += 1
    event(outcome)


def members_of(response: HttpResponse) -> dict[str, Any]:
    """Return what another reader of JSON makes of the body; the reference that ours is held against."""
    data: dict[str, Any] = json.loads(response.body.decode("utf-8-sig"), parse_int=lambda digits: int(digits[:4000]))
    return data


@pytest.mark.requirement("T15", "T30")
def test_any_protected_resource_metadata_is_accepted_by_the_rules_or_one_typed_error() -> None:
    reached = Reached()

    @thorough
    @given(
        answers(RESOURCE_DOCUMENT, url=f"{SERVER}/metadata"),
        st.sampled_from(["challenge", "path", "root"]),
        st.sampled_from([SERVER, "https://mcp.example.com"]),
        st.booleans(),
    )
    def check(response: HttpResponse, form: Any, server_url: str, tolerate: bool) -> None:
        place = ResourceMetadataLocation(response.url, form)
        asked: dict[str, Any] = {"server_url": server_url, "location": place, "tolerate_mismatch": tolerate}
        examined = examine_protected_resource_metadata(response, **asked)
        for fault in (*examined.faults, *examined.tolerated):
            assert_bounded(fault)
        found = attempted(lambda: parse_protected_resource_metadata(response, **asked), DiscoveryFailed)
        if isinstance(found, DiscoveryFailed):
            assert str(found) == str(examined.faults[0])
            happened(reached, f"refused: {found.field if found.field in ('body', 'status') else 'member'}")
            return
        assert found == examined.read
        assert found.resource == members_of(response)["resource"]
        if not tolerate:
            own = {server_url, f"{server_url}/"} if server_url.count("/") == 2 else {server_url}
            assert found.resource in own | ({"https://mcp.example.com"} if form == "root" else set())
        assert 0 < len(found.authorization_servers) <= 16
        assert all(entry.lower().startswith("https://") and "@" not in entry for entry in found.authorization_servers)
        assert all(scope_tokens(scope) == (scope,) for scope in found.scopes_supported or ())
        happened(reached, "tolerated" if examined.tolerated else "accepted")

    check()
    reached.insist_on("accepted", "tolerated", "refused: member", "refused: status", "refused: body")


@pytest.mark.requirement("T10", "T14", "T30")
def test_any_authorization_server_metadata_is_accepted_by_the_rules_or_one_typed_error() -> None:
    reached = Reached()

    @thorough
    @given(answers(SERVER_DOCUMENT, url=METADATA.document), st.booleans(), st.booleans())
    def check(response: HttpResponse, other_issuer: bool, no_s256: bool) -> None:
        asked: dict[str, Any] = {
            "issuer": ISSUER,
            "tolerate_issuer_mismatch": other_issuer,
            "tolerate_missing_s256": no_s256,
        }
        examined = examine_authorization_server_metadata(response, **asked)
        for fault in (*examined.faults, *examined.tolerated, *examined.passed_over):
            assert_bounded(fault)
        found = attempted(lambda: parse_authorization_server_metadata(response, **asked), DiscoveryFailed)
        if isinstance(found, DiscoveryFailed):
            assert str(found) == str(examined.faults[0])
            happened(reached, f"refused: {found.field if found.field in ('body', 'status') else 'member'}")
            return
        said = members_of(response)
        assert found.issuer == said["issuer"]
        assert other_issuer or found.issuer.rstrip("/") == ISSUER
        assert no_s256 or "S256" in said["code_challenge_methods_supported"]
        for name in ("authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint"):
            endpoint = getattr(found, name)
            assert endpoint is None or endpoint == said.get(name)
            assert endpoint is None or (
                endpoint.lower().startswith("https://") and not {"#", " ", "\\"} & set(endpoint)
            )
        # What is stored with a flow comes back as it was, by way of the database.
        assert AuthorizationServerMetadata.from_json(json.loads(json.dumps(found.to_json()))) == found
        happened(reached, "passed over" if examined.passed_over else "accepted")

    check()
    reached.insist_on("accepted", "refused: member", "refused: status", "refused: body")


@given(mutated(METADATA.to_json()) | JSON_VALUES)
def test_any_stored_metadata_is_read_or_one_typed_error(stored: Any) -> None:
    if not isinstance(stored, dict):
        return
    try:
        found = AuthorizationServerMetadata.from_json(stored)
    except DiscoveryFailed as error:
        assert_bounded(error)
    else:
        assert AuthorizationServerMetadata.from_json(found.to_json()) == found


@pytest.mark.requirement("T01", "T22")
@given(mutated(f"{SERVER}/a", "https://mcp.example.com", "https://as.example.com/t/"))
def test_any_address_leads_to_metadata_at_its_own_origin_or_to_a_typed_error(address: Any) -> None:
    if not isinstance(address, str):
        return
    try:
        places = metadata_urls(address)
    except DiscoveryFailed as error:
        assert_bounded(error)
    else:
        assert all("/.well-known/" in place and place.startswith(("https://", "http://")) for place in places)
    for place in resource_metadata_locations(SERVER, address):
        # What the challenge says is taken word for word, for the check that follows; nothing is made of it.
        assert place.url == address or place.url.startswith("https://mcp.example.com/.well-known/")


@pytest.mark.requirement("T29", "T30")
def test_any_registration_answer_is_a_usable_client_or_one_typed_error() -> None:
    reached = Reached()

    @thorough
    @given(answers(CLIENT_DOCUMENT, PUBLIC_CLIENT, REFUSAL_DOCUMENT), st.sampled_from(AUTH_METHODS))
    def check(response: HttpResponse, requested: str) -> None:
        client = attempted(
            lambda: parse_registration_response(response, metadata=METADATA, requested_method=requested),
            RegistrationFailed,
        )
        if isinstance(client, RegistrationFailed):
            assert client.retry_after is None or 0 <= client.retry_after <= LONGEST_RETRY_AFTER
            happened(reached, "refused at 200" if response.status == 200 else "refused")
            return
        assert client.client_id == members_of(response)["client_id"]
        assert client.client_id.isascii()
        assert client.client_id.isprintable()
        assert client.token_endpoint_auth_method in AUTH_METHODS
        assert (client.client_secret is None) == (client.token_endpoint_auth_method == "none")
        assert client.client_secret is None or (client.client_secret.isascii() and client.client_secret.isprintable())
        ends = client.client_secret_expires_at
        assert ends is None or (client.client_secret is not None and 0 < ends < 10**15)
        happened(reached, client.token_endpoint_auth_method)

    check()
    reached.insist_on("none", "client_secret_post", "refused at 200", "refused")


@pytest.mark.requirement("T23", "T24", "T30")
def test_any_token_answer_in_either_encoding_is_tokens_or_one_typed_error() -> None:
    reached = Reached()
    bound = {**TOKEN_DOCUMENT, "token_type": "DPoP"}
    documents = (bound, bound, REFUSAL_DOCUMENT, WRAPPED_REFUSAL)
    forms = mutated(TOKEN_DOCUMENT, bound, REFUSAL_DOCUMENT).map(_as_form)
    bodies = json_bytes(mutated(TOKEN_DOCUMENT, *documents)) | forms

    @thorough
    @given(bodies, statuses, media_types, dates, st.sampled_from(["Bearer", "DPoP", "any"]))
    def check(body: bytes, status: int, media: str, later: str, expected: Any) -> None:
        headers = (("content-type", media), ("retry-after", later))
        response = HttpResponse(TOKEN_ENDPOINT, status, headers, body)
        client_was_refused(response)
        tokens = attempted(
            lambda: parse_token_response(response, now=NOW, requested_scope="read", expected_type=expected),
            TokenRequestFailed,
        )
        if isinstance(tokens, TokenRequestFailed):
            happened(reached, type(tokens).__name__)
            return
        assert 200 <= status < 300
        for secret in (tokens.access_token, tokens.refresh_token or "x"):
            assert secret.isascii()
            assert secret.isprintable()
            assert " " not in secret
        assert tokens.expires_at is None or NOW <= tokens.expires_at <= NOW + LONGEST_LIFETIME
        assert tokens.scope == " ".join(scope_tokens(tokens.scope))
        assert expected in {"any", tokens.token_type}
        assert "_token=" not in repr(tokens)
        happened(reached, tokens.token_type)
        happened(reached, "form" if b"access_token=" in body else "json")

    check()
    reached.insist_on("Bearer", "DPoP", "json", "form", "TokenRequestFailed")
    reached.insist_on("InvalidGrant", "InvalidClient", "TokenEndpointUnavailable")


def _as_form(document: Any) -> bytes:
    pairs = document.items() if isinstance(document, dict) else [("access_token", document)]
    text = urlencode([(str(name), str(value)) for name, value in pairs], errors="surrogatepass", quote_via=quote_plus)
    return text.encode("ascii")


@pytest.mark.requirement("rfc8693-2.2.1-type")
def test_any_answer_to_a_token_exchange_is_an_assertion_or_one_typed_error() -> None:
    reached = Reached()

    @thorough
    @given(answers(ASSERTION_DOCUMENT, {"error": "invalid_request"}, REFUSAL_DOCUMENT, TOKEN_DOCUMENT))
    def check(response: HttpResponse) -> None:
        assertion = attempted(lambda: parse_id_jag_response(response, now=NOW), TokenRequestFailed)
        if isinstance(assertion, TokenRequestFailed):
            happened(reached, type(assertion).__name__)
            return
        # Never an access token of the identity provider, whatever else the answer says.
        said = members_of(response)
        assert (said["issued_token_type"], said["token_type"].lower()) == (ID_JAG_TYPE, "n_a")
        assert assertion == said["access_token"]
        happened(reached, "assertion")

    check()
    reached.insist_on(
        "assertion", InvalidGrant.__name__, TokenRequestFailed.__name__, TokenEndpointUnavailable.__name__
    )


def test_any_refusal_of_a_token_endpoint_has_a_code_or_is_one_typed_error() -> None:
    reached = Reached()

    @thorough
    @given(answers(REFUSAL_DOCUMENT, WRAPPED_REFUSAL, TOKEN_DOCUMENT))
    def check(response: HttpResponse) -> None:
        assert dpop_nonce_error(response) is None
        code = attempted(lambda: read_refusal(response), TokenRequestFailed)
        if isinstance(code, TokenRequestFailed):
            happened(reached, type(code).__name__)
            return
        assert code.isascii()
        assert code.isprintable()
        assert 0 < len(code) <= 80
        happened(reached, code)

    check()
    reached.insist_on("invalid_grant", "invalid_client", "unknown_error", "TokenRequestFailed")


@given(st.text(st.characters(codec=None), max_size=30) | st.sampled_from(ODD_TEXTS), st.sampled_from([400, 401, 200]))
def test_any_nonce_is_one_that_fits_a_header_or_none(nonce: str, status: int) -> None:
    headers = (("DPoP-Nonce", nonce), ("WWW-Authenticate", 'DPoP error="use_dpop_nonce"'))
    found = dpop_nonce(HttpResponse(SERVER, status, headers))

    assert found in {None, nonce}
    assert found is None or (found.isascii() and found.isprintable() and " " not in found)
    assert dpop_nonce_error(HttpResponse(SERVER, status, headers)) == (found if status == 401 else None)


@pytest.mark.requirement("T18", "T13")
def test_any_callback_is_the_code_of_the_expected_answer_or_a_refusal() -> None:
    reached = Reached()
    good = {"code": [CODE], "state": [STATE], "iss": [ISSUER]}
    denied = {"error": ["access_denied"], "error_description": ["No."], "state": [STATE], "iss": [ISSUER]}

    @thorough
    @given(mutated(good, good, denied, {"code": [CODE], "state": [STATE]}))
    def check(document: Any) -> None:
        # A query holds texts; names and values may be any.
        parameters = (
            {
                str(name): [str(value) for value in values]
                for name, values in document.items()
                if isinstance(values, list)
            }
            if isinstance(document, dict)
            else {}
        )
        validated = attempted(lambda: validate_callback(parameters, EXPECTED), AuthorizationFailed)
        if isinstance(validated, CallbackRefused):
            # Nothing of an answer that is not ours is repeated.
            assert "No." not in validated.user_message
            happened(reached, validated.reason)
            return
        assert parameters["state"] == [STATE]
        assert parameters.get("iss", [ISSUER])[:1] in ([], [ISSUER])
        if isinstance(validated, AuthorizationFailed):
            assert type(validated) is AccessDenied
            happened(reached, "denied")
            return
        assert parameters["code"] == [validated.code]
        assert parameters.get("error", []) in ([], [""])
        assert all(len(values) < 2 for values in parameters.values())
        happened(reached, "validated")

    check()
    reached.insist_on("validated", "denied", "issuer_mismatch", "unknown_state", "malformed")


@given(st.text(st.characters(codec=None), max_size=30))
def test_any_state_has_a_hash_and_only_the_right_one_fits(state: str) -> None:
    assert (state_hash(state) == EXPECTED.state_hash) is (state == STATE)


@pytest.mark.requirement("T22")
def test_any_challenge_says_bounded_things_and_a_quotation_hides_whatever_it_holds() -> None:
    reached = Reached()
    bearer = (
        'Bearer realm="x", resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource", '
        'error="insufficient_scope", scope="read write", error_description="More, please"'
    )
    texts = mutated(bearer, f'DPoP algs="ES256", {bearer}', 'Basic realm="a", Bearer', f"Negotiate abc==, {bearer}")

    @thorough
    @given(st.lists(texts, min_size=1, max_size=3), st.text(st.characters(exclude_characters='"\\'), max_size=20))
    def check(values: list[Any], hidden: str) -> None:
        values = [value for value in values if isinstance(value, str)]
        challenges = parse_challenges(values)
        started = time.process_time()
        found = bearer_challenge(values)
        assert time.process_time() - started < MOST_SECONDS
        assert len(challenges) <= MOST_CHALLENGES
        quoted = f'Custom realm="{hidden} Bearer error=insufficient_scope"'
        assert bearer_challenge([quoted, *values]) == found or len(challenges) == MOST_CHALLENGES
        if found is None:
            happened(reached, "none")
            return
        assert found.scope is None or found.scope == " ".join(scope_tokens(found.scope))
        assert found.error is None or (found.error.isascii() and found.error.isprintable() and len(found.error) <= 100)
        assert found.error_description is None or len(found.error_description) <= WORDS_LIMIT
        assert found.error_description is None or found.error_description.isprintable()
        assert found.resource_metadata is None or len(found.resource_metadata) <= 2048
        happened(reached, "dpop" if found.dpop else "bearer")
        if found.error == "insufficient_scope" and found.scope:
            happened(reached, "step-up")

    check()
    reached.insist_on("none", "bearer", "dpop", "step-up")


@given(
    st.text(st.characters(codec=None), max_size=70)
    | st.builds(
        "{}, {} {} {} {}:{}:{} {}".format,
        st.sampled_from(["Wed", "Xyz", ""]),
        st.integers(-1, 99),
        st.sampled_from(["Oct", "Feb", "Foo", "\u00e9"]),
        st.integers(-1, 10**12),
        st.integers(0, 99),
        st.integers(0, 99),
        st.integers(0, 99),
        st.sampled_from(["GMT", "+9999", "-99999999", "EST", "", "+0\u0660"]),
    ),
    st.floats(-(10**15), 10**15),
)
def test_any_retry_after_is_seconds_of_at_most_a_day_or_nothing(text: str, now: float) -> None:
    seconds = retry_after_seconds(HttpResponse(SERVER, 503, (("Retry-After", text),)), now=now)

    assert seconds is None or (isinstance(seconds, int) and 0 <= seconds <= LONGEST_RETRY_AFTER)


def test_any_bytes_are_a_json_object_without_what_json_lacks_or_one_reason() -> None:
    reached = Reached()

    @thorough
    @given(json_bytes(mutated(SERVER_DOCUMENT) | JSON_VALUES), media_types)
    def check(body: bytes, media: str) -> None:
        response = HttpResponse(SERVER, 200, (("content-type", media),), body)
        value = attempted(lambda: json_object(response), NotAJsonObject)
        if isinstance(value, NotAJsonObject):
            assert str(value).isprintable()
            assert len(str(value)) < 60
            happened(reached, str(value))
            return
        # Fit for the database and for JSON that we write ourselves.
        written = json.dumps(value, allow_nan=False)
        if _finite(said := members_of(response)):
            assert json.loads(written) == _bounded(said)
        happened(reached, "object")

    check()
    reached.insist_on("object", "is not JSON", "is JSON but not an object", "is a web page (HTML), not JSON")


def _bounded(value: Any) -> Any:
    """Return a value with its numbers as far as they are read: up to 20 digits."""
    if isinstance(value, dict):
        return {name: _bounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_bounded(item) for item in value]
    if isinstance(value, int) and len(str(value)) > 20:
        return -(10**20) if value < 0 else 10**20
    return value


def _finite(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(_finite(item) for item in inner) and not (isinstance(value, float) and not math.isfinite(value))


def test_any_token_of_another_issuer_has_claims_or_is_one_typed_error() -> None:
    reached = Reached()
    claims = {"iss": ISSUER, "aud": [ISSUER, TOKEN_ENDPOINT], "exp": 3600}

    @thorough
    @given(json_bytes(mutated({"alg": "none", "typ": "JWT"})), json_bytes(mutated(claims)), mutated("{0}.{1}.c2ln"))
    def check(header: bytes, payload: bytes, form: Any) -> None:
        encoded = [_unpadded(part) for part in (header, payload)]
        token = str(form).replace("{0}", encoded[0]).replace("{1}", encoded[1])
        read = attempted(lambda: unverified_claims(token), ConfigurationError)
        if isinstance(read, ConfigurationError):
            assert encoded[1] == "" or encoded[1] not in f"{read!r} {read.__cause__!r}"
            happened(reached, "refused")
            return
        assert isinstance(read, dict)
        named = addressed_to(token, issuer=ISSUER, token_endpoint=TOKEN_ENDPOINT)
        happened(reached, "ours" if named else "not ours")

    check()
    reached.insist_on("ours", "not ours", "refused")


def _unpadded(part: bytes) -> str:
    return urlsafe_b64encode(part).rstrip(b"=").decode()


def test_any_options_are_read_and_written_back_alike_or_one_typed_error() -> None:
    reached = Reached()
    full = {
        "scopes": "read write",
        "resource": "omit",
        "audience": "api",
        "prompt": "consent",
        "extra_parameters": {"access_type": "offline"},
        "registration": "dynamic",
        "token_endpoint_auth_method": "client_secret_post",
        "dpop": "off",
        "tolerate_missing_s256": True,
        "idp_issuer": ISSUER,
    }

    @thorough
    @given(mutated(full, {}, {"scopes": "read"}) | JSON_VALUES)
    def check(stored: Any) -> None:
        options = attempted(lambda: OAuthOptions.from_json(stored), ConfigurationError)
        if isinstance(options, ConfigurationError):
            happened(reached, "refused")
            return
        assert OAuthOptions.from_json(json.loads(json.dumps(options.to_json()))) == options
        assert set(options.opt_outs()) == {name for name in stored if stored[name] is True}
        happened(reached, "read")

    check()
    reached.insist_on("read", "refused")


@given(
    st.sampled_from(["scopes", "resource", "dpop", "tolerate_missing_s256", "extra_parameters", "nonsense", ""]),
    st.sampled_from(["=", "==", ""]),
    st.sampled_from([*ODD_TEXTS, "{" * 5000, '{"a":' * 5000, '{"a": "b"}', "a=b&c", "a=b&c=d", "yes"])
    | st.text(max_size=20),
)
def test_any_option_of_a_command_line_is_read_or_one_typed_error(key: str, separator: str, value: str) -> None:
    try:
        name, read = parse_option(f"{key}{separator}{value}")
    except ConfigurationError as error:
        assert_bounded(error)
    else:
        assert isinstance(OAuthOptions.from_json({name: read}), OAuthOptions)


@pytest.mark.requirement("T41")
def test_any_text_of_headers_is_headers_that_http_can_carry_or_one_typed_error() -> None:
    reached = Reached()
    good = "X-Key: tok-8f3a2b\nAuthorization: Bearer tok-8f3a2b"
    lines = mutated(good, good, "X-Key : a\r\n\r\nY: b", "X-Key: " + "é", "\n".join(f"X-{n}: v" for n in range(20)))

    @thorough
    @given(lines, st.booleans())
    def check(text: Any, twice: bool) -> None:
        text = f"{text}\n{text}" if twice else str(text)
        headers = attempted(lambda: parse_headers(text), InvalidRequest)
        if isinstance(headers, InvalidRequest):
            assert "tok-8f3a2b" not in headers.user_message
            happened(reached, "refused")
            return
        assert len(headers) <= 20
        for name, value in headers.items():
            assert f"{name}{value}".isascii()
            assert f"{name}{value}".isprintable()
            assert ":" not in name
            assert value == value.strip() != ""
        happened(reached, "read")

    check()
    reached.insist_on("read", "refused")
