"""Finding and checking what a server says about itself: protected resource metadata (RFC 9728)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from mcp_oauth.exceptions import DiscoveryFailed
from mcp_oauth.messages import HttpResponse
from mcp_oauth.oauth.json_documents import NotAJsonObject, json_object
from mcp_oauth.oauth.server_words import printable, scope_tokens
from mcp_oauth.oauth.urls import canonical_resource, check_endpoint, insert_well_known, origin

_WELL_KNOWN: Final = "oauth-protected-resource"
_MOST_AUTHORIZATION_SERVERS: Final = 16
_RESOURCE_CHARACTERS = re.compile(r"[\x21\x22\x24-\x7e]{1,2048}")


@dataclass(frozen=True, slots=True)
class ResourceMetadataLocation:
    """One place where the metadata may be, and how we know of it, which decides what ``resource`` must say."""

    url: str
    form: Literal["challenge", "path", "root"]


@dataclass(frozen=True, slots=True)
class ProtectedResourceMetadata:
    """A checked metadata document; ``resource`` is its own text byte for byte and ``document`` its URL."""

    resource: str
    authorization_servers: tuple[str, ...]
    scopes_supported: tuple[str, ...] | None
    document: str
    # Whether the server says that it takes tokens bound to a key (RFC 9728 §2).
    dpop: bool = False


def resource_metadata_locations(server_url: str, challenge: str | None) -> tuple[ResourceMetadataLocation, ...]:
    """Return where to look, best first: the challenge's address, the path's well-known one, the root's (RFC 9728 §3.1).

    ``challenge`` is the ``resource_metadata`` of the Bearer challenge. It is the server's word: check it as an endpoint
    before it is asked. No address comes twice.
    """
    root = f"{origin(server_url)}/.well-known/{_WELL_KNOWN}"
    candidates: list[ResourceMetadataLocation] = []
    if challenge:
        candidates.append(ResourceMetadataLocation(challenge, "challenge"))
    candidates.append(ResourceMetadataLocation(insert_well_known(server_url, _WELL_KNOWN), "path"))
    candidates.append(ResourceMetadataLocation(root, "root"))
    unique: dict[str, ResourceMetadataLocation] = {}
    for location in candidates:
        # A document at the root's address is the root document, however we came to know of it.
        unique.setdefault(location.url, ResourceMetadataLocation(root, "root") if location.url == root else location)
    return tuple(unique.values())


def parse_protected_resource_metadata(
    response: HttpResponse,
    *,
    server_url: str,
    location: ResourceMetadataLocation,
    tolerate_mismatch: bool = False,
    allow_loopback: bool = False,
) -> ProtectedResourceMetadata:
    """Return the checked metadata in an answer from ``location`` (RFC 9728 §3.2, §3.3).

    ``resource`` must be the server's address, or the origin in the root document; ``tolerate_mismatch`` is the
    administrator's opt-out from that check alone.
    Raises: DiscoveryFailed naming the document and the reason.
    """
    document = location.url
    what = "The protected resource metadata"
    if response.status != 200:
        raise DiscoveryFailed(f"{what} was answered with HTTP status {response.status}.", document=document)
    try:
        data = json_object(response)
    except NotAJsonObject as error:
        raise DiscoveryFailed(f"{what} {error}.", document=document) from error
    resource = data.get("resource")
    if resource is None or resource == "":
        raise DiscoveryFailed(f"{what} lacks the member resource.", document=document)
    if not isinstance(resource, str) or not _RESOURCE_CHARACTERS.fullmatch(resource):
        raise DiscoveryFailed(f"{what} has a member resource that is no address.", document=document)
    if not tolerate_mismatch and resource not in _accepted_resources(server_url, location):
        raise DiscoveryFailed(
            f"{what} describes {printable(resource, 200)}, which is not this server ({printable(server_url, 200)}).",
            document=document,
        )
    return ProtectedResourceMetadata(
        resource=resource,
        authorization_servers=_authorization_servers(data, document, allow_loopback=allow_loopback),
        scopes_supported=_scopes(data.get("scopes_supported")),
        document=document,
        dpop=data.get("dpop_bound_access_tokens_required") is True
        or bool(data.get("dpop_signing_alg_values_supported")),
    )


def _accepted_resources(server_url: str, location: ResourceMetadataLocation) -> set[str]:
    accepted = {server_url, canonical_resource(server_url)}
    base = origin(server_url)
    # An empty path and "/" are one resource (RFC 9110 §4.2.3); two SDKs add the slash on their own.
    if location.form == "root" or canonical_resource(server_url) in {base, f"{base}/"}:
        accepted |= {base, f"{base}/"}
    return accepted


def _authorization_servers(data: dict[str, Any], document: str, *, allow_loopback: bool) -> tuple[str, ...]:
    listed = data.get("authorization_servers")
    if not isinstance(listed, list) or not listed:
        raise DiscoveryFailed(
            "The protected resource metadata lacks the member authorization_servers.", document=document
        )
    usable: list[str] = []
    first_problem: DiscoveryFailed | None = None
    for entry in listed[:_MOST_AUTHORIZATION_SERVERS]:
        try:
            issuer = check_endpoint(
                entry, name="authorization_servers", document=document, allow_loopback=allow_loopback
            )
            if "?" in issuer:
                raise DiscoveryFailed("The metadata's authorization_servers contains a query (?).", document=document)
        except DiscoveryFailed as error:
            # One unusable entry does not spoil the others; the first reason is told when none is left.
            first_problem = first_problem or error
        else:
            usable.append(issuer)
    if not usable and first_problem is not None:
        raise first_problem
    return tuple(dict.fromkeys(usable))


def _scopes(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(dict.fromkeys(item for item in value if isinstance(item, str) and scope_tokens(item) == (item,)))
