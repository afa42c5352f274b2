"""Who the clients are: entered by hand, registered by themselves, or speaking for their own document."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx2

from project.peers.authorization_server.core import Core
from project.peers.authorization_server.messages import string_list
from project.peers.authorization_server.records import Refusal, UnknownClient
from project.peers.registry import Client, digest

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
CLIENT_DOCUMENT_BYTES = 65536


class ClientDirectory:
    """Finds clients by their id."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._from_documents: dict[str, Client] = {}

    def forget(self) -> None:
        """Forget every client that registered itself or was read from a document."""
        self.core.registry.clients.clear()
        self._from_documents.clear()
        self.core.registry.save()

    def known(self, client_id: str) -> Client | None:
        """Return a client that needs no request to be found."""
        for entry in self.core.options.clients:
            if entry.client_id == client_id:
                secret = entry.client_secret
                return Client(
                    client_id=client_id,
                    kind="preregistered",
                    client_name=entry.client_name or client_id,
                    redirect_uris=entry.redirect_uris,
                    token_endpoint_auth_method=entry.token_endpoint_auth_method
                    or ("" if secret else "private_key_jwt" if entry.public_key else "none"),
                    secret_digest=digest(secret) if secret else None,
                    public_key=entry.public_key,
                )
        return self.core.registry.clients.get(client_id) or self._from_documents.get(client_id)

    async def find(self, client_id: str, *, fresh: bool = False) -> Client | None:
        """Return a client by id, reading its metadata document when the id is a URL."""
        known = self.known(client_id)
        is_url = client_id.startswith(("https://", "http://"))
        if known is not None and not (fresh and known.kind == "cimd"):
            return known
        if not (is_url and self.core.options.cimd):
            return None
        client = await fetch_client_document(client_id)
        self._from_documents[client_id] = client
        return client


async def fetch_client_document(client_id: str) -> Client:
    """Read a client ID metadata document and check that it speaks for its own URL.

    Plain http is accepted on loopback hosts only: this is a development server.

    Raises: ``UnknownClient`` with the reason.
    """
    parts = urlsplit(client_id)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK_HOSTS:
        raise UnknownClient("The application's metadata document is not served over https.")
    if parts.username is not None or parts.fragment or parts.path in {"", "/"}:
        raise UnknownClient("The application's client ID is not the URL of a metadata document.")
    try:
        async with httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=5) as http:
            answer = await http.get(client_id, headers={"accept": "application/json"})
    except httpx2.HTTPError as error:
        raise UnknownClient("The application's metadata document could not be read.") from error
    if answer.status_code != 200 or len(answer.content) > CLIENT_DOCUMENT_BYTES:
        raise UnknownClient("The application's metadata document could not be read.")
    try:
        document = answer.json()
    except ValueError as error:
        raise UnknownClient("The application's metadata document is not JSON.") from error
    if not isinstance(document, dict) or document.get("client_id") != client_id:
        raise UnknownClient("The application's metadata document names another client.")
    if document.get("token_endpoint_auth_method", "none") != "none" or "client_secret" in document:
        raise UnknownClient("The application's metadata document asks for a shared secret.")
    try:
        redirect_uris = string_list(document, "redirect_uris", default=())
        grant_types = string_list(document, "grant_types", default=("authorization_code",))
    except Refusal as error:
        raise UnknownClient("The application's metadata document is malformed.") from error
    if not redirect_uris:
        raise UnknownClient("The application's metadata document lists no redirect URI.")
    return Client(
        client_id=client_id,
        kind="cimd",
        client_name=str(document.get("client_name") or parts.netloc)[:100],
        client_uri=str(document.get("client_uri") or ""),
        redirect_uris=redirect_uris,
        token_endpoint_auth_method="none",  # noqa: S106 - the name of a method, not a secret
        grant_types=grant_types,
    )
