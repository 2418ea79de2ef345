"""Paths of results: slugged segments that are safe on every file system, and stay apart where texts differ."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

MAX_SEGMENT = 80
_KEPT = MAX_SEGMENT - 9
_OTHER = re.compile("[^a-z0-9]+")
_WINDOWS = re.compile("con|prn|aux|nul|com[0-9]|lpt[0-9]")
_LETTERS = str.maketrans(
    {
        ":": "x", "ß": "ss", "ẞ": "ss", "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "ø": "o", "Ø": "o",
        "đ": "d", "Đ": "d", "ð": "d", "Ð": "d", "þ": "th", "Þ": "th", "ł": "l", "Ł": "l", "ħ": "h", "Ħ": "h",
        "\u0131": "i", "ŋ": "n", "Ŋ": "n", "ŧ": "t", "Ŧ": "t", "ĸ": "k", "\u017f": "s",
    }
)  # fmt: skip
_UNREAD = ("CJK", "CUNEIFORM")
"""Scripts with signs of which no reading is known."""


@lru_cache(maxsize=8192)
def slug(text: str) -> str:
    """One segment of a path: lower-case ASCII letters, digits and single dashes, at most 80 bytes.

    Letters of other scripts are spelled in Latin ones, emoji by their names. A text with a letter that has no spelling,
    or that ends up empty or reserved, gets eight digits of its hash, so that different texts do not meet in one file.
    """
    if text.isascii():
        plain, lost = text.lower().replace(":", "x"), False
    else:
        pieces = list(map(_spelled, unicodedata.normalize("NFC", text).translate(_LETTERS)))
        plain, lost = "".join(piece or "" for piece in pieces).lower(), None in pieces
    segment = _OTHER.sub("-", plain).strip("-")
    if segment and not lost and len(segment) <= MAX_SEGMENT and not _WINDOWS.fullmatch(segment):
        return segment
    digits = hashlib.sha256(unicodedata.normalize("NFC", text).encode("utf-8", "replace")).hexdigest()[:8]
    return f"{segment[:_KEPT].rstrip('-')}-{digits}".lstrip("-")


def _spelled(char: str) -> str | None:
    """A character in ASCII, apart from signs, which become dashes; None for a letter that has no spelling."""
    if char.isascii():
        return char
    apart = "".join(one for one in unicodedata.normalize("NFKD", char) if not unicodedata.combining(one))
    plain = apart.translate(_LETTERS)
    letters = [one for one in plain if one.isalnum()]
    if letters and all(map(str.isascii, letters)):
        return plain
    return _of_another_script(char)


@lru_cache(maxsize=8192)
def _of_another_script(char: str) -> str | None:
    from anyascii import anyascii  # noqa: PLC0415 - few jobs need it

    spelled, kind, name = anyascii(char), unicodedata.category(char), unicodedata.name(char, "")
    if name.startswith("COMBINING"):  # an accent that stands alone
        return "" if unicodedata.combining(char) else "-"
    if kind[0] in "LMN" or name.startswith("REGIONAL INDICATOR"):  # two of those make a flag
        return None if not spelled and name.startswith(_UNREAD) else spelled  # some letters are silent
    return spelled if spelled[:1] == spelled[-1:] == ":" else "-"  # the name of an emoji; other signs are none
