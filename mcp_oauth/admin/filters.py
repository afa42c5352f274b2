"""What lists of the admin are narrowed to: states that no single column says, and one server among many."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from mcp_oauth.models import McpServer, McpServerOAuth

if TYPE_CHECKING:
    _Choices = list[tuple[str, str]]

# Servers to choose from beside a list; who wants another one's rows comes from that server's page.
_MOST_SERVERS = 50


class Conditions(admin.SimpleListFilter):
    """A choice among conditions; a subclass says which."""

    words: ClassVar[dict[str, str | Promise]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> _Choices:
        """Return the values with their words."""
        return [(value, str(words)) for value, words in self.words.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list to what was chosen."""
        value = self.value()
        return queryset.filter(self.condition(value)) if value in self.words else queryset

    def condition(self, value: str | None) -> Q | Exists:
        """Return the condition that a value stands for."""
        raise NotImplementedError


def needs_attention() -> Q:
    """Return which servers somebody should look at: in use, and not answering, refusing its key, or losing people."""
    ended = McpServerOAuth.objects.filter(
        server=OuterRef("pk"), state=McpServerOAuth.State.NEEDS_REAUTHORIZATION
    ).order_by()
    wrong = Q(reachable=False) | Q(headers_refused_at__isnull=False) | Q(Exists(ended))
    return Q(enabled=True, removal_at__isnull=True) & wrong


class ServerState(Conditions):
    """How a server stands."""

    title = _("state")
    parameter_name = "state"
    words: ClassVar = {
        "attention": _("Needs attention"),
        "in_use": _("In use"),
        "disabled": _("Disabled"),
        "leaving": _("Being removed"),
    }

    def condition(self, value: str | None) -> Q | Exists:
        """Return the condition that a value stands for."""
        if value == "attention":
            return needs_attention()
        if value == "leaving":
            return Q(removal_at__isnull=False)
        return Q(enabled=value == "in_use", removal_at__isnull=True)


class ServerAuthorized(Conditions):
    """Whether anybody can use a server that wants a grant."""

    title = _("connected")
    parameter_name = "connected"
    words: ClassVar = {
        "somebody": _("Somebody is connected"),
        "nobody": _("Nobody is connected"),
        "ended": _("Somebody has to reconnect"),
    }

    def condition(self, value: str | None) -> Q | Exists:
        """Return the condition that a value stands for."""
        grants = McpServerOAuth.objects.filter(server=OuterRef("pk")).order_by()
        if value == "ended":
            return Exists(grants.filter(state=McpServerOAuth.State.NEEDS_REAUTHORIZATION))
        active = Exists(grants.filter(state=McpServerOAuth.State.ACTIVE))
        if value == "somebody":
            return active
        kinds = (McpServer.AuthMode.NONE, McpServer.AuthMode.HEADERS)
        return ~Q(active) & ~Q(auth_mode__in=kinds)


class GrantEnds(Conditions):
    """When a grant's access ends, and whether it is renewed before."""

    title = _("access")
    parameter_name = "access"
    words: ClassVar = {
        "renews": _("Renews itself"),
        "ends": _("Ends within a day, for good"),
        "over": _("Is over"),
    }

    def condition(self, value: str | None) -> Q | Exists:
        """Return the condition that a value stands for."""
        now = timezone.now()
        active = Q(state=McpServerOAuth.State.ACTIVE)
        if value == "renews":
            return active & Q(refresh_token__isnull=False)
        for_good = active & Q(refresh_token__isnull=True)
        if value == "ends":
            return for_good & Q(expires_at__gt=now, expires_at__lte=now + timedelta(days=1))
        return ~active | (for_good & Q(expires_at__lte=now))


class CallDuration(Conditions):
    """How long a call took."""

    title = _("duration")
    parameter_name = "took"
    words: ClassVar = {
        "quick": _("Less than a second"),
        "slow": _("A second or more"),
        "very_slow": _("Ten seconds or more"),
    }

    def condition(self, value: str | None) -> Q | Exists:
        """Return the condition that a value stands for."""
        return {
            "quick": Q(duration_ms__lt=1000),
            "slow": Q(duration_ms__gte=1000),
        }.get(value or "", Q(duration_ms__gte=10_000))


class TokenLife(Conditions):
    """Whether an API token still opens something."""

    title = _("state")
    parameter_name = "state"
    words: ClassVar = {"alive": _("In force"), "expired": _("Expired"), "revoked": _("Revoked")}

    def condition(self, value: str | None) -> Q | Exists:
        """Return the condition that a value stands for."""
        if value == "revoked":
            return Q(revoked_at__isnull=False)
        expired = Q(expires_at__isnull=False, expires_at__lte=timezone.now())
        return Q(revoked_at__isnull=True) & (expired if value == "expired" else ~expired)


class ByServer(admin.SimpleListFilter):
    """One server; offers the first ones by name, and the one a link has led to."""

    title = _("server")
    parameter_name = "server"

    def lookups(self, request: HttpRequest, model_admin: Any) -> _Choices:
        """Return servers by name, with their workspace, for names repeat between these."""
        rows = McpServer.objects.order_by("name", "pk").values_list("pk", "name", "workspace__name")
        found = {str(pk): f"{name} · {workspace}" for pk, name, workspace in rows[:_MOST_SERVERS]}
        chosen = _uuid(self.value())
        if chosen is not None and str(chosen) not in found:
            row = rows.filter(pk=chosen).first()
            found[str(chosen)] = f"{row[1]} · {row[2]}" if row else str(_("A removed server"))
        return list(found.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list to one server; to nothing where the address names none."""
        if self.value() is None:
            return queryset
        chosen = _uuid(self.value())
        return queryset.none() if chosen is None else queryset.filter(server_id=chosen)


def _uuid(text: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(text or "")
    except ValueError:
        return None
