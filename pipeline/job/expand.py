"""From a job to its requests: each row in each cell of the matrix, sample by sample, streamed in that order."""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

from pipeline.errors import JobError
from pipeline.job import items, language, sources
from pipeline.job.cells import Judge
from pipeline.job.fitting import Fitter
from pipeline.job.forms import Filled, Forms
from pipeline.job.items import OddError, Pages
from pipeline.job.paths import path_of, reserved
from pipeline.job.placeholders import EmptySlotError, fill
from pipeline.job.problems import Problems, quoted
from pipeline.job.request import MAX_PROMPT, Name, Request, Texts, ask_of, key_of, request_of
from pipeline.job.rowimages import RowImages
from pipeline.job.sheets import Sheet, sheet_of
from pipeline.job.twins import Paid, Twins
from pipeline.job.yaml12 import refuse_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from pipeline.errors import Problem
    from pipeline.job.ask import Ask
    from pipeline.job.cells import Cell
    from pipeline.job.fitting import Fitting, TurnFitting
    from pipeline.job.items import Page, Row
    from pipeline.job.language import Job
    from pipeline.job.limits import Models
    from pipeline.job.placeholders import Bound

__all__ = [
    "Filled",
    "OddError",
    "Parts",
    "Request",
    "asked",
    "blocks",
    "can_be_parted",
    "check",
    "examine",
    "expand",
    "whole",
]


def expand(job: Job, *, models: Models, today: date, warn: Callable[[Problem], None]) -> Iterator[Request]:
    """Every request of the job, in catalog order, then matrix order, then sample, then turn; holds no catalog.

    Raises one `JobError` with the problems found anywhere in the job, after its last row: from the first
    problem on nothing more is yielded, and what was yielded before must not be sent.
    """
    for request in asked(job, models=models, today=today, warn=warn):
        yield whole(request)


def whole(request: Filled | Request) -> Request:
    """A request with all its parts worked out."""
    return request.request() if isinstance(request, Filled) else request


def asked(job: Job, *, models: Models, today: date, warn: Callable[[Problem], None]) -> Iterator[Filled | Request]:
    """The same as `expand`, but what is of the plain kind as a form that its row fills in, which takes far less."""
    return chain.from_iterable(blocks(job, models=models, today=today, warn=warn))


def blocks(
    job: Job, *, models: Models, today: date, warn: Callable[[Problem], None]
) -> Iterator[list[Filled | Request]]:
    """The same, some hundred at a time."""
    problems = Problems()
    yield from _expanded(job, models, today, problems, warn)
    problems.check()


def check(job: Job, *, models: Models, today: date, warn: Callable[[Problem], None]) -> None:
    """Go through a job to its last row; raises what `expand` raises. Of asks that are paid twice `expand` tells."""
    if not (can_be_parted(job) and _is_sound(job, models, today)):
        deque(blocks(job, models=models, today=today, warn=warn), maxlen=0)


def examine(path: Path, *, root: Path, models: Models, today: date, warn: Callable[[Problem], None]) -> tuple[Job, int]:
    """A manifest read and gone through to its last row: the job, and how many requests it makes.

    Raises one `JobError` with all that is wrong, in the language and in the rows: what does not fit the schema is left
    out, and the rest is looked at as if it were not there.
    """
    reading = language.read(path, root=root)
    for problem in reading.job.warnings:
        warn(problem)
    problems = reading.problems
    count = sum(map(len, _expanded(reading.job, models, today, problems, warn)))
    problems.check()
    return reading.job, count


def _expanded(
    job: Job, models: Models, today: date, problems: Problems, warn: Callable[[Problem], None]
) -> Iterator[list[Filled | Request]]:
    way, count = _Way(job, models, today, problems, warn), 0
    way.images.check(job.settings)
    with Twins(job) as twins:
        for block, is_sound in _noted(way, twins, job, problems):
            count += len(block)
            if is_sound:
                yield block
        tell(job, models, today, twins, problems, warn)
    way.images.finish()
    way.fitter.finish()
    if not count and not problems:
        warn(job.items.place.problem("no row is left: the job asks for nothing"))


def tell(
    job: Job, models: Models, today: date, twins: Twins, problems: Problems, warn: Callable[[Problem], None]
) -> None:
    """Name what is there twice."""
    paid = Paid()
    twins.tell(_again(job, models, today), problems, paid)
    if paid.count:
        warn(paid.problem(job))


def _noted(way: _Way, twins: Twins, job: Job, problems: Problems) -> Iterator[tuple[list[Filled | Request], bool]]:
    """The requests of all rows, noted in `twins`, and whether nothing was wrong up to the last of them."""
    ids, block = list[str](), list[Filled | Request]()
    is_sound = not problems
    for row in _rows(job, problems):
        made = way.requests(row)
        if len(block) >= _BLOCK or bool(problems) is is_sound:
            twins.note(ids, block)
            yield block, is_sound
            ids, block, is_sound = [], [], not problems
        ids.append(row.id)
        block += made
    twins.note(ids, block)
    yield block, is_sound and not problems


_BLOCK = 200
"""Requests that go on together."""


class _Way:
    """From a row to its requests."""

    def __init__(
        self, job: Job, models: Models, today: date, problems: Problems, warn: Callable[[Problem], None]
    ) -> None:
        self.fitter = Fitter(Judge(job, models, today, problems, warn), problems, warn)
        self.images = RowImages(job, problems, warn)
        self._forms = None if job.items.is_images else Forms(self.images)
        self._problems = problems

    def requests(self, row: Row) -> Sequence[Filled | Request]:
        fittings = self.fitter.fittings(row)
        filled = self._forms.filled(row, fittings) if self._forms is not None else None
        if filled is not None:
            return filled
        return [*self._by_law(row, fittings)]

    def sheet(self, page: Page) -> Sheet | None:
        """The requests of all rows of a page; None where they are to be made row by row."""
        ids = page.ids()
        if ids is None or self._forms is None:
            return None
        row = page.row(0)
        quick = self._forms.quick(row, self.fitter.fittings(row)) if self.fitter.are_alike(row) else None
        return sheet_of(quick, page.cells, ids) if quick and not self._forms.have_images else None

    def _by_law(self, row: Row, fittings: Iterable[Fitting]) -> Iterator[Request]:
        for fitting in fittings:
            try:
                yield from _requests(row, fitting, self.fitter, self.images)
            except JobError as error:
                self._problems.extend(error.problems)


class Parts:
    """Goes through parts of a catalog, each by itself; raises `OddError` for what it takes the whole to tell."""

    def __init__(self, job: Job, models: Models, today: date) -> None:
        self._job, self._problems, self._warned = job, Problems(), Problems()
        self._way = _Way(job, models, today, self._problems, self._warned.add)
        self._way.images.check(job.settings)
        self._pages = Pages(job.items, job.folder)
        self._most = max(1, _PAGE // len(job.matrix.cells))

    def sheets(self, span: tuple[int, int]) -> Iterator[Sheet | tuple[list[str], list[Filled]]]:
        """The requests of the rows in these bytes of it, as sheets; where there is none, ids of rows, and requests."""
        for page in self._pages.of(span, self._most):
            if page.cells:
                yield self._way.sheet(page) or self._filled(page)
        self._check()

    def finish(self) -> None:
        """Say that all parts were gone through."""
        self._way.images.finish()
        self._way.fitter.finish()
        self._check()

    def _filled(self, page: Page) -> tuple[list[str], list[Filled]]:
        ids, block = list[str](), list[Filled]()
        for number in range(len(page.cells)):
            row = page.row(number)
            ids.append(row.id)
            for request in self._way.requests(row):
                if not isinstance(request, Filled) or request.form.has_images:
                    raise OddError
                block.append(request)
        return ids, block

    def _check(self) -> None:
        if self._problems or self._warned:
            raise OddError


_PAGE = 512
"""Requests on a page, for each sample."""


def _is_sound(job: Job, models: Models, today: date) -> bool:
    """Whether there is nothing to tell of any row; false where only the law can tell."""
    path = job.items.file(job.folder)
    try:
        before, parts, count = path.stat(), Parts(job, models, today), 0
        with Twins(job) as twins:
            for span in sources.spans(path, _SPAN, by_rows=True) or ():
                for found in parts.sheets(span):
                    if isinstance(found, Sheet):
                        twins.note_sheet(found)
                    else:
                        twins.note(*found)
                    count += 1
            parts.finish()
            after = path.stat()
            is_same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
            return bool(count) and is_same and not twins.are_wrong()
    except (OddError, OSError):
        return False


_SPAN = 1 << 18
"""Bytes of a catalog that are read at a time."""


def can_be_parted(job: Job) -> bool:
    """Whether each row of the catalog stands for itself, as far as the manifest says."""
    items = job.items
    is_table = items.kind in {"csv", "tsv"} and items.encoding == "utf-8"
    hangs_together = items.fill or items.unique or items.limit is not None or items.text
    return is_table and not (hangs_together or job.gaps or job.overrides or job.tables or job.turns)


def _again(job: Job, models: Models, today: date) -> Iterator[tuple[Row, Iterable[Filled | Request]]]:
    """All rows once more, each with its requests; what is wrong with them was told the first time."""
    way = _Way(job, models, today, Problems(), _silent)
    for row in _rows(job, Problems()):
        yield row, way.requests(row)


def _rows(job: Job, problems: Problems) -> Iterator[Row]:
    if "items" in job.gaps or job.items.kind == "none":  # no telling what they were meant to be
        return iter(())
    return items.rows(job.items, job=job.name, folder=job.folder, problems=problems, dependencies=job.dependencies)


def _requests(row: Row, fitting: Fitting, fitter: Fitter, images: RowImages) -> Iterator[Request]:
    """The samples of one row in one cell, and the turns of each: the law, which forms are made by."""
    cell = fitting.cell
    item = row.id + cell.suffix
    facts = {"id": row.id, "=id": row.id, "item": item, **row.line.facts}
    told = fitting.told_of(row)
    for sample in range(1, cell.samples + 1):
        key = key_of(item, cell, sample)
        facts["sample"] = facts["=sample"] = str(sample)
        earlier: tuple[Ask, ...] = ()
        before = ""
        for fitted in fitting.turns:
            turn = fitted.turn
            try:
                ask, path = _ask(row, fitted, facts, (sample, earlier), (cell, fitter, images))
            except EmptySlotError as error:
                fitter.note_empty(error, fitted, row)
                return
            if turn.number:
                earlier = (*earlier, ask)
            follows, before = before, f"{key}/t{turn.number}" if turn.number else key
            yield request_of(Name(before, item, row.id, path, told, row.where, follows), turn, ask)


def _ask(
    row: Row, fitted: TurnFitting, facts: Mapping[str, str], number: tuple[int, tuple[Ask, ...]],
    around: tuple[Cell, Fitter, RowImages],
) -> tuple[Ask, str]:  # fmt: skip
    """One ask of a row, and where its image goes; raises `JobError` or `EmptySlotError`."""
    (sample, earlier), (cell, fitter, images) = number, around
    turn, cells = fitted.turn, row.line.cells
    moving = dict(facts) if fitted.images else facts
    found = images.of(fitted, row, moving, cell.known_model) if fitted.images else ()  # type: ignore[arg-type]
    system = None
    if fitted.system is not None:
        system = _checked(fill(fitted.system, cells, moving), row, "system instruction")
    texts = Texts(_checked(fill(fitted.text, cells, moving), row), system, found, earlier)
    ask = ask_of(cell, turn, texts, sample=sample, edits_image=fitter.job.items.is_images)
    return ask, _path(fitted.path, row, moving, is_image=ask.edits_image) if turn.keeps else ""


def _checked(text: str, row: Row, what: str = "prompt") -> str:
    """A text as it is sent; raises `JobError` for one that cannot be."""
    if "\r" in text:
        text = text.replace("\r\n", "\n")  # what git does to the line ends of a catalog buys nothing
    if "AIza" in text:
        refuse_keys(text, row.where)
    if len(text) > MAX_PROMPT:
        raise JobError([row.problem(f"the {what} of this row has {len(text):,} characters; at most {MAX_PROMPT:,}")])
    if not text or text.isspace():
        raise JobError([row.problem(f"the {what} of this row is empty")])
    return text


def _path(bound: Bound, row: Row, moving: Mapping[str, str], *, is_image: bool) -> str:
    path = path_of(bound, row.line.cells, moving, is_image=is_image)
    if why := reserved(path):
        hint = 'say output: {path: "…"} to put it elsewhere'
        raise JobError([row.problem(f"the path {quoted(path)} of {quoted(row.id)} is reserved: {why}", hint)])
    return path


def _silent(problem: Problem) -> None:
    """For a second pass, which has nothing new to say."""
