"""The items of a job: rows with an id, after rename, where, id, unique and limit, in that order."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pipeline.errors import JobError, Problem
from pipeline.job import sources
from pipeline.job.placeholders import OF_IMAGES, Bound, EmptySlotError, Scope, Template, bind, fill, fold, folded
from pipeline.job.problems import Place, Problems, Source, is_control, listed, meant, quoted
from pipeline.job.unique import mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pipeline.job.sources import Line
    from pipeline.job.yaml12 import List

KINDS = ("csv", "tsv", "jsonl", "glob")
_ID_COLUMNS = ("id", "sku", "handle")
_MANY = 1000
"""Sets of columns remembered: rows that all differ must not pile up."""


class Condition(NamedTuple):
    """One entry of `where`: the field is (or is not) one of the texts."""

    name: str
    word: str
    is_not: bool
    texts: frozenset[str]
    place: Place


@dataclass(frozen=True, slots=True)
class Items:
    """Where the items of a job come from, and which of them are wanted."""

    kind: str
    """`one`, `list` or one of `KINDS`."""
    place: Place
    path: str = ""
    rows: List | None = None
    id: str | None = None
    id_template: Template | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    where: tuple[Condition, ...] = ()
    unique: bool = False
    limit: int | None = None
    delimiter: str = ","
    encoding: str = "utf-8"
    fill: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    folder: Path | None = None
    said: Mapping[str, Place] = field(default_factory=dict)

    @property
    def is_images(self) -> bool:
        return self.kind == "glob"


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns of some rows, looked at once."""

    names: tuple[str, ...]
    """As written, after `rename`."""
    folded: tuple[str, ...]
    id_at: int | None
    id_bound: Bound | None
    tests: tuple[tuple[int | str, Condition], ...]
    told: tuple[int, ...]
    """Those a record tells of: all but the id's own."""
    sets: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is wanted, and what it is called."""

    id: str
    line: Line
    columns: Columns

    @property
    def where(self) -> str:
        return f"{self.line.file}:{self.line.number}" if self.line.number else self.line.file

    def problem(self, message: str, hint: str = "", at: int | None = None) -> Problem:
        return problem_at(self.line, message, hint)

    def header_place(self, at: int) -> Place:
        return Place(Source(self.line.file), self.line.number, 1)


def problem_at(line: Line, message: str, hint: str = "") -> Problem:
    return Problem(line.file, line.number, min(line.number, 1), message, hint, line.text.rstrip("\r\n")[:200])


def rows(items: Items, *, job: str, folder: Path, problems: Problems) -> Iterator[Row]:
    """The rows of a job in their order. What is wrong goes to `problems`; the rest goes on where it can."""
    count = 0
    try:
        for row in _unique(_named(items, job, folder, problems), items):
            if items.limit is not None and count >= items.limit:
                return
            count += 1
            yield row
    except JobError as error:
        problems.extend(error.problems)


def _lines(items: Items, folder: Path) -> Iterator[Line | Problem]:
    path = folder / items.path
    if items.kind == "one":
        return iter([sources.Line(items.place.source.file, items.place.line, (), ())])
    if items.kind == "list":
        assert items.rows is not None
        return sources.written_rows(items.rows)
    if items.kind == "jsonl":
        return sources.json_lines(path, items.place, encoding=items.encoding)
    if items.kind == "glob":
        return sources.images(folder, items.path, items.place)
    return sources.table(path, items.place, delimiter=items.delimiter, encoding=items.encoding)


def _named(items: Items, job: str, folder: Path, problems: Problems) -> Iterator[Row]:
    """Rows that pass `where`, with their ids."""
    known: dict[tuple[str, ...], Columns | None] = {}
    for line in _lines(items, folder):
        if isinstance(line, Problem):
            problems.add(line)
            continue
        if line.names not in known:
            if len(known) > _MANY:
                known.clear()
            known[line.names] = _tried_columns(items, line, problems)
        columns = known[line.names]
        if columns is None or not _passes(columns, line):
            continue
        try:
            yield Row(job if items.kind == "one" else _id(columns, line), line, columns)
        except ValueError as error:
            problems.add(problem_at(line, str(error)))


def _tried_columns(items: Items, line: Line, problems: Problems) -> Columns | None:
    """The columns of a line; None when something is wrong with them that other rows need not share."""
    try:
        return _columns(items, line)
    except JobError as error:
        if items.kind in {"csv", "tsv"}:
            raise
        problems.extend(error.problems)
        return None


def _columns(items: Items, line: Line) -> Columns:
    """Look at the columns of a line; raises `JobError`."""
    names = _renamed(items, line)
    keys = folded(names)
    _check_names(names, keys, line)
    id_at = None if items.id_template or not names else _id_column(items, names, keys, line)
    bound = None
    if items.id_template:
        bound = bind(items.id_template, keys, Scope({}, frozenset(OF_IMAGES if items.is_images else ())))
    told = tuple(number for number in range(len(names)) if number != id_at)
    return Columns(names, keys, id_at, bound, _tests(items, keys), told)


def _renamed(items: Items, line: Line) -> tuple[str, ...]:
    if not items.rename:
        return line.names
    new = {fold(old): name for old, name in items.rename.items()}
    if items.kind != "jsonl":
        for old in items.rename:
            if fold(old) not in folded(line.names):
                message = f"rename: there is no column {quoted(old)}{meant(old, line.names)}"
                raise JobError([items.place.problem(message, f"columns: {_some(line.names)}")])
    return tuple(new.get(fold(name), name) for name in line.names)


def _some(names: Sequence[str]) -> str:
    most = 12
    return listed([*map(quoted, names[:most]), *(["…"] if len(names) > most else [])], last="and") if names else "none"


def _check_names(names: Sequence[str], keys: Sequence[str], line: Line) -> None:
    first: dict[str, str] = {}
    for name, key in zip(names, keys, strict=True):
        if key in first:
            same = "" if name == first[key] else f" (names compare as {quoted(key)})"
            raise JobError(
                [_header_problem(line, f"columns {quoted(first[key])} and {quoted(name)} are the same{same}")]
            )
        first[key] = name
        if name == "set" or name.startswith("set."):
            raise JobError([_header_problem(line, f"column {quoted(name)} is not supported yet by this version")])


def _header_problem(line: Line, message: str) -> Problem:
    return problem_at(line, message, "rename one: items: {…, rename: {old: new}}" if "same" in message else "")


def _id_column(items: Items, names: tuple[str, ...], keys: tuple[str, ...], line: Line) -> int:
    if items.id is not None:
        if fold(items.id) in keys:
            return keys.index(fold(items.id))
        message = f"id: there is no column {quoted(items.id)}{meant(items.id, names)}"
        if items.kind in {"csv", "tsv"}:
            raise JobError([items.place.problem(message, f"columns: {_some(names)}")])
        raise JobError([problem_at(line, message)])
    if items.kind == "list":
        return keys.index("id") if "id" in keys else 0
    return next((keys.index(name) for name in _ID_COLUMNS if name in keys), 0)


def _tests(items: Items, keys: tuple[str, ...]) -> tuple[tuple[int | str, Condition], ...]:
    tests: list[tuple[int | str, Condition]] = []
    for condition in items.where:
        if condition.name in keys:
            tests.append((keys.index(condition.name), condition))
        elif items.kind in {"csv", "tsv"}:
            message = f"where: there is no column {quoted(condition.word)}{meant(condition.name, keys)}"
            raise JobError([condition.place.problem(message)])
        else:
            tests.append((condition.name, condition))
    return tuple(tests)


def _passes(columns: Columns, line: Line) -> bool:
    for at, condition in columns.tests:
        value = line.cells[at] if isinstance(at, int) else line.facts.get(at, "")
        if (value.strip() in condition.texts) is condition.is_not:
            return False
    return True


def _id(columns: Columns, line: Line) -> str:
    """The id of a row; raises `ValueError` in words."""
    if columns.id_bound is not None:
        try:
            text = fill(columns.id_bound, line.cells, line.facts)
        except EmptySlotError as error:
            known = "is empty" if error.near is None else f"is unknown{error.near}"
            raise ValueError(f"id: [{error.slot.word}] {known}") from None
    else:
        text = line.id if columns.id_at is None else line.cells[columns.id_at]
    text = text.strip() if text.isascii() and text.isprintable() else _clean_id(text)
    if not text:
        column = "" if columns.id_at is None else f" (column {quoted(columns.names[columns.id_at])})"
        raise ValueError(f"the id{column} is empty")
    return text


@lru_cache(maxsize=64)
def _clean_id(text: str) -> str:
    text = unicodedata.normalize("NFC", text).strip()
    if any(map(is_control, text)):
        raise ValueError(f"the id {quoted(text)} holds a control character")
    return text


def _unique(named: Iterator[Row], items: Items) -> Iterator[Row]:
    if not items.unique:
        yield from named
        return
    seen: set[int] = set()
    for row in named:
        number = mark(row.id)
        if number not in seen:
            seen.add(number)
            yield row
