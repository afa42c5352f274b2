"""What the servers and those who measure them agree on; apart, so that whoever measures imports no server."""

from __future__ import annotations

# Every token that begins like this is let in: checking one costs a comparison, which raw requests pay as well.
TOKEN = "bench-"
TOKEN_PATH = "/token"
# How long a renewal takes: long enough to see who waits for it.
RENEWAL_SECONDS = 0.3

# The workspace of slow servers, each with as many tools as a well-stocked one offers.
SLOW_SERVERS = 50
SLOW_SECONDS = 0.2
SLOW_TOOLS = 20
