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
from mcp_oauth.sentences import predicate, sentence

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


@dataclass(frozen=True, slots=True)
class ResourceMetadataExamination:
    """What a metadata document says, and every rule it breaks.

    ``read`` is ``None`` when there is no JSON object; a member that cannot be used is empty in it, and with any of
    ``faults`` nothing in it may be relied on. ``tolerated`` are those that an option of the server lets pass.
    """

    read: ProtectedResourceMetadata | None
    faults: tuple[DiscoveryFailed, ...]
    tolerated: tuple[DiscoveryFailed, ...] = ()

    def accepted(self) -> ProtectedResourceMetadata:
        """Return the document if it breaks no rule.

        Raises: DiscoveryFailed with the first one it breaks.
        """
        if self.faults or self.read is None:
            raise self.faults[0]
        return self.read


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
    return examine_protected_resource_metadata(
        response,
        server_url=server_url,
        location=location,
        tolerate_mismatch=tolerate_mismatch,
        allow_loopback=allow_loopback,
    ).accepted()


def examine_protected_resource_metadata(
    response: HttpResponse,
    *,
    server_url: str,
    location: ResourceMetadataLocation,
    tolerate_mismatch: bool = False,
    allow_loopback: bool = False,
) -> ResourceMetadataExamination:
    """Return what :func:`parse_protected_resource_metadata` goes by: everything that is wrong, and what is not.

    Sources: RFC 9728 §2, §3.2, §3.3.
    """
    document = location.url

    def fault(problem: str, *, field: str, rule: str, option: str = "") -> DiscoveryFailed:
        return DiscoveryFailed(
            sentence("The protected resource metadata %(problem)s.", problem=problem),
            document=document,
            field=field,
            rule=rule,
            option=option,
        )

    if response.status != 200:
        problem = predicate("was answered with HTTP status %(status)s", status=response.status)
        rule = sentence("RFC 9728 §3.2: the metadata is answered with status 200")
        return ResourceMetadataExamination(None, (fault(problem, field="status", rule=rule),))
    try:
        data = json_object(response)
    except NotAJsonObject as error:
        unreadable = fault(error.problem, field="body", rule=sentence("RFC 9728 §3.2: the metadata is a JSON object"))
        unreadable.__cause__ = error
        return ResourceMetadataExamination(None, (unreadable,))
    faults: list[DiscoveryFailed] = []
    tolerated: list[DiscoveryFailed] = []
    resource = data.get("resource")
    if resource is None or resource == "":
        faults.append(
            fault(
                predicate("lacks the member resource"),
                field="resource",
                rule=sentence("RFC 9728 §2: resource is required"),
            )
        )
        resource = ""
    elif not isinstance(resource, str) or not _RESOURCE_CHARACTERS.fullmatch(resource):
        rule = sentence("RFC 9728 §2: resource is an https URL")
        faults.append(fault(predicate("has a member resource that is no address"), field="resource", rule=rule))
        resource = ""
    elif resource not in _accepted_resources(server_url, location):
        mismatch = fault(
            predicate(
                "describes %(resource)s, which is not this server (%(server_url)s)",
                resource=printable(resource, 200),
                server_url=printable(server_url, 200),
            ),
            field="resource",
            rule=sentence("RFC 9728 §3.3: resource must equal the address that the metadata was asked for"),
            option="tolerate_resource_mismatch",
        )
        (tolerated if tolerate_mismatch else faults).append(mismatch)
    try:
        authorization_servers = _authorization_servers(data, document, allow_loopback=allow_loopback)
    except DiscoveryFailed as error:
        faults.append(error)
        authorization_servers = ()
    read = ProtectedResourceMetadata(
        resource=resource,
        authorization_servers=authorization_servers,
        scopes_supported=_scopes(data.get("scopes_supported")),
        document=document,
        dpop=data.get("dpop_bound_access_tokens_required") is True
        or bool(data.get("dpop_signing_alg_values_supported")),
    )
    return ResourceMetadataExamination(read, tuple(faults), tuple(tolerated))


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
            sentence("The protected resource metadata lacks the member authorization_servers."),
            document=document,
            field="authorization_servers",
            rule=sentence("MCP authorization: the metadata names at least one authorization server (RFC 9728 §2)"),
        )
    usable: list[str] = []
    first_problem: DiscoveryFailed | None = None
    for entry in listed[:_MOST_AUTHORIZATION_SERVERS]:
        try:
            issuer = check_endpoint(
                entry, name="authorization_servers", document=document, allow_loopback=allow_loopback
            )
            if "?" in issuer:
                raise DiscoveryFailed(
                    sentence("The metadata's authorization_servers contains a query (?)."),
                    document=document,
                    field="authorization_servers",
                    rule=sentence("RFC 8414 §2: an issuer has no query"),
                )
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
