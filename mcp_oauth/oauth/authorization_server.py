"""Finding and checking what an issuer says about itself: authorization server metadata (RFC 8414, OpenID discovery)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mcp_oauth.exceptions import DiscoveryFailed
from mcp_oauth.messages import HttpResponse
from mcp_oauth.oauth.json_documents import NotAJsonObject, json_object
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.oauth.urls import UnusableUrl, canonical_resource, check_endpoint, issuers_match, origin
from mcp_oauth.sentences import predicate, sentence

# How a token is asked for there. Only the first sends a person to the authorization endpoint, with PKCE.
GrantType = Literal["authorization_code", "client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"]

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
    response_types_supported: tuple[str, ...] | None = None
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
                raise DiscoveryFailed(
                    sentence("The stored metadata lacks the member %(name)s.", name=name), document=printable(document)
                )
        return cls(
            issuer=required["issuer"] or "",
            authorization_endpoint=required["authorization_endpoint"] or "",
            token_endpoint=required["token_endpoint"] or "",
            registration_endpoint=_text(data.get("registration_endpoint")),
            revocation_endpoint=_text(data.get("revocation_endpoint")),
            document=document,
            **_optional_facts(data),
        )


@dataclass(frozen=True, slots=True)
class AuthorizationServerExamination:
    """What a metadata document says, and every rule it breaks.

    ``read`` is ``None`` when there is no JSON object; a required member that cannot be used is empty in it, and with
    any of ``faults`` nothing in it may be relied on. The authorization endpoint is also empty where nobody is sent to
    one. ``tolerated`` are those that an option of the server lets pass, ``passed_over`` what is wrong with optional
    members, which count as absent. ``issuer`` is what was asked for.
    """

    issuer: str
    read: AuthorizationServerMetadata | None
    faults: tuple[DiscoveryFailed, ...]
    tolerated: tuple[DiscoveryFailed, ...] = ()
    passed_over: tuple[DiscoveryFailed, ...] = ()

    def accepted(self) -> AuthorizationServerMetadata:
        """Return the document if it breaks no rule.

        Raises: DiscoveryFailed with the first one it breaks.
        """
        if self.faults or self.read is None:
            raise self.faults[0]
        return self.read


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Return where an issuer's metadata may be, in the specification's order (RFC 8414 §3.1, OpenID Discovery §4).

    Raises: DiscoveryFailed when the issuer is no http address, or has a query or fragment.
    """
    try:
        base = origin(issuer)
        path = canonical_resource(issuer).removeprefix(base).removesuffix("/")
    except UnusableUrl as error:
        raise DiscoveryFailed(
            sentence("The issuer %(problem)s.", problem=error.problem),
            document=printable(issuer, 200),
            field="issuer",
            rule=sentence("RFC 8414 §2: an issuer is an https URL"),
        ) from error
    if "?" in issuer or "#" in issuer:
        raise DiscoveryFailed(
            sentence("The issuer contains a query or a fragment."),
            document=printable(issuer, 200),
            field="issuer",
            rule=sentence("RFC 8414 §2: an issuer has no query and no fragment"),
        )
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
    grant_type: GrantType = "authorization_code",
) -> AuthorizationServerMetadata:
    """Return the checked metadata in an answer about ``issuer`` (RFC 8414 §3.2, §3.3).

    The document's issuer must be the one asked for and S256 must be among its challenge methods (RFC 7636 §4.2); each
    ``tolerate_…`` is the administrator's opt-out from one of the two. Malformed optional members count as absent. With
    a ``grant_type`` that sends nobody anywhere, the authorization endpoint and S256 are of no concern (RFC 8414 §2).
    Raises: DiscoveryFailed naming the document and the reason.
    """
    return examine_authorization_server_metadata(
        response,
        issuer=issuer,
        tolerate_issuer_mismatch=tolerate_issuer_mismatch,
        tolerate_missing_s256=tolerate_missing_s256,
        allow_loopback=allow_loopback,
        grant_type=grant_type,
    ).accepted()


def examine_authorization_server_metadata(
    response: HttpResponse,
    *,
    issuer: str,
    tolerate_issuer_mismatch: bool = False,
    tolerate_missing_s256: bool = False,
    allow_loopback: bool = False,
    grant_type: GrantType = "authorization_code",
) -> AuthorizationServerExamination:
    """Return what :func:`parse_authorization_server_metadata` goes by: everything that is wrong, and what is not.

    Sources: RFC 8414 §2, §3.2, §3.3, RFC 7636 §4.2.
    """
    document = response.url

    def fault(problem: str, *, field: str, rule: str, option: str = "") -> DiscoveryFailed:
        told = sentence("The authorization server's metadata %(problem)s.", problem=problem)
        return DiscoveryFailed(told, document=document, field=field, rule=rule, option=option)

    if response.status != 200:
        problem = predicate("was answered with HTTP status %(status)s", status=response.status)
        rule = sentence("RFC 8414 §3.2: the metadata is answered with status 200")
        return AuthorizationServerExamination(issuer, None, (fault(problem, field="status", rule=rule),))
    try:
        data = json_object(response)
    except NotAJsonObject as error:
        unreadable = fault(error.problem, field="body", rule=sentence("RFC 8414 §3.2: the metadata is a JSON object"))
        unreadable.__cause__ = error
        return AuthorizationServerExamination(issuer, None, (unreadable,))

    faults: list[DiscoveryFailed] = []
    tolerated: list[DiscoveryFailed] = []
    passed_over: list[DiscoveryFailed] = []
    found_issuer = data.get("issuer")
    if found_issuer is None or found_issuer == "":
        faults.append(
            fault(
                predicate("lacks the member issuer"), field="issuer", rule=sentence("RFC 8414 §2: issuer is required")
            )
        )
        found_issuer = ""
    elif not isinstance(found_issuer, str) or not _ISSUER_CHARACTERS.fullmatch(found_issuer):
        rule = sentence("RFC 8414 §2: issuer is an https URL")
        faults.append(fault(predicate("has a member issuer that is no address"), field="issuer", rule=rule))
        found_issuer = ""
    elif not issuers_match(found_issuer, issuer):
        mismatch = fault(
            predicate(
                "is for the issuer %(found_issuer)s, not for %(issuer)s",
                found_issuer=printable(found_issuer, 200),
                issuer=printable(issuer, 200),
            ),
            field="issuer",
            rule=sentence("RFC 8414 §3.3: issuer must equal the identifier that was asked for"),
            option="tolerate_issuer_mismatch",
        )
        (tolerated if tolerate_issuer_mismatch else faults).append(mismatch)

    def endpoint(name: str) -> str:
        try:
            return check_endpoint(data.get(name), name=name, document=document, allow_loopback=allow_loopback)
        except DiscoveryFailed as error:
            faults.append(error)
            return ""

    def optional_endpoint(name: str) -> str | None:
        if data.get(name) in (None, ""):
            return None
        try:
            return check_endpoint(data.get(name), name=name, document=document, allow_loopback=allow_loopback)
        except DiscoveryFailed as error:
            # Nothing is sent to an address that is not usable; connecting may work without it.
            passed_over.append(error)
            return None

    people = grant_type == "authorization_code"
    read = AuthorizationServerMetadata(
        issuer=found_issuer,
        authorization_endpoint=(
            endpoint("authorization_endpoint") if people else optional_endpoint("authorization_endpoint") or ""
        ),
        token_endpoint=endpoint("token_endpoint"),
        registration_endpoint=optional_endpoint("registration_endpoint"),
        revocation_endpoint=optional_endpoint("revocation_endpoint"),
        document=document,
        **_optional_facts(data),
    )
    if people and "S256" not in (read.code_challenge_methods_supported or ()):
        unprotected = fault(
            predicate("does not list S256 in code_challenge_methods_supported, so the sign-in could not be protected"),
            field="code_challenge_methods_supported",
            rule=sentence(
                "MCP authorization: S256 is listed, or PKCE cannot be relied on (RFC 8414 §2, RFC 7636 §4.2)"
            ),
            option="tolerate_missing_s256",
        )
        (tolerated if tolerate_missing_s256 else faults).append(unprotected)
    return AuthorizationServerExamination(issuer, read, tuple(faults), tuple(tolerated), tuple(passed_over))


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
        "response_types_supported": _names(data.get("response_types_supported")),
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
