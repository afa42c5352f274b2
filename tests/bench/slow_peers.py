"""Fifty MCP servers that each answer after 200 ms, on one thread.

They answer the two questions of a listing from memory: fifty servers of the SDK's own in one process would keep each
other waiting, and be measured instead of whoever asks them.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from project.peers.resource_server import MCP_PATH
from project.peers.serving import base_url_of, listening_socket
from tests.bench.facts import SLOW_SECONDS, SLOW_SERVERS, SLOW_TOOLS

_SERVER_INFO = {"io.modelcontextprotocol/serverInfo": {"name": "slow", "version": "1.0"}}
_ANSWERS: dict[str, dict[str, Any]] = {
    "server/discover": {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "cacheScope": "private",
        "ttlMs": 0,
        "_meta": _SERVER_INFO,
    },
    "tools/list": {
        "resultType": "complete",
        "tools": [
            {
                "name": f"tool_{number}",
                "title": f"Tool {number}",
                "description": "Does one thing with an issue of a project, and says what became of it.",
                "inputSchema": {
                    "type": "object",
                    "properties": {
                        "project": {"type": "string", "description": "The project's short name."},
                        "issue": {"type": "integer", "description": "The issue's number."},
                        "labels": {"type": "array", "items": {"type": "string"}},
                    },
                    "required": ["project", "issue"],
                },
                "annotations": {"readOnlyHint": True},
            }
            for number in range(SLOW_TOOLS)
        ],
        "cacheScope": "private",
        "ttlMs": 0,
        "_meta": _SERVER_INFO,
    },
}

# Written once: fifty machines would do it at the same time.
_WRITTEN = {method: json.dumps(result).encode() for method, result in _ANSWERS.items()}


@contextmanager
def serve_slowly() -> Iterator[list[str]]:
    """Serve all of them while the block lasts; yields their addresses."""
    listeners = [listening_socket() for _ in range(SLOW_SERVERS)]
    loop = asyncio.new_event_loop()
    for listener in listeners:
        loop.run_until_complete(asyncio.start_server(_answer_all, sock=listener))
    thread = threading.Thread(target=loop.run_forever, name="slow servers", daemon=True)
    thread.start()
    try:
        yield [f"{base_url_of(listener)}{MCP_PATH}" for listener in listeners]
    finally:
        # The process ends next: whoever still waits for an answer does so no longer than that.
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection, one after the other."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            message = json.loads(await reader.readexactly(_length_of(head)))
            await asyncio.sleep(SLOW_SECONDS)
            writer.write(_answer(message))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()  # the other side has left


def _length_of(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().splitlines())
    return next(int(value) for name, _, value in lines if name == b"content-length")


def _answer(message: dict[str, Any]) -> bytes:
    body = b'{"jsonrpc": "2.0", "id": %d, "result": %b}' % (message["id"], _WRITTEN[message["method"]])
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body
