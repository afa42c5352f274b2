"""What went wrong with an MCP server, as the one error of ours that says so; the only place where that is decided."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mcp_types import INVALID_PARAMS

from mcp_oauth.exceptions import DeadlineExceeded, McpOAuthError, ServerRefused, ServerUnreachable, ToolNotFound
from mcp_oauth.net.faults import NetworkFault, shown_url, translate_fault
from mcp_oauth.oauth.server_words import quotable
from mcp_oauth.sentences import sentence
from mcp_oauth.sessions.channel import Channel
from mcp_oauth.sessions.rpc import BrokenOff, NotMcp, RpcError
from mcp_oauth.sessions.target import Target
from mcp_oauth.sessions.validation import InvalidResult

_UNKNOWN_TOOL: Final = re.compile(r"\b(unknown|no such|not found|not exist|nonexistent|unrecognized)\b", re.IGNORECASE)
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}")
_SHORTEST_SECRET: Final = 6

FAULTS: Final = (
    RpcError,
    NotMcp,
    BrokenOff,
    InvalidResult,
    NetworkFault,
    OSError,
    UnicodeError,
)
"""What an exchange may raise besides our own errors and signals."""


def explained(fault: BaseException, channel: Channel) -> McpOAuthError:
    """Return the error for a fault of an exchange; secrets of ours in a server's words are taken out."""
    shown = channel.shown
    match fault:
        case NetworkFault():
            return fault.error
        case RpcError():
            return _refused(fault, channel)
        case NotMcp():
            return _no_message(fault, channel)
        case BrokenOff():
            kind = _kind(channel.media_type, channel.target)
            return ServerUnreachable(
                sentence(
                    "%(shown)s ended its answer (HTTP %(status)s, %(kind)s) early.",
                    shown=shown,
                    status=channel.status,
                    kind=kind,
                ),
                document=shown,
            )
        case InvalidResult():
            return ServerRefused(
                sentence("%(shown)s sent a result that does not follow the MCP specification.", shown=shown),
                document=shown,
            )
        case UnicodeError():
            return ServerUnreachable(
                sentence("A request to %(shown)s cannot be sent over HTTP.", shown=shown), document=shown
            )
        case _:
            return translate_fault(fault, shown)


def wants_input(channel: Channel) -> ServerRefused:
    """Return the error for a server that asks for something nobody here gives it."""
    return ServerRefused(
        sentence(
            "%(shown)s asks for input in the middle of the call that this application does not relay.",
            shown=channel.shown,
        ),
        document=channel.shown,
    )


@contextmanager
def in_words(target: Target, seconds: float) -> Iterator[None]:
    """Turn time that is over into the error that says whose it was."""
    try:
        yield
    except TimeoutError as error:
        shown = shown_url(target.url)
        raise DeadlineExceeded(
            sentence("%(shown)s did not answer within %(seconds)g seconds.", shown=shown, seconds=seconds),
            document=shown,
        ) from error


def quotes_secret(fault: BaseException, target: Target) -> bool:
    """Tell whether an exception, or one behind it, repeats a secret of ours, so that it must not be logged."""
    texts = [repr(cause) + str(cause) for cause in _chain(fault)]
    return any(secret in text for secret in _secrets(target) for text in texts)


def _refused(error: RpcError, channel: Channel) -> McpOAuthError:
    shown = channel.shown
    words = quotable(_without_secrets(error.message, channel.target)) or sentence("no explanation")
    if error.code == INVALID_PARAMS and "tool" in error.message.lower() and _UNKNOWN_TOOL.search(error.message):
        return ToolNotFound(
            sentence("%(shown)s offers no such tool: %(words)s", shown=shown, words=words), document=shown
        )
    return ServerRefused(
        sentence(
            "%(shown)s refused the request: %(words)s (error %(code)s)", shown=shown, words=words, code=error.code
        ),
        document=shown,
    )


def _no_message(fault: NotMcp, channel: Channel) -> McpOAuthError:
    kind = _kind(fault.media_type, channel.target)
    return ServerRefused(
        sentence(
            "%(shown)s answered HTTP %(status)s with %(kind)s instead of an MCP message.",
            shown=channel.shown,
            status=fault.status,
            kind=kind,
        ),
        next_step=sentence("Check the server's address, or try again later.") if fault.status >= 500 else "",
        document=channel.shown,
    )


def _kind(media_type: str, target: Target) -> str:
    if not media_type:
        return sentence("no content type")
    return (
        _without_secrets(media_type, target)
        if _MEDIA_TYPE.fullmatch(media_type)
        else sentence("an unusable content type")
    )


def _secrets(target: Target) -> list[str]:
    values = [*target.headers.values(), target.access_token or ""]
    # A header often is a scheme and a secret: either part alone must not appear.
    parts = [part for value in values for part in (value, *value.split())]
    return sorted({part for part in parts if len(part) >= _SHORTEST_SECRET}, key=len, reverse=True)


def _without_secrets(text: str, target: Target) -> str:
    for secret in _secrets(target):
        text = text.replace(secret, "[…]")
    return text


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = exc
    for _ in range(16):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__
