"""Seals the secrets of chosen rows with the newest key."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from mcp_oauth.admin.row_classes import Admin, _Row
from mcp_oauth.services.keys import rotate_rows

# What a person waits for; a whole table is the command's.
_MOST_ROWS: Final = 1000


class Rotating(Admin[_Row]):
    """Rows with secrets: these can be sealed again, also where nothing else of the row is changed by hand."""

    def has_rotate_permission(self, request: HttpRequest) -> bool:
        """Whoever may change such rows may have them sealed again."""
        name = get_permission_codename("change", self.opts)
        return bool(request.user.has_perm(f"{self.opts.app_label}.{name}"))

    @admin.action(description=gettext_lazy("Seal the secrets with the newest key"), permissions=["rotate"])
    def rotate_keys(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Seal each row's secrets again, and say how many were and which could not be opened."""
        if queryset.count() > _MOST_ROWS:
            text = _("Select at most %(count)d rows; the command rotate_encryption_keys does all of them.")
            self.message_user(request, text % {"count": _MOST_ROWS}, messages.ERROR)
            return
        rotation = rotate_rows(queryset)
        sealed = ngettext(
            "%(number)d secret is sealed with the newest key now.",
            "%(number)d secrets are sealed with the newest key now.",
            rotation.resealed,
        ) % {"number": rotation.resealed}
        before = ngettext("%(number)d was already.", "%(number)d were already.", rotation.current) % {
            "number": rotation.current
        }
        self.message_user(request, f"{sealed} {before}", messages.SUCCESS)
        if rotation.unreadable:
            lost = ngettext(
                "%(number)d secret is opened by no key and stays as it is.",
                "%(number)d secrets are opened by no key and stay as they are.",
                rotation.unreadable,
            )
            self.message_user(request, lost % {"number": rotation.unreadable}, messages.ERROR)
