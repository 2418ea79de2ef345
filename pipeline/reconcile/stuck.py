"""Batches that take too long: told of once in a run and, where the job says so, cancelled at the service, once.

Cancelling ends nothing by itself: the batch is polled on until the service calls it over, and what it has drawn by then
is taken in as ever. Only then is what it did not bring asked for again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import ServiceError, UnfinishedError
from pipeline.reconcile.run import age_s

if TYPE_CHECKING:
    from pipeline.journal import Batch
    from pipeline.reconcile.run import Run, Work

CANCELLED = "stuck"
"""What the history calls it."""
_WAITED_FOR = "it is waited for"
_GIVEN_UP = "it is cancelled, and what it does not bring is asked for again"
_LINGERS = "it was cancelled, and the service still works on it"


def see_to(run: Run, work: Work, batch: Batch, state: str) -> None:
    """Do with a batch of more than `batch.deadline` what the job says; `state` is the service's word for it."""
    may_cancel = work.job.batch.on_stuck != "wait" and work.sends and work.journal.is_from_here(batch)
    is_cancelled = work.journal.batches.is_noted(batch, CANCELLED)
    is_ours = may_cancel and not is_cancelled and not work.journal.batches.is_noted(batch, "cancel")
    if is_ours and work.journal.batches.is_inside(batch) and _cancel(run, work, batch):
        what = _GIVEN_UP
    else:
        what = _LINGERS if is_cancelled else _WAITED_FOR
    if batch.name not in run.told or what == _GIVEN_UP:
        run.told.add(batch.name)
        run.tell(
            "stuck", job=work.job.name, remote=batch.remote, state=state, age_s=age_s(run, batch), what=what
        )  # fmt: skip


def _cancel(run: Run, work: Work, batch: Batch) -> bool:
    """Cancel a batch at the service; returns whether it has taken note.

    Why is written down before, so that however it ends then, it is known what it was: a killed run cancels it again.
    """
    with work.journal.transaction():
        batch = work.journal.batches.change(batch, stuck_at=batch.stuck_at or run.clock.time())
    try:
        run.api.cancel(str(batch.remote))
    except (ServiceError, UnfinishedError) as error:  # it may just have ended: the next poll knows
        run.tell("trouble", job=work.job.name, why=str(error))
        return False
    with work.journal.transaction():
        work.journal.note(batch.job, CANCELLED, batch=batch.name, remote=batch.remote, age_s=age_s(run, batch))
    return True
