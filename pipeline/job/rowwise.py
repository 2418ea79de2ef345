"""Jobs of which each row of the catalog stands for itself: what is asked for one does not depend on the others."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import JobError
from pipeline.job import blocks, items
from pipeline.job.problems import Problems

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pipeline.job.language import Job


def is_row_by_row(job: Job) -> bool:
    """Whether each row stands for itself, and nothing is told of all of them together."""
    rows = job.items
    return (
        rows.kind in {"csv", "tsv"}
        and rows.encoding == "utf-8"
        and not (rows.fill or rows.unique or rows.limit is not None)
        and not (job.overrides or job.has_turns)
        and not _has_moving_template(job)
    )


def _has_moving_template(job: Job) -> bool:
    said = [job.settings["template"].value] if "template" in job.settings else []
    said += [cell["template"].value for cell in job.matrix.cells if "template" in cell]
    return any("[" in str(name) for name in said)


def cut(job: Job) -> blocks.Catalog | None:
    """The catalog of such a job in blocks; `None` where it cannot be cut, or has columns that are settings."""
    try:
        with job.items.file(job.folder).open("rb") as stream:
            return blocks.cut(stream, job.items.delimiter, ids(job), rows_of_block=blocks.SIZE)
    except (OSError, JobError, csv.Error, ValueError):
        return None


def ids(job: Job) -> Iterator[tuple[int, str]]:
    """The rows that are wanted: the number of the first line, and the id. Raises what reading them raises."""
    problems = Problems()
    for row in items.rows(job.items, job=job.name, folder=job.folder, problems=problems):
        if row.columns.sets:
            raise blocks.OddError("settings are columns")
        yield row.line.number, row.id
    problems.check()


def with_catalog(job: Job, path: Path) -> Job:
    """The same job for other rows."""
    return replace(job, items=replace(job.items, path=str(path)))
