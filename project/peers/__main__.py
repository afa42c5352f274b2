"""Starts one peer: ``python -m project.peers tracker --port 9001``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from pathlib import Path

from project.peers.servers import PEERS, PeerAddress
from project.peers.serving import base_url_of, leave_on_signals, listening_socket, run_until_stopped


def main(arguments: list[str] | None = None) -> int:
    """Serve one peer until it is told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m project.peers", description=__doc__)
    parser.add_argument("peer", choices=sorted(PEERS), help="which peer to serve")
    parser.add_argument("--port", type=int, default=0, help="the port on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--issuer-port", type=int, default=0, help="notes: where its authorization server listens")
    parser.add_argument("--state", type=Path, default=None, help="a file that keeps clients and grants over a restart")
    options = parser.parse_args(arguments)
    if options.peer == "notes" and not options.issuer_port:
        parser.error("notes needs --issuer-port, the port of notes-login")
    leave_on_signals()
    logging.basicConfig(level=logging.WARNING, format=f"{options.peer}: %(message)s")
    try:
        listener = listening_socket(options.port)
    except OSError as error:
        print(f"{options.peer}: cannot listen on 127.0.0.1:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    with contextlib.closing(listener):
        base_url = base_url_of(listener)
        issuer = f"http://127.0.0.1:{options.issuer_port}" if options.issuer_port else base_url
        peer = PEERS[options.peer](PeerAddress(base_url=base_url, issuer=issuer, state_file=options.state))
        # The socket listens already, so whoever reads this line can connect.
        print(f"{options.peer} {peer.url}", flush=True)
        run_until_stopped(peer.app, listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())
