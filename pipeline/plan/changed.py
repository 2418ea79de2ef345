"""Some rows of a job at rest compared with what is recorded; the others are done, and stay as they are.

The answer is that of comparing all of them, or there is none: where one of these rows could have to do with another one
- it asks for what is recorded already, or takes its place - all of them are compared.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pipeline import plan
from pipeline.plan import Counted
from pipeline.plan.states import Comparing
from pipeline.record import HAS_IMAGE, otherwise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.job.language import Job
    from pipeline.journal import Classified, Comparison, Journal, Record, WantedRequest
    from pipeline.outputs import Tree
    from pipeline.plan import Look, Plan


Row = tuple[str, str, str, str, str, "int | None"]
"""Key, state, why, path, model and cost."""
_UNDER_WAY = frozenset({"done", "new", "changed", "pending"})
"""What becomes of a row by itself, once it is bought."""


class Standing(NamedTuple):
    """How some or all rows of a job were when they were looked at last, with all there was of them done."""

    counts: Mapping[str, int]
    """How many requests were in which state, as a plan has it."""
    statuses: Mapping[str, int]
    """How many have which status, as they are recorded."""
    asked_before: int
    gone: Sequence[Row]
    """What was gone already."""


class Rows(NamedTuple):
    """Some rows of a catalog, and what was there instead of them."""

    ids: Sequence[str]
    """Of the rows of before."""
    requests: Iterable[WantedRequest]
    """For the rows of now."""
    standing: Standing
    """Of all rows but those under way, the rows of before included."""
    under_way: Sequence[str] = ()
    """Ids of rows that were not done when the job was looked at last; all of them must be among these rows."""


class Compared(NamedTuple):
    """A plan, and what it tells of."""

    plan: Plan
    not_done: tuple[Row, ...]
    gone: tuple[Row, ...]
    others: Standing
    """Of all rows but these."""
    ids: tuple[str, ...]
    """Of these rows, those of before and those of now."""
    recorded: tuple[Record, ...]
    """All that is known of them."""


def compare(journal: Journal, tree: Tree, job: Job, look: Look, rows: Rows) -> Compared | None:
    """Compare some rows with what is recorded; `None` where that is not enough. Raises what reading the job raises.

    What they ask for is what `Journal.wanted` holds then.
    """
    journal.wanted.replace(rows.requests)
    if not journal.wanted.ids().union(rows.ids).issuperset(rows.under_way):
        return None
    return _compared(journal, tree, job, look, rows)


def compare_again(journal: Journal, tree: Tree, job: Job, look: Look, before: Compared) -> Compared | None:
    """Compare rows that were compared with what is recorded of them by now; `None` where that is not enough."""
    journal.others.take_back()
    return _compared(journal, tree, job, look, Rows((), (), before.others, before.ids))


def _compared(journal: Journal, tree: Tree, job: Job, look: Look, rows: Rows) -> Compared | None:
    there = _There(journal, job, rows)
    if not there.is_enough():
        return None
    journal.outside.replace(())
    comparing = Comparing(journal, tree, job, look)
    for page in journal.wanted.comparisons(job.name):
        found = comparing.classified([row for row in page if there.is_by_itself(row)])
        if len(found) < len(page) or not all(map(there.is_as_expected, page, found)):
            return None
        journal.wanted.classify(found)
    if there.is_asked_otherwise():
        return None
    if job.batch.asks_singly and look.lane == "batch":
        journal.late.ask_singly(job.name)
    left = [row for row in there.known if _is_there(row) and not journal.wanted.is_wanted(row.key)]
    others = there.others()
    counted = _counted(journal, there, others, left)
    if sum(counted.counts.values()) == counted.counts["gone"]:
        return None
    priced = plan.priced(journal, job, [], counted, lambda loads: plan.alone(journal, job, look, loads))
    gone = heapq.merge(others.gone, sorted(map(_gone, left)))
    return Compared(
        priced, tuple(journal.wanted.not_done()), tuple(gone), others, tuple(there.ids), tuple(there.known)
    )  # fmt: skip


class _There:
    """What is recorded of some rows."""

    def __init__(self, journal: Journal, job: Job, rows: Rows) -> None:
        self._records, self._asked = journal.records, journal.wanted
        self._job, self._standing = job.name, rows.standing
        self.ids = dict.fromkeys((*rows.ids, *rows.under_way, *sorted(journal.wanted.ids())))
        by_id = {id_: journal.records.of_id(job.name, id_) for id_ in dict.fromkeys((*rows.ids, *rows.under_way))}
        self.known = [row for found in by_id.values() for row in found]
        self.wanted = {row.key: row for row in self.known if row.wanted}
        self._open = {row.key for id_ in rows.under_way for row in by_id[id_]}
        self._settled = [row for row in self.wanted.values() if row.key not in self._open]

    def is_enough(self) -> bool:
        """Whether all that these rows had is there, but for what is under way."""
        is_told = self._standing.counts["gone"] == len(self._standing.gone)
        return is_told and all(map(_is_there, self._settled))

    def is_by_itself(self, row: Comparison) -> bool:
        """Whether a request is what was asked for under its key, or has to do with nothing else that is recorded."""
        known = self.wanted.get(row.key)
        if row.status is not None and (known is None or known.fingerprint != row.fingerprint):
            return False
        if row.status in HAS_IMAGE:
            return row.max_age_s is None
        if known is None and self._records.of_key(self._job, row.key):
            return False
        return not self._records.is_strange(self._job, row.key, row.fingerprint, row.path)

    def is_as_expected(self, row: Comparison, found: Classified) -> bool:
        """Whether a request that is by itself is what such a one can be."""
        if found.moved_from is not None:
            return False
        if row.key in self._open and row.status is not None:
            return found.state in _UNDER_WAY
        return found.state == "done" if row.status else found.state in {"new", "changed"}

    def is_asked_otherwise(self) -> bool:
        """Whether something is open, or under way, with other settings than the job's."""
        pending = (row for row in self.wanted.values() if row.status == "pending")
        return any(_is_otherwise(row, self._asked.line_of(row.key, row.fingerprint)) for row in pending)

    def others(self) -> Standing:
        """How all other rows are."""
        counts, statuses, asked_before, gone = self._standing
        keys = {row.key for row in self.known}
        rest = [row for row in gone if row[0] not in keys]
        return Standing(
            {**counts, "done": counts["done"] - len(self._settled), "gone": len(rest)},
            Counter(statuses) - Counter(row.status for row in self._settled),
            asked_before - len(self._settled),
            rest,
        )


def _is_there(row: Record) -> bool:
    """Whether an image lies in its place, or did."""
    return row.status in HAS_IMAGE and row.place == "tree"


def _is_otherwise(row: Record, line: str | None) -> bool:
    """Whether a record is not as a request has it that the job makes by now; one that it does not make is no matter."""
    if line is None:
        return False
    told, draft = json.loads(row.line), json.loads(line)
    return bool(otherwise(told, model=draft["model"], settings=draft["settings"]))


def _counted(journal: Journal, there: _There, others: Standing, left: list[Record]) -> Counted:
    counted = Counted(dict(others.counts), asked_before=others.asked_before + len(there.wanted))
    for state, count in journal.wanted.counts().items():
        counted.counts[state] += count
    for row in left:
        counted.note_gone(row.cost, is_now=bool(row.wanted))
    return counted


def _gone(row: Record) -> Row:
    return row.key, "gone", "no longer asked for", row.path, json.loads(row.line)["model"], 0
