"""What a server showed when it was last asked, in its row."""

from __future__ import annotations

from django.utils import timezone

from mcp_oauth.models import McpServer
from mcp_oauth.sentences import kept
from mcp_oauth.services.probes import ProbeReport

# What a probe writes.
_COLUMNS = (
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


def take_probe(server: McpServer, report: ProbeReport, *, keep_auth_mode: bool) -> None:
    """Take over what a probe showed; nothing is stored."""
    now = timezone.now()
    answered = report.auth_mode is not None
    server.probe_steps = report.evidence.as_stored()
    server.probe_verdict = kept(report.sentence, 600)
    server.probed_at = server.contacted_at = now
    server.reachable = answered
    server.contact_error_code = "" if answered or report.error is None else report.error.code
    why = report.sentence if report.error is None else report.error.sentence
    server.contact_error = "" if answered else kept(why, 600)
    if report.protocol_version:
        server.protocol_version, server.discover_result = report.protocol_version, report.discover_result
    if report.auth_mode is not None and not keep_auth_mode:
        server.auth_mode = report.auth_mode
        server.auth_mode_source = McpServer.AuthModeSource.PROBE


def record_probe(server: McpServer, report: ProbeReport, *, keep_auth_mode: bool) -> None:
    """Store what a probe showed."""
    take_probe(server, report, keep_auth_mode=keep_auth_mode)
    # What is kept is not written either: an administrator may be changing it right now.
    untouched = {"auth_mode", "auth_mode_source"} if keep_auth_mode else set()
    # An UPDATE rather than save(): a row deleted meanwhile stays deleted, and one that points elsewhere now is not it.
    McpServer.objects.filter(pk=server.pk, url=server.url).update(
        **{name: getattr(server, name) for name in _COLUMNS if name not in untouched}
    )
