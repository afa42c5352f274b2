"""A canary over the whole suite: no secret that the application handled is in what it logged or in what it raised.

A secret is whatever the application seals before it stores it, whatever its requests and their answers carry where
secrets travel, and whatever it draws at random for a person's browser. Each is learned where it comes into being, in
this process, and looked for in every record that any logger but those of the tests' own browsers and of the peers
makes, and in every error that a test meets.
"""

from __future__ import annotations

import functools
import json
import logging
import secrets
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from hypothesis import is_hypothesis_test

from mcp_oauth.crypto import KeyRing
from mcp_oauth.exceptions import McpOAuthError
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.services import api_tokens
from mcp_oauth.sessions.target import Target

# Shorter values are words that tests use for secrets, and would be found anywhere.
SHORTEST: Final = 8
# The tests' own browsers show the code in their address bar, and the peers' words are not ours.
OTHERS: Final = ("httpx", "httpcore", "uvicorn", "mcp.server", "sse_starlette", "project.peers", "tests")
# Who draws a secret at random; everything else that is drawn is a name.
_DRAWN_BY: Final = frozenset({"new_state", "new_code_verifier", "browser_secret"})
_SECRET_MEMBERS: Final = frozenset(
    {
        "access_token",
        "assertion",
        "client_assertion",
        "client_secret",
        "code",
        "code_verifier",
        "id_token",
        "refresh_token",
        "registration_access_token",
        "subject_token",
        "token",
    }
)
_SECRET_HEADERS: Final = frozenset({"authorization", "dpop"})
# What a record has by itself; whatever else it has came as `extra`.
_OWN_MEMBERS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "exc_text", "taskName"}


class Canary:
    """What is known as secret in this test, and what was said in it."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._keys: set[str] = set()
        self._unread: list[HttpRequest | HttpResponse] = []
        self._said: list[tuple[str, str]] = []

    def learn(self, *values: object) -> None:
        """Know values as secret; a value of several words is one, and its long words are as well."""
        for value in values:
            if isinstance(value, str) and len(value) >= SHORTEST:
                self._secrets.update((value, *(word for word in value.split() if len(word) >= SHORTEST)))

    def learn_keys(self, entries: Iterable[object]) -> None:
        """Know keys of encryption for good."""
        self._keys.update(entry for entry in entries if isinstance(entry, str) and len(entry) >= SHORTEST)

    def meet(self, message: HttpRequest | HttpResponse) -> None:
        """Know the secrets of a request or an answer, which are looked for when the test is over."""
        self._unread.append(message)

    def hear(self, record: logging.LogRecord) -> None:
        """Take down all that a handler could write of a record."""
        if record.name.partition(".")[0] in OTHERS or record.name.startswith(OTHERS[3:]):
            return
        # Django hangs the whole request on its records; the words of a record are what this is about.
        extra = {
            name: value
            for name, value in vars(record).items()
            if name not in _OWN_MEMBERS and not isinstance(value, WSGIRequest | ASGIRequest)
        }
        said = [record.getMessage(), repr(record.args), repr(extra) if extra else ""]
        if record.exc_info and record.exc_info[1] is not None:
            said.append(_words_of(record.exc_info[1]))
        self._said.append((f"logger {record.name}", "\n".join(said)))

    def see(self, error: BaseException) -> None:
        """Take down what a traceback says of an error and of those behind it."""
        self._said.append((f"a traceback of {type(error).__name__}", _words_of(error)))

    def forget(self) -> None:
        """Begin anew; keys of encryption stay known, for they are read once."""
        self._secrets.clear()
        self._unread.clear()
        self._said.clear()

    def leaks(self) -> list[str]:
        """Return where something secret was said; what it was is not repeated, but where it was found."""
        if not self._said:
            return []
        for message in self._unread:
            self.learn(*_secrets_in(message))
        self._unread.clear()
        known = {*self._keys, *self._secrets, *(quote(secret, safe="") for secret in self._secrets)}
        everything = "\n".join(text for _, text in self._said)
        # Mostly none is: one pass over all that was said spares looking at each.
        told = [secret for secret in known if secret in everything]
        return [
            f"{where}: {text.replace(secret, '[SECRET]')[:500]}"
            for secret in told
            for where, text in self._said
            if secret in text
        ]


def _words_of(error: BaseException, depth: int = 0) -> str:
    """Return what the errors of a chain say, without the lines of source between them, which hold literals only."""
    words = ["".join(traceback.format_exception_only(error)), repr(error.args)]
    if depth < 16:
        # As a traceback is printed: `from None` cuts off what was there before.
        before = error.__cause__ if error.__suppress_context__ else error.__context__
        inner = [before, *getattr(error, "exceptions", ())]
        words += [_words_of(other, depth + 1) for other in inner if other is not None and other is not error]
    return "\n".join(words)


def _secrets_in(message: HttpRequest | HttpResponse) -> Iterator[object]:
    headers: Iterable[tuple[str, str]] = (
        message.headers.items() if isinstance(message.headers, Mapping) else message.headers
    )
    for name, value in headers:
        if name.lower() in _SECRET_HEADERS:
            yield value
    for member, held in _members(message.body):
        if member in _SECRET_MEMBERS:
            yield held


def _members(body: bytes) -> Iterable[tuple[str, object]]:
    try:
        if body[:1] == b"{":
            return list(json.loads(body).items())
        return parse_qsl(body.decode("ascii")) if b"=" in body[:100] else ()
    except (ValueError, RecursionError):  # a damaged answer of a test about damaged answers
        return ()


def _after(patches: pytest.MonkeyPatch, owner: Any, name: str, then: Callable[..., None]) -> None:
    """Have ``then`` called with the result and the arguments of a function, each time it has returned."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        then(result, *args, **kwargs)
        return result

    patches.setattr(owner, name, called)


def listen(canary: Canary, patches: pytest.MonkeyPatch) -> None:
    """Let the canary know and hear everything from now on."""

    def sealed(result: str, ring: KeyRing, plaintext: bytes, *_: object) -> None:
        text = plaintext.decode("utf-8", "replace")
        canary.learn(text)
        if text.startswith("{"):
            canary.learn(*(value for _, value in _members(plaintext)))

    def drawn(result: str, *_: object) -> None:
        # This function, the one around the drawing, and who called that.
        if sys._getframe(2).f_code.co_name in _DRAWN_BY:
            canary.learn(result)

    def aimed(result: None, target: Target, *_: object, **__: object) -> None:
        canary.learn(target.access_token, target.dpop_key, *target.headers.values())

    _after(patches, KeyRing, "seal", sealed)
    _after(patches, KeyRing, "__init__", lambda result, ring, entries: canary.learn_keys(entries))
    _after(patches, secrets, "token_urlsafe", drawn)
    _after(patches, api_tokens, "new_secret", lambda result: canary.learn(result))
    _after(patches, HttpRequest, "__init__", lambda result, message, *_, **__: canary.meet(message))
    _after(patches, HttpResponse, "__init__", lambda result, message, *_, **__: canary.meet(message))
    _after(patches, Target, "__init__", aimed)
    # After the filters and before the handlers, whatever those are and whichever logger propagates to which.
    _after(patches, logging.Logger, "callHandlers", lambda result, logger, record: canary.hear(record))
    _after(patches, McpOAuthError, "__init__", lambda result, error, *_, **__: canary.see(error))

    leave = pytest.RaisesExc.__exit__

    def left(self: Any, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if error is not None:
            canary.see(error)
        return leave(self, kind, error, trace)

    patches.setattr(pytest.RaisesExc, "__exit__", left)


@pytest.fixture(scope="session")
def suite_canary() -> Iterator[Canary]:
    """Return the canary that listens as long as the tests run."""
    canary = Canary()
    with pytest.MonkeyPatch.context() as patches:
        listen(canary, patches)
        yield canary


@pytest.fixture(autouse=True)
def _canary(suite_canary: Canary, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which a secret was logged or raised.

    Not one of a property, which puts anything in any place: there, one text is a token and the server's words at once.
    """
    suite_canary.forget()
    yield
    if is_hypothesis_test(request.function) or "tests.fuzz." in request.module.__name__:
        return
    leaks = suite_canary.leaks()
    suite_canary.forget()
    if leaks:
        pytest.fail("A secret was said aloud:\n" + "\n".join(leaks[:5]), pytrace=False)
