"""What an authorization server's metadata means for connecting, member by member (RFC 8414 §2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from mcp_oauth.exceptions import DiscoveryFailed
from mcp_oauth.oauth.authorization_server import (
    AuthorizationServerExamination,
    AuthorizationServerMetadata,
    GrantType,
)
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.oauth.urls import host_of
from mcp_oauth.sentences import sentence

# RFC 8414 §2: what a document means that does not list its grant types.
_DEFAULT_GRANT_TYPES: Final = ("authorization_code", "implicit")
_NAMES_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Capability:
    """One member: what it says, and what that means.

    ``verdict``: ``ok``; ``absent`` for something optional that connecting does without; ``warning`` where connecting is
    tried and may fail; ``tolerated`` for a broken rule that an option of the server lets pass; ``refused``.
    ``error`` is what the last two break.
    """

    field: str
    verdict: Literal["ok", "absent", "warning", "tolerated", "refused"]
    says: str
    rule: str = ""
    option: str = ""
    error: DiscoveryFailed | None = None


@dataclass(frozen=True, slots=True)
class _Subject:
    """A document, the issuer it was asked for, and the kind of grant it is to serve."""

    metadata: AuthorizationServerMetadata
    issuer: str
    grant_type: GrantType


def capabilities(
    examination: AuthorizationServerExamination, *, grant_type: GrantType = "authorization_code"
) -> tuple[Capability, ...]:
    """Return what a document says about everything that connecting, renewing and disconnecting need.

    ``grant_type`` is the one tokens are asked for with. A document that cannot be read says nothing.
    """
    metadata = examination.read
    if metadata is None:
        return ()
    broken = {
        **{error.field: _broken("warning", error) for error in examination.passed_over},
        **{error.field: _broken("tolerated", error) for error in examination.tolerated},
        **{error.field: _broken("refused", error) for error in reversed(examination.faults)},
    }
    subject = _Subject(metadata, examination.issuer, grant_type)
    return tuple(broken.get(name) or judge(subject) for name, judge in _MEMBERS.items())


def _broken(verdict: Literal["warning", "tolerated", "refused"], error: DiscoveryFailed) -> Capability:
    return Capability(error.field, verdict, error.sentence, error.rule, error.option, error)


def _issuer(subject: _Subject) -> Capability:
    metadata = subject.metadata
    return Capability("issuer", "ok", printable(metadata.issuer))


def _endpoint(name: str, url: str | None, subject: _Subject, missing: str) -> Capability:
    if not url:
        return Capability(name, "absent", missing)
    if host_of(url) not in {host_of(subject.metadata.issuer), host_of(subject.issuer)}:
        return Capability(
            name,
            "warning",
            sentence(
                "%(url)s is on another host than the issuer; make sure that it is the provider's.", url=printable(url)
            ),
            sentence("RFC 8414 §2: an endpoint may be on any host, and the issuer alone vouches for it"),
        )
    return Capability(name, "ok", printable(url))


def _authorization_endpoint(subject: _Subject) -> Capability:
    return _endpoint("authorization_endpoint", subject.metadata.authorization_endpoint, subject, "")


def _token_endpoint(subject: _Subject) -> Capability:
    return _endpoint("token_endpoint", subject.metadata.token_endpoint, subject, "")


def _code_challenge_methods(subject: _Subject) -> Capability:
    metadata = subject.metadata
    name, listed = "code_challenge_methods_supported", metadata.code_challenge_methods_supported
    return Capability(name, "ok" if listed else "absent", _listed(listed or ()))


def _response_types(subject: _Subject) -> Capability:
    metadata, grant_type = subject.metadata, subject.grant_type
    name, listed = "response_types_supported", metadata.response_types_supported
    if listed is None:
        return Capability(
            name, "warning", sentence("It is missing."), sentence("RFC 8414 §2: %(name)s is required", name=name)
        )
    if grant_type == "authorization_code" and "code" not in listed:
        rule = sentence("RFC 6749 §4.1.1: an authorization code is asked for with the response type code")
        return Capability(name, "warning", sentence("It lists %(listed)s, but not code.", listed=_listed(listed)), rule)
    return Capability(name, "ok", _listed(listed))


def _grant_types(subject: _Subject) -> Capability:
    metadata, grant_type = subject.metadata, subject.grant_type
    name, listed = "grant_types_supported", metadata.grant_types_supported
    offered = _DEFAULT_GRANT_TYPES if listed is None else listed
    if grant_type not in offered:
        rule = sentence(
            "RFC 8414 §2: %(name)s lists what is supported; without it, that is %(default)s",
            name=name,
            default=_listed(_DEFAULT_GRANT_TYPES),
        )
        if listed is None:
            says = sentence("It is missing, so %(grant_type)s may not be granted.", grant_type=grant_type)
        else:
            says = sentence(
                "It lists %(listed)s, so %(grant_type)s may not be granted.",
                listed=_listed(listed),
                grant_type=grant_type,
            )
        return Capability(name, "warning", says, rule)
    if listed is None:
        return Capability(
            name,
            "absent",
            sentence(
                "Taken as %(default)s; it may renew all the same.",
                default=_listed(_DEFAULT_GRANT_TYPES),
            ),
        )
    if grant_type == "authorization_code" and "refresh_token" not in listed:
        rule = sentence(
            "RFC 8414 §2: %(name)s lists refresh_token where access can be renewed (RFC 6749 §6)", name=name
        )
        says = sentence(
            "It lists %(listed)s: people may have to connect again whenever their access ends.", listed=_listed(listed)
        )
        return Capability(name, "warning", says, rule)
    return Capability(name, "ok", _listed(listed))


def _iss_parameter(subject: _Subject) -> Capability:
    metadata = subject.metadata
    name = "authorization_response_iss_parameter_supported"
    if metadata.authorization_response_iss_parameter_supported:
        return Capability(name, "ok", sentence("Answers name their issuer, which is checked (RFC 9207)."))
    return Capability(name, "absent", sentence("Answers need not name their issuer (RFC 9207)."))


def _auth_methods(subject: _Subject) -> Capability:
    metadata = subject.metadata
    name, listed = "token_endpoint_auth_methods_supported", metadata.token_endpoint_auth_methods_supported
    if listed is None:
        return Capability(name, "absent", sentence("Not said; RFC 8414 §2 reads that as client_secret_basic."))
    return Capability(name, "ok", _listed(listed))


def _scopes(subject: _Subject) -> Capability:
    metadata = subject.metadata
    name, listed = "scopes_supported", metadata.scopes_supported
    if listed is None:
        return Capability(name, "absent", sentence("Not said."))
    if "offline_access" in listed:
        return Capability(name, "ok", sentence("%(listed)s (with offline_access)", listed=_listed(listed)))
    return Capability(name, "ok", sentence("%(listed)s (without offline_access)", listed=_listed(listed)))


def _registration_endpoint(subject: _Subject) -> Capability:
    missing = sentence("Clients do not register themselves (RFC 7591).")
    return _endpoint("registration_endpoint", subject.metadata.registration_endpoint, subject, missing)


def _metadata_documents(subject: _Subject) -> Capability:
    metadata = subject.metadata
    name = "client_id_metadata_document_supported"
    if metadata.client_id_metadata_document_supported:
        return Capability(name, "ok", sentence("A client may be the address of its own metadata document."))
    return Capability(name, "absent", sentence("A client may not be the address of its own metadata document."))


def _revocation_endpoint(subject: _Subject) -> Capability:
    missing = sentence("Disconnecting cannot be told to the provider (RFC 7009).")
    return _endpoint("revocation_endpoint", subject.metadata.revocation_endpoint, subject, missing)


def _dpop(subject: _Subject) -> Capability:
    metadata = subject.metadata
    name, listed = "dpop_signing_alg_values_supported", metadata.dpop_signing_alg_values_supported
    if not listed:
        return Capability(name, "absent", sentence("Tokens are not bound to a key (RFC 9449)."))
    return Capability(name, "ok", _listed(listed))


_MEMBERS: Final[dict[str, Callable[[_Subject], Capability]]] = {
    "issuer": _issuer,
    "authorization_endpoint": _authorization_endpoint,
    "token_endpoint": _token_endpoint,
    "code_challenge_methods_supported": _code_challenge_methods,
    "response_types_supported": _response_types,
    "grant_types_supported": _grant_types,
    "authorization_response_iss_parameter_supported": _iss_parameter,
    "token_endpoint_auth_methods_supported": _auth_methods,
    "scopes_supported": _scopes,
    "registration_endpoint": _registration_endpoint,
    "client_id_metadata_document_supported": _metadata_documents,
    "revocation_endpoint": _revocation_endpoint,
    "dpop_signing_alg_values_supported": _dpop,
}


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = len(shown) - _NAMES_SHOWN
    if not shown:
        return sentence("nothing")
    # The names are bounded by whoever read them; together they still have to fit.
    text = printable(", ".join(shown[:_NAMES_SHOWN]))
    return sentence("%(names)s and %(number)s more", names=text, number=more) if more > 0 else text
