"""Times as the pages write them: for people in words, for programs in full."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

register = template.Library()

# Whole sentences for every unit: how a time is counted depends on what stands around it in many languages.
_PAST: Final[tuple[tuple[int, Callable[[int], str]], ...]] = (
    (31_536_000, lambda count: ngettext("%(count)d year ago", "%(count)d years ago", count)),
    (2_592_000, lambda count: ngettext("%(count)d month ago", "%(count)d months ago", count)),
    (604_800, lambda count: ngettext("%(count)d week ago", "%(count)d weeks ago", count)),
    (86_400, lambda count: ngettext("%(count)d day ago", "%(count)d days ago", count)),
    (3_600, lambda count: ngettext("%(count)d hour ago", "%(count)d hours ago", count)),
    (60, lambda count: ngettext("%(count)d minute ago", "%(count)d minutes ago", count)),
)
_FUTURE: Final[tuple[tuple[int, Callable[[int], str]], ...]] = (
    (31_536_000, lambda count: ngettext("in %(count)d year", "in %(count)d years", count)),
    (2_592_000, lambda count: ngettext("in %(count)d month", "in %(count)d months", count)),
    (604_800, lambda count: ngettext("in %(count)d week", "in %(count)d weeks", count)),
    (86_400, lambda count: ngettext("in %(count)d day", "in %(count)d days", count)),
    (3_600, lambda count: ngettext("in %(count)d hour", "in %(count)d hours", count)),
    (60, lambda count: ngettext("in %(count)d minute", "in %(count)d minutes", count)),
)


# As filters they fill a place in a sentence: {% blocktranslate with when=moment|ago %}last used {{ when }}…
@register.filter
@register.simple_tag
def ago(moment: datetime) -> SafeString:
    """Return how long ago a moment was; script keeps it true while the page is open."""
    return _time(moment, _counted(timezone.now() - moment, _PAST), SafeString(" data-ago"))


@register.filter
@register.simple_tag
def ahead(moment: datetime) -> SafeString:
    """Return in how long a moment comes; script keeps it true while the page is open."""
    return _time(moment, _counted(moment - timezone.now(), _FUTURE), SafeString(" data-in"))


@register.filter
def day(moment: datetime) -> SafeString:
    """Return the day of a moment."""
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}">{}</time>', local.isoformat("T", "seconds"), date_format(local, "DATE_FORMAT")
    )


def _counted(distance: timedelta, units: tuple[tuple[int, Callable[[int], str]], ...]) -> str:
    """Return a distance in its largest unit: "2 hours ago" is what somebody would say."""
    seconds = int(distance.total_seconds())
    for size, words in units:
        if seconds >= size:
            return words(seconds // size) % {"count": seconds // size}
    return _("just now")


def _time(moment: datetime, words: str, kept: SafeString) -> SafeString:
    local = timezone.localtime(moment)
    whole = date_format(local, "DATETIME_FORMAT")
    return format_html(
        '<time datetime="{}" title="{}"{}>{}</time>', local.isoformat("T", "seconds"), whole, kept, words
    )
