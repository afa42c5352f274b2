"""The languages that people can choose between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django import template
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import get_language

register = template.Library()

# What this application is written in, and what it ships translations for.
SPOKEN: Final = ("en", "de", "es")


@dataclass(frozen=True, slots=True)
class LanguageChoice:
    """One language: its code, what it calls itself, whether the page is in it, and where a POST chooses it."""

    code: str
    name: str
    current: bool
    url: str


@register.simple_tag(takes_context=True)
def languages(context: dict[str, Any]) -> tuple[LanguageChoice, ...]:
    """Return the languages of the site that the pages can be had in; none where the site does not let people choose."""
    request: HttpRequest | None = context.get("request")
    # Django's middleware, which reads the choice, leaves this behind.
    if request is None or getattr(request, "LANGUAGE_CODE", None) is None:
        return ()
    now = get_language()
    # What answered a form is not there to be asked for again.
    back = request.get_full_path() if request.method == "GET" else "/"
    url = f"{reverse('mcp_oauth:language')}?{urlencode({'next': back})}"
    spoken = [(code, str(name)) for code, name in settings.LANGUAGES if code in SPOKEN]
    return tuple(LanguageChoice(code, name, code == now, url) for code, name in spoken) if len(spoken) > 1 else ()
