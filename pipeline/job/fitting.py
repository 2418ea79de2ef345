"""Cells fitted to the columns of a catalog: each text bound once, then filled row by row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.job import paths
from pipeline.job.overrides import Choices
from pipeline.job.placeholders import BUILT_INS, OF_IMAGES, EmptySlotError, Missing, Scope, bind, fill, fold
from pipeline.job.problems import MOST, located, meant, quoted
from pipeline.job.rowsets import RowSettings
from pipeline.job.settings import WORDS
from pipeline.job.yaml12 import Map

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from pipeline.errors import Problem
    from pipeline.job.cells import Cell, Judge, Turn
    from pipeline.job.items import Columns, Row
    from pipeline.job.matrix import Combination
    from pipeline.job.overrides import Choice
    from pipeline.job.placeholders import Bound, Slot, Template
    from pipeline.job.problems import Place, Problems
    from pipeline.job.settings import Layer, Reference

_FIXED_COLUMNS = frozenset({"csv", "tsv", "glob", "one"})
_MANY = 10_000
_MANY_FITTINGS = 1_000
_LONGEST = 80
"""Characters of a placeholder in a message."""
_BRACES = re.compile(r"\{([A-Za-z][\w -]*)\}")
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

    def told_of(self, row: Row) -> dict[str, str]:
        """What a record tells of a row: its fields that are not empty, then axes and vars."""
        cells = row.line.cells
        told = {name: cells[at] for name, at in self.told if cells[at] and not cells[at].isspace()}
        return {**told, **self.constants}


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
            judge.moving_templates(judge.layer(combination)) for combination in self.job.matrix.cells
        )
        rows = self.job.items.rows
        self._names = None if rows is None else {fold(name) for row in rows if isinstance(row, Map) for name in row}
        self._unknown: dict[tuple[Place, Slot, str], list[Problem]] = {}
        self._named: set[str] = set()
        self.columns: dict[Columns, None] = {}
        """Some of the columns that rows had."""

    def fittings(self, row: Row) -> list[Fitting]:
        """The cells of a row, fitted to its columns; those that something is wrong with are left out."""
        if not self.are_alike(row):
            return list(self._chosen(row))
        known = self._of_columns.get(row.columns)
        if known is None:
            if len(self._of_columns) > _MANY:  # rows that all differ must not pile up
                self._of_columns.clear()
            known = self._of_columns[row.columns] = list(self._chosen(row))
        return known

    def are_alike(self, row: Row) -> bool:
        """Whether the cells are the same for all rows with the columns of this one."""
        return self._is_plain and self._sets.is_plain(row)

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
        names: dict[int, str] = {}
        if moving := self._judge.moving_templates(whole):
            found = {number: self._name(*named, combination, row) for number, named in moving.items()}
            names = {number: name for number, name in found.items() if name is not None}
            if len(names) < len(found):
                return None
            key = row.columns, choice, mark, tuple(names.values())
            if key in self._known:
                return self._known[key]
        if len(self._known) > _MANY_FITTINGS:
            self._known.clear()
        cell = self._judge.cell(combination, whole, names)
        self._known[key] = fitting = None if cell is None else self._fitted(cell, row)
        return fitting

    def _name(self, layer: Layer, template: Template, combination: Combination, row: Row) -> str | None:
        """The name of the template that a row chooses."""
        axes = {fold(axis): value.text for axis, value in combination.items()}
        variables = layer["vars"].value if "vars" in layer else {}
        own = {word: layer[word].value if word in layer else default for word, default in self.job.defaults.items()}
        fixed = {"job": self.job.name, **own, **{fold(name): said.value for name, said in variables.items()}, **axes}
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
            self.columns[columns] = None
            self._check_axes(cell, columns)
            self._note_words(columns, row)
        for turn in cell.turns:
            for template in (turn.prompt.template, cell.path):
                self._note_hidden(template, row)
            self._note_braces(turn, columns)
            self._named |= _names(turn) | cell.path.names
        return Fitting(
            cell=cell,
            turns=tuple(self._turn(turn, cell, row) for turn in cell.turns),
            told=tuple((columns.names[at], at) for at in columns.told),
            constants={name: value for name, value in cell.constants.items() if fold(name) not in columns.folded},
        )

    def _turn(self, turn: Turn, cell: Cell, row: Row) -> TurnFitting:
        columns, tables = _own_id(row.columns), self._judge.tables
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
        self._choices.check()
        for override in self._choices.unused() if not self._problems else ():
            hint = "compare the texts of its when with those of the items"
            self._warn(override.place.problem("this override holds for no item", hint))
        self._note_unused_axes()
        known = {name for columns in self.columns for name in columns.folded}
        for (place, slot, message), rows in self._unknown.items():
            if slot.name in known:
                self._problems.extend(rows)
            else:
                self._problems.add(place.problem(message))

    # ----------------------------------------------------------------------------- what is odd

    def _note_unused_axes(self) -> None:
        """Axes that are no settings and that no text uses: their cells ask for the same, and are paid each."""
        if not self.columns or self._problems:
            return
        named = self._named | self._used() | {fold(word) for table in self.job.tables for word in table.on}
        for axis, place in self.job.matrix.axes.items():
            if axis not in WORDS and fold(axis) not in named:
                message = f"no text uses the axis {quoted(axis)}{meant(axis, WORDS)}"
                self._warn(place.problem(message, f"write [{axis}] where it belongs; each of its values is paid"))

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
        sets = {at for _word, at in columns.sets}
        for at, name in enumerate(columns.names):
            word = name.strip().casefold()
            of_set = fold(name).removeprefix("set_")
            if at not in sets and fold(name).startswith("set_") and of_set in WORDS and name not in self._warned:
                self._warned.add(name)
                message = f"the column {quoted(name)} is a placeholder, not a setting"
                self._warn(row.header_place(at).problem(message, f"to set it for each row call it set.{of_set}"))
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

    def _note_braces(self, turn: Turn, columns: Columns) -> None:
        """`{title}` where a field, an axis or a var is called title: other tools write placeholders so."""
        for part in turn.prompt.template.parts:
            for word in _BRACES.findall(part) if isinstance(part, str) and "{" in part else ():
                if fold(word) in {*columns.folded, *turn.fixed} and word not in self._warned:
                    self._warned.add(word)
                    at = located(turn.prompt.place, f"{{{word}}}")
                    self._warn(at.problem(f"{{{word}}} is no placeholder", f"write [{word}]"))

    def note_empty(self, error: EmptySlotError, fitting: TurnFitting, row: Row) -> None:
        """Note a placeholder that has no value: at the row when its field is empty, else where it was written."""
        self._note(error, self._place_of(error, fitting), row, needed_by=fitting.turn.prompt)
        if error.near is not None:  # the others that nothing fills, all at once
            for bound in (fitting.text, fitting.system or (), fitting.path):
                for part in bound:
                    if isinstance(part, Missing) and part.near is not None and part.slot != error.slot:
                        other = EmptySlotError(part.slot, part.near)
                        self._note(other, self._place_of(other, fitting), row, needed_by=fitting.turn.prompt)

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
        word = f"[{_cut(error.slot.word)}]"
        if error.near is None:
            allow = f"allow for it: [{_cut(error.slot.word)}|…]"
            if error.slot.name.startswith("@"):
                self._problems.add(row.problem(f"no image has the label {word} in the row {quoted(row.id)}", allow))
                return
            why = f": {error.why}" if error.why else ""
            message = f"{word} is empty in the row {quoted(row.id)}{why}"
            self._problems.add(row.problem(message, f"fill it in, or {allow}", at=error.at))
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


def _names(turn: Turn) -> set[str]:
    """The placeholders of the texts of a turn."""
    texts = [
        turn.prompt.template,
        *(one.template for one in turn.images),
        *([turn.system.template] if turn.system else ()),
    ]
    return set().union(*(text.names for text in texts))


def _own_id(columns: Columns) -> tuple[str, ...]:
    """The names of columns for placeholders: `[id]` is the id of the row, whatever white space is in its cell."""
    at = columns.id_at
    if at is None or columns.folded[at] != "id":
        return columns.folded
    return (*columns.folded[:at], "", *columns.folded[at + 1 :])


_DEFINING = frozenset({"vars", "items", "matrix", "tables", "extends", "template", "prompt", "turns", "images", "?"})


def _cut(word: str) -> str:
    return word if len(word) <= _LONGEST else f"{word[:_LONGEST]}…"
