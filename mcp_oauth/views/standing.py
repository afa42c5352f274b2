"""What authorization means for one server and one person right now, in words, and what the person can do about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth
from mcp_oauth.services.grants import authorization_required
from mcp_oauth.services.serving_grants import still_good
from mcp_oauth.services.workspaces import Place
from mcp_oauth.views.scopes import scopes_with_names

Tone = Literal["ok", "warn", "bad", "idle"]
Group = Literal["needs_you", "connected", "available", "leaving"]
# The one next step: of the person at the provider, of anybody at the server, of an administrator, or to use it.
Action = Literal[
    "connect",
    "reconnect",
    "grant_access",
    "open_again",
    "sign_in",
    "retry",
    "diagnose",
    "enter_headers",
    "keep",
    "continue",
    "none",
]


@dataclass(frozen=True)
class StateLine:
    """One fact in words, with the time it is from."""

    tone: Tone
    text: str
    detail: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Standing:
    """What authorization means for one server and person right now."""

    group: Group
    line: StateLine | None
    action: Action = "none"
    can_run: bool = False


def standing_of(
    place: Place, server: McpServer, grant: McpServerOAuth | None, flow: AuthorizationFlow | None
) -> Standing:
    """Return how a server stands for a person, whose grant and open attempt to connect are at hand."""
    if server.removal_at is not None:
        line = StateLine(
            "warn", _("Being removed"), _("It is out of use. What people granted is revoked when it goes.")
        )
        return Standing("leaving", line, "keep" if place.is_admin and server.removal_at > timezone.now() else "none")
    if not server.enabled:
        return Standing("available", StateLine("idle", _("Disabled by an administrator")))
    if server.auth_mode == McpServer.AuthMode.NONE:
        return Standing("connected", StateLine("ok", _("Open, no sign-in needed")), can_run=True)
    if server.auth_mode == McpServer.AuthMode.HEADERS:
        return _headers(place, server)
    if server.auth_mode == McpServer.AuthMode.ENTERPRISE:
        return _enterprise(place, server, grant)
    if server.is_unattended:
        return _unattended(place, server, grant)
    if server.grant_is_shared and not place.is_admin:
        return _shared(grant)
    if grant is not None and still_good(grant) and grant.wanted_scope and flow is None:
        line = StateLine(
            "warn",
            _("Wants more access"),
            _("A tool asks to: %(scopes)s.") % {"scopes": ", ".join(scopes_with_names(_missing(grant)[:5]))[:300]},
        )
        return Standing("needs_you", line, "grant_access", can_run=True)
    if grant is not None and still_good(grant):
        words = _("Shared by the workspace") if server.grant_is_shared else _connected(grant)
        return Standing("connected", StateLine("ok", words, at=grant.connected_at), can_run=True)
    if flow is not None:
        return Standing(
            "needs_you" if grant is not None else "available",
            StateLine("idle", _("Waiting for you in the other window"), at=flow.created_at),
            "open_again",
        )
    if grant is None:
        return Standing("available", None, "connect")
    reason = "expired" if grant.is_active else grant.reason
    return Standing(
        "needs_you",
        StateLine(
            "bad",
            _("Access ended"),
            authorization_required(_with_workspace(server, place), reason).user_message,
            grant.reason_at or grant.expires_at,
        ),
        "reconnect",
    )


def _missing(grant: McpServerOAuth) -> list[str]:
    """Return the wanted scopes that are not granted yet, or all of them where the server wants those once more."""
    wanted, granted = grant.wanted_scope.split(), set(grant.scope.split())
    return [scope for scope in wanted if scope not in granted] or wanted


def _headers(place: Place, server: McpServer) -> Standing:
    """Return how a server stands that a key opens which an administrator entered."""
    if server.headers_refused_at is None:
        return Standing("connected", StateLine("ok", _("Opened by the workspace's own key")), can_run=True)
    line = StateLine(
        "bad",
        _("Key not accepted"),
        _("An administrator has to enter the server's headers again."),
        server.headers_refused_at,
    )
    if place.is_admin:
        return Standing("needs_you", line, "enter_headers")
    return Standing("available", line)


def _unattended(place: Place, server: McpServer, grant: McpServerOAuth | None) -> Standing:
    """Return how a server stands that is opened without asking anybody."""
    workload = server.auth_mode == McpServer.AuthMode.WORKLOAD
    if grant is None or grant.is_active:
        words = _("Opened by this deployment's identity") if workload else _("Opened by the application's own identity")
        return Standing("connected", StateLine("ok", words), can_run=True)
    line = StateLine(
        "bad",
        _("Own identity refused"),
        _("An administrator has to check the client ID, and the operator the workload token.")
        if workload
        else _("An administrator has to check the client ID and its secret or key."),
        grant.reason_at,
    )
    return _refused_to_all(place, line)


def _enterprise(place: Place, server: McpServer, grant: McpServerOAuth | None) -> Standing:
    """Return how a server stands that opens for whoever signed in at the company."""
    if grant is None or grant.is_active or grant.server_generation != server.generation:
        return Standing("connected", StateLine("ok", _("Opened with your company sign-in")), can_run=True)
    if grant.reason == "sign_in_again":
        needed = authorization_required(_with_workspace(server, place), grant.reason)
        words = f"{needed.user_message} {needed.next_step}"
        line = StateLine("bad", _("Sign in again"), words, grant.reason_at)
        return Standing("needs_you", line, "sign_in", can_run=True)
    line = StateLine(
        "bad",
        _("Company sign-in refused"),
        _("An administrator has to check both clients, the scopes, and whether the company permits it."),
        grant.reason_at,
    )
    return _refused_to_all(place, line)


def _refused_to_all(place: Place, line: StateLine) -> Standing:
    """Return the standing of an identity that nobody agreed to, which a call may still try again."""
    if place.is_admin:
        return Standing("needs_you", line, "diagnose", can_run=True)
    return Standing("available", line, can_run=True)


def _shared(grant: McpServerOAuth | None) -> Standing:
    """Return how a shared connection stands for somebody who cannot change it."""
    if grant is not None and still_good(grant):
        return Standing("connected", StateLine("ok", _("Shared by the workspace"), at=grant.connected_at), can_run=True)
    return Standing("available", StateLine("idle", _("Waiting for an administrator to connect it")))


def _with_workspace(server: McpServer, place: Place) -> McpServer:
    server.workspace = place.workspace  # known already; spares a query per row
    return server


def _connected(grant: McpServerOAuth) -> str:
    return _("Connected as %(account)s") % {"account": grant.account} if grant.account else _("Connected")
