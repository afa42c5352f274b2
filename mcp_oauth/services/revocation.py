"""Ends grants: tells the authorization server (RFC 7009), then forgets them, whatever way a row goes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils.translation import ngettext

from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.fields import sealed_value
from mcp_oauth.messages import HttpResponse
from mcp_oauth.models import AuthorizationFlow, Event, McpServerOAuth, Membership, StoredListing
from mcp_oauth.oauth.registration import ClientCredentials
from mcp_oauth.oauth.revocation import is_revoked, revocation_request
from mcp_oauth.oauth.token import client_was_refused
from mcp_oauth.services import listings
from mcp_oauth.services.events import record
from mcp_oauth.services.registrations import credentials_of
from mcp_oauth.services.wire import end_sessions, fetch
from mcp_oauth.services.workspaces import Person

logger = logging.getLogger(__name__)

# Set while rows are deleted whose revocation was asked for, and answered, before.
_revoked_already: ContextVar[bool] = ContextVar("mcp_oauth_revoked_already", default=False)


@dataclass(frozen=True)
class Ended:
    """How many grants one change ended, and what their authorization servers said to it."""

    confirmed: int = 0
    unconfirmed: int = 0
    not_offered: int = 0

    @classmethod
    def of(cls, answers: Iterable[bool | None]) -> Ended:
        """Count the words of `revoke_upstream`."""
        known = list(answers)
        return cls(known.count(True), known.count(False), known.count(None))

    def in_words(self) -> str:
        """Return what an administrator should know; empty when no grant ended."""
        sentences = []
        if self.confirmed:
            sentences.append(
                ngettext(
                    "%(number)d connection was revoked at the provider.",
                    "%(number)d connections were revoked at the provider.",
                    self.confirmed,
                )
                % {"number": self.confirmed}
            )
        if left := self.unconfirmed + self.not_offered:
            sentences.append(
                ngettext(
                    "%(number)d connection was forgotten here; its provider did not confirm that it is revoked.",
                    "%(number)d connections were forgotten here; the provider did not confirm that they are revoked.",
                    left,
                )
                % {"number": left}
            )
        return " ".join(sentences)


def holds_tokens(grant: McpServerOAuth) -> bool:
    """Whether there is something to revoke; a grant that only a person can mend may still hold a living token."""
    return any(sealed_value(grant, name) is not None for name in ("access_token", "refresh_token"))


def revoke_upstream(grant: McpServerOAuth, *, actor: Person | None = None) -> bool | None:
    """Tell the authorization server that a grant is over (RFC 7009); best effort, bounded, and on record.

    Returns ``True`` when it agreed, ``False`` when it did not answer so, ``None`` when it offers no revocation.
    """
    agreed, outcome, facts = _ask_to_revoke(grant)
    record(Event.Kind.REVOKED, grant.server, grant=grant, actor=actor, outcome=outcome, **facts)
    return agreed


def _ask_to_revoke(grant: McpServerOAuth) -> tuple[bool | None, str, dict[str, Any]]:
    if not grant.revocation_endpoint:
        return None, "not_offered", {}
    facts: dict[str, Any] = {"document": grant.revocation_endpoint}
    try:
        client = credentials_of(grant)
        refresh = _revoke_token(grant, grant.refresh_token, "refresh_token", client)
        access = _revoke_token(grant, grant.access_token, "access_token", client)
    except McpOAuthError as error:
        # Whatever the authorization server does, the row goes.
        return False, error.code, facts
    if refresh is None and access is None:
        return None, "nothing_to_revoke", {}
    facts["statuses"] = [str(answer.status) for answer in (refresh, access) if answer is not None]
    agreed = is_revoked(refresh, access)
    return agreed, "confirmed" if agreed else "refused", facts


def _revoke_token(
    grant: McpServerOAuth, token: str | None, hint: str, client: ClientCredentials
) -> HttpResponse | None:
    """Ask for one token to be revoked; once more where the endpoint does not take how the client shows itself."""
    if token is None:
        return None
    endpoint = grant.revocation_endpoint
    answer = fetch(revocation_request(token, hint, revocation_endpoint=endpoint, client=client))
    if not client_was_refused(answer):
        return answer
    again = fetch(revocation_request(token, hint, revocation_endpoint=endpoint, client=client, otherwise=True))
    return answer if client_was_refused(again) else again


def end_grant(grant: McpServerOAuth, *, actor: Person | None = None) -> bool | None:
    """Revoke a grant upstream as far as possible and forget it with what hangs on it; returns `revoke_upstream`'s word.

    The row goes whatever the authorization server answers.
    """
    revoked = revoke_upstream(grant, actor=actor)
    whose = {"server_id": grant.server_id, "user_id": grant.user_id}
    with transaction.atomic(), revoked_already():
        # Flows first: a callback that is storing its grant right now holds its flow, and the grant goes after it.
        AuthorizationFlow.objects.filter(**whose).delete()
        McpServerOAuth.objects.filter(**whose).delete()
        listings.forget(StoredListing.objects.filter(**whose))
        end_sessions(grant_id=grant.pk)
        record(Event.Kind.DISCONNECTED, grant.server, grant=grant, actor=actor, outcome="by_request")
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
    end_sessions(grant_id=instance.pk)
    if _revoked_already.get():
        return
    grant = McpServerOAuth.objects.select_related("server", "registration").filter(pk=instance.pk).first()
    if grant is None:
        return
    record(Event.Kind.DISCONNECTED, grant.server, grant=grant, outcome="removed")
    whose: dict[str, Any] = {"server_id": grant.server_id, "user_id": grant.user_id}
    listings.forget(StoredListing.objects.filter(**whose))
    if holds_tokens(grant):
        transaction.on_commit(lambda: revoke_upstream(grant) and None)


def end_grants_of_member(sender: type[Membership], instance: Membership, **kwargs: Any) -> None:
    """End what a person who leaves a workspace granted there. Connected to ``pre_delete``.

    Open flows stay: their answer is refused because the person is no member, with a sentence that says so.
    """
    McpServerOAuth.objects.filter(server__workspace_id=instance.workspace_id, user_id=instance.user_id).delete()
    # Those with servers that take no grant as well.
    end_sessions(workspace_id=instance.workspace_id, user_id=instance.user_id)
