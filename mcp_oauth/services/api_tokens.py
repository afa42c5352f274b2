"""Personal API tokens: making and revoking them, and finding out for whom one speaks."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import uuid
import zlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InvalidRequest, NotFound, NotSignedIn
from mcp_oauth.models import ApiToken, Event, Membership, Workspace
from mcp_oauth.models.prepared import Given, PreparedQuery
from mcp_oauth.services.events import record
from mcp_oauth.services.workspaces import Person

# By the prefix people and scanners of leaked secrets know what they found; by the checksum a typing error is refused
# without a look into the database. The alphabet has nothing that ends a double click or wants escaping.
PREFIX = "mcpo_"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_BYTES = 32
# 62**43 > 2**256 and 62**6 > 2**32.
_SECRET_CHARACTERS = 43
_CHECKSUM_CHARACTERS = 6
_LENGTH = len(PREFIX) + _SECRET_CHARACTERS + _CHECKSUM_CHARACTERS
# Enough to tell twenty tokens apart; 220 bits stay unknown to whoever reads the table.
_HINT_CHARACTERS = len(PREFIX) + 6

# Both are on the way of every request of a program.
_TOKEN = PreparedQuery(ApiToken, lambda: ApiToken.objects.filter(token_hash=Given(ApiToken, "token_hash")).order_by())
_MEMBER: PreparedQuery[Any] = PreparedQuery(
    get_user_model(),
    lambda: (
        get_user_model()
        ._default_manager.filter(
            pk=Given(Membership, "user"), mcp_memberships__workspace_id=Given(Membership, "workspace")
        )
        .order_by()
    ),
)


@dataclass(frozen=True)
class NewToken:
    """A token that was just made; its secret is known here and then to nobody but its holder."""

    token: ApiToken
    secret: str = field(repr=False)


def make_token(
    user: Person, workspace: Workspace, name: str, *, days: int | None = None, actor: Person | None = None
) -> NewToken:
    """Make a token for one person in one workspace, good for ``days`` (at most, and by default, ``API_TOKEN_DAYS``).

    Raises:
        NotFound: the person does not belong to the workspace.
        InvalidRequest: the name or the days cannot be, or the person has ``MAX_API_TOKENS`` there already.
    """
    name = name.strip()
    if not name or len(name) > 80 or not name.isprintable():
        raise InvalidRequest(_("Give the token a name of at most 80 characters, on one line."), field="name")
    days = settings.API_TOKEN_DAYS if days is None else days
    if not 1 <= days <= settings.API_TOKEN_DAYS:
        raise InvalidRequest(
            _("A token is good for 1 to %(limit)d days.") % {"limit": settings.API_TOKEN_DAYS}, field="days"
        )
    secret = new_secret()
    whose: dict[str, Any] = {"workspace_id": workspace.pk, "user_id": user.pk}
    with transaction.atomic():
        # Two requests of one person at once wait here for each other, or both would count the same tokens.
        if not Membership.objects.select_for_update().filter(**whose).exists():
            raise NotFound(_("There is no workspace of that name for you."))
        own = ApiToken.objects.filter(**whose)
        if own.filter(_alive()).count() >= settings.MAX_API_TOKENS:
            raise InvalidRequest(
                _("You have %(limit)d tokens for this workspace already.") % {"limit": settings.MAX_API_TOKENS},
                next_step=_("Revoke one that nothing uses any more."),
            )
        dead = own.exclude(_alive()).values_list("pk", flat=True)[settings.MAX_API_TOKENS :]
        ApiToken.objects.filter(pk__in=list(dead)).delete()
        token = ApiToken.objects.create(
            **whose,
            name=name,
            token_hash=_hash(secret),
            hint=secret[:_HINT_CHARACTERS],
            expires_at=timezone.now() + timedelta(days=days),
        )
        record(
            Event.Kind.API_TOKEN_MADE,
            workspace,
            user_id=user.pk,
            actor=actor,
            token=token.hint,
            name=name,
            days=days,
        )
    return NewToken(token, secret)


def revoke_token(token: ApiToken, *, actor: Person | None = None, outcome: str = "by_request") -> bool:
    """Revoke a token for good, from now on and everywhere; return whether it was not revoked before."""
    with transaction.atomic():
        revoked = ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=timezone.now())
        if revoked:
            record(
                Event.Kind.API_TOKEN_REVOKED,
                token.workspace,
                user_id=token.user_id,
                actor=actor,
                outcome=outcome,
                token=token.hint,
                name=token.name,
            )
    return bool(revoked)


def revoke_tokens_of_member(sender: type[Membership], instance: Membership, **kwargs: Any) -> None:
    """Revoke the tokens of a person who leaves a workspace, so that none wakes up if they come back.

    Connected to ``pre_delete``; a membership that is removed past it ends its tokens all the same, see `resolve`.
    """
    theirs = ApiToken.objects.filter(workspace_id=instance.workspace_id, user_id=instance.user_id)
    for token in theirs.filter(_alive()).select_related("workspace"):
        revoke_token(token, outcome="removed")


def tokens_of(user: Person) -> QuerySet[ApiToken]:
    """Return a person's tokens of every workspace, the newest first; ``is_alive`` is noted beside each."""
    alive = ExpressionWrapper(_alive(), output_field=BooleanField())
    rows = ApiToken.objects.filter(user_id=user.pk).select_related("workspace").annotate(is_alive=alive)
    return rows.order_by("-is_alive", "-created_at", "id")


def token_of(user: Person, token_id: uuid.UUID) -> ApiToken:
    """Return one of a person's own tokens.

    Raises:
        NotFound: it is not theirs, or does not exist.
    """
    token = ApiToken.objects.filter(user_id=user.pk, pk=token_id).select_related("workspace").first()
    if token is None:
        raise NotFound(_("You have no such API token."), next_step=_("Open the page again."))
    return token


def find_token(reference: str) -> ApiToken:
    """Return anybody's token, for operators: by its UUID, or by the characters it begins with.

    Raises:
        NotFound: there is none.
        InvalidRequest: several living tokens begin so.
    """
    rows = ApiToken.objects.select_related("workspace")
    try:
        found = list(rows.filter(pk=uuid.UUID(reference)))
    except ValueError:
        hint = reference[:_HINT_CHARACTERS]
        found = list(rows.filter(_alive(), hint=hint)[:2]) or list(rows.filter(hint=hint)[:1])
    if not found:
        raise NotFound(_("There is no such API token."), next_step=_("Give its ID, or the characters it begins with."))
    if len(found) > 1:
        raise InvalidRequest(_("Several API tokens begin so."), next_step=_("Give the ID of the one you mean."))
    return found[0]


def resolve(secret: str) -> ApiToken:
    """Return the token a request carries, its person beside it, and note that it was used.

    Raises:
        NotSignedIn: it is none of ours, or speaks for nobody any more.
    """
    if not _is_well_formed(secret):
        raise _refused(_("This is not an API token of this site."))
    digest = _hash(secret)
    token = _TOKEN.first(token_hash=digest)
    # The look-up is by the hash of 256 random bits: how long it takes says nothing about a secret somebody guesses at.
    if token is None or not hmac.compare_digest(token.token_hash, digest):
        raise _refused(_("This is not an API token of this site."))
    now = timezone.now()
    if token.revoked_at is not None:
        raise _refused(_("This API token was revoked."))
    if token.expires_at is not None and token.expires_at <= now:
        raise _refused(_("This API token has expired."))
    person = _MEMBER.first(user=token.user_id, workspace=token.workspace_id)
    if person is None or not person.is_active:
        raise _refused(_("The person this API token speaks for does not belong to its workspace any more."))
    token.user = person
    recently = now - timedelta(seconds=settings.API_TOKEN_USE_SECONDS)
    if token.last_used_at is None or token.last_used_at <= recently:
        unnoted = Q(last_used_at__isnull=True) | Q(last_used_at__lte=recently)
        ApiToken.objects.filter(unnoted, pk=token.pk).update(last_used_at=now)
    return token


def new_secret() -> str:
    """Return a new secret: the prefix, 256 random bits, and a checksum of these."""
    body = _base62(int.from_bytes(secrets.token_bytes(_SECRET_BYTES)), _SECRET_CHARACTERS)
    return f"{PREFIX}{body}{_checksum(body)}"


def _is_well_formed(secret: str) -> bool:
    if len(secret) != _LENGTH or not secret.startswith(PREFIX) or not secret.isascii():
        return False
    return secret[-_CHECKSUM_CHARACTERS:] == _checksum(secret[len(PREFIX) : -_CHECKSUM_CHARACTERS])


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_CHARACTERS)


def _base62(number: int, characters: int) -> str:
    digits = []
    for _place in range(characters):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _hash(secret: str) -> str:
    # A slow hash protects what people choose; nobody guesses at 256 random bits.
    return hashlib.sha256(secret.encode()).hexdigest()


def _alive() -> Q:
    return Q(revoked_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now()))


def _refused(message: str) -> NotSignedIn:
    return NotSignedIn(message, next_step=_("Make a new one on your page of API tokens."))
