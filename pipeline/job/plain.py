"""HTML as shops write it, read as plain text: no tags, no entities, one line for each block.

The parser of the standard library is not used: tags that are never closed cost it time by the square of their length,
`<![` makes it fail, and it reads some of them differently from one Python to the next, which would change prompts that
are paid for.
"""

from __future__ import annotations

import re

_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "br",
        "caption",
        "center",
        "dd",
        "details",
        "dialog",
        "dir",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "head",
        "header",
        "hgroup",
        "hr",
        "html",
        "legend",
        "li",
        "main",
        "menu",
        "nav",
        "noscript",
        "ol",
        "optgroup",
        "option",
        "p",
        "pre",
        "section",
        "select",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "title",
        "tr",
        "ul",
    ]
)
_CELLS = frozenset({"td", "th"})
_HIDDEN = {
    name: re.compile(rf"</{name}(?![^\s/>])", re.IGNORECASE) for name in ("script", "style", "iframe", "template")
}
"""Elements whose content nobody sees, and the start of the tag that ends each."""

_START = re.compile(r"<(?=[A-Za-z!?]|/[A-Za-z])")
_NAME = re.compile(r"</?([A-Za-z][^\s/<>]*+)")
_QUOTED = re.compile(r"""(?:[^<>=]++|=[ \t\n\r\f]*+(?:"[^"]*+"|'[^']*+')?+)*+""")
"""The rest of a tag, in which `<` and `>` may stand within quotes after an equals sign."""
_UNQUOTED = re.compile(r"[^<>]*+")
_LONG_NUMBER = re.compile(r"&#[0-9]{8,}+;?")
_ACTING = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Characters that act on the text around them rather than showing themselves, and soft hyphens; no white space."""
_INLINE = "\x01"
"""Stands where a tag was that ends no line: no entity may come together across it."""


def plain(html: str) -> str:
    """The text of some HTML: a line for each block or list item, white space collapsed, entities resolved.

    Never fails, and takes time in proportion to the length, whatever the text is. What has no tags stays as it is,
    apart from entities, white space and control characters.
    """
    text = " ".join(_ACTING.sub("", html).split())
    if "<" in text:
        text = "".join(_pieces(text))
    if "&" in text:
        from html import unescape  # noqa: PLC0415 - two thousand names of characters

        text = unescape(_LONG_NUMBER.sub("\ufffd", text))
    lines = (" ".join(line.split()) for line in _ACTING.sub("", text).split("\n"))
    return "\n".join(filter(None, lines))


def _pieces(html: str) -> list[str]:
    """The text between tags, and in place of each tag what it does to the line."""
    pieces = []
    tags = _Tags(html)
    done = 0
    while start := _START.search(html, done):
        pieces.append(html[done : start.start()])
        end, instead = tags.read(start.start())
        pieces.append(instead)
        done = end
    pieces.append(html[done:])
    return pieces


class _Tags:
    """Finds where a tag ends. Looking ahead in vain is paid from an allowance, so that no text takes forever."""

    def __init__(self, html: str) -> None:
        self._html = html
        self._allowance = len(html)

    def read(self, start: int) -> tuple[int, str]:
        """Where to read on after what starts here, and what stands for it in the text."""
        html = self._html
        if html.startswith("<!--", start):
            end = html.find("-->", start + 2)
            return (end + 3 if end >= 0 else len(html)), _INLINE
        end = self._end(start)
        if end < 0:
            return start + 1, "<"
        name = _NAME.match(html, start)
        return self._tag(name[1].lower() if name else "", start, end)

    def _tag(self, name: str, start: int, end: int) -> tuple[int, str]:
        if name in _HIDDEN and self._html[start + 1] != "/":
            found = _HIDDEN[name].search(self._html, end)
            return (found.start() if found else len(self._html)), _INLINE
        if name in _BLOCKS:
            return end, "\n"
        return end, " " if name in _CELLS else _INLINE

    def _end(self, start: int) -> int:
        """Where the tag that starts here ends; -1 when it is no tag, but text."""
        if self._allowance > 0:
            found = _QUOTED.match(self._html, start + 1)
            end = found.end() if found else start + 1
            if self._html.startswith(">", end):
                return end + 1
            self._allowance -= end - start
        found = _UNQUOTED.match(self._html, start + 1)
        end = found.end() if found else start + 1
        return end + 1 if self._html.startswith(">", end) else -1
