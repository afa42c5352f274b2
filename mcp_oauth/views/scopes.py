"""What scopes mean in words, as far as their names tell; the name itself stays visible where it matters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

# A longer list is for the server's own page; a row says what matters and how much more there is.
_MOST_NAMED = 4
_LONGEST = 80


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
    return verbs[said[0].lower()] % {"what": what}


def scopes_in_words(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return what scopes permit, each in words or by its name, without repeating what two of them say alike."""
    return tuple(dict.fromkeys(scope_in_words(scope) or scope for scope in scopes))


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
