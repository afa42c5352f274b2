"""Making text that a stranger wrote fit to be quoted: bounded, printable and free of anything like a secret."""

from __future__ import annotations

import re
from typing import Final

from mcp_oauth.sentences import Sentence, sentence

WORDS_LIMIT: Final = 300

# An address keeps its path, which helps to find documentation, and loses its query, where tokens travel. A long run
# of token characters is masked when it looks random, because servers echo the code or token they refuse.
_URL_OR_RUN = re.compile(r"(https?://[^\s?#'\"<>]++)(?:[?#]\S*+)?|[A-Za-z0-9_.~+/=\-]{20,}+")
_LOOKS_RANDOM = re.compile(r"[0-9]|[a-z][A-Z]")
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_ERROR_CODE = re.compile(r"[A-Za-z0-9_.:/\-]{1,80}")


def printable(text: object, limit: int = WORDS_LIMIT) -> str:
    """Return text with unprintable characters and runs of blanks turned into one blank, cut to ``limit`` characters.

    Anything but a string gives the empty string. Control, bidirectional and surrogate characters are unprintable.
    """
    if not isinstance(text, str):
        return ""
    # Cut first, so that the work is bounded as well; generous, because blanks collapse.
    cleaned = " ".join("".join(char if char.isprintable() else " " for char in text[: limit * 8]).split())
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1].rstrip() + "…"


def quotable(text: object, limit: int = WORDS_LIMIT) -> str:
    """Return a server's words as :func:`printable` does, with whatever looks like a token or code masked."""
    return printable(_URL_OR_RUN.sub(_mask, printable(text, limit * 4)), limit)


def as_answered(status: int, code: str, description: object) -> Sentence:
    """Return what ends a sentence about a refusal: the status, the error code if any, and the server's words if any."""
    words = quotable(description)
    if code and words:
        return sentence("(HTTP status %(status)s, %(code)s): “%(words)s”", status=status, code=code, words=words)
    if words:
        return sentence("(HTTP status %(status)s): “%(words)s”", status=status, words=words)
    if code:
        return sentence("(HTTP status %(status)s, %(code)s).", status=status, code=code)
    return sentence("(HTTP status %(status)s).", status=status)


def error_code(value: object) -> str:
    """Return an OAuth error code as it may be shown and stored, or ``unknown_error`` (RFC 6749 §5.2)."""
    if not isinstance(value, str) or not _ERROR_CODE.fullmatch(value):
        return "unknown_error"
    return value if quotable(value) == value else "unknown_error"


def scope_tokens(value: object) -> tuple[str, ...]:
    """Return the well-formed scope tokens of a space separated string, in order and once each (RFC 6749 §3.3)."""
    if not isinstance(value, str):
        return ()
    return tuple(dict.fromkeys(token for token in value.split() if _SCOPE_TOKEN.fullmatch(token)))


def _mask(match: re.Match[str]) -> str:
    url = match.group(1)
    if url is not None:
        return str(url)
    run = match.group()
    return "[…]" if _LOOKS_RANDOM.search(run) else run
