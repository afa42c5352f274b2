"""Reading an answer of the guarded transport to its end."""

from __future__ import annotations

from mcp_oauth.net.transport import StreamedResponse


async def read_all(response: StreamedResponse) -> bytes:
    """Return the whole body of an answer and close it."""
    body = b""
    try:
        while part := await response.read_some():
            body += part
    finally:
        response.close()
    return body
