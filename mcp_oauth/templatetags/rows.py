"""The words that every server's row repeats, translated once a page."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext as _

register = template.Library()


@register.simple_tag
def row_words() -> dict[str, str]:
    """Return the words of rows by name; a page says ``{% row_words as w %}`` before it shows servers."""
    return {
        "access": _("Access:"),
        "not_connected": _("Not connected"),
        "renews": _("renews itself"),
        "server": _("Server:"),
        "not_asked": _("Not asked yet"),
        "more": _("More"),
        "refresh": _("Refresh"),
        "diagnose": _("Diagnose"),
        "edit": _("Edit"),
        "disconnect": _("Disconnect"),
        "remove": _("Remove"),
    }
