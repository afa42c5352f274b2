"""Ends grants: tells the authorization server (RFC 7009), then forgets them, whatever way a row goes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from django.db import transaction

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.models import AuthorizationFlow, McpServerOAuth, Membership, ToolCatalogue
from mcp_oauth.oauth.revocation import revocation_request
from mcp_oauth.services.registrations import credentials_of
from mcp_oauth.services.wire import fetch

logger = logging.getLogger(__name__)

# Set while rows are deleted whose revocation was asked for, and answered, before.
_revoked_already: ContextVar[bool] = ContextVar("mcp_oauth_revoked_already", default=False)


def revoke_upstream(grant: McpServerOAuth) -> bool | None:
    """Tell the authorization server that a grant is over (RFC 7009); best effort and bounded.

    Returns ``True`` when it agreed, ``False`` when it did not answer so, ``None`` when it offers no revocation.
    """
    if not grant.revocation_endpoint:
        return None
    try:
        client = credentials_of(grant)
        tokens = [(grant.refresh_token, "refresh_token"), (grant.access_token, "access_token")]
        answers = [
            fetch(revocation_request(token, hint, revocation_endpoint=grant.revocation_endpoint, client=client))
            for token, hint in tokens
            if token is not None
        ]
    except McpOAuthError as error:
        # Whatever the authorization server does, the row goes.
        logger.info("grant %s is dropped without revocation: %s", grant.pk, error.code)
        return False
    return all(answer.status == 200 for answer in answers)


def end_grant(grant: McpServerOAuth) -> bool | None:
    """Revoke a grant upstream as far as possible and forget it with what hangs on it; returns `revoke_upstream`'s word.

    The row goes whatever the authorization server answers.
    """
    revoked = revoke_upstream(grant)
    whose = {"server_id": grant.server_id, "user_id": grant.user_id}
    with transaction.atomic(), revoked_already():
        # Flows first: a callback that is storing its grant right now holds its flow, and the grant goes after it.
        AuthorizationFlow.objects.filter(**whose).delete()
        McpServerOAuth.objects.filter(**whose).delete()
        ToolCatalogue.objects.filter(**whose).delete()
    return revoked


@contextlib.contextmanager
def revoked_already() -> Iterator[None]:
    """Delete grants inside this without revoking them upstream once more."""
    token = _revoked_already.set(True)
    try:
        yield
    finally:
        _revoked_already.reset(token)


def revoke_when_deleted(sender: type[McpServerOAuth], instance: McpServerOAuth, **kwargs: Any) -> None:
    """Revoke a grant that goes with its person, server, membership or workspace, once that is certain.

    Connected to ``pre_delete``: no way of deleting leaves a living token behind at the provider. The requests are
    made after the commit, because nothing network-bound holds a transaction.
    """
    if _revoked_already.get() or not instance.is_active:
        return
    grant = McpServerOAuth.objects.select_related("server", "registration").filter(pk=instance.pk).first()
    if grant is not None:
        transaction.on_commit(lambda: revoke_upstream(grant) and None)


def end_grants_of_member(sender: type[Membership], instance: Membership, **kwargs: Any) -> None:
    """End what a person who leaves a workspace granted there. Connected to ``pre_delete``.

    Open flows stay: their answer is refused because the person is no member, with a sentence that says so.
    """
    McpServerOAuth.objects.filter(server__workspace_id=instance.workspace_id, user_id=instance.user_id).delete()
