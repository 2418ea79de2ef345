"""JSON as the standard library reads and writes it, to the letter, and several times as fast where that is certain."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

_DEEPEST = 500
"""So many brackets may be nested; more are left to the standard library, which has a limit of its own."""
_DIGITS = bytes(48 if 48 <= byte <= 57 else 32 for byte in range(256))  # noqa: PLR2004 - 0 for a digit, blank else
_LONG = b"0" * 19
"""A whole number of so many digits may need more than 64 bits."""
_TINY = re.compile(rb"[:,\[]-?(?:0\.0000|[0-9.]+e-)|\A-?(?:0\.0000|[0-9.]+e-)")
"""Numbers that are not written in one way by all: 0.00001 here is 1e-05 there."""


def loads(text: bytes | str) -> Any:
    """What `json.loads` makes of it; raises what that raises."""
    try:
        encoded = text.encode() if isinstance(text, str) else text
        if encoded.count(b"[") + encoded.count(b"{") <= _DEEPEST and _LONG not in encoded.translate(_DIGITS):
            return orjson.loads(encoded)
    except ValueError:  # half a surrogate pair, a number that is none, another encoding; or it is no JSON at all
        pass
    return json.loads(text)


def dumps(value: Any) -> str:
    """What `json.dumps` makes of it with all characters as they are and no blanks.

    No number in it is infinite or none. A text that has half a surrogate pair is ASCII, with escapes. Raises what that
    raises.
    """
    try:
        quick = orjson.dumps(value)
        if not ((b"e-" in quick or b"0.0000" in quick) and _TINY.search(quick)):
            return quick.decode()
    except TypeError:  # half a surrogate pair, more than 64 bits, a key that is no text; or nothing that JSON has
        pass
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, separators=(",", ":"))
    return text
