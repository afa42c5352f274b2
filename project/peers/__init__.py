"""Real peers on loopback for the demonstration and the tests: an authorization server and four MCP servers.

Nothing here imports Django. Each peer runs as its own process, ``python -m project.peers tracker --port 9001``,
and the tests build the same pieces in threads.
"""

from __future__ import annotations
