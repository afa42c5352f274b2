"""When a server that cannot answer for now wants to be asked again (RFC 9110 §10.2.3)."""

from __future__ import annotations

import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from mcp_oauth.messages import HttpResponse

# A day: whoever asks for more is not waited for, but asked again.
LONGEST_RETRY_AFTER: Final = 86_400


def retry_after_seconds(response: HttpResponse, *, now: float) -> int | None:
    """Return the whole seconds the server asks us to wait, at most a day (RFC 9110 §10.2.3)."""
    text = (response.header("retry-after") or "").strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:10]), LONGEST_RETRY_AFTER)
    if not text or len(text) > 60:
        return None
    try:
        moment = parsedate_to_datetime(text)
        seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return max(0, min(math.ceil(seconds), LONGEST_RETRY_AFTER))
