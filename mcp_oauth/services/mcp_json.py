"""Reads ``mcp.json``, in the forms of Claude, VS Code, Cursor and others; pure functions over text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from django.utils.translation import gettext as _

from mcp_oauth.exceptions import InvalidRequest, McpOAuthError
from mcp_oauth.oauth.server_words import printable
from mcp_oauth.oauth.urls import check_server_address, host_of
from mcp_oauth.services.headers import check_headers, is_reserved
from mcp_oauth.services.import_entries import PLACEHOLDER, ImportEntry, McpJson, Placeholder
from mcp_oauth.services.known_servers import known_server_at, known_servers
from mcp_oauth.services.relaxed_json import JsonObject, read_json

# What the field calls Streamable HTTP.
_HTTP: Final = frozenset({"http", "streamable-http", "streamable_http", "streamablehttp"})
# Where programs write the address: everybody, Windsurf, Gemini.
_ADDRESS_KEYS: Final = ("url", "serverUrl", "httpUrl")
_REMOTE_PROXY = re.compile(r"(?:@[a-z0-9._-]+/)?mcp-remote(?:@[a-z0-9.^~_-]+)?")
# What one server leaves open: a key, perhaps an account and a region. More is no configuration any more.
_MOST_PLACEHOLDERS: Final = 20


def parse_mcp_json(text: str, *, max_bytes: int, max_servers: int) -> McpJson:
    """Return what an ``mcp.json`` holds; comments and commas before a closing bracket are allowed, as VS Code has it.

    An entry that cannot be imported is listed with the reason.

    Raises:
        InvalidRequest: the text is too large, is no JSON, or holds no servers; the message says where it breaks.
    """
    if len(text.encode("utf-8", "surrogatepass")) > max_bytes:
        raise InvalidRequest(
            _("That is more than %(size)d KiB; paste the part with the servers only.") % {"size": max_bytes // 1024}
        )
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise InvalidRequest(_("Paste the contents of an mcp.json."))
    document = read_json(text)
    servers, inputs = _servers_in(document)
    if len(servers) > max_servers:
        raise InvalidRequest(
            _("That is %(count)d servers; import at most %(limit)d at once.")
            % {"count": len(servers), "limit": max_servers}
        )
    told = _told_inputs(inputs)
    repeated = servers.repeated if isinstance(servers, JsonObject) else frozenset()
    entries: list[ImportEntry] = []
    for name, value in servers.items():
        entry = _entry(name, value)
        if name in repeated:
            entry = replace(
                entry, notes=(*entry.notes, _("The name stands there more than once; the last one counts."))
            )
        entries.append(_without_repetition(entry, entries))
    asked: dict[str, Placeholder] = {}
    for entry in entries:
        for key in () if entry.problem else entry.placeholders:
            in_address = f"${{{key}" in entry.url
            asked.setdefault(key, told.get(key) or _unknown(key, entry, secret=not in_address))
    return McpJson(tuple(entries), asked)


def _servers_in(document: Any) -> tuple[dict[str, Any], Any]:
    """Return the table of servers and the inputs, wherever the forms have them."""
    nowhere = InvalidRequest(
        _("There are no servers in it."),
        next_step=_("An mcp.json has them under “mcpServers” (Claude, Cursor) or “servers” (VS Code)."),
    )
    if not isinstance(document, dict):
        raise nowhere
    # VS Code keeps them under "mcp" in its settings.
    for place in (document, document.get("mcp")):
        for key in ("mcpServers", "servers"):
            if isinstance(place, dict) and isinstance(place.get(key), dict):
                if not place[key]:
                    raise nowhere
                return place[key], place.get("inputs")
    # A part of a file: the table itself, or one entry.
    if _looks_like_a_server(document):
        host = host_of(str(next((document[key] for key in _ADDRESS_KEYS if key in document), "")))
        return {host or _("Server"): document}, None
    if document and all(_looks_like_a_server(value) for value in document.values()):
        return document, None
    raise nowhere


def _looks_like_a_server(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(key), str) for key in (*_ADDRESS_KEYS, "command"))


def _told_inputs(inputs: Any) -> dict[str, Placeholder]:
    """Return what VS Code's inputs say of themselves; a malformed one is asked for like any other."""
    told: dict[str, Placeholder] = {}
    for item in inputs if isinstance(inputs, list) else ():
        if not isinstance(item, dict) or not isinstance(item.get("id"), str):
            continue
        key = f"input:{item['id']}"
        options = item.get("options")
        choices = options if item.get("type") == "pickString" and isinstance(options, list) else []
        told[key] = Placeholder(
            key=key,
            label=printable(item.get("description"), 120) or printable(item["id"], 120),
            secret=item.get("password") is True or (item.get("password") is None and not choices),
            default=item["default"] if isinstance(item.get("default"), str) else "",
            choices=tuple(choice for choice in choices[:100] if isinstance(choice, str)),
        )
    return told


def _unknown(key: str, entry: ImportEntry, *, secret: bool) -> Placeholder:
    """Return what can be said of a placeholder that nothing describes."""
    kind, colon, name = key.partition(":")
    default = ""
    for text in (entry.url, *entry.headers.values()):
        for found in PLACEHOLDER.findall(text):
            if found.partition(":-")[0].strip() == key and ":-" in found:
                default = found.partition(":-")[2]
    label = printable(name if colon and kind in {"input", "env"} else key, 120)
    return Placeholder(key, label, secret=secret, default=default)


def _entry(name: str, value: Any) -> ImportEntry:
    shown = printable(name, 120) or _("Unnamed")
    if not isinstance(value, dict):
        return ImportEntry(shown, problem=_("It is not an object."))
    enabled = value.get("disabled") is not True and value.get("enabled") is not False
    entry = ImportEntry(shown, enabled=enabled)
    address = next((value[key] for key in _ADDRESS_KEYS if isinstance(value.get(key), str)), "")
    headers = value.get("headers")
    kind = value.get("type") or value.get("transport")
    if kind is not None and not isinstance(kind, str):
        return replace(entry, problem=_("Its type is not text."))
    if not address and isinstance(value.get("command"), str):
        proxied = _proxied(value)
        if proxied is None:
            return replace(
                entry,
                problem=_(
                    "It starts a program on one's own computer; a workspace shares servers that have an address."
                ),
            )
        address, headers = proxied
        entry = replace(entry, notes=(_("Its address is the one that mcp-remote was told to go to."),))
    elif kind and kind.lower() not in _HTTP and kind.lower() != "sse":
        problem = _("Its type is “%(type)s”; only http can be imported.") % {"type": printable(kind, 40)}
        return replace(entry, problem=problem)
    if not address:
        return replace(entry, problem=_("It has no address."))
    address = address.strip()
    entry = replace(entry, url=address if _storable(address) else printable(address, 200))
    if (kind or "").lower() == "sse" or address.partition("?")[0].rstrip("/").endswith("/sse"):
        return replace(entry, problem=_old_transport(address))
    try:
        headers, notes = _headers(headers)
        placeholders = _placeholders_of(address, *headers.values())
        if not PLACEHOLDER.search(address):
            # Loopback is judged when the server is added; what is no address is told right away.
            check_server_address(address, allow_loopback=True)
        elif not _storable(address):
            raise InvalidRequest(_("Its address contains characters that no address has."))
        check_headers({header: PLACEHOLDER.sub("x", text) or "x" for header, text in headers.items()})
    except McpOAuthError as error:
        return replace(entry, problem=error.user_message)
    if known := known_server_at(address):
        entry = replace(entry, name=known.name)
    return replace(entry, headers=headers, notes=(*entry.notes, *notes), placeholders=placeholders)


def _proxied(value: Mapping[str, Any]) -> tuple[str, dict[str, str]] | None:
    """Return the address and headers that ``npx mcp-remote URL --header 'Name: value'`` stands for."""
    arguments = value.get("args")
    if not isinstance(arguments, list) or not all(isinstance(item, str) for item in arguments):
        return None
    start = next((at for at, item in enumerate(arguments) if _REMOTE_PROXY.fullmatch(item)), None)
    if start is None:
        return None
    rest = arguments[start + 1 :]
    address = next((item for item in rest if item.startswith(("https://", "http://"))), None)
    if address is None:
        return None
    environment = value.get("env") if isinstance(value.get("env"), dict) else {}

    def from_environment(match: re.Match[str]) -> str:
        known = (environment or {}).get(match[1])
        return known if isinstance(known, str) else match[0]

    headers: dict[str, str] = {}
    for flag, text in pairwise(rest):
        name, colon, content = text.partition(":")
        if flag == "--header" and colon:
            headers[name.strip()] = PLACEHOLDER.sub(from_environment, content.strip())
    return address, headers


def _old_transport(address: str) -> str:
    text = _("It uses the older SSE transport, which this application does not speak.")
    known = next((item for item in known_servers().values() if host_of(item.url) == host_of(address)), None)
    if known is not None:
        text += " " + _("%(name)s is at %(url)s now.") % {"name": known.name, "url": known.url}
    return text


def _headers(headers: Any) -> tuple[dict[str, str], list[str]]:
    """Return the headers that can be stored, and what is to be said of the others.

    Raises:
        InvalidRequest: they are not an object of texts.
    """
    if headers is None:
        return {}, []
    if not isinstance(headers, dict) or not all(isinstance(text, str) for text in headers.values()):
        raise InvalidRequest(_("Its headers are not an object of texts."))
    kept: dict[str, str] = {}
    notes: list[str] = []
    for name, text in headers.items():
        if is_reserved(name):
            notes.append(_("The header “%(name)s” is set by the application itself and left out.") % {"name": name})
        elif not text.strip():
            notes.append(_("The header “%(name)s” is empty and left out.") % {"name": printable(name, 100)})
        else:
            kept[name.strip()] = text.strip()
    return kept, notes


def _placeholders_of(*texts: str) -> tuple[str, ...]:
    """Return the keys of the placeholders in the texts, each once.

    Raises:
        InvalidRequest: one has no name.
    """
    found = (name.partition(":-")[0].strip() for text in texts for name in PLACEHOLDER.findall(text))
    keys = tuple(dict.fromkeys(found))
    if not all(key and _storable(key) and key.isprintable() for key in keys):
        raise InvalidRequest(_("A placeholder in it has no name."))
    if len(keys) > _MOST_PLACEHOLDERS:
        raise InvalidRequest(_("It leaves more than %(count)d things open.") % {"count": _MOST_PLACEHOLDERS})
    return keys


def _without_repetition(entry: ImportEntry, before: list[ImportEntry]) -> ImportEntry:
    same = next((other for other in before if not other.problem and entry.url and other.url == entry.url), None)
    if entry.problem or same is None:
        return entry
    return replace(entry, problem=_("It has the same address as “%(name)s”.") % {"name": same.name})


def _storable(text: str) -> bool:
    """Whether text survives a database and a page: no NUL, no half of a surrogate pair."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
