"""Cells fitted to the columns of a catalog: each text bound once, then filled row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import JobError, Problem
from pipeline.job import paths, templates
from pipeline.job.ask import Image
from pipeline.job.limits import check_references
from pipeline.job.placeholders import BUILT_INS, OF_IMAGES, EmptySlotError, Scope, bind, fill, fold
from pipeline.job.problems import Place, quoted
from pipeline.job.references import ImageError, reference
from pipeline.job.sources import fixed_part

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from pipeline.job.cells import Cell, Reference
    from pipeline.job.items import Columns, Row
    from pipeline.job.language import Job
    from pipeline.job.placeholders import Bound, Template
    from pipeline.job.problems import Problems
    from pipeline.job.templates import Prompt

_FIXED_COLUMNS = frozenset({"csv", "tsv", "glob", "one"})
_MANY = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Fitting:
    """A cell, bound to the columns of some rows."""

    cell: Cell
    prompt: Prompt
    text: Bound
    path: Bound
    images: tuple[Image | tuple[Bound, Reference], ...]
    told: tuple[tuple[str, int], ...]
    """Fields a record tells of: name as written, and which cell."""
    constants: Mapping[str, str]
    """Axes and vars a record tells of."""

    @property
    def template(self) -> str | None:
        return self.prompt.name


class Fitter:
    """Fits the cells of a job to rows, and remembers how."""

    def __init__(self, job: Job, cells: Sequence[Cell], problems: Problems, warn: Callable[[Problem], None]) -> None:
        self._job = job
        self._cells = cells
        self._problems = problems
        self._warn = warn
        self._warned: set[Hashable] = set()
        self._of_columns: dict[Columns, list[Fitting]] = {}
        self._of_template: dict[tuple[Columns, Cell, str], Fitting] = {}
        self._prompts: dict[str, Prompt | None] = {}
        self._has_moving_templates = any(cell.template for cell in cells)
        self._root = job.root.resolve()
        self.edits_images = job.items.is_images

    def fittings(self, row: Row) -> list[Fitting]:
        """Every cell, fitted to the columns of a row; those that something is wrong with are left out."""
        if self._has_moving_templates:
            return [fitting for cell in self._cells if (fitting := self._by_template(cell, row))]
        known = self._of_columns.get(row.columns)
        if known is None:
            if len(self._of_columns) > _MANY:  # rows that all differ must not pile up
                self._of_columns.clear()
            known = [self._fitted(cell, row, cell.prompt) for cell in self._cells if cell.prompt is not None]
            self._of_columns[row.columns] = known
        return known

    def _by_template(self, cell: Cell, row: Row) -> Fitting | None:
        """A cell whose template's name depends on the row."""
        prompt = cell.prompt if cell.template is None else self._prompt(cell, cell.template, row)
        if prompt is None:
            return None
        key = row.columns, cell, prompt.name or ""
        if key not in self._of_template:
            if len(self._of_template) > _MANY:
                self._of_template.clear()
            self._of_template[key] = self._fitted(cell, row, prompt)
        return self._of_template[key]

    def _prompt(self, cell: Cell, template: Template, row: Row) -> Prompt | None:
        moving = {"id": row.id, "item": row.id + cell.suffix, **row.line.facts}
        try:
            name = fill(
                bind(template, row.columns.folded, Scope(cell.fixed, frozenset(moving))), row.line.cells, moving
            )
        except EmptySlotError as error:
            self._problems.add(self._empty(error, cell.template_place, row))
            return None
        if name not in self._prompts:
            self._prompts[name] = self._found(name, cell, row)
        return self._prompts[name]

    def _found(self, name: str, cell: Cell, row: Row) -> Prompt | None:
        place = cell.template_place
        try:
            path = templates.find(name, folder=self._job.folder, root=self._job.root, place=place)
            if path.resolve().is_relative_to(self._root):
                return templates.load(path, name, place)
            self._problems.add(row.problem(f"template {quoted(name)} leads out of the project"))
        except JobError as error:
            self._problems.extend(error.problems)
        except (OSError, ValueError):
            self._problems.add(row.problem(f"template {quoted(name)} cannot be a file name"))
        return None

    def _fitted(self, cell: Cell, row: Row, prompt: Prompt) -> Fitting:
        columns, job = row.columns, self._job
        self._check_axes(cell, columns)
        names = {"id", "=id", "item", "sample", "=sample", *(OF_IMAGES if self.edits_images else ())}
        fixed = {**prompt.variables, **cell.fixed}
        if prompt.name is not None:
            fixed.setdefault("template", prompt.name)
        scope = Scope({name: value for name, value in fixed.items() if value is not None}, frozenset(names))
        in_paths = Scope(paths.fixed_values(scope.fixed, cell.axes), scope.moving)
        self._note_hidden(prompt.template, row)
        self._note_hidden(cell.path, row)
        constants = {**cell.placeholders, **{n: v for n, v in job.vars.items() if v and not self._is_hidden(n, cell)}}
        images = (
            one if isinstance(one, Image) else (bind(one.template, () if one.is_item else columns.folded, scope), one)
            for one in cell.images
        )
        return Fitting(
            cell=cell,
            prompt=prompt,
            text=bind(prompt.template, columns.folded, scope),
            path=bind(cell.path, columns.folded, in_paths),
            images=tuple(images),
            told=tuple((columns.names[at], at) for at in columns.told),
            constants={name: value for name, value in constants.items() if fold(name) not in columns.folded},
        )

    def _is_hidden(self, name: str, cell: Cell) -> bool:
        return fold(name) in map(fold, cell.axes)

    def _check_axes(self, cell: Cell, columns: Columns) -> None:
        for axis in cell.axes:
            if fold(axis) in columns.folded:
                column = columns.names[columns.folded.index(fold(axis))]
                place = self._job.matrix.axes[axis]
                message = f"axis {quoted(axis)} is named like the field {quoted(column)} of the items"
                self._problems.add(place.problem(message, "rename the one or the other"))

    def _note_hidden(self, template: Template, row: Row) -> None:
        columns = row.columns
        for name in template.names & {*BUILT_INS, *(OF_IMAGES if self.edits_images else ())}:
            if name in columns.folded and columns.folded.index(name) != columns.id_at and name not in self._warned:
                self._warned.add(name)
                message = f"[{name}] is the field of that name here, not the built-in value"
                self._warn(row.problem(message, "rename the field if the built-in is meant"))

    def images(self, fitting: Fitting, row: Row, moving: Mapping[str, str]) -> tuple[Image, ...]:
        """The reference images of one row, in order; raises `JobError` for one that cannot be sent."""
        if not fitting.images:
            return ()
        images = tuple(one if isinstance(one, Image) else self._image(*one, row, moving) for one in fitting.images)
        model = fitting.cell.known_model
        wrong = check_references(model, images) if model is not None else None
        if wrong is not None:
            message, hint, is_advice = wrong
            if not is_advice:
                raise JobError([row.problem(message, hint)])
            if message not in self._warned:
                self._warned.add(message)
                self._warn(row.problem(message, hint))
        return images

    def _image(self, bound: Bound, one: Reference, row: Row, moving: Mapping[str, str]) -> Image:
        tops = [self._root]
        if one.is_item:
            tops.append((self._job.folder / fixed_part(self._job.items.path)[0]).resolve())
        try:
            return reference(fill(bound, row.line.cells, moving), self._job.folder, below=tops)
        except ImageError as error:
            raise JobError([row.problem(str(error), error.hint)]) from None

    def note_empty(self, error: EmptySlotError, fitting: Fitting, row: Row) -> None:
        """Note a placeholder that has no value: at the row when its field is empty, else where it was written."""
        place = fitting.prompt.place
        if error.slot not in fitting.prompt.template.parts:
            place = next(
                (
                    one.place
                    for one in fitting.cell.images
                    if not isinstance(one, Image) and error.slot in one.template.parts
                ),
                place,
            )
            if self._job.output is not None and error.slot in fitting.cell.path.parts:
                place = self._job.output[1]
        needed = error.slot.name in fitting.prompt.variables
        problem = self._empty(error, place, row, of_template=fitting.template if needed else None)
        self._problems.add(
            problem, once=None if error.near is None else (str(place), error.slot, problem.file, problem.line)
        )

    def _empty(self, error: EmptySlotError, place: Place, row: Row, *, of_template: str | None = None) -> Problem:
        word = f"[{error.slot.word}]"
        if error.near is None:
            return row.problem(f"{word} is empty in this row", f"fill it in, or allow for it: [{error.slot.word}|…]")
        if of_template is not None:
            message = f"template {quoted(of_template)} needs {word}: no field, axis or var has that name"
        else:
            message = f"unknown placeholder {word}{error.near}"
        if self._job.items.kind in _FIXED_COLUMNS:
            return located(place, f"[{error.slot.word}").problem(f"{message} (for {row.where})")
        return row.problem(message)


def located(place: Place, word: str) -> Place:
    """Where a word stands at or below a place; the place itself when it is not found."""
    lines = place.source.lines
    for number in range(max(place.line, 1), min(place.line + 500, len(lines) + 1)):
        start = place.column - 1 if number == place.line else 0
        at = lines[number - 1].find(word, max(start, 0))
        if at >= 0:
            return Place(place.source, number, at + 1)
    return place
