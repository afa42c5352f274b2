"""Tools that converse: they ask the person, report progress, wait at gates, and differ by user and by day.

A ``Conversation`` registers them on any server of ``tests.servers.mcp`` (``tools=conversation.register``), in either
era, open or protected, and keeps what the tools heard, so that a test can assert what the other side saw.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import AssistantMessage, UserMessage
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from mcp_types import (
    INVALID_PARAMS,
    Annotations,
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    Completion,
    CompletionArgument,
    CompletionContext,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    EmbeddedResource,
    Icon,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    PromptListChangedNotification,
    PromptReference,
    ResourceLink,
    ResourceListChangedNotification,
    ResourceTemplateReference,
    SamplingMessage,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
    ToolListChangedNotification,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from project.peers.resource_server import current_user
from tests.servers.mcp import add_default_tools

Asked = CallToolResult | InputRequiredResult
"""What a tool that asks returns: its result, or on a modern server the questions that end the request."""

# Longer than anything takes here, shorter than a test run waits.
PATIENCE_SECONDS = 20.0

BOOKING_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Name", "default": "Ada", "minLength": 1, "maxLength": 40},
        "seating": {"type": "string", "title": "Where", "enum": ["window", "bar", "garden"], "default": "window"},
        "guests": {"type": "integer", "title": "Guests", "minimum": 1, "maximum": 12},
        "outside": {"type": "boolean", "title": "Outside?", "default": False},
        "email": {"type": "string", "title": "E-mail", "format": "email"},
        "tip": {"type": "number", "title": "Tip in percent", "minimum": 0, "maximum": 100},
    },
    "required": ["name", "guests", "email"],
}
"""A form with a field of every kind: default, enum, bounds, yes or no, format; three of six are required."""

DESTINATION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {
            "type": "string",
            "title": "City",
            "oneOf": [{"const": "cdg", "title": "Paris"}, {"const": "lhr", "title": "London"}],
        },
        "extras": {
            "type": "array",
            "title": "Extras",
            "items": {"type": "string", "enum": ["breakfast", "parking"]},
            "maxItems": 2,
        },
    },
    "required": ["city"],
}
SIGN_URL = "https://sign.example/contracts/7?step=1"
TERMS_URL = "https://travel.example/terms"
VAULT_URL = "https://vault.example/unlock"

LANGUAGES = ("french", "german", "greek", "python", "python-typed")
DAYS = ("monday", "saturday", "sunday")


def _png() -> bytes:
    """Return a picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00"))
        + chunk(b"IEND", b"")
    )


PIXEL = _png()
"""A valid PNG of one pixel."""

SILENCE = (
    b"RIFF"
    + struct.pack("<I", 36)
    + b"WAVEfmt "
    + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    + b"data\0\0\0\0"
)
"""A valid WAV file in which nothing is heard."""


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Gate:
    """A place where running tools wait until the test lets them pass; the test waits for them in turn."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._changed = threading.Condition()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._passes = 0
        self._open = False
        self._arrivals = 0
        self._turned_back = 0

    @property
    def arrivals(self) -> int:
        """Return how many have come so far."""
        return self._arrivals

    @property
    def turned_back(self) -> int:
        """Return how many were cancelled while they waited."""
        return self._turned_back

    def open(self) -> None:
        """Let everybody pass from now on."""
        with self._changed:
            self._open = True
            waiting, self._waiting = self._waiting, []
        for loop, passed in waiting:
            _resolve(loop, passed)

    def close(self) -> None:
        """Let nobody pass from now on."""
        with self._changed:
            self._open, self._passes = False, 0

    def let_pass(self, count: int = 1) -> None:
        """Let so many pass: those who wait, in order, then those who come."""
        with self._changed:
            let, self._waiting = self._waiting[:count], self._waiting[count:]
            self._passes += count - len(let)
        for loop, passed in let:
            _resolve(loop, passed)

    def wait_for_arrivals(self, count: int = 1) -> None:
        """Block until so many have come, all told.

        Raises:
            TimeoutError: They did not come.
        """
        self._wait(lambda: self._arrivals >= count, f"{count} arrivals, saw {self._arrivals}")

    def wait_for_cancellations(self, count: int = 1) -> None:
        """Block until so many of the waiting were cancelled, all told.

        Raises:
            TimeoutError: They were not.
        """
        self._wait(lambda: self._turned_back >= count, f"{count} cancellations, saw {self._turned_back}")

    async def passing(self) -> None:
        """Wait here; a cancellation meanwhile is counted and goes on."""
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._arrivals += 1
            self._changed.notify_all()
            if self._open:
                return
            if self._passes:
                self._passes -= 1
                return
            self._waiting.append((asyncio.get_running_loop(), passed))
        try:
            await passed
        except asyncio.CancelledError:
            with self._changed:
                self._turned_back += 1
                self._waiting = [(loop, other) for loop, other in self._waiting if other is not passed]
                self._changed.notify_all()
            raise

    def _wait(self, condition: Any, wanted: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, PATIENCE_SECONDS):
                raise TimeoutError(f"The gate {self.name!r} waited in vain for {wanted}.")


def _resolve(loop: asyncio.AbstractEventLoop, passed: asyncio.Future[None]) -> None:
    def settle() -> None:
        if not passed.done():
            passed.set_result(None)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer that reached a tool; ``request_state`` is what the tool had put into it, once it came back."""

    tool: str
    question: str
    action: str
    content: dict[str, Any] | None
    user: str
    request_state: str | None = None


@dataclass
class Conversation:
    """The memory and the switches of the conversing tools; safe to read and to change from the test's thread.

    ``started`` counts how often a tool's function was entered, once per round where a server asks by ending the
    request; ``ran`` how often it did what it is for. ``abandoned`` counts the calls that ended while a question of
    theirs was open. ``asked`` counts (method, user) of every request. ``caching`` maps a method to the ``ttlMs`` and
    ``cacheScope`` of its results, ``faults`` to the error it is answered with. ``private`` maps a tool to the only
    users who have it. ``visited`` holds the elicitations of ``open_vault`` that the person has completed.
    """

    heard: list[Heard] = field(default_factory=list)
    started: Counter[str] = field(default_factory=Counter)
    ran: Counter[str] = field(default_factory=Counter)
    abandoned: Counter[str] = field(default_factory=Counter)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    caching: dict[str, tuple[int, Literal["public", "private"]]] = field(default_factory=dict)
    faults: dict[str, MCPError] = field(default_factory=dict)
    private: dict[str, set[str]] = field(
        default_factory=lambda: {"adas_diary": {"ada"}, "graces_diary": {"grace"}},
    )
    visited: set[str] = field(default_factory=set)
    schema_changes: int = 0
    gates: dict[str, Gate] = field(default_factory=dict)
    _servers: list[MCPServer[Any]] = field(default_factory=list, repr=False)
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def gate(self, name: str) -> Gate:
        """Return the gate of this name: of ``slow`` or ``march``, or of a method, which waits there once it exists."""
        return self.gates.setdefault(name, Gate(name))

    def register(self, server: MCPServer[Any]) -> None:
        """Register everything on a server."""
        self._servers.append(server)
        self.gate("slow")
        self.gate("march")
        server.middleware.append(self._middleware)
        add_default_tools(server)
        _add_questions(server, self)
        _add_long_tools(server, self)
        _add_content(server)
        _add_changing_tools(server, self)
        _add_resources_and_prompts(server)

    def change_schema(self) -> None:
        """Let ``shifting`` want other arguments from now on: ``text``, then ``number`` and ``unit``, then ``text``."""
        self.schema_changes += 1
        for server in self._servers:
            server.remove_tool("shifting")
            _add_shifted(server, self)

    def end(self) -> None:
        """Open every gate, so that nothing keeps waiting."""
        for gate in list(self.gates.values()):
            gate.open()

    def count_heard(self, count: int = 1) -> list[Heard]:
        """Block until so many answers were heard and return all of them.

        Raises:
            TimeoutError: They were not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.heard) >= count, PATIENCE_SECONDS):
                raise TimeoutError(f"Waited in vain for {count} answers, heard {len(self.heard)}.")
            return list(self.heard)

    def wait_for_abandoned(self, tool: str, count: int = 1) -> None:
        """Block until so many calls of a tool ended while a question of theirs was open.

        Raises:
            TimeoutError: They did not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.abandoned[tool] >= count, PATIENCE_SECONDS):
                raise TimeoutError(f"Waited in vain for {tool!r} to be abandoned.")

    async def ask(
        self, ctx: Context[Any, Any], tool: str, questions: Mapping[str, InputRequest], *, state: str | None = None
    ) -> InputRequiredResult | dict[str, Any]:
        """Ask as a server of the request's era does, all at once; return the answers, or what ends this round."""
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            given = ctx.input_responses or {}
            if not set(questions) <= set(given):
                return InputRequiredResult(input_requests=dict(questions), request_state=state)
            answers: dict[str, Any] = {key: given[key] for key in questions}
        else:
            try:
                replies = await asyncio.gather(*(self._ask_now(ctx, question) for question in questions.values()))
            except asyncio.CancelledError:
                with self._changed:
                    self.abandoned[tool] += 1
                    self._changed.notify_all()
                raise
            answers = dict(zip(questions, replies, strict=True))
        with self._changed:
            for key, answer in answers.items():
                if isinstance(answer, ElicitResult):
                    self.heard.append(
                        Heard(tool, key, answer.action, answer.content, current_user(), ctx.request_state)
                    )
            self._changed.notify_all()
        return answers

    async def _ask_now(self, ctx: Context[Any, Any], question: InputRequest) -> Any:
        if isinstance(question, ElicitRequest):
            params = question.params
            if isinstance(params, ElicitRequestFormParams):
                return await ctx.session.elicit_form(params.message, params.requested_schema, ctx.request_id)
            return await ctx.session.elicit_url(
                params.message, params.url, params.elicitation_id or "asked", ctx.request_id
            )
        if isinstance(question, ListRootsRequest):
            return await ctx.session.send_request(question, ListRootsResult)
        return await ctx.session.send_request(question, CreateMessageResult)

    async def _middleware(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        user = current_user()
        self.asked[ctx.method, user] += 1
        if ctx.request_id is not None and ctx.method in self.gates:
            await self.gates[ctx.method].passing()
        if ctx.request_id is not None and ctx.method in self.faults:
            raise self.faults[ctx.method]
        if ctx.method == "tools/call":
            name = str((ctx.params or {}).get("name"))
            if name in self.private and user not in self.private[name]:
                raise MCPError(INVALID_PARAMS, f"Unknown tool: {name}")
        result = await call_next(ctx)
        if not isinstance(result, dict):
            return result
        if ctx.method == "tools/list":
            result["tools"] = [tool for tool in result["tools"] if user in self.private.get(tool["name"], {user})]
        if ctx.method in self.caching and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            result["ttlMs"], result["cacheScope"] = self.caching[ctx.method]
        return result


def _form(message: str, schema: dict[str, Any]) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _visit(message: str, url: str) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestURLParams(message=message, url=url))


def _one_field(name: str, title: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string", "title": title}}, "required": [name]}


def _text(text: str, structured: Any = None) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=structured)


def _refusal(answers: Mapping[str, Any]) -> CallToolResult | None:
    refused = [f"{key}: {answer.action}" for key, answer in answers.items() if answer.action != "accept"]
    return _text("Nothing was done (" + ", ".join(refused) + ").") if refused else None


def _add_questions(server: MCPServer[Any], talk: Conversation) -> None:
    """Register the tools that ask the person in the middle."""

    @server.tool(title="Book a table", structured_output=False)
    async def book_table(day: str, ctx: Context) -> Asked:
        """Ask with a form that has a field of every kind."""
        talk.started["book_table"] += 1
        asked = await talk.ask(
            ctx, "book_table", {"booking": _form(f"Who comes on {day}?", BOOKING_SCHEMA)}, state=f"day={day}"
        )
        if isinstance(asked, InputRequiredResult):
            return asked
        if refusal := _refusal(asked):
            return refusal
        talk.ran["book_table"] += 1
        content = asked["booking"].content or {}
        return _text(f"A table for {content.get('guests')} on {day}.", {"day": day, **content})

    @server.tool(title="Sign a contract", structured_output=False)
    async def sign_contract(ctx: Context) -> Asked:
        """Send the person to an address."""
        talk.started["sign_contract"] += 1
        asked = await talk.ask(
            ctx, "sign_contract", {"sign": _visit("Please sign it there.", SIGN_URL)}, state="unsigned"
        )
        if isinstance(asked, InputRequiredResult):
            return asked
        if refusal := _refusal(asked):
            return refusal
        talk.ran["sign_contract"] += 1
        return _text("Signed.")

    @server.tool(title="Plan a trip", structured_output=False)
    async def plan_trip(ctx: Context) -> Asked:
        """Ask two questions at once: a form and an address."""
        talk.started["plan_trip"] += 1
        questions: dict[str, InputRequest] = {
            "destination": _form("Where to?", DESTINATION_SCHEMA),
            "terms": _visit("Please read the terms.", TERMS_URL),
        }
        asked = await talk.ask(ctx, "plan_trip", questions, state="two")
        if isinstance(asked, InputRequiredResult):
            return asked
        if refusal := _refusal(asked):
            return refusal
        talk.ran["plan_trip"] += 1
        content = asked["destination"].content or {}
        return _text(f"A trip to {content.get('city')}.", content)

    @server.tool(title="Interview", structured_output=False)
    async def interview(ctx: Context) -> Asked:
        """Ask, and ask again about the answer."""
        talk.started["interview"] += 1
        known: dict[str, str] = json.loads(ctx.request_state or "{}")
        if "favourite" not in known:
            asked = await talk.ask(
                ctx,
                "interview",
                {"first": _form("What do you like?", _one_field("favourite", "Favourite"))},
                state="{}",
            )
            if isinstance(asked, InputRequiredResult):
                return asked
            if refusal := _refusal(asked):
                return refusal
            known["favourite"] = str((asked["first"].content or {})["favourite"])
        question = _form(f"Why {known['favourite']}?", _one_field("reason", "Reason"))
        asked = await talk.ask(ctx, "interview", {"second": question}, state=json.dumps(known))
        if isinstance(asked, InputRequiredResult):
            return asked
        if refusal := _refusal(asked):
            return refusal
        talk.ran["interview"] += 1
        return _text(f"{known['favourite']}, because {(asked['second'].content or {})['reason']}")

    @server.tool(title="Never satisfied", structured_output=False)
    async def never_satisfied(ctx: Context) -> Asked:
        """Ask for ever."""
        while True:
            talk.started["never_satisfied"] += 1
            number = int(ctx.request_state or "0") + 1
            question = {f"again-{number}": _form("And now?", _one_field("more", "More"))}
            if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
                return InputRequiredResult(input_requests=dict(question), request_state=str(number))
            await talk.ask(ctx, "never_satisfied", question)

    @server.tool(title="Come back", structured_output=False)
    async def come_back(times: int, ctx: Context) -> Asked:
        """On a modern server: ask only to be called again, so many times."""
        talk.started["come_back"] += 1
        seen = int(ctx.request_state or "0")
        if seen < times and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return InputRequiredResult(request_state=str(seen + 1))
        talk.ran["come_back"] += 1
        return _text(f"Called {seen + 1} times.")

    @server.tool(title="Open the vault", structured_output=False)
    async def open_vault(ctx: Context, locks: int = 1) -> CallToolResult:
        """Answer with the error -32042 until the person has been at every address (``conversation.visited``)."""
        talk.started["open_vault"] += 1
        names = [f"{current_user()}-lock-{number}" for number in range(1, locks + 1)]
        if closed := [name for name in names if name not in talk.visited]:
            raise UrlElicitationRequiredError(
                [
                    ElicitRequestURLParams(message=f"Unlock {name}.", url=f"{VAULT_URL}/{name}", elicitation_id=name)
                    for name in closed
                ]
            )
        talk.ran["open_vault"] += 1
        return _text("The vault is open.")

    @server.tool(title="Ask the model", structured_output=False)
    async def ask_model(ctx: Context) -> Asked:
        """Ask for a sample of a language model, as servers did once."""
        talk.started["ask_model"] += 1
        message = SamplingMessage(role="user", content=TextContent(type="text", text="Say something."))
        request = CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=5))
        asked = await talk.ask(ctx, "ask_model", {"sample": request}, state="sampling")
        if isinstance(asked, InputRequiredResult):
            return asked
        talk.ran["ask_model"] += 1
        return _text("It spoke.")

    @server.tool(title="Ask for roots", structured_output=False)
    async def ask_roots(ctx: Context) -> Asked:
        """Ask for the client's roots, as servers did once."""
        talk.started["ask_roots"] += 1
        asked = await talk.ask(ctx, "ask_roots", {"roots": ListRootsRequest()}, state="roots")
        if isinstance(asked, InputRequiredResult):
            return asked
        talk.ran["ask_roots"] += 1
        return _text("It has roots.")


def _add_long_tools(server: MCPServer[Any], talk: Conversation) -> None:
    """Register the tools that take their time: as long as the test wants."""

    @server.tool(title="Slow", structured_output=False)
    async def slow(ctx: Context, steps: int = 3) -> str:
        """Report progress so many times, wait at the gate ``slow``, and end."""
        talk.started["slow"] += 1
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps, f"Step {step}")
        await talk.gate("slow").passing()
        talk.ran["slow"] += 1
        return f"Done after {steps} steps."

    @server.tool(title="March", structured_output=False)
    async def march(ctx: Context, steps: int = 3) -> str:
        """Report one step, wait at the gate ``march``, report the next."""
        talk.started["march"] += 1
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps, f"Step {step}")
            await talk.gate("march").passing()
        talk.ran["march"] += 1
        return f"Done after {steps} steps."


def _add_content(server: MCPServer[Any]) -> None:
    """Register tools that return every kind of content."""

    @server.tool(
        title="Everything",
        annotations=ToolAnnotations(
            title="Everything at once",
            read_only_hint=True,
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=False,
        ),
        icons=[Icon(src="https://icons.example/everything.png", mime_type="image/png", sizes=["48x48"])],
        meta={"example.test/kind": "gallery"},
        structured_output=False,
    )
    def everything() -> CallToolResult:
        """Return one block of every kind, with annotations, and a structured value."""
        notes = Annotations(audience=["user"], priority=0.5, last_modified="2026-07-28T12:00:00Z")
        return CallToolResult(
            content=[
                TextContent(type="text", text="A **text**.", annotations=notes),
                ImageContent(type="image", data=_base64(PIXEL), mime_type="image/png"),
                AudioContent(type="audio", data=_base64(SILENCE), mime_type="audio/wav"),
                ResourceLink(
                    type="resource_link",
                    uri="notes://monday",
                    name="monday",
                    title="Monday's notes",
                    mime_type="text/plain",
                    size=12,
                ),
                EmbeddedResource(
                    type="resource",
                    resource=TextResourceContents(uri="notes://inside", text="Inside.", mime_type="text/plain"),
                ),
                EmbeddedResource(
                    type="resource",
                    resource=BlobResourceContents(uri="picture://inside", blob=_base64(PIXEL), mime_type="image/png"),
                ),
            ],
            structured_content={"kinds": 6, "nested": {"list": [1, 2.5, None, True]}},
        )


def _add_changing_tools(server: MCPServer[Any], talk: Conversation) -> None:
    """Register what differs by user and by time."""

    @server.tool(title="Ada's diary", structured_output=False)
    def adas_diary() -> str:
        """Return what only Ada may read."""
        talk.ran["adas_diary"] += 1
        return f"{current_user()} reads Ada's diary."

    @server.tool(title="Grace's diary", structured_output=False)
    def graces_diary() -> str:
        """Return what only Grace may read."""
        talk.ran["graces_diary"] += 1
        return f"{current_user()} reads Grace's diary."

    @server.tool(title="Learn", structured_output=False)
    async def learn(name: str, ctx: Context) -> str:
        """Add a tool of this name and say on the call's own stream that the tools have changed."""

        def learned() -> str:
            """Do what was learned."""
            talk.ran[name] += 1
            return f"I can {name}."

        server.add_tool(learned, name=name, structured_output=False)
        await ctx.session.send_notification(ToolListChangedNotification(), ctx.request_id)
        await ctx.notify_tools_changed()
        talk.ran["learn"] += 1
        return f"Learned {name}."

    @server.tool(title="Rearrange", structured_output=False)
    async def rearrange(ctx: Context) -> str:
        """Say on the call's own stream that the prompts and the resources have changed."""
        await ctx.session.send_notification(PromptListChangedNotification(), ctx.request_id)
        await ctx.session.send_notification(ResourceListChangedNotification(), ctx.request_id)
        talk.ran["rearrange"] += 1
        return "Rearranged."

    _add_shifted(server, talk)


def _add_shifted(server: MCPServer[Any], talk: Conversation) -> None:
    """Register ``shifting`` with the arguments whose turn it is."""

    def with_text(text: str) -> str:
        """Return the text."""
        talk.ran["shifting"] += 1
        return text

    def with_number(number: int, unit: str = "m") -> str:
        """Return the measure."""
        talk.ran["shifting"] += 1
        return f"{number} {unit}"

    server.add_tool(
        with_number if talk.schema_changes % 2 else with_text,
        name="shifting",
        title="Shifting",
        structured_output=False,
    )


def _add_resources_and_prompts(server: MCPServer[Any]) -> None:
    """Register resources, templates, prompts, and completion for both."""

    @server.resource(
        "notes://today",
        title="Today's notes",
        mime_type="text/plain",
        annotations=Annotations(audience=["user", "assistant"], priority=1.0),
    )
    def today() -> str:
        """Return the notes of today."""
        return f"Notes of {current_user()}."

    @server.resource("picture://pixel", title="A pixel", mime_type="image/png")
    def pixel() -> bytes:
        """Return a picture."""
        return PIXEL

    @server.resource("notes://{day}", title="Notes of a day", mime_type="text/plain")
    def notes(day: str) -> str:
        """Return the notes of a day."""
        return f"Notes of {day} for {current_user()}."

    @server.prompt(title="Greeting")
    def greeting() -> str:
        """Greet."""
        return f"Say hello to {current_user()}."

    @server.prompt(title="Review", icons=[Icon(src="https://icons.example/review.png")])
    def review(language: str, style: str = "kind") -> list[UserMessage | AssistantMessage]:
        """Review code in a language and a style."""
        return [
            UserMessage(f"Review this {language}, be {style}."),
            AssistantMessage("With pleasure."),
            UserMessage(
                EmbeddedResource(
                    type="resource",
                    resource=TextResourceContents(uri="code://one", text="print(1)", mime_type="text/x-python"),
                )
            ),
        ]

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        if isinstance(ref, ResourceTemplateReference):
            values = [day for day in DAYS if day.startswith(argument.value)]
        elif (ref.name, argument.name) == ("review", "language"):
            values = [language for language in LANGUAGES if language.startswith(argument.value)]
        elif (ref.name, argument.name) == ("review", "style"):
            language = ((context and context.arguments) or {}).get("language", "")
            values = [f"{argument.value} {language}".strip()]
        else:
            return None
        return Completion(values=values, total=len(values), has_more=False)
