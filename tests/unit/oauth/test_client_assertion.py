"""A client with a key of its own signs for its issuer alone, and the key itself goes nowhere."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat

from mcp_oauth.exceptions import ConfigurationError
from mcp_oauth.oauth.client_authentication import ASSERTION_LIFETIME, client_assertion
from mcp_oauth.oauth.dpop import new_dpop_key
from mcp_oauth.oauth.registration import ClientCredentials
from mcp_oauth.oauth.revocation import revocation_request
from mcp_oauth.oauth.signing_keys import load_signing_key
from mcp_oauth.oauth.token import client_credentials_request, code_request, refresh_request
from tests.unit.oauth.keys import pem_of, public_pem
from tests.unit.oauth.samples import (
    ISSUER,
    PUBLIC_CLIENT,
    SERVER,
    TOKEN_ENDPOINT,
    confidential_client,
    form_of,
    validated,
)

ALGORITHMS = [("P-256", "ES256"), ("RSA-2048", "RS256"), ("Ed25519", "EdDSA")]
NOW = 1_800_000_000.9


def signing_client(kind: str = "P-256", **changes: Any) -> ClientCredentials:
    """Return a client that signs with the key of a kind."""
    facts = {"token_endpoint_auth_method": "private_key_jwt", "private_key": pem_of(kind), **changes}
    return replace(PUBLIC_CLIENT, **facts)


def verified(assertion: str, kind: str = "P-256", algorithm: str = "ES256", **options: Any) -> dict[str, Any]:
    """Return the claims as the issuer sees them, once the signature and the audience are checked."""
    key = public_pem(pem_of(kind))
    return jwt.decode(assertion, key, algorithms=[algorithm], audience=ISSUER, issuer="client", **options)


@pytest.mark.requirement("rfc7523-3-claims", "rfc7523-3-signed")
@pytest.mark.parametrize(("kind", "algorithm"), ALGORITHMS)
def test_the_issuer_can_verify_who_signed_for_it(kind: str, algorithm: str) -> None:
    before = int(time.time())
    request = refresh_request("rt", token_endpoint=TOKEN_ENDPOINT, client=signing_client(kind), resource=None)

    form = form_of(request)
    assertion = form.pop("client_assertion")
    claims = verified(assertion, kind, algorithm)
    assert form == {
        "grant_type": "refresh_token",
        "refresh_token": "rt",
        "client_id": "client",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert "Authorization" not in request.headers
    assert claims.keys() == {"iss", "sub", "aud", "jti", "iat", "exp"}
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("client", "client", ISSUER)
    assert before <= claims["iat"] <= time.time()
    assert claims["exp"] - claims["iat"] == ASSERTION_LIFETIME == 300
    assert jwt.get_unverified_header(assertion) == {"alg": algorithm, "typ": "JWT"}


@pytest.mark.requirement("rfc7523-2.2-assertion")
def test_every_endpoint_is_shown_an_assertion() -> None:
    client = signing_client()
    requests = [
        code_request(validated(), token_endpoint=TOKEN_ENDPOINT, client=client, resource=SERVER),
        refresh_request("rt", token_endpoint=TOKEN_ENDPOINT, client=client, resource=SERVER),
        client_credentials_request(token_endpoint=TOKEN_ENDPOINT, client=client, resource=SERVER, scope=None),
        revocation_request("rt", "refresh_token", revocation_endpoint=f"{ISSUER}/revoke", client=client),
    ]

    names = [verified(form_of(request)["client_assertion"])["jti"] for request in requests]
    assert len(set(names)) == len(requests)


@pytest.mark.requirement("rfc7523-3-claims")
def test_an_assertion_lives_five_minutes_from_the_second_that_has_begun() -> None:
    claims = verified(client_assertion(signing_client(), now=NOW), options={"verify_exp": False, "verify_iat": False})

    assert (claims["iat"], claims["exp"]) == (1_800_000_000, 1_800_000_300)


def test_the_name_of_the_key_is_in_the_header_when_it_has_one() -> None:
    assertion = client_assertion(signing_client(key_id="key-1"), now=NOW)

    assert jwt.get_unverified_header(assertion)["kid"] == "key-1"
    assert "kid" not in jwt.get_unverified_header(client_assertion(signing_client(key_id=""), now=NOW))


@pytest.mark.requirement("rfc7523-3-audience")
def test_another_issuer_cannot_use_the_assertion() -> None:
    assertion = client_assertion(signing_client(issuer="https://other.example.com"), now=time.time())

    with pytest.raises(jwt.InvalidAudienceError):
        verified(assertion)


def test_another_key_does_not_verify_it() -> None:
    with pytest.raises(jwt.InvalidSignatureError):
        verified(client_assertion(signing_client(private_key=new_dpop_key()), now=time.time()))


@pytest.mark.parametrize("changes", [{"private_key": None}, {"private_key": ""}, {"issuer": ""}])
def test_what_is_missing_is_noticed_before_anything_is_sent(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        refresh_request("rt", token_endpoint=TOKEN_ENDPOINT, client=signing_client(**changes), resource=None)


def test_a_secret_beside_the_key_is_not_sent() -> None:
    client = signing_client(client_secret="s3cret")

    request = refresh_request("rt", token_endpoint=TOKEN_ENDPOINT, client=client, resource=None)

    assert b"s3cret" not in request.body


@pytest.mark.requirement("ext-cc-credentials-protected")
@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_private_key_in_the_place_of_a_secret_is_not_sent(method: str, form: PrivateFormat) -> None:
    client = confidential_client(method, secret=f"\n{pem_of('P-256', form)}")

    with pytest.raises(ConfigurationError, match="never sent"):
        refresh_request("rt", token_endpoint=TOKEN_ENDPOINT, client=client, resource=None)


def test_the_key_is_in_no_text() -> None:
    client = signing_client()
    body = client.private_key.splitlines()[1] if client.private_key else ""
    request = refresh_request("rt", token_endpoint=TOKEN_ENDPOINT, client=client, resource=None)

    assert len(body) > 20
    assert body not in f"{client!r} {client} {request!r} {load_signing_key(pem_of('P-256'))!r}"
    assert "client_assertion" not in f"{request!r}"


@pytest.mark.parametrize(("kind", "algorithm"), ALGORITHMS)
def test_each_kind_of_key_has_one_algorithm(kind: str, algorithm: str) -> None:
    assert load_signing_key(pem_of(kind)).algorithm == algorithm
    assert load_signing_key(f"Bag Attributes\n\n{pem_of(kind)}\n").algorithm == algorithm
    assert load_signing_key(pem_of(kind).replace("\n", "\r\n")).algorithm == algorithm


@pytest.mark.parametrize("kind", ["P-384", "secp256k1", "RSA-1024", "Ed448"])
def test_any_other_key_is_refused_with_the_ones_that_are_not(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="P-256, an Ed25519 key or an RSA key of at least 2048 bits"):
        load_signing_key(pem_of(kind))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s3cret",
        pem_of("P-256", PrivateFormat.TraditionalOpenSSL),
        pem_of("Ed25519", PrivateFormat.OpenSSH),
        pem_of("P-256", password=b"password"),
        public_pem(pem_of("P-256")),
        pem_of("P-256")[:120],
        pem_of("P-256").replace("M", "\u00e9"),
        "-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\n\ud800\n-----END PRIVATE KEY-----\n",
    ],
)
def test_a_text_that_is_no_plain_pkcs8_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_signing_key(text)

    error: BaseException | None = caught.value
    assert "openssl pkcs8" in caught.value.next_step
    while error is not None:
        assert not [line for line in text.split("\n") if line and "-----" not in line and line in repr(error)]
        error = error.__cause__ or error.__context__
