"""Unpack an answer as a run does, its plan included, but for the pixels, which a run decodes in processes beside.

ours.py PROJECT ANSWERS
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pipeline.cli import opening
from pipeline.cli.options import Options
from pipeline.outputs import write_manifest
from pipeline.unpack import Unpacking


def unpack(top: Path, answers: Path) -> None:
    """Every answer becomes a verified file and a record; the output manifest is written at the end."""
    os.chdir(top)
    options = Options.of({}, {"PIPELINE_SERVICE": "local"})
    models = options.models()
    with opening.opened(["jobs/bench.yaml"], options, models, "local") as opened:
        [work] = opened.jobs
        [batch] = work.journal.batches.of(work.job.name, "local", "fetched")
        unpacking = Unpacking(
            work.journal, work.tree, batch, models=models, checks=work.job.checks, today=options.today,
            now=time.time, pixels=None, redacted=str,
        )  # fmt: skip
        with answers.open("rb") as stream:
            tally = unpacking.read(stream)
        unpacking.close(status="missing", reason="no answer", transient=False)
        write_manifest(work.journal, work.tree)
    assert tally.counts == {"done": batch.requests}, tally


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
