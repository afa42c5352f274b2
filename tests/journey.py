"""Walks through a running demonstration like a person without script: ``python -m tests.journey http://127.0.0.1:8000``.

Signs in, connects the two servers that ask for it, lists and runs tools on all four, looks on while a token ends
and is renewed, and disconnects. Exits 0 when all of it worked, 1 at the first thing that did not.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.servers.person import FormReader, Person, tls_context

# A page that asks four servers answers within this, even on a busy machine.
REQUEST_SECONDS = 60.0
# The check's tokens last six seconds; this is more than one life of them.
EXPIRY_SECONDS = 30.0


class JourneyFailed(Exception):
    """A step did not end as it should."""


class Journey:
    """One person's browser at the application, with scripts switched off."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.browser = httpx.Client(
            base_url=base_url, follow_redirects=True, timeout=REQUEST_SECONDS, verify=tls_context()
        )
        self.settings = ""

    def sign_in(self) -> str:
        """Sign in and arrive at the connections page."""
        page = self.browser.get("/")
        form = next(form for form in forms_of(page) if "username" in form.fields)
        page = self.browser.post(
            form.action or str(page.url), data={**form.values, "username": "demo", "password": "demo"}
        )
        self.settings = page.url.path
        expect(page.status_code == 200 and self.settings == "/workspaces/demo/mcp/", f"arrived at {page.url}")
        for name in ("Issue tracker", "Notes", "Team board", "Clock"):
            expect(name in page.text, f"{name} is not on the connections page")
        return "four servers on the connections page"

    def servers(self) -> dict[str, dict[str, Any]]:
        """Return the servers by their short name."""
        rows = self.browser.get("/api/v1/servers/").json()["servers"]
        return {row["reference"].partition("/")[2]: row for row in rows}

    def post(self, path: str, **data: str) -> httpx.Response:
        """Send a form with the CSRF token of this browser."""
        token = {"csrfmiddlewaretoken": self.browser.cookies.get("csrftoken") or ""}
        return self.browser.post(path, data={**token, **data}, headers={"Referer": self.base_url})

    def disconnect(self, slug: str) -> str:
        """Disconnect a server."""
        page = self.post("/mcp/oauth/disconnect/", server=self.servers()[slug]["id"])
        expect(page.status_code == 200, f"disconnect answered {page.status_code}")
        expect(not self.servers()[slug]["authorized"], f"{slug} is still connected")
        return html.unescape(re.sub(r"\s+", " ", _message_of(page)))

    def connect(self, slug: str) -> str:
        """Press Connect, sign in and consent at the server's own pages, and come back."""
        if self.servers()[slug]["authorized"]:
            self.disconnect(slug)
        leaving = self.post("/mcp/oauth/start/", server=self.servers()[slug]["id"])
        expect(leaving.status_code == 200, f"start answered {leaving.status_code}: {leaving.text[:500]}")
        destination = leaving.headers["refresh"].partition("url=")[2]
        with Person("ada") as person:
            callback = person.authorize(destination)
        arrived = self.browser.get(callback)
        expect(arrived.status_code == 200, f"callback answered {arrived.status_code}: {arrived.text[:500]}")
        expect(self.servers()[slug]["authorized"], f"{slug} is not connected")
        return f"by way of {urlsplit(destination).netloc}"

    def run(self, slug: str, tool: str, **arguments: Any) -> str:
        """Run a tool on its page and return the page's text."""
        path = f"{self.settings}{self.servers()[slug]['id']}/"
        listing = self.browser.get(path)
        expect(tool in listing.text, f"{tool} is not among the tools of {slug}")
        page = self.post(f"{path}run/?tool={tool}", arguments=json.dumps(arguments))
        expect(page.status_code == 200, f"{tool} answered {page.status_code}: {page.text[:2000]}")
        return html.unescape(page.text)

    def call(self, slug: str, tool: str, **arguments: Any) -> httpx.Response:
        """Run a tool through the JSON API."""
        return self.browser.post(
            f"/api/v1/servers/{self.servers()[slug]['id']}/tools/{tool}/call/",
            json={"arguments": arguments},
            headers={"X-CSRFToken": self.browser.cookies.get("csrftoken") or "", "Referer": self.base_url},
        )

    def see_a_token_end(self, slug: str) -> str:
        """Wait for the end of an access token and see that a call renews it without asking anybody."""
        ends = datetime.fromisoformat(self.servers()[slug]["expires_at"]).timestamp()
        expect(ends - time.time() < EXPIRY_SECONDS, "the demonstration's tokens last too long to look on")
        time.sleep(max(0.0, ends - time.time()) + 0.1)
        answer = self.call(slug, "whoami")
        expect(answer.status_code == 200, f"a call after the end answered {answer.status_code}: {answer.text[:500]}")
        renewed = self.servers()[slug]["renewed_at"]
        expect(renewed is not None and datetime.fromisoformat(renewed).timestamp() >= ends - 6, "nothing was renewed")
        return "the next call renewed it"

    def refresh_ahead(self) -> str:
        """Run the command that renews idle grants."""
        done = subprocess.run(
            [sys.executable, "manage.py", "refresh_mcp_tokens", "--within", "3600", "--json"],
            cwd=Path(__file__).resolve().parent.parent,
            capture_output=True,
            text=True,
            timeout=REQUEST_SECONDS,
            check=False,
        )
        expect(done.returncode == 0, done.stderr)
        result = json.loads(done.stdout)
        expect(result["refreshed"] >= 2 and not result["failed"], done.stdout)
        return f"{result['refreshed']} grants renewed ahead of time"


def forms_of(page: httpx.Response) -> list[Any]:
    """Return a page's forms."""
    reader = FormReader()
    reader.feed(page.text)
    return list(reader.forms)


def expect(fact: bool, otherwise: str) -> None:
    """Go on if it is so.

    Raises:
        JourneyFailed: it is not.
    """
    if not fact:
        raise JourneyFailed(otherwise)


def _message_of(page: httpx.Response) -> str:
    found = re.search(r"Disconnected from [^<]*", page.text)
    return found.group(0).strip() if found else "disconnected"


def walk(base_url: str) -> None:
    """Go the whole way, saying each step."""
    journey = Journey(base_url)
    title = f"Write a test at {time.time():.0f}"

    def tracker() -> str:
        expect(title in journey.run("tracker", "create_issue", title=title), "the new issue is not in the result")
        expect(title in journey.run("tracker", "list_issues"), "the new issue is not in the list")
        return "an issue was created and found"

    def notes() -> str:
        journey.run("notes", "add_note", title=title, text="Written by the check.")
        expect(title in journey.run("notes", "list_notes"), "the new note is not in the list")
        return "a note was added and found"

    def ended() -> str:
        answer = journey.call("tracker", "whoami")
        error = answer.json()["error"]
        expect((answer.status_code, error["code"]) == (401, "reauth_required"), answer.text)
        return f"a call now says {error['code']} and where to connect"

    steps: list[tuple[str, Callable[[], str]]] = [
        ("sign in", journey.sign_in),
        ("connect the Issue tracker", lambda: journey.connect("tracker")),
        ("connect Notes", lambda: journey.connect("notes")),
        ("use the Issue tracker", tracker),
        ("use Notes", notes),
        ("use the Team board", lambda: f"{len(journey.run('board', 'get_metrics', service='api'))} characters of page"),
        ("use the Clock", lambda: f"{len(journey.run('clock', 'now', timezone='UTC'))} characters of page"),
        ("see a token end", lambda: journey.see_a_token_end("tracker")),
        ("renew ahead", journey.refresh_ahead),
        ("disconnect the Issue tracker", lambda: journey.disconnect("tracker")),
        ("call after that", ended),
    ]
    for name, step in steps:
        print(f"  ✓ {name}: {step()}", flush=True)


def main() -> int:
    """Walk and return the exit code."""
    try:
        walk(sys.argv[1].rstrip("/"))
    except (JourneyFailed, AssertionError, httpx.HTTPError, LookupError, ValueError) as error:
        print(f"  ✗ {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print("The demonstration works.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
