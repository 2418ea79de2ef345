"""JSON as the service may send it, read without trust: either spelling, anything missing, anything of another kind."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_COUNTED = 100_000_000


def field(mapping: Mapping[str, Any], name: str) -> Any:
    """A field in either spelling, `finishReason` or `finish_reason`."""
    return mapping[name] if name in mapping else mapping.get(_snake(name))


@cache
def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda found: f"_{found[1].lower()}", name)


def as_map(value: Any) -> Mapping[str, Any]:
    """`value`, or nothing at all when it is no object."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """`value`, or nothing at all when it is no list."""
    return value if isinstance(value, list) else []


def first(value: Any) -> Mapping[str, Any]:
    """The first object of a list."""
    return as_map(next(iter(as_list(value)), None))


def words(value: Any, longest: int = 500) -> str:
    """Text of the service as it can be stored and shown: no lone surrogates, cut where it is too long."""
    return _storable(_text(value)[:longest]).strip()


def whole(value: Any) -> str:
    """Text of the service, all of it and with its white space, without lone surrogates."""
    return _storable(_text(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def word(value: Any) -> str | None:
    """The same as `words`, and nothing for no text."""
    return words(value) or None


def count(value: Any) -> int:
    """A number or its text; what cannot be one counts nothing, because a count is no reason to lose an image."""
    try:
        return min(max(int(value), 0), _MOST_COUNTED)
    except (TypeError, ValueError, OverflowError):
        return 0
