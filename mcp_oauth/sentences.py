"""Sentences of the code that knows no Django: English text, said in the reader's language where somebody reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

# Says which words of a catalogue are meant: they have their subject elsewhere, and it is one thing.
PREDICATE: Final = "predicate"
# How a stored sentence begins; no text of ours does.
_BEGINNING: Final = '{"say":'


class Sentence(str):
    """Words in English that keep their entry in the catalogues and their facts, to be said in another language."""

    entry: str
    context: str
    facts: dict[str, Any]


class _Language:
    """What translates. Django's functions, as soon as the application is ready; English before, and without it."""

    gettext: Callable[[str], str] = staticmethod(lambda text: text)
    pgettext: Callable[[str, str], str] = staticmethod(lambda context, text: text)


def sentence(entry: str, /, **facts: Any) -> Sentence:
    """Return a sentence. ``entry`` stands in the catalogues; ``%(name)s`` in it is replaced by the fact of that name.

    A fact may itself be a sentence. Without facts a percent sign is a percent sign.
    """
    return _made(entry, "", facts)


def marked(entry: str) -> str:
    """Return a text as it is; its being here puts it into the catalogues, for a sentence that is made elsewhere."""
    return entry


def predicate(entry: str, /, **facts: Any) -> Sentence:
    """Return what completes a sentence whose subject is one thing, such as “is empty” after “The document”."""
    return _made(entry, PREDICATE, facts)


def said(text: str) -> str:
    """Return a sentence in the language of whoever reads now; any other text as it is."""
    if not isinstance(text, Sentence):
        return text
    words = _Language.pgettext(text.context, text.entry) if text.context else _Language.gettext(text.entry)
    if not text.facts:
        return words
    try:
        return words % {name: said(fact) if isinstance(fact, Sentence) else fact for name, fact in text.facts.items()}
    except (KeyError, TypeError, ValueError):
        # A catalogue of somebody else's with other placeholders; better English than no answer.
        return str(text)


def kept(text: str, limit: int) -> str:
    """Return a text as it is stored, in at most ``limit`` characters, so that :func:`recalled` says it to any reader.

    A sentence that is too long for that is stored in English, and cut. No text of a server is taken for a sentence.
    """
    if not isinstance(text, Sentence) and text.startswith(_BEGINNING):
        text = _made("%(text)s", "", {"text": str(text)})
    if isinstance(text, Sentence):
        stored = json.dumps(_members(text), ensure_ascii=False, separators=(",", ":"))
        if len(stored) <= limit:
            return stored
    return (f" {text}" if text.startswith(_BEGINNING) else str(text))[:limit]


def shortened(text: str, limit: int) -> str:
    """Return a sentence as it is where its English has at most ``limit`` characters; what is longer is cut."""
    return text if len(text) <= limit else str(text)[:limit]


def recalled(stored: str) -> str:
    """Return what :func:`kept` stored, in the language of whoever reads now; any other text as it is."""
    if not stored.startswith(_BEGINNING):
        return stored
    try:
        return said(_from_members(json.loads(stored)))
    except (KeyError, TypeError, ValueError, AttributeError):
        return stored


def speak_through(gettext: Callable[[str], str], pgettext: Callable[[str, str], str]) -> None:
    """Have sentences translated by these two functions from now on."""
    _Language.gettext, _Language.pgettext = staticmethod(gettext), staticmethod(pgettext)


def _members(text: Sentence) -> dict[str, Any]:
    facts = {name: _members(fact) if isinstance(fact, Sentence) else fact for name, fact in text.facts.items()}
    return {"say": text.entry, "as": text.context, "of": facts}


def _from_members(stored: dict[str, Any]) -> Sentence:
    facts = {name: _from_members(fact) if isinstance(fact, dict) else fact for name, fact in stored["of"].items()}
    return _made(stored["say"], stored["as"], facts)


def _made(entry: str, context: str, facts: dict[str, Any]) -> Sentence:
    made = Sentence(entry % facts if facts else entry)
    made.entry, made.context, made.facts = entry, context, facts
    return made
