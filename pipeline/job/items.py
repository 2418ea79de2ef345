"""The items of a job: rows with an id, after rename, fill, text, where, id, unique and limit, in that order."""

from __future__ import annotations

import csv
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import JobError, Problem
from pipeline.job import conditions, sources
from pipeline.job.columns import Columns, Known, Wrong
from pipeline.job.dependencies import Dependencies
from pipeline.job.globs import Folders
from pipeline.job.lines import Header, Line
from pipeline.job.placeholders import EmptySlotError, Template, fill
from pipeline.job.plain import plain
from pipeline.job.problems import Place, Problems, is_control, quoted
from pipeline.job.unique import mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pipeline.job.conditions import Condition
    from pipeline.job.placeholders import Bound
    from pipeline.job.yaml12 import List

__all__ = ["KINDS", "Columns", "Items", "OddError", "Page", "Pages", "Row", "rows"]

KINDS = ("csv", "tsv", "jsonl", "glob")


@dataclass(frozen=True, slots=True)
class Items:
    """Where the items of a job come from, and which of them are wanted."""

    kind: str
    """`one`, `list` or one of `KINDS`; `none` for what can be none of them, which has no rows to read."""
    place: Place
    path: str = ""
    rows: List | None = None
    id: str | None = None
    id_template: Template | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    fill: tuple[str, ...] = ()
    """Columns whose empty cells take the value above, by name after `rename`."""
    text: tuple[str, ...] = ()
    """Columns of HTML, by name after `rename`."""
    where: tuple[Condition, ...] = ()
    unique: bool = False
    limit: int | None = None
    delimiter: str = ","
    encoding: str = "utf-8"
    folder: Path | None = None
    """What `path` is relative to; None: the folder of the job manifest."""
    said: Mapping[str, Place] = field(default_factory=dict)
    """Where options stand in the manifest, such as `fill`, or `fill.Title` for one name there."""

    def file(self, folder: Path) -> Path:
        """The catalog; `folder` is that of the job manifest."""
        return (self.folder or folder) / self.path

    @property
    def is_images(self) -> bool:
        return self.kind == "glob"


class Row(NamedTuple):
    """A row that is wanted, and what it is called."""

    id: str
    line: Line
    columns: Columns

    @property
    def where(self) -> str:
        return f"{self.line.file}:{self.line.number}" if self.line.number else self.line.file

    def problem(self, message: str, hint: str = "", at: int | None = None) -> Problem:
        """What is wrong with this row, or with one cell of it, by its index."""
        return self.line.problem(message, hint, at)

    def place(self, at: int | None = None) -> Place:
        """Where a cell of this row stands, or where the row starts."""
        return self.line.place(at)

    def header_place(self, at: int) -> Place:
        """Where the name of a column stands: in the header of a CSV, else in this very row."""
        return self.line.name_place(at)


def rows(
    items: Items, *, job: str, folder: Path, problems: Problems, dependencies: Dependencies | None = None
) -> Iterator[Row]:
    """The rows of a job in their order. What is wrong goes to `problems`; the rest goes on where it can.

    `folder` is that of the job manifest: `file` of an image leads there from it.
    """
    known = Known(items)
    try:
        lines = _lines(items, folder, dependencies or Dependencies())
        named = _named(items, job, known, lines, problems)
        for number, row in enumerate(_unique(named) if items.unique else named, 1):
            yield row
            if number == items.limit:
                _look_on(known, lines)
                break
        for problem in known.unmet():
            problems.add(problem)
    except JobError as error:
        problems.extend(error.problems)


class OddError(Exception):
    """There is something to tell of a part of a catalog, or it is not all plain: that is left to the whole."""


class Page(NamedTuple):
    """Some rows of a table that are wanted, by themselves."""

    cells: list[list[str]]
    columns: Columns
    header: Header

    def row(self, number: int) -> Row:
        """One of them; raises `OddError` where it has no id. Which line it is in is not known."""
        header = self.header
        line = Line(header.file, 0, header.names, self.cells[number], origin=header)
        try:
            return Row(_id(self.columns, line), line, self.columns)
        except _IdError:
            raise OddError from None

    def ids(self) -> list[str] | None:
        """The ids of all of them; None where that is to be told row by row."""
        at = self.columns.id_at
        if at is None or self.columns.id_bound is not None:
            return None
        texts = [cells[at] for cells in self.cells]
        joined = "".join(texts)
        if not (joined.isascii() and joined.isprintable()):
            return None
        ids = [*map(str.strip, texts)]
        return ids if all(ids) else None


class Pages:
    """Reads parts of a CSV or TSV file of which each row stands for itself.

    Raises `OddError` for whatever there is to tell.
    """

    def __init__(self, items: Items, folder: Path) -> None:
        self._path, self._items, known, problems = items.file(folder), items, Known(items), Problems()
        table = sources.table(self._path, items.place, delimiter=items.delimiter, encoding=items.encoding)
        try:
            header = next(table)
            assert isinstance(header, Header)
            problems.extend(known.of_header(header))
            problems.check()
        except JobError:
            raise OddError from None
        columns = known.of(header.names)
        assert isinstance(columns, Columns)  # or there was a problem
        self._header, self._columns = header, columns

    def of(self, span: tuple[int, int], most: int) -> Iterator[Page]:
        """The rows in these bytes of the file, so many at a time."""
        try:
            count, delimiter = len(self._header.names), self._items.delimiter
            for cells in sources.pages(self._path, span, delimiter=delimiter, columns=count, most=most):
                yield Page(self._wanted(cells), self._columns, self._header)
        except (csv.Error, OSError, ValueError):
            raise OddError from None

    def _wanted(self, rows: list[list[str]]) -> list[list[str]]:
        for at, condition in self._columns.tests:
            assert isinstance(at, int)  # a table has the columns that are asked for, or that was a problem
            rows = [cells for cells in rows if conditions.holds(condition, cells[at])]
        return rows


def _lines(items: Items, folder: Path, dependencies: Dependencies) -> Iterator[Header | Line | Problem]:
    if items.kind == "one":
        return iter([Line(items.place.source.file, items.place.line, (), (), origin=items.place)])
    if items.kind == "list":
        assert items.rows is not None
        return sources.written_rows(items.rows)
    if items.kind == "glob":
        base, folders = items.folder or folder, Folders(dependencies)
        return sources.images(base, items.path, items.place, above=folder, folders=folders)
    path = items.file(folder)
    dependencies.add(path)
    if items.kind == "jsonl":
        return sources.json_lines(path, items.place, encoding=items.encoding)
    return sources.table(path, items.place, delimiter=items.delimiter, encoding=items.encoding)


def _look_on(known: Known, lines: Iterator[Header | Line | Problem]) -> None:
    """Read on behind the limit, but only to know whether names that no row had so far are there at all."""
    while known.misses_some and (line := next(lines, None)) is not None:
        if isinstance(line, Line):
            known.see(line.names)


def _named(
    items: Items, job: str, known: Known, lines: Iterator[Header | Line | Problem], problems: Problems
) -> Iterator[Row]:
    """Rows that pass `where`, with their ids."""
    cleaner = _Cleaner(known) if items.fill or items.text else None
    names: tuple[str, ...] | None = None
    columns: Columns | list[Wrong] = []
    is_one = items.kind == "one"
    for line in lines:
        if not isinstance(line, Line):
            problems.extend(known.of_header(line) if isinstance(line, Header) else [line])
            continue
        if line.names is not names:
            names, columns = line.names, known.of(line.names)
        if not isinstance(columns, Columns):
            _tell(columns, line, known, problems)
            continue
        row, of_row = cleaner.clean(line, columns) if cleaner else (line, columns)
        if of_row.tests and not _passes(of_row, row):
            continue
        try:
            yield Row._make((job if is_one else _id(of_row, row), row, of_row))
        except _IdError as error:
            known.tell(row.problem(str(error), error.hint, error.at), error.waits_for, problems)


def _tell(wrongs: list[Wrong], line: Line, known: Known, problems: Problems) -> None:
    """Note what is wrong with the columns of a row that names its own."""
    for wrong in wrongs:
        at = line.place() if wrong.at is None else line.name_place(wrong.at)
        known.tell(at.problem(wrong.message, wrong.hint), wrong.waits_for, problems)


class _Cleaner:
    """Fills empty cells from the row above, and reads HTML as text. Knows one row at a time."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._first = ("", "")
        self._above: dict[str, tuple[str, str]] = {}
        """By column of `fill`: its name in the file, and the last value, in rows of the same first column."""
        self._read: dict[int, tuple[str, str]] = {}
        """The last cell of HTML of each column, and its text: what was filled in is not read again."""

    def clean(self, line: Line, columns: Columns) -> tuple[Line, Columns]:
        """A row with its cells filled and read. One that lacks a field that is filled gets it, and so other columns."""
        if not line.cells:
            return line, columns
        cells = list(line.cells)
        added = self._fill(line, columns, cells)
        line = line._replace(names=(*line.names, *added), cells=cells)
        of_row = self._known.of(line.names) if added else columns
        assert isinstance(of_row, Columns)  # what was added is none of those that were there
        for at in of_row.texts:
            if self._read.get(at, ("", ""))[0] != cells[at]:
                self._read[at] = cells[at], plain(cells[at])
            cells[at] = self._read[at][1] if cells[at] else ""
        return line, of_row

    def _fill(self, line: Line, columns: Columns, cells: list[str]) -> list[str]:
        """Fill in what is empty; the names of fields that were added behind the others."""
        first = columns.folded[0], cells[0].strip()
        if first != self._first or not first[1]:
            self._first, self._above = first, {}
        added = []
        for key, at in columns.fills:
            value = "" if at is None else cells[at]
            if value and not value.isspace():
                self._above[key] = line.names[at or 0], value
            elif key in self._above:
                name, above = self._above[key]
                if at is None:
                    added.append(name)
                    cells.append(above)
                else:
                    cells[at] = above
        return added


def _passes(columns: Columns, line: Line) -> bool:
    for at, condition in columns.tests:
        value = line.cells[at] if isinstance(at, int) else line.facts.get(at, "")
        if not conditions.holds(condition, value):
            return False
    return True


class _IdError(ValueError):
    """A row has no id that can be used."""

    def __init__(self, message: str, at: int | None, waits_for: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.at = at
        self.waits_for = waits_for
        self.hint = hint


def _id(columns: Columns, line: Line) -> str:
    """The id of a row; raises `_IdError` in words."""
    if columns.id_bound is not None:
        text = _composed(columns, columns.id_bound, line)
    else:
        text = line.id if columns.id_at is None else line.cells[columns.id_at]
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", text)
        if any(map(is_control, text.strip())):
            raise _IdError(f"the id {quoted(text.strip())} holds a control character", columns.id_at)
    if not (text := text.strip()):
        column = "" if columns.id_at is None else f" (column {quoted(columns.names[columns.id_at])})"
        raise _IdError(f"the id{column} is empty", columns.id_at, hint="delete the row, or give it an id")
    return text


def _composed(columns: Columns, bound: Bound, line: Line) -> str:
    try:
        return fill(bound, line.cells, line.facts)
    except EmptySlotError as error:
        word, name = error.slot.word, error.slot.name
        at = columns.folded.index(name) if name in columns.folded else None
        if error.near is None:
            raise _IdError(f"id: [{word}] is empty", at) from None
        raise _IdError(f"id: [{word}] is unknown{error.near}", None, name) from None


def _unique(named: Iterator[Row]) -> Iterator[Row]:
    """The first row of each id."""
    seen: set[int] = set()
    for row in named:
        number = mark(row.id)
        if number not in seen:
            seen.add(number)
            yield row
