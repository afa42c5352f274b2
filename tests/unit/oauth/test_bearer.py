"""The access token goes to its server's origin and nowhere else."""

from __future__ import annotations

import jwt
import pytest

from mcp_oauth.messages import HttpResponse
from mcp_oauth.oauth.bearer import WireAuth
from mcp_oauth.oauth.dpop import new_dpop_key
from tests.unit.oauth.samples import SERVER


def headers_for(auth: WireAuth, url: str = SERVER, headers: dict[str, str] | None = None) -> dict[str, str]:
    """Return the headers that one request goes out with, by their names in lower case."""
    sent = auth.headers_for("POST", url, headers or {}, b"{}")
    found = {name.lower(): value for name, value in sent.items()}
    assert len(found) == len(sent)
    return found


@pytest.mark.requirement("mcp-auth-bearer-header")
@pytest.mark.parametrize(
    "url", [SERVER, "https://mcp.example.com/other", "https://MCP.example.com:443/.well-known/x?y=z"]
)
def test_the_token_goes_to_the_servers_origin(url: str) -> None:
    assert headers_for(WireAuth(SERVER, "at"), url)["authorization"] == "Bearer at"


@pytest.mark.requirement("oauth21-7.1-tokens-to-audience", "ext-ema-tokens-not-leaked", "rfc6750-5.3-safeguarded")
@pytest.mark.requirement("T17")
@pytest.mark.parametrize(
    "url",
    [
        "http://mcp.example.com/mcp",
        "https://mcp.example.com:8443/mcp",
        "https://evil.example/mcp",
        "https://mcp.example.com.evil.example/mcp",
        "https://sub.mcp.example.com/mcp",
        "https://mcp.example.com.:443/mcp",
    ],
)
def test_no_credential_goes_to_another_origin(url: str) -> None:
    for token in ("at", None):
        sent = headers_for(WireAuth(SERVER, token), url, {"Authorization": "Basic configured", "accept": "*/*"})

        assert sent == {"accept": "*/*"}


@pytest.mark.requirement("T27")
def test_a_configured_header_never_overrides_the_token() -> None:
    for name in ("authorization", "Authorization"):
        assert headers_for(WireAuth(SERVER, "at"), headers={name: "Basic configured"}) == {"authorization": "Bearer at"}


@pytest.mark.parametrize("token", [None, "", "a b", "a\r\nX: y", "caf\u00e9", "\x00"])
def test_without_a_usable_token_a_configured_header_stays(token: str | None) -> None:
    assert headers_for(WireAuth(SERVER, token)) == {}
    assert headers_for(WireAuth(SERVER, token), headers={"Authorization": "Key k"}) == {"authorization": "Key k"}


def test_the_token_is_in_no_text() -> None:
    assert "canary" not in repr(WireAuth(SERVER, "canary", dpop_key=KEY))


# Tokens bound to a key (RFC 9449).

KEY = new_dpop_key()


def exchange(auth: WireAuth, *answers: HttpResponse) -> tuple[list[object], list[bool]]:
    """Show the answers to as many requests; return the nonces of the requests' proofs, and who wants another."""
    nonces, wanted = [], []
    for answer in answers:
        nonces.append(nonce_in(headers_for(auth)["dpop"]))
        wanted.append(auth.wants_nonce(answer))
    return nonces, wanted


def nonce_in(proof: str) -> object:
    return jwt.decode(proof, options={"verify_signature": False}).get("nonce")


def asking(nonce: str, *, error: str = "use_dpop_nonce", status: int = 401) -> HttpResponse:
    return HttpResponse(SERVER, status, (("WWW-Authenticate", f'DPoP error="{error}"'), ("DPoP-Nonce", nonce)))


@pytest.mark.requirement("ext-dpop-scheme", "rfc9449-7.1-scheme", "T17")
def test_a_bound_token_goes_with_a_proof_to_its_server_only() -> None:
    auth = WireAuth(SERVER, "at", dpop_key=KEY)
    sent = headers_for(auth)

    assert sent["authorization"] == "DPoP at"
    assert nonce_in(sent["dpop"]) is None
    assert headers_for(auth, "https://evil.example/mcp") == {}
    assert headers_for(WireAuth(SERVER, None, dpop_key=KEY)) == {}


def test_a_configured_proof_never_stands_beside_ours() -> None:
    for name in ("dpop", "DPoP"):
        sent = headers_for(WireAuth(SERVER, "at", dpop_key=KEY), headers={name: "configured"})

        assert sent["dpop"] != "configured"


def test_only_the_servers_answers_to_a_bound_token_say_a_nonce() -> None:
    assert WireAuth(SERVER, "at", dpop_key=KEY).needs_answers(SERVER)
    assert not WireAuth(SERVER, "at", dpop_key=KEY).needs_answers("https://evil.example/mcp")
    assert not WireAuth(SERVER, None, dpop_key=KEY).needs_answers(SERVER)
    assert not WireAuth(SERVER, "at").needs_answers(SERVER)


@pytest.mark.requirement("rfc9449-4.2-nonce", "rfc9449-8.2-newest")
def test_a_nonce_is_asked_for_and_remembered() -> None:
    renewed = HttpResponse(SERVER, 200, (("DPoP-Nonce", "n-2"),))

    nonces, wanted = exchange(
        WireAuth(SERVER, "at", dpop_key=KEY),
        asking("n-1"),
        renewed,
        HttpResponse(SERVER, 200),
        HttpResponse(SERVER, 200),
    )

    assert nonces == [None, "n-1", "n-2", "n-2"]
    assert wanted == [True, False, False, False]


@pytest.mark.parametrize(
    "answer", [asking("n-1", error="invalid_token"), asking("bad nonce"), asking("n-1", status=403)]
)
def test_no_other_refusal_is_for_want_of_a_nonce(answer: HttpResponse) -> None:
    assert not WireAuth(SERVER, "at", dpop_key=KEY).wants_nonce(answer)
