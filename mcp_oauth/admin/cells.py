"""Texts in the admin's lists and forms: errors, counts, links, and secrets as no more than a yes or no."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django.db import models
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from mcp_oauth.exceptions import McpOAuthError, SecretUnreadable
from mcp_oauth.models import Workspace


def told(error: McpOAuthError) -> str:
    """Return an error with what to do about it."""
    return f"{error.user_message} {error.next_step}".strip()


def number_of(rows: QuerySet[Any], owner: str) -> Coalesce:
    """Count related rows beside each listed one; a subquery, so that several counts do not multiply each other."""
    counted = rows.filter(**{owner: OuterRef("pk")}).order_by().values(owner).annotate(number=Count("pk"))
    return Coalesce(Subquery(counted.values("number"), output_field=models.IntegerField()), 0)


def stored(instance: models.Model, name: str) -> str:
    """Say whether a secret is stored, and nothing about it."""
    try:
        value = getattr(instance, name)
    except SecretUnreadable as error:
        return _("Stored, but it cannot be opened. %(why)s") % {"why": error.user_message}
    return _("Not stored") if value is None else _("Stored, never shown")


def connections_page(workspace: Workspace) -> str:
    """Link to where the workspace's people connect."""
    if workspace._state.adding:
        return "-"
    path = reverse("mcp_oauth:settings", kwargs={"slug": workspace.slug})
    return format_html('<a href="{}">{}</a>', path, path)


def rows_of(model: type[models.Model], words: str, **narrowed: object) -> SafeString:
    """Link to the admin's list of a model, narrowed."""
    path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return format_html('<a href="{}?{}">{}</a>', path, urlencode(narrowed), words)


def links_of(links: Iterable[SafeString]) -> SafeString:
    """Return links in one line."""
    return format_html_join(" · ", "{}", ((link,) for link in links))


def list_of(lines: Iterable[str]) -> SafeString | str:
    """Return the lines as a list, or a dash for none."""
    items = format_html_join("", "<li>{}</li>", ((line,) for line in lines))
    return format_html("<ul>{}</ul>", items) if items else "-"
