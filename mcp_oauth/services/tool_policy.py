"""Which of a server's tools may be run: an administrator of its workspace allows and denies by patterns of names."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from django.utils.translation import gettext as _

from mcp_oauth.conf import settings
from mcp_oauth.exceptions import InvalidRequest, ToolNotAllowed
from mcp_oauth.models import McpServer

# As long as the longest name of a tool that is listed.
_LONGEST_PATTERN = 200


def check_patterns(patterns: Iterable[str]) -> list[str]:
    """Return patterns as they are stored: without blanks around them, each once.

    ``*`` stands for anything, ``?`` for one character, ``[abc]`` for one of several; upper and lower case differ.

    Raises:
        InvalidRequest: there are too many, or one is too long or cannot be part of a name.
    """
    checked = list(dict.fromkeys(pattern.strip() for pattern in patterns if pattern.strip()))
    if len(checked) > settings.MAX_TOOL_PATTERNS:
        raise InvalidRequest(
            _("At most %(limit)d patterns of tool names are kept.") % {"limit": settings.MAX_TOOL_PATTERNS},
            next_step=_("Use a * where names begin or end alike."),
        )
    for pattern in checked:
        if len(pattern) > _LONGEST_PATTERN or not pattern.isprintable():
            raise InvalidRequest(
                _("A pattern of tool names has at most %(limit)d printable characters.") % {"limit": _LONGEST_PATTERN}
            )
    return checked


def allows(server: McpServer, name: str) -> bool:
    """Whether a tool may be run: no pattern denies it and, where any are allowed, one of those fits."""
    if not server.allowed_tools and not server.denied_tools:
        return True
    return _allows(server.allowed_tools, server.denied_tools, name)


def is_restricted(server: McpServer) -> bool:
    """Whether there is anything that could keep a tool from being run."""
    return bool(server.allowed_tools or server.denied_tools)


def require_allowed(server: McpServer, name: str) -> None:
    """Refuse a tool that may not be run, before anything is sent.

    Raises:
        ToolNotAllowed: an administrator does not let it be run.
    """
    if not allows(server, name):
        raise ToolNotAllowed(
            _("The tool “%(tool)s” of %(server)s may not be run here.") % {"tool": name[:100], "server": server.name}
        )


def _allows(allowed: Any, denied: Any, name: str) -> bool:
    # What cannot be read may have denied anything.
    if denied and not (isinstance(denied, list) and all(isinstance(pattern, str) for pattern in denied)):
        return False
    if denied and _fits(tuple(denied), name):
        return False
    if not allowed:
        return True
    if not isinstance(allowed, list):
        return False
    return _fits(tuple(pattern for pattern in allowed if isinstance(pattern, str)), name)


def _fits(patterns: tuple[str, ...], name: str) -> bool:
    return bool(patterns) and _expression(patterns).fullmatch(name) is not None


@lru_cache(maxsize=512)
def _expression(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))
