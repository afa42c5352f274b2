"""Adding, changing and removing servers; what a change ends is ended here."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from mcp_oauth.exceptions import DiscoveryFailed, InvalidRequest, NotFound, ServerUnreachable
from mcp_oauth.models import Event, McpServer, McpServerOAuth, StoredListing, Workspace
from mcp_oauth.oauth.options import OAuthOptions
from mcp_oauth.services import listings
from mcp_oauth.services.consequences import Consequences, agreed_to, consequences_of, ends_access
from mcp_oauth.services.discovery import discover, grant_type_of
from mcp_oauth.services.events import record
from mcp_oauth.services.probe_records import record_probe, take_probe
from mcp_oauth.services.probes import ProbeReport, probe
from mcp_oauth.services.revocation import Ended, holds_tokens, revoke_together, revoked_already
from mcp_oauth.services.server_options import opt_outs_of, options_of
from mcp_oauth.services.server_settings import ServerSettings, apply_settings, check_settings
from mcp_oauth.services.wire import end_sessions
from mcp_oauth.services.workspaces import Person

logger = logging.getLogger(__name__)


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
    url = check_settings(wanted)
    if report is None:
        report = probe(url, OAuthOptions.from_json(dict(wanted.options)))
    if wanted.auth_mode is None:
        _require_answer(report)
    server = McpServer(workspace=workspace, slug=wanted.slug.strip() or _free_slug(workspace, wanted.name, url))
    apply_settings(server, wanted, url)
    take_probe(server, report, keep_auth_mode=wanted.auth_mode is not None)
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
    before, plain = agreed_to(server), _plain_facts(server)
    if url != server.url:
        server.protocol_version, server.discover_result = "", None
    headers_given = wanted.headers is not None
    apply_settings(server, wanted, url)
    if report is not None:
        take_probe(server, report, keep_auth_mode=wanted.auth_mode is not None)
    changed = [name for name, value in _plain_facts(server).items() if value != plain[name]] + wanted.secrets_given()
    policy = _policy(server) if {"allowed_tools", "denied_tools"} & set(changed) else {}
    ended = Ended()
    if ends_access(before, server, wanted):
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
            report = replace(report, sentence=error.sentence, error=error)
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
        raise ServerUnreachable(report.sentence)


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
