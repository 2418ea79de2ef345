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
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline import __version__, seen
from pipeline.errors import LocalError, LockedError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.cli.options import Options
    from pipeline.cli.pointers import Pointers
    from pipeline.durable import Folder
    from pipeline.errors import Problem
    from pipeline.job.blocks import Catalog, Change
    from pipeline.job.dependencies import Dependencies
    from pipeline.job.language import Job
    from pipeline.journal import Journal
    from pipeline.outputs import Tree
    from pipeline.plan import Look, Plan
    from pipeline.plan.changed import Compared, Row
    from pipeline.rest import Rest

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
    here, today = circumstances(options, service), options.today.isoformat()
    is_ours = all(
        rest.is_for(here, today) and one.published == rest.published and one.manifest == str(manifest)
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
    """Whether the catalog may have other rows, or has rows under way, and each of them stands for itself."""
    if not rest.catalog or rest.not_done or rest.said[1]:
        return False
    return bool(rest.under_way) or seen.look(rest.catalog) != rest.sources.files[rest.catalog]._replace(sha256="")


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
        if not (change.rows.number or change.rows.ids or rest.under_way):
            return Answer(rest)
        tree, look = Tree(options.outputs, state, name, journal), Look(service, time.time())
        found = compared(OtherRows(journal, tree, rest, look, options, Pointers()), change)
        return None if found is None else Answer(rest, found, change.job)


class Changed(NamedTuple):
    """A job whose catalog has other rows than when it was at rest."""

    job: Job
    rows: Change
    before: Catalog


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
        catalog = blocks.Catalog.loads(data)
        change = blocks.changed(catalog, stream, job.items.delimiter)
    if change is None or before is None or seen.look(rest.catalog) != before:
        return None
    return Changed(job, change, catalog)


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
        found = rows.compare(journal, tree, job, look, rows.Rows(change.rows.ids, wanted, standing, rest.under_way))
    return None if said else found


def are_unchanged(rests: Sequence[Rest], options: Options, *, but: str = "") -> bool:
    """Whether all that these jobs were compared with is as it was, but for one file that is not looked at.

    That file is a catalog, which tells what is under way: without it, nothing must be.
    """
    if not but and any(rest.under_way for rest in rests):
        return False
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


def circumstances(options: Options, service: str) -> dict[str, str]:
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
