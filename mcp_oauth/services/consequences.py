"""What a change of a server ends, known before it is made: access that people gave for something else, and secrets."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mcp_oauth.fields import sealed_value
from mcp_oauth.models import AuthorizationFlow, McpServer, McpServerOAuth
from mcp_oauth.services.probe_records import take_probe
from mcp_oauth.services.probes import ProbeReport
from mcp_oauth.services.server_settings import ServerSettings, apply_settings, identity_provider


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


def consequences_of(
    server: McpServer, wanted: ServerSettings, url: str, report: ProbeReport | None = None
) -> Consequences:
    """Return what a change ends; without a ``report``, a kind that is only found out by asking counts as unchanged."""
    after = copy.copy(server)
    apply_settings(after, wanted, url)
    if report is not None:
        take_probe(after, report, keep_auth_mode=wanted.auth_mode is not None)
    lost = tuple(
        name
        for name in McpServer.SECRETS
        if sealed_value(server, name) is not None
        and sealed_value(after, name) is None
        and getattr(wanted, name) is None
    )
    if not ends_access(agreed_to(server), after, wanted):
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


def ends_access(before: tuple[Any, ...], after: McpServer, wanted: ServerSettings) -> bool:
    """Whether a change is one to something that people did not agree to."""
    return agreed_to(after) != before or wanted.client_secret is not None or wanted.idp_client_secret is not None


def agreed_to(server: McpServer) -> tuple[Any, ...]:
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
        *identity_provider(options),
    )


def _names_of_secrets() -> dict[str, str]:
    return {
        "headers": _("What the stored headers hold"),
        "client_secret": _("The stored client secret"),
        "initial_access_token": _("The stored token to register with"),
        "idp_client_secret": _("The stored secret for the company's identity provider"),
    }
