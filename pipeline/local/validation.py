"""JSON held against the tables of `messages`, as strictly as the service does it, in its words.

Both spellings of a name are taken (`imageConfig`, `image_config`) at each level on its own, whole numbers as
numbers or as text, base64 in either alphabet. What comes back is in one spelling, with bytes decoded.
"""

from __future__ import annotations

import binascii
import json
import re
from typing import TYPE_CHECKING, Any

from .messages import ENUMS, MESSAGES, PART_KINDS
from .refusals import RefusalError

if TYPE_CHECKING:
    from collections.abc import Callable

_TYPES = "type.googleapis.com/google.ai.generativelanguage.v1beta."
_SHOWN = 80
_MISSING = object()


def checked(message: str, value: Any, place: str = "") -> dict[str, Any]:
    """The message in one spelling, or a refusal that names everything wrong with it."""
    check = _Check()
    result = check.kind(message, value, place)
    if check.violations:
        raise RefusalError(
            "INVALID_ARGUMENT",
            "\n".join(words for _, words in check.violations),
            details=[
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [
                        {**({"field": where} if where else {}), "description": words}
                        for where, words in check.violations
                    ],
                }
            ],
        )
    assert isinstance(result, dict)
    return result


def parsed(body: bytes) -> Any:
    """The JSON of a request's body."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusalError("INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from None


class _Check:
    """One walk through a message; collects what is wrong."""

    def __init__(self) -> None:
        self.violations: list[tuple[str, str]] = []

    def kind(self, kind: str, value: Any, place: str) -> Any:
        if kind.startswith("["):
            return self._list(kind[1:-1], value, place)
        if kind in MESSAGES:
            return self._message(kind, value, place)
        if kind in ENUMS:
            return value if value in ENUMS[kind] else self._wrong(place, _TYPES + kind, value)
        result = _SCALARS[kind](value)
        return self._wrong(place, _names(kind), value) if result is _MISSING else result

    def _message(self, kind: str, value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            return self._wrong(place, _TYPES + kind, value)
        fields: dict[str, Any] = {}
        for name, given in value.items():
            field = _camel(name)
            if field not in MESSAGES[kind]:
                self._complain(place, f'Unknown name "{name}"{_at(place)}: Cannot find field.')
            elif field in fields:
                self._complain(place, f'Unknown name "{name}"{_at(place)}: the field is set twice.')
            elif given is not None:  # null is the same as not there
                fields[field] = self.kind(MESSAGES[kind][field], given, _inside(place, field))
        if kind == "Part" and sum(name in fields for name in PART_KINDS) > 1:
            _, second = [name for name in fields if name in PART_KINDS][:2]
            words = f"Invalid value{_at(place)} (oneof), oneof field 'data' is already set. Cannot set '{second}'"
            self.violations.append((place, words))
        return fields

    def _list(self, kind: str, value: Any, place: str) -> Any:
        if not isinstance(value, list):
            if kind not in MESSAGES or not isinstance(value, dict):
                return self._wrong(place, _names(kind), value)
            return [self.kind(kind, value, f"{place}[0]")]  # a lone message stands for a list of one
        return [self.kind(kind, item, f"{place}[{index}]") for index, item in enumerate(value)]

    def _wrong(self, place: str, expected: str, value: Any) -> None:
        shown = json.dumps(value)
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
        self.violations.append((place, f"Invalid value{_at(place)} ({expected}), {shown}"))

    def _complain(self, place: str, words: str) -> None:
        self.violations.append((place, f"Invalid JSON payload received. {words}"))


def _at(place: str) -> str:
    return f" at '{place}'" if place else ""


def _camel(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])_([a-z0-9])", lambda match: match[1].upper(), name)


def _inside(place: str, field: str) -> str:
    snake = re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", field)
    return f"{place}.{snake}" if place else snake


def _names(kind: str) -> str:
    if kind in MESSAGES or kind in ENUMS:
        return _TYPES + kind
    return {"number": "TYPE_FLOAT", "struct": "type.googleapis.com/google.protobuf.Struct"}.get(
        kind, f"TYPE_{kind.upper()}"
    )


def _string(value: Any) -> Any:
    if not isinstance(value, str):
        return _MISSING
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return _MISSING
    return value


def _integer(bits: int) -> Callable[[Any], Any]:
    def whole(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return _MISSING
        try:
            number = int(value)
        except (ValueError, OverflowError):
            return _MISSING
        exact = isinstance(value, str) or number == value
        return number if exact and -(1 << bits - 1) <= number < 1 << bits - 1 else _MISSING

    return whole


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return _MISSING
    try:
        return float(value)
    except (ValueError, OverflowError):
        return _MISSING


def _bytes(value: Any) -> Any:
    if not isinstance(value, str) or not value.isascii():
        return _MISSING
    text = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True) if text else b""
    except (binascii.Error, ValueError):
        return _MISSING


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "string": _string,
    "bool": lambda value: value if isinstance(value, bool) else _MISSING,
    "int32": _integer(32),
    "int64": _integer(64),
    "number": _number,
    "bytes": _bytes,
    "struct": lambda value: value if isinstance(value, dict) else _MISSING,
    "any": lambda value: value,
}
