"""Finds out which authorization server protects an MCP server (RFC 9728, RFC 8414)."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import DiscoveryFailed, ServerUnreachable
from mcp_oauth.messages import HttpRequest
from mcp_oauth.oauth.authorization_server import (
    AuthorizationServerMetadata,
    legacy_metadata,
    metadata_urls,
    parse_authorization_server_metadata,
)
from mcp_oauth.oauth.challenge import BearerChallenge
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.protected_resource import (
    ProtectedResourceMetadata,
    parse_protected_resource_metadata,
    resource_metadata_locations,
)
from mcp_oauth.oauth.urls import check_endpoint, origin
from mcp_oauth.services.evidence import Evidence

JSON_ONLY = {"Accept": "application/json"}


@dataclass(frozen=True)
class Discovery:
    """What protects a server: the challenge it sent, its own metadata, and its authorization server's."""

    challenge: BearerChallenge | None
    resource_metadata: ProtectedResourceMetadata | None
    authorization_server: AuthorizationServerMetadata


def find_resource_metadata(
    server_url: str, challenge: BearerChallenge | None, options: OAuthOptions, evidence: Evidence
) -> ProtectedResourceMetadata | None:
    """Return the first usable protected resource metadata document, or ``None`` when the server publishes none.

    The document the challenge names is asked for first, then the one at the path, then the one at the root.

    Raises:
        DiscoveryFailed: documents exist, and every one of them is refused.
    """
    failures: list[DiscoveryFailed] = []
    for location in resource_metadata_locations(server_url, challenge.resource_metadata if challenge else None):
        request = HttpRequest("GET", location.url, JSON_ONLY)
        what = "protected resource metadata"
        try:
            if location.form == "challenge":
                # The server chose this address; it gets the same rules as any other endpoint it names.
                check_endpoint(
                    location.url,
                    name="resource_metadata",
                    document=server_url,
                    allow_loopback=settings.ALLOW_LOOPBACK,
                )
            response = evidence.fetch(request, what)
        except DiscoveryFailed as error:
            evidence.note(request, what, None, "refused", error.user_message)
            failures.append(error)
            continue
        except ServerUnreachable as error:
            failures.append(DiscoveryFailed(error.user_message, next_step=error.next_step, document=location.url))
            continue
        try:
            metadata = parse_protected_resource_metadata(
                response,
                server_url=server_url,
                location=location,
                tolerate_mismatch=options.tolerate_resource_mismatch,
                allow_loopback=settings.ALLOW_LOOPBACK,
            )
        except DiscoveryFailed as error:
            # A missing document at a guessed address says nothing; one the server named must be there.
            absent = 400 <= response.status < 500 and location.form != "challenge"
            evidence.note(request, what, response.status, "absent" if absent else "refused", error.user_message)
            if not absent:
                failures.append(error)
            continue
        named = ", ".join(metadata.authorization_servers)
        evidence.note(request, what, response.status, "ok", _("people sign in at %(names)s") % {"names": named})
        return metadata
    if failures:
        raise failures[0]
    return None


def find_authorization_server(issuer: str, options: OAuthOptions, evidence: Evidence) -> AuthorizationServerMetadata:
    """Return the metadata of one authorization server, asked for at every location the specification names.

    Raises:
        DiscoveryFailed: no location answers with acceptable metadata; the first telling reason is kept.
    """
    check_endpoint(issuer, name="authorization_servers", document=issuer, allow_loopback=settings.ALLOW_LOOPBACK)
    telling: DiscoveryFailed | None = None
    last: DiscoveryFailed | None = None
    for url in metadata_urls(issuer):
        request = HttpRequest("GET", url, JSON_ONLY)
        what = "authorization server metadata"
        try:
            response = evidence.fetch(request, what)
        except ServerUnreachable as error:
            telling = telling or DiscoveryFailed(error.user_message, next_step=error.next_step, document=url)
            continue
        try:
            metadata = parse_authorization_server_metadata(
                response,
                issuer=issuer,
                tolerate_issuer_mismatch=options.tolerate_issuer_mismatch,
                tolerate_missing_s256=options.tolerate_missing_s256,
                allow_loopback=settings.ALLOW_LOOPBACK,
            )
        except DiscoveryFailed as error:
            absent = 400 <= response.status < 500
            evidence.note(request, what, response.status, "absent" if absent else "refused", error.user_message)
            last = error
            if not absent:
                telling = telling or error
            continue
        evidence.note(request, what, response.status, "ok", _("issuer %(issuer)s") % {"issuer": metadata.issuer})
        return metadata
    if telling is not None:
        raise telling
    if last is not None:
        raise DiscoveryFailed(
            _("The authorization server %(issuer)s publishes no metadata.") % {"issuer": issuer},
            document=last.document,
        )
    raise DiscoveryFailed(_("No location for authorization server metadata is known."), document=issuer)


def _legacy_authorization_server(
    server_url: str, options: OAuthOptions, evidence: Evidence
) -> AuthorizationServerMetadata:
    """Return what protects a server of the 2025-03-26 revision: metadata at its origin, else its fixed endpoints.

    Raises:
        DiscoveryFailed: there is metadata and it is refused; nothing is guessed past it.
    """
    issuer = origin(server_url)
    before = len(evidence.steps)
    try:
        return find_authorization_server(issuer, options, evidence)
    except DiscoveryFailed:
        if any(step.verdict != "absent" for step in evidence.steps[before:]):
            raise
        return legacy_metadata(server_url)


def discover(
    server_url: str,
    challenge: BearerChallenge | None,
    options: OAuthOptions,
    evidence: Evidence,
    *,
    resource_metadata: ProtectedResourceMetadata | None = None,
) -> Discovery:
    """Return everything a flow needs to know about a protected server.

    ``resource_metadata`` spares a request when a probe has just read it.

    Without protected resource metadata nothing is guessed, unless the server is marked as one of the 2025-03-26
    revision, whose authorization server is the MCP server's own origin.

    Raises:
        DiscoveryFailed: a document is missing or refused; the error names it.
    """
    if resource_metadata is None:
        resource_metadata = find_resource_metadata(server_url, challenge, options, evidence)
    if resource_metadata is None:
        if options.legacy_endpoints:
            return Discovery(challenge, None, _legacy_authorization_server(server_url, options, evidence))
        locations = resource_metadata_locations(server_url, challenge.resource_metadata if challenge else None)
        raise DiscoveryFailed(
            _("The server does not say which authorization server protects it: there is no document at %(url)s.")
            % {"url": locations[0].url},
            document=locations[0].url,
            next_step=_("Check the address, or choose another kind of authorization for this server."),
        )
    failure: DiscoveryFailed | None = None
    # The first one is the server's preference; others are asked only if it fails.
    for issuer in resource_metadata.authorization_servers[:3]:
        try:
            return Discovery(challenge, resource_metadata, find_authorization_server(issuer, options, evidence))
        except DiscoveryFailed as error:
            failure = failure or error
    if failure is not None:
        raise failure
    raise DiscoveryFailed(
        _("The document at %(url)s names no authorization server.") % {"url": resource_metadata.document},
        document=resource_metadata.document,
    )
