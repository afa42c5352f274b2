"""Who belongs to a workspace: adding people, their roles, and what ends when somebody leaves."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.db.models import Case, Count, F, IntegerField, OuterRef, QuerySet, Subquery, Value, When
from django.db.models.functions import Coalesce
from django.utils.text import slugify
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InvalidRequest, NotAllowed, NotFound
from mcp_oauth.models import McpServerOAuth, Membership, Workspace
from mcp_oauth.services.membership_events import record_added, record_role, removed_by
from mcp_oauth.services.revocation import Ended, end_grants
from mcp_oauth.services.workspaces import Person, Place, add_workspace

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser, AnonymousUser

logger = logging.getLogger("mcp_oauth.members")


@dataclass(frozen=True)
class Left:
    """Somebody who no longer belongs to a workspace, and what became of their grants there."""

    name: str
    ended: Ended


def members_of(workspace: Workspace) -> QuerySet[Membership]:
    """Return who belongs to a workspace, administrators first, each with their ``connection_count`` there."""
    own = McpServerOAuth.objects.filter(
        server__workspace_id=OuterRef("workspace_id"), user_id=OuterRef("user_id"), state=McpServerOAuth.State.ACTIVE
    )
    counted = own.order_by().values("user_id").annotate(number=Count("pk")).values("number")
    first = Case(When(role=Membership.Role.ADMIN, then=0), default=1, output_field=IntegerField())
    return (
        Membership.objects.filter(workspace=workspace)
        .select_related("user")
        .annotate(connection_count=Coalesce(Subquery(counted), Value(0)))
        .order_by(first, f"user__{get_user_model().USERNAME_FIELD}")
    )


def find_membership(place: Place, membership_id: uuid.UUID) -> Membership:
    """Return one membership of the workspace.

    Raises:
        NotFound: nobody in this workspace has it.
    """
    found = members_of(place.workspace).filter(pk=membership_id).first()
    if found is None:
        raise NotFound(_("There is no such member of this workspace."))
    return found


def add_member(place: Place, named: str, role: str) -> Membership:
    """Add a person who has an account here, by user name or e-mail address.

    Raises:
        NotAllowed: who asks is no administrator.
        InvalidRequest: nobody goes by that name, several do, or they belong to the workspace already.
    """
    _require_admin(place)
    _check_role(role)
    person = _find_person(named)
    try:
        with transaction.atomic():
            membership = Membership.objects.create(workspace=place.workspace, user=person, role=role)
            record_added(membership, actor=place.membership.user)
    except IntegrityError as error:
        raise InvalidRequest(_("%(name)s is a member already.") % {"name": name_of(person)}) from error
    logger.info("%s added %s to %s as %s", place.membership.user_id, person.pk, place.workspace.slug, role)
    return membership


def change_role(place: Place, membership_id: uuid.UUID, role: str) -> Membership:
    """Make a member an administrator, or an administrator a member.

    Raises:
        NotAllowed: who asks is no administrator.
        NotFound: nobody in this workspace has that membership.
        InvalidRequest: it would leave the workspace without an administrator.
    """
    _require_admin(place)
    _check_role(role)
    with transaction.atomic():
        _take(place.workspace)
        membership = find_membership(place, membership_id)
        if role != Membership.Role.ADMIN:
            _require_another_admin(membership)
        if membership.role != role:
            membership.role = role
            membership.save(update_fields=["role"])
            record_role(membership, actor=place.membership.user)
    logger.info("%s made %s %s in %s", place.membership.user_id, membership.user_id, role, place.workspace.slug)
    return membership


def remove_member(place: Place, membership_id: uuid.UUID, *, actor: Person) -> Left:
    """Remove somebody from a workspace, or leave it; their grants there are revoked as far as possible and forgotten.

    Raises:
        NotAllowed: who asks is neither an administrator nor the person.
        NotFound: nobody in this workspace has that membership.
        InvalidRequest: it would leave the workspace without an administrator.
    """
    membership = find_membership(place, membership_id)
    if membership.user_id != actor.pk:
        _require_admin(place)
    _require_another_admin(membership)
    # The providers are told first and outside of any transaction; what a person grants meanwhile goes with the row.
    own = McpServerOAuth.objects.filter(server__workspace=place.workspace, user_id=membership.user_id)
    ended = Ended.of(end_grants(own.select_related("server__workspace", "registration"), actor=actor))
    with transaction.atomic(), removed_by(actor):
        _take(place.workspace)
        _require_another_admin(membership)
        membership.delete()
    logger.info("%s removed %s from %s", actor.pk, membership.user_id, place.workspace.slug)
    return Left(name_of(membership.user), ended)


def may_create_workspaces(user: AbstractUser | AnonymousUser) -> bool:
    """Tell whether a person may create workspaces, as ``WORKSPACE_CREATION`` has it."""
    if surely_creates_workspaces(user):
        return True
    return settings.WORKSPACE_CREATION == "permission" and bool(user.has_perm("mcp_oauth.add_workspace"))


def surely_creates_workspaces(user: AbstractUser | AnonymousUser) -> bool:
    """Tell whether a person may create workspaces as far as that is known without looking up their permissions."""
    if settings.WORKSPACE_CREATION == "permission":
        return user.is_active and user.is_superuser
    return bool(settings.WORKSPACE_CREATION == "anyone" and user.is_authenticated)


def create_workspace(user: AbstractUser, name: str, slug: str = "") -> Workspace:
    """Create a workspace with the person as its administrator; without a short name one is made of the name.

    Raises:
        NotAllowed: the person may not.
        InvalidRequest: the name or short name is empty, malformed or taken.
    """
    if not may_create_workspaces(user):
        raise NotAllowed(
            _("You may not create workspaces."), next_step=_("Ask the operator of this site to create one for you.")
        )
    workspace = found_workspace(name, slug.strip() or slugify(name)[:60], admins=[user], actor=user)
    logger.info("%s created the workspace %s", user.pk, workspace.slug)
    return workspace


def found_workspace(
    name: str, slug: str, *, admins: Iterable[Person], members: Iterable[Person] = (), actor: Person | None = None
) -> Workspace:
    """Create a workspace with its first people, and put these on record.

    Raises:
        InvalidRequest: the name or short name is empty, malformed or taken.
    """
    with transaction.atomic():
        workspace = add_workspace(name, slug, admins=admins, members=members)
        for membership in workspace.memberships.all():
            record_added(membership, actor=actor)
    return workspace


def name_of(person: Any) -> str:
    """Return the name a person signs in with."""
    return str(person.get_username())


def _find_person(named: str) -> Any:
    """Return the one active person of that user name, or else of that e-mail address.

    Raises:
        InvalidRequest: there is none, or more than one.
    """
    text = named.strip()[:320]
    model = get_user_model()
    people = model._default_manager.filter(is_active=True)
    if not text or "\x00" in text:
        raise InvalidRequest(_("Enter a user name or an e-mail address."))
    exact = people.filter(**{model.USERNAME_FIELD: text}).first()
    if exact is not None:
        return exact
    address = model.get_email_field_name()
    has_address = any(field.name == address for field in model._meta.get_fields())
    by_address = list(people.filter(**{f"{address}__iexact": text})[:2]) if has_address else []
    if len(by_address) > 1:
        raise InvalidRequest(_("Several people have this address; enter the user name."))
    if not by_address:
        raise InvalidRequest(
            _("Nobody here goes by “%(name)s”.") % {"name": text[:150]},
            next_step=_("Check the spelling; people need an account on this site first."),
        )
    return by_address[0]


def _check_role(role: str) -> None:
    if role not in Membership.Role.values:
        raise InvalidRequest(_("“%(role)s” is not a role.") % {"role": role[:40]})


def _require_admin(place: Place) -> None:
    if not place.is_admin:
        raise NotAllowed(_("Only administrators of this workspace can change who belongs to it."))


def _take(workspace: Workspace) -> None:
    """Take the workspace's row, on every database: of two changes that each leave one administrator, one waits."""
    Workspace.objects.filter(pk=workspace.pk).update(name=F("name"))


def _require_another_admin(membership: Membership) -> None:
    """Refuse to lose the last administrator.

    Raises:
        InvalidRequest: there is no other one.
    """
    admins = Membership.objects.filter(workspace_id=membership.workspace_id, role=Membership.Role.ADMIN)
    others = list(admins.exclude(pk=membership.pk).values_list("pk", flat=True)[:1])
    current = Membership.objects.filter(pk=membership.pk, role=Membership.Role.ADMIN).exists()
    if current and not others:
        raise InvalidRequest(
            _("A workspace needs an administrator, and there is no other one."),
            next_step=_("Make somebody else an administrator first."),
        )
