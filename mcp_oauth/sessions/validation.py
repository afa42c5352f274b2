"""Whether a result is what the specification says, by the SDK's types; a large one is judged off the event loop."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any, Final

from mcp_types import (
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    GetPromptResult,
    PromptMessage,
    ReadResourceResult,
    TextResourceContents,
)
from pydantic import BaseModel, TypeAdapter, ValidationError

from mcp_oauth.sessions.channel import Channel
from mcp_oauth.sessions.results import storable

# Smaller answers are judged sooner than a thread begins.
_AT_ONCE_BYTES: Final = 32 * 1024
# Judging a list costs by the item, and what is wrong with each of ninety thousand is kept until the last one: half a
# second in which no other thread runs, and dozens of megabytes. One by one, the first is enough.
_ONE_BY_ONE: Final[dict[type[BaseModel], tuple[str, Any]]] = {
    CallToolResult: ("content", ContentBlock),
    ReadResourceResult: ("contents", TextResourceContents | BlobResourceContents),
    GetPromptResult: ("messages", PromptMessage),
}
_FEW: Final = 20


class InvalidResult(Exception):
    """A result does not follow the specification."""


def validated(model: type[BaseModel], value: Any) -> BaseModel:
    """Return what a result says as the SDK's type.

    Raises:
        InvalidResult: It does not follow the specification.
    """
    try:
        member, _ = _ONE_BY_ONE.get(model, ("", None))
        items = value.get(member) if member and isinstance(value, dict) else None
        if not isinstance(items, list) or len(items) <= _FEW:
            return model.model_validate(value, by_name=False)
        judge = _judge(model)
        for item in items:
            judge.validate_python(item, by_name=False)
        return model.model_validate({**value, member: []}, by_name=False)
    except ValidationError:
        raise InvalidResult from None


async def checked(channel: Channel, model: type[BaseModel], result: dict[str, Any]) -> tuple[dict[str, Any], BaseModel]:
    """Return a result as it may be stored, and what it says as the SDK's type but for a long list in it.

    Raises:
        InvalidResult: It does not follow the specification.
    """

    def check() -> tuple[dict[str, Any], BaseModel]:
        judged = validated(model, result)
        return storable(result), judged

    return check() if channel.received <= _AT_ONCE_BYTES else await asyncio.to_thread(check)


@lru_cache(maxsize=len(_ONE_BY_ONE))
def _judge(model: type[BaseModel]) -> TypeAdapter[Any]:
    return TypeAdapter(_ONE_BY_ONE[model][1])
