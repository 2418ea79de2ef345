"""What `--select` leaves of the jobs, for the verbs that tell what is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli import opening
from pipeline.errors import JobError, UsageError
from pipeline.selection import Facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.cli.options import Options
    from pipeline.journal import Journal


def jobs_in(options: Options, journal: Journal, jobs: Sequence[str]) -> Iterator[tuple[str, Journal]]:
    """Each of these jobs with the journal to read its records from, in which what is not selected is `outside`.

    `state:` compares with the manifests, as `plan` does: they are read then, and a broken one is a `JobError`.
    """
    if options.selection.asks_for("state"):
        yield from _compared(options, journal, jobs)
        return
    is_matched = False
    for job in jobs:
        if options.selection:
            outside, is_met = _recorded_outside(options, journal, job)
            journal.outside.replace(outside)
            is_matched |= is_met
        yield job, journal
    if jobs and not is_matched:
        opening.say_nothing_matches(options)


def _recorded_outside(options: Options, journal: Journal, job: str) -> tuple[list[str], bool]:
    """The keys of a job outside the selection, and whether there are others."""
    selection = options.selection
    tags = _tags(options, journal, job) if selection.asks_for("tag") else ()
    outside, is_met = [], False
    for key, line, status in journal.records.newest(job):
        if selection.takes(Facts(key, line, tags, None, status)):
            is_met = True
        else:
            outside.append(key)
    return outside, is_met


def _compared(options: Options, journal: Journal, jobs: Sequence[str]) -> Iterator[tuple[str, Journal]]:
    paths = []
    for job in jobs:
        path = journal.manifest_of(job)
        if path is not None and Path(path).is_file():
            paths.append(path)
        else:
            _warn(options, f"the manifest of the job '{job}' is not there, and with it the states of its images")
    if not paths:
        return
    with opening.opened(paths, options, options.models(), options.expected_service(), must_lock=False) as opened:
        for one in opened.jobs:
            yield one.job.name, one.journal


def _tags(options: Options, journal: Journal, job: str) -> tuple[str, ...]:
    try:
        [found] = opening.load([journal.manifest_of(job) or ""], options)
    except (JobError, UsageError):
        _warn(options, f"the manifest of the job '{job}' cannot be read, and with it its tags")
        return ()
    return found.tags


def _warn(options: Options, text: str) -> None:
    if not options.quiet:
        click.echo(f"warning: {text}", err=True)
