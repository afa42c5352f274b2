"""The tools of the notebook; every person has notes of their own, kept in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from project.peers.resource_server import current_user


class Note(BaseModel):
    """One note."""

    id: int
    title: str
    text: str
    tags: list[str]
    written_at: str = Field(description="ISO 8601, UTC.")


class NoteList(BaseModel):
    """Notes, newest first."""

    notes: list[Note]
    total: int


class Deleted(BaseModel):
    """What was deleted, and how many notes are left."""

    id: int
    left: int


class Notebook:
    """The notes of every person, by user name."""

    def __init__(self) -> None:
        self._notes: dict[str, dict[int, Note]] = {}
        self._last = 0

    def mine(self) -> dict[int, Note]:
        """Return the caller's notes by id, with one to start from."""
        user = current_user()
        if user not in self._notes:
            self._notes[user] = {}
            self.add("Welcome", f"This notebook belongs to {user}. Nobody else sees it.", ["start"])
        return self._notes[user]

    def add(self, title: str, text: str, tags: list[str]) -> Note:
        """Write a note of the caller's."""
        self._last += 1
        written_at = datetime.now(UTC).isoformat(timespec="seconds")
        note = Note(id=self._last, title=title, text=text, tags=tags, written_at=written_at)
        self._notes[current_user()][note.id] = note
        return note


def _newest(notes: list[Note], limit: int) -> NoteList:
    return NoteList(notes=sorted(notes, key=lambda note: note.id, reverse=True)[:limit], total=len(notes))


def add_notes_tools(server: MCPServer[Any]) -> None:
    """Give a server the notebook's tools."""
    notebook = Notebook()

    @server.tool(
        title="Add a note",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
        ),
    )
    def add_note(
        title: Annotated[str, Field(min_length=1, max_length=200, description="What the note is about.")],
        text: Annotated[str, Field(max_length=20000, description="The note itself.")],
        tags: Annotated[list[str], Field(max_length=10, description="Words to find it by.")] = [],  # noqa: B006
    ) -> Note:
        """Write a note and return it with its id."""
        notebook.mine()
        return notebook.add(title, text, list(tags))

    @server.tool(title="Search notes", annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    def search_notes(
        query: Annotated[str, Field(min_length=1, max_length=200, description="Looked for in title, text and tags.")],
        limit: Annotated[int, Field(ge=1, le=50, description="How many notes to return at most.")] = 10,
    ) -> NoteList:
        """Find your notes that contain a word or phrase, whatever its case."""
        wanted = query.casefold()
        found = [
            note
            for note in notebook.mine().values()
            if wanted in "\n".join([note.title, note.text, *note.tags]).casefold()
        ]
        return _newest(found, limit)

    @server.tool(title="List notes", annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
    def list_notes(
        limit: Annotated[int, Field(ge=1, le=50, description="How many notes to return at most.")] = 10,
    ) -> NoteList:
        """List your notes, newest first."""
        return _newest(list(notebook.mine().values()), limit)

    @server.tool(
        title="Delete a note",
        annotations=ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
        ),
    )
    def delete_note(id: Annotated[int, Field(ge=1, description="The id of the note.")]) -> Deleted:
        """Delete a note for good."""
        notes = notebook.mine()
        if notes.pop(id, None) is None:
            raise ToolError(f"There is no note {id}.")
        return Deleted(id=id, left=len(notes))
