"""Overrides: settings for some items only; which of them hold for a row in a cell of the matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pipeline.job import conditions, settings
from pipeline.job.placeholders import BUILT_INS, OF_IMAGES, fold
from pipeline.job.problems import meant, quoted
from pipeline.job.settings import WORDS
from pipeline.job.yaml12 import List

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.job.conditions import Condition
    from pipeline.job.items import Columns, Row
    from pipeline.job.language import Job
    from pipeline.job.matrix import Combination
    from pipeline.job.problems import Place, Problems
    from pipeline.job.settings import Layer
    from pipeline.job.yaml12 import Map

_OF_ROWS = frozenset({"id", "item", *OF_IMAGES})
_MANY = 1000


@dataclass(frozen=True, slots=True)
class Override:
    """One entry of `overrides`."""

    when: tuple[Condition, ...]
    layer: Layer
    skip: bool | None
    """Whether it leaves the item out, or takes it in again; None: it says nothing of that."""
    place: Place


def read(manifest: Map, problems: Problems) -> tuple[Override, ...]:
    """The overrides of a manifest that fits the schema."""
    rows = manifest.get("overrides", ())
    return tuple(_override(node.value, node.place, problems) for node in (rows.nodes if isinstance(rows, List) else ()))


def _override(written: Map, place: Place, problems: Problems) -> Override:
    return Override(
        when=conditions.read(written["when"]) if "when" in written else (),
        layer=settings.read(written["set"], problems) if "set" in written else {},
        skip=written["set"].get("skip") if "set" in written else None,
        place=place,
    )


class Choice(NamedTuple):
    """A cell of the matrix for a row, and the overrides that hold there; by number."""

    cell: int
    overrides: tuple[int, ...]


Tests = tuple[tuple["int | str", "Condition"], ...]
"""What is left to test in each row: a cell of it, or a built-in."""


class Choices:
    """Decides for each row which overrides hold in which cell; what does not depend on the row is decided once."""

    def __init__(self, job: Job, problems: Problems) -> None:
        self._job = job
        self._problems = problems
        self._all = tuple(Choice(number, ()) for number in range(len(job.matrix.cells)))
        self._known: dict[Columns, list[list[tuple[int, Tests]]]] = {}
        self._fixed = [self._values(combination) for combination in job.matrix.cells]
        self._met: set[str] = set()
        self._used: set[int] = set()

    def of(self, row: Row) -> Sequence[Choice]:
        """The cells of a row, without those that are skipped."""
        if not self._job.overrides:
            return self._all
        tests = self._known.get(row.columns)
        if tests is None:
            if len(self._known) > _MANY:
                self._known.clear()
            self._met.update(row.columns.folded)
            self._known[row.columns] = tests = [self._tests(row.columns, values) for values in self._fixed]
        chosen = []
        for number, of_cell in enumerate(tests):
            held = tuple(n for n, left in of_cell if not left or self._holds(left, row, number))
            self._used.update(held)
            if not self._is_skipped(held):
                chosen.append(Choice(number, held))
        return chosen

    def _is_skipped(self, held: tuple[int, ...]) -> bool:
        said = [skip for n in held if (skip := self._job.overrides[n].skip) is not None]
        return bool(said) and said[-1]

    def _holds(self, tests: Tests, row: Row, cell: int) -> bool:
        for at, condition in tests:
            value = row.line.cells[at] if isinstance(at, int) else self._built_in(at, row, cell)
            if not conditions.holds(condition, value):
                return False
        return True

    def _built_in(self, name: str, row: Row, cell: int) -> str:
        if name == "id":
            return row.id
        if name == "item":
            return row.id + "".join(f"/{value.text}" for value in self._job.matrix.cells[cell].values())
        return row.line.facts.get(name, "")

    def _values(self, combination: Combination) -> dict[str, str]:
        """What `when` may speak of besides the fields of a row, by folded name; the strongest wins."""
        job = self._job
        written = {word: settings.shown(word, said.value) for word, said in job.settings.items() if word != "vars"}
        constants = {fold(name): said.value for name, said in job.vars.items()}
        axes = {fold(axis): value.text for axis, value in combination.items()}
        silent = {**dict.fromkeys(WORDS, ""), **job.defaults, "samples": "1"}
        return {**silent, **written, "job": job.name, **constants, **axes}

    def _tests(self, columns: Columns, values: Mapping[str, str]) -> list[tuple[int, Tests]]:
        """The overrides that may hold in a cell, each with what is left to test in the row."""
        found = []
        for number, override in enumerate(self._job.overrides):
            left: list[tuple[int | str, Condition]] = []
            for condition in override.when:
                if condition.name in columns.folded and not (condition.name == "id" and self._is_id(columns)):
                    left.append((columns.folded.index(condition.name), condition))
                elif condition.name in _OF_ROWS:
                    left.append((condition.name, condition))
                elif not conditions.holds(condition, values.get(condition.name, "")):
                    break
            else:
                found.append((number, tuple(left)))
        return found

    def unused(self) -> list[Override]:
        """Overrides of the job's own manifest that held for no row, once all were seen."""
        own = self._job.place.source
        return [
            override
            for number, override in enumerate(self._job.overrides)
            if number not in self._used and override.place.source is own and self._met
        ]

    @staticmethod
    def _is_id(columns: Columns) -> bool:
        """Whether the column called id is the one that rows are named by."""
        return columns.id_at is not None and columns.folded[columns.id_at] == "id"

    def check(self) -> None:
        """Tell of names in `when` that nothing has, once all rows were seen."""
        known = {*BUILT_INS, *OF_IMAGES, *(name for values in self._fixed for name in values)}
        known |= self._met - {""}
        if "items" in self._job.gaps or not self._met:
            return
        for override in self._job.overrides:
            for condition in override.when:
                if condition.name not in known:
                    near = meant(condition.name, sorted(known))
                    message = f"when: no field, axis or setting is called {quoted(condition.word)}{near}"
                    self._problems.add(condition.place.problem(message))
