"""Text as a picture can show it: in Latin letters, in lines that fit, and what of it stands in quotation marks."""

# ruff: noqa: RUF001 - quotation marks that look like others are what this is about

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from anyascii import anyascii
from PIL import ImageFont

if TYPE_CHECKING:
    from collections.abc import Iterator

LEADING = 1.28
"""From line to line, in font sizes."""
WIDTH = 0.52
"""Of a letter, roughly, in font sizes."""
SMALLEST = 9
"""No letter is smaller, in pixels."""

_LETTER = "[A-Za-z\u00c0-\u024f]"
_QUOTES = re.compile(
    "|".join(
        (
            r'(?<!\d)"([^"]{1,200})"',  # after a digit it means inches
            "“([^“”]{1,200})”",
            "„([^„“”]{1,200})[“”]",
            "”([^”]{1,200})”",
            "«([^«»]{1,200})»",
            "»([^«»]{1,200})«",
            "‹([^‹›]{1,200})›",
            "›([^‹›]{1,200})‹",
            f"‘((?:[^‘’]|’(?={_LETTER})){{1,200}})’(?!{_LETTER})",  # within a word it is an apostrophe
            "‚([^‚‘’]{1,200})[‘’]",
            "「([^「」]{1,200})」",
            "『([^『』]{1,200})』",
        )
    )
)


@lru_cache(256)
def font(size: float) -> ImageFont.FreeTypeFont:
    """The one font there is, in whole pixels."""
    found = ImageFont.load_default(max(SMALLEST, int(size)))
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


def legible(text: str, most: int) -> str:
    """The first `most` characters on one line, in Latin letters, as the font has no others; `…` where it is cut."""
    words = " ".join(text.split())
    letters = (letter if letter.isprintable() else " " for letter in anyascii(words[:most]))
    return " ".join("".join(letters).split()) + ("…" if len(words) > most else "")


def quoted(text: str) -> Iterator[str]:
    """What stands in quotation marks, in any of the usual pairs of them; apostrophes are none."""
    for found in _QUOTES.finditer(text):
        if words := legible(found[found.lastindex or 0], 200):
            yield words


def wrapped(text: str, letters: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """The text in lines that fit the width; a word that fits no line is broken."""
    lines, left = list[list[str]](), 0.0
    space = _advance(letters.size, " ")
    for whole in text.split(" "):
        pieces = list(_pieces(whole, letters.size, width))
        for piece, length in pieces:
            if len(pieces) == 1 and lines and space + length <= left:
                lines[-1].append(piece)
                left -= space + length
            else:
                lines.append([piece])
                left = width - length
    return [" ".join(line) for line in lines]


def _pieces(word: str, size: float, width: float) -> Iterator[tuple[str, float]]:
    """The word, or the parts of it that fit the width; each with its own width."""
    start, length = 0, 0.0
    for at, letter in enumerate(word):
        advance = _advance(size, letter)
        if length + advance > width and at > start:
            yield word[start:at], length
            start, length = at, 0.0
        length += advance
    yield word[start:], length


@lru_cache(8192)
def _advance(size: float, letter: str) -> float:
    """How far a letter moves the pen. A sum of these is quick, and hardly more than what they take together."""
    return font(size).getlength(letter)


def block(text: str, room: tuple[float, float], sizes: tuple[float, float]) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """The text in the largest letters whose lines fit the room, from the larger of two sizes down to the smaller.

    In the smaller, the lines may be too many for the room, and never too wide.
    """
    width, height = room
    size, least = max(sizes), max(SMALLEST, int(min(sizes)))
    # So many letters fill the room at about this size; no larger one need be tried.
    size = min(size, 1.15 * (width * height / (max(1, len(text)) * WIDTH * LEADING)) ** 0.5)
    while True:
        letters = font(max(size, least))
        lines = wrapped(text, letters, width)
        if letters.size <= least or len(lines) * letters.size * LEADING <= height:
            return letters, lines
        size *= 0.95
