"""Cells fitted to the columns of a catalog: each text bound once, then filled row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.job import paths
from pipeline.job.overrides import Choices
from pipeline.job.placeholders import BUILT_INS, OF_IMAGES, EmptySlotError, Scope, bind, fill, fold
from pipeline.job.problems import MOST, located, quoted
from pipeline.job.rowsets import RowSettings
from pipeline.job.yaml12 import Map

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from pipeline.errors import Problem
    from pipeline.job.cells import Cell, Judge, Turn
    from pipeline.job.items import Columns, Row
    from pipeline.job.overrides import Choice
    from pipeline.job.placeholders import Bound, Slot, Template
    from pipeline.job.problems import Place, Problems
    from pipeline.job.settings import Layer, Reference

_FIXED_COLUMNS = frozenset({"csv", "tsv", "glob", "one"})
_MANY = 10_000
_PLAIN_WORDS = frozenset(
    {"aspect", "size", "model", "samples", "seed", "temperature", "thinking", "search", "response"}
)


@dataclass(frozen=True, slots=True, eq=False)
class TurnFitting:
    """A turn, bound to the columns of some rows."""

    turn: Turn
    text: Bound
    system: Bound | None
    path: Bound
    images: tuple[tuple[Bound, Reference], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Fitting:
    """A cell, bound to the columns of some rows."""

    cell: Cell
    turns: tuple[TurnFitting, ...]
    told: tuple[tuple[str, int], ...]
    """Fields a record tells of: name as written, and which cell."""
    constants: Mapping[str, str]
    """Axes and vars a record tells of."""


class Fitter:
    """Fits the cells of a job to rows, and remembers how."""

    def __init__(self, judge: Judge, problems: Problems, warn: Callable[[Problem], None]) -> None:
        self.job = judge.job
        self._judge = judge
        self._problems = problems
        self._warn = warn
        self._warned: set[Hashable] = set()
        self._of_columns: dict[Columns, list[Fitting]] = {}
        self._known: dict[Hashable, Fitting | None] = {}
        self._choices = Choices(self.job, problems)
        self._sets = RowSettings(self.job, problems)
        self._is_plain = not self.job.overrides and not any(
            judge.template_of(judge.layer(combination)) for combination in self.job.matrix.cells
        )
        rows = self.job.items.rows
        self._names = None if rows is None else {fold(name) for row in rows if isinstance(row, Map) for name in row}
        self._unknown: dict[tuple[Place, Slot, str], list[Problem]] = {}
        self.columns: list[Columns] = []
        """Some of the columns that rows had."""

    def fittings(self, row: Row) -> list[Fitting]:
        """The cells of a row, fitted to its columns; those that something is wrong with are left out."""
        if not (self._is_plain and self._sets.is_plain(row)):
            return list(self._chosen(row))
        known = self._of_columns.get(row.columns)
        if known is None:
            if len(self._of_columns) > _MANY:  # rows that all differ must not pile up
                self._of_columns.clear()
            known = self._of_columns[row.columns] = list(self._chosen(row))
        return known

    def _chosen(self, row: Row) -> Iterator[Fitting]:
        mark, layer = self._sets.of(row)
        for choice in self._choices.of(row):
            if fitting := self._fitting(choice, mark, layer, row):
                yield fitting

    def _fitting(self, choice: Choice, mark: Hashable, layer: Layer, row: Row) -> Fitting | None:
        key: Hashable = row.columns, choice, mark
        if key in self._known:
            return self._known[key]
        combination = self.job.matrix.cells[choice.cell]
        whole = self._judge.layer(combination, *(self.job.overrides[n].layer for n in choice.overrides), layer)
        name = None
        if template := self._judge.template_of(whole):
            name = self._name(template, whole, combination, row)
            if name is None:
                return None
            key = row.columns, choice, mark, name
            if key in self._known:
                return self._known[key]
        if len(self._known) > _MANY:
            self._known.clear()
        cell = self._judge.cell(combination, whole, name)
        self._known[key] = fitting = None if cell is None else self._fitted(cell, row)
        return fitting

    def _name(self, template: Template, layer: Layer, combination: Mapping[str, object], row: Row) -> str | None:
        """The name of the template that a row chooses."""
        axes = {fold(axis): value.text for axis, value in combination.items()}  # type: ignore[attr-defined]
        variables = layer["vars"].value if "vars" in layer else {}
        fixed = {"job": self.job.name, **{fold(name): said.value for name, said in variables.items()}, **axes}
        item = row.id + "".join(f"/{text}" for text in axes.values())
        moving = {"id": row.id, "item": item, **row.line.facts}
        scope = Scope(fixed, frozenset(moving), self._judge.tables, frozenset(fixed))
        try:
            return fill(bind(template, row.columns.folded, scope), row.line.cells, moving)
        except EmptySlotError as error:
            self._note(error, layer["template"].place, row)
            return None

    def _fitted(self, cell: Cell, row: Row) -> Fitting:
        columns = row.columns
        if columns not in self.columns and len(self.columns) < _MANY:
            self.columns.append(columns)
            self._check_axes(cell, columns)
            self._note_words(columns, row)
        for turn in cell.turns:
            for template in (turn.prompt.template, cell.path):
                self._note_hidden(template, row)
        return Fitting(
            cell=cell,
            turns=tuple(self._turn(turn, cell, row) for turn in cell.turns),
            told=tuple((columns.names[at], at) for at in columns.told),
            constants={name: value for name, value in cell.constants.items() if fold(name) not in columns.folded},
        )

    def _turn(self, turn: Turn, cell: Cell, row: Row) -> TurnFitting:
        columns, tables = row.columns.folded, self._judge.tables
        names = {"id", "=id", "item", "sample", "=sample", *(OF_IMAGES if self.job.items.is_images else ())}
        labels = {f"@{reference.label}" for reference in turn.images if reference.label}
        scope = Scope(turn.fixed, frozenset(names), tables, cell.strong)
        said = scope._replace(moving=scope.moving | labels)
        in_paths = scope._replace(fixed=paths.fixed_values({**turn.fixed, "=turn": turn.name}, cell.axes))
        return TurnFitting(
            turn=turn,
            text=bind(turn.prompt.template, columns, said),
            system=bind(turn.system.template, columns, said) if turn.system else None,
            path=bind(cell.path, columns, in_paths),
            images=tuple((bind(one.template, () if one.is_item else columns, scope), one) for one in turn.images),
        )

    def finish(self) -> None:
        """Tell what can be told once all rows were seen: names that only some rows know, or none."""
        self._choices.check(self.columns)
        known = {name for columns in self.columns for name in columns.folded}
        for (place, slot, message), rows in self._unknown.items():
            if slot.name in known:
                self._problems.extend(rows)
            else:
                self._problems.add(place.problem(message))

    # ----------------------------------------------------------------------------- what is odd

    def _check_axes(self, cell: Cell, columns: Columns) -> None:
        for axis in cell.axes:
            if fold(axis) in columns.folded:
                column = columns.names[columns.folded.index(fold(axis))]
                place = self.job.matrix.axes[axis]
                message = f"axis {quoted(axis)} is named like the field {quoted(column)} of the items"
                self._problems.add(place.problem(message, "rename the one or the other"))

    def _note_words(self, columns: Columns, row: Row) -> None:
        """Columns that are called like a setting, and that nothing uses."""
        if self.job.items.kind == "list":  # told when the manifest was read
            return
        for at, name in enumerate(columns.names):
            word = name.strip().casefold()
            if word in _PLAIN_WORDS and word not in self._used() and word not in self._warned:
                self._warned.add(word)
                message = f"the column {quoted(name)} is a placeholder that nothing uses, not a setting"
                self._warn(row.header_place(at).problem(message, f"to set it for each row call the column set.{word}"))

    def _used(self) -> set[str]:
        """Names of columns that conditions speak of."""
        return {condition.name for override in self.job.overrides for condition in override.when}

    def _note_hidden(self, template: Template, row: Row) -> None:
        columns = row.columns
        for name in template.names & {*BUILT_INS, *(OF_IMAGES if self.job.items.is_images else ())}:
            if name in columns.folded and columns.folded.index(name) != columns.id_at and name not in self._warned:
                self._warned.add(name)
                message = f"[{name}] is the field of that name here, not the built-in value"
                self._warn(row.problem(message, "rename the field if the built-in is meant"))

    def note_empty(self, error: EmptySlotError, fitting: TurnFitting, row: Row) -> None:
        """Note a placeholder that has no value: at the row when its field is empty, else where it was written."""
        self._note(error, self._place_of(error, fitting), row, needed_by=fitting.turn.prompt)

    def _place_of(self, error: EmptySlotError, fitting: TurnFitting) -> Place:
        turn = fitting.turn
        if error.slot in turn.prompt.template.parts:
            return turn.prompt.place
        if turn.system is not None and error.slot in turn.system.template.parts:
            return turn.system.place
        for reference in turn.images:
            if error.slot in reference.template.parts:
                return reference.place
        return self.job.output[1] if self.job.output is not None else turn.prompt.place

    def _note(self, error: EmptySlotError, place: Place, row: Row, needed_by: object = None) -> None:
        word = f"[{error.slot.word}]"
        if error.near is None:
            hint = f"fill it in, or allow for it: [{error.slot.word}|…]"
            why = f": {error.why}" if error.why else ""
            self._problems.add(row.problem(f"{word} is empty in this row{why}", hint, at=error.at))
            return
        if self.job.gaps & _DEFINING or self._is_of_a_broken_table(error.slot):  # what is wrong there may define it
            return
        variables = getattr(needed_by, "variables", {})
        if error.slot.name in variables:
            name = getattr(needed_by, "name", "")
            message = f"template {quoted(name)} needs {word}: no field, axis or var has that name"
        else:
            message = f"unknown placeholder {word}{error.near}"
        at = located(place, f"[{error.slot.word}")
        if self.job.items.kind in _FIXED_COLUMNS:
            problem = at.problem(f"{message} (for {row.where})")
            self._problems.add(problem, once=(str(at), error.slot))
            return
        problem = row.problem(f"unknown placeholder {word}: this row has no such field")
        if self._names is not None:
            self._problems.add(problem if error.slot.name in self._names else at.problem(message))
            return
        found = self._unknown.setdefault((at, error.slot, message), [])
        if len(found) <= MOST:
            found.append(problem)

    def _is_of_a_broken_table(self, slot: Slot) -> bool:
        name, dot, _column = slot.word.partition(".")
        declared = {fold(table.name) for table in self.job.tables}
        return bool(dot) and fold(name) in declared - self._judge.tables.keys()


_DEFINING = frozenset({"vars", "items", "matrix", "tables", "extends", "template", "prompt", "turns", "images", "?"})
