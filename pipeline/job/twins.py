"""Rows and requests that must differ and do not: noticed in one pass in a few bytes each, named in a second one."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, Self

from pipeline.job.placeholders import fold
from pipeline.job.problems import listed, quoted
from pipeline.job.unique import Marks, mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from pipeline.errors import Problem
    from pipeline.job.forms import Filled
    from pipeline.job.items import Row
    from pipeline.job.language import Job
    from pipeline.job.problems import Problems
    from pipeline.job.request import Request
    from pipeline.job.sheets import Sheet


class First(NamedTuple):
    """Who came first."""

    name: str
    where: str
    id: str


class Twins:
    """Ids, keys and paths that are there twice, which are errors; and asks, which are paid twice."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._marks = {kind: Marks() for kind in ("id", "key", "path", "ask")}
        self._found: dict[str, set[int]] | None = None
        """What is there twice, once somebody has asked; nothing is noted from then on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        for marks in self._marks.values():
            marks.__exit__(kind, value, tb)

    def note(self, ids: Sequence[str], requests: Sequence[Filled | Request]) -> None:
        """Note the ids of some rows, and their requests."""
        marks = self._marks
        marks["id"].add(ids)
        marks["key"].add([request.key for request in requests])
        marks["ask"].add([request.fingerprint for request in requests])
        marks["path"].add([request.path for request in requests if request.keeps])

    def note_sheet(self, sheet: Sheet, fingerprints: Iterable[Sequence[str]] = ()) -> None:
        """The same for a sheet, whose requests all keep what they bring; of asks those with these fingerprints."""
        self._marks["id"].add(sheet.ids)
        for column in sheet.columns:
            self._marks["key"].add(column.keys)
            self._marks["path"].add(column.paths)
        for texts in fingerprints:
            self._marks["ask"].add(texts)

    def dump(self, *, is_last: bool) -> list[list[bytes]]:
        """What was noted since the last time, for `take` in another process; nothing yet while that is little."""
        if not is_last and not any(marks.are_many for marks in self._marks.values()):
            return []
        return [marks.dump() for marks in self._marks.values()]

    def take(self, dumped: Iterable[Iterable[bytes]]) -> None:
        """Note what another process has noted of other rows."""
        for marks, data in zip(self._marks.values(), dumped, strict=False):
            marks.take(data)

    def are_wrong(self) -> bool:
        """Whether anything but an ask may be there twice, in all that was noted."""
        return any(twice for kind, twice in self._twice().items() if kind != "ask")

    def _twice(self) -> dict[str, set[int]]:
        if self._found is None:
            self._found = {kind: marks.twice() for kind, marks in self._marks.items()}
        return self._found

    def tell(self, rows: Iterable[tuple[Row, Iterable[Filled | Request]]], problems: Problems, paid: Paid) -> None:
        """Name both of what is there twice. `rows` are gone through only where something is."""
        twice = self._twice()
        if not any(twice.values()):
            return
        first: dict[tuple[str, str], First] = {}
        for row, requests in rows:
            own = First(row.id, row.where, row.id)
            known = first.setdefault(("id", row.id), own) if mark(row.id) in twice["id"] else own
            if known is not own:
                problems.add(self._same_id(row, known))
                continue
            for request in requests:
                self._compare(request, row, twice, first, problems, paid)

    def _compare(
        self, request: Filled | Request, row: Row, twice: dict[str, set[int]], first: dict[tuple[str, str], First],
        problems: Problems, paid: Paid,
    ) -> None:  # fmt: skip
        own = First(request.key, request.where, request.id)
        for kind, text in (("key", request.key), ("path", request.path), ("ask", request.fingerprint)):
            if mark(text) not in twice[kind] or (kind == "path" and not request.keeps):
                continue
            known = first.setdefault((kind, text), own)
            if known is own:
                continue
            if kind == "ask":
                paid.add(known, own, request)
            elif kind == "path" and known.id == request.id and (axes := self._untold()):
                # Not the rows are at fault but the path, which is one for all of them.
                problems.add(self._same_for_all(known, own, request.path, axes), once="axes")
            else:
                problems.add(self._clash(kind, text, known, request, row))

    def _same_id(self, row: Row, first: First) -> Problem:
        hint = "" if self._job.items.kind == "list" else "to keep the first row of each id say unique: first"
        message = f"the id {quoted(row.id)} is there already, in {first.where}"
        return row.problem(message, hint, at=row.columns.id_at)

    def _untold(self) -> list[str]:
        """The axes with more than one value that output.path does not speak of."""
        if self._job.output is None:
            return []
        names = self._job.output[0].names
        return [axis for axis in self._job.matrix.varying() if fold(axis) not in names]

    def _same_for_all(self, first: First, second: First, path: str, axes: Sequence[str]) -> Problem:
        assert self._job.output is not None
        both = f"{quoted(first.name)} and {quoted(second.name)} would both go to {quoted(path)}"
        missing = listed([f"[{axis}]" for axis in axes], last="and")
        return self._job.output[1].problem(f"output.path: {both}", f"add {missing} to the path")

    def _clash(self, kind: str, text: str, first: First, second: Filled | Request, row: Row) -> Problem:
        both = f"{quoted(first.name)} ({first.where}) and {quoted(second.key)}"
        hint = 'tell them apart: output: {path: "…"}' if kind == "path" else "rename one of the ids"
        return row.problem(f"{both} have the same {kind} {quoted(text)}", hint)


class Paid:
    """Asks that are bought more than once: how many, the first of them, and what they cost."""

    def __init__(self) -> None:
        self.count = 0
        self._pair: tuple[First, First] | None = None
        self._cost: Decimal | None = Decimal(0)

    def add(self, first: First, second: First, request: Filled | Request) -> None:
        self.count += 1
        self._pair = self._pair or (first, second)
        self._cost = None if self._cost is None or request.price is None else self._cost + request.price

    def problem(self, job: Job) -> Problem:
        """The warning of all of them."""
        assert self._pair is not None
        first, second = self._pair
        count = f"{self.count:,} request{'s ask' if self.count > 1 else ' asks'} for what another one asks for"
        message = f"{count}, such as {quoted(second.name)} ({second.where}) and {quoted(first.name)} ({first.where})"
        cost = "an unknown price" if self._cost is None else f"about ${self._cost:.4f}"
        hint = f"buying again costs {cost}; several images of one prompt are samples: n"
        return job.place.problem(message, hint)
