"""What scopes mean in words, as far as their names tell; the name itself stays visible where it matters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext_lazy

# A longer list is for the server's own page; a row says what matters and how much more there is.
_MOST_NAMED = 4
_LONGEST = 80
# Only the ones that are needed are translated: a page has many scopes.
_OBJECTS: Final[Mapping[str, Promise]] = {
    "issues": pgettext_lazy("object of a scope", "issues"),
    "repositories": pgettext_lazy("object of a scope", "repositories"),
    "pages": pgettext_lazy("object of a scope", "pages"),
    "files": pgettext_lazy("object of a scope", "files"),
    "folders": pgettext_lazy("object of a scope", "folders"),
    "documents": pgettext_lazy("object of a scope", "documents"),
    "messages": pgettext_lazy("object of a scope", "messages"),
    "channels": pgettext_lazy("object of a scope", "channels"),
    "chats": pgettext_lazy("object of a scope", "chats"),
    "users": pgettext_lazy("object of a scope", "users"),
    "members": pgettext_lazy("object of a scope", "members"),
    "profiles": pgettext_lazy("object of a scope", "profiles"),
    "projects": pgettext_lazy("object of a scope", "projects"),
    "comments": pgettext_lazy("object of a scope", "comments"),
    "discussions": pgettext_lazy("object of a scope", "discussions"),
    "calendars": pgettext_lazy("object of a scope", "calendars"),
    "events": pgettext_lazy("object of a scope", "events"),
    "contacts": pgettext_lazy("object of a scope", "contacts"),
    "tasks": pgettext_lazy("object of a scope", "tasks"),
    "tickets": pgettext_lazy("object of a scope", "tickets"),
    "teams": pgettext_lazy("object of a scope", "teams"),
    "organizations": pgettext_lazy("object of a scope", "organizations"),
    "groups": pgettext_lazy("object of a scope", "groups"),
    "accounts": pgettext_lazy("object of a scope", "accounts"),
    "workspaces": pgettext_lazy("object of a scope", "workspaces"),
    "customers": pgettext_lazy("object of a scope", "customers"),
    "invoices": pgettext_lazy("object of a scope", "invoices"),
    "payments": pgettext_lazy("object of a scope", "payments"),
    "orders": pgettext_lazy("object of a scope", "orders"),
    "products": pgettext_lazy("object of a scope", "products"),
    "reports": pgettext_lazy("object of a scope", "reports"),
    "notes": pgettext_lazy("object of a scope", "notes"),
    "mail": pgettext_lazy("object of a scope", "mail"),
    "databases": pgettext_lazy("object of a scope", "databases"),
    "tables": pgettext_lazy("object of a scope", "tables"),
    "records": pgettext_lazy("object of a scope", "records"),
    "tools": pgettext_lazy("object of a scope", "tools"),
    "data": pgettext_lazy("object of a scope", "data"),
    "content": pgettext_lazy("object of a scope", "content"),
    "code": pgettext_lazy("object of a scope", "code"),
    "workflows": pgettext_lazy("object of a scope", "workflows"),
    "jobs": pgettext_lazy("object of a scope", "jobs"),
    "settings": pgettext_lazy("object of a scope", "settings"),
    "notifications": pgettext_lazy("object of a scope", "notifications"),
    "webhooks": pgettext_lazy("object of a scope", "webhooks"),
    "boards": pgettext_lazy("object of a scope", "boards"),
    "spreadsheets": pgettext_lazy("object of a scope", "spreadsheets"),
    "articles": pgettext_lazy("object of a scope", "articles"),
    "logs": pgettext_lazy("object of a scope", "logs"),
    "dashboards": pgettext_lazy("object of a scope", "dashboards"),
    "alerts": pgettext_lazy("object of a scope", "alerts"),
}
# What providers call the same thing.
_OTHER_NAMES: Final[Mapping[str, str]] = {
    "repo": "repositories",
    "repos": "repositories",
    "org": "organizations",
    "orgs": "organizations",
    "doc": "documents",
    "docs": "documents",
    "sheet": "spreadsheets",
    "sheets": "spreadsheets",
    "email": "mail",
    "emails": "mail",
}


def scope_in_words(scope: str) -> str:
    """Return what a scope permits, such as ``read issues`` for ``issues:read``; empty when its name does not tell."""
    known = _known().get(scope)
    if known:
        return known
    if len(scope) > _LONGEST:
        return ""
    name = scope.rstrip("/").rpartition("/")[2] if "://" in scope else scope
    parts = [part for part in re.split(r"[:./]", name) if part]
    verbs = _verbs()
    said = [part for part in parts if part.lower() in verbs]
    objects = [part for part in parts if part.lower() not in verbs and part.lower() not in {"all", "default"}]
    # Two verbs, or none, and what is meant is a guess.
    if len(said) != 1 or not objects:
        return ""
    what = " ".join(re.sub(r"[_-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", part)).lower() for part in objects)
    return verbs[said[0].lower()] % {"what": _object(what)}


def scopes_in_words(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return what scopes permit, or their names where these do not tell it; what two say alike is not repeated."""
    return tuple(dict.fromkeys(scope_in_words(scope) or _("use “%(scope)s”") % {"scope": scope} for scope in scopes))


def scopes_with_names(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return each scope in words with its name behind it, or its name alone."""
    return tuple(f"{words} ({scope})" if (words := scope_in_words(scope)) else scope for scope in dict.fromkeys(scopes))


def shortened(phrases: tuple[str, ...]) -> str:
    """Return the first few phrases in one line, and how many more there are."""
    shown = ", ".join(phrase[:_LONGEST] for phrase in phrases[:_MOST_NAMED])
    rest = len(phrases) - _MOST_NAMED
    if rest <= 0:
        return shown
    return ngettext("%(shown)s and %(count)d more", "%(shown)s and %(count)d more", rest) % {
        "shown": shown,
        "count": rest,
    }


def _object(name: str) -> str:
    """Return what a scope is about in the reader's language; a name that is no word of ours as it is, in quotes."""
    for plural in (_OTHER_NAMES.get(name, name), f"{name}s", f"{name.removesuffix('y')}ies"):
        if plural in _OBJECTS:
            return str(_OBJECTS[plural])
    return _("“%(name)s”") % {"name": name}


def _known() -> dict[str, str]:
    return {
        "openid": _("know who you are"),
        "profile": _("see your name"),
        "email": _("see your email address"),
        "phone": _("see your phone number"),
        "address": _("see your postal address"),
        "offline_access": _("stay connected while you are away"),
        "offline": _("stay connected while you are away"),
        "refresh_token": _("stay connected while you are away"),
    }


def _verbs() -> dict[str, str]:
    read, write, manage = _("read %(what)s"), _("change %(what)s"), _("manage %(what)s")
    return {
        "read": read,
        "readonly": read,
        "view": read,
        "write": write,
        "edit": write,
        "update": write,
        "modify": write,
        "readwrite": _("read and change %(what)s"),
        "create": _("create %(what)s"),
        "add": _("add %(what)s"),
        "delete": _("delete %(what)s"),
        "close": _("close %(what)s"),
        "list": _("list %(what)s"),
        "search": _("search %(what)s"),
        "send": _("send %(what)s"),
        "comment": _("comment on %(what)s"),
        "execute": _("run %(what)s"),
        "run": _("run %(what)s"),
        "admin": manage,
        "manage": manage,
    }
