"""How people are named and found; the user model is the site's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractUser

# For `search_fields` of rows that belong to a person.
USERNAME = f"user__{get_user_model().USERNAME_FIELD}"


def name_of(user: AbstractUser | None) -> str:
    """Return whose a grant is."""
    return _("the workspace") if user is None else str(user)


def signed_in(request: HttpRequest) -> AbstractUser | None:
    """Return who does this, for the record."""
    return None if request.user.is_anonymous else request.user
