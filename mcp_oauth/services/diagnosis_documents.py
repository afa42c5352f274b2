"""What a diagnosis says of the documents: a server's resource metadata, and its authorization server's metadata."""

from __future__ import annotations

from typing import Final

from django.utils.translation import gettext as _

from mcp_oauth.exceptions import DiscoveryFailed, RedirectRefused, ResponseTooLarge, ServerRefused
from mcp_oauth.oauth.authorization_server import (
    AuthorizationServerExamination,
    AuthorizationServerMetadata,
    legacy_metadata,
)
from mcp_oauth.oauth.capabilities import capabilities
from mcp_oauth.oauth.protected_resource import ResourceMetadataExamination
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.oauth.urls import origin
from mcp_oauth.services.discovery import (
    MOST_ISSUERS,
    ResourceMetadataSearch,
    no_resource_metadata,
    search_authorization_server,
    search_resource_metadata,
)
from mcp_oauth.services.evidence import Verdict
from mcp_oauth.services.inquiry import Inquiry
from mcp_oauth.services.probes import ProbeReport

# These say that something answers at the address, so that its documents are worth asking for.
_ANSWERED: Final = (ServerRefused, RedirectRefused, ResponseTooLarge)


def read_documents(inquiry: Inquiry, report: ProbeReport) -> AuthorizationServerMetadata | None:
    """Read what is published, and return the metadata a connection would use, ``None`` where there is none."""
    search = _resource_metadata(inquiry, report)
    return _authorization_server(inquiry, search) if inquiry.uses_oauth(report) else None


def _resource_metadata(inquiry: Inquiry, report: ProbeReport) -> ResourceMetadataSearch:
    search = report.resource_search
    if search is None and (report.error is None or isinstance(report.error, _ANSWERED)):
        search = search_resource_metadata(inquiry.url, report.challenge, inquiry.options, inquiry.evidence)
    search = search or ResourceMetadataSearch()
    # An open server, or one with a key, may answer any address with a web page.
    matters = inquiry.uses_oauth(report) or (inquiry.server is None and report.schemes is not None)
    if matters and search.failure is not None:
        inquiry.failures.append(search.failure)
    if search.examination is not None:
        _resource_facts(inquiry, search.examination)
    elif search.failure is None and report.auth_mode is not None and not inquiry.options.legacy_endpoints:
        _undocumented(inquiry, report)
    return search


def _undocumented(inquiry: Inquiry, report: ProbeReport) -> None:
    """Say what it means that a server wants something of strangers and publishes nothing."""
    error = no_resource_metadata(inquiry.url, report.challenge)
    if inquiry.uses_oauth(report):
        inquiry.failures.append(error)
        inquiry.note_error("protected_resource", "resource_metadata", "refused", error.document, error)
        return
    if report.schemes is None:
        return
    inquiry.evidence.fact(
        "protected_resource",
        "resource_metadata",
        "absent",
        _("Nothing is published, so it is not known to use OAuth; a server of 2025-03-26 may all the same."),
        url=error.document,
        field=error.field,
        rule=error.rule,
        option=error.option,
    )


def _resource_facts(inquiry: Inquiry, examination: ResourceMetadataExamination) -> None:
    metadata, told = examination.read, examination.faults[:1]
    if metadata is None:
        return
    broken = {error.field for error in (*examination.faults, *examination.tolerated)}
    for error in examination.faults:
        if error not in told:  # the first one stands at the document itself
            inquiry.note_error("protected_resource", error.field, "refused", metadata.document, error)
    for error in examination.tolerated:
        inquiry.note_error("protected_resource", error.field, "tolerated", metadata.document, error)
    facts = {
        "resource": printable(metadata.resource),
        "authorization_servers": printable(", ".join(metadata.authorization_servers)),
        "scopes_supported": printable(" ".join(metadata.scopes_supported or ())),
    }
    for name, value in facts.items():
        if name not in broken:
            verdict: Verdict = "ok" if value else "absent"
            inquiry.evidence.fact(
                "protected_resource", name, verdict, value or _("Not said."), url=metadata.document, field=name
            )


def _authorization_server(inquiry: Inquiry, search: ResourceMetadataSearch) -> AuthorizationServerMetadata | None:
    named = search.accepted or (search.examination.read if search.examination is not None else None)
    if named is None:
        return _legacy_server(inquiry) if inquiry.options.legacy_endpoints and search.failure is None else None
    return _issuers(inquiry, named.authorization_servers[:MOST_ISSUERS])


def _issuers(inquiry: Inquiry, issuers: tuple[str, ...]) -> AuthorizationServerMetadata | None:
    examination: AuthorizationServerExamination | None = None
    failure: DiscoveryFailed | None = None
    for issuer in issuers:
        search = search_authorization_server(issuer, inquiry.options, inquiry.evidence, grant_type=inquiry.grant_type)
        if search.accepted is not None and search.examination is not None:
            _server_facts(inquiry, search.examination)
            return search.accepted
        examination = examination or search.examination
        if failure is None and search.failure is not None:
            failure = search.failure
            if search.is_silent:
                inquiry.note_error("authorization_server", "metadata", "refused", failure.document, failure)
    if failure is not None:
        inquiry.failures.append(failure)
    if examination is not None:
        _server_facts(inquiry, examination)
    return None


def _legacy_server(inquiry: Inquiry) -> AuthorizationServerMetadata | None:
    search = search_authorization_server(
        origin(inquiry.url), inquiry.options, inquiry.evidence, grant_type=inquiry.grant_type
    )
    metadata = search.accepted
    if search.is_silent:
        metadata = legacy_metadata(inquiry.url)
        inquiry.evidence.fact(
            "authorization_server",
            "metadata",
            "tolerated",
            _("There is none, so the fixed addresses of the revision of 2025-03-26 are used."),
            url=metadata.issuer,
            rule=_("MCP authorization: an authorization server publishes its metadata (RFC 8414 §3)"),
            option="legacy_endpoints",
        )
    elif search.failure is not None:
        inquiry.failures.append(search.failure)
    if search.examination is not None:
        _server_facts(inquiry, search.examination)
    return metadata


def _server_facts(inquiry: Inquiry, examination: AuthorizationServerExamination) -> None:
    told = examination.faults[:1]
    document = examination.read.document if examination.read is not None else ""
    for found in capabilities(examination, grant_type=inquiry.grant_type):
        if found.error is not None and found.error in told:  # it stands at the document itself
            continue
        inquiry.evidence.fact(
            "authorization_server",
            found.field,
            found.verdict,
            found.says,
            url=document,
            field=found.field,
            rule=found.rule,
            option=found.option,
            # What an optional member breaks is no failure of discovery, and nobody needs to act on it.
            error=found.error if found.verdict == "refused" else None,
        )
