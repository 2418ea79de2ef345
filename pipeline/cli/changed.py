"""A job at rest whose catalog has some other rows by now: opened for a call with these rows compared, and no others.

The others are done, as their files, their records and all they are made from are what they were. Where anything is in
doubt nothing is opened, and `opening` compares all of it, as ever.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from functools import partial
from typing import TYPE_CHECKING

from pipeline.cli import noting, opening, resting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.cli.opening import Opened, OpenJob
    from pipeline.cli.options import Options
    from pipeline.job.dependencies import Dependencies
    from pipeline.journal import Journal
    from pipeline.outputs import Tree
    from pipeline.plan.changed import Compared
    from pipeline.rest import Rest, Sources
    from pipeline.seen import Touched


@contextlib.contextmanager
def opened(words: Sequence[str], options: Options, since_ns: int) -> Iterator[Opened | None]:
    """Open the one job that these words name, with its lock held, for the block; `None` where that is not enough.

    What of it was changed after `since_ns`, before anything was read, is not known as what was read.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.ExitStack() as attempt:
            one = None
            with contextlib.suppress(*resting.UNSURE):
                one = _opened(attempt, words, options, since_ns)
            if one is not None:
                stack.push(attempt.pop_all())
        yield None if one is None else opening.Opened([one])


def _opened(
    stack: contextlib.ExitStack, words: Sequence[str], options: Options, since_ns: int
) -> OpenJob | None:  # fmt: skip
    rests = resting.found(words, options, str(options.service))
    if rests is None or len(rests) != 1 or not resting.is_touched(rests[0]):
        return None
    [rest] = rests
    if not stack.enter_context(resting.locked(rests, options, but=rest.catalog)):
        return None
    one = _compared(stack, rest, options, since_ns)
    if one is not None:
        resting.warn(rests, options)
    return one


def _compared(stack: contextlib.ExitStack, rest: Rest, options: Options, since_ns: int) -> OpenJob | None:
    from pipeline import journal as journals
    from pipeline import plan
    from pipeline.cli.pointers import Pointers
    from pipeline.durable import Folder
    from pipeline.job.dependencies import Dependencies
    from pipeline.outputs import Tree
    from pipeline.rest import MOST_SOURCES

    state, dependencies = Folder(options.state), Dependencies(is_kept=True, most=MOST_SOURCES)
    journal = stack.enter_context(journals.opened(state.path, outputs=options.outputs))
    change = resting.changed(journal, rest, dependencies)
    if change is None or not (change.rows.number or change.rows.ids or rest.under_way):
        return None
    job, look = change.job, plan.Look(str(options.service), time.time())
    around = resting.OtherRows(
        journal, Tree(options.outputs, state.path, job.name, journal), rest, look, options, Pointers()
    )
    found = resting.compared(around, change)
    if found is None:
        return None
    touched = _touched(around.tree, journal, found)
    known = journals.Known(found.others.statuses, look.service, rest.spent)
    journal.others.leave(job.name, [row.key for row in found.recorded], known)
    opening.sweep_state(job, state, journal)
    again = partial(plan.compare_again, journal, around.tree, job, look)
    sources = _sources(rest, dependencies, since_ns)
    return opening.OpenJob(
        job, journal, around.tree, found.plan, around.pointers, again, sources=sources, said=rest.said,
        some=noting.Some(rest, change, found, touched),
    )  # fmt: skip


def _touched(tree: Tree, journal: Journal, found: Compared) -> Touched:
    """What the rows that were compared have in the job's folder, or may get, and the output manifest; as they are."""
    from pipeline.outputs import MANIFEST, TABLE
    from pipeline.seen import Touched

    to_come = (noting.files({"files": [{"path": path}]}) for path in journal.wanted.paths())
    there = (noting.files(json.loads(row.line)) for row in found.recorded if row.place == "tree")
    return Touched(str(tree.folder.path), [MANIFEST, TABLE, *itertools.chain.from_iterable((*to_come, *there))])


def _sources(rest: Rest, found: Dependencies, since_ns: int) -> Sources | None:
    """What the job is made from by now: what it was made from before, and what its other rows need."""
    from pipeline.job.dependencies import Dependencies
    from pipeline.rest import Sources

    every = Dependencies(is_kept=found.is_kept)
    for path in (*rest.sources.files, *(path for path in found if os.path.dirname(path) != _IN_MEMORY)):  # noqa: PTH120
        every.add(path)
    for path in (*rest.sources.absent, *found.absent):
        every.add_absent(path)
    return Sources.of(every, since_ns) if every.is_kept else None


_IN_MEMORY = "/proc/self/fd"
"""Where the other rows are read from: they are in the catalog, too."""
