"""The canary sings: what it is to notice is noticed, wherever it is said and whoever says it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

import pytest

from mcp_oauth.crypto import KeyRing, new_key
from mcp_oauth.exceptions import InvalidGrant, ServerRefused
from mcp_oauth.messages import HttpRequest, HttpResponse
from mcp_oauth.oauth.authorization import new_code_verifier, new_state
from mcp_oauth.sessions.target import Target
from tests.canary import Canary

SECRET = "tok-4b1d77aa90c2"
logger = logging.getLogger("mcp_oauth.anything")


@pytest.fixture
def canary(suite_canary: Canary) -> Canary:
    """Return the canary of the suite as it listens to this very test, with one secret already known."""
    KeyRing([new_key()]).seal(SECRET.encode(), b"")
    return suite_canary


def sings(canary: Canary) -> bool:
    """Tell whether the canary would fail this test, and let it forget what was planted."""
    leaks = canary.leaks()
    assert SECRET not in "".join(leaks)
    canary.forget()
    return bool(leaks)


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def in_a_message() -> None:
    logger.warning("The token %s was refused", SECRET)


def in_the_text() -> None:
    logger.error(f"refused: {SECRET}")


def in_an_extra() -> None:
    logger.error("refused", extra={"header": f"Bearer {SECRET}"})


def in_an_argument_that_the_text_leaves_out() -> None:
    logger.error("refused %(status)s", {"status": 401, "token": SECRET})


def in_a_traceback() -> None:
    try:
        raise ValueError(f"no header: {SECRET}")
    except ValueError:
        logger.exception("It broke.")


def in_the_cause_of_a_traceback() -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise RuntimeError("It broke.") from error
    except RuntimeError:
        logger.exception("It broke.")


def in_a_logger_that_does_not_propagate() -> None:
    alone = logging.getLogger("django.anything")
    alone.error("refused %s", SECRET)


def in_an_error_that_nobody_logs() -> None:
    raised(ServerRefused(f"The server said {SECRET}."))


def in_the_arguments_of_an_error_that_a_test_expects() -> None:
    with pytest.raises(ValueError, match="It broke"):
        raise ValueError("It broke.", SECRET)


def in_the_context_of_an_error_that_a_test_expects() -> None:
    def breaks() -> None:
        raise InvalidGrant("It is gone.")

    with pytest.raises(InvalidGrant):  # noqa: PT012  (two raise, one within the other)
        try:
            raise KeyError(SECRET)
        except KeyError:
            breaks()


def encoded_for_an_address() -> None:
    logger.info("GET /callback?code=%s", SECRET)


@pytest.mark.requirement("T41")
@pytest.mark.parametrize(
    "said",
    [
        in_a_message,
        in_the_text,
        in_an_extra,
        in_an_argument_that_the_text_leaves_out,
        in_a_traceback,
        in_the_cause_of_a_traceback,
        in_a_logger_that_does_not_propagate,
        in_an_error_that_nobody_logs,
        in_the_arguments_of_an_error_that_a_test_expects,
        in_the_context_of_an_error_that_a_test_expects,
        encoded_for_an_address,
    ],
)
def test_the_canary_hears_a_secret(said: Callable[[], None], canary: Canary) -> None:
    said()

    assert sings(canary)


KEY = new_key()


def said_of(made: object, secret: str) -> str:
    """Return the secret of something that was just made."""
    return secret


@pytest.mark.requirement("T41")
@pytest.mark.parametrize(
    "spoken",
    [
        lambda: said_of(KeyRing([KEY]), KEY),
        lambda: said_of(KeyRing([KEY]).seal(b'{"X-Api-Key": "key-77aa90c2"}', b""), "key-77aa90c2"),
        new_state,
        new_code_verifier,
        lambda: said_of(HttpRequest("POST", "https://as.example/token", {}, b"code=cde-77aa90c2"), "cde-77aa90c2"),
        lambda: said_of(HttpRequest("GET", "https://x.example/", {"Authorization": "Bearer b-77aa90c2"}), "b-77aa90c2"),
        lambda: said_of(HttpResponse("x", 200, (), b'{"access_token": "at-77aa90c2"}'), "at-77aa90c2"),
        lambda: said_of(HttpResponse("x", 201, (), b'{"client_secret": "cs-77aa90c2"}'), "cs-77aa90c2"),
        lambda: said_of(Target("https://x.example/", headers={"X-Key": "hd-77aa90c2"}), "hd-77aa90c2"),
        lambda: said_of(Target("https://x.example/", access_token="mt-77aa90c2"), "mt-77aa90c2"),
    ],
    ids=[
        "encryption key",
        "sealed header",
        "state",
        "verifier",
        "code",
        "bearer",
        "access token",
        "client secret",
        "configured header",
        "token of a session",
    ],
)
def test_the_canary_knows_every_kind_of_secret(spoken: Callable[[], str], canary: Canary) -> None:
    logger.error("Said aloud: %s", spoken())

    assert sings(canary)


def test_the_canary_is_silent_about_everything_else(canary: Canary) -> None:
    name = secrets.token_urlsafe(32)
    HttpResponse("x", 201, (), b'{"client_id": "client-77aa90c2", "access_token": "short"}')

    logger.error("The client client-77aa90c2 of flow %s holds a short token", name)
    logging.getLogger("httpx").error("GET /callback?code=%s", SECRET)

    assert not sings(canary)


def test_what_a_filter_drops_was_not_said(canary: Canary) -> None:
    def nothing(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(nothing)
    try:
        logger.error("filtered away: %s", SECRET)
    finally:
        logger.removeFilter(nothing)

    assert not sings(canary)


def test_each_test_begins_with_a_canary_that_knows_nothing_of_the_one_before(canary: Canary) -> None:
    canary.forget()

    logger.error("Said aloud: %s", SECRET)

    assert not sings(canary)
