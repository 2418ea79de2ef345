"""Some rows of a job at rest compared with what is recorded; the others are done, and stay as they are.

The answer is that of comparing all of them, or there is none: where one of these rows could have to do with another one
- it asks for what is recorded already, or takes its place - all of them are compared.
"""

from __future__ import annotations

import heapq
import json
from typing import TYPE_CHECKING, NamedTuple

from pipeline import plan
from pipeline.plan import Counted
from pipeline.plan.states import Comparing
from pipeline.record import HAS_IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pipeline.job.language import Job
    from pipeline.journal import Comparison, Journal, Record, WantedRequest
    from pipeline.outputs import Tree
    from pipeline.plan import Look, Plan


Row = tuple[str, str, str, str, str, "int | None"]
"""Key, state, why, path, model and cost."""


class Rows(NamedTuple):
    """Some rows of a catalog, and what was there instead of them."""

    ids: Sequence[str]
    """Of the rows of before."""
    requests: Iterable[WantedRequest]
    """For the rows of now."""
    before: Mapping[str, int]
    """How many requests were in which state, these and all others."""
    asked_before: int
    gone: Iterable[Row]
    """What was gone already."""


class Compared(NamedTuple):
    """A plan, and what it tells of."""

    plan: Plan
    not_done: tuple[Row, ...]
    gone: tuple[Row, ...]


def compare(journal: Journal, tree: Tree, job: Job, look: Look, rows: Rows) -> Compared | None:
    """Compare some rows with what is recorded; `None` where that is not enough. Raises what reading the job raises."""
    before = {row.key: row for id_ in rows.ids for row in journal.records.of_id(job.name, id_) if row.wanted}
    if not all(row.status in HAS_IMAGE and row.place == "tree" for row in before.values()):
        return None
    journal.wanted.replace(rows.requests)
    journal.outside.replace(())
    comparing = Comparing(journal, tree, job, look)
    for page in journal.wanted.comparisons(job.name):
        found = comparing.classified([row for row in page if _is_by_itself(journal, job, row, before)])
        expected = ["done" if row.status else "open" for row in page]
        if [_outcome(one.state, one.moved_from) for one in found] != expected:
            return None
        journal.wanted.classify(found)
    left = [row for key, row in before.items() if not journal.wanted.is_wanted(key)]
    counted = _counted(journal, rows, len(before), left)
    if sum(counted.counts.values()) == counted.counts["gone"]:
        return None
    priced = plan.priced(journal, job, [], counted, lambda loads: plan.alone(journal, job, look, loads))
    gone = heapq.merge(rows.gone, sorted(map(_gone, left)))
    return Compared(priced, tuple(journal.wanted.not_done()), tuple(gone))


def _is_by_itself(journal: Journal, job: Job, row: Comparison, before: dict[str, Record]) -> bool:
    """Whether a request is what was asked for under its key, or has to do with nothing else that is recorded."""
    if row.status is not None:
        return row.key in before and before[row.key].fingerprint == row.fingerprint and row.max_age_s is None
    is_new = row.key not in before
    if is_new and journal.records.of_key(job.name, row.key):
        return False
    return not journal.records.is_strange(job.name, row.key, row.fingerprint, row.path)


def _outcome(state: str, moved_from: str | None) -> str:
    if moved_from is not None:
        return "moved"
    return {"done": "done", "new": "open", "changed": "open"}.get(state, state)


def _counted(journal: Journal, rows: Rows, before: int, left: list[Record]) -> Counted:
    counted = Counted(dict(rows.before), asked_before=rows.asked_before)
    counted.counts["done"] -= before
    for state, count in journal.wanted.counts().items():
        counted.counts[state] += count
    for row in left:
        counted.note_gone(row.cost, is_now=True)
    return counted


def _gone(row: Record) -> Row:
    return row.key, "gone", "no longer asked for", row.path, json.loads(row.line)["model"], 0
