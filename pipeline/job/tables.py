"""Tables that values are looked up in: files that are held whole, and so bounded, with one row for each key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import JobError, Problem
from pipeline.job import sources
from pipeline.job.conditions import compared
from pipeline.job.lines import Header, Line
from pipeline.job.placeholders import fold
from pipeline.job.problems import MOST, Problems, file_name, listed, meant, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pipeline.job.problems import Place

MAX_BYTES = 64_000_000
MAX_ROWS = 1_000_000
_SHOWN = 12
_ENOUGH = 1000
"""Rows that are wrong, after which no more are read."""
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_END = b"\0"
"""Between the cells of a row: no catalog holds it."""


class Table:
    """Rows that are found by the texts of some columns."""

    def __init__(self, name: str, on: tuple[str, ...]) -> None:
        self.name = name
        self.on = on
        """Folded names of the columns that find a row."""
        self.columns: tuple[str, ...] = ()
        """All columns, as written."""
        self._at: dict[str, int] = {}
        self._rows: dict[bytes, bytes] = {}
        """By key: the number of the line, then the cells."""
        self.bytes = 0

    def at(self, column: str) -> int | None:
        """The index of a column, by its name however it is written; None: there is none of that name."""
        return self._at.get(fold(column))

    def has(self, key: Sequence[str]) -> bool:
        """Whether there is a row with this key, in the order of `on`: without one, `value` is empty as well."""
        return _key(key) in self._rows

    def value(self, key: tuple[str, ...], at: int) -> str:
        """A cell as written, of the row with this key, in the order of `on`; nothing when there is no such row."""
        row = self._rows.get(_key(key))
        cells = () if row is None else row.split(_END, at + 2)[1:]
        return cells[at].decode() if at < len(cells) else ""

    def line_of(self, key: Sequence[str]) -> int | None:
        """The line in which the row with this key starts."""
        row = self._rows.get(_key(key))
        return None if row is None else int(row[: row.index(_END)])

    def add_columns(self, names: Sequence[str]) -> None:
        for name in names:
            self._at.setdefault(fold(name), len(self._at))
        self.columns += tuple(name for name in names if self._at[fold(name)] >= len(self.columns))

    def add(self, key: Sequence[str], number: int, cells: Sequence[str]) -> None:
        """Add a row whose cells are in the order of the columns."""
        row = b"%d\0%b" % (number, "\0".join(cells).encode())
        self._rows[_key(key)] = row
        self.bytes += len(row)

    def __len__(self) -> int:
        return len(self._rows)


def _key(texts: Sequence[str]) -> bytes:
    return "\0".join(map(compared, texts)).encode("utf-8", "surrogatepass")


def load(name: str, path: Path, on: tuple[str, ...], place: Place, *, delimiter: str | None, encoding: str) -> Table:
    """Read a table whose rows are found by the columns `on`, from CSV, TSV or JSONL by the ending of its name.

    Raises one `JobError` that names every problem of the file; what is wrong with the file as such stands at `place`.
    """
    table = Table(name, tuple(map(fold, on)))
    reading = _Reading(table)
    is_read = True
    try:
        _check_size(path, place)
        for line in _lines(path, place, delimiter, encoding):
            reading.read(line)
            if reading.wrong >= _ENOUGH:
                break
    except JobError as error:
        reading.problems.extend(error.problems)
        is_read = bool(table.columns)
    if is_read:
        reading.end(path, on, place)
    reading.problems.check()
    return table


def _check_size(path: Path, place: Place) -> None:
    try:
        size = path.stat().st_size
    except OSError:  # told when it is opened
        return
    if size > MAX_BYTES:
        message = f"{file_name(path)} has {size / 1e6:,.0f} MB; a table has at most {MAX_BYTES // 1_000_000}"
        raise JobError([place.problem(message, "keep only the rows and columns that are looked up")])


def _lines(path: Path, place: Place, delimiter: str | None, encoding: str) -> Iterator[Header | Line | Problem]:
    ending = path.suffix.lower()
    if ending == ".jsonl":
        if delimiter is not None:
            raise JobError([place.problem("'delimiter' means nothing for jsonl", "delete it")])
        return sources.json_lines(path, place, encoding=encoding)
    delimiter = delimiter or _DELIMITERS.get(ending)
    if delimiter is None:
        raise JobError([place.problem(f"{file_name(path)} is no table", "a table is x.csv, x.tsv or x.jsonl")])
    return sources.table(path, place, delimiter=delimiter, encoding=encoding)


class _Layout:
    """Where the cells of rows with the same columns belong in a table, and which of them are the key."""

    def __init__(self, names: tuple[str, ...], table: Table) -> None:
        keys = list(map(fold, names))
        first: dict[str, int] = {}
        self.twice = next((at for at, key in enumerate(keys) if first.setdefault(key, at) != at), None)
        self.names = names
        table.add_columns(names)
        self.lacks = [word for word in table.on if word not in keys]
        self.key_at = tuple(keys.index(word) for word in table.on if word in keys)
        self._columns = tuple(table.at(key) or 0 for key in keys)
        self._is_same = self._columns == tuple(range(len(keys)))

    def key(self, cells: Sequence[str]) -> tuple[str, ...]:
        return tuple(cells[at].strip() for at in self.key_at)

    def placed(self, cells: Sequence[str]) -> Sequence[str]:
        """The cells in the order of the table's columns."""
        if self._is_same:
            return cells
        placed = [""] * (max(self._columns, default=-1) + 1)
        for at, cell in zip(self._columns, cells, strict=True):
            placed[at] = cell
        return placed


class _Reading:
    """Puts rows into a table, and notes what is wrong with them."""

    def __init__(self, table: Table) -> None:
        self.problems = Problems()
        self.wrong = 0
        self._table = table
        self._layout: _Layout | None = None
        self._lacking: list[Problem] = []

    def read(self, line: Header | Line | Problem) -> None:
        if isinstance(line, Problem):
            self._tell(line)
            return
        if self._layout is None or self._layout.names is not line.names:
            self._layout = _Layout(line.names, self._table)
        names_itself = isinstance(line, Header) or line.origin is None
        if self._layout.twice is not None:
            if names_itself:
                self._tell_twice(line, self._layout.twice)
        elif isinstance(line, Line):
            if not self._layout.lacks:
                self._add(line, self._layout)
            elif names_itself and len(self._lacking) < MOST:
                message = f"this row has no {listed(map(quoted, self._layout.lacks), last='and')}"
                self._lacking.append(line.problem(message, "the table is looked up by that"))

    def _tell(self, problem: Problem) -> None:
        self.problems.add(problem)
        self.wrong += 1

    def _tell_twice(self, line: Header | Line, at: int) -> None:
        name = line.names[at]
        first = next(one for one in line.names if fold(one) == fold(name))
        message = f"columns {quoted(first)} and {quoted(name)} are the same"
        self._tell(line.name_place(at).problem(message, "name one of them otherwise"))

    def _add(self, line: Line, layout: _Layout) -> None:
        key, at = layout.key(line.cells), layout.key_at[0]
        if (first := self._table.line_of(key)) is not None:
            message = f"the row for {', '.join(map(quoted, key))} is there already, in line {first}"
            self._tell(line.problem(message, "delete one of them", at))
        elif not any(key):
            if any(cell and not cell.isspace() for cell in line.cells):  # rows of nothing end many a spreadsheet
                names = listed(map(quoted, self._table.on), last="and")
                self._tell(line.problem(f"nothing finds this row: {names} empty", "fill it in", at))
        else:
            self._table.add(key, line.number, layout.placed(line.cells))
            self._check_bounds(line)

    def _check_bounds(self, line: Line) -> None:
        table, message = self._table, ""
        if len(table) > MAX_ROWS:
            message = f"more than {MAX_ROWS:,} rows in a table"
        elif table.bytes > 2 * MAX_BYTES or len(table.columns) > sources.MAX_COLUMNS:
            message = "too many different fields in the rows of a table"
        if message:
            raise JobError([line.problem(message, "keep only the rows and fields that are looked up")])

    def end(self, path: Path, on: Sequence[str], place: Place) -> None:
        """Say which columns of the key no row has; with those there, which rows lack one."""
        columns = self._table.columns
        some = [*map(quoted, columns[:_SHOWN]), *(["…"] if len(columns) > _SHOWN else [])] or ["none"]
        missing = [word for word in on if self._table.at(word) is None]
        for word in missing:
            message = f"table {quoted(self._table.name)}: {file_name(path)} has no column {quoted(word)}"
            self.problems.add(place.problem(f"{message}{meant(word, columns)}", f"columns: {listed(some, last='and')}"))
        if not missing:
            self.problems.extend(self._lacking)
