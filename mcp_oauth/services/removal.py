"""Removing a server with time to think better of it: it is out of use at once, and gone after a while."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import ConfigurationError, NotFound
from mcp_oauth.models import Event, McpServer
from mcp_oauth.services.events import record
from mcp_oauth.services.servers import delete_server
from mcp_oauth.services.wire import end_sessions
from mcp_oauth.services.workspaces import Person

logger = logging.getLogger(__name__)

# Hosts whose clocks differ by less than this never both keep and remove a server.
_CLOCKS_DIFFER = timedelta(seconds=5)


def schedule_removal(server: McpServer, *, actor: Person | None = None) -> datetime:
    """Take a server out of use and return when it goes; nothing is revoked or forgotten before.

    A removal that is under way already keeps its time.
    """
    at = timezone.now() + timedelta(seconds=settings.REMOVAL_GRACE_SECONDS)
    with transaction.atomic():
        if McpServer.objects.filter(pk=server.pk, removal_at__isnull=True).update(removal_at=at):
            end_sessions(server_id=server.pk)
            record(Event.Kind.SERVER_CHANGED, server, actor=actor, outcome="removal_scheduled", address=server.url)
    server.refresh_from_db(fields=["removal_at"])
    return server.removal_at or at


def keep_server(server: McpServer, *, actor: Person | None = None) -> bool:
    """Take a server that was about to go back into use, as it was; ``False`` when its time is over, or never began."""
    with transaction.atomic():
        kept = McpServer.objects.filter(pk=server.pk, removal_at__gt=timezone.now()).update(removal_at=None)
        if kept:
            record(Event.Kind.SERVER_CHANGED, server, actor=actor, outcome="removal_undone", address=server.url)
    server.refresh_from_db(fields=["removal_at"])
    return bool(kept)


def remove_due_servers() -> list[str]:
    """Remove the servers whose time is over and return their names; their grants are revoked as far as possible.

    Safe to run on many hosts at once. One that cannot be removed now does not keep the others.
    """
    removed = []
    due = McpServer.objects.select_related("workspace").filter(removal_at__lte=timezone.now() - _CLOCKS_DIFFER)
    for server in due.order_by("removal_at", "pk"):
        name = server.natural_name()
        try:
            delete_server(server)
        except NotFound:  # another host was quicker
            continue
        except Exception:  # of any kind: the next round tries again, and says so again
            logger.exception("server %s could not be removed", server.pk)
            continue
        removed.append(name)
    return removed


def require_in_use(server: McpServer) -> None:
    """Refuse a server that an administrator took out of use.

    Raises:
        ConfigurationError: it is disabled, or about to be removed.
    """
    if not server.enabled:
        raise ConfigurationError(_("%(server)s is disabled.") % {"server": server.name})
    if server.removal_at is not None:
        raise ConfigurationError(
            _("%(server)s is being removed.") % {"server": server.name},
            next_step=_("An administrator can keep it on the connections page."),
        )
