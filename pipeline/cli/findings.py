"""What an answer was looked up from, for people: queries, sources, which words rest on which, and what to display."""

from __future__ import annotations

import html.parser
from typing import TYPE_CHECKING, Any

from pipeline.gemini.lenient import as_list, as_map, whole, word, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_UNSEEN = frozenset({"style", "script", "head", "template", "svg"})


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
    """The texts a reader of some HTML sees, in their order."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return [text for piece in reader.pieces if (text := " ".join(piece.split()))]


class _Reader(html.parser.HTMLParser):
    """Collects what is neither a tag nor inside of one that shows nothing."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._unseen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in _UNSEEN:
            self._unseen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unseen:
            del self._unseen[self._unseen.index(tag) :]

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.pieces.append(data)
