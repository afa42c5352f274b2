"""Finds out which authorization server protects an MCP server (RFC 9728, RFC 8414)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import DiscoveryFailed, McpOAuthError, ServerUnreachable
from mcp_oauth.messages import HttpRequest
from mcp_oauth.models import McpServer
from mcp_oauth.oauth.authorization_server import (
    AuthorizationServerExamination,
    AuthorizationServerMetadata,
    GrantType,
    examine_authorization_server_metadata,
    legacy_metadata,
    metadata_urls,
)
from mcp_oauth.oauth.challenge import BearerChallenge
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.protected_resource import (
    ProtectedResourceMetadata,
    ResourceMetadataExamination,
    examine_protected_resource_metadata,
    resource_metadata_locations,
)
from mcp_oauth.oauth.urls import check_endpoint, origin
from mcp_oauth.sentences import sentence
from mcp_oauth.services.evidence import Evidence

JSON_ONLY = {"Accept": "application/json"}

# How tokens are asked for, by the kind of authorization; people's own grants begin with a code.
_GRANT_TYPES: Final[Mapping[str, GrantType]] = {
    McpServer.AuthMode.CLIENT_CREDENTIALS: "client_credentials",
    McpServer.AuthMode.WORKLOAD: "urn:ietf:params:oauth:grant-type:jwt-bearer",
    McpServer.AuthMode.ENTERPRISE: "urn:ietf:params:oauth:grant-type:jwt-bearer",
}

# The first authorization server a document names is the server's preference; others are asked only if it fails.
MOST_ISSUERS = 3

_RESOURCE_METADATA = "protected resource metadata"
_SERVER_METADATA = "authorization server metadata"


@dataclass(frozen=True)
class Discovery:
    """What protects a server: the challenge it sent, its own metadata, and its authorization server's."""

    challenge: BearerChallenge | None
    resource_metadata: ProtectedResourceMetadata | None
    authorization_server: AuthorizationServerMetadata


@dataclass(frozen=True)
class ResourceMetadataSearch:
    """What all the places say together in which protected resource metadata may be.

    ``examination`` is that of the accepted document, else of the first one that can be read at all. ``failure`` is what
    is wrong with the first document there is, ``None`` when one is accepted and when there is none.
    """

    accepted: ProtectedResourceMetadata | None = None
    examination: ResourceMetadataExamination | None = None
    failure: DiscoveryFailed | None = None


@dataclass(frozen=True)
class AuthorizationServerSearch:
    """What all the places say together in which one issuer's metadata may be.

    ``examination`` is that of the accepted document, else of the first one that can be read at all. ``failure`` says
    why none is accepted, and ``is_silent`` that there is none anywhere.
    """

    accepted: AuthorizationServerMetadata | None = None
    examination: AuthorizationServerExamination | None = None
    failure: DiscoveryFailed | None = None
    is_silent: bool = False


def grant_type_of(auth_mode: str) -> GrantType:
    """Return how tokens are asked for with a kind of authorization."""
    return _GRANT_TYPES.get(auth_mode, "authorization_code")


def find_resource_metadata(
    server_url: str, challenge: BearerChallenge | None, options: OAuthOptions, evidence: Evidence
) -> ProtectedResourceMetadata | None:
    """Return the first usable protected resource metadata document, or ``None`` when the server publishes none.

    Raises:
        DiscoveryFailed: documents exist, and every one of them is refused.
    """
    search = search_resource_metadata(server_url, challenge, options, evidence)
    if search.failure is not None:
        raise search.failure
    return search.accepted


def search_resource_metadata(
    server_url: str, challenge: BearerChallenge | None, options: OAuthOptions, evidence: Evidence
) -> ResourceMetadataSearch:
    """Ask for protected resource metadata until a document is accepted.

    The document the challenge names is asked for first, then the one at the path, then the one at the root.
    """
    failure: DiscoveryFailed | None = None
    readable: ResourceMetadataExamination | None = None
    for location in resource_metadata_locations(server_url, challenge.resource_metadata if challenge else None):
        request = HttpRequest("GET", location.url, JSON_ONLY)
        try:
            if location.form == "challenge":
                # The server chose this address; it gets the same rules as any other endpoint it names.
                check_endpoint(
                    location.url,
                    name="resource_metadata",
                    document=server_url,
                    allow_loopback=settings.ALLOW_LOOPBACK,
                )
            response = evidence.fetch(request, _RESOURCE_METADATA, stage="protected_resource")
        except DiscoveryFailed as error:
            evidence.note(
                request,
                _RESOURCE_METADATA,
                None,
                "refused",
                error.sentence,
                stage="protected_resource",
                error=error,
            )
            failure = failure or error
            continue
        except ServerUnreachable as error:
            failure = failure or _unanswered(error, location.url)
            continue
        examination = examine_protected_resource_metadata(
            response,
            server_url=server_url,
            location=location,
            tolerate_mismatch=options.tolerate_resource_mismatch,
            allow_loopback=settings.ALLOW_LOOPBACK,
        )
        try:
            metadata = examination.accepted()
        except DiscoveryFailed as error:
            # A missing document at a guessed address says nothing; one the server named must be there.
            absent = 400 <= response.status < 500 and location.form != "challenge"
            evidence.note(
                request,
                _RESOURCE_METADATA,
                response.status,
                "absent" if absent else "refused",
                error.sentence,
                stage="protected_resource",
                error=None if absent else error,
            )
            if not absent:
                failure = failure or error
            if readable is None and examination.read is not None:
                readable = examination
            continue
        evidence.note(
            request,
            _RESOURCE_METADATA,
            response.status,
            "ok",
            sentence("people sign in at %(names)s", names=", ".join(metadata.authorization_servers)),
            stage="protected_resource",
        )
        return ResourceMetadataSearch(metadata, examination)
    return ResourceMetadataSearch(None, readable, failure)


def find_authorization_server(
    issuer: str, options: OAuthOptions, evidence: Evidence, *, grant_type: GrantType = "authorization_code"
) -> AuthorizationServerMetadata:
    """Return the metadata of one authorization server, asked for at every location the specification names.

    ``grant_type`` is the one that tokens are asked for with; what only people's sign-in needs is not asked of others.

    Raises:
        DiscoveryFailed: no location answers with acceptable metadata; the first telling reason is kept.
    """
    search = search_authorization_server(issuer, options, evidence, grant_type=grant_type)
    if search.accepted is not None:
        return search.accepted
    raise search.failure or _no_location(issuer)


def search_authorization_server(
    issuer: str, options: OAuthOptions, evidence: Evidence, *, grant_type: GrantType = "authorization_code"
) -> AuthorizationServerSearch:
    """Ask for an issuer's metadata, at every location the specification names, until a document is accepted."""
    try:
        check_endpoint(issuer, name="authorization_servers", document=issuer, allow_loopback=settings.ALLOW_LOOPBACK)
        locations = metadata_urls(issuer)
    except DiscoveryFailed as error:
        return AuthorizationServerSearch(failure=error)
    telling: DiscoveryFailed | None = None
    last: DiscoveryFailed | None = None
    readable: AuthorizationServerExamination | None = None
    for url in locations:
        request = HttpRequest("GET", url, JSON_ONLY)
        try:
            response = evidence.fetch(request, _SERVER_METADATA, stage="authorization_server")
        except ServerUnreachable as error:
            telling = telling or _unanswered(error, url)
            continue
        examination = examine_authorization_server_metadata(
            response,
            issuer=issuer,
            tolerate_issuer_mismatch=options.tolerate_issuer_mismatch,
            tolerate_missing_s256=options.tolerate_missing_s256,
            allow_loopback=settings.ALLOW_LOOPBACK,
            grant_type=grant_type,
        )
        try:
            metadata = examination.accepted()
        except DiscoveryFailed as error:
            absent = 400 <= response.status < 500
            evidence.note(
                request,
                _SERVER_METADATA,
                response.status,
                "absent" if absent else "refused",
                error.sentence,
                stage="authorization_server",
                error=None if absent else error,
            )
            last = error
            if not absent:
                telling = telling or error
            if readable is None and examination.read is not None:
                readable = examination
            continue
        evidence.note(
            request,
            _SERVER_METADATA,
            response.status,
            "ok",
            sentence("issuer %(issuer)s", issuer=metadata.issuer),
            stage="authorization_server",
        )
        return AuthorizationServerSearch(metadata, examination)
    if telling is not None:
        return AuthorizationServerSearch(None, readable, telling)
    if last is None:
        return AuthorizationServerSearch(failure=_no_location(issuer))
    nothing = DiscoveryFailed(
        sentence("The authorization server %(issuer)s publishes no metadata.", issuer=issuer),
        document=last.document,
        field="status",
        rule=sentence("RFC 8414 §3: an authorization server publishes its metadata"),
    )
    return AuthorizationServerSearch(failure=nothing, is_silent=True)


def no_resource_metadata(server_url: str, challenge: BearerChallenge | None) -> DiscoveryFailed:
    """Return the error for a server that says nowhere which authorization server protects it."""
    locations = resource_metadata_locations(server_url, challenge.resource_metadata if challenge else None)
    return DiscoveryFailed(
        sentence(
            "The server does not say which authorization server protects it: there is no document at %(url)s.",
            url=locations[0].url,
        ),
        document=locations[0].url,
        next_step=sentence("Check the address, or choose another kind of authorization for this server."),
        field="resource_metadata",
        rule=sentence("MCP authorization: a protected server publishes protected resource metadata (RFC 9728 §3)"),
        option="legacy_endpoints",
    )


def _unanswered(error: McpOAuthError, url: str) -> DiscoveryFailed:
    return DiscoveryFailed(
        error.sentence,
        next_step=error.next_step_sentence,
        document=url,
        field=error.field,
        rule=error.rule_sentence,
        option=error.option,
    )


def _no_location(issuer: str) -> DiscoveryFailed:
    return DiscoveryFailed(sentence("No location for authorization server metadata is known."), document=issuer)


def _legacy_authorization_server(
    server_url: str, options: OAuthOptions, evidence: Evidence, grant_type: GrantType
) -> AuthorizationServerMetadata:
    """Return what protects a server of the 2025-03-26 revision: metadata at its origin, else its fixed endpoints.

    Raises:
        DiscoveryFailed: there is metadata and it is refused; nothing is guessed past it.
    """
    search = search_authorization_server(origin(server_url), options, evidence, grant_type=grant_type)
    if search.is_silent:
        return legacy_metadata(server_url)
    if search.accepted is None:
        raise search.failure or _no_location(origin(server_url))
    return search.accepted


def discover(
    server_url: str,
    challenge: BearerChallenge | None,
    options: OAuthOptions,
    evidence: Evidence,
    *,
    resource_metadata: ProtectedResourceMetadata | None = None,
    grant_type: GrantType = "authorization_code",
) -> Discovery:
    """Return everything a flow needs to know about a protected server.

    ``resource_metadata`` spares a request when a probe has just read it; ``grant_type`` is the one that tokens are
    asked for with.

    Without protected resource metadata nothing is guessed, unless the server is marked as one of the 2025-03-26
    revision, whose authorization server is the MCP server's own origin.

    Raises:
        DiscoveryFailed: a document is missing or refused; the error names it.
    """
    if resource_metadata is None:
        resource_metadata = find_resource_metadata(server_url, challenge, options, evidence)
    if resource_metadata is None:
        if options.legacy_endpoints:
            metadata = _legacy_authorization_server(server_url, options, evidence, grant_type)
            return Discovery(challenge, None, metadata)
        raise no_resource_metadata(server_url, challenge)
    failure: DiscoveryFailed | None = None
    for issuer in resource_metadata.authorization_servers[:MOST_ISSUERS]:
        try:
            metadata = find_authorization_server(issuer, options, evidence, grant_type=grant_type)
            return Discovery(challenge, resource_metadata, metadata)
        except DiscoveryFailed as error:
            failure = failure or error
    if failure is not None:
        raise failure
    raise DiscoveryFailed(
        sentence("The document at %(url)s names no authorization server.", url=resource_metadata.document),
        document=resource_metadata.document,
    )
