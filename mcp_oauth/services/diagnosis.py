"""Goes the way of a connection step by step, without a person or a secret, and says what is wrong at each."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from django.db.models import Count
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import (
    ConfigurationError,
    DiscoveryFailed,
    McpOAuthError,
    RedirectRefused,
    RegistrationRequired,
    ResponseTooLarge,
    ServerRefused,
    ServerUnreachable,
    TokenRequestFailed,
)
from mcp_oauth.models import McpServer, McpServerOAuth, OAuthRegistration
from mcp_oauth.oauth.authorization_server import (
    AuthorizationServerExamination,
    AuthorizationServerMetadata,
    legacy_metadata,
)
from mcp_oauth.oauth.capabilities import capabilities
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.protected_resource import ResourceMetadataExamination
from mcp_oauth.oauth.registration import RegistrationKind, choose_registration, preferred_auth_method
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.oauth.token_endpoint import read_refusal, refusable_request
from mcp_oauth.oauth.urls import check_server_address, origin
from mcp_oauth.services.contacts import record_contact
from mcp_oauth.services.discovery import (
    MOST_ISSUERS,
    ResourceMetadataSearch,
    grant_type_of,
    no_resource_metadata,
    search_authorization_server,
    search_resource_metadata,
)
from mcp_oauth.services.evidence import Evidence, Stage, Step
from mcp_oauth.services.probes import ProbeReport, probe
from mcp_oauth.services.registrations import client_metadata_url, preregistered_client, redirect_uri
from mcp_oauth.services.server_options import options_of

_STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
# Of those at one issuer, one is used; the others were forgotten there.
MOST_REGISTRATIONS: Final = 5
# These say that something answers at the address, so that its documents are worth asking for.
_ANSWERED: Final = (ServerRefused, RedirectRefused, ResponseTooLarge)


@dataclass(frozen=True)
class GrantCount:
    """How many grants of one server open it, and how many need a person, by reason."""

    active: int = 0
    ended: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        return {"active": self.active, "needs_reconnecting": dict(self.ended)}


@dataclass(frozen=True)
class Diagnosis:
    """What one diagnosis saw: steps in the order of a connection, and what stands in its way.

    ``failures`` holds what would keep people from connecting or calling, the first one first; a document that is
    refused while another one serves is a step and no failure. ``auth_mode`` is what the server itself shows, ``None``
    when it did not answer as an MCP server. ``server`` is ``None`` for an address that is not saved.
    """

    url: str
    server: McpServer | None
    verdict: str
    auth_mode: str | None
    protocol_version: str
    steps: tuple[Step, ...]
    failures: tuple[McpOAuthError, ...]
    issuer: str = ""
    registration: str = ""
    redirect_uri: str = ""
    token_endpoint_auth_method: str = ""
    grants: GrantCount | None = None

    @property
    def kind_differs(self) -> bool:
        """Whether the kind of authorization that was found out earlier is not what the server shows now."""
        return _kind_differs(self.server, self.auth_mode)

    def as_json(self) -> dict[str, Any]:
        """Return everything as a JSON object; ``error``, the first failure, is there only if there is one."""
        body: dict[str, Any] = {
            "url": self.url,
            "server": self.server.natural_name() if self.server is not None else None,
            "ok": not self.failures,
            "verdict": self.verdict,
            "auth_mode": self.auth_mode,
            "protocol_version": self.protocol_version,
            "issuer": self.issuer,
            "registration": self.registration,
            "redirect_uri": self.redirect_uri,
            "token_endpoint_auth_method": self.token_endpoint_auth_method,
            "grants": self.grants.as_json() if self.grants is not None else None,
            "steps": Evidence(list(self.steps)).as_json(),
        }
        if self.failures:
            body["error"] = self.failures[0].as_json()
        return body


def diagnose_address(
    url: str, options: OAuthOptions | None = None, *, on_ask: Callable[[str, str], None] | None = None
) -> Diagnosis:
    """Diagnose an address that is not saved; nothing is stored. ``on_ask`` is told of each request before it is made.

    Raises:
        InvalidServerAddress: it is none that may be contacted.
    """
    checked = check_server_address(url, allow_loopback=settings.ALLOW_LOOPBACK)
    return _Diagnosing(checked, None, options or OAuthOptions(), on_ask).run()


def diagnose_server(
    server: McpServer, options: OAuthOptions | None = None, *, on_ask: Callable[[str, str], None] | None = None
) -> Diagnosis:
    """Diagnose a saved server, with other options than its own if they are given.

    Nothing secret is sent, not even to the server: neither its headers nor anybody's token. Nothing is registered, and
    of the rows only the facts of the last contact change.

    Raises:
        ConfigurationError: the stored options cannot be read.
    """
    return _Diagnosing(server.url, server, options if options is not None else options_of(server), on_ask).run()


class _Diagnosing:
    """One diagnosis under way: the evidence so far, and what failed."""

    def __init__(
        self,
        url: str,
        server: McpServer | None,
        options: OAuthOptions,
        on_ask: Callable[[str, str], None] | None,
    ) -> None:
        self.url = url
        self.server = server
        self.options = options
        self.grant_type = grant_type_of(server.auth_mode if server is not None else "")
        self.evidence = Evidence(deadline=time.monotonic() + settings.DIAGNOSIS_SECONDS, on_ask=on_ask)
        self.failures: list[McpOAuthError] = []
        self.issuer = ""
        self.registration: RegistrationKind | None = None
        self.method = ""

    def run(self) -> Diagnosis:
        report = probe(self.url, self.options, self.evidence)
        if self.server is not None:
            record_contact(self.server, report.error if report.auth_mode is None else None)
        self.contact(report)
        search = self.resource_metadata(report)
        metadata = self.authorization_server(report, search) if self.uses_oauth(report) else None
        if metadata is not None:
            self.client(metadata)
            self.token_endpoint(metadata)
        grants = self.grants()
        verdict = self.failures[0].user_message if self.failures else report.verdict
        return Diagnosis(
            url=self.url,
            server=self.server,
            verdict=verdict,
            auth_mode=report.auth_mode.value if report.auth_mode is not None else None,
            protocol_version=report.protocol_version,
            steps=tuple(sorted(self.evidence.steps, key=lambda step: _STAGES.index(step.stage))),
            failures=tuple(self.failures),
            issuer=self.issuer,
            registration=self.registration or "",
            redirect_uri=_redirect_uri(),
            token_endpoint_auth_method=self.method,
            grants=grants,
        )

    def uses_oauth(self, report: ProbeReport) -> bool:
        """Whether a token stands between this application and the server, as an administrator says or it shows."""
        if self.server is not None:
            return self.server.uses_grants
        return report.auth_mode == McpServer.AuthMode.OAUTH or self.options.legacy_endpoints

    # One method a stage.

    def contact(self, report: ProbeReport) -> None:
        if report.auth_mode is None and report.error is not None:
            self.failures.append(report.error)
            if isinstance(report.error, ServerRefused):  # the others are steps of their own already
                self.evidence.fact(
                    "contact", "answer", "refused", report.error.user_message, url=self.url, error=report.error
                )
        if report.schemes is not None:
            self.challenge(report)
        if _kind_differs(self.server, report.auth_mode) and self.server is not None and report.auth_mode is not None:
            self.evidence.fact(
                "contact",
                "kind of authorization",
                "warning",
                _("It was found out as “%(stored)s”, and the server now shows “%(found)s”.")
                % {"stored": self.server.get_auth_mode_display(), "found": report.auth_mode.label},
                field="auth_mode",
                next_step=_("Find out again how the server is opened, on its Diagnose page; people then connect anew."),
            )

    def challenge(self, report: ProbeReport) -> None:
        challenge = report.challenge
        if challenge is None:
            schemes = ", ".join(scheme[:40] for scheme in report.schemes or ())
            self.evidence.fact(
                "contact",
                "challenge",
                "absent",
                _("It names no Bearer challenge, but %(schemes)s.") % {"schemes": schemes}
                if schemes
                else _("It names no scheme to sign in with."),
                field="WWW-Authenticate",
                rule=_(
                    "RFC 6750 §3: a protected server names the Bearer scheme, and RFC 9728 §5.1 its resource_metadata"
                ),
            )
            return
        said = {
            "resource_metadata": challenge.resource_metadata,
            "scope": challenge.scope,
            "error": challenge.error,
            "error_description": challenge.error_description,
        }
        names = " ".join({"bearer": "Bearer", "dpop": "DPoP"}.get(name, name[:40]) for name in report.schemes or ())
        parts = [names, *(f"{name}={printable(value, 200)}" for name, value in said.items() if value)]
        self.evidence.fact("contact", "challenge", "ok", ", ".join(parts))

    def resource_metadata(self, report: ProbeReport) -> ResourceMetadataSearch:
        search = report.resource_search
        if search is None and (report.error is None or isinstance(report.error, _ANSWERED)):
            search = search_resource_metadata(self.url, report.challenge, self.options, self.evidence)
        search = search or ResourceMetadataSearch()
        # An open server, or one with a key, may answer any address with a web page.
        matters = self.uses_oauth(report) or (self.server is None and report.schemes is not None)
        if matters and search.failure is not None:
            self.failures.append(search.failure)
        if search.examination is not None:
            self.resource_facts(search.examination)
        elif search.failure is None and report.auth_mode is not None and not self.options.legacy_endpoints:
            self.undocumented(report)
        return search

    def undocumented(self, report: ProbeReport) -> None:
        """Say what it means that a server wants something of strangers and publishes nothing."""
        error = no_resource_metadata(self.url, report.challenge)
        if self.uses_oauth(report):
            self.failures.append(error)
            self.fact("protected_resource", "resource_metadata", "refused", error.document, error)
            return
        if report.schemes is None:
            return
        self.evidence.fact(
            "protected_resource",
            "resource_metadata",
            "absent",
            _("Nothing is published, so it is not known to use OAuth; a server of 2025-03-26 may all the same."),
            url=error.document,
            field=error.field,
            rule=error.rule,
            option=error.option,
        )

    def resource_facts(self, examination: ResourceMetadataExamination) -> None:
        metadata, told = examination.read, examination.faults[:1]
        if metadata is None:
            return
        broken = {error.field for error in (*examination.faults, *examination.tolerated)}
        for error in examination.faults:
            if error not in told:  # the first one stands at the document itself
                self.fact("protected_resource", error.field, "refused", metadata.document, error)
        for error in examination.tolerated:
            self.fact("protected_resource", error.field, "tolerated", metadata.document, error)
        facts = {
            "resource": printable(metadata.resource),
            "authorization_servers": printable(", ".join(metadata.authorization_servers)),
            "scopes_supported": printable(" ".join(metadata.scopes_supported or ())),
        }
        for name, value in facts.items():
            if name not in broken:
                verdict: Any = "ok" if value else "absent"
                self.evidence.fact(
                    "protected_resource", name, verdict, value or _("Not said."), url=metadata.document, field=name
                )

    def authorization_server(
        self, report: ProbeReport, search: ResourceMetadataSearch
    ) -> AuthorizationServerMetadata | None:
        """Return the metadata a connection would use, ``None`` where there is none."""
        named = search.accepted or (search.examination.read if search.examination is not None else None)
        if named is None:
            return self.legacy_server() if self.options.legacy_endpoints and search.failure is None else None
        return self.issuers(named.authorization_servers[:MOST_ISSUERS])

    def issuers(self, issuers: tuple[str, ...]) -> AuthorizationServerMetadata | None:
        examination: AuthorizationServerExamination | None = None
        failure: DiscoveryFailed | None = None
        for issuer in issuers:
            search = search_authorization_server(issuer, self.options, self.evidence, grant_type=self.grant_type)
            if search.accepted is not None and search.examination is not None:
                self.server_facts(search.examination)
                self.issuer = search.accepted.issuer
                return search.accepted
            examination = examination or search.examination
            if failure is None and search.failure is not None:
                failure = search.failure
                if search.is_silent:
                    self.fact("authorization_server", "metadata", "refused", failure.document, failure)
        if failure is not None:
            self.failures.append(failure)
        if examination is not None:
            self.server_facts(examination)
        return None

    def legacy_server(self) -> AuthorizationServerMetadata | None:
        search = search_authorization_server(origin(self.url), self.options, self.evidence, grant_type=self.grant_type)
        metadata = search.accepted
        if search.is_silent:
            metadata = legacy_metadata(self.url)
            self.evidence.fact(
                "authorization_server",
                "metadata",
                "tolerated",
                _("There is none, so the fixed addresses of the revision of 2025-03-26 are used."),
                url=metadata.issuer,
                rule=_("MCP authorization: an authorization server publishes its metadata (RFC 8414 §3)"),
                option="legacy_endpoints",
            )
        elif search.failure is not None:
            self.failures.append(search.failure)
        if search.examination is not None:
            self.server_facts(search.examination)
        self.issuer = metadata.issuer if metadata is not None else ""
        return metadata

    def server_facts(self, examination: AuthorizationServerExamination) -> None:
        told = examination.faults[:1]
        document = examination.read.document if examination.read is not None else ""
        for found in capabilities(examination, grant_type=self.grant_type):
            if found.error is not None and found.error in told:  # it stands at the document itself
                continue
            self.evidence.fact(
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

    def client(self, metadata: AuthorizationServerMetadata) -> None:
        """Say which client would be used and how it would prove itself; nothing is registered."""
        try:
            self.registration = self.registration_kind(metadata)
            if self.registration == "preregistered":
                self.preregistered(metadata)
            elif self.registration == "cimd":
                note = _(
                    "The client ID is the address of this application's own metadata document, %(url)s, because the "
                    "authorization server reads such documents."
                )
                self.client_fact(note % {"url": client_metadata_url()})
                self.existing(metadata, OAuthRegistration.Kind.CIMD)
                self.method_fact("none", _("a client that is a metadata document has no secret"), metadata)
            else:
                self.dynamic(metadata)
        except McpOAuthError as error:
            self.failures.append(error)
            self.fact("registration", "client", "refused", metadata.registration_endpoint or metadata.document, error)

    def registration_kind(self, metadata: AuthorizationServerMetadata) -> RegistrationKind:
        has_client = self.server is not None and self.server.has_preregistered_client
        if self.server is not None and self.server.is_unattended:
            if has_client:
                return "preregistered"
            raise ConfigurationError(
                _("%(server)s is opened without asking anybody, but no client is entered.")
                % {"server": self.server.name},
                next_step=self.by_hand(),
                field="client_id",
                rule=_("RFC 6749 §4.4: a client asks for a token of its own as itself"),
            )
        try:
            return choose_registration(
                metadata,
                has_preregistered=has_client,
                client_metadata_url=client_metadata_url(),
                options=self.options,
            )
        except RegistrationRequired as error:
            raise RegistrationRequired(
                error.user_message,
                next_step=self.by_hand(),
                document=error.document,
                field=error.field,
                rule=error.rule,
                option=error.option,
            ) from error

    def by_hand(self) -> str:
        """Say how to register a client by hand, and where its ID belongs."""
        text = _("Create an OAuth client at the provider with the redirect URI %(uri)s.") % {"uri": redirect_uri()}
        if self.server is None:
            return text + " " + _("Enter its client ID when you add the server (add_mcp_server --client-id).")
        names = {"slug": self.server.workspace.slug, "server_id": self.server.pk}
        page = settings.public_url + reverse("mcp_oauth:edit", kwargs=names)
        return text + " " + _("Enter its client ID at %(page)s, under “Client at the provider”.") % {"page": page}

    def preregistered(self, metadata: AuthorizationServerMetadata) -> None:
        if self.server is None:
            return
        self.require_own_issuer(self.server, metadata)
        # A copy that knows its issuer, because the look-up binds a client to the first issuer it sees.
        bound = copy.copy(self.server)
        bound.client_issuer = metadata.issuer
        credentials = preregistered_client(bound, metadata, self.options)
        note = _("The client %(id)s is used, because an administrator entered it.")
        self.client_fact(note % {"id": printable(credentials.client_id, 200)})
        reasons = {
            "none": _("no secret is stored"),
            "private_key_jwt": _("a private key is stored in the secret's place"),
        }
        reason = reasons.get(credentials.token_endpoint_auth_method, _("a secret is stored, and the metadata takes it"))
        if self.options.token_endpoint_auth_method:
            reason = _("the option token_endpoint_auth_method says so")
        self.method_fact(credentials.token_endpoint_auth_method, reason, metadata)

    def require_own_issuer(self, server: McpServer, metadata: AuthorizationServerMetadata) -> None:
        """Refuse an issuer that what an administrator entered does not belong to.

        Raises:
            ConfigurationError: it belongs to another one.
        """
        if server.client_issuer and server.client_issuer != metadata.issuer:
            raise ConfigurationError(
                _("The registered client belongs to %(theirs)s, but the server now names %(found)s.")
                % {"theirs": server.client_issuer, "found": metadata.issuer},
                next_step=_("Check with the provider; if the move is genuine, enter the new client and its issuer."),
                document=metadata.document,
                field="issuer",
                rule=_("MCP authorization: a client belongs to the one issuer that knows it"),
            )

    def dynamic(self, metadata: AuthorizationServerMetadata) -> None:
        current = self.existing(metadata, OAuthRegistration.Kind.DYNAMIC)
        if current is None:
            note = _(
                "This application registers itself when somebody connects, because no client is entered and the "
                "authorization server has a registration endpoint."
            )
            if self.server is not None and _has_initial_access_token(self.server):
                self.require_own_issuer(self.server, metadata)
                note += " " + _("It shows the token that an administrator entered for this.")
            self.client_fact(note, url=metadata.registration_endpoint or "")
            reason = _("it is the first of ours that the server offers")
            if self.options.token_endpoint_auth_method:
                reason = _("the option token_endpoint_auth_method says so")
            self.method_fact(preferred_auth_method(metadata, self.options), reason, metadata)
            return
        self.method_fact(current.token_endpoint_auth_method, _("the client was registered with it"), metadata)

    def existing(self, metadata: AuthorizationServerMetadata, kind: OAuthRegistration.Kind) -> OAuthRegistration | None:
        """Show the clients this workspace has at the issuer, and return the one that would be used."""
        if self.server is None:
            return None
        usable: OAuthRegistration | None = None
        rows = OAuthRegistration.objects.filter(
            workspace_id=self.server.workspace_id, issuer=metadata.issuer, redirect_uri=redirect_uri(), kind=kind
        ).defer("client_secret")
        for row in rows.order_by("-created_at")[:MOST_REGISTRATIONS]:
            about = {"id": printable(row.client_id, 200), "day": date_format(row.created_at, "DATE_FORMAT")}
            text = _("The client %(id)s, since %(day)s.") % about
            expires = row.client_secret_expires_at
            if expires is not None:
                text += " " + _("Its secret expires on %(day)s.") % {"day": date_format(expires, "DATE_FORMAT")}
            if row.forgotten_at is None and (expires is None or expires > timezone.now()):
                usable = row
                self.evidence.fact("registration", "registered client", "ok", text, field="client_id")
                continue
            next_step = _("Nothing is to be done: the next connection registers another client.")
            if row.forgotten_at is not None:
                text += " " + _("The authorization server no longer knows it.")
            self.evidence.fact("registration", "earlier client", "absent", text, field="client_id", next_step=next_step)
        return usable

    def client_fact(self, note: str, *, url: str = "") -> None:
        self.evidence.fact("registration", "client", "ok", note, url=url)

    def method_fact(self, method: str, reason: str, metadata: AuthorizationServerMetadata) -> None:
        """Say how the client proves itself at the token endpoint, and whether that is offered there."""
        self.method = method
        offered = metadata.token_endpoint_auth_methods_supported
        words = _("%(method)s, because %(reason)s.") % {"method": method, "reason": reason}
        if offered is not None and method not in offered:
            self.evidence.fact(
                "token_endpoint",
                "client authentication",
                "warning",
                words + " " + _("The authorization server does not offer it."),
                url=metadata.token_endpoint,
                field="token_endpoint_auth_methods_supported",
                rule=_("RFC 8414 §2: token_endpoint_auth_methods_supported lists how clients may authenticate"),
                option="token_endpoint_auth_method",
            )
        else:
            self.evidence.fact("token_endpoint", "client authentication", "ok", words, url=metadata.token_endpoint)

    def token_endpoint(self, metadata: AuthorizationServerMetadata) -> None:
        """Ask the token endpoint for what nobody can be granted."""
        request = refusable_request(metadata.token_endpoint)
        what = _("a code that nobody issued")
        try:
            response = self.evidence.fetch(request, what, stage="token_endpoint")
        except ServerUnreachable as error:
            self.failures.append(error)
            return
        try:
            refusal = read_refusal(response)
        except TokenRequestFailed as error:
            self.failures.append(error)
            self.evidence.note(
                request, what, response.status, "refused", error.user_message, stage="token_endpoint", error=error
            )
            return
        note = _("answers as a token endpoint: %(error)s") % {"error": refusal}
        self.evidence.note(request, what, response.status, "ok", note, stage="token_endpoint")

    def grants(self) -> GrantCount | None:
        """Count whose grants exist; nobody is named and no token is read."""
        if self.server is None or not self.server.uses_grants:
            return None
        count = count_grants(self.server)
        words = ngettext("%(count)d works", "%(count)d work", count.active) % {"count": count.active}
        ended = ", ".join(f"{reason} {number}" for reason, number in count.ended.items())
        if ended:
            words += "; " + _("need reconnecting: %(ended)s") % {"ended": ended}
        if not count.active and not ended:
            words = _("Nobody is connected yet.")
        self.evidence.fact("grants", "grants", "warning" if ended else "ok" if count.active else "absent", words)
        return count

    def fact(self, stage: Stage, what: str, verdict: Any, url: str, error: McpOAuthError) -> None:
        self.evidence.fact(stage, what, verdict, error.user_message, url=url, error=error)


def count_grants(server: McpServer) -> GrantCount:
    """Count a server's grants: those that open it, and those that need a person, by reason."""
    rows = McpServerOAuth.objects.filter(server=server)
    ended = {
        str(row["reason"] or "expired"): int(row["number"])
        for row in rows.exclude(state=McpServerOAuth.State.ACTIVE)
        .order_by("reason")
        .values("reason")
        .annotate(number=Count("pk"))
    }
    active = rows.filter(state=McpServerOAuth.State.ACTIVE)
    over = 0
    if not server.is_unattended:  # which asks for another token by itself
        over = active.filter(expires_at__lte=timezone.now(), refresh_token__isnull=True).count()
    if over:
        ended["expired"] = ended.get("expired", 0) + over
    return GrantCount(active.count() - over, ended)


def _has_initial_access_token(server: McpServer) -> bool:
    # Asked of the database, because reading the attribute would open it.
    return McpServer.objects.filter(pk=server.pk, initial_access_token__isnull=False).exists()


def _kind_differs(server: McpServer | None, found: str | None) -> bool:
    if server is None or found is None or server.auth_mode_source != McpServer.AuthModeSource.PROBE:
        return False
    return server.auth_mode != found


def _redirect_uri() -> str:
    try:
        return redirect_uri()
    except ConfigurationError:  # the registration's own step says so where it matters
        return ""
