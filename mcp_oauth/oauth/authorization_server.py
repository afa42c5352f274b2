"""Finding and checking what an issuer says about itself: authorization server metadata (RFC 8414, OpenID discovery)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from mcp_oauth.exceptions import DiscoveryFailed
from mcp_oauth.messages import HttpResponse
from mcp_oauth.oauth.json_documents import NotAJsonObject, json_object
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.oauth.urls import canonical_resource, check_endpoint, issuers_match, origin

_WHAT: Final = "The authorization server's metadata"
_NAME_CHARACTERS = re.compile(r"[\x21-\x7e]{1,300}")
_ISSUER_CHARACTERS = re.compile(r"[\x21-\x7e]{1,2048}")


@dataclass(frozen=True, slots=True)
class AuthorizationServerMetadata:
    """A checked metadata document. ``issuer`` is its own text byte for byte and ``document`` its URL.

    A list is ``None`` where the document has none, which is not the same as an empty one.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: str | None = None
    revocation_endpoint: str | None = None
    scopes_supported: tuple[str, ...] | None = None
    code_challenge_methods_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    grant_types_supported: tuple[str, ...] | None = None
    client_id_metadata_document_supported: bool = False
    authorization_response_iss_parameter_supported: bool = False
    dpop_signing_alg_values_supported: tuple[str, ...] | None = None
    document: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the facts as a JSON object for storage, lists instead of tuples."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AuthorizationServerMetadata:
        """Return the facts that :meth:`to_json` stored; unknown members are passed over.

        Raises: DiscoveryFailed when a required member is missing.
        """
        document = _text(data.get("document")) or ""
        required = {name: _text(data.get(name)) for name in ("issuer", "authorization_endpoint", "token_endpoint")}
        for name, value in required.items():
            if value is None:
                raise DiscoveryFailed(f"The stored metadata lacks the member {name}.", document=document)
        return cls(
            issuer=required["issuer"] or "",
            authorization_endpoint=required["authorization_endpoint"] or "",
            token_endpoint=required["token_endpoint"] or "",
            registration_endpoint=_text(data.get("registration_endpoint")),
            revocation_endpoint=_text(data.get("revocation_endpoint")),
            document=document,
            **_optional_facts(data),
        )


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Return where an issuer's metadata may be, in the specification's order (RFC 8414 §3.1, OpenID Discovery §4).

    Raises: DiscoveryFailed when the issuer is no http address, or has a query or fragment.
    """
    try:
        base = origin(issuer)
        path = canonical_resource(issuer).removeprefix(base).removesuffix("/")
    except ValueError as error:
        raise DiscoveryFailed(f"The issuer {error}.", document=printable(issuer, 200)) from error
    if "?" in issuer or "#" in issuer:
        raise DiscoveryFailed("The issuer contains a query or a fragment.", document=printable(issuer, 200))
    inserted = (
        f"{base}/.well-known/oauth-authorization-server{path}",
        f"{base}/.well-known/openid-configuration{path}",
    )
    return (*inserted, f"{base}{path}/.well-known/openid-configuration") if path else inserted


def parse_authorization_server_metadata(
    response: HttpResponse,
    *,
    issuer: str,
    tolerate_issuer_mismatch: bool = False,
    tolerate_missing_s256: bool = False,
    allow_loopback: bool = False,
) -> AuthorizationServerMetadata:
    """Return the checked metadata in an answer about ``issuer`` (RFC 8414 §3.2, §3.3).

    The document's issuer must be the one asked for and S256 must be among its challenge methods (RFC 7636 §4.2); each
    ``tolerate_…`` is the administrator's opt-out from one of the two. Malformed optional members count as absent.
    Raises: DiscoveryFailed naming the document and the reason.
    """
    document = response.url
    if response.status != 200:
        raise DiscoveryFailed(f"{_WHAT} was answered with HTTP status {response.status}.", document=document)
    try:
        data = json_object(response)
    except NotAJsonObject as error:
        raise DiscoveryFailed(f"{_WHAT} {error}.", document=document) from error

    found_issuer = data.get("issuer")
    if found_issuer is None or found_issuer == "":
        raise DiscoveryFailed(f"{_WHAT} lacks the member issuer.", document=document)
    if not isinstance(found_issuer, str) or not _ISSUER_CHARACTERS.fullmatch(found_issuer):
        raise DiscoveryFailed(f"{_WHAT} has a member issuer that is no address.", document=document)
    if not tolerate_issuer_mismatch and not issuers_match(found_issuer, issuer):
        raise DiscoveryFailed(
            f"{_WHAT} is for the issuer {printable(found_issuer, 200)}, not for {printable(issuer, 200)}.",
            document=document,
        )

    def endpoint(name: str) -> str:
        return check_endpoint(data.get(name), name=name, document=document, allow_loopback=allow_loopback)

    def optional_endpoint(name: str) -> str | None:
        try:
            return endpoint(name)
        except DiscoveryFailed:
            # Nothing is sent to an address that is not usable; connecting may work without it.
            return None

    metadata = AuthorizationServerMetadata(
        issuer=found_issuer,
        authorization_endpoint=endpoint("authorization_endpoint"),
        token_endpoint=endpoint("token_endpoint"),
        registration_endpoint=optional_endpoint("registration_endpoint"),
        revocation_endpoint=optional_endpoint("revocation_endpoint"),
        document=document,
        **_optional_facts(data),
    )
    if not tolerate_missing_s256 and "S256" not in (metadata.code_challenge_methods_supported or ()):
        raise DiscoveryFailed(
            f"{_WHAT} does not list S256 in code_challenge_methods_supported, so the sign-in could not be protected.",
            document=document,
        )
    return metadata


def legacy_metadata(server_url: str) -> AuthorizationServerMetadata:
    """Return the fixed endpoints of a server that an administrator marked as 2025-03-26; never used otherwise."""
    base = origin(server_url)
    return AuthorizationServerMetadata(
        issuer=base,
        authorization_endpoint=f"{base}/authorize",
        token_endpoint=f"{base}/token",
        registration_endpoint=f"{base}/register",
    )


def _optional_facts(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "scopes_supported": _names(data.get("scopes_supported")),
        "code_challenge_methods_supported": _names(data.get("code_challenge_methods_supported")),
        "token_endpoint_auth_methods_supported": _names(data.get("token_endpoint_auth_methods_supported")),
        "grant_types_supported": _names(data.get("grant_types_supported")),
        "client_id_metadata_document_supported": data.get("client_id_metadata_document_supported") is True,
        "authorization_response_iss_parameter_supported": data.get("authorization_response_iss_parameter_supported")
        is True,
        "dpop_signing_alg_values_supported": _names(data.get("dpop_signing_alg_values_supported")),
    }


def _names(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list | tuple):
        return None
    names = (item for item in value if isinstance(item, str) and _NAME_CHARACTERS.fullmatch(item))
    return tuple(dict.fromkeys(names))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
