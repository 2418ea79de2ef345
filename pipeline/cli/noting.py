"""What is written down at the end of a call: which jobs are at rest, and with what they were compared.

Where a call has compared some rows of a job that was at rest, its others still are: what is written down is what was
known of them, and what these rows came to. Rows that are not done yet are named as under way.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import seen
from pipeline.cli import resting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from pipeline.cli.opening import OpenJob
    from pipeline.cli.options import Options
    from pipeline.gemini.models import Models
    from pipeline.job.blocks import Catalog
    from pipeline.job.language import Job
    from pipeline.plan import Plan
    from pipeline.plan.changed import Compared
    from pipeline.reconcile import Work
    from pipeline.rest import Rest
    from pipeline.seen import Extent

_MOST_TOLD = 1000
"""Images that are not done, or gone, and that a plan tells of; a job with more of them is always compared."""
_MOST_UNDER_WAY = 20_000
"""Rows that are not done, and named; of a job with more of them, all is compared."""
_TICKS, _TICK_S = 20, 0.002
"""How long the clock of files is waited for: what is written in one of its ticks looks like what comes after it."""


class Some(NamedTuple):
    """A job that was at rest, of which some rows were compared when it was opened."""

    rest: Rest
    """As it was written down."""
    change: resting.Changed
    compared: Compared
    touched: seen.Touched
    """What these rows have in the job's folder, or may get there; as it was."""


def files(record: Mapping[str, Any]) -> list[str]:
    """The files of a record in the job's folder: what is named there, and its sidecar, where there is one."""
    from pipeline.outputs import sidecar_of

    sidecar = sidecar_of(record)
    return [*(file["path"] for file in record["files"]), *([sidecar] if sidecar else ())]


def note(options: Options, models: Models, jobs: Sequence[OpenJob], works: Sequence[Work]) -> None:
    """Write down which jobs are at rest: all that each was compared with, and what came out.

    Call it under their locks, when all is published and nothing more will be done. What cannot be written down costs
    nothing but time.
    """
    for one, work in zip(jobs, works, strict=True):
        with contextlib.suppress(*resting.UNSURE, RecursionError):
            if options.selection or one.sources is None or one.is_changed:
                continue
            found = _Noting(options, models, one, work).found()
            if found is not None:
                rest, catalog = found
                with one.journal.transaction():
                    one.journal.rests.put(
                        one.job.name, rest.manifest, rest.dumps(), catalog.dumps() if catalog else None
                    )


class _Noting:
    """Finds out what to write down of a job."""

    def __init__(self, options: Options, models: Models, one: OpenJob, work: Work) -> None:
        self._options, self._models, self._one, self._work = options, models, one, work
        self._journal, self._name = one.journal, one.job.name
        self._answers = str(work.state / "answers" / self._name)

    def found(self) -> tuple[Rest, Catalog | None] | None:
        if self._one.some is not None:
            return self._of_some(self._one.some)
        rest = self._of_all()
        return (rest, self._catalog(rest)) if rest else None

    # ------------------------------------------------------------------------------ all of it was compared

    def _of_all(self) -> Rest | None:
        from pipeline import plan, reconcile

        one, work = self._one, self._work
        if not reconcile.may_rest(work) or self._mixes():
            return None
        before = seen.now_ns()  # what is changed from here on has another time of change than what is compared
        compared = plan.compare_again(one.journal, one.tree, one.job, plan.Look(work.service, time.time()))
        if not self._is_at_rest(compared):
            return None
        rows = tuple(itertools.islice(self._journal.wanted.not_done(), _MOST_TOLD + 1))
        gone = tuple(itertools.islice(self._journal.wanted.gone(self._name), _MOST_TOLD + 1))
        told = tuple((key, "gone", "no longer asked for", path, model, 0) for key, path, model, _was, _cost in gone)
        top = str(one.tree.folder.path)
        extent = seen.extent(top, is_large=compared.wanted > seen.LARGE)
        if (extent is None and os.path.lexists(top)) or max(len(rows), len(gone)) > _MOST_TOLD:
            return None
        rest = self._rest(compared, extent, before)
        return rest and replace(rest, not_done=rows, gone=told)

    def _is_at_rest(self, compared: Plan) -> bool:
        from pipeline import reconcile

        is_at_rest = reconcile.is_at_rest(self._work, compared, time.time())
        return is_at_rest and reconcile.tidy_from(self._work) != -float("inf")

    def _mixes(self) -> bool:
        """Whether the local service is asked for a job with images that were paid for."""
        from pipeline.cli.money import is_paid

        return self._work.service == "local" and is_paid(self._one)

    def _catalog(self, rest: Rest) -> Catalog | None:
        """The blocks of a catalog of which each row stands for itself, and which is what was read."""
        from pipeline.job import rowwise

        is_row_by_row = rest.catalog and not rest.not_done and not rest.said[1]
        catalog = rowwise.cut(self._one.job) if is_row_by_row else None
        return catalog if catalog is not None and _is_what_was_read(rest) else None

    # --------------------------------------------------------------------------- some of it was compared

    def _of_some(self, some: Some) -> tuple[Rest, Catalog] | None:
        """What to write down of a job whose other rows are as they were: nothing was written of them."""
        from pipeline import outputs, plan, reconcile
        from pipeline.journal import Known
        from pipeline.plan import changed

        one, journal = self._one, self._journal
        if not journal.others.are_apart or not reconcile.is_known(self._work) or self._mixes():
            return None
        look = plan.Look(self._work.service, time.time())
        before = self._after(some.touched.extent(some.rest.extent or seen.NOTHING).newest_ns)
        spent = journal.batches.spent(self._name, look.service)
        compared = changed.compare_again(journal, one.tree, one.job, look, some.compared)
        if compared is None or max(len(compared.ids), 20 * len(compared.gone)) > _MOST_UNDER_WAY:
            return None
        known = Known(compared.others.statuses, look.service, spent)
        journal.others.leave(self._name, [row.key for row in compared.recorded], known)
        extent = self._extent(some, compared)
        rest = extent and outputs.stands(journal, one.tree) and self._rest(compared.plan, extent, before)
        if not rest:
            return None
        is_done = reconcile.may_rest(self._work) and self._is_at_rest(compared.plan) and not compared.not_done
        if is_done and _is_what_was_read(rest):
            return replace(rest, gone=compared.gone), self._joined(some.change)
        others = compared.others
        return replace(
            rest, counts=others.counts, statuses=others.statuses, asked_before=others.asked_before,
            gone=tuple(others.gone), under_way=compared.ids,
        ), some.change.before  # fmt: skip

    def _after(self, newest_ns: int) -> int:
        """A time after which what is changed cannot be taken for what is there; waits for it, a few milliseconds."""
        answers = seen.look(self._answers)
        newest_ns = max(newest_ns, answers.ctime_ns if answers else 0)
        for _ in range(_TICKS):
            if seen.now_ns() > newest_ns:
                break
            time.sleep(_TICK_S)
        return seen.now_ns()

    def _extent(self, some: Some, compared: Compared) -> Extent | None:
        """The job's folder as it is, if nothing else of it has changed than what these rows have there."""
        there = (files(json.loads(row.line)) for row in compared.recorded if row.place == "tree")
        return some.rest.extent and some.touched.extent(some.rest.extent, itertools.chain.from_iterable(there))

    def _joined(self, change: resting.Changed) -> Catalog:
        """The catalog as it is, in blocks."""
        from pipeline.durable import in_memory
        from pipeline.job import blocks, rowwise

        if not change.rows.number:
            return change.rows.now(change.before, (), rows_of_block=blocks.SIZE)
        with in_memory(change.rows.rows) as path:
            if path is None:
                raise OSError(0, "there is no room for some rows in memory")
            rows = rowwise.ids(rowwise.with_catalog(change.job, path))
            return change.rows.now(change.before, rows, rows_of_block=blocks.SIZE)

    # -------------------------------------------------------------------------------------------- both

    def _rest(self, compared: Plan, extent: Extent | None, before_ns: int) -> Rest | None:
        """A job as it is; `None` where something it depends on was changed at `before_ns` or later."""
        from pipeline import reconcile
        from pipeline.rest import Rest

        one, work = self._one, self._work
        sources = one.sources.read() if one.sources else None
        kept = seen.look(self._answers)
        newest = max(extent.newest_ns if extent else 0, kept.ctime_ns if kept else 0)
        if sources is None or newest >= before_ns:
            return None
        return Rest(
            around=resting.circumstances(self._options, work.service),
            until=_until(self._models, self._options.today),
            sources=sources,
            extent=extent,
            answers=kept,
            published=self._journal.published(self._name),
            tidy_from=reconcile.tidy_from(work),
            manifest=str(one.job.path),
            catalog=_catalog(one.job),
            job=compared.job,
            counts=compared.counts,
            asked_before=compared.asked_before,
            wanted=compared.wanted,
            stuck=asdict(compared.stuck),
            statuses=self._journal.records.counts(self._name),
            spent=self._journal.batches.spent(self._name, work.service),
            prices_as_of=self._models.prices_as_of.isoformat(),
            said=one.said,
            not_done=(),
            gone=(),
        )


def _is_what_was_read(rest: Rest) -> bool:
    return seen.is_as(rest.catalog, rest.sources.files[rest.catalog])


def _catalog(job: Job) -> str:
    """The catalog of a job of which each row stands for itself, as its sources name it; empty for any other."""
    from pipeline.job import rowwise

    if not rowwise.is_row_by_row(job):
        return ""
    return os.path.abspath(job.items.file(job.folder))  # noqa: PTH100 - links are followed when it is read


def _until(models: Models, today: date) -> str:
    """The first day to come on which a price changes, or a model is shut down; empty for none."""
    days = (day for model in models for day in (model.shutdown, *(price.since for price in model.prices)))
    return min((day.isoformat() for day in days if day is not None and day > today), default="")
