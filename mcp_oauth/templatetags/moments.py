"""Times as the pages write them: for people in words, for programs in full."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince, timeuntil
from django.utils.translation import gettext as _

register = template.Library()


@register.simple_tag
def ago(moment: datetime) -> SafeString:
    """Return how long ago a moment was; script keeps it true while the page is open."""
    # The largest unit is enough: "2 hours ago" is what somebody would say.
    words = _("%(ago)s ago") % {"ago": timesince(moment, depth=1)}
    return _time(moment, words, SafeString(" data-ago"))


@register.simple_tag
def ahead(moment: datetime) -> SafeString:
    """Return in how long a moment comes; script keeps it true while the page is open."""
    words = _("in %(time)s") % {"time": timeuntil(moment, depth=1)}
    return _time(moment, words, SafeString(" data-in"))


def _time(moment: datetime, words: str, kept: SafeString) -> SafeString:
    local = timezone.localtime(moment)
    whole = date_format(local, "DATETIME_FORMAT")
    return format_html(
        '<time datetime="{}" title="{}"{}>{}</time>', local.isoformat("T", "seconds"), whole, kept, words
    )
