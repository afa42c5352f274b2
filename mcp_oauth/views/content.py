"""What a tool returned, as what it is: text, Markdown, pictures, sound, tables, trees, resources; all of it bounded."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from mcp_oauth.oauth.server_words import printable
from mcp_oauth.sessions.results import ToolResult
from mcp_oauth.views.markdown import as_html, looks_like_markdown

Kind = Literal["text", "image", "audio", "link", "resource", "other"]

MOST_BLOCKS: Final = 100
MOST_TEXT: Final = 200_000
# Encoded; what is larger would be a page that no phone opens.
MOST_MEDIA: Final = 6 * 1024 * 1024
# What a person looks through; the whole stands below as JSON.
MOST_ROWS: Final = 200
MOST_COLUMNS: Final = 20
MOST_BRANCHES: Final = 500
_DEEPEST: Final = 12
_LONGEST_CELL: Final = 500
# A tree that is small is open from the start.
_FEW: Final = 30

# Formats that hold pixels and nothing else. SVG is a document with scripts and addresses, and is never drawn.
_PICTURES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
_SOUNDS: Final = (
    *("audio/mpeg", "audio/mp3", "audio/mp4", "audio/wav", "audio/x-wav", "audio/ogg", "audio/webm", "audio/flac"),
)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]*={0,2}\s*")


@dataclass(frozen=True)
class Branch:
    """One value of a tree: a leaf with its ``text``, or a branch with others in it."""

    label: str
    text: str
    tone: str
    children: tuple[Branch, ...] = ()
    more: int = 0
    open: bool = False


@dataclass(frozen=True)
class Table:
    """A list of flat objects; ``left_out`` rows are not shown."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int


@dataclass(frozen=True)
class Block:
    """One thing a tool returned. ``source`` is an address that holds the data itself, ``url`` one to go to."""

    kind: Kind
    name: str = ""
    detail: str = ""
    text: str = ""
    html: SafeString | None = None
    tree: Branch | None = None
    source: str = ""
    url: str = ""
    host: str = ""
    cut: bool = False


@dataclass(frozen=True)
class ResultView:
    """What a tool returned, and how long it took."""

    is_error: bool
    blocks: tuple[Block, ...]
    tables: tuple[Table, ...]
    structured: str
    tree: Branch | None
    duration_ms: int


def result_view(result: ToolResult, duration_ms: int) -> ResultView:
    """Return a result as the pages show it."""
    structured = result.structured_content
    return ResultView(
        result.is_error,
        tuple(_block(block, structured) for block in result.content[:MOST_BLOCKS]),
        tuple(tables_of(structured)),
        "" if structured is None else _pretty(structured)[:MOST_TEXT],
        None if structured is None else tree_of(structured),
        duration_ms,
    )


def tree_of(value: Any) -> Branch:
    """Return a JSON value as a tree of at most `MOST_BRANCHES` values."""
    left = [MOST_BRANCHES]
    small = len(_pretty(value)) < 100 * _FEW

    def grow(label: str, inner: Any, depth: int) -> Branch:
        left[0] -= 1
        if not isinstance(inner, dict | list):
            tone = "text" if isinstance(inner, str) else "plain"
            return Branch(label, inner[:MOST_TEXT] if isinstance(inner, str) else _compact(inner), tone)
        members = list(inner.items() if isinstance(inner, dict) else enumerate(inner))
        shown: list[Branch] = []
        if depth < _DEEPEST:
            for name, member in members:
                if left[0] <= 0:
                    break
                shown.append(grow(printable(str(name), 200) or _("(empty)"), member, depth + 1))
        words = (
            ngettext("%d member", "%d members", len(members))
            if isinstance(inner, dict)
            else ngettext("%d item", "%d items", len(members))
        )
        return Branch(
            label, words % len(members), "branch", tuple(shown), len(members) - len(shown), depth == 0 or small
        )

    return grow("", value, 0)


def tables_of(value: Any) -> Iterator[Table]:
    """Return the lists of flat objects that a value is, or has as its members."""
    if isinstance(value, list):
        table = _table("", value)
        if table is not None:
            yield table
    elif isinstance(value, dict):
        for name, member in list(value.items())[:MOST_COLUMNS]:
            table = _table(printable(name, 200), member) if isinstance(member, list) else None
            if table is not None:
                yield table


def _table(caption: str, rows: list[Any]) -> Table | None:
    if not rows or not all(isinstance(row, dict) and row for row in rows[:MOST_ROWS]):
        return None
    columns = list(dict.fromkeys(name for row in rows[:MOST_ROWS] for name in row))
    cells = [[_cell(row.get(name)) for name in columns[:MOST_COLUMNS]] for row in rows[:MOST_ROWS]]
    if len(columns) > MOST_COLUMNS or any(cell is None for row in cells for cell in row):
        return None
    shown = tuple(tuple(cell or "" for cell in row) for row in cells)
    return Table(
        caption, tuple(printable(name, 100) or _("(empty)") for name in columns), shown, len(rows) - len(shown)
    )


def _cell(value: Any) -> str | None:
    """Return what a cell shows, or ``None`` for what does not fit into one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return _("Yes") if value else _("No")
    if isinstance(value, list):
        return ", ".join(str(item)[:100] for item in value[:20]) if _are_plain(value) else None
    return None if isinstance(value, dict) else str(value)[:_LONGEST_CELL]


def _are_plain(values: list[Any]) -> bool:
    return all(isinstance(item, str | int | float) for item in values[:20])


def _block(block: Any, structured: Any) -> Block:
    if not isinstance(block, dict):
        return Block("other", detail=_compact(block)[:500])
    kind = block.get("type")
    if kind == "text" and isinstance(block.get("text"), str):
        return _text(block["text"], structured)
    if kind in ("image", "audio"):
        return _media(block.get("data"), block.get("mimeType"), str(kind))
    if kind == "resource_link":
        return _resource_link(block)
    if kind == "resource" and isinstance(block.get("resource"), dict):
        return _resource(block["resource"])
    return Block("other", printable(str(kind), 40), _compact(block)[:500])


def _text(text: str, structured: Any) -> Block:
    shown = text[:MOST_TEXT]
    cut = len(text) > len(shown)
    if not cut and text.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        # Most servers say the same twice; it stands below, as a table or a tree.
        if isinstance(value, dict | list) and value == structured:
            return Block("text", detail="repeated", text=shown)
        if isinstance(value, dict | list):
            return Block("text", text=shown, tree=tree_of(value))
    if not cut and looks_like_markdown(text):
        return Block("text", text=shown, html=as_html(text))
    return Block("text", text=shown, cut=cut)


def _media(data: Any, mime_type: Any, kind: str, name: str = "") -> Block:
    """Return a picture or a sound as the data itself, if it is of a format that is drawn."""
    said = printable(mime_type, 60).lower() or "?"
    encoded = data if isinstance(data, str) else ""
    detail = _("%(type)s, about %(size)d bytes") % {"type": said, "size": len(encoded) * 3 // 4}
    fits = said in (_PICTURES if kind == "image" else _SOUNDS)
    if not fits or not encoded or len(encoded) > MOST_MEDIA or not _BASE64.fullmatch(encoded):
        return Block("other", name or kind, detail)
    source = f"data:{said};base64,{''.join(encoded.split())}"
    return Block("image" if kind == "image" else "audio", name, detail, source=source)


def _resource_link(block: dict[str, Any]) -> Block:
    uri = printable(block.get("uri"), 2000)
    size = block.get("size")
    facts = [printable(block.get("mimeType"), 60)]
    if isinstance(size, int) and not isinstance(size, bool):
        facts.append(_("about %(size)d bytes") % {"size": size})
    name = printable(block.get("title"), 200) or printable(block.get("name"), 200) or uri
    return Block("link", name, ", ".join(filter(None, facts)), text=uri, url=_web_address(uri), host=_host(uri))


def _resource(resource: dict[str, Any]) -> Block:
    uri, mime_type = printable(resource.get("uri"), 2000), printable(resource.get("mimeType"), 60).lower()
    if isinstance(resource.get("text"), str):
        text = resource["text"]
        encoded = base64.b64encode(text.encode(errors="replace")[:MOST_MEDIA]).decode()
        # As plain text whatever it says it is: it is saved, and never opened here.
        source = f"data:text/plain;charset=utf-8;base64,{encoded}"
        return Block(
            "resource",
            uri,
            mime_type,
            text=text[:MOST_TEXT],
            source=source,
            cut=len(text) > MOST_TEXT,
            host=_file_name(uri),
        )
    if mime_type.startswith(("image/", "audio/")):
        return _media(resource.get("blob"), mime_type, mime_type.partition("/")[0], uri)
    size = len(resource["blob"]) * 3 // 4 if isinstance(resource.get("blob"), str) else 0
    return Block("other", uri, _("%(type)s, about %(size)d bytes") % {"type": mime_type or "?", "size": size})


def _web_address(uri: str) -> str:
    return uri if re.match(r"https?://[^\s/]", uri) and "…" not in uri else ""


def _host(uri: str) -> str:
    try:
        return urlsplit(uri).netloc[:200]
    except ValueError:
        return ""


def _file_name(uri: str) -> str:
    """Return how a saved resource is called: letters, digits and dots of its address, and never a path."""
    last = uri.rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9._-]", "-", last)[:60].strip(".-") or "resource"
    return name if "." in name else f"{name}.txt"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
