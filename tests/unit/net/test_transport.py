"""The guarded transport against real sockets: whom it dials, what it sends, what it accepts."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
import select
import socket
import ssl
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any

import aiohappyeyeballs
import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mcp_oauth.exceptions import (
    AddressBlocked,
    DeadlineExceeded,
    McpOAuthError,
    ResponseTooLarge,
    ServerUnreachable,
)
from mcp_oauth.messages import HttpRequest
from mcp_oauth.net import dialling
from mcp_oauth.net.dialling import GuardedConnector, Resolver
from mcp_oauth.net.faults import NetworkFault, shown_url, translate_fault
from mcp_oauth.net.policy import NetworkPolicy
from mcp_oauth.net.transport import GuardedTransport
from tests.servers.peer import Peer, Received, http_answer, running_peer
from tests.unit.net.reading import read_all

DEVELOPMENT = NetworkPolicy(allow_loopback=True)
PRODUCTION = NetworkPolicy()


def send(
    url: str,
    policy: NetworkPolicy = DEVELOPMENT,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    resolve: Resolver | None = None,
    times: int = 1,
    limit_bytes: int | None = None,
) -> list[tuple[int, bytes]]:
    """Send a request through one guarded transport, ``times`` times, and return the answers."""

    async def work() -> list[tuple[int, bytes]]:
        transport = GuardedTransport(policy, resolve=resolve)
        answers = []
        try:
            for _ in range(times):
                response = await transport.send(HttpRequest(method, url, headers or {}), limit_bytes=limit_bytes)
                answers.append((response.status, await read_all(response)))
        finally:
            await transport.aclose()
        return answers

    return asyncio.run(work())


def refused(kind: type[McpOAuthError], *arguments: Any, **options: Any) -> McpOAuthError:
    """Send a request that must fail and return our error."""
    with pytest.raises(NetworkFault) as caught:
        send(*arguments, **options)
    assert type(caught.value.error) is kind
    return caught.value.error


def answering(*addresses: str) -> Resolver:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


def in_turn(*answers: list[str]) -> Resolver:
    remaining = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        return remaining.pop(0)

    return resolve


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the addresses that are to be dialled, and let none of them answer."""
    seen: list[str] = []

    async def start_connection(addr_infos: Sequence[Any], **options: Any) -> socket.socket:
        seen.extend(address[0] for *_, address in addr_infos)
        raise OSError("nobody is there")

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", start_connection)
    return seen


@pytest.mark.requirement("mcp-bp-private-addresses", "T01", "T02")
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0x7f.1", "127.9.9.9", "[::1]"],
)
def test_loopback_in_any_spelling_is_never_dialled_in_production(host: str) -> None:
    with running_peer(lambda received: http_answer()) as bait:
        refused(AddressBlocked, f"https://{host}:{bait.port}/", PRODUCTION)
        refused(AddressBlocked, f"http://{host}:{bait.port}/", PRODUCTION)

    assert bait.connections == 0


@pytest.mark.requirement("T01")
@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "fe80::1", "64:ff9b::7f00:1", "2002:7f00:1::1"])
def test_a_name_that_resolves_off_the_internet_is_not_dialled(
    address: str, dialled: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    error = refused(AddressBlocked, "https://mcp.example/", PRODUCTION, resolve=answering(address))

    assert dialled == []
    # Where a name leads to in our network is for the operator's log, not for whoever entered the name.
    assert error.user_message == "mcp.example:443 is not contacted: it is not on the public internet."
    assert f"mcp.example:443 leads to {address}" in caplog.text


@pytest.mark.requirement("T01")
def test_one_private_address_among_public_ones_spoils_the_name(dialled: list[str]) -> None:
    refused(AddressBlocked, "https://mcp.example/", PRODUCTION, resolve=answering("8.8.8.8", "10.0.0.1"))

    assert dialled == []


@pytest.mark.requirement("mcp-bp-ssrf", "T03")
def test_a_name_that_changes_its_address_is_dialled_where_it_was_checked(dialled: list[str]) -> None:
    resolve = in_turn(["8.8.8.8"], ["127.0.0.1"])

    refused(ServerUnreachable, "https://mcp.example/", PRODUCTION, resolve=resolve)
    refused(AddressBlocked, "https://mcp.example/", PRODUCTION, resolve=resolve)

    assert dialled == ["8.8.8.8"]


@pytest.mark.requirement("T04")
def test_ipv4_is_tried_first_and_every_address_once(dialled: list[str]) -> None:
    resolve = answering("2606:4700::1111", "8.8.8.8", "2606:4700::1111", "1.1.1.1")

    refused(ServerUnreachable, "https://mcp.example/", PRODUCTION, resolve=resolve)

    assert dialled == ["8.8.8.8", "1.1.1.1", "2606:4700::1111"]


def test_a_name_with_a_thousand_addresses_is_given_up_soon(dialled: list[str]) -> None:
    resolve = answering(*(f"8.8.{third}.{fourth}" for third in range(4) for fourth in range(250)))

    refused(ServerUnreachable, "https://mcp.example/", PRODUCTION, resolve=resolve)

    assert len(dialled) == 8


@pytest.mark.requirement("T04")
def test_the_next_address_is_tried_when_the_first_refuses() -> None:
    with running_peer(lambda received: http_answer(body=b"here")) as peer:
        url = peer.url(host="localhost")

        assert send(url, resolve=answering("127.0.0.9", "127.0.0.1")) == [(200, b"here")]


@pytest.mark.requirement("T04")
def test_the_next_address_is_tried_when_the_first_is_a_black_hole() -> None:
    with running_peer(lambda received: http_answer(body=b"here")) as peer, socket.socket() as hole:
        hole.bind(("127.0.0.2", peer.port))
        hole.listen(0)
        # A full backlog drops every further SYN.
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.2", peer.port))
            url = peer.url(host="localhost")

            assert send(url, resolve=answering("127.0.0.2", "127.0.0.1")) == [(200, b"here")]
        finally:
            for filler in fillers:
                filler.close()


def test_an_unresolvable_name_is_said_to_be_one() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    error = refused(ServerUnreachable, "https://mcp.example/", PRODUCTION, resolve=resolve)

    assert error.user_message == "The name 'mcp.example' does not resolve to an address."


def test_a_resolver_that_hangs_is_bounded_by_the_connection_time() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    refused(DeadlineExceeded, "https://mcp.example/", NetworkPolicy(connect_seconds=0.1), resolve=resolve)


@pytest.mark.requirement("mcp-bp-https", "oauth21-1.5-https", "ext-ema-no-insecure-channel", "ext-wif-secure-channel")
@pytest.mark.requirement("rfc8693-5-tls", "T08")
@pytest.mark.parametrize("url", ["http://mcp.example/", "http://8.8.8.8/", "ftp://mcp.example/", "https:///path"])
def test_anything_but_https_is_refused_even_in_development(url: str, dialled: list[str]) -> None:
    refused(AddressBlocked, url, DEVELOPMENT, resolve=answering("8.8.8.8"))

    assert dialled == []


def test_a_url_with_a_password_is_refused_and_not_quoted() -> None:
    with running_peer(lambda received: http_answer()) as bait:
        error = refused(AddressBlocked, f"http://user:hunter22@127.0.0.1:{bait.port}/")

    assert bait.connections == 0
    assert "hunter22" not in error.user_message


@pytest.mark.requirement("T06")
def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_peer(lambda received: http_answer()) as proxy, running_peer(lambda received: http_answer()) as peer:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        send(peer.url())

    assert (proxy.connections, len(peer.requests)) == (0, 1)


def test_one_connection_serves_several_requests() -> None:
    with running_peer(lambda received: http_answer()) as peer:
        send(peer.url(), times=3)

    assert (peer.connections, len(peer.requests)) == (1, 3)


@contextlib.contextmanager
def serving_twice(parting: bytes) -> Iterator[tuple[str, Event, Event]]:
    """Serve on two connections; ``parting`` is said on the first one once it idles, and nothing if that is empty.

    Yields the address, what lets it be said, and what tells that it has been.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    go, gone = Event(), Event()

    def serve() -> None:
        for number in (b"first", b"second"):
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(65536)
                connection.sendall(http_answer(body=number))
                assert go.wait(10)
                if parting:
                    connection.sendall(parting)
                else:
                    connection.shutdown(socket.SHUT_WR)
                gone.set()
                # Whoever comes again is told something wrong; what was never read resets the connection.
                with contextlib.suppress(ConnectionError):
                    if connection.recv(65536):
                        connection.sendall(http_answer(body=b"late"))

    thread = Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", go, gone
    finally:
        go.set()
        thread.join(10)
        listener.close()


@pytest.mark.requirement("T32")
@pytest.mark.parametrize("turns", [0, 5], ids=["unseen", "seen"])
@pytest.mark.parametrize("parting", [http_answer(body=b"unasked"), b""], ids=["answer", "goodbye"])
def test_a_connection_whose_server_spoke_meanwhile_serves_nobody_else(
    parting: bytes, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_connection = aiohappyeyeballs.start_connection
    opened: list[socket.socket] = []

    async def remembered(*arguments: Any, **options: Any) -> socket.socket:
        opened.append(await start_connection(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", remembered)

    async def work(url: str, go: Event, gone: Event) -> list[bytes]:
        async with aiohttp.ClientSession(connector=GuardedConnector(DEVELOPMENT)) as session:
            bodies = [await (await session.post(url)).read()]
            go.set()
            # The loop gets no turn before it has arrived.
            assert gone.wait(10)
            assert select.select([opened[0]], [], [], 10)[0]
            for _ in range(turns):
                await asyncio.sleep(0)
            bodies.append(await (await session.post(url)).read())
            return bodies

    with serving_twice(parting) as (url, go, gone):
        assert asyncio.run(work(url, go, gone)) == [b"first", b"second"]


def test_no_encoding_is_asked_for_whatever_the_caller_says() -> None:
    with running_peer(lambda received: http_answer()) as peer:
        send(peer.url(), headers={"Accept-Encoding": "gzip, br"})

    assert peer.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.requirement("T30")
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP"])
def test_an_encoded_body_is_refused(encoding: str) -> None:
    body = gzip.compress(b"0" * 1_000_000)
    with running_peer(lambda received: http_answer(body=body, headers={"content-encoding": encoding})) as peer:
        refused(ServerUnreachable, peer.url())


def test_an_announced_oversize_is_refused_unread() -> None:
    start = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999999999\r\n\r\n"
    with running_peer(lambda received: [start]) as peer:
        refused(ResponseTooLarge, peer.url())


def endless(received: Received) -> Any:
    yield b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    for _ in range(1600):
        yield piece


@pytest.mark.requirement("T30")
def test_a_hundred_megabytes_are_cut_off_at_the_limit_without_being_kept() -> None:
    with running_peer(endless) as peer:
        tracemalloc.start()
        try:
            refused(ResponseTooLarge, peer.url(), limit_bytes=1_000_000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 4_000_000


def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    with running_peer(lambda received: http_answer(body=b"x" * 100)) as peer:
        assert send(peer.url(), limit_bytes=100) == [(200, b"x" * 100)]
        refused(ResponseTooLarge, peer.url(), limit_bytes=99)


@pytest.mark.parametrize(
    "answer",
    [
        [b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"],
        [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nhalf"],
        [b"HTTP/1.1 200"],
        [b""],
        [b"SSH-2.0-OpenSSH_9.9\r\n"],
        [b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n"],
    ],
    ids=["length", "chunk", "status", "nothing", "ssh", "headers"],
)
def test_a_broken_answer_is_a_typed_error_that_names_the_url(answer: list[bytes]) -> None:
    with running_peer(lambda received: answer) as peer:
        error = refused(ServerUnreachable, peer.url("/mcp"))

    assert f"http://127.0.0.1:{peer.port}/mcp" in error.user_message


@pytest.mark.requirement("T32")
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_a_request_whose_connection_breaks_is_not_sent_again(method: str) -> None:
    with running_peer(lambda received: b"") as peer:
        refused(ServerUnreachable, peer.url(), method=method)

    assert len(peer.requests) == 1


@pytest.mark.requirement("T32")
def test_one_dropped_answer_leaves_its_siblings_alone() -> None:
    def answer(received: Received) -> Any:
        if received.path == "/bad":
            return [b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"]
        return http_answer(body=b"good")

    async def work(peer: Peer) -> list[Any]:
        transport = GuardedTransport(DEVELOPMENT)

        async def one(path: str) -> bytes:
            return await read_all(await transport.send(HttpRequest("GET", peer.url(path))))

        try:
            return await asyncio.gather(*(one(path) for path in ("/good", "/bad", "/good")), return_exceptions=True)
        finally:
            await transport.aclose()

    with running_peer(answer) as peer:
        first, second, third = asyncio.run(work(peer))

    assert (first, third) == (b"good", b"good")
    assert isinstance(second, NetworkFault)


@pytest.mark.parametrize("value", ["secret\r\nx-evil: 1", "secret\x00", "secret\n", " secret"])
def test_a_header_that_http_forbids_is_not_sent_and_not_quoted(value: str) -> None:
    with running_peer(lambda received: http_answer()) as peer:
        error = refused(ServerUnreachable, peer.url(), headers={"x-key": value})

    assert peer.connections == 0
    assert "secret" not in error.user_message


def test_a_handshake_that_hangs_is_bounded_by_the_connection_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"

        refused(DeadlineExceeded, url, NetworkPolicy(allow_loopback=True, connect_seconds=0.2))


def test_nothing_is_listening() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        error = refused(ServerUnreachable, f"http://127.0.0.1:{port}/mcp")

    assert error.user_message == f"http://127.0.0.1:{port}/mcp cannot be reached: the connection failed."


def test_a_message_never_shows_the_query() -> None:
    assert shown_url("https://user:password@mcp.example/mcp?key=secret#fragment") == "https://mcp.example/mcp"
    assert shown_url("https://mcp\x00.example") == "the address"
    error = translate_fault(aiohttp.ClientOSError("key=secret"), "https://mcp.example/mcp?key=secret")
    assert error.user_message == "https://mcp.example/mcp broke the connection off."


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """Make a self-signed certificate for a name; return its file and a server context that uses it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return path, context


@pytest.mark.requirement("ext-ema-certificates", "rfc6749-10.9-certificates", "rfc6750-5.3-certificates")
@pytest.mark.requirement("rfc7591-5-https", "rfc8414-6.1-certificates", "rfc8693-5-tls", "rfc9728-7.1-certificates")
def test_a_certificate_nobody_vouches_for_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    _, tls = certificate(tmp_path, "mcp.example")
    with running_peer(lambda received: http_answer(), tls=tls) as peer:
        url = peer.url(host="mcp.example")
        error = refused(ServerUnreachable, url, resolve=answering("127.0.0.1"))

    assert "certificate" in error.user_message
    assert peer.requests == []


@pytest.mark.requirement("ext-ema-certificates", "rfc6749-10.9-certificates")
def test_the_certificate_is_checked_for_the_name_although_an_address_is_dialled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tls = certificate(tmp_path, "mcp.example")
    monkeypatch.setattr(dialling, "_tls_context", lambda: ssl.create_default_context(cafile=path))
    with running_peer(lambda received: http_answer(body=b"here"), tls=tls) as peer:
        resolve = answering("127.0.0.1")

        assert send(peer.url(host="mcp.example"), resolve=resolve) == [(200, b"here")]
        refused(ServerUnreachable, peer.url(host="other.example"), resolve=resolve)

    assert len(peer.requests) == 1
