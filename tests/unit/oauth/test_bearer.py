"""The access token goes to its server's origin and nowhere else."""

from __future__ import annotations

import httpx2
import jwt
import pytest

from mcp_oauth.oauth.bearer import WireAuth, WireChallenge
from mcp_oauth.oauth.dpop import new_dpop_key
from tests.unit.oauth.samples import SERVER


def send(
    auth: WireAuth, url: str, *, answer: httpx2.Response | None = None, headers: dict[str, str] | None = None
) -> httpx2.Request:
    """Send one request through the real client and return what would have gone out."""
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return answer or httpx2.Response(200)

    with httpx2.Client(transport=httpx2.MockTransport(handle), auth=auth, headers=headers) as client:
        client.post(url)
    (request,) = seen
    return request


@pytest.mark.requirement("mcp-auth-bearer-header")
@pytest.mark.parametrize(
    "url", [SERVER, "https://mcp.example.com/other", "https://MCP.example.com:443/.well-known/x?y=z"]
)
def test_the_token_goes_to_the_servers_origin(url: str) -> None:
    assert send(WireAuth(SERVER, "at"), url).headers["Authorization"] == "Bearer at"


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
    request = send(WireAuth(SERVER, "at"), url, headers={"Authorization": "Basic configured"})

    assert "Authorization" not in request.headers


@pytest.mark.requirement("T27")
def test_a_configured_header_never_overrides_the_token() -> None:
    request = send(WireAuth(SERVER, "at"), SERVER, headers={"authorization": "Basic configured"})

    assert request.headers.get_list("Authorization") == ["Bearer at"]


@pytest.mark.parametrize("token", [None, "", "a b", "a\r\nX: y", "caf\u00e9", "\x00"])
def test_without_a_usable_token_a_configured_header_stays(token: str | None) -> None:
    assert "Authorization" not in send(WireAuth(SERVER, token), SERVER).headers
    configured = send(WireAuth(SERVER, token), SERVER, headers={"Authorization": "Key k"})
    assert configured.headers["Authorization"] == "Key k"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_recorded_with_all_its_challenges(status: int) -> None:
    auth = WireAuth(SERVER, "at")
    answer = httpx2.Response(
        status, headers=[("WWW-Authenticate", "Basic"), ("www-authenticate", 'Bearer error="x", scope="a"')]
    )

    send(auth, SERVER, answer=answer)

    assert auth.challenges == [WireChallenge(status, ("Basic", 'Bearer error="x", scope="a"'))]
    assert auth.last_challenge == auth.challenges[-1]


@pytest.mark.parametrize("status", [200, 202, 400, 404, 500])
def test_nothing_else_is_recorded(status: int) -> None:
    auth = WireAuth(SERVER, "at")

    send(auth, SERVER, answer=httpx2.Response(status, headers={"WWW-Authenticate": "Bearer"}))

    assert auth.challenges == []
    assert auth.last_challenge is None


def test_a_refusal_by_another_origin_is_none_of_the_servers() -> None:
    auth = WireAuth(SERVER, "at")

    send(auth, "https://evil.example/", answer=httpx2.Response(401, headers={"WWW-Authenticate": "Bearer"}))

    assert auth.challenges == []


def test_a_refusal_is_asked_about_once_only() -> None:
    # ``send`` insists on exactly one request.
    send(WireAuth(SERVER, "at"), SERVER, answer=httpx2.Response(401))


def test_the_token_is_in_no_text() -> None:
    auth = WireAuth(SERVER, "canary")

    send(auth, SERVER, answer=httpx2.Response(401, headers={"WWW-Authenticate": 'Bearer error_description="canary"'}))

    assert "canary" not in f"{auth!r} {auth.last_challenge!r}"


# Tokens bound to a key (RFC 9449).

KEY = new_dpop_key()


def exchange(auth: WireAuth, *answers: httpx2.Response, url: str = SERVER) -> list[httpx2.Request]:
    """Send as many requests as it takes to use the answers up; return a copy of what went out."""
    seen: list[httpx2.Request] = []
    left = list(answers)

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(httpx2.Request(request.method, request.url, headers=request.headers))
        return left.pop(0)

    with httpx2.Client(transport=httpx2.MockTransport(handle), auth=auth) as client:
        while left:
            client.post(url)
    return seen


def nonce_of(request: httpx2.Request) -> object:
    return jwt.decode(request.headers["DPoP"], options={"verify_signature": False}).get("nonce")


def asking(nonce: str, *, error: str = "use_dpop_nonce") -> httpx2.Response:
    return httpx2.Response(401, headers={"WWW-Authenticate": f'DPoP error="{error}"', "DPoP-Nonce": nonce})


@pytest.mark.requirement("ext-dpop-scheme", "rfc9449-7.1-scheme", "T17")
def test_a_bound_token_goes_with_a_proof_to_its_server_only() -> None:
    (request,) = exchange(WireAuth(SERVER, "at", dpop_key=KEY), httpx2.Response(200))
    (other,) = exchange(WireAuth(SERVER, "at", dpop_key=KEY), httpx2.Response(200), url="https://evil.example/mcp")
    (without,) = exchange(WireAuth(SERVER, None, dpop_key=KEY), httpx2.Response(200))

    assert request.headers["Authorization"] == "DPoP at"
    assert nonce_of(request) is None
    assert not {"authorization", "dpop"} & {*other.headers, *without.headers}


@pytest.mark.requirement("rfc9449-4.2-nonce", "rfc9449-8.2-newest")
def test_a_nonce_is_repeated_with_once_and_remembered() -> None:
    auth = WireAuth(SERVER, "at", dpop_key=KEY)

    seen = exchange(auth, asking("n-1"), httpx2.Response(200, headers={"DPoP-Nonce": "n-2"}), httpx2.Response(200))

    assert [nonce_of(request) for request in seen] == [None, "n-1", "n-2"]
    assert auth.challenges == []


def test_the_second_refusal_is_the_last_word() -> None:
    auth = WireAuth(SERVER, "at", dpop_key=KEY)

    # Were it asked for a third time, there would be no answer left.
    seen = exchange(auth, asking("n-1"), asking("n-2"))

    assert [nonce_of(request) for request in seen] == [None, "n-1"]
    assert [challenge.status for challenge in auth.challenges] == [401]


@pytest.mark.parametrize("answer", [asking("n-1", error="invalid_token"), asking("bad nonce")])
def test_nothing_else_is_repeated(answer: httpx2.Response) -> None:
    auth = WireAuth(SERVER, "at", dpop_key=KEY)

    assert len(exchange(auth, answer)) == 1
    assert [challenge.status for challenge in auth.challenges] == [401]


def test_a_bearer_token_is_not_repeated_for_a_nonce() -> None:
    assert len(exchange(WireAuth(SERVER, "at"), asking("n-1"))) == 1
