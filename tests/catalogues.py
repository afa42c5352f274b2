"""The catalogues of translations: what the source says, written to a file for each language and compiled.

``make messages`` brings them up to date; ``--check`` only says what is not. Texts are found in Python by the names of
the functions they are given to, in templates as Django finds them, and in the two lists of servers by their members.
"""

from __future__ import annotations

import io
import re
import struct
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from babel.messages import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

from mcp_oauth.sentences import PREDICATE

ROOT: Final = Path(__file__).resolve().parent.parent
LOCALE: Final = ROOT / "mcp_oauth" / "locale"
COMMAND: Final = "make messages"

LANGUAGES: Final = {"de": "nplurals=2; plural=(n != 1);", "es": "nplurals=2; plural=(n != 1);"}

# What operators and developers see is English: commands, the demonstration, the page of components.
ENGLISH: Final = ("mcp_oauth/management/", "project/", "templates/styleguide.html")

_PLURAL: Final = (1, 2)
_IN_CONTEXT: Final = ((1, "c"), 2)
_KEYWORDS: Final[dict[str, Any]] = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": _PLURAL,
    "ngettext_lazy": _PLURAL,
    "pgettext": _IN_CONTEXT,
    "pgettext_lazy": _IN_CONTEXT,
    "npgettext": ((1, "c"), 2, 3),
    "npgettext_lazy": ((1, "c"), 2, 3),
    # mcp_oauth/sentences.py
    "sentence": None,
    "marked": None,
}
_PREDICATES: Final[dict[str, Any]] = {PREDICATE: None}
_COMMENT: Final = ("Translators:",)
_TOML: Final = {"known_servers.toml": ("summary", "notes"), "providers.toml": ("setup", "notes")}

_HEADER: Final = """# Words of the application in another language; “make messages” keeps them in step with the source.
msgid ""
msgstr ""
"Language: {language}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: {plural}\\n"
"""


@dataclass(frozen=True)
class Text:
    """One text of the source: ``entry`` has a singular and a plural where it counts something."""

    entry: str | tuple[str, ...]
    context: str | None
    path: str
    comments: tuple[str, ...] = ()


def texts() -> Iterator[Text]:
    """Return every text that people read, with the file it stands in."""
    for path in sorted((ROOT / "mcp_oauth").rglob("*.py")):
        yield from _of_source(path, path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "templates").rglob("*.html")):
        # What surrounds the texts is blanked out, and its indentation means nothing to Python.
        lines = templatize(path.read_text(encoding="utf-8"), origin=str(path)).splitlines()
        yield from _of_source(path, "\n".join(line.strip() for line in lines))
    for name, members in _TOML.items():
        path = ROOT / "mcp_oauth" / name
        for entry in tomllib.loads(path.read_text(encoding="utf-8")).values():
            yield from (Text(entry[member], None, _shown(path)) for member in members if member in entry)


def template_catalog(language: str) -> Catalog:
    """Return what the source says, without translations."""
    catalog = _empty(language)
    for text in texts():
        catalog.add(
            text.entry,
            locations=[(text.path, 1)],
            context=text.context,
            auto_comments=text.comments,
            flags=("python-format",) if _PLACEHOLDER.search(_first(text.entry)) else (),
        )
    return catalog


def read_catalog(language: str) -> Catalog:
    """Return a language's file as it is; obsolete entries are in ``obsolete``."""
    with source_of(language).open("rb") as file:
        return read_po(file, locale=language)


def updated(language: str) -> Catalog:
    """Return a language's file brought up to date: translations kept, what the source does not say any more dropped."""
    catalog = template_catalog(language)
    if source_of(language).is_file():
        known = read_catalog(language)
        for message in catalog:
            before = known.get(message.id, message.context) if message.id else None
            if before is not None and before.id == message.id:
                message.string = before.string
                message.user_comments = before.user_comments
                message.flags |= before.flags & {"fuzzy"}
    return catalog


def as_po(catalog: Catalog, language: str) -> str:
    """Return the file's text: sorted, without line numbers, dates and wrapped lines, so that changes merge."""
    buffer = io.BytesIO()
    write_po(buffer, catalog, width=0, omit_header=True, sort_output=True, include_lineno=False)
    header = _HEADER.format(language=language, plural=LANGUAGES[language])
    return header + "\n" + buffer.getvalue().decode("utf-8").strip() + "\n"


def as_mo(catalog: Catalog, language: str) -> bytes:
    """Return the compiled catalogue as GNU gettext reads it, without anything that changes by itself."""
    header = f"Language: {language}\nContent-Type: text/plain; charset=utf-8\nPlural-Forms: {LANGUAGES[language]}\n"
    translated = {"": header}
    for message in catalog:
        forms = _forms(message.string)
        if message.id and not message.fuzzy and all(forms):
            in_context = f"{message.context}\x04" if message.context else ""
            translated[in_context + "\0".join(_forms(message.id))] = "\0".join(forms)
    # Readers search: the texts are sorted as bytes.
    pairs = sorted((key.encode("utf-8"), value.encode("utf-8")) for key, value in translated.items())
    number, start = len(pairs), 28
    # Magic number, revision, how many, and where the two tables and the (empty) hash table begin.
    parts = [struct.pack("<7I", 0x950412DE, 0, number, start, start + 8 * number, 0, start + 16 * number)]
    offset = start + 16 * number
    for column in zip(*pairs, strict=True):
        for text in column:
            parts.append(struct.pack("<2I", len(text), offset))
            offset += len(text) + 1
    return b"".join([*parts, *(text + b"\0" for column in zip(*pairs, strict=True) for text in column)])


def source_of(language: str) -> Path:
    """Return where a language's translations are written."""
    return LOCALE / language / "LC_MESSAGES" / "django.po"


def outdated() -> list[Path]:
    """Return the files that are not what they would be after ``make messages``."""
    return [path for path, content in _contents() if not path.is_file() or path.read_bytes() != content]


def write() -> None:
    """Bring every file up to date."""
    for path, content in _contents():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _contents() -> Iterator[tuple[Path, bytes]]:
    for language in LANGUAGES:
        catalog = updated(language)
        yield source_of(language), as_po(catalog, language).encode("utf-8")
        yield source_of(language).with_suffix(".mo"), as_mo(catalog, language)


_PLACEHOLDER: Final = re.compile(r"%\(\w+\)[-#0-9.]*[a-z]")


def _of_source(path: Path, source: str) -> Iterator[Text]:
    if _shown(path).startswith(ENGLISH):
        return
    # What is found does not say by which function, so predicates are looked for by themselves.
    for keywords, given in ((_KEYWORDS, None), (_PREDICATES, PREDICATE)):
        if any(f"{name}(" in source for name in keywords):
            for _line, entry, comments, context in extract("python", io.BytesIO(source.encode()), keywords, _COMMENT):
                yield Text(entry, given or context, _shown(path), tuple(comments))


def _empty(language: str) -> Catalog:
    catalog = Catalog(locale=language, charset="utf-8", fuzzy=False)
    # Two forms are enough: nothing here is counted in millions, for which Spanish has a third.
    catalog.mime_headers = [("Plural-Forms", LANGUAGES[language])]
    return catalog


def _first(entry: str | tuple[str, ...]) -> str:
    return entry if isinstance(entry, str) else entry[0]


def _forms(string: Any) -> tuple[str, ...]:
    return (string,) if isinstance(string, str) else tuple(string or ("",))


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def main() -> int:
    """Write the files, or say what is out of date; return the exit code."""
    if sys.argv[1:] == ["--check"]:
        for path in outdated():
            print(f"{_shown(path)} is out of date: run {COMMAND}.")
        return 1 if outdated() else 0
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
