"""Adding, changing and removing servers; what a change ends is ended here."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import (
    ConfigurationError,
    DiscoveryFailed,
    InvalidRequest,
    McpOAuthError,
    NotFound,
    ServerUnreachable,
)
from mcp_oauth.fields import sealed_value
from mcp_oauth.models import AuthorizationFlow, Event, McpServer, McpServerOAuth, StoredListing, Workspace
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.oauth.urls import check_endpoint, check_server_address, same_origin
from mcp_oauth.sentences import kept
from mcp_oauth.services import listings
from mcp_oauth.services.discovery import discover, grant_type_of
from mcp_oauth.services.enterprise import check_address
from mcp_oauth.services.events import record
from mcp_oauth.services.headers import check_headers
from mcp_oauth.services.probes import ProbeReport, probe
from mcp_oauth.services.revocation import Ended, holds_tokens, revoke_together, revoked_already
from mcp_oauth.services.tool_policy import check_patterns
from mcp_oauth.services.wire import end_sessions
from mcp_oauth.services.workload import check_name
from mcp_oauth.services.workspaces import Person

logger = logging.getLogger(__name__)

# What a probe writes.
_PROBE_COLUMNS = (
    "auth_mode",
    "auth_mode_source",
    "protocol_version",
    "discover_result",
    "reachable",
    "contacted_at",
    "contact_error_code",
    "contact_error",
    "probe_steps",
    "probe_verdict",
    "probed_at",
)


@dataclass(frozen=True)
class ServerSettings:
    """What an administrator says about a server.

    ``auth_mode`` is ``None`` for "find out". ``headers``, ``client_secret``, ``initial_access_token`` and
    ``idp_client_secret``: ``None`` keeps what is stored, an empty value clears it; so do ``allowed_tools`` and
    ``denied_tools``, which hold patterns of tool names.
    """

    name: str
    url: str
    auth_mode: str | None = None
    enabled: bool = True
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    client_id: str = ""
    client_secret: str | None = field(default=None, repr=False)
    client_issuer: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    slug: str = ""
    sharing: str = McpServer.Sharing.MEMBER
    idp_client_secret: str | None = field(default=None, repr=False)
    initial_access_token: str | None = field(default=None, repr=False)
    allowed_tools: Sequence[str] | None = None
    denied_tools: Sequence[str] | None = None

    def secrets_given(self) -> list[str]:
        """Return the names of the secrets that are entered or cleared, without their values."""
        return [name for name in McpServer.SECRETS if getattr(self, name) is not None]


def options_of(server: McpServer) -> OAuthOptions:
    """Return a server's OAuth options as a typed value.

    Raises:
        ConfigurationError: the stored options name an unknown key or a wrong type.
    """
    return OAuthOptions.from_json(server.oauth_options)


def readable_options(server: McpServer) -> dict[str, Any]:
    """Return the stored options without those that mean nothing, so that the rest can be seen and saved."""
    stored = server.oauth_options if isinstance(server.oauth_options, Mapping) else {}
    options: dict[str, Any] = {}
    for name, value in stored.items():
        try:
            options |= OAuthOptions.from_json({name: value}).to_json()
        except McpOAuthError:
            continue
    return options


def opt_outs_of(server: McpServer) -> tuple[str, ...]:
    """Return the checks that a server's options switch off; one option that cannot be read hides no other."""
    return OAuthOptions.from_json(readable_options(server)).opt_outs()


@dataclass(frozen=True)
class Consequences:
    """What a change of a server ends: how many grants, open attempts to connect, and which stored secrets.

    ``ends_access`` tells that people agreed to something else than what the server would be; ``shared`` that the one
    grant that ends is the workspace's.
    """

    ends_access: bool = False
    grants: int = 0
    shared: bool = False
    flows: int = 0
    secrets: tuple[str, ...] = ()

    @property
    def kinds(self) -> frozenset[str]:
        """Which kinds of loss a person has to agree to; empty where nobody loses anything."""
        losses = {"grants": self.grants, "flows": self.flows, "secrets": self.secrets}
        return frozenset(kind for kind, loss in losses.items() if loss)

    def in_words(self) -> list[str]:
        """Return what ends, one sentence each."""
        sentences = []
        if self.grants and self.shared:
            sentences.append(
                _("The workspace's shared connection ends and is revoked at the provider where it can be.")
            )
        elif self.grants:
            text = ngettext(
                "The access of %(number)d person ends and is revoked at the provider where it can be; they have to "
                "connect again.",
                "The access of %(number)d people ends and is revoked at the provider where it can be; they have to "
                "connect again.",
                self.grants,
            )
            sentences.append(text % {"number": self.grants})
        if self.flows:
            text = ngettext(
                "%(number)d person who is connecting right now has to start again.",
                "%(number)d people who are connecting right now have to start again.",
                self.flows,
            )
            sentences.append(text % {"number": self.flows})
        if self.ends_access:
            sentences.append(_("Open sessions with the server end, and its tools are listed anew."))
        names = _names_of_secrets()
        sentences.extend(
            _("%(secret)s belongs to the old settings and is erased; enter it again if it is still needed.")
            % {"secret": names[name]}
            for name in self.secrets
        )
        return sentences


@dataclass(frozen=True)
class PreparedUpdate:
    """A change of a server that was checked, for which the server was asked if need be, and that nothing stores yet."""

    url: str
    report: ProbeReport | None
    consequences: Consequences


def prepare_update(server: McpServer, wanted: ServerSettings) -> PreparedUpdate:
    """Check a change and find out what it would end; nothing is changed.

    Raises:
        InvalidServerAddress, InvalidRequest: the input is malformed.
        ServerUnreachable, ServerRefused: the new address does not answer and no kind was chosen.
    """
    url = check_settings(wanted, server)
    report: ProbeReport | None = None
    # What was found out stays found out: a rename, or switching a dead server off, needs no answer from it.
    unknown = wanted.auth_mode is None and server.auth_mode_source == McpServer.AuthModeSource.PERSON
    if url != server.url or unknown:
        report = probe(url, OAuthOptions.from_json(dict(wanted.options)))
        if wanted.auth_mode is None:
            _require_answer(report)
    return PreparedUpdate(url, report, consequences_of(server, wanted, url, report))


def check_settings(wanted: ServerSettings, server: McpServer) -> str:
    """Check what would be stored for an existing server, and return the address as it would be stored.

    Raises:
        InvalidServerAddress, InvalidRequest: the input is malformed.
    """
    _check(wanted, token_stored=sealed_value(server, "initial_access_token") is not None)
    return check_server_address(wanted.url, allow_loopback=settings.ALLOW_LOOPBACK)


def consequences_of(
    server: McpServer, wanted: ServerSettings, url: str, report: ProbeReport | None = None
) -> Consequences:
    """Return what a change ends; without a ``report``, a kind that is only found out by asking counts as unchanged."""
    after = copy.copy(server)
    _apply(after, wanted, url)
    if report is not None:
        _take_probe(after, report, keep_auth_mode=wanted.auth_mode is not None)
    lost = tuple(
        name
        for name in McpServer.SECRETS
        if sealed_value(server, name) is not None
        and sealed_value(after, name) is None
        and getattr(wanted, name) is None
    )
    if not _ends_access(_identity(server), after, wanted):
        return Consequences(secrets=lost)
    grants = McpServerOAuth.objects.filter(server=server, state=McpServerOAuth.State.ACTIVE)
    flows = AuthorizationFlow.objects.filter(server=server, consumed_at__isnull=True, expires_at__gt=timezone.now())
    return Consequences(
        ends_access=True,
        grants=grants.count(),
        shared=server.grant_is_shared,
        flows=flows.values("user_id").distinct().count(),
        secrets=lost,
    )


def _names_of_secrets() -> dict[str, str]:
    return {
        "headers": _("What the stored headers hold"),
        "client_secret": _("The stored client secret"),
        "initial_access_token": _("The stored token to register with"),
        "idp_client_secret": _("The stored secret for the company's identity provider"),
    }


def add_server(
    workspace: Workspace, wanted: ServerSettings, *, actor: Person | None = None, report: ProbeReport | None = None
) -> McpServer:
    """Add a server to a workspace after asking it what it is.

    ``actor`` is who does it, for the record. ``report`` is what the server answered just now, if it was asked already.

    A kind of authorization chosen by a person is kept whatever the server answers; without a choice, a server
    that does not answer as one is not added.

    Raises:
        InvalidServerAddress, InvalidRequest: the input is malformed.
        ServerUnreachable, ServerRefused: no choice was made and the server does not answer as an MCP server.
    """
    _check(wanted)
    url = check_server_address(wanted.url, allow_loopback=settings.ALLOW_LOOPBACK)
    if report is None:
        report = probe(url, OAuthOptions.from_json(dict(wanted.options)))
    if wanted.auth_mode is None:
        _require_answer(report)
    server = McpServer(workspace=workspace, slug=wanted.slug.strip() or _free_slug(workspace, wanted.name, url))
    _apply(server, wanted, url)
    _take_probe(server, report, keep_auth_mode=wanted.auth_mode is not None)
    try:
        with transaction.atomic():
            server.save(force_insert=True)
            _record_change(server, "added", actor, fields=wanted.secrets_given(), **_policy(server))
    except IntegrityError as error:
        raise InvalidRequest(
            _("This workspace already has a server with the short name “%(slug)s”.") % {"slug": server.slug},
            next_step=_("Choose a different short name."),
        ) from error
    return server


def update_server(
    server: McpServer,
    wanted: ServerSettings,
    *,
    actor: Person | None = None,
    prepared: PreparedUpdate | None = None,
) -> Ended:
    """Change a server; a change of address, client, issuer or kind of authorization ends its grants.

    Returns what became of the grants that ended. ``actor`` is who does it, for the record; ``prepared`` is what
    `prepare_update` said of this very change.

    Stored headers stay with the origin, and a stored client secret with the origin, client and issuer they were
    entered for; where those change, the secrets are forgotten unless they are entered again.

    Raises:
        InvalidServerAddress, InvalidRequest: the input is malformed; nothing is changed.
        ServerUnreachable, ServerRefused: the new address does not answer and no kind was chosen; nothing is changed.
    """
    prepared = prepared or prepare_update(server, wanted)
    url, report = prepared.url, prepared.report
    before, plain = _identity(server), _plain_facts(server)
    if url != server.url:
        server.protocol_version, server.discover_result = "", None
    headers_given = wanted.headers is not None
    _apply(server, wanted, url)
    if report is not None:
        _take_probe(server, report, keep_auth_mode=wanted.auth_mode is not None)
    changed = [name for name, value in _plain_facts(server).items() if value != plain[name]] + wanted.secrets_given()
    policy = _policy(server) if {"allowed_tools", "denied_tools"} & set(changed) else {}
    ended = Ended()
    if _ends_access(before, server, wanted):
        # With the client that is stored until now, hence before the row changes.
        ended = _revoke_all(server, actor)
        with transaction.atomic():
            _take_row(server)
            server.generation += 1
            server.save(force_update=True)
            _forget_people(server)
            _record_change(server, "changed", actor, fields=changed, grants_ended=True, **policy)
    else:
        with transaction.atomic():
            _take_row(server)
            server.save(force_update=True)
            if headers_given or not server.enabled:
                end_sessions(server_id=server.pk)
            if headers_given:
                listings.forget(StoredListing.objects.filter(server=server))
            if changed:
                _record_change(server, "changed", actor, fields=changed, **policy)
    return ended


def delete_server(server: McpServer, *, actor: Person | None = None) -> Ended:
    """Remove a server with everything that belongs to it; its grants are revoked upstream as far as possible.

    Raises:
        NotFound: somebody else removed it meanwhile.
    """
    ended = _revoke_all(server, actor)
    with transaction.atomic(), revoked_already():
        _take_row(server)
        _record_change(server, "removed", actor)
        end_sessions(server_id=server.pk)
        server.delete()
    return ended


def _revoke_all(server: McpServer, actor: Person | None) -> Ended:
    grants = McpServerOAuth.objects.select_related("server", "registration").filter(server=server)
    return Ended.of(revoke_together((grant for grant in grants if holds_tokens(grant)), actor=actor))


def _record_change(server: McpServer, what: str, actor: Person | None, **details: Any) -> None:
    """Put on record what was done to a server, and which checks its options switch off."""
    opt_outs = opt_outs_of(server)
    if opt_outs:
        logger.warning("server %s is used without these checks: %s", server.pk, ", ".join(opt_outs))
    record(
        Event.Kind.SERVER_CHANGED,
        server,
        actor=actor,
        outcome=what,
        address=server.url,
        opt_outs=opt_outs,
        **details,
    )


def _plain_facts(server: McpServer) -> dict[str, Any]:
    """Return what an administrator may change, secrets left out."""
    names = (
        "name",
        "url",
        "enabled",
        "auth_mode",
        "sharing",
        "client_id",
        "client_issuer",
        "oauth_options",
        "allowed_tools",
        "denied_tools",
    )
    return {name: getattr(server, name) for name in names}


def _policy(server: McpServer) -> dict[str, Any]:
    """Return which tools may be run, for the record."""
    return {"allowed_tools": server.allowed_tools, "denied_tools": server.denied_tools}


def probe_again(server: McpServer, *, keep_auth_mode: bool = False) -> ProbeReport:
    """Ask a server again, and the authorization server it names, and keep the evidence.

    Its kind of authorization changes only if it was found and not chosen, and not at all with ``keep_auth_mode``,
    because a change ends everybody's grants.
    """
    options = options_of(server)
    report = probe(server.url, options)
    if report.auth_mode == McpServer.AuthMode.OAUTH and report.error is None:
        try:
            discover(
                server.url,
                report.challenge,
                options,
                report.evidence,
                resource_metadata=report.resource_metadata,
                grant_type=grant_type_of(server.auth_mode),
            )
        except DiscoveryFailed as error:
            report = replace(report, verdict=error.user_message, error=error)
    before = server.auth_mode
    chosen = server.auth_mode_source == McpServer.AuthModeSource.PERSON
    record_probe(server, report, keep_auth_mode=keep_auth_mode or chosen)
    if server.auth_mode != before:
        with transaction.atomic():
            McpServer.objects.filter(pk=server.pk).update(generation=F("generation") + 1)
            _forget_people(server)
            _record_change(server, "found", None, fields=["auth_mode"], grants_ended=True)
        server.refresh_from_db()
    return report


def record_probe(server: McpServer, report: ProbeReport, *, keep_auth_mode: bool) -> None:
    """Store what a probe showed."""
    _take_probe(server, report, keep_auth_mode=keep_auth_mode)
    # What is kept is not written either: an administrator may be changing it right now.
    kept = {"auth_mode", "auth_mode_source"} if keep_auth_mode else set()
    # An UPDATE rather than save(): a row deleted meanwhile stays deleted, and one that points elsewhere now is not it.
    McpServer.objects.filter(pk=server.pk, url=server.url).update(
        **{name: getattr(server, name) for name in _PROBE_COLUMNS if name not in kept}
    )


def _take_row(server: McpServer) -> None:
    """Lock a server's row; one that was removed meanwhile stays removed.

    Raises:
        NotFound: it is gone.
    """
    if McpServer.objects.select_for_update().filter(pk=server.pk).first() is None:
        raise NotFound(_("%(server)s was removed meanwhile.") % {"server": server.name})


def _require_answer(report: ProbeReport) -> None:
    """Refuse a server that does not say how to open it; the error names the document at fault."""
    if report.error is not None:
        raise report.error
    if report.auth_mode is None:
        raise ServerUnreachable(report.verdict)


def _check(wanted: ServerSettings, *, token_stored: bool = False) -> None:
    if not wanted.name.strip() or len(wanted.name.strip()) > 120:
        raise InvalidRequest(_("Give the server a name of at most 120 characters."))
    if wanted.auth_mode is not None and wanted.auth_mode not in McpServer.AuthMode.values:
        raise InvalidRequest(_("“%(mode)s” is not a kind of authorization.") % {"mode": wanted.auth_mode[:40]})
    if wanted.sharing not in McpServer.Sharing.values:
        raise InvalidRequest(_("“%(sharing)s” is not a kind of sharing.") % {"sharing": wanted.sharing[:40]})
    if wanted.auth_mode == McpServer.AuthMode.CLIENT_CREDENTIALS and not wanted.client_id.strip():
        raise InvalidRequest(
            _("To act as itself, the application needs a client ID and its secret or private key."),
            next_step=_("Register a client with the provider and enter it."),
        )
    if wanted.auth_mode in {McpServer.AuthMode.WORKLOAD, McpServer.AuthMode.ENTERPRISE}:
        _check_vouched_for(wanted)
    if wanted.slug.strip() and (slugify(wanted.slug.strip()) != wanted.slug.strip() or len(wanted.slug.strip()) > 80):
        raise InvalidRequest(_("A short name has lower-case letters, digits and hyphens only."))
    for patterns in (wanted.allowed_tools, wanted.denied_tools):
        check_patterns(patterns or ())
    if wanted.headers is not None:
        check_headers(wanted.headers)
    if wanted.client_issuer:
        try:
            check_endpoint(
                wanted.client_issuer,
                name="issuer",
                document=wanted.client_issuer,
                allow_loopback=settings.ALLOW_LOOPBACK,
            )
        except McpOAuthError as error:
            raise InvalidRequest(_("The issuer must be the https address of an authorization server.")) from error
    if wanted.client_secret and not wanted.client_id:
        raise InvalidRequest(_("A client secret needs the client ID it belongs to."))
    if wanted.client_issuer and not (wanted.client_id or wanted.initial_access_token or token_stored):
        raise InvalidRequest(_("An issuer needs the client ID, or the token to register with, that belongs to it."))
    if wanted.initial_access_token and not re.fullmatch(r"[\x21-\x7e]{1,8000}", wanted.initial_access_token.strip()):
        # It travels in a header (RFC 6750 §2.1).
        raise InvalidRequest(_("A token to register with is one line of printable ASCII without blanks."))
    if wanted.initial_access_token and wanted.client_id:
        raise InvalidRequest(
            _("A token to register with is of no use beside a client that is registered already."),
            next_step=_("Enter either the client ID or the initial access token."),
        )
    if wanted.idp_client_secret and not wanted.options.get("idp_client_id"):
        raise InvalidRequest(_("The identity provider's client secret needs the option idp_client_id."))
    try:
        OAuthOptions.from_json(dict(wanted.options))
    except ConfigurationError as error:
        raise InvalidRequest(error.user_message, next_step=error.next_step) from error


def _check_vouched_for(wanted: ServerSettings) -> None:
    """Check what a server needs that is opened because the platform or the company vouches for somebody."""
    if not wanted.client_id.strip():
        raise InvalidRequest(
            _("The client ID is missing by which the server's provider knows this application."),
            next_step=_("Register a client with the provider and enter it."),
        )
    try:
        options = OAuthOptions.from_json(dict(wanted.options))
        if wanted.auth_mode == McpServer.AuthMode.WORKLOAD:
            check_name(options.workload_token)
        else:
            _check_identity_provider(options)
    except McpOAuthError as error:
        raise InvalidRequest(error.user_message, next_step=error.next_step) from error
    if options.tolerate_issuer_mismatch:
        raise InvalidRequest(
            _("What is addressed to one authorization server is sent to no other one."),
            next_step=_("Switch tolerate_issuer_mismatch off."),
        )


def _check_identity_provider(options: OAuthOptions) -> None:
    if not settings.IDENTITY_TOKEN_PROVIDER:
        raise ConfigurationError(
            _("This site does not know its people from a company's identity provider."),
            next_step=_("Ask the operator to set MCP_OAUTH['IDENTITY_TOKEN_PROVIDER']."),
        )
    if not options.idp_client_id or not (options.idp_issuer or options.idp_token_endpoint):
        raise ConfigurationError(
            _("The company's identity provider is missing."),
            next_step=_("Enter the options idp_client_id and idp_issuer, or idp_token_endpoint in its place."),
        )
    for name in ("idp_issuer", "idp_token_endpoint"):
        if address := getattr(options, name):
            check_address(name, address)


def _apply(server: McpServer, wanted: ServerSettings, url: str) -> None:
    _leave_behind(server, wanted, url)
    server.name = wanted.name.strip()
    server.url = url
    server.enabled = wanted.enabled
    server.sharing = wanted.sharing
    server.client_id = wanted.client_id.strip()
    options = OAuthOptions.from_json(dict(wanted.options)).to_json()
    before = server.oauth_options if isinstance(server.oauth_options, Mapping) else {}
    if _identity_provider(options) != _identity_provider(before):
        server.idp_client_secret = None  # it belongs to one client at one provider, too
    server.oauth_options = options
    if wanted.allowed_tools is not None:
        server.allowed_tools = check_patterns(wanted.allowed_tools)
    if wanted.denied_tools is not None:
        server.denied_tools = check_patterns(wanted.denied_tools)
    if wanted.headers is not None:
        server.headers = dict(wanted.headers) or None
        server.headers_refused_at = None
    if wanted.idp_client_secret is not None:
        server.idp_client_secret = _with_line_breaks(wanted.idp_client_secret.strip()) or None
    if wanted.initial_access_token is not None:
        server.initial_access_token = wanted.initial_access_token.strip() or None
    if wanted.client_secret is not None:
        server.client_secret = _with_line_breaks(wanted.client_secret.strip()) or None
    if not server.client_id and not (wanted.initial_access_token or sealed_value(server, "initial_access_token")):
        server.client_issuer = ""  # nothing is left that belongs to it
    if wanted.auth_mode is not None:
        server.auth_mode = wanted.auth_mode
        server.auth_mode_source = McpServer.AuthModeSource.PERSON


def _leave_behind(server: McpServer, wanted: ServerSettings, url: str) -> None:
    """Forget the stored secrets that were entered for another origin, client or issuer than the wanted one.

    They are write-only: whoever may change an address must not have them sent to one of their own choice. What is
    entered along with the change is stored afterwards.
    """
    moved = bool(server.url) and not same_origin(server.url, url)
    client_id, issuer = wanted.client_id.strip(), wanted.client_issuer.strip()
    if not issuer and client_id == server.client_id and not moved:
        issuer = server.client_issuer  # left empty, the one that was found stays
    if moved:
        server.headers = None
    if moved or (client_id, issuer) != (server.client_id, server.client_issuer):
        server.client_secret = server.initial_access_token = None
    server.client_issuer = issuer


def _with_line_breaks(secret: str) -> str:
    """Return a secret as it is, and a private key with the line breaks that a one-line field took out of it."""
    key = re.fullmatch(r"(-----BEGIN [A-Z ]{3,40}-----)\s*([A-Za-z0-9+/=\s]+?)\s*(-----END [A-Z ]{3,40}-----)", secret)
    return secret if key is None else "\n".join([key[1], *re.findall(r"\S{1,64}", key[2]), key[3], ""])


def _take_probe(server: McpServer, report: ProbeReport, *, keep_auth_mode: bool) -> None:
    now = timezone.now()
    answered = report.auth_mode is not None
    server.probe_steps = report.evidence.as_json()
    server.probe_verdict = report.verdict[:600]
    server.probed_at = server.contacted_at = now
    server.reachable = answered
    server.contact_error_code = "" if answered or report.error is None else report.error.code
    why = report.verdict if report.error is None else report.error.sentence
    server.contact_error = "" if answered else kept(why, 600)
    if report.protocol_version:
        server.protocol_version, server.discover_result = report.protocol_version, report.discover_result
    if report.auth_mode is not None and not keep_auth_mode:
        server.auth_mode = report.auth_mode
        server.auth_mode_source = McpServer.AuthModeSource.PROBE


def _ends_access(before: tuple[Any, ...], after: McpServer, wanted: ServerSettings) -> bool:
    """Whether a change is one to something that people did not agree to."""
    return _identity(after) != before or wanted.client_secret is not None or wanted.idp_client_secret is not None


def _identity(server: McpServer) -> tuple[Any, ...]:
    """What people agreed to when they connected."""
    options = server.oauth_options if isinstance(server.oauth_options, Mapping) else {}
    return (
        server.url,
        server.auth_mode,
        server.sharing,
        server.client_id,
        server.client_issuer,
        options.get("resource"),
        options.get("audience"),
        options.get("workload_token"),
        *_identity_provider(options),
    )


def _identity_provider(options: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(options.get(name) for name in ("idp_issuer", "idp_token_endpoint", "idp_client_id"))


def _forget_people(server: McpServer) -> None:
    McpServerOAuth.objects.filter(server=server).update(
        state=McpServerOAuth.State.NEEDS_REAUTHORIZATION,
        reason="server_changed",
        reason_at=timezone.now(),
        version=F("version") + 1,
        access_token=None,
        refresh_token=None,
        dpop_key=None,
        lease_id=None,
        lease_expires_at=None,
    )
    end_sessions(server_id=server.pk)
    # Open flows stay: their answer is refused by the generation, with a sentence that says why.
    listings.forget(StoredListing.objects.filter(server=server))


def _free_slug(workspace: Workspace, name: str, url: str) -> str:
    """Return a short name that is free now; the constraint decides if two people add the same at once."""
    base = slugify(name)[:70] or slugify(url.partition("://")[2])[:70] or "server"
    taken = set(McpServer.objects.filter(workspace=workspace, slug__startswith=base).values_list("slug", flat=True))
    if base not in taken:
        return base
    return next(f"{base}-{number}" for number in range(2, len(taken) + 3) if f"{base}-{number}" not in taken)
