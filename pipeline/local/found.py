"""What a search leaves: queries, sources, and which words rest on them. Nobody was asked, and it leads nowhere."""

from __future__ import annotations

import html
import re
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .asks import Ask

_PLACES = ("example.com", "example.org", "example.net")


def sources(ask: Ask) -> list[tuple[str, str]]:
    """Title and address of everything found: two pages, and a picture; of pictures alone two."""
    wanted = []
    if "webSearch" in ask.searches:
        wanted += ["pages", "pages"]
    if "imageSearch" in ask.searches:
        wanted += ["pictures"] * (1 if wanted else 2)
    slug = "-".join(re.findall(r"[a-z0-9]+", _query(ask).lower())) or "local-service"
    return [(place, f"https://{place}/{kind}/{slug}") for place, kind in zip(_PLACES, wanted, strict=False)]


def grounded(ask: Ask, texts: list[str]) -> dict[str, Any]:
    """The groundingMetadata of an answer with these texts."""
    found: dict[str, Any] = {"groundingChunks": list(_chunks(ask)), "retrievalMetadata": {}}
    query = _query(ask)
    if "webSearch" in ask.searches:
        found["webSearchQueries"] = [query]
        found["searchEntryPoint"] = {"renderedContent": _suggestions(query)}
    if "imageSearch" in ask.searches:
        found["imageSearchQueries"] = [query]
    if supports := list(_supports("".join(texts), ask)):
        found["groundingSupports"] = supports
    return found


def _suggestions(query: str) -> str:
    """What Google wants displayed: a snippet with a style of its own, a mark, and a link for each query."""
    link = f"https://{_PLACES[0]}/search?q={urllib.parse.quote_plus(query)}"
    chip = f'<a class="chip" href="{html.escape(link)}">{html.escape(query)}</a>'
    mark = '<div class="headline"><svg class="logo" viewBox="0 0 9 9"><title>local</title><circle r="4"/></svg></div>'
    style = "<style>.container { display: flex } .chip { border: solid 1px; border-radius: 16px }</style>"
    return f'{style}<div class="container">{mark}<div class="carousel">{chip}</div></div>'


def _query(ask: Ask) -> str:
    return " ".join(ask.prompt.split()[:6])


def _chunks(ask: Ask) -> Iterator[dict[str, Any]]:
    for title, uri in sources(ask):
        if "/pictures/" in uri:
            yield {"image": {"sourceUri": uri, "imageUri": f"{uri}.png", "title": title, "domain": title}}
        else:
            yield {"web": {"uri": uri, "title": title}}


def _supports(text: str, ask: Ask) -> Iterator[dict[str, Any]]:
    """Where the text names a source; places are counted in bytes."""
    for number, (title, _uri) in enumerate(sources(ask)):
        at = text.find(title)
        if at >= 0:
            start = len(text[:at].encode())
            segment = {"startIndex": start, "endIndex": start + len(title), "text": title}
            yield {"segment": segment, "groundingChunkIndices": [number], "confidenceScores": [0.9]}
