"""What a server asks in the middle of a call, as a form, and what was filled in as an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.http import QueryDict

from mcp_oauth.exceptions import McpOAuthError, SecretUnreadable
from mcp_oauth.models import ToolCall
from mcp_oauth.services.call_outcomes import questions_of
from mcp_oauth.sessions.results import Question
from mcp_oauth.views.schema_form import form_of
from mcp_oauth.views.schema_nodes import Node, node_at, root_fields, value_of, with_problems


@dataclass(frozen=True)
class QuestionView:
    """One question as the page shows it."""

    key: str
    message: str
    url: str
    host: str
    fields: tuple[Node, ...]


def question_view(
    question: Question, number: int, posted: QueryDict | None, refused: str = "", problem: str = ""
) -> QuestionView:
    """Return a question with what was typed so far, or with the defaults its server proposes.

    ``refused`` names the member that did not fit, and ``problem`` says why.
    """
    form = form_of(question.schema, f"q{number}", posted=posted)
    if refused:
        form = with_problems(form, {node_at(form, (refused,)).name: problem})
    fields = root_fields(form) if question.schema else ()
    return QuestionView(
        question.key, question.message, question.url, urlsplit(question.url).netloc if question.url else "", fields
    )


def content_of(question: Question, number: int, posted: QueryDict) -> dict[str, Any]:
    """Return what was filled in, each value of the type its field asks for where the text is one of it.

    What is left empty is left out; whether it fits is for the service to say.
    """
    found = value_of(form_of(question.schema, f"q{number}", posted=posted))
    return found if isinstance(found, dict) else {}


def answers_from(call: ToolCall, posted: QueryDict) -> dict[str, Any] | None:
    """Return what the person answers to what is asked now; ``None`` where nothing is."""
    action = "decline" if "decline" in posted else "accept"
    answers: dict[str, Any] = {}
    for number, question in enumerate(questions_of(call)):
        answers[question.key] = {"action": action}
        if action == "accept" and question.mode == "form":
            answers[question.key]["content"] = content_of(question, number, posted)
    return answers or None


def questions_for(
    call: ToolCall, posted: QueryDict | None = None, error: McpOAuthError | None = None
) -> list[QuestionView]:
    """Return what is asked, with what was typed; ``error`` goes beside the field it is about."""
    try:
        questions: tuple[Question, ...] = questions_of(call)
    except SecretUnreadable:
        return []
    key, _dot, name = str(getattr(error, "field", "")).partition(".")
    problem = error.user_message if error is not None else ""
    return [
        question_view(question, number, posted, name if question.key == key else "", problem)
        for number, question in enumerate(questions)
    ]
