"""Reading ``WWW-Authenticate`` as the list of challenges that it is (RFC 9110 §11.6.1, RFC 6750 §3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mcp_oauth.oauth.server_words import quotable, scope_tokens

LARGEST_HEADER: Final = 16 * 1024
MOST_CHALLENGES: Final = 32

_SEPARATORS = re.compile(r"[ \t,]*+")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")
_EQUALS = re.compile(r"[ \t]*+=[ \t]*+")
_TOKEN68 = re.compile(r"[ \t]++[A-Za-z0-9\-._~+/]++=*+(?=[ \t]*+(?:,|\Z))")
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*+)"')
_ESCAPE = re.compile(r"\\(.)")
# A quotation that does not end, even one ending in a lone backslash, reaches to the end: reading always gets on.
_UNTIL_COMMA = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.|\\\Z)*+"?)*+', re.DOTALL)
_VALUE_ENDS = re.compile(r"[ \t,]|\Z")
_ERROR_CHARACTERS = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,100}")
_URL_CHARACTERS = re.compile(r"[\x21-\x7e]{1,2048}")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: its scheme and its parameters, both names in lower case; the first of equal names counts."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BearerChallenge:
    """What a Bearer or DPoP challenge says; a member that is absent or malformed is ``None``.

    Sources: RFC 6750 §3, RFC 9728 §5.1, RFC 9449 §7.1.
    """

    resource_metadata: str | None = None
    scope: str | None = None
    error: str | None = None
    error_description: str | None = None
    # Whether the server takes tokens that are bound to a key.
    dpop: bool = False


def parse_challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Return the well-formed challenges of all ``WWW-Authenticate`` values, in order; never raises.

    At most 16 KiB of text and 32 challenges are read. A malformed parameter is left out, and so is everything after a
    quotation that does not end (RFC 9110 §11.6.1).
    """
    found: list[Challenge] = []
    budget = LARGEST_HEADER
    for value in values:
        if len(value) > budget:
            # Whatever was cut in two ends at a comma, or inside a quotation, which is then left out.
            value = value[:budget].rpartition(",")[0]
            budget = 0
        budget -= len(value)
        _parse_value(value, found)
        if budget <= 0 or len(found) >= MOST_CHALLENGES:
            break
    return tuple(found[:MOST_CHALLENGES])


def bearer_challenge(values: Iterable[str]) -> BearerChallenge | None:
    """Return the challenge of the Bearer or DPoP scheme among ``WWW-Authenticate`` values, or ``None``.

    Of several of one scheme, the first that says anything we know counts. Of both schemes, Bearer counts, unless only
    DPoP has an error: that is the scheme the request was made with; the other one supplies what is not said there.
    ``scope`` holds well-formed scope tokens only, and ``error_description`` is fit to be shown (RFC 9449 §7.1, §7.2).
    """
    parsed = parse_challenges(values)
    bearer, dpop = _of_scheme(parsed, "bearer"), _of_scheme(parsed, "dpop")
    if dpop is None:
        return bearer
    if bearer is None:
        return replace(dpop, dpop=True)
    first, second = (dpop, bearer) if dpop.error and not bearer.error else (bearer, dpop)
    return replace(
        first,
        resource_metadata=first.resource_metadata or second.resource_metadata,
        scope=first.scope or second.scope,
        dpop=True,
    )


def _of_scheme(parsed: tuple[Challenge, ...], scheme: str) -> BearerChallenge | None:
    challenges = [_bearer(item.parameters) for item in parsed if item.scheme == scheme]
    telling = (item for item in challenges if item != BearerChallenge())
    return next(telling, challenges[0] if challenges else None)


def _bearer(parameters: Mapping[str, str]) -> BearerChallenge:
    metadata = parameters.get("resource_metadata", "")
    error = parameters.get("error", "")
    return BearerChallenge(
        resource_metadata=metadata if _URL_CHARACTERS.fullmatch(metadata) else None,
        scope=" ".join(scope_tokens(parameters.get("scope"))) or None,
        error=error if _ERROR_CHARACTERS.fullmatch(error) else None,
        error_description=quotable(parameters.get("error_description")) or None,
    )


def _parse_value(value: str, found: list[Challenge]) -> None:
    """Append one header value's challenges to ``found``."""
    parameters: dict[str, str] | None = None
    position = 0
    while len(found) <= MOST_CHALLENGES:
        start = position
        position = _end(_SEPARATORS, value, position)
        if position >= len(value):
            return
        # A scheme stands at the start or after a comma; parameters are also taken when the comma was forgotten.
        may_be_scheme = start == 0 or "," in value[start:position]
        token = _TOKEN.match(value, position)
        if token is None:
            position = _skip_element(value, position)
            continue
        equals = _EQUALS.match(value, token.end())
        if equals is None:
            if not may_be_scheme or _VALUE_ENDS.match(value, token.end()) is None:
                position = _skip_element(value, position)
                continue
            parameters = {}
            found.append(Challenge(token.group().lower(), parameters))
            position = _end(_TOKEN68, value, token.end())
            if position == token.end() and value[position : position + 1] in {" ", "\t"}:
                position = _first_parameter(value, position, parameters)
            continue
        position = _parameter(value, token, equals.end(), parameters)


def _first_parameter(value: str, position: int, parameters: dict[str, str]) -> int:
    """Read what follows a scheme after blanks, where only a parameter, a comma or the end may stand."""
    blank_end = position
    while value[blank_end : blank_end + 1] in {" ", "\t"}:
        blank_end += 1
    if blank_end >= len(value) or value[blank_end] == ",":
        return blank_end
    token = _TOKEN.match(value, blank_end)
    equals = _EQUALS.match(value, token.end()) if token else None
    if token is None or equals is None:
        return _skip_element(value, blank_end)
    return _parameter(value, token, equals.end(), parameters)


def _parameter(value: str, name: re.Match[str], position: int, parameters: dict[str, str] | None) -> int:
    """Read one parameter's value, keep it when it is well-formed, and return where reading goes on."""
    quoted = _QUOTED.match(value, position)
    text = quoted or _TOKEN.match(value, position)
    if text is None or _VALUE_ENDS.match(value, text.end()) is None:
        return _skip_element(value, position)
    if parameters is not None:
        content = _ESCAPE.sub(r"\1", text.group(1)) if quoted else text.group()
        parameters.setdefault(name.group().lower(), content)
    return text.end()


def _skip_element(value: str, position: int) -> int:
    """Return the position of the next comma outside quotations, or of the end."""
    return _end(_UNTIL_COMMA, value, position)


def _end(pattern: re.Pattern[str], value: str, position: int) -> int:
    match = pattern.match(value, position)
    return match.end() if match else position
