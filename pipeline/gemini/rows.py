"""A map of a registry file, read key by key: each reading says what kind it wants, and where it did not find it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

T = TypeVar("T")

ANY = re.compile(r"[^\x00-\x1f\x7f]*")
_MONEY = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_KINDS: Mapping[type, str] = {
    str: "text in quotes",
    int: "a whole number",
    bool: "true or false",
    date: "a date like 2026-10-09",
    list: "a list",
    dict: "a map",
}


class MalformedError(Exception):
    """Where, and what is wrong there."""


@dataclass(frozen=True, slots=True)
class Row:
    """A map of a file, and the words that lead to it; every reading of it checks the kind."""

    where: str
    values: Mapping[str, Any]

    def error(self, key: str, what: str) -> MalformedError:
        return MalformedError(f"{self.where}: {key}: {what}" if self.where else f"{key}: {what}")

    def get(self, key: str, kind: type[T]) -> T:
        value = self.values.get(key)
        # A bool is an int to Python, and a moment a date.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or isinstance(value, datetime):
            raise self.error(key, f"must be {_KINDS[kind]}, not {shown(value)}")
        return value

    def maybe(self, key: str, kind: type[T]) -> T | None:
        return None if self.values.get(key) is None else self.get(key, kind)

    def text(self, key: str, pattern: re.Pattern[str] = ANY) -> str:
        value = self.get(key, str)
        if not pattern.fullmatch(value):
            raise self.error(key, f"{shown(value)} is not allowed here")
        return value

    def texts(self, key: str, pattern: re.Pattern[str] = ANY) -> tuple[str, ...]:
        values = self.get(key, list) if self.values.get(key) is not None else []
        below = Row(f"{self.where}: {key}" if self.where else key, {str(n): value for n, value in enumerate(values)})
        return tuple(below.text(number, pattern) for number in below.values)

    def map(self, key: str) -> Mapping[Any, Any]:
        return self.get(key, dict)

    def row(self, key: str) -> Row:
        return Row(f"{self.where}: {key}", self.map(key))

    def number(self, key: str, most: int = 10**9) -> int:
        value = self.get(key, int)
        if not 0 <= value <= most:  # more is surely a slip
            raise self.error(key, f"{shown(value)} is out of range")
        return value

    def numbers(self) -> Mapping[str, int]:
        return {key: self.number(key) for key in self.values}

    def money(self, key: str) -> Decimal:
        return Decimal(self.text(key, _MONEY))

    def moneys(self, first: str, second: str, third: str) -> tuple[Decimal, Decimal, Decimal]:
        return self.money(first), self.money(second), self.money(third)


def refuse_unknown(where: str, values: Mapping[Any, Any], known: Collection[str], *, extensions: bool = False) -> None:
    for key in values:
        if key not in known and not (extensions and str(key).startswith("x-")):
            from difflib import get_close_matches  # noqa: PLC0415 - only for a slip

            near = get_close_matches(str(key), sorted(known), 1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            raise MalformedError(f"{where + ': ' if where else ''}unknown key {shown(key)}{guess}")


def shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "a map" if isinstance(value, dict) else "a list"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"  # noqa: PLR2004 - a line of a terminal
