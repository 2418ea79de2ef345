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


@lru_cache(maxsize=8192)
def slug(text: str) -> str:
    """One segment of a path: lower-case ASCII letters, digits and single dashes, at most 80 bytes.

    A text that loses letters on the way (one in a script that has no table here), or that ends up empty
    or reserved, gets eight digits of its hash, so that different texts do not meet in one file.
    """
    if text.isascii():
        plain, lost = text.lower().replace(":", "x"), False
    else:
        plain, lost = _transliterated(text)
    segment = _OTHER.sub("-", plain).strip("-")
    if segment and not lost and len(segment) <= MAX_SEGMENT and not _WINDOWS.fullmatch(segment):
        return segment
    digits = hashlib.sha256(unicodedata.normalize("NFC", text).encode("utf-8", "replace")).hexdigest()[:8]
    return f"{segment[:_KEPT].rstrip('-')}-{digits}".lstrip("-")


def _transliterated(text: str) -> tuple[str, bool]:
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", text).translate(_LETTERS))
    plain = "".join(char for char in apart if not unicodedata.combining(char)).translate(_LETTERS).lower()
    return plain, any(char.isalnum() and not char.isascii() for char in plain)
