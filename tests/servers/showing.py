"""Tools that take every kind of input and answer with every kind of content."""

from __future__ import annotations

import base64
import struct
import zlib
from datetime import date, datetime
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import MCPServer
from mcp_types import (
    AudioContent,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from pydantic import BaseModel, Field

MARKDOWN = """# Trip to Lisbon

All **three** legs are booked, see [the plan](https://travel.example/plan).

| Leg | Days |
| --- | ---: |
| Porto | 2 |
| Lisbon | 4 |

- [x] hotel
- [ ] train

![a picture](https://travel.example/tracker.png)

<script>alert("markdown")</script>
"""


class Guest(BaseModel):
    """Somebody who comes along."""

    name: str = Field(title="Name", min_length=1)
    age: int | None = Field(None, title="Age", ge=0, le=130)
    vegetarian: bool = Field(False, title="Vegetarian")


class Train(BaseModel):
    """By rail."""

    kind: Literal["train"]
    seat: Literal["window", "aisle"] = Field("window", title="Seat")


class Flight(BaseModel):
    """By air."""

    kind: Literal["flight"]
    luggage: int = Field(title="Pieces of luggage", ge=0, le=3)


class Room(BaseModel):
    """Where to sleep."""

    beds: int = Field(1, title="Beds", ge=1, le=4)
    notes: str = Field("", title="Notes", max_length=2000)


def picture(width: int = 320, height: int = 120) -> bytes:
    """Return a PNG picture of a gradient."""
    rows = b"".join(
        b"\x00" + b"".join(bytes((40 + x * 160 // width, 90 + y, 200)) for x in range(width)) for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def silence() -> bytes:
    """Return a quarter of a second of silence as a WAV file."""
    data = b"\x80" * 2000
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(data))
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH4sI", 16, 1, 1, 8000, 8000, 1, 8, b"data", len(data))
        + data
    )


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def add_showing_tools(server: MCPServer[Any]) -> None:
    """Register the tools."""

    @server.tool(title="Plan a trip", annotations=ToolAnnotations(read_only_hint=False), structured_output=False)
    def plan_journey(
        title: Annotated[
            str, Field(title="Title", description="What the trip is called.", min_length=3, max_length=80)
        ],
        travel: Annotated[Train | Flight, Field(title="How to travel", discriminator="kind")],
        guests: Annotated[list[Guest], Field(title="Guests", max_length=6)] = [],  # noqa: B006
        begins: Annotated[date | None, Field(title="Begins")] = None,
        leaves: Annotated[datetime | None, Field(title="Leaves")] = None,
        budget: Annotated[float, Field(title="Budget", ge=0, description="In euros.")] = 500,
        tags: Annotated[list[Literal["sea", "mountains", "city"]], Field(title="Where to")] = [],  # noqa: B006
        room: Annotated[Room | None, Field(title="Room")] = None,
        remarks: Annotated[str, Field(title="Remarks", max_length=5000)] = "",
    ) -> str:
        """Plan a trip with everything that belongs to it."""
        return f"{title} by {travel.kind} with {len(guests)} guests"

    @server.tool(title="Show everything", annotations=ToolAnnotations(read_only_hint=True))
    def show_everything() -> CallToolResult:
        """Answer with one block of every kind."""
        svg = base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>").decode()
        return CallToolResult(
            content=[
                TextContent(type="text", text=MARKDOWN),
                ImageContent(type="image", data=_encoded(picture()), mime_type="image/png"),
                ImageContent(type="image", data=svg, mime_type="image/svg+xml"),
                AudioContent(type="audio", data=_encoded(silence()), mime_type="audio/wav"),
                ResourceLink(
                    type="resource_link",
                    name="plan.pdf",
                    title="The plan",
                    uri="https://travel.example/plan.pdf",
                    mime_type="application/pdf",
                    size=48_213,
                ),
                ResourceLink(type="resource_link", name="local", uri="file:///etc/plan.txt"),
                EmbeddedResource(
                    type="resource",
                    resource=TextResourceContents(uri="notes://7", mime_type="text/plain", text="Bring <b>water</b>."),
                ),
            ],
            structured_content={"legs": 3, "open": ["train"], "cost": {"hotel": 412.5, "train": None}},
        )

    @server.tool(title="List legs", annotations=ToolAnnotations(read_only_hint=True))
    def list_legs() -> CallToolResult:
        """Answer with a table."""
        rows = [
            {"leg": place, "days": days, "booked": days > 1, "price": days * 120.5}
            for place, days in (("Porto", 2), ("Coimbra", 1), ("Lisbon", 4))
        ]
        return CallToolResult(
            content=[TextContent(type="text", text="Three legs.")], structured_content={"legs": rows, "total": 3}
        )
