"""Texts with `[placeholders]`: split once, bound once to the columns of a catalog, filled in row by row.

A value that is put in is never read again: brackets in data stay brackets.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pipeline.job.problems import meant, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.job.tables import Table

BUILT_INS = ("id", "item", "job", "template", "model", "aspect", "size", "sample", "turn")
OF_IMAGES = ("file", "stem", "name", "folder")
"""Built-ins of an item that is an image."""

_TOKEN = re.compile(r"\[\[(?P<literal>[^\[\]]*)\]\]|\[(?P<name>[^\[\]|]*)(?:\|(?P<fallback>[^\[\]]*))?\]|(?P<stray>\[)")
MAX_SLOTS = 1_000
"""Placeholders of one text."""
_SAME = {"aspect_ratio": "aspect"}


@lru_cache(maxsize=4096)
def fold(name: str) -> str:
    """A name as names are compared: case-folded, with every run of other than letters and digits as one `_`."""
    marked = "".join(char if _is_letter(char) else " " for char in unicodedata.normalize("NFC", name.casefold()))
    folded = "_".join(marked.split()) or name.strip()
    return _SAME.get(folded, folded)


def _is_letter(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char).startswith("M")  # marks: vowel signs are part of a word


class Slot(NamedTuple):
    """A place to fill in."""

    name: str
    word: str
    """As written, for messages."""
    fallback: str | None


@dataclass(frozen=True, slots=True)
class Template:
    """A text split at its placeholders."""

    parts: tuple[str | Slot, ...]

    @property
    def slots(self) -> Iterator[Slot]:
        return (part for part in self.parts if isinstance(part, Slot))

    @property
    def names(self) -> set[str]:
        return {slot.name for slot in self.slots}

    @property
    def literal(self) -> str | None:
        """The whole text, when nothing is to be filled in."""
        return None if any(self.slots) else "".join(part for part in self.parts if isinstance(part, str))


class BracketError(ValueError):
    """A bracket that makes no placeholder: the message, the hint, and where in the text."""

    def __init__(self, message: str, hint: str, index: int) -> None:
        super().__init__(message)
        self.hint = hint
        self.index = index


def split(text: str) -> Template:
    """Split a text at its placeholders; raises `BracketError` for a bracket that makes none."""
    parts: list[str | Slot] = []
    end = count = 0
    for token in _TOKEN.finditer(text):
        parts.append(text[end : token.start()])
        parts.append(_part(token))
        count += isinstance(parts[-1], Slot)
        if count > MAX_SLOTS:
            message = f"more than {MAX_SLOTS:,} placeholders in one text"
            raise BracketError(message, "write [[text]] for brackets that are meant as such", token.start())
        end = token.end()
    parts.append(text[end:])
    return Template(tuple(part for part in parts if part != ""))


def _part(token: re.Match[str]) -> str | Slot:
    if token["literal"] is not None:
        return f"[{token['literal']}]"
    if token["stray"]:
        raise BracketError(
            "a '[' that is never closed", "write [name] for a value, [[text]] for brackets", token.start()
        )
    word = " ".join(token["name"].split())
    if not word:
        raise BracketError("an empty placeholder []", "write [[]] for the brackets themselves", token.start())
    if word.startswith("@"):
        if not fold(word[1:]).strip("@"):
            raise BracketError(
                "an empty label [@]", "write [@label], and images: [{file: …, as: label}]", token.start()
            )
        return Slot(f"@{fold(word[1:])}", word, token["fallback"])
    return Slot(fold(word), word, token["fallback"])


class Scope(NamedTuple):
    """What placeholders can be, apart from the fields of a row, in the order it is looked up."""

    fixed: Mapping[str, str | None]
    """Axes, vars, template defaults and built-ins by folded name; None is a variable that must be given."""
    moving: frozenset[str]
    """Built-ins and labels of images, which differ from request to request."""
    tables: Mapping[str, Table] = {}
    """Tables of the job by folded name; they come before defaults of templates and built-ins."""
    strong: frozenset[str] = frozenset()
    """Those of `fixed` that come before tables: axes and vars."""


class Field(NamedTuple):
    """A slot bound to a column of the row."""

    at: int
    slot: Slot


class Moving(NamedTuple):
    """A slot bound to a built-in that differs from request to request."""

    slot: Slot


class Missing(NamedTuple):
    """A slot that nothing fills."""

    slot: Slot
    near: str | None
    """Did-you-mean when the name is unknown; None when it is known and empty."""


class Looked(NamedTuple):
    """A slot bound to a column of a table, and to what finds the row there."""

    table: Table
    at: int
    key: tuple[Part, ...]
    slot: Slot


Part: TypeAlias = "str | Field | Moving | Missing | Looked"
Bound: TypeAlias = tuple[Part, ...]


def bind(template: Template, columns: Sequence[str], scope: Scope) -> Bound:
    """Decide once where each placeholder of a template gets its value from, for rows with these columns."""
    index = {name: number for number, name in enumerate(columns)}
    bound: list[Part] = []
    for part in template.parts:
        new = part if isinstance(part, str) else _bound(part, index, scope)
        if isinstance(new, str) and bound and isinstance(bound[-1], str):
            bound[-1] += new
        else:
            bound.append(new)
    return tuple(bound)


def _bound(slot: Slot, index: Mapping[str, int], scope: Scope) -> Part:
    if slot.name in index:
        return Field(index[slot.name], slot)
    if slot.name not in scope.strong and (looked := _looked_up(slot, index, scope)):
        return looked
    value = scope.fixed.get(slot.name)
    if value is not None and value.strip():
        return value
    if value is None and slot.name in scope.moving:
        return Moving(slot)
    if slot.fallback is not None:
        return slot.fallback
    return Missing(slot, _near(slot, index, scope) if value is None else None)


def _looked_up(slot: Slot, index: Mapping[str, int], scope: Scope) -> Part | None:
    """A slot `[t.column]`, where `t` is a table; None where it is not."""
    name, dot, column = slot.word.partition(".")
    table = scope.tables.get(fold(name)) if dot else None
    if table is None:
        return None
    at = table.at(column)
    if at is None:
        near = meant(column, table.columns) or f"; its columns: {', '.join(table.columns[:12])}"
        return Missing(slot, f": table {quoted(table.name)} has no column {quoted(column)}{near}")
    for word in table.on:
        if not (word in index or word in scope.fixed or word in scope.moving):
            why = f": its table is found by {quoted(word)}, and no field, axis or var has that name"
            return Missing(slot, why)
    key = tuple(_bound(Slot(word, word, ""), index, scope) for word in table.on)
    return Looked(table, at, key, slot)


def _near(slot: Slot, index: Mapping[str, int], scope: Scope) -> str:
    if slot.name.startswith("@"):
        labels = [name for name in scope.moving if name.startswith("@")]
        return meant(slot.name, labels) or "; an image gets a label with as: in images"
    names = [name for name in {*index, *scope.fixed, *scope.moving} - {slot.name, ""} if name[0] not in "=@"]
    return meant(slot.name, sorted(names))


class EmptySlotError(ValueError):
    """A placeholder that has no value in this row."""

    def __init__(self, slot: Slot, near: str | None, why: str = "", at: int | None = None) -> None:
        super().__init__(slot.word)
        self.slot = slot
        self.near = near
        """What follows the name when it is unknown, such as a near one; None when it is known and empty."""
        self.why = why
        """Why it is empty, where that is not plain."""
        self.at = at
        """Which cell of the row is empty."""


def fill(bound: Bound, cells: Sequence[str], moving: Mapping[str, str]) -> str:
    """The text with the values of one row; raises `EmptySlotError` for the first that has none."""
    return "".join(part if type(part) is str else value_of(part, cells, moving) for part in bound)


def value_of(part: Part, cells: Sequence[str], moving: Mapping[str, str]) -> str:
    """The value of one part of a bound template."""
    if isinstance(part, str):
        return part
    if isinstance(part, Missing):
        raise EmptySlotError(part.slot, part.near)
    if isinstance(part, Looked):
        return _looked(part, cells, moving)
    value = cells[part.at] if isinstance(part, Field) else moving.get(part.slot.name, "")
    if value and not value.isspace():
        return value
    if part.slot.fallback is None:
        raise EmptySlotError(part.slot, None, at=part.at if isinstance(part, Field) else None)
    return part.slot.fallback


def _looked(part: Looked, cells: Sequence[str], moving: Mapping[str, str]) -> str:
    key = tuple(value_of(one, cells, moving) for one in part.key)
    value = part.table.value(key, part.at)
    if value and not value.isspace():
        return value
    if part.slot.fallback is None:
        asked = ", ".join(f"{name} {quoted(text)}" for name, text in zip(part.table.on, key, strict=True))
        column = quoted(part.table.columns[part.at])
        why = f"has no {column}" if part.table.has(key) else "has no row"
        raise EmptySlotError(part.slot, None, f"table {quoted(part.table.name)} {why} for {asked}")
    return part.slot.fallback


def folded(names: Iterable[str]) -> tuple[str, ...]:
    """Names as they are compared, in their order."""
    return tuple(map(fold, names))
