"""Ends grants: tells the authorization server (RFC 7009), then forgets them, whatever way a row goes."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import DeadlineExceeded, McpOAuthError
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

# Providers that are told at once; each takes a thread and mostly waits.
_MOST_AT_ONCE: Final = 16

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
    return _recorded(grant, _ask_to_revoke(grant), actor)


def revoke_together(grants: Iterable[McpServerOAuth], *, actor: Person | None = None) -> list[bool | None]:
    """Tell the authorization servers of many grants at the same time; returns `revoke_upstream`'s word for each.

    Everything together takes no longer than ``REVOKE_TOGETHER_SECONDS``. The grants come with their server and
    registration, because the threads that ask touch no database.
    """
    rows = list(grants)
    if not rows:
        return []
    deadline = time.monotonic() + settings.REVOKE_TOGETHER_SECONDS
    with ThreadPoolExecutor(min(_MOST_AT_ONCE, len(rows)), thread_name_prefix="mcp-oauth-revoking") as pool:
        # The reader's language travels in the context.
        asked = [pool.submit(contextvars.copy_context().run, _ask_to_revoke, grant, deadline) for grant in rows]
        answers = [future.result() for future in asked]
    return [_recorded(grant, answer, actor) for grant, answer in zip(rows, answers, strict=True)]


_Answer = tuple[bool | None, str, dict[str, Any]]


def _recorded(grant: McpServerOAuth, answer: _Answer, actor: Person | None) -> bool | None:
    agreed, outcome, facts = answer
    record(Event.Kind.REVOKED, grant.server, grant=grant, actor=actor, outcome=outcome, **facts)
    return agreed


def _ask_to_revoke(grant: McpServerOAuth, deadline: float | None = None) -> _Answer:
    if not grant.revocation_endpoint:
        return None, "not_offered", {}
    facts: dict[str, Any] = {"document": grant.revocation_endpoint}
    try:
        client = credentials_of(grant)
        refresh = _revoke_token(grant, grant.refresh_token, "refresh_token", client, deadline)
        access = _revoke_token(grant, grant.access_token, "access_token", client, deadline)
    except McpOAuthError as error:
        # Whatever the authorization server does, the row goes.
        return False, error.code, facts
    if refresh is None and access is None:
        return None, "nothing_to_revoke", {}
    facts["statuses"] = [str(answer.status) for answer in (refresh, access) if answer is not None]
    agreed = is_revoked(refresh, access)
    return agreed, "confirmed" if agreed else "refused", facts


def _revoke_token(
    grant: McpServerOAuth, token: str | None, hint: str, client: ClientCredentials, deadline: float | None
) -> HttpResponse | None:
    """Ask for one token to be revoked; once more where the endpoint does not take how the client shows itself."""
    if token is None:
        return None
    endpoint = grant.revocation_endpoint

    def ask(*, otherwise: bool) -> HttpResponse:
        left = None if deadline is None else min(deadline - time.monotonic(), settings.OAUTH_REQUEST_SECONDS)
        if left is not None and left <= 0:
            raise DeadlineExceeded(_("It was not asked any more, because the time was over."), document=endpoint)
        request = revocation_request(token, hint, revocation_endpoint=endpoint, client=client, otherwise=otherwise)
        return fetch(request, seconds=left)

    answer = ask(otherwise=False)
    if not client_was_refused(answer):
        return answer
    again = ask(otherwise=True)
    return answer if client_was_refused(again) else again


def end_grant(grant: McpServerOAuth, *, actor: Person | None = None) -> bool | None:
    """Revoke a grant upstream as far as possible and forget it with what hangs on it; returns `revoke_upstream`'s word.

    The row goes whatever the authorization server answers.
    """
    revoked = revoke_upstream(grant, actor=actor)
    _forget(grant, actor)
    return revoked


def end_grants(grants: Iterable[McpServerOAuth], *, actor: Person | None = None) -> list[bool | None]:
    """End many grants as `end_grant` does one; their authorization servers are told at the same time.

    The grants come with their server and registration.
    """
    rows = list(grants)
    answers = revoke_together(rows, actor=actor)
    for grant in rows:
        _forget(grant, actor)
    return answers


def _forget(grant: McpServerOAuth, actor: Person | None) -> None:
    whose = {"server_id": grant.server_id, "user_id": grant.user_id}
    with transaction.atomic(), revoked_already():
        # Flows first: a callback that is storing its grant right now holds its flow, and the grant goes after it.
        AuthorizationFlow.objects.filter(**whose).delete()
        McpServerOAuth.objects.filter(**whose).delete()
        listings.forget(StoredListing.objects.filter(**whose))
        end_sessions(grant_id=grant.pk)
        record(Event.Kind.DISCONNECTED, grant.server, grant=grant, actor=actor, outcome="by_request")


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
