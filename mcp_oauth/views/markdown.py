"""A server's Markdown as HTML that is safe to show: no HTML of its own, nothing is loaded, and links say where to."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

import nh3
from django.utils.safestring import SafeString
from markdown_it import MarkdownIt
from markdown_it.token import Token

# Longer texts are shown as they are: reading Markdown takes time that grows with it.
LONGEST: Final = 20_000

_STRONG_SIGNS = re.compile(r"^#{1,6} \S|^```|^\|? ?:?-{3,}:? ?\||\[[^\]\n]{1,200}\]\(https?://", re.MULTILINE)
_WEAK_SIGNS = re.compile(r"^\s{0,3}(?:[-*+]|\d{1,3}[.)]) \S|\*\*[^*\n]{1,200}\*\*|^> \S|`[^`\n]{1,200}`", re.MULTILINE)

_ALLOWED: Final = {
    *("p", "br", "hr", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li"),
    *("a", "table", "thead", "tbody", "tr", "th", "td"),
}
# A picture would be fetched from wherever the server says, and tell its owner that somebody looks.
_READER: Final = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable(["image"])


def looks_like_markdown(text: str) -> bool:
    """Whether a text is short enough, and has what people write in Markdown and not elsewhere."""
    if len(text) > LONGEST:
        return False
    return bool(_STRONG_SIGNS.search(text)) or len(_WEAK_SIGNS.findall(text)) > 1


def as_html(text: str) -> SafeString:
    """Return Markdown as HTML out of a list of allowed elements."""
    tokens = _READER.parse(text[:LONGEST])
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            # Below the headings of the page.
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
        if token.children:
            token.children = _with_hosts(token.children)
    html = nh3.clean(
        _READER.renderer.render(tokens, _READER.options, {}),
        tags=_ALLOWED,
        attributes={"a": {"href"}, "ol": {"start"}},
        url_schemes={"http", "https", "mailto"},
        set_tag_attribute_values={"a": {"target": "_blank"}},
        link_rel="noopener noreferrer",
    )
    return SafeString(html)


def _with_hosts(tokens: list[Token]) -> list[Token]:
    """Return the words of a paragraph with the host behind every link that does not say it."""
    words: list[Token] = []
    host, said = "", ""
    for token in tokens:
        words.append(token)
        if token.type == "link_open":
            host, said = _host_of(str(token.attrs.get("href", ""))), ""
        elif token.type == "link_close" and host and host not in said:
            words.append(Token("text", "", 0, content=f" ({host})"))
        else:
            said += token.content
    return words


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).netloc[:200]
    except ValueError:
        return address[:200]
