"""Puts on record who came into a workspace, got another role there, or went, whatever way the row changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from mcp_oauth.models import Event, Membership
from mcp_oauth.services.events import record
from mcp_oauth.services.workspaces import Person

# Who removes people just now; a signal says which row goes, and not on whose word.
_actor: ContextVar[Person | None] = ContextVar("mcp_oauth_removing", default=None)


def record_added(membership: Membership, *, actor: Person | None = None) -> None:
    """Record that somebody belongs to a workspace now; the outcome is their role."""
    _record(Event.Kind.MEMBER_ADDED, membership, actor)


def record_role(membership: Membership, *, actor: Person | None = None) -> None:
    """Record that somebody has another role now; the outcome is the new one."""
    _record(Event.Kind.MEMBER_CHANGED, membership, actor)


@contextlib.contextmanager
def removed_by(actor: Person | None) -> Iterator[None]:
    """Let what goes inside this have been removed by a person."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


def record_removed(sender: type[Membership], instance: Membership, **kwargs: Any) -> None:
    """Record that somebody does not belong to a workspace any more; the outcome is the role they had.

    Connected to ``pre_delete``, so that it is on record too where a membership goes with its person or workspace.
    """
    _record(Event.Kind.MEMBER_REMOVED, instance, _actor.get())


def _record(kind: Event.Kind, membership: Membership, actor: Person | None) -> None:
    record(kind, membership.workspace, user_id=membership.user_id, actor=actor, outcome=membership.role)
