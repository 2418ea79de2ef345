"""What an answer was looked up from, for people: queries, sources, which words rest on which, and what to display."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from pipeline.gemini.lenient import as_list, as_map, whole, word, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_UNSEEN = frozenset({"style", "script", "head", "template", "svg"})
_MOST_WORDS = 20
_NAME = re.compile("[a-z]+")


def findings(grounding: Any) -> Iterator[tuple[str, str]]:
    """The lines about the `grounding` of a record, each with its name. Texts of strangers, to be escaped."""
    found = as_map(grounding)
    for name, said in (("queries", "searched"), ("image_queries", "searched images")):
        for query in as_list(found.get(name)):
            yield said, words(query)
    for number, one in enumerate(map(as_map, as_list(found.get("sources"))), 1):
        yield "source", f"[{number}]  {'  '.join(_told_of_source(one))}"
    for quote in map(as_map, as_list(found.get("quotes"))):
        rests_on = ", ".join(map(str, as_list(quote.get("sources"))))
        yield "rests on", f"[{rests_on}]  {' '.join(words(quote.get('text')).split())}"
    if markup := whole(found.get("suggestions")):
        yield "suggestions", " · ".join(words_of(markup)) or "no words"
        yield "", "Google wants them displayed with what they led to: as HTML, in grounding.suggestions of --json"


def _told_of_source(one: Mapping[str, Any]) -> Iterator[str]:
    yield words(one.get("title")) or "untitled"
    if uri := word(one.get("uri")):
        yield uri
    if image := word(one.get("image")):
        yield f"(picture {image})"


def words_of(markup: str) -> list[str]:
    """The texts a reader of some HTML sees, in their order; not more of them than somebody would read.

    In one pass, since strangers wrote it: the parser of the standard library takes minutes for what is never closed.
    """
    first, *tagged = markup.split("<")
    pieces, unseen = [first], ""
    for piece in tagged:
        tag, _end, text = piece.partition(">")
        name = _NAME.match(tag.lower())
        if not unseen and name and name[0] in _UNSEEN:
            unseen = name[0]
        elif unseen and tag.strip().lower() == f"/{unseen}":
            unseen = ""
        if not unseen:
            pieces.append(html.unescape(text))
    return [said for piece in pieces if (said := " ".join(piece.split()))][:_MOST_WORDS]
