"""Deleting what we left at the service, once it is of no more use: there is room for so much, and it fills up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.journal import Batch
    from pipeline.reconcile.run import Run, Work


def tidy(run: Run, work: Work) -> None:
    """Delete the request files of batches that have their outcome, and batches whose answer is safe here for a while.

    Call it when the output manifest is published. Trouble is told of, and costs nothing: the next run tries again.
    """
    now = run.clock.time()
    before = now - run.keep_remote_s
    for batch in work.journal.batches.to_tidy(work.job.name, run.service, before):
        try:
            _delete(run, work, batch, is_due=batch.unpacked_at is not None and batch.unpacked_at <= before)
        except PipelineError as trouble:
            run.tell("untidy", job=work.job.name, remote=batch.remote, why=str(trouble))
            return


def _delete(run: Run, work: Work, batch: Batch, *, is_due: bool) -> None:
    if batch.input_file is not None and batch.input_deleted_at is None:
        run.api.delete_file(batch.input_file)
        with work.journal.transaction():
            work.journal.batches.change(batch, input_deleted_at=run.clock.time())
    if is_due and batch.state == "unpacked" and batch.whole and batch.remote and batch.remote_deleted_at is None:
        with work.journal.transaction():  # whoever finds it gone knows by whom
            work.journal.note(batch.job, "deleting", batch=batch.name, remote=batch.remote)
        run.api.delete_batch(batch.remote)
        with work.journal.transaction():
            work.journal.batches.change(batch, remote_deleted_at=run.clock.time())
            work.journal.note(batch.job, "deleted", batch=batch.name, remote=batch.remote)
