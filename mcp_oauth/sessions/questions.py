"""What a server asks the person in the middle of a call (MCP elicitation), as questions that are safe to pass on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from mcp_types import ElicitRequestFormParams, ElicitRequestURLParams

from mcp_oauth.exceptions import InvalidServerAddress
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.oauth.urls import check_server_address
from mcp_oauth.sessions.results import Answer, Question, storable
from mcp_oauth.sessions.target import Target
from mcp_oauth.sessions.validation import InvalidResult, validated

# A person reads all of it before answering.
_MAX_QUESTIONS: Final = 10
_LONGEST_MESSAGE: Final = 2000
_LONGEST_KEY: Final = 200
# Opaque to us, but it is stored until the person has answered, and sent back whole.
MAX_STATE_BYTES: Final = 256 * 1024


class NotAnswerable(Exception):
    """The server asks for something else than a person's answer: a model's, or a list of folders."""


def questions_in(requests: Any, target: Target) -> tuple[Question, ...]:
    """Return the questions of a result that asks for input (MCP 2026-07-28, multi-round-trip requests).

    Raises:
        InvalidResult: they are none.
        NotAnswerable: it asks for something no person is asked for here.
    """
    if not isinstance(requests, dict) or len(requests) > _MAX_QUESTIONS:
        raise InvalidResult
    found = []
    for key, wanted in requests.items():
        if not isinstance(wanted, dict) or len(key) > _LONGEST_KEY:
            raise InvalidResult
        if wanted.get("method") != "elicitation/create":
            raise NotAnswerable
        found.append(question(key, wanted.get("params"), target))
    return tuple(found)


def question(key: str, params: Any, target: Target) -> Question:
    """Return one question from the parameters of an elicitation.

    Raises:
        InvalidResult: they do not follow the specification, or lead to an address nobody should open.
    """
    if not isinstance(params, dict):
        raise InvalidResult
    if params.get("mode") == "url":
        validated(ElicitRequestURLParams, params)
        try:
            url = check_server_address(params["url"], allow_loopback=target.policy.allow_loopback)
        except InvalidServerAddress:
            raise InvalidResult from None
        return Question(key, "url", _message(params["message"]), url=url)
    validated(ElicitRequestFormParams, params)
    schema = params["requestedSchema"]
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict):
        raise InvalidResult
    if len(json.dumps(schema, ensure_ascii=False)) > target.max_tool_bytes:
        raise InvalidResult
    # Flat: each field is one value (MCP elicitation, requested schema).
    if not all(isinstance(field, dict) and field.get("type") != "object" for field in properties.values()):
        raise InvalidResult
    return Question(key, "form", _message(params["message"]), schema=storable(schema))


def questions_behind(data: Any, target: Target) -> tuple[Question, ...]:
    """Return the visits that an error -32042 wants first (MCP 2025-11-25, URL mode elicitation).

    Raises:
        InvalidResult: it names none.
    """
    listed = data.get("elicitations") if isinstance(data, dict) else None
    if not isinstance(listed, list) or not 0 < len(listed) <= _MAX_QUESTIONS:
        raise InvalidResult
    return tuple(
        question(str(number), {**item, "mode": "url"} if isinstance(item, dict) else None, target)
        for number, item in enumerate(listed)
    )


def as_responses(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Return the answers as a request carries them."""
    return {key: answer.to_json() for key, answer in answers.items()}


def _message(text: str) -> str:
    return printable(text, _LONGEST_MESSAGE)
