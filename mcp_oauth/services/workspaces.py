"""Who may see and change what: every look-up of a server goes through here."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils.text import slugify
from django.utils.translation import gettext as _

from mcp_oauth.exceptions import InvalidRequest, NotAllowed, NotFound
from mcp_oauth.models import McpServer, Membership, Workspace
from mcp_oauth.models.prepared import Given, PreparedQuery

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Lookup(Protocol[T_co]):
    """A prepared statement that finds one thing, or nothing."""

    def first(self, **values: Any) -> T_co | None:
        """Return it."""


class Person(Protocol):
    """Anybody a site's user model describes; only the key matters here, and nobody's is ``None``."""

    @property
    def pk(self) -> Any:
        """The primary key."""


@dataclass(frozen=True)
class Place:
    """A person's place in one workspace."""

    workspace: Workspace
    membership: Membership

    @property
    def is_admin(self) -> bool:
        """Whether the person may configure the workspace's servers."""
        return self.membership.is_admin


def workspaces_of(user: Person) -> QuerySet[Workspace]:
    """Return the workspaces a person belongs to, by name."""
    return Workspace.objects.filter(memberships__user_id=user.pk).order_by("name", "slug")


def place_in(user: Person, slug: str) -> Place:
    """Return the person's place in a workspace.

    Raises:
        NotFound: there is none; whether the workspace exists is not said.
    """
    membership = Membership.objects.select_related("workspace").filter(workspace__slug=slug, user_id=user.pk).first()
    if membership is None:
        raise NotFound(_("There is no workspace of that name for you."))
    return Place(membership.workspace, membership)


def first_place(user: Person) -> Place | None:
    """Return the person's place in the first of their workspaces, for pages that belong to none."""
    workspace = workspaces_of(user).first()
    return None if workspace is None else place_in(user, workspace.slug)


def find_server(reference: McpServer | uuid.UUID | str) -> McpServer:
    """Return a server by itself, its UUID, or ``workspace/slug``.

    Raises:
        NotFound: no server goes by that name.
    """
    if isinstance(reference, McpServer):
        return reference
    servers = McpServer.objects.select_related("workspace")
    text = str(reference)
    workspace_slug, slash, server_slug = text.partition("/")
    if slash:
        server = servers.filter(workspace__slug=workspace_slug, slug=server_slug).first()
    else:
        try:
            server = servers.filter(pk=uuid.UUID(text)).first()
        except ValueError:
            server = None
    if server is None:
        raise NotFound(_("There is no server named “%(name)s”.") % {"name": text[:100]})
    return server


def server_for(user: Person, reference: McpServer | uuid.UUID | str) -> McpServer:
    """Return a server of a workspace the person belongs to.

    Raises:
        NotFound: no such server, or it belongs to a workspace of others; the two look the same.
    """
    return _server_of_member(user, reference, _BY_KEY, _BY_NAME)


def server_to_use(user: Person, reference: McpServer | uuid.UUID | str) -> McpServer:
    """Return the same for an exchange with it: what the probe saw is left in the database.

    Raises:
        NotFound: as `server_for`.
    """
    return _server_of_member(user, reference, _BY_KEY_TO_USE, _BY_NAME_TO_USE)


def _server_of_member(
    user: Person,
    reference: McpServer | uuid.UUID | str,
    by_key: PreparedQuery[McpServer],
    by_name: PreparedQuery[McpServer],
) -> McpServer:
    if not isinstance(reference, McpServer):
        return found_for_member(user, reference, by_key, by_name)
    if not _brought_up_to_date(reference, user):
        raise _not_found()
    return reference


def found_for_member(user: Person, reference: uuid.UUID | str, by_key: Lookup[T], by_name: Lookup[T]) -> T:
    """Return what is found by the key of a server or its ``workspace/slug``, of those that the person may use.

    One query, for it is on the way of every call.

    Raises:
        NotFound: nothing is.
    """
    text = str(reference)
    workspace_slug, slash, server_slug = text.partition("/")
    found: T | None = None
    if slash:
        found = by_name.first(workspace=workspace_slug, slug=server_slug, user=user.pk)
    else:
        with suppress(ValueError):  # it is the key of nothing
            found = by_key.first(id=uuid.UUID(text), user=user.pk)
    if found is None:
        raise _not_found()
    return found


def _not_found() -> NotFound:
    return NotFound(_("There is no server of that name for you."))


def _brought_up_to_date(server: McpServer, user: Person) -> bool:
    """Read again what an administrator forbids, for a server that a program has held for long; tell members apart."""
    current = _RULES.first(id=server.pk, user=user.pk)
    if current is None:
        return False
    for name in _RULED:
        setattr(server, name, getattr(current, name))
    return True


def _for_member() -> QuerySet[McpServer]:
    # A join would have PostgreSQL plan for three tables, which takes longer than looking into these two.
    members = Membership.objects.filter(workspace_id=OuterRef("workspace_id"), user_id=Given(Membership, "user"))
    return McpServer.objects.filter(Exists(members)).order_by()


_RULED = ("enabled", "removal_at", "allowed_tools", "denied_tools")
_RULES = PreparedQuery(McpServer, lambda: _for_member().filter(pk=Given(McpServer, "id")).only(*_RULED))


def _by_key() -> QuerySet[McpServer]:
    return _for_member().filter(pk=Given(McpServer, "id"))


def _by_name() -> QuerySet[McpServer]:
    return _for_member().filter(workspace__slug=Given(Workspace, "slug", "workspace"), slug=Given(McpServer, "slug"))


# An exchange needs none of these, a renewal neither; what a probe saw may be larger than all the rest.
_ASIDE = ("created_at", "auth_mode_source", "initial_access_token", "probe_steps", "probe_verdict", "probed_at")


def to_use_by_key() -> QuerySet[McpServer]:
    """Return what a prepared query finds a server by its ``id`` with, to use it for a ``user``."""
    return _by_key().defer(*_ASIDE)


def to_use_by_name() -> QuerySet[McpServer]:
    """Return the same by the ``slug`` of the server and of its ``workspace``."""
    return _by_name().defer(*_ASIDE)


_BY_KEY, _BY_NAME = PreparedQuery(McpServer, _by_key), PreparedQuery(McpServer, _by_name)
_BY_KEY_TO_USE, _BY_NAME_TO_USE = PreparedQuery(McpServer, to_use_by_key), PreparedQuery(McpServer, to_use_by_name)


def require_admin(place: Place) -> None:
    """Refuse people who may not configure servers.

    Raises:
        NotAllowed: the person is a member, not an administrator.
    """
    if not place.is_admin:
        raise NotAllowed(_("Only administrators of this workspace can change its servers."))


def add_workspace(name: str, slug: str, *, admins: Iterable[Person], members: Iterable[Person]) -> Workspace:
    """Create a workspace with its first people; an administrator who is also named as member stays administrator.

    Raises:
        InvalidRequest: the name or short name is empty, malformed or taken.
    """
    name, slug = name.strip(), slug.strip()
    if not name or len(name) > 120:
        raise InvalidRequest(_("Give the workspace a name of at most 120 characters."))
    if not slug or len(slug) > 60 or slugify(slug) != slug:
        raise InvalidRequest(
            _("“%(slug)s” cannot be a short name; use lower-case letters, digits and hyphens.") % {"slug": slug[:60]}
        )
    with transaction.atomic():
        workspace, created = Workspace.objects.get_or_create(slug=slug, defaults={"name": name})
        if not created:
            raise InvalidRequest(
                _("A workspace with the short name “%(slug)s” already exists.") % {"slug": slug},
                next_step=_("Choose a different short name."),
            )
        roles = {person.pk: Membership.Role.MEMBER for person in members}
        roles |= {person.pk: Membership.Role.ADMIN for person in admins}
        Membership.objects.bulk_create(
            Membership(workspace=workspace, user_id=user_id, role=role) for user_id, role in roles.items()
        )
    return workspace
