"""A proof says which request it is for, and only the holder of the key can have made it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mcp_oauth.exceptions import ConfigurationError, TokenEndpointUnavailable, TokenRequestFailed
from mcp_oauth.messages import HttpResponse
from mcp_oauth.oauth.dpop import dpop_nonce, dpop_nonce_error, dpop_proof, new_dpop_key, wants_dpop
from mcp_oauth.oauth.token import parse_token_response
from tests.unit.oauth.keys import pem_of, public_pem
from tests.unit.oauth.samples import METADATA, SERVER, TOKEN_ENDPOINT, json_response, raw_response

NOW = 1_800_000_000.9
KEY = new_dpop_key()


def verified(proof: str) -> dict[str, Any]:
    """Return the claims as a server sees them, which knows no key but the one in the header (RFC 9449 §4.3)."""
    header = jwt.get_unverified_header(proof)
    assert (header["typ"], header["alg"]) == ("dpop+jwt", "ES256")
    return jwt.decode(proof, jwt.PyJWK(header["jwk"]), algorithms=["ES256"], options={"verify_iat": False})


def proof(**changes: Any) -> str:
    return dpop_proof(**{"key": KEY, "method": "POST", "url": TOKEN_ENDPOINT, "now": NOW, **changes})


@pytest.mark.requirement("ext-dpop-algorithm")
def test_a_new_key_is_one_of_its_own_for_es256() -> None:
    key = load_pem_private_key(KEY.encode(), password=None)

    assert KEY.startswith("-----BEGIN PRIVATE KEY-----\n")
    assert isinstance(key, EllipticCurvePrivateKey)
    assert isinstance(key.curve, SECP256R1)
    assert new_dpop_key() != KEY


@pytest.mark.requirement("rfc9449-4.2-claims", "rfc9449-11.6-asymmetric", "ext-dpop-asymmetric")
def test_a_server_can_verify_what_the_proof_is_for() -> None:
    claims = verified(proof())

    assert claims.pop("jti")
    assert claims == {"htm": "POST", "htu": TOKEN_ENDPOINT, "iat": 1_800_000_000}


@pytest.mark.requirement("rfc9449-4.2-header", "rfc9449-4.2-no-private-key")
def test_the_header_shows_the_public_half_of_the_key_and_nothing_else() -> None:
    header = jwt.get_unverified_header(proof())

    assert header.keys() == {"typ", "alg", "jwk"}
    assert header["jwk"].keys() == {"kty", "crv", "x", "y"}
    key = load_pem_private_key(KEY.encode(), password=None)
    assert jwt.PyJWK(header["jwk"]).key == key.public_key()


def test_a_proof_with_another_key_in_its_header_does_not_verify() -> None:
    _, _, signature = proof().split(".")
    head, claims, _ = proof(key=new_dpop_key()).split(".")

    with pytest.raises(jwt.InvalidSignatureError):
        verified(f"{head}.{claims}.{signature}")


@pytest.mark.requirement("rfc9449-4.2-claims")
def test_no_two_proofs_have_the_same_name() -> None:
    assert len({verified(proof())["jti"] for _ in range(20)}) == 20


@pytest.mark.requirement("rfc9449-4.2-ath", "ext-dpop-proof")
def test_the_token_sent_along_is_named_by_its_hash() -> None:
    # The example of RFC 9449 §7.1.
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"

    assert verified(proof(access_token=token))["ath"] == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
    digest = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest())
    assert digest == b"fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo="
    assert token not in json.dumps(verified(proof(access_token=token)))


@pytest.mark.requirement("rfc9449-4.2-nonce")
def test_a_nonce_is_repeated_as_it_came() -> None:
    assert verified(proof(nonce="n~once/+="))["nonce"] == "n~once/+="
    assert "nonce" not in verified(proof())


@pytest.mark.requirement("rfc9449-4.2-claims")
@pytest.mark.parametrize(
    ("url", "target"),
    [
        (f"{SERVER}?a=b", SERVER),
        (f"{SERVER}#c", SERVER),
        (f"{SERVER}?a=b#c", SERVER),
        (f"{SERVER}#c?d", SERVER),
        (f"{SERVER}/", f"{SERVER}/"),
        ("HTTPS://MCP.Example.com:443/A%2fb", "https://mcp.example.com/A%2fb"),
        ("https://mcp.example.com", "https://mcp.example.com/"),
        ("https://mcp.example.com?a=/b", "https://mcp.example.com/"),
        ("http://127.0.0.1:8000/mcp", "http://127.0.0.1:8000/mcp"),
        ("http://[::1]:8000/mcp", "http://[::1]:8000/mcp"),
        ("https://user:s3cret@mcp.example.com/mcp", SERVER),
    ],
)
def test_the_target_is_the_address_without_query_and_fragment(url: str, target: str) -> None:
    assert verified(proof(url=url))["htu"] == target


@pytest.mark.parametrize("url", ["", "mcp", "ftp://mcp.example.com/", "https://"])
def test_there_is_no_proof_for_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        proof(url=url)


@pytest.mark.parametrize("method", ["GET", "get", "DELETE"])
def test_the_method_is_written_as_it_is_sent(method: str) -> None:
    assert verified(proof(method=method))["htm"] == method.upper()


@pytest.mark.requirement("rfc9449-11.6-asymmetric", "ext-dpop-asymmetric")
@pytest.mark.parametrize("key", ["", "s3cret", pem_of("P-384"), pem_of("RSA-2048"), pem_of("Ed25519")])
def test_any_other_key_signs_no_proof(key: str) -> None:
    with pytest.raises(ConfigurationError):
        proof(key=key)
    with pytest.raises(ConfigurationError):
        proof(key=public_pem(KEY))


def test_an_access_token_that_is_no_ascii_is_not_repeated_by_an_error() -> None:
    assert "caf" not in json.dumps(verified(proof(access_token="caf\u00e9\ud800")))


@pytest.mark.parametrize(
    ("supported", "wanted"),
    [
        (None, False),
        ((), False),
        (("none",), False),
        (("RS256", "EdDSA"), False),
        (("ES256",), True),
        (("RS256", "ES256", "none"), True),
    ],
)
def test_dpop_is_for_servers_that_take_our_algorithm(supported: tuple[str, ...] | None, wanted: bool) -> None:
    assert wants_dpop(replace(METADATA, dpop_signing_alg_values_supported=supported)) is wanted


def refused(status: int = 400, error: object = "use_dpop_nonce", **headers: str) -> HttpResponse:
    return json_response({"error": error}, status=status, headers={"DPoP-Nonce": "n-1", **headers})


def challenged(challenge: str, status: int = 401, nonce: str = "n-1") -> HttpResponse:
    headers = {"WWW-Authenticate": challenge, "dpop-nonce": nonce}
    return raw_response(b"", url=SERVER, status=status, headers=headers)


def test_a_token_endpoint_that_wants_a_nonce_says_which() -> None:
    assert dpop_nonce_error(refused()) == "n-1"
    with pytest.raises(TokenRequestFailed) as caught:
        parse_token_response(refused(), now=NOW, requested_scope="", expected_type="DPoP")
    # It says nothing about the grant, should the second try be refused as well.
    assert type(caught.value) is TokenEndpointUnavailable


@pytest.mark.parametrize(
    "challenge",
    [
        'DPoP error="use_dpop_nonce", error_description="…", resource_metadata="https://mcp.example.com/x"',
        "dpop error=use_dpop_nonce",
        'Bearer error="invalid_token", DPoP algs="ES256", error="use_dpop_nonce"',
    ],
)
def test_a_server_that_wants_a_nonce_says_which(challenge: str) -> None:
    assert dpop_nonce_error(challenged(challenge)) == "n-1"


@pytest.mark.parametrize(
    "response",
    [
        refused(error="invalid_grant"),
        refused(error=["use_dpop_nonce"]),
        refused(status=200),
        refused(status=401),
        refused(status=500),
        raw_response(b"use_dpop_nonce", status=400, headers={"DPoP-Nonce": "n-1"}),
        raw_response(b"[]", status=400, headers={"DPoP-Nonce": "n-1"}),
        json_response({"error": "use_dpop_nonce"}, status=400),
        challenged('Bearer error="use_dpop_nonce"'),
        challenged('DPoP error="invalid_token"'),
        challenged("DPoP"),
        challenged('DPoP error="use_dpop_nonce"', status=403),
        challenged('DPoP error="use_dpop_nonce"', status=400),
        challenged('DPoP error="use_dpop_nonce"', nonce=""),
    ],
)
def test_any_other_refusal_is_no_call_for_a_nonce(response: HttpResponse) -> None:
    assert dpop_nonce_error(response) is None


@pytest.mark.parametrize("nonce", ["", "a b", 'a"b', "a\\b", "a\r\nb", "caf\u00e9", "n" * 2049])
def test_a_malformed_nonce_is_none(nonce: str) -> None:
    assert dpop_nonce_error(challenged('DPoP error="use_dpop_nonce"', nonce=nonce)) is None
    assert dpop_nonce(raw_response(b"", headers={"DPoP-Nonce": nonce})) is None


def test_a_good_answer_may_bring_the_next_nonce() -> None:
    assert dpop_nonce(raw_response(b"{}", headers={"DPoP-Nonce": "n-2"})) == "n-2"
    assert dpop_nonce(raw_response(b"{}")) is None
