"""What an item sets for itself: the `set` of a row in the manifest, or the columns `set.…` of a catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.job import settings
from pipeline.job.placeholders import fold
from pipeline.job.problems import meant, quoted
from pipeline.job.settings import WORDS, Said

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pipeline.job.items import Columns, Row
    from pipeline.job.language import Job
    from pipeline.job.problems import Place, Problems
    from pipeline.job.settings import Layer

_MANY = 10_000
_NOTHING: Layer = {}
_MAPS = {"vars", "safety"}


class RowSettings:
    """Reads what rows set; rows that set the same share one layer."""

    def __init__(self, job: Job, problems: Problems) -> None:
        self._job = job
        self._problems = problems
        self._known: dict[Hashable, Layer] = {}
        self._columns: dict[Columns, tuple[tuple[str, str, int], ...]] = {}

    def is_plain(self, row: Row) -> bool:
        """Whether a row sets nothing and cannot."""
        return not row.columns.sets and row.line.set is None

    def of(self, row: Row) -> tuple[Hashable, Layer]:
        """What a row sets, and a mark that is the same for rows that set the same."""
        if row.line.set is not None:
            return id(row.line.set), self._remembered(id(row.line.set), row)
        if not row.columns.sets:
            return None, _NOTHING
        cells = row.line.cells
        mark = tuple(cells[at].strip() for _name, at in row.columns.sets)
        return mark, self._remembered((row.columns, mark), row) if any(mark) else _NOTHING

    def _remembered(self, mark: Hashable, row: Row) -> Layer:
        if mark not in self._known:
            if len(self._known) > _MANY:
                self._known.clear()
            self._known[mark] = self._of_cells(row) if row.line.set is None else self._of_map(row)
        return self._known[mark]

    def _of_map(self, row: Row) -> Layer:
        assert row.line.set is not None
        layer = settings.read(row.line.set, self._problems)
        settings.refuse_axes(layer, self._job.matrix.axes, self._problems)
        return layer

    def _of_cells(self, row: Row) -> Layer:
        layer: Layer = {}
        for word, name, at in self._words(row):
            text = row.line.cells[at].strip()
            if not text:
                continue
            place = row.place(at)
            try:
                value = text if word == "vars" else settings.of_cell(word, text, place, name)
            except ValueError as error:
                message, hint = error.args
                self._problems.add(row.problem(message, hint, at=at))
                continue
            if name:
                inner = layer.setdefault(word, Said({}, place)).value
                inner[name] = Said(value, place)
            else:
                layer[word] = Said(value, place)
        return layer

    def _words(self, row: Row) -> tuple[tuple[str, str, int], ...]:
        """The settings of the columns: word, name inside a map, and which cell."""
        if row.columns not in self._columns:
            if len(self._columns) > _MANY:
                self._columns.clear()
            self._columns[row.columns] = tuple(self._checked(row))
        return self._columns[row.columns]

    def _checked(self, row: Row) -> list[tuple[str, str, int]]:
        found = []
        for written, at in row.columns.sets:
            word, _dot, name = written.partition(".")
            word = fold(word)
            header = row.header_place(at)
            if word not in WORDS:
                message = f"column 'set.{written}': there is no setting {quoted(word)}{meant(word, WORDS)}"
                self._problems.add(header.problem(message, "a column set.aspect or set.model sets that for each row"))
            elif (word in _MAPS) is not bool(name):
                hint = f"such as set.{word}.name" if word in _MAPS else f"write set.{word}"
                self._problems.add(header.problem(f"column 'set.{written}' names no setting", hint))
            else:
                self._refuse_axis(word, name, header)
                found.append((word, name, at))
        return found

    def _refuse_axis(self, word: str, name: str, header: Place) -> None:
        said = Said({name: Said("", header)}, header) if name else Said("", header)
        settings.refuse_axes({word: said}, self._job.matrix.axes, self._problems)
