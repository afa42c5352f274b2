"""The headers an administrator may store for a server."""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.utils.translation import gettext as _

from mcp_oauth.exceptions import InvalidRequest
from mcp_oauth.oauth.server_words import printable

# RFC 9110 §5.1: a field name is a token.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
# What the transport writes itself, and what the protocol owns.
_RESERVED_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# More than a handful of headers, or kilobytes of them, is a mistake.
_MAX_HEADERS = 20
_MAX_HEADER_VALUE = 8192


def is_reserved(name: str) -> bool:
    """Tell whether the application or the protocol sets a header itself."""
    return name.strip().lower() in _RESERVED_HEADERS


def parse_headers(text: str) -> dict[str, str]:
    """Return the headers of a text with one ``Name: value`` per line.

    Raises:
        InvalidRequest: a line is malformed, or names a header that is not the administrator's to set.
    """
    headers: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        name, value = name.strip(), value.strip()
        if not colon or not value:
            raise InvalidRequest(_("Line %(number)d is not of the form “Name: value”.") % {"number": number})
        headers[name] = value
    check_headers(headers)
    return headers


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that cannot or must not be sent; values are never repeated in the message.

    Raises:
        InvalidRequest: with the name of the first header at fault.
    """
    if len(headers) > _MAX_HEADERS:
        raise InvalidRequest(_("At most %(count)d headers can be stored.") % {"count": _MAX_HEADERS})
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidRequest(_("“%(name)s” is not the name of a header.") % {"name": printable(name, 100)})
        if is_reserved(name):
            raise InvalidRequest(_("The header “%(name)s” is set by the application itself.") % {"name": name})
        if len(value) > _MAX_HEADER_VALUE or not value.isprintable() or not value.isascii():
            raise InvalidRequest(
                _("The value of “%(name)s” must be printable ASCII of at most %(size)d characters.")
                % {"name": name, "size": _MAX_HEADER_VALUE}
            )
