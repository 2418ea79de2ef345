"""A row of a catalog as it was read, and where its cells stand; that is looked for only when something is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

from pipeline.job.problems import Place, Source
from pipeline.job.yaml12 import Map, Node

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.errors import Problem

_BREAK = re.compile("\r\n|\r|\n")
_SPACE = re.compile(r"[ \t\n\r]*+")
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_KEPT = 200
"""Characters of a line that are kept after the column, for the excerpt."""
_MOST = 100_000
"""Columns from which on no excerpt is kept: fifty problems must not hold fifty lines of megabytes."""


class Header(NamedTuple):
    """The first row of a CSV, which names its columns."""

    file: str
    names: tuple[str, ...]
    text: str
    delimiter: str

    def name_place(self, at: int) -> Place:
        """Where the name of a column stands."""
        return place_in(self.file, 1, self.text, _nth(cell_starts(self.text, self.delimiter), at))


class Line(NamedTuple):
    """One row as it was read; `names` is the same object for rows with the same columns."""

    file: str
    number: int
    """Of the line in which the row starts; 0 when the row is a file itself."""
    names: tuple[str, ...]
    cells: Sequence[str]
    text: str = ""
    """The row as it stands in its file."""
    origin: Header | Node | Place | None = None
    """The header of a CSV, or the node of a row in the manifest, or the place that stands for the only one."""
    set: Map | None = None
    """The settings of this item alone, in a list of the manifest."""
    facts: Mapping[str, str] = {}
    """The built-ins of an image."""
    id: str = ""
    """Given by the source itself: the path of an image."""

    def place(self, at: int | None = None) -> Place:
        """Where a cell of this row starts, by its index; without one, where the row starts."""
        if isinstance(self.origin, Node):
            is_cell = at is not None and isinstance(self.origin.value, Map)
            return self.origin.value.at(self.names[at or 0]) if is_cell else self.origin.place
        if isinstance(self.origin, Place):
            return self.origin
        if not self.number:
            return Place(Source(self.file))
        if at is None:
            return place_in(self.file, self.number, self.text)
        if self.origin is not None:
            starts = cell_starts(self.text, self.origin.delimiter)
        else:
            starts = (value for _name, value in member_starts(self.text))
        return place_in(self.file, self.number, self.text, _nth(starts, at))

    def name_place(self, at: int) -> Place:
        """Where the name of a column stands: in the header, or in this very row when each row names its fields."""
        if isinstance(self.origin, Header):
            return self.origin.name_place(at)
        if isinstance(self.origin, Node):
            is_map = isinstance(self.origin.value, Map)
            return self.origin.value.keys_at[self.names[at]] if is_map else self.origin.place
        if isinstance(self.origin, Place):
            return self.origin
        starts = (name for name, _value in member_starts(self.text))
        return place_in(self.file, self.number, self.text, _nth(starts, at))

    def problem(self, message: str, hint: str = "", at: int | None = None) -> Problem:
        """What is wrong with this row, or with one cell of it."""
        return self.place(at).problem(message, hint)


def place_in(file: str, number: int, text: str, index: int = 0) -> Place:
    """The place of a character in a text that starts with line `number` of a file."""
    start = 0
    for found in _BREAK.finditer(text, 0, index):
        number += 1
        start = found.end()
    column = index - start + 1
    kept = text[start : start + column + _KEPT] if column < _MOST else ""
    return Place(Source(file, _Known(number, _BREAK.split(kept, maxsplit=1)[0])), number, column)


def cell_starts(text: str, delimiter: str) -> Iterator[int]:
    """Where each cell of a row of CSV starts; ends early at one whose quotes are wrong."""
    index = 0
    while True:
        yield index
        end = _after_quotes(text, index) if text.startswith('"', index) else text.find(delimiter, index)
        if end < 0 or not text.startswith(delimiter, end):
            return
        index = end + 1


def _after_quotes(text: str, index: int) -> int:
    """The index after the quote that closes the one at `index`; -1 when none does."""
    end = text.find('"', index + 1)
    while end >= 0 and text.startswith('"', end + 1):
        end = text.find('"', end + 2)
    return end + 1 if end >= 0 else -1


def member_starts(text: str) -> Iterator[tuple[int, int]]:
    """Where the name and the value of each member of a JSON object start; ends early where the text is no JSON."""
    index = _after_space(text, 0) + 1
    while True:
        name = _after_space(text, index)
        try:
            end = _after_space(text, _DECODER.raw_decode(text, name)[1])
            value = _after_space(text, end + 1)
            yield name, value
            end = _after_space(text, _DECODER.raw_decode(text, value)[1])
        except (ValueError, RecursionError):
            return
        if not text.startswith(",", end):
            return
        index = end + 1


def _after_space(text: str, index: int) -> int:
    found = _SPACE.match(text, index)
    return found.end() if found else index


def _nth(starts: Iterator[int], at: int) -> int:
    """The start of a cell; 0, where the row starts, for one that does not stand there."""
    return next((start for number, start in enumerate(starts) if number == at), 0)


class _Known(Sequence[str]):
    """The lines of a file up to the one that is known: the others are empty."""

    def __init__(self, number: int, text: str) -> None:
        self._number = number
        self._text = text

    def __len__(self) -> int:
        return self._number

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._number))]
        if not -self._number <= index < self._number:
            raise IndexError(index)
        return self._text if index in {-1, self._number - 1} else ""
