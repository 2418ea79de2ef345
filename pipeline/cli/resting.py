"""Jobs that are at rest: the commands that find one unchanged have its answer, and need neither rows nor records."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import struct
import sys
import time
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline import __version__, seen
from pipeline.errors import LocalError, LockedError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from pipeline.cli.opening import OpenJob
    from pipeline.cli.options import Options
    from pipeline.cli.pointers import Pointers
    from pipeline.durable import Folder
    from pipeline.errors import Problem
    from pipeline.gemini.models import Models
    from pipeline.job.blocks import Change
    from pipeline.job.dependencies import Dependencies
    from pipeline.job.language import Job
    from pipeline.journal import Journal
    from pipeline.outputs import Tree
    from pipeline.plan import Look, Plan
    from pipeline.plan.changed import Compared, Row
    from pipeline.reconcile import Work
    from pipeline.rest import Rest

_MOST_TOLD = 1000
"""Images that are not done and that a plan tells of; a job with more of them is always compared."""
UNSURE = (PipelineError, OSError, ValueError, csv.Error, struct.error, zlib.error)
"""What goes wrong with some rows, or with what is known of them: comparing all of it tells of it as ever."""
_PARTS = (".py", ".sql", ".yaml", ".json", ".md")


def found(words: Sequence[str], options: Options, service: str) -> list[Rest] | None:
    """The jobs that words name, where each was at rest when it was looked at last; `None` where one was not.

    Whether that still holds is for `are_unchanged` to say.
    """
    from pipeline import journal as journals
    from pipeline.job import named
    from pipeline.rest import Rest

    if options.selection or options.environment.get("PIPELINE_LOCAL_FAULTS"):
        return None
    try:
        manifests = [path.absolute() for path in named.manifests(words, cwd=Path.cwd())]
        resting = journals.resting(options.state, manifests) or ()
        rests = [Rest.loads(one.told) for one in resting]
    except (PipelineError, OSError, ValueError, LookupError, TypeError):
        return None
    around, today = _around(options, service), options.today.isoformat()
    is_ours = all(
        rest.is_for(around, today) and one.published == rest.published and one.manifest == str(manifest)
        for rest, one, manifest in zip(rests, resting, manifests, strict=False)
    )
    return rests if rests and is_ours else None


class Answer(NamedTuple):
    """What a plan says of a job, without all of it having been compared."""

    rest: Rest
    other: Compared | None = None
    """What there is to do by now; `None` for nothing."""
    job: Job | None = None

    @property
    def plan(self) -> Plan:
        return self.rest.plan if self.other is None else self.other.plan

    @property
    def rows(self) -> Iterator[Row]:
        """What is not done, and what is gone."""
        told = self.rest if self.other is None else self.other
        return itertools.chain(told.not_done, told.gone)


def answers(rests: Sequence[Rest], options: Options, service: str) -> list[Answer] | None:
    """What a plan says of these jobs, one of which may have some other rows in its catalog by now.

    `None` where they must be compared.
    """
    if len(rests) == 1 and is_touched(rests[0]):
        with contextlib.suppress(*UNSURE):
            answer = _with_other_rows(rests[0], options, service)
            return answer and [answer]
        return None
    if not are_unchanged(rests, options):
        return None
    return [Answer(rest) for rest in rests]


def is_touched(rest: Rest) -> bool:
    """Whether the catalog may have other rows, and each of them stands for itself."""
    if not rest.catalog or rest.not_done or rest.said[1]:
        return False
    return seen.look(rest.catalog) != rest.sources.files[rest.catalog]._replace(sha256="")


def _with_other_rows(rest: Rest, options: Options, service: str) -> Answer | None:
    from pipeline import journal as journals
    from pipeline.cli.pointers import Pointers
    from pipeline.outputs import Tree
    from pipeline.plan import Look

    name, state = rest.job, Path(os.path.realpath(options.state))
    with journals.looked_at(state, outputs=options.outputs) as journal:
        if not rest.is_unchanged(options.outputs / name, state / "answers" / name, but=rest.catalog):
            return None
        change = changed(journal, rest)
        if change is None:
            return None
        if not (change.rows.number or change.rows.ids):
            return Answer(rest)
        tree, look = Tree(options.outputs, state, name, journal), Look(service, time.time())
        found = compared(OtherRows(journal, tree, rest, look, options, Pointers()), change)
        return None if found is None else Answer(rest, found, change.job)


class Changed(NamedTuple):
    """A job whose catalog has other rows than when it was at rest."""

    job: Job
    rows: Change


def changed(journal: Journal, rest: Rest, dependencies: Dependencies | None = None) -> Changed | None:
    """What became of the catalog of a job that is at rest but for that; `None` where it is to be compared.

    What the job is made from goes to `dependencies`. Raises what is in `UNSURE`.
    """
    from pipeline.job import blocks, language

    data = journal.rests.rows(rest.job, rest.dumps())
    if data is None:
        return None
    job = language.load(Path(rest.manifest), root=Path.cwd(), dependencies=dependencies)
    before = seen.look(rest.catalog)
    with Path(rest.catalog).open("rb") as stream:
        change = blocks.changed(blocks.Catalog.loads(data), stream, job.items.delimiter)
    if change is None or before is None or seen.look(rest.catalog) != before:
        return None
    return Changed(job, change)


class OtherRows(NamedTuple):
    """What rows of a job are compared with."""

    journal: Journal
    tree: Tree
    rest: Rest
    look: Look
    options: Options
    pointers: Pointers
    """Learns what of the rows cannot be sent."""


def compared(around: OtherRows, change: Changed) -> Compared | None:
    """The rows that changed, compared with what is recorded; `None` where all of the job must be.

    They are what `Journal.wanted` holds then. Raises what is in `UNSURE`.
    """
    from pipeline import plan
    from pipeline.durable import in_memory
    from pipeline.job import expand, rowwise
    from pipeline.plan import changed as rows

    job, (journal, tree, rest, look, options, pointers) = change.job, around
    said: list[Problem] = []
    models = options.models()
    with in_memory(change.rows.rows) as path:
        if path is None:
            return None
        some = rowwise.with_catalog(job, path)
        requests = expand.blocks(some, models=models, today=options.today, warn=said.append)
        wanted = plan.wanted(
            itertools.chain.from_iterable(pointers.noting(requests)) if change.rows.number else (),
            models, service=look.service, today=options.today, lane=look.lane, may_be_late=job.batch.asks_singly,
        )  # fmt: skip
        standing = rows.Standing(rest.counts, rest.statuses, rest.asked_before, rest.gone)
        found = rows.compare(journal, tree, job, look, rows.Rows(change.rows.ids, wanted, standing))
    return None if said else found


def are_unchanged(rests: Sequence[Rest], options: Options, *, but: str = "") -> bool:
    """Whether all that these jobs were compared with is as it was, but for one file that is not looked at."""
    state = Path(os.path.realpath(options.state))
    return all(rest.is_unchanged(options.outputs / rest.job, state / "answers" / rest.job, but=but) for rest in rests)


@contextlib.contextmanager
def locked(rests: Sequence[Rest], options: Options, *, but: str = "") -> Iterator[bool]:
    """Hold the locks of these jobs for the block; yields whether they are all ours, and unchanged but for that file."""
    from pipeline import durable
    from pipeline.cli import opening

    opening.check_state(options)
    state = durable.Folder(options.state)
    with contextlib.ExitStack() as stack:
        try:
            for rest in rests:
                job = rest.job
                stack.enter_context(durable.locked(state, f"locks/{job}.lock", what=f"the job '{job}'"))
            is_quiet = True
        except (LockedError, LocalError):
            is_quiet = False
        is_ours = is_quiet and not any(_has_link(state, rest.job) for rest in rests)
        yield is_ours and are_unchanged(rests, options, but=but)


def _has_link(state: Folder, job: str) -> bool:
    """Whether a link lies where a folder of the job's state belongs: a run refuses to follow it."""
    from pipeline.cli import opening

    names = opening.OF_A_JOB
    return any(path.is_symlink() for name in names for path in (state.path / name, state.path / name / job))


def warn(rests: Sequence[Rest], options: Options) -> None:
    """Say once more what was wrong with these jobs, in the order of all times: manifests, then rows."""
    from pipeline.cli import opening

    warner = opening.warner(options)
    for phase in (0, 1):
        for rest in rests:
            for problem in rest.said[phase]:
                warner(problem)


def is_tidy(rest: Rest, options: Options) -> bool:
    """Whether nothing of a job is due to be deleted at the service."""
    return rest.tidy_from is None or time.time() < rest.tidy_from + options.seconds("PIPELINE_KEEP_REMOTE", "24h")


def note(options: Options, models: Models, jobs: Sequence[OpenJob], works: Sequence[Work]) -> None:
    """Write down which jobs are at rest: all that each was compared with, and what came out.

    Call it under their locks, when all is published and nothing more will be done. What cannot be written down costs
    nothing but time.
    """
    for one, work in zip(jobs, works, strict=True):
        with contextlib.suppress(PipelineError, OSError, RecursionError, UnicodeEncodeError):
            rest = _rest(options, models, one, work)
            if rest is not None:
                rows = _rows(rest, one)
                with one.journal.transaction():
                    one.journal.rests.put(one.job.name, rest.manifest, rest.dumps(), rows)


def _rows(rest: Rest, one: OpenJob) -> bytes | None:
    """The blocks of a catalog of which each row stands for itself, and which is what was read."""
    from pipeline.job import rowwise

    catalog = rowwise.cut(one.job) if rest.catalog and not rest.not_done and not rest.said[1] else None
    is_what_was_read = catalog is not None and seen.is_as(rest.catalog, rest.sources.files[rest.catalog])
    return catalog.dumps() if catalog is not None and is_what_was_read else None


def _rest(options: Options, models: Models, one: OpenJob, work: Work) -> Rest | None:
    from pipeline import plan, reconcile
    from pipeline.cli.money import is_paid
    from pipeline.rest import Rest

    if options.selection or one.sources is None or one.is_changed:
        return None
    if not reconcile.may_rest(work) or (work.service == "local" and is_paid(one)):
        return None
    before = seen.now_ns()  # what is changed from here on has another time of change than what is compared
    compared = plan.compare_again(one.journal, one.tree, one.job, plan.Look(work.service, time.time()))
    if not reconcile.is_at_rest(work, compared, time.time()) or (since := reconcile.tidy_from(work)) == -float("inf"):
        return None
    rows = tuple(itertools.islice(one.journal.wanted.not_done(), _MOST_TOLD + 1))
    gone = tuple(itertools.islice(one.journal.wanted.gone(one.job.name), _MOST_TOLD + 1))
    sources, answers = one.sources.read(), work.state / "answers" / one.job.name
    extent = seen.extent(str(one.tree.folder.path), is_large=compared.wanted > seen.LARGE)
    kept = seen.look(str(answers))
    newest = max(extent.newest_ns if extent else 0, kept.ctime_ns if kept else 0)
    if extent is None and os.path.lexists(one.tree.folder.path):
        return None
    if sources is None or max(len(rows), len(gone)) > _MOST_TOLD or newest >= before:
        return None
    return Rest(
        around=_around(options, work.service),
        until=_until(models, options.today),
        sources=sources,
        extent=extent,
        answers=kept,
        published=one.journal.published(one.job.name),
        tidy_from=since,
        manifest=str(one.job.path),
        catalog=_catalog(one.job),
        job=compared.job,
        counts=compared.counts,
        asked_before=compared.asked_before,
        wanted=compared.wanted,
        stuck=asdict(compared.stuck),
        statuses=work.journal.records.counts(one.job.name),
        spent=work.journal.batches.spent(one.job.name, work.service),
        prices_as_of=models.prices_as_of.isoformat(),
        said=one.said,
        not_done=rows,
        gone=tuple((key, "gone", "no longer asked for", path, model, 0) for key, path, model, _was, _cost in gone),
    )


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


def _around(options: Options, service: str) -> dict[str, str]:
    """What an answer depends on beside the job, its files and its records."""
    return {
        "version": f"{__version__} {_code()}",
        "python": sys.version,
        "service": service,
        "folder": str(Path.cwd()),
        "outputs": os.path.realpath(options.outputs),
        "state": os.path.realpath(options.state),
        "models": os.path.realpath(options.models_file) if options.models_file else "",
    }


def _code() -> int:
    """A number for the program itself: who works on it has not always another version."""
    waiting, total = [str(Path(__file__).parent.parent)], 0
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.name.endswith(_PARTS):
                    total += entry.stat().st_mtime_ns
    return total
