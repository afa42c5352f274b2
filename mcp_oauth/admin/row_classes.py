"""Kinds of rows in the admin: those only looked at, and those whose deletion other servers are told of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.functional import Promise
from django.views.decorators.csrf import csrf_protect

if TYPE_CHECKING:
    Admin = admin.ModelAdmin
    Inline = admin.TabularInline
    Form = forms.ModelForm
else:
    # Django's own classes take no type parameters when they run.
    class Admin(admin.ModelAdmin):
        """How the admin shows and changes one model."""

        def __class_getitem__(cls, item):
            return cls

    class Inline(admin.TabularInline):
        """Rows of one model inside another's page."""

        def __class_getitem__(cls, item):
            return cls

    class Form(forms.ModelForm):
        """The form of one model."""

        def __class_getitem__(cls, item):
            return cls


_Row = TypeVar("_Row", bound=models.Model)


class Helped(Admin[_Row]):
    """A form whose every field says what it is, those that are only shown as well."""

    # By the names of fields, or of the methods that show something in the place of one.
    help_texts: ClassVar[Mapping[str, Promise]] = {}

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Hand the form what its fields are."""
        return super().get_form(request, obj, change=change, **{"help_texts": dict(self.help_texts), **kwargs})


class NoNetworkInTransaction(Admin[_Row]):
    """Deletes outside the transaction Django opens: revoking upstream must not hold the database's locks."""

    @method_decorator(csrf_protect)
    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Delete as Django does, each step in its own transaction."""
        response: HttpResponse = self._delete_view(request, object_id, extra_context)  # type: ignore[attr-defined]
        return response


class Facts(Helped[_Row]):
    """Rows the application writes: to be looked at, and at most deleted."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds these by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes these by hand."""
        return False
