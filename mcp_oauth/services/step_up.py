"""Remembers what a tool asked for beyond the grant, and how often it was asked for (RFC 6750 §3.1)."""

from __future__ import annotations

from django.db import transaction

from mcp_oauth.conf import settings
from mcp_oauth.models import Event, McpServerOAuth
from mcp_oauth.services.events import record
from mcp_oauth.services.grants import UsableGrant


def want_more(usable: UsableGrant, scope: str) -> bool:
    """Remember the scopes a request lacked; return whether asking the person for them can still help.

    The same scopes are asked for `MAX_STEP_UPS` times, counted over all flows of the grant.
    """
    wanted = scope_key(scope)
    with transaction.atomic():
        grant = McpServerOAuth.objects.select_for_update().filter(pk=usable.grant_id).first()
        if grant is None or not wanted:
            return False
        if grant.step_up_attempts.get(wanted, 0) >= settings.MAX_STEP_UPS:
            return False
        known = grant.wanted_scope.split()
        # Not a change of the grant itself, so its version stays: a refresh that is under way must not lose.
        merged = " ".join(dict.fromkeys([*known, *wanted.split()]))
        if merged == grant.wanted_scope:
            return True  # known and on record already
        McpServerOAuth.objects.filter(pk=grant.pk).update(wanted_scope=merged)
        record(Event.Kind.STEP_UP, grant.server, grant=grant, outcome="wanted", scope=wanted)
    return True


def count_request(grant: McpServerOAuth, scope: str) -> None:
    """Note on a row (the caller saves it) that nothing more is wanted, and what was asked for if it was a step-up."""
    grant.wanted_scope = ""
    if asked := scope_key(scope):
        grant.step_up_attempts = {**grant.step_up_attempts, asked: grant.step_up_attempts.get(asked, 0) + 1}


def scope_key(scope: str) -> str:
    """Return a set of scopes in one spelling."""
    return " ".join(sorted(set(scope.split())))
