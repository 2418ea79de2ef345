"""From a job to its requests: rows × cells of the matrix × samples, streamed in that order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.errors import JobError, Problem
from pipeline.job import items, paths, templates
from pipeline.job.ask import Ask, Image
from pipeline.job.cells import Plan, plan
from pipeline.job.limits import check_references
from pipeline.job.placeholders import Bound, EmptySlotError, bind, fill
from pipeline.job.problems import Problems, quoted
from pipeline.job.references import ImageError, reference
from pipeline.job.sources import fixed_part
from pipeline.job.unique import Marks, mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date

    from pipeline.job.items import Columns, Row
    from pipeline.job.language import Job
    from pipeline.job.limits import Models
    from pipeline.job.placeholders import Slot
    from pipeline.job.templates import Prompt

__all__ = ["Request", "expand"]

MAX_PROMPT = 1_000_000
"""Characters of one prompt."""


@dataclass(frozen=True, slots=True)
class Request:
    """One image to ask for, and what it will be called."""

    key: str
    item: str
    id: str
    sample: int
    turn: int
    path: str
    """Below the job's folder, with `/`, slugged, without an extension."""
    ask: Ask
    fingerprint: str
    template: str | None
    vars: dict[str, str]
    where: str
    """The row it came from: `catalog.csv:12`."""


def expand(job: Job, *, models: Models, today: date, warn: Callable[[Problem], None]) -> Iterator[Request]:
    """Every request of the job, in catalog order, then matrix order, then sample; holds no catalog.

    Raises one `JobError` with every problem found in the job, after the last row: from the first problem
    on nothing more is yielded, and what was yielded before must not be sent.
    """
    problems = Problems()
    try:
        plans = [plan(job, cell, models, today, problems, warn) for cell in job.matrix.cells]
    except JobError as error:
        problems.extend(error.problems)
        problems.check()
    expansion = _Expansion(job, plans, problems, warn)
    yield from expansion.requests()


@dataclass(frozen=True, slots=True)
class _Fitting:
    """A plan, bound to the columns of some rows."""

    prompt: Prompt
    text: Bound
    path: Bound
    images: tuple[Bound | Image, ...]
    told: tuple[tuple[str, int], ...]
    constants: Mapping[str, str]


class _Expansion:
    """One pass over the rows of a job."""

    def __init__(self, job: Job, plans: list[Plan], problems: Problems, warn: Callable[[Problem], None]) -> None:
        self._job = job
        self._plans = plans
        self._problems = problems
        self._warn = warn
        self._warned: set[object] = set()
        self._fittings: dict[tuple[Columns, int, str], _Fitting] = {}
        self._prompts: dict[str, Prompt | JobError] = {}
        self._ids, self._keys, self._paths, self._asks = Marks(), Marks(), Marks(), Marks()

    def requests(self) -> Iterator[Request]:
        count = 0
        for request in self._all():
            count += 1
            if not self._problems:
                yield request
        if not count and not self._problems:
            self._warn(self._job.items.place.problem("no row is left: the job asks for nothing"))
        self._check_twins()
        self._problems.check()

    def _rows(self) -> Iterator[Row]:
        return items.rows(self._job.items, job=self._job.name, folder=self._job.folder, problems=self._problems)

    def _all(self) -> Iterator[Request]:
        for row in self._rows():
            self._ids.add(row.id)
            yield from self._of_row(row)

    def _of_row(self, row: Row) -> Iterator[Request]:
        for plan in self._plans:
            try:
                fitting = self._fitting(plan, row)
                for sample in range(1, plan.samples + 1):
                    yield self._request(plan, fitting, row, sample)
            except EmptySlotError as error:
                self._note_empty(error.slot, error.near, plan, row)
            except ImageError as error:
                self._problems.add(row.problem(str(error), error.hint))
            except JobError as error:
                self._problems.extend(error.problems)

    def _fitting(self, plan: Plan, row: Row) -> _Fitting:
        name = plan.template_name(row)
        key = (row.columns, plan.number, name)
        fitting = self._fittings.get(key)
        if fitting is None:
            if len(self._fittings) > 10_000:  # noqa: PLR2004 - rows that all differ must not pile up
                self._fittings.clear()
            fitting = self._fittings[key] = self._fitted(plan, row, name)
        return fitting
